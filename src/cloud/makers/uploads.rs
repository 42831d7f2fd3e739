//! Uploads of device identities: a stream of lines that may be cut anywhere and goes on from the byte where it was cut. An
//! upload counts as a whole or not at all: one row says that it is complete, and before that nobody is told of any of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio_postgres::Row;
use zeroize::Zeroizing;

use super::acts::{self, Doer};
use super::line::LINE_MAX;
use super::region::RegionKey;
use super::staging::{ChunkError, Sealed, Staging, seal_lines};
use crate::cloud::pool::{DatabaseError, Shards};
use crate::domain::ids::{BrandId, ModelName};

/// Bytes that are read before lines are taken.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Lines of one upload at most.
const LINES_MAX: u64 = 10_000_000;
/// Uploads of one brand that go on at the same time.
const OPEN_MAX: i64 = 20;
/// After how long an upload that nobody goes on with is ended, in ms.
const ABANDONED_MS: u64 = 7 * 24 * 3600 * 1000;
/// Rows that are taken away at a time.
const ROWS_AT_A_TIME: i64 = 10_000;
/// The columns of [`Upload`].
const COLUMNS: &str = "id, number, brand, state, at_byte, at_line, length, devices, known, started_at, changed_at";

/// A chunk on its way from lines to sealed rows.
type Sealing = tokio::task::JoinHandle<Result<Vec<Sealed>, ChunkError>>;

/// An upload as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upload {
    /// Its id, which the maker chose.
    pub id: String,
    /// The brand of all its devices.
    pub brand: String,
    /// `receiving`, `complete` or `ended`.
    pub state: String,
    /// The byte to go on from.
    pub offset: u64,
    /// Lines up to there.
    pub lines: u64,
    /// Bytes in all, if the maker has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Devices that are new with it.
    pub devices: u64,
    /// Devices that were known already, with the same key.
    pub known: u64,
    /// When it began, ms since 1970.
    pub started_at: u64,
    /// When it last went on.
    pub changed_at: u64,
    #[serde(skip)]
    number: i64,
}

/// Why an upload does not go on; the text is for a person.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is none of this id for this brand.
    #[error("there is no such upload of this brand")]
    Unknown,
    /// Ended, or complete with another length.
    #[error("the upload has ended; begin another one with an id of its own")]
    Over,
    /// The bytes do not follow those that are here.
    #[error("go on from byte {0}: up to there it is here")]
    Offset(u64),
    /// More, or fewer, bytes than were announced.
    #[error("the upload has another length than it announced")]
    Length,
    /// Too many of them.
    #[error("{0}")]
    TooMany(&'static str),
    /// An id that is none.
    #[error("Upload-Id: 1 to 64 of A-Z a-z 0-9 _ -")]
    Id,
    /// The connection was cut: everything up to this byte is here.
    #[error("the connection was cut; go on from byte {0}")]
    Cut(u64),
    /// A line.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A worker failed.
    #[error("a worker failed")]
    Worker,
}

impl From<DatabaseError> for UploadError {
    fn from(error: DatabaseError) -> Self {
        UploadError::Chunk(error.into())
    }
}

impl From<tokio_postgres::Error> for UploadError {
    fn from(error: tokio_postgres::Error) -> Self {
        UploadError::Chunk(error.into())
    }
}

impl From<deadpool_postgres::PoolError> for UploadError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        DatabaseError::from(error).into()
    }
}

/// What a maker says when it sends a part.
#[derive(Clone, Debug)]
pub struct Part {
    /// The upload.
    pub id: String,
    /// The brand of all its devices.
    pub brand: BrandId,
    /// From which byte of the whole.
    pub offset: u64,
    /// Bytes of the whole, if it is known.
    pub length: Option<u64>,
    /// Whether this is the last part, when it is not said by the length.
    pub last: bool,
}

