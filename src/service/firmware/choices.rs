//! What people choose: policies of models and devices, yes to one release, going on in spite of failures, and removing an image.

use super::looking::releases_of;
use super::{images_in, policy_for};
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::device::Registered;
use crate::domain::firmware::policy::{Mode, Policy};
use crate::domain::firmware::progress::{Effect, Event, Note, step};
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::domain::policy::Action;
use crate::service::rights::require_role;
use crate::service::{Actor, Change, Refusal, Service, audit};
use crate::store::tables::{
    FirmwareFacts, FirmwareProgress, ImageRow, PolicyRow, ReleaseCounts, ReleaseRow, StoredModel, device_policy_key, model_key,
    model_policy_key, release_key,
};
use crate::store::{Read, StoreError, Tx};
use serde::Serialize;
use std::sync::Arc;

/// Whose policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyTarget {
    /// Of all devices of a model that have none of their own.
    Model(BrandId, ModelName),
    /// Of one device.
    Device(DeviceId),
}

/// A policy as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyView {
    /// The choice.
    #[serde(flatten)]
    pub policy: Policy,
    /// Rises with every change; 0 for what nobody has chosen.
    pub version: u64,
}

impl PolicyView {
    pub(super) fn of(row: Option<PolicyRow>) -> PolicyView {
        row.map_or_else(
            || PolicyView { policy: Policy::default(), version: 0 },
            |row| PolicyView { policy: row.policy.unwrap_or_default(), version: row.version },
        )
    }
}

impl PolicyTarget {
    fn key(&self) -> Vec<u8> {
        match self {
            PolicyTarget::Model(brand, model) => model_policy_key(brand, model),
            PolicyTarget::Device(device) => device_policy_key(device),
        }
    }

    fn object(&self) -> String {
        match self {
            PolicyTarget::Model(brand, model) => format!("{brand}/{model}"),
            PolicyTarget::Device(device) => device.to_string(),
        }
    }
}

/// Forgets what its people have chosen for a device that leaves the house, and takes back what it is offered. What it runs, and how its
/// updates went, is its own.
pub(in crate::service) fn forget_choices(tx: &Tx<'_>, device: &DeviceId, now: u64) -> Result<(), StoreError> {
    tx.delete::<PolicyRow>(&device_policy_key(device))?;
    let key = device.as_str().as_bytes();
    let Some(row) = tx.get::<FirmwareProgress>(key)? else { return Ok(()) };
    let (progress, effects) = step(&row.progress, Event::Withdrawn, now);
    for effect in effects {
        if let Effect::Noted(Note::Withdrawn { rel }) = effect {
            let (object, detail) = (device.as_str(), format!("rel {rel}"));
            audit::append(tx, now, audit::event("hub", "firmware.withdraw", object, Outcome::Done, "left_the_house", detail, "hub"))?;
        }
    }
    let offered = row.offered.filter(|_| progress.offer.is_some());
    let next = FirmwareProgress { approved: None, progress, offered, ..row.clone() };
    if next == row { Ok(()) } else { tx.put(key, &next) }
}

impl Service {
    /// Chooses a policy; `None` for a device is that of its model. When this returns, offers are as it says.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for a model's, for all but owners; [`Refusal::NotAllowed`] for a device's, below `administer`;
    /// [`Refusal::Invalid`], [`Refusal::VersionConflict`], [`Refusal::NotFound`].
    pub async fn set_firmware_policy(
        self: &Arc<Self>,
        actor: &Actor,
        target: PolicyTarget,
        policy: Option<Policy>,
        if_version: Option<u64>,
    ) -> Result<PolicyView, Refusal> {
        if let Some(policy) = &policy {
            policy.check().map_err(|error| Refusal::Invalid(error.to_string()))?;
        }
        let (service, who, now, to) = (self.clone(), actor.clone(), self.now(), target.clone());
        let view = self
            .store
            .write(move |tx| {
                match &to {
                    PolicyTarget::Model(brand, model) => {
                        require_role(tx, &who, HubAction::ManageRegistry, now)?;
                        if tx.get::<StoredModel>(&model_key(brand, model))?.is_none() && releases_of(tx, brand, model)?.is_empty() {
                            return Err(Refusal::NotFound("model"));
                        }
                    }
                    PolicyTarget::Device(device) => {
                        service.require(tx, &who, device, Action::Administer)?;
                    }
                }
                let key = to.key();
                let before = tx.get::<PolicyRow>(&key)?;
                let version = before.as_ref().map_or(0, |row| row.version);
                if if_version.is_some_and(|wanted| wanted != version) {
                    return Err(Refusal::VersionConflict(version));
                }
                if before.as_ref().and_then(|row| row.policy.as_ref()) == policy.as_ref() {
                    return Ok(PolicyView::of(before));
                }
                let row = PolicyRow { policy: policy.clone(), version: version + 1, by: who.subject.to_string(), at: now };
                tx.put(&key, &row)?;
                let told = policy.as_ref().map_or_else(|| Ok("as its model".to_owned()), serde_json::to_string);
                audit::append(tx, now, audit::done(&who, "firmware.policy", &to.object(), told.unwrap_or_default()))?;
                Ok(PolicyView::of(Some(row)))
            })
            .await?;
        match &target {
            PolicyTarget::Model(brand, model) => {
                self.look_at_model(brand, model).await;
                self.changed(Change::Firmware { id: None });
            }
            PolicyTarget::Device(device) => {
                self.look_at_all(vec![device.clone()]).await;
                self.changed(Change::Firmware { id: Some(device.clone()) });
            }
        }
        Ok(view)
    }

