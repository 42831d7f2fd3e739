//! The hub's durable memory: redb on one file, typed records, one writer that batches.
//!
//! What stands where is in [`tables`]; how a value becomes bytes, and which tables are sealed, in [`codec`].
//! Use cases live in `service`: nothing here decides anything. A write is acknowledged only after the commit
//! that holds it has been synced to disk.

mod carried;
pub mod codec;
#[cfg(test)]
pub(crate) mod fragile;
pub mod journal;
mod room;
pub mod tables;
mod vault;
mod wal;
mod writer;

pub use carried::{OpenRow, backed_up_table, backed_up_tables, carried_table, carried_tables, changes, opened_rows};
pub use codec::{Mirroring, Record, Table};
pub use room::RESERVE_FILE;
pub use vault::{MasterKey, Vault};
pub use wal::WAL_FILE;
pub use writer::Tx;

use arc_swap::ArcSwapOption;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use room::Room;
use serde::{Deserialize, Serialize};
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The version of the tables' layout that this program writes. A newer file is refused, an older one migrated.
/// 2: rows may stand in the write-ahead log alone.
pub const SCHEMA_VERSION: u32 = 2;

const LAYOUT_ROW: &[u8] = b"version";
const KEY_ROW: &[u8] = b"key";

/// redb's page cache, in bytes. Its default of 1 GiB does not fit a small box.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// How long closing waits for looks that have begun.
const LONGEST_LOOK: Duration = Duration::from_secs(30);

/// What can go wrong with the file itself. A missing row is not an error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database reported a fault: the disk is full, or it failed.
    #[error("the database failed: {0}. Check the free space and the health of the disk, then restart the hub")]
    Database(#[source] Box<redb::Error>),
    /// A row cannot be read back: it is damaged, or was sealed under another key.
    #[error("the row {key} of table {table} cannot be read ({reason}). Restore the newest good backup")]
    Row {
        /// The table's name.
        table: &'static str,
        /// The row's key, printable.
        key: String,
        /// What was wrong, without the row's content.
        reason: String,
    },
    /// The journal beside the database took nothing: the disk is full, or failed.
    #[error("the journal beside the database cannot be written: {0}. Nothing was done; free some space on the disk, and try again")]
    Journal(#[source] std::io::Error),
    /// There is no room for it on the disk.
    #[error("the disk is full, or almost: this was not done, and what is there goes on serving. Free some space on it, then try again")]
    Full,
    /// The file system was mounted for reading only, by somebody or because it has a fault.
    #[error(
        "the disk can only be read: this was not done, and what is there goes on serving. Check the health of the disk, and mount it for writing"
    )]
    ReadOnly,
    /// The writer has stopped because the hub is shutting down, or after a fatal fault.
    #[error("the store has stopped; restart the hub")]
    Stopped,
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(e: E) -> Self {
        StoreError::Database(Box::new(e.into()))
    }
}

/// Why a store could not be opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the file.
    #[error("{0} is in use by another hub: stop that one first, or choose another --data-dir")]
    InUse(String),
    /// The integrity check failed.
    #[error("{0} is damaged: {1}. Move it away and restore the newest good backup")]
    Damaged(String, String),
    /// A restore or a recovery has begun to fill it, and has not come to its end.
    #[error("{0} is not there yet: a restore or a recovery was cut off here. Repeat it; or, to begin a new hub, move hub.redb.new away")]
    CutOff(String),
    /// Written by a newer program.
    #[error("{path} has layout {found}, this program knows up to {known}: install the newer version again")]
    Newer {
        /// The file.
        path: String,
        /// The layout found in it.
        found: u32,
        /// The newest layout known here.
        known: u32,
    },
    /// The master key does not fit the file.
    #[error("{0} was sealed under another master key: put back the key file that belongs to it")]
    WrongKey(String),
    /// The journal or the log beside the file.
    #[error(
        "the journal or the log beside {path} cannot be read or written: {source}. Check that the disk has space, and that hub.journal and hub.wal are this program's to write"
    )]
    Beside {
        /// The database.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Anything else.
    #[error("{path}: {source}")]
    Other {
        /// The file.
        path: String,
        /// The cause.
        source: StoreError,
    },
}

