//! What devices say of their firmware, and what they are told.

use super::looking::{Look, look_in};
use super::{floor_of, is_behind};
use crate::domain::audit::Outcome;
use crate::domain::device::Registered;
use crate::domain::firmware::progress::{Event, OfferId, Report, Said, State};
use crate::domain::ids::DeviceId;
use crate::service::{Change, Refusal, Service, SignedIn, audit, lock};
use crate::store::tables::{FirmwareFacts, FirmwareProgress, ReleaseRow, release_key};
use crate::store::{Read, StoreError};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

/// Bytes that a device may ask for at once over MQTT.
pub(super) const CHUNK: usize = 16_384;

impl Service {
    /// A device says what it runs, and how far it is with another release. When this returns, that is on disk (but for the bytes
    /// of a download), and what follows of it is in force.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for what is no report; the store's fault.
    pub async fn firmware_report(&self, who: &SignedIn, device: &DeviceId, payload: &[u8]) -> Result<(), Refusal> {
        let report = Report::parse(payload).map_err(|error| Refusal::Invalid(error.to_string()))?;
        if self.only_further(device, &report)? {
            return Ok(());
        }
        let facts = FirmwareFacts { rel: report.rel, version: report.version.clone() };
        let look = Look {
            device: device.clone(),
            event: Some(Event::Reported(report)),
            here: true,
            new: true,
            offer: OfferId::from_uuid(uuid::Uuid::now_v7()),
        };
        let (moment, via) = (self.moment(), who.via.clone());
        let (looked, was, is) = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let key = look.device.as_str().as_bytes();
                let was = is_behind(tx, &look.device)?;
                let known = tx.get::<FirmwareFacts>(key)?;
                if known.as_ref() != Some(&facts) {
                    tx.put(key, &facts)?;
                }
                let is = is_behind(tx, &look.device)?;
                if let Some(registered) = tx.get::<Registered>(key)?.filter(|_| was != is) {
                    let floor = floor_of(tx, &registered)?;
                    let (action, outcome) = if is { ("firmware.behind", Outcome::Denied) } else { ("firmware.whole", Outcome::Done) };
                    let detail = format!("rel {}, the security minimum is {floor}", facts.rel);
                    let reason = if is { "behind" } else { "" };
                    let event =
                        audit::event(format!("device:{}", look.device), action, look.device.as_str(), outcome, reason, detail, &via);
                    audit::append(tx, moment.at, event)?;
                }
                Ok((look_in(tx, &look, &moment)?, was, is))
            })
            .await?;
        if was != is {
            // Its own session and everybody else's way to it: narrowed, or whole again, before its report is acknowledged.
            self.policy_changed().await;
            self.changed(Change::Device { id: device.clone() });
        }
        self.followed(device, looked).await;
        Ok(())
    }

    /// Whether a report says nothing but that more bytes are here: that is shown, and not written.
    fn only_further(&self, device: &DeviceId, report: &Report) -> Result<bool, Refusal> {
        let Said::Downloading { offer, offset } = report.said else { return Ok(false) };
        let key = device.as_str().as_bytes();
        let (row, facts) = self.store.read::<_, StoreError>(|v| Ok((v.get::<FirmwareProgress>(key)?, v.get::<FirmwareFacts>(key)?)))?;
        let same = facts.is_some_and(|f| f.rel == report.rel && f.version == report.version);
        let further = same && row.is_some_and(|r| r.progress.offer == Some(offer) && matches!(r.progress.state, State::Downloading { .. }));
        if further {
            lock(&self.firmware.offsets).insert(device.clone(), offset);
            self.changed(Change::Firmware { id: Some(device.clone()) });
        }
        Ok(further)
    }

    /// A device listens for its offer, `by_name` or because it listens to everything: it is told what there is, also that there is
    /// nothing. One that listens to everything and has never said a word about firmware may know nothing of it.
    pub async fn firmware_listening(&self, device: &DeviceId, by_name: bool) {
        let key = device.as_str().as_bytes();
        let knows = by_name || self.store.read::<_, StoreError>(|v| v.get::<FirmwareProgress>(key)).is_ok_and(|row| row.is_some());
        if !knows {
            return;
        }
        lock(&self.firmware.lacking).remove(device);
        match self.look_at(device, None, true).await {
            Ok(true) => {}
            Ok(false) => self.tell_offer(device),
            Err(error) => tracing::error!(%error, %device, "a device's firmware could not be looked at"),
        }
    }

    /// Tells a device the offer that stands now, or that there is none.
    pub(super) fn tell_offer(&self, device: &DeviceId) {
        // Read under the lock: of two that tell, the later one tells what is newer.
        let _one = lock(&self.firmware.telling);
        match self.offer_body(device) {
            Ok(body) => self.publish(&format!("things/{device}/firmware/offer"), body.to_string(), 1, false),
            Err(error) => tracing::error!(%error, %device, "an offer could not be told"),
        }
    }

    fn offer_body(&self, device: &DeviceId) -> Result<Value, StoreError> {
        self.store.read(|v| {
            let key = device.as_str().as_bytes();
            let (Some(registered), Some(row)) = (v.get::<Registered>(key)?, v.get::<FirmwareProgress>(key)?) else { return Ok(json!({})) };
            let (Some(offer), Some(offered)) = (row.progress.offer, row.offered) else { return Ok(json!({})) };
            let at = release_key(&registered.brand, &registered.model, row.progress.rel);
            let Some(ReleaseRow { certificate, statement, release, .. }) = v.get(&at)? else { return Ok(json!({})) };
            let ticket = self.ticket(offer, device, &offered.sha256);
            Ok(json!({
                "offer": offer, "rel": release.rel, "version": release.version, "size": release.size, "sha256": release.sha256,
                "certificate": BASE64URL_NOPAD.encode(&certificate), "release": BASE64URL_NOPAD.encode(&statement),
                "path": format!("/firmware/{offer}"), "ticket": BASE64URL_NOPAD.encode(&*ticket), "chunk": CHUNK, "install": offered.install,
            }))
        })
    }
}
