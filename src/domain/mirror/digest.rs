//! By which two copies of a kind see whether they are the same: the XOR of a hash for each row that stands and each mark, so
//! that order does not matter, and what is added twice is taken out again.

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

use super::merge::{body_hash, is_active};
use super::wire::{Kind, Mark, Row};

/// The digest of a kind, or of a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// That of a whole copy: its highest mark of each entity, and its rows of this kind above their marks.
    #[must_use]
    pub fn of<'a>(kind: Kind, rows: impl Iterator<Item = &'a Row>, marks: impl Iterator<Item = &'a Mark>) -> Digest {
        let mut digest = Digest::default();
        let mut highest: HashMap<&str, u64> = HashMap::new();
        for mark in marks.filter(|mark| mark.kind == kind) {
            let known = highest.entry(&mark.key).or_default();
            *known = mark.generation.max(*known);
        }
        for (key, generation) in &highest {
            digest.mark(kind, key, *generation);
        }
        for row in rows.filter(|row| row.kind == kind) {
            if is_active(row, highest.get(row.key.as_str()).copied().unwrap_or(0)) {
                digest.row(row);
            }
        }
        digest
    }

    /// Adds a row, or takes it out. One that is ended by a mark does not belong in.
    pub fn row(&mut self, row: &Row) {
        let mut hash = said("row", row.kind, &row.key, row.generation);
        hash.update(row.version.to_be_bytes());
        hash.update(body_hash(&row.body));
        self.add(hash);
    }

    /// Adds a mark, or takes it out.
    pub fn mark(&mut self, kind: Kind, key: &str, generation: u64) {
        self.add(said("mark", kind, key, generation));
    }

    /// As it is sent.
    #[must_use]
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    fn add(&mut self, hash: Sha256) {
        self.0.iter_mut().zip(hash.finalize()).for_each(|(sum, byte)| *sum ^= byte);
    }
}

fn said(what: &str, kind: Kind, key: &str, generation: u64) -> Sha256 {
    let mut hash = Sha256::new();
    for part in [what, kind.word(), key] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(generation.to_be_bytes());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(key: &str, generation: u64) -> Row {
        Row { kind: Kind::Away, key: key.into(), generation, version: 0, origin: String::new(), body: json!({"a": 1}) }
    }

    fn mark(key: &str, generation: u64) -> Mark {
        Mark { kind: Kind::Away, key: key.into(), generation, at: 7, by: "x".into() }
    }

    #[test]
    fn order_and_what_does_not_stand_make_no_difference() {
        let (a, b, ended) = (row("a", 1), row("b", 2), row("c", 3));
        let marks = [mark("c", 2), mark("c", 3), mark("a", 0)];
        let all = Digest::of(Kind::Away, [&a, &b, &ended].into_iter(), marks.iter());
        assert_eq!(all, Digest::of(Kind::Away, [&b, &a].into_iter(), marks.iter().rev()));
        let mut by_hand = Digest::default();
        by_hand.row(&b);
        by_hand.mark(Kind::Away, "c", 3);
        by_hand.mark(Kind::Away, "a", 0);
        by_hand.row(&ended);
        by_hand.row(&a);
        by_hand.row(&ended);
        assert_eq!(by_hand, all);
        assert_eq!(Digest::of(Kind::User, [&a].into_iter(), marks.iter()).hex(), "0".repeat(64));
    }

    /// Term by term, as the document has it.
    #[test]
    fn a_digest_has_the_documented_bytes() {
        let body: [u8; 32] = Sha256::digest("{\"a\":1}").into();
        let row_hash = Sha256::digest([&b"row\0away\0k\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0"[..], &body].concat());
        let mark_hash = Sha256::digest(b"mark\0away\0k\0\0\0\0\0\0\0\0\x02");
        let sum: Vec<u8> = row_hash.iter().zip(mark_hash.iter()).map(|(a, b)| a ^ b).collect();
        let (rows, marks) = ([row("k", 3)], [mark("k", 2)]);
        assert_eq!(Digest::of(Kind::Away, rows.iter(), marks.iter()).hex(), HEXLOWER.encode(&sum));
    }

    #[test]
    fn every_part_of_a_row_counts_but_its_origin_and_a_marks_time() {
        let digest = |row: &Row| Digest::of(Kind::Away, std::iter::once(row), std::iter::empty());
        let a = row("a", 1);
        for other in [row("b", 1), row("a", 2), Row { version: 1, ..a.clone() }, Row { body: json!({"a": 2}), ..a.clone() }] {
            assert_ne!(digest(&other), digest(&a));
        }
        assert_eq!(digest(&Row { origin: "another".into(), ..a.clone() }), digest(&a));
        let marks = |mark: Mark| Digest::of(Kind::Away, std::iter::empty(), std::iter::once(&mark));
        assert_eq!(marks(mark("a", 1)), marks(Mark { at: 8, by: String::new(), ..mark("a", 1) }));
        assert_ne!(marks(mark("a", 1)), digest(&a));
    }
}