/// A handle on the open store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    /// `None` once closed: a handle that somebody still holds must not keep the file.
    db: Arc<ArcSwapOption<OpenFile>>,
    closed: CancellationToken,
    vault: Arc<Vault>,
    writer: writer::Handle,
    /// What the journal said at opening, until somebody has taken from it what the database lacks.
    found: Arc<ArcSwapOption<journal::Found>>,
}

/// The open file. The fields are dropped in their order: when the token is cancelled, the file is closed.
struct OpenFile {
    db: Database,
    _closed: DropGuard,
}

impl std::ops::Deref for OpenFile {
    type Target = Database;
    fn deref(&self) -> &Database {
        &self.db
    }
}

/// The files beside the database.
#[derive(Default)]
struct Beside {
    journal: Option<Box<dyn journal::Disk>>,
    wal: Option<Box<dyn journal::Disk>>,
}

#[derive(Serialize, Deserialize)]
struct Layout {
    version: u32,
}

impl Record for Layout {
    const TABLE: Table = Table::plain("layout");
}

#[derive(Serialize, Deserialize)]
struct KeyCheck {
    text: String,
}

impl Record for KeyCheck {
    const TABLE: Table = Table::sealed("key_check");
}

impl Store {
    /// Opens or creates the file at `path` (for its owner alone), checks its integrity and its layout, puts into it what stands in the
    /// write-ahead log beside it alone, opens or creates the journal beside it, and starts the writer thread. See [`Store::found`] for what the journal knows and the file lacks.
    ///
    /// # Errors
    /// See [`OpenError`]; what the file holds is left as it was.
    pub fn open(path: &Path, master: MasterKey) -> Result<Store, OpenError> {
        let beside = path.with_file_name(journal::JOURNAL_FILE);
        // Opening writes: on a full disk the reserve is given up for it.
        let mut room = Room::beside(path);
        if room.level() == room::Level::ReadOnly {
            return Err(OpenError::Other { path: path.display().to_string(), source: StoreError::ReadOnly });
        }
        let log = path.with_file_name(WAL_FILE);
        let open = |path: &Path| journal::FileDisk::open(path).map(|disk| Some(Box::new(disk) as Box<dyn journal::Disk>));
        Store::over(Store::database(path)?, master, path.display().to_string(), Some(room), move || {
            Ok(Beside { journal: open(&beside)?, wal: open(&log)? })
        })
    }

    /// The same with nothing beside it: for a file that is being filled, and gets its own journal and log when it is opened in its place.
    ///
    /// # Errors
    /// The same.
    pub fn open_apart(path: &Path, master: MasterKey) -> Result<Store, OpenError> {
        Store::over(Store::database(path)?, master, path.display().to_string(), None, || Ok(Beside::default()))
    }

