//! The log over a database on disks that lose their power, that are torn, damaged, exchanged.

use super::*;
use crate::domain::device::LastSeen;
use crate::store::fragile::{Fragile, Neighbours, Power, store_over, sweeps, tell};
use crate::store::tables::StoredDeviceKey;
use crate::store::{Read, Store};
use std::sync::Arc;

const KEY: [u8; 32] = [5; 32];

fn new(power: &Arc<Power>) -> (Fragile, Neighbours) {
    (Fragile::new(Vec::new(), power), Neighbours::new(Vec::new(), Vec::new(), power))
}

/// As both are found when there is power again.
fn again(database: &Fragile, beside: &Neighbours, power: &Arc<Power>) -> (Fragile, Neighbours) {
    (Fragile::new(database.kept(), power), beside.again(power))
}

async fn see(store: &Store, thing: &'static str, at: u64) -> Result<(), StoreError> {
    store.write(move |tx| tx.put(thing.as_bytes(), &LastSeen { at })).await
}

fn seen(store: &Store, thing: &str) -> Option<u64> {
    store.read::<_, StoreError>(|v| Ok(v.get::<LastSeen>(thing.as_bytes())?.map(|seen| seen.at))).unwrap()
}

/// What is there after the power has gone now.
fn after_a_cut(database: &Fragile, beside: &Neighbours, thing: &str) -> Option<u64> {
    let (database, beside) = again(database, beside, &Power::steady());
    seen(&store_over(&database, Some(&beside), KEY), thing)
}

#[tokio::test]
async fn what_the_log_alone_has_is_there_again_and_a_closed_database_needs_no_log() {
    let power = Power::steady();
    let (database, beside) = new(&power);
    let store = store_over(&database, Some(&beside), KEY);
    see(&store, "lamp", 1).await.unwrap();
    see(&store, "lamp", 2).await.unwrap();
    store.write::<_, StoreError, _>(|tx| tx.put(b"lamp", &StoredDeviceKey([9; 32]))).await.unwrap();
    store.write::<_, StoreError, _>(|tx| tx.delete::<LastSeen>(b"none")).await.unwrap();
    assert_eq!(after_a_cut(&database, &beside, "lamp"), Some(2));
    store.write::<_, StoreError, _>(|tx| tx.delete::<LastSeen>(b"lamp")).await.unwrap();
    assert_eq!(after_a_cut(&database, &beside, "lamp"), None);
    see(&store, "lamp", 3).await.unwrap();
    store.close().await;
    let alone = store_over(&Fragile::new(database.kept(), &power), None, KEY);
    assert_eq!(seen(&alone, "lamp"), Some(3));
    assert_eq!(alone.read::<_, StoreError>(|v| v.get::<StoredDeviceKey>(b"lamp")).unwrap().map(|key| key.0), Some([9; 32]));
}

