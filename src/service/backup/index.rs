//! What a hub remembers of its newest backup, beside the database: for every row its key and a keyed hash of its value,
//! table by table in the order of the keys. The next backup goes through it and the tables at the same time, and so finds
//! what has changed and what is gone, in constant memory. Without it, the next backup is a full one.

use super::BackupError;
use crate::domain::backup::{BackupId, Follows};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

const MAGIC: &[u8; 6] = b"hkbi1\n";
/// Bytes of the beginning: magic, id, base, place, layout, time of the base.
const HEAD: usize = 6 + 16 + 16 + 8 + 4 + 8;
/// Bytes of a row's hash.
const HASH: usize = 16;
/// What ends a table instead of a key's length.
const TABLE_ENDS: u32 = u32::MAX;
/// Bytes of a key at most.
const KEY_MAX: u32 = 1024 * 1024;

/// Of which backup an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// The backup.
    pub id: BackupId,
    /// The full one with which its chain begins.
    pub base: BackupId,
    /// Its place in the chain.
    pub place: u64,
    /// The layout of the tables then.
    pub layout: u32,
    /// When the full one was made, ms since 1970.
    pub base_at: u64,
}

impl Indexed {
    /// As what an increment goes on.
    #[must_use]
    pub fn follows(&self) -> Follows {
        Follows { parent: self.id, base: self.base, place: self.place + 1 }
    }

    fn to_bytes(self) -> Vec<u8> {
        [
            MAGIC.as_slice(),
            self.id.as_bytes(),
            self.base.as_bytes(),
            &self.place.to_be_bytes(),
            &self.layout.to_be_bytes(),
            &self.base_at.to_be_bytes(),
        ]
        .concat()
    }

    fn parse(bytes: &[u8; HEAD]) -> Option<Indexed> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (base, rest) = rest.split_first_chunk::<16>()?;
        let (place, rest) = rest.split_first_chunk::<8>()?;
        let (layout, rest) = rest.split_first_chunk::<4>()?;
        let base_at = rest.first_chunk::<8>()?;
        Some(Indexed {
            id: BackupId::from_bytes(*id),
            base: BackupId::from_bytes(*base),
            place: u64::from_be_bytes(*place),
            layout: u32::from_be_bytes(*layout),
            base_at: u64::from_be_bytes(*base_at),
        })
    }
}

/// A row's key, and the hash of the row.
type Row = (Vec<u8>, [u8; HASH]);

/// The keyed hash of a row's value.
pub(super) fn row_hash(key: &[u8; 32], table: &str, row: &[u8], value: &[u8]) -> [u8; HASH] {
    // HMAC takes a key of any length, so this cannot fail; zeros would then equal no hash that was written.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else { return [0; HASH] };
    for part in [table.as_bytes(), row, value] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    let whole: [u8; 32] = mac.finalize().into_bytes().into();
    let mut hash = [0; HASH];
    hash.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    hash
}

/// Writes an index.
pub(super) struct IndexWriter<W: Write> {
    out: W,
    hash: Sha256,
}

impl<W: Write> IndexWriter<W> {
    pub(super) fn new(out: W, of: Indexed) -> io::Result<Self> {
        let mut writer = IndexWriter { out, hash: Sha256::new() };
        writer.put(&of.to_bytes())?;
        Ok(writer)
    }

    pub(super) fn table(&mut self, name: &str) -> io::Result<()> {
        let length = u8::try_from(name.len()).map_err(io::Error::other)?;
        self.put(&[length])?;
        self.put(name.as_bytes())
    }

    pub(super) fn row(&mut self, key: &[u8], hash: [u8; HASH]) -> io::Result<()> {
        let length = u32::try_from(key.len()).map_err(io::Error::other)?;
        self.put(&length.to_be_bytes())?;
        self.put(key)?;
        self.put(&hash)
    }

    pub(super) fn table_ends(&mut self) -> io::Result<()> {
        self.put(&TABLE_ENDS.to_be_bytes())
    }

    /// Ends it, with a hash of all: one that was damaged would let a changed row out.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.put(&[0])?;
        let sum = self.hash.clone().finalize();
        self.out.write_all(&sum)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn put(&mut self, part: &[u8]) -> io::Result<()> {
        self.hash.update(part);
        self.out.write_all(part)
    }
}

/// An index that was checked as a whole, to be gone through once.
pub struct Index {
    /// Of which backup it is.
    pub of: Indexed,
    from: Box<dyn Read + Send>,
    table: Option<String>,
    row: Option<Row>,
}

impl Index {
    /// Reads all of it once, and begins again.
    ///
    /// # Errors
    /// [`BackupError::Altered`] when it is not whole.
    pub fn open<F: Read + Seek + Send + 'static>(mut file: F) -> Result<Index, BackupError> {
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let mut rest = length.checked_sub(32).ok_or(BackupError::Short)?;
        let (mut hash, mut block) = (Sha256::new(), vec![0; 64 * 1024]);
        while rest > 0 {
            let most = usize::try_from(rest).unwrap_or(block.len()).min(block.len());
            let part = block.get_mut(..most).unwrap_or_default();
            file.read_exact(part)?;
            hash.update(&*part);
            rest -= most as u64;
        }
        let mut sum = [0; 32];
        file.read_exact(&mut sum)?;
        if <[u8; 32]>::from(hash.finalize()) != sum {
            return Err(BackupError::Altered);
        }
        file.rewind()?;
        let mut head = [0; HEAD];
        let mut from = BufReader::new(file);
        from.read_exact(&mut head)?;
        let of = Indexed::parse(&head).ok_or(BackupError::Altered)?;
        let mut index = Index { of, from: Box::new(from), table: None, row: None };
        index.next_table()?;
        Ok(index)
    }

    fn next_table(&mut self) -> Result<(), BackupError> {
        let mut length = [0];
        self.from.read_exact(&mut length)?;
        self.table = match length {
            [0] => None,
            [length] => {
                let mut name = vec![0; usize::from(length)];
                self.from.read_exact(&mut name)?;
                Some(String::from_utf8(name).map_err(|_| BackupError::Altered)?)
            }
        };
        if self.table.is_some() { self.next_row() } else { Ok(()) }
    }

    fn next_row(&mut self) -> Result<(), BackupError> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length == TABLE_ENDS {
            self.row = None;
            return Ok(());
        }
        if length > KEY_MAX {
            return Err(BackupError::Altered);
        }
        let mut key = vec![0; length as usize];
        self.from.read_exact(&mut key)?;
        let mut hash = [0; HASH];
        self.from.read_exact(&mut hash)?;
        self.row = Some((key, hash));
        Ok(())
    }

    /// Whether the next table in it is this one. Both go through their tables in one order.
    pub(super) fn is_at(&self, table: &str) -> bool {
        self.table.as_deref() == Some(table)
    }

    /// The next row of the table it is at.
    pub(super) fn peek(&self) -> Option<&Row> {
        self.row.as_ref()
    }

    /// Takes it.
    pub(super) fn pop(&mut self) -> Result<Option<Row>, BackupError> {
        let row = self.row.take();
        if row.is_some() {
            self.next_row()?;
        }
        Ok(row)
    }

    /// Leaves the table, all of whose rows were taken.
    pub(super) fn leave(&mut self) -> Result<(), BackupError> {
        self.next_table()
    }

    /// Whether there is no table any more.
    pub(super) fn is_over(&self) -> bool {
        self.table.is_none()
    }
}
