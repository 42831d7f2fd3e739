//! One connection of a device: its room, its twin, its commands, its claim. Signing in and coming back are the
//! device's life around it (`sim::device`).

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::event::{Event, SignIn};
use super::firmware::{Line, fetched};
use super::{Control, Device, DeviceError, End, random};
use crate::sim::mqtt::{self, Client, Message, Publish, Qos};
use crate::sim::things::Outcome;
use crate::sim::tls::Stream;

/// How often the thing moves.
const TICK: Duration = Duration::from_millis(100);
/// Pause before a report that the hub could not take is sent again.
const REPORT_AGAIN: Duration = Duration::from_secs(5);
/// An acknowledgement that takes longer means the connection is of no use.
const ACK_WITHIN: Duration = Duration::from_secs(20);
/// How long a patient device waits for a challenge.
const CHALLENGE_WITHIN: Duration = Duration::from_secs(2);
/// Results kept for the hub.
const RESULTS_KEPT: usize = 32;

/// What of a device's work outlives a connection: results that the hub has not acknowledged, and the command under way.
#[derive(Debug, Default)]
pub(super) struct Work {
    results: VecDeque<Message>,
    /// Id and name of the command that the thing is carrying out.
    running: Option<(String, String)>,
}

pub(super) struct Session<'a> {
    pub(super) device: &'a mut Device,
    pub(super) client: Client<Stream>,
    with: SignIn,
    /// `things/<id>/`
    pub(super) room: String,
    /// The nonce of the last hello.
    nonce: Option<[u8; 32]>,
    twin: Twin,
    /// The result at the head of the queue is on its way under this packet identifier.
    result_sent: Option<(u16, Instant)>,
    last_tick: Instant,
    pub(super) line: Line,
}

/// What the hub knows of the thing.
struct Twin {
    /// What it has acknowledged in this connection.
    known: Map<String, Value>,
    sent: Option<Report>,
    /// Something may have changed since.
    dirty: bool,
    not_before: Instant,
    /// The latest version of a delta that was applied.
    version: u64,
}

struct Report {
    pid: u16,
    at: Instant,
    state: Map<String, Value>,
}

/// Why a step of a session cannot go on.
pub(super) enum Stop {
    Device(DeviceError),
    Link(mqtt::Error),
}

impl<'a> Session<'a> {
    pub(super) fn new(device: &'a mut Device, client: Client<Stream>, with: SignIn) -> Self {
        let room = format!("things/{}/", device.secret.device_id);
        let now = Instant::now();
        let twin = Twin { known: Map::new(), sent: None, dirty: true, not_before: now, version: 0 };
        Self { device, client, with, room, nonce: None, twin, result_sent: None, last_tick: now, line: Line::new() }
    }

