//! A stolen hub: whoever has the recovery code says which new hub follows it. The stolen one is over for good, whatever
//! keys its thief has; the new one, once it is linked, gets the devices, their keys for it, and an order for each of them
//! to move, which only who holds the device's own key can make.

use super::Context;
use super::call::{Answer, Body, Call, Who};
use super::hubs::{STATEMENT_BYTES, lock, write_epoch};
use super::makers::acts::{self, Doer};
use super::reply::{Answered, Refused, Reply};
use super::request::Request;
use super::signed::{self, Signature, SignedHub, hub_of_path, signed_number};
use crate::domain::ids::HubId;
use crate::domain::keys::REHOMED_MAX;
use crate::domain::mirror::wire::MoveOrders;
use crate::domain::rehome::{MoveRequest, RehomeStatement};
use crate::net::problem::Problem;
use data_encoding::BASE64URL_NOPAD;
use deadpool_postgres::Transaction;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// The calls of this file.
pub(super) const CALLS: &[Call] = &[
    Call::open(
        &Method::POST,
        "/v1/hubs/{hub}/rehome",
        "The hub follows one that was stolen; signed by its mirror key, and by the recovery code of the stolen one.",
        |context, request| Box::pin(rehome(context, request)),
    )
    .for_whom(Who::Hub)
    .takes(Body::Json(STATEMENT_BYTES, "old: the stolen hub; statement: the rehome statement"))
    .gives(200, Answer::Json("hub"))
    .refuses(&[403]),
    Call::hub(&Method::GET, "/v1/hubs/{hub}/moves", "Move orders for the devices of the stolen hub that this one follows.", |c, r, h| {
        Box::pin(moves(c, r, h))
    })
    .asked(&[("after", "The id of the last device of the page before.")])
    .gives(200, Answer::Json("orders, more")),
];

/// Tables that are emptied of what was a stolen hub's. Its bundle stays, sealed to the code; marks and the audit too.
const OVER: &[&str] = &["rows", "kinds", "items", "replies", "batches", "fleet", "device_news", "assignments"];

#[derive(Deserialize)]
struct RehomeBody {
    old: String,
    statement: String,
}

/// Whether a hub follows a stolen one: then it may be linked, as that one was.
pub(super) async fn is_successor(tx: &Transaction<'_>, hub: &HubId) -> Result<bool, Refused> {
    Ok(tx.query_opt("SELECT 1 FROM rehomes WHERE hub_id = $1", &[&hub.as_bytes().as_slice()]).await?.is_some())
}

async fn rehome(context: Arc<Context>, request: Request) -> Answered {
    context.limits.attempt(request.source)?;
    let new = hub_of_path(&request)?;
    let body: RehomeBody = request.json()?;
    let old = HubId::parse(&body.old).map_err(|_| Refused::from(Problem::invalid("old: a hub id is expected")))?;
    let statement = BASE64URL_NOPAD.decode(body.statement.as_bytes());
    let statement = statement.map_err(|_| Refused::from(Problem::invalid("statement: base64url without padding is expected")))?;
    let signature = Signature::of(&request)?;
    let client = context.shards.of_hub(&old).await?;
    let row = client.query_opt("SELECT recovery_key FROM hubs WHERE hub_id = $1", &[&old.as_bytes().as_slice()]).await?;
    drop(client);
    let key = row.and_then(|row| row.get::<_, Option<Vec<u8>>>(0)).and_then(|key| <[u8; 32]>::try_from(key).ok());
    // One answer for every reason: no such hub, no recovery code, another code.
    let (read, asked) =
        key.and_then(|key| RehomeStatement::verify(&key, &statement).ok()).filter(|(read, _)| read.hub == old).ok_or_else(unproven)?;
    if asked.hub() != new || signature.claimed()? != new || signature.epoch != 1 {
        return Err(Refused::signature("The request is signed for another hub than the statement names."));
    }
    signature.verify(&context, &request, &new, &read.mirror).await?;
    // What it reported last is worked on while it still counts: claims that were made shortly before the theft, too.
    if let Err(refused) = context.makers.work_on(&old).await {
        tracing::warn!(%old, code = refused.problem.code, "what a stolen hub reported last could not be worked on");
    }
    let from = end(&context, &read, &asked, &statement).await?;
    remember(&context, &read, &asked, &from).await?;
    tracing::warn!(%old, %new, source = %request.source, "a hub was stolen, and another follows it");
    Reply::ok(&json!({"hub": new.to_string()}))
}

fn unproven() -> Refused {
    Problem::new(403, "recovery_code", "The statement is not signed by the recovery code of this hub")
        .next("Check the hub id and the recovery code. If the hub never had one, reset the devices and claim them again.")
        .into()
}