    fn database(path: &Path) -> Result<Database, OpenError> {
        let name = path.display().to_string();
        let fault = |source: StoreError| OpenError::Other { path: name.clone(), source };
        let file_fault = |e: std::io::Error| fault(StoreError::Database(Box::new(redb::Error::Io(e))));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(file_fault)?;
        let found = file.metadata().map_err(file_fault)?;
        if found.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600)).map_err(file_fault)?;
        }
        // A plain open of a damaged file succeeds and panics later: the check at opening reads everything once.
        let open = || {
            let backend = redb::backends::FileBackend::new(file)?;
            Database::builder().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(found.len() > 0).create_with_backend(backend)
        };
        // redb may meet damage with a panic; here that is one more way of saying "damaged".
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(open)) {
            Ok(Ok(db)) => Ok(db),
            Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => Err(OpenError::InUse(name)),
            Ok(Err(redb::DatabaseError::Storage(redb::StorageError::Corrupted(why)))) => Err(OpenError::Damaged(name, why)),
            Ok(Err(redb::DatabaseError::Storage(redb::StorageError::Io(e)))) if e.kind() == std::io::ErrorKind::InvalidData => {
                Err(OpenError::Damaged(name, e.to_string()))
            }
            Ok(Err(e)) => Err(fault(e.into())),
            Err(_) => Err(OpenError::Damaged(name, "its structure is inconsistent".into())),
        }
    }

    /// Checks whether `db` is for this program and this key before anything is written to it, then makes it ready.
    fn over(
        db: Database,
        master: MasterKey,
        name: String,
        room: Option<Room>,
        beside: impl FnOnce() -> std::io::Result<Beside>,
    ) -> Result<Store, OpenError> {
        let fault = |source: StoreError| OpenError::Other { path: name.clone(), source };
        let vault = Arc::new(Vault::new(master));
        let look = View { txn: db.begin_read().map_err(|e| fault(e.into()))?, vault: &vault };
        let found = look.first::<Layout>(LAYOUT_ROW).map_err(fault)?.map(|l| l.version);
        if let Some(found) = found.filter(|found| *found > SCHEMA_VERSION) {
            return Err(OpenError::Newer { path: name, found, known: SCHEMA_VERSION });
        }
        match look.first::<KeyCheck>(KEY_ROW) {
            Err(StoreError::Row { .. }) => return Err(OpenError::WrongKey(name)),
            other => other.map_err(fault)?,
        };
        let mark = look.first::<wal::Mark>(wal::Mark::ROW).map_err(fault)?;
        drop(look);
        let of_beside = |e: std::io::Error| OpenError::Beside { path: name.clone(), source: e };
        let Beside { journal, wal } = beside().map_err(of_beside)?;
        let unfolded = wal.map(|disk| wal::Unfolded::read(disk, mark.clone().unwrap_or_default())).transpose().map_err(|e| {
            let why = format!("hub.wal beside it cannot be read ({e}); with that moved away it would go on without its newest changes");
            OpenError::Damaged(name.clone(), why)
        })?;
        let lacks = unfolded.as_ref().is_some_and(|unfolded| unfolded.lacks);
        let mut wal = writer::in_one_transaction(&db, &vault, |tx| {
            // Before anything else: what was acknowledged, in the layout that it was written in.
            let wal = match unfolded {
                Some(unfolded) => Some(tx.fold(unfolded)?),
                // Without the log it goes its own way, and no log is for it any more.
                None if mark.is_some() => tx.put(wal::Mark::ROW, &wal::Mark::default()).map(|()| None)?,
                None => None,
            };
            tables::create_all(tx)?;
            if tx.get::<KeyCheck>(KEY_ROW)?.is_none() {
                tx.put(KEY_ROW, &KeyCheck { text: "hearthkey".into() })?;
            }
            if found.is_none() {
                tx.put(LAYOUT_ROW, &Layout { version: SCHEMA_VERSION })?;
            }
            Ok(wal)
        })
        .map_err(fault)?;
        // The file has it now.
        wal.iter_mut().for_each(wal::Wal::wipe);
        bring_up(&db, &vault, found.unwrap_or(SCHEMA_VERSION), SCHEMA_VERSION, tables::migrate).map_err(fault)?;
        let opened = journal.map(journal::Journal::open).transpose().map_err(of_beside)?;
        let (mut journal, found) = opened.unzip();
        if let Some(journal) = &mut journal {
            // What the database has and the journal does not: it is new, was lost, or the database is another one.
            let look = View { txn: db.begin_read().map_err(|e| fault(e.into()))?, vault: &vault };
            journal.append(journal::entries_of_all(&look).map_err(fault)?).map_err(|e| of_beside(e.into_cause()))?;
        }
        let closed = CancellationToken::new();
        let db = Arc::new(OpenFile { db, _closed: closed.clone().drop_guard() });
        let writer = writer::Handle::start(db.clone(), vault.clone(), journal, wal, room).map_err(fault)?;
        let found = found.map(|mut found| {
            found.lacks = lacks;
            found
        });
        let found = Arc::new(ArcSwapOption::from_pointee(found));
        Ok(Store { db: Arc::new(ArcSwapOption::new(Some(db))), closed, vault, writer, found })
    }

    /// What the journal said when the store was opened, the first time it is asked for: a database that is older than its
    /// journal lacks some of it. `None` afterwards, and without a journal.
    #[must_use]
    pub fn found(&self) -> Option<Arc<journal::Found>> {
        self.found.swap(None)
    }

    /// Looks at a file without changing it.
    #[must_use]
    pub fn look_at(path: &Path) -> Look {
        if !path.exists() {
            return Look::None;
        }
        let look = || -> Result<Option<u32>, redb::Error> {
            let db = Database::builder().set_cache_size(CACHE_BYTES).open_read_only(path)?;
            Ok(layout_in(&db.begin_read()?))
        };
        match std::panic::catch_unwind(look) {
            Ok(Ok(Some(layout))) => Look::Layout(layout),
            Ok(Ok(None)) => Look::Damaged("it says no layout".into()),
            Ok(Err(redb::Error::DatabaseAlreadyOpen)) => Look::Open,
            Ok(Err(redb::Error::RepairAborted)) => Look::NotClosed,
            Ok(Err(error)) => Look::Damaged(error.to_string()),
            Err(_) => Look::Damaged("its structure is inconsistent".into()),
        }
    }

    /// The layout of a closed file; `None` when it holds none, or cannot be read. A file that was not closed is repaired first, as at every
    /// opening.
    #[must_use]
    pub fn layout_of(path: &Path) -> Option<u32> {
        let look = || {
            let db = Database::builder().set_cache_size(CACHE_BYTES).open(path).ok()?;
            layout_in(&db.begin_read().ok()?)
        };
        path.exists().then(|| std::panic::catch_unwind(look).ok().flatten()).flatten()
    }

    /// One consistent look at what is committed.
    ///
    /// # Errors
    /// What `f` returns, or the database's fault; [`StoreError::Stopped`] once closed.
    pub fn read<R, E: From<StoreError>>(&self, f: impl FnOnce(&View) -> Result<R, E>) -> Result<R, E> {
        let db = self.db.load_full().ok_or(StoreError::Stopped)?;
        let txn = db.begin_read().map_err(StoreError::from)?;
        f(&View { txn, vault: &self.vault })
    }

    /// Runs `f` inside a durable transaction, batched with what others write at the same time.
    ///
    /// `f` decides and writes; when it returns an error, nothing of what it wrote remains. It may run more than
    /// once (when a neighbour in the batch had to be undone), so it changes nothing but the transaction.
    ///
    /// # Errors
    /// What `f` returns, or the database's fault; then nothing was written.
    pub async fn write<R, E, F>(&self, f: F) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnMut(&Tx<'_>) -> Result<R, E> + Send + 'static,
    {
        self.writer.submit(f).await
    }

    /// Stops the writer after what it already holds, and closes the file, whoever still has a handle: later reads and
    /// writes return [`StoreError::Stopped`]. When this returns, looks that had begun are over, and the file is free.
    pub async fn close(&self) {
        self.writer.stop().await;
        let db = self.db.swap(None);
        // Closing syncs the file; and after a fault redb may panic in it, which must not hide the fault.
        let _ = tokio::task::spawn_blocking(move || drop(db)).await;
        // Whoever looks the longest closes it.
        if tokio::time::timeout(LONGEST_LOOK, self.closed.cancelled()).await.is_err() {
            tracing::error!("somebody still reads the database; its file is not free yet");
        }
    }

    /// Cancelled when the database has failed for good: from then on nothing can be written, until the file is opened
    /// again.
    #[must_use]
    pub fn failed(&self) -> CancellationToken {
        self.writer.failed()
    }

    /// Told after each commit that has put something into the outbox.
    #[must_use]
    pub fn captured(&self) -> Arc<tokio::sync::Notify> {
        self.writer.captured()
    }

    /// How many write jobs and how many commits, each synced in the file or the log, there have been since the start.
    #[must_use]
    pub fn write_counts(&self) -> (u64, u64) {
        self.writer.counts()
    }
}

