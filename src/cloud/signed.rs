//! Who signed a request (RFC 9421): the hub's mirror key of its present epoch, on this cloud's URL, now, and once.
//!
//! A nonce counts once. For a request that was signed within ten minutes of the cloud's time, it is remembered for as long
//! as that request could count. A hub without a clock signs at some other time, until a reply has told it the time: such
//! nonces are remembered for a quarter of a year, and there are so few of them that a hub with too many is told `clock`.

use super::Context;
use super::reply::Refused;
use super::request::Request;
use crate::domain::ids::HubId;
use crate::domain::mirror::signature::{Headers, RequestParts, claimed_hub, verify_request};
use crate::domain::mirror::wire::EPOCH_HEADER;
use crate::net::problem::Problem;
use data_encoding::BASE64URL_NOPAD;
use deadpool_postgres::Object;
use hyper::header::HeaderMap;
use std::sync::Arc;

/// How far a request's time may be from the cloud's, in s.
const WINDOW_S: u64 = 600;
/// How long a nonce is remembered, in ms: for as long as its request could count, and some.
pub(super) const REMEMBERED_MS: u64 = (2 * WINDOW_S + 60) * 1000;
/// The same for one that was signed at some other time.
pub(super) const STRAY_REMEMBERED_MS: u64 = 90 * 24 * 3600 * 1000;
/// So many of them a hub may have.
const STRAYS_MAX: i64 = 1_000;

/// A linked hub that has signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignedHub {
    pub(super) id: HubId,
    /// Its present epoch, when that was read.
    pub(super) epoch: u64,
}

/// A header's values in one text, as RFC 9110 §5.3 joins them.
pub(super) fn joined(headers: &HeaderMap, name: &str) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().map(|v| v.to_str().unwrap_or("\u{fffd}")).collect();
    values.join(", ")
}

/// What is signed of a request, in texts.
pub(super) struct Signature {
    content_digest: String,
    signature_input: String,
    signature: String,
    /// The epoch that it names.
    pub(super) epoch: u64,
}

impl Signature {
    /// # Errors
    /// 401 when there is none.
    pub(super) fn of(request: &Request) -> Result<Signature, Refused> {
        let text = |name: &str| joined(&request.headers, name);
        let epoch = text(EPOCH_HEADER);
        // One spelling of a number: it is signed as text.
        let number = epoch.parse::<u64>().ok().filter(|n| n.to_string() == epoch && i64::try_from(*n).is_ok());
        let epoch = number.ok_or_else(|| Refused::signature("Hearthkey-Epoch is missing, or is no number."))?;
        Ok(Signature {
            content_digest: text("content-digest"),
            signature_input: text("signature-input"),
            signature: text("signature"),
            epoch,
        })
    }

    fn headers(&self) -> Headers<'_> {
        Headers { content_digest: &self.content_digest, signature_input: &self.signature_input, signature: &self.signature }
    }

    /// The hub that it says it is of, which must be the one in the path, if there is one.
    pub(super) fn claimed(&self) -> Result<HubId, Refused> {
        claimed_hub(&self.headers()).ok_or_else(|| Refused::signature("The request is not signed by a hub."))
    }

    /// Whether this key signed the request, now, and for the first time.
    ///
    /// # Errors
    /// 401 `signature`, 401 `clock`.
    pub(super) async fn verify(&self, context: &Context, request: &Request, hub: &HubId, key: &[u8; 32]) -> Result<(), Refused> {
        let path = request.uri.path_and_query().map_or("/", |p| p.as_str());
        let target_uri = format!("{}{path}", context.public_url);
        let parts = RequestParts { method: request.method.as_str(), target_uri: &target_uri, body: &request.body, epoch: self.epoch };
        let refused = |error: crate::domain::mirror::signature::SignatureError| {
            Refused::signature(format!("{error}. Requests are signed on {}.", context.public_url))
        };
        let verified = verify_request(key, &parts, &self.headers()).map_err(refused)?;
        if verified.hub != *hub {
            return Err(Refused::signature("The request is of another hub."));
        }
        let now = context.now_ms();
        let stray = verified.created_s.abs_diff(now / 1000) > WINDOW_S;
        match remember(context, hub, &verified.nonce, now, stray).await? {
            Nonce::Fresh => Ok(()),
            Nonce::Used => Err(Refused::signature("The nonce was used before.")),
            Nonce::TooMany => {
                let problem = Problem::new(401, "clock", "The request's time is not the present one")
                    .detail(format!("The hub has signed too often more than {} minutes away from the cloud's time.", WINDOW_S / 60))
                    .next("Set the hub's clock, or sign by the time of this reply's signature.");
                Err(Refused::from(problem).and("now", now))
            }
        }
    }
}