/// Takes uploads.
#[derive(Clone)]
pub(in crate::cloud) struct Uploads {
    pub(in crate::cloud) shards: Shards,
    pub(in crate::cloud) region: Arc<RegionKey>,
}

impl Uploads {
    /// Takes a part of an upload of `service`, chunk by chunk; what was taken stays when the stream is cut. `now` is asked
    /// again and again.
    ///
    /// # Errors
    /// [`UploadError`].
    pub(in crate::cloud) async fn receive<E>(
        &self,
        doer: &Doer,
        service: &str,
        part: &Part,
        now: impl Fn() -> u64,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Upload, UploadError> {
        let mut upload = self.begin(service, part, now()).await?;
        if upload.state == "complete" {
            return Ok(upload);
        }
        if upload.offset != part.offset {
            return Err(UploadError::Offset(upload.offset));
        }
        let models: Arc<BTreeSet<ModelName>> = Arc::new(self.models(&part.brand).await?);
        let mut staging = Staging::new(self.shards.clone(), part.brand.clone(), upload.number);
        let mut body = std::pin::pin!(body);
        let (mut buffer, mut ended, mut cut) = (Zeroizing::new(Vec::with_capacity(CHUNK_BYTES * 2)), false, false);
        // The next chunk is read and sealed while the database takes the one before.
        let mut sealing: Option<(Sealing, u64, u64)> = None;
        let (mut read_to, mut line) = (upload.offset, upload.lines);
        while !ended || sealing.is_some() {
            while !ended && buffer.len() < CHUNK_BYTES {
                match body.next().await {
                    Some(Ok(mut bytes)) => {
                        buffer.extend_from_slice(&bytes);
                        bytes.advance(bytes.len());
                    }
                    Some(Err(_)) => (ended, cut) = (true, true),
                    None => ended = true,
                }
            }
            let complete = ended && !cut && part.length.map_or(part.last, |length| read_to + buffer.len() as u64 >= length);
            let whole = if complete { buffer.len() } else { buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
            if buffer.len() - whole > LINE_MAX {
                return Err(ChunkError::Line { line: line + 1, why: "the line is longer than 4096 bytes".to_owned() }.into());
            }
            let next = (whole > 0).then(|| {
                let rest = buffer.split_off(whole);
                let text = Zeroizing::new(std::mem::replace(&mut *buffer, rest));
                let lines = text.iter().filter(|byte| **byte == b'\n').count() as u64 + u64::from(text.last() != Some(&b'\n'));
                let (first, brand, models, region) = (line + 1, part.brand.clone(), models.clone(), self.region.clone());
                (read_to, line) = (read_to + text.len() as u64, line + lines);
                (tokio::task::spawn_blocking(move || seal_lines(&text, first, &brand, &models, &region)), read_to, line)
            });
            if line > LINES_MAX {
                return Err(UploadError::TooMany("an upload has at most 10,000,000 lines; begin another one"));
            }
            if let Some((sealed, to, lines)) = std::mem::replace(&mut sealing, next) {
                let known = staging.take(sealed.await.map_err(|_| UploadError::Worker)??).await?;
                self.advance(&mut upload, to, lines, known, now()).await?;
            }
        }
        if cut {
            return Err(UploadError::Cut(upload.offset));
        }
        match part.length {
            Some(length) if upload.offset > length => Err(UploadError::Length),
            Some(length) if upload.offset == length => self.finish(doer, upload, now()).await,
            None if part.last => self.finish(doer, upload, now()).await,
            _ => Ok(upload),
        }
    }

    async fn begin(&self, service: &str, part: &Part, now: u64) -> Result<Upload, UploadError> {
        if part.id.is_empty() || part.id.len() > 64 || !part.id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
            return Err(UploadError::Id);
        }
        let client = self.shards.first().await?;
        let known = client.query_opt(&format!("SELECT {COLUMNS} FROM uploads WHERE id = $1"), &[&part.id]).await?;
        let upload = match known {
            Some(row) => Upload::read(&row),
            None => {
                let open: i64 = client
                    .query_one("SELECT count(*) FROM uploads WHERE brand = $1 AND state = 'receiving'", &[&part.brand.as_str()])
                    .await?
                    .get(0);
                if open >= OPEN_MAX {
                    return Err(UploadError::TooMany("20 uploads of this brand go on already; finish or end one of them"));
                }
                let length = part.length.map(u64::cast_signed);
                client
                    .execute(
                        "INSERT INTO uploads (id, brand, service, state, at_byte, at_line, length, devices, known, started_at, changed_at) \
                         VALUES ($1, $2, $3, 'receiving', 0, 0, $4, 0, 0, $5, $5) ON CONFLICT DO NOTHING",
                        &[&part.id, &part.brand.as_str(), &service, &length, &now.cast_signed()],
                    )
                    .await?;
                Upload::read(&client.query_one(&format!("SELECT {COLUMNS} FROM uploads WHERE id = $1"), &[&part.id]).await?)
            }
        };
        if upload.brand != part.brand.as_str() {
            return Err(UploadError::Unknown);
        }
        if upload.state == "ended" {
            return Err(UploadError::Over);
        }
        if upload.length.is_some() && part.length.is_some() && upload.length != part.length {
            return Err(UploadError::Length);
        }
        Ok(upload)
    }

    async fn models(&self, brand: &BrandId) -> Result<BTreeSet<ModelName>, UploadError> {
        let client = self.shards.first().await?;
        let rows = client.query("SELECT model FROM tenant_models WHERE brand = $1", &[&brand.as_str()]).await?;
        Ok(rows.iter().filter_map(|row| ModelName::parse(row.get(0)).ok()).collect())
    }

    /// Notes how far it has come, unless somebody else has gone on in the meantime.
    async fn advance(&self, upload: &mut Upload, to: u64, lines: u64, known: u64, now: u64) -> Result<(), UploadError> {
        let client = self.shards.first().await?;
        let (from, to, lines, more, at) =
            (upload.offset.cast_signed(), to.cast_signed(), lines.cast_signed(), known.cast_signed(), now.cast_signed());
        let noted = client
            .query_opt(
                &format!(
                    "UPDATE uploads SET at_byte = $3, at_line = $4, known = known + $5, devices = $4 - known - $5, changed_at = $6 \
                     WHERE id = $1 AND at_byte = $2 AND state = 'receiving' RETURNING {COLUMNS}"
                ),
                &[&upload.id, &from, &to, &lines, &more, &at],
            )
            .await?;
        match noted {
            Some(row) => *upload = Upload::read(&row),
            None => return Err(UploadError::Offset(self.show(&upload.brand, &upload.id).await?.offset)),
        }
        Ok(())
    }

    /// Counts, and says in one row that it is complete.
    async fn finish(&self, doer: &Doer, upload: Upload, now: u64) -> Result<Upload, UploadError> {
        let mut devices: i64 = 0;
        for pool in self.shards.all() {
            let client = pool.get().await?;
            devices += client.query_one("SELECT count(*) FROM identities WHERE upload = $1", &[&upload.number]).await?.get::<_, i64>(0);
        }
        let mut client = self.shards.first().await?;
        let tx = client.transaction().await?;
        let row = tx
            .query_opt(
                &format!(
                    "UPDATE uploads SET state = 'complete', devices = $2, length = at_byte, changed_at = $3 \
                     WHERE id = $1 AND state = 'receiving' AND at_byte = $4 RETURNING {COLUMNS}"
                ),
                &[&upload.id, &devices, &now.cast_signed(), &upload.offset.cast_signed()],
            )
            .await?
            .ok_or(UploadError::Over)?;
        let upload = Upload::read(&row);
        let detail = format!("{} devices, {} known already", upload.devices, upload.known);
        acts::append(&tx, now, doer.did("identities.upload", &upload.id, detail)).await?;
        tx.commit().await?;
        Ok(upload)
    }

    /// How far an upload of a brand is.
    ///
    /// # Errors
    /// [`UploadError::Unknown`].
    pub(in crate::cloud) async fn show(&self, brand: &str, id: &str) -> Result<Upload, UploadError> {
        let client = self.shards.first().await?;
        let row = client.query_opt(&format!("SELECT {COLUMNS} FROM uploads WHERE id = $1 AND brand = $2"), &[&id, &brand]).await?;
        row.map(|row| Upload::read(&row)).ok_or(UploadError::Unknown)
    }

    /// The newest uploads of a brand.
    ///
    /// # Errors
    /// The database's.
    pub(in crate::cloud) async fn list(&self, brand: &str) -> Result<Vec<Upload>, UploadError> {
        let client = self.shards.first().await?;
        let rows =
            client.query(&format!("SELECT {COLUMNS} FROM uploads WHERE brand = $1 ORDER BY number DESC LIMIT 100"), &[&brand]).await?;
        Ok(rows.iter().map(Upload::read).collect())
    }

    /// Ends an upload that is not complete: nothing of it stays.
    ///
    /// # Errors
    /// [`UploadError::Unknown`]; [`UploadError::Over`] when it is complete.
    pub(in crate::cloud) async fn end(&self, doer: &Doer, brand: &str, id: &str, now: u64) -> Result<Upload, UploadError> {
        let upload = self.show(brand, id).await?;
        if upload.state == "complete" {
            return Err(UploadError::Over);
        }
        let mut client = self.shards.first().await?;
        let tx = client.transaction().await?;
        let ended = tx
            .execute(
                "UPDATE uploads SET state = 'ended', changed_at = $2 WHERE id = $1 AND state = 'receiving'",
                &[&id, &now.cast_signed()],
            )
            .await?;
        if ended > 0 {
            acts::append(&tx, now, doer.did("identities.upload.end", id, "")).await?;
        }
        tx.commit().await?;
        drop(client);
        self.clear(upload.number).await?;
        self.show(brand, id).await
    }

    /// Ends what nobody has gone on with for a week.
    ///
    /// # Errors
    /// The database's.
    pub(in crate::cloud) async fn sweep(&self, now: u64) -> Result<(), UploadError> {
        let client = self.shards.first().await?;
        let before = now.saturating_sub(ABANDONED_MS).cast_signed();
        let rows = client
            .query(
                "UPDATE uploads SET state = 'ended', changed_at = $2 WHERE state = 'receiving' AND changed_at < $1 RETURNING number",
                &[&before, &now.cast_signed()],
            )
            .await?;
        drop(client);
        for row in rows {
            self.clear(row.get(0)).await?;
        }
        Ok(())
    }

    async fn clear(&self, upload: i64) -> Result<(), UploadError> {
        for pool in self.shards.all() {
            let client = pool.get().await?;
            let statement = "DELETE FROM identities WHERE device_id IN (SELECT device_id FROM identities WHERE upload = $1 LIMIT $2)";
            while client.execute(statement, &[&upload, &ROWS_AT_A_TIME]).await? > 0 {}
        }
        Ok(())
    }
}

impl Upload {
    fn read(row: &Row) -> Upload {
        let number = |column: &str| row.get::<_, i64>(column).unsigned_abs();
        Upload {
            id: row.get("id"),
            brand: row.get("brand"),
            state: row.get("state"),
            offset: number("at_byte"),
            lines: number("at_line"),
            length: row.get::<_, Option<i64>>("length").map(i64::unsigned_abs),
            devices: number("devices"),
            known: number("known"),
            started_at: number("started_at"),
            changed_at: number("changed_at"),
            number: row.get("number"),
        }
    }

    /// The number by which its identities name it.
    #[must_use]
    pub fn number(&self) -> i64 {
        self.number
    }
}
