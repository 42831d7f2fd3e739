//! The write-ahead log beside the database, `hub.wal`: what spares a memory card. A commit of the database writes seven pages and more for one small row;
//! its rows alone fit one. So a batch's rows go here, in one write and one sync, and the database takes them in memory; now and then, and when it is
//! closed, it is written to its file with all that came since. At opening the rows that the file lacks are put into it.
//!
//! The log is one megabyte, made once and written from its beginning again and again, in frames of whole blocks: what was acknowledged is never
//! written over before the database's file has it. Each opening has an identity of its own, which stands in the database ([`Mark`]) and in each frame, and frames are
//! numbered: so no frame is ever put into a database that it was not written for, as an older copy that was put back.

use super::codec::{self, Record, Table};
use super::journal::Disk;
use super::tables::serde_bytes_vec;
use super::{StoreError, Vault};
use redb::WriteTransaction;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;

/// The log's name in the hub's directory.
pub const WAL_FILE: &str = "hub.wal";

/// Bytes of the log.
const SIZE: usize = 1024 * 1024;
/// What a disk writes as a whole: no frame shares one with another.
const BLOCK: usize = 4096;
/// Bytes of the longest frame; larger batches go to the database's file at once.
const LONGEST: usize = 64 * 1024;
/// Of a batch no more is held for the log than this, in bytes of keys and values.
const MOST: usize = LONGEST - BLOCK;
/// So many rows at most wait in the log for the database's file: what it then takes at once fits into what is left free on a disk that is almost
/// full, also when each of them is on a page of its own.
const WAITING: usize = 256;

const MAGIC: [u8; 8] = *b"hkwal1\r\n";
/// Magic, identity, number, length, and the hash over these and the content.
const HEAD: usize = 8 + 16 + 8 + 4 + 32;

/// What the database's file knows of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The opening whose frames belong to it.
    #[serde(with = "serde_bytes_vec")]
    id: Vec<u8>,
    /// The number of the last frame that it has.
    seq: u64,
    /// The opening before, whose frames it has, all of them.
    #[serde(with = "serde_bytes_vec")]
    before: Vec<u8>,
    /// The file was closed with everything in it.
    #[serde(default)]
    closed: bool,
}

impl Mark {
    pub(super) const ROW: &[u8] = b"wal";
}

impl Record for Mark {
    /// With the layout: both say how the file is to be read.
    const TABLE: Table = Table::plain("layout");
}

/// Rows of one batch: by table and key, `None` for one that is removed.
#[derive(Default)]
pub(super) struct Rows {
    rows: BTreeMap<(&'static str, Vec<u8>), Option<Vec<u8>>>,
    bytes: usize,
}

impl Rows {
    /// Notes the last that was done to a row.
    pub(super) fn note(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        self.bytes = self.bytes.saturating_add(key.len() + value.map_or(0, <[u8]>::len));
        if self.is_too_large() {
            self.rows.clear();
        } else {
            self.rows.insert((table.name(), key.to_vec()), value.map(<[u8]>::to_vec));
        }
    }
    fn is_too_large(&self) -> bool {
        self.bytes > MOST
    }
}

/// A row in a frame: table, key, and value.
#[derive(Serialize)]
struct RowOut<'a>(&'a str, #[serde(with = "serde_bytes_vec")] &'a [u8], Option<BytesOut<'a>>);

#[derive(Serialize)]
struct BytesOut<'a>(#[serde(with = "serde_bytes_vec")] &'a [u8]);

