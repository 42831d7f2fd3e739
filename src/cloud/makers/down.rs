//! What the makers' and people's side puts on its way down to a hub: items, and marks of revocation.

use serde_json::Value;
use tokio_postgres::Transaction;

use super::Makers;
use crate::cloud::reply::Refused;
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::{ItemBody, Mark};
use crate::net::problem::Problem;

impl Makers {
    /// Puts an item on its way, in a transaction of its own. One of the same id is there already and is left alone. To a hub
    /// that is not linked nothing is sent.
    pub(super) async fn send(&self, hub: &HubId, id: &str, item: &ItemBody) -> Result<(), Refused> {
        let mut client = self.shards.of_hub(hub).await?;
        let tx = client.transaction().await?;
        self.send_in(&tx, hub, id, item).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The same within a transaction on the hub's database.
    pub(in crate::cloud) async fn send_in(&self, tx: &Transaction<'_>, hub: &HubId, id: &str, item: &ItemBody) -> Result<(), Refused> {
        let (hub, now) = (hub.as_bytes().as_slice(), self.now().cast_signed());
        let linked = tx.query_opt("SELECT cursor FROM hubs WHERE hub_id = $1 AND unlinked_at IS NULL FOR UPDATE", &[&hub]).await?;
        let there = tx.query_opt("SELECT 1 FROM items WHERE hub_id = $1 AND id = $2", &[&hub, &id]).await?;
        let (Some(linked), None) = (linked, there) else { return Ok(()) };
        let cursor = linked.get::<_, i64>(0) + 1;
        let (by, ends_at) = match item {
            ItemBody::Request(request) => {
                (request.by.as_str(), Some((request.at.saturating_add(request.ttl_s.saturating_mul(1000))).cast_signed()))
            }
            _ => ("", None),
        };
        let whole = serde_json::to_value(item).map_err(|error| Refused::fault("an item cannot be written", &error))?;
        let kind = whole.get("kind").and_then(Value::as_str).unwrap_or_default();
        let body = whole.get("body").map(Value::to_string).unwrap_or_default();
        tx.execute("UPDATE hubs SET cursor = $2 WHERE hub_id = $1", &[&hub, &cursor]).await?;
        tx.execute(
            "INSERT INTO items (hub_id, cursor, id, kind, body, by_, at, ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[&hub, &cursor, &id, &kind, &body, &by, &now, &ends_at],
        )
        .await?;
        Ok(())
    }

    /// Raises a mark: here at once, and on its way to the hub.
    ///
    /// # Errors
    /// `not_found` for a hub that is not linked.
    pub(in crate::cloud) async fn raise(&self, hub: &HubId, mark: &Mark) -> Result<(), Refused> {
        let id = hub.as_bytes().as_slice();
        let mut client = self.shards.of_hub(hub).await?;
        let tx = client.transaction().await?;
        let row = tx
            .query_opt("UPDATE hubs SET cursor = cursor + 1 WHERE hub_id = $1 AND unlinked_at IS NULL RETURNING cursor", &[&id])
            .await?
            .ok_or_else(Problem::not_found)?;
        let cursor: i64 = row.get(0);
        let kind = mark.kind.word();
        tx.execute(
            "INSERT INTO marks (hub_id, kind, key, gen, at, by_, cursor) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (hub_id, kind, key) DO UPDATE SET gen = excluded.gen, at = excluded.at, by_ = excluded.by_, cursor = excluded.cursor, \
             sent_in = NULL WHERE marks.gen < excluded.gen",
            &[&id, &kind, &mark.key, &mark.generation.cast_signed(), &mark.at.cast_signed(), &mark.by, &cursor],
        )
        .await?;
        tx.execute("UPDATE kinds SET digest = NULL WHERE hub_id = $1 AND kind = $2", &[&id, &kind]).await?;
        tx.commit().await?;
        Ok(())
    }
}
