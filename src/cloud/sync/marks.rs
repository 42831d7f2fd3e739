//! Marks: grow-only, kept for ever, never refused for want of room. One that is far above everything known is not taken,
//! and is an alarm: whoever made it could end rights that nobody has given yet.

use super::Exchange;
use crate::cloud::alarms::{self, Alarm};
use crate::cloud::items::next_cursor;
use crate::cloud::reply::Refused;
use crate::cloud::signed::{number, signed_number};
use crate::domain::ids::HubId;
use crate::domain::mirror::merge::{Raise, raise};
use crate::domain::mirror::wire::{Kind, Mark};
use deadpool_postgres::Transaction;
use std::collections::BTreeMap;

/// Alarms of one batch about marks that are kept one by one.
const ALARMS_MAX: usize = 20;

/// Of an entity: the greatest generation of a row, and its mark.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    row: u64,
    mark: u64,
}

/// Takes the marks of a hub.
pub(super) async fn from_hub(exchange: &Exchange<'_>, tx: &Transaction<'_>, marks: &[Mark]) -> Result<(), Refused> {
    let (taken, too_far) = sift(tx, exchange.id(), marks).await?;
    write(tx, &exchange.hub.id, &taken, Some(exchange.hub.epoch)).await?;
    hub_has(tx, exchange.id(), marks).await?;
    let most = exchange.context.config.limits.items_per_hub;
    for mark in too_far.iter().take(ALARMS_MAX) {
        let alarm = Alarm {
            code: "mark_too_far",
            subject: format!("{}/{}", mark.kind.word(), mark.key),
            detail: format!("generation {} by {}", mark.generation, mark.by),
            text: "The hub has sent a revocation that is far beyond everything known, and the cloud has not taken it. If it comes again, \
                   ask whoever made your hub.",
        };
        alarms::raise(tx, &exchange.hub.id, exchange.hub.epoch, &alarm, exchange.now, most).await?;
    }
    Ok(())
}

/// Takes a mark that a person or the system has made here. Gives whether it is new; then `Context::wake` tells the hub
/// after the commit. The hub's row is locked by the caller.
///
/// # Errors
/// `too_far` is no error of the caller's: the generation is read from the row that is to be ended.
pub(in crate::cloud) async fn from_here(tx: &Transaction<'_>, hub: &HubId, mark: &Mark) -> Result<bool, Refused> {
    let (taken, too_far) = sift(tx, hub.as_bytes(), std::slice::from_ref(mark)).await?;
    if let Some(mark) = too_far.first() {
        return Err(Refused::fault("a mark made here is too far", &mark.generation));
    }
    write(tx, hub, &taken, None).await?;
    // Somebody wishes it again: the hub looks again.
    let statement = tx.prepare_cached("DELETE FROM refused_marks WHERE hub_id = $1 AND kind = $2 AND key = $3").await?;
    tx.execute(&statement, &[&hub.as_bytes().as_slice(), &mark.kind.word(), &mark.key]).await?;
    Ok(!taken.is_empty())
}

/// Takes the marks of the stolen hub that this one follows; they have been checked there. The hub's row is locked by the caller.
pub(in crate::cloud) async fn from_before(tx: &Transaction<'_>, hub: &HubId, marks: &[Mark]) -> Result<(), Refused> {
    write(tx, hub, marks, None).await
}

/// Of these marks, those to take, one for each entity; and those that are too far.
async fn sift(tx: &Transaction<'_>, hub: &[u8], marks: &[Mark]) -> Result<(Vec<Mark>, Vec<Mark>), Refused> {
    let (kinds, keys): (Vec<&str>, Vec<&str>) = marks.iter().map(|m| (m.kind.word(), m.key.as_str())).unzip();
    let mut known: BTreeMap<(Kind, String), Known> = BTreeMap::new();
    for (table, is_mark) in [("rows", false), ("marks", true)] {
        let statement = format!(
            "SELECT t.kind, t.key, t.gen FROM {table} t JOIN (SELECT DISTINCT * FROM unnest($2::text[], $3::text[]) AS a (kind, key)) a \
             ON t.kind = a.kind AND t.key = a.key WHERE t.hub_id = $1"
        );
        let statement = tx.prepare_cached(&statement).await?;
        for row in tx.query(&statement, &[&hub, &kinds, &keys]).await? {
            let Ok(kind) = Kind::parse(row.try_get(0)?) else { continue };
            let entry = known.entry((kind, row.try_get(1)?)).or_default();
            let generation = number(row.try_get(2)?);
            if is_mark {
                entry.mark = generation;
            } else {
                entry.row = generation;
            }
        }
    }
    let (mut taken, mut too_far): (BTreeMap<(Kind, String), Mark>, Vec<Mark>) = (BTreeMap::new(), Vec::new());
    for mark in marks {
        let known = known.entry((mark.kind, mark.key.clone())).or_default();
        let standing = Mark { generation: known.mark, ..mark.clone() };
        let verdict = raise(Some(&standing).filter(|m| m.generation > 0), known.row, mark);
        match verdict {
            // A number that the database does not have is too far, whatever the row says.
            Raise::Take if i64::try_from(mark.generation).is_ok() => {
                known.mark = mark.generation;
                taken.insert((mark.kind, mark.key.clone()), mark.clone());
            }
            Raise::Known => {}
            Raise::Take | Raise::TooFar => too_far.push(mark.clone()),
        }
    }
    Ok((taken.into_values().collect(), too_far))
}

