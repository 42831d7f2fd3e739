//! Disks that lose their power, for tests: after a number of syncs nothing reaches them any more, and what was written since the last one is
//! there in part. The database and the journal are written to such disks as to files.

use super::journal::Disk;
use super::{Beside, MasterKey, Store};
use redb::Database;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Counts syncs of all disks that it feeds, and goes in the midst of one: that sync puts nothing on a disk any more, and nothing does after it.
#[derive(Debug, Default)]
pub(crate) struct Power {
    syncs: AtomicU64,
    whole: u64,
    seed: u64,
    /// What the disks of the journal and of the log say to every write.
    pub(super) fails: Mutex<Option<io::ErrorKind>>,
}

impl Power {
    /// It stays.
    pub(crate) fn steady() -> Arc<Power> {
        Power::until(u64::MAX, 0)
    }
    /// So many syncs are whole; which writes before the next one reach the disk is the seed's.
    pub(crate) fn until(whole: u64, seed: u64) -> Arc<Power> {
        Arc::new(Power { whole, seed, ..Power::default() })
    }
    /// Whether there has been power up to now: what was answered until then was an answer.
    pub(crate) fn is_on(&self) -> bool {
        self.syncs.load(Ordering::SeqCst) <= self.whole
    }
    /// A sync: whether what was written before it is on the disk.
    fn sync(&self) -> bool {
        self.syncs.fetch_add(1, Ordering::SeqCst) < self.whole
    }
    /// Whether a write reaches the disk without a sync: half of them do.
    fn reaches(&self, write: u64) -> bool {
        let mixed = (write ^ self.seed.rotate_left(32)).wrapping_add(self.whole << 16).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.is_on() && (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 63 == 1
    }
}

/// How many times a test goes through all cuts, and the seed of each time: `FAULT_ROUNDS` and `FAULT_SEED`.
pub(crate) fn sweeps() -> impl Iterator<Item = u64> {
    #[expect(clippy::disallowed_methods, reason = "how long a test runs, and which plan it has, is no configuration of the hub")]
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().unwrap());
    let (seed, rounds) = (number("FAULT_SEED").unwrap_or(7), number("FAULT_ROUNDS").unwrap_or(1));
    (0..rounds).map(move |round| seed.wrapping_add(round))
}

/// Says what a test has come through.
pub(crate) fn tell(what: &str) {
    eprintln!("{what}");
}

/// Bytes as a program sees them, and as they are on the disk. What was not synced may be there or not: which it is, each write draws.
#[derive(Debug, Default)]
struct Bytes {
    seen: Vec<u8>,
    kept: Vec<u8>,
    writes: u64,
}

impl Bytes {
    fn write(&mut self, at: usize, data: &[u8], power: &Power) {
        self.writes += 1;
        for (bytes, reaches) in [(&mut self.seen, true), (&mut self.kept, power.reaches(self.writes))] {
            if reaches {
                bytes.resize(bytes.len().max(at + data.len()), 0);
                bytes[at..at + data.len()].copy_from_slice(data);
            }
        }
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

/// A disk with one file on it.
#[derive(Clone, Debug)]
pub(crate) struct Fragile {
    bytes: Arc<Mutex<Bytes>>,
    power: Arc<Power>,
}

impl Fragile {
    /// A disk that holds this.
    pub(crate) fn new(content: Vec<u8>, power: &Arc<Power>) -> Fragile {
        Fragile { bytes: Arc::new(Mutex::new(Bytes { seen: content.clone(), kept: content, writes: 0 })), power: power.clone() }
    }
    /// What is found on it when there is power again.
    pub(crate) fn kept(&self) -> Vec<u8> {
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
        self.bytes.lock().unwrap().write(usize::try_from(offset).unwrap(), data, &self.power);
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
        self.bytes.lock().unwrap().write(at, taken, &self.power);
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

/// What lies beside a database: the journal, and the write-ahead log.
#[derive(Clone, Debug)]
pub(crate) struct Neighbours {
    pub(crate) journal: Fragile,
    pub(crate) wal: Fragile,
}

impl Neighbours {
    /// As they are found on these disks when there is power again.
    pub(crate) fn again(&self, power: &Arc<Power>) -> Neighbours {
        Neighbours { journal: Fragile::new(self.journal.kept(), power), wal: Fragile::new(self.wal.kept(), power) }
    }
    pub(crate) fn new(journal: Vec<u8>, wal: Vec<u8>, power: &Arc<Power>) -> Neighbours {
        Neighbours { journal: Fragile::new(journal, power), wal: Fragile::new(wal, power) }
    }
}

/// A store over disks, or with nothing beside it, as [`Store::open_apart`] has it.
pub(crate) fn store_over(database: &Fragile, beside: Option<&Neighbours>, master: [u8; 32]) -> Store {
    // As a file is opened.
    let there = !database.kept().is_empty();
    let db = Database::builder().set_check_integrity_on_open(there).create_with_backend(database.clone()).unwrap();
    let beside = beside.map_or_else(Beside::default, |beside| {
        let boxed = |disk: &Fragile| Some(Box::new(disk.clone()) as Box<dyn Disk>);
        Beside { journal: boxed(&beside.journal), wal: boxed(&beside.wal) }
    });
    Store::over(db, MasterKey::new(master), "a fragile disk".into(), None, move || Ok(beside)).unwrap()
}
