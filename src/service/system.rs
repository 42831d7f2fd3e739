//! What an owner may do about the system of the box, where RAUC updates it as a whole: see it, bring a bundle, have it installed, restart the box.
//! How that is done is an adapter's ([`SystemUpdater`]); who may, and what is written down of it, is asked here. Only an owner who is signed in
//! as a person may: no app, no service account, no support session.

use super::rights::require_role;
use super::{Actor, Refusal, Service, SessionToken, audit};
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::system::{Age, Fate};
use crate::store::StoreError;
use serde::Serialize;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use zeroize::Zeroizing;

/// What is done about the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemPhase {
    /// Nothing.
    #[default]
    Idle,
    /// A bundle comes in.
    Receiving,
    /// RAUC verifies it.
    Checking,
    /// What was asked for waits until nothing stands in the way.
    Waiting,
    /// RAUC writes the slot that does not run.
    Installing,
    /// The box is about to restart.
    Restarting,
}

/// A slot of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemSlot {
    /// As the boot loader calls it.
    pub name: String,
    /// Whether it runs.
    pub booted: bool,
    /// Whether it is started next; unknown where the boot loader does not tell.
    pub next: Option<bool>,
    /// `good` or `bad`, as the boot loader has it.
    pub boot_status: String,
    /// The bundle that it was written from.
    pub version: Option<String>,
    /// What RAUC notes of that: `ok` when it was written whole.
    pub status: Option<String>,
    /// When it was written, as RAUC notes it (RFC 3339).
    pub installed: Option<String>,
}

/// A bundle that is here, as RAUC has verified it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemBundle {
    /// Its version.
    pub version: String,
    /// Bytes.
    pub size: u64,
    /// How it stands to what runs.
    pub age: Age,
}

/// The last installation, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemTried {
    /// Its version.
    pub version: String,
    /// What became of it.
    pub fate: Fate,
}

/// The system of the box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemView {
    /// For which machines bundles are taken.
    pub compatible: String,
    /// Which kind of it; empty for none.
    pub variant: String,
    /// What it was started from.
    pub boot_slot: String,
    /// The version that runs, as far as that is known.
    pub version: String,
    /// The slots.
    pub slots: Vec<SystemSlot>,
    /// RAUC's last error; empty for none.
    pub last_error: String,
    /// What is done.
    pub phase: SystemPhase,
    /// Bytes of the bundle that are here.
    pub done: u64,
    /// How much of the installation is done, in percent.
    pub percent: u8,
    /// What is in the way, with what to do.
    pub problem: Option<String>,
    /// The bundle that is here.
    pub bundle: Option<SystemBundle>,
    /// The last installation.
    pub tried: Option<SystemTried>,
}

/// How an installation ended, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemEnd {
    /// It is in its slot.
    Installed,
    /// It was not installed, and why.
    Failed(String),
    /// It runs, and stays.
    Stays,
    /// The system before it runs.
    FellBack,
}

/// What a call of an adapter comes to; errors are words for a person.
pub type SystemAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// A bundle on its way in. Dropped before its end it leaves nothing.
pub trait BundleUpload: Send {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// No room, too many, or the disk's fault.
    fn take<'a>(&'a mut self, piece: &'a [u8]) -> SystemAnswer<'a, ()>;
    /// Ends it: RAUC has verified what is here now.
    ///
    /// # Errors
    /// RAUC's refusal; then nothing is left.
    fn finish(self: Box<Self>) -> SystemAnswer<'static, SystemBundle>;
}

/// Something that is about to be done, and keeps its place until it is given. Dropped before that, nothing happens, and all is as it was.
pub trait SystemOrder: Send {
    /// The version that it concerns.
    fn version(&self) -> &str;
    /// Gives it.
    fn give(self: Box<Self>);
}

