//! The exchange with a hub. Marks are applied first, in a transaction of their own, outside quotas; then everything else in
//! one transaction with the reply, which is kept: a batch that comes again gets it again, and nothing is done twice.
//!
//! Both transactions hold the lock of the hub's row, so exchanges of one hub happen one after the other, whichever process
//! serves them; hubs never wait for each other.

mod audit;
mod compare;
mod down;
pub(super) mod marks;
mod refused;
mod rows;

use super::Context;
use super::call::{Answer, Body, Call};
use super::hubs::{HubRow, lock};
use super::items;
use super::makers::sightings;
use super::reply::{Answered, Refused, Reply};
use super::request::Request;
use super::signed::{SignedHub, signed_number};
use crate::domain::mirror::statement::KEY_MAX;
use crate::domain::mirror::wire::{BYTES_MAX, Consent, MARKS_MAX, ROWS_MAX, SyncReply, SyncRequest, VERSION};
use crate::net::problem::Problem;
use deadpool_postgres::Transaction;
use hyper::{Method, StatusCode};
use std::sync::Arc;

/// The calls of this file.
pub(super) const CALLS: &[Call] = &[Call::hub(
    &Method::POST,
    "/v1/hubs/{hub}/sync",
    "The exchange: what is new at the hub, and what waits for it.",
    |context, request, hub| Box::pin(sync(context, request, hub)),
)
.takes(Body::Json(BYTES_MAX, "v, epoch, batch, cursor, clock, revoke, refused, put, twin, audit, done, digest"))
.gives(200, Answer::Json("ack, cursor, more, revoke, items, resync, wait_s, max_bytes"))
.refuses(&[413])];

/// What every part of an exchange works with.
struct Exchange<'a> {
    context: &'a Context,
    hub: SignedHub,
    batch: u64,
    now: u64,
}

/// What the lock has shown.
enum Turn {
    /// It is this batch's turn.
    Next(Box<HubRow>),
    /// It was taken before; this was the reply.
    Again(String),
}

async fn sync(context: Arc<Context>, request: Request, hub: SignedHub) -> Answered {
    if request.body.len() > context.config.limits.max_bytes {
        return Err(Refused::too_large(context.config.limits.max_bytes));
    }
    let sync: SyncRequest = request.json()?;
    check(&sync, &hub)?;
    let exchange = Exchange { context: &context, hub, batch: sync.batch, now: context.now_ms() };
    let mut client = context.shards.of_hub(&hub.id).await?;
    if !sync.revoke.is_empty() {
        let tx = client.transaction().await?;
        match exchange.turn(&tx).await? {
            Turn::Again(reply) => return Ok(again(reply)),
            Turn::Next(_) => marks::from_hub(&exchange, &tx, &sync.revoke).await?,
        }
        tx.commit().await?;
    }
    let tx = client.transaction().await?;
    let row = match exchange.turn(&tx).await? {
        Turn::Again(reply) => return Ok(again(reply)),
        Turn::Next(row) => row,
    };
    let reply = exchange.take(&tx, &row, &sync).await?;
    let text = serde_json::to_string(&reply).map_err(|error| Refused::fault("a reply cannot be written", &error))?;
    exchange.keep(&tx, &text).await?;
    let news = sightings::note(&tx, &hub.id, &sync.put, &sync.revoke, exchange.now).await?;
    tx.commit().await?;
    if news {
        context.makers.wish.notify_one();
    }
    Ok(Reply::typed(StatusCode::OK, "application/json", text.into_bytes()))
}

fn again(reply: String) -> Reply {
    Reply::typed(StatusCode::OK, "application/json", reply.into_bytes())
}

/// What can be said of a batch without the database. Numbers must fit into those of the database, texts into its texts.
fn check(sync: &SyncRequest, hub: &SignedHub) -> Result<(), Refused> {
    let bad = |what: &str| Err(Problem::invalid(what.to_owned()).into());
    if sync.v != VERSION {
        return bad("v: this cloud speaks version 1");
    }
    if sync.epoch != hub.epoch {
        return bad("epoch: the request is signed for another one");
    }
    if sync.revoke.len() > MARKS_MAX || sync.put.len() + sync.twin.len() > ROWS_MAX || sync.done.len() > ROWS_MAX {
        return Err(Refused::too_large(BYTES_MAX));
    }
    let fits = |n: u64| i64::try_from(n).is_ok();
    let text = |text: &str| text.len() <= KEY_MAX && !text.contains('\0');
    if sync.batch == 0 || !fits(sync.batch) || !fits(sync.cursor) {
        return bad("batch, cursor: a batch is numbered from 1, and both are below 2^63");
    }
    if sync.revoke.iter().any(|m| !text(&m.key) || m.key.is_empty() || !text(&m.by) || !fits(m.at)) {
        return bad("revoke: a mark has no key, or a text in it is too long");
    }
    let rows = || sync.put.iter().chain(&sync.twin);
    if rows().any(|r| !text(&r.key) || !text(&r.origin) || !fits(r.generation) || !fits(r.version)) {
        return bad("put, twin: a text in a row is too long, or a number too great");
    }
    if sync.refused.len() > MARKS_MAX {
        return Err(Refused::too_large(BYTES_MAX));
    }
    if sync.refused.iter().any(|m| !text(&m.key) || m.key.is_empty() || !text(&m.code)) {
        return bad("refused: a mark has no key, or a text in it is too long");
    }
    if sync.done.iter().any(|d| !text(&d.id)) {
        return bad("done: an id is too long");
    }
    Ok(())
}

