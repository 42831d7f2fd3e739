//! How often one device may do something to another: a token bucket for each pair. Two devices that set each other off
//! through something the hub does not see (a sensor that hears the siren it has switched on) are slowed down to a rate
//! that a family notices and a motor survives. Pure: the time is an argument. Memory is bounded, whatever pairs come.

use crate::domain::ids::DeviceId;
use std::collections::HashMap;

/// How many acts may follow each other at once.
const BURST: u64 = 5;
/// One more each so many ms: 30 a minute.
const EVERY_MS: u64 = 2_000;
/// Pairs remembered.
const PAIRS: usize = 4_096;

/// What each pair has left.
#[derive(Default)]
pub(super) struct Pace {
    /// By source and target: when its bucket will be full again, monotonic ms.
    full_at: HashMap<(DeviceId, DeviceId), u64>,
}

impl Pace {
    /// Takes one act of `source` on `target` at `now` (monotonic ms).
    ///
    /// # Errors
    /// For how many ms it has to wait.
    pub(super) fn take(&mut self, source: &DeviceId, target: &DeviceId, now: u64) -> Result<(), u64> {
        let pair = (source.clone(), target.clone());
        let full_at = self.full_at.get(&pair).copied().unwrap_or(0).max(now);
        let owed = full_at - now;
        if owed > (BURST - 1) * EVERY_MS {
            return Err(owed - (BURST - 1) * EVERY_MS);
        }
        if self.full_at.len() >= PAIRS && !self.full_at.contains_key(&pair) {
            // Whose bucket is full is as good as unknown.
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= PAIRS {
                return Err(EVERY_MS);
            }
        }
        self.full_at.insert(pair, full_at + EVERY_MS);
        Ok(())
    }

    /// Forgets a device that has left the house.
    pub(super) fn forget(&mut self, device: &DeviceId) {
        self.full_at.retain(|(source, target), _| source != device && target != device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> DeviceId {
        DeviceId::parse(&format!("d-{n}")).unwrap()
    }

    #[test]
    fn five_at_once_then_one_each_two_seconds_for_each_pair_alone() {
        let mut pace = Pace::default();
        for _ in 0..5 {
            assert_eq!(pace.take(&id(1), &id(2), 1_000), Ok(()));
        }
        assert_eq!(pace.take(&id(1), &id(2), 1_000), Err(2_000));
        assert_eq!(pace.take(&id(1), &id(3), 1_000), Ok(()));
        assert_eq!(pace.take(&id(2), &id(1), 1_000), Ok(()));
        assert_eq!(pace.take(&id(1), &id(2), 2_999), Err(1));
        assert_eq!(pace.take(&id(1), &id(2), 3_000), Ok(()));
        assert!(pace.take(&id(1), &id(2), 3_000).is_err(), "who tried in vain is not made to wait longer, nor let in earlier");
        let in_an_hour = (0..3_600).filter(|s| pace.take(&id(1), &id(2), 100_000 + s * 1_000).is_ok()).count();
        assert!((1_800..=1_805).contains(&in_an_hour), "{in_an_hour}");
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut pace = Pace::default();
        for n in 0..2 * PAIRS {
            let taken = pace.take(&id(n), &id(0), 1_000);
            assert_eq!(taken.is_ok(), n < PAIRS);
        }
        assert_eq!(pace.full_at.len(), PAIRS);
        assert_eq!(pace.take(&id(9), &id(1), 3_000), Ok(()));
        assert_eq!(pace.full_at.len(), 1);
        pace.forget(&id(9));
        assert!(pace.full_at.is_empty());
    }
}
