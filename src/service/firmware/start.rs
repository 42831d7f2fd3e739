//! Where images are kept, what is taken up again at the start, and what others ask of firmware: the cloud's courier which releases
//! this house lacks, an update of the hub whether a device is installing.

use super::images::Images;
use super::looking::awaited;
use super::{floor_of, images_in, known_devices};
use crate::domain::device::Registered;
use crate::domain::firmware::release::ImageHash;
use crate::domain::ids::{BrandId, ModelName};
use crate::service::{Refusal, Service, lock};
use crate::store::tables::{FirmwareFacts, ImageRow, ReleaseRow};
use crate::store::{Read, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Bounds of firmware for devices. Every member has a default; an unknown one is an error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FirmwareConfig {
    /// Bytes of all images that are kept; the least recently offered goes first.
    pub cache_bytes: u64,
    /// Downloads at the same time.
    pub downloads: usize,
}

impl Default for FirmwareConfig {
    fn default() -> Self {
        FirmwareConfig { cache_bytes: 1024 * 1024 * 1024, downloads: 8 }
    }
}

/// What a house wants to know of a model's releases: which devices it has, and what it knows already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WantedRelease {
    /// The maker.
    pub brand: BrandId,
    /// The model.
    pub model: ModelName,
    /// The oldest release that one of its devices runs; `None` when none has said.
    pub oldest: Option<u64>,
    /// The security minimum that is known.
    pub floor: u64,
    /// Releases whose images are here.
    pub cached: Vec<u64>,
    /// Releases that are known and whose images are not here.
    pub missing: Vec<u64>,
    /// Of these, the ones that a device which is here now would be offered if their images were.
    pub awaited: Vec<u64>,
}

impl Service {
    /// Keeps images in `dir` from now on; once, before the doors open. What an interrupted import has left there is removed; an
    /// image that is gone is noted as gone; every device that takes firmware is looked at by the clock.
    ///
    /// # Errors
    /// The disk's fault, or the store's.
    pub async fn keep_images(&self, dir: PathBuf, config: &FirmwareConfig) -> Result<(), Refusal> {
        let limit = config.cache_bytes;
        let images = Arc::new(super::import::blocking(move || Images::open(dir, limit)).await?);
        let known: HashMap<ImageHash, ImageRow> = self.store.read::<_, StoreError>(|v| images_in(v))?.into_iter().collect();
        let there: HashSet<ImageHash> = {
            let (images, known) = (images.clone(), known.clone());
            super::import::blocking(move || images.tidy(&known)).await?.into_iter().collect()
        };
        let gone: Vec<ImageHash> = known.into_keys().filter(|hash| !there.contains(hash)).collect();
        if !gone.is_empty() {
            tracing::warn!(images = gone.len(), "images of firmware are not on disk any more; import their releases again");
            self.store
                .write::<_, StoreError, _>(move |tx| gone.iter().try_for_each(|hash| tx.delete::<ImageRow>(hash.as_bytes()).map(drop)))
                .await?;
        }
        let devices = self.store.read::<_, StoreError>(|v| known_devices(v))?;
        {
            let (mut offers, mut due) = (lock(&self.firmware.offers), lock(&self.firmware.due));
            for (device, row) in devices {
                offers.extend(row.progress.offer.map(|offer| (offer, device.clone())));
                due.insert(device, 0);
            }
        }
        let _ = self.firmware.downloads.set(Arc::new(Semaphore::new(config.downloads.max(1))));
        let _ = self.firmware.images.set(images);
        Ok(())
    }

    /// Whether a release comes in, or a device installs one: the hub does not restart itself now.
    #[must_use]
    pub fn firmware_busy(&self) -> bool {
        let installing = || self.store.read::<_, StoreError>(|v| Ok(known_devices(v)?.iter().any(|(_, row)| row.progress.is_installing())));
        // What cannot be read is no reason to restart now.
        lock(&self.firmware.under_way).is_some() || installing().unwrap_or(true)
    }

    /// For each model of which the house has devices that take firmware: what is wanted of its maker.
    ///
    /// # Errors
    /// The store's fault.
    pub fn wanted_releases(&self) -> Result<Vec<WantedRelease>, Refusal> {
        let now = self.moment();
        self.store.read(|v| {
            let mut models: BTreeMap<(BrandId, ModelName), WantedRelease> = BTreeMap::new();
            for (device, row) in known_devices(v)? {
                let key = device.as_str().as_bytes();
                let Some(registered) = v.get::<Registered>(key)? else { continue };
                let awaited = if self.is_online(&device) { awaited(v, &registered, &row, &now)? } else { None };
                let rel = v.get::<FirmwareFacts>(key)?.map(|facts| facts.rel);
                let floor = floor_of(v, &registered)?;
                let of = (registered.brand.clone(), registered.model.clone());
                let wanted = models.entry(of).or_insert_with(|| WantedRelease {
                    brand: registered.brand,
                    model: registered.model,
                    oldest: None,
                    floor,
                    cached: Vec::new(),
                    missing: Vec::new(),
                    awaited: Vec::new(),
                });
                wanted.awaited.extend(awaited);
                wanted.oldest = wanted.oldest.into_iter().chain(rel).min();
            }
            for ((brand, model), wanted) in &mut models {
                for (ReleaseRow { release, .. }, known) in super::looking::releases_of(v, brand, model)? {
                    if known.cached { &mut wanted.cached } else { &mut wanted.missing }.push(release.rel);
                }
            }
            Ok(models.into_values().collect())
        })
    }
}
