//! What a device does with an offer, from the first look to the first start as the new version. It is told what came in, and says what is to
//! be done; connections and the clock are the session's.

use std::path::PathBuf;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::Deserialize;
use serde_json::{Value, json};

use super::slots::{Slots, Stage, Start, Work};
use super::{Event, Fault, Options, Over, Program, Step, release};
use crate::sim::identity::DeviceSecret;
use crate::sim::state::FlashError;

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::sim) enum Do {
    /// Tell the hub.
    Report(Value),
    /// Tell who watches.
    Tell(Event),
    /// Get the image, from the byte it is at; see [`Update::wants`].
    Fetch,
    /// Stop getting it.
    StopFetching,
    /// Say good-bye and start again.
    Restart,
    /// Be gone without a word, and start again.
    PowerCut,
}

/// Where to get the image from the hub's page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) struct Source {
    pub(in crate::sim) port: u16,
    pub(in crate::sim) path: String,
    pub(in crate::sim) ticket: String,
}

/// What is wanted of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) struct Wanted {
    pub(in crate::sim) offer: String,
    pub(in crate::sim) offset: u64,
    pub(in crate::sim) size: u64,
    pub(in crate::sim) chunk: u64,
    /// From the page, when that is a way.
    pub(in crate::sim) source: Option<Source>,
}

#[derive(Deserialize)]
struct Offer {
    offer: String,
    rel: u64,
    version: String,
    size: u64,
    sha256: String,
    certificate: String,
    release: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    ticket: String,
    #[serde(default)]
    chunk: u64,
    install: bool,
}

/// A device's firmware.
pub(in crate::sim) struct Update {
    options: Options,
    secret: DeviceSecret,
    state: PathBuf,
    slots: Slots,
    /// The new version that it runs and has not confirmed.
    trial: Option<Program>,
    /// It has been told to install what it downloads.
    install: bool,
    source: Option<Source>,
    chunk: u64,
}

impl Update {
    /// A device that is about to be switched on.
    pub(in crate::sim) fn new(options: Options, secret: DeviceSecret, state: PathBuf) -> Result<Self, FlashError> {
        let slots = Slots::open(&state, &secret.device_id, options.rel, &options.version)?;
        Ok(Self { options, secret, state, slots, trial: None, install: false, source: None, chunk: 0 })
    }

    /// Comes up with what lies on the flash. False when it hangs.
    pub(in crate::sim) fn switch_on(&mut self, tell: &mut dyn FnMut(Event)) -> Result<bool, FlashError> {
        // What was in memory is gone.
        (self.trial, self.install, self.source) = (None, false, None);
        self.slots = Slots::open(&self.state, &self.secret.device_id, self.options.rel, &self.options.version)?;
        match self.slots.start()? {
            Start::Known => {}
            Start::RolledBack(reason) => {
                tell(Event::Failed { code: "health", detail: reason });
                tell(Event::RolledBack { rel: self.slots.content().rel });
            }
            Start::Trial(program) => {
                let rel = self.slots.content().work.as_ref().map_or(0, |work| work.rel);
                tell(Event::Runs { rel, version: program.version.clone(), trial: true });
                if program.silent || self.fault(|fault| *fault == Fault::Silent) {
                    tell(Event::Hangs);
                    return Ok(false);
                }
                self.trial = Some(program);
                return Ok(true);
            }
        }
        let content = self.slots.content();
        tell(Event::Runs { rel: content.rel, version: content.version.clone(), trial: false });
        Ok(true)
    }

    /// Something more will go wrong.
    pub(in crate::sim) fn put(&mut self, fault: Fault, present: bool) {
        self.options.faults.retain(|other| *other != fault);
        if present {
            self.options.faults.push(fault);
        }
    }

    /// Takes a fault that applies, if there is one: each happens once.
    fn fault(&mut self, applies: impl Fn(&Fault) -> bool) -> bool {
        let at = self.options.faults.iter().position(applies);
        at.is_some_and(|at| {
            self.options.faults.remove(at);
            true
        })
    }

    fn power_fails(&mut self, step: Step) -> bool {
        self.fault(|fault| *fault == Fault::Power(step))
    }

