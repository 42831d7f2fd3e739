//! One pairing at a time: finds the device, connects, and carries what [`Pairing`] says between the radio and the service.
//! Whatever ends it, the link is closed, the device is told where it can be, and the service gets the outcome.

use super::radio::{AdapterState, Link, Radio, RadioError};
use super::room::{Need, Room};
use super::scan::HEARTHKEY;
use super::{improv, wifi, words};
use crate::domain::ids::DeviceId;
use crate::domain::improv::Characteristic;
use crate::domain::pairing::{
    Advertised, Delivery, DeviceStep, EndCode, Ending, Event, Hello, INFO, Opening, Pairing, PairingFault, PairingKey, RX, TX, WindowState,
};
use crate::service::{Confirmation, Job, JobKind, Nearby, NearbyKind, PairVerdict, PairingProblem, PairingStep, Refusal};
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize;

/// How long a device is looked for.
const SEARCH: Duration = Duration::from_secs(60);
/// After so long, devices whose service data is not heard are asked.
const ASK_AFTER: Duration = Duration::from_secs(6);
/// So many of them at most.
const ASKED: usize = 4;
/// How long the radio may be away while a device is looked for: a daemon that starts again takes some seconds.
const RADIO_AWAY: Duration = Duration::from_secs(20);
/// Connections that are tried: they often fail once on a crowded band.
const ATTEMPTS: u32 = 3;
/// Waits after connections that failed: doubled each time.
const RETRY: Duration = Duration::from_millis(500);
/// Waits after pairings whose link failed, before the next one: doubled each time, up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));

/// How long is listened for what a device said before its link broke.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// UUIDs of the characteristics as numbers.
const RX_ID: u128 = u128::from_be_bytes(RX);
const TX_ID: u128 = u128::from_be_bytes(TX);
const INFO_ID: u128 = u128::from_be_bytes(INFO);

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Takes the pairings that the service hands out, one after the other.
pub(super) async fn run<R: Radio>(room: Arc<Room<R>>, shutdown: CancellationToken) {
    let mut failures = 0u32;
    loop {
        let job = tokio::select! {
            () = shutdown.cancelled() => return,
            job = room.service.next_pairing() => Arc::new(job),
        };
        let begun = tokio::spawn(one(room.clone(), job.clone(), shutdown.clone()));
        let outcome = match begun.await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!(%error, "a pairing ended in a fault of the hub");
                Err(words::internal())
            }
        };
        failures = match &outcome {
            Err(problem) if ["no_connection", "lost", "radio_failed", "radio_absent"].contains(&problem.code) => failures + 1,
            _ => 0,
        };
        if let Err(problem) = &outcome {
            tracing::info!(pairing = job.id, problem = problem.code, "a pairing ended without success");
        }
        room.service.finish_pairing(&job.id, outcome);
        if failures > 0 {
            room.trouble.notify_one();
            let pause = PAUSE.0.saturating_mul(1 << failures.min(6)).min(PAUSE.1);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }
}

/// One pairing, until it has ended or is cancelled.
async fn one<R: Radio>(room: Arc<Room<R>>, job: Arc<Job>, shutdown: CancellationToken) -> Result<(), PairingProblem> {
    // The room's end cancels it as a person would: the device is told, and the link closed.
    let cancel = job.cancel.child_token();
    let guard = shutdown.child_token();
    let ends = cancel.clone();
    let watcher = tokio::spawn(async move {
        guard.cancelled().await;
        ends.cancel();
    });
    let outcome = match &job.kind {
        JobKind::Hearthkey { device, key } => hearthkey(&room, &job, device, key, &cancel).await,
        JobKind::Improv => improv::run(&room, &job, &cancel).await,
    };
    watcher.abort();
    outcome
}

async fn hearthkey<R: Radio>(
    room: &Room<R>,
    job: &Job,
    device: &DeviceId,
    key: &PairingKey,
    cancel: &CancellationToken,
) -> Result<(), PairingProblem> {
    let link = tokio::select! {
        () = cancel.cancelled() => return Err(words::cancelled()),
        link = reach(room, job, |thing| fits(thing, job, key), Some(key)) => link?,
    };
    let _need = room.need(Need::Link);
    let mut conversation = Conversation { room, job, cancel, link, device, last: None, better: None };
    let outcome = conversation.hold(key.clone()).await;
    conversation.link.close().await;
    outcome
}

/// Whether a thing nearby is the one that is looked for; `None` when only its INFO can tell.
fn fits(thing: &Nearby, job: &Job, key: &PairingKey) -> Option<bool> {
    if thing.kind != NearbyKind::Hearthkey {
        return Some(false);
    }
    let chosen = job.nearby.as_ref().is_none_or(|chosen| *chosen == thing.id);
    match &thing.advertised {
        Some(advertised) => Some(key.is_meant(advertised)),
        None => (!chosen).then_some(false),
    }
}

