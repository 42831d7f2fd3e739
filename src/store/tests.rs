//! The store's promises: batching, undoing, sealing, refusing what it cannot read.

use super::tables::{StoredDeviceKey, UserName};
use super::*;
use crate::domain::account::UserId;
use redb::backends::InMemoryBackend;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

mod migrating;
mod outbox;

fn key(n: u8) -> MasterKey {
    MasterKey::new([n; 32])
}

fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&dir.path().join("hub.redb"), key(1)).unwrap()
}

fn name() -> UserName {
    UserName { id: UserId::from_uuid(uuid::Uuid::nil()) }
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("no")]
    No,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[tokio::test]
async fn a_file_whose_closing_has_returned_is_free_whoever_was_reading() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (began, begun) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let reader = store.clone();
    let reading = std::thread::spawn(move || {
        reader.read::<_, StoreError>(|_| {
            began.send(()).unwrap();
            ended.recv().unwrap();
            Ok(())
        })
    });
    begun.recv().unwrap();
    let mut closing = tokio::spawn(async move { store.close().await });
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), &mut closing).await.is_err(), "it waits for the reader");
    end.send(()).unwrap();
    closing.await.unwrap();
    open(&dir);
    reading.join().unwrap().unwrap();
}

#[tokio::test]
async fn what_is_acknowledged_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.write::<_, StoreError, _>(|tx| tx.put(b"a", &name())).await.unwrap();
    store.close().await;
    drop(store);
    assert!(open(&dir).read::<_, StoreError>(|v| v.get::<UserName>(b"a")).unwrap().is_some());
}

#[tokio::test]
async fn a_job_that_fails_after_writing_leaves_nothing_and_its_neighbours_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let jobs: Vec<_> = (0u8..40)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .write(move |tx| {
                        tx.put(&[i], &name())?;
                        if i % 3 == 0 { Err(Refused::No) } else { Ok(()) }
                    })
                    .await
            })
        })
        .collect();
    for (i, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.await.unwrap().is_err(), i % 3 == 0);
    }
    let kept = store.read::<_, StoreError>(|v| v.scan::<UserName>(b"", 100)).unwrap();
    assert_eq!(kept.len(), 26);
    assert!(kept.iter().all(|(k, _)| k[0] % 3 != 0));
}

#[tokio::test]
async fn a_job_that_panics_is_undone_and_the_writer_lives() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let died = store
        .write::<(), StoreError, _>(|tx| {
            tx.put(b"half", &name())?;
            panic!("a bug")
        })
        .await;
    assert!(died.is_err());
    store.write::<_, StoreError, _>(|tx| tx.put(b"whole", &name())).await.unwrap();
    let rows = store.read::<_, StoreError>(|v| v.scan::<UserName>(b"", 10)).unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn writers_at_the_same_time_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let jobs: Vec<_> = (0u16..640)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move { store.write::<_, StoreError, _>(move |tx| tx.put(&i.to_be_bytes(), &name())).await })
        })
        .collect();
    for job in jobs {
        job.await.unwrap().unwrap();
    }
    let (jobs, commits) = store.write_counts();
    assert_eq!(jobs, 640);
    assert!(commits < 320, "{commits} commits for {jobs} jobs");
}

#[tokio::test]
async fn a_sealed_row_is_unreadable_in_the_file_and_bound_to_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let secret = [0xA5u8; 32];
    store.write::<_, StoreError, _>(move |tx| tx.put(b"door", &StoredDeviceKey(secret))).await.unwrap();
    let raw = store.read::<_, StoreError>(|v| v.bytes(StoredDeviceKey::TABLE, b"door")).unwrap().unwrap();
    assert!(!raw.windows(8).any(|w| w == &secret[..8]));
    let moved = store.read::<_, StoreError>(|v| Ok(codec::decode::<StoredDeviceKey>(v.vault(), b"window", &raw).is_err())).unwrap();
    assert!(moved);
    assert_eq!(store.read::<_, StoreError>(|v| v.get::<StoredDeviceKey>(b"door")).unwrap().unwrap().0, secret);
}

#[tokio::test]
async fn another_master_key_is_refused_at_opening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.close().await;
    drop(store);
    assert!(matches!(Store::open(&dir.path().join("hub.redb"), key(2)), Err(OpenError::WrongKey(_))));
}

