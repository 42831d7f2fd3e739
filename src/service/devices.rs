//! Devices as people see them: listing, naming, suspending, removing, certificates; and presence, which comes from
//! connections and not from the store.

use super::rights::{Rows, require_role};
use super::{Actor, CloseReason, Refusal, Service, audit, lock};
use crate::domain::authority::HubAction;
use crate::domain::binding::{Privilege, Subject};
use crate::domain::device::{Household, LastSeen, Registered, Standing, Trust};
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::domain::policy::{Action, Reason};
use crate::domain::twin::Twin;
use crate::store::tables::{
    BindingIndex, IssuedCertificate, Momentary, MqttSession, RetainedMessage, WaitingMessage, device_prefix, subject_prefix,
};
use crate::store::{Read, StoreError, Tx};
use serde::Serialize;
use std::collections::BTreeSet;

/// Last-seen is written at most so often while a device stays connected, in ms: a card wears.
const LAST_SEEN_EVERY_MS: u64 = 10 * 60 * 1000;

/// What an owner is told who uses a quarantined device.
const QUARANTINED: &str = "Two things act as this device, and what it shows may come from either. Both are shut out. Look at the evidence \
     and at the thing itself before you rely on it; lift the quarantine when you know which is yours.";

/// What whoever sees a device is told whose firmware is not safe any more.
const BEHIND: &str = "What this device runs is not safe any more. It is kept away from everything, and nobody reaches it, until it has been \
     updated: look at its firmware.";

/// Certificates of one device that sign in.
const CERTIFICATES: usize = 20;

/// Whether a device is here.
#[derive(Clone, Debug, Default)]
pub(super) struct Presence {
    connections: usize,
    since: u64,
    last_written: u64,
}

impl Presence {
    pub(super) fn is_online(&self) -> bool {
        self.connections > 0
    }
}

/// A device as it is shown to one account.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceView {
    /// Its id.
    pub id: DeviceId,
    /// Its maker.
    pub brand: BrandId,
    /// Its type.
    pub model: ModelName,
    /// Hardware revision.
    pub hardware: String,
    /// Serial number.
    pub serial: String,
    /// What kind of thing, for its icon.
    pub kind: String,
    /// What the maker calls it.
    pub title: String,
    /// How sure the hub is of it.
    pub trust: Trust,
    /// How it stands.
    pub state: Standing,
    /// Whether it is connected.
    pub online: bool,
    /// When it was last heard, ms since 1970.
    pub last_seen: Option<u64>,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub room: String,
    /// What the asking account may do.
    pub privilege: Option<Privilege>,
    /// The attributes and commands that it may do it to, when these are not all.
    pub only: Option<BTreeSet<String>>,
    /// What an account that may use it has to know first.
    pub warning: Option<&'static str>,
    /// The version of its firmware, if it has said it.
    pub firmware: Option<String>,
    /// Whether that is below the security minimum of its model: then it is kept away from everything.
    pub behind: bool,
    /// The record's version, its `ETag`.
    pub version: u64,
}

/// What may be changed of a device's record.
#[derive(Clone, Debug, Default)]
pub struct DeviceChange {
    /// A new name.
    pub name: Option<String>,
    /// A new room.
    pub room: Option<String>,
    /// Only if the record still has this version.
    pub if_version: Option<u64>,
}

impl Service {
    /// The devices that `actor` may see: those it may view, and for owners all that are bound or here.
    ///
    /// # Errors
    /// The store's fault.
    pub fn devices(&self, actor: &Actor) -> Result<Vec<DeviceView>, Refusal> {
        let online: Vec<DeviceId> = lock(&self.presence).iter().filter(|(_, p)| p.is_online()).map(|(id, _)| id.clone()).collect();
        self.store.read(|v| {
            let bound = v.scan::<BindingIndex>(&subject_prefix(&actor.subject.clone()), 10_000)?;
            let mut ids: BTreeSet<DeviceId> = bound.into_iter().map(|(_, b)| b.device).collect();
            if actor.may(HubAction::SeeAllDevices) {
                let known = v.scan::<Household>(b"", 10_000)?;
                ids.extend(known.iter().filter_map(|(key, _)| std::str::from_utf8(key).ok().and_then(|k| DeviceId::parse(k).ok())));
                ids.extend(online);
            }
            let mut out = Vec::new();
            for id in ids {
                match self.view_of(v, actor, &id) {
                    Ok(view) => out.push(view),
                    Err(Refusal::NotFound(_)) => {}
                    Err(other) => return Err(other),
                }
            }
            Ok(out)
        })
    }

