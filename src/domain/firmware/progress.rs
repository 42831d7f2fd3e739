//! One device's way to another release: a pure state machine, fed with what was offered, what the device says and the time. At most one
//! offer stands for a device. What the device says of itself is believed, and never takes the machine down.

use serde::{Deserialize, Serialize};

pub use super::report::{Code, OfferId, Report, ReportError, Said};

/// How long a device may say nothing after `installing`, in ms.
pub const INSTALL_MS: u64 = 30 * 60 * 1000;
/// For how long an offer that its device fetches nothing of keeps the image, in ms: then it may make room for others.
pub const HELD_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// How many ends of offers are remembered for one device.
pub const HISTORY_MAX: usize = 16;
/// For how many releases it is remembered how often a device has failed; the highest are kept.
pub const TRIES_MAX: usize = 16;
/// After how long a device that failed is offered the same release again, in ms, by how often it has failed. After that, a person decides.
pub const BACKOFF_MS: [u64; 3] = [60 * 60 * 1000, 4 * 60 * 60 * 1000, 24 * 60 * 60 * 1000];

/// Where a device is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Nothing is offered.
    #[default]
    Idle,
    /// It is offered; the device has not said that it began.
    Offered,
    /// It downloads.
    Downloading {
        /// How many bytes it has.
        offset: u64,
    },
    /// It has the whole image, checked.
    Downloaded,
    /// It writes the image, or restarts.
    Installing {
        /// Since when, ms since 1970.
        since_ms: u64,
    },
    /// It runs it, and is well.
    Confirmed,
    /// It has not done it.
    Failed {
        /// Why.
        code: Code,
        /// The device's own words; may be empty.
        detail: String,
        /// When, ms since 1970.
        at_ms: u64,
    },
}

/// How an offer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// The device runs the release.
    Confirmed,
    /// It does not.
    Failed {
        /// Why.
        code: Code,
        /// The device's own words; may be empty.
        detail: String,
    },
    /// The hub took it back, or offered another.
    Withdrawn,
}

/// An offer that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The offer.
    pub offer: OfferId,
    /// The release that was offered.
    pub rel: u64,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// When, ms since 1970.
    pub at_ms: u64,
}

/// What became of one release on this device so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// The release.
    pub rel: u64,
    /// How often it has failed since it was first offered, or since a person let it be tried again.
    pub failures: u32,
    /// When it last failed, ms since 1970.
    pub failed_at: u64,
    /// What the count of the release has of this device: nothing yet, that it failed (`true`), that it did not.
    pub counted: Option<bool>,
}

/// One device's way, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The offer that stands.
    pub offer: Option<OfferId>,
    /// The release that was offered last; 0 before the first.
    pub rel: u64,
    /// Where the device is on its way there.
    #[serde(flatten)]
    pub state: State,
    /// What failed, by release: at most [`TRIES_MAX`].
    pub tries: Vec<Tries>,
    /// The last offers that have ended, the oldest first: at most [`HISTORY_MAX`].
    pub history: Vec<Ended>,
}

/// What happens to a device's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The hub offers a release. The one that stood is taken back, except while the device installs: then it stands, and this one is not made.
    OfferMade {
        /// The offer.
        offer: OfferId,
        /// The release.
        rel: u64,
    },
    /// The hub takes back what it offered. It cannot while the device installs.
    Withdrawn,
    /// A person lets a release that has failed be tried again.
    Retried {
        /// The release.
        rel: u64,
    },
    /// The device has spoken.
    Reported(Report),
    /// Time has passed; see [`Progress::due_at`].
    Elapsed,
}

/// What follows of it outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The counts of the release change: devices that tried it, and of those the ones that failed.
    Counted {
        /// The release.
        rel: u64,
        /// Whether this device is counted for the first time.
        tried: bool,
        /// What is added to the failed: -1, 0 or 1.
        failed: i8,
    },
    /// Something that people are told, and that the audit keeps.
    Noted(Note),
}

