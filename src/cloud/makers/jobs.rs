//! Registry batches on their way: made in the background, chunk by chunk, kept in parts, and offered to the hub when they are
//! whole. Who makes one has it for a while: should that process die, another begins anew.

use std::collections::BTreeSet;

use deadpool_postgres::Object;

use super::Makers;
use super::acts::{self, Doer};
use super::batch_file::{BatchFile, CHUNK, Finished, Summary};
use super::tenants;
use crate::cloud::reply::Refused;
use crate::domain::batch::Entry;
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::{BatchOffer, ItemBody};
use crate::net::problem::Problem;

/// Bytes of a part, all but the last.
pub(in crate::cloud) const PART: usize = 512 * 1024;
/// For how long a process has a batch to itself, in ms, from its last sign of life.
const LEASE_MS: u64 = 60_000;
/// How often it is tried.
const TRIES: i64 = 5;
/// After how long a batch that is offered is forgotten, in ms.
const KEPT_MS: u64 = 90 * 24 * 3600 * 1000;

/// A batch that is to be made.
struct Job {
    hub: HubId,
    id: String,
    brand: String,
    recipient: String,
}

impl Makers {
    /// Makes what is wanted for a hub.
    pub(in crate::cloud) async fn make_batches_of(&self, hub: &HubId) -> Result<(), Refused> {
        let client = self.shards.of_hub(hub).await?;
        let rows = client
            .query("SELECT id FROM batches WHERE hub_id = $1 AND state = 'wanted' ORDER BY at LIMIT 100", &[&hub.as_bytes().as_slice()])
            .await?;
        drop(client);
        for row in rows {
            self.make(hub, row.get(0)).await?;
        }
        Ok(())
    }

    /// Makes a batch, unless somebody else does.
    async fn make(&self, hub: &HubId, id: &str) -> Result<(), Refused> {
        let Some(job) = self.lease(hub, id).await? else { return Ok(()) };
        let Err(refused) = self.make_now(&job).await else { return Ok(()) };
        let why = format!("{}: {}", refused.problem.title, refused.problem.detail);
        tracing::warn!(%hub, batch = id, why, "a batch could not be made; it is tried again");
        let client = self.shards.of_hub(hub).await?;
        client
            .execute(
                "UPDATE batches SET state = CASE WHEN tries >= $3 THEN 'failed' ELSE state END, why = $4 WHERE hub_id = $1 AND id = $2 AND state = 'wanted'",
                &[&hub.as_bytes().as_slice(), &id, &TRIES, &why],
            )
            .await?;
        Ok(())
    }

    async fn lease(&self, hub: &HubId, id: &str) -> Result<Option<Job>, Refused> {
        let (now, client) = (self.now(), self.shards.of_hub(hub).await?);
        let row = client
            .query_opt(
                "UPDATE batches j SET leased_until = $4, tries = tries + 1 FROM hubs h \
                 WHERE j.hub_id = $1 AND j.id = $2 AND j.state = 'wanted' AND j.leased_until < $3 AND h.hub_id = j.hub_id AND h.unlinked_at IS NULL \
                 RETURNING j.brand, h.recipient",
                &[&hub.as_bytes().as_slice(), &id, &now.cast_signed(), &(now + LEASE_MS).cast_signed()],
            )
            .await?;
        Ok(row.map(|row| Job { hub: *hub, id: id.to_owned(), brand: row.get(0), recipient: row.get(1) }))
    }

    async fn make_now(&self, job: &Job) -> Result<(), Refused> {
        let fault = |error: &dyn std::fmt::Display| Refused::fault("a batch cannot be made", error);
        let mut batch_id = [0; 16];
        getrandom::fill(&mut batch_id).map_err(|error| fault(&error))?;
        let mut summary = Summary::default();
        let mut last = String::new();
        while let Some(entries) = self.next_entries(job, &mut last).await? {
            summary.add(&entries).map_err(|error| fault(&error))?;
            self.still_here(job).await?;
        }
        let devices = summary.devices();
        if devices == 0 {
            // All of them have gone into a later batch.
            let client = self.shards.of_hub(&job.hub).await?;
            let statement = "UPDATE batches SET state = 'failed', why = 'no devices' WHERE hub_id = $1 AND id = $2";
            client.execute(statement, &[&job.hub.as_bytes().as_slice(), &job.id]).await?;
            return Ok(());
        }
        let first = self.shards.first().await?;
        let signer = tenants::signer(&first, &self.region, &job.brand).await.map_err(|error| fault(&error))?;
        let names: Vec<String> = summary.models().iter().map(ToString::to_string).collect();
        let models = tenants::statements(&first, &job.brand, &names).await.map_err(|error| fault(&error))?;
        drop(first);
        if models.len() != names.len() {
            return Err(fault(&"a model of the devices is not here any more"));
        }
        let begun = BatchFile::begin(&signer, job.hub, &job.recipient, batch_id, self.now() / 1000, models, summary);
        let mut file = begun.map_err(|error| fault(&error))?;
        let mut parts = Parts::begin(self, job).await?;
        last.clear();
        while let Some(entries) = self.next_entries(job, &mut last).await? {
            file.add(&entries).map_err(|error| fault(&error))?;
            parts.add(file.take()).await?;
            self.still_here(job).await?;
        }
        let (rest, finished) = file.finish().map_err(|error| fault(&error))?;
        parts.add(rest).await?;
        parts.end().await?;
        self.offer(job, devices, &finished).await
    }

