//! What the supervisor knows of updates, on disk, and the one next step that follows from it. A step changes one file, whole; after each the power
//! may go, and the next start goes on from there. So what follows a power cut is what is done anyway.

use super::places::{PlaceError, Places, read_json, remove, write_json};
use super::{now_ms, own_rel, snapshot};
use crate::domain::release::Version;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Versions that failed and are remembered.
const FAILED: usize = 8;

/// What is asked of the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What.
    #[serde(flatten)]
    pub kind: OrderKind,
    /// By whom: a subject's text, `console`, or `hub` for what comes by itself.
    pub by: String,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum OrderKind {
    /// Run this version, which lies ready.
    Apply {
        /// Which.
        version: Version,
    },
    /// Run what ran before.
    RollBack,
}

/// A version that is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Which.
    pub version: Version,
    /// Its place in the order of versions; 0 for one that had stayed, and is left.
    pub rel: u64,
    /// What ran before; `None`: the supervisor's own program.
    pub from: Option<Version>,
    /// Who asked.
    pub by: String,
    /// Whether the database was copied, or there was none.
    #[serde(default)]
    pub copied: bool,
    /// The layout of the database before.
    #[serde(default)]
    pub layout: Option<u32>,
    /// How often it was started.
    #[serde(default)]
    pub starts: u32,
    /// Why it is given up.
    #[serde(default)]
    pub back: Option<String>,
    /// Whether it stays.
    #[serde(default)]
    pub stays: bool,
}

/// What ran before the version that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Which; `None`: the supervisor's own program.
    pub version: Option<Version>,
    /// The layout of the database that it last wrote.
    pub layout: Option<u32>,
}

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The new version serves, and stays.
    Updated,
    /// It did not serve, or somebody asked: the one before serves again.
    RolledBack,
    /// It was not even tried.
    Refused,
}

/// The last order, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Rises with each.
    pub number: u64,
    /// How.
    pub ended: Ended,
    /// The version that was asked for, or left.
    pub version: Option<Version>,
    /// The version before; `None`: the supervisor's own program.
    pub from: Option<Version>,
    /// Who asked.
    pub by: String,
    /// Why, for people; empty when all went well.
    pub reason: String,
    /// When, ms since 1970.
    pub at: u64,
}

/// The ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The highest place that ever stayed.
    pub highest: u64,
    /// What is tried.
    pub trial: Option<Trial>,
    /// What ran before what stays.
    pub before: Option<Before>,
    /// How the last order ended.
    pub last: Option<Outcome>,
    /// Versions that failed here, the newest last: none of them is taken by itself again.
    pub failed: Vec<Version>,
}

/// What a step needs.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) places: &'a Places,
    /// The database's file, which nobody has open.
    pub(super) database: &'a Path,
    /// The layout of a database that is closed; `None` when it cannot be read.
    pub(super) layout_of: &'a dyn Fn(&Path) -> Option<u32>,
    /// Whether a version may be started at all, and its place: its release holds, and its program is the one that was signed.
    pub(super) check: &'a dyn Fn(&Version) -> Result<u64, String>,
}

impl Ledger {
    /// What the directory holds.
    #[must_use]
    pub fn load(places: &Places) -> Ledger {
        read_json(&places.ledger()).unwrap_or_default()
    }

    pub(super) fn save(&self, places: &Places) -> Result<(), PlaceError> {
        write_json(&places.ledger(), self)
    }

    /// Does the next step, if there is one; false when nothing is left to do before the program is started.
    pub(super) fn step(&mut self, ground: Ground<'_>) -> Result<bool, PlaceError> {
        match self.trial.clone() {
            Some(trial) if trial.stays => self.stay(ground, &trial),
            Some(trial) if trial.back.is_some() => self.go_back(ground, &trial),
            Some(trial) => self.go_on(ground, trial),
            None => self.begin(ground),
        }
    }

    fn begin(&mut self, ground: Ground<'_>) -> Result<bool, PlaceError> {
        let path = ground.places.order();
        let Some(order) = read_json::<Order>(&path) else {
            let there = path.exists();
            remove(&path)?;
            if ground.places.last_good() != ground.places.current() {
                // What is left of a version that stays, or was given up, when the power went.
                ground.places.point_last_good(ground.places.current().as_ref())?;
                return Ok(true);
            }
            return Ok(there);
        };
        let from = ground.places.current();
        let tried = match &order.kind {
            OrderKind::Apply { version } if from.as_ref() == Some(version) => Err(format!("version {version} runs already")),
            OrderKind::Apply { version } => (ground.check)(version).and_then(|rel| {
                // Whoever could write the order could name an old version that its vendor once signed.
                let floor = from.as_ref().and_then(|version| (ground.check)(version).ok()).unwrap_or(0).max(self.highest).max(own_rel());
                if rel <= floor {
                    return Err(format!("version {version} (release {rel}) is not newer than what has served here (release {floor})"));
                }
                Ok(Trial {
                    version: version.clone(),
                    rel,
                    from: from.clone(),
                    by: order.by.clone(),
                    copied: false,
                    layout: None,
                    starts: 0,
                    back: None,
                    stays: false,
                })
            }),
            OrderKind::RollBack => self.way_back(ground, &order.by),
        };
        match tried {
            Ok(trial) => self.trial = Some(trial),
            Err(reason) => {
                let version = match order.kind {
                    OrderKind::Apply { version } => Some(version),
                    OrderKind::RollBack => from.clone(),
                };
                self.ended(ground.places, Ended::Refused, version, from, order.by, reason)?;
                // Between the two, the order is refused once more: no harm.
                return remove(&path).map(|()| true);
            }
        }
        self.save(ground.places)?;
        Ok(true)
    }

