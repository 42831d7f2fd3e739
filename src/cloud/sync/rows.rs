//! Rows: the hub alone writes them. Of two, the higher generation and version stands; a row that a mark has ended is not
//! kept. While a kind is sent anew, what was there before counts as not there.

use super::Exchange;
use crate::cloud::reply::Refused;
use crate::cloud::signed::{number, signed_number};
use crate::domain::mirror::merge::{Merge, canonical, newer};
use crate::domain::mirror::wire::{Kind, Row};
use crate::net::problem::Problem;
use deadpool_postgres::Transaction;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

type Key = (Kind, String);

/// What is to be done to the table.
#[derive(Default)]
struct Changes {
    write: BTreeMap<Key, Row>,
    /// They stand as they are; the hub has sent them again.
    seen: BTreeSet<Key>,
    conflicts: BTreeMap<Kind, i64>,
}

/// Takes rows, and twins if their owner agreed to it.
pub(super) async fn take(exchange: &Exchange<'_>, tx: &Transaction<'_>, put: &[Row], twins: &[Row]) -> Result<(), Refused> {
    let beginnings: BTreeSet<Kind> = put.iter().filter(|row| row.key.is_empty()).map(|row| row.kind).collect();
    begin(exchange, tx, &beginnings).await?;
    let rows: Vec<&Row> = put.iter().chain(twins).filter(|row| !row.key.is_empty()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let begun = begun(exchange, tx).await?;
    let marks = marks_of(exchange, tx, &rows).await?;
    let mut known = known(exchange, tx, &rows, &begun).await?;
    let mut changes = Changes::default();
    for row in rows {
        let key = (row.kind, row.key.clone());
        if row.generation <= marks.get(&key).copied().unwrap_or(0) {
            continue;
        }
        let verdict = newer(known.get(&key), row);
        if let Merge::Conflict(_) = verdict {
            *changes.conflicts.entry(row.kind).or_default() += 1;
        }
        if verdict.takes() {
            known.insert(key.clone(), row.clone());
            changes.write.insert(key, row.clone());
        } else if !changes.write.contains_key(&key) {
            changes.seen.insert(key);
        }
    }
    changes.apply(exchange, tx).await
}

/// Notes down that the hub begins to send kinds anew.
async fn begin(exchange: &Exchange<'_>, tx: &Transaction<'_>, kinds: &BTreeSet<Kind>) -> Result<(), Refused> {
    let statement = tx
        .prepare_cached(
            "INSERT INTO kinds (hub_id, kind, begun_epoch, begun_batch, begun) VALUES ($1, $2, $3, $4, true) ON CONFLICT (hub_id, kind) \
             DO UPDATE SET digest = NULL, begun_epoch = excluded.begun_epoch, begun_batch = excluded.begun_batch, begun = true",
        )
        .await?;
    for kind in kinds {
        let (epoch, batch) = (signed_number(exchange.hub.epoch), signed_number(exchange.batch));
        tx.execute(&statement, &[&exchange.id(), &kind.word(), &epoch, &batch]).await?;
    }
    Ok(())
}

/// Since when, in epoch and batch, kinds are being sent anew.
async fn begun(exchange: &Exchange<'_>, tx: &Transaction<'_>) -> Result<BTreeMap<Kind, (i64, i64)>, Refused> {
    let statement = tx.prepare_cached("SELECT kind, begun_epoch, begun_batch FROM kinds WHERE hub_id = $1 AND begun").await?;
    let mut begun = BTreeMap::new();
    for row in tx.query(&statement, &[&exchange.id()]).await? {
        if let Ok(kind) = Kind::parse(row.try_get(0)?) {
            begun.insert(kind, (row.try_get(1)?, row.try_get(2)?));
        }
    }
    Ok(begun)
}

fn names<'a>(rows: &[&'a Row]) -> (Vec<&'a str>, Vec<&'a str>) {
    rows.iter().map(|row| (row.kind.word(), row.key.as_str())).unzip()
}

async fn marks_of(exchange: &Exchange<'_>, tx: &Transaction<'_>, rows: &[&Row]) -> Result<BTreeMap<Key, u64>, Refused> {
    let (kinds, keys) = names(rows);
    let statement = tx
        .prepare_cached(
            "SELECT m.kind, m.key, m.gen FROM marks m JOIN (SELECT DISTINCT * FROM unnest($2::text[], $3::text[]) AS a (kind, key)) a \
             ON m.key = a.key AND (m.kind = a.kind OR (m.kind = 'device' AND a.kind = 'twin')) WHERE m.hub_id = $1",
        )
        .await?;
    let mut marks: BTreeMap<Key, u64> = BTreeMap::new();
    for row in tx.query(&statement, &[&exchange.id(), &kinds, &keys]).await? {
        let Ok(kind) = Kind::parse(row.try_get(0)?) else { continue };
        let (key, generation): (String, u64) = (row.try_get(1)?, number(row.try_get(2)?));
        // A twin has its device's generation, and ends with it.
        if kind == Kind::Device {
            let twin = marks.entry((Kind::Twin, key.clone())).or_default();
            *twin = generation.max(*twin);
        }
        let mark = marks.entry((kind, key)).or_default();
        *mark = generation.max(*mark);
    }
    Ok(marks)
}

