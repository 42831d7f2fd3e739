//! The journal by itself and under the writer: what is acknowledged is in it, whatever happens to the disk.

use super::*;
use crate::domain::account::{Role, User, UserId, Username};
use crate::domain::device::SignInCounter;
use crate::domain::mirror::wire::{Kind, Mark};
use crate::store::fragile::{Fragile, Neighbours, Power, store_over, sweeps, tell};
use crate::store::tables::{MirrorMark, RunCount, entity_key};
use crate::store::{MasterKey, Read as _, Store, StoreError};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const KEY: [u8; 32] = [1; 32];

fn mark(n: u64) -> Entry {
    Entry::Mark(Mark { kind: Kind::Away, key: format!("key{n}"), generation: 1, at: n, by: "hub".into() })
}

fn counter(n: u64) -> Entry {
    Entry::Counter { device: "door".into(), counter: n }
}

fn open(path: &Path) -> (Journal, Found) {
    Journal::open(Box::new(FileDisk::open(path).unwrap())).unwrap()
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(JOURNAL_FILE);
    (dir, path)
}

fn known(path: &Path) -> Known {
    read(path).unwrap().unwrap().known
}

#[test]
fn what_was_appended_is_known_at_the_next_opening_and_what_is_known_is_not_written_again() {
    let (_dir, path) = place();
    let (mut journal, found) = open(&path);
    assert_eq!(found, Found { holds: 0, ..Found::default() });
    journal.append(vec![mark(1), counter(32)]).unwrap();
    let length = path.metadata().unwrap().len();
    journal.append(vec![mark(1), counter(32), counter(3)]).unwrap();
    assert_eq!(path.metadata().unwrap().len(), length);
    journal.append(vec![counter(64)]).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    drop(journal);
    let (_, found) = open(&path);
    assert_eq!((found.known.counters["door"], found.known.marks.len()), (64, 1));
}

#[test]
fn a_torn_tail_is_cut_and_what_comes_next_is_read() {
    let (_dir, path) = place();
    let (mut journal, _) = open(&path);
    journal.append(vec![mark(1)]).unwrap();
    let whole = std::fs::read(&path).unwrap().len();
    journal.append(vec![mark(2)]).unwrap();
    drop(journal);
    let bytes = std::fs::read(&path).unwrap();
    for cut in whole + 1..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let (mut journal, found) = open(&path);
        assert_eq!((found.known.marks.len(), path.metadata().unwrap().len()), (1, whole as u64), "cut at {cut}");
        journal.append(vec![mark(3)]).unwrap();
        drop(journal);
        assert_eq!(known(&path).marks.len(), 2);
    }
}

#[test]
fn damage_in_the_midst_costs_what_was_damaged_and_the_file_as_it_was_is_kept() {
    let (dir, path) = place();
    let (mut journal, _) = open(&path);
    (1..=5).for_each(|n| journal.append(vec![mark(n)]).unwrap());
    drop(journal);
    for at in [0, 20] {
        let mut bytes = std::fs::read(&path).unwrap();
        let before = known(&path).marks.len();
        bytes[at] ^= 0xFF;
        std::fs::write(&path, &bytes).unwrap();
        let (_, found) = open(&path);
        let lost = usize::from(at > MAGIC.len());
        assert_eq!(found.known.marks.len(), before - lost);
        assert_eq!(std::fs::read(dir.path().join("hub.journal.damaged")).unwrap(), bytes);
        // It has been written anew, and is whole.
        assert!(!open(&path).1.damaged);
        assert_eq!(known(&path), found.known);
    }
}

#[test]
fn a_journal_that_has_grown_is_written_anew_and_says_the_same() {
    let (dir, path) = place();
    let (mut journal, _) = open(&path);
    journal.append((0..50).map(mark).collect()).unwrap();
    // As after many sign-ins, which would take long to write one by one.
    let old: Vec<u8> = framed((1..=60_000).map(counter));
    journal.disk.append(journal.length, &old).unwrap();
    journal.known.take(counter(60_000));
    journal.length += old.len() as u64;
    assert!(journal.length > SMALL);
    journal.append(vec![counter(60_001)]).unwrap();
    assert!(path.metadata().unwrap().len() < 8192);
    journal.append(vec![mark(50)]).unwrap();
    drop(journal);
    assert_eq!((known(&path).marks.len(), known(&path).counters["door"]), (51, 60_001));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [JOURNAL_FILE]);
}

