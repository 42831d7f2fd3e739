//! The hub's side of one pairing, from Noise message 1 to the device's sign-in. Inputs are what the radio brings, what the hub decides and how
//! late it is; after each of them, [`Pairing::poll`] says what to write and what has happened, until it says nothing more.
//!
//! ```text
//! Proving ─ message 2 ─► Greeting ─ hello ─► Judging ─ deliver ─► Storing ─ stored ─► SigningIn ─ signed_in ─► Parting ─► Ended
//!                                             │   ▲
//!                                  want_model ▼   │ the last part
//!                                             Asking                     (whatever fails goes to Parting, or straight to Ended)
//! ```

use std::collections::VecDeque;

use zeroize::Zeroize;

use super::frame::{Reassembler, fragments, value_max};
use super::limits::{ANSWER_MS, FRAGMENT_MS, HELLO_MS, MESSAGES_MAX, PARTING_MS, PERSON_MS, SIGN_IN_MS, WHOLE_MS};
use super::message::{Delivery, DeliveryError, DeviceStep, EndCode, Hello, Message};
use super::noise::{Channel, Initiator};
use crate::domain::ids::{DeviceId, HubId};
use crate::domain::keys::PairingKey;

/// What a pairing begins with. The link is connected, and notifications are on.
pub struct Opening {
    /// This hub.
    pub hub: HubId,
    /// The device that is meant.
    pub device: DeviceId,
    /// By its label.
    pub key: PairingKey,
    /// The ATT MTU of the link.
    pub mtu: u16,
    /// 32 fresh random bytes, for this pairing alone.
    pub entropy: [u8; 32],
}

/// What has happened, or is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Write this to RX, with response, then call [`Pairing::written`]. There is never more than one under way.
    Write(Vec<u8>),
    /// The device knows the code.
    Proven,
    /// The device has introduced itself. Answer with [`Pairing::want_model`], [`Pairing::deliver`] or [`Pairing::refuse`].
    Hello {
        /// What it says.
        hello: Hello,
        /// The handshake hash, over which its tag is made.
        h: [u8; 32],
    },
    /// The whole model part, as it was asked for. Answer with [`Pairing::deliver`] or [`Pairing::refuse`].
    Model(Vec<u8>),
    /// How much of the credential has been written, in bytes.
    Sending {
        /// So much.
        sent: usize,
        /// Of so much.
        total: usize,
    },
    /// The device has stored the credential and goes to sign in. From here on the link may be lost.
    Stored,
    /// How far the device is.
    Progress {
        /// What it does.
        step: DeviceStep,
        /// 0 when it has begun, 1 or more when it has failed.
        code: u64,
    },
    /// It is over, and nothing comes after. Disconnect.
    Ended(Ending),
}

/// How a pairing has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The device has signed in.
    Complete,
    /// It has not; both sides are as they were.
    Failed(PairingFault),
}

/// Why a pairing has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairingFault {
    /// The device did not take the greeting, or its answer does not fit: it has another code, or is another device.
    #[error("the device does not have this code")]
    WrongCode,
    /// The device broke the protocol.
    #[error("the device said what it should not: {0}")]
    Malformed(String),
    /// Something did not come in time.
    #[error("it took too long: {0}")]
    TimedOut(Phase),
    /// One side has ended it.
    #[error("{} has refused ({code:?})", if *by_device { "the device" } else { "the hub" })]
    Refused {
        /// Why.
        code: EndCode,
        /// Whether it was the device.
        by_device: bool,
    },
    /// What the hub wanted to hand over does not fit.
    #[error(transparent)]
    Undeliverable(#[from] DeliveryError),
    /// The link broke.
    #[error("the connection to the device broke")]
    Lost,
    /// A person here has cancelled it.
    #[error("it was cancelled")]
    Cancelled,
}

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The device's proof that it knows the code.
    Proof,
    /// The device's introduction.
    Hello,
    /// What the hub makes of it.
    Decision,
    /// A person's confirmation.
    Person,
    /// The model part.
    Model,
    /// The word that the credential is stored.
    Stored,
    /// The device's sign-in.
    SignIn,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Proof => "the device did not answer",
            Self::Hello => "the device did not introduce itself",
            Self::Decision => "the hub did not decide",
            Self::Person => "nobody confirmed",
            Self::Model => "the device did not send its model",
            Self::Stored => "the device did not say that it stored the credential",
            Self::SignIn => "the device did not sign in",
        })
    }
}

