//! The one writer: jobs from all tasks, run in order inside one transaction per batch, one sync for all of them.
//!
//! redb has no group commit of its own, and a sync costs milliseconds on a card: batching is what makes many durable
//! writers cheap. A job that fails after it wrote is undone by aborting the batch and running the others again. What no
//! roll-back may lose goes to the [`journal`] before the commit, by one more sync for those batches that have such. Most batches are synced in the
//! write-ahead log ([`super::wal`]) and committed in memory; the database's file takes them later.

use super::journal::{self, AppendError, Journal};
use super::room::{Level, Room};
use super::tables::{ChangeCount, MirrorSwitch, OutboxRow, outbox_key};
use super::wal::{Rows, Unfolded, Wal};
use super::{Mirroring, OpenFile, Read, Record, StoreError, Table, Vault, carried, codec};
use crate::domain::mirror::journal::Entry;
use redb::{Database, Durability, ReadableTable, ReadableTableMetadata, WriteTransaction};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// At most so many jobs share one commit; more wait for the next.
const BATCH: usize = 256;
/// Jobs that wait; a caller beyond that waits for room.
const QUEUE: usize = 4096;

/// A write transaction as a job sees it.
pub struct Tx<'a> {
    txn: &'a WriteTransaction,
    vault: &'a Vault,
    writes: Cell<u64>,
    /// Something was written that a replacing hub needs.
    carried: Cell<bool>,
    /// Whether a cloud is linked, once that was looked up.
    mirrors: Cell<Option<MirrorSwitch>>,
    /// Something was put into the outbox.
    captured: Cell<bool>,
    /// Rows that were put and that the journal notes, by table and key: however often one is put, it is noted once.
    journalled: RefCell<BTreeMap<(&'static str, Vec<u8>), Table>>,
    /// What was done to rows, for the log.
    rows: RefCell<Rows>,
    /// How much room there is.
    level: Level,
}

impl<'a> Tx<'a> {
    fn new(txn: &'a WriteTransaction, vault: &'a Vault, level: Level) -> Tx<'a> {
        Tx {
            txn,
            vault,
            writes: Cell::new(0),
            carried: Cell::new(false),
            mirrors: Cell::new(None),
            captured: Cell::new(false),
            journalled: RefCell::default(),
            rows: RefCell::default(),
            level,
        }
    }
}