#[test]
fn the_journal_of_another_hub_is_kept_aside() {
    let (dir, path) = place();
    let (mut journal, _) = open(&path);
    journal.append(vec![Entry::Hub([1; 16]), mark(1)]).unwrap();
    journal.append(vec![Entry::Hub([2; 16]), Entry::Epoch(1)]).unwrap();
    drop(journal);
    assert_eq!((known(&path).hub, known(&path).marks.len()), (Some([2; 16]), 0));
    assert_eq!(known(&dir.path().join("hub.journal.other")).marks.len(), 1);
}

fn away(n: u64) -> Vec<u8> {
    entity_key(Kind::Away, &format!("key{n}"))
}

async fn end(store: &Store, n: u64) -> Result<(), StoreError> {
    let row = MirrorMark { generation: 1, refused: 0, at: n, by: "hub".into(), why: String::new() };
    store
        .write(move |tx| {
            tx.put(&away(n), &row)?;
            tx.put(b"door", &SignInCounter { counter: n * 10, ..SignInCounter::default() })
        })
        .await
}

/// Marks in the database, the journal, and the counters of both.
fn standing(database: &Fragile, beside: &Neighbours) -> (Vec<u64>, Vec<u64>, u64, u64) {
    let calm = Power::steady();
    let (database, beside) = (Fragile::new(database.kept(), &calm), beside.again(&calm));
    let noted = read_bytes(&beside.journal.kept()).known;
    let store = store_over(&database, Some(&beside), KEY);
    let all = 1..=20;
    let (rows, counter) = store
        .read::<_, StoreError>(|v| {
            let rows = all
                .clone()
                .filter_map(|n| v.get::<MirrorMark>(&away(n)).map(|row| row.map(|_| n)).transpose())
                .collect::<Result<Vec<_>, _>>()?;
            Ok((rows, v.get::<SignInCounter>(b"door")?.map_or(0, |row| row.counter)))
        })
        .unwrap();
    let marks = all.filter(|n| noted.marks.contains_key(&(Kind::Away, format!("key{n}")))).collect();
    (rows, marks, counter, noted.counters.get("door").copied().unwrap_or(0))
}