enum Stage {
    /// Noise message 1 is under way or written.
    Proving(Initiator),
    Greeting,
    /// The hub's turn, and since when a person is asked.
    Judging(Option<u64>),
    /// The model part, as far as it has come.
    Asking(Vec<u8>),
    Storing,
    SigningIn,
    /// The last message is being written; what it says is decided.
    Parting(Ending),
    Ended,
}

/// A value that waits to be written.
struct Outgoing {
    value: Vec<u8>,
    /// Whether it is part of the credential, whose progress is told.
    credential: bool,
}

/// The hub's side of one pairing. Once it has ended, it holds no secret any more.
pub struct Pairing {
    hub: HubId,
    device: DeviceId,
    /// Bytes in a value.
    room: usize,
    stage: Stage,
    channel: Option<Channel>,
    incoming: Reassembler,
    outgoing: VecDeque<Outgoing>,
    /// The value that was handed out and is not yet acknowledged: its length, and whether it is part of the credential.
    in_flight: Option<(usize, bool)>,
    events: VecDeque<Event>,
    linked: bool,
    /// Of the hello.
    model_len: usize,
    /// Of the credential: written, in all.
    progress: (usize, usize),
    /// The latest time that was told.
    now: u64,
    /// When the present stage is over, where it has an end of its own.
    until: u64,
    /// When all has to be stored.
    whole_until: u64,
    /// What is left of the person's time.
    person_left: u64,
    sent: u64,
    received: u64,
    said: Option<String>,
}

impl Pairing {
    /// Begins with Noise message 1. `now` is in milliseconds of a clock that never goes back, here and below.
    #[must_use]
    pub fn start(opening: Opening, now: u64) -> Self {
        let Opening { hub, device, key, mtu, mut entropy } = opening;
        let greeting = Initiator::greet(&key, &hub, &device, entropy);
        entropy.zeroize();
        let mut pairing = Self {
            hub,
            device,
            room: value_max(mtu),
            stage: Stage::Ended,
            channel: None,
            incoming: Reassembler::new(),
            outgoing: VecDeque::new(),
            in_flight: None,
            events: VecDeque::new(),
            linked: true,
            model_len: 0,
            progress: (0, 0),
            now,
            until: now.saturating_add(HELLO_MS),
            whole_until: now.saturating_add(WHOLE_MS),
            person_left: PERSON_MS,
            sent: 0,
            received: 0,
            said: None,
        };
        match greeting {
            Ok((initiator, message)) => {
                pairing.stage = Stage::Proving(initiator);
                pairing.queue(&message, false);
            }
            Err(error) => pairing.finish(Ending::Failed(PairingFault::Malformed(error.to_string()))),
        }
        pairing
    }

    /// A notification came on TX.
    pub fn received(&mut self, value: &[u8], now: u64) {
        self.tick(now);
        if !self.linked || matches!(self.stage, Stage::Parting(_) | Stage::Ended) {
            return;
        }
        self.received = self.received.saturating_add(value.len() as u64);
        self.until = match self.stage {
            Stage::SigningIn => self.until,
            _ => self.until.saturating_add(FRAGMENT_MS),
        };
        match self.incoming.push(value) {
            Ok(None) => {}
            Ok(Some(message)) => self.message(&message),
            Err(error) => self.malformed(error.to_string()),
        }
    }

