//! The hub's clock as people meet it: what time it is and how far that is believed, an owner's word for it, the floor
//! that is kept, and the watch on changes. A change of what is known of the time is a change of the policy.

use super::rights::require_role;
use super::{Actor, Clock, Refusal, Service, SessionToken, audit, lock};
use crate::domain::authority::HubAction;
use crate::domain::time::Grade;
use crate::domain::timekeeping::{EARLIEST_MS, LATEST_MS, Voice, Word};
use crate::store::tables::{ClockFloor, Session};
use crate::store::{Read, StoreError};
use serde::Serialize;

/// A jump of the clock that is more than a correction, in ms.
const JUMP_MS: u64 = 1_000;
/// How much vouched time passes before the floor is written again, in ms: a card is worn by every write.
const FLOOR_EVERY_MS: u64 = 3_600_000;

/// What a clock says, of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// ms since 1970.
    pub now: u64,
    /// How far that can be believed.
    pub grade: Grade,
    /// Whether two that know the time differ.
    pub contradicted: bool,
}

/// What an owner's word changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// The floor to keep, ms since 1970.
    pub floor: u64,
    /// What time it is then, ms since 1970.
    pub now: u64,
}

/// The clock as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClockView {
    /// ms since 1970.
    pub now: u64,
    /// How far that can be believed.
    pub grade: Grade,
    /// The home's time zone.
    pub time_zone: String,
    /// Whether two that know the time differ.
    pub contradicted: bool,
}

/// What the watch saw last.
pub(super) struct Seen {
    timing: Timing,
    monotonic: u64,
    floor_at: u64,
}

impl Seen {
    pub(super) fn of(clock: &dyn Clock) -> Seen {
        Seen { timing: clock.timing(), monotonic: clock.monotonic_ms(), floor_at: 0 }
    }
}

impl Service {
    /// What time it is for the hub.
    #[must_use]
    pub fn clock(&self) -> ClockView {
        let Timing { now, grade, contradicted } = self.clock.timing();
        ClockView { now, grade, time_zone: self.zone_name(), contradicted }
    }

    /// An owner says what time it is (ms since 1970). The session in which that is said keeps the time it had left: on a
    /// box that wakes with a guess it began months ago, and would end with the owner's first word.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`], [`Refusal::RoleTooLow`]; [`Refusal::Invalid`] for a time that nobody means.
    pub async fn vouch_time(&self, actor: &Actor, token: Option<&SessionToken>, said: u64) -> Result<ClockView, Refusal> {
        actor.user()?;
        if !(EARLIEST_MS..LATEST_MS).contains(&said) {
            return Err(Refusal::Invalid("now: this time cannot be right; set the clock of your own device first".into()));
        }
        self.clock.look();
        let (who, clock) = (actor.clone(), self.clock.clone());
        let word = Word { said, at: clock.monotonic_ms(), by: Voice::Owner };
        let before = clock.timing();
        let session = token.map(|token| self.session_key(token));
        let floor = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, before.now)?;
                let Weighed { floor, now } = clock.weigh(word);
                if let Some(key) = &session
                    && let Some(mut row) = tx.get::<Session>(key)?
                {
                    let left = row.expires_at.saturating_sub(before.now);
                    row.expires_at = now.saturating_add(left);
                    tx.put(key, &row)?;
                }
                if tx.get::<ClockFloor>(ClockFloor::ROW)?.is_none_or(|f| f.at != floor) {
                    tx.put(ClockFloor::ROW, &ClockFloor { at: floor })?;
                }
                let detail = format!("said {said}, the hub had {}", before.now);
                audit::append(tx, before.now, audit::done(&who, "clock.vouch", "hub", detail))?;
                Ok(floor)
            })
            .await?;
        self.clock.heed(word, floor);
        self.watch_clock().await?;
        Ok(self.clock())
    }

    /// Looks whether what is known of the time has changed: its grade, or the time itself by a jump. Then live sessions
    /// are narrowed before this returns. While the time is vouched for, the floor follows it.
    ///
    /// # Errors
    /// The store's fault: then the floor stays where it was.
    pub async fn watch_clock(&self) -> Result<(), Refusal> {
        self.clock.look();
        let (timing, monotonic) = (self.clock.timing(), self.clock.monotonic_ms());
        let (changed, before) = {
            let mut seen = lock(&self.timed);
            let before = seen.timing;
            let expected = before.now.saturating_add(monotonic.saturating_sub(seen.monotonic));
            let jumped = timing.now.abs_diff(expected) > JUMP_MS;
            (seen.timing, seen.monotonic) = (timing, monotonic);
            (jumped || (timing.grade, timing.contradicted) != (before.grade, before.contradicted), before)
        };
        if changed {
            if timing.contradicted && !before.contradicted {
                tracing::warn!("the box's clock and an owner contradict each other; rights that hold for a time are closed");
            }
            tracing::info!(grade = ?timing.grade, before = ?before.grade, now = timing.now, "what is known of the time has changed");
            self.policy_changed().await;
        }
        self.raise_floor(monotonic).await
    }

    async fn raise_floor(&self, monotonic: u64) -> Result<(), Refusal> {
        let Some(floor) = self.clock.floor_now() else { return Ok(()) };
        {
            let mut seen = lock(&self.timed);
            if monotonic.saturating_sub(seen.floor_at) < FLOOR_EVERY_MS {
                return Ok(());
            }
            seen.floor_at = monotonic;
        }
        let kept = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let known = tx.get::<ClockFloor>(ClockFloor::ROW)?.map_or(0, |f| f.at);
                if known < floor {
                    tx.put(ClockFloor::ROW, &ClockFloor { at: floor })?;
                }
                Ok(known.max(floor))
            })
            .await?;
        self.clock.keep_floor(kept);
        Ok(())
    }
}
