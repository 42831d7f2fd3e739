//! The recovery bundle: kept as it came, sealed to a code that only the household has. The newest stands.

use super::Context;
use super::call::{Answer, Body, Call};
use super::hubs::lock;
use super::reply::{Answered, Refused, Reply};
use super::request::Request;
use super::signed::{SignedHub, signed_number};
use crate::domain::mirror::wire::{BUNDLE_MAX, Consent};
use crate::net::problem::Problem;
use hyper::Method;
use std::sync::Arc;

/// The calls of this file.
pub(super) const CALLS: &[Call] =
    &[Call::hub(&Method::PUT, "/v1/hubs/{hub}/bundle", "Keeps the hub's sealed recovery bundle.", |context, request, hub| {
        Box::pin(keep(context, request, hub))
    })
    .takes(Body::Octets(BUNDLE_MAX))
    .gives(204, Answer::Nothing)
    .refuses(&[403])];

/// What an age file begins with.
const AGE: &[u8] = b"age-encryption.org/v1\n";

async fn keep(context: Arc<Context>, request: Request, hub: SignedHub) -> Answered {
    if !request.body.starts_with(AGE) {
        return Err(Problem::invalid("A bundle that is sealed with age is expected.").into());
    }
    let mut client = context.shards.of_hub(&hub.id).await?;
    let tx = client.transaction().await?;
    let known = lock(&tx, &hub.id).await?.ok_or_else(Refused::not_linked)?;
    known.check(hub.epoch)?;
    if !known.consent.contains(&Consent::Bundle) {
        let problem =
            Problem::new(403, "no_consent", "The household has not agreed to this").next("Agree to it under Cloud, then try again.");
        return Err(problem.into());
    }
    let statement = "INSERT INTO bundles (hub_id, epoch, at, body) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (hub_id) DO UPDATE SET epoch = excluded.epoch, at = excluded.at, body = excluded.body";
    let (epoch, now) = (signed_number(hub.epoch), signed_number(context.now_ms()));
    tx.execute(statement, &[&hub.id.as_bytes().as_slice(), &epoch, &now, &request.body.as_ref()]).await?;
    tx.commit().await?;
    Ok(Reply::nothing())
}