impl Tx<'_> {
    /// Inserts or replaces a record.
    ///
    /// # Errors
    /// The database's fault.
    pub fn put<T: Record>(&self, key: &[u8], value: &T) -> Result<(), StoreError> {
        self.put_counted(key, value).map(|_| ())
    }

    /// The same; says how many bytes the row takes, key and value.
    ///
    /// # Errors
    /// The database's fault.
    pub fn put_counted<T: Record>(&self, key: &[u8], value: &T) -> Result<u64, StoreError> {
        if self.level.refuses(T::TABLE.name()) {
            return Err(StoreError::Full);
        }
        let bytes = codec::encode(self.vault, key, value)?;
        self.put_bytes(T::TABLE, key, &bytes)?;
        if T::TABLE == MirrorSwitch::TABLE {
            self.mirrors.set(None);
        }
        self.capture::<T>(key)?;
        Ok((key.len() + bytes.len()) as u64)
    }

    /// Inserts or replaces a row as it stands in the file.
    pub(super) fn put_bytes(&self, table: Table, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        self.wrote(table, key, Some(bytes));
        self.txn.open_table(table.definition())?.insert(key, bytes)?;
        if journal::concerns(table) {
            self.journalled.borrow_mut().insert((table.name(), key.to_vec()), table);
        }
        Ok(())
    }

    /// Removes a row, whatever stands in it.
    pub(super) fn delete_bytes(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.wrote(table, key, None);
        self.txn.open_table(table.definition())?.remove(key)?;
        Ok(())
    }

    /// What the journal is to say of this batch.
    fn journal_entries(&self) -> Result<Vec<Entry>, StoreError> {
        let mut all = Vec::new();
        for ((_, key), table) in self.journalled.borrow().iter() {
            all.extend(journal::entries_of(self, *table, key)?);
        }
        Ok(all)
    }

    fn wrote(&self, table: Table, key: &[u8], value: Option<&[u8]>) {
        self.rows.borrow_mut().note(table, key, value);
        self.writes.set(self.writes.get() + 1);
        if !self.carried.get() && carried::counts(table) {
            self.carried.set(true);
        }
    }

    /// Counts, once a commit, that something a replacing hub needs has changed.
    fn count_changes(&self) -> Result<(), StoreError> {
        if !self.carried.get() {
            return Ok(());
        }
        let count = self.get::<ChangeCount>(ChangeCount::ROW)?.map_or(0, |c| c.count);
        self.put(ChangeCount::ROW, &ChangeCount { count: count.saturating_add(1) })
    }

    /// Removes a record; says whether there was one.
    ///
    /// # Errors
    /// The database's fault.
    pub fn delete<T: Record>(&self, key: &[u8]) -> Result<bool, StoreError> {
        self.wrote(T::TABLE, key, None);
        let found = self.txn.open_table(T::TABLE.definition())?.remove(key)?.is_some();
        if found {
            self.capture::<T>(key)?;
        }
        Ok(found)
    }

    /// Notes in the outbox, in this transaction, that a mirrored row has changed. Every write comes by here, so that no
    /// use case can forget it; with no cloud linked nothing is noted.
    fn capture<T: Record>(&self, key: &[u8]) -> Result<(), StoreError> {
        match T::MIRRORED {
            Mirroring::Own if self.mirrors()?.on => self.note(T::TABLE, key, false),
            Mirroring::IfTwins if self.mirrors()?.twins => self.note(T::TABLE, key, false),
            Mirroring::With(table) if self.mirrors()?.on && self.bytes(table, key)?.is_some() => self.note(table, key, false),
            _ => Ok(()),
        }
    }

    /// Notes that a row is to be sent though it has not changed.
    ///
    /// # Errors
    /// The database's fault.
    pub fn send_again(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.note(table, key, true)
    }

    fn note(&self, table: Table, key: &[u8], again: bool) -> Result<(), StoreError> {
        let at = outbox_key(table, key);
        let known = self.get::<OutboxRow>(&at)?.unwrap_or_default();
        self.captured.set(true);
        self.put(&at, &OutboxRow { changes: known.changes + 1, again: known.again || again })
    }

    fn mirrors(&self) -> Result<MirrorSwitch, StoreError> {
        if let Some(known) = self.mirrors.get() {
            return Ok(known);
        }
        let switch = self.get::<MirrorSwitch>(MirrorSwitch::ROW)?.unwrap_or_default();
        self.mirrors.set(Some(switch));
        Ok(switch)
    }

    /// Removes all records whose key begins with `prefix`; says how many.
    ///
    /// # Errors
    /// The database's fault.
    pub fn delete_prefix<T: Record>(&self, prefix: &[u8]) -> Result<usize, StoreError> {
        let keys = self.rows(T::TABLE, prefix, &codec::after_prefix(prefix), usize::MAX, false)?;
        for (key, _) in &keys {
            self.delete::<T>(key)?;
        }
        Ok(keys.len())
    }

    /// Puts into the database what its file lacks of the log beside it.
    pub(super) fn fold(&self, unfolded: Unfolded) -> Result<Wal, StoreError> {
        unfolded.fold(self.txn, self.vault)
    }

    pub(super) fn create(&self, table: Table) -> Result<(), StoreError> {
        self.txn.open_table(table.definition())?;
        Ok(())
    }
}

