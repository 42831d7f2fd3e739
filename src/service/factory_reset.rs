//! A device that says, under its key, that it was reset by hand: what the household made of it ends, and it waits for
//! whoever claims it next. Whoever has only the code, or a photograph of it, resets nothing.

use super::{Refusal, Service, audit};
use crate::domain::audit::Outcome;
use crate::domain::device::{Household, ResetCounter};
use crate::domain::ids::DeviceId;
use crate::domain::keys::{COUNTER_MAX, HubScopedKey, verify_reset_tag};
use crate::store::tables::StoredDeviceKey;
use crate::store::{Read, StoreError};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use std::sync::Arc;

/// What a hello says of resets.
#[derive(Deserialize)]
pub(super) struct ResetClaim {
    counter: u64,
    tag: String,
}

impl Service {
    /// Takes what a device says of its resets; true when it was reset since the hub last heard of it, and is forgotten.
    /// Its connections end soon after this returns, the one that said so by the caller.
    ///
    /// The first word on resets of a device that is bound already is believed and changes nothing: its firmware has only
    /// now learned to say it.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a wrong tag, audited; the store's fault.
    pub(super) async fn heard_reset(self: &Arc<Self>, id: &DeviceId, nonce: &[u8], said: ResetClaim, via: &str) -> Result<bool, Refusal> {
        let key = self.store.read::<_, StoreError>(|v| v.get::<StoredDeviceKey>(id.as_str().as_bytes()))?;
        let tag = BASE64URL_NOPAD.decode(said.tag.as_bytes()).unwrap_or_default();
        let proven = key.is_some_and(|key| {
            verify_reset_tag(&HubScopedKey::from_bytes(key.0), &self.hub.id, id, nonce, said.counter, &tag) && said.counter <= COUNTER_MAX
        });
        if !proven {
            let e = audit::event(format!("device:{id}"), "device.reset", id.as_str(), Outcome::Denied, "wrong_tag", "", via);
            self.audit_refusal(e);
            return Err(Refusal::Invalid("the reset is not proven".into()));
        }
        let (device, now, via) = (id.clone(), self.now(), via.to_owned());
        let forgotten = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let key = device.as_str().as_bytes();
                let last = tx.get::<ResetCounter>(key)?;
                if last.as_ref().is_some_and(|l| said.counter <= l.counter) {
                    return Ok(None);
                }
                tx.put(key, &ResetCounter { counter: said.counter })?;
                let standing = tx.get::<Household>(key)?.unwrap_or_default().standing;
                // Whoever is shut out has no say, whatever it signs: it could be the copy.
                if last.is_none() || !standing.is_bound() || !standing.admits() {
                    return Ok(None);
                }
                let by = format!("device:{device}");
                let forgotten = super::forget::forget_device(tx, &device, &by, now)?;
                let lost: Vec<String> = forgotten.holders.iter().take(20).map(ToString::to_string).collect();
                let detail =
                    format!("reset by hand, {} times so far; {} rights ended: {}", said.counter, forgotten.holders.len(), lost.join(" "));
                audit::append(tx, now, audit::event(by, "device.reset", device.as_str(), Outcome::Done, "reset_counter", detail, &via))?;
                Ok(Some(forgotten))
            })
            .await?;
        let Some(forgotten) = forgotten else { return Ok(false) };
        // The connection that said so must be able to end meanwhile.
        let (service, id) = (self.clone(), id.clone());
        tokio::spawn(async move { service.forgotten(&id, forgotten).await });
        Ok(true)
    }
}
