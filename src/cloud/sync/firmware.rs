//! Releases of firmware for the models of a hub's devices: told when they have changed since the hub heard of them, or when
//! the hub tells of devices of a model that has some. Otherwise nothing is asked of the database.

use super::Exchange;
use crate::cloud::makers::release_board::OfModel;
use crate::cloud::reply::Refused;
use crate::domain::mirror::wire::{Kind, ReleasesTold, Row, SyncRequest};
use deadpool_postgres::Transaction;
use serde_json::Value;
use std::collections::BTreeSet;

/// What the hub is told, if there is anything to tell.
pub(super) async fn told(exchange: &Exchange<'_>, tx: &Transaction<'_>, sync: &SyncRequest) -> Result<Option<ReleasesTold>, Refused> {
    let (Some(had), Some(releases)) = (sync.fw, exchange.context.makers.board.now()) else { return Ok(None) };
    let mut models: BTreeSet<OfModel> = sync.put.iter().filter_map(of).filter(|model| releases.has(model)).collect();
    if models.is_empty() && releases.version == had {
        return Ok(None);
    }
    if !releases.is_empty() {
        let statement = tx.prepare_cached("SELECT DISTINCT brand, model FROM fleet WHERE hub_id = $1").await?;
        for row in tx.query(&statement, &[&exchange.id()]).await? {
            models.insert((row.try_get(0)?, row.try_get(1)?));
        }
    }
    Ok(Some(ReleasesTold { n: releases.version, releases: releases.offers(&models) }))
}

/// Brand and model that a device's row names.
fn of(row: &Row) -> Option<OfModel> {
    let text = |member: &str| row.body.get(member).and_then(Value::as_str).map(str::to_owned);
    (row.kind == Kind::Device && !row.key.is_empty()).then(|| Some((text("brand")?, text("model")?))).flatten()
}
