//! Linking and unlinking: a hub's own statements, signed by its identity. A link renews consent, and what is no longer
//! agreed to is erased; unlinking erases all but marks and the signed heads of the audit.

use super::Context;
use super::call::{Answer, Body, Call};
use super::config::Linking;
use super::reply::{Answered, Refused, Reply};
use super::request::Request;
use super::signed::{self, Signature, SignedHub, number, signed_number};
use crate::domain::ids::HubId;
use crate::domain::mirror::statement::{LinkStatement, UnlinkStatement};
use crate::domain::mirror::wire::{Consent, Linked};
use crate::net::problem::Problem;
use data_encoding::BASE64URL_NOPAD;
use deadpool_postgres::Transaction;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Bytes of a body that holds a statement.
pub(super) const STATEMENT_BYTES: usize = 16 * 1024;

/// The calls of this file.
pub(super) const CALLS: &[Call] = &[
    Call::open(
        &Method::POST,
        "/v1/hubs",
        "Links a hub, or renews its link; signed by the mirror key in the statement.",
        |context, request| Box::pin(link(context, request)),
    )
    .for_whom(super::call::Who::Hub)
    .takes(Body::Json(STATEMENT_BYTES, "link: the link statement"))
    .gives(201, Answer::Json("hub, epoch, wait_s, max_bytes"))
    .refuses(&[403, 421]),
    Call::hub(&Method::DELETE, "/v1/hubs/{hub}", "Unlinks a hub: everything mirrored is erased.", |context, request, hub| {
        Box::pin(unlink(context, request, hub))
    })
    .takes(Body::Json(STATEMENT_BYTES, "unlink: the unlink statement"))
    .gives(204, Answer::Nothing),
];

/// Tables that unlinking erases. What is kept of a hub elsewhere is named here.
const ERASED: &[&str] = &[
    "rows",
    "kinds",
    "items",
    "audit",
    "bundles",
    "batches",
    "replies",
    "alarms",
    "fleet",
    "device_news",
    "assignments",
    "bulletins",
    "forged",
    "refused_marks",
];

#[derive(Deserialize)]
struct LinkBody {
    link: String,
}

#[derive(Deserialize)]
struct UnlinkBody {
    unlink: String,
}

/// A hub's row, locked until the transaction ends.
pub(super) struct HubRow {
    pub(super) identity: [u8; 32],
    pub(super) epoch: u64,
    pub(super) mirror_key: [u8; 32],
    pub(super) recovery_key: Option<[u8; 32]>,
    pub(super) epoch_statement: Option<Vec<u8>>,
    pub(super) consent: BTreeSet<Consent>,
    pub(super) unlinked: bool,
    /// It was stolen, and this hub follows it.
    pub(super) rehomed_to: Option<HubId>,
    pub(super) batch: u64,
    pub(super) audit: Option<(u64, [u8; 32])>,
}

impl HubRow {
    /// That the hub is linked and in this epoch.
    pub(super) fn check(&self, epoch: u64) -> Result<(), Refused> {
        if epoch < self.epoch {
            return Err(signed::epoch_stale(self.epoch, self.epoch_statement.clone()));
        }
        if self.unlinked { Err(Refused::not_linked()) } else { Ok(()) }
    }
}

/// Locks a hub's row and reads it. Whatever changes what is kept of a hub begins with this, so such changes happen one
/// after the other, whichever process they run in.
pub(super) async fn lock(tx: &Transaction<'_>, hub: &HubId) -> Result<Option<HubRow>, Refused> {
    let statement = tx
        .prepare_cached(
            "SELECT identity, epoch, mirror_key, recovery_key, epoch_statement, consent, unlinked_at IS NOT NULL, batch, \
             audit_seq, audit_hash, rehomed_to FROM hubs WHERE hub_id = $1 FOR UPDATE",
        )
        .await?;
    let Some(row) = tx.query_opt(&statement, &[&hub.as_bytes().as_slice()]).await? else { return Ok(None) };
    let whole = |key: Vec<u8>| <[u8; 32]>::try_from(key).map_err(|_| Refused::fault("a key in the database is not one", &hub));
    let consent: String = row.try_get(5)?;
    let audit_seq = number(row.try_get(8)?);
    let audit_hash: Option<Vec<u8>> = row.try_get(9)?;
    Ok(Some(HubRow {
        identity: whole(row.try_get(0)?)?,
        epoch: number(row.try_get(1)?),
        mirror_key: whole(row.try_get(2)?)?,
        recovery_key: row.try_get::<_, Option<Vec<u8>>>(3)?.map(whole).transpose()?,
        epoch_statement: row.try_get(4)?,
        consent: consent.split(' ').filter_map(consent_word).collect(),
        unlinked: row.try_get(6)?,
        rehomed_to: row.try_get::<_, Option<Vec<u8>>>(10)?.and_then(|id| <[u8; 16]>::try_from(id).ok()).map(HubId::from_bytes),
        batch: number(row.try_get(7)?),
        audit: audit_hash.map(whole).transpose()?.filter(|_| audit_seq > 0).map(|hash| (audit_seq, hash)),
    }))
}

