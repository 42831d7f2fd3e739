//! What waits for a hub: requests, batches, notices, bulletins, each in its place. A place is allotted in the transaction
//! that makes the item, under the lock of the hub's row: so no hub is ever told a number below which one still appears.

use super::reply::Refused;
use super::signed::{number, signed_number};
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::{Done, Item, ItemBody, Notice};
use crate::net::problem::Problem;
use deadpool_postgres::Transaction;
use serde_json::{Value, json};

/// Characters of a code and of a detail that are kept.
const CODE_MAX: usize = 64;
const DETAIL_MAX: usize = 500;

/// Something for a hub.
pub(super) struct NewItem<'a> {
    /// By which it is answered. Of a batch, its id.
    pub(super) id: &'a str,
    pub(super) body: &'a ItemBody,
    /// Whose request it is; empty for what the cloud itself sends.
    pub(super) by: &'a str,
    /// Now, ms since 1970.
    pub(super) at: u64,
    /// Until when it is worth doing, ms since 1970.
    pub(super) ends_at: Option<u64>,
}

/// The next cursor of a hub. Locks its row until the transaction ends.
pub(super) async fn next_cursor(tx: &Transaction<'_>, hub: &HubId) -> Result<u64, Refused> {
    let statement = tx.prepare_cached("UPDATE hubs SET cursor = cursor + 1 WHERE hub_id = $1 RETURNING cursor").await?;
    let row = tx.query_opt(&statement, &[&hub.as_bytes().as_slice()]).await?.ok_or_else(Refused::not_linked)?;
    Ok(number(row.try_get(0)?))
}

/// Puts an item; gives its cursor. After the commit, `Context::wake` tells the hub. One with an id that is there already
/// is not put again.
///
/// # Errors
/// 429 when too many wait for this hub.
pub(super) async fn put(tx: &Transaction<'_>, hub: &HubId, item: &NewItem<'_>, most: u64) -> Result<u64, Refused> {
    let cursor = next_cursor(tx, hub).await?;
    let id = hub.as_bytes().as_slice();
    let statement = tx.prepare_cached("SELECT count(*) FROM items WHERE hub_id = $1 AND state = 'waiting'").await?;
    if number(tx.query_one(&statement, &[&id]).await?.try_get(0)?) >= most {
        let mut problem = Problem::new(429, "full", "Too much waits for this hub").next("Try again when the hub has been online.");
        problem.retry_after = Some(3600);
        return Err(problem.into());
    }
    let fault = |error: serde_json::Error| Refused::fault("an item cannot be written", &error);
    let value = serde_json::to_value(item.body).map_err(fault)?;
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    let body = value.get("body").unwrap_or(&Value::Null).to_string();
    let statement = tx
        .prepare_cached(
            "INSERT INTO items (hub_id, cursor, id, kind, body, by_, at, ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (hub_id, id) DO NOTHING",
        )
        .await?;
    let (at, ends_at) = (signed_number(item.at), item.ends_at.map(signed_number));
    tx.execute(&statement, &[&id, &signed_number(cursor), &item.id, &kind, &body, &item.by, &at, &ends_at]).await?;
    Ok(cursor)
}

/// Puts a notice for owners, once for each `id`.
pub(super) async fn notify(tx: &Transaction<'_>, hub: &HubId, id: &str, notice: Notice, most: u64) -> Result<u64, Refused> {
    let at = notice.at;
    put(tx, hub, &NewItem { id, body: &ItemBody::Notice(notice), by: "", at, ends_at: None }, most).await
}

/// An item as it goes down.
pub(super) fn read(cursor: i64, id: &str, kind: &str, body: &str) -> Option<Item> {
    let body: Value = serde_json::from_str(body).ok()?;
    serde_json::from_value(json!({"cursor": cursor, "id": id, "kind": kind, "body": body})).ok()
}

/// Notes down how items ended. A batch that was taken is not kept any longer.
pub(super) async fn done(tx: &Transaction<'_>, hub: &HubId, done: &[Done], now: u64) -> Result<(), Refused> {
    if done.is_empty() {
        return Ok(());
    }
    let hub = hub.as_bytes().as_slice();
    let ids: Vec<&str> = done.iter().map(|d| d.id.as_str()).collect();
    let states: Vec<&str> = done.iter().map(|d| if d.ok { "done" } else { "refused" }).collect();
    let codes: Vec<String> = done.iter().map(|d| clipped(&d.code, CODE_MAX)).collect();
    let details: Vec<String> = done.iter().map(|d| clipped(&d.detail, DETAIL_MAX)).collect();
    let statement = tx
        .prepare_cached(
            "UPDATE items SET state = d.state, code = d.code, detail = d.detail, done_at = $6 \
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS d (id, state, code, detail) \
             WHERE items.hub_id = $1 AND items.id = d.id AND (items.state = 'waiting' OR items.code = 'expired')",
        )
        .await?;
    tx.execute(&statement, &[&hub, &ids, &states, &codes, &details, &signed_number(now)]).await?;
    let statement = tx
        .prepare_cached(
            "DELETE FROM batches USING items WHERE batches.hub_id = $1 AND items.hub_id = $1 AND items.id = batches.id \
             AND items.state = 'done' AND items.id = ANY($2)",
        )
        .await?;
    tx.execute(&statement, &[&hub, &ids]).await?;
    Ok(())
}

/// What needs no answer is over once the hub has taken it.
pub(super) async fn taken(tx: &Transaction<'_>, hub: &HubId, cursor: u64) -> Result<(), Refused> {
    let statement = tx
        .prepare_cached(
            "UPDATE items SET state = 'taken' WHERE hub_id = $1 AND cursor <= $2 AND state = 'waiting' AND kind IN ('notice', 'bulletin')",
        )
        .await?;
    tx.execute(&statement, &[&hub.as_bytes().as_slice(), &signed_number(cursor)]).await?;
    Ok(())
}

/// A text from elsewhere, as it is kept: PostgreSQL takes no NUL.
pub(super) fn clipped(text: &str, most: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(most).collect()
}
