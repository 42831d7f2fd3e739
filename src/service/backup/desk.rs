//! What people set about backups and see of them: where they go and when, that one is wanted now, how the newest ended.
//! A clockwork elsewhere does it, and says here how it goes.

use super::rehearsals::Rehearsals;
use super::ways::keep_passphrase;
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::backup::keep::{Retention, Schedule};
use crate::domain::backup::target::Target;
use crate::service::rights::require_role;
use crate::service::{Actor, Change, Refusal, Service, SessionToken, audit, lock, random};
use crate::store::tables::{BackupSettings, BackupState, Ended, RecoveryKeys, Rehearsal};
use crate::store::{Read, StoreError, Tx};
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};
use zeroize::Zeroizing;

/// After a failure the schedule waits so long before it tries again, in ms.
const AGAIN_MS: u64 = 3_600_000;

/// What is said while backups are switched off.
pub(super) const OFF: &str = "backups are switched off in the hub's configuration: set enabled = true under [backup], and start it again";

/// What the use cases of this area share in memory.
#[derive(Default)]
pub(in crate::service) struct Desk {
    wish: Mutex<Option<BackupWish>>,
    wakes: Arc<Notify>,
    run: watch::Sender<BackupRun>,
    listed: Mutex<(u64, Vec<ListedBackup>)>,
    /// The configuration has switched them off: nobody makes them.
    off: AtomicBool,
    pub(super) rehearsals: Rehearsals,
}

/// That a backup is wanted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupWish {
    /// A full one also where an increment would do.
    pub full: bool,
    /// By whom: a subject's text; `hub` for the schedule.
    pub by: String,
    via: String,
}

/// How the present backup goes, and how the one before ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackupRun {
    /// How many have ended since the hub has started.
    pub ended: u64,
    /// Whether one runs, or is about to.
    pub running: bool,
    /// Rows that the running one has gone through.
    pub rows: u64,
    /// How the newest ended.
    pub outcome: Option<BackupOutcome>,
}

/// How a backup ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum BackupOutcome {
    /// It is there.
    Good {
        /// Its id.
        id: String,
        /// The file's name.
        name: String,
        /// Its bytes.
        bytes: u64,
        /// Whether it is a full one.
        full: bool,
    },
    /// It is not.
    Failed {
        /// What was so, and what to do.
        detail: String,
    },
}

/// A file at the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedBackup {
    /// Its name there.
    pub name: String,
    /// Its id, when its header can be read.
    pub id: Option<String>,
    /// The one it goes on from, for an increment.
    pub parent: Option<String>,
    /// `full` or `increment`, when that is known.
    pub kind: Option<&'static str>,
    /// When it was made, ms since 1970.
    pub made_at: Option<u64>,
    /// Its bytes.
    pub bytes: u64,
    /// Whether it is whole, and everything it goes on from is there.
    pub good: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// What to set; what is absent stays, and null takes away.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewBackup {
    /// Where they go.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub target: Option<Option<Target>>,
    /// When.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Option<Schedule>>,
    /// How many are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// A passphrase that opens those made from now on.
    #[serde(deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Option<Passphrase>>,
}

/// What is there was said, also when it is null.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// A passphrase: redacted in `Debug`, and wiped.
#[derive(Clone)]
pub struct Passphrase(pub Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Serialize for Passphrase {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Passphrase {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Passphrase(Zeroizing::new(text)))
    }
}

/// Backups as an owner sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupView {
    /// Where they go, without its secret.
    pub target: Option<TargetView>,
    /// When, by themselves.
    pub schedule: Option<Schedule>,
    /// How many are kept.
    pub retention: Retention,
    /// Whether the recovery code opens the next one.
    pub by_code: bool,
    /// Whether a passphrase does.
    pub by_passphrase: bool,
    /// When the next one is due, ms since 1970.
    pub next_at: Option<u64>,
    /// The newest that is there.
    pub good: Option<EndedView>,
    /// What went wrong since.
    pub failed: Option<EndedView>,
    /// How the newest rehearsal of a restore went.
    pub rehearsal: Option<Rehearsal>,
    /// Whether one goes on.
    pub rehearsing: bool,
    /// How the present one goes.
    pub run: BackupRun,
    /// What is at the target, as it was last looked at, newest first.
    pub backups: Vec<ListedBackup>,
    /// When that was, ms since 1970; 0 when it was not yet.
    pub listed_at: u64,
}

