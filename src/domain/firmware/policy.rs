//! Whether a device is offered a release, and whether it may install it now: decided from what people chose, what is known of the model's
//! releases, and how the device is doing.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::progress::{BACKOFF_MS, Progress};
use super::release::{ImageHash, Release};
use crate::domain::ids::DeviceId;
use crate::domain::time::{Grade, Moment, Window};

/// What people let happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The newest release is offered.
    Automatic,
    /// A release is offered when a person has said yes to it.
    #[default]
    Ask,
    /// Nothing is offered.
    Hold,
}

/// When a release that fails is offered to nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Not before so many devices have tried it, 1 or more.
    pub after: u32,
    /// When more than so many percent of them failed, 0 to 100.
    pub percent: u8,
}

impl Default for Stop {
    fn default() -> Self {
        Self { after: 3, percent: 34 }
    }
}

impl Stop {
    /// Whether a release with these counts is stopped.
    #[must_use]
    pub fn holds(self, tried: u32, failed: u32) -> bool {
        tried >= self.after && u64::from(failed) * 100 > u64::from(tried) * u64::from(self.percent)
    }
}

/// What people chose for a model, or for one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// What is offered without asking.
    pub mode: Mode,
    /// Installing begins in this window of the week only; at any time when absent.
    pub window: Option<Window>,
    /// So many percent of the model's devices get a release, 0 to 100.
    pub percent: u8,
    /// When a release that fails is stopped.
    pub stop: Stop,
}

impl Default for Policy {
    fn default() -> Self {
        Self { mode: Mode::Ask, window: None, percent: 100, stop: Stop::default() }
    }
}

/// What is wrong with a policy; the text is for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A percentage above 100.
    #[error("percent: a number from 0 to 100")]
    Percent,
    /// A window without days, or with one twice.
    #[error("window: it names the days it begins on, each day once")]
    Window,
    /// A stop that would hold before anything was tried.
    #[error("stop: after is 1 or more, percent from 0 to 100")]
    Stop,
}

impl Policy {
    /// Whether it can be chosen.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn check(&self) -> Result<(), PolicyError> {
        let repeats = |window: &Window| {
            let mut days = window.days.clone();
            days.sort_unstable();
            days.dedup();
            days.is_empty() || days.len() != window.days.len()
        };
        if self.percent > 100 {
            return Err(PolicyError::Percent);
        }
        if self.window.as_ref().is_some_and(repeats) {
            return Err(PolicyError::Window);
        }
        if self.stop.after == 0 || self.stop.percent > 100 {
            return Err(PolicyError::Stop);
        }
        Ok(())
    }

    /// Whether installing may begin. A window that cannot be told, because the time is not known, does not hold.
    fn lets_install(&self, now: &Moment) -> bool {
        self.window.as_ref().is_none_or(|window| now.grade != Grade::None && window.holds(&now.zone, now.at))
    }
}

/// The device's place in the stages of one image, 0 to 99: it gets the release when that is below the percentage.
#[must_use]
pub fn stage(device: &DeviceId, image: &ImageHash) -> u8 {
    let digest = Sha256::new().chain_update(device.as_str()).chain_update(image.as_bytes()).finalize();
    let first = digest.iter().take(8).fold(0, |number: u64, byte| (number << 8) | u64::from(*byte));
    u8::try_from(first % 100).unwrap_or(0)
}

/// The highest security minimum of a model's releases; 0 when none has one.
pub fn floor<'a>(releases: impl IntoIterator<Item = &'a Release>) -> u64 {
    releases.into_iter().map(|release| release.security_minimum).max().unwrap_or(0)
}

/// Whether a device runs something that is not safe to use any more. One that has never said what it runs is not behind.
#[must_use]
pub fn is_behind(rel: Option<u64>, floor: u64) -> bool {
    rel.is_some_and(|rel| rel < floor)
}

/// What is known of one device.
#[derive(Debug, Clone, Copy)]
pub struct DeviceFacts<'a> {
    /// The device.
    pub id: &'a DeviceId,
    /// Its hardware revision; may be empty.
    pub hardware: &'a str,
    /// The release that it says it runs.
    pub rel: Option<u64>,
    /// The model's security minimum: the highest of all releases that this hub has ever verified.
    pub floor: u64,
    /// The release that a person has said yes to for this device.
    pub approved: Option<u64>,
    /// How its updates go.
    pub progress: &'a Progress,
}

/// What is known of one release of the device's model.
#[derive(Debug, Clone)]
pub struct Known {
    /// The release, verified.
    pub release: Release,
    /// Whether the hub has the image.
    pub cached: bool,
    /// Its stage in all houses, as the cloud names it; 100 when nobody does.
    pub cloud_percent: u8,
    /// Its maker has withdrawn it: nobody is offered it.
    pub withdrawn: bool,
    /// How many devices here have tried it.
    pub tried: u32,
    /// How many of these have failed.
    pub failed: u32,
    /// A person has said that it goes on although it was stopped.
    pub resumed: bool,
}

/// What the device is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: there is nothing newer.
    UpToDate,
    /// A release.
    Offer {
        /// Which.
        rel: u64,
        /// Whether it may install it now; else it downloads it and waits for its window.
        install: bool,
    },
    /// Nothing yet.
    Waits {
        /// The release that it would be.
        rel: u64,
        /// For what.
        why: Why,
    },
    /// Nothing: it has never said what it runs, and there is nothing to offer it.
    NotKnown,
}

