//! One cloud, as long as it stays the same: rounds of link, exchanges, bundle and registry batches, and what the hub waits for
//! between them. Revocations come before everything else, and nothing that takes long keeps them from coming.

use super::answer::{self, Problem};
use super::fetch::{self, FetchError, Wanted};
use super::line::{self, Ask, Failure, Line, Refused};
use super::pace::{self, Backoff};
use super::random;
use super::releases::Releases;
use super::replacement::{Bundles, begin_epoch, fetch_moves, follow};
use super::uplink::{End, Uplink, own};
use super::wake::Wake;
use crate::domain::mirror::wire::{BYTES_MAX, BatchOffer, Linked, SyncReply};
use crate::domain::time::Grade;
use crate::service::{LinkTarget, MirrorPhase, Prepared};
use data_encoding::BASE64URL_NOPAD;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes of an answer at most: what was agreed on, and room for the marks that go beyond every bound.
const ANSWER_MOST: usize = 4 * BYTES_MAX;
/// Bytes of a request at least, whatever the cloud says: smaller ones make no progress.
const REQUEST_LEAST: usize = 16 * 1024;
/// Bytes of a request at most when the day's share is used up.
const LEAN: usize = 64 * 1024;
/// How long the hub waits between two exchanges then.
const LEAN_PAUSE: Duration = Duration::from_secs(15 * 60);
/// Bounds of the wait that the cloud may name.
const WAIT: (u64, u64) = (5, 3_600);
/// When the hub comes again for releases that it was woken for and not told: every process of the cloud has heard of them by then.
const SOON: Duration = Duration::from_secs(8);
/// Exchanges in a row that move nothing, before the hub waits all the same.
const FUTILE: u32 = 3;
/// Answers of one round in which the cloud wants the same batch otherwise.
const OTHERWISE: u32 = 16;

/// One cloud, as long as it stays the same and is called in the same way.
pub(super) struct Life<'a> {
    uplink: &'a Uplink,
    target: &'a LinkTarget,
    line: &'a Line,
    wake: &'a Wake,
    /// Bytes of the next request at most.
    most: usize,
    /// The cloud may have taken a batch whose answer did not come: it is sent again as it was, however long it is.
    unanswered: bool,
    /// When batches are asked for again, after a failure.
    batches_from: Instant,
    batches: Backoff,
    releases: Releases,
    bundles: Bundles,
    /// Move orders for devices of a stolen hub may have come.
    moves_due: bool,
}