impl Exchange<'_> {
    /// Waits for the hub's row, and sees whether it is this batch's turn.
    async fn turn(&self, tx: &Transaction<'_>) -> Result<Turn, Refused> {
        let row = lock(tx, &self.hub.id).await?.ok_or_else(Refused::not_linked)?;
        row.check(self.hub.epoch)?;
        if self.batch == row.batch.saturating_add(1) {
            return Ok(Turn::Next(Box::new(row)));
        }
        let statement = tx.prepare_cached("SELECT body FROM replies WHERE hub_id = $1 AND epoch = $2 AND batch = $3").await?;
        let (id, epoch, batch) = (self.id(), signed_number(self.hub.epoch), signed_number(self.batch));
        match tx.query_opt(&statement, &[&id, &epoch, &batch]).await? {
            Some(kept) => Ok(Turn::Again(kept.try_get(0)?)),
            None => Err(Refused::resync(row.batch.saturating_add(1))),
        }
    }

    /// Takes everything but marks, and puts the reply together.
    async fn take(&self, tx: &Transaction<'_>, row: &HubRow, sync: &SyncRequest) -> Result<SyncReply, Refused> {
        let agreed = |word| row.consent.contains(&word);
        let twins = if agreed(Consent::Twins) { sync.twin.as_slice() } else { &[] };
        refused::take(self, tx, &sync.refused).await?;
        rows::take(self, tx, &sync.put, twins).await?;
        items::done(tx, &self.hub.id, &sync.done, self.now).await?;
        if let Some(range) = sync.audit.as_ref().filter(|_| agreed(Consent::Audit)) {
            audit::take(self, tx, row.audit, range).await?;
        }
        let resync = match &sync.digest {
            Some(digests) => compare::digests(self, tx, digests).await?,
            None => Vec::new(),
        };
        self.progress(tx, sync).await?;
        items::taken(tx, &self.hub.id, sync.cursor).await?;
        let limits = &self.context.config.limits;
        let down = down::below(self, tx, sync.cursor).await?;
        Ok(SyncReply {
            ack: self.batch,
            cursor: down.cursor,
            more: down.more,
            revoke: down.marks,
            items: down.items,
            resync,
            wait_s: limits.wait_s,
            max_bytes: u64::try_from(limits.max_bytes).unwrap_or(u64::MAX),
        })
    }

    async fn progress(&self, tx: &Transaction<'_>, sync: &SyncRequest) -> Result<(), Refused> {
        // A hub may know a greater cursor than a cloud that was restored from a backup: what is new comes above it.
        let statement = tx
            .prepare_cached(
                "UPDATE hubs SET batch = $2, taken = $3, cursor = greatest(cursor, $3), synced_at = $4, clock_grade = $5 WHERE hub_id = $1",
            )
            .await?;
        let (batch, cursor, now) = (signed_number(self.batch), signed_number(sync.cursor), signed_number(self.now));
        tx.execute(&statement, &[&self.id(), &batch, &cursor, &now, &items::clipped(&sync.clock.grade, 16)]).await?;
        Ok(())
    }

    async fn keep(&self, tx: &Transaction<'_>, reply: &str) -> Result<(), Refused> {
        let statement = tx
            .prepare_cached(
                "INSERT INTO replies (hub_id, epoch, batch, body) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (hub_id) DO UPDATE SET epoch = excluded.epoch, batch = excluded.batch, body = excluded.body",
            )
            .await?;
        let (epoch, batch) = (signed_number(self.hub.epoch), signed_number(self.batch));
        tx.execute(&statement, &[&self.id(), &epoch, &batch, &reply]).await?;
        Ok(())
    }

    fn id(&self) -> &[u8] {
        self.hub.id.as_bytes().as_slice()
    }
}