#[derive(Deserialize)]
struct RowIn(String, #[serde(with = "serde_bytes_vec")] Vec<u8>, Option<BytesIn>);

#[derive(Deserialize)]
struct BytesIn(#[serde(with = "serde_bytes_vec")] Vec<u8>);

/// The log, open.
pub(super) struct Wal {
    disk: Box<dyn Disk>,
    id: [u8; 16],
    /// Where the next frame is written.
    at: usize,
    /// The number of the last frame.
    seq: u64,
    /// Rows since the database's file had everything.
    waiting: usize,
    /// There are frames in it.
    written: bool,
    /// The disk refused it: nothing is written to it any more.
    refused: bool,
}

/// What a log holds for the database beside it.
pub(super) struct Unfolded {
    disk: Box<dyn Disk>,
    /// Rows of each frame that the database's file lacks, in their order.
    frames: Vec<Vec<RowIn>>,
    mark: Mark,
    /// There was no room to make the log.
    refused: bool,
    /// Acknowledged rows may be missing: the log is damaged, or gone.
    pub(super) lacks: bool,
}

impl Unfolded {
    /// Reads the log on `disk`, which may be empty, for the database that has this mark. Frames of another database, and what follows damage, are kept
    /// aside.
    ///
    /// # Errors
    /// It cannot be read, or cannot be written.
    pub(super) fn read(mut disk: Box<dyn Disk>, mark: Mark) -> io::Result<Unfolded> {
        let bytes = disk.read(SIZE as u64)?;
        let (mut at, mut frames) = (0, Vec::new());
        while let Some(frame) =
            Frame::at(&bytes, at).filter(|f| f.id == mark.id && f.seq == mark.seq.saturating_add(1 + frames.len() as u64))
        {
            // What a hash covers was written by this program.
            let rows: Vec<RowIn> = ciborium::from_reader(frame.content).map_err(io::Error::other)?;
            frames.push(rows);
            at += frame.takes();
        }
        let last = mark.seq.saturating_add(frames.len() as u64);
        let left: Vec<Frame<'_>> = (0..bytes.len()).step_by(BLOCK).filter_map(|at| Frame::at(&bytes, at)).collect();
        let damaged = left.iter().any(|f| f.id == mark.id && f.seq > last);
        let gone = bytes.is_empty() && !mark.id.is_empty() && !mark.closed;
        if damaged {
            tracing::error!(
                "the write-ahead log is damaged, or the database beside it is an older copy: some of the newest changes are missing. It is kept in \
                 hub.wal.damaged; compare the home with the newest backup"
            );
            disk.keep_aside("damaged")?;
        } else if gone {
            tracing::error!("hub.wal is gone from beside a database that was not closed: its newest changes may be missing");
        } else if Frame::at(&bytes, 0).is_some_and(|f| f.id != mark.id && f.id != mark.before) {
            tracing::warn!("the write-ahead log beside the database is another one's; it is kept as hub.wal.other");
            if let Err(error) = disk.keep_aside("other") {
                tracing::warn!(%error, "it could not be kept");
            }
        }
        if !frames.is_empty() {
            tracing::info!(commits = frames.len(), "taking from the write-ahead log what the database's file lacks");
        }
        // One that is too short grows with all that is in it: the database's file has none of it yet.
        let mut whole = bytes;
        let short = whole.len() != SIZE;
        whole.resize(SIZE, 0);
        let made = if short { disk.replace(&whole) } else { Ok(()) };
        if let Err(error) = &made {
            tracing::warn!(%error, "there is no write-ahead log and none could be made; the database goes on without it");
        }
        Ok(Unfolded { disk, frames, mark, refused: made.is_err(), lacks: damaged || gone })
    }

    /// Puts into the database what it lacks, that it has it, and that another opening begins. `txn` is to be durable; after its commit the log is to be
    /// [wiped](Wal::wipe).
    ///
    /// # Errors
    /// The database's fault, or no randomness.
    pub(super) fn fold(self, txn: &WriteTransaction, vault: &Vault) -> Result<Wal, StoreError> {
        for RowIn(table, key, value) in self.frames.into_iter().flatten() {
            let mut table = txn.open_table(redb::TableDefinition::<&[u8], &[u8]>::new(&table))?;
            match value {
                Some(BytesIn(value)) => table.insert(key.as_slice(), value.as_slice())?,
                None => table.remove(key.as_slice())?,
            };
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| redb::Error::Io(io::Error::other("the system gave no randomness")))?;
        let wal = Wal { disk: self.disk, id, at: 0, seq: 0, waiting: 0, written: true, refused: self.refused };
        put(txn, vault, &Mark { id: id.to_vec(), seq: 0, before: self.mark.id, closed: false })?;
        Ok(wal)
    }
}

impl Wal {
    /// Writes a batch's rows and syncs them. `false` when they do not fit, or the disk did not take them: then the batch has to go to the database's file,
    /// with [`Wal::noted`].
    pub(super) fn append(&mut self, rows: &Rows) -> bool {
        if self.refused || rows.is_too_large() || self.waiting + rows.rows.len() > WAITING {
            return false;
        }
        let out: Vec<RowOut<'_>> =
            rows.rows.iter().map(|((table, key), value)| RowOut(table, key, value.as_deref().map(BytesOut))).collect();
        let mut content = Vec::new();
        if ciborium::into_writer(&out, &mut content).is_err() {
            return false;
        }
        let bytes = Frame { id: &self.id, seq: self.seq + 1, content: &content }.bytes();
        if bytes.len() > LONGEST || self.at + bytes.len() > SIZE {
            return false;
        }
        // Whatever of it reaches the disk: the number is used up.
        self.seq += 1;
        self.written = true;
        let written = self.disk.append(self.at as u64, &bytes).and_then(|()| self.disk.sync());
        match written {
            Ok(()) => {
                self.at += bytes.len();
                self.waiting += rows.rows.len();
            }
            Err(ref error) => {
                tracing::error!(%error, "the write-ahead log cannot be written; the database goes on without it");
                self.refused = true;
            }
        }
        written.is_ok()
    }

    /// Notes in `txn`, which is to be durable, that the database has everything up to here. It uses up a number: no later frame is for a database without
    /// this commit.
    ///
    /// # Errors
    /// The database's fault.
    pub(super) fn noted(&mut self, txn: &WriteTransaction, vault: &Vault, closed: bool) -> Result<(), StoreError> {
        put(txn, vault, &Mark { id: self.id.to_vec(), seq: self.seq + 1, before: Vec::new(), closed })?;
        self.seq += 1;
        Ok(())
    }

    /// Notes in `txn`, which has the rows that were appended last and is committed in memory, that it has them: whatever brings it to the file.
    ///
    /// # Errors
    /// The database's fault.
    pub(super) fn mark(&self, txn: &WriteTransaction, vault: &Vault) -> Result<(), StoreError> {
        put(txn, vault, &Mark { id: self.id.to_vec(), seq: self.seq, before: Vec::new(), closed: false })
    }

    /// After that commit: the next frame may be written over what the database has.
    pub(super) fn rewind(&mut self) {
        (self.at, self.waiting) = (0, 0);
    }

    /// Says that nothing in it is wanted any more, so that it is not kept aside for another database.
    pub(super) fn wipe(&mut self) {
        if self.refused || !self.written {
            return;
        }
        self.written = false;
        if let Err(error) = self.disk.append(0, &[0; BLOCK]).and_then(|()| self.disk.sync()) {
            tracing::warn!(%error, "the write-ahead log could not be emptied; the database has what is in it");
        }
    }
}

fn put(txn: &WriteTransaction, vault: &Vault, mark: &Mark) -> Result<(), StoreError> {
    let bytes = codec::encode(vault, Mark::ROW, mark)?;
    txn.open_table(Mark::TABLE.definition())?.insert(Mark::ROW, bytes.as_slice())?;
    Ok(())
}

struct Frame<'a> {
    id: &'a [u8],
    seq: u64,
    content: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame that begins here, if a whole one does.
    fn at(bytes: &'a [u8], at: usize) -> Option<Frame<'a>> {
        let bytes = bytes.get(at..)?;
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        if *magic != MAGIC {
            return None;
        }
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (hash, rest) = rest.split_first_chunk::<32>()?;
        let content = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let frame = Frame { id, seq: u64::from_le_bytes(*seq), content };
        (frame.hash() == *hash).then_some(frame)
    }

    fn head(&self) -> Vec<u8> {
        [&MAGIC[..], self.id, &self.seq.to_le_bytes(), &(self.content.len() as u32).to_le_bytes()].concat()
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::new().chain_update(self.head()).chain_update(self.content).finalize().into()
    }

    /// Bytes in the log: whole blocks.
    fn takes(&self) -> usize {
        (HEAD + self.content.len()).next_multiple_of(BLOCK)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&self.head()[..], &self.hash(), self.content].concat();
        bytes.resize(self.takes(), 0);
        bytes
    }
}

#[cfg(test)]
mod tests;
