//! Whether both copies are the same, kind by kind. A kind that differs is sent again by the hub; what did not come again is
//! forgotten when the hub compares the next time; and all its marks come down again. A kind that goes on to differ is asked for now and then only.

use super::{Exchange, rows};
use crate::cloud::alarms::{self, Alarm};
use crate::cloud::reply::Refused;
use crate::cloud::signed::{number, signed_number};
use crate::domain::mirror::digest::Digest;
use crate::domain::mirror::wire::{Kind, Mark, Row};
use deadpool_postgres::Transaction;
use std::collections::BTreeMap;

/// So often in a row a kind is asked for at once; after that it is an alarm.
const ASKED_MAX: u64 = 3;
/// And then only after so long, in ms.
const ASK_AGAIN_MS: u64 = 3600 * 1000;

/// The kinds to send again.
pub(super) async fn digests(exchange: &Exchange<'_>, tx: &Transaction<'_>, theirs: &BTreeMap<Kind, String>) -> Result<Vec<Kind>, Refused> {
    let mut again = Vec::new();
    for (&kind, digest) in theirs.iter().filter(|(kind, _)| **kind != Kind::Twin) {
        if !equal(exchange, tx, kind, digest).await? {
            again.push(kind);
        }
    }
    Ok(again)
}

/// Whether a kind is the same here, or is not to be asked for now.
async fn equal(exchange: &Exchange<'_>, tx: &Transaction<'_>, kind: Kind, theirs: &str) -> Result<bool, Refused> {
    let id = exchange.id();
    let statement = tx.prepare_cached("INSERT INTO kinds (hub_id, kind) VALUES ($1, $2) ON CONFLICT DO NOTHING").await?;
    tx.execute(&statement, &[&id, &kind.word()]).await?;
    let statement = tx
        .prepare_cached("SELECT digest, begun, begun_epoch, begun_batch, asked, asked_at FROM kinds WHERE hub_id = $1 AND kind = $2")
        .await?;
    let row = tx.query_one(&statement, &[&id, &kind.word()]).await?;
    let mut known: Option<String> = row.try_get(0)?;
    if row.try_get::<_, bool>(1)? {
        let statement = tx
            .prepare_cached("DELETE FROM rows WHERE hub_id = $1 AND kind = $2 AND (seen_epoch, seen_batch) < ($3::bigint, $4::bigint)")
            .await?;
        let (epoch, batch): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
        tx.execute(&statement, &[&id, &kind.word(), &epoch, &batch]).await?;
        known = None;
    }
    let ours = match known {
        Some(known) => known,
        None => compute(exchange, tx, kind).await?.hex(),
    };
    let (mut asked, mut asked_at) = (number(row.try_get(4)?), number(row.try_get(5)?));
    let same = ours == theirs;
    let ask = !same && (asked < ASKED_MAX || exchange.now.abs_diff(asked_at) >= ASK_AGAIN_MS);
    if same {
        asked = 0;
    } else if ask {
        (asked, asked_at) = (asked + 1, exchange.now);
    }
    let statement =
        tx.prepare_cached("UPDATE kinds SET digest = $3, begun = false, asked = $4, asked_at = $5 WHERE hub_id = $1 AND kind = $2").await?;
    tx.execute(&statement, &[&id, &kind.word(), &ours, &signed_number(asked), &signed_number(asked_at)]).await?;
    if ask {
        tell_again(exchange, tx, kind).await?;
    }
    if ask && asked > ASKED_MAX {
        let alarm =
            Alarm { code: "copies_differ", subject: kind.word().to_owned(), detail: format!("ours {ours}, theirs {theirs}"), text: "" };
        alarms::raise(tx, &exchange.hub.id, exchange.hub.epoch, &alarm, exchange.now, 0).await?;
    }
    Ok(!ask)
}

/// Puts all marks of a kind in new places, so that they come down again: a hub that was put back to an older state lacks
/// those that it has sent or taken since.
async fn tell_again(exchange: &Exchange<'_>, tx: &Transaction<'_>, kind: Kind) -> Result<(), Refused> {
    let (id, kind) = (exchange.id(), kind.word());
    let statement = tx.prepare_cached("SELECT count(*) FROM marks WHERE hub_id = $1 AND kind = $2").await?;
    let count: i64 = tx.query_one(&statement, &[&id, &kind]).await?.try_get(0)?;
    let statement = tx.prepare_cached("UPDATE hubs SET cursor = cursor + $2 WHERE hub_id = $1 RETURNING cursor - $2").await?;
    let before: i64 = tx.query_one(&statement, &[&id, &count]).await?.try_get(0)?;
    let statement = tx
        .prepare_cached(
            "UPDATE marks SET sent_in = NULL, cursor = $3 + n.place FROM \
             (SELECT key, row_number() OVER (ORDER BY cursor) AS place FROM marks WHERE hub_id = $1 AND kind = $2) AS n \
             WHERE marks.hub_id = $1 AND marks.kind = $2 AND marks.key = n.key",
        )
        .await?;
    tx.execute(&statement, &[&id, &kind, &before]).await?;
    Ok(())
}

async fn compute(exchange: &Exchange<'_>, tx: &Transaction<'_>, kind: Kind) -> Result<Digest, Refused> {
    let statement = tx.prepare_cached("SELECT kind, key, gen, ver, origin, body FROM rows WHERE hub_id = $1 AND kind = $2").await?;
    let found = tx.query(&statement, &[&exchange.id(), &kind.word()]).await?;
    let rows: Vec<Row> = found.iter().map(|row| rows::read(kind, row)).collect::<Result<_, _>>()?;
    // What the hub has refused counts at both ends as if it stood.
    let both = "SELECT key, gen FROM marks WHERE hub_id = $1 AND kind = $2 \
         UNION ALL SELECT key, gen FROM refused_marks WHERE hub_id = $1 AND kind = $2";
    let statement = tx.prepare_cached(both).await?;
    let mut marks = Vec::new();
    for row in tx.query(&statement, &[&exchange.id(), &kind.word()]).await? {
        marks.push(Mark { kind, key: row.try_get(0)?, generation: number(row.try_get(1)?), at: 0, by: String::new() });
    }
    Ok(Digest::of(kind, rows.iter(), marks.iter()))
}
