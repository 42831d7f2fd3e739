//! Handing out images: over HTTPS against a ticket, over MQTT in parts. To a device, its own offer, as long as it stands.

use super::report::CHUNK;
use crate::domain::firmware::progress::OfferId;
use crate::domain::firmware::release::ImageHash;
use crate::domain::ids::DeviceId;
use crate::service::{Refusal, Service, lock};
use crate::store::tables::{FirmwareProgress, ImageRow};
use crate::store::{Read, StoreError};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::PathBuf;
use subtle::ConstantTimeEq;
use tokio::sync::OwnedSemaphorePermit;
use zeroize::Zeroizing;

/// Parts that a device may be handed at once, and one more each so many ms: about 1 MiB a second.
const BURST: u64 = 64;
const EVERY_MS: u64 = 16;
/// How often a device may be handed the whole of one image over MQTT, while its offer stands and the hub runs.
const WHOLE: u64 = 8;
/// Devices that are remembered.
const DEVICES: usize = 4_096;

/// Parts handed out, by device.
#[derive(Default)]
pub(super) struct Chunks {
    devices: HashMap<DeviceId, Handed>,
}

struct Handed {
    offer: OfferId,
    bytes: u64,
    /// When its bucket is full again, monotonic ms.
    full_at: u64,
}

impl Chunks {
    /// Takes a part of `length` bytes of an image of `size`, at `now` (monotonic ms); whether it may be had.
    fn take(&mut self, device: &DeviceId, offer: OfferId, (length, size): (u64, u64), now: u64) -> bool {
        if self.devices.len() >= DEVICES && !self.devices.contains_key(device) {
            self.devices.retain(|_, handed| handed.full_at > now);
            if self.devices.len() >= DEVICES {
                return false;
            }
        }
        let handed = self.devices.entry(device.clone()).or_insert(Handed { offer, bytes: 0, full_at: now });
        if handed.offer != offer {
            (handed.offer, handed.bytes) = (offer, 0);
        }
        let full_at = handed.full_at.max(now);
        if full_at - now > (BURST - 1) * EVERY_MS || handed.bytes + length > size.saturating_mul(WHOLE) {
            return false;
        }
        handed.full_at = full_at + EVERY_MS;
        handed.bytes += length;
        true
    }
}

/// An image that may be handed out now; the place is given back when this is dropped.
pub struct Download {
    /// The offer it is for.
    pub offer: OfferId,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: ImageHash,
    _place: OwnedSemaphorePermit,
}

impl Service {
    /// What opens an offer: derived from the hub's secrets, the offer, the device and the image, so that nothing of it is kept.
    pub(super) fn ticket(&self, offer: OfferId, device: &DeviceId, image: &ImageHash) -> Zeroizing<[u8; 32]> {
        let bound = [offer.as_bytes().as_slice(), image.as_bytes(), device.as_str().as_bytes()].concat();
        Zeroizing::new(self.keyed_hash(b"firmware ticket", &bound))
    }

    /// The image of an offer that stands, for whoever has its ticket.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for everything else, whatever there is; [`Refusal::TooMany`] when as many download as may.
    pub fn firmware_download(&self, offer: &str, ticket: &str) -> Result<Download, Refusal> {
        let unknown = || Refusal::NotFound("image");
        let offer = OfferId::parse(offer).map_err(|_| unknown())?;
        let shown = Zeroizing::new(BASE64URL_NOPAD.decode(ticket.as_bytes()).map_err(|_| unknown())?);
        let device = lock(&self.firmware.offers).get(&offer).cloned().ok_or_else(unknown)?;
        let (hash, size) = self.standing_image(&device, offer)?.ok_or_else(unknown)?;
        if !bool::from(self.ticket(offer, &device, &hash).as_slice().ct_eq(&shown)) {
            return Err(unknown());
        }
        let images = self.images().map_err(|_| unknown())?;
        let places = self.firmware.downloads.get().cloned().ok_or_else(unknown)?;
        let place = places.try_acquire_owned().map_err(|_| Refusal::TooMany(10_000))?;
        lock(&self.firmware.fetched).insert(device, self.now());
        Ok(Download { offer, path: images.path(&hash), size, sha256: hash, _place: place })
    }

    /// Whether an offer still stands: a download ends with it.
    #[must_use]
    pub fn firmware_offer_stands(&self, offer: OfferId) -> bool {
        lock(&self.firmware.offers).contains_key(&offer)
    }

    fn standing_image(&self, device: &DeviceId, offer: OfferId) -> Result<Option<(ImageHash, u64)>, StoreError> {
        self.store.read(|v| {
            let Some(row) = v.get::<FirmwareProgress>(device.as_str().as_bytes())? else { return Ok(None) };
            let Some(offered) = row.offered.filter(|_| row.progress.offer == Some(offer)) else { return Ok(None) };
            Ok(v.get::<ImageRow>(offered.sha256.as_bytes())?.map(|image| (offered.sha256, image.size)))
        })
    }

    /// A device asks for a part of the image that it is offered; what it may not have is not answered.
    pub async fn firmware_get(&self, device: &DeviceId, payload: &[u8]) {
        #[derive(Deserialize)]
        struct Get {
            offer: OfferId,
            offset: u64,
            length: usize,
        }
        if payload.len() > 512 {
            return;
        }
        let Ok(get) = serde_json::from_slice::<Get>(payload) else { return };
        let standing = self.standing_image(device, get.offer).unwrap_or_else(|error| {
            tracing::error!(%error, %device, "an image could not be looked up");
            None
        });
        let Some((hash, size)) = standing.filter(|(_, size)| get.offset < *size) else { return };
        let length = (get.length.min(CHUNK) as u64).min(size - get.offset);
        let now = self.clock.monotonic_ms();
        if length == 0 || !lock(&self.firmware.chunks).take(device, get.offer, (length, size), now) {
            return;
        }
        lock(&self.firmware.fetched).insert(device.clone(), self.now());
        let Ok(images) = self.images() else { return };
        let read = tokio::task::spawn_blocking(move || images.part(&hash, get.offset, usize::try_from(length).unwrap_or(CHUNK)));
        match read.await {
            Ok(Ok(part)) if part.len() as u64 == length => {
                let body = [get.offer.as_bytes().as_slice(), &get.offset.to_be_bytes(), &part].concat();
                self.publish(&format!("things/{device}/firmware/chunk"), body, 0, false);
            }
            Ok(Ok(_)) => {
                tracing::error!(%device, image = %hash, "an image is shorter on disk than it was: remove it and import its release again")
            }
            Ok(Err(error)) => tracing::error!(%error, %device, image = %hash, "an image could not be read"),
            Err(error) => tracing::error!(%error, %device, "the reading of an image broke"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_handed_an_image_some_times_and_not_faster_than_a_bound() {
        let (mut chunks, device) = (Chunks::default(), DeviceId::parse("lamp-1").unwrap());
        let offer = |n| OfferId::from_uuid(uuid::Uuid::from_u128(n));
        let size = 1_000 * CHUNK as u64;
        let mut take = |offer, now| chunks.take(&device, offer, (CHUNK as u64, size), now);
        let at_once = (0..100).filter(|_| take(offer(1), 5_000)).count();
        assert_eq!(at_once as u64, BURST);
        assert!(take(offer(1), 5_000 + EVERY_MS) && !take(offer(1), 5_000 + EVERY_MS));
        let whole = (0..20_000).filter(|n| take(offer(2), 100_000 + n * EVERY_MS)).count();
        assert_eq!(whole as u64, WHOLE * 1_000);
        assert!(take(offer(3), 1_000_000), "another offer begins anew");
    }
}