    /// Says yes to one release for one device; also to trying one again that has failed there too often.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] below `manage`; [`Refusal::Invalid`] for a release that cannot become what the device runs;
    /// [`Refusal::Conflict`] while its firmware is held.
    pub async fn approve_firmware(self: &Arc<Self>, actor: &Actor, device: &DeviceId, rel: u64) -> Result<(), Refusal> {
        let (service, who, id, now) = (self.clone(), actor.clone(), device.clone(), self.now());
        self.store
            .write(move |tx| {
                service.require(tx, &who, &id, Action::Manage)?;
                let key = id.as_str().as_bytes();
                let registered = tx.get::<Registered>(key)?.ok_or(Refusal::NotFound("device"))?;
                let release = tx.get::<ReleaseRow>(&release_key(&registered.brand, &registered.model, rel))?;
                let Some(ReleaseRow { release, withdrawn, .. }) = release else {
                    return Err(Refusal::Invalid("rel: this hub knows no such release of the device's model".into()));
                };
                if withdrawn {
                    return Err(Refusal::Invalid("rel: its maker has withdrawn this release; wait for the next one".into()));
                }
                if !release.runs_on(&registered.hardware) {
                    return Err(Refusal::Invalid("rel: this release does not run on the device's hardware".into()));
                }
                if tx.get::<FirmwareFacts>(key)?.is_some_and(|facts| rel <= facts.rel) {
                    return Err(Refusal::Invalid("rel: the device runs this release, or a newer one".into()));
                }
                if policy_for(tx, &registered)?.mode == Mode::Hold {
                    return Err(Refusal::Conflict("the firmware of this device is held: change its policy first".into()));
                }
                let mut row = tx.get::<FirmwareProgress>(key)?.unwrap_or_default();
                row.approved = Some(rel);
                row.progress = step(&row.progress, Event::Retried { rel }, now).0;
                tx.put(key, &row)?;
                audit::append(tx, now, audit::done(&who, "firmware.approve", id.as_str(), format!("rel {rel}")))?;
                Ok(())
            })
            .await?;
        self.look_at_all(vec![device.clone()]).await;
        self.changed(Change::Firmware { id: Some(device.clone()) });
        Ok(())
    }

    /// Lets a release go on that was stopped because it failed too often.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::NotFound`].
    pub async fn resume_release(&self, actor: &Actor, brand: &BrandId, model: &ModelName, rel: u64) -> Result<(), Refusal> {
        let (who, now) = (actor.clone(), self.now());
        let (key, object) = (release_key(brand, model, rel), format!("{brand}/{model}"));
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageRegistry, now)?;
                tx.get::<ReleaseRow>(&key)?.ok_or(Refusal::NotFound("release"))?;
                let counts = tx.get::<ReleaseCounts>(&key)?.unwrap_or_default();
                if !counts.resumed {
                    tx.put(&key, &ReleaseCounts { resumed: true, ..counts })?;
                    audit::append(tx, now, audit::done(&who, "firmware.resume", &object, format!("rel {rel}")))?;
                }
                Ok::<_, Refusal>(())
            })
            .await?;
        self.look_at_model(brand, model).await;
        self.changed(Change::Firmware { id: None });
        Ok(())
    }

    /// Removes the image of a release; the release itself stays known, and what it said of safety holds.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::NotFound`].
    pub async fn remove_release_image(&self, actor: &Actor, brand: &BrandId, model: &ModelName, rel: u64) -> Result<(), Refusal> {
        let (who, now) = (actor.clone(), self.now());
        let (key, object) = (release_key(brand, model, rel), format!("{brand}/{model}"));
        let hash = self
            .store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageRegistry, now)?;
                let row = tx.get::<ReleaseRow>(&key)?.ok_or(Refusal::NotFound("release"))?;
                let hash = row.release.sha256;
                if images_in(tx)?.iter().all(|(known, _)| *known != hash) {
                    return Err(Refusal::NotFound("image"));
                }
                tx.delete::<ImageRow>(hash.as_bytes())?;
                audit::append(tx, now, audit::done(&who, "firmware.remove", &object, format!("the image of rel {rel}")))?;
                Ok(hash)
            })
            .await?;
        self.look_at_model(brand, model).await;
        self.remove_image(hash).await?;
        self.changed(Change::Firmware { id: None });
        Ok(())
    }
}
