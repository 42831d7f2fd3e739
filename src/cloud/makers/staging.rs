//! Identities on their way into the databases: each chunk of lines is sealed, copied (`COPY`) to a table of the connection's
//! own, and taken from there. An identity counts once its upload is complete; until then nobody is told of it.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;

use deadpool_postgres::Object;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use super::line::Identity;
use super::region::{RegionKey, SealError};
use crate::cloud::pool::{DatabaseError, Shards};
use crate::domain::ids::{BrandId, ModelName};

/// To what a device key is sealed, before the device's id.
pub const SEALED_AS: &str = "device key";
const STAGING: &str = "CREATE TEMP TABLE IF NOT EXISTS identity_staging (line bigint, device_id text, model text, hardware text, \
     serial text, claim_hash bytea, made bigint, device_key bytea) ON COMMIT DELETE ROWS";
const COPY: &str =
    "COPY identity_staging (line, device_id, model, hardware, serial, claim_hash, made, device_key) FROM STDIN (FORMAT binary)";
const TYPES: [Type; 8] = [Type::INT8, Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT, Type::BYTEA, Type::INT8, Type::BYTEA];
const TAKE: &str = "INSERT INTO identities (device_id, brand, model, hardware, serial, claim_hash, made, device_key, upload) \
     SELECT device_id, $1, model, hardware, serial, claim_hash, made, device_key, $2 FROM identity_staging \
     ON CONFLICT (device_id) DO NOTHING";
/// Who was there before: lines of other uploads, and of this one with another key.
const MET: &str = "SELECT s.line, s.device_id, i.upload, i.brand = $1 AND i.claim_hash = s.claim_hash \
     FROM identity_staging s JOIN identities i USING (device_id) \
     WHERE i.upload <> $2 OR i.claim_hash <> s.claim_hash ORDER BY s.line";

/// What is wrong with a line; the text is for a person.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// It does not hold.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// The device stands here with another key, or is another brand's.
    #[error("line {line}: the device {device} is known here with another key or of another brand; one of the two is not genuine")]
    Other {
        /// Its number, from 1.
        line: u64,
        /// The device.
        device: String,
    },
    /// The device stands in an upload that goes on elsewhere.
    #[error("line {line}: the device {device} stands in another upload, which is not complete: finish or end that one first")]
    Unfinished {
        /// Its number, from 1.
        line: u64,
        /// The device.
        device: String,
    },
    /// The seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<tokio_postgres::Error> for ChunkError {
    fn from(error: tokio_postgres::Error) -> Self {
        ChunkError::Database(error.into())
    }
}

/// A line's identity, sealed.
#[derive(Debug)]
pub struct Sealed {
    line: i64,
    device: String,
    model: String,
    hardware: String,
    serial: String,
    claim_hash: [u8; 32],
    made: i64,
    key: Vec<u8>,
}

/// Reads and seals whole lines. `first` is the number of the first, from 1.
///
/// # Errors
/// [`ChunkError::Line`] for the first line that does not hold, or of a model that the brand has not here.
pub fn seal_lines(
    text: &[u8],
    first: u64,
    brand: &BrandId,
    models: &BTreeSet<ModelName>,
    region: &RegionKey,
) -> Result<Vec<Sealed>, ChunkError> {
    let mut sealed = Vec::new();
    for (line, text) in (first..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let identity = Identity::read(text, brand).map_err(|why| ChunkError::Line { line, why: why.to_string() })?;
        if !models.contains(&identity.model) {
            let why = format!("model: {} has no model {} here; the operator adds the signed model first", brand, identity.model);
            return Err(ChunkError::Line { line, why });
        }
        let key = region.seal(&[SEALED_AS, identity.device.as_str()], identity.key.as_bytes())?;
        sealed.push(Sealed {
            line: line.cast_signed(),
            device: identity.device.as_str().to_owned(),
            model: identity.model.as_str().to_owned(),
            hardware: identity.hardware,
            serial: identity.serial,
            claim_hash: identity.claim_hash,
            made: identity.made.cast_signed(),
            key,
        });
    }
    Ok(sealed)
}

/// Connections to the shards that an upload has needed so far, each with its staging table.
pub(in crate::cloud) struct Staging {
    shards: Shards,
    brand: BrandId,
    upload: i64,
    open: HashMap<usize, Object>,
}

impl Staging {
    /// For an upload of a brand, by its number.
    pub(in crate::cloud) fn new(shards: Shards, brand: BrandId, upload: i64) -> Staging {
        Staging { shards, brand, upload, open: HashMap::new() }
    }

    /// Takes a chunk: all of it on each shard, or nothing there. Who has it already in this upload is left alone, so that it
    /// may be sent again. Gives how many of its devices were known from earlier, complete uploads.
    ///
    /// # Errors
    /// [`ChunkError`].
    pub(in crate::cloud) async fn take(&mut self, chunk: Vec<Sealed>) -> Result<u64, ChunkError> {
        let mut by_shard: HashMap<usize, Vec<Sealed>> = HashMap::new();
        for sealed in chunk {
            by_shard.entry(self.shards.index_of_text(&sealed.device)).or_default().push(sealed);
        }
        let mut known = 0;
        for (shard, rows) in by_shard {
            known += self.take_at(shard, &rows).await?;
        }
        Ok(known)
    }

    async fn take_at(&mut self, shard: usize, rows: &[Sealed]) -> Result<u64, ChunkError> {
        let client = match self.open.entry(shard) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                let client = self.shards.at(shard).await.map_err(DatabaseError::from)?;
                client.batch_execute(STAGING).await?;
                place.insert(client)
            }
        };
        let tx = client.transaction().await?;
        let sink = tx.copy_in(COPY).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &TYPES));
        for row in rows {
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
                [&row.line, &row.device, &row.model, &row.hardware, &row.serial, &row.claim_hash.as_slice(), &row.made, &row.key];
            writer.as_mut().write(&values).await?;
        }
        writer.finish().await?;
        let taken = tx.execute(TAKE, &[&self.brand.as_str(), &self.upload]).await?;
        let mut known = 0;
        if taken != rows.len() as u64 {
            let mut others = BTreeSet::new();
            let mut known_in = Vec::new();
            for met in tx.query(MET, &[&self.brand.as_str(), &self.upload]).await? {
                let (line, device, upload, same): (i64, String, i64, bool) = (met.get(0), met.get(1), met.get(2), met.get(3));
                if !same {
                    return Err(ChunkError::Other { line: line.unsigned_abs(), device });
                }
                others.insert(upload);
                known_in.push((line, device, upload));
            }
            let complete = complete(&self.shards, &others).await?;
            if let Some((line, device, _)) = known_in.iter().find(|(_, _, upload)| !complete.contains(upload)) {
                return Err(ChunkError::Unfinished { line: line.unsigned_abs(), device: device.clone() });
            }
            known = known_in.len() as u64;
        }
        tx.commit().await?;
        Ok(known)
    }
}

/// Which of these uploads are complete. What is complete stays so.
///
/// # Errors
/// The database's.
pub(in crate::cloud) async fn complete(shards: &Shards, uploads: &BTreeSet<i64>) -> Result<BTreeSet<i64>, DatabaseError> {
    if uploads.is_empty() {
        return Ok(BTreeSet::new());
    }
    let asked: Vec<i64> = uploads.iter().copied().collect();
    let client = shards.first().await?;
    let rows = client.query("SELECT number FROM uploads WHERE number = ANY($1) AND state = 'complete'", &[&asked]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
