//! Which hub is to recognise which devices, as a maker says: before a home has bought them, or for a home that has many. The
//! hub gets a registry batch, and nothing is claimed by it: that takes the code on the label.

use serde::Serialize;

use super::Makers;
use super::acts::{self, Doer};
use super::sightings::want;
use crate::cloud::people::tokens::fresh_id;
use crate::cloud::reply::Refused;
use crate::domain::ids::{BrandId, HubId};
use crate::net::problem::Problem;

/// Devices that are assigned by their ids at a time.
pub(in crate::cloud) const DEVICES_MAX: usize = 1_000;
/// Devices of one batch at most.
const BATCH_MAX: u64 = 200_000;
/// Rows that are copied at a time.
const PAGE: i64 = 5_000;

/// A batch that will be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cloud) struct Assigned {
    /// Its id.
    pub(in crate::cloud) id: String,
    /// How many devices it will have.
    pub(in crate::cloud) devices: u64,
}

/// Which devices.
#[derive(Clone, Debug)]
pub(in crate::cloud) enum Which {
    /// These.
    Devices(Vec<String>),
    /// All of a complete upload.
    Upload(i64),
}

/// How far a batch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cloud) struct Progress {
    id: String,
    /// `wanted`, `ready` or `failed`.
    state: String,
    devices: u64,
    bytes: u64,
    why: String,
}

impl Makers {
    /// Assigns devices of a brand to a hub that is linked.
    ///
    /// # Errors
    /// `not_found` for a hub that is not linked, or devices that are not the brand's: nothing is assigned then.
    pub(in crate::cloud) async fn assign(&self, doer: &Doer, brand: &BrandId, hub: &HubId, which: &Which) -> Result<Assigned, Refused> {
        let (id, now) = (hub.as_bytes().as_slice(), self.now());
        let client = self.shards.of_hub(hub).await?;
        let linked = client.query_opt("SELECT 1 FROM hubs WHERE hub_id = $1 AND unlinked_at IS NULL", &[&id]).await?;
        linked.ok_or_else(|| Problem::not_found().detail("No such hub is linked here."))?;
        drop(client);
        let batch = fresh_id().map_err(|error| Refused::fault("no randomness", &error))?;
        let devices = match which {
            Which::Devices(devices) => {
                let known = self.known(devices).await?;
                if let Some(unknown) = devices.iter().find(|device| known.get(*device).is_none_or(|known| known.brand != brand.as_str())) {
                    return Err(Problem::not_found().detail(format!("There is no device {unknown} of {brand} here.")).into());
                }
                self.put_assignments(hub, brand, &batch, &doer.who, devices).await?
            }
            Which::Upload(upload) => self.put_upload(hub, brand, &batch, &doer.who, *upload).await?,
        };
        let mut client = self.shards.of_hub(hub).await?;
        let tx = client.transaction().await?;
        want(&tx, hub, &batch, brand.as_str(), now).await?;
        acts::append(&tx, now, doer.did("devices.assign", format!("hub:{hub}"), format!("{devices} devices of {brand}, batch {batch}")))
            .await?;
        tx.commit().await?;
        self.wish.notify_one();
        Ok(Assigned { id: batch, devices })
    }

    async fn put_upload(&self, hub: &HubId, brand: &BrandId, batch: &str, by: &str, upload: i64) -> Result<u64, Refused> {
        let mut all = 0;
        for shard in 0..self.shards.count() {
            let mut last = String::new();
            loop {
                let client = self.shards.at(shard).await?;
                let rows = client
                    .query(
                        "SELECT device_id FROM identities WHERE upload = $1 AND device_id > $2 ORDER BY device_id LIMIT $3",
                        &[&upload, &last, &PAGE],
                    )
                    .await?;
                drop(client);
                let devices: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                let Some(end) = devices.last() else { break };
                last.clone_from(end);
                all += self.put_assignments(hub, brand, batch, by, &devices).await?;
                if all > BATCH_MAX {
                    let detail = "A batch has at most 200000 devices: assign a part of them by their ids.";
                    return Err(Problem::invalid(detail).into());
                }
            }
        }
        Ok(all)
    }

    async fn put_assignments(&self, hub: &HubId, brand: &BrandId, batch: &str, by: &str, devices: &[String]) -> Result<u64, Refused> {
        let client = self.shards.of_hub(hub).await?;
        let put = client
            .execute(
                "INSERT INTO assignments (hub_id, device_id, brand, batch, by_, at) SELECT DISTINCT $1::bytea, d, $3, $4, $5, $6::bigint \
                 FROM unnest($2::text[]) AS d \
                 ON CONFLICT (hub_id, device_id) DO UPDATE SET batch = excluded.batch, by_ = excluded.by_, at = excluded.at",
                &[&hub.as_bytes().as_slice(), &devices, &brand.as_str(), &batch, &by, &self.now().cast_signed()],
            )
            .await?;
        Ok(put)
    }

    /// How far a batch of a brand for a hub is.
    ///
    /// # Errors
    /// `not_found`.
    pub(in crate::cloud) async fn batch_progress(&self, brand: &BrandId, hub: &HubId, id: &str) -> Result<Progress, Refused> {
        let client = self.shards.of_hub(hub).await?;
        let row = client
            .query_opt(
                "SELECT id, state, devices, bytes, why FROM batches WHERE hub_id = $1 AND id = $2 AND brand = $3",
                &[&hub.as_bytes().as_slice(), &id, &brand.as_str()],
            )
            .await?;
        let row = row.ok_or_else(Problem::not_found)?;
        let number = |at: usize| row.get::<_, i64>(at).unsigned_abs();
        Ok(Progress { id: row.get(0), state: row.get(1), devices: number(2), bytes: number(3), why: row.get(4) })
    }
}
