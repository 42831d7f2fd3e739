//! Firmware: releases, what devices say they run, how far each is with another one, and what people have chosen.

use crate::domain::firmware::policy::Policy;
use crate::domain::firmware::progress::Progress;
use crate::domain::firmware::release::{ImageHash, Release};
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use serde::{Deserialize, Serialize};

/// A release that was verified, and by which way it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRow {
    /// The brand's root key, under which it was verified.
    pub root: [u8; 32],
    /// The certificate of the key that signed it.
    #[serde(with = "super::serde_bytes_vec")]
    pub certificate: Vec<u8>,
    /// The release, as signed.
    #[serde(with = "super::serde_bytes_vec")]
    pub statement: Vec<u8>,
    /// The same, read.
    pub release: Release,
    /// Whether it came from the cloud; else from a file.
    pub from_cloud: bool,
    /// Of all houses so many percent get it, by the cloud's word; 100 without one.
    pub cloud_percent: u8,
    /// Its maker has withdrawn it at the cloud: nobody is offered it.
    #[serde(default)]
    pub withdrawn: bool,
    /// When it came, ms since 1970.
    pub at: u64,
    /// Who brought it: a subject's text, or `cloud`.
    pub by: String,
}

/// What has become of a release in this house.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseCounts {
    /// Devices that have tried it to an end.
    pub tried: u32,
    /// Of these, failed.
    pub failed: u32,
    /// A person has said that it goes on in spite of those that failed.
    pub resumed: bool,
    /// Owners have been told that it was stopped.
    pub told: bool,
}

/// An image on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// Its size in bytes.
    pub size: u64,
    /// When it was last offered, or came, ms since 1970.
    pub offered_at: u64,
}

/// What a device says that it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareFacts {
    /// The release.
    pub rel: u64,
    /// Its version, for people.
    pub version: String,
}

/// How far a device is with another release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FirmwareProgress {
    /// When it last said something that is kept, ms since 1970.
    pub said_at: u64,
    /// By the state machine, with the number of the offer that stands.
    pub progress: Progress,
    /// What that offer is of.
    pub offered: Option<OfferedImage>,
    /// The release to which a person has said yes.
    pub approved: Option<u64>,
}

/// What an offer that stands is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedImage {
    /// The image.
    pub sha256: ImageHash,
    /// Whether it may be installed; else only fetched.
    pub install: bool,
    /// When it was offered, ms since 1970.
    pub at: u64,
}

/// What people have chosen for a model, or for one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyRow {
    /// The choice; none once a device is to be as its model again.
    pub policy: Option<Policy>,
    /// Rises with every change.
    pub version: u64,
    /// By whom: a subject's text.
    pub by: String,
    /// When, ms since 1970.
    pub at: u64,
}

/// The oldest release of a model that is still safe; it only ever rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirmwareFloor {
    /// The release.
    pub rel: u64,
}

/// Key of a release: its model's, and the number.
#[must_use]
pub fn release_key(brand: &BrandId, model: &ModelName, rel: u64) -> Vec<u8> {
    [releases_prefix(brand, model), rel.to_be_bytes().to_vec()].concat()
}

/// Prefix of the keys of a model's releases.
#[must_use]
pub fn releases_prefix(brand: &BrandId, model: &ModelName) -> Vec<u8> {
    format!("{brand}\0{model}\0").into_bytes()
}

/// Key of a model's policy.
#[must_use]
pub fn model_policy_key(brand: &BrandId, model: &ModelName) -> Vec<u8> {
    format!("model\0{brand}\0{model}").into_bytes()
}

/// Key of a device's policy.
#[must_use]
pub fn device_policy_key(device: &DeviceId) -> Vec<u8> {
    format!("device\0{device}").into_bytes()
}
