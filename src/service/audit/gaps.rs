//! Entries that were lost with a database: it was put back to an older copy, and a journal tells how far the chain had come.
//! The chain goes on after the last entry that there was, so that it joins on to every copy that is kept elsewhere; the hub
//! signs what is missing, as it signs what it cuts.

use super::{HEAD, head, identity};
use crate::domain::audit::chain::{Head, Place, Point, PointKind};
use crate::store::tables::AuditCut;
use crate::store::{Read, StoreError, Tx};
use std::collections::BTreeMap;

const GAP: &[u8] = b"gap\0";
/// Gaps that are kept: each is a database that was put back.
const GAPS_MAX: usize = 1_000;

/// Where the chain ends.
pub(in crate::service) fn newest(tx: &Tx<'_>) -> Result<Option<Place>, StoreError> {
    Ok(head(tx)?.newest())
}

/// Goes on after `place`, which lies beyond the end of the chain: what is missing, from and to. Nothing without an identity
/// that could sign it, or when it does not lie beyond.
pub(in crate::service) fn go_on_after(tx: &Tx<'_>, place: Place, now: u64) -> Result<Option<(u64, u64)>, StoreError> {
    let head = head(tx)?;
    let Some(identity) = identity(tx)?.filter(|_| place.0 > head.seq) else { return Ok(None) };
    let from = head.seq + 1;
    let key = [GAP, &from.to_be_bytes()].concat();
    tx.put(&key, &AuditCut { statement: Point::sign(&identity, PointKind::Cut, place, now) })?;
    tx.put(HEAD, &Head { seq: place.0, hash: place.1, ..head })?;
    Ok(Some((from, place.0)))
}

/// The gaps by the first entry that is missing, each with the hub's statement and the last entry that is.
pub(super) fn gaps<R: Read>(rows: &R) -> Result<BTreeMap<u64, (Vec<u8>, Place)>, StoreError> {
    let rows = rows.scan::<AuditCut>(GAP, GAPS_MAX)?;
    let read = |(key, cut): (Vec<u8>, AuditCut)| {
        let from = key.get(GAP.len()..)?.try_into().ok().map(u64::from_be_bytes)?;
        let place = Point::read(&cut.statement).ok()?.place;
        Some((from, (cut.statement, place)))
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

/// Forgets gaps that lie before `seq`, up to which was cut.
pub(super) fn forget_before(tx: &Tx<'_>, seq: u64) -> Result<(), StoreError> {
    for (from, (_, place)) in gaps(tx)? {
        if place.0 <= seq {
            tx.delete::<AuditCut>(&[GAP, &from.to_be_bytes()].concat())?;
        }
    }
    Ok(())
}
