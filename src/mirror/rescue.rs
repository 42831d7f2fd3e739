//! What a box that is no hub yet asks a cloud: the recovery bundle of the hub whose place it takes, and to begin the new
//! epoch. Who asks is shown by the recovery key, which the household has on paper.

use super::line::{Failure, Line, Now, Way, refusal};
use super::look::{DEADLINE, MOST, base, wrong};
use super::meter::Meter;
use super::replacement::rehoming;
use super::round::{post, read};
use super::{Config, answer};
use crate::domain::ids::HubId;
use crate::domain::mirror::wire::{BUNDLE_MAX, CloudView};
use crate::service::{LinkTarget, LookProblem};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long the bundle may be on its way.
const FETCH: Duration = Duration::from_secs(300);
/// Bytes of the answer that holds it at most: base64, and what stands around.
const ANSWER_MOST: usize = BUNDLE_MAX / 3 * 4 + 64 * 1024;

/// Calls one cloud on behalf of a hub that is broken.
pub struct Rescue {
    config: Config,
    now: Now,
    knows_time: bool,
    way: Way,
    /// As it was given; then as the cloud names it.
    given: String,
    known: OnceLock<(String, [u8; 32])>,
    meter: Arc<Meter>,
}

#[derive(Deserialize)]
struct Kept {
    bundle: String,
    epoch: u64,
}

impl Rescue {
    /// The cloud at `url`. `now` says what time it is (s since 1970), `knows_time` whether that can be believed.
    ///
    /// # Errors
    /// A setting that is wrong, in words.
    pub async fn new(config: &Config, url: &str, now: Arc<dyn Fn() -> u64 + Send + Sync>, knows_time: bool) -> Result<Rescue, LookProblem> {
        let meter = Arc::new(Meter::new(u64::MAX));
        let given = base(url).map_err(told)?;
        let way = Way::by(config, now.clone(), knows_time, meter.clone()).await.map_err(told)?;
        Ok(Rescue { config: config.clone(), now, knows_time, way, given, known: OnceLock::new(), meter })
    }

    /// The cloud's key, and what time it says it is (s since 1970).
    ///
    /// # Errors
    /// Why it was not reached, or is none, in words.
    pub async fn look(&self) -> Result<([u8; 32], u64), LookProblem> {
        self.look_at().await.map_err(told)
    }

    async fn look_at(&self) -> Result<([u8; 32], u64), Failure> {
        let unproven = self.way.open(&format!("{}/v1", self.given), MOST, DEADLINE).await?;
        let view: Option<CloudView> = serde_json::from_slice(&unproven.body).ok();
        let key = view.as_ref().and_then(|view| BASE64URL_NOPAD.decode(view.key.as_bytes()).ok()?.try_into().ok());
        let key: [u8; 32] = key.unwrap_or_default();
        let reply = unproven.prove(&key, "")?;
        let Some(view) = view.filter(|_| reply.status == 200) else {
            return Err(wrong("this cloud does not say what it is", "Ask whoever runs the cloud for its URL"));
        };
        let _ = self.known.set((base(&view.url)?, key));
        Ok((key, reply.created_s))
    }

    /// The bundle, for a signed recovery request, and the newest epoch that the cloud knows.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn bundle(&self, hub: &HubId, request: &[u8]) -> Result<(Vec<u8>, u64), LookProblem> {
        self.fetch(hub, request).await.map_err(told)
    }

    async fn fetch(&self, hub: &HubId, request: &[u8]) -> Result<(Vec<u8>, u64), Failure> {
        let (base, key) = self.known()?;
        let body = json!({ "request": BASE64URL_NOPAD.encode(request) }).to_string().into_bytes();
        let reply = self.way.tell(&format!("{base}/v1/hubs/{hub}/recovery"), body, ANSWER_MOST, FETCH).await?.prove(key, "")?;
        if !(200..300).contains(&reply.status) {
            return Err(refusal(reply));
        }
        let kept: Kept = read(&reply.body)?;
        let bundle = BASE64URL_NOPAD.decode(kept.bundle.as_bytes());
        let bundle =
            bundle.map_err(|_| wrong("the cloud's answer is not understood", "Update this program, or ask whoever runs the cloud"))?;
        Ok((bundle, kept.epoch))
    }

    /// Begins an epoch by its statement, with the mirror key that it names. `now_s` is what the cloud takes for now.
    ///
    /// # Errors
    /// Why the cloud did not take it, in words.
    pub async fn begin(&self, hub: &HubId, epoch: u64, statement: &[u8], mirror: SigningKey, now_s: u64) -> Result<(), LookProblem> {
        self.tell_epoch(hub, epoch, statement, mirror, now_s).await.map_err(told)
    }

    /// Says that `hub` follows the stolen hub `old`, with the mirror key that the statement names.
    ///
    /// # Errors
    /// Why the cloud did not take it, in words.
    pub async fn rehome(&self, hub: &HubId, old: &HubId, statement: &[u8], mirror: SigningKey, now_s: u64) -> Result<(), LookProblem> {
        let tell = async {
            let line = self.line(hub, 1, mirror, now_s).await?;
            line.ask(post("POST", &line.own("/rehome"), rehoming(&old.to_string(), statement))).await.map(|_| ())
        };
        tell.await.map_err(told)
    }

    async fn tell_epoch(&self, hub: &HubId, epoch: u64, statement: &[u8], mirror: SigningKey, now_s: u64) -> Result<(), Failure> {
        let line = self.line(hub, epoch, mirror, now_s).await?;
        let body = json!({ "statement": BASE64URL_NOPAD.encode(statement) }).to_string().into_bytes();
        line.ask(post("POST", &line.own("/epoch"), body)).await.map(|_| ())
    }

    async fn line(&self, hub: &HubId, epoch: u64, mirror: SigningKey, now_s: u64) -> Result<Line, Failure> {
        let (base, key) = self.known()?;
        let began = (self.now)();
        let now = self.now.clone();
        // A box without the time goes by the cloud's.
        let clock: Now = Arc::new(move || now_s.saturating_add(now().saturating_sub(began)));
        let way = Way::by(&self.config, clock, self.knows_time, self.meter.clone()).await?;
        let target = LinkTarget {
            url: base.clone(),
            key: *key,
            region: String::new(),
            hub: *hub,
            epoch,
            consent: BTreeSet::new(),
            needs_link: false,
            needs_unlink: false,
        };
        Ok(Line::new(way, &target, mirror))
    }

    fn known(&self) -> Result<&(String, [u8; 32]), Failure> {
        self.known.get().ok_or_else(|| wrong("the cloud has not been looked at yet", "Try again"))
    }
}

fn told(failure: Failure) -> LookProblem {
    let answer::Problem { code, detail, next } = failure.problem;
    LookProblem { code, detail, next: next.to_owned() }
}
