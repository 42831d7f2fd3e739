//! The power goes at every sync while an older database is opened, and while one is brought to a newer layout: what is found is one layout
//! or the next, whole, and the next opening goes on from there.

use super::super::fragile::{Fragile, Neighbours, Power, store_over, sweeps, tell};
use super::super::{Layout, bring_up, tables};
use crate::domain::device::{LastSeen, SignInCounter};
use crate::store::tables::{RunCount, StoredDeviceKey};
use crate::store::{LAYOUT_ROW, MasterKey, Read, Record, Store, StoreError, Tx, Vault, View};
use redb::{Database, ReadableDatabase};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A database, its journal, and the key under which it is sealed.
struct Released {
    database: Vec<u8>,
    journal: Vec<u8>,
    master: [u8; 32],
}

/// What each released version has written.
fn released() -> Vec<(PathBuf, Released)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade");
    let versions = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let read = |path: PathBuf| {
        let mut database = Vec::new();
        let packed = std::fs::File::open(path.join("hub.redb.gz")).unwrap();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut database).unwrap();
        let [journal, master] = ["hub.journal", "master.key"].map(|name| std::fs::read(path.join(name)).unwrap());
        (path, Released { database, journal, master: master.try_into().unwrap() })
    };
    versions.map(read).collect()
}

/// All rows of all tables, opened.
type Rows = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

fn rows(store: &Store) -> Rows {
    let all = |view: &View<'_>| {
        let mut all = Rows::new();
        for table in tables::ALL {
            for (key, value) in super::super::opened_rows(view, *table, None, usize::MAX)? {
                all.insert((table.name(), key), value.to_vec());
            }
        }
        Ok::<_, StoreError>(all)
    };
    store.read(all).unwrap()
}

/// What every start writes.
async fn count(store: &Store, count: u64) {
    store.write::<_, StoreError, _>(move |tx| tx.put(RunCount::ROW, &RunCount { count })).await.unwrap();
}

#[tokio::test]
async fn wherever_the_power_goes_while_a_released_database_is_opened_nothing_of_it_is_lost() {
    let versions = released();
    assert!(!versions.is_empty());
    let mut cuts = 0;
    for (path, of) in &versions {
        let calm = Power::steady();
        let before = rows(&store_over(&Fragile::new(of.database.clone(), &calm), None, of.master));
        assert!(before.len() > 50, "{}", path.display());
        for seed in sweeps() {
            for whole in 0.. {
                let power = Power::until(whole, seed);
                let (database, beside) =
                    (Fragile::new(of.database.clone(), &power), Neighbours::new(of.journal.clone(), Vec::new(), &power));
                let store = store_over(&database, Some(&beside), of.master);
                count(&store, 1_000).await;
                let acknowledged = power.is_on();
                store.close().await;
                // And while what was found then is opened, once more.
                let (mut database, mut kept) = (database.kept(), beside);
                for again in [Power::until(whole / 2, seed), Power::steady()] {
                    let (disk, beside) = (Fragile::new(database, &again), kept.again(&again));
                    let store = store_over(&disk, Some(&beside), of.master);
                    let (mut after, mut before) = (rows(&store), before.clone());
                    let counted = after.remove(&(RunCount::TABLE.name(), RunCount::ROW.to_vec()));
                    let old = before.remove(&(RunCount::TABLE.name(), RunCount::ROW.to_vec()));
                    assert!(!acknowledged || counted != old, "{}: cut in sync {whole}, seed {seed}", path.display());
                    assert!(after == before, "{}: cut in sync {whole}, seed {seed}", path.display());
                    store.close().await;
                    (database, kept) = (disk.kept(), beside);
                }
                if power.is_on() {
                    break;
                }
                cuts += 1;
            }
        }
    }
    tell(&format!("cut in {cuts} syncs of opening what {} released versions have written", versions.len()));
    assert!(cuts >= 3, "{cuts} cuts");
}

const ROWS: u16 = 300;
const FIRST: u32 = 1;
const LAST: u32 = 4;
const MASTER: [u8; 32] = [1; 32];

fn thing(n: u16) -> Vec<u8> {
    format!("lamp-{n:04}").into_bytes()
}

/// A migration as they will be: every row is read in its old form and put in the new one, some go to another table, sealed ones among them.
fn step(tx: &Tx<'_>, version: u32) -> Result<(), StoreError> {
    for n in 0..ROWS {
        let key = thing(n);
        let seen = tx.get::<LastSeen>(&key)?.unwrap_or(LastSeen { at: 0 });
        // Of a row that has been brought up already, nothing right would come.
        assert_eq!(seen.at, u64::from(version), "the step from {version} meets a row of another layout");
        tx.put(&key, &LastSeen { at: seen.at + 1 })?;
        if n % 3 == 0 {
            tx.delete::<SignInCounter>(&key)?;
            tx.put(&key, &StoredDeviceKey([u8::try_from(version).unwrap_or_default() + 1; 32]))?;
        }
    }
    Ok(())
}

