//! What no roll-back may lose: marks, counters and where the audit ended, in a form that every version of the hub reads. It
//! is a file beside the database, appended to before the database says yes; a hub whose database is older than it takes
//! from it what is missing. Reading and writing files is left to the caller.
//!
//! A file is [`MAGIC`], then records: length (u32, big endian), the first 8 bytes of SHA-256 over the content, and the
//! content, a map in deterministic CBOR whose field 0 says what it is. A record that is cut short, or does not fit its hash,
//! ends the file: the power went while it was written. What a later version writes and this one does not know is passed over.

use ciborium::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

use super::wire::{Kind, Mark};
use crate::domain::cbor::{self, CborError, Record};
use crate::domain::keys::COUNTER_MAX;

/// How a journal begins.
pub const MAGIC: [u8; 8] = *b"hkjrnl1\n";
/// Sign-in counters are noted ahead, up to the next multiple of this: a device that signs in often costs one record, and
/// one sync, in so many sign-ins.
pub const COUNTER_STEP: u64 = 32;
/// Bytes of a record's content at most.
pub const RECORD_MAX: usize = 4096;
const HASH: usize = 8;
const HEAD: usize = 4 + HASH;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Something was ended.
    Mark(Mark),
    /// A device has used no sign-in counter above this one; it is noted ahead of what was used, see [`reserved`].
    Counter {
        /// The device.
        device: String,
        /// The counter.
        counter: u64,
    },
    /// A device was reset by hand so often.
    Resets {
        /// The device.
        device: String,
        /// How often.
        count: u64,
    },
    /// The audit of an epoch goes at least this far.
    Head {
        /// The hub's epoch.
        epoch: u64,
        /// The newest entry's number.
        seq: u64,
        /// Its hash.
        hash: [u8; 32],
    },
    /// The hub has served under this epoch.
    Epoch(u64),
    /// The database beside the journal was opened for the so-manieth time: one that knows a lower number is an older copy.
    Run(u64),
    /// Whose journal it is: the id of the hub.
    Hub([u8; 16]),
    /// What a later version has written.
    Unknown(u64),
}

/// Up to where a device's sign-in counter is noted when it has used `counter`. A function of the counter alone, so that who
/// has the counter knows what was noted for it.
#[must_use]
pub fn reserved(counter: u64) -> u64 {
    (counter / COUNTER_STEP).saturating_add(1).saturating_mul(COUNTER_STEP).min(COUNTER_MAX)
}

impl Entry {
    /// The record, as it is appended. `None` for what is unknown, and for names that no device and no entity has, which
    /// would not fit.
    #[must_use]
    pub fn frame(&self) -> Option<Vec<u8>> {
        let content = match self {
            Entry::Mark(mark) => cbor::map([
                (0, Value::from(1)),
                (1, cbor::text(mark.kind.word())),
                (2, cbor::text(&mark.key)),
                (3, Value::from(mark.generation)),
                (4, Value::from(mark.at)),
                (5, cbor::text(&mark.by)),
            ]),
            Entry::Counter { device, counter } => cbor::map([(0, Value::from(2)), (1, cbor::text(device)), (2, Value::from(*counter))]),
            Entry::Resets { device, count } => cbor::map([(0, Value::from(3)), (1, cbor::text(device)), (2, Value::from(*count))]),
            Entry::Head { epoch, seq, hash } => {
                cbor::map([(0, Value::from(4)), (1, Value::from(*epoch)), (2, Value::from(*seq)), (3, cbor::bytes(hash))])
            }
            Entry::Epoch(epoch) => cbor::map([(0, Value::from(5)), (1, Value::from(*epoch))]),
            Entry::Run(run) => cbor::map([(0, Value::from(6)), (1, Value::from(*run))]),
            Entry::Hub(id) => cbor::map([(0, Value::from(7)), (1, cbor::bytes(id))]),
            Entry::Unknown(_) => return None,
        };
        let content = cbor::encode(content);
        let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= RECORD_MAX)?;
        Some([&length.to_be_bytes()[..], &hash(&content), &content].concat())
    }

    fn read(content: &[u8]) -> Result<Entry, CborError> {
        const WHAT: &str = "journal record";
        let mut record = Record::decode(WHAT, content)?;
        // Fields that are left are a later version's.
        Ok(match record.take(0, "what it is")?.uint()? {
            1 => Entry::Mark(Mark {
                kind: record.take(1, "kind")?.parsed(Kind::parse)?,
                key: record.take(2, "key")?.text()?,
                generation: record.take(3, "generation")?.uint()?,
                at: record.take(4, "time")?.uint()?,
                by: record.take(5, "by whom")?.text()?,
            }),
            2 => Entry::Counter { device: record.take(1, "device")?.text()?, counter: record.take(2, "counter")?.uint()? },
            3 => Entry::Resets { device: record.take(1, "device")?.text()?, count: record.take(2, "count")?.uint()? },
            4 => Entry::Head {
                epoch: record.take(1, "epoch")?.uint()?,
                seq: record.take(2, "number")?.uint()?,
                hash: record.take(3, "hash")?.fixed()?,
            },
            5 => Entry::Epoch(record.take(1, "epoch")?.uint()?),
            6 => Entry::Run(record.take(1, "number")?.uint()?),
            7 => Entry::Hub(record.take(1, "hub")?.fixed()?),
            other => Entry::Unknown(other),
        })
    }
}