    /// The last [`Event::Write`] was acknowledged.
    pub fn written(&mut self, now: u64) {
        self.tick(now);
        let Some((length, credential)) = self.in_flight.take() else { return };
        if credential && matches!(self.stage, Stage::Storing) {
            self.progress.0 += length;
            let (sent, total) = self.progress;
            self.events.push_back(Event::Sending { sent, total });
        }
        if self.outgoing.is_empty()
            && let Stage::Parting(ending) = &self.stage
        {
            self.finish(ending.clone());
        }
    }

    /// Answers the hello: the hub wants the model part. When the device has none, [`Event::Model`] comes at once, and empty.
    pub fn want_model(&mut self, now: u64) {
        if !self.judged(now) {
            return;
        }
        if self.model_len == 0 {
            self.events.push_back(Event::Model(Vec::new()));
        } else {
            self.ask_for_more(Vec::with_capacity(self.model_len));
        }
    }

    /// Answers the hello: the hub takes the device.
    pub fn deliver(&mut self, delivery: Delivery, now: u64) {
        if !self.judged(now) {
            return;
        }
        let fits = if delivery.hub == self.hub { delivery.check() } else { Err(DeliveryError::OtherHub) };
        if let Err(error) = fits {
            return self.part(EndCode::Cancelled, "the hub cannot hand over its credential", error.into());
        }
        self.stage = Stage::Storing;
        self.say(&Message::Credential(delivery), true);
        let total = self.outgoing.iter().filter(|o| o.credential).map(|o| o.value.len()).sum();
        self.progress = (0, total);
        if matches!(self.stage, Stage::Storing) {
            self.events.push_back(Event::Sending { sent: 0, total });
        }
    }

    /// Answers the hello: the hub does not take the device. `text` is for the device's log, and is cut to 100 characters.
    pub fn refuse(&mut self, code: EndCode, text: &str, now: u64) {
        self.tick(now);
        self.part(code, text, PairingFault::Refused { code, by_device: false });
    }

    /// A person is being asked; that time does not count, up to [`PERSON_MS`] in all.
    pub fn person_asked(&mut self, now: u64) {
        self.tick(now);
        if let Stage::Judging(asked @ None) = &mut self.stage {
            *asked = Some(self.now);
        }
    }

    /// The device has signed in with what it was given: the pairing is complete, whatever becomes of the link.
    pub fn signed_in(&mut self, now: u64) {
        self.now = self.now.max(now);
        // The device may have been quicker than the radio.
        if matches!(self.stage, Stage::Storing) {
            self.events.push_back(Event::Stored);
            self.stage = Stage::SigningIn;
        }
        if matches!(self.stage, Stage::SigningIn) {
            self.part_with(&Message::Complete, Ending::Complete);
        }
    }

    /// A person here does not want it any more.
    pub fn cancel(&mut self, now: u64) {
        self.tick(now);
        self.part(EndCode::Cancelled, "", PairingFault::Cancelled);
    }

    /// The link is gone. Before *stored* that is the end; after it, the device's sign-in is waited for all the same.
    pub fn lost(&mut self, now: u64) {
        self.tick(now);
        let greeted = self.outgoing.is_empty();
        self.linked = false;
        self.outgoing.clear();
        self.in_flight = None;
        let ending = match &self.stage {
            Stage::Ended => return,
            Stage::SigningIn => {
                self.channel = None;
                return;
            }
            Stage::Parting(ending) => ending.clone(),
            // A device that cannot read the greeting hangs up.
            Stage::Proving(_) if greeted => Ending::Failed(PairingFault::WrongCode),
            _ => Ending::Failed(PairingFault::Lost),
        };
        self.finish(ending);
    }

    /// Time has passed. To be called at [`Pairing::deadline`]; every other input looks at the time as well.
    pub fn tick(&mut self, now: u64) {
        self.now = self.now.max(now);
        if self.deadline().is_none_or(|deadline| self.now < deadline) {
            return;
        }
        let phase = match &self.stage {
            Stage::Ended => return,
            Stage::Parting(ending) => return self.finish(ending.clone()),
            Stage::Proving(_) => Phase::Proof,
            Stage::Greeting => Phase::Hello,
            Stage::Judging(None) => Phase::Decision,
            Stage::Judging(Some(_)) => Phase::Person,
            Stage::Asking(_) => Phase::Model,
            Stage::Storing => Phase::Stored,
            Stage::SigningIn => Phase::SignIn,
        };
        self.part(EndCode::TimedOut, "", PairingFault::TimedOut(phase));
    }