/// Brings the tables from the layout `found` to `wanted`, one layout after the other: the rows of a step and the number of the layout are one
/// commit, so that whatever cuts it off leaves one layout or the next, and the next opening goes on from there.
fn bring_up(
    db: &Database,
    vault: &Vault,
    found: u32,
    wanted: u32,
    step: impl Fn(&Tx<'_>, u32) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for version in found..wanted {
        tracing::info!(from = version, to = version + 1, "migrating the store");
        writer::in_one_transaction(db, vault, |tx| {
            step(tx, version)?;
            tx.put(LAYOUT_ROW, &Layout { version: version + 1 })
        })?;
    }
    Ok(())
}

/// What a look at a file from outside shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is not there.
    None,
    /// It is closed, and of this layout.
    Layout(u32),
    /// Somebody has it open.
    Open,
    /// It was not closed, and is repaired at the next opening.
    NotClosed,
    /// It cannot be read.
    Damaged(String),
}

fn layout_in(txn: &redb::ReadTransaction) -> Option<u32> {
    let table = txn.open_table(Layout::TABLE.definition()).ok()?;
    let row = table.get(LAYOUT_ROW).ok()??;
    let (_format, body) = row.value().split_first()?;
    ciborium::from_reader::<Layout, _>(body).ok().map(|layout| layout.version)
}