impl<'a> Life<'a> {
    pub(super) fn new(uplink: &'a Uplink, target: &'a LinkTarget, line: &'a Line, wake: &'a Wake) -> Life<'a> {
        Life {
            uplink,
            target,
            line,
            wake,
            most: BYTES_MAX,
            unanswered: true,
            batches_from: Instant::now(),
            batches: Backoff::default(),
            releases: Releases::new(),
            bundles: Bundles::new(),
            moves_due: true,
        }
    }

    /// Rounds and waits, until the line has to be put down.
    pub(super) async fn work(&mut self, backoff: &mut Backoff) -> End {
        let wish = self.uplink.service.mirror_wish();
        loop {
            match self.round().await {
                Ok(Ok(wait)) => {
                    backoff.reset();
                    self.uplink.meter.ended("ok");
                    self.idle(wait, &wish).await;
                }
                Ok(Err(end)) => return end,
                Err(failure) => self.uplink.rest(failure, backoff).await,
            }
            // Once the time is known, certificates are judged by it.
            if (self.uplink.service.clock().grade >= Grade::Ntp) != self.line.way().knows_time {
                return End::Anew;
            }
        }
    }

    /// Waits for something to do, `wait` at most.
    async fn idle(&mut self, wait: Duration, wish: &Notify) {
        if wait.is_zero() {
            return;
        }
        if self.line.meter().left() == 0 {
            let pause = LEAN_PAUSE.saturating_add(pace::share(LEAN_PAUSE / 4, random()));
            self.uplink.waits(MirrorPhase::Waiting, Some(answer::budget()), pause);
            tokio::time::sleep(pause).await;
            return;
        }
        self.uplink.tell(|state| (state.phase, state.problem, state.retry_at) = (MirrorPhase::Idle, None, None));
        // Hubs that were woken at once do not come again at once.
        let wait = wait.saturating_add(pace::share(wait / 10, random()));
        let due = Instant::now() + wait;
        let due = if self.uplink.service.pending_batches().is_empty() { due } else { due.min(self.batches_from) };
        let due = self.releases.due(self.uplink, due);
        let due = if self.wake.comes_again() { due.min(Instant::now() + SOON) } else { due };
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = wish.notified() => tokio::time::sleep(Duration::from_millis(self.uplink.config.debounce_ms)).await,
            () = self.wake.news.notified() => {}
            () = self.bundles.wanted(&self.uplink.service, self.target) => {}
        }
    }

    /// Link, exchanges, batches; how long to wait then.
    async fn round(&mut self) -> Result<Result<Duration, End>, Failure> {
        if self.target.needs_unlink {
            self.unlink().await?;
            return Ok(Err(End::Anew));
        }
        if let Err(failure) = begin_epoch(&self.uplink.service, self.line).await {
            return self.replaced(failure).await.map(Err);
        }
        follow(&self.uplink.service, self.line).await?;
        if self.target.needs_link {
            self.uplink.phase(MirrorPhase::Linking);
            if let Err(end) = self.link().await? {
                return Ok(Err(end));
            }
        }
        self.uplink.phase(MirrorPhase::Syncing);
        if self.moves_due {
            // Before the first exchange: with them comes what was revoked at the stolen hub.
            fetch_moves(&self.uplink.service, self.line).await?;
            self.moves_due = false;
        }
        let mut wait = Duration::from_secs(WAIT.1);
        let (mut futile, mut otherwise) = (0, 0);
        loop {
            let lean = self.line.meter().left() == 0 && !self.unanswered;
            let bound = if lean { self.most.min(LEAN) } else { self.most };
            let Some(prepared) = self.uplink.service.next_batch(bound).await.map_err(own)? else { break };
            let moves = moves(&prepared);
            self.unanswered = true;
            match self.exchange(prepared).await? {
                Exchange::Taken { again, brought, wait_s } => {
                    wait = Duration::from_secs(wait_s.clamp(WAIT.0, WAIT.1));
                    futile = if moves || brought { 0 } else { futile + 1 };
                    if !again || futile >= FUTILE || self.line.meter().left() == 0 {
                        break;
                    }
                }
                Exchange::Otherwise(failure) => {
                    otherwise += 1;
                    if otherwise > OTHERWISE {
                        return Err(*failure);
                    }
                }
                Exchange::End(end) => return Ok(Err(end)),
            }
        }
        self.bundles.hand_over(&self.uplink.service, self.line, self.target).await?;
        let more = self.batches().await? | self.releases.fetch(self.uplink, self.line).await?;
        Ok(Ok(if more { Duration::ZERO } else { wait }))
    }

    async fn link(&self) -> Result<Result<(), End>, Failure> {
        let statement = self.uplink.service.link_statement().map_err(own)?;
        let body = json!({ "link": BASE64URL_NOPAD.encode(&statement) });
        match self.line.ask(post("POST", "/v1/hubs", body.to_string().into_bytes())).await {
            Ok(reply) => {
                let linked: Linked = read(&reply.body)?;
                let service = self.uplink.service.clone();
                self.uplink.finish(async move { service.mirror_linked(linked).await }).await?;
                tracing::info!(url = %self.target.url, "the cloud has taken the link");
                Ok(Ok(()))
            }
            Err(failure) => self.replaced(failure).await.map(Err),
        }
    }

    async fn unlink(&self) -> Result<(), Failure> {
        let statement = self.uplink.service.unlink_statement().map_err(own)?;
        let body = json!({ "unlink": BASE64URL_NOPAD.encode(&statement) });
        match self.line.ask(post("DELETE", &self.line.own(""), body.to_string().into_bytes())).await {
            Ok(_) => {}
            Err(Failure { refused: Some(refused), .. }) if refused.code == "not_linked" || refused.status == 410 => {}
            Err(failure) => return Err(failure),
        }
        tracing::info!(url = %self.target.url, "the cloud has erased what it had of this hub");
        self.forgotten().await
    }

    /// The cloud knows nothing of this hub.
    async fn forgotten(&self) -> Result<(), Failure> {
        let service = self.uplink.service.clone();
        self.uplink.finish(async move { service.mirror_unlinked().await }).await
    }

    async fn exchange(&mut self, prepared: Prepared) -> Result<Exchange, Failure> {
        let Prepared { body, ticket, .. } = prepared;
        let length = body.len();
        let path = self.line.own("/sync");
        let ask = Ask { most: ANSWER_MOST, ..post("POST", &path, body) };
        let failure = match self.line.ask(ask).await {
            Ok(reply) => {
                let answer: SyncReply = read(&reply.body)?;
                self.most = usize::try_from(answer.max_bytes).unwrap_or(BYTES_MAX).clamp(REQUEST_LEAST, BYTES_MAX);
                let (cursor, more, wait_s) = (answer.cursor, answer.more, answer.wait_s);
                let service = self.uplink.service.clone();
                let taking = async move { service.batch_acked(ticket, &answer, reply.created_s, reply.rtt_ms).await };
                let applied = self.uplink.finish(taking).await?;
                self.unanswered = false;
                self.uplink.strangers().reset();
                self.wake.told_of_releases(self.uplink.service.releases_known());
                self.wake.taken(cursor);
                return Ok(Exchange::Taken { again: applied.again || more, brought: applied.marks + applied.items > 0, wait_s });
            }
            Err(failure) => failure,
        };
        let Some(Refused { status, code, problem }) = failure.refused.as_deref() else { return Err(failure) };
        match (status, code.as_str()) {
            (409, "resync") => {
                let expected = problem.get("batch").and_then(Value::as_u64).unwrap_or(1);
                tracing::info!(expected, batch = ticket.batch, "the cloud expects another batch: what is mirrored is sent again");
                let service = self.uplink.service.clone();
                self.uplink.finish(async move { service.mirror_resync(expected).await }).await?;
                Ok(Exchange::Otherwise(Box::new(failure)))
            }
            (413, _) if length > REQUEST_LEAST => {
                self.unanswered = false;
                let told = problem.get("max_bytes").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
                self.most = told.unwrap_or(usize::MAX).min(length / 2).clamp(REQUEST_LEAST, BYTES_MAX);
                Ok(Exchange::Otherwise(Box::new(failure)))
            }
            (_, "not_linked") => {
                tracing::warn!("the cloud does not know this hub any more: it is told anew");
                let pause = self.uplink.strangers().pause(random(), failure.asked);
                self.uplink.meter.ended(failure.problem.code);
                self.uplink.waits(MirrorPhase::Failing, Some(failure.problem), pause);
                tokio::time::sleep(pause).await;
                self.forgotten().await?;
                Ok(Exchange::End(End::Anew))
            }
            _ => self.replaced(failure).await.map(Exchange::End),
        }
    }

    /// Whether a failure proves that another hub has taken this one's place.
    async fn replaced(&self, failure: Failure) -> Result<End, Failure> {
        let statement = match &failure.refused {
            Some(refused) if refused.code == "epoch_stale" => refused.problem.get("statement").and_then(Value::as_str),
            _ => None,
        };
        match statement.and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok()) {
            Some(statement) => {
                let service = self.uplink.service.clone();
                let proven = self.uplink.finish(async move { Ok(service.epoch_stale(&statement).await) }).await?;
                if proven { Ok(End::Replaced) } else { Err(failure) }
            }
            None => Err(failure),
        }
    }

    /// Fetches registry batches; whether there is more of them to fetch. That this fails, or takes long, keeps no revocation
    /// from coming: it has a pace of its own.
    async fn batches(&mut self) -> Result<bool, Failure> {
        if Instant::now() < self.batches_from {
            return Ok(false);
        }
        let mut parts = fetch::AT_ONCE;
        let offers = self.uplink.service.pending_batches();
        let wanted: Vec<&str> = offers.iter().map(|offer| offer.sha256.as_str()).collect();
        fetch::tidy(&self.uplink.dir, fetch::BATCH, &wanted).await;
        for offer in &offers {
            match self.batch(offer, &mut parts).await {
                Ok(true) => {
                    self.batches.reset();
                    self.moves_due = true;
                }
                Ok(false) => {
                    self.batches_from = Instant::now() + self.batches.pause(random(), None);
                    return Ok(false);
                }
                Err(FetchError::More) => return Ok(true),
                Err(FetchError::Offer(why)) => {
                    tracing::warn!(batch = %offer.id, why, "a registry batch of the cloud's will not be taken");
                    self.uplink.service.offer_failed(offer, why, true).await.map_err(own)?;
                }
                Err(FetchError::Line(failure)) => return Ok(self.batches_later(offer, &failure.problem.detail, failure.asked)),
                Err(FetchError::Disk(error)) => return Ok(self.batches_later(offer, &error.to_string(), None)),
            }
        }
        Ok(false)
    }

    fn batches_later(&mut self, offer: &BatchOffer, why: &str, asked: Option<Duration>) -> bool {
        tracing::warn!(batch = %offer.id, why, "a registry batch has not come yet; the hub goes on where it was");
        self.batches_from = Instant::now() + self.batches.pause(random(), asked);
        false
    }

    /// Fetches one, and whether it was taken.
    async fn batch(&self, offer: &BatchOffer, parts: &mut u32) -> Result<bool, FetchError> {
        let wanted = Wanted::batch(offer).map_err(FetchError::Offer)?;
        let path = fetch::fetch(self.line, &self.uplink.dir, &wanted, parts).await?;
        let (service, taken, file) = (self.uplink.service.clone(), offer.clone(), path.clone());
        match self.uplink.finish(async move { Ok(service.import_offer(&taken, file).await) }).await? {
            Ok(report) => {
                tracing::info!(brand = %report.brand, added = report.added, known = report.known, "a registry batch came from the cloud");
                fetch::forget(&path).await;
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(batch = %offer.id, %error, "a registry batch of the cloud's was not taken");
                self.uplink.service.offer_failed(offer, &error.to_string(), false).await.map_err(own)?;
                Ok(false)
            }
        }
    }
}

/// What has become of a batch.
enum Exchange {
    /// The cloud has it, and the hub has what came.
    Taken { again: bool, brought: bool, wait_s: u64 },
    /// The cloud wants it otherwise.
    Otherwise(Box<Failure>),
    /// The line is to be put down.
    End(End),
}

/// Whether a batch tells anything.
fn moves(prepared: &Prepared) -> bool {
    let request = &prepared.request;
    let lists = [request.revoke.is_empty(), request.put.is_empty(), request.twin.is_empty(), request.done.is_empty()];
    lists.contains(&false) || request.audit.is_some() || request.digest.is_some()
}

pub(super) fn post<'a>(method: &'static str, path: &'a str, body: Vec<u8>) -> Ask<'a> {
    let deadline = line::deadline(body.len().max(BYTES_MAX / 4));
    Ask { method, path, body, content_type: "application/json", range: None, most: BYTES_MAX, deadline }
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!("the cloud's answer is not understood: {}", answer::plain(&error.to_string()));
        Problem { code: "refused", detail, next: "Update the hub, or ask whoever runs the cloud" }.into()
    })
}