    /// It has reached its hub, and listens for offers.
    pub(in crate::sim) fn signed_in(&mut self) -> Result<Vec<Do>, FlashError> {
        let Some(program) = self.trial.clone() else { return Ok(vec![Do::Report(self.report())]) };
        if self.power_fails(Step::Trial) {
            return Ok(vec![Do::PowerCut]);
        }
        self.trial = None;
        if !program.healthy || self.fault(|fault| *fault == Fault::Unhealthy) {
            let detail = format!("{} came up and is not well", program.version);
            self.slots.end(Some(("health", &detail)))?;
            return Ok(vec![Do::Tell(Event::Failed { code: "health", detail }), Do::Restart]);
        }
        self.slots.confirm()?;
        if self.power_fails(Step::Confirmed) {
            return Ok(vec![Do::PowerCut]);
        }
        let content = self.slots.content();
        let confirmed = Event::Confirmed { rel: content.rel, version: content.version.clone() };
        Ok(vec![Do::Tell(confirmed), Do::Report(self.report())])
    }

    /// What it says of itself now.
    pub(in crate::sim) fn report(&self) -> Value {
        let content = self.slots.content();
        let mut report = json!({"rel": content.rel, "version": content.version});
        let more = match (&content.work, &content.ended) {
            (Some(work), _) => match work.stage {
                Stage::Downloading => json!({"state": "downloading", "offer": work.offer, "offset": self.slots.have()}),
                Stage::Downloaded => json!({"state": "downloaded", "offer": work.offer}),
                Stage::Installing => json!({"state": "installing", "offer": work.offer}),
            },
            (None, Some(ended)) => match &ended.failed {
                None => json!({"state": "confirmed", "offer": ended.offer}),
                Some((code, detail)) => json!({"state": "failed", "offer": ended.offer, "code": code, "detail": detail}),
            },
            (None, None) => json!({"state": "idle"}),
        };
        if let (Some(report), Value::Object(more)) = (report.as_object_mut(), more) {
            report.extend(more);
        }
        report
    }