/// Ends the stolen hub, for good. The hubs that its devices may be leaving.
async fn end(context: &Context, read: &RehomeStatement, asked: &MoveRequest, statement: &[u8]) -> Result<Vec<HubId>, Refused> {
    let (old, new, now) = (read.hub, asked.hub(), context.now_ms());
    let id = old.as_bytes().as_slice();
    // Looked at before anything is locked: a call that holds one connection waits for no other.
    let given_up = given_up(context, &old, &new).await?;
    let mut client = context.shards.of_hub(&old).await?;
    let tx = client.transaction().await?;
    let known = lock(&tx, &old).await?.ok_or_else(unproven)?;
    match known.rehomed_to {
        // Sent again: it has been done.
        Some(follower) if follower == new && known.epoch_statement.as_deref() == Some(statement) => {
            return followed(&tx, read, asked).await;
        }
        // The one before has never come: it is given up.
        Some(follower) if follower != new && Some(follower) == given_up => {}
        Some(_) => return Err(signed::epoch_stale(known.epoch, known.epoch_statement)),
        None => {}
    }
    if read.epoch <= known.epoch {
        return Err(signed::epoch_stale(known.epoch, known.epoch_statement));
    }
    if i64::try_from(read.epoch).is_err() {
        return Err(Problem::invalid("statement: the epoch is beyond what can be kept").into());
    }
    tx.execute(
        "UPDATE hubs SET epoch = $2, mirror_key = $3, epoch_statement = $4, rehomed_to = $5 WHERE hub_id = $1",
        &[&id, &signed_number(read.epoch), &read.mirror.as_slice(), &statement, &new.as_bytes().as_slice()],
    )
    .await?;
    write_epoch(&tx, id, read.epoch, &read.mirror, signed_number(now)).await?;
    for table in OVER {
        tx.execute(&format!("DELETE FROM {table} WHERE hub_id = $1"), &[&id]).await?;
    }
    let doer = Doer { who: format!("hub:{new}"), brand: String::new(), via: "recovery code".to_owned() };
    acts::append(&tx, now, doer.did("hub.stolen", format!("hub:{old}"), format!("followed by {new}"))).await?;
    let from = followed(&tx, read, asked).await?;
    tx.commit().await?;
    context.wakes.end(&old);
    Ok(from)
}

/// The hub that follows the stolen one so far, if it is another than `new` and was never linked.
async fn given_up(context: &Context, old: &HubId, new: &HubId) -> Result<Option<HubId>, Refused> {
    let client = context.shards.of_hub(old).await?;
    let row = client.query_opt("SELECT rehomed_to FROM hubs WHERE hub_id = $1", &[&old.as_bytes().as_slice()]).await?;
    drop(client);
    let follower = row.and_then(|row| row.get::<_, Option<Vec<u8>>>(0)).and_then(|id| <[u8; 16]>::try_from(id).ok()).map(HubId::from_bytes);
    let Some(follower) = follower.filter(|follower| follower != new) else { return Ok(None) };
    let client = context.shards.of_hub(&follower).await?;
    let linked = client.query_opt("SELECT 1 FROM hubs WHERE hub_id = $1", &[&follower.as_bytes().as_slice()]).await?;
    Ok(linked.is_none().then_some(follower))
}

/// The hubs that the devices may be leaving: the stolen one, and those that it followed itself, as is known here.
async fn followed(tx: &Transaction<'_>, read: &RehomeStatement, asked: &MoveRequest) -> Result<Vec<HubId>, Refused> {
    let before = tx.query_opt("SELECT left_hubs FROM rehomes WHERE hub_id = $1", &[&read.hub.as_bytes().as_slice()]).await?;
    let before: Vec<u8> = before.map(|row| row.get(0)).unwrap_or_default();
    let mut from = vec![read.hub];
    for hub in before.as_chunks::<16>().0.iter().map(|id| HubId::from_bytes(*id)) {
        if !from.contains(&hub) && hub != asked.hub() && from.len() < REHOMED_MAX {
            from.push(hub);
        }
    }
    Ok(from)
}

/// Notes that the new hub follows the stolen one: its devices are given to it as soon as it is linked.
async fn remember(context: &Context, read: &RehomeStatement, asked: &MoveRequest, from: &[HubId]) -> Result<(), Refused> {
    let left: Vec<u8> = from.iter().flat_map(|hub| *hub.as_bytes()).collect();
    let client = context.shards.of_hub(&asked.hub()).await?;
    client
        .execute(
            "INSERT INTO rehomes (hub_id, old_hub, left_hubs, request, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (hub_id) DO NOTHING",
            &[&asked.hub().as_bytes().as_slice(), &read.hub.as_bytes().as_slice(), &left, &read.request, &signed_number(context.now_ms())],
        )
        .await?;
    Ok(())
}

async fn moves(context: Arc<Context>, request: Request, hub: SignedHub) -> Answered {
    let after = request.query("after").unwrap_or_default();
    let page = context.makers.moves_of(&hub.id, &after).await?;
    let (orders, more) = page.unwrap_or_default();
    let orders = orders.into_iter().map(|(device, order)| (device, BASE64URL_NOPAD.encode(&order))).collect();
    Reply::ok(&MoveOrders { orders, more })
}
