//! What goes over the line, counted: for the metrics, and against the day's budget.

use super::pace::Budget;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How syncs end, for the metrics; the last is what has no word of its own.
pub const OUTCOMES: [&str; 13] = [
    "ok",
    "unreachable",
    "portal",
    "intercepted",
    "proxy",
    "signature",
    "wrong_region",
    "refused",
    "clock",
    "busy",
    "budget",
    "stale",
    "other",
];
/// What method, path, headers and the line's own framing of one call take in one direction, about, in bytes.
const HEAD: u64 = 700;

/// Counts of everything that went between hub and cloud since the hub's start.
#[derive(Debug)]
pub struct Meter {
    up: AtomicU64,
    down: AtomicU64,
    outcomes: [AtomicU64; OUTCOMES.len()],
    wakes: AtomicU64,
    start: Instant,
    budget: Mutex<Budget>,
}

impl Meter {
    /// A meter with so many bytes a day, both ways together.
    #[must_use]
    pub fn new(max_bytes_per_day: u64) -> Meter {
        Meter {
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            outcomes: Default::default(),
            wakes: AtomicU64::new(0),
            start: Instant::now(),
            budget: Mutex::new(Budget::new(max_bytes_per_day)),
        }
    }

    /// Bytes to the cloud: bodies, and what goes with them, about.
    #[must_use]
    pub fn bytes_up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes from the cloud, the same way.
    #[must_use]
    pub fn bytes_down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    /// How often the cloud woke the hub.
    #[must_use]
    pub fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }

    /// How many syncs ended in which way, in the order of [`OUTCOMES`].
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.iter().zip(&self.outcomes).map(|(name, count)| (*name, count.load(Ordering::Relaxed)))
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.count(&self.up, HEAD.saturating_add(bytes as u64));
    }

    pub(super) fn head_received(&self) {
        self.count(&self.down, HEAD);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.count(&self.down, bytes as u64);
    }

    pub(super) fn woken(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, outcome: &str) {
        let at = OUTCOMES.iter().position(|name| *name == outcome).unwrap_or(OUTCOMES.len() - 1);
        if let Some(count) = self.outcomes.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Bytes that the day still has.
    pub(super) fn left(&self) -> u64 {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).left(self.start.elapsed())
    }

    fn count(&self, which: &AtomicU64, bytes: u64) {
        which.fetch_add(bytes, Ordering::Relaxed);
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).spend(self.start.elapsed(), bytes);
    }
}
