//! The audit of a hub, as a witness keeps it: entries must follow each other and the last one that was seen, the hub's
//! signed heads must lie on that chain, and what is missing must have been cut by the hub's own signed word. Anything
//! else is a fork: it is not taken, and it is an alarm.

use super::Exchange;
use crate::cloud::alarms::{self, Alarm};
use crate::cloud::reply::Refused;
use crate::cloud::signed::{number, signed_number};
use crate::domain::audit::Entry;
use crate::domain::audit::chain::{Place, Point, PointKind};
use crate::domain::audit::export::EntryLine;
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::AuditRange;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use deadpool_postgres::Transaction;
use serde_json::Value;
use std::collections::BTreeMap;

/// Statements of one range that are looked at.
const CUTS_MAX: usize = 16;

/// A range that was read.
struct Range<'a> {
    from: u64,
    prev: [u8; 32],
    entries: Vec<(Entry, &'a Value)>,
    head: Option<(Point, Vec<u8>)>,
    cuts: Vec<Point>,
}

/// Takes a range. `known` is the last entry that was seen in this epoch.
pub(super) async fn take(exchange: &Exchange<'_>, tx: &Transaction<'_>, known: Option<Place>, range: &AuditRange) -> Result<(), Refused> {
    let taken = match read(&exchange.hub.id, range) {
        Ok(range) => keep(exchange, tx, known, range).await?,
        Err(why) => Err(why),
    };
    if let Err(why) = taken {
        let detail = format!("from {}, {} entries, after {:?}: {why}", range.from, range.items.len(), known.map(|(seq, _)| seq));
        let alarm = Alarm {
            code: "audit_fork",
            subject: String::new(),
            detail,
            text: "The hub's audit does not continue the one that the cloud has seen before: entries were changed, taken out or put in, or an \
                   old copy of the hub was restored. If nobody has restored it, check on the hub with `hearthkey audit verify` and compare.",
        };
        let most = exchange.context.config.limits.items_per_hub;
        alarms::raise(tx, &exchange.hub.id, exchange.hub.epoch, &alarm, exchange.now, most).await?;
    }
    Ok(())
}

/// Reads a range, and checks all of it that needs nothing from the database.
fn read<'a>(hub: &HubId, range: &'a AuditRange) -> Result<Range<'a>, &'static str> {
    let prev = HEXLOWER.decode(range.prev.as_bytes()).ok().and_then(|p| p.try_into().ok()).ok_or("prev is no hash")?;
    let point = |text: &str, kind: PointKind| {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| "a signed point cannot be read")?;
        let point = Point::read(&bytes).map_err(|_| "a signed point does not hold")?;
        if point.hub == *hub && point.kind == kind { Ok((point, bytes)) } else { Err("a signed point is of another hub or kind") }
    };
    if range.from == 0 || i64::try_from(range.from).is_err() || range.cuts.len() > CUTS_MAX {
        return Err("a range begins at an entry, and has few cuts");
    }
    let mut last = (range.from - 1 > 0).then(|| (range.from - 1, prev));
    if last.is_none() && prev != [0; 32] {
        return Err("nothing stands before the first entry");
    }
    let mut entries = Vec::with_capacity(range.items.len());
    for item in &range.items {
        let line: EntryLine = serde_json::from_value(item.clone()).map_err(|_| "an entry cannot be read")?;
        let (entry, _) = line.read().ok_or("an entry cannot be read")?;
        if !entry.follows(last) {
            return Err("an entry does not follow the one before it");
        }
        last = Some((entry.seq, entry.hash));
        entries.push((entry, item));
    }
    let head = range.head.as_deref().map(|text| point(text, PointKind::End)).transpose()?;
    let cuts = range.cuts.iter().map(|text| Ok(point(text, PointKind::Cut)?.0)).collect::<Result<_, &'static str>>()?;
    Ok(Range { from: range.from, prev, entries, head, cuts })
}

/// Sees whether a range continues what is known, and keeps it then.
async fn keep(
    exchange: &Exchange<'_>,
    tx: &Transaction<'_>,
    known: Option<Place>,
    range: Range<'_>,
) -> Result<Result<(), &'static str>, Refused> {
    let newest = range.entries.last().map(|(entry, _)| (entry.seq, entry.hash));
    if let Some(known) = known
        && let Err(why) = joins(exchange, tx, known, &range).await?
    {
        return Ok(Err(why));
    }
    if let Err(why) = on_heads(exchange, tx, &range).await? {
        return Ok(Err(why));
    }
    let end = newest.into_iter().chain(known).max_by_key(|(seq, _)| *seq);
    if let Some((head, bytes)) = &range.head {
        let place = head.place;
        let fits = match end {
            Some(end) if place.0 == end.0 => place.1 == end.1,
            Some(end) if place.0 < end.0 => hash_at(exchange, tx, &range, place.0).await?.is_none_or(|hash| hash == place.1),
            // Ahead of what has come: kept, and what comes must reach it.
            _ => true,
        };
        if !fits {
            return Ok(Err("the signed end is not on the chain"));
        }
        let statement = tx
            .prepare_cached("INSERT INTO heads (hub_id, epoch, seq, hash, head, at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING")
            .await?;
        let (epoch, seq, now) = (signed_number(exchange.hub.epoch), signed_number(place.0), signed_number(exchange.now));
        tx.execute(&statement, &[&exchange.id(), &epoch, &seq, &place.1.as_slice(), bytes, &now]).await?;
    }
    let fresh = range.entries.iter().filter(|(entry, _)| known.is_none_or(|(seq, _)| entry.seq > seq));
    let (mut seqs, mut texts, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for (entry, item) in fresh {
        seqs.push(signed_number(entry.seq));
        texts.push(item.to_string());
        hashes.push(entry.hash.to_vec());
    }
    let Some((seq, hash)) = end.filter(|_| !seqs.is_empty()) else { return Ok(Ok(())) };
    let epoch = signed_number(exchange.hub.epoch);
    let statement = tx
        .prepare_cached(
            "INSERT INTO audit (hub_id, epoch, seq, entry, hash) SELECT $1, $2, seq, entry, hash \
             FROM unnest($3::bigint[], $4::text[], $5::bytea[]) AS a (seq, entry, hash) ON CONFLICT DO NOTHING",
        )
        .await?;
    tx.execute(&statement, &[&exchange.id(), &epoch, &seqs, &texts, &hashes]).await?;
    let statement = tx.prepare_cached("UPDATE hubs SET audit_seq = $2, audit_hash = $3 WHERE hub_id = $1").await?;
    tx.execute(&statement, &[&exchange.id(), &signed_number(seq), &hash.as_slice()]).await?;
    // A ring: the oldest make room.
    let oldest = seq.saturating_sub(exchange.context.config.limits.audit_per_hub);
    let statement = tx.prepare_cached("DELETE FROM audit WHERE hub_id = $1 AND epoch = $2 AND seq <= $3").await?;
    tx.execute(&statement, &[&exchange.id(), &epoch, &signed_number(oldest)]).await?;
    Ok(Ok(()))
}