    /// A person asks for what ran before a version that stays. Its database is as it is now: it has to read it.
    fn way_back(&self, ground: Ground<'_>, by: &str) -> Result<Trial, String> {
        let version = ground.places.current().ok_or("there is no version to go back from: the program of the system runs")?;
        let before = self.before.clone().ok_or("it is not known what ran before")?;
        if let Some(version) = &before.version {
            (ground.check)(version)?;
        }
        let now = (ground.layout_of)(ground.database);
        if now != before.layout {
            return Err(
                "the database has been given a new layout since, which the version before cannot read: restore a backup that was made \
                        before the update, or go on with the new version"
                    .into(),
            );
        }
        Ok(Trial {
            version,
            rel: 0,
            from: before.version,
            by: by.to_owned(),
            copied: true,
            layout: now,
            starts: 0,
            back: Some(format!("asked for by {by}")),
            stays: false,
        })
    }

    fn go_on(&mut self, ground: Ground<'_>, mut trial: Trial) -> Result<bool, PlaceError> {
        let places = ground.places;
        if !trial.copied {
            match snapshot::take(ground.database, &trial.version) {
                Ok(there) => {
                    trial.copied = true;
                    trial.layout = there.then(|| (ground.layout_of)(ground.database)).flatten();
                }
                Err(reason) => trial.back = Some(reason),
            }
            self.trial = Some(trial);
            return self.save(places).map(|()| true);
        }
        if places.current().as_ref() != Some(&trial.version) {
            return places.point_current(Some(&trial.version)).map(|()| true);
        }
        if places.order().exists() {
            return remove(&places.order()).map(|()| true);
        }
        Ok(false)
    }

    fn go_back(&mut self, ground: Ground<'_>, trial: &Trial) -> Result<bool, PlaceError> {
        let places = ground.places;
        if snapshot::path_of(ground.database, &trial.version).exists() {
            let same = trial.layout.is_some() && (ground.layout_of)(ground.database) == trial.layout;
            if same {
                snapshot::drop_it(ground.database, &trial.version)?;
            } else {
                tracing::warn!(version = %trial.version, "the database is put back as it was before this version");
                snapshot::put_back(ground.database, &trial.version)?;
            }
            return Ok(true);
        }
        if places.current() != trial.from {
            return places.point_current(trial.from.as_ref()).map(|()| true);
        }
        if places.order().exists() {
            return remove(&places.order()).map(|()| true);
        }
        self.failed.retain(|version| *version != trial.version);
        self.failed.push(trial.version.clone());
        if self.failed.len() > FAILED {
            self.failed.remove(0);
        }
        // A version that had stayed was left: what ran before it runs now. One that was only tried changes nothing about that.
        if trial.rel == 0 {
            self.before = None;
        }
        let reason = trial.back.clone().unwrap_or_default();
        self.trial = None;
        self.ended(places, Ended::RolledBack, Some(trial.version.clone()), trial.from.clone(), trial.by.clone(), reason)?;
        Ok(true)
    }

    fn stay(&mut self, ground: Ground<'_>, trial: &Trial) -> Result<bool, PlaceError> {
        let places = ground.places;
        if places.last_good().as_ref() != Some(&trial.version) {
            return places.point_last_good(Some(&trial.version)).map(|()| true);
        }
        snapshot::drop_it(ground.database, &trial.version)?;
        snapshot::drop_failed(ground.database)?;
        self.highest = self.highest.max(trial.rel);
        self.failed.retain(|version| *version != trial.version);
        self.before = Some(Before { version: trial.from.clone(), layout: trial.layout });
        self.trial = None;
        self.ended(places, Ended::Updated, Some(trial.version.clone()), trial.from.clone(), trial.by.clone(), String::new())?;
        Ok(true)
    }

    /// Writes down how an order ended, and says so once that is on disk.
    fn ended(
        &mut self,
        places: &Places,
        ended: Ended,
        version: Option<Version>,
        from: Option<Version>,
        by: String,
        reason: String,
    ) -> Result<(), PlaceError> {
        let number = self.last.as_ref().map_or(0, |last| last.number) + 1;
        self.last = Some(Outcome { number, ended, version: version.clone(), from, by, reason: reason.clone(), at: now_ms() });
        self.save(places)?;
        match ended {
            Ended::Updated => tracing::info!(?version, "the new version serves, and stays"),
            Ended::RolledBack => tracing::error!(?version, %reason, "the version before serves again"),
            Ended::Refused => tracing::error!(?version, %reason, "the update was refused"),
        }
        Ok(())
    }
}
