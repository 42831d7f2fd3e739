//! Writing the audit inside the transaction of the act itself, refusals without letting a stranger fill the disk, and
//! reading it.

use super::rights::require_role;
use super::{Actor, Refusal, Service, lock};
use crate::domain::audit::{Entry, Event, Outcome};
use crate::domain::authority::HubAction;
use crate::store::{Read, Record, Store, StoreError, Tx};
use std::collections::HashMap;

/// Refusals of the same kind within this time are counted, not written one by one. In ms.
const QUIET_MS: u64 = 60_000;
/// Kinds of refusals remembered, of those who are known: several for each of a thousand devices.
const KNOWN_KINDS: usize = 10_000;
/// Kinds of refusals remembered, of strangers.
const STRANGE_KINDS: usize = 1_000;
/// Refusals of strangers that are written within [`QUIET_MS`]: what anyone on the network can cause must not fill the disk.
const STRANGERS: u32 = 60;

/// Appends `event` to the chain, in the transaction of what it tells.
pub(super) fn append(tx: &Tx<'_>, now: u64, event: Event) -> Result<Entry, StoreError> {
    let event = super::support::told_with_session(tx, now, event)?;
    let last = tx.scan_back::<Entry>(&[u8::MAX; 9], 1)?.pop().map(|(_, e)| e);
    let entry = Entry::after(last.as_ref(), now, event);
    tx.put(&entry.seq.to_be_bytes(), &entry)?;
    Ok(entry)
}

/// An event of something done by a person.
pub(super) fn done(actor: &Actor, action: &str, object: &str, detail: impl Into<String>) -> Event {
    event(actor.subject.to_string(), action, object, Outcome::Done, "", detail, &actor.via)
}

/// An event.
pub(super) fn event(
    actor: impl Into<String>,
    action: &str,
    object: &str,
    outcome: Outcome,
    reason: &str,
    detail: impl Into<String>,
    via: &str,
) -> Event {
    Event {
        actor: actor.into(),
        action: action.into(),
        object: object.into(),
        outcome,
        reason: reason.into(),
        detail: detail.into(),
        via: via.into(),
    }
}

/// Refusals lately written, and how many others were only counted since.
pub(super) struct Refusals {
    known: Kinds,
    strangers: Kinds,
    /// When the present minute of strangers began, and how many were written in it.
    minute: (u64, u32),
}

/// What a refusal that is written says of those before it that were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    /// Of the same kind.
    alike: u64,
    /// Of kinds for which there was no room.
    others: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Refusals { known: Kinds::new(KNOWN_KINDS), strangers: Kinds::new(STRANGE_KINDS), minute: (0, 0) }
    }
}

impl Refusals {
    /// `Some` when this one is to be written. `now` is monotonic ms.
    fn admit(&mut self, event: &Event, now: u64) -> Option<Counted> {
        if !event.actor.starts_with('?') {
            return self.known.admit([event.actor.clone(), event.action.clone(), event.reason.clone()], now);
        }
        // Names are a stranger's to make up: they do not make a kind.
        let counted = self.strangers.admit([event.action.clone(), event.reason.clone(), event.via.clone()], now)?;
        if now.saturating_sub(self.minute.0) >= QUIET_MS {
            self.minute = (now, 0);
        }
        if self.minute.1 >= STRANGERS {
            self.strangers.others += 1 + counted.alike + counted.others;
            return None;
        }
        self.minute.1 += 1;
        Some(counted)
    }
}

/// Kinds of refusals, bounded.
struct Kinds {
    seen: HashMap<[String; 3], Quiet>,
    most: usize,
    /// Refusals of kinds that are not in `seen`, counted until the next one that is written.
    others: u64,
    /// When room was last made: at most once a second, as it takes a pass over all of them.
    swept: Option<u64>,
}

/// When one of a kind was written, and how many like it came since.
struct Quiet {
    at: u64,
    counted: u64,
}

impl Kinds {
    fn new(most: usize) -> Kinds {
        Kinds { seen: HashMap::new(), most, others: 0, swept: None }
    }

    fn admit(&mut self, kind: [String; 3], now: u64) -> Option<Counted> {
        if let Some(quiet) = self.seen.get_mut(&kind) {
            if now.saturating_sub(quiet.at) < QUIET_MS {
                quiet.counted += 1;
                return None;
            }
            quiet.at = now;
            return Some(Counted { alike: std::mem::take(&mut quiet.counted), others: std::mem::take(&mut self.others) });
        }
        if self.seen.len() >= self.most && self.swept.is_none_or(|at| now.saturating_sub(at) >= 1_000) {
            self.swept = Some(now);
            let mut forgotten = 0;
            self.seen.retain(|_, quiet| {
                let stays = now.saturating_sub(quiet.at) < QUIET_MS;
                forgotten += if stays { 0 } else { quiet.counted };
                stays
            });
            self.others += forgotten;
        }
        if self.seen.len() >= self.most {
            // What there is no room to remember would be written again and again.
            self.others += 1;
            return None;
        }
        self.seen.insert(kind, Quiet { at: now, counted: 0 });
        Some(Counted { alike: 0, others: std::mem::take(&mut self.others) })
    }
}

