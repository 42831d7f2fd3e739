//! The exponential back-off that answers guessing, per source and account.
//!
//! A source is one address, in full: a house shares its IPv6 network, and one lamp in it must not lock the others out.
//! As one host can use every address of such a network, a second, gentle back-off counts per network and account. It
//! slows guessing down to about one guess a minute; whoever has signed in from its address before is not held up by it.
//! Never per device or account alone: else anyone could lock a family out of its own house. Memory is bounded,
//! whatever addresses and names arrive. What counts as a failure is the caller's to say.

use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

/// Exponential back-off per source and account. Pure: the time is an argument.
#[derive(Debug)]
pub(super) struct Lockout {
    entries: HashMap<Key, Failures>,
    capacity: usize,
    /// Addresses from which an account was signed in to, the latest last.
    trusted: VecDeque<(IpAddr, [u8; 32])>,
}

/// What is counted; of the account only a hash, as a name sent by a stranger may be long.
type Key = (Scope, [u8; 32]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scope {
    Address(IpAddr),
    /// An IPv6 network of 64 bits.
    Network(IpAddr),
    /// Everywhere: for what can be guessed at only by who has shown something already.
    Anywhere,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last_ms: u64,
}

/// The failure of one address that starts the back-off.
pub(super) const FREE_FAILURES: u32 = 5;
/// The failure of one network that starts it.
pub(super) const NETWORK_FREE_FAILURES: u32 = 30;
/// The first wait, in milliseconds; each further failure doubles it.
pub(super) const FIRST_WAIT_MS: u64 = 1_000;
/// The longest wait of an address, in milliseconds.
pub(super) const LONGEST_WAIT_MS: u64 = 15 * 60 * 1_000;
/// The longest wait of a network, in milliseconds: a nuisance to those who share it, not a lock-out.
pub(super) const NETWORK_LONGEST_WAIT_MS: u64 = 60 * 1_000;
/// After this time without a failure (milliseconds), a source begins anew.
pub(super) const FORGET_MS: u64 = 24 * 60 * 60 * 1_000;
/// Addresses remembered that have signed in.
const TRUSTED: usize = 256;

impl Lockout {
    /// Remembers at most `capacity` pairs of source and account (at least one).
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), capacity: capacity.max(1), trusted: VecDeque::new() }
    }

    /// Whether `source` may try `account` at `now` (milliseconds of any clock that does not
    /// run backwards); if not, for how many milliseconds it has to wait.
    pub(super) fn check(&self, source: IpAddr, account: &str, now: u64) -> Result<(), u64> {
        let waits = self.keys(source, account).filter_map(|key| Some(self.entries.get(&key)?.wait_ms(key.0, now)));
        match waits.max().unwrap_or(0) {
            0 => Ok(()),
            wait => Err(wait),
        }
    }

    /// Takes an attempt, and notes it as a failure until [`Lockout::succeeded`] says otherwise: of many at the same
    /// time no more are let through than of as many in a row.
    pub(super) fn attempt(&mut self, source: IpAddr, account: &str, now: u64) -> Result<(), u64> {
        self.check(source, account, now)?;
        self.failed(source, account, now);
        Ok(())
    }

    /// Notes a failure at `now` (milliseconds); answers how long the next attempt has to wait.
    pub(super) fn failed(&mut self, source: IpAddr, account: &str, now: u64) -> u64 {
        for key in self.keys(source, account).collect::<Vec<_>>() {
            self.note(key, now);
        }
        self.check(source, account, now).err().unwrap_or(0)
    }

    fn note(&mut self, key: Key, now: u64) {
        if !self.entries.contains_key(&key) && self.entries.len() >= self.capacity {
            self.evict(now);
        }
        let failures = self.entries.entry(key).or_insert(Failures { count: 0, last_ms: now });
        if failures.is_forgotten(now) {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last_ms = now;
    }

    /// Notes a success: the pair begins anew, and its network with it.
    pub(super) fn succeeded(&mut self, source: IpAddr, account: &str) {
        let (source, account) = (source.to_canonical(), hash(account));
        for scope in [Scope::Address(source), Scope::Network(network_of(source))] {
            self.entries.remove(&(scope, account));
        }
        self.trusted.retain(|pair| *pair != (source, account));
        if self.trusted.len() >= TRUSTED {
            self.trusted.pop_front();
        }
        self.trusted.push_back((source, account));
    }

    /// Whether `source` may guess at the second factor of `account`. With six digits, guessing from many addresses would
    /// get somewhere: such guesses are also counted wherever they come from, as gently as those of a network, and they do
    /// not hold up who has signed in from its address before.
    pub(super) fn check_anywhere(&self, source: IpAddr, account: &str, now: u64) -> Result<(), u64> {
        let account = hash(account);
        let counted = self.entries.get(&(Scope::Anywhere, account)).filter(|_| !self.trusted.contains(&(source.to_canonical(), account)));
        counted.map_or(Ok(()), |failures| match failures.wait_ms(Scope::Anywhere, now) {
            0 => Ok(()),
            wait => Err(wait),
        })
    }

    /// Notes a wrong guess at the second factor of `account`, wherever it came from.
    pub(super) fn failed_anywhere(&mut self, account: &str, now: u64) {
        self.note((Scope::Anywhere, hash(account)), now);
    }

    /// What an attempt counts for.
    fn keys(&self, source: IpAddr, account: &str) -> impl Iterator<Item = Key> + use<> {
        let (source, account) = (source.to_canonical(), hash(account));
        // An IPv4 address is its own network.
        let network = source.is_ipv6() && !self.trusted.contains(&(source, account));
        let network = network.then(|| (Scope::Network(network_of(source)), account));
        std::iter::once((Scope::Address(source), account)).chain(network)
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
        let least = self
            .entries
            .iter()
            .min_by_key(|((scope, _), failures)| (failures.wait_ms(*scope, now), failures.count, failures.last_ms))
            .map(|(key, _)| *key);
        if let Some(key) = least {
            self.entries.remove(&key);
        }
    }
}

