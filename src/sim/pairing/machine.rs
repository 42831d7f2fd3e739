//! The device's part in a pairing, without a clock, a radio or a network (pairing.md §1, §3, §5, §7): what happens to it
//! goes in, what it does comes out of [`Machine::poll`]. Times are milliseconds of a clock that never goes back.

use std::collections::VecDeque;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Told;
use super::fault::{At, Fault};
use super::frame::{Assembler, cut, value_max};
use super::message::{self, Delivery, EndCode, FromHub, Hello, Step, Wifi};
use super::noise::{Responder, Transport};
use crate::sim::identity::{DeviceSecret, HubId};
use crate::sim::tls::Address;

const WINDOW: u64 = 15 * 60_000;
const HANDSHAKE: u64 = 40_000;
/// Up to *stored*, with the time a person may take, and a little for the radio.
const UP_TO_STORED: u64 = 310_000;
const ATTEMPT: u64 = 150_000;
const COMPLETE: u64 = 30_000;
const LONGEST_PAUSE: u64 = 60_000;
const FAILURES: u32 = 10;
const MESSAGES: u32 = 64;
/// How long a slow device thinks before each fragment.
const SLOW: Duration = Duration::from_millis(400);

/// What a device is, for pairing.
#[derive(Debug)]
pub struct Setup {
    /// What it was born with.
    pub secret: DeviceSecret,
    /// Version of its firmware, at most 64 characters.
    pub firmware: String,
    /// What it shows of its maker: empty, or as [`message::voucher_parts`] gives it.
    pub voucher: Vec<u8>,
    /// The same of its model.
    pub model: Vec<u8>,
    /// How many bytes of it go into a message, at most [`message::MODEL_PART`]: what a small memory allows.
    pub model_piece: usize,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// What the device is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Notify this value on TX.
    Notify(Vec<u8>),
    /// Wait before the next notification.
    Pause(Duration),
    /// End the connection.
    Disconnect,
    /// What it advertises has changed.
    Advertise,
    /// Store this beside what it has; answered by [`Machine::stored`].
    Store(Box<Delivery>),
    /// Leave the network and join this one, or stay; answered by [`Machine::joined`].
    Join(Option<Wifi>),
    /// Sign in at these addresses with what was stored for this hub; answered by [`Machine::signing_in`], until it is
    /// accepted or [`Output::RollBack`] comes.
    SignIn(HubId, Vec<Address>),
    /// Forget what was stored for this hub, and be as before.
    RollBack(HubId),
    /// Something happened that a watcher may know.
    Tell(Told),
}

/// How joining a network went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// It is there.
    Well,
    /// No such network.
    NotFound,
    /// The passphrase is refused.
    Refused,
}

/// How signing in goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningIn {
    /// Nobody answers at an address.
    Unreachable,
    /// The certificate is not under the pinned CA.
    CertificateRefused,
    /// The hub has answered, and is asked.
    Asking,
    /// The hub does not take the password.
    PasswordRefused,
    /// CONNACK; what was stored is the device's own now.
    Accepted,
}

/// See the module.
pub struct Machine {
    setup: Setup,
    psk: Zeroizing<[u8; 32]>,
    resets: u64,
    claimed: bool,
    window: Option<u64>,
    salt: [u8; 4],
    link: Option<Connection>,
    /// Whose credential is being written to the flash.
    storing: Option<HubId>,
    attempt: Option<Attempt>,
    failures: u32,
    not_before: u64,
    outputs: VecDeque<Output>,
}

struct Connection {
    most: usize,
    incoming: Assembler,
    phase: Phase,
    until: u64,
    heard: u32,
    said: u32,
}

enum Phase {
    /// Waits for message 1.
    Handshake(Box<Responder>),
    /// Has said hello.
    Open(Box<Transport>, HubId),
    /// The credential is being stored.
    Storing(Box<Transport>, Box<Delivery>),
    /// Has said *stored*.
    Stored(Box<Transport>),
    /// Nothing more is said or heard.
    Over,
}

/// What goes on after *stored*, with a connection or without.
struct Attempt {
    hub: HubId,
    addresses: Vec<Address>,
    until: u64,
    told: Option<(Step, u8)>,
}