    /// The next devices of a batch, in the order of their ids.
    async fn next_entries(&self, job: &Job, last: &mut String) -> Result<Option<Vec<Entry>>, Refused> {
        loop {
            let client = self.shards.of_hub(&job.hub).await?;
            let rows = client
                .query(
                    "SELECT device_id FROM assignments WHERE hub_id = $1 AND batch = $2 AND device_id > $3 ORDER BY device_id LIMIT $4",
                    &[&job.hub.as_bytes().as_slice(), &job.id, &*last, &i64::try_from(CHUNK).unwrap_or(1000)],
                )
                .await?;
            drop(client);
            let devices: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            let Some(end) = devices.last() else { return Ok(None) };
            last.clone_from(end);
            let known = self.known(&devices).await?;
            let known = known.into_values().filter(|known| known.brand == job.brand).collect::<Vec<_>>();
            if !known.is_empty() {
                return self.entries(&job.hub, known).await.map(Some);
            }
        }
    }

    async fn still_here(&self, job: &Job) -> Result<(), Refused> {
        let client = self.shards.of_hub(&job.hub).await?;
        client
            .execute(
                "UPDATE batches SET leased_until = $3 WHERE hub_id = $1 AND id = $2",
                &[&job.hub.as_bytes().as_slice(), &job.id, &(self.now() + LEASE_MS).cast_signed()],
            )
            .await?;
        Ok(())
    }

    /// It is whole: the hub is told where it is.
    async fn offer(&self, job: &Job, devices: u64, finished: &Finished) -> Result<(), Refused> {
        let (id, now) = (job.hub.as_bytes().as_slice(), self.now());
        let (devices, bytes) = (devices.cast_signed(), finished.bytes.cast_signed());
        let mut client = self.shards.of_hub(&job.hub).await?;
        let tx = client.transaction().await?;
        let done = tx
            .execute(
                "UPDATE batches SET state = 'ready', devices = $3, bytes = $4, sha256 = $5, at = $6, why = '' \
                 WHERE hub_id = $1 AND id = $2 AND state = 'wanted'",
                &[&id, &job.id, &devices, &bytes, &finished.sha256.as_slice(), &now.cast_signed()],
            )
            .await?;
        if done == 0 {
            return Ok(());
        }
        let offer = BatchOffer {
            brand: job.brand.clone(),
            id: job.id.clone(),
            bytes: finished.bytes,
            sha256: data_encoding::HEXLOWER.encode(&finished.sha256),
            devices: devices.unsigned_abs(),
        };
        self.send_in(&tx, &job.hub, &job.id, &ItemBody::Batch(offer)).await?;
        let act = Doer::cloud(&job.brand).did("batch.offer", format!("hub:{}", job.hub), format!("{devices} devices in batch {}", job.id));
        acts::append(&tx, now, act).await?;
        tx.commit().await?;
        Ok(())
    }

    /// How long a batch is that is whole, in bytes.
    ///
    /// # Errors
    /// `not_found`.
    pub(in crate::cloud) async fn batch_length(&self, hub: &HubId, id: &str) -> Result<u64, Refused> {
        let client = self.shards.of_hub(hub).await?;
        let statement = client.prepare_cached("SELECT bytes FROM batches WHERE hub_id = $1 AND id = $2 AND state = 'ready'").await?;
        let row = client.query_opt(&statement, &[&hub.as_bytes().as_slice(), &id]).await?;
        let row = row.ok_or_else(|| Problem::not_found().detail("This batch is not here, or not any more."))?;
        Ok(row.get::<_, i64>(0).unsigned_abs())
    }