impl Read for Tx<'_> {
    fn bytes(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.txn.open_table(table.definition())?.get(key)?.map(|v| v.value().to_vec()))
    }
    fn rows(&self, table: Table, from: &[u8], to: &[u8], limit: usize, reverse: bool) -> Result<Vec<super::Row>, StoreError> {
        super::collect(&self.txn.open_table(table.definition())?, from, to, limit, reverse)
    }
    fn count(&self, table: Table) -> Result<u64, StoreError> {
        Ok(self.txn.open_table(table.definition())?.len()?)
    }
    fn vault(&self) -> &Vault {
        self.vault
    }
}

enum Outcome {
    Keep,
    /// Failed before it wrote anything: the batch goes on.
    Refused,
    /// Failed after it had written: the batch must be run again without it.
    Undo,
}

trait Job: Send {
    fn run(&mut self, tx: &Tx<'_>) -> Outcome;
    fn finish(self: Box<Self>, commit: Result<(), StoreError>);
}

struct Typed<F, R, E> {
    work: F,
    outcome: Option<Result<R, E>>,
    reply: oneshot::Sender<Result<R, E>>,
}

impl<F, R, E> Job for Typed<F, R, E>
where
    F: FnMut(&Tx<'_>) -> Result<R, E> + Send,
    R: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> Outcome {
        let before = tx.writes.get();
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| (self.work)(tx))).unwrap_or_else(|_| {
            tracing::error!("a write job panicked; it is undone");
            Err(StoreError::Stopped.into())
        });
        let kept = result.is_ok();
        self.outcome = Some(result);
        match (kept, tx.writes.get() > before) {
            (true, _) => Outcome::Keep,
            (false, false) => Outcome::Refused,
            (false, true) => Outcome::Undo,
        }
    }

    fn finish(self: Box<Self>, commit: Result<(), StoreError>) {
        let result = match (self.outcome, commit) {
            (Some(Err(refusal)), _) => Err(refusal),
            (_, Err(fault)) => Err(fault.into()),
            (Some(ok), Ok(())) => ok,
            (None, Ok(())) => Err(StoreError::Stopped.into()),
        };
        // The caller may have gone; what is committed stays committed.
        let _ = self.reply.send(result);
    }
}

enum Message {
    Job(Box<dyn Job>),
    Stop(oneshot::Sender<()>),
}

#[derive(Default)]
struct Counts {
    jobs: AtomicU64,
    commits: AtomicU64,
}

/// The sending side; cheap to clone.
#[derive(Clone)]
pub(super) struct Handle {
    queue: mpsc::SyncSender<Message>,
    counts: Arc<Counts>,
    failed: CancellationToken,
    captured: Arc<Notify>,
}

impl Handle {
    pub(super) fn start(
        db: Arc<OpenFile>,
        vault: Arc<Vault>,
        journal: Option<Journal>,
        wal: Option<Wal>,
        room: Option<Room>,
    ) -> Result<Handle, StoreError> {
        let (queue, jobs) = mpsc::sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        let failed = CancellationToken::new();
        let fails = failed.clone();
        let captured = Arc::new(Notify::new());
        let tell = captured.clone();
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                // Cancels also when the thread ends by a panic.
                let guard = fails.clone().drop_guard();
                let mut pen = Pen { db: &db, vault: &vault, journal, wal, room, captured: &tell };
                let stopped = write_loop(&mut pen, &jobs, &shared, &fails);
                if !fails.is_cancelled() {
                    pen.fold();
                }
                drop(pen);
                guard.disarm();
                // Who waits for the end may open the file again: let go of it first.
                drop(db);
                if let Some(stopped) = stopped {
                    let _ = stopped.send(());
                }
            })
            .map_err(|_| StoreError::Stopped)?;
        Ok(Handle { queue, counts, failed, captured })
    }

    pub(super) async fn submit<R, E, F>(&self, work: F) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnMut(&Tx<'_>) -> Result<R, E> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.hand_in(Message::Job(Box::new(Typed { work, outcome: None, reply }))).await;
        answer.await.unwrap_or_else(|_| Err(StoreError::Stopped.into()))
    }

    /// Apart from [`Handle::submit`], which is compiled once for each use case: what waits is one task in the program, not hundreds.
    async fn hand_in(&self, job: Message) {
        if let Err(mpsc::TrySendError::Full(job)) = self.queue.try_send(job) {
            let queue = self.queue.clone();
            // Full: wait off the runtime's workers.
            let _ = tokio::task::spawn_blocking(move || queue.send(job)).await;
        }
    }

    pub(super) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        let queue = self.queue.clone();
        let sent = tokio::task::spawn_blocking(move || queue.send(Message::Stop(done)).is_ok()).await;
        if matches!(sent, Ok(true)) {
            let _ = stopped.await;
        }
    }

    pub(super) fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    pub(super) fn captured(&self) -> Arc<Notify> {
        self.captured.clone()
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        (self.counts.jobs.load(Ordering::Relaxed), self.counts.commits.load(Ordering::Relaxed))
    }
}

