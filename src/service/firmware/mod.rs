//! Firmware of devices, the hub's side: releases and their images, what devices run, and what each is offered. Whether, when and
//! to whom is `domain::firmware`'s to decide; what is here loads, writes, and hands out images to those they are offered to.

mod choices;
mod download;
mod images;
mod import;
mod looking;
mod refusal;
mod report;
mod start;
mod view;

pub use choices::{PolicyTarget, PolicyView};
pub use download::Download;
pub use import::{ImportedRelease, ReleaseImport, ReleaseOrigin};
pub use refusal::FirmwareRefusal;
pub use start::{FirmwareConfig, WantedRelease};
pub use view::{DeviceFirmwareView, FirmwareView, ModelFirmwareView, ReleaseView};

pub(super) use choices::forget_choices;

use super::{Refusal, Service};
use crate::domain::device::{Household, Registered};
use crate::domain::firmware::policy::{self, Policy};
use crate::domain::firmware::progress::OfferId;
use crate::domain::firmware::release::ImageHash;
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::store::tables::{
    FirmwareFacts, FirmwareFloor, FirmwareProgress, ImageRow, PolicyRow, device_policy_key, model_key, model_policy_key,
};
use crate::store::{Read, StoreError};
use images::Images;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::Semaphore;

/// Devices that are looked at, at most; as many as a hub has.
const DEVICES: usize = 10_000;

/// What is shared in memory.
#[derive(Default)]
pub(super) struct Desk {
    images: OnceLock<Arc<Images>>,
    /// Held by the release that comes in.
    importing: Arc<tokio::sync::Mutex<()>>,
    under_way: Mutex<Option<import::ImportingView>>,
    /// Offers that stand, and to which device.
    offers: Mutex<HashMap<OfferId, DeviceId>>,
    /// How far downloads are, in bytes: a card is not worn by that.
    offsets: Mutex<HashMap<DeviceId, u64>>,
    /// When a device last fetched of what it is offered, ms since 1970.
    fetched: Mutex<HashMap<DeviceId, u64>>,
    /// Devices that are here and wait for an image alone: what is linked is asked for it once for each time.
    lacking: Mutex<HashSet<DeviceId>>,
    /// When a device is to be looked at again, ms since 1970.
    due: Mutex<HashMap<DeviceId, u64>>,
    /// Held while an offer is told, so that the newest is told last.
    telling: Mutex<()>,
    chunks: Mutex<download::Chunks>,
    downloads: OnceLock<Arc<Semaphore>>,
}

/// Whether what a device runs is below the security minimum of its model.
pub(super) fn is_behind<R: Read>(rows: &R, device: &DeviceId) -> Result<bool, StoreError> {
    let key = device.as_str().as_bytes();
    let Some(facts) = rows.get::<FirmwareFacts>(key)? else { return Ok(false) };
    let Some(registered) = rows.get::<Registered>(key)? else { return Ok(false) };
    Ok(policy::is_behind(Some(facts.rel), floor_of(rows, &registered)?))
}

/// The security minimum of a device's model.
fn floor_of<R: Read>(rows: &R, registered: &Registered) -> Result<u64, StoreError> {
    Ok(rows.get::<FirmwareFloor>(&model_key(&registered.brand, &registered.model))?.map_or(0, |floor| floor.rel))
}

/// What holds for a device: its own policy, or its model's.
fn policy_for<R: Read>(rows: &R, registered: &Registered) -> Result<Policy, StoreError> {
    match rows.get::<PolicyRow>(&device_policy_key(&registered.id))?.and_then(|own| own.policy) {
        Some(own) => Ok(own),
        None => model_policy(rows, &registered.brand, &registered.model),
    }
}

/// What holds for a model's devices that have no policy of their own.
fn model_policy<R: Read>(rows: &R, brand: &BrandId, model: &ModelName) -> Result<Policy, StoreError> {
    Ok(rows.get::<PolicyRow>(&model_policy_key(brand, model))?.and_then(|row| row.policy).unwrap_or_default())
}

/// All images there are.
fn images_in<R: Read>(rows: &R) -> Result<Vec<(ImageHash, ImageRow)>, StoreError> {
    let rows = rows.scan::<ImageRow>(b"", DEVICES)?;
    Ok(rows.into_iter().filter_map(|(key, row)| Some((ImageHash::from_bytes(key.try_into().ok()?), row))).collect())
}

/// The devices that have ever listened for an offer or said what they run, and how far each is.
fn known_devices<R: Read>(rows: &R) -> Result<Vec<(DeviceId, FirmwareProgress)>, StoreError> {
    let rows = rows.scan::<FirmwareProgress>(b"", DEVICES)?;
    Ok(rows.into_iter().filter_map(|(key, row)| Some((DeviceId::parse(std::str::from_utf8(&key).ok()?).ok()?, row))).collect())
}

/// The images that are kept for somebody: offered to a device of the house that may sign in, and that fetched of it not too long ago.
fn held_images<R: Read>(rows: &R, fetched: &HashMap<DeviceId, u64>, now: u64) -> Result<HashSet<ImageHash>, StoreError> {
    let mut held = HashSet::new();
    for (device, row) in known_devices(rows)? {
        let Some(offered) = row.offered else { continue };
        let since = fetched.get(&device).map_or(offered.at, |at| offered.at.max(*at));
        let standing = rows.get::<Household>(device.as_str().as_bytes())?.unwrap_or_default().standing;
        if standing.is_bound() && standing.admits() && row.progress.holds_image(since, now) {
            held.insert(offered.sha256);
        }
    }
    Ok(held)
}

impl Service {
    /// Whether this hub takes firmware at all.
    pub(in crate::service) fn keeps_images(&self) -> bool {
        self.firmware.images.get().is_some()
    }

    fn images(&self) -> Result<Arc<Images>, Refusal> {
        let images = self.firmware.images.get().cloned();
        images.ok_or_else(|| Refusal::Conflict("this hub keeps no images of firmware".into()))
    }
}