async fn known(
    exchange: &Exchange<'_>,
    tx: &Transaction<'_>,
    rows: &[&Row],
    begun: &BTreeMap<Kind, (i64, i64)>,
) -> Result<BTreeMap<Key, Row>, Refused> {
    let (kinds, keys) = names(rows);
    let statement = tx
        .prepare_cached(
            "SELECT r.kind, r.key, r.gen, r.ver, r.origin, r.body, r.seen_epoch, r.seen_batch FROM rows r \
             JOIN (SELECT DISTINCT * FROM unnest($2::text[], $3::text[]) AS a (kind, key)) a ON r.kind = a.kind AND r.key = a.key \
             WHERE r.hub_id = $1",
        )
        .await?;
    let mut known = BTreeMap::new();
    for row in tx.query(&statement, &[&exchange.id(), &kinds, &keys]).await? {
        let Ok(kind) = Kind::parse(row.try_get(0)?) else { continue };
        let seen: (i64, i64) = (row.try_get(6)?, row.try_get(7)?);
        if begun.get(&kind).is_some_and(|begun| seen < *begun) {
            continue;
        }
        let row = read(kind, &row)?;
        known.insert((kind, row.key.clone()), row);
    }
    Ok(known)
}

/// A row of the columns kind, key, gen, ver, origin, body.
pub(super) fn read(kind: Kind, row: &tokio_postgres::Row) -> Result<Row, Refused> {
    let body: &str = row.try_get(5)?;
    Ok(Row {
        kind,
        key: row.try_get(1)?,
        generation: number(row.try_get(2)?),
        version: number(row.try_get(3)?),
        origin: row.try_get(4)?,
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    })
}

impl Changes {
    async fn apply(self, exchange: &Exchange<'_>, tx: &Transaction<'_>) -> Result<(), Refused> {
        let (epoch, batch) = (signed_number(exchange.hub.epoch), signed_number(exchange.batch));
        if !self.seen.is_empty() {
            let (kinds, keys): (Vec<&str>, Vec<&str>) = self.seen.iter().map(|(kind, key)| (kind.word(), key.as_str())).unzip();
            let statement = tx
                .prepare_cached(
                    "UPDATE rows SET seen_epoch = $4, seen_batch = $5 FROM unnest($2::text[], $3::text[]) AS s (kind, key) \
                     WHERE rows.hub_id = $1 AND rows.kind = s.kind AND rows.key = s.key",
                )
                .await?;
            tx.execute(&statement, &[&exchange.id(), &kinds, &keys, &epoch, &batch]).await?;
        }
        for (kind, count) in &self.conflicts {
            let statement = tx
                .prepare_cached(
                    "INSERT INTO kinds (hub_id, kind, conflicts) VALUES ($1, $2, $3) \
                     ON CONFLICT (hub_id, kind) DO UPDATE SET conflicts = kinds.conflicts + excluded.conflicts",
                )
                .await?;
            tx.execute(&statement, &[&exchange.id(), &kind.word(), count]).await?;
        }
        if self.write.is_empty() {
            return Ok(());
        }
        write(exchange, tx, &self.write).await?;
        quota(exchange, tx).await
    }
}

async fn write(exchange: &Exchange<'_>, tx: &Transaction<'_>, rows: &BTreeMap<Key, Row>) -> Result<(), Refused> {
    let most = exchange.context.config.limits.row_bytes;
    let mut bodies = Vec::with_capacity(rows.len());
    for row in rows.values() {
        let body = canonical(&row.body);
        // PostgreSQL has no NUL in texts; in JSON it stands as an escape.
        if body.len() > most {
            return Err(Problem::invalid(format!("{} {}: its body has more than {most} bytes", row.kind.word(), row.key)).into());
        }
        bodies.push(body);
    }
    let kinds: Vec<&str> = rows.keys().map(|(kind, _)| kind.word()).collect();
    let keys: Vec<&str> = rows.keys().map(|(_, key)| key.as_str()).collect();
    let generations: Vec<i64> = rows.values().map(|row| signed_number(row.generation)).collect();
    let versions: Vec<i64> = rows.values().map(|row| signed_number(row.version)).collect();
    let origins: Vec<&str> = rows.values().map(|row| row.origin.as_str()).collect();
    let hashes: Vec<Vec<u8>> = bodies.iter().map(|body| Sha256::digest(body).to_vec()).collect();
    let statement = tx
        .prepare_cached(
            "INSERT INTO rows (hub_id, kind, key, gen, ver, origin, body, body_hash, seen_epoch, seen_batch) \
             SELECT $1, kind, key, gen, ver, origin, body, body_hash, $9, $10 FROM \
             unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::bytea[]) \
             AS r (kind, key, gen, ver, origin, body, body_hash) \
             ON CONFLICT (hub_id, kind, key) DO UPDATE SET gen = excluded.gen, ver = excluded.ver, origin = excluded.origin, \
             body = excluded.body, body_hash = excluded.body_hash, seen_epoch = excluded.seen_epoch, seen_batch = excluded.seen_batch",
        )
        .await?;
    let (epoch, batch) = (signed_number(exchange.hub.epoch), signed_number(exchange.batch));
    tx.execute(&statement, &[&exchange.id(), &kinds, &keys, &generations, &versions, &origins, &bodies, &hashes, &epoch, &batch]).await?;
    let statement = tx.prepare_cached("UPDATE kinds SET digest = NULL WHERE hub_id = $1 AND kind = ANY($2)").await?;
    tx.execute(&statement, &[&exchange.id(), &kinds]).await?;
    Ok(())
}

async fn quota(exchange: &Exchange<'_>, tx: &Transaction<'_>) -> Result<(), Refused> {
    let most = exchange.context.config.limits.rows_per_hub;
    let statement = tx.prepare_cached("SELECT count(*) FROM rows WHERE hub_id = $1").await?;
    let count = number(tx.query_one(&statement, &[&exchange.id()]).await?.try_get(0)?);
    if count > most {
        let problem = Problem::new(507, "quota", "There is no more room for this hub")
            .detail(format!("At most {most} rows of a hub are kept. Revocations are taken all the same."))
            .next("Ask whoever runs the cloud for more.");
        return Err(problem.into());
    }
    Ok(())
}