/// Whether a range joins on to the last entry that was seen.
async fn joins(
    exchange: &Exchange<'_>,
    tx: &Transaction<'_>,
    known: Place,
    range: &Range<'_>,
) -> Result<Result<(), &'static str>, Refused> {
    let (seq, hash) = known;
    if range.from > seq + 1 {
        // Missing entries must have been cut by the hub, up to just before this range.
        let cut = range.cuts.iter().any(|cut| cut.place == (range.from - 1, range.prev));
        return Ok(if cut || range.entries.is_empty() { Ok(()) } else { Err("entries are missing, and the hub has not cut them") });
    }
    if range.from == seq + 1 {
        let joins = range.entries.is_empty() || range.prev == hash;
        return Ok(if joins { Ok(()) } else { Err("it does not follow the last entry that was seen") });
    }
    // It overlaps: what was seen must come again as it was.
    let last = range.entries.last().map_or(0, |(entry, _)| entry.seq);
    let statement = tx.prepare_cached("SELECT seq, hash FROM audit WHERE hub_id = $1 AND epoch = $2 AND seq BETWEEN $3 AND $4").await?;
    let (from, to) = (signed_number(range.from.saturating_sub(1)), signed_number(last));
    let mut kept: BTreeMap<u64, Vec<u8>> = BTreeMap::from([(seq, hash.to_vec())]);
    for row in tx.query(&statement, &[&exchange.id(), &signed_number(exchange.hub.epoch), &from, &to]).await? {
        kept.insert(number(row.try_get(0)?), row.try_get(1)?);
    }
    let same = |seq: u64, hash: &[u8; 32]| kept.get(&seq).is_none_or(|kept| kept == hash);
    let good = same(range.from - 1, &range.prev) && range.entries.iter().all(|(entry, _)| same(entry.seq, &entry.hash));
    Ok(if good { Ok(()) } else { Err("an entry is not the one that was seen") })
}

/// Whether a range passes through all heads that the hub has signed before.
async fn on_heads(exchange: &Exchange<'_>, tx: &Transaction<'_>, range: &Range<'_>) -> Result<Result<(), &'static str>, Refused> {
    let statement = tx.prepare_cached("SELECT seq, hash FROM heads WHERE hub_id = $1 AND epoch = $2 AND seq BETWEEN $3 AND $4").await?;
    let last = range.entries.last().map_or(range.from, |(entry, _)| entry.seq).max(range.head.as_ref().map_or(0, |(head, _)| head.place.0));
    let (epoch, from, to) = (signed_number(exchange.hub.epoch), signed_number(range.from.saturating_sub(1)), signed_number(last));
    for row in tx.query(&statement, &[&exchange.id(), &epoch, &from, &to]).await? {
        let (seq, hash): (u64, Vec<u8>) = (number(row.try_get(0)?), row.try_get(1)?);
        let before = (seq == range.from - 1).then_some(range.prev);
        let here = range.entries.iter().find(|(entry, _)| entry.seq == seq).map(|(entry, _)| entry.hash).or(before);
        let said = range.head.as_ref().map(|(head, _)| head.place).filter(|place| place.0 == seq).map(|place| place.1);
        if here.into_iter().chain(said).any(|found| found.as_slice() != hash.as_slice()) {
            return Ok(Err("the hub has signed another entry in this place"));
        }
    }
    Ok(Ok(()))
}

/// The hash of an entry, of this range or kept.
async fn hash_at(exchange: &Exchange<'_>, tx: &Transaction<'_>, range: &Range<'_>, seq: u64) -> Result<Option<[u8; 32]>, Refused> {
    if let Some((entry, _)) = range.entries.iter().find(|(entry, _)| entry.seq == seq) {
        return Ok(Some(entry.hash));
    }
    let statement = tx.prepare_cached("SELECT hash FROM audit WHERE hub_id = $1 AND epoch = $2 AND seq = $3").await?;
    let row = tx.query_opt(&statement, &[&exchange.id(), &signed_number(exchange.hub.epoch), &signed_number(seq)]).await?;
    let hash: Option<Vec<u8>> = row.map(|row| row.try_get(0)).transpose()?;
    Ok(hash.and_then(|hash| hash.try_into().ok()))
}
