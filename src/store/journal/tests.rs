//! The journal by itself and under the writer: what is acknowledged is in it, whatever happens to the disk.

use super::*;
use crate::domain::account::{Role, User, UserId, Username};
use crate::domain::device::SignInCounter;
use crate::domain::mirror::wire::{Kind, Mark};
use crate::store::tables::{MirrorMark, RunCount, entity_key};
use crate::store::{MasterKey, Read as _, Store, StoreError};
use redb::Database;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

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

/// Counts syncs of two files as one, and lets nothing onto the disk after a number of them: what the power leaves.
#[derive(Debug, Default)]
struct Power {
    syncs: AtomicU64,
    cut_after: u64,
    fails: Mutex<Option<io::ErrorKind>>,
}

impl Power {
    fn is_on(&self) -> bool {
        self.syncs.load(Ordering::SeqCst) < self.cut_after
    }
    /// A sync: whether what was written before it is on the disk.
    fn sync(&self) -> bool {
        self.syncs.fetch_add(1, Ordering::SeqCst) < self.cut_after
    }
}

/// Bytes as a program sees them, and as they are on the disk. What was not synced may be there or not: here it is, for every
/// second write, which is worse than either.
#[derive(Debug, Default)]
struct Bytes {
    seen: Vec<u8>,
    kept: Vec<u8>,
    writes: u64,
}

impl Bytes {
    fn write(&mut self, at: usize, data: &[u8], on: bool) {
        for (bytes, reaches) in [(&mut self.seen, true), (&mut self.kept, on && self.writes.is_multiple_of(2))] {
            if reaches {
                bytes.resize(bytes.len().max(at + data.len()), 0);
                bytes[at..at + data.len()].copy_from_slice(data);
            }
        }
        self.writes += 1;
    }
    fn resize(&mut self, length: usize, on: bool) {
        self.seen.resize(length, 0);
        if on {
            self.kept.resize(length, 0);
        }
    }
    fn sync(&mut self, power: &Power) {
        if power.sync() {
            self.kept = self.seen.clone();
        }
    }
}

#[derive(Clone, Debug)]
struct Fragile {
    bytes: Arc<Mutex<Bytes>>,
    power: Arc<Power>,
}

impl Fragile {
    fn new(content: Vec<u8>, power: &Arc<Power>) -> Fragile {
        Fragile { bytes: Arc::new(Mutex::new(Bytes { seen: content.clone(), kept: content, writes: 0 })), power: power.clone() }
    }
    fn kept(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().kept.clone()
    }
}

impl redb::StorageBackend for Fragile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().seen.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.bytes.lock().unwrap().seen[at..at + out.len()]);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), self.power.is_on());
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        self.bytes.lock().unwrap().sync(&self.power);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes.lock().unwrap().write(usize::try_from(offset).unwrap(), data, self.power.is_on());
        Ok(())
    }
}

impl Disk for Fragile {
    fn read(&mut self, _: u64) -> io::Result<Vec<u8>> {
        Ok(self.bytes.lock().unwrap().seen.clone())
    }
    fn append(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let fault = *self.power.fails.lock().unwrap();
        let at = usize::try_from(at).unwrap();
        // A full disk takes a part.
        let taken = if fault.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
        self.bytes.lock().unwrap().write(at, taken, self.power.is_on());
        fault.map_or(Ok(()), |kind| Err(kind.into()))
    }
    fn sync(&mut self) -> io::Result<()> {
        self.bytes.lock().unwrap().sync(&self.power);
        Ok(())
    }
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().resize(usize::try_from(length).unwrap(), self.power.is_on());
        Ok(())
    }
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut all = self.bytes.lock().unwrap();
        all.seen = bytes.to_vec();
        all.sync(&self.power);
        Ok(())
    }
    fn keep_aside(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

fn store_over(database: &Fragile, journal: &Fragile) -> Store {
    let db = Database::builder().create_with_backend(database.clone()).unwrap();
    let journal = journal.clone();
    Store::over(db, MasterKey::new(KEY), "two disks".into(), move || Ok(Some(Box::new(journal) as Box<dyn Disk>))).unwrap()
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
fn standing(database: &Fragile, journal: &Fragile) -> (Vec<u64>, Vec<u64>, u64, u64) {
    let calm = Arc::new(Power { cut_after: u64::MAX, ..Power::default() });
    let (database, journal) = (Fragile::new(database.kept(), &calm), Fragile::new(journal.kept(), &calm));
    let noted = read_bytes(&journal.kept()).known;
    let store = store_over(&database, &journal);
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
    let calm = Arc::new(Power { cut_after: u64::MAX, ..Power::default() });
    let (database, journal) = (Fragile::new(Vec::new(), &calm), Fragile::new(Vec::new(), &calm));
    store_over(&database, &journal).close().await;
    let (database, journal) = (database.kept(), journal.kept());
    let (mut rounds, mut ahead) = (0, 0);
    for cut_after in 0.. {
        let power = Arc::new(Power { cut_after, ..Power::default() });
        let (database, journal) = (Fragile::new(database.clone(), &power), Fragile::new(journal.clone(), &power));
        let store = store_over(&database, &journal);
        let mut acknowledged = 0;
        for n in 1..=20 {
            end(&store, n).await.unwrap();
            // An answer that came while there was power was an acknowledgement.
            if power.is_on() {
                acknowledged = n;
            }
        }
        let over = power.is_on();
        store.close().await;
        let (rows, marks, counter, noted) = standing(&database, &journal);
        assert!(rows.len() as u64 >= acknowledged, "cut after {cut_after}: {acknowledged} acknowledged, {rows:?} there");
        assert!(marks.len() >= rows.len(), "cut after {cut_after}: the journal lacks what the database has");
        assert!(counter >= acknowledged * 10 && noted >= counter, "cut after {cut_after}: {counter} of {noted}");
        ahead += u64::from(marks.len() > rows.len());
        rounds += 1;
        if over {
            break;
        }
    }
    assert!(rounds > 40 && ahead > 0, "{rounds} rounds, the journal was ahead in {ahead}");
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_and_the_next_one_goes_when_there_is_room() {
    let power = Arc::new(Power { cut_after: u64::MAX, ..Power::default() });
    let (database, journal) = (Fragile::new(Vec::new(), &power), Fragile::new(Vec::new(), &power));
    let store = store_over(&database, &journal);
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
    let (rows, marks, ..) = standing(&database, &journal);
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
