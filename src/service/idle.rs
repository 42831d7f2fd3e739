//! Tokens that end when they are not used: those of service accounts, and sessions of a maker's people. Each use keeps
//! one alive for a while more. The last use is known to the moment in memory, and written at most once a minute: a card
//! wears. A restart may thus take a minute off. The hard end is in the token's own row.

use super::{Service, lock};
use crate::store::tables::LastUse;
use crate::store::{Read, StoreError};
use std::collections::HashMap;

/// How long a token lives after its last use, in ms.
pub(super) const IDLE_MS: u64 = 15 * 60 * 1000;
/// After how long it ends in any case, in ms.
pub(super) const HARD_END_MS: u64 = 12 * 3600 * 1000;
/// A use is written at most so often, in ms.
const WRITTEN_EVERY_MS: u64 = 60 * 1000;

/// When each token was last used, and when that was last written (ms since 1970), by the token's keyed hash. Only tokens
/// that hold are in here, and their number is bounded where they are made.
#[derive(Debug, Default)]
pub(super) struct Uses(HashMap<[u8; 32], Use>);

#[derive(Clone, Copy, Debug)]
struct Use {
    at: u64,
    written: u64,
}

impl Uses {
    /// Notes a use; true when it is to be written.
    fn note(&mut self, key: [u8; 32], now: u64) -> bool {
        let known = self.0.entry(key).or_insert(Use { at: 0, written: 0 });
        known.at = known.at.max(now);
        let due = now.saturating_sub(known.written) >= WRITTEN_EVERY_MS;
        if due {
            known.written = now;
        }
        due
    }
}

impl Service {
    /// Whether a token of `created_at` (ms since 1970) has been used lately enough.
    pub(super) fn is_in_use<R: Read>(&self, rows: &R, key: &[u8; 32], created_at: u64) -> Result<bool, StoreError> {
        let remembered = lock(&self.uses).0.get(key).map(|u| u.at);
        let last = match remembered {
            Some(at) => at,
            None => rows.get::<LastUse>(key)?.map_or(0, |u| u.at),
        };
        Ok(self.now() < last.max(created_at).saturating_add(IDLE_MS))
    }

    /// Notes that a token was used just now.
    pub(super) fn note_use(&self, key: [u8; 32]) {
        let now = self.now();
        if !lock(&self.uses).note(key, now) {
            return;
        }
        let store = self.store.clone();
        tokio::spawn(async move {
            let written = store.write::<_, StoreError, _>(move |tx| tx.put(&key, &LastUse { at: now })).await;
            if let Err(error) = written {
                tracing::warn!(%error, "the use of a token could not be written; it may end early after a restart");
            }
        });
    }

    /// Forgets the uses of all tokens that `stay` does not hold.
    pub(super) fn forget_uses(&self, stay: impl Fn(&[u8; 32]) -> bool) {
        lock(&self.uses).0.retain(|key, _| stay(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_remembered_at_once_and_written_once_a_minute() {
        let (mut uses, key, begin) = (Uses::default(), [1; 32], 1_800_000_000_000);
        assert!(uses.note(key, begin));
        assert!(!uses.note(key, begin + 1) && !uses.note(key, begin + WRITTEN_EVERY_MS - 1));
        assert_eq!(uses.0[&key].at, begin + WRITTEN_EVERY_MS - 1);
        assert!(uses.note(key, begin + WRITTEN_EVERY_MS));
        // A clock that steps back takes nothing off.
        assert!(!uses.note(key, begin) && uses.0[&key].at == begin + WRITTEN_EVERY_MS);
    }
}