impl Machine {
    /// A device with its window closed. `claimed`: some hub has it.
    pub fn new(setup: Setup, resets: u64, claimed: bool) -> Self {
        let psk = setup.secret.pairing_key();
        Self {
            setup,
            psk,
            resets,
            claimed,
            window: None,
            salt: [0; 4],
            link: None,
            storing: None,
            attempt: None,
            failures: 0,
            not_before: 0,
            outputs: VecDeque::new(),
        }
    }

    /// The button: opens the window for 15 minutes, with a new salt.
    pub fn open_window(&mut self, salt: [u8; 4], now: u64) {
        self.window = Some(now.saturating_add(WINDOW));
        self.salt = salt;
        self.failures = 0;
        self.not_before = 0;
        self.tell(Told::WindowOpen);
        self.outputs.push_back(Output::Advertise);
    }

    /// Closes the window; a pairing under way goes on.
    pub fn close_window(&mut self) {
        if self.window.take().is_some() {
            self.tell(Told::WindowClosed);
            self.outputs.push_back(Output::Advertise);
        }
    }

    /// It was reset by hand: no hub has it, and what was tried is dropped.
    pub fn reset(&mut self, resets: u64) {
        self.resets = resets;
        self.claimed = false;
        self.hang_up();
        if let Some(attempt) = self.attempt.take() {
            self.outputs.push_back(Output::RollBack(attempt.hub));
        }
    }

    /// A credential was stored before the power went: it is tried again, as the hub may have recorded the claim.
    pub fn resume(&mut self, hub: HubId, addresses: Vec<Address>, now: u64) {
        let attempt = Attempt { hub, addresses: addresses.clone(), until: now.saturating_add(ATTEMPT), told: None };
        self.attempt = Some(attempt);
        self.outputs.push_back(Output::SignIn(hub, addresses));
    }

    /// INFO, and the service data of the advertisement.
    pub fn info(&self) -> [u8; 12] {
        let version = if self.setup.fault == Some(Fault::UnknownVersion) { 2 } else { 1 };
        let state = match (self.window, self.claimed) {
            (None, _) => 0,
            (Some(_), false) => 1,
            (Some(_), true) => 2,
        };
        // HMAC takes a key of any length, so the error cannot occur.
        let mac = Hmac::<Sha256>::new_from_slice(self.psk.as_slice())
            .map(|mac| mac.chain_update(b"hearthkey short v1").chain_update(self.salt).finalize().into_bytes());
        let short = mac.unwrap_or_default();
        let mut info = [0; 12];
        let bytes = [version, state].into_iter().chain(self.salt).chain(short);
        info.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        info
    }

    /// Whether it advertises, and takes a connection.
    pub fn connectable(&self, now: u64) -> bool {
        self.window.is_some() && self.attempt.is_none() && self.link.is_none() && now >= self.not_before
    }

    /// A hub connects; `ephemeral` are 32 random bytes. False: it takes no connection now.
    pub fn connected(&mut self, mtu: u16, ephemeral: &[u8; 32], now: u64) -> bool {
        if self.link.is_some() || self.attempt.is_some() || now < self.not_before {
            return false;
        }
        let prologue = message::prologue(&self.setup.secret.device_id);
        let mut psk = self.psk.clone();
        if self.setup.fault == Some(Fault::WrongCode) {
            psk.iter_mut().for_each(|byte| *byte = !*byte);
        }
        let phase = Phase::Handshake(Box::new(Responder::new(&psk, &prologue, ephemeral)));
        let until = now.saturating_add(HANDSHAKE);
        let connection = Connection { most: value_max(mtu), incoming: Assembler::default(), phase, until, heard: 0, said: 0 };
        self.link = Some(connection);
        self.tell(Told::Connected);
        if self.setup.fault == Some(Fault::Drop(At::Connect)) {
            self.hang_up();
        }
        true
    }