fn hash(content: &[u8]) -> [u8; HASH] {
    let mut first = [0; HASH];
    first.iter_mut().zip(Sha256::digest(content)).for_each(|(to, from)| *to = from);
    first
}

/// Reads a journal from its beginning, record by record, up to the first that does not hold.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Of a whole file. `None` when it is no journal; an empty file is one without records.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Reader<'a>> {
        match bytes {
            [] => Some(Reader { bytes, at: 0 }),
            _ => bytes.starts_with(&MAGIC).then_some(Reader { bytes, at: MAGIC.len() }),
        }
    }

    /// Bytes that hold so far: where the next record is to be written, when nothing more is read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether bytes follow that do not hold.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.at < self.bytes.len() && self.record().is_none()
    }

    /// Reads any bytes, from the first record in them that holds: what is left of a file whose beginning is damaged.
    #[must_use]
    pub fn within(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Passes over bytes that do not hold, to the next record that does; false when there is none. Every record only ever
    /// raises something, so one that follows damage is as good as any.
    pub fn pass_damage(&mut self) -> bool {
        let from = self.at;
        while self.at < self.bytes.len() {
            if self.record().is_some() {
                return true;
            }
            self.at += 1;
        }
        self.at = from;
        false
    }

    fn record(&self) -> Option<(usize, &'a [u8])> {
        let rest = self.bytes.get(self.at..)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (told, rest) = rest.split_first_chunk::<HASH>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|length| *length <= RECORD_MAX)?;
        let content = rest.get(..length)?;
        (hash(content) == *told).then_some((self.at + HEAD + length, content))
    }
}

impl Iterator for Reader<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let (after, content) = self.record()?;
        self.at = after;
        // It fits its hash, so nobody tore it: what it says is a later version's.
        Some(Entry::read(content).unwrap_or(Entry::Unknown(0)))
    }
}

/// Everything that a journal says, of each thing the highest: what is replayed, and what a journal that has grown too long
/// is written anew from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The highest mark of each entity.
    pub marks: BTreeMap<(Kind, String), Mark>,
    /// The highest sign-in counter of each device.
    pub counters: BTreeMap<String, u64>,
    /// The highest reset counter of each device.
    pub resets: BTreeMap<String, u64>,
    /// Where the audit of each epoch ended: number and hash.
    pub heads: BTreeMap<u64, (u64, [u8; 32])>,
    /// The highest epoch; 0 for none.
    pub epoch: u64,
    /// How often the database was opened; 0 before it was counted.
    pub run: u64,
    /// Whose it is.
    pub hub: Option<[u8; 16]>,
}

impl Known {
    /// Takes a record.
    pub fn take(&mut self, entry: Entry) {
        let raise = |known: &mut u64, to: u64| *known = to.max(*known);
        match entry {
            Entry::Mark(mark) => {
                let known = self.marks.get(&(mark.kind, mark.key.clone())).map_or(0, |known| known.generation);
                if mark.generation > known {
                    self.marks.insert((mark.kind, mark.key.clone()), mark);
                }
            }
            Entry::Counter { device, counter } => raise(self.counters.entry(device).or_default(), counter),
            Entry::Resets { device, count } => raise(self.resets.entry(device).or_default(), count),
            Entry::Head { epoch, seq, hash } => {
                let head = self.heads.entry(epoch).or_insert((seq, hash));
                // An entry that the power cut off is followed by another one with its number.
                if seq >= head.0 {
                    *head = (seq, hash);
                }
            }
            Entry::Epoch(epoch) => raise(&mut self.epoch, epoch),
            Entry::Run(run) => raise(&mut self.run, run),
            Entry::Hub(id) => self.hub = Some(id),
            Entry::Unknown(_) => {}
        }
    }