impl Service {
    /// Audits a refusal, soon and without making the refused wait; a flood of the same is counted.
    pub(super) fn audit_refusal(&self, mut event: Event) {
        let now = self.now();
        tracing::info!(actor = %event.actor, action = %event.action, object = %event.object, reason = %event.reason, via = %event.via, "refused");
        let Some(Counted { alike, others }) = lock(&self.refusals).admit(&event, self.clock.monotonic_ms()) else { return };
        if alike > 0 {
            event.detail = format!("{} (and {alike} more like it that were only counted)", event.detail).trim().to_owned();
        }
        if others > 0 {
            event.detail = format!("{} ({others} other refusals were not listed)", event.detail).trim().to_owned();
        }
        let store = self.store.clone();
        tokio::spawn(async move {
            let written = store.write(move |tx| append(tx, now, event.clone())).await;
            if let Err(error) = written {
                tracing::error!(%error, "a refusal could not be audited");
            }
        });
    }

    /// Up to `limit` entries before number `before`, newest first.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for all but owners.
    pub fn audit(&self, actor: &Actor, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, Refusal> {
        let before = before.map_or_else(|| vec![u8::MAX; 9], |b| b.to_be_bytes().to_vec());
        let rows = self.store.read::<_, Refusal>(|v| {
            require_role(v, actor, HubAction::ReadAudit, self.now())?;
            Ok(v.scan_back::<Entry>(&before, limit.clamp(1, 500))?)
        })?;
        Ok(rows.into_iter().map(|(_, e)| e).collect())
    }

    /// Checks the whole chain, as [`verify_audit`].
    ///
    /// # Errors
    /// The same.
    pub fn verify_audit(&self) -> Result<Option<Entry>, Refusal> {
        verify_audit(&self.store)
    }
}

/// Checks the whole chain; its newest entry, if there is one. Takes as long as reading all entries. Who can write the
/// file can make a whole chain anew, or cut off its end: only comparing the newest entry's hash with one noted down
/// earlier tells.
///
/// # Errors
/// [`Refusal::Conflict`] naming the first entry that does not follow the one before it.
pub fn verify_audit(store: &Store) -> Result<Option<Entry>, Refusal> {
    let mut last: Option<Entry> = None;
    loop {
        let from = last.as_ref().map_or(0, |l| l.seq + 1);
        let rows = store.read::<_, StoreError>(|v| {
            v.decode_all::<Entry>(v.rows(<Entry as Record>::TABLE, &from.to_be_bytes(), &[u8::MAX; 9], 500, false)?)
        })?;
        if rows.is_empty() {
            return Ok(last);
        }
        for (key, entry) in rows {
            if key != entry.seq.to_be_bytes() || !entry.follows(last.as_ref()) {
                return Err(Refusal::Conflict(format!("the audit is broken at entry {}", last.map_or(1, |l| l.seq + 1))));
            }
            last = Some(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Option<Counted> = Some(Counted { alike: 0, others: 0 });

    fn of_device(n: usize, reason: &str) -> Event {
        event(format!("device:{n}"), "topic.publish", "door", Outcome::Denied, reason, "", "mqtt")
    }

    #[test]
    fn a_flood_of_the_same_refusal_is_written_once_a_minute_with_its_count() {
        let mut refusals = Refusals::default();
        let e = event("?x", "sign-in", "", Outcome::Denied, "unknown", "", "mqtt 10.0.0.1");
        assert_eq!(refusals.admit(&e, 1_000), FIRST);
        for _ in 0..50 {
            assert_eq!(refusals.admit(&e, 2_000), None);
        }
        assert_eq!(refusals.admit(&e, 1_000 + QUIET_MS), Some(Counted { alike: 50, others: 0 }));
    }

    #[test]
    fn strangers_fill_neither_memory_nor_disk_and_do_not_hide_what_members_try() {
        let mut refusals = Refusals::default();
        let mut written = 0;
        for n in 0..50_000 {
            let e = event(format!("?{n}"), "sign-in", "", Outcome::Denied, "unknown", "", &format!("mqtt 2001:db8::{n:x}"));
            written += u32::from(refusals.admit(&e, 1_000).is_some());
        }
        assert!(refusals.strangers.seen.len() <= STRANGE_KINDS);
        assert_eq!(written, STRANGERS);
        let member = event("user:1", "topic.subscribe", "door", Outcome::Denied, "not_its_topic", "", "mqtt");
        assert_eq!(refusals.admit(&member, 1_001), FIRST);
        let next = event("?x", "sign-in", "", Outcome::Denied, "unknown", "", "mqtt 10.0.0.9");
        let others = u64::from(50_000 - STRANGERS);
        assert_eq!(refusals.admit(&next, 1_000 + QUIET_MS), Some(Counted { alike: 0, others }));
    }

    #[test]
    fn a_device_that_tries_again_and_again_is_counted_when_there_is_no_room_to_remember_it() {
        let mut refusals = Refusals::default();
        for n in 0..KNOWN_KINDS {
            assert_eq!(refusals.admit(&of_device(n, "not_its_topic"), 1_000), FIRST);
        }
        let late = of_device(KNOWN_KINDS, "not_its_topic");
        let written = (0..500).filter(|n| refusals.admit(&late, 1_001 + n).is_some()).count();
        assert_eq!(written, 0);
        assert_eq!(refusals.admit(&of_device(0, "not_its_topic"), 1_002), None);
        // A minute later there is room again, and nothing that was counted is lost.
        assert_eq!(refusals.admit(&late, 1_000 + QUIET_MS), Some(Counted { alike: 0, others: 501 }));
    }
}