/// Where backups go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetView {
    /// `folder`, `usb` or `s3`.
    pub kind: &'static str,
    /// For people.
    pub text: String,
}

/// An end, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndedView {
    /// When, ms since 1970.
    pub at: u64,
    /// The file's name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// What was so, and what to do.
    pub detail: String,
}

impl From<Ended> for EndedView {
    fn from(ended: Ended) -> Self {
        EndedView { at: ended.at, name: ended.name, bytes: ended.bytes, detail: ended.detail }
    }
}

impl Service {
    /// Backups as they are set and as they stand.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub fn backups(&self, actor: &Actor) -> Result<BackupView, Refusal> {
        let (settings, state, by_code) = self.store.read(|v| {
            require_role(v, actor, HubAction::ManageAccess, self.now())?;
            let state = v.get::<BackupState>(BackupState::ROW)?.unwrap_or_default();
            Ok::<_, Refusal>((settings(v)?, state, v.get::<RecoveryKeys>(RecoveryKeys::ROW)?.is_some()))
        })?;
        let (listed_at, backups) = lock(&self.backups.listed).clone();
        let kind = |target: &Target| match target {
            Target::Folder { .. } => "folder",
            Target::Usb { .. } => "usb",
            Target::S3(_) => "s3",
        };
        let next_at = self.next_at(&settings, &state);
        Ok(BackupView {
            target: settings.target.as_ref().map(|t| TargetView { kind: kind(t), text: t.shown() }),
            schedule: settings.schedule,
            retention: settings.retention,
            by_code,
            by_passphrase: settings.passphrase.is_some(),
            next_at,
            good: state.good.map(EndedView::from),
            failed: state.failed.map(EndedView::from),
            rehearsal: state.rehearsal,
            rehearsing: self.backups.rehearsals.are_running(),
            run: self.backups.run.borrow().clone(),
            backups,
            listed_at,
        })
    }

    /// Sets them. An owner shows the password again: whoever chose where backups go could have them.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::WrongPassword`], [`Refusal::TooMany`]; [`Refusal::Invalid`].
    pub async fn set_backups(
        &self,
        actor: &Actor,
        token: &SessionToken,
        password: Zeroizing<String>,
        new: NewBackup,
    ) -> Result<(), Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, self.now()))?;
        let (verified, _place) = self.verified(actor, token, password, "backup.settings").await?;
        let (who, now) = (actor.clone(), self.now());
        self.set(actor, new, move |tx| {
            require_role(tx, &who, HubAction::ManageAccess, now)?;
            verified.still(tx).map(|_| ())
        })
        .await
    }

    /// The same for whoever holds the box.
    ///
    /// # Errors
    /// [`Refusal::Invalid`].
    pub async fn set_backups_by_console(&self, new: NewBackup) -> Result<(), Refusal> {
        self.set(&Actor::console(), new, |_| Ok(())).await
    }

    async fn set(
        &self,
        actor: &Actor,
        new: NewBackup,
        may: impl Fn(&Tx<'_>) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<(), Refusal> {
        if let Some(Some(target)) = &new.target {
            target.check().map_err(Refusal::Invalid)?;
        }
        if let Some(Some(schedule)) = &new.schedule
            && !schedule.is_sound()
        {
            return Err(Refusal::Invalid("schedule: minute 0 to 1439, every_days 1 to 31, full_every_days 0 to 366".into()));
        }
        let passphrase = match new.passphrase {
            None => None,
            Some(None) => Some(None),
            Some(Some(text)) => {
                let salt = random()?;
                let kept = tokio::task::spawn_blocking(move || keep_passphrase(&text.0, salt)).await;
                let kept = kept.map_err(|_| Refusal::Conflict("the passphrase could not be taken; try again".into()))?;
                Some(Some(kept.map_err(|error| Refusal::Invalid(format!("passphrase: {error}")))?))
            }
        };
        let (who, now) = (actor.clone(), self.now());
        self.store
            .write::<_, Refusal, _>(move |tx| {
                may(tx)?;
                let before = settings(tx)?;
                let mut next = before.clone();
                if let Some(target) = &new.target {
                    next.target.clone_from(target);
                }
                if let Some(schedule) = new.schedule {
                    next.schedule = schedule;
                }
                if let Some(retention) = new.retention {
                    next.retention = retention;
                }
                if let Some(passphrase) = &passphrase {
                    next.passphrase.clone_from(passphrase);
                }
                if next == before {
                    return Ok(());
                }
                next.set_at = now;
                let detail = format!(
                    "{}, {}, {}",
                    next.target.as_ref().map_or_else(|| "no target".into(), Target::shown),
                    if next.schedule.is_some() { "by itself" } else { "when asked" },
                    if next.passphrase != before.passphrase { "the passphrase has changed" } else { "the passphrase as before" },
                );
                tx.put(BackupSettings::ROW, &next)?;
                audit::append(tx, now, audit::done(&who, "backup.settings", "hub", detail))?;
                Ok(())
            })
            .await?;
        self.backups.wakes.notify_one();
        self.changed(Change::Backup);
        Ok(())
    }

    /// Asks for a backup now; an owner shows the password again.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::WrongPassword`], [`Refusal::TooMany`]; [`Refusal::Conflict`] while one runs, and
    /// when there is no target.
    pub async fn order_backup(
        &self,
        actor: &Actor,
        token: &SessionToken,
        password: Zeroizing<String>,
        full: bool,
    ) -> Result<watch::Receiver<BackupRun>, Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, self.now()))?;
        let (verified, _place) = self.verified(actor, token, password, "backup.create").await?;
        self.store.read(|v| verified.still(v).map(|_| ()))?;
        self.wish_for(BackupWish { full, by: actor.subject.to_string(), via: actor.via.clone() })
    }

    /// The same for whoever holds the box.
    ///
    /// # Errors
    /// [`Refusal::Conflict`].
    pub fn order_backup_by_console(&self, full: bool) -> Result<watch::Receiver<BackupRun>, Refusal> {
        let console = Actor::console();
        self.wish_for(BackupWish { full, by: console.subject.to_string(), via: console.via })
    }

    fn wish_for(&self, wish: BackupWish) -> Result<watch::Receiver<BackupRun>, Refusal> {
        if self.backups_off() {
            return Err(Refusal::Conflict(OFF.into()));
        }
        if self.store.read(|v| settings(v))?.target.is_none() {
            return Err(Refusal::Conflict("say first where backups go".into()));
        }
        let mut waiting = lock(&self.backups.wish);
        if waiting.is_some() || self.backups.run.borrow().running {
            return Err(Refusal::Conflict("a backup is being made already: wait for its end".into()));
        }
        *waiting = Some(wish);
        self.backups.run.send_modify(|run| (run.running, run.rows) = (true, 0));
        self.backups.wakes.notify_one();
        Ok(self.backups.run.subscribe())
    }

    /// Nobody makes backups in this hub: who asks for one is told.
    pub fn backups_are_off(&self) {
        self.backups.off.store(true, Ordering::Relaxed);
    }

    pub(super) fn backups_off(&self) -> bool {
        self.backups.off.load(Ordering::Relaxed)
    }

    /// A backup was interrupted by the hub's end: it is in the audit, and tried again when it is due.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn backup_interrupted(&self, wish: &BackupWish) -> Result<(), Refusal> {
        let detail = "the hub was stopped meanwhile; nothing half-made is left";
        let event = audit::event(&wish.by, "backup.create", "hub", Outcome::Denied, "interrupted", detail, &wish.via);
        let now = self.now();
        Ok(self.store.write::<_, StoreError, _>(move |tx| audit::append(tx, now, event.clone()).map(|_| ())).await?)
    }

    /// How backups go, as that changes.
    #[must_use]
    pub fn backup_run(&self) -> watch::Receiver<BackupRun> {
        self.backups.run.subscribe()
    }

    /// Told when [`Service::backup_wanted`] may have another answer.
    #[must_use]
    pub fn backup_wakes(&self) -> Arc<Notify> {
        self.backups.wakes.clone()
    }

    /// What is set, with its secret: for who writes backups.
    ///
    /// # Errors
    /// The store's fault.
    pub fn backup_settings(&self) -> Result<BackupSettings, Refusal> {
        Ok(self.store.read(|v| settings(v))?)
    }

    /// The home's time zone.
    #[must_use]
    pub fn home_zone(&self) -> TimeZone {
        self.zone.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The backup that is wanted now, because somebody has asked or because it is time. Whoever takes it ends it with
    /// [`Service::backup_ended`].
    ///
    /// # Errors
    /// The store's fault.
    pub fn backup_wanted(&self) -> Result<Option<BackupWish>, Refusal> {
        if let Some(wish) = lock(&self.backups.wish).take() {
            return Ok(Some(wish));
        }
        let (settings, state) =
            self.store.read::<_, StoreError>(|v| Ok((settings(v)?, v.get::<BackupState>(BackupState::ROW)?.unwrap_or_default())))?;
        let due = self.next_at(&settings, &state).is_some_and(|at| at <= self.now());
        if !due || self.is_retired() {
            return Ok(None);
        }
        self.backups.run.send_modify(|run| (run.running, run.rows) = (true, 0));
        Ok(Some(BackupWish { full: false, by: "hub".into(), via: "hub".into() }))
    }

    fn next_at(&self, settings: &BackupSettings, state: &BackupState) -> Option<u64> {
        let schedule = settings.schedule.filter(|_| settings.target.is_some())?;
        let last = state.good.as_ref().map_or(0, |ended| ended.at).max(settings.set_at);
        let next = schedule.next(last, &self.home_zone())?;
        let again = state.failed.as_ref().map_or(0, |failed| failed.at.saturating_add(AGAIN_MS));
        Some(next.max(again))
    }

    /// How far the present one is.
    pub fn backup_progress(&self, rows: u64) {
        self.backups.run.send_modify(|run| run.rows = rows);
    }

    /// What is at the target.
    pub fn backups_listed(&self, listed: Vec<ListedBackup>) {
        *lock(&self.backups.listed) = (self.now(), listed);
        self.changed(Change::Backup);
    }

    /// A backup has ended, one way or the other: it is in the audit, and on the page until the next one ends.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn backup_ended(&self, wish: &BackupWish, outcome: BackupOutcome) -> Result<(), Refusal> {
        let now = self.now();
        let (ended, event) = match &outcome {
            BackupOutcome::Good { name, bytes, full, .. } => {
                let detail = format!("{} of {bytes} bytes: {name}", if *full { "a full one" } else { "an increment" });
                let event = audit::event(&wish.by, "backup.create", "hub", Outcome::Done, "", detail, &wish.via);
                (Ended { at: now, name: name.clone(), bytes: *bytes, detail: String::new() }, event)
            }
            BackupOutcome::Failed { detail } => {
                let event = audit::event(&wish.by, "backup.create", "hub", Outcome::Denied, "failed", detail.clone(), &wish.via);
                (Ended { at: now, name: String::new(), bytes: 0, detail: detail.clone() }, event)
            }
        };
        let good = matches!(outcome, BackupOutcome::Good { .. });
        let kept = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let mut state = tx.get::<BackupState>(BackupState::ROW)?.unwrap_or_default();
                if good {
                    (state.good, state.failed) = (Some(ended.clone()), None);
                } else {
                    state.failed = Some(ended.clone());
                }
                tx.put(BackupState::ROW, &state)?;
                audit::append(tx, now, event.clone()).map(|_| ())
            })
            .await;
        self.backups.run.send_modify(|run| {
            *run = BackupRun { ended: run.ended + 1, running: false, rows: run.rows, outcome: Some(outcome) };
        });
        self.changed(Change::Backup);
        Ok(kept?)
    }
}

pub(super) fn settings<R: Read>(rows: &R) -> Result<BackupSettings, StoreError> {
    Ok(rows.get::<BackupSettings>(BackupSettings::ROW)?.unwrap_or_default())
}