impl Failures {
    /// How long an attempt at `now` is still to wait (milliseconds).
    fn wait_ms(&self, scope: Scope, now: u64) -> u64 {
        let (free, longest) = match scope {
            Scope::Address(_) => (FREE_FAILURES, LONGEST_WAIT_MS),
            Scope::Network(_) | Scope::Anywhere => (NETWORK_FREE_FAILURES, NETWORK_LONGEST_WAIT_MS),
        };
        let Some(doublings) = self.count.checked_sub(free) else {
            return 0;
        };
        let wait = FIRST_WAIT_MS.saturating_mul(1 << doublings.min(32)).min(longest);
        wait.saturating_sub(now.saturating_sub(self.last_ms))
    }

    fn is_forgotten(&self, now: u64) -> bool {
        now.saturating_sub(self.last_ms) >= FORGET_MS
    }
}

fn hash(account: &str) -> [u8; 32] {
    Sha256::digest(account.as_bytes()).into()
}

/// The network of 64 bits that an IPv6 address belongs to; an IPv4 address stands for itself.
pub(super) fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
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
    fn attempts_at_the_same_time_are_no_more_than_attempts_in_a_row() {
        let mut lockout = Lockout::new(10);
        let source = ip("10.0.0.1");
        // None of them has been answered yet.
        let let_through = (0..100).filter(|_| lockout.attempt(source, "ada", 0).is_ok()).count();
        assert_eq!(let_through, 5);
        lockout.succeeded(source, "ada");
        assert_eq!(lockout.attempt(source, "ada", 0), Ok(()));
    }

    #[test]
    fn a_fresh_address_for_each_guess_does_not_help_the_guesser() {
        let mut lockout = Lockout::new(10_000);
        let (mut guesses, hour) = (0, 3_600_000);
        for n in 0..u64::from(u32::MAX) {
            let now = n * 100;
            if now >= hour {
                break;
            }
            let fresh = IpAddr::V6(Ipv6Addr::from_bits((0xfd00_u128 << 112) | u128::from(n)));
            guesses += u32::from(lockout.attempt(fresh, "olivia", now).is_ok());
        }
        assert!((60..=100).contains(&guesses), "{guesses}");
    }

    #[test]
    fn guesses_of_a_neighbour_hold_the_family_up_for_a_minute_at_most() {
        let mut lockout = Lockout::new(1_000);
        let (tablet, phone) = (ip("fd00::aaaa"), ip("fd00::bbbb"));
        lockout.succeeded(tablet, "olivia");
        for n in 0..500 {
            lockout.failed(ip(&format!("fd00::{n:x}")), "olivia", 0);
        }
        // Not at all where she was signed in before, nor in another network, nor anybody else.
        assert_eq!(lockout.check(tablet, "olivia", 0), Ok(()));
        assert_eq!(lockout.check(ip("fd00:0:0:1::1"), "olivia", 0), Ok(()));
        assert_eq!(lockout.check(phone, "mia", 0), Ok(()));
        assert_eq!(lockout.check(phone, "olivia", 0), Err(NETWORK_LONGEST_WAIT_MS));
        assert_eq!(lockout.check(phone, "olivia", NETWORK_LONGEST_WAIT_MS), Ok(()));
        // What she then gets wrong herself counts for her address alone.
        assert_eq!((0..5).map(|_| lockout.failed(tablet, "olivia", 0)).last(), Some(FIRST_WAIT_MS));
    }

    #[test]
    fn guesses_at_a_second_factor_from_many_addresses_are_slowed_and_the_person_is_not_kept_out() {
        let mut lockout = Lockout::new(1_000);
        let phone = ip("10.0.0.200");
        lockout.succeeded(phone, "olivia");
        let let_through = (0..3_600).filter(|n| {
            let source = nth(0x0a00_0000 + n % 200);
            let goes = lockout.check_anywhere(source, "olivia", u64::from(*n) * 1_000).is_ok();
            if goes {
                lockout.failed_anywhere("olivia", u64::from(*n) * 1_000);
            }
            goes
        });
        let let_through = let_through.count();
        assert!((60..=100).contains(&let_through), "{let_through}");
        assert_eq!(lockout.check_anywhere(phone, "olivia", 3_600_000), Ok(()));
        assert_eq!(lockout.check_anywhere(ip("10.0.0.9"), "mia", 3_600_000), Ok(()));
        assert_eq!(lockout.check_anywhere(ip("10.0.0.9"), "olivia", 3_600_000 + NETWORK_LONGEST_WAIT_MS), Ok(()));
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