/// Finds a device and connects to it. `meant` says whether it is one that is nearby, `key` checks the INFO of those of
/// which it cannot.
pub(super) async fn reach<R: Radio>(
    room: &Room<R>,
    job: &Job,
    meant: impl Fn(&Nearby) -> Option<bool>,
    key: Option<&PairingKey>,
) -> Result<R::Link, PairingProblem> {
    let (service, needed): (u128, &[u128]) = if key.is_some() {
        (HEARTHKEY, &[RX_ID, TX_ID, INFO_ID])
    } else {
        (crate::domain::improv::SERVICE, &[Characteristic::State.uuid(), Characteristic::Command.uuid()])
    };
    // When those were last heard to which there was no connection: what is connected next is heard anew first.
    let mut stale: HashMap<String, u64> = HashMap::new();
    let until = Instant::now() + SEARCH;
    let mut asked: HashSet<String> = HashSet::new();
    let (mut failed, mut strange) = (0, false);
    loop {
        room.service.pairing_step(&job.id, PairingStep::Searching);
        let (id, sure) = match search(room, job, &meant, &asked, &stale, until).await {
            Err(problem) if strange && problem == words::not_found() => return Err(words::other_version()),
            found => found?,
        };
        let _need = room.need(Need::Link);
        room.service.pairing_step(&job.id, PairingStep::Connecting);
        room.radio.stop_scan().await;
        match room.radio.connect(&id, service, needed).await {
            Ok(link) if sure => return Ok(link),
            Ok(link) => match check(&link, key).await {
                Ok(()) => return Ok(link),
                Err(unfit) => {
                    link.close().await;
                    if let Unfit::Certain(problem) = unfit {
                        return Err(problem);
                    }
                    strange |= matches!(unfit, Unfit::Strange);
                    if job.nearby.as_ref() == Some(&id) {
                        return Err(if strange { words::other_version() } else { words::other_device() });
                    }
                    asked.insert(id);
                }
            },
            Err(error) => {
                tracing::info!(%error, pairing = job.id, "no connection to a device");
                stale.insert(id, room.service.now());
                // What the daemon has forgotten is heard again, or not in time. A device that has just been switched off
                // and on can be connected before it offers anything: what is missing now may be there at the next try.
                failed += u32::from(!matches!(error, RadioError::NotFound));
                if failed >= ATTEMPTS || Instant::now() >= until {
                    return Err(words::link(&error));
                }
                room.trouble.notify_one();
                sleep(RETRY * failed).await;
            }
        }
    }
}

/// Why a device that was connected is not the one that is looked for.
enum Unfit {
    /// It is another one.
    Other,
    /// It speaks another version of the protocol.
    Strange,
    /// It is the one, and it will not do.
    Certain(PairingProblem),
}

/// Reads INFO.
async fn check<L: Link>(link: &L, key: Option<&PairingKey>) -> Result<(), Unfit> {
    let Some(key) = key else { return Ok(()) };
    let info = link.read(INFO_ID).await.map_err(|_| Unfit::Other)?;
    match Advertised::parse(&info) {
        None => Err(Unfit::Strange),
        Some(info) if !key.is_meant(&info) => Err(Unfit::Other),
        Some(info) if info.state == WindowState::Closed => Err(Unfit::Certain(words::window_closed())),
        Some(_) => Ok(()),
    }
}

/// Waits until the device is heard; its id, and whether it is sure that it is the one.
async fn search<R: Radio>(
    room: &Room<R>,
    job: &Job,
    meant: &impl Fn(&Nearby) -> Option<bool>,
    asked: &HashSet<String>,
    stale: &HashMap<String, u64>,
    until: Instant,
) -> Result<(String, bool), PairingProblem> {
    let _need = room.need(Need::Search);
    let (mut nearby, mut adapters) = (room.nearby(), room.adapters());
    let ask_at = Instant::now() + ASK_AFTER;
    let mut away = None;
    loop {
        {
            let things = nearby.borrow_and_update();
            let fresh = |thing: &&Nearby| stale.get(&thing.id).is_none_or(|heard| thing.seen_ms > *heard);
            if let Some(thing) = things.iter().filter(fresh).find(|t| meant(t) == Some(true)) {
                return Ok((thing.id.clone(), true));
            }
            let wrong = things.iter().any(|t| job.nearby.as_ref() == Some(&t.id) && meant(t) == Some(false));
            if wrong && Instant::now() >= ask_at {
                return Err(words::other_device());
            }
            let unknown = things.iter().filter(fresh).find(|t| meant(t).is_none() && !asked.contains(&t.id));
            if let Some(thing) = unknown.filter(|_| Instant::now() >= ask_at && asked.len() < ASKED) {
                return Ok((thing.id.clone(), false));
            }
        }
        let state = adapters.borrow_and_update().state;
        let gone = match (state, away) {
            (AdapterState::Ready, _) => {
                away = None;
                until
            }
            (_, Some(since)) => since,
            (_, None) => *away.insert(Instant::now() + RADIO_AWAY),
        };
        let wake = if Instant::now() < ask_at { ask_at.min(gone) } else { gone.min(until) };
        if Instant::now() >= gone {
            return Err(if state == AdapterState::Ready { words::not_found() } else { words::radio(state) });
        }
        let changed = tokio::select! {
            changed = nearby.changed() => changed,
            changed = adapters.changed() => changed,
            () = sleep_until(wake) => Ok(()),
        };
        changed.map_err(|_| words::internal())?;
    }
}

