//! What is sealed in a backup: a sequence of CBOR items in deflate (zlib). For each table its name and its rows, `[key,
//! value]` for one that is there, `[key]` for one that has gone since the backup before; at last a map about the whole:
//! for every table how many rows it then has and their hash, and how the policy decided about samples.

use super::BackupError;
use super::samples::Sample;
use crate::store::{OpenRow, Table, backed_up_table};
use ciborium::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Write};
use zeroize::Zeroizing;

/// Bytes of a row's key or value at most.
const ROW_MAX: usize = 16 * 1024 * 1024;
/// Samples and tables that a summary has at most.
const LISTED_MAX: usize = 10_000;

/// All rows of a table, in short: how many, and a hash of keys and opened values in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub rows: u64,
    /// SHA-256 over each row's key and value, either with its length before (8 bytes).
    pub sha256: [u8; 32],
}

/// Sums rows up.
#[derive(Clone, Default)]
pub(super) struct Summing {
    rows: u64,
    hash: Sha256,
}

impl Summing {
    pub(super) fn row(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        for part in [key, value] {
            self.hash.update((part.len() as u64).to_be_bytes());
            self.hash.update(part);
        }
    }
    pub(super) fn sum(self) -> Sum {
        Sum { rows: self.rows, sha256: self.hash.finalize().into() }
    }
}

/// What stands at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Every table as it is after this backup is restored.
    pub tables: BTreeMap<String, Sum>,
    /// How the policy decided.
    pub samples: Vec<Sample>,
    /// Rows in this file, and rows that it takes away.
    pub(super) changed: (u64, u64),
}

/// Writes items.
pub(super) struct Items<W: Write> {
    pub(super) out: W,
    pub(super) changed: (u64, u64),
}

impl<W: Write> Items<W> {
    pub(super) fn table(&mut self, name: &str) -> io::Result<()> {
        ciborium::into_writer(&Value::Text(name.into()), &mut self.out).map_err(io::Error::other)
    }

    /// By hand, so that no copy of a secret is left behind.
    pub(super) fn row(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.changed.0 += 1;
        self.out.write_all(&[0x82])?;
        self.bytes(key)?;
        self.bytes(value)
    }

    pub(super) fn gone(&mut self, key: &[u8]) -> io::Result<()> {
        self.changed.1 += 1;
        self.out.write_all(&[0x81])?;
        self.bytes(key)
    }

    /// A byte string with a length of four bytes.
    fn bytes(&mut self, part: &[u8]) -> io::Result<()> {
        let length = u32::try_from(part.len()).map_err(io::Error::other)?;
        self.out.write_all(&[0x5a])?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(part)
    }

    /// The end.
    pub(super) fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let tables = summary
            .tables
            .iter()
            .map(|(name, sum)| Value::Array(vec![Value::Text(name.clone()), sum.rows.into(), Value::Bytes(sum.sha256.to_vec())]));
        let samples = summary.samples.iter().map(Sample::to_value);
        let value = Value::Map(vec![
            (1.into(), self.changed.0.into()),
            (2.into(), self.changed.1.into()),
            (3.into(), Value::Array(tables.collect())),
            (4.into(), Value::Array(samples.collect())),
        ]);
        ciborium::into_writer(&value, &mut self.out).map_err(io::Error::other)
    }
}

/// What is read: a row that is put, or taken away.
pub(super) enum Step {
    /// It is there.
    Put(Table, OpenRow),
    /// It is gone.
    Gone(Table, Vec<u8>),
}

/// Reads items. `program` wrote them.
pub(super) struct Reader<R> {
    from: R,
    program: String,
    table: Option<Table>,
    changed: (u64, u64),
    /// What stood at the end.
    pub(super) summary: Option<Summary>,
}

impl<R: io::Read> Reader<R> {
    pub(super) fn new(from: R, program: String) -> Self {
        Reader { from, program, table: None, changed: (0, 0), summary: None }
    }

    /// The next step; `None` at the end, with which [`Reader::summary`] is there.
    pub(super) fn next(&mut self) -> Result<Option<Step>, BackupError> {
        loop {
            match ciborium::from_reader(&mut self.from).map_err(|_| BackupError::Altered)? {
                Value::Text(name) => {
                    // One that this program does not know must not be lost in silence.
                    self.table = Some(backed_up_table(&name).ok_or_else(|| BackupError::Newer(self.program.clone()))?);
                }
                Value::Array(parts) => {
                    let mut parts = parts.into_iter().map(Value::into_bytes);
                    let (Some(table), Some(Ok(key)), value, None) = (self.table, parts.next(), parts.next(), parts.next()) else {
                        return Err(BackupError::Altered);
                    };
                    if key.len() > ROW_MAX {
                        return Err(BackupError::Altered);
                    }
                    return match value {
                        None => {
                            self.changed.1 += 1;
                            Ok(Some(Step::Gone(table, key)))
                        }
                        Some(Ok(value)) if value.len() <= ROW_MAX => {
                            self.changed.0 += 1;
                            Ok(Some(Step::Put(table, (key, Zeroizing::new(value)))))
                        }
                        Some(_) => Err(BackupError::Altered),
                    };
                }
                Value::Map(members) => {
                    let summary = summary(members).ok_or(BackupError::Altered)?;
                    if summary.changed != self.changed {
                        return Err(BackupError::Altered);
                    }
                    self.summary = Some(summary);
                    return Ok(None);
                }
                _ => return Err(BackupError::Altered),
            }
        }
    }

    pub(super) fn into_inner(self) -> R {
        self.from
    }
}

fn summary(members: Vec<(Value, Value)>) -> Option<Summary> {
    let mut summary = Summary::default();
    for (number, value) in members {
        match number.as_integer().and_then(|n| u64::try_from(n).ok())? {
            1 => summary.changed.0 = u64::try_from(value.as_integer()?).ok()?,
            2 => summary.changed.1 = u64::try_from(value.as_integer()?).ok()?,
            3 => {
                for table in value.into_array().ok().filter(|all| all.len() <= LISTED_MAX)? {
                    let mut parts = table.into_array().ok()?.into_iter();
                    let name = parts.next()?.into_text().ok()?;
                    let rows = u64::try_from(parts.next()?.as_integer()?).ok()?;
                    let sha256 = parts.next()?.into_bytes().ok()?.try_into().ok()?;
                    summary.tables.insert(name, Sum { rows, sha256 });
                }
            }
            4 => {
                let all = value.into_array().ok().filter(|all| all.len() <= LISTED_MAX)?;
                summary.samples = all.into_iter().map(Sample::from_value).collect::<Option<_>>()?;
            }
            // A later version may say more.
            _ => {}
        }
    }
    Some(summary)
}