/// Runs until it is told to stop, and returns whom to tell that it has.
fn write_loop(
    pen: &mut Pen<'_>,
    jobs: &mpsc::Receiver<Message>,
    counts: &Counts,
    failed: &CancellationToken,
) -> Option<oneshot::Sender<()>> {
    while let Ok(first) = jobs.recv() {
        let mut batch = Vec::new();
        let mut stop = None;
        for message in std::iter::once(first).chain(std::iter::from_fn(|| jobs.try_recv().ok())) {
            match message {
                Message::Job(job) => batch.push(job),
                Message::Stop(done) => stop = Some(done),
            }
            if batch.len() >= BATCH || stop.is_some() {
                break;
            }
        }
        counts.jobs.fetch_add(batch.len() as u64, Ordering::Relaxed);
        if failed.is_cancelled() {
            // Nothing is written over a commit that failed.
            batch.drain(..).for_each(|job| job.finish(Err(StoreError::Stopped)));
        }
        if !batch.is_empty() {
            if !pen.commit(batch) {
                // redb refuses every write after a fault of the disk, until the file is opened anew.
                failed.cancel();
            }
            counts.commits.fetch_add(1, Ordering::Relaxed);
        }
        if stop.is_some() {
            return stop;
        }
    }
    None
}

/// Why a batch was not committed.
enum Fault {
    /// The journal took nothing, as the disk is full; the next batch may go.
    Passing(std::io::Error),
    /// There is no room for it; the next batch may go.
    NoRoom(StoreError),
    /// Nothing can be written any more.
    Lasting(StoreError),
}

impl From<StoreError> for Fault {
    fn from(fault: StoreError) -> Self {
        Fault::Lasting(fault)
    }
}

impl Fault {
    /// The same fault for one of those who are told.
    fn told(&self) -> StoreError {
        let again = |why: String| std::io::Error::other(why);
        match self {
            Fault::NoRoom(StoreError::ReadOnly) => StoreError::ReadOnly,
            Fault::NoRoom(_) => StoreError::Full,
            Fault::Passing(cause) => StoreError::Journal(again(cause.to_string())),
            Fault::Lasting(StoreError::Journal(cause)) => StoreError::Journal(again(cause.to_string())),
            // Only the cause: what to do is said by whoever is told.
            Fault::Lasting(StoreError::Database(cause)) => StoreError::Database(Box::new(redb::Error::Io(again(cause.to_string())))),
            Fault::Lasting(other) => StoreError::Database(Box::new(redb::Error::Io(again(other.to_string())))),
        }
    }
}

/// What the writer writes with.
struct Pen<'a> {
    db: &'a Database,
    vault: &'a Vault,
    journal: Option<Journal>,
    wal: Option<Wal>,
    room: Option<Room>,
    captured: &'a Notify,
}

