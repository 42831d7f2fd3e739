//! Bodies about firmware.

use super::access::Window;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Releases by model, and the room for images.
#[derive(Debug, Serialize, ToSchema)]
pub struct Firmware {
    /// Models that have releases here, or devices that take firmware.
    pub models: Vec<ModelFirmware>,
    /// The room for images.
    pub cache: FirmwareCache,
    /// The release that comes in now.
    pub importing: Option<ImportingRelease>,
}

/// The room for images.
#[derive(Debug, Serialize, ToSchema)]
pub struct FirmwareCache {
    /// Bytes that are used.
    pub bytes: u64,
    /// Of so many.
    pub limit: u64,
}

/// A release on its way in.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportingRelease {
    /// Its maker.
    pub brand: String,
    /// Of which model.
    pub model: String,
    /// Its number.
    pub rel: u64,
    /// Its version.
    pub version: String,
    /// Bytes of the image that are here.
    pub received: u64,
    /// Of so many.
    pub size: u64,
}

/// A release that is here now.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportedRelease {
    /// Its maker.
    pub brand: String,
    /// Of which model.
    pub model: String,
    /// Its number.
    pub rel: u64,
}

/// One model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelFirmware {
    /// The maker.
    pub brand: String,
    /// The model.
    pub model: String,
    /// What the maker calls it.
    pub title: String,
    /// What holds for its devices.
    pub policy: ChosenFirmwarePolicy,
    /// The security minimum; 0 for none.
    pub floor: u64,
    /// Releases, the newest first.
    pub releases: Vec<FirmwareRelease>,
    /// Its devices that take firmware.
    pub devices: u64,
    /// Of these, below the security minimum.
    pub behind: u64,
}

/// One release.
#[derive(Debug, Serialize, ToSchema)]
pub struct FirmwareRelease {
    /// Its number.
    pub rel: u64,
    /// Its version, for people.
    pub version: String,
    /// Bytes of the image.
    pub size: u64,
    /// SHA-256 of the image, in hex.
    pub sha256: String,
    /// What is new.
    pub notes: String,
    /// When it was made, ms since 1970, by the maker's word.
    pub made_at: u64,
    /// When it came here, ms since 1970.
    pub added_at: u64,
    /// On which hardware it runs.
    pub hardware: Vec<String>,
    /// The oldest release that goes to it in one step.
    pub least_before: u64,
    /// The oldest release that it says is safe.
    pub security_minimum: u64,
    /// Whether the image is here.
    pub cached: bool,
    /// Whether it is offered to nobody else, because it failed too often.
    pub stopped: bool,
    /// A person has said that it goes on nevertheless.
    pub resumed: bool,
    /// Devices that have tried it.
    pub tried: u32,
    /// Of these, failed.
    pub failed: u32,
    /// `file` or `cloud`.
    pub from: String,
    /// Of all houses so many percent get it.
    pub cloud_percent: u8,
    /// Its maker has withdrawn it at the cloud: nobody is offered it.
    pub withdrawn: bool,
}

/// What people choose.
#[derive(Debug, Deserialize, ToSchema)]
pub struct FirmwarePolicy {
    /// `automatic`, `ask` (unless said) or `hold`.
    pub mode: Option<String>,
    /// When installing may begin; at any time when absent.
    pub window: Option<Window>,
    /// So many percent of the model's devices get a release first, 0 to 100; 100 unless said.
    pub percent: Option<u8>,
    /// When a release that fails is offered to nobody else.
    pub stop: Option<FirmwareStop>,
}

/// When a release that fails is offered to nobody else.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FirmwareStop {
    /// Not before so many devices have tried it; 3 unless said.
    pub after: u32,
    /// When more than so many percent of them failed; 34 unless said.
    pub percent: u8,
}

/// What people have chosen.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChosenFirmwarePolicy {
    /// `automatic`, `ask` or `hold`.
    pub mode: String,
    /// When installing may begin.
    pub window: Option<Window>,
    /// So many percent of the model's devices get a release first.
    pub percent: u8,
    /// When a release that fails is offered to nobody else.
    pub stop: FirmwareStop,
    /// Its version: its `ETag`.
    pub version: u64,
}

/// Yes to one release.
#[derive(Debug, Deserialize, ToSchema)]
pub struct FirmwareApproval {
    /// Its number.
    pub rel: u64,
}

/// The firmware of one device.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceFirmware {
    /// The release that it says it runs; none when it has not said.
    pub rel: Option<u64>,
    /// Its version.
    pub version: Option<String>,
    /// Whether it is below the security minimum, and kept away from everything until it has been updated.
    pub behind: bool,
    /// The security minimum of its model; 0 for none.
    pub floor: u64,
    /// What holds for it.
    pub policy: ChosenFirmwarePolicy,
    /// Whether that is its own, and not its model's.
    pub own_policy: bool,
    /// What is decided now.
    pub verdict: FirmwareVerdict,
    /// How far it is.
    pub progress: FirmwareProgress,
    /// The release to which somebody has said yes.
    pub approved: Option<u64>,
    /// Releases that are newer than what it runs and run on it, the newest first.
    pub newer: Vec<FirmwareRelease>,
    /// Offers that have ended, the newest first.
    pub history: Vec<EndedOffer>,
}

/// What is decided for a device.
#[derive(Debug, Serialize, ToSchema)]
pub struct FirmwareVerdict {
    /// `up_to_date`, `offer`, `waits` or `not_known`.
    pub state: String,
    /// Which release.
    pub rel: Option<u64>,
    /// Whether it may be installed now.
    pub install: Option<bool>,
    /// For what it waits: `hold`, `ask`, `stage`, `stopped`, `backoff`, `gave_up`, `step`, `hardware` or `not_cached`.
    pub why: Option<String>,
    /// With `backoff`: until when, ms since 1970.
    pub until: Option<u64>,
}

/// How far a device is.
#[derive(Debug, Serialize, ToSchema)]
pub struct FirmwareProgress {
    /// The offer that stands.
    pub offer: Option<String>,
    /// The release that was offered last.
    pub rel: Option<u64>,
    /// Bytes of its image.
    pub size: Option<u64>,
    /// `idle`, `offered`, `downloading`, `downloaded`, `installing`, `confirmed` or `failed`.
    pub state: String,
    /// With `downloading`: the bytes it has.
    pub offset: Option<u64>,
    /// With `installing`: since when, ms since 1970.
    pub since_ms: Option<u64>,
    /// With `failed`: why.
    pub code: Option<String>,
    /// With `failed`: the device's own words.
    pub detail: Option<String>,
    /// With `failed`: when, ms since 1970.
    pub at_ms: Option<u64>,
    /// When it last said something that is kept, ms since 1970.
    pub said_at: Option<u64>,
}

/// An offer that has ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndedOffer {
    /// The offer.
    pub offer: String,
    /// The release that was offered.
    pub rel: u64,
    /// `confirmed`, `failed` or `withdrawn`.
    pub outcome: String,
    /// With `failed`: why.
    pub code: Option<String>,
    /// With `failed`: the device's own words.
    pub detail: Option<String>,
    /// When, ms since 1970.
    pub at_ms: u64,
}