#[tokio::test]
async fn wherever_the_power_goes_everything_acknowledged_is_there_through_rounds_of_the_log_and_large_batches() {
    let (made, beside_it) = new(&Power::steady());
    let store = store_over(&made, Some(&beside_it), KEY);
    store.write::<_, StoreError, _>(|tx| tx.put(b"padding", &Padding(Vec::new()))).await.unwrap();
    store.close().await;
    let (mut cuts, mut logged) = (0, 0);
    for seed in sweeps() {
        for whole in 0.. {
            let power = Power::until(whole, seed);
            let (database, beside) = again(&made, &beside_it, &power);
            let mut acknowledged = (0, 0);
            // Opened twice: the log goes from one identity to the next.
            for part in 0..2 {
                let store = store_over(&database, Some(&beside), KEY);
                for n in part * 20 + 1..=part * 20 + 20_u64 {
                    // Every fifth is too large for a frame: then the log begins again. The others take up to eight blocks.
                    let padding = if n.is_multiple_of(5) { LONGEST + 1 } else { usize::try_from(n % 3).unwrap() * 15_000 };
                    let done = store.write::<_, StoreError, _>(move |tx| {
                        tx.put(b"padding", &Padding(vec![u8::try_from(n).unwrap(); padding]))?;
                        tx.put(b"lamp", &LastSeen { at: n })
                    });
                    done.await.unwrap();
                    if power.is_on() {
                        acknowledged = (n, padding);
                    }
                }
                if part == 0 {
                    store.close().await;
                }
            }
            let at = format!("cut in sync {whole}, seed {seed}");
            let (disk, beside) = again(&database, &beside, &Power::steady());
            let lacked = {
                let db = redb::Database::builder().create_with_backend(Fragile::new(disk.kept(), &Power::steady())).unwrap();
                let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
                let bytes = txn.open_table(Mark::TABLE.definition()).unwrap().get(Mark::ROW).unwrap().unwrap().value().to_vec();
                let mark = codec::decode::<Mark>(&Vault::new(crate::store::MasterKey::new(KEY)), Mark::ROW, &bytes).unwrap();
                Unfolded::read(Box::new(beside.again(&Power::steady()).wal), mark).unwrap().frames.len()
            };
            let store = store_over(&disk, Some(&beside), KEY);
            let there = seen(&store, "lamp").unwrap_or(0);
            assert!(there >= acknowledged.0, "{at}: {acknowledged:?} acknowledged, {there} there");
            let padding = store.read::<_, StoreError>(|v| v.get::<Padding>(b"padding")).unwrap().map_or(0, |p| p.0.len());
            let of_there = if there > 0 && there.is_multiple_of(5) { LONGEST + 1 } else { usize::try_from(there % 3).unwrap() * 15_000 };
            assert_eq!(padding, of_there, "{at}: rows of one batch stay together");
            logged += u64::from(lacked > 0);
            if power.is_on() {
                break;
            }
            cuts += 1;
        }
    }
    tell(&format!("cut in {cuts} syncs of database and log; the file lacked something of the log after {logged}"));
    assert!(cuts > 40 && logged > 20, "{cuts} cuts, {logged} that needed the log");
}