impl Pen<'_> {
    /// Writes to the database's file what stands in the log alone, and that it is closed. When that fails, it is done at the next opening.
    fn fold(&mut self) {
        let Some(wal) = &mut self.wal else { return };
        let folded = self.db.begin_write().map_err(StoreError::from).and_then(|txn| {
            wal.noted(&txn, self.vault, true)?;
            Ok(txn.commit()?)
        });
        match folded {
            Ok(()) => wal.wipe(),
            Err(error) => {
                tracing::warn!(%error, "the database's file lacks what stands in the write-ahead log; it is taken from there at the next start")
            }
        }
    }

    /// Runs a batch in one transaction, again without each job that has to be undone. Whether the store goes on serving.
    fn commit(&mut self, mut batch: Vec<Box<dyn Job>>) -> bool {
        let mut out: Vec<Box<dyn Job>> = Vec::new();
        let result = self.write(&mut batch, &mut out);
        if matches!(result, Ok(true)) {
            self.captured.notify_one();
        }
        // A fault is told to everyone: nothing of this batch was acknowledged.
        let fault = result.err();
        for job in batch.into_iter().chain(out) {
            job.finish(fault.as_ref().map_or(Ok(()), |fault| Err(fault.told())));
        }
        if let Some(fault) = &fault {
            tracing::error!(why = %fault.told(), "a commit failed; nothing of it was acknowledged");
        }
        !matches!(fault, Some(Fault::Lasting(_)))
    }

    /// Whether something was put into the outbox.
    fn write(&mut self, batch: &mut Vec<Box<dyn Job>>, out: &mut Vec<Box<dyn Job>>) -> Result<bool, Fault> {
        let level = self.room.as_mut().map_or(Level::Ample, Room::level);
        if let Some(refusal) = level.refusal() {
            return Err(Fault::NoRoom(refusal));
        }
        'again: loop {
            let mut txn = self.db.begin_write().map_err(StoreError::from)?;
            let tx = Tx::new(&txn, self.vault, level);
            let mut undo = None;
            for (i, job) in batch.iter_mut().enumerate() {
                if matches!(job.run(&tx), Outcome::Undo) {
                    undo = Some(i);
                    break;
                }
            }
            if let Some(i) = undo {
                out.push(batch.remove(i));
                txn.abort().map_err(StoreError::from)?;
                continue 'again;
            }
            tx.count_changes()?;
            let noted = tx.captured.get();
            if tx.writes.get() == 0 {
                txn.abort().map_err(StoreError::from)?;
                return Ok(noted);
            }
            let entries = tx.journal_entries()?;
            // Before the commit: whatever is acknowledged is in the journal.
            match self.journal.as_mut().map_or(Ok(()), |journal| journal.append(entries)) {
                Ok(()) => {}
                Err(AppendError::Refused(cause)) => {
                    txn.abort().map_err(StoreError::from)?;
                    return Err(Fault::Passing(cause));
                }
                Err(AppendError::Failed(cause)) => {
                    txn.abort().map_err(StoreError::from)?;
                    return Err(Fault::Lasting(StoreError::Journal(cause)));
                }
            }
            let rows = tx.rows.take();
            let Some(wal) = &mut self.wal else {
                txn.commit().map_err(StoreError::from)?;
                return Ok(noted);
            };
            // On a disk that is almost full the file takes at once what it is going to need room for.
            let logged = level == Level::Ample && wal.append(&rows);
            if logged {
                wal.mark(&txn, self.vault)?;
                txn.set_durability(Durability::None).map_err(StoreError::from)?;
            } else {
                wal.noted(&txn, self.vault, false)?;
            }
            txn.commit().map_err(StoreError::from)?;
            if !logged {
                wal.rewind();
            }
            return Ok(noted);
        }
    }
}

/// One transaction on the calling thread, for opening and migrating.
pub(super) fn in_one_transaction<R>(
    db: &Database,
    vault: &Vault,
    f: impl FnOnce(&Tx<'_>) -> Result<R, StoreError>,
) -> Result<R, StoreError> {
    let txn = db.begin_write()?;
    let out = f(&Tx::new(&txn, vault, Level::Ample))?;
    txn.commit()?;
    Ok(out)
}
