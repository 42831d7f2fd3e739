//! How often somebody may ask: per source, and per hub.

use super::reply::Refused;
use crate::domain::ids::HubId;
use crate::net::SourceLimiter;
use crate::net::problem::Problem;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// Sources that are remembered.
const SOURCES: usize = 100_000;

/// All limits on how often.
pub(super) struct Limits {
    requests: SourceLimiter,
    attempts: SourceLimiter,
    /// Only hubs whose signature held are counted, so there are no more than are linked.
    hubs: DefaultKeyedRateLimiter<HubId>,
    clock: DefaultClock,
}

impl Limits {
    /// As configured; `None` for a limit of 0.
    pub(super) fn of(config: &super::config::Limits) -> Option<Limits> {
        let quota = Quota::per_minute(NonZeroU32::new(config.hub_requests_per_minute)?);
        Some(Limits {
            requests: SourceLimiter::new(NonZeroU32::new(config.requests_per_minute)?, SOURCES),
            attempts: SourceLimiter::new(NonZeroU32::new(config.attempts_per_minute)?, SOURCES),
            hubs: RateLimiter::keyed(quota),
            clock: DefaultClock::default(),
        })
    }

    /// Any request of a source.
    pub(super) fn request(&self, source: IpAddr) -> Result<(), Refused> {
        self.requests.check(source).map_err(too_many)
    }

    /// An attempt at what anybody may try.
    pub(super) fn attempt(&self, source: IpAddr) -> Result<(), Refused> {
        self.attempts.check(source).map_err(too_many)
    }

    /// A request of a hub.
    pub(super) fn hub(&self, hub: &HubId) -> Result<(), Refused> {
        self.hubs.check_key(hub).map_err(|refusal| too_many(refusal.wait_time_from(self.clock.now())))
    }

    /// Forgets hubs that have been quiet.
    pub(super) fn sweep(&self) {
        self.hubs.retain_recent();
    }
}

fn too_many(wait: Duration) -> Refused {
    Problem::too_many(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)).into()
}
