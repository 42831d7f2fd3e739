//! The real clock: the one place that asks the operating system for the time.

use crate::service::Clock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall clock and monotonic clock of the box.
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the wall clock")]
    fn now_ms(&self) -> u64 {
        // A clock before 1970 reads as 0: a box without a battery starts there.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
