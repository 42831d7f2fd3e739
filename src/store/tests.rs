//! The store's promises: batching, undoing, sealing, refusing what it cannot read.

use super::tables::{StoredDeviceKey, UserName};
use super::*;
use crate::domain::account::UserId;

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
