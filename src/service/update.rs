//! What people may do about the version of the hub: see it, look for a new one, install it, go back. How that is done is an adapter's
//! ([`Updater`]); who may, what is written down of it, and when it may not be, is asked here.

use super::rights::require_role;
use super::{Actor, Change, Refusal, Service, SessionToken, audit};
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::store::tables::HubUpdates;
use crate::store::{Read, StoreError};
use serde::Serialize;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, Weak};
use zeroize::Zeroizing;

/// What the hub does about its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdatePhase {
    /// Nothing.
    #[default]
    Idle,
    /// It asks the vendor.
    Checking,
    /// The archive comes.
    Downloading,
    /// It is checked and unpacked.
    Unpacking,
    /// It waits until nothing stands in the way.
    Waiting,
    /// It is about to start as another version.
    Switching,
    /// A new version serves, and may still be given up.
    Trying,
}

/// How an update ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateEnd {
    /// The new version stays.
    Updated,
    /// The version before serves again.
    RolledBack,
    /// It was not even tried.
    Refused,
}

/// A release that may be installed here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfferedRelease {
    /// The version.
    pub version: String,
    /// Its place in the order of versions.
    pub rel: u64,
    /// Bytes of its archive.
    pub size: u64,
    /// What is new.
    pub notes: String,
    /// When it was made, ms since 1970.
    pub made_at: u64,
    /// Whether its vendor gives it to this hub by itself already.
    pub by_itself: bool,
    /// Whether it was tried here and did not serve.
    pub failed: bool,
}

/// The last update, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpdateOutcome {
    /// Rises with each.
    pub number: u64,
    /// How.
    pub ended: UpdateEnd,
    /// The version that was asked for, or left.
    pub version: Option<String>,
    /// The version before; none: the program of the system.
    pub from: Option<String>,
    /// Who asked.
    pub by: String,
    /// Why; empty when all went well.
    pub reason: String,
    /// When, ms since 1970.
    pub at: u64,
}

/// The version of the hub, and what is done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpdateView {
    /// What runs.
    pub version: String,
    /// Whether a vendor is configured.
    pub configured: bool,
    /// Whether the hub looks by itself.
    pub enabled: bool,
    /// Whether it installs by itself.
    pub automatic: bool,
    /// Whether there is somebody who starts another version.
    pub supervised: bool,
    /// What it does.
    pub phase: UpdatePhase,
    /// Bytes of the archive that are here.
    pub done: u64,
    /// When the vendor was last asked with success, ms since 1970.
    pub checked_at: Option<u64>,
    /// What is in the way, with what to do.
    pub problem: Option<String>,
    /// What may be installed.
    pub offered: Option<OfferedRelease>,
    /// To which version the hub would go back.
    pub back_to: Option<String>,
    /// The last update.
    pub last: Option<UpdateOutcome>,
}