/// The Wi-Fi that a device gets: what the person has given, or the hub's own where the owners allow it.
pub(super) async fn network<R: Radio>(
    room: &Room<R>,
    given: Option<crate::domain::pairing::Wifi>,
    wants_system: bool,
) -> Result<Option<crate::domain::pairing::Wifi>, PairingProblem> {
    match given {
        Some(wifi) => Ok(Some(wifi)),
        None if wants_system => wifi::secret(&room.service, &room.bus).await.map(Some).map_err(|error| error.explain()),
        None => Ok(None),
    }
}

/// The talk with one device over one link.
struct Conversation<'a, R: Radio> {
    room: &'a Room<R>,
    job: &'a Job,
    cancel: &'a CancellationToken,
    link: R::Link,
    device: &'a DeviceId,
    /// How far the device said it was, last.
    last: Option<(DeviceStep, u64)>,
    /// What is told instead of what the conversation ends with: it knows more.
    better: Option<PairingProblem>,
}

impl<R: Radio> Conversation<'_, R> {
    async fn hold(&mut self, key: PairingKey) -> Result<(), PairingProblem> {
        let service = &self.room.service;
        service.pairing_step(&self.job.id, PairingStep::Proving);
        self.link.listen(&[TX_ID]).await.map_err(|error| words::link(&error))?;
        let mut entropy = [0u8; 32];
        getrandom::fill(&mut entropy).map_err(|_| words::internal())?;
        let began = Instant::now();
        let now = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let opening = Opening { hub: service.hub().id, device: self.device.clone(), key, mtu: self.link.mtu(), entropy };
        let mut pairing = Pairing::start(opening, now());
        entropy.zeroize();
        let (mut linked, mut cancelled) = (true, false);
        let mut said_hello: Option<(Hello, [u8; 32])> = None;
        let mut person: Option<Later<Confirmation>> = None;
        let mut sign_in: Option<Later<bool>> = None;
        loop {
            while let Some(event) = pairing.poll() {
                match event {
                    Event::Write(value) => match self.link.write(RX_ID, &value).await {
                        Ok(()) => pairing.written(now()),
                        Err(error) => {
                            tracing::debug!(%error, "a write to a device failed");
                            // A device that hangs up may have answered before.
                            let end = Instant::now() + LAST_WORDS;
                            while let Ok(Some((_, value))) = timeout_at(end, self.link.next()).await {
                                pairing.received(&value, now());
                            }
                            linked = false;
                            pairing.lost(now());
                        }
                    },
                    Event::Proven => {}
                    Event::Hello { hello, h } => {
                        let verdict = service_verdict(self.room, self.job, &hello, &h, None).await;
                        said_hello = Some((hello, h));
                        person = self.answer(&mut pairing, verdict, now()).await;
                    }
                    Event::Model(model) => {
                        let verdict = match &said_hello {
                            Some((hello, h)) => service_verdict(self.room, self.job, hello, h, Some(&model)).await,
                            None => Err(Refusal::NotFound("hello")),
                        };
                        person = self.answer(&mut pairing, verdict, now()).await;
                    }
                    Event::Sending { sent, total } => {
                        let step = PairingStep::Sending { sent: sent as u64, total: total as u64 };
                        service.pairing_step(&self.job.id, step);
                    }
                    Event::Stored => {
                        service.pairing_step(&self.job.id, PairingStep::Waiting);
                        let (service, id) = (service.clone(), self.job.id.clone());
                        sign_in = Some(Box::pin(async move { service.await_sign_in(&id).await }));
                    }
                    Event::Progress { step, code } => self.progress(step, code),
                    Event::Ended(ending) => {
                        if let Some(said) = pairing.said() {
                            tracing::info!(device = %self.device, said, "a device ended its pairing");
                        }
                        return self.outcome(ending);
                    }
                }
            }
            let wake = began + Duration::from_millis(pairing.deadline().unwrap_or_default());
            tokio::select! {
                () = self.cancel.cancelled(), if !cancelled => {
                    cancelled = true;
                    pairing.cancel(now());
                }
                value = self.link.next(), if linked => match value {
                    Some((_, value)) => pairing.received(&value, now()),
                    None => {
                        linked = false;
                        pairing.lost(now());
                    }
                },
                confirmation = later(&mut person), if person.is_some() => {
                    person = None;
                    self.confirmed(&mut pairing, confirmation, &now).await;
                }
                signed_in = later(&mut sign_in), if sign_in.is_some() => {
                    sign_in = None;
                    if signed_in {
                        pairing.signed_in(now());
                    } else {
                        self.better = Some(words::no_sign_in(self.last));
                        pairing.cancel(now());
                    }
                }
                () = sleep_until(wake) => pairing.tick(now()),
            }
        }
    }

    /// What the hub makes of a hello becomes an answer, or a question to a person.
    async fn answer(&mut self, pairing: &mut Pairing, verdict: Result<PairVerdict, Refusal>, now: u64) -> Option<Later<Confirmation>> {
        match verdict {
            Ok(PairVerdict::WantModel) => pairing.want_model(now),
            Ok(PairVerdict::Deliver(delivery)) => {
                self.deliver(pairing, delivery, self.job.wifi.clone(), self.job.wants_system_wifi, now).await;
            }
            Ok(PairVerdict::Confirm) => {
                pairing.person_asked(now);
                let (service, id) = (self.room.service.clone(), self.job.id.clone());
                return Some(Box::pin(async move { service.pairing_confirmed(&id).await }));
            }
            Ok(PairVerdict::Refuse(code, problem)) => {
                pairing.refuse(code, problem.code, now);
                self.better = Some(problem);
            }
            // It was ended while the hub decided.
            Err(Refusal::NotFound(_)) => pairing.cancel(now),
            Err(error) => {
                tracing::error!(%error, "a hello could not be judged");
                self.better = Some(words::internal());
                pairing.refuse(EndCode::Cancelled, "the hub could not decide", now);
            }
        }
        None
    }

    async fn confirmed(&mut self, pairing: &mut Pairing, confirmation: Confirmation, now: &impl Fn() -> u64) {
        match confirmation {
            Confirmation::Confirmed { delivery, wifi, wants_system_wifi } => {
                self.deliver(pairing, delivery, wifi, wants_system_wifi, now()).await;
            }
            Confirmation::Cancelled => pairing.cancel(now()),
            Confirmation::TimedOut => {
                self.better = Some(words::not_confirmed());
                pairing.refuse(EndCode::TimedOut, "nobody confirmed", now());
            }
        }
    }

    async fn deliver(
        &mut self,
        pairing: &mut Pairing,
        mut delivery: Delivery,
        wifi: Option<crate::domain::pairing::Wifi>,
        wants_system: bool,
        now: u64,
    ) {
        match network(self.room, wifi, wants_system).await {
            Ok(wifi) => {
                delivery.wifi = wifi;
                pairing.deliver(delivery, now);
            }
            Err(problem) => {
                self.better = Some(problem);
                pairing.refuse(EndCode::Cancelled, "no network to hand over", now);
            }
        }
    }

    fn progress(&mut self, step: DeviceStep, code: u64) {
        self.last = Some((step, code));
        let shown = if step == DeviceStep::Joining { PairingStep::Joining } else { PairingStep::Waiting };
        self.room.service.pairing_step(&self.job.id, shown);
    }

    fn outcome(&mut self, ending: Ending) -> Result<(), PairingProblem> {
        match ending {
            Ending::Complete => Ok(()),
            Ending::Failed(fault) => {
                if let PairingFault::Malformed(what) = &fault {
                    tracing::warn!(device = %self.device, what, "a device broke the pairing protocol");
                }
                Err(self.better.take().unwrap_or_else(|| words::fault(&fault, self.last)))
            }
        }
    }
}

async fn service_verdict<R: Radio>(
    room: &Room<R>,
    job: &Job,
    hello: &Hello,
    h: &[u8; 32],
    model: Option<&[u8]>,
) -> Result<PairVerdict, Refusal> {
    room.service.judge_hello(job, hello, h, model).await
}

/// The outcome of something that is waited for; for ever when there is nothing.
async fn later<T>(waits: &mut Option<Later<T>>) -> T {
    match waits {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
