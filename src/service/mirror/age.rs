//! How old the hub's knowledge of revocations from outside is: since the last reply that the cloud has vouched for. Budgets
//! that rights from outside have for it are the policy's.

use crate::domain::time::Grade;
use crate::domain::timekeeping::{Voice, Word};
use crate::service::{Refusal, Service, lock};

/// What is said when nobody knows: older than every budget. A year, in ms.
const UNKNOWN_MS: u64 = 366 * 24 * 3_600 * 1_000;
/// The smallest budget, in ms: beyond it something may have been refused for being stale.
const SMALLEST_BUDGET_MS: u64 = 24 * 3_600 * 1_000;

/// When the cloud was last heard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// A cloud is linked.
    pub(super) linked: bool,
    /// By the hub's clock, ms since 1970; when it was linked, before the first reply.
    pub(super) at: u64,
    /// By the monotonic clock, if it was in this run.
    pub(super) monotonic: Option<u64>,
}

impl Service {
    /// How old the knowledge of revocations from outside is, in ms; 0 while no cloud is linked.
    #[must_use]
    pub fn policy_age(&self) -> u64 {
        let heard = *lock(&self.mirror.heard);
        if !heard.linked {
            return 0;
        }
        match heard.monotonic {
            Some(then) => self.clock.monotonic_ms().saturating_sub(then),
            // For how long the box was off, only a clock knows that somebody answers for.
            None if self.clock.grade() == Grade::None => UNKNOWN_MS,
            None => self.now().saturating_sub(heard.at),
        }
    }

    /// The cloud was heard now; whether something may have been refused until now because it was not.
    pub(super) fn cloud_heard(&self) -> bool {
        let stale = self.policy_age() >= SMALLEST_BUDGET_MS;
        *lock(&self.mirror.heard) = Heard { linked: true, at: self.now(), monotonic: Some(self.clock.monotonic_ms()) };
        stale
    }

    /// The cloud has vouched for the time, in a reply whose request took `rtt_ms`: a word like an owner's, which does not
    /// overrule one. The floor follows.
    pub(super) async fn clock_vouched(&self, vouched_s: u64, rtt_ms: u64) -> Result<(), Refusal> {
        let Some(word) = Word::of_reply(vouched_s, rtt_ms, self.clock.monotonic_ms()) else { return Ok(()) };
        self.clock.look();
        let floor = self.clock.weigh(word).floor;
        self.clock.heed(word, floor);
        // Also raises the floor that is kept, now and then.
        self.watch_clock().await
    }

    /// The cloud is this hub's no more: what it said of the time counts no more either.
    pub(super) async fn clock_unlinked(&self) -> Result<(), Refusal> {
        self.clock.forget(Voice::Cloud);
        self.watch_clock().await
    }
}
