//! What a hub hands over for the day on which it dies, and how one that has taken another's place begins.

use super::line::{Ask, Failure, Line};
use super::pace::Backoff;
use super::random;
use super::round::{post, read};
use super::uplink::own;
use crate::domain::ids::DeviceId;
use crate::domain::mirror::wire::{Consent, MoveOrders};
use crate::service::{LinkTarget, Service};
use data_encoding::BASE64URL_NOPAD;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked whether a bundle is due: what is in it is not all mirrored, and wakes nobody.
const LOOK: Duration = Duration::from_secs(30);
/// Bytes of the answer to a bundle at most.
const ANSWER_MOST: usize = 64 * 1024;
/// The same of a page of move orders, and pages of one fetching.
const MOVES_MOST: usize = 4 * 1024 * 1024;
const PAGES_MAX: usize = 1_000;

/// Hands over recovery bundles. That this fails keeps no revocation from coming: it has a pace of its own.
pub(super) struct Bundles {
    from: Instant,
    pace: Backoff,
}

impl Bundles {
    pub(super) fn new() -> Bundles {
        Bundles { from: Instant::now(), pace: Backoff::default() }
    }

    /// Hands over the bundle, when one is due and the day's share is not used up.
    pub(super) async fn hand_over(&mut self, service: &Arc<Service>, line: &Line, target: &LinkTarget) -> Result<(), Failure> {
        if !target.consent.contains(&Consent::Bundle) || Instant::now() < self.from || line.meter().left() == 0 {
            return Ok(());
        }
        let making = service.clone();
        let Some(bundle) = tokio::task::spawn_blocking(move || making.bundle_due()).await.ok().flatten() else { return Ok(()) };
        let (bytes, path) = (bundle.len(), line.own("/bundle"));
        let ask = Ask { content_type: "application/octet-stream", most: ANSWER_MOST, ..post("PUT", &path, bundle) };
        match line.ask(ask).await {
            Ok(_) => {
                self.pace.reset();
                tracing::info!(bytes, "the cloud has a new recovery bundle");
                service.bundle_sent().await.map_err(own)
            }
            Err(failure) => {
                let pause = self.pace.pause(random(), failure.asked);
                tracing::warn!(code = failure.problem.code, detail = %failure.problem.detail, pause_s = pause.as_secs(), "the cloud has not taken the recovery bundle; the one before stays");
                self.from = Instant::now() + pause;
                Ok(())
            }
        }
    }

    /// Waits until a bundle is due.
    pub(super) async fn wanted(&self, service: &Service, target: &LinkTarget) {
        if !target.consent.contains(&Consent::Bundle) {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.from).await;
        loop {
            match service.bundle_waits_ms() {
                Some(0) => return,
                Some(ms) => tokio::time::sleep(LOOK.min(Duration::from_millis(ms))).await,
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

/// Tells the cloud of the epoch that this hub has begun, if it does not know yet.
pub(super) async fn begin_epoch(service: &Service, line: &Line) -> Result<(), Failure> {
    let Some(statement) = service.epoch_statement().map_err(own)? else { return Ok(()) };
    let body = json!({ "statement": BASE64URL_NOPAD.encode(&statement) }).to_string().into_bytes();
    match line.ask(post("POST", &line.own("/epoch"), body)).await {
        Ok(_) => {}
        // A cloud that has never heard of the hub is told of it by the link.
        Err(Failure { refused: Some(refused), .. }) if refused.code == "not_linked" => {}
        Err(failure) => return Err(failure),
    }
    service.epoch_begun().await.map_err(own)
}

/// Tells the cloud that this hub follows a stolen one, if it does not know yet.
pub(super) async fn follow(service: &Service, line: &Line) -> Result<(), Failure> {
    let Some((old, statement)) = service.rehome_statement().map_err(own)? else { return Ok(()) };
    match line.ask(post("POST", &line.own("/rehome"), rehoming(&old, &statement))).await {
        Ok(_) => {}
        // A cloud that has never heard of the stolen hub, knows another code, or another hub that follows it.
        Err(Failure { refused: Some(refused), .. }) if matches!(refused.code.as_str(), "recovery_code" | "epoch_stale") => {
            tracing::warn!(code = %refused.code, "the cloud does not take this hub for the one that follows the stolen one: it brings none of its devices");
        }
        Err(failure) => return Err(failure),
    }
    service.rehome_told().await.map_err(own)
}

/// The body that says so.
pub(super) fn rehoming(old: &str, statement: &[u8]) -> Vec<u8> {
    json!({ "old": old, "statement": BASE64URL_NOPAD.encode(statement) }).to_string().into_bytes()
}

/// Fetches orders for the devices of the stolen hub; nothing when this one follows none.
pub(super) async fn fetch_moves(service: &Service, line: &Line) -> Result<(), Failure> {
    if !service.follows().map_err(own)? {
        return Ok(());
    }
    let mut after = String::new();
    for _ in 0..PAGES_MAX {
        let path = line.own(&format!("/moves?after={after}"));
        let ask = Ask { most: MOVES_MOST, ..post("GET", &path, Vec::new()) };
        let page: MoveOrders = match line.ask(ask).await {
            Ok(reply) => read(&reply.body)?,
            // One that knows nothing of stolen hubs.
            Err(Failure { refused: Some(refused), .. }) if refused.code == "not_found" => return Ok(()),
            Err(failure) => return Err(failure),
        };
        let (last, more) = (page.orders.keys().next_back().cloned(), page.more);
        let orders = page.orders.into_iter().filter_map(|(device, order)| Some((device, BASE64URL_NOPAD.decode(order.as_bytes()).ok()?)));
        let taken = service.take_orders(orders.collect()).await.map_err(own)?;
        tracing::debug!(taken = taken.taken, "move orders came from the cloud");
        match last.filter(|last| more && *last > after && DeviceId::parse(last).is_ok()) {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
    Ok(())
}
