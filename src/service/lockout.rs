//! The exponential back-off that answers guessing, per source and account.
//!
//! A source is one address, in full: a house shares its IPv6 network, and one lamp in it must not lock the others out.
//! Never per device or account alone: else anyone could lock a family out of its own house. Memory is bounded,
//! whatever addresses and names arrive. What counts as a failure is the caller's to say.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;

/// Exponential back-off per source and account. Pure: the time is an argument.
#[derive(Debug)]
pub(super) struct Lockout {
    entries: HashMap<(IpAddr, [u8; 32]), Failures>,
    capacity: usize,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last_ms: u64,
}

/// The failure that starts the back-off.
pub(super) const FREE_FAILURES: u32 = 5;
/// The first wait, in milliseconds; each further failure doubles it.
pub(super) const FIRST_WAIT_MS: u64 = 1_000;
/// The longest wait, in milliseconds.
pub(super) const LONGEST_WAIT_MS: u64 = 15 * 60 * 1_000;
/// After this time without a failure (milliseconds), a source begins anew.
pub(super) const FORGET_MS: u64 = 24 * 60 * 60 * 1_000;

impl Lockout {
    /// Remembers at most `capacity` pairs of source and account (at least one).
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), capacity: capacity.max(1) }
    }

    /// Whether `source` may try `account` at `now` (milliseconds of any clock that does not
    /// run backwards); if not, for how many milliseconds it has to wait.
    pub(super) fn check(&self, source: IpAddr, account: &str, now: u64) -> Result<(), u64> {
        let Some(failures) = self.entries.get(&key(source, account)) else {
            return Ok(());
        };
        match failures.wait_ms(now) {
            0 => Ok(()),
            wait => Err(wait),
        }
    }

    /// Notes a failure at `now` (milliseconds); answers how long the next attempt has to wait.
    pub(super) fn failed(&mut self, source: IpAddr, account: &str, now: u64) -> u64 {
        let key = key(source, account);
        if !self.entries.contains_key(&key) && self.entries.len() >= self.capacity {
            self.evict(now);
        }
        let failures = self.entries.entry(key).or_insert(Failures { count: 0, last_ms: now });
        if failures.is_forgotten(now) {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last_ms = now;
        failures.wait_ms(now)
    }

    /// Notes a success: the pair begins anew.
    pub(super) fn succeeded(&mut self, source: IpAddr, account: &str) {
        self.entries.remove(&key(source, account));
    }

    /// How many pairs are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no failure is remembered.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes room: forgets what is over, or else the pair that matters least. One that is
    /// waiting goes last, so that a flood of names does not end anyone's wait early.
    fn evict(&mut self, now: u64) {
        self.entries.retain(|_, failures| !failures.is_forgotten(now));
        if self.entries.len() < self.capacity {
            return;
        }
        let least =
            self.entries.iter().min_by_key(|(_, failures)| (failures.wait_ms(now), failures.count, failures.last_ms)).map(|(key, _)| *key);
        if let Some(key) = least {
            self.entries.remove(&key);
        }
    }
}

impl Failures {
    /// How long an attempt at `now` is still to wait (milliseconds).
    fn wait_ms(&self, now: u64) -> u64 {
        let Some(doublings) = self.count.checked_sub(FREE_FAILURES) else {
            return 0;
        };
        let wait = FIRST_WAIT_MS.saturating_mul(1 << doublings.min(32)).min(LONGEST_WAIT_MS);
        wait.saturating_sub(now.saturating_sub(self.last_ms))
    }

    fn is_forgotten(&self, now: u64) -> bool {
        now.saturating_sub(self.last_ms) >= FORGET_MS
    }
}

/// Accounts are kept as hashes: a name sent by a stranger may be long.
fn key(source: IpAddr, account: &str) -> (IpAddr, [u8; 32]) {
    (source.to_canonical(), Sha256::digest(account.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nth(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn back_off_starts_at_the_fifth_failure_and_doubles_to_fifteen_minutes() {
        let mut lockout = Lockout::new(10);
        let source = ip("10.0.0.1");
        for _ in 0..4 {
            assert_eq!(lockout.failed(source, "ada", 0), 0);
        }
        let waits: Vec<u64> = (0..12).map(|_| lockout.failed(source, "ada", 0) / 1_000).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(lockout.check(source, "ada", 899_999), Err(1));
        assert_eq!(lockout.check(source, "ada", 900_000), Ok(()));
    }

    #[test]
    fn another_source_or_account_is_not_locked_out() {
        let mut lockout = Lockout::new(10);
        for _ in 0..9 {
            lockout.failed(ip("10.0.0.1"), "ada", 0);
        }
        assert!(lockout.check(ip("10.0.0.1"), "ada", 0).is_err());
        assert_eq!(lockout.check(ip("10.0.0.1"), "bob", 0), Ok(()));
        assert_eq!(lockout.check(ip("10.0.0.2"), "ada", 0), Ok(()));
    }

    #[test]
    fn success_and_a_day_of_rest_reset_the_count() {
        let mut lockout = Lockout::new(10);
        let source = ip("10.0.0.1");
        for _ in 0..6 {
            lockout.failed(source, "ada", 0);
        }
        lockout.succeeded(source, "ada");
        assert_eq!(lockout.check(source, "ada", 0), Ok(()));
        assert!(lockout.is_empty());
        for _ in 0..20 {
            lockout.failed(source, "ada", 0);
        }
        assert_eq!(lockout.failed(source, "ada", FORGET_MS), 0);
    }

    #[test]
    fn a_flood_of_names_does_not_free_who_is_waiting() {
        let mut lockout = Lockout::new(50);
        let source = ip("10.0.0.1");
        for _ in 0..10 {
            lockout.failed(source, "ada", 0);
        }
        for n in 0..10_000 {
            lockout.failed(source, &format!("nobody-{n}"), 1);
        }
        assert!(lockout.check(source, "ada", 2).is_err());
        assert_eq!(lockout.len(), 50);
    }

    #[test]
    fn a_clock_that_steps_back_does_not_shorten_a_wait() {
        let mut lockout = Lockout::new(5);
        for _ in 0..5 {
            lockout.failed(ip("10.0.0.1"), "ada", 10_000);
        }
        assert_eq!(lockout.check(ip("10.0.0.1"), "ada", 0), Err(1_000));
    }

    proptest! {
        #[test]
        fn the_table_stays_bounded_and_waits_stay_below_the_longest(
            steps in prop::collection::vec((0_u32..40, 0_u8..8, 0_u64..2_000_000, any::<bool>()), 1..300)
        ) {
            let mut lockout = Lockout::new(20);
            let mut now = 0;
            for (source, account, pause, success) in steps {
                now += pause;
                if success {
                    lockout.succeeded(nth(source), &account.to_string());
                    prop_assert_eq!(lockout.check(nth(source), &account.to_string(), now), Ok(()));
                } else {
                    let wait = lockout.failed(nth(source), &account.to_string(), now);
                    prop_assert!(wait <= LONGEST_WAIT_MS);
                    prop_assert_eq!(lockout.check(nth(source), &account.to_string(), now).err().unwrap_or(0), wait);
                }
                prop_assert!(lockout.len() <= 20);
            }
        }
    }
}