    /// One device.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], also for what `actor` may not see.
    pub fn device(&self, actor: &Actor, id: &DeviceId) -> Result<DeviceView, Refusal> {
        self.store.read(|v| self.view_of(v, actor, id))
    }

    /// One device, for who has just given it away and may not see it any more.
    ///
    /// # Errors
    /// The store's fault.
    pub(super) fn device_after(&self, actor: &Actor, id: &DeviceId) -> Result<DeviceView, Refusal> {
        self.store.read(|v| self.view_with(v, actor, id, true))
    }

    fn view_of<R: Read>(&self, v: &R, actor: &Actor, id: &DeviceId) -> Result<DeviceView, Refusal> {
        self.view_with(v, actor, id, actor.may(HubAction::SeeAllDevices))
    }

    fn view_with<R: Read>(&self, v: &R, actor: &Actor, id: &DeviceId, sees_all: bool) -> Result<DeviceView, Refusal> {
        let key = id.as_str().as_bytes();
        let now = self.moment();
        let rows = Rows::load(v, &actor.subject, id, &now)?;
        let (registered, seen) = (v.get::<Registered>(key)?, v.get::<LastSeen>(key)?);
        let registered = registered.ok_or(Refusal::NotFound("device"))?;
        let privilege = rows.privilege(&now);
        if privilege.is_none() && !sees_all {
            return Err(Refusal::NotFound("device"));
        }
        let only = privilege.and_then(|_| rows.only());
        let presence = lock(&self.presence).get(id).cloned().unwrap_or_default();
        let model = self.model(&registered.brand, &registered.model).ok();
        let household = rows.household;
        let (runs, behind) = Service::runs(v, id)?;
        Ok(DeviceView {
            warning: if household.is_quarantined() { Some(QUARANTINED) } else { behind.then_some(BEHIND) },
            firmware: runs.map(|facts| facts.version),
            behind,
            kind: model.as_ref().map_or_else(|| "thing".into(), |m| m.kind.clone()),
            title: model.as_ref().map_or_else(|| registered.model.to_string(), |m| m.title.clone()),
            trust: registered.origin.trust(),
            state: household.standing,
            online: presence.is_online(),
            last_seen: if presence.since > 0 { Some(presence.since) } else { seen.map(|s| s.at) },
            name: household.name,
            room: household.room,
            privilege,
            only,
            version: household.version,
            id: registered.id,
            brand: registered.brand,
            model: registered.model,
            hardware: registered.hardware,
            serial: registered.serial,
        })
    }

    /// Changes name and room.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] below `manage`, [`Refusal::VersionConflict`].
    pub async fn change_device(
        self: &std::sync::Arc<Self>,
        actor: &Actor,
        id: &DeviceId,
        change: DeviceChange,
    ) -> Result<DeviceView, Refusal> {
        let (service, who, device, now) = (self.clone(), actor.clone(), id.clone(), self.now());
        self.store
            .write(move |tx| {
                let mut household = service.require(tx, &who, &device, Action::Manage)?.household;
                if change.if_version.is_some_and(|v| v != household.version) {
                    return Err(Refusal::VersionConflict(household.version));
                }
                let clean = |text: &str| text.trim().chars().filter(|c| !c.is_control()).take(64).collect::<String>();
                if let Some(name) = &change.name {
                    household.name = clean(name);
                }
                if let Some(room) = &change.room {
                    household.room = clean(room);
                }
                household.version += 1;
                tx.put(device.as_str().as_bytes(), &household)?;
                audit::append(tx, now, audit::done(&who, "device.change", device.as_str(), "name and room"))?;
                Ok(())
            })
            .await?;
        self.changed(super::Change::Device { id: id.clone() });
        self.device(actor, id)
    }