/// Who updates the system of the box.
pub trait SystemUpdater: Send + Sync {
    /// How it stands.
    fn view(&self) -> SystemAnswer<'_, SystemView>;
    /// Whether something is under way that a change of the hub's own version would cut off.
    fn is_busy(&self) -> bool;
    /// Bytes that a bundle may have.
    fn limit(&self) -> u64;
    /// Begins to take a bundle in, one at a time.
    fn begin(self: Arc<Self>, announced: Option<u64>) -> SystemAnswer<'static, Box<dyn BundleUpload>>;
    /// Removes the bundle that is here.
    ///
    /// # Errors
    /// It is being installed.
    fn discard(&self) -> Result<(), String>;
    /// Prepares to install the bundle that is here, if the wish holds when nothing stands in the way any more; `older` when it may be one that does
    /// not go forward.
    ///
    /// # Errors
    /// In words.
    fn prepare_install(self: Arc<Self>, wish: Wish, older: bool) -> Result<Box<dyn SystemOrder>, String>;
    /// Prepares to restart the box into the system that was installed, in the same way.
    ///
    /// # Errors
    /// In words.
    fn prepare_restart(self: Arc<Self>, wish: Wish) -> SystemAnswer<'static, Box<dyn SystemOrder>>;
}

/// What an owner has asked for, and that may have to wait.
pub struct Wish {
    /// Who has asked.
    pub by: String,
    holds: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Wish {
    /// Whether who has asked may still ask.
    #[must_use]
    pub fn holds(&self) -> bool {
        (self.holds)()
    }
}

/// A bundle that somebody brings.
pub struct BundleImport {
    service: Arc<Service>,
    actor: Actor,
    upload: Box<dyn BundleUpload>,
}

impl BundleImport {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] in words; then it is over.
    pub async fn take(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let taken = self.upload.take(piece).await;
        taken.map_err(|why| self.service.system_refused(&self.actor, "hub.system.bundle", why))
    }

    /// Ends it: what RAUC says is in it.
    ///
    /// # Errors
    /// The same.
    pub async fn finish(self) -> Result<SystemBundle, Refusal> {
        let found = self.upload.finish().await;
        let found = found.map_err(|why| self.service.system_refused(&self.actor, "hub.system.bundle", why))?;
        self.service.note_system(&self.actor, "hub.system.bundle", format!("version {}", found.version)).await?;
        Ok(found)
    }
}

impl Service {
    /// Connects who updates the system; once. It is the caller's to keep: it holds the service.
    pub fn connect_system(&self, system: &Arc<dyn SystemUpdater>) {
        let _ = self.system.set(Arc::downgrade(system));
    }