/// A row as it stands in the file: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Reading, the same in a look and in a transaction.
pub trait Read {
    /// The row's bytes.
    ///
    /// # Errors
    /// The database's fault.
    fn bytes(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` rows whose key is in `from..to`, in order, or in reverse order.
    ///
    /// # Errors
    /// The database's fault.
    fn rows(&self, table: Table, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<Row>, StoreError>;

    /// How many rows the table has.
    ///
    /// # Errors
    /// The database's fault.
    fn count(&self, table: Table) -> Result<u64, StoreError>;

    /// The key that seals.
    fn vault(&self) -> &Vault;

    /// One record.
    ///
    /// # Errors
    /// The database's fault, or a damaged row.
    fn get<T: Record>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.bytes(T::TABLE, key)?.map(|b| codec::decode(self.vault(), key, &b)).transpose()
    }

    /// Up to `limit` records whose key begins with `prefix`, with their keys, in order.
    ///
    /// # Errors
    /// The database's fault, or a damaged row.
    fn scan<T: Record>(&self, prefix: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        self.decode_all(self.rows(T::TABLE, prefix, &codec::after_prefix(prefix), limit, false)?)
    }

    /// Up to `limit` records before `before`, newest key first.
    ///
    /// # Errors
    /// The database's fault, or a damaged row.
    fn scan_back<T: Record>(&self, before: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        self.decode_all(self.rows(T::TABLE, &[], before, limit, true)?)
    }

    /// Up to `limit` keys of `table` that begin with `prefix` and come after `after` (the first ones when that is empty).
    ///
    /// # Errors
    /// The database's fault.
    fn keys_after(&self, table: Table, prefix: &[u8], after: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let from = if after.is_empty() { prefix.to_vec() } else { [after, &[0]].concat() };
        let rows = self.rows(table, &from, &codec::after_prefix(prefix), limit, false)?;
        Ok(rows.into_iter().map(|(key, _)| key).collect())
    }

    /// Decodes rows of one table.
    ///
    /// # Errors
    /// A damaged row.
    fn decode_all<T: Record>(&self, rows: Vec<Row>) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        rows.into_iter().map(|(k, v)| codec::decode(self.vault(), &k, &v).map(|t| (k, t))).collect()
    }
}

/// A consistent look, from [`Store::read`].
pub struct View<'a> {
    txn: redb::ReadTransaction,
    vault: &'a Vault,
}

impl View<'_> {
    /// A row of a table that a new file does not have yet.
    fn first<T: Record>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.txn.open_table(T::TABLE.definition()) {
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            other => other.map_err(StoreError::from).and_then(|_| self.get(key)),
        }
    }
}

impl Read for View<'_> {
    fn bytes(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.txn.open_table(table.definition())?.get(key)?.map(|v| v.value().to_vec()))
    }
    fn rows(&self, table: Table, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<Row>, StoreError> {
        collect(&self.txn.open_table(table.definition())?, from, to, limit, reverse)
    }
    fn count(&self, table: Table) -> Result<u64, StoreError> {
        Ok(self.txn.open_table(table.definition())?.len()?)
    }
    fn vault(&self) -> &Vault {
        self.vault
    }
}

fn collect(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    from: &[u8],
    to: &[u8],
    limit: usize,
    reverse: bool,
) -> Result<Vec<Row>, StoreError> {
    let mut range = table.range(from..to)?;
    let mut out = Vec::new();
    while out.len() < limit {
        let next = if reverse { range.next_back() } else { range.next() };
        let Some(row) = next else { break };
        let (key, value) = row?;
        out.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
