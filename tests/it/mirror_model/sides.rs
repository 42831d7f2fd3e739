//! The two sides of a sync, as `docs/protocol/mirror.md` has it, without the wire: batches with numbers and stored replies,
//! cursors, epochs, digests and the sending anew of a kind.

use super::replica::{Id, KINDS, Replica, Rules, id, marked};
use hearthkey::domain::mirror::journal::{Entry, Known, MAGIC, Reader};
use hearthkey::domain::mirror::wire::{Kind, Mark, Row};
use std::collections::{BTreeMap, BTreeSet};

/// What a hub sends.
#[derive(Clone, Debug)]
pub struct Batch {
    pub epoch: u64,
    pub batch: u64,
    pub cursor: u64,
    pub revoke: Vec<Mark>,
    /// Kinds that begin anew, before the rows.
    pub begin: Vec<Kind>,
    pub put: Vec<Row>,
    pub digest: Option<BTreeMap<Kind, String>>,
}

/// What it is told.
#[derive(Clone, Debug)]
pub enum Reply {
    Done(Done),
    Resync { batch: u64 },
    EpochStale,
}

#[derive(Clone, Debug)]
pub struct Done {
    pub ack: u64,
    pub cursor: u64,
    pub revoke: Vec<Mark>,
    /// Only without marks, when both sides write rows.
    pub put: Vec<Row>,
    pub resync: Vec<Kind>,
}

#[derive(Clone, Debug)]
pub struct Hub {
    pub copy: Replica,
    pub epoch: u64,
    /// The next batch's number.
    batch: u64,
    cursor: u64,
    dirty: BTreeSet<Id>,
    dirty_marks: BTreeSet<Id>,
    begin: BTreeSet<Kind>,
    /// What was sent and not acknowledged: it is sent again as it was.
    pending: Option<Batch>,
    /// Whether it acts: not before it has heard what was ended, nor when another has taken its place.
    pub serving: bool,
    /// Its journal, which is beside the database.
    pub journal: Vec<u8>,
    /// Kinds that were sent anew because the digests differed.
    pub resyncs: u64,
}

impl Hub {
    pub fn new(rules: Rules) -> Hub {
        Hub {
            copy: Replica::new(rules),
            epoch: 1,
            batch: 1,
            cursor: 0,
            dirty: BTreeSet::new(),
            dirty_marks: BTreeSet::new(),
            begin: BTreeSet::new(),
            pending: None,
            serving: true,
            journal: MAGIC.to_vec(),
            resyncs: 0,
        }
    }

    /// The hub that takes the place of one that is broken, from a bundle of it: under a new epoch it sends everything anew,
    /// hears every mark again, and only then acts.
    pub fn replaces(bundle: &Hub, epoch: u64) -> Hub {
        let mut hub = bundle.clone();
        hub.begin_epoch(epoch);
        hub.serving = false;
        hub
    }

    fn begin_epoch(&mut self, epoch: u64) {
        (self.epoch, self.batch, self.cursor, self.pending) = (epoch, 1, 0, None);
        self.dirty = self.copy.rows.keys().cloned().collect();
        self.dirty_marks = self.copy.marks.keys().cloned().collect();
        self.begin = KINDS.into_iter().collect();
    }

    /// The same box with an older database, as after putting a copy of it back; with the journal that was beside it, or not.
    pub fn rolls_back(&mut self, backup: &Hub, with_journal: bool) {
        let journal = std::mem::take(&mut self.journal);
        *self = backup.clone();
        self.journal.clone_from(&journal);
        if with_journal {
            let mut known = Known::default();
            Reader::new(&journal).unwrap().for_each(|entry| known.take(entry));
            for mark in known.marks.into_values() {
                if self.copy.take_mark(mark.clone(), mark.at) {
                    self.dirty_marks.insert(marked(&mark));
                }
            }
        }
    }

    /// Something was written here.
    pub fn wrote(&mut self, id: Id) {
        self.dirty.insert(id);
    }

    pub fn raised(&mut self, id: Id) {
        self.note(&self.copy.marks[&id].clone());
        if self.copy.rules == Rules::Restamp {
            self.dirty.insert(id.clone());
        }
        self.dirty_marks.insert(id);
    }

    fn note(&mut self, mark: &Mark) {
        self.journal.extend(Entry::Mark(mark.clone()).frame().unwrap());
    }

    pub fn is_quiet(&self) -> bool {
        self.pending.is_none() && self.dirty.is_empty() && self.dirty_marks.is_empty() && self.begin.is_empty()
    }

    /// The next batch, at most `most` rows; the same as long as it is not acknowledged.
    pub fn batch(&mut self, most: usize) -> Batch {
        if let Some(pending) = &self.pending {
            return pending.clone();
        }
        let digest = self.is_quiet().then(|| self.copy.digests());
        let rows: Vec<Id> = self.dirty.iter().take(most).cloned().collect();
        self.dirty.retain(|id| !rows.contains(id));
        let batch = Batch {
            epoch: self.epoch,
            batch: self.batch,
            cursor: self.cursor,
            revoke: std::mem::take(&mut self.dirty_marks).iter().map(|id| self.copy.marks[id].clone()).collect(),
            begin: std::mem::take(&mut self.begin).into_iter().collect(),
            put: rows.iter().filter_map(|id| self.copy.rows.get(id).cloned()).collect(),
            digest,
        };
        self.pending = Some(batch.clone());
        batch
    }