    fn system(&self, actor: &Actor) -> Result<Arc<dyn SystemUpdater>, Refusal> {
        actor.user()?;
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, self.now()))?;
        let system = self.system.get().and_then(Weak::upgrade);
        system.ok_or_else(|| Refusal::Conflict("this hub does not update the system of its box".into()))
    }

    fn wish(self: &Arc<Self>, actor: &Actor) -> Wish {
        let (service, actor) = (self.clone(), actor.clone());
        let by = actor.subject.to_string();
        let may = move || service.store.read(|v| require_role(v, &actor, HubAction::ManageAccess, service.now())).is_ok();
        Wish { by, holds: Box::new(may) }
    }

    /// The system, and what is done about it.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::PeopleOnly`]; [`Refusal::Conflict`] where there is no RAUC.
    pub async fn system_update(&self, actor: &Actor) -> Result<SystemView, Refusal> {
        self.system(actor)?.view().await.map_err(Refusal::Conflict)
    }

    /// Bytes that a bundle may have.
    ///
    /// # Errors
    /// As [`Service::system_update`].
    pub fn system_bundle_limit(&self, actor: &Actor) -> Result<u64, Refusal> {
        Ok(self.system(actor)?.limit())
    }

    /// Begins to take in a bundle, of so many bytes as far as that is known; one at a time.
    ///
    /// # Errors
    /// As [`Service::system_update`]; [`Refusal::Conflict`] also when something else is under way, or there is no room.
    pub async fn begin_system_bundle(self: &Arc<Self>, actor: &Actor, announced: Option<u64>) -> Result<BundleImport, Refusal> {
        let upload = self.system(actor)?.begin(announced).await;
        let upload = upload.map_err(|why| self.system_refused(actor, "hub.system.bundle", why))?;
        Ok(BundleImport { service: self.clone(), actor: actor.clone(), upload })
    }

    /// Removes the bundle that is here.
    ///
    /// # Errors
    /// As [`Service::system_update`]; [`Refusal::Conflict`] while it is installed.
    pub async fn discard_system_bundle(&self, actor: &Actor) -> Result<(), Refusal> {
        self.system(actor)?.discard().map_err(Refusal::Conflict)?;
        self.note_system(actor, "hub.system.discard", String::new()).await
    }

    /// Begins to install the bundle that is here; `older` says that it may be one that does not go forward.
    ///
    /// # Errors
    /// As [`Service::system_update`]; [`Refusal::WrongPassword`], [`Refusal::TooMany`]; [`Refusal::Conflict`] with what is in the way.
    pub async fn install_system(
        self: &Arc<Self>,
        actor: &Actor,
        token: &SessionToken,
        password: Zeroizing<String>,
        older: bool,
    ) -> Result<SystemView, Refusal> {
        let system = self.system(actor)?;
        let (_verified, _place) = self.verified(actor, token, password, "hub.system.install").await?;
        let order = system.clone().prepare_install(self.wish(actor), older);
        let order = order.map_err(|why| self.system_refused(actor, "hub.system.install", why))?;
        let also = if older { ", also if it is an older one" } else { "" };
        // Written down first: what is begun without that would be nobody's.
        self.note_system(actor, "hub.system.install", format!("version {}{also}", order.version())).await?;
        order.give();
        system.view().await.map_err(Refusal::Conflict)
    }

    /// Restarts the box into the system that was installed.
    ///
    /// # Errors
    /// The same.
    pub async fn restart_box(
        self: &Arc<Self>,
        actor: &Actor,
        token: &SessionToken,
        password: Zeroizing<String>,
    ) -> Result<SystemView, Refusal> {
        let system = self.system(actor)?;
        let (_verified, _place) = self.verified(actor, token, password, "hub.system.restart").await?;
        let order = system.clone().prepare_restart(self.wish(actor)).await;
        let order = order.map_err(|why| self.system_refused(actor, "hub.system.restart", why))?;
        self.note_system(actor, "hub.system.restart", format!("into version {}", order.version())).await?;
        order.give();
        system.view().await.map_err(Refusal::Conflict)
    }

    /// Whether a system is being brought or installed, which another version of the hub would cut off.
    #[must_use]
    pub fn system_busy(&self) -> bool {
        self.system.get().and_then(Weak::upgrade).is_some_and(|system| system.is_busy())
    }

    /// The adapter tells how an installation ended.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn heard_of_system(&self, version: &str, by: &str, end: SystemEnd) -> Result<(), Refusal> {
        let (outcome, reason, why) = match end {
            SystemEnd::Installed => (Outcome::Done, "installed", String::new()),
            SystemEnd::Stays => (Outcome::Done, "stays", String::new()),
            SystemEnd::FellBack => (Outcome::Denied, "fell_back", String::new()),
            SystemEnd::Failed(why) => (Outcome::Denied, "failed", format!(": {why}")),
        };
        let (detail, now) = (format!("version {version}, asked for by {by}{why}"), self.now());
        self.store
            .write::<_, StoreError, _>(move |tx| {
                audit::append(tx, now, audit::event("hub", "hub.system.end", "hub", outcome, reason, detail.clone(), "update"))?;
                Ok(())
            })
            .await?;
        self.update_changed();
        Ok(())
    }

    fn system_refused(&self, actor: &Actor, action: &'static str, why: String) -> Refusal {
        let who = actor.subject.to_string();
        self.audit_refusal(audit::event(who, action, "hub", Outcome::Denied, "refused", why.clone(), &actor.via));
        Refusal::Conflict(why)
    }

    async fn note_system(&self, actor: &Actor, action: &'static str, detail: String) -> Result<(), Refusal> {
        let (who, now) = (actor.clone(), self.now());
        self.store
            .write::<_, Refusal, _>(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                audit::append(tx, now, audit::done(&who, action, "hub", detail.clone()))?;
                Ok(())
            })
            .await
    }
}