    /// The hub wrote a value to RX.
    pub fn written(&mut self, value: &[u8], now: u64) {
        let Some(link) = self.link.as_mut() else { return };
        if matches!(link.phase, Phase::Over) || self.setup.fault == Some(Fault::Silent) {
            return;
        }
        let message = match link.incoming.push(value, link.most) {
            Ok(None) => return,
            Ok(Some(message)) => message,
            Err(broken) => {
                return match link.phase {
                    Phase::Handshake(_) => self.handshake_failed(now),
                    _ => self.end(EndCode::Malformed, broken.0),
                };
            }
        };
        link.heard += 1;
        let too_many = link.heard > MESSAGES + 1;
        match std::mem::replace(&mut link.phase, Phase::Over) {
            Phase::Handshake(responder) => self.handshake(*responder, &message, now),
            Phase::Over => {}
            Phase::Open(mut transport, hub) => {
                let opened = transport.open(&message);
                link.phase = Phase::Open(transport, hub);
                self.heard(opened.ok().as_deref().filter(|_| !too_many).map(Vec::as_slice), now);
            }
            Phase::Storing(mut transport, delivery) => {
                let opened = transport.open(&message);
                link.phase = Phase::Storing(transport, delivery);
                self.heard(opened.ok().as_deref().filter(|_| !too_many).map(Vec::as_slice), now);
            }
            Phase::Stored(mut transport) => {
                let opened = transport.open(&message);
                link.phase = Phase::Stored(transport);
                self.heard(opened.ok().as_deref().filter(|_| !too_many).map(Vec::as_slice), now);
            }
        }
    }

    /// The connection is gone; `salt` is for what is advertised from now on.
    pub fn disconnected(&mut self, salt: [u8; 4]) {
        if self.link.take().is_some() {
            self.salt = salt;
            self.outputs.retain(|output| !matches!(output, Output::Notify(_) | Output::Pause(_) | Output::Disconnect));
            self.tell(Told::Disconnected);
            self.outputs.push_back(Output::Advertise);
        }
    }

    /// What became of [`Output::Store`].
    pub fn stored(&mut self, well: bool, now: u64) {
        let Some(hub) = self.storing.take() else { return };
        let written = self.link.as_mut().and_then(|link| match std::mem::replace(&mut link.phase, Phase::Over) {
            Phase::Storing(transport, delivery) => {
                link.phase = Phase::Stored(transport);
                Some((link, delivery))
            }
            other => {
                link.phase = other;
                None
            }
        });
        // The pairing ended meanwhile: the hub was not told, and does not wait for anybody to sign in.
        let Some((link, delivery)) = written else {
            self.outputs.push_back(Output::RollBack(hub));
            return self.tell(Told::RolledBack { why: "the pairing ended before it was stored" });
        };
        if !well {
            return self.end(EndCode::NotStored, "the credential could not be stored");
        }
        link.until = now.saturating_add(ATTEMPT + COMPLETE);
        let Delivery { hub, addresses, wifi, .. } = *delivery;
        self.tell(Told::Stored { hub });
        self.attempt = Some(Attempt { hub, addresses, until: now.saturating_add(ATTEMPT), told: None });
        match self.setup.fault {
            Some(Fault::Drop(At::Stored)) => self.hang_up(),
            fault => {
                self.say(&message::stored());
                if fault == Some(Fault::Drop(At::SignIn)) {
                    return self.hang_up();
                }
            }
        }
        let joins = wifi.is_some();
        if joins {
            self.progress(Step::Joining, 0);
        }
        match self.setup.fault {
            Some(Fault::WifiRefused) if joins => self.joined(Joined::Refused),
            Some(Fault::WifiNotFound) if joins => self.joined(Joined::NotFound),
            _ => self.outputs.push_back(Output::Join(wifi)),
        }
    }

    /// What became of [`Output::Join`].
    pub fn joined(&mut self, joined: Joined) {
        let Some(attempt) = &self.attempt else { return };
        let sign_in = Output::SignIn(attempt.hub, attempt.addresses.clone());
        match joined {
            Joined::Well => {
                self.progress(Step::Looking, 0);
                self.outputs.push_back(sign_in);
            }
            Joined::NotFound => {
                self.progress(Step::Joining, 2);
                self.roll_back(EndCode::NetworkFails, "the network is not in reach");
            }
            Joined::Refused => {
                self.progress(Step::Joining, 3);
                self.roll_back(EndCode::NetworkFails, "the network refuses the passphrase");
            }
        }
    }