    /// What is to be done next, or has happened. `None` until the next input.
    pub fn poll(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.in_flight.is_some() {
            return None;
        }
        let Outgoing { value, credential } = self.outgoing.pop_front()?;
        self.in_flight = Some((value.len(), credential));
        self.sent = self.sent.saturating_add(value.len() as u64);
        Some(Event::Write(value))
    }

    /// When [`Pairing::tick`] is due, in the milliseconds of `now`. `None` when it has ended.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match self.stage {
            Stage::Ended => None,
            Stage::Judging(Some(asked)) => Some(asked.saturating_add(self.person_left)),
            Stage::Judging(None) => Some(self.whole_until),
            Stage::SigningIn | Stage::Parting(_) => Some(self.until),
            Stage::Proving(_) | Stage::Greeting | Stage::Asking(_) | Stage::Storing => Some(self.until.min(self.whole_until)),
        }
    }

    /// Bytes of all values handed out to be written.
    #[must_use]
    pub const fn bytes_sent(&self) -> u64 {
        self.sent
    }

    /// Bytes of all values that came.
    #[must_use]
    pub const fn bytes_received(&self) -> u64 {
        self.received
    }

    /// What the device said when it ended the pairing, for a log: at most 100 characters, none of them a control character.
    #[must_use]
    pub fn said(&self) -> Option<&str> {
        self.said.as_deref()
    }

    /// Whether nothing is left that could be told or read.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        matches!(self.stage, Stage::Ended) && self.channel.is_none() && self.outgoing.is_empty() && !self.incoming.is_under_way()
    }

    /// Whether it is the hub's turn. With its answer the person's time is over.
    fn judged(&mut self, now: u64) -> bool {
        self.tick(now);
        let Stage::Judging(asked) = &mut self.stage else { return false };
        if let Some(asked) = asked.take() {
            let taken = self.now.saturating_sub(asked).min(self.person_left);
            self.person_left -= taken;
            self.whole_until = self.whole_until.saturating_add(taken);
        }
        true
    }

    /// A whole message has come.
    fn message(&mut self, bytes: &[u8]) {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Proving(initiator) if self.outgoing.is_empty() => match initiator.proven(bytes) {
                Ok(channel) => {
                    self.channel = Some(channel);
                    self.stage = Stage::Greeting;
                    self.events.push_back(Event::Proven);
                }
                Err(_) => self.finish(Ending::Failed(PairingFault::WrongCode)),
            },
            stage => {
                self.stage = stage;
                match self.open(bytes) {
                    Ok(Message::End(code, text)) => self.ended_by_device(code, &text),
                    // Nobody answers what is not yet said.
                    Ok(_) if !self.outgoing.is_empty() => self.malformed("an answer before the question was whole".into()),
                    Ok(message) => self.take(message),
                    Err(reason) => self.malformed(reason),
                }
            }
        }
    }

    fn open(&mut self, bytes: &[u8]) -> Result<Message, String> {
        let channel = self.channel.as_mut().ok_or("an answer before the question was whole")?;
        if channel.counts().1 >= MESSAGES_MAX {
            return Err("more than 64 messages".into());
        }
        let plaintext = channel.open(bytes).map_err(|e| e.to_string())?;
        Message::decode(&plaintext).map_err(|e| e.to_string())
    }

    fn take(&mut self, message: Message) {
        match (std::mem::replace(&mut self.stage, Stage::Ended), message) {
            (Stage::Greeting, Message::Hello(hello)) if hello.device == self.device => {
                let Some(h) = self.channel.as_ref().map(Channel::h) else { return };
                self.model_len = hello.model_len;
                self.stage = Stage::Judging(None);
                self.events.push_back(Event::Hello { hello, h });
            }
            (Stage::Asking(mut part), Message::ModelPart(offset, bytes))
                if offset == part.len() as u64 && part.len() + bytes.len() <= self.model_len =>
            {
                part.extend(bytes);
                if part.len() < self.model_len {
                    self.ask_for_more(part);
                } else {
                    self.stage = Stage::Judging(None);
                    self.events.push_back(Event::Model(part));
                }
            }
            (Stage::Storing, Message::Stored) => {
                self.stage = Stage::SigningIn;
                self.until = self.now.saturating_add(SIGN_IN_MS);
                self.events.push_back(Event::Stored);
            }
            (Stage::SigningIn, Message::Progress(step, code)) => {
                self.stage = Stage::SigningIn;
                self.events.push_back(Event::Progress { step, code });
            }
            (stage, message) => {
                self.stage = stage;
                self.malformed(format!("{} where it was not due", name(&message)));
            }
        }
    }

    fn ask_for_more(&mut self, part: Vec<u8>) {
        let offset = part.len() as u64;
        self.stage = Stage::Asking(part);
        self.say(&Message::WantModel(offset), false);
    }

    /// Says something that an answer is due to.
    fn say(&mut self, message: &Message, credential: bool) {
        match self.sealed(message) {
            Some(sealed) => {
                self.until = self.now.saturating_add(ANSWER_MS);
                self.queue(&sealed, credential);
            }
            None => self.malformed("more than 64 messages".into()),
        }
    }

    fn sealed(&mut self, message: &Message) -> Option<Vec<u8>> {
        let channel = self.channel.as_mut().filter(|channel| channel.counts().0 < MESSAGES_MAX)?;
        channel.seal(&message.encode()).ok()
    }

    fn queue(&mut self, message: &[u8], credential: bool) {
        let values = fragments(message, self.room).unwrap_or_default();
        self.until = self.until.saturating_add(FRAGMENT_MS.saturating_mul(values.len() as u64));
        self.outgoing.extend(values.into_iter().map(|value| Outgoing { value, credential }));
    }

    fn ended_by_device(&mut self, code: EndCode, text: &str) {
        self.said = Some(text.chars().filter(|c| !c.is_control()).collect());
        self.finish(Ending::Failed(PairingFault::Refused { code, by_device: true }));
    }

    fn malformed(&mut self, reason: String) {
        self.part(EndCode::Malformed, &reason, PairingFault::Malformed(reason.clone()));
    }

    fn part(&mut self, code: EndCode, text: &str, fault: PairingFault) {
        if !matches!(self.stage, Stage::Parting(_) | Stage::Ended) {
            self.part_with(&Message::end(code, text), Ending::Failed(fault));
        }
    }

    /// Says one thing more when it can be said, and ends. What is half said stays so: the device drops it with the link.
    fn part_with(&mut self, message: &Message, ending: Ending) {
        let sealed = if self.linked && self.outgoing.is_empty() { self.sealed(message) } else { None };
        self.channel = None;
        self.incoming = Reassembler::new();
        match sealed {
            Some(sealed) => {
                self.stage = Stage::Parting(ending);
                self.queue(&sealed, false);
                self.until = self.now.saturating_add(PARTING_MS);
            }
            None => self.finish(ending),
        }
    }

    fn finish(&mut self, ending: Ending) {
        self.stage = Stage::Ended;
        self.channel = None;
        self.incoming = Reassembler::new();
        self.outgoing.clear();
        self.in_flight = None;
        self.events.push_back(Event::Ended(ending));
    }
}

const fn name(message: &Message) -> &'static str {
    match message {
        Message::Hello(_) => "a hello",
        Message::WantModel(_) => "a wish for the model",
        Message::ModelPart(..) => "a part of the model",
        Message::Credential(_) => "a credential",
        Message::Stored => "stored",
        Message::Progress(..) => "progress",
        Message::End(..) => "an end",
        Message::Complete => "complete",
    }
}
