//! Firmware as people see it: by model, and of one device.

use super::choices::PolicyView;
use super::import::ImportingView;
use super::looking::{decided, releases_of};
use super::{floor_of, images_in, known_devices, policy_for};
use crate::domain::authority::HubAction;
use crate::domain::device::Registered;
use crate::domain::firmware::policy::{Policy, Verdict, Why, is_behind};
use crate::domain::firmware::progress::{Ended, OfferId, State};
use crate::domain::firmware::release::ImageHash;
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::domain::policy::Action;
use crate::service::rights::require_role;
use crate::service::{Actor, Refusal, Service, lock};
use crate::store::tables::{
    FirmwareFacts, FirmwareFloor, FirmwareProgress, PolicyRow, ReleaseRow, device_policy_key, model_key, model_policy_key,
};
use crate::store::{Read, StoreError};
use serde::Serialize;
use std::collections::BTreeMap;

/// All of it, for who may take releases in.
#[derive(Clone, Debug, Serialize)]
pub struct FirmwareView {
    /// Models that have releases here, or devices that take firmware.
    pub models: Vec<ModelFirmwareView>,
    /// The room for images.
    pub cache: CacheView,
    /// What comes in now.
    pub importing: Option<ImportingView>,
}

/// The room for images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CacheView {
    /// Bytes that are used.
    pub bytes: u64,
    /// Of so many.
    pub limit: u64,
}

/// One model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelFirmwareView {
    /// The maker.
    pub brand: BrandId,
    /// The model.
    pub model: ModelName,
    /// What the maker calls it.
    pub title: String,
    /// What holds for its devices.
    pub policy: PolicyView,
    /// The security minimum; 0 for none.
    pub floor: u64,
    /// Releases, the newest first.
    pub releases: Vec<ReleaseView>,
    /// Its devices that take firmware.
    pub devices: u64,
    /// Of these, below the security minimum.
    pub behind: u64,
}

/// One release.
#[derive(Clone, Debug, Serialize)]
pub struct ReleaseView {
    /// Its number.
    pub rel: u64,
    /// Its version, for people.
    pub version: String,
    /// Bytes of the image.
    pub size: u64,
    /// SHA-256 of the image.
    pub sha256: ImageHash,
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
    pub from: &'static str,
    /// Of all houses so many percent get it.
    pub cloud_percent: u8,
    /// Its maker has withdrawn it: nobody is offered it.
    pub withdrawn: bool,
}

/// The firmware of one device.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceFirmwareView {
    /// The release that it says it runs.
    pub rel: Option<u64>,
    /// Its version.
    pub version: Option<String>,
    /// Whether it is below the security minimum, and kept away from everything.
    pub behind: bool,
    /// The security minimum of its model; 0 for none.
    pub floor: u64,
    /// What holds for it; the version is that of its own.
    pub policy: PolicyView,
    /// Whether that is its own, and not its model's.
    pub own_policy: bool,
    /// What is decided now.
    pub verdict: VerdictView,
    /// How far it is.
    pub progress: ProgressView,
    /// The release to which somebody has said yes.
    pub approved: Option<u64>,
    /// Releases of its model that are newer than what it runs and run on it, the newest first.
    pub newer: Vec<ReleaseView>,
    /// Offers that have ended, the newest first.
    pub history: Vec<Ended>,
}

/// What is decided for a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerdictView {
    /// `up_to_date`, `offer`, `waits` or `not_known`.
    pub state: &'static str,
    /// Which release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rel: Option<u64>,
    /// Whether it may be installed now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<bool>,
    /// For what it waits, and until when.
    #[serde(flatten)]
    pub why: Option<Why>,
}

impl From<Verdict> for VerdictView {
    fn from(verdict: Verdict) -> Self {
        let view = |state, rel, install, why| VerdictView { state, rel, install, why };
        match verdict {
            Verdict::UpToDate => view("up_to_date", None, None, None),
            Verdict::NotKnown => view("not_known", None, None, None),
            Verdict::Offer { rel, install } => view("offer", Some(rel), Some(install), None),
            Verdict::Waits { rel, why } => view("waits", Some(rel), None, Some(why)),
        }
    }
}

/// How far a device is.
#[derive(Clone, Debug, Serialize)]
pub struct ProgressView {
    /// The offer that stands.
    pub offer: Option<OfferId>,
    /// The release that was offered last.
    pub rel: Option<u64>,
    /// Bytes of its image.
    pub size: Option<u64>,
    /// Where it is.
    #[serde(flatten)]
    pub state: State,
    /// When it last said something that is kept, ms since 1970.
    pub said_at: Option<u64>,
}

fn release_view(row: ReleaseRow, known: &crate::domain::firmware::policy::Known, policy: &Policy) -> ReleaseView {
    let ReleaseRow { release, from_cloud, cloud_percent, withdrawn, at, .. } = row;
    ReleaseView {
        rel: release.rel,
        version: release.version,
        size: release.size,
        sha256: release.sha256,
        notes: release.notes,
        made_at: release.made_at.saturating_mul(1_000),
        added_at: at,
        hardware: release.hardware,
        least_before: release.least_before,
        security_minimum: release.security_minimum,
        cached: known.cached,
        stopped: policy.stop.holds(known.tried, known.failed) && !known.resumed,
        resumed: known.resumed,
        tried: known.tried,
        failed: known.failed,
        from: if from_cloud { "cloud" } else { "file" },
        cloud_percent,
        withdrawn,
    }
}