    /// Lives until the connection ends or `shutdown`.
    pub(super) async fn run(mut self, shutdown: &CancellationToken) -> Result<End, DeviceError> {
        let settled = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(self.leave().await),
            settled = self.settle_in() => settled,
        };
        let mut ended = match settled {
            Ok(end) => end,
            Err(stop) => return self.stopped(stop),
        };
        let mut controls = self.device.controls.take();
        let mut ticker = interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            if let Some(end) = ended.take() {
                break Ok(end);
            }
            // `next` alone awaits: whatever is dropped by the select loses nothing.
            let step = tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(End::Shutdown),
                control = hand(&mut controls) => self.control(control),
                event = self.client.next() => match event {
                    Ok(event) => self.event(event),
                    Err(error) => Err(Stop::Link(error)),
                },
                piece = fetched(&mut self.line.fetch) => self.firmware_piece(piece),
                _ = ticker.tick() => self.tick(),
            };
            match step.and_then(|end| self.send().map(|()| end)) {
                Ok(end) => ended = end,
                Err(stop) => break Err(stop),
            }
        };
        self.device.controls = controls;
        match end {
            Ok(End::Shutdown) => Ok(self.leave().await),
            Ok(End::Roamed) => {
                self.device.leave_behind(self.client);
                Ok(End::Roamed)
            }
            Ok(End::PowerCut) => Ok(End::PowerCut),
            Ok(end) => {
                let _ = self.client.disconnect(0).await;
                Ok(end)
            }
            Err(stop) => self.stopped(stop),
        }
    }

    /// Takes its place: its room, the twin, and hello when it is not claimed.
    async fn settle_in(&mut self) -> Result<Option<End>, Stop> {
        if self.with == SignIn::Token
            && let Some(challenge) = self.challenge().await?
        {
            return self.rebase(&challenge).await.map(Some);
        }
        let mut filters: Vec<String> =
            ["commands/+", "shadow/update/delta", "shadow/update/rejected", "shadow/get/accepted", "proof/challenge"]
                .iter()
                .map(|filter| format!("{}{filter}", self.room))
                .collect();
        if self.with == SignIn::Token {
            filters.push(format!("{}claim/credential", self.room));
        }
        if self.device.firmware.is_some() {
            filters.extend(Self::FIRMWARE_TOPICS.map(|topic| format!("{}{topic}", self.room)));
        }
        let wanted: Vec<(&str, Qos)> = filters.iter().map(|filter| (filter.as_str(), Qos::AtLeastOnce)).collect();
        let codes = self.client.subscribe(&wanted).await?;
        for (filter, code) in filters.iter().zip(codes) {
            if code >= 0x80 {
                self.line.narrowed = true;
                self.device.tell(Event::SubscriptionRefused { filter: filter.clone(), code });
            }
        }
        self.device.patient = false;
        self.client.start_publish(&Message::new(format!("{}shadow/get", self.room), "{}", Qos::AtLeastOnce))?;
        if self.with == SignIn::Token {
            let nonce = random()?;
            self.nonce = Some(nonce);
            let hello = self.device.keys.hello(&nonce, self.device.flash.resets());
            self.client.start_publish(&Message::new(format!("{}claim/hello", self.room), hello, Qos::AtLeastOnce))?;
            self.device.tell(Event::WaitingToBeClaimed);
        }
        let end = self.firmware_begins()?;
        if end.is_none() {
            self.send()?;
        }
        Ok(end)
    }

    /// Whether this is a re-base session, which only its challenge tells. A hub answers in order, so a challenge comes
    /// before the answer to a ping; a device that was cut off for saying more waits longer the next time.
    async fn challenge(&mut self) -> Result<Option<Publish>, Stop> {
        let filter = format!("{}rebase/challenge", self.room);
        let codes = self.client.subscribe(&[(filter.as_str(), Qos::AtLeastOnce)]).await?;
        if let Some(code) = codes.first().copied().filter(|code| *code >= 0x80) {
            self.device.tell(Event::SubscriptionRefused { filter, code });
            return Ok(None);
        }
        self.client.ping().await?;
        let wait = if self.device.patient { CHALLENGE_WITHIN } else { Duration::ZERO };
        // Until the device has settled in, being cut off counts as having been too hasty.
        self.device.patient = true;
        Ok(self.client.receive(wait).await?)
    }

    /// Answers the challenge, and waits for the hub to end the session.
    async fn rebase(&mut self, challenge: &Publish) -> Result<End, Stop> {
        let device = &mut *self.device;
        device.tell(Event::RebaseAsked);
        let last = device.flash.counter(device.hub_id);
        let (counter, answer) = match device.keys.rebase_answer(&challenge.payload, last) {
            Ok(answer) => answer,
            Err(error) => {
                device.tell(Event::CredentialRefused { reason: error.to_string() });
                return Ok(End::Failed);
            }
        };
        device.flash.set_counter(device.hub_id, counter).map_err(DeviceError::from)?;
        let message = Message::new(format!("{}rebase/response", self.room), answer, Qos::AtLeastOnce);
        let closed = match self.client.publish(&message).await {
            Ok(code) if code >= 0x80 => return Ok(End::Failed),
            Ok(_) => loop {
                match tokio::time::timeout(self.device.step, self.client.next()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => break Some(error),
                    Err(_) => break None,
                }
            },
            Err(error) => Some(error),
        };
        // In MQTT 3.1.1 the stream just ends: whether the answer was taken shows at the next sign-in.
        if let Some(mqtt::Error::Closed(closed)) = &closed
            && closed.code.is_none_or(|code| code == 0x98)
        {
            self.device.tell(Event::Rebased { counter });
            return Ok(End::Failed);
        }
        Ok(End::Failed)
    }

    fn event(&mut self, event: mqtt::Event) -> Result<Option<End>, Stop> {
        match event {
            mqtt::Event::Publish(publish) => self.message(&publish),
            mqtt::Event::PubAck { pid, code } => {
                self.acknowledged(pid, code);
                self.firmware_acknowledged(pid, code)
            }
            _ => Ok(None),
        }
    }

    fn message(&mut self, publish: &Publish) -> Result<Option<End>, Stop> {
        let Some(topic) = publish.topic.strip_prefix(&self.room) else {
            return Ok(None);
        };
        match topic {
            "shadow/update/delta" => self.delta(&publish.payload, &["state"]),
            "shadow/get/accepted" => self.delta(&publish.payload, &["state", "delta"]),
            "shadow/update/rejected" => self.rejected(&publish.payload),
            "claim/credential" => return self.credential(&publish.payload),
            "proof/challenge" => self.still_here(&publish.payload)?,
            _ if Self::FIRMWARE_TOPICS.contains(&topic) => return self.firmware_message(topic, publish),
            _ => {
                if let Some(name) = topic.strip_prefix("commands/") {
                    self.command(name, publish)?;
                }
            }
        }
        Ok(None)
    }

    /// Another has this device's place at the hub, which asks whether this one is still there.
    fn still_here(&mut self, payload: &[u8]) -> Result<(), Stop> {
        let device = &*self.device;
        match device.keys.alive_answer(payload, &device.instance) {
            Ok(answer) => {
                device.tell(Event::PlaceTaken);
                self.client.start_publish(&Message::new(format!("{}proof/response", self.room), answer, Qos::AtMostOnce))?;
            }
            Err(error) => device.tell(Event::CredentialRefused { reason: error.to_string() }),
        }
        Ok(())
    }

    /// Applies what is desired; a delta older than one applied is left alone.
    fn delta(&mut self, payload: &[u8], path: &[&str]) {
        let Ok(document) = serde_json::from_slice::<Value>(payload) else { return };
        let version = document.get("version").and_then(Value::as_u64).unwrap_or(0);
        let delta = path.iter().try_fold(&document, |value, member| value.get(member)).and_then(Value::as_object);
        let Some(delta) = delta.filter(|delta| !delta.is_empty() && version >= self.twin.version) else { return };
        self.twin.version = version;
        self.device.tell(Event::Desired { delta: delta.clone() });
        for refusal in self.device.thing.desired(delta) {
            self.device.tell(Event::DesiredRefused(refusal));
        }
        self.twin.dirty = true;
    }

    fn rejected(&mut self, payload: &[u8]) {
        let document: Value = serde_json::from_slice(payload).unwrap_or_default();
        let code = document.get("code").and_then(Value::as_u64).unwrap_or(0);
        let message = document.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.device.tell(Event::ReportRefused { code, message });
        // Only what may pass is tried again: the same wrong report would be refused for ever.
        if matches!(code, 409 | 429 | 500..) {
            self.twin.known.clear();
            self.again();
        }
    }

    fn again(&mut self) {
        self.twin.dirty = true;
        self.twin.not_before = Instant::now() + REPORT_AGAIN;
    }

    fn credential(&mut self, payload: &[u8]) -> Result<Option<End>, Stop> {
        let device = &mut *self.device;
        let Some(nonce) = self.nonce else { return Ok(None) };
        match device.keys.open_credential(payload, &nonce) {
            Ok(credential) => {
                device.flash.store_pending(device.hub_id, &credential).map_err(DeviceError::from)?;
                device.tell(Event::CredentialStored { claimed_at: credential.claimed_at });
                Ok(Some(End::AtOnce))
            }
            Err(error) => {
                device.tell(Event::CredentialRefused { reason: error.to_string() });
                Ok(None)
            }
        }
    }

    /// Carries a command out, at once and once.
    fn command(&mut self, name: &str, publish: &Publish) -> Result<(), Stop> {
        let device = &mut *self.device;
        let document: Value = serde_json::from_slice(&publish.payload).unwrap_or_default();
        let id = document.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let empty = Map::new();
        let args = document.get("args").and_then(Value::as_object).unwrap_or(&empty);
        let reason = if id.is_empty() || id.len() > 128 {
            Some("it has no id")
        } else if publish.retain {
            Some("a command is never kept for later")
        } else if document.get("expires_ms").and_then(Value::as_u64).is_some_and(expired) {
            Some("it has expired")
        } else if !device.flash.first_time(&id).map_err(DeviceError::from)? {
            Some("it was carried out before")
        } else {
            None
        };
        if let Some(reason) = reason {
            device.tell(Event::CommandIgnored { id, reason });
            return Ok(());
        }
        device.tell(Event::Command { id: id.clone(), name: name.to_owned() });
        let outcome = device.thing.command(name, args);
        // What this command has pushed aside is told first.
        self.finish();
        if outcome == Outcome::Running {
            self.device.work.running = Some((id.clone(), name.to_owned()));
        }
        self.result(&id, name, outcome);
        self.twin.dirty = true;
        Ok(())
    }

    /// Tells the end of the command that was under way, if it has ended.
    fn finish(&mut self) {
        if let Some(outcome) = self.device.thing.finished()
            && let Some((id, name)) = self.device.work.running.take()
        {
            self.result(&id, &name, outcome);
        }
    }

    fn result(&mut self, id: &str, name: &str, outcome: Outcome) {
        let (status, message, result) = match outcome {
            Outcome::Done(result) => ("done", None, Some(result)),
            Outcome::Running => ("running", None, None),
            Outcome::Failed(message) => ("failed", Some(message), None),
        };
        let mut document = Map::from_iter([("id".to_owned(), json!(id)), ("status".to_owned(), json!(status))]);
        document.extend(message.as_ref().map(|message| ("message".to_owned(), json!(message))));
        document.extend(result.map(|result| ("result".to_owned(), result)));
        let topic = format!("{}commands/{name}/result", self.room);
        let results = &mut self.device.work.results;
        if results.len() >= RESULTS_KEPT && self.result_sent.is_none() {
            results.pop_front();
        }
        results.push_back(Message::new(topic, Value::Object(document).to_string(), Qos::AtLeastOnce));
        self.device.tell(Event::CommandResult { id: id.to_owned(), status, message });
    }

    fn control(&mut self, control: Control) -> Result<Option<End>, Stop> {
        let device = &mut *self.device;
        match control {
            Control::Fault(fault, present) => {
                device.thing.fault(fault, present);
                self.twin.dirty = true;
                return Ok(None);
            }
            Control::Reset => device.flash.reset().map_err(DeviceError::from)?,
            Control::LoseFlash => device.flash.lose().map_err(DeviceError::from)?,
            Control::Firmware(fault, present) => {
                if let Some(firmware) = &mut device.firmware {
                    firmware.put(fault, present);
                }
                return Ok(None);
            }
            Control::Reconnect => {}
            Control::Roam => return Ok(Some(End::Roamed)),
        }
        Ok(Some(End::AtOnce))
    }

    /// Lets time pass for the thing, and notices acknowledgements that do not come.
    fn tick(&mut self) -> Result<Option<End>, Stop> {
        let now = Instant::now();
        let passed = now.duration_since(self.last_tick).mul_f64(self.device.speed);
        self.last_tick = now;
        self.twin.dirty |= self.device.thing.tick(passed);
        self.finish();
        let oldest = [self.twin.sent.as_ref().map(|sent| sent.at), self.result_sent.map(|(_, at)| at)];
        if oldest.into_iter().flatten().any(|at| now.duration_since(at) > ACK_WITHIN) {
            return Err(Stop::Link(mqtt::Error::Deadline("PUBACK", ACK_WITHIN)));
        }
        self.firmware_tick(now)
    }

    /// Puts what is to be told into the send buffer: one report and one result at a time, each until it is acknowledged.
    fn send(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        if self.twin.dirty && self.twin.sent.is_none() && now >= self.twin.not_before {
            self.twin.dirty = false;
            let mut state = self.device.thing.reported();
            state.retain(|name, value| self.twin.known.get(name) != Some(value));
            if !state.is_empty() {
                let document = json!({"state": {"reported": state}}).to_string();
                let message = Message::new(format!("{}shadow/update", self.room), document, Qos::AtLeastOnce);
                if let Some(pid) = self.client.start_publish(&message)? {
                    self.twin.sent = Some(Report { pid, at: now, state });
                }
            }
        }
        if self.result_sent.is_none()
            && let Some(message) = self.device.work.results.front()
        {
            self.result_sent = self.client.start_publish(message)?.map(|pid| (pid, now));
        }
        self.firmware_send()
    }

    fn acknowledged(&mut self, pid: u16, code: u8) {
        if let Some(report) = self.twin.sent.take_if(|report| report.pid == pid) {
            if code < 0x80 {
                self.twin.known.extend(report.state.clone());
                self.device.tell(Event::Reported { state: report.state });
            } else {
                self.device.tell(Event::ReportRefused { code: code.into(), message: "refused by PUBACK".into() });
                self.again();
            }
        }
        if self.result_sent.take_if(|(sent, _)| *sent == pid).is_some() {
            self.device.work.results.pop_front();
        }
    }

    async fn leave(self) -> End {
        // It is on its way out: a hub that does not listen any more is none of its concern.
        let _ = self.client.disconnect(0).await;
        End::Shutdown
    }

    fn stopped(self, stop: Stop) -> Result<End, DeviceError> {
        match stop {
            Stop::Device(error) => Err(error),
            Stop::Link(error) => {
                let code = if let mqtt::Error::Closed(closed) = &error { closed.code } else { None };
                self.device.tell(Event::Disconnected { code, reason: error.to_string() });
                Ok(End::Failed)
            }
        }
    }
}

/// The next touch of a hand; none ever when there is no hand (any more).
async fn hand(controls: &mut Option<mpsc::Receiver<Control>>) -> Control {
    if let Some(receiver) = controls {
        if let Some(control) = receiver.recv().await {
            return control;
        }
        *controls = None;
    }
    std::future::pending().await
}

/// Whether a command's time is over. A number too small to be a date is what is left of its life.
fn expired(expires_ms: u64) -> bool {
    const SMALLEST_DATE: u64 = 1_000_000_000_000;
    if expires_ms < SMALLEST_DATE {
        return expires_ms == 0;
    }
    #[expect(clippy::disallowed_methods, reason = "a simulated device has a clock of its own, as a real one may")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() >= u128::from(expires_ms)
}

impl From<mqtt::Error> for Stop {
    fn from(error: mqtt::Error) -> Self {
        Self::Link(error)
    }
}

impl From<DeviceError> for Stop {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}
