//! Writing the audit inside the transaction of the act itself, refusals without letting a stranger fill the disk, and
//! reading it.

use super::{Actor, Refusal, Service, lock};
use crate::domain::account::HubAction;
use crate::domain::audit::{Entry, Event, Outcome};
use crate::store::{Read, StoreError, Tx};
use std::collections::HashMap;

/// Refusals of the same kind within this time are counted, not written one by one. In ms.
const QUIET_MS: u64 = 60_000;
/// Kinds of refusals remembered.
const KINDS: usize = 1_000;

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
    recent: HashMap<[String; 4], (u64, u64)>,
}

impl Refusals {
    /// `Some(n)` when this one is to be written, `n` like it having been only counted before it.
    fn admit(&mut self, event: &Event, now: u64) -> Option<u64> {
        let key = [event.actor.clone(), event.action.clone(), event.reason.clone(), event.via.clone()];
        if self.recent.len() >= KINDS && !self.recent.contains_key(&key) {
            self.recent.retain(|_, (at, _)| now.saturating_sub(*at) < QUIET_MS);
            if self.recent.len() >= KINDS {
                return None;
            }
        }
        let (at, counted) = self.recent.entry(key).or_insert((0, 0));
        if *at != 0 && now.saturating_sub(*at) < QUIET_MS {
            *counted += 1;
            return None;
        }
        *at = now.max(1);
        Some(std::mem::take(counted))
    }
}

impl Service {
    /// Audits a refusal, soon and without making the refused wait; a flood of the same is counted.
    pub(super) fn audit_refusal(&self, mut event: Event) {
        let now = self.now();
        tracing::info!(actor = %event.actor, action = %event.action, object = %event.object, reason = %event.reason, via = %event.via, "refused");
        let Some(more) = lock(&self.refusals).admit(&event, now) else { return };
        if more > 0 {
            event.detail = format!("{} ({more} more like it in the minute before)", event.detail).trim().to_owned();
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

    /// Checks the whole chain; the number of entries.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] naming the first entry that does not follow the one before it.
    pub fn verify_audit(&self) -> Result<u64, Refusal> {
        let mut last: Option<Entry> = None;
        loop {
            let from = last.as_ref().map_or(0, |l| l.seq + 1);
            let rows = self.store.read::<_, StoreError>(|v| {
                v.decode_all::<Entry>(v.rows(<Entry as crate::store::Record>::TABLE, &from.to_be_bytes(), &[u8::MAX; 9], 500, false)?)
            })?;
            if rows.is_empty() {
                return Ok(last.map_or(0, |l| l.seq));
            }
            for (_, entry) in rows {
                if !entry.follows(last.as_ref()) {
                    return Err(Refusal::Conflict(format!("the audit is broken at entry {}", entry.seq)));
                }
                last = Some(entry);
            }
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
    fn many_kinds_of_refusals_do_not_fill_memory() {
        let mut refusals = Refusals::default();
        for n in 0..5_000 {
            let e = event(format!("?{n}"), "sign-in", "", Outcome::Denied, "unknown", "", "mqtt");
            let _ = refusals.admit(&e, 1_000);
        }
        assert!(refusals.recent.len() <= KINDS);
    }
}
