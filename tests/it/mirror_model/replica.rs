//! One copy of the household, merged by the domain's own functions; or, to see that the check finds what they prevent, by
//! the time of the last write, or with marks that write into the row they end.

use hearthkey::domain::mirror::digest::Digest;
use hearthkey::domain::mirror::merge::{Raise, body_hash, is_active, newer, raise};
use hearthkey::domain::mirror::wire::{Kind, Mark, Row};
use serde_json::json;
use std::collections::BTreeMap;

/// An entity.
pub type Id = (Kind, String);

/// What is mirrored of it here.
pub const KINDS: [Kind; 3] = [Kind::Device, Kind::Binding, Kind::User];

/// How what one side does reaches the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// As in `docs/protocol/mirror.md`.
    Marks,
    /// A revocation is a row like any other, and the row with the later time stands.
    LastWriteWins,
    /// There are marks, and each side also writes into the row it ends.
    Restamp,
}

#[derive(Clone, Debug)]
pub struct Replica {
    pub rules: Rules,
    pub rows: BTreeMap<Id, Row>,
    pub marks: BTreeMap<Id, Mark>,
    /// Rows that two wrote in the same version.
    pub conflicts: u64,
}

pub fn id(row: &Row) -> Id {
    (row.kind, row.key.clone())
}

pub fn marked(mark: &Mark) -> Id {
    (mark.kind, mark.key.clone())
}

/// Which grant a row is.
pub fn grant(row: &Row) -> u64 {
    row.body["grant"].as_u64().unwrap_or(0)
}

impl Replica {
    pub fn new(rules: Rules) -> Replica {
        Replica { rules, rows: BTreeMap::new(), marks: BTreeMap::new(), conflicts: 0 }
    }

    pub fn mark(&self, id: &Id) -> u64 {
        self.marks.get(id).map_or(0, |mark| mark.generation)
    }

    /// Whether the row itself is not ended.
    pub fn stands(&self, id: &Id) -> bool {
        self.rows.get(id).is_some_and(|row| match self.rules {
            Rules::LastWriteWins => row.body["ended"] != json!(true),
            _ => is_active(row, self.mark(id)),
        })
    }

    /// Whether it is in force: a right also needs its device and its person.
    pub fn is_active(&self, id: &Id) -> bool {
        self.stands(id)
            && match (id.0, id.1.split_once('/')) {
                (Kind::Binding, Some((device, user))) => {
                    self.stands(&(Kind::Device, device.to_owned())) && self.stands(&(Kind::User, user.to_owned()))
                }
                _ => true,
            }
    }

    /// All that is in force.
    pub fn active(&self) -> BTreeMap<Id, &Row> {
        self.rows.iter().filter(|(id, _)| self.is_active(id)).map(|(id, row)| (id.clone(), row)).collect()
    }

    /// Takes a row; whether it changed anything.
    pub fn take_row(&mut self, row: Row) -> bool {
        let known = self.rows.get(&id(&row));
        let takes = match self.rules {
            Rules::LastWriteWins => known.is_none_or(|known| (row.version, body_hash(&row.body)) > (known.version, body_hash(&known.body))),
            _ => {
                let merge = newer(known, &row);
                self.conflicts += u64::from(matches!(merge, hearthkey::domain::mirror::merge::Merge::Conflict(_)));
                merge.takes()
            }
        };
        if takes {
            self.rows.insert(id(&row), row);
        }
        takes
    }

    /// Takes a mark; whether it changed anything. `now` is who takes it's own clock.
    pub fn take_mark(&mut self, mark: Mark, now: u64) -> bool {
        let id = marked(&mark);
        let highest = self.rows.get(&id).map_or(0, |row| row.generation);
        if raise(self.marks.get(&id), highest, &mark) != Raise::Take {
            return false;
        }
        if self.rules == Rules::Restamp
            && let Some(row) = self.rows.get_mut(&id).filter(|row| row.generation <= mark.generation)
        {
            row.version += 1;
            row.body["ended_at"] = json!(now);
        }
        self.marks.insert(id, mark);
        true
    }

    /// Ends an entity that stands; what is to be told. `now` is the clock of who does it.
    pub fn end(&mut self, id: &Id, by: &str, now: u64) -> Ended {
        if self.rules == Rules::LastWriteWins {
            let mut row = self.rows[id].clone();
            row.version = now;
            row.body["ended"] = json!(true);
            // Who has just seen a later time writes it all the same.
            self.rows.insert(id.clone(), row);
            return Ended::Row;
        }
        let mark = Mark { kind: id.0, key: id.1.clone(), generation: self.rows[id].generation, at: now, by: by.into() };
        self.take_mark(mark, now);
        Ended::Mark
    }

    pub fn digest(&self, kind: Kind) -> String {
        let (rows, marks) = (self.rows.values(), self.marks.values());
        if self.rules == Rules::Marks {
            return Digest::of(kind, rows, marks).hex();
        }
        let mut digest = Digest::default();
        rows.filter(|row| row.kind == kind).for_each(|row| digest.row(row));
        marks.filter(|mark| mark.kind == kind).for_each(|mark| digest.mark(kind, &mark.key, mark.generation));
        digest.hex()
    }

    pub fn digests(&self) -> BTreeMap<Kind, String> {
        KINDS.iter().map(|kind| (*kind, self.digest(*kind))).collect()
    }
}

/// What is to be told of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Mark,
    Row,
}
