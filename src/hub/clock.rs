//! The real clock: the one place that asks the operating system for the time.
//!
//! A box without a battery starts in 1970, and learns the time minutes later, or never. Certificates, sessions and rights
//! need a time that is at least plausible: as long as the box's own is not, the clock goes on from a floor. Once the
//! box's time is plausible it is believed, also when it is before what the hub has seen: a clock that once ran ahead
//! must not keep the hub in the future.

use crate::domain::time::Grade;
use crate::service::Clock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// No release of this program is older: 2026-01-01T00:00:00Z, in ms since 1970.
const EARLIEST_MS: u64 = 1_767_225_600_000;

/// Wall clock and monotonic clock of the box.
pub struct SystemClock {
    start: Instant,
    floor_ms: u64,
}

impl SystemClock {
    /// A clock that goes on from `seen_ms` (the newest time the hub has written down, in ms since 1970; 0 for none)
    /// while the box does not know the time.
    #[must_use]
    pub fn new(seen_ms: u64) -> SystemClock {
        let clock = SystemClock { start: Instant::now(), floor_ms: seen_ms.max(EARLIEST_MS) };
        if wall_ms() < EARLIEST_MS {
            tracing::warn!("the box does not know the time; the hub goes on from when it last ran");
        }
        clock
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        reading(wall_ms(), self.floor_ms, self.monotonic_ms())
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn grade(&self) -> Grade {
        if wall_ms() < EARLIEST_MS { Grade::None } else { Grade::Ntp }
    }
}

fn reading(wall_ms: u64, floor_ms: u64, elapsed_ms: u64) -> u64 {
    if wall_ms < EARLIEST_MS { floor_ms.saturating_add(elapsed_ms) } else { wall_ms }
}

#[expect(clippy::disallowed_methods, reason = "this is the place that reads the wall clock")]
fn wall_ms() -> u64 {
    // A clock before 1970 reads as 0.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_that_wakes_in_1970_goes_on_from_what_the_hub_last_wrote() {
        let seen = EARLIEST_MS + 1_000_000;
        assert_eq!(reading(5_000, seen, 5_000), seen + 5_000);
        assert_eq!(SystemClock::new(seen).floor_ms, seen);
        assert_eq!(SystemClock::new(0).floor_ms, EARLIEST_MS);
    }

    #[test]
    fn once_the_box_knows_the_time_it_is_believed() {
        let now = EARLIEST_MS + 50_000_000;
        assert_eq!(reading(now, EARLIEST_MS + 1_000, 60_000), now);
        let ran_ahead = EARLIEST_MS * 2;
        assert_eq!(reading(now, ran_ahead, 60_000), now);
    }
}