fn consent_word(word: &str) -> Option<Consent> {
    Consent::ALL.into_iter().find(|consent| consent.word() == word)
}

async fn link(context: Arc<Context>, request: Request) -> Answered {
    let body: LinkBody = request.json()?;
    let bad = |detail: String| Refused::from(Problem::invalid(detail));
    let statement = BASE64URL_NOPAD.decode(body.link.as_bytes()).map_err(|_| bad("link: base64url without padding is expected".into()))?;
    let link = LinkStatement::read(&statement).map_err(|error| bad(format!("link: {error}")))?;
    let hub = link.hub();
    let signature = Signature::of(&request)?;
    if signature.claimed()? != hub || signature.epoch != link.epoch {
        return Err(Refused::signature("The request is signed for another hub or epoch than the statement is."));
    }
    context.limits.attempt(request.source)?;
    signature.verify(&context, &request, &hub, &link.mirror).await?;
    if link.cloud != context.keys.cloud.verifying_key().to_bytes() {
        return Err(bad("link: the statement means another cloud's key".into()));
    }
    if link.region != context.config.region {
        return Err(wrong_region(&context, &link.region));
    }
    if link.epoch == 0 {
        return Err(bad("link: epochs begin at 1".into()));
    }
    let mut client = context.shards.of_hub(&hub).await?;
    let tx = client.transaction().await?;
    let known = lock(&tx, &hub).await?;
    match &known {
        // One that follows a stolen hub takes over its link.
        None if super::rehome::is_successor(&tx, &hub).await? => {}
        None => may_link(&context.config.linking, &link.code)?,
        Some(known) => {
            if known.unlinked {
                may_link(&context.config.linking, &link.code)?;
            }
            fits(known, &link)?;
        }
    }
    write_link(&context, &tx, &hub, &link).await?;
    withdraw(&tx, &hub, &link.consent).await?;
    tx.commit().await?;
    tracing::info!(%hub, epoch = link.epoch, new = known.is_none(), "a hub is linked");
    let limits = &context.config.limits;
    let max_bytes = u64::try_from(limits.max_bytes).unwrap_or(u64::MAX);
    Reply::json(StatusCode::CREATED, &Linked { hub: hub.to_string(), epoch: link.epoch, wait_s: limits.wait_s, max_bytes })
}

fn wrong_region(context: &Context, region: &str) -> Refused {
    let problem = Problem::new(421, "wrong_region", "The hub belongs to another region")
        .detail(format!("This is the region {}, and the hub means {region}.", context.config.region));
    let refused = Refused::from(problem);
    match context.config.regions.get(region) {
        Some(url) => refused.and("url", url.as_str()),
        None => refused,
    }
}

/// Whether a hub that is not linked may be.
fn may_link(linking: &Linking, code: &str) -> Result<(), Refused> {
    let refused = |code, detail: &'static str, next: &'static str| {
        Err(Problem::new(403, code, "This hub may not be linked").detail(detail).next(next).into())
    };
    match linking {
        Linking::Open => Ok(()),
        Linking::Closed => refused("linking_closed", "This cloud links no new hubs.", "Ask whoever runs it."),
        Linking::Code(codes) => {
            let known = codes.iter().fold(subtle::Choice::from(0), |known, one| known | one.as_bytes().ct_eq(code.as_bytes()));
            if bool::from(known) {
                Ok(())
            } else {
                refused("link_code", "The link code is not one of this cloud's.", "Ask whoever runs it for a code.")
            }
        }
    }
}

/// Whether a link renews what is known: of the present epoch, and by the mirror key of that epoch. Else whoever has the
/// identity of a hub that was replaced could take the new one's place back.
fn fits(known: &HubRow, link: &LinkStatement) -> Result<(), Refused> {
    if link.epoch < known.epoch {
        return Err(signed::epoch_stale(known.epoch, known.epoch_statement.clone()));
    }
    if link.epoch > known.epoch {
        let problem = Problem::new(409, "epoch_unproven", "The epoch is not known here")
            .detail(format!("The present epoch is {}; only an epoch statement raises it.", known.epoch))
            .next("Send the epoch statement first.");
        return Err(problem.into());
    }
    let free = known.unlinked && known.epoch_statement.is_none();
    if link.mirror != known.mirror_key && !free {
        return Err(Refused::signature("The mirror key is not the one of this epoch."));
    }
    Ok(())
}