/// Writes marks down, each in a place of its own, and forgets the rows that they end. `sent_in`: the epoch in which the
/// hub itself has sent them.
async fn write(tx: &Transaction<'_>, hub: &HubId, marks: &[Mark], sent_in: Option<u64>) -> Result<(), Refused> {
    if marks.is_empty() {
        return Ok(());
    }
    let first = reserve(tx, hub, marks.len()).await?;
    let hub = hub.as_bytes().as_slice();
    let kinds: Vec<&str> = marks.iter().map(|m| m.kind.word()).collect();
    let keys: Vec<&str> = marks.iter().map(|m| m.key.as_str()).collect();
    let generations: Vec<i64> = marks.iter().map(|m| signed_number(m.generation)).collect();
    let times: Vec<i64> = marks.iter().map(|m| signed_number(m.at)).collect();
    let by: Vec<&str> = marks.iter().map(|m| m.by.as_str()).collect();
    let cursors: Vec<i64> = (first..).take(marks.len()).map(signed_number).collect();
    let statement = tx
        .prepare_cached(
            "INSERT INTO marks (hub_id, kind, key, gen, at, by_, cursor, sent_in, made_here) \
             SELECT $1, kind, key, gen, at, by_, cursor, $8::bigint, $8::bigint IS NULL FROM \
             unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[]) AS m (kind, key, gen, at, by_, cursor) \
             ON CONFLICT (hub_id, kind, key) DO UPDATE SET gen = excluded.gen, at = excluded.at, by_ = excluded.by_, \
             cursor = excluded.cursor, sent_in = excluded.sent_in, made_here = excluded.made_here WHERE marks.gen < excluded.gen",
        )
        .await?;
    tx.execute(&statement, &[&hub, &kinds, &keys, &generations, &times, &by, &cursors, &sent_in.map(signed_number)]).await?;
    // With a device, its twin ends: both have the device's generation.
    let statement = tx
        .prepare_cached(
            "DELETE FROM rows USING unnest($2::text[], $3::text[], $4::bigint[]) AS m (kind, key, gen) WHERE rows.hub_id = $1 \
             AND rows.key = m.key AND (rows.kind = m.kind OR (rows.kind = 'twin' AND m.kind = 'device')) AND rows.gen <= m.gen",
        )
        .await?;
    tx.execute(&statement, &[&hub, &kinds, &keys, &generations]).await?;
    let statement = tx.prepare_cached("UPDATE kinds SET digest = NULL WHERE hub_id = $1 AND kind = ANY($2)").await?;
    tx.execute(&statement, &[&hub, &kinds]).await?;
    Ok(())
}

/// The hub has these marks itself: none of them is refused any more, and none can be.
async fn hub_has(tx: &Transaction<'_>, hub: &[u8], marks: &[Mark]) -> Result<(), Refused> {
    let (kinds, keys): (Vec<&str>, Vec<&str>) = marks.iter().map(|m| (m.kind.word(), m.key.as_str())).unzip();
    let generations: Vec<i64> = marks.iter().map(|m| signed_number(m.generation)).collect();
    for statement in [
        "UPDATE marks SET made_here = false FROM unnest($2::text[], $3::text[], $4::bigint[]) AS m (kind, key, gen) \
         WHERE marks.hub_id = $1 AND marks.kind = m.kind AND marks.key = m.key AND marks.gen <= m.gen AND made_here",
        "DELETE FROM refused_marks r USING unnest($2::text[], $3::text[], $4::bigint[]) AS m (kind, key, gen) \
         WHERE r.hub_id = $1 AND r.kind = m.kind AND r.key = m.key AND r.gen <= m.gen",
    ] {
        let statement = tx.prepare_cached(statement).await?;
        tx.execute(&statement, &[&hub, &kinds, &keys, &generations]).await?;
    }
    Ok(())
}

/// The first of so many cursors of a hub.
async fn reserve(tx: &Transaction<'_>, hub: &HubId, count: usize) -> Result<u64, Refused> {
    if count == 1 {
        return next_cursor(tx, hub).await;
    }
    let more = i64::try_from(count).unwrap_or(i64::MAX);
    let statement = tx.prepare_cached("UPDATE hubs SET cursor = cursor + $2 WHERE hub_id = $1 RETURNING cursor - $2 + 1").await?;
    let row = tx.query_opt(&statement, &[&hub.as_bytes().as_slice(), &more]).await?.ok_or_else(Refused::not_linked)?;
    Ok(number(row.try_get(0)?))
}
