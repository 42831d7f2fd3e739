//! The audit on its way to the cloud: ranges of the chain, with the hub's signed words about its cuts and its end. What
//! stands beside the chain stays in the house.

use super::gaps::gaps;
use super::{CUT, END, head, identity};
use crate::domain::audit::Entry;
use crate::domain::audit::chain::{Point, PointKind};
use crate::domain::audit::export::EntryLine;
use crate::domain::mirror::wire::AuditRange;
use crate::store::Read;
use crate::store::tables::AuditCut;
use crate::store::{Record, StoreError, Tx};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::Value;

/// Entries of one range at most.
const RANGE_MAX: usize = 500;
/// The form of entries from which nothing personal is part of the chain.
const WITHOUT_PERSONS: u8 = 2;

/// The entries after number `sent`, as many as fit `budget` bytes of JSON, and the number of the last of them; `None` when
/// there is nothing new.
pub(in crate::service) fn range_after(tx: &Tx<'_>, sent: u64, budget: usize, now: u64) -> Result<Option<(AuditRange, u64)>, StoreError> {
    let head = head(tx)?;
    let cut = tx.get::<AuditCut>(CUT)?;
    // Of what has been cut, the hub's own word tells the cloud that nothing was taken out.
    let cut_to = cut.as_ref().and_then(|c| Point::read(&c.statement).ok()).map_or(0, |point| point.place.0);
    // A chain that ends before what was sent is another one.
    let mut after = if sent > head.seq { 0 } else { sent }.max(cut_to);
    let (gaps, mut passed) = (gaps(tx)?, None);
    if let Some((_, (statement, place))) = gaps.iter().find(|(from, (_, place))| (**from..=place.0).contains(&(after + 1))) {
        after = place.0;
        passed = Some(statement.clone());
    }
    // A range has no gap in its midst.
    let end = gaps.range(after + 1..).next().map_or_else(|| END.to_vec(), |(from, _)| from.to_be_bytes().to_vec());
    if head.seq <= after {
        return Ok(None);
    }
    let rows = tx.rows(<Entry as Record>::TABLE, &(after + 1).to_be_bytes(), &end, RANGE_MAX, false)?;
    let (mut items, mut first, mut last, mut left) = (Vec::new(), None, after, budget);
    for (_, entry) in tx.decode_all::<Entry>(rows)? {
        last = entry.seq;
        if entry.version < WITHOUT_PERSONS {
            continue;
        }
        let (seq, previous) = (entry.seq, entry.previous);
        let item = serde_json::to_value(EntryLine::new(entry, None)).unwrap_or(Value::Null);
        let size = item.to_string().len() + 1;
        if size > left {
            last = seq - 1;
            break;
        }
        left -= size;
        first.get_or_insert((seq, previous));
        items.push(item);
    }
    let Some((from, previous)) = first else {
        // Nothing but entries that stay here: they are as good as sent.
        let skipped =
            (last > sent).then(|| (AuditRange { from: last + 1, prev: HEXLOWER.encode(&[0; 32]), ..AuditRange::default() }, last));
        return Ok(skipped.filter(|_| items.is_empty() && left == budget && last > after));
    };
    let signed = if last == head.seq { identity(tx)? } else { None };
    let point = signed.map(|identity| BASE64URL_NOPAD.encode(&Point::sign(&identity, PointKind::End, (head.seq, head.hash), now)));
    let cuts = cut.filter(|_| sent < cut_to).map(|c| c.statement).into_iter().chain(passed);
    let cuts = cuts.map(|statement| BASE64URL_NOPAD.encode(&statement));
    Ok(Some((AuditRange { from, prev: HEXLOWER.encode(&previous), items, head: point, cuts: cuts.collect() }, last)))
}

/// How many entries the cloud does not have.
pub(in crate::service) fn entries_after<R: Read>(rows: &R, sent: u64) -> Result<u64, StoreError> {
    let head = rows.get::<crate::domain::audit::chain::Head>(super::HEAD)?.unwrap_or_default();
    Ok(if sent > head.seq { head.seq } else { head.seq - sent })
}