async fn write_link(context: &Context, tx: &Transaction<'_>, hub: &HubId, link: &LinkStatement) -> Result<(), Refused> {
    let (hub, now) = (hub.as_bytes().as_slice(), signed_number(context.now_ms()));
    let words: Vec<&str> = link.consent.iter().map(|consent| consent.word()).collect();
    let recovery = link.recovery.as_ref().map(|keys| (keys.key.as_slice(), keys.recipient.as_str()));
    let (recovery_key, recovery_recipient) = recovery.unzip();
    let statement = tx
        .prepare_cached(
            "INSERT INTO hubs (hub_id, identity, epoch, mirror_key, recovery_key, recovery_recipient, recipient, name, consent, \
             link_time, linked_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             ON CONFLICT (hub_id) DO UPDATE SET mirror_key = excluded.mirror_key, recovery_key = excluded.recovery_key, \
             recovery_recipient = excluded.recovery_recipient, recipient = excluded.recipient, name = excluded.name, \
             consent = excluded.consent, link_time = excluded.link_time, linked_at = excluded.linked_at, unlinked_at = NULL",
        )
        .await?;
    tx.execute(
        &statement,
        &[
            &hub,
            &link.identity.as_slice(),
            &signed_number(link.epoch),
            &link.mirror.as_slice(),
            &recovery_key,
            &recovery_recipient,
            &link.recipient,
            &link.name,
            &words.join(" "),
            &signed_number(link.at_s),
            &now,
        ],
    )
    .await?;
    write_epoch(tx, hub, link.epoch, &link.mirror, now).await
}

/// Notes down whose key an epoch has.
pub(super) async fn write_epoch(tx: &Transaction<'_>, hub: &[u8], epoch: u64, mirror: &[u8; 32], now: i64) -> Result<(), Refused> {
    let statement = tx
        .prepare_cached(
            "INSERT INTO epochs (hub_id, epoch, mirror_key, at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (hub_id, epoch) DO UPDATE SET mirror_key = excluded.mirror_key",
        )
        .await?;
    tx.execute(&statement, &[&hub, &signed_number(epoch), &mirror.as_slice(), &now]).await?;
    Ok(())
}

/// Erases what is not agreed to, or not any more.
async fn withdraw(tx: &Transaction<'_>, hub: &HubId, consent: &BTreeSet<Consent>) -> Result<(), Refused> {
    let hub = hub.as_bytes().as_slice();
    for (word, statement) in [
        (Consent::Twins, "DELETE FROM rows WHERE hub_id = $1 AND kind = 'twin'"),
        (Consent::Audit, "DELETE FROM audit WHERE hub_id = $1"),
        (Consent::Bundle, "DELETE FROM bundles WHERE hub_id = $1"),
    ] {
        if !consent.contains(&word) {
            tx.execute(statement, &[&hub]).await?;
        }
    }
    Ok(())
}

async fn unlink(context: Arc<Context>, request: Request, hub: SignedHub) -> Answered {
    let body: UnlinkBody = request.json()?;
    let bad = |detail: String| Refused::from(Problem::invalid(detail));
    let statement =
        BASE64URL_NOPAD.decode(body.unlink.as_bytes()).map_err(|_| bad("unlink: base64url without padding is expected".into()))?;
    let mut client = context.shards.of_hub(&hub.id).await?;
    let tx = client.transaction().await?;
    let known = lock(&tx, &hub.id).await?.ok_or_else(Refused::not_linked)?;
    known.check(hub.epoch)?;
    UnlinkStatement::verify(&known.identity, &statement).map_err(|error| bad(format!("unlink: {error}")))?;
    let id = hub.id.as_bytes().as_slice();
    for table in ERASED {
        tx.execute(&format!("DELETE FROM {table} WHERE hub_id = $1"), &[&id]).await?;
    }
    // Keys stay: they are public, and without them another could be linked in its place.
    let statement = "UPDATE hubs SET unlinked_at = $2, name = '', recipient = '', recovery_recipient = NULL, consent = '', \
         audit_seq = 0, audit_hash = NULL WHERE hub_id = $1";
    tx.execute(statement, &[&id, &signed_number(context.now_ms())]).await?;
    tx.commit().await?;
    context.wakes.end(&hub.id);
    tracing::info!(hub = %hub.id, "a hub is unlinked, and what was mirrored of it is erased");
    Ok(Reply::nothing())
}