/// Why a release is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// People hold it.
    Hold,
    /// A person has to say yes.
    Ask,
    /// It is not this device's turn.
    Stage,
    /// It has failed too often on others: a person has to say that it goes on.
    Stopped,
    /// It failed here a while ago.
    Backoff {
        /// When it is offered again, ms since 1970.
        until: u64,
    },
    /// It has failed here too often: a person has to say that it is tried again.
    GaveUp,
    /// It needs a release in between that is not here.
    Step,
    /// It does not run on this hardware.
    Hardware,
    /// The image is not here.
    NotCached,
}

impl Why {
    /// The word for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Why::Hold => "hold",
            Why::Ask => "ask",
            Why::Stage => "stage",
            Why::Stopped => "stopped",
            Why::Backoff { .. } => "backoff",
            Why::GaveUp => "gave_up",
            Why::Step => "step",
            Why::Hardware => "hardware",
            Why::NotCached => "not_cached",
        }
    }
}

/// The release whose image is all that the device waits for, if there is one.
#[must_use]
pub fn lacks_image(policy: &Policy, known: &[Known], device: &DeviceFacts<'_>, now: &Moment) -> Option<u64> {
    let with_all: Vec<Known> = known.iter().map(|k| Known { cached: true, ..k.clone() }).collect();
    let Verdict::Offer { rel, .. } = verdict(policy, &with_all, device, now) else { return None };
    known.iter().any(|k| k.release.rel == rel && !k.cached).then_some(rel)
}

/// What a device is offered now. While it installs, what it was offered stands. Else it is the newest release that can be: newer than what
/// it runs, for its hardware, within one step, and not withdrawn by its maker. One that it does not get is passed over for the next older one, except that a device that
/// failed a while ago waits. A device that is behind gets it whatever stage, stop, window and consent say, unless people hold it.
#[must_use]
pub fn verdict(policy: &Policy, known: &[Known], device: &DeviceFacts<'_>, now: &Moment) -> Verdict {
    if device.progress.is_installing() {
        return Verdict::Offer { rel: device.progress.rel, install: true };
    }
    let mut newer: Vec<&Known> = known.iter().filter(|k| !k.withdrawn && device.rel.is_none_or(|rel| k.release.rel > rel)).collect();
    newer.sort_by_key(|k| std::cmp::Reverse(k.release.rel));
    let Some(newest) = newer.first().map(|k| k.release.rel) else {
        return if device.rel.is_none() { Verdict::NotKnown } else { Verdict::UpToDate };
    };
    newer.retain(|k| k.release.runs_on(device.hardware));
    let Some(newest_here) = newer.first().map(|k| k.release.rel) else { return Verdict::Waits { rel: newest, why: Why::Hardware } };
    if policy.mode == Mode::Hold {
        return Verdict::Waits { rel: newest_here, why: Why::Hold };
    }
    let mut first = None;
    for candidate in &newer {
        let Err(why) = may_have(policy, &newer, candidate, device, now) else {
            let install = is_behind(device.rel, device.floor) || policy.lets_install(now);
            return Verdict::Offer { rel: candidate.release.rel, install };
        };
        let waits = Verdict::Waits { rel: candidate.release.rel, why };
        if matches!(why, Why::Backoff { .. }) {
            return waits;
        }
        first.get_or_insert(waits);
    }
    first.unwrap_or(Verdict::UpToDate)
}

/// Whether a device may have one release, of those that are newer and for its hardware.
fn may_have(policy: &Policy, newer: &[&Known], candidate: &Known, device: &DeviceFacts<'_>, now: &Moment) -> Result<(), Why> {
    let release = &candidate.release;
    let within_a_step = |release: &Release| device.rel.is_none_or(|rel| release.least_before <= rel);
    if !within_a_step(release) {
        return Err(Why::Step);
    }
    let tries = device.progress.tries_of(release.rel).filter(|tries| tries.failures > 0);
    let pause = tries.map(|tries| (tries, usize::try_from(tries.failures - 1).ok().and_then(|at| BACKOFF_MS.get(at))));
    if pause.is_some_and(|(_, pause)| pause.is_none()) {
        return Err(Why::GaveUp);
    }
    if !is_behind(device.rel, device.floor) {
        let is_step_to = |approved: u64| {
            let towards = newer.iter().find(|k| k.release.rel == approved);
            release.rel < approved && towards.is_some_and(|k| !within_a_step(&k.release))
        };
        let wanted = device.approved.is_some_and(|approved| approved == release.rel || is_step_to(approved));
        if policy.stop.holds(candidate.tried, candidate.failed) && !candidate.resumed {
            return Err(Why::Stopped);
        }
        if !wanted && stage(device.id, &release.sha256) >= policy.percent.min(candidate.cloud_percent) {
            return Err(Why::Stage);
        }
        if !wanted && policy.mode != Mode::Automatic {
            return Err(Why::Ask);
        }
    }
    // A failure that lies in the future was written with a clock that was wrong: it holds nobody up.
    if let Some((tries, Some(pause))) = pause
        && (tries.failed_at..tries.failed_at.saturating_add(*pause)).contains(&now.at)
    {
        return Err(Why::Backoff { until: tries.failed_at.saturating_add(*pause) });
    }
    if candidate.cached { Ok(()) } else { Err(Why::NotCached) }
}

#[cfg(test)]
mod tests;
