//! What a hub hands over for the day on which it dies, and how one that has taken another's place begins.

use super::line::{Ask, Failure, Line};
use super::pace::Backoff;
use super::random;
use super::round::post;
use super::uplink::own;
use crate::domain::mirror::wire::Consent;
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