    /// The bytes of a batch from `from`, `count` of them, which must be there.
    ///
    /// # Errors
    /// The database's.
    pub(in crate::cloud) async fn batch_bytes(&self, hub: &HubId, id: &str, from: u64, count: u64) -> Result<Vec<u8>, Refused> {
        let (size, count) = (PART as u64, usize::try_from(count).unwrap_or(0));
        let (first, until) = (from / size, (from + count as u64).div_ceil(size));
        let client = self.shards.of_hub(hub).await?;
        let statement = client
            .prepare_cached("SELECT body FROM batch_parts WHERE hub_id = $1 AND id = $2 AND part >= $3 AND part < $4 ORDER BY part")
            .await?;
        let rows = client.query(&statement, &[&hub.as_bytes().as_slice(), &id, &first.cast_signed(), &until.cast_signed()]).await?;
        let mut bytes = Vec::with_capacity(count);
        let mut skip = usize::try_from(from % size).unwrap_or(0);
        for row in rows {
            let body: &[u8] = row.get(0);
            bytes.extend(body.get(skip..).unwrap_or_default().iter().take(count - bytes.len()));
            skip = 0;
        }
        if bytes.len() == count { Ok(bytes) } else { Err(Refused::fault("a batch has lost a part", &id)) }
    }

    /// What waits in all databases: what was reported and not worked on, and batches. Old ones are forgotten.
    pub(in crate::cloud) async fn work(&self) -> Result<(), Refused> {
        let now = self.now();
        for shard in 0..self.shards.count() {
            let client = self.shards.at(shard).await?;
            let rows = client
                .query(
                    "SELECT DISTINCT n.hub_id FROM device_news n JOIN hubs h ON h.hub_id = n.hub_id AND h.unlinked_at IS NULL WHERE n.due <= $1 \
                     UNION SELECT hub_id FROM batches WHERE state = 'wanted' AND leased_until < $1 LIMIT 1000",
                    &[&now.cast_signed()],
                )
                .await?;
            let hubs: BTreeSet<Vec<u8>> = rows.iter().map(|row| row.get(0)).collect();
            self.forget_old(&client, now).await?;
            drop(client);
            for hub in hubs.iter().filter_map(|hub| <[u8; 16]>::try_from(hub.as_slice()).ok()).map(HubId::from_bytes) {
                if let Err(refused) = self.work_on(&hub).await {
                    tracing::warn!(%hub, code = refused.problem.code, "what a hub reported is worked on later");
                }
            }
        }
        Ok(())
    }

    async fn forget_old(&self, client: &Object, now: u64) -> Result<(), Refused> {
        let before = now.saturating_sub(KEPT_MS).cast_signed();
        client.execute("DELETE FROM batches WHERE state <> 'wanted' AND at < $1", &[&before]).await?;
        Ok(())
    }
}

/// Writes the file of a batch in parts of one size.
struct Parts<'a> {
    makers: &'a Makers,
    job: &'a Job,
    waiting: Vec<u8>,
    next: i64,
}

impl<'a> Parts<'a> {
    async fn begin(makers: &'a Makers, job: &'a Job) -> Result<Parts<'a>, Refused> {
        let client = makers.shards.of_hub(&job.hub).await?;
        client.execute("DELETE FROM batch_parts WHERE hub_id = $1 AND id = $2", &[&job.hub.as_bytes().as_slice(), &job.id]).await?;
        Ok(Parts { makers, job, waiting: Vec::with_capacity(PART * 2), next: 0 })
    }

    async fn add(&mut self, bytes: Vec<u8>) -> Result<(), Refused> {
        self.waiting.extend(bytes);
        while self.waiting.len() >= PART {
            let rest = self.waiting.split_off(PART);
            let part = std::mem::replace(&mut self.waiting, rest);
            self.put(&part).await?;
        }
        Ok(())
    }

    async fn end(mut self) -> Result<(), Refused> {
        let last = std::mem::take(&mut self.waiting);
        if last.is_empty() { Ok(()) } else { self.put(&last).await }
    }

    async fn put(&mut self, part: &[u8]) -> Result<(), Refused> {
        let client = self.makers.shards.of_hub(&self.job.hub).await?;
        client
            .execute(
                "INSERT INTO batch_parts (hub_id, id, part, body) VALUES ($1, $2, $3, $4)",
                &[&self.job.hub.as_bytes().as_slice(), &self.job.id, &self.next, &part],
            )
            .await?;
        self.next += 1;
        Ok(())
    }
}
