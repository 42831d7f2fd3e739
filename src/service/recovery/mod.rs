//! What a home does when its hub dies: the recovery code, the bundle that a replacing hub is made from, and how a hub
//! stands to the one before it and the one after it.
//!
//! The code is shown once; hub and cloud keep its public halves alone. What is in the bundle is [`content`]'s, when it is
//! made [`bundle`]'s, making a hub from it [`restore`]'s, what an older database takes from its journal [`replay`]'s, and
//! stepping down [`retired`]'s. A hub that was stolen is another matter: the one that follows it is [`stolen`]'s, and what its
//! devices are told [`moves`]'.

mod bundle;
mod content;
mod moves;
mod replay;
mod restore;
mod retired;
mod stolen;
#[cfg(test)]
mod tests;

pub use content::About;
pub(super) use content::handed_on;
pub use moves::{MoveView, MovingDevice, OrdersTaken, told_in};
pub use replay::{Replayed, catch_up, replay, replay_journal};
pub use restore::{BundleError, NewLife, OpenedBundle, begun_in, fill, open_bundle};
pub use stolen::{Successor, fill_successor};

use super::rights::require_role;
use super::{Actor, Refusal, Service, SessionToken, audit, random};
use crate::domain::authority::HubAction;
use crate::domain::mirror::recovery::RecoveryCode;
use crate::store::tables::{BundleSent, MirrorLink, RecoveryKeys, Restored, Retired};
use crate::store::{Read, StoreError, changes};
use serde::Serialize;
use std::sync::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// What the use cases of this area share in memory.
#[derive(Default)]
pub(super) struct Desk {
    due: Mutex<bundle::Due>,
    /// Cancelled once another hub has taken this one's place.
    retirement: CancellationToken,
    /// The same, for who waits for it among other things.
    retired: watch::Sender<bool>,
    /// It is not known what was revoked since the bundle from which this hub was made.
    review: watch::Sender<bool>,
}

impl Desk {
    fn retire(&self) {
        self.retirement.cancel();
        self.retired.send_replace(true);
    }
}

/// A recovery code just made.
pub struct MadeRecoveryCode {
    /// As it is printed; shown this once.
    pub code: Zeroizing<String>,
    /// Which hub it is for: it belongs to the code.
    pub hub: String,
    /// The URL of the cloud that keeps the bundle, if one is linked.
    pub cloud: Option<String>,
}

/// What the text of the recovery code's QR code begins with; the hub's id and the code follow, with a colon between.
pub const QR_RECOVERY_PREFIX: &str = "HKR1:";

/// The bundle that was last handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BundleView {
    /// When it was made, ms since 1970.
    pub at: u64,
    /// Its length.
    pub bytes: u64,
    /// Whether it has everything that stands now.
    pub up_to_date: bool,
    /// Identities that nobody has claimed are not in it: their makers' files have to be taken in again.
    pub without_waiting: bool,
}

/// This hub has taken another's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoredView {
    /// When, ms since 1970.
    pub at: u64,
    /// Of when its knowledge was, ms since 1970.
    pub bundle_at: u64,
    /// The epoch it began with.
    pub epoch: u64,
    /// Rights of others than owners wait until it is known what was revoked since, or an owner has looked through them.
    pub review_pending: bool,
}

/// How a home is prepared for the day on which its hub dies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecoveryView {
    /// When the code was made, ms since 1970; none when there is no code.
    pub made_at: Option<u64>,
    /// The bundle that was last handed over, if the code opens it.
    pub bundle: Option<BundleView>,
    /// What would be in it is more than a bundle takes.
    pub too_large: bool,
    /// By what this hub has taken another's place.
    pub restored: Option<RestoredView>,
}

/// What was revoked since is known from a newer source: the review that a restore would need is not.
///
/// # Errors
/// The store's fault.
pub async fn finish_review_in(store: &crate::store::Store, now: u64) -> Result<(), Refusal> {
    let event = audit::event("hub", "recovery.marks_known", "hub", crate::domain::audit::Outcome::Done, "journal", "", "console");
    let end = move |tx: &crate::store::Tx<'_>| {
        let Some(restored) = tx.get::<Restored>(Restored::ROW)?.filter(|r| r.review) else { return Ok(()) };
        tx.put(Restored::ROW, &Restored { review: false, ..restored })?;
        audit::append(tx, now, event.clone()).map(|_| ())
    };
    Ok(store.write::<_, StoreError, _>(end).await?)
}

pub(super) fn no_code() -> Refusal {
    Refusal::Conflict("there is no recovery code yet: make one first".into())
}

/// Whether rights of others than owners wait for an owner's look.
pub(super) fn review_pending<R: Read>(rows: &R) -> Result<bool, StoreError> {
    Ok(rows.get::<Restored>(Restored::ROW)?.is_some_and(|restored| restored.review))
}

