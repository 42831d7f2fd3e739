//! Rows and bytes: one format byte, then CBOR with named fields, so that a later version can add a field; in a
//! sealed table the whole value is encrypted and bound to its table and key.

use super::{StoreError, Vault};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

const FORMAT_PLAIN: u8 = 1;
const FORMAT_SEALED: u8 = 2;

/// A kind of row.
pub trait Record: Serialize + DeserializeOwned {
    /// Where its rows stand.
    const TABLE: Table;
    /// Whether a linked cloud is to hear of its changes.
    const MIRRORED: Mirroring = Mirroring::No;
}

/// What a change of a record means to the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirroring {
    /// Nothing.
    No,
    /// Its row is to be sent.
    Own,
    /// Its row is to be sent if twins are mirrored: they change often, and not every home agrees to it.
    IfTwins,
    /// The row with the same key in this table is to be sent, if there is one.
    With(Table),
}

/// A table: its name in the file, and whether its values are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    pub(super) name: &'static str,
    pub(super) sealed: bool,
}

impl Table {
    /// Values are stored as they are.
    #[must_use]
    pub const fn plain(name: &'static str) -> Table {
        Table { name, sealed: false }
    }
    /// Values are sealed under the master key.
    #[must_use]
    pub const fn sealed(name: &'static str) -> Table {
        Table { name, sealed: true }
    }
    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
    pub(super) fn definition(self) -> redb::TableDefinition<'static, &'static [u8], &'static [u8]> {
        redb::TableDefinition::new(self.name)
    }
}

pub(super) fn encode<T: Record>(vault: &Vault, key: &[u8], value: &T) -> Result<Vec<u8>, StoreError> {
    let mut plain = vec![FORMAT_PLAIN];
    ciborium::into_writer(value, &mut plain).map_err(|e| unreadable::<T>(key, e.to_string()))?;
    if !T::TABLE.sealed {
        return Ok(plain);
    }
    let body = vault.seal(&associated::<T>(key), plain.get(1..).unwrap_or_default()).map_err(|e| unreadable::<T>(key, e.into()))?;
    Ok([&[FORMAT_SEALED], body.as_slice()].concat())
}

pub(super) fn decode<T: Record>(vault: &Vault, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    let bad = |why: &str| unreadable::<T>(key, why.to_owned());
    match (T::TABLE.sealed, bytes.split_first()) {
        (false, Some((&FORMAT_PLAIN, body))) => ciborium::from_reader(body).map_err(|e| bad(&e.to_string())),
        (true, Some((&FORMAT_SEALED, body))) => {
            let plain = vault.open(&associated::<T>(key), body).map_err(bad)?;
            ciborium::from_reader(plain.as_slice()).map_err(|_| bad("its content is not what the table holds"))
        }
        (_, Some((format, _))) => Err(bad(&format!("format {format} is not known"))),
        (_, None) => Err(bad("it is empty")),
    }
}

/// The value of a row of `table`, opened: the CBOR alone.
pub(super) fn open(vault: &Vault, table: Table, key: &[u8], bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let bad = |reason: String| StoreError::Row { table: table.name, key: String::from_utf8_lossy(key).into_owned(), reason };
    match (table.sealed, bytes.split_first()) {
        (false, Some((&FORMAT_PLAIN, body))) => Ok(Zeroizing::new(body.to_vec())),
        (true, Some((&FORMAT_SEALED, body))) => vault.open(&bound_to(table, key), body).map_err(|e| bad(e.into())),
        (_, Some((format, _))) => Err(bad(format!("format {format} is not known"))),
        (_, None) => Err(bad("it is empty".into())),
    }
}

/// The row's bytes for a value that is CBOR already.
pub(super) fn close(vault: &Vault, table: Table, key: &[u8], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
    if !table.sealed {
        return Ok([&[FORMAT_PLAIN], plain].concat());
    }
    let bad =
        |reason: &str| StoreError::Row { table: table.name, key: String::from_utf8_lossy(key).into_owned(), reason: reason.to_owned() };
    let body = vault.seal(&bound_to(table, key), plain).map_err(bad)?;
    Ok([&[FORMAT_SEALED], body.as_slice()].concat())
}

/// The first key after all that begin with `prefix` (at most 512 bytes of 0xFF for an empty prefix).
pub(super) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![u8::MAX; 512]
}

fn associated<T: Record>(key: &[u8]) -> Vec<u8> {
    bound_to(T::TABLE, key)
}

/// A sealed value belongs to its place: it opens nowhere else.
fn bound_to(table: Table, key: &[u8]) -> Vec<u8> {
    [table.name.as_bytes(), &[0], key].concat()
}

fn unreadable<T: Record>(key: &[u8], reason: String) -> StoreError {
    StoreError::Row { table: T::TABLE.name, key: String::from_utf8_lossy(key).into_owned(), reason }
}