    /// How [`Output::SignIn`] goes. [`SigningIn::Accepted`] completes the pairing.
    pub fn signing_in(&mut self, how: SigningIn, now: u64) {
        let Some(attempt) = &self.attempt else { return };
        match how {
            SigningIn::Unreachable => self.progress(Step::Looking, 1),
            SigningIn::CertificateRefused => self.progress(Step::SigningIn, 2),
            SigningIn::Asking => self.progress(Step::SigningIn, 0),
            SigningIn::PasswordRefused => {
                self.progress(Step::SigningIn, 3);
                self.roll_back(EndCode::NotTrusted, "the hub refuses the password");
            }
            SigningIn::Accepted => {
                let hub = attempt.hub;
                self.attempt = None;
                self.claimed = true;
                self.failures = 0;
                if let Some(link) = &mut self.link {
                    link.until = now.saturating_add(COMPLETE);
                }
                self.tell(Told::Paired { hub });
                self.close_window();
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) {
        if self.window.is_some_and(|until| now >= until) {
            self.close_window();
        }
        if self.attempt.as_ref().is_some_and(|attempt| now >= attempt.until) {
            self.roll_back(EndCode::TimedOut, "no sign-in came about within 150 s");
        }
        if let Some(link) = self.link.as_ref().filter(|link| now >= link.until) {
            match link.phase {
                Phase::Over => {}
                // It never heard the end, and has nothing to say.
                Phase::Handshake(_) => self.hang_up(),
                Phase::Stored(_) if self.attempt.is_none() => self.hang_up(),
                _ => self.end(EndCode::TimedOut, "the hub does not go on"),
            }
        }
        if self.not_before != 0 && now >= self.not_before {
            self.not_before = 0;
            self.outputs.push_back(Output::Advertise);
        }
    }

    /// When to tick.
    pub fn deadline(&self) -> Option<u64> {
        let link = self.link.as_ref().filter(|link| !matches!(link.phase, Phase::Over)).map(|link| link.until);
        let pause = (self.not_before != 0).then_some(self.not_before);
        [self.window, link, self.attempt.as_ref().map(|attempt| attempt.until), pause].into_iter().flatten().min()
    }

    /// The next thing to do; called until there is nothing after each input.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn handshake(&mut self, responder: Responder, message: &[u8], now: u64) {
        if self.setup.fault == Some(Fault::Drop(At::Handshake)) {
            return self.hang_up();
        }
        let answered = responder.answer(message).ok();
        let Some((answer, transport, hub)) =
            answered.and_then(|(payload, answer, transport)| Some((answer, transport, message::opening(&payload)?)))
        else {
            return self.handshake_failed(now);
        };
        self.send(&answer);
        let h = transport.h;
        let Some(link) = self.link.as_mut() else { return };
        link.phase = Phase::Open(Box::new(transport), hub);
        link.until = now.saturating_add(UP_TO_STORED);
        match self.setup.fault {
            _ if self.window.is_none() => return self.end(EndCode::WindowClosed, "press the button of the device first"),
            Some(Fault::Drop(At::Hello)) => return self.hang_up(),
            _ => {}
        }
        let Setup { secret, firmware, voucher, model, fault, .. } = &self.setup;
        let mut tag = secret.for_hub(hub).pair_tag(&h, self.resets, firmware);
        if *fault == Some(Fault::Clone) {
            tag.iter_mut().for_each(|byte| *byte = !*byte);
        }
        let hello = Hello {
            device_id: &secret.device_id,
            brand: &secret.brand,
            model: &secret.model,
            hardware: &secret.hardware,
            firmware,
            resets: (*fault != Some(Fault::OldFirmware)).then_some(self.resets),
            voucher,
            model_len: model.len(),
            tag,
        };
        let hello = hello.encode();
        let gap = *fault == Some(Fault::FragmentGap);
        let before = self.outputs.len();
        self.say(&hello);
        if gap && self.outputs.len() > before + 1 {
            // The second fragment is lost; of a hello in one piece, that one.
            self.outputs.remove(before + 1);
        } else if gap {
            self.outputs.truncate(before);
        }
        self.tell(Told::SaidHello { hub });
    }

    /// A message from the hub; nothing for what does not open, or is one too many.
    fn heard(&mut self, message: Option<&[u8]>, now: u64) {
        let Some(message) = message else { return self.end(EndCode::Malformed, "it does not open") };
        let fault = self.setup.fault;
        let Some(link) = self.link.as_mut() else { return };
        self.failures = 0;
        match (FromHub::decode(message), &link.phase) {
            (Some(FromHub::End { code, text }), _) => {
                self.tell(Told::EndedByHub { code, text });
                self.hang_up();
            }
            (Some(FromHub::WantModel(offset)), Phase::Open(..)) => {
                match message::model_part(&self.setup.model, offset, self.setup.model_piece) {
                    _ if fault == Some(Fault::Drop(At::Model)) => self.hang_up(),
                    Some(part) => self.say(&part),
                    None => self.end(EndCode::Malformed, "the model has no such part"),
                }
            }
            (Some(FromHub::Delivery(delivery)), Phase::Open(_, hub)) if delivery.hub == *hub => match fault {
                Some(Fault::Drop(At::Credential)) => self.hang_up(),
                Some(Fault::NotStored) => self.end(EndCode::NotStored, "the flash is full"),
                _ => {
                    if let Phase::Open(transport, _) = std::mem::replace(&mut link.phase, Phase::Over) {
                        self.storing = Some(delivery.hub);
                        link.phase = Phase::Storing(transport, delivery.clone());
                        self.outputs.push_back(Output::Store(delivery));
                    }
                }
            },
            // It may come before its own CONNACK has: then that is still the completion.
            (Some(FromHub::Complete), Phase::Stored(_)) => {
                link.until = now.saturating_add(COMPLETE);
                self.tell(Told::Completed);
            }
            _ => self.end(EndCode::Malformed, "a message that has no place here"),
        }
    }

    fn handshake_failed(&mut self, now: u64) {
        self.failures += 1;
        let pause = 1000u64.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
        self.not_before = now.saturating_add(pause);
        self.tell(Told::HandshakeFailed { pause: Duration::from_millis(pause) });
        self.hang_up();
        if self.failures >= FAILURES {
            self.close_window();
        }
    }

    /// Says how far it is, once for each step and code.
    fn progress(&mut self, step: Step, code: u8) {
        let Some(attempt) = self.attempt.as_mut() else { return };
        if attempt.told != Some((step, code)) {
            attempt.told = Some((step, code));
            self.tell(Told::Progress { step, code });
            self.say(&message::progress(step, code));
        }
    }

    fn roll_back(&mut self, code: EndCode, why: &'static str) {
        if let Some(attempt) = self.attempt.take() {
            self.outputs.push_back(Output::RollBack(attempt.hub));
            self.tell(Told::RolledBack { why });
            self.outputs.push_back(Output::Advertise);
        }
        if self.link.is_some() {
            self.end(code, why);
        }
    }

    /// Ends the pairing with a word to the hub.
    fn end(&mut self, code: EndCode, why: &'static str) {
        self.tell(Told::Ended { code, why });
        self.say(&message::end(code, why));
        self.hang_up();
    }

    fn hang_up(&mut self) {
        if let Some(link) = &mut self.link {
            link.phase = Phase::Over;
            self.outputs.push_back(Output::Disconnect);
        }
    }

    /// Sends a message within the session. Two places are kept for the end.
    fn say(&mut self, message: &[u8]) {
        let Some(link) = &mut self.link else { return };
        let (Phase::Open(transport, _) | Phase::Storing(transport, _) | Phase::Stored(transport)) = &mut link.phase else { return };
        if link.said >= MESSAGES {
            return;
        }
        link.said += 1;
        if let Ok(sealed) = transport.seal(message) {
            self.send(&sealed);
        }
    }

    fn send(&mut self, message: &[u8]) {
        let Some(link) = &self.link else { return };
        for value in cut(message, link.most) {
            if self.setup.fault == Some(Fault::Slow) {
                self.outputs.push_back(Output::Pause(SLOW));
            }
            self.outputs.push_back(Output::Notify(value));
        }
    }

    fn tell(&mut self, told: Told) {
        self.outputs.push_back(Output::Tell(told));
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("device_id", &self.setup.secret.device_id).finish_non_exhaustive()
    }
}