enum Nonce {
    Fresh,
    Used,
    TooMany,
}

/// Notes a nonce down.
async fn remember(context: &Context, hub: &HubId, nonce: &[u8; 16], now: u64, stray: bool) -> Result<Nonce, Refused> {
    let client = context.shards.of_hub(hub).await?;
    let hub = hub.as_bytes().as_slice();
    if stray {
        let statement = client.prepare_cached("SELECT count(*) FROM nonces WHERE hub_id = $1 AND stray").await?;
        if client.query_one(&statement, &[&hub]).await?.try_get::<_, i64>(0)? >= STRAYS_MAX {
            return Ok(Nonce::TooMany);
        }
    }
    let statement = "INSERT INTO nonces (hub_id, nonce, at, stray) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    let statement = client.prepare_cached(statement).await?;
    let noted = client.execute(&statement, &[&hub, &nonce.as_slice(), &signed_number(now), &stray]).await?;
    Ok(if noted == 1 { Nonce::Fresh } else { Nonce::Used })
}

/// A number as PostgreSQL has it.
pub(super) fn signed_number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A number from PostgreSQL.
pub(super) fn number(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// The hub that the path names.
pub(super) fn hub_of_path(request: &Request) -> Result<HubId, Refused> {
    HubId::parse(request.parameter(0)).map_err(|_| Refused::not_linked())
}

/// The linked hub that signed this request.
///
/// # Errors
/// 401, 404 `not_linked`, 409 `epoch_stale`, 429.
pub(super) async fn linked_hub(context: &Arc<Context>, request: &Request) -> Result<SignedHub, Refused> {
    let id = hub_of_path(request)?;
    let signature = Signature::of(request)?;
    if signature.claimed()? != id {
        return Err(Refused::signature("The request is of another hub."));
    }
    let client = context.shards.of_hub(&id).await?;
    let statement = "SELECT h.epoch, h.epoch_statement, h.unlinked_at IS NOT NULL, e.mirror_key FROM hubs h \
         LEFT JOIN epochs e ON e.hub_id = h.hub_id AND e.epoch = $2 WHERE h.hub_id = $1";
    let statement = client.prepare_cached(statement).await?;
    let row = client.query_opt(&statement, &[&id.as_bytes().as_slice(), &signed_number(signature.epoch)]).await?;
    // Before the nonce is noted down, by another connection: two at a time for each call could wait for each other.
    drop::<Object>(client);
    let row = row.ok_or_else(Refused::not_linked)?;
    let (epoch, unlinked): (i64, bool) = (row.try_get(0)?, row.try_get(2)?);
    let key: Option<Vec<u8>> = row.try_get(3)?;
    let Some(key) = key.and_then(|key| <[u8; 32]>::try_from(key).ok()) else {
        return Err(Refused::signature("This epoch of the hub is not known here."));
    };
    signature.verify(context, request, &id, &key).await?;
    if signature.epoch < number(epoch) {
        return Err(epoch_stale(number(epoch), row.try_get(1)?));
    }
    if unlinked {
        return Err(Refused::not_linked());
    }
    context.limits.hub(&id)?;
    Ok(SignedHub { id, epoch: number(epoch) })
}

/// 409: another hub has taken its place, by this statement.
pub(super) fn epoch_stale(epoch: u64, statement: Option<Vec<u8>>) -> Refused {
    let problem =
        Problem::new(409, "epoch_stale", "Another hub has taken this one's place").detail(format!("The present epoch is {epoch}."));
    let refused = Refused::from(problem);
    match statement {
        Some(statement) => refused.and("statement", BASE64URL_NOPAD.encode(&statement)),
        None => refused,
    }
}
