//! What the makers' and people's side puts on its way down to a hub: items, and marks of revocation.

use deadpool_postgres::Transaction;

use super::Makers;
use crate::cloud::hubs::lock;
use crate::cloud::items::{self, NewItem};
use crate::cloud::reply::Refused;
use crate::cloud::sync::marks;
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::{ItemBody, Mark};
use crate::net::problem::Problem;

impl Makers {
    /// Puts an item on its way, in a transaction of its own. One of the same id is there already and is left alone. To a hub
    /// that is not linked nothing is sent, and nothing beyond what may wait for it.
    pub(super) async fn send(&self, hub: &HubId, id: &str, item: &ItemBody) -> Result<(), Refused> {
        let mut client = self.shards.of_hub(hub).await?;
        let tx = client.transaction().await?;
        match lock(&tx, hub).await? {
            Some(row) if !row.unlinked => {}
            _ => return Ok(()),
        }
        match self.send_in(&tx, hub, id, item).await {
            Err(refused) if refused.problem.code == "full" => return Ok(()),
            sent => sent?,
        }
        tx.commit().await?;
        Ok(())
    }

    /// The same within a transaction on the hub's database.
    pub(in crate::cloud) async fn send_in(&self, tx: &Transaction<'_>, hub: &HubId, id: &str, item: &ItemBody) -> Result<(), Refused> {
        let (by, ends_at) = match item {
            ItemBody::Request(request) => (request.by.as_str(), Some(request.at.saturating_add(request.ttl_s.saturating_mul(1000)))),
            _ => ("", None),
        };
        let item = NewItem { id, body: item, by, at: self.now(), ends_at };
        items::put(tx, hub, &item, self.most_items).await.map(drop)
    }

    /// Raises a mark: here at once, and on its way to the hub.
    ///
    /// # Errors
    /// `not_found` for a hub that is not linked.
    pub(in crate::cloud) async fn raise(&self, hub: &HubId, mark: &Mark) -> Result<(), Refused> {
        let mut client = self.shards.of_hub(hub).await?;
        let tx = client.transaction().await?;
        lock(&tx, hub).await?.filter(|row| !row.unlinked).ok_or_else(Problem::not_found)?;
        marks::from_here(&tx, hub, mark).await?;
        tx.commit().await?;
        Ok(())
    }
}
