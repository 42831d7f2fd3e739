//! How another hub takes a broken one's place: whoever has the recovery code is given the sealed bundle, and an epoch
//! statement under the recovery key that the hub had pinned makes the new hub's mirror key the one that counts.

use super::Context;
use super::call::{Answer, Body, Call, Who};
use super::hubs::{STATEMENT_BYTES, lock, write_epoch};
use super::reply::{Answered, Refused, Reply};
use super::request::Request;
use super::signed::{self, Signature, hub_of_path, number, signed_number};
use crate::domain::ids::HubId;
use crate::domain::mirror::statement::{EpochStatement, RecoveryRequest};
use crate::net::problem::Problem;
use data_encoding::BASE64URL_NOPAD;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// The calls of this file.
pub(super) const CALLS: &[Call] = &[
    Call::open(
        &Method::POST,
        "/v1/hubs/{hub}/recovery",
        "Gives the sealed bundle to whoever has the recovery code.",
        |context, request| Box::pin(recover(context, request)),
    )
    .takes(Body::Json(STATEMENT_BYTES, "request: the recovery request"))
    .gives(200, Answer::Json("bundle, epoch")),
    Call::open(&Method::POST, "/v1/hubs/{hub}/epoch", "Another hub takes the place; signed by the new mirror key.", |context, request| {
        Box::pin(raise(context, request))
    })
    .for_whom(Who::Hub)
    .takes(Body::Json(STATEMENT_BYTES, "statement: the epoch statement"))
    .gives(200, Answer::Json("epoch"))
    .refuses(&[403]),
];

#[derive(Deserialize)]
struct RecoverBody {
    request: String,
}

#[derive(Deserialize)]
struct EpochBody {
    statement: String,
}

fn bytes(name: &str, text: &str) -> Result<Vec<u8>, Refused> {
    let expected = |_| Problem::invalid(format!("{name}: base64url without padding is expected")).into();
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(expected)
}

/// One answer for every reason: no such hub, no recovery code, another code, no bundle.
fn nothing_to_recover() -> Refused {
    Problem::new(404, "nothing_to_recover", "There is nothing to recover with this code")
        .next("Check the hub id and the recovery code. If no bundle was ever sent, set the hub up anew.")
        .into()
}

async fn recover(context: Arc<Context>, request: Request) -> Answered {
    context.limits.attempt(request.source)?;
    let hub = HubId::parse(request.parameter(0)).map_err(|_| nothing_to_recover())?;
    let body: RecoverBody = request.json()?;
    let statement = bytes("request", &body.request)?;
    let client = context.shards.of_hub(&hub).await?;
    let query = "SELECT h.recovery_key, h.epoch, b.body FROM hubs h JOIN bundles b USING (hub_id) \
         WHERE h.hub_id = $1 AND h.unlinked_at IS NULL AND h.recovery_key IS NOT NULL";
    let row = client.query_opt(query, &[&hub.as_bytes().as_slice()]).await?.ok_or_else(nothing_to_recover)?;
    let key = <[u8; 32]>::try_from(row.try_get::<_, Vec<u8>>(0)?).map_err(|_| nothing_to_recover())?;
    let asked = RecoveryRequest::verify(&key, &statement).map_err(|_| nothing_to_recover())?;
    if asked.hub != hub || asked.cloud != context.keys.cloud.verifying_key().to_bytes() {
        return Err(nothing_to_recover());
    }
    // That it may be an old request does no harm: the bundle is sealed to the code that signed it.
    tracing::warn!(%hub, source = %request.source, "a recovery bundle was given out");
    let bundle: Vec<u8> = row.try_get(2)?;
    Reply::ok(&json!({"bundle": BASE64URL_NOPAD.encode(&bundle), "epoch": number(row.try_get(1)?)}))
}

async fn raise(context: Arc<Context>, request: Request) -> Answered {
    context.limits.attempt(request.source)?;
    let hub = hub_of_path(&request)?;
    let body: EpochBody = request.json()?;
    let statement = bytes("statement", &body.statement)?;
    let signature = Signature::of(&request)?;
    let query = "SELECT recovery_key FROM hubs WHERE hub_id = $1";
    let row = context.shards.of_hub(&hub).await?.query_opt(query, &[&hub.as_bytes().as_slice()]).await?.ok_or_else(Refused::not_linked)?;
    let key = row.try_get::<_, Option<Vec<u8>>>(0)?.and_then(|key| <[u8; 32]>::try_from(key).ok());
    let key = key.ok_or_else(|| {
        Refused::from(Problem::new(403, "no_recovery_code", "This hub has no recovery code: no other can take its place"))
    })?;
    let read = EpochStatement::verify(&key, &statement).map_err(|error| Refused::from(Problem::invalid(format!("statement: {error}"))))?;
    if read.hub != hub || read.epoch != signature.epoch || signature.claimed()? != hub {
        return Err(Refused::signature("The request is signed for another hub or epoch than the statement is."));
    }
    signature.verify(&context, &request, &hub, &read.mirror).await?;
    let mut client = context.shards.of_hub(&hub).await?;
    let tx = client.transaction().await?;
    let known = lock(&tx, &hub).await?.ok_or_else(Refused::not_linked)?;
    if known.recovery_key != Some(key) {
        // Meanwhile a link has brought another recovery code.
        return Err(Refused::busy("The hub's link is being renewed.", 1));
    }
    if known.rehomed_to.is_some() {
        // It was stolen, and is over for good.
        return Err(signed::epoch_stale(known.epoch, known.epoch_statement.clone()));
    }
    if read.epoch == known.epoch && read.mirror == known.mirror_key {
        // Sent again: it has been done.
        return Reply::ok(&json!({"epoch": read.epoch}));
    }
    if read.epoch <= known.epoch {
        return Err(signed::epoch_stale(known.epoch, known.epoch_statement.clone()));
    }
    if i64::try_from(read.epoch).is_err() {
        return Err(Problem::invalid("statement: the epoch is beyond what can be kept").into());
    }
    let (id, now) = (hub.as_bytes().as_slice(), signed_number(context.now_ms()));
    let query = "UPDATE hubs SET epoch = $2, mirror_key = $3, epoch_statement = $4, batch = 0, taken = 0, audit_seq = 0, \
         audit_hash = NULL WHERE hub_id = $1";
    tx.execute(query, &[&id, &signed_number(read.epoch), &read.mirror.as_slice(), &statement]).await?;
    tx.execute("DELETE FROM replies WHERE hub_id = $1", &[&id]).await?;
    write_epoch(&tx, id, read.epoch, &read.mirror, now).await?;
    tx.commit().await?;
    context.wakes.end(&hub);
    tracing::warn!(%hub, epoch = read.epoch, "another hub has taken a hub's place");
    Reply::ok(&json!({"epoch": read.epoch}))
}