fn vault() -> Vault {
    Vault::new(MasterKey::new(MASTER))
}

fn opened(disk: &Fragile) -> Database {
    Database::builder().set_check_integrity_on_open(true).create_with_backend(disk.clone()).unwrap()
}

/// The layout that stands in the database; all rows have to be of it.
fn layout_of(kept: Vec<u8>, at: &str) -> u32 {
    let (db, vault) = (opened(&Fragile::new(kept, &Power::steady())), vault());
    let view = View { txn: db.begin_read().unwrap(), vault: &vault };
    let layout = view.get::<Layout>(LAYOUT_ROW).unwrap().unwrap().version;
    for n in 0..ROWS {
        let (seen, key) = (view.get::<LastSeen>(&thing(n)).unwrap(), view.get::<StoredDeviceKey>(&thing(n)).unwrap());
        assert_eq!(seen, Some(LastSeen { at: u64::from(layout) }), "{at}: row {n} is not of layout {layout}");
        let moved = (n % 3 == 0 && layout > FIRST).then(|| [u8::try_from(layout).unwrap(); 32]);
        assert_eq!(key.map(|key| key.0), moved, "{at}: the key of row {n} is not of layout {layout}");
        let counter = view.get::<SignInCounter>(&thing(n)).unwrap();
        assert_eq!(counter.is_some(), moved.is_none(), "{at}: row {n} is in two tables, or in none");
    }
    layout
}

/// Opens the database and brings it to `wanted`; which layout was found.
fn migrate(disk: &Fragile, wanted: u32, step: impl Fn(&Tx<'_>, u32) -> Result<(), StoreError>) -> Result<u32, StoreError> {
    let (db, vault) = (opened(disk), vault());
    let found = View { txn: db.begin_read()?, vault: &vault }.get::<Layout>(LAYOUT_ROW)?.unwrap().version;
    bring_up(&db, &vault, found, wanted, step).map(|()| found)
}

/// A database of the first layout.
async fn first() -> Vec<u8> {
    let disk = Fragile::new(Vec::new(), &Power::steady());
    let store = store_over(&disk, None, MASTER);
    let fill = |tx: &Tx<'_>| {
        (0..ROWS).try_for_each(|n| {
            tx.put(&thing(n), &LastSeen { at: u64::from(FIRST) })?;
            tx.put(&thing(n), &SignInCounter { counter: 7, ..SignInCounter::default() })
        })?;
        tx.put(LAYOUT_ROW, &Layout { version: FIRST })
    };
    store.write::<_, StoreError, _>(fill).await.unwrap();
    store.close().await;
    disk.kept()
}

#[tokio::test]
async fn wherever_the_power_goes_during_a_migration_the_database_is_of_one_layout_and_goes_on_from_there() {
    let old = first().await;
    assert_eq!(layout_of(old.clone(), "before"), FIRST);
    let (mut cuts, mut found) = (0, BTreeMap::<u32, u64>::new());
    for seed in sweeps() {
        for whole in 0.. {
            let at = format!("cut in sync {whole}, seed {seed}");
            let power = Power::until(whole, seed);
            let disk = Fragile::new(old.clone(), &power);
            migrate(&disk, LAST, step).unwrap();
            let layout = layout_of(disk.kept(), &at);
            assert!(!power.is_on() || layout == LAST, "{at}: {layout}");
            *found.entry(layout).or_default() += 1;
            // The next opening goes on from there.
            let disk = Fragile::new(disk.kept(), &Power::steady());
            assert_eq!(migrate(&disk, LAST, step).unwrap(), layout);
            assert_eq!(layout_of(disk.kept(), &at), LAST);
            if power.is_on() {
                break;
            }
            cuts += 1;
        }
    }
    tell(&format!("cut in {cuts} syncs of a migration over {} layouts; found afterwards, by layout: {found:?}", LAST - FIRST + 1));
    assert!((FIRST..=LAST).all(|layout| found.contains_key(&layout)), "{found:?}");
}

#[tokio::test]
async fn a_migration_that_fails_leaves_the_layout_before() {
    let disk = Fragile::new(first().await, &Power::steady());
    let failing = |tx: &Tx<'_>, version: u32| {
        step(tx, version)?;
        if version == 2 { Err(StoreError::Stopped) } else { Ok(()) }
    };
    assert!(migrate(&disk, LAST, failing).is_err());
    assert_eq!(layout_of(disk.kept(), "after a fault"), 2);
    assert_eq!(migrate(&disk, LAST, step).unwrap(), 2);
    assert_eq!(layout_of(disk.kept(), "after it was repeated"), LAST);
}
