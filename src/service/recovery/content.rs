//! What is in a recovery bundle: the rows that a replacing hub needs, as a sequence of CBOR items in deflate (zlib).
//!
//! First a map about the whole, then for each table its name and its rows (`[key, value]`, both byte strings, the value the
//! CBOR of the row, opened), at last the number of rows. The hub's own secrets come first: by them the rest is believed.

use crate::domain::device::Household;
use crate::domain::ids::HubId;
use crate::service::{Refusal, pepper_in};
use crate::store::tables::HubSecrets;
use crate::store::{OpenRow, Read, Record, SCHEMA_VERSION, StoreError, Table, carried_table, carried_tables, opened_rows};
use ciborium::Value;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use std::io::{self, Read as _, Write};
use zeroize::Zeroizing;

/// The form that is written here, and the newest that is read.
const FORM: u64 = 1;
/// Rows read at a time.
const BLOCK: usize = 500;
/// Bytes of a content at most, once it is inflated; and of one row.
const INFLATED_MAX: u64 = 256 * 1024 * 1024;
const ROW_MAX: usize = 1024 * 1024;

/// About the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The hub.
    pub hub: HubId,
    /// Its epoch.
    pub epoch: u64,
    /// When it was made, ms since 1970.
    pub at: u64,
    /// The layout of the tables.
    pub layout: u32,
    /// The program that wrote it.
    pub program: String,
}

/// How much goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Everything that is carried.
    All,
    /// Without identities that wait to be claimed: their makers' files can be taken in again.
    WithoutWaiting,
}

/// Why a content was not read.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It breaks off, or is not of this form.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// A newer program wrote it.
    #[error("it was written by a newer version of this program ({0}): install that version, or a newer one, and try again")]
    Newer(String),
}

/// Writes the content; `None` when it would be longer than `most` bytes.
pub(super) fn write<R: Read>(rows: &R, hub: &HubId, at: u64, extent: Extent, most: usize) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
    let secrets = rows.get::<HubSecrets>(HubSecrets::ROW)?.ok_or_else(|| Refusal::Conflict("the hub has no keys yet".into()))?;
    let mut out = Items { zip: ZlibEncoder::new(Bounded { bytes: Zeroizing::new(Vec::new()), most }, Compression::default()), rows: 0 };
    let written = put_all(&mut out, rows, &secrets, hub, at, extent);
    match written {
        Ok(()) => {}
        Err(Fault::Full) => return Ok(None),
        Err(Fault::Store(fault)) => return Err(fault.into()),
    }
    Ok(out.zip.finish().ok().map(|bounded| bounded.bytes))
}

fn put_all<R: Read>(out: &mut Items, rows: &R, secrets: &HubSecrets, hub: &HubId, at: u64, extent: Extent) -> Result<(), Fault> {
    out.item(&Value::Map(vec![
        (1.into(), FORM.into()),
        (2.into(), Value::Bytes(hub.as_bytes().to_vec())),
        (3.into(), secrets.epoch.into()),
        (4.into(), at.into()),
        (5.into(), SCHEMA_VERSION.into()),
        (6.into(), Value::Text(env!("CARGO_PKG_VERSION").into())),
    ]))?;
    for table in carried_tables() {
        if extent == Extent::WithoutWaiting && table.name() == "batches" {
            // As if they had never been taken in: then they can be, again.
            continue;
        }
        out.item(&Value::Text(table.name().into()))?;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let block = opened_rows(rows, table, after.as_deref(), BLOCK)?;
            for (key, value) in &block {
                if extent == Extent::WithoutWaiting && is_of_identity(table) && rows.get::<Household>(key)?.is_none() {
                    continue;
                }
                if table == <HubSecrets as Record>::TABLE {
                    let pepper = pepper_in(rows)?;
                    out.row(key, &handed_on(secrets, &pepper)?)?;
                } else {
                    out.row(key, value)?;
                }
            }
            let Some((last, _)) = block.last().filter(|_| block.len() == BLOCK) else { break };
            after = Some(last.clone());
        }
    }
    out.item(&Value::from(out.rows))
}

/// Tables that have a row for every identity, claimed or not.
fn is_of_identity(table: Table) -> bool {
    matches!(table.name(), "registry" | "device_keys" | "counters" | "resets")
}

/// The secrets as another hub gets them: with what hashes are keyed with, and without the key that signs for the mirror,
/// which is this box's alone.
pub(in crate::service) fn handed_on(secrets: &HubSecrets, pepper: &[u8; 32]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut secrets = secrets.clone();
    secrets.mirror_seed = [0; 32];
    secrets.pepper = Some(*pepper);
    encoded(&secrets)
}

/// A row's value.
pub(super) fn encoded<T: Record>(row: &T) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut bytes = Zeroizing::new(Vec::new());
    ciborium::into_writer(row, &mut *bytes).map_err(|e| StoreError::Row {
        table: T::TABLE.name(),
        key: String::new(),
        reason: e.to_string(),
    })?;
    Ok(bytes)
}

