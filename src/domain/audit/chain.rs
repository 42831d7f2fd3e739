//! The chain as a whole: where it ends, what was cut off its beginning, and following it.
//!
//! The hub signs two kinds of points: up to where it has cut the chain itself, and where an export ends. Whoever follows
//! the chain needs nothing else to tell a cut of the hub from entries that somebody took out.

use super::{Beside, Entry, octets};
use crate::domain::brand::{Purpose, StatementError, sign_statement, unverified_payload, verify_statement};
use crate::domain::cbor::{self, Record};
use crate::domain::ids::HubId;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

/// An entry's number and hash.
pub type Place = (u64, [u8; 32]);

/// Gaps that a [`Verdict`] names. A hub cuts its oldest entries only: more than one gap comes of cuts while it is followed.
const GAPS_MAX: usize = 100;

/// Where the chain ends, and how much room it takes: kept apart from it, so that an end that was cut off is missed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The newest entry's number; 0 before there is one.
    pub seq: u64,
    /// The newest entry's hash.
    #[serde(with = "octets")]
    pub hash: [u8; 32],
    /// Bytes of all rows that are kept, those beside the chain too.
    pub bytes: u64,
}

impl Head {
    /// Number and hash of the newest entry.
    #[must_use]
    pub fn newest(&self) -> Option<Place> {
        (self.seq > 0).then_some((self.seq, self.hash))
    }
}

/// What a hub says of a place in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    /// All entries up to this one are gone, because there was no room for them.
    Cut,
    /// This was the newest entry.
    End,
}

/// A place in a hub's chain, as the hub has signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Which hub.
    pub hub: HubId,
    /// What is said of the place.
    pub kind: PointKind,
    /// Number and hash of the entry.
    pub place: Place,
    /// When it was said, ms since 1970, by the hub's clock.
    pub at: u64,
}

impl Point {
    /// The point as a statement, signed by the hub's identity key.
    #[must_use]
    pub fn sign(identity: &SigningKey, kind: PointKind, place: Place, at: u64) -> Vec<u8> {
        let kind = match kind {
            PointKind::Cut => 1,
            PointKind::End => 2,
        };
        let payload = cbor::map([
            (1, cbor::bytes(identity.verifying_key().as_bytes())),
            (2, ciborium::Value::from(kind)),
            (3, ciborium::Value::from(place.0)),
            (4, cbor::bytes(&place.1)),
            (5, ciborium::Value::from(at)),
        ]);
        sign_statement(identity, Purpose::AuditPoint, cbor::encode(payload))
    }

    /// Reads a statement and checks its signature. Which hub it is of, the caller compares.
    ///
    /// # Errors
    /// [`StatementError`] for anything else.
    pub fn read(statement: &[u8]) -> Result<Point, StatementError> {
        let refused = StatementError::NotAStatement("audit point");
        let mut record = Record::decode("audit point", &unverified_payload(Purpose::AuditPoint, statement)?)?;
        let key = record.take(1, "public key")?.fixed()?;
        let kind = match record.take(2, "kind")?.uint()? {
            1 => PointKind::Cut,
            2 => PointKind::End,
            _ => return Err(refused),
        };
        let place = (record.take(3, "entry")?.uint()?, record.take(4, "hash")?.fixed()?);
        let at = record.take(5, "time")?.uint()?;
        record.finish()?;
        verify_statement(&key, Purpose::AuditPoint, statement)?;
        Ok(Point { hub: HubId::from_public_key(&key), kind, place, at })
    }
}

/// Where a chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit is broken at entry {seq}: {why}")]
pub struct Broken {
    /// The first entry that does not hold.
    pub seq: u64,
    /// Why not.
    pub why: Why,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It was changed, or the one before it was.
    #[error("it was changed, or is not the one that followed")]
    Changed,
    /// It is not there, and the hub has not said that it cut it.
    #[error("it is missing, and the hub has not cut it")]
    Missing,
    /// What stands beside it is not what stood there.
    #[error("what it says of a person was changed")]
    Beside,
    /// A mark that says it was cut is not this hub's.
    #[error("the mark of a cut before it is not this hub's")]
    Mark,
    /// The newest entries are gone, or others were put after them.
    #[error("the end is not the one that was noted down")]
    End,
}