#[tokio::test]
async fn whenever_the_power_goes_everything_acknowledged_is_in_both_files() {
    let calm = Power::steady();
    let (database, beside) = (Fragile::new(Vec::new(), &calm), Neighbours::new(Vec::new(), Vec::new(), &calm));
    store_over(&database, Some(&beside), KEY).close().await;
    let (database, whole_beside) = (database.kept(), beside);
    let (mut cuts, mut ahead) = (0, 0);
    for seed in sweeps() {
        for whole in 0.. {
            let power = Power::until(whole, seed);
            let (database, beside) = (Fragile::new(database.clone(), &power), whole_beside.again(&power));
            let store = store_over(&database, Some(&beside), KEY);
            let mut acknowledged = 0;
            for n in 1..=20 {
                end(&store, n).await.unwrap();
                // An answer that came while there was power was an acknowledgement.
                if power.is_on() {
                    acknowledged = n;
                }
            }
            store.close().await;
            let at = format!("cut in sync {whole}, seed {seed}");
            let (rows, marks, counter, noted) = standing(&database, &beside);
            assert!(rows.len() as u64 >= acknowledged, "{at}: {acknowledged} acknowledged, {rows:?} there");
            assert!(marks.len() >= rows.len(), "{at}: the journal lacks what the database has");
            assert!(counter >= acknowledged * 10 && noted >= counter, "{at}: {counter} of {noted}");
            ahead += u64::from(marks.len() > rows.len());
            if power.is_on() {
                break;
            }
            cuts += 1;
        }
    }
    tell(&format!("cut in {cuts} syncs of database and journal; the journal was ahead of the database after {ahead}"));
    assert!(cuts > 40 && ahead > 0, "{cuts} cuts, the journal was ahead in {ahead}");
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_and_the_next_one_goes_when_there_is_room() {
    let power = Power::steady();
    let (database, beside) = (Fragile::new(Vec::new(), &power), Neighbours::new(Vec::new(), Vec::new(), &power));
    let store = store_over(&database, Some(&beside), KEY);
    end(&store, 1).await.unwrap();
    *power.fails.lock().unwrap() = Some(io::ErrorKind::StorageFull);
    let refused = end(&store, 2).await.unwrap_err();
    assert!(matches!(refused, StoreError::Journal(_)) && refused.to_string().contains("free some space"), "{refused}");
    // What needs no journal goes on.
    store.write::<_, StoreError, _>(|tx| tx.put(b"door", &crate::domain::device::LastSeen { at: 1 })).await.unwrap();
    *power.fails.lock().unwrap() = None;
    end(&store, 3).await.unwrap();
    assert!(!store.failed().is_cancelled());
    store.close().await;
    let (rows, marks, ..) = standing(&database, &beside);
    assert_eq!((rows, marks), (vec![1, 3], vec![1, 3]));
}

#[tokio::test]
async fn what_a_job_wrote_that_was_undone_is_not_noted() {
    let (dir, path) = place();
    let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new(KEY)).unwrap();
    let undone = store.write::<(), StoreError, _>(|tx| {
        tx.put(&away(1), &MirrorMark { generation: 1, refused: 0, at: 1, by: "hub".into(), why: String::new() })?;
        Err(StoreError::Stopped)
    });
    undone.await.unwrap_err();
    end(&store, 2).await.unwrap();
    store.close().await;
    assert_eq!(known(&path).marks.keys().map(|(_, key)| key.as_str()).collect::<Vec<_>>(), ["key2"]);
}

#[tokio::test]
async fn sign_ins_are_noted_ahead_and_cost_a_record_once_in_a_step() {
    let (dir, path) = place();
    let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new(KEY)).unwrap();
    let mut lengths = std::collections::BTreeSet::new();
    for n in 1..=100 {
        store
            .write::<_, StoreError, _>(move |tx| tx.put(b"door", &SignInCounter { counter: n, ..SignInCounter::default() }))
            .await
            .unwrap();
        lengths.insert(path.metadata().unwrap().len());
        assert!(known(&path).counters["door"] > n);
    }
    assert_eq!(lengths.len(), 4);
}

#[tokio::test]
async fn a_journal_that_is_new_beside_an_old_database_learns_all_that_has_ended_there() {
    let (dir, path) = place();
    let file = dir.path().join("hub.redb");
    let store = Store::open(&file, MasterKey::new(KEY)).unwrap();
    end(&store, 1).await.unwrap();
    let id = UserId::from_uuid(uuid::Uuid::nil());
    let user = User {
        id: id.clone(),
        username: Username::parse("mia").unwrap(),
        display_name: String::new(),
        role: Role::Member,
        password_hash: String::new(),
        created_at: 1,
        created_by: "setup".into(),
        ended: true,
        networks: Vec::new(),
        brand: None,
    };
    store.write::<_, StoreError, _>(move |tx| tx.put(id.as_str().as_bytes(), &user)).await.unwrap();
    store.write::<_, StoreError, _>(|tx| tx.put(RunCount::ROW, &RunCount { count: 3 })).await.unwrap();
    store.close().await;
    let before = known(&path);
    assert_eq!((before.marks.len(), before.run), (2, 3));
    std::fs::remove_file(&path).unwrap();
    let store = Store::open(&file, MasterKey::new(KEY)).unwrap();
    assert_eq!(store.found().unwrap().known, Known::default());
    assert!(store.found().is_none(), "it is told once");
    store.close().await;
    assert_eq!(known(&path), before);
}
