//! Rehearsals of a restore: that one is wanted, and how the newest went. Elsewhere one is done, in a directory of its own; here is who may
//! ask for it, and what is kept of it.

use super::Secrets;
use super::desk::{OFF, settings};
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::ids::HubId;
use crate::service::rights::require_role;
use crate::service::{Actor, Change, Refusal, Service, SessionToken, audit, lock};
use crate::store::tables::{BackupState, Rehearsal};
use crate::store::{Read, StoreError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// Characters of what is kept of one thing that was looked at.
const DETAIL_MAX: usize = 500;

/// What is shared in memory.
#[derive(Default)]
pub(super) struct Rehearsals {
    wish: Mutex<Option<RehearsalWish>>,
    wakes: Arc<Notify>,
    running: AtomicBool,
}

impl Rehearsals {
    /// Whether one is wanted, or goes on.
    pub(super) fn are_running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }
}

/// That a restore is to be rehearsed now.
pub struct RehearsalWish {
    /// What opens the backup.
    pub secrets: Secrets,
    /// Who asked, and the password: it is tried.
    pub person: (String, Zeroizing<String>),
    /// By whom: a subject's text.
    pub by: String,
    /// By which way.
    pub via: String,
}

impl Service {
    /// Asks for a rehearsal of the newest good backup; an owner shows the password again, and what opens the backup.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::WrongPassword`], [`Refusal::TooMany`]; [`Refusal::Invalid`] without a code or a passphrase;
    /// [`Refusal::Conflict`] while one goes on, and when there is no target.
    pub async fn order_rehearsal(
        &self,
        actor: &Actor,
        token: &SessionToken,
        password: Zeroizing<String>,
        secrets: Secrets,
    ) -> Result<(), Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, self.now()))?;
        if secrets.code.is_some() == secrets.passphrase.is_some() {
            return Err(Refusal::Invalid("code, passphrase: give the one that opens the backup".into()));
        }
        let (verified, _place) = self.verified(actor, token, password.clone(), "backup.rehearse").await?;
        let user = self.store.read(|v| verified.still(v))?;
        if self.backups_off() {
            return Err(Refusal::Conflict(OFF.into()));
        }
        if self.store.read(|v| settings(v))?.target.is_none() {
            return Err(Refusal::Conflict("say first where backups go".into()));
        }
        let rehearsals = &self.backups.rehearsals;
        if rehearsals.running.swap(true, Ordering::SeqCst) {
            return Err(Refusal::Conflict("a rehearsal goes on already: wait for its end".into()));
        }
        let person = (user.username.as_str().to_owned(), password);
        *lock(&rehearsals.wish) = Some(RehearsalWish { secrets, person, by: actor.subject.to_string(), via: actor.via.clone() });
        rehearsals.wakes.notify_one();
        self.changed(Change::Backup);
        Ok(())
    }

    /// The rehearsal that is wanted now. Whoever takes it ends it with [`Service::rehearsal_ended`].
    #[must_use]
    pub fn rehearsal_wanted(&self) -> Option<RehearsalWish> {
        lock(&self.backups.rehearsals.wish).take()
    }

    /// Told when [`Service::rehearsal_wanted`] may have another answer.
    #[must_use]
    pub fn rehearsal_wakes(&self) -> Arc<Notify> {
        self.backups.rehearsals.wakes.clone()
    }

    /// A rehearsal has ended, one way or the other: it is in the audit, and on the page until the next one ends.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn rehearsal_ended(&self, mut rehearsal: Rehearsal, via: &str) -> Result<(), Refusal> {
        let kept = |text: &str| text.chars().filter(|c| !c.is_control()).take(DETAIL_MAX).collect::<String>();
        rehearsal.detail = kept(&rehearsal.detail);
        rehearsal.proofs.iter_mut().for_each(|proof| proof.detail = kept(&proof.detail));
        let (outcome, reason) = if rehearsal.good { (Outcome::Done, "") } else { (Outcome::Denied, "failed") };
        let detail = if rehearsal.good { format!("{}: a restore would do", rehearsal.backup) } else { rehearsal.detail.clone() };
        let event = audit::event(&rehearsal.by, "backup.rehearse", "hub", outcome, reason, detail, via);
        let now = self.now();
        let written = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let state = tx.get::<BackupState>(BackupState::ROW)?.unwrap_or_default();
                tx.put(BackupState::ROW, &BackupState { rehearsal: Some(rehearsal.clone()), ..state })?;
                audit::append(tx, now, event.clone()).map(|_| ())
            })
            .await;
        self.backups.rehearsals.running.store(false, Ordering::SeqCst);
        self.changed(Change::Backup);
        Ok(written?)
    }

    /// The same for one that whoever holds the box has done beside the hub.
    ///
    /// # Errors
    /// The store's fault; [`Refusal::Invalid`] for a hub that is not this one.
    pub async fn rehearsed_by_console(&self, hub: HubId, rehearsal: Rehearsal) -> Result<(), Refusal> {
        if hub != self.hub().id {
            return Err(Refusal::Invalid("hub: that was another hub's backup".into()));
        }
        if self.backups.rehearsals.are_running() {
            return Err(Refusal::Conflict("a rehearsal goes on: wait for its end".into()));
        }
        let console = Actor::console();
        self.rehearsal_ended(Rehearsal { at: self.now(), by: console.subject.to_string(), ..rehearsal }, &console.via).await
    }
}
