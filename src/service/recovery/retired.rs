//! Stepping down: another hub has taken this one's place, by a statement of the household's recovery key. From then on this
//! one serves nobody, after a restart too: two hubs with one identity would lead devices and people astray.

use crate::domain::audit::Outcome;
use crate::domain::ids::HubId;
use crate::domain::mirror::statement::EpochStatement;
use crate::domain::rehome::RehomeStatement;
use crate::service::{Change, Refusal, Service, audit};
use crate::store::tables::{HubSecrets, RecoveryKeys, Retired};
use crate::store::{Read, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

impl Service {
    /// Whether another hub has taken this one's place.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.recovery.retirement.is_cancelled()
    }

    /// Cancelled once another hub has taken this one's place.
    #[must_use]
    pub fn retirement(&self) -> CancellationToken {
        self.recovery.retirement.clone()
    }

    /// The same, as that changes.
    #[must_use]
    pub fn retired(&self) -> watch::Receiver<bool> {
        self.recovery.retired.subscribe()
    }

    /// Reads a statement of an epoch, or of a theft, that somebody showed. When it is signed by this household's recovery key, for this hub and
    /// an epoch above its own, the hub steps down: all sessions are ended when this returns. Anything else changes
    /// nothing, whoever shows it. Whether the hub has stepped down.
    ///
    /// # Errors
    /// The store's fault: then it goes on, and is told again.
    pub async fn step_down(&self, statement: &[u8]) -> Result<bool, Refusal> {
        let (now, shown, hub) = (self.now(), statement.to_vec(), self.hub.id);
        let stepped = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let keys = tx.get::<RecoveryKeys>(RecoveryKeys::ROW)?;
                let own = tx.get::<HubSecrets>(HubSecrets::ROW)?.map(|secrets| secrets.epoch);
                let (Some(keys), Some(own)) = (keys, own) else { return Ok(false) };
                let Some(epoch) = ended_by(&keys.public, &hub, &shown).filter(|epoch| *epoch > own) else { return Ok(false) };
                if tx.get::<Retired>(Retired::ROW)?.is_none() {
                    tx.put(Retired::ROW, &Retired { at: now, epoch, statement: shown.clone() })?;
                    let detail = format!("epoch {epoch} of another hub, this one has {own}");
                    audit::append(tx, now, audit::event("hub", "hub.retired", "hub", Outcome::Done, "epoch_stale", detail, "hub"))?;
                }
                Ok(true)
            })
            .await?;
        if stepped && !self.is_retired() {
            tracing::warn!("another hub has taken the place of this one: it serves nobody any more. Switch it off");
            self.recovery.retire();
            if let Some(outlet) = self.outlet() {
                outlet.close_everyone().await;
            }
            self.changed(Change::Accounts);
        }
        Ok(stepped)
    }
}

/// The epoch with which a statement of the household's recovery key ends the hub: under its id by another box, or, when it
/// was stolen, by a hub with another id.
fn ended_by(recovery: &[u8; 32], hub: &HubId, shown: &[u8]) -> Option<u64> {
    if let Ok(read) = EpochStatement::verify(recovery, shown) {
        return (read.hub == *hub).then_some(read.epoch);
    }
    let (read, _) = RehomeStatement::verify(recovery, shown).ok()?;
    (read.hub == *hub).then_some(read.epoch)
}