    /// Shuts a device out (`suspend`), or lets it in again.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for all but owners, [`Refusal::NotFound`], [`Refusal::Conflict`].
    pub async fn suspend(&self, actor: &Actor, id: &DeviceId, suspend: bool) -> Result<DeviceView, Refusal> {
        if !actor.may(HubAction::SuspendDevice) {
            return Err(Refusal::RoleTooLow);
        }
        let (device, now, who) = (id.clone(), self.now(), actor.clone());
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::SuspendDevice, now)?;
                let key = device.as_str().as_bytes();
                if tx.get::<Registered>(key)?.is_none() {
                    return Err(Refusal::NotFound("device"));
                }
                let mut household = tx.get::<Household>(key)?.unwrap_or_default();
                let is = household.standing == Standing::Suspended;
                if is == suspend {
                    return Err(Refusal::Conflict(if suspend { "it is suspended already" } else { "it is not suspended" }.into()));
                }
                if suspend {
                    household.before_suspension = household.standing;
                    household.standing = Standing::Suspended;
                } else {
                    household.standing = household.before_suspension;
                }
                household.version += 1;
                tx.put(key, &household)?;
                let action = if suspend { "device.suspend" } else { "device.resume" };
                audit::append(tx, now, audit::done(&who, action, device.as_str(), ""))?;
                Ok(())
            })
            .await?;
        self.policy_changed().await;
        if suspend {
            self.close_sessions(&Subject::Device(id.clone()), CloseReason::NotAuthorized).await;
        }
        self.changed(super::Change::Device { id: id.clone() });
        self.device(actor, id)
    }

    /// Removes a device from the house: bindings, twin, secrets, certificates, retained messages. It waits again.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] below `administer`, [`Refusal::NotFound`].
    pub async fn remove_device(self: &std::sync::Arc<Self>, actor: &Actor, id: &DeviceId) -> Result<(), Refusal> {
        let (service, who, device, now) = (self.clone(), actor.clone(), id.clone(), self.now());
        let forgotten = self
            .store
            .write(move |tx| {
                let household = service.require(tx, &who, &device, Action::Administer)?.household;
                if matches!(household.standing, Standing::Suspended | Standing::Quarantined) {
                    return Err(Refusal::NotAllowed(match household.standing {
                        Standing::Suspended => Reason::Suspended,
                        _ => Reason::Quarantined,
                    }));
                }
                let forgotten = super::forget::forget_device(tx, &device, &who.subject.to_string(), now)?;
                audit::append(tx, now, audit::done(&who, "device.remove", device.as_str(), "all bindings revoked"))?;
                Ok(forgotten)
            })
            .await?;
        self.forgotten(id, forgotten).await;
        Ok(())
    }

    /// Whether `actor` may have a client certificate made for the device; the composition root makes it.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] below `administer`, [`Refusal::NotFound`].
    pub fn may_certify(&self, actor: &Actor, id: &DeviceId) -> Result<(), Refusal> {
        self.store.read(|v| self.require(v, actor, id, Action::Administer).map(|_| ()))
    }

    /// Records a certificate before it is handed out: only recorded ones sign in. Of a device's certificates the newest
    /// 20 do; the one that would end first makes room.
    ///
    /// # Errors
    /// As [`Service::may_certify`].
    pub async fn certificate_issued(
        self: &std::sync::Arc<Self>,
        actor: &Actor,
        id: &DeviceId,
        fingerprint: [u8; 32],
        expires_at: u64,
    ) -> Result<(), Refusal> {
        let (service, who, device, now) = (self.clone(), actor.clone(), id.clone(), self.now());
        self.store
            .write(move |tx| {
                service.require(tx, &who, &device, Action::Administer)?;
                let mut issued = tx.scan::<IssuedCertificate>(&device_prefix(&device), usize::MAX)?;
                issued.sort_by_key(|(_, certificate)| std::cmp::Reverse(certificate.expires_at));
                for (n, (key, certificate)) in issued.iter().enumerate() {
                    if certificate.expires_at <= now || n + 1 >= CERTIFICATES {
                        tx.delete::<IssuedCertificate>(key)?;
                    }
                }
                let (key, shown) = (certificate_key(&device, &fingerprint), data_encoding::HEXLOWER.encode(&fingerprint));
                tx.put(&key, &IssuedCertificate { fingerprint, by: who.subject.to_string(), expires_at })?;
                audit::append(tx, now, audit::done(&who, "certificate.issue", device.as_str(), format!("sha-256 {shown}")))?;
                Ok(())
            })
            .await
    }

    /// A device has connected.
    pub async fn device_connected(&self, id: &DeviceId) {
        self.presence_changed(id, true).await;
    }

    /// A connection of a device has ended; its momentary desires end with the last one.
    pub async fn device_disconnected(&self, id: &DeviceId) {
        self.presence_changed(id, false).await;
    }

    async fn presence_changed(&self, id: &DeviceId, up: bool) {
        let now = self.now();
        let (edge, online, write) = {
            // The edge is told under the lock: told later, an older one could overtake a newer one and be retained.
            let mut all = lock(&self.presence);
            let p = all.entry(id.clone()).or_default();
            let before = p.is_online();
            p.connections = if up { p.connections + 1 } else { p.connections.saturating_sub(1) };
            p.since = now;
            let edge = before != p.is_online();
            let write = edge && (!p.is_online() || now.saturating_sub(p.last_written) > LAST_SEEN_EVERY_MS);
            if write {
                p.last_written = now;
            }
            let online = p.is_online();
            if edge {
                let body = serde_json::json!({"online": online, "since_ms": now});
                self.publish(&format!("things/{id}/presence"), body.to_string(), 0, true);
            }
            (edge, online, write)
        };
        if edge {
            self.changed(super::Change::Device { id: id.clone() });
        }
        if edge && !online {
            self.drop_held_commands(id).await;
        }
        if edge
            && !online
            && let Err(error) = self.drop_momentary(|(device, _), _| device == id).await
        {
            tracing::error!(%error, device = %id, "momentary desires could not be dropped yet");
        }
        if write {
            let device = id.clone();
            let written = self.store.write::<_, StoreError, _>(move |tx| tx.put(device.as_str().as_bytes(), &LastSeen { at: now })).await;
            if let Err(error) = written {
                tracing::warn!(%error, device = %id, "last seen was not written");
            }
        }
    }

    pub(super) fn is_online(&self, id: &DeviceId) -> bool {
        lock(&self.presence).get(id).is_some_and(Presence::is_online)
    }

    /// Retained messages as they are kept.
    ///
    /// # Errors
    /// The store's fault.
    pub fn retained(&self) -> Result<Vec<(String, RetainedMessage)>, Refusal> {
        let rows = self.store.read::<_, StoreError>(|v| v.scan::<RetainedMessage>(b"", 100_000))?;
        Ok(rows.into_iter().map(|(k, m)| (String::from_utf8_lossy(&k).into_owned(), m)).collect())
    }

    /// Keeps a retained message, or forgets it.
    ///
    /// # Errors
    /// The store's fault; then it is not kept.
    pub async fn retain(&self, topic: &str, message: Option<RetainedMessage>) -> Result<(), Refusal> {
        let topic = topic.to_owned();
        self.store
            .write::<_, StoreError, _>(move |tx| match &message {
                Some(m) => tx.put(topic.as_bytes(), m),
                None => tx.delete::<RetainedMessage>(topic.as_bytes()).map(|_| ()),
            })
            .await?;
        Ok(())
    }
}

/// Key of a certificate's row: the device and the hex of the certificate's SHA-256.
pub(super) fn certificate_key(device: &DeviceId, fingerprint: &[u8; 32]) -> Vec<u8> {
    [device_prefix(device), data_encoding::HEXLOWER.encode(fingerprint).into_bytes()].concat()
}

/// Deletes what a device has said and was wished to be; the topics of its retained messages, to be taken back.
pub(super) fn forget_state(tx: &Tx<'_>, device: &DeviceId) -> Result<Vec<Vec<u8>>, StoreError> {
    tx.delete_prefix::<Twin>(&device_prefix(device))?;
    tx.delete_prefix::<Momentary>(&device_prefix(device))?;
    // What waits for it was meant for the life that ends.
    let itself = subject_prefix(&Subject::Device(device.clone()));
    tx.delete_prefix::<MqttSession>(&itself)?;
    tx.delete_prefix::<WaitingMessage>(&itself)?;
    let room = format!("things/{device}/");
    let retained: Vec<Vec<u8>> = tx.scan::<RetainedMessage>(room.as_bytes(), 10_000)?.into_iter().map(|(k, _)| k).collect();
    for topic in &retained {
        tx.delete::<RetainedMessage>(topic)?;
    }
    Ok(retained)
}
