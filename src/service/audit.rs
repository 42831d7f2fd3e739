//! Writing the audit inside the transaction of the act itself, refusals without letting a stranger fill the disk, and
//! reading it.

use super::{Actor, Refusal, Service, lock};
use crate::domain::account::HubAction;
use crate::domain::audit::{Entry, Event, Outcome};
use crate::store::{Read, Record, Store, StoreError, Tx};
use std::collections::HashMap;

/// Refusals of the same kind within this time are counted, not written one by one. In ms.
const QUIET_MS: u64 = 60_000;
/// Kinds of refusals remembered, of strangers and of those who are known, each.
const KINDS: usize = 1_000;
/// Refusals of strangers that are written within [`QUIET_MS`]: what anyone on the network can cause must not fill the disk.
const STRANGERS: u32 = 60;

/// Appends `event` to the chain, in the transaction of what it tells.
pub(super) fn append(tx: &Tx<'_>, now: u64, event: Event) -> Result<Entry, StoreError> {
    let last = tx.scan_back::<Entry>(&[u8::MAX; 9], 1)?.pop().map(|(_, e)| e);
    let entry = Entry::after(last.as_ref(), now, event);
    tx.put(&entry.seq.to_be_bytes(), &entry)?;
    Ok(entry)
}

/// An event of something done by a person.
pub(super) fn done(actor: &Actor, action: &str, object: &str, detail: impl Into<String>) -> Event {
    event(actor.subject().to_string(), action, object, Outcome::Done, "", detail, &actor.via)
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

/// Refusals lately written, and how many of each kind were only counted since.
#[derive(Default)]
pub(super) struct Refusals {
    known: HashMap<[String; 3], Quiet>,
    strangers: HashMap<[String; 3], Quiet>,
    /// When the present minute of strangers began, how many were written in it, and how many only counted.
    minute: (u64, u32, u64),
}

/// When one of a kind was written, and how many like it came since.
#[derive(Default)]
struct Quiet {
    at: Option<u64>,
    counted: u64,
}

impl Refusals {
    /// `Some(n)` when this one is to be written, `n` others having been only counted before it. `now` is monotonic ms.
    fn admit(&mut self, event: &Event, now: u64) -> Option<u64> {
        let stranger = event.actor.starts_with('?');
        let source = event.via.clone();
        let (kinds, key) = if stranger {
            // Names are a stranger's to make up: they do not make a kind.
            (&mut self.strangers, [event.action.clone(), event.reason.clone(), source])
        } else {
            (&mut self.known, [event.actor.clone(), event.action.clone(), event.reason.clone()])
        };
        if kinds.len() >= KINDS && !kinds.contains_key(&key) {
            kinds.retain(|_, k| k.at.is_some_and(|at| now.saturating_sub(at) < QUIET_MS));
        }
        let full = kinds.len() >= KINDS && !kinds.contains_key(&key);
        let mut more = 0;
        if !full {
            let kind = kinds.entry(key).or_default();
            if kind.at.is_some_and(|at| now.saturating_sub(at) < QUIET_MS) {
                kind.counted += 1;
                return None;
            }
            kind.at = Some(now);
            more = std::mem::take(&mut kind.counted);
        }
        if stranger {
            if now.saturating_sub(self.minute.0) >= QUIET_MS {
                (self.minute.0, self.minute.1) = (now, 0);
            }
            if full || self.minute.1 >= STRANGERS {
                self.minute.2 += 1 + more;
                return None;
            }
            self.minute.1 += 1;
            more += std::mem::take(&mut self.minute.2);
        }
        Some(more)
    }
}

impl Service {
    /// Audits a refusal, soon and without making the refused wait; a flood of the same is counted.
    pub(super) fn audit_refusal(&self, mut event: Event) {
        let now = self.now();
        tracing::info!(actor = %event.actor, action = %event.action, object = %event.object, reason = %event.reason, via = %event.via, "refused");
        let Some(more) = lock(&self.refusals).admit(&event, self.clock.monotonic_ms()) else { return };
        if more > 0 {
            event.detail = format!("{} (and {more} more that were only counted)", event.detail).trim().to_owned();
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
        if !actor.role.may(HubAction::ReadAudit) {
            return Err(Refusal::RoleTooLow);
        }
        let before = before.map_or_else(|| vec![u8::MAX; 9], |b| b.to_be_bytes().to_vec());
        let rows = self.store.read::<_, StoreError>(|v| v.scan_back::<Entry>(&before, limit.clamp(1, 500)))?;
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

    #[test]
    fn a_flood_of_the_same_refusal_is_written_once_a_minute_with_its_count() {
        let mut refusals = Refusals::default();
        let e = event("?x", "sign-in", "", Outcome::Denied, "unknown", "", "mqtt 10.0.0.1");
        assert_eq!(refusals.admit(&e, 1_000), Some(0));
        for _ in 0..50 {
            assert_eq!(refusals.admit(&e, 2_000), None);
        }
        assert_eq!(refusals.admit(&e, 1_000 + QUIET_MS), Some(50));
    }

    #[test]
    fn strangers_fill_neither_memory_nor_disk_and_do_not_hide_what_members_try() {
        let mut refusals = Refusals::default();
        let mut written = 0;
        for n in 0..50_000 {
            let e = event(format!("?{n}"), "sign-in", "", Outcome::Denied, "unknown", "", &format!("mqtt 2001:db8::{n:x}"));
            written += u32::from(refusals.admit(&e, 1_000).is_some());
        }
        assert!(refusals.strangers.len() <= KINDS);
        assert_eq!(written, STRANGERS);
        let member = event("user:1", "topic.subscribe", "door", Outcome::Denied, "not_its_topic", "", "mqtt");
        assert_eq!(refusals.admit(&member, 1_001), Some(0));
        let next = event("?x", "sign-in", "", Outcome::Denied, "unknown", "", "mqtt 10.0.0.9");
        assert_eq!(refusals.admit(&next, 1_000 + QUIET_MS), Some(u64::from(50_000 - STRANGERS)));
    }
}