impl Service {
    /// Makes the code by which a new hub takes the place of this one, when this one has died. An earlier code ends.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::WrongPassword`], [`Refusal::TooMany`].
    pub async fn make_home_code(
        &self,
        actor: &Actor,
        token: &SessionToken,
        password: Zeroizing<String>,
    ) -> Result<MadeRecoveryCode, Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, self.now()))?;
        // Whoever has the code can become this hub: a stolen session must not get it.
        let (verified, _place) = self.verified(actor, token, password, "recovery.code").await?;
        let code = RecoveryCode::from_bytes(random()?);
        let (now, who, hub) = (self.now(), actor.clone(), self.hub.id);
        let keys = RecoveryKeys {
            made_at: now,
            made_by: actor.subject.to_string(),
            public: code.epoch_key(&hub).verifying_key().to_bytes(),
            recipient: code.age_recipient(&hub),
        };
        let cloud = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                verified.still(tx)?;
                let detail = if tx.get::<RecoveryKeys>(RecoveryKeys::ROW)?.is_some() { "the one before serves no more" } else { "" };
                tx.put(RecoveryKeys::ROW, &keys)?;
                audit::append(tx, now, audit::done(&who, "recovery.code", "hub", detail))?;
                Ok(tx.get::<MirrorLink>(MirrorLink::ROW)?.filter(|link| !link.ending).map(|link| link.url))
            })
            .await?;
        self.recovery_code_changed().await?;
        Ok(MadeRecoveryCode { code: Zeroizing::new(code.to_string()), hub: hub.to_string(), cloud })
    }

    /// How the home is prepared for the day on which its hub dies.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub fn recovery(&self, actor: &Actor) -> Result<RecoveryView, Refusal> {
        self.store.read(|v| {
            require_role(v, actor, HubAction::ManageAccess, self.now())?;
            let keys = v.get::<RecoveryKeys>(RecoveryKeys::ROW)?;
            let count = changes(v)?;
            let sent = v.get::<BundleSent>(BundleSent::ROW)?.filter(|sent| keys.as_ref().is_some_and(|k| k.recipient == sent.recipient));
            let restored = v.get::<Restored>(Restored::ROW)?;
            Ok(RecoveryView {
                made_at: keys.map(|k| k.made_at),
                bundle: sent.map(|sent| BundleView {
                    at: sent.at,
                    bytes: sent.bytes,
                    up_to_date: sent.changes == count,
                    without_waiting: sent.without_waiting,
                }),
                too_large: self.bundle_is_too_large(),
                restored: restored.map(|r| RestoredView { at: r.at, bundle_at: r.bundle_at, epoch: r.epoch, review_pending: r.review }),
            })
        })
    }

    /// A bundle as it would be handed to a cloud, for an owner who keeps it elsewhere.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::Conflict`] without a recovery code, or when there is too much for a bundle.
    pub async fn take_bundle(&self, actor: &Actor) -> Result<Vec<u8>, Refusal> {
        let (who, now) = (actor.clone(), self.now());
        let made = self.store.read(|v| {
            require_role(v, &who, HubAction::ManageAccess, now)?;
            self.make_bundle(v)
        })?;
        let (bundle, _) = made.ok_or_else(|| Refusal::Conflict("the home is too large for a recovery bundle".into()))?;
        let event = audit::done(actor, "recovery.bundle", "hub", format!("{} bytes", bundle.len()));
        self.store.write::<_, StoreError, _>(move |tx| audit::append(tx, now, event.clone())).await?;
        Ok(bundle)
    }

    /// An owner has looked through who has which right after the hub has taken another's place: all of them stand again.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::PeopleOnly`]; [`Refusal::Conflict`] when nothing waits for it.
    pub async fn finish_review(&self, actor: &Actor) -> Result<(), Refusal> {
        actor.user()?;
        let (who, now) = (actor.clone(), self.now());
        self.end_review(move |tx| {
            require_role(tx, &who, HubAction::ManageAccess, now)?;
            Ok(audit::done(&who, "recovery.review", "hub", "the rights of all stand again"))
        })
        .await?
        .then_some(())
        .ok_or_else(|| Refusal::Conflict("no review is pending".into()))
    }

    /// Everything that was revoked elsewhere has come down: no review is needed any more. Nothing when none was.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn marks_known(&self) -> Result<(), Refusal> {
        if !*self.recovery.review.borrow() {
            return Ok(());
        }
        let event = audit::event("hub", "recovery.marks_known", "hub", crate::domain::audit::Outcome::Done, "", "", "hub");
        self.end_review(move |_| Ok(event.clone())).await.map(|_| ())
    }

    async fn end_review(
        &self,
        told: impl Fn(&crate::store::Tx<'_>) -> Result<crate::domain::audit::Event, Refusal> + Send + 'static,
    ) -> Result<bool, Refusal> {
        let now = self.now();
        let ended = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                let event = told(tx)?;
                let Some(restored) = tx.get::<Restored>(Restored::ROW)?.filter(|r| r.review) else { return Ok(false) };
                tx.put(Restored::ROW, &Restored { review: false, ..restored })?;
                audit::append(tx, now, event)?;
                Ok(true)
            })
            .await?;
        if ended {
            self.recovery.review.send_replace(false);
            self.policy_changed().await;
            self.changed(super::Change::Accounts);
        }
        Ok(ended)
    }

    /// Whether it is still unknown what was revoked since the bundle from which this hub was made, as that changes.
    #[must_use]
    pub fn review(&self) -> watch::Receiver<bool> {
        self.recovery.review.subscribe()
    }

    /// The statement that begins this hub's epoch, as long as no cloud has taken it.
    ///
    /// # Errors
    /// The store's fault.
    pub fn epoch_statement(&self) -> Result<Option<Vec<u8>>, Refusal> {
        let restored = self.store.read::<_, StoreError>(|v| v.get::<Restored>(Restored::ROW))?;
        Ok(restored.map(|r| r.statement).filter(|statement| !statement.is_empty()))
    }

    /// A cloud has taken it.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn epoch_begun(&self) -> Result<(), Refusal> {
        begun_in(&self.store).await
    }

    /// How the hub stands, as it was stored.
    pub(super) fn load_standing(&self) -> Result<(), StoreError> {
        let (pending, retired) =
            self.store.read::<_, StoreError>(|v| Ok((review_pending(v)?, v.get::<Retired>(Retired::ROW)?.is_some())))?;
        self.recovery.review.send_replace(pending);
        if retired {
            self.recovery.retire();
        }
        Ok(())
    }
}