/// What the audit keeps of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A release was offered.
    Offered {
        /// The release.
        rel: u64,
    },
    /// It was taken back before the device had it.
    Withdrawn {
        /// The release.
        rel: u64,
    },
    /// The device has begun to install it.
    Installing {
        /// The release.
        rel: u64,
    },
    /// The device runs it.
    Confirmed {
        /// The release.
        rel: u64,
    },
    /// The device has not done it.
    Failed {
        /// The release.
        rel: u64,
        /// Why.
        code: Code,
    },
}

impl Progress {
    /// Whether the device installs: what is offered stands, and the hub does not restart itself now.
    #[must_use]
    pub const fn is_installing(&self) -> bool {
        matches!(self.state, State::Installing { .. })
    }

    /// Whether what is offered keeps its image here: the device installs it, or was offered it, or has fetched of it, at `since_ms` (ms since
    /// 1970) and not longer ago than [`HELD_MS`]. What lies in the future was written with a clock that was wrong, and keeps nothing.
    #[must_use]
    pub const fn holds_image(&self, since_ms: u64, now_ms: u64) -> bool {
        self.is_installing() || (self.offer.is_some() && since_ms <= now_ms && now_ms - since_ms < HELD_MS)
    }

    /// When [`Event::Elapsed`] changes something, ms since 1970.
    #[must_use]
    pub const fn due_at(&self) -> Option<u64> {
        match self.state {
            State::Installing { since_ms } => Some(since_ms.saturating_add(INSTALL_MS)),
            _ => None,
        }
    }

    /// How often this device has failed with a release.
    #[must_use]
    pub fn failures(&self, rel: u64) -> u32 {
        self.tries_of(rel).map_or(0, |tries| tries.failures)
    }

    /// What became of a release on this device so far.
    #[must_use]
    pub fn tries_of(&self, rel: u64) -> Option<&Tries> {
        self.tries.iter().find(|tries| tries.rel == rel)
    }

    fn tries_mut(&mut self, rel: u64) -> &mut Tries {
        let at = match self.tries.iter().position(|tries| tries.rel >= rel) {
            Some(at) if self.tries.get(at).is_some_and(|tries| tries.rel == rel) => at,
            at => {
                let at = at.unwrap_or(self.tries.len());
                self.tries.insert(at, Tries { rel, failures: 0, failed_at: 0, counted: None });
                at
            }
        };
        #[expect(clippy::indexing_slicing, reason = "it was found or put there")]
        &mut self.tries[at]
    }

    fn end(&mut self, outcome: Outcome, now_ms: u64) {
        if let Some(offer) = self.offer.take() {
            self.history.push(Ended { offer, rel: self.rel, outcome, at_ms: now_ms });
            let beyond = self.history.len().saturating_sub(HISTORY_MAX);
            self.history.drain(..beyond);
        }
    }

    /// Counts the device for a release: a success after a failure takes the failure back, a failure after a success adds it.
    fn count(&mut self, rel: u64, failed: bool, effects: &mut Vec<Effect>) {
        let before = self.tries_mut(rel).counted.replace(failed);
        let delta = i8::from(failed) - i8::from(before == Some(true));
        if before.is_none() || delta != 0 {
            effects.push(Effect::Counted { rel, tried: before.is_none(), failed: delta });
        }
        let beyond = self.tries.len().saturating_sub(TRIES_MAX);
        self.tries.drain(..beyond);
    }

    fn confirm(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let rel = self.rel;
        self.end(Outcome::Confirmed, now_ms);
        self.state = State::Confirmed;
        self.count(rel, false, effects);
        self.tries_mut(rel).failures = 0;
        effects.push(Effect::Noted(Note::Confirmed { rel }));
    }

    fn fail(&mut self, code: Code, detail: String, now_ms: u64, effects: &mut Vec<Effect>) {
        let rel = self.rel;
        self.end(Outcome::Failed { code, detail: detail.clone() }, now_ms);
        self.state = State::Failed { code, detail, at_ms: now_ms };
        let tries = self.tries_mut(rel);
        tries.failures = tries.failures.saturating_add(1);
        tries.failed_at = now_ms;
        if code.blames_the_release() {
            self.count(rel, true, effects);
        }
        let beyond = self.tries.len().saturating_sub(TRIES_MAX);
        self.tries.drain(..beyond);
        effects.push(Effect::Noted(Note::Failed { rel, code }));
    }

