//! Writing a backup: one consistent look at the store, gone through once, together with what is remembered of the backup
//! before.

use super::content::{Items, Summary, Summing};
use super::index::{Index, IndexWriter, Indexed, row_hash};
use super::samples::samples;
use super::seal::Sealer;
use super::{BackupError, ways};
use crate::domain::backup::{BackupId, Header};
use crate::domain::ids::HubId;
use crate::service::recovery::handed_on;
use crate::service::{audit, pepper_in};
use crate::store::tables::{BackupSettings, HubSecrets, RecoveryKeys};
use crate::store::{Read, Record, SCHEMA_VERSION, backed_up_tables, opened_rows};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::io::Write;
use zeroize::Zeroizing;

/// Rows read at a time.
const BLOCK: usize = 100;
const INDEX_LABEL: &[u8] = b"hearthkey backup index v1";

/// A backup that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeBackup {
    /// What it says of itself.
    pub header: Header,
    /// Bytes of the file.
    pub length: u64,
    /// Rows in it.
    pub rows: u64,
    /// Rows that it takes away.
    pub gone: u64,
}

/// Of what a backup is.
pub(super) struct Of<'a> {
    pub(super) hub: &'a HubId,
    /// ms since 1970.
    pub(super) at: u64,
    pub(super) id: BackupId,
    pub(super) key: &'a Zeroizing<[u8; 32]>,
}

/// Writes what stands in `rows` to `out`: what has changed since `previous`, or everything; and what is to be remembered of
/// it to `index`. `go_on` is asked after every so many rows, with how many there have been.
pub(super) fn write<R: Read, W: Write, I: Write>(
    rows: &R,
    of: &Of<'_>,
    mut previous: Option<Index>,
    out: W,
    index: I,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(MadeBackup, W, I), BackupError> {
    let secrets = rows.get::<HubSecrets>(HubSecrets::ROW)?.ok_or(BackupError::NoKeys)?;
    let identity = audit::identity(rows)?.ok_or(BackupError::NoKeys)?;
    let code = rows.get::<RecoveryKeys>(RecoveryKeys::ROW)?;
    let settings = rows.get::<BackupSettings>(BackupSettings::ROW)?.unwrap_or_default();
    let header = Header {
        id: of.id,
        hub: *of.hub,
        identity: identity.verifying_key().to_bytes(),
        epoch: secrets.epoch,
        made_at: of.at,
        follows: previous.as_ref().map(|p| p.of.follows()),
        layout: SCHEMA_VERSION,
        program: env!("CARGO_PKG_VERSION").into(),
        wraps: ways::wraps(of.key, code.as_ref(), settings.passphrase.as_ref())?,
    };
    let base_at = previous.as_ref().map_or(of.at, |p| p.of.base_at);
    let indexed = Indexed { id: of.id, base: header.base(), place: header.place(), layout: SCHEMA_VERSION, base_at };
    let mut index = IndexWriter::new(index, indexed)?;
    let mut items = Items { out: ZlibEncoder::new(Sealer::new(out, &header, of.key)?, Compression::default()), changed: (0, 0) };
    let index_key = rows.vault().derive(INDEX_LABEL);
    let mut summary = Summary { samples: samples(rows, of.at)?, ..Summary::default() };
    let mut seen = 0;
    for table in backed_up_tables() {
        let name = table.name();
        items.table(name)?;
        index.table(name)?;
        if previous.as_ref().is_some_and(|p| !p.is_at(name)) {
            return Err(BackupError::OtherTables);
        }
        let (mut summing, mut after): (Summing, Option<Vec<u8>>) = Default::default();
        loop {
            let mut block = opened_rows(rows, table, after.as_deref(), BLOCK)?;
            after = block.last().map(|(key, _)| key.clone());
            seen += block.len() as u64;
            if !go_on(seen) {
                return Err(BackupError::Interrupted);
            }
            for (key, value) in &mut block {
                if table == <HubSecrets as Record>::TABLE {
                    *value = handed_on(&secrets, &*pepper_in(rows)?)?;
                }
                let hash = row_hash(&index_key, name, key, value);
                summing.row(key, value);
                index.row(key, hash)?;
                let mut known = None;
                if let Some(previous) = &mut previous {
                    while previous.peek().is_some_and(|(before, _)| before < key) {
                        if let Some((gone, _)) = previous.pop()? {
                            items.gone(&gone)?;
                        }
                    }
                    if previous.peek().is_some_and(|(same, _)| same == key) {
                        known = previous.pop()?.map(|(_, hash)| hash);
                    }
                }
                if known != Some(hash) {
                    items.row(key, value)?;
                }
            }
            if block.len() < BLOCK {
                break;
            }
        }
        if let Some(previous) = &mut previous {
            while let Some((gone, _)) = previous.pop()? {
                items.gone(&gone)?;
            }
            previous.leave()?;
        }
        index.table_ends()?;
        summary.tables.insert(name.to_owned(), summing.sum());
    }
    if previous.is_some_and(|p| !p.is_over()) {
        return Err(BackupError::OtherTables);
    }
    items.summary(&summary)?;
    let (rows, gone) = items.changed;
    let (out, length) = items.out.finish()?.finish(&identity)?;
    Ok((MadeBackup { header, length, rows, gone }, out, index.finish()?))
}
