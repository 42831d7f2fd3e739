//! The hub's clock: the one place that asks the operating system for the time, and for what shows that it is right. What
//! the time is by all that is known is `domain::timekeeping`'s.
//!
//! That the box is synchronised is shown by the file that systemd-timesyncd writes once it has heard a server (it lies in
//! `/run`, so that none is left from an earlier boot), or said by the configuration, for a box with a clock of its own or
//! with another time service: that their word is good is then the word of whoever set up the box.

use crate::domain::time::Grade;
use crate::domain::timekeeping::{Observation, Reading, TOLERANCE_MS, Timekeeping, Voice, Word};
use crate::service::{Clock, Timing, Weighed};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Written by systemd-timesyncd when it has set the clock by a server (systemd-timesyncd.service(8)).
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// How far the box's clock is believed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockConfig {
    /// Whether the box's clock is always right: it has a battery, or is kept by a service other than systemd-timesyncd.
    pub trusted: bool,
}

/// What a box knows of the time. Tests have boxes of their own.
pub trait BoxClock: Send + Sync {
    /// Its wall clock, ms since 1970.
    fn wall_ms(&self) -> u64;
    /// Milliseconds that only ever grow, from any start.
    fn monotonic_ms(&self) -> u64;
    /// Whether something shows that the wall clock is right.
    fn is_synchronised(&self) -> bool;
}

/// The clocks of the operating system.
pub struct SystemBox {
    start: Instant,
    trusted: bool,
}

impl SystemBox {
    /// The box this program runs on.
    #[must_use]
    pub fn new(config: &ClockConfig) -> SystemBox {
        SystemBox { start: Instant::now(), trusted: config.trusted }
    }
}

impl BoxClock for SystemBox {
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the wall clock")]
    fn wall_ms(&self) -> u64 {
        // A clock before 1970 reads as 0.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_synchronised(&self) -> bool {
        self.trusted || Path::new(SYNCHRONISED).exists()
    }
}

/// The clock that decisions are taken by.
pub struct SystemClock {
    source: Arc<dyn BoxClock>,
    // Read for every message that is delivered: no lock.
    state: ArcSwap<State>,
}

#[derive(Clone, Copy)]
struct State {
    keeping: Timekeeping,
    /// Looked at once a second, not at every decision.
    synchronised: bool,
}

impl SystemClock {
    /// A clock over `source`, with the floor that was kept and the newest time that the hub has written down (both in ms
    /// since 1970; 0 for none).
    #[must_use]
    pub fn new(source: Arc<dyn BoxClock>, floor_ms: u64, seen_ms: u64) -> SystemClock {
        let state = State { keeping: Timekeeping::new(floor_ms, seen_ms), synchronised: source.is_synchronised() };
        let clock = SystemClock { source, state: ArcSwap::from_pointee(state) };
        if clock.read().grade == Grade::None {
            tracing::warn!("the box does not know the time; rights that hold for a time are closed until an owner opens the hub's page");
        }
        clock
    }

    fn read(&self) -> Reading {
        let state = self.state.load();
        state.keeping.read(self.observe(state.synchronised))
    }

    fn observe(&self, synchronised: bool) -> Observation {
        Observation { wall: self.source.wall_ms(), monotonic: self.source.monotonic_ms(), synchronised }
    }

    fn change(&self, how: impl Fn(&mut State)) {
        self.state.rcu(|state| {
            let mut state = **state;
            how(&mut state);
            state
        });
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        self.read().now
    }

    fn monotonic_ms(&self) -> u64 {
        self.source.monotonic_ms()
    }

    fn grade(&self) -> Grade {
        self.read().grade
    }

    fn timing(&self) -> Timing {
        let Reading { now, grade, contradicted } = self.read();
        Timing { now, grade, contradicted }
    }

    fn look(&self) {
        let synchronised = self.source.is_synchronised();
        self.change(|state| state.synchronised = synchronised);
    }

    fn weigh(&self, word: Word) -> Weighed {
        let state = self.state.load();
        let seen = self.observe(state.synchronised);
        // Some time may have passed since it was said; what the box said then is that much earlier.
        let wall = seen.wall.saturating_sub(seen.monotonic.saturating_sub(word.at));
        let mut keeping = state.keeping;
        let floor = keeping.floor_after(word, Observation { wall, monotonic: word.at, ..seen });
        keeping.heed(word, floor);
        Weighed { floor, now: keeping.read(seen).now }
    }

    fn heed(&self, word: Word, floor: u64) {
        self.change(|state| state.keeping.heed(word, floor));
    }

    fn forget(&self, by: Voice) {
        self.change(|state| state.keeping.forget(by));
    }

    fn floor_now(&self) -> Option<u64> {
        let Reading { now, grade, .. } = self.read();
        let floor = self.state.load().keeping.floor();
        (grade == Grade::Vouched && now > floor.saturating_add(TOLERANCE_MS)).then_some(now)
    }

    fn keep_floor(&self, floor: u64) {
        let monotonic = self.source.monotonic_ms();
        self.change(|state| state.keeping.keep(floor, monotonic));
    }
}
