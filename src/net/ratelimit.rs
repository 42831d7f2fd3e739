//! A limit on how often a source may try.
//!
//! It counts per address, in full (the hosts of a house share their IPv6 network), never per device or account: else anyone could lock a family out of its own house. Memory is
//! bounded, whatever addresses arrive. The back-off after failures is the use cases'.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
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
        let source = source.to_canonical();
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
    fn neighbours_in_one_ipv6_network_do_not_use_up_each_others_attempts() {
        let (limiter, _) = limiter(1, 100);
        assert_eq!(limiter.check(ip("fe80::1")), Ok(()));
        assert!(limiter.check(ip("fe80::1")).is_err());
        assert_eq!(limiter.check(ip("fe80::2")), Ok(()));
    }

    #[test]
    fn many_sources_neither_fill_memory_nor_go_unlimited() {
        let (limiter, clock) = limiter(1, 100);
        let allowed = (0..100_000).filter(|n| limiter.check(nth(*n)).is_ok()).count();
        assert!(limiter.sources() <= 100 + 256, "{}", limiter.sources());
        assert!(allowed <= 100 + 256, "{allowed}");
        // Once the flood is over, newcomers are served as before.
        clock.advance(Duration::from_secs(120));
        for n in 200_000..200_050 {
            let _ = limiter.check(nth(n));
        }
        assert_eq!(limiter.check(ip("192.168.1.1")), Ok(()));
        assert!(limiter.sources() <= 101, "{}", limiter.sources());
    }
}
