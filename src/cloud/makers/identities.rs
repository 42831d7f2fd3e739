//! The identities that are known, and what a hub may be given of them: never the device key, only what is derived from it
//! for that hub alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Makers;
use super::staging::{SEALED_AS, complete};
use crate::cloud::reply::Refused;
use crate::domain::batch::Entry;
use crate::domain::claim::ClaimHash;
use crate::domain::ids::{DeviceId, HubId, ModelName};
use crate::domain::keys::{DeviceKey, Transcript, hub_scoped};

/// An identity, its key still sealed.
#[derive(Clone)]
pub(in crate::cloud) struct Known {
    pub(in crate::cloud) device: String,
    pub(in crate::cloud) brand: String,
    pub(in crate::cloud) model: String,
    pub(in crate::cloud) hardware: String,
    pub(in crate::cloud) serial: String,
    claim_hash: Vec<u8>,
    made: i64,
    sealed: Vec<u8>,
}

impl Makers {
    /// Which of these devices are known, from complete uploads.
    pub(in crate::cloud) async fn known(&self, devices: &[String]) -> Result<HashMap<String, Known>, Refused> {
        let mut by_shard: HashMap<usize, Vec<&str>> = HashMap::new();
        for device in devices {
            by_shard.entry(self.shards.index_of_text(device)).or_default().push(device);
        }
        let (mut found, mut uploads) = (Vec::new(), BTreeSet::new());
        for (shard, devices) in by_shard {
            let client = self.shards.at(shard).await?;
            let rows = client
                .query(
                    "SELECT device_id, brand, model, hardware, serial, claim_hash, made, device_key, upload FROM identities \
                     WHERE device_id = ANY($1)",
                    &[&devices],
                )
                .await?;
            for row in rows {
                let upload: i64 = row.get(8);
                uploads.insert(upload);
                let known = Known {
                    device: row.get(0),
                    brand: row.get(1),
                    model: row.get(2),
                    hardware: row.get(3),
                    serial: row.get(4),
                    claim_hash: row.get(5),
                    made: row.get(6),
                    sealed: row.get(7),
                };
                found.push((upload, known));
            }
        }
        let complete = complete(&self.shards, &uploads).await?;
        Ok(found.into_iter().filter(|(upload, _)| complete.contains(upload)).map(|(_, known)| (known.device.clone(), known)).collect())
    }

    /// What a hub is given of these: derived for it alone, in the order of their ids.
    pub(in crate::cloud) async fn entries(&self, hub: &HubId, mut known: Vec<Known>) -> Result<Vec<Entry>, Refused> {
        known.sort_by(|a, b| a.device.cmp(&b.device));
        let (region, hub) = (Arc::clone(&self.region), *hub);
        let derived = tokio::task::spawn_blocking(move || {
            known.into_iter().map(|known| known.entry(&region, &hub)).collect::<Result<Vec<_>, String>>()
        });
        let derived = derived.await.map_err(|error| Refused::fault("a worker failed", &error))?;
        derived.map_err(|why| Refused::fault("an identity does not open", &why))
    }
}

impl Known {
    /// Whether what a device said when this hub paired it was said with its key. Derived for this hub, and gone with the answer.
    pub(super) fn shows(&self, region: &super::region::RegionKey, hub: &HubId, said: &Transcript) -> Result<bool, String> {
        let device = DeviceId::parse(&self.device).map_err(|_| format!("{}: no device id", self.device))?;
        Ok(said.shows(&hub_scoped(&self.device_key(region)?, hub), hub, &device))
    }

    /// The device's own key: for what is derived from it, and for nobody else.
    pub(super) fn device_key(&self, region: &super::region::RegionKey) -> Result<DeviceKey, String> {
        let key = region.open_key(&[SEALED_AS, &self.device], &self.sealed).map_err(|error| format!("{}: {error}", self.device))?;
        Ok(DeviceKey::from_bytes(*key))
    }

    fn entry(self, region: &super::region::RegionKey, hub: &HubId) -> Result<Entry, String> {
        let key = self.device_key(region)?;
        let wrong = |_| format!("{}: not as it was uploaded", self.device);
        Ok(Entry {
            hub_key: hub_scoped(&key, hub),
            device_id: DeviceId::parse(&self.device).map_err(|_| format!("{}: no device id", self.device))?,
            model: ModelName::parse(&self.model).map_err(|_| format!("{}: no model", self.device))?,
            claim_hash: ClaimHash(self.claim_hash.as_slice().try_into().map_err(wrong)?),
            hardware: self.hardware,
            serial: self.serial,
            made: self.made.unsigned_abs(),
        })
    }
}