/// What following a chain has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Entries that were looked at and hold.
    pub entries: u64,
    /// Of these, those of which what is personal was erased.
    pub erased: u64,
    /// The first of them.
    pub first: Option<u64>,
    /// The newest of them.
    pub newest: Option<Place>,
    /// Numbers of entries that the hub has cut, from and to.
    pub gaps: Vec<(u64, u64)>,
}

/// Follows a chain of one hub, entry by entry, in constant memory.
#[derive(Clone, Debug)]
pub struct Verifier {
    hub: HubId,
    /// The last entry that holds, or up to which was cut.
    last: Option<Place>,
    seen: Verdict,
}

impl Verifier {
    /// Begins before the first entry of `hub`.
    #[must_use]
    pub fn new(hub: HubId) -> Verifier {
        Verifier { hub, last: None, seen: Verdict::default() }
    }

    /// The number that the next entry should have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.last.map_or(1, |(seq, _)| seq + 1)
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> &Verdict {
        &self.seen
    }

    /// The next entry, and what stands beside it, if that is still there.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn entry(&mut self, entry: &Entry, beside: Option<&Beside>) -> Result<(), Broken> {
        if entry.seq > self.next() {
            return Err(self.broken(Why::Missing));
        }
        if !entry.follows(self.last) {
            return Err(self.broken(Why::Changed));
        }
        if !entry.fits(beside) {
            return Err(self.broken(Why::Beside));
        }
        self.last = Some((entry.seq, entry.hash));
        self.seen.entries += 1;
        self.seen.erased += u64::from(beside.is_none() && entry.beside != [0; 32]);
        self.seen.first.get_or_insert(entry.seq);
        self.seen.newest = self.last;
        Ok(())
    }

    /// The statement that the hub has cut the chain up to a place.
    ///
    /// # Errors
    /// [`Why::Mark`] when it is not this hub's, or contradicts what was seen.
    pub fn cut(&mut self, statement: &[u8]) -> Result<(), Broken> {
        let point = Point::read(statement).map_err(|_| self.broken(Why::Mark))?;
        let contradicts = self.last.is_some_and(|(seq, hash)| seq == point.place.0 && hash != point.place.1);
        if point.hub != self.hub || point.kind != PointKind::Cut || contradicts {
            return Err(self.broken(Why::Mark));
        }
        if point.place.0 >= self.next() {
            if self.seen.gaps.len() < GAPS_MAX {
                self.seen.gaps.push((self.next(), point.place.0));
            }
            self.last = Some(point.place);
        }
        Ok(())
    }

    /// The end: `noted` is the newest entry as it was noted down elsewhere.
    ///
    /// # Errors
    /// [`Why::End`] when it is another one.
    pub fn finish(self, noted: Option<Place>) -> Result<Verdict, Broken> {
        if noted == self.last { Ok(self.seen) } else { Err(self.broken(Why::End)) }
    }

    fn broken(&self, why: Why) -> Broken {
        Broken { seq: self.next(), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Event;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn hub() -> HubId {
        HubId::from_public_key(key(9).verifying_key().as_bytes())
    }

    fn chain(n: u64) -> Vec<(Entry, Option<Beside>)> {
        let mut last = None;
        let one = |seq: u64| {
            let event = Event { actor: "user:1".into(), object: seq.to_string(), via: "https 10.0.0.7".into(), ..Event::default() };
            let made = Entry::after(last, seq, event, [7; 16]);
            last = Some((made.0.seq, made.0.hash));
            made
        };
        (1..=n).map(one).collect()
    }

    fn place(of: &(Entry, Option<Beside>)) -> Place {
        (of.0.seq, of.0.hash)
    }

    fn follow(rows: &[(Entry, Option<Beside>)], cut: Option<&[u8]>, noted: Option<Place>) -> Result<Verdict, Broken> {
        let mut verifier = Verifier::new(hub());
        if let Some(statement) = cut {
            verifier.cut(statement)?;
        }
        rows.iter().try_for_each(|(entry, beside)| verifier.entry(entry, beside.as_ref()))?;
        verifier.finish(noted)
    }

    #[test]
    fn a_whole_chain_holds_and_says_where_it_ends_and_what_was_erased() {
        let mut rows = chain(5);
        rows[2].1 = None;
        let end = place(&rows[4]);
        let verdict = follow(&rows, None, Some(end)).unwrap();
        assert_eq!(verdict, Verdict { entries: 5, erased: 1, first: Some(1), newest: Some(end), gaps: vec![] });
        assert_eq!(follow(&[], None, None).unwrap(), Verdict::default());
    }

    #[test]
    fn whatever_is_done_to_a_chain_is_found_where_it_was_done() {
        let rows = chain(5);
        let end = Some(place(&rows[4]));
        let broken = |rows: &[_], noted| {
            let b = follow(rows, None, noted).unwrap_err();
            (b.seq, b.why)
        };
        let mut changed = rows.clone();
        changed[1].0.event.object = "another".into();
        assert_eq!(broken(&changed, end), (2, Why::Changed));
        let mut beside = rows.clone();
        beside[3].1.as_mut().unwrap().via = "https 10.0.0.8".into();
        assert_eq!(broken(&beside, end), (4, Why::Beside));
        let mut removed = rows.clone();
        removed.remove(2);
        assert_eq!(broken(&removed, end), (3, Why::Missing));
        assert_eq!(broken(&rows[1..], end), (1, Why::Missing));
        assert_eq!(broken(&rows[..3], end), (4, Why::End));
        assert_eq!(broken(&[], end), (1, Why::End));
        assert_eq!(broken(&rows, Some(place(&rows[3]))), (6, Why::End));
    }

    #[test]
    fn a_cut_holds_by_the_hubs_signature_alone() {
        let rows = chain(5);
        let end = Some(place(&rows[4]));
        let cut = |key: &SigningKey, kind, place| Point::sign(key, kind, place, 1);
        let good = cut(&key(9), PointKind::Cut, place(&rows[2]));
        let verdict = follow(&rows[3..], Some(&good), end).unwrap();
        assert_eq!((verdict.entries, verdict.first, verdict.gaps), (2, Some(4), vec![(1, 3)]));
        // What is cut is left out, and no more than that.
        assert_eq!(follow(&rows[4..], Some(&good), end).unwrap_err().why, Why::Missing);
        let mut other_hash = place(&rows[3]);
        other_hash.1[0] ^= 1;
        assert_eq!(follow(&rows[4..], Some(&cut(&key(9), PointKind::Cut, other_hash)), end).unwrap_err().why, Why::Changed);
        let mut tampered = cut(&key(9), PointKind::Cut, place(&rows[2]));
        *tampered.last_mut().unwrap() ^= 1;
        for forged in [cut(&key(8), PointKind::Cut, place(&rows[2])), cut(&key(9), PointKind::End, place(&rows[2])), tampered, vec![]] {
            assert_eq!(follow(&rows[3..], Some(&forged), end).unwrap_err().why, Why::Mark);
        }
    }

    #[test]
    fn a_cut_that_overtakes_whoever_follows_is_a_gap_and_an_old_one_is_none() {
        let rows = chain(6);
        let mut verifier = Verifier::new(hub());
        for (entry, beside) in &rows[..2] {
            verifier.entry(entry, beside.as_ref()).unwrap();
        }
        verifier.cut(&Point::sign(&key(9), PointKind::Cut, place(&rows[0]), 1)).unwrap();
        verifier.cut(&Point::sign(&key(9), PointKind::Cut, place(&rows[3]), 1)).unwrap();
        for (entry, beside) in &rows[4..] {
            verifier.entry(entry, beside.as_ref()).unwrap();
        }
        assert_eq!(verifier.finish(Some(place(&rows[5]))).unwrap().gaps, [(3, 4)]);
    }
}