/// Who brings new versions.
pub trait Updater: Send + Sync {
    /// How it stands.
    fn view(&self) -> UpdateView;
    /// Asks the vendor.
    ///
    /// # Errors
    /// In words.
    fn check(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;
    /// Begins to install what is offered; how it goes is in the view.
    ///
    /// # Errors
    /// In words.
    fn apply(&self, by: &str) -> Result<(), String>;
    /// Asks for the version before.
    ///
    /// # Errors
    /// In words.
    fn roll_back(&self, by: &str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
}

impl Service {
    /// Connects whoever brings new versions; once. It is the caller's to keep: it holds the service.
    pub fn connect_updater(&self, updater: &Arc<dyn Updater>) {
        let _ = self.updater.set(Arc::downgrade(updater));
    }

    fn updater(&self) -> Result<Arc<dyn Updater>, Refusal> {
        let updater = self.updater.get().and_then(Weak::upgrade);
        updater.ok_or_else(|| Refusal::Conflict("this hub does not update itself".into()))
    }

    /// The version, and what is done about it.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub fn hub_update(&self, actor: &Actor) -> Result<UpdateView, Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, self.now()))?;
        Ok(self.updater()?.view())
    }

    /// Asks the vendor for a new version.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::Conflict`] with what is in the way.
    pub async fn check_update(&self, actor: &Actor) -> Result<UpdateView, Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, self.now()))?;
        let updater = self.updater()?;
        let checked = updater.check().await;
        let view = updater.view();
        let said = match (&checked, &view.offered) {
            (Err(problem), _) => problem.clone(),
            (Ok(()), Some(offered)) => format!("version {}", offered.version),
            (Ok(()), None) => "nothing newer".into(),
        };
        self.note_update(actor, "hub.update.check", said).await?;
        checked.map_err(Refusal::Conflict)?;
        Ok(view)
    }

    /// Begins to install the version that is offered.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::WrongPassword`], [`Refusal::TooMany`]; [`Refusal::Conflict`] with what is in the way.
    pub async fn apply_update(&self, actor: &Actor, token: &SessionToken, password: Zeroizing<String>) -> Result<UpdateView, Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, self.now()))?;
        let (_verified, _place) = self.verified(actor, token, password, "hub.update").await?;
        let updater = self.updater()?;
        let offered = updater.view().offered.map_or_else(|| "the newest version".into(), |offered| format!("version {}", offered.version));
        updater.apply(&actor.subject.to_string()).map_err(Refusal::Conflict)?;
        self.note_update(actor, "hub.update", offered).await?;
        Ok(updater.view())
    }

    /// Goes back to the version before.
    ///
    /// # Errors
    /// The same.
    pub async fn roll_back_update(&self, actor: &Actor, token: &SessionToken, password: Zeroizing<String>) -> Result<UpdateView, Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, self.now()))?;
        let (_verified, _place) = self.verified(actor, token, password, "hub.update.back").await?;
        let updater = self.updater()?;
        let view = updater.view();
        // Written down first: the order may end this program at once.
        self.note_update(actor, "hub.update.back", format!("from version {}", view.version)).await?;
        updater.roll_back(&actor.subject.to_string()).await.map_err(Refusal::Conflict)?;
        Ok(updater.view())
    }

    async fn note_update(&self, actor: &Actor, action: &'static str, detail: String) -> Result<(), Refusal> {
        let (who, now) = (actor.clone(), self.now());
        self.store
            .write::<_, Refusal, _>(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                audit::append(tx, now, audit::done(&who, action, "hub", detail.clone()))?;
                Ok(())
            })
            .await
    }

    /// The adapter tells how the last update ended; written down once, which is true the first time.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn heard_of_update(&self, last: &UpdateOutcome, highest: u64) -> Result<bool, Refusal> {
        let known = self.store.read::<_, StoreError>(|v| v.get::<HubUpdates>(HubUpdates::ROW))?.unwrap_or_default();
        if known.told == last.number && known.highest >= highest {
            return Ok(false);
        }
        let (last, now) = (last.clone(), self.now());
        let told = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let known = tx.get::<HubUpdates>(HubUpdates::ROW)?.unwrap_or_default();
                let fresh = known.told != last.number;
                tx.put(HubUpdates::ROW, &HubUpdates { highest: known.highest.max(highest), told: last.number })?;
                if fresh {
                    let (outcome, reason) = match last.ended {
                        UpdateEnd::Updated => (Outcome::Done, "updated"),
                        UpdateEnd::RolledBack => (Outcome::Done, "rolled_back"),
                        UpdateEnd::Refused => (Outcome::Denied, "refused"),
                    };
                    let name = |version: &Option<String>| version.clone().unwrap_or_else(|| "of the system".into());
                    let detail =
                        format!("version {} from {}, asked for by {}: {}", name(&last.version), name(&last.from), last.by, last.reason);
                    audit::append(tx, now, audit::event("hub", "hub.update.end", "hub", outcome, reason, detail, "update"))?;
                }
                Ok(fresh)
            })
            .await?;
        self.changed(Change::Update);
        Ok(told)
    }

    /// Whether another version of the hub comes in or is being tried. One that waits for something does not count: two that wait for each other
    /// would wait for ever.
    #[must_use]
    pub fn is_updating(&self) -> bool {
        let updater = self.updater.get().and_then(Weak::upgrade);
        updater.is_some_and(|updater| !matches!(updater.view().phase, UpdatePhase::Idle | UpdatePhase::Checking | UpdatePhase::Waiting))
    }

    /// The adapter tells that its view is another one.
    pub fn update_changed(&self) {
        self.changed(Change::Update);
    }

    /// The highest release that ever stayed here, as the database has it.
    #[must_use]
    pub fn highest_release(&self) -> u64 {
        let known = self.store.read::<_, StoreError>(|v| v.get::<HubUpdates>(HubUpdates::ROW));
        known.ok().flatten().map_or(0, |known| known.highest)
    }

    /// The hour of the day in the home's time zone, 0 to 23.
    #[must_use]
    pub fn local_hour(&self) -> u8 {
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner).clone();
        let now = i64::try_from(self.now()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
        u8::try_from(zone.to_datetime(now).hour()).unwrap_or(0)
    }

    /// Milliseconds by a clock that only ever grows, from any start.
    #[must_use]
    pub fn since_start(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    /// Whether the database answers, and can still be written.
    ///
    /// # Errors
    /// The store's fault.
    pub fn answers(&self) -> Result<(), Refusal> {
        if self.store.failed().is_cancelled() {
            return Err(Refusal::Store(StoreError::Stopped));
        }
        self.store.read::<_, StoreError>(|v| v.get::<HubUpdates>(HubUpdates::ROW))?;
        Ok(())
    }
}