impl Service {
    /// All models, for who may take releases in or manage the registry.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub fn firmware(&self, actor: &Actor) -> Result<FirmwareView, Refusal> {
        let (now, limit) = (self.now(), self.firmware.images.get().map_or(0, |images| images.limit));
        let importing = lock(&self.firmware.under_way).clone();
        self.store.read(|v| {
            require_role(v, actor, HubAction::ImportIdentities, now)?;
            let mut models: BTreeMap<(BrandId, ModelName), (u64, u64)> = BTreeMap::new();
            for (_, row) in v.scan::<ReleaseRow>(b"", 10_000)? {
                models.entry((row.release.brand, row.release.model)).or_default();
            }
            for (device, _) in known_devices(v)? {
                let key = device.as_str().as_bytes();
                let Some(registered) = v.get::<Registered>(key)? else { continue };
                let behind = is_behind(v.get::<FirmwareFacts>(key)?.map(|facts| facts.rel), floor_of(v, &registered)?);
                let (all, old) = models.entry((registered.brand, registered.model)).or_default();
                *all += 1;
                *old += u64::from(behind);
            }
            let mut out = Vec::with_capacity(models.len());
            for ((brand, model), (devices, behind)) in models {
                let policy = PolicyView::of(v.get::<PolicyRow>(&model_policy_key(&brand, &model))?);
                let mut releases: Vec<_> =
                    releases_of(v, &brand, &model)?.into_iter().map(|(row, known)| release_view(row, &known, &policy.policy)).collect();
                releases.reverse();
                let title = self.model(&brand, &model).map_or_else(|_| model.to_string(), |known| known.title.clone());
                let floor = v.get::<FirmwareFloor>(&model_key(&brand, &model))?.unwrap_or_default().rel;
                out.push(ModelFirmwareView { brand, model, title, policy, floor, releases, devices, behind });
            }
            let bytes = images_in(v)?.iter().map(|(_, image)| image.size).sum();
            Ok(FirmwareView { models: out, cache: CacheView { bytes, limit }, importing })
        })
    }

    /// The firmware of one device, for who may see it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::NotAllowed`].
    pub fn device_firmware(&self, actor: &Actor, device: &DeviceId) -> Result<DeviceFirmwareView, Refusal> {
        let (now, offset) = (self.moment(), lock(&self.firmware.offsets).get(device).copied());
        self.store.read(|v| {
            self.require(v, actor, device, Action::View)?;
            let key = device.as_str().as_bytes();
            let registered = v.get::<Registered>(key)?.ok_or(Refusal::NotFound("device"))?;
            let (facts, row) = (v.get::<FirmwareFacts>(key)?, v.get::<FirmwareProgress>(key)?.unwrap_or_default());
            let (rel, version) = facts.map_or((None, None), |facts| (Some(facts.rel), Some(facts.version)));
            let floor = floor_of(v, &registered)?;
            let own = v.get::<PolicyRow>(&device_policy_key(device))?;
            let (own_policy, own_version) = own.map_or((false, 0), |own| (own.policy.is_some(), own.version));
            let policy = PolicyView { policy: policy_for(v, &registered)?, version: own_version };
            let mut newer: Vec<ReleaseView> = releases_of(v, &registered.brand, &registered.model)?
                .into_iter()
                .filter(|(row, _)| rel.is_none_or(|rel| row.release.rel > rel) && row.release.runs_on(&registered.hardware))
                .map(|(row, known)| release_view(row, &known, &policy.policy))
                .collect();
            newer.reverse();
            let verdict = decided(v, &registered, &row, &now)?.into();
            let size = newer.iter().find(|release| release.rel == row.progress.rel).map(|release| release.size);
            let state = match (row.progress.state, offset) {
                (State::Downloading { offset: kept }, Some(offset)) => State::Downloading { offset: offset.max(kept) },
                (state, _) => state,
            };
            Ok(DeviceFirmwareView {
                behind: is_behind(rel, floor),
                rel,
                version,
                floor,
                policy,
                own_policy,
                verdict,
                progress: ProgressView {
                    offer: row.progress.offer,
                    rel: Some(row.progress.rel).filter(|rel| *rel > 0),
                    size,
                    state,
                    said_at: Some(row.said_at).filter(|at| *at > 0),
                },
                approved: row.approved,
                newer,
                history: row.progress.history.into_iter().rev().collect(),
            })
        })
    }

    /// What a device runs, for its record: release and version, and whether it is kept away from everything.
    pub(in crate::service) fn runs<R: Read>(rows: &R, device: &DeviceId) -> Result<(Option<FirmwareFacts>, bool), StoreError> {
        Ok((rows.get::<FirmwareFacts>(device.as_str().as_bytes())?, super::is_behind(rows, device)?))
    }
}