#[tokio::test]
async fn a_newer_layout_and_a_second_hub_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    assert!(matches!(Store::open(&dir.path().join("hub.redb"), key(1)), Err(OpenError::InUse(_))));
    store.write::<_, StoreError, _>(|tx| tx.put(b"version", &Layout { version: SCHEMA_VERSION + 1 })).await.unwrap();
    store.close().await;
    drop(store);
    assert!(matches!(Store::open(&dir.path().join("hub.redb"), key(1)), Err(OpenError::Newer { .. })));
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.redb");
    let store = open(&dir);
    for i in 0u16..600 {
        if i % 20 == 0 {
            store.write::<_, StoreError, _>(move |tx| (0..20).try_for_each(|j| tx.put(&(i + j).to_be_bytes(), &name()))).await.unwrap();
        }
    }
    store.close().await;
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    // Damage every page but the header: a plain open would not notice.
    for at in (8192..bytes.len()).step_by(512) {
        bytes[at] ^= 0xFF;
    }
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(&path, key(1)).err().expect("damage must be noticed");
    assert!(matches!(error, OpenError::Damaged(..)), "{error}");
    assert!(error.to_string().contains("backup"));
}

#[tokio::test]
async fn a_closed_store_lets_go_of_its_file_whoever_still_holds_a_handle() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.close().await;
    let again = open(&dir);
    assert!(matches!(store.read::<_, StoreError>(|v| v.get::<UserName>(b"a")), Err(StoreError::Stopped)));
    assert!(matches!(store.write::<_, StoreError, _>(|tx| tx.put(b"a", &name())).await, Err(StoreError::Stopped)));
    again.write::<_, StoreError, _>(|tx| tx.put(b"a", &name())).await.unwrap();
}

#[test]
fn the_tables_of_a_newer_file_are_left_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.redb");
    let db = Database::create(&path).unwrap();
    writer::in_one_transaction(&db, &Vault::new(key(1)), |tx| tx.put(LAYOUT_ROW, &Layout { version: SCHEMA_VERSION + 1 })).unwrap();
    drop(db);
    assert!(matches!(Store::open(&path, key(1)), Err(OpenError::Newer { .. })));
    let tables = Database::open(&path).unwrap().begin_read().unwrap().list_tables().unwrap().count();
    assert_eq!(tables, 1);
}

const SOUND: u8 = 0;
const FULL: u8 = 1;
const PANICS: u8 = 2;

/// A disk that fails on demand.
#[derive(Debug, Default)]
struct Disk {
    inner: InMemoryBackend,
    state: Arc<AtomicU8>,
}

impl Disk {
    fn check(&self) -> io::Result<()> {
        match self.state.load(Ordering::SeqCst) {
            SOUND => Ok(()),
            FULL => Err(io::Error::from(io::ErrorKind::StorageFull)),
            _ => panic!("a bug below"),
        }
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.inner.write(offset, data)
    }
}

async fn fails_for_good(fault: u8) {
    let disk = Disk::default();
    let state = disk.state.clone();
    let store =
        Store::over(Database::builder().create_with_backend(disk).unwrap(), key(1), "disk".into(), None, || Ok(Beside::default())).unwrap();
    let failed = store.failed();
    store.write::<_, StoreError, _>(|tx| tx.put(b"a", &name())).await.unwrap();
    // A refusal of a use case is no fault of the database.
    store.write::<(), Refused, _>(|_| Err(Refused::No)).await.unwrap_err();
    assert!(!failed.is_cancelled());
    state.store(fault, Ordering::SeqCst);
    store.write::<_, StoreError, _>(|tx| tx.put(b"b", &name())).await.unwrap_err();
    failed.cancelled().await;
    // Space again: what has failed stays failed, which is why the hub must end.
    state.store(SOUND, Ordering::SeqCst);
    store.write::<_, StoreError, _>(|tx| tx.put(b"c", &name())).await.unwrap_err();
    store.close().await;
}

#[tokio::test]
async fn a_full_disk_is_told_to_whoever_has_to_end_the_hub() {
    fails_for_good(FULL).await;
}

#[tokio::test]
async fn the_end_of_the_writer_by_a_panic_is_told_as_well() {
    fails_for_good(PANICS).await;
}