    /// Takes the reply to what is pending.
    pub fn heard(&mut self, reply: Reply, now: u64) {
        let Some(pending) = self.pending.take() else { return };
        match reply {
            Reply::Done(done) => {
                assert_eq!(done.ack, pending.batch);
                // Marks first.
                for mark in done.revoke {
                    if self.copy.take_mark(mark.clone(), now) {
                        self.note(&mark);
                        if self.copy.rules == Rules::Restamp {
                            self.dirty.insert(marked(&mark));
                        }
                    }
                }
                for row in done.put {
                    self.copy.take_row(row);
                }
                (self.cursor, self.batch) = (done.cursor, pending.batch + 1);
                for kind in done.resync {
                    self.resyncs += 1;
                    self.begin.insert(kind);
                    self.dirty.extend(self.copy.rows.keys().filter(|id| id.0 == kind).cloned());
                    self.dirty_marks.extend(self.copy.marks.keys().filter(|id| id.0 == kind).cloned());
                }
                self.serving = self.serving || self.is_quiet();
            }
            Reply::Resync { batch } => {
                self.batch = batch;
                self.dirty.extend(pending.put.iter().map(id));
                self.dirty_marks.extend(pending.revoke.iter().map(marked));
                self.begin.extend(pending.begin);
            }
            Reply::EpochStale => self.serving = false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Cloud {
    pub copy: Replica,
    pub epoch: u64,
    expected: u64,
    stored: Option<(u64, u64, Reply)>,
    cursor: u64,
    /// Where each mark (or, without marks, row) stands among what comes down, and the epoch of the hub that sent it.
    places: BTreeMap<Id, (u64, Option<u64>)>,
    /// Whether a hub whose digest differs is also sent all marks of the kind.
    pub tells_marks_again: bool,
}

impl Cloud {
    pub fn new(rules: Rules) -> Cloud {
        Cloud {
            copy: Replica::new(rules),
            epoch: 1,
            expected: 1,
            stored: None,
            cursor: 0,
            places: BTreeMap::new(),
            tells_marks_again: false,
        }
    }

    /// Takes an epoch statement.
    pub fn raise_epoch(&mut self, epoch: u64) {
        assert!(epoch > self.epoch);
        (self.epoch, self.expected, self.stored) = (epoch, 1, None);
    }

    /// Something was ended here, or came from the hub of `epoch`.
    pub fn placed(&mut self, id: Id, from: Option<u64>) {
        self.cursor += 1;
        self.places.insert(id, (self.cursor, from));
    }

    pub fn sync(&mut self, batch: &Batch, now: u64) -> Reply {
        if batch.epoch < self.epoch {
            return Reply::EpochStale;
        }
        if let Some((epoch, number, reply)) = &self.stored
            && (*epoch, *number) == (batch.epoch, batch.batch)
        {
            return reply.clone();
        }
        if batch.batch != self.expected {
            return Reply::Resync { batch: self.expected };
        }
        for mark in &batch.revoke {
            if self.copy.take_mark(mark.clone(), now) {
                self.placed(marked(mark), Some(batch.epoch));
            }
        }
        // What the hub does not send again is forgotten; where both write rows, nobody can say so.
        if self.copy.rules != Rules::LastWriteWins {
            self.copy.rows.retain(|id, _| !batch.begin.contains(&id.0));
        }
        for row in &batch.put {
            let changed = self.copy.take_row(row.clone());
            if changed && self.copy.rules == Rules::LastWriteWins {
                self.placed(id(row), Some(batch.epoch));
            }
        }
        // Only with a hub that has taken everything: otherwise it differs in what is on its way.
        let told = batch.digest.iter().flatten().filter(|_| batch.cursor == self.cursor);
        let resync: Vec<Kind> = told.filter(|(kind, told)| self.copy.digest(**kind) != **told).map(|(kind, _)| *kind).collect();
        let comes = |id: &Id| self.places.get(id).is_some_and(|(at, from)| *at > batch.cursor && *from != Some(batch.epoch));
        let again = |id: &Id| self.tells_marks_again && resync.contains(&id.0);
        let reply = Reply::Done(Done {
            ack: batch.batch,
            cursor: self.cursor,
            revoke: self.copy.marks.iter().filter(|(id, _)| comes(id) || again(id)).map(|(_, mark)| mark.clone()).collect(),
            put: match self.copy.rules {
                Rules::LastWriteWins => self.copy.rows.iter().filter(|(id, _)| comes(id)).map(|(_, row)| row.clone()).collect(),
                _ => Vec::new(),
            },
            resync,
        });
        self.expected += 1;
        self.stored = Some((batch.epoch, batch.batch, reply.clone()));
        reply
    }
}