    fn withdraw(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.offer.is_some() {
            let rel = self.rel;
            self.end(Outcome::Withdrawn, now_ms);
            self.state = State::Idle;
            effects.push(Effect::Noted(Note::Withdrawn { rel }));
        }
    }

    fn reported(&mut self, report: Report, now_ms: u64, effects: &mut Vec<Effect>) {
        let runs_target = self.rel > 0 && report.rel == self.rel;
        if self.offer.is_none() {
            return self.reported_late(report, runs_target, now_ms, effects);
        }
        // It runs the release and says of nothing that it is still on the way: the word that confirmed it may be lost.
        if runs_target && matches!(report.said, Said::Idle | Said::Confirmed { .. }) {
            return self.confirm(now_ms, effects);
        }
        if report.rel > self.rel {
            return self.withdraw(now_ms, effects);
        }
        if report.said.offer().is_none() || report.said.offer() != self.offer {
            return;
        }
        match report.said {
            Said::Downloading { offset, .. } => self.state = State::Downloading { offset },
            Said::Downloaded { .. } => self.state = State::Downloaded,
            Said::Installing { .. } if !self.is_installing() => {
                self.state = State::Installing { since_ms: now_ms };
                effects.push(Effect::Noted(Note::Installing { rel: self.rel }));
            }
            Said::Failed { code, detail, .. } => self.fail(code, detail, now_ms, effects),
            // Confirmed, but another release: the clock decides.
            Said::Installing { .. } | Said::Confirmed { .. } | Said::Idle => {}
        }
    }

    /// What it says with no offer standing counts when the last one ended in silence, or when it came up with the release after all.
    fn reported_late(&mut self, report: Report, runs_target: bool, now_ms: u64, effects: &mut Vec<Effect>) {
        let State::Failed { code: before, .. } = &self.state else { return };
        let silent = *before == Code::Silent;
        match report.said {
            Said::Idle | Said::Confirmed { .. } if runs_target => {
                if let Some(last) = self.history.last_mut().filter(|last| last.rel == report.rel) {
                    last.outcome = Outcome::Confirmed;
                }
                self.confirm(now_ms, effects);
            }
            Said::Failed { offer, code, detail } if silent => {
                let Some(last) = self.history.last_mut().filter(|last| last.offer == offer) else { return };
                last.outcome = Outcome::Failed { code, detail: detail.clone() };
                self.state = State::Failed { code, detail, at_ms: now_ms };
                effects.push(Effect::Noted(Note::Failed { rel: self.rel, code }));
            }
            _ => {}
        }
    }
}

/// What becomes of a device's way by one event at `now_ms` (ms since 1970), and what follows outside.
#[must_use]
pub fn step(progress: &Progress, event: Event, now_ms: u64) -> (Progress, Vec<Effect>) {
    let mut next = progress.clone();
    let mut effects = Vec::new();
    match event {
        Event::OfferMade { .. } | Event::Withdrawn if next.is_installing() => {}
        Event::OfferMade { offer, rel } => {
            if next.offer.is_none() || next.rel != rel {
                next.withdraw(now_ms, &mut effects);
                (next.offer, next.rel, next.state) = (Some(offer), rel, State::Offered);
                effects.push(Effect::Noted(Note::Offered { rel }));
            }
        }
        Event::Withdrawn => next.withdraw(now_ms, &mut effects),
        Event::Retried { rel } => {
            if let Some(tries) = next.tries.iter_mut().find(|tries| tries.rel == rel) {
                tries.failures = 0;
            }
        }
        Event::Reported(report) => next.reported(report, now_ms, &mut effects),
        Event::Elapsed => {
            if let State::Installing { since_ms } = &mut next.state {
                if now_ms < *since_ms {
                    // The clock was set back: what was measured with the other one is worth nothing.
                    *since_ms = now_ms;
                } else if now_ms - *since_ms >= INSTALL_MS {
                    next.fail(Code::Silent, String::new(), now_ms, &mut effects);
                }
            }
        }
    }
    (next, effects)
}

#[cfg(test)]
mod tests;
