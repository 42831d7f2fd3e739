//! A limit on how often a source may try.
//!
//! It counts per source, never per device or account: else anyone could lock a family out of its own house. Memory is
//! bounded, whatever addresses arrive. The back-off after failures is the use cases'.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

/// How many attempts per minute a source may make, whatever they are about.
#[derive(Debug)]
pub struct SourceLimiter<C: Clock = DefaultClock> {
    limiter: RateLimiter<Bucket, DashMapStateStore<Bucket>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    capacity: usize,
    /// Checks until memory of sources that have recovered is given back again.
    until_sweep: AtomicUsize,
    overflow: RandomState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Bucket {
    Source(IpAddr),
    /// Shared by sources that arrive when the table is full.
    Overflow(u8),
}

impl SourceLimiter<DefaultClock> {
    /// Allows `per_minute` attempts a minute, all of them at once if need be, and remembers
    /// about `capacity` sources (some 100 bytes each).
    pub fn new(per_minute: NonZeroU32, capacity: usize) -> Self {
        Self::with_clock(per_minute, capacity, DefaultClock::default())
    }
}

impl<C: Clock + Clone> SourceLimiter<C> {
    /// As [`SourceLimiter::new`], on another clock.
    pub fn with_clock(per_minute: NonZeroU32, capacity: usize, clock: C) -> Self {
        Self {
            limiter: RateLimiter::dashmap_with_clock(Quota::per_minute(per_minute), clock.clone()),
            clock,
            capacity,
            until_sweep: AtomicUsize::new(0),
            overflow: RandomState::new(),
        }
    }

    /// Counts an attempt from `source`. A refused one is told how long to wait.
    pub fn check(&self, source: IpAddr) -> Result<(), Duration> {
        let source = source_of(source);
        let bucket = if self.is_full() {
            let [bucket, ..] = self.overflow.hash_one(source).to_le_bytes();
            Bucket::Overflow(bucket)
        } else {
            Bucket::Source(source)
        };
        self.limiter.check_key(&bucket).map_err(|refusal| refusal.wait_time_from(self.clock.now()))
    }

    /// How many sources are remembered.
    pub fn sources(&self) -> usize {
        self.limiter.len()
    }

    /// Full also after forgetting whoever could start anew. That takes a pass over the
    /// table, so under attack it runs at most once in `capacity / 4` checks.
    fn is_full(&self) -> bool {
        if self.limiter.len() < self.capacity {
            return false;
        }
        let left = self
            .until_sweep
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.checked_sub(1).unwrap_or(self.capacity / 4)))
            .unwrap_or(0);
        if left == 0 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.len() >= self.capacity
    }
}

/// What counts as one source: an IPv4 address, also when it arrives IPv4-mapped, or an IPv6
/// network of 64 bits, of which one host can use every address.
pub fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nth(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn limiter(per_minute: u32, capacity: usize) -> (SourceLimiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let per_minute = NonZeroU32::new(per_minute).unwrap();
        (SourceLimiter::with_clock(per_minute, capacity, clock.clone()), clock)
    }

    #[test]
    fn a_source_that_tries_too_often_waits_and_others_do_not() {
        let (limiter, clock) = limiter(6, 100);
        for _ in 0..6 {
            assert_eq!(limiter.check(ip("10.0.0.1")), Ok(()));
        }
        assert_eq!(limiter.check(ip("10.0.0.1")), Err(Duration::from_secs(10)));
        assert_eq!(limiter.check(ip("::ffff:10.0.0.1")), Err(Duration::from_secs(10)));
        assert_eq!(limiter.check(ip("10.0.0.2")), Ok(()));
        clock.advance(Duration::from_secs(10));
        assert_eq!(limiter.check(ip("10.0.0.1")), Ok(()));
        assert!(limiter.check(ip("10.0.0.1")).is_err());
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_source() {
        let (limiter, _) = limiter(1, 100);
        assert_eq!(limiter.check(ip("2001:db8:0:1::1")), Ok(()));
        assert!(limiter.check(ip("2001:db8:0:1:ffff::2")).is_err());
        assert_eq!(limiter.check(ip("2001:db8:0:2::1")), Ok(()));
    }

    #[test]
    fn many_sources_neither_fill_memory_nor_go_unlimited() {
        let (limiter, clock) = limiter(1, 100);
        let allowed = (0..100_000).filter(|n| limiter.check(nth(*n)).is_ok()).count();
        assert!(limiter.sources() <= 100 + 256, "{}", limiter.sources());
        assert!(allowed <= 100 + 256, "{allowed}");
        // Once the flood is over, newcomers are served as before.
        clock.advance(Duration::from_secs(120));
        for n in 200_000..200_100 {
            let _ = limiter.check(nth(n));
        }
        assert_eq!(limiter.check(ip("192.168.1.1")), Ok(()));
        assert!(limiter.sources() <= 101, "{}", limiter.sources());
    }
}