    /// Whether the record says more than what is known.
    #[must_use]
    pub fn is_raised_by(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Mark(mark) => self.marks.get(&(mark.kind, mark.key.clone())).map_or(0, |known| known.generation) < mark.generation,
            Entry::Counter { device, counter } => self.counters.get(device).is_none_or(|known| known < counter),
            Entry::Resets { device, count } => self.resets.get(device).is_none_or(|known| known < count),
            Entry::Head { epoch, seq, hash } => {
                self.heads.get(epoch).is_none_or(|known| known.0 < *seq || (known.0 == *seq && known.1 != *hash))
            }
            Entry::Epoch(epoch) => self.epoch < *epoch,
            Entry::Run(run) => self.run < *run,
            Entry::Hub(id) => self.hub != Some(*id),
            Entry::Unknown(_) => false,
        }
    }

    /// Where the audit of the newest epoch ended.
    #[must_use]
    pub fn newest_head(&self) -> Option<(u64, [u8; 32])> {
        self.heads.last_key_value().map(|(_, place)| *place)
    }

    /// The records that say all of it.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let marks = self.marks.values().cloned().map(Entry::Mark);
        let counters = self.counters.iter().map(|(device, counter)| Entry::Counter { device: device.clone(), counter: *counter });
        let resets = self.resets.iter().map(|(device, count)| Entry::Resets { device: device.clone(), count: *count });
        let heads = self.heads.iter().map(|(epoch, (seq, hash))| Entry::Head { epoch: *epoch, seq: *seq, hash: *hash });
        let epoch = (self.epoch > 0).then_some(Entry::Epoch(self.epoch));
        let run = (self.run > 0).then_some(Entry::Run(self.run));
        self.hub.map(Entry::Hub).into_iter().chain(marks).chain(counters).chain(resets).chain(heads).chain(epoch).chain(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(generation: u64) -> Entry {
        Entry::Mark(Mark { kind: Kind::Binding, key: "door/user:1".into(), generation, at: 5, by: "user:2".into() })
    }

    fn entries() -> Vec<Entry> {
        vec![
            mark(3),
            Entry::Counter { device: "door".into(), counter: 9 },
            Entry::Resets { device: "door".into(), count: 1 },
            Entry::Head { epoch: 2, seq: 40, hash: [7; 32] },
            Entry::Epoch(2),
            mark(2),
            Entry::Run(4),
            Entry::Hub([3; 16]),
        ]
    }

    fn file(entries: &[Entry]) -> Vec<u8> {
        entries.iter().fold(MAGIC.to_vec(), |mut file, entry| {
            file.extend(entry.frame().unwrap());
            file
        })
    }

    #[test]
    fn a_journal_reads_back() {
        let file = file(&entries());
        let mut reader = Reader::new(&file).unwrap();
        assert_eq!(reader.by_ref().collect::<Vec<_>>(), entries());
        assert!(reader.position() == file.len() && !reader.is_torn());
        assert_eq!(Reader::new(&[]).unwrap().count(), 0);
        assert!(Reader::new(b"SQLite format 3").is_none() && Reader::new(b"hkjr").is_none());
    }

    #[test]
    fn a_journal_that_is_torn_anywhere_gives_all_that_was_whole() {
        let file = file(&entries());
        let ends: Vec<usize> = (1..=entries().len()).map(|n| self::file(&entries()[..n]).len()).collect();
        for cut in MAGIC.len()..file.len() {
            let mut reader = Reader::new(&file[..cut]).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(reader.by_ref().collect::<Vec<_>>(), entries()[..whole], "cut at {cut}");
            assert_eq!(reader.is_torn(), cut != MAGIC.len() && !ends.contains(&cut));
        }
        for at in MAGIC.len()..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            let whole = ends.iter().filter(|end| **end <= at).count();
            assert_eq!(Reader::new(&changed).unwrap().collect::<Vec<_>>(), entries()[..whole], "changed at {at}");
        }
    }

    #[test]
    fn what_a_later_version_writes_is_passed_over() {
        let later = |content: Value| {
            let content = cbor::encode(content);
            [&u32::try_from(content.len()).unwrap().to_be_bytes()[..], &hash(&content), &content].concat()
        };
        let mut file = file(&[mark(1)]);
        file.extend(later(cbor::map([(0, Value::from(99)), (1, cbor::text("?"))])));
        file.extend(later(cbor::map([(0, Value::from(5)), (1, Value::from(3)), (2, cbor::text("more"))])));
        file.extend(later(cbor::map([(0, Value::from(1)), (1, cbor::text("a new kind"))])));
        file.extend(mark(4).frame().unwrap());
        let read: Vec<Entry> = Reader::new(&file).unwrap().collect();
        assert_eq!(read, [mark(1), Entry::Unknown(99), Entry::Epoch(3), Entry::Unknown(0), mark(4)]);
        assert_eq!(Entry::Unknown(99).frame(), None);
        assert_eq!(Entry::Counter { device: "x".repeat(RECORD_MAX), counter: 1 }.frame(), None);
    }

    #[test]
    fn of_each_thing_the_highest_is_known_in_whatever_order_it_comes() {
        let mut all = entries();
        all.extend([Entry::Counter { device: "door".into(), counter: 4 }, Entry::Head { epoch: 2, seq: 3, hash: [1; 32] }]);
        all.extend([Entry::Head { epoch: 1, seq: 90, hash: [2; 32] }, Entry::Epoch(1)]);
        let fold = |entries: Vec<Entry>| {
            entries.into_iter().fold(Known::default(), |mut known, entry| {
                known.take(entry);
                known
            })
        };
        let known = fold(all.clone());
        assert_eq!((known.counters["door"], known.epoch, known.heads[&2].0, known.heads[&1].0), (9, 2, 40, 90));
        assert_eq!(known.marks.values().map(|mark| mark.generation).collect::<Vec<_>>(), [3]);
        all.reverse();
        assert_eq!(fold(all), known);
        assert_eq!(fold(known.entries().collect()), known);
    }

    #[test]
    fn what_follows_damage_in_the_midst_is_found() {
        let whole = file(&entries());
        let ends: Vec<usize> = (0..=entries().len()).map(|n| file(&entries()[..n]).len()).collect();
        for (n, bounds) in ends.windows(2).enumerate() {
            let mut changed = whole.clone();
            changed[bounds[0]..bounds[1]].fill(0xAA);
            let mut reader = Reader::new(&changed).unwrap();
            let mut found: Vec<Entry> = reader.by_ref().collect();
            let more = reader.pass_damage();
            found.extend(reader);
            let mut left = entries();
            left.remove(n);
            assert_eq!((found, more), (left, n + 1 < entries().len()), "record {n}");
        }
        // Also when it no longer begins as a journal does.
        let mut reader = Reader::within(&whole[3..]);
        assert!(reader.pass_damage());
        assert_eq!(reader.collect::<Vec<_>>(), entries());
    }

    #[test]
    fn only_what_says_more_raises_what_is_known() {
        let mut known = Known::default();
        for entry in entries() {
            assert_eq!(known.is_raised_by(&entry), entry != mark(2), "{entry:?}");
            known.take(entry.clone());
            assert!(!known.is_raised_by(&entry));
        }
        assert!(known.is_raised_by(&mark(4)) && known.is_raised_by(&Entry::Hub([4; 16])) && !known.is_raised_by(&Entry::Unknown(9)));
        assert_eq!((known.newest_head(), known.run), (Some((40, [7; 32])), 4));
    }

    #[test]
    fn a_counter_is_noted_ahead_in_steps() {
        assert_eq!([0, 1, 31, 32, 33].map(reserved), [32, 32, 32, 64, 64]);
        assert!((0..200).all(|counter| reserved(counter) > counter && reserved(counter) <= counter + COUNTER_STEP));
        assert_eq!(
            (reserved(COUNTER_MAX), reserved(u64::MAX)),
            (COUNTER_MAX, COUNTER_MAX),
            "a device can still name one that is not below it"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let file = [&MAGIC[..], &bytes].concat();
            let _ = Reader::new(&file).unwrap().count();
        }
    }
}
