//! What the adapter that carries the mirror calls, and what it tells.

use super::link::{link_in, not_linked};
use crate::domain::authority::HubAction;
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::{CloudView, Consent, SyncRequest};
use crate::service::rights::require_role;
use crate::service::{Actor, Change, Refusal, Service, lock};
use serde::Serialize;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// The cloud to talk to, and what it is to be told first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkTarget {
    /// Its public URL, on which requests are signed.
    pub url: String,
    /// Its Ed25519 public key: nothing that another key has signed is believed.
    pub key: [u8; 32],
    /// Its region.
    pub region: String,
    /// This hub.
    pub hub: HubId,
    /// The epoch that requests carry.
    pub epoch: u64,
    /// What an owner agreed to.
    pub consent: BTreeSet<Consent>,
    /// [`Service::link_statement`] is to be sent before anything else: the link is new, or was changed.
    pub needs_link: bool,
    /// [`Service::unlink_statement`] is to be sent, and nothing else.
    pub needs_unlink: bool,
}

/// Which batch a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The epoch.
    pub epoch: u64,
    /// The batch.
    pub batch: u64,
}

/// A batch to send. It is the same, byte by byte, until it is acknowledged.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The request.
    pub request: SyncRequest,
    /// The same as JSON: this is what is signed and sent.
    pub body: Vec<u8>,
    /// What [`Service::batch_acked`] is told.
    pub ticket: Ticket,
}

/// What has become of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// There is more, on this side or the other: exchange again at once.
    pub again: bool,
    /// Marks that were new.
    pub marks: u64,
    /// Items that were new.
    pub items: u64,
}

/// How the link stands, as a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MirrorPhase {
    /// There is none, or the adapter is switched off.
    #[default]
    Off,
    /// The cloud is being told of the link.
    Linking,
    /// Everything is told, and the hub waits to be woken.
    Idle,
    /// An exchange is under way.
    Syncing,
    /// The last exchange failed: it waits to try again.
    Waiting,
    /// It fails again and again, or needs somebody to do something.
    Failing,
}

/// What is wrong with the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MirrorProblem {
    /// `unreachable`, `portal`, `intercepted`, `proxy`, `signature`, `wrong_region`, `refused`, `clock` or `stale`.
    pub code: &'static str,
    /// What is so.
    pub detail: String,
    /// What to do.
    pub next: String,
}

/// How the link stands, as the adapter tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MirrorState {
    /// As a word.
    pub phase: MirrorPhase,
    /// What is wrong, if something is.
    pub problem: Option<MirrorProblem>,
    /// When it is tried again, ms since 1970.
    pub retry_at: Option<u64>,
    /// Whether the cloud can wake the hub.
    pub connected: bool,
}

/// Why a cloud could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookProblem {
    /// As [`MirrorProblem::code`].
    pub code: &'static str,
    /// What is so.
    pub detail: String,
    /// What to do.
    pub next: String,
}

/// A look under way.
pub type Looking<'a> = Pin<Box<dyn Future<Output = Result<CloudView, LookProblem>> + Send + 'a>>;

/// Whoever can look at a cloud that is not linked yet.
pub trait CloudLook: Send + Sync {
    /// What the cloud at `url` says of itself.
    fn look<'a>(&'a self, url: &'a str) -> Looking<'a>;
}

impl Service {
    /// The cloud to talk to, as owners link, unlink and change what they agree to; `None` while there is none.
    #[must_use]
    pub fn mirror_target(&self) -> watch::Receiver<Option<LinkTarget>> {
        self.mirror.target.subscribe()
    }

    /// Told whenever something waits to be sent. The adapter waits a little, so that one exchange takes many changes.
    #[must_use]
    pub fn mirror_wish(&self) -> Arc<Notify> {
        self.store.captured()
    }

    /// Connects whoever can look at clouds; once.
    pub fn connect_cloud_look(&self, look: Arc<dyn CloudLook>) {
        let _ = self.mirror.look.set(look);
    }

    /// How the link stands, as the adapter last told.
    #[must_use]
    pub fn mirror_state(&self) -> MirrorState {
        lock(&self.mirror.state).clone()
    }

    /// The adapter tells how the link stands.
    pub fn mirror_reports(&self, state: MirrorState) {
        let before = std::mem::replace(&mut *lock(&self.mirror.state), state.clone());
        if before != state {
            self.changed(Change::Cloud);
        }
    }

    /// An owner wants an exchange now.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::Conflict`] when no cloud is linked.
    pub fn sync_now(&self, actor: &Actor) -> Result<(), Refusal> {
        let now = self.now();
        self.store.read(|v| {
            require_role(v, actor, HubAction::ManageAccess, now)?;
            link_in(v)?.map(drop).ok_or_else(not_linked)
        })?;
        self.mirror_wish().notify_one();
        Ok(())
    }
}
