//! Forgetting a device: what is left of it is its registered identity, and that it waits; of a stock device nothing. For a removal, and for a reset by
//! hand; who may do either is decided before.

use super::devices::forget_state;
use super::{Change, CloseReason, Service, lock};
use crate::domain::binding::{Binding, Subject};
use crate::domain::device::{Household, LastSeen, Origin, Registered, Standing};
use crate::domain::ids::DeviceId;
use crate::store::tables::{BindingIndex, Credential, Evidence, IssuedCertificate, PairingTranscript, device_prefix, subject_prefix};
use crate::store::{Read, StoreError, Tx};

/// What was forgotten, and what is to be taken back after the commit.
pub(super) struct Forgotten {
    /// Whose rights on the device ended.
    pub(super) holders: Vec<Subject>,
    /// On which devices its own rights ended.
    pub(super) driven: Vec<DeviceId>,
    /// Topics of its retained messages.
    retained: Vec<Vec<u8>>,
}

/// Ends every right on the device and of it, and deletes what the household has given it and what it has said. The
/// registered identity, its key and its counters stay: they are the device's own. One that is shut out stays so.
pub(super) fn forget_device(tx: &Tx<'_>, device: &DeviceId, by: &str, now: u64) -> Result<Forgotten, StoreError> {
    let (key, prefix) = (device.as_str().as_bytes(), device_prefix(device));
    let (holders, driven) = end_rights(tx, device, by, now)?;
    super::mirror::end_life_of(tx, device, by, now)?;
    tx.delete_prefix::<IssuedCertificate>(&prefix)?;
    tx.delete::<Credential>(key)?;
    tx.delete::<PairingTranscript>(key)?;
    super::firmware::forget_choices(tx, device, now)?;
    let retained = forget_state(tx, device)?;
    let before = tx.get::<Household>(key)?.unwrap_or_default();
    let standing = if before.standing.admits() { Standing::Waiting } else { before.standing };
    // One that is suspended on top of its quarantine keeps both.
    let below = if standing == Standing::Suspended { before.before_suspension } else { Standing::Waiting };
    let before_suspension = if below == Standing::Quarantined { below } else { Standing::Waiting };
    if standing == Standing::Waiting {
        tx.delete_prefix::<Evidence>(&prefix)?;
    }
    let of_hub = tx.get::<Registered>(key)?.is_some_and(|r| r.origin == Origin::Unattested);
    if of_hub && standing == Standing::Waiting {
        // The hub made this identity: without its password it is nothing, and nobody claims it.
        tx.delete::<Registered>(key)?;
        tx.delete::<Household>(key)?;
        tx.delete::<LastSeen>(key)?;
        return Ok(Forgotten { holders, driven, retained });
    }
    tx.put(key, &Household { standing, before_suspension, version: before.version + 1, ..Household::default() })?;
    Ok(Forgotten { holders, driven, retained })
}

/// Ends the rights on a device, and those that it holds on others: whose they were, and on which others.
pub(super) fn end_rights(tx: &Tx<'_>, device: &DeviceId, by: &str, now: u64) -> Result<(Vec<Subject>, Vec<DeviceId>), StoreError> {
    let mut holders = Vec::new();
    for (_, binding) in tx.scan::<Binding>(&device_prefix(device), usize::MAX)? {
        super::bindings::revoke_in(tx, device, &binding.subject, by, now)?;
        holders.push(binding.subject);
    }
    let itself = Subject::Device(device.clone());
    let mut driven = Vec::new();
    for (_, index) in tx.scan::<BindingIndex>(&subject_prefix(&itself), usize::MAX)? {
        super::bindings::revoke_in(tx, &index.device, &itself, by, now)?;
        driven.push(index.device);
    }
    Ok((holders, driven))
}

impl Service {
    /// What follows after the commit: live connections lose it, and nothing it has said comes back.
    pub(super) async fn forgotten(&self, id: &DeviceId, forgotten: Forgotten) {
        self.forgotten_for(id, forgotten, None).await;
    }

    /// The same for a device that was claimed anew in the same transaction, at `claimed_at`.
    pub(super) async fn forgotten_for(&self, id: &DeviceId, forgotten: Forgotten, claimed_at: Option<u64>) {
        let mut retained = forgotten.retained;
        lock(&self.momentary).retain(|(device, _), _| device != id);
        self.forget_offer(id);
        lock(&self.pace).forget(id);
        lock(&self.watches).forget(id);
        self.policy_changed().await;
        self.close_sessions(&Subject::Device(id.clone()), CloseReason::Administrative).await;
        // What its last session was about to write when this was committed must not reach the next household.
        let device = id.clone();
        let late = self.store.write::<_, StoreError, _>(move |tx| {
            let household = tx.get::<Household>(device.as_str().as_bytes())?.unwrap_or_default();
            if household.claimed_at == claimed_at { forget_state(tx, &device) } else { Ok(Vec::new()) }
        });
        match late.await {
            Ok(more) => retained.extend(more),
            Err(error) => tracing::error!(%error, device = %id, "what a device wrote last could not be deleted"),
        }
        lock(&self.momentary).retain(|(device, _), _| device != id);
        lock(&self.commands).forget(id);
        for topic in retained {
            self.publish(&String::from_utf8_lossy(&topic), "", 0, true);
        }
        self.publish(&format!("things/{id}/presence"), "", 0, true);
        self.changed(Change::Removed { id: id.clone() });
        for device in forgotten.driven {
            self.changed(Change::Device { id: device });
        }
    }
}