    /// The hub has taken a report.
    pub(in crate::sim) fn heard(&mut self, report: &Value) -> Result<Vec<Do>, FlashError> {
        let of = report.get("offer").and_then(Value::as_str);
        match report.get("state").and_then(Value::as_str) {
            Some("confirmed" | "failed") if of == self.slots.content().ended.as_ref().map(|ended| ended.offer.as_str()) => {
                self.slots.told()?;
                Ok(Vec::new())
            }
            Some("installing") if of == self.work(Stage::Installing).map(|work| work.offer.as_str()) => {
                if self.power_fails(Step::Installing) {
                    return Ok(vec![Do::PowerCut]);
                }
                if self.fault(|fault| *fault == Fault::Install) {
                    return self.fail("install", "the image could not be written to where it starts from");
                }
                self.slots.switch()?;
                Ok(vec![Do::Tell(Event::Restarting), Do::Restart])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn work(&self, stage: Stage) -> Option<&Work> {
        self.slots.content().work.as_ref().filter(|work| work.stage == stage)
    }

    /// An offer came, or an empty one that takes back what stood.
    pub(in crate::sim) fn offered(&mut self, payload: &[u8]) -> Result<Vec<Do>, FlashError> {
        let document: Value = serde_json::from_slice(payload).unwrap_or_default();
        if document.as_object().is_some_and(serde_json::Map::is_empty) {
            return self.withdrawn();
        }
        let offer = match Offer::deserialize(document) {
            Ok(offer) => offer,
            Err(error) => return Ok(vec![Do::Tell(Event::NoOffer { reason: error.to_string() })]),
        };
        // A new version on trial has something better to do.
        if self.trial.is_some() || self.slots.content().work.as_ref().is_some_and(|work| work.starts > 0) {
            return Ok(Vec::new());
        }
        // The hub has not heard yet how this one ended.
        if self.slots.content().ended.as_ref().is_some_and(|ended| ended.offer == offer.offer) {
            return Ok(vec![Do::Report(self.report())]);
        }
        self.install = offer.install;
        self.chunk = offer.chunk.clamp(1, 16_384);
        self.source = self.options.page_port.filter(|_| offer.path.starts_with('/') && !offer.ticket.is_empty()).map(|port| Source {
            port,
            path: offer.path.clone(),
            ticket: offer.ticket.clone(),
        });
        if self.slots.content().work.as_ref().is_some_and(|work| work.offer == offer.offer) {
            return self.go_on();
        }
        if let Err((code, detail)) = self.judge(&offer) {
            let dropped = self.slots.content().work.is_some();
            self.slots.end(None)?;
            self.slots.refuse(&offer.offer, code, &detail)?;
            let failed = [Do::Tell(Event::Failed { code, detail }), Do::Report(self.report())];
            return Ok(dropped.then_some(Do::StopFetching).into_iter().chain(failed).collect());
        }
        let offered = Event::Offered { rel: offer.rel, version: offer.version.clone() };
        self.slots.begin(Work {
            offer: offer.offer,
            rel: offer.rel,
            version: offer.version,
            size: offer.size,
            sha256: offer.sha256,
            certificate: offer.certificate,
            release: offer.release,
            stage: Stage::Downloading,
            starts: 0,
        })?;
        let mut todo = vec![Do::Tell(offered), Do::StopFetching];
        todo.extend(self.go_on()?);
        Ok(todo)
    }

    fn withdrawn(&mut self) -> Result<Vec<Do>, FlashError> {
        match &self.slots.content().work {
            Some(work) if work.stage != Stage::Installing => {
                self.slots.end(None)?;
                self.source = None;
                Ok(vec![Do::Tell(Event::Withdrawn), Do::StopFetching, Do::Report(self.report())])
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Whether the device takes an offer; if not, the word of the protocol and its own words.
    fn judge(&mut self, offer: &Offer) -> Result<(), (&'static str, String)> {
        let no = |code, detail: String| Err((code, detail));
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).unwrap_or_default();
        let release = match release::verify(&self.options.root, &decode(&offer.certificate), &decode(&offer.release)) {
            Ok(release) => release,
            Err(why) => return no("signature", why.to_owned()),
        };
        let content = self.slots.content();
        if (release.rel, release.size, HEXLOWER.encode(&release.sha256)) != (offer.rel, offer.size, offer.sha256.clone()) {
            return no("signature", "the offer says something else than what is signed".into());
        }
        if release.brand != self.secret.brand || release.model != self.secret.model {
            return no("model", format!("it is for {} of {}", release.model, release.brand));
        }
        if !release.hardware.contains(&self.secret.hardware) {
            return no("hardware", format!("it is for hardware {}", release.hardware.join(", ")));
        }
        if release.rel <= content.rel || release.rel <= content.highest {
            return no("older", format!("release {} is not above {}", release.rel, content.rel.max(content.highest)));
        }
        if content.rel < release.least_before {
            return no("step", format!("it needs release {} first", release.least_before));
        }
        if self.fault(|fault| *fault == Fault::Refuse) {
            return no("refused", "not now".into());
        }
        if self.fault(|fault| *fault == Fault::NoRoom) {
            return no("storage", "the flash has no room".into());
        }
        Ok(())
    }

    /// Goes on where it is.
    fn go_on(&mut self) -> Result<Vec<Do>, FlashError> {
        let Some(work) = self.slots.content().work.clone() else { return Ok(Vec::new()) };
        match work.stage {
            Stage::Downloading if self.slots.have() >= work.size => self.complete(),
            Stage::Downloading => {
                let over = if self.source.is_some() { Over::Https } else { Over::Mqtt };
                let downloading = Event::Downloading { offset: self.slots.have(), size: work.size, over };
                Ok(vec![Do::Tell(downloading), Do::Report(self.report()), Do::Fetch])
            }
            Stage::Downloaded if self.install => {
                self.slots.stage(Stage::Installing)?;
                Ok(vec![Do::Tell(Event::Installing { rel: work.rel }), Do::Report(self.report())])
            }
            Stage::Downloaded => Ok(vec![Do::Tell(Event::WaitsToInstall)]),
            Stage::Installing => Ok(Vec::new()),
        }
    }

    /// What of the image is still to be had.
    pub(in crate::sim) fn wants(&self) -> Option<Wanted> {
        let work = self.work(Stage::Downloading)?;
        let offset = self.slots.have();
        (offset < work.size).then(|| Wanted {
            offer: work.offer.clone(),
            offset,
            size: work.size,
            chunk: self.chunk.min(work.size - offset),
            source: self.source.clone(),
        })
    }

    /// A message on `firmware/chunk`. Nothing when it is not the piece that is wanted; an empty one is told as such.
    pub(in crate::sim) fn chunk(&mut self, payload: &[u8]) -> Result<Option<Vec<Do>>, FlashError> {
        let (Some(offer), Some(offset), Some(piece)) = (payload.get(..16), payload.get(16..24), payload.get(24..)) else { return Ok(None) };
        let offset = <[u8; 8]>::try_from(offset).map(u64::from_be_bytes).unwrap_or(u64::MAX);
        let wanted = self.wants().filter(|wanted| wanted.offset == offset);
        let ours = wanted.filter(|wanted| wanted.offer.replace('-', "") == HEXLOWER.encode(offer));
        if ours.is_none() || piece.is_empty() {
            return Ok(None);
        }
        self.piece(piece).map(Some)
    }

    /// The next piece of the image.
    pub(in crate::sim) fn piece(&mut self, piece: &[u8]) -> Result<Vec<Do>, FlashError> {
        let Some(work) = self.work(Stage::Downloading).cloned() else { return Ok(Vec::new()) };
        let before = self.slots.have();
        let have = before + u64::try_from(piece.len()).unwrap_or(u64::MAX / 2);
        if have > work.size {
            return self.fail("size", "more came than the release says");
        }
        // Half of a piece may be on the flash when the power goes.
        if have >= work.size / 2 && self.power_fails(Step::Downloading) {
            let part = usize::try_from((work.size / 2).saturating_sub(before)).unwrap_or(0);
            self.slots.append(piece.get(..part).unwrap_or(piece))?;
            return Ok(vec![Do::PowerCut]);
        }
        self.slots.append(piece)?;
        if self.fault(|fault| matches!(fault, Fault::Download { at } if have >= *at)) {
            return self.fail("download", "the rest cannot be had");
        }
        if have == work.size { self.complete() } else { Ok(vec![Do::Fetch]) }
    }

    /// All of it is there: is it what was signed?
    fn complete(&mut self) -> Result<Vec<Do>, FlashError> {
        let Some(work) = self.slots.content().work.clone() else { return Ok(Vec::new()) };
        if self.fault(|fault| *fault == Fault::WrongHash) {
            self.slots.spoil()?;
        }
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).unwrap_or_default();
        let signed = release::verify(&self.options.root, &decode(&work.certificate), &decode(&work.release));
        let Ok(signed) = signed else { return self.fail("signature", "the release on the flash is not the brand's") };
        if HEXLOWER.encode(&signed.sha256) != self.slots.hash()? {
            return self.fail("hash", "the image is not the one that was signed");
        }
        self.slots.stage(Stage::Downloaded)?;
        if self.power_fails(Step::Downloaded) {
            return Ok(vec![Do::PowerCut]);
        }
        let mut todo = vec![Do::StopFetching, Do::Tell(Event::Downloaded { size: work.size }), Do::Report(self.report())];
        todo.extend(self.go_on()?);
        Ok(todo)
    }

    /// The page does not give it.
    pub(in crate::sim) fn no_page(&mut self, reason: String) -> Vec<Do> {
        self.source = None;
        vec![Do::StopFetching, Do::Tell(Event::NotOverHttps { reason }), Do::Fetch]
    }

    /// What it works at has failed.
    pub(in crate::sim) fn fail(&mut self, code: &'static str, detail: &str) -> Result<Vec<Do>, FlashError> {
        self.slots.end(Some((code, detail)))?;
        Ok(vec![Do::StopFetching, Do::Tell(Event::Failed { code, detail: detail.to_owned() }), Do::Report(self.report())])
    }
}