/// A row from its value.
pub(in crate::service) fn decoded<T: Record>(value: &[u8]) -> Result<T, ContentError> {
    ciborium::from_reader(value).map_err(|_| ContentError::Damaged("a row is not what its table holds"))
}

enum Fault {
    Full,
    Store(StoreError),
}

impl From<StoreError> for Fault {
    fn from(fault: StoreError) -> Self {
        Fault::Store(fault)
    }
}

struct Items {
    zip: ZlibEncoder<Bounded>,
    rows: u64,
}

impl Items {
    fn item(&mut self, value: &Value) -> Result<(), Fault> {
        ciborium::into_writer(value, &mut self.zip).map_err(|_| Fault::Full)
    }

    /// By hand, so that no copy of a secret is left behind.
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.rows += 1;
        // An array of two.
        let mut all = self.zip.write_all(&[0x82]);
        for part in [key, value] {
            // A byte string with a length of four bytes.
            let length = u32::try_from(part.len()).map_err(|_| Fault::Full)?;
            all = all.and_then(|()| self.zip.write_all(&[0x5a])).and_then(|()| self.zip.write_all(&length.to_be_bytes()));
            all = all.and_then(|()| self.zip.write_all(part));
        }
        all.map_err(|_| Fault::Full)
    }
}

struct Bounded {
    bytes: Zeroizing<Vec<u8>>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > self.most {
            return Err(io::Error::other("too long"));
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a content row by row.
pub(super) struct Reader<'a> {
    from: io::Take<ZlibDecoder<&'a [u8]>>,
    /// About the whole.
    pub(super) about: About,
    table: Option<Table>,
    rows: u64,
}

impl<'a> Reader<'a> {
    /// Begins with what is said about the whole.
    ///
    /// # Errors
    /// [`ContentError`].
    pub(super) fn new(content: &'a [u8]) -> Result<Reader<'a>, ContentError> {
        let mut from = ZlibDecoder::new(content).take(INFLATED_MAX);
        let Value::Map(members) = item(&mut from)? else { return Err(ContentError::Damaged("it does not begin as a bundle does")) };
        let member = |number: u64| members.iter().find(|(n, _)| n.as_integer() == Some(number.into())).map(|(_, value)| value);
        let number = |n: u64| member(n).and_then(Value::as_integer).and_then(|n| u64::try_from(n).ok());
        let missing = ContentError::Damaged("what is said about the whole is not complete");
        let program = member(6).and_then(Value::as_text).map(|text| text.chars().take(40).collect::<String>()).unwrap_or_default();
        let (Some(form), Some(layout)) = (number(1), number(5)) else { return Err(missing) };
        if form > FORM || layout > u64::from(SCHEMA_VERSION) {
            return Err(ContentError::Newer(program));
        }
        let hub = member(2).and_then(Value::as_bytes).and_then(|bytes| <[u8; 16]>::try_from(bytes.as_slice()).ok());
        let (Some(hub), Some(epoch), Some(at)) = (hub, number(3), number(4)) else { return Err(missing) };
        let layout = u32::try_from(layout).map_err(|_| ContentError::Damaged("its layout has no number"))?;
        let about = About { hub: HubId::from_bytes(hub), epoch, at, layout, program };
        Ok(Reader { from, about, table: None, rows: 0 })
    }

    /// The next row and its table; `None` at the end, which has to be the right one.
    ///
    /// # Errors
    /// [`ContentError`].
    pub(super) fn next(&mut self) -> Result<Option<(Table, OpenRow)>, ContentError> {
        loop {
            match item(&mut self.from)? {
                Value::Text(name) => {
                    // One that this program does not know must not be lost in silence.
                    let table = carried_table(&name).ok_or_else(|| ContentError::Newer(self.about.program.clone()))?;
                    self.table = Some(table);
                }
                Value::Array(parts) => {
                    let mut parts = parts.into_iter().map(Value::into_bytes);
                    let (Some(table), Some(Ok(key)), Some(Ok(value)), None) = (self.table, parts.next(), parts.next(), parts.next()) else {
                        return Err(ContentError::Damaged("a row is not one"));
                    };
                    let value = Zeroizing::new(value);
                    if key.len() > ROW_MAX || value.len() > ROW_MAX {
                        return Err(ContentError::Damaged("a row is too long"));
                    }
                    self.rows += 1;
                    return Ok(Some((table, (key, value))));
                }
                Value::Integer(count) if u64::try_from(count) == Ok(self.rows) => return Ok(None),
                _ => return Err(ContentError::Damaged("rows are missing")),
            }
        }
    }
}

fn item(from: &mut impl io::Read) -> Result<Value, ContentError> {
    ciborium::from_reader(from).map_err(|_| ContentError::Damaged("it breaks off, or was changed"))
}