#[derive(Serialize, Deserialize)]
struct Padding(#[serde(with = "serde_bytes_vec")] Vec<u8>);

impl Record for Padding {
    const TABLE: Table = Table::plain("padding");
}

#[tokio::test]
async fn a_log_that_is_full_begins_again_when_the_file_has_everything() {
    let power = Power::steady();
    let (database, beside) = new(&power);
    let store = store_over(&database, Some(&beside), KEY);
    let frames = SIZE / BLOCK;
    let mut files = std::collections::BTreeSet::new();
    for n in 1..=frames as u64 * 2 {
        see(&store, "lamp", n).await.unwrap();
        files.insert(Sha256::digest(database.kept()).to_vec());
        if n % 50 == 0 || n.abs_diff(frames as u64) < 3 {
            assert_eq!(after_a_cut(&database, &beside, "lamp"), Some(n));
        }
    }
    // One for each time that the log was full, the first, and one for each time that the file grew.
    assert!(files.len() < 6, "{} contents of the file in {} commits", files.len(), frames * 2);
    assert_eq!(beside.wal.kept().len(), SIZE);
}

#[tokio::test]
async fn a_frame_that_is_torn_anywhere_was_not_acknowledged_and_ends_the_log() {
    let power = Power::steady();
    let (database, beside) = new(&power);
    let store = store_over(&database, Some(&beside), KEY);
    see(&store, "lamp", 1).await.unwrap();
    let before = beside.wal.kept();
    see(&store, "lamp", 2).await.unwrap();
    let after = beside.wal.kept();
    let end = BLOCK + after[BLOCK..].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for cut in (BLOCK..=end).step_by(7).chain([end]) {
        let torn = [&after[..cut], &before[cut..]].concat();
        let beside = Neighbours::new(beside.journal.kept(), torn, &power);
        assert_eq!(after_a_cut(&database, &beside, "lamp"), Some(if cut == end { 2 } else { 1 }), "torn at {cut} of {end}");
    }
}

#[tokio::test]
async fn a_log_goes_into_no_database_but_its_own() {
    let power = Power::steady();
    let (database, beside) = new(&power);
    let store = store_over(&database, Some(&beside), KEY);
    see(&store, "lamp", 1).await.unwrap();
    store.close().await;
    let older = Fragile::new(database.kept(), &power);
    let store = store_over(&database, Some(&beside), KEY);
    see(&store, "lamp", 2).await.unwrap();
    // The copy is of the opening before: not even the first frame is for it.
    assert_eq!(after_a_cut(&older, &beside, "lamp"), Some(1));
    let (other, _) = new(&power);
    store_over(&other, None, KEY).close().await;
    assert_eq!(after_a_cut(&other, &beside, "lamp"), None);
    // A database that went its own way without the log does not go back to it.
    let alone = Fragile::new(database.kept(), &power);
    let store = store_over(&alone, None, KEY);
    see(&store, "lamp", 5).await.unwrap();
    store.close().await;
    assert_eq!(after_a_cut(&alone, &beside, "lamp"), Some(5));
}

#[tokio::test]
async fn a_frame_goes_into_no_database_that_lacks_the_commit_before_it() {
    let power = Power::steady();
    let (database, beside) = new(&power);
    let store = store_over(&database, Some(&beside), KEY);
    see(&store, "lamp", 1).await.unwrap();
    let large = |tx: &crate::store::Tx<'_>| tx.put(b"padding", &Padding(vec![1; LONGEST + 1]));
    store.write::<_, StoreError, _>(large).await.unwrap();
    // As if the commit of the second one had not reached the disk, and the frame after it had.
    let before = Fragile::new(database.kept(), &power);
    store.write::<_, StoreError, _>(large).await.unwrap();
    see(&store, "lamp", 2).await.unwrap();
    assert_eq!(after_a_cut(&database, &beside, "lamp"), Some(2));
    assert_eq!(after_a_cut(&before, &beside, "lamp"), Some(1), "the frame is not for it");
}

#[tokio::test]
async fn a_log_that_is_cut_short_loses_nothing_that_is_in_it_wherever_the_power_goes() {
    let calm = Power::steady();
    let (database, beside) = new(&calm);
    let store = store_over(&database, Some(&beside), KEY);
    for n in 1..=3 {
        see(&store, "lamp", n).await.unwrap();
    }
    let short = beside.wal.kept()[..4 * BLOCK].to_vec();
    for whole in 0..8 {
        let power = Power::until(whole, 7);
        let disk = Fragile::new(database.kept(), &power);
        let beside = Neighbours::new(beside.journal.kept(), short.clone(), &power);
        drop(store_over(&disk, Some(&beside), KEY));
        assert_eq!(after_a_cut(&disk, &beside, "lamp"), Some(3), "cut in sync {whole}");
    }
}

#[tokio::test]
async fn frames_after_damage_are_not_taken_and_the_log_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(WAL_FILE);
    let open = || super::super::journal::FileDisk::open(&path).map(Box::new).unwrap();
    let mark = Mark { id: vec![7; 16], seq: 0, before: Vec::new(), closed: false };
    let mut wal = Wal { disk: open(), id: [7; 16], at: 0, seq: 0, waiting: 0, written: false, refused: false };
    Unfolded::read(open(), mark.clone()).unwrap();
    let rows = |n: u8| {
        let mut rows = Rows::default();
        rows.note(LastSeen::TABLE, b"lamp", Some(&[n]));
        rows
    };
    wal.disk = open();
    assert!((1..=4).all(|n| wal.append(&rows(n))));
    assert_eq!(Unfolded::read(open(), mark.clone()).unwrap().frames.len(), 4);
    assert!(!dir.path().join("hub.wal.damaged").exists());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2 * BLOCK + HEAD + 2] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let found = Unfolded::read(open(), mark.clone()).unwrap();
    assert!(found.frames.len() == 2 && found.lacks);
    assert_eq!(std::fs::read(dir.path().join("hub.wal.damaged")).unwrap(), bytes);
    std::fs::remove_file(&path).unwrap();
    assert!(Unfolded::read(open(), mark.clone()).unwrap().lacks, "it is gone");
    std::fs::remove_file(&path).unwrap();
    assert!(!Unfolded::read(open(), Mark { closed: true, ..mark }).unwrap().lacks, "the file had everything");
}

#[tokio::test]
async fn a_log_that_takes_nothing_any_more_costs_nothing_but_its_speed() {
    let power = Power::steady();
    let (database, beside) = new(&power);
    let store = store_over(&database, Some(&beside), KEY);
    see(&store, "lamp", 1).await.unwrap();
    *power.fails.lock().unwrap() = Some(io::ErrorKind::StorageFull);
    see(&store, "lamp", 2).await.unwrap();
    assert_eq!(after_a_cut(&database, &beside, "lamp"), Some(2), "the database's file has it");
    *power.fails.lock().unwrap() = None;
    see(&store, "lamp", 3).await.unwrap();
    assert_eq!(after_a_cut(&database, &beside, "lamp"), Some(3));
    assert!(!store.failed().is_cancelled());
}
