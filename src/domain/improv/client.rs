//! The side that tells a device its Wi-Fi network, as a state machine: values and times go in, events come out.

use super::{Answer, Capabilities, Characteristic, Command, DeviceError, DeviceInfo, FrameError, Network, State, frame, redirect_url};
use std::collections::VecDeque;
use zeroize::Zeroizing;

/// Longest a device may take for a read, a write or a short command, in ms.
const ANSWER_MS: u64 = 10_000;
/// How long the device may look for networks, in ms.
const SCAN_MS: u64 = 15_000;
/// How long a person has to press the button, in ms.
const BUTTON_MS: u64 = 120_000;
/// How long the device may try the network, in ms; joining takes some of them 40 s.
const JOIN_MS: u64 = 90_000;
/// How long the address to go on with is waited for, once the device is in the network, in ms.
const RESULT_MS: u64 = 3_000;

/// What the driver has to do or to tell.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Read this, and give it to [`Client::value`].
    Read(Characteristic),
    /// Write this to [`Characteristic::Command`] with response, then call [`Client::written`]. It may hold a passphrase.
    Write(Zeroizing<Vec<u8>>),
    /// A person has to press the device's button.
    Press,
    /// What the device says it is.
    Info(DeviceInfo),
    /// The credentials are with the device, and it tries them.
    Joining,
    /// It is over; nothing follows.
    Ended(Outcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The device is in the network; perhaps with an address to go on with.
    Complete {
        /// Where the person may set it up further.
        url: Option<String>,
    },
    /// It is not.
    Failed(Fault),
}

/// Why it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is in a network already.
    AlreadyJoined,
    /// Nobody pressed the button in time.
    NotPressed,
    /// The device says what it could not do.
    Device(DeviceError),
    /// It could not connect, and the network was none of those it sees.
    NotSeen,
    /// It did not answer in time.
    TimedOut,
    /// It did not say in time whether it got into the network.
    NoWord,
    /// The link broke before it was in the network.
    Lost,
    /// It answers something that is not Improv.
    Malformed,
    /// A name or passphrase that does not fit.
    TooLong,
    /// A person gave up.
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Reading capabilities and state.
    Opening,
    /// Waiting for the button.
    Button,
    /// Asking what the device is.
    Info,
    /// Asking which networks it sees.
    Looking,
    /// Giving it the network.
    Sending,
    /// It tries.
    Joining,
    /// It is in the network; perhaps it says where to go on.
    Joined,
    Over,
}

/// The client. The driver subscribes to state, error and result before it starts one.
#[derive(Debug)]
pub struct Client {
    phase: Phase,
    value_max: usize,
    capabilities: Option<Capabilities>,
    credentials: Option<Zeroizing<Vec<u8>>>,
    writes: VecDeque<Zeroizing<Vec<u8>>>,
    writing: bool,
    identified: bool,
    ssid: Vec<u8>,
    /// Whether the device sees the network, as far as it has said.
    sees: Option<bool>,
    /// Not all that it said of the networks could be read.
    unsure: bool,
    partial: Vec<u8>,
    deadline: u64,
    events: VecDeque<Event>,
}

impl Client {
    /// Begins. `value_max` is the longest value of one write, never fewer than 20 bytes; `now` is in ms on any clock
    /// that never goes back.
    #[must_use]
    pub fn start(ssid: &[u8], passphrase: &str, value_max: usize, now: u64) -> Client {
        let mut client = Client {
            phase: Phase::Opening,
            value_max: value_max.max(20),
            capabilities: None,
            credentials: None,
            writes: VecDeque::new(),
            writing: false,
            identified: false,
            ssid: ssid.to_vec(),
            sees: None,
            unsure: false,
            partial: Vec::new(),
            deadline: now.saturating_add(ANSWER_MS),
            events: VecDeque::new(),
        };
        match frame(Command::SendWifi, &[ssid, passphrase.as_bytes()]) {
            Ok(frame) if !ssid.is_empty() && ssid.len() <= 32 => {
                client.credentials = Some(frame);
                client.events.extend([Event::Read(Characteristic::Capabilities), Event::Read(Characteristic::State)]);
            }
            _ => client.fail(Fault::TooLong),
        }
        client
    }

    /// What to do next; `None` until something else has happened.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Client::tick`]; `None` when it is over.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        (self.phase != Phase::Over).then_some(self.deadline)
    }

    /// A characteristic was read, or notified.
    pub fn value(&mut self, of: Characteristic, value: &[u8], now: u64) {
        if self.phase == Phase::Over {
            return;
        }
        match of {
            Characteristic::Capabilities => {
                self.capabilities = Some(Capabilities(value.first().copied().unwrap_or_default()));
            }
            Characteristic::State => match State::read(value) {
                Some(state) => self.state(state, now),
                None => self.fail(Fault::Malformed),
            },
            Characteristic::Error => self.error(value, now),
            Characteristic::Result => self.result(value, now),
            Characteristic::Command => {}
        }
    }

    /// The last write was acknowledged.
    pub fn written(&mut self, now: u64) {
        self.writing = false;
        if self.phase == Phase::Over {
            return;
        }
        if self.phase == Phase::Sending && self.writes.is_empty() {
            self.phase = Phase::Joining;
            self.deadline = now.saturating_add(JOIN_MS);
            self.events.push_back(Event::Joining);
        }
        self.write_next(now);
    }

    /// The link is gone, or the service is no longer there. Some devices take it away once they are in the network.
    pub fn lost(&mut self) {
        match self.phase {
            Phase::Over => {}
            Phase::Joined => self.end(Outcome::Complete { url: None }),
            _ => self.fail(Fault::Lost),
        }
    }

    /// A person gave up.
    pub fn cancel(&mut self) {
        if self.phase != Phase::Over {
            self.fail(Fault::Cancelled);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) {
        if now < self.deadline {
            return;
        }
        match self.phase {
            Phase::Over => {}
            Phase::Button => self.fail(Fault::NotPressed),
            // It does not say what it is, or what it sees: neither is needed.
            Phase::Info => self.look(now),
            Phase::Looking => self.send(now),
            Phase::Joining => self.fail(Fault::NoWord),
            Phase::Joined => self.end(Outcome::Complete { url: None }),
            Phase::Opening | Phase::Sending => self.fail(Fault::TimedOut),
        }
    }

    fn state(&mut self, state: State, now: u64) {
        match (self.phase, state) {
            (Phase::Opening, State::AuthorizationRequired) => self.wait_for_button(now),
            (Phase::Opening, State::Authorized) => self.ask_info(now),
            // Another client is at it, or has just been.
            (Phase::Opening | Phase::Button, State::Provisioning) => self.fail(Fault::Device(DeviceError::NotAuthorized)),
            (Phase::Opening | Phase::Button, State::Provisioned) => self.fail(Fault::AlreadyJoined),
            (Phase::Button, State::Authorized) => self.ask_info(now),
            // The button was pressed too long ago.
            (Phase::Info | Phase::Looking, State::AuthorizationRequired) => self.wait_for_button(now),
            (Phase::Sending | Phase::Joining, State::Provisioned) => self.joined(now),
            _ => {}
        }
    }

    fn wait_for_button(&mut self, now: u64) {
        self.phase = Phase::Button;
        self.deadline = now.saturating_add(BUTTON_MS);
        self.events.push_back(Event::Press);
        // Which one it is: once, and only where the device can show it.
        if !self.identified && self.capabilities.unwrap_or_default().identify() {
            self.identified = true;
            self.command(Command::Identify, now);
        }
    }

    fn ask_info(&mut self, now: u64) {
        if self.capabilities.unwrap_or_default().device_info() {
            self.phase = Phase::Info;
            self.deadline = now.saturating_add(ANSWER_MS);
            self.command(Command::DeviceInfo, now);
        } else {
            self.look(now);
        }
    }

    /// Asks which networks the device sees: when it cannot connect, that tells a wrong passphrase from a network out of reach.
    fn look(&mut self, now: u64) {
        if self.capabilities.unwrap_or_default().scan() {
            self.phase = Phase::Looking;
            self.partial.clear();
            self.deadline = now.saturating_add(SCAN_MS);
            self.command(Command::Scan, now);
        } else {
            self.send(now);
        }
    }

    fn send(&mut self, now: u64) {
        let Some(credentials) = self.credentials.take() else { return self.fail(Fault::Malformed) };
        self.phase = Phase::Sending;
        self.partial.clear();
        self.deadline = now.saturating_add(ANSWER_MS);
        self.writes = credentials.chunks(self.value_max).map(|part| Zeroizing::new(part.to_vec())).collect();
        self.write_next(now);
    }

    fn command(&mut self, command: Command, now: u64) {
        if let Ok(frame) = frame(command, &[]) {
            self.writes.push_back(frame);
            self.write_next(now);
        }
    }

    fn write_next(&mut self, now: u64) {
        if self.writing {
            return;
        }
        if let Some(part) = self.writes.pop_front() {
            self.writing = true;
            if self.phase == Phase::Sending {
                self.deadline = now.saturating_add(ANSWER_MS);
            }
            self.events.push_back(Event::Write(part));
        }
    }

    fn error(&mut self, value: &[u8], now: u64) {
        let Some(error) = DeviceError::read(value) else { return };
        match self.phase {
            Phase::Sending | Phase::Joining if error == DeviceError::CannotConnect && self.sees == Some(false) => self.fail(Fault::NotSeen),
            Phase::Sending | Phase::Joining => self.fail(Fault::Device(error)),
            // Devices before 2.1 know no information.
            Phase::Info => self.look(now),
            Phase::Looking => self.send(now),
            // What an earlier client left, or a device that cannot show itself.
            Phase::Opening | Phase::Button | Phase::Joined | Phase::Over => {}
        }
    }

    fn result(&mut self, value: &[u8], now: u64) {
        let answer = match Answer::parse(value) {
            Ok(answer) => answer,
            // A notification holds as much as the MTU allows. The rest is in the characteristic, or comes as another.
            Err(_) => {
                if self.phase == Phase::Looking {
                    // The end of an earlier answer means nothing, and the beginning of this one is not read again: the
                    // last answer would overtake those before it.
                    self.unsure |= value.first() == Some(&Command::Scan.byte());
                    return;
                }
                let begun = !self.partial.is_empty();
                self.partial.extend_from_slice(value.get(..value.len().min(512)).unwrap_or_default());
                match Answer::parse(&self.partial) {
                    Ok(answer) => answer,
                    Err(FrameError::Short) => {
                        if !begun && !value.is_empty() {
                            self.events.push_back(Event::Read(Characteristic::Result));
                        }
                        return;
                    }
                    // The read repeated the beginning, or it is something else: the time that is left decides.
                    Err(_) => {
                        self.partial = value.to_vec();
                        return;
                    }
                }
            }
        };
        self.partial.clear();
        match (self.phase, answer.command) {
            (Phase::Info, Command::DeviceInfo) => {
                self.events.push_back(Event::Info(DeviceInfo::of(&answer)));
                self.look(now);
            }
            (Phase::Looking, Command::Scan) => {
                if answer.strings.is_empty() {
                    if !self.unsure {
                        self.sees.get_or_insert(false);
                    }
                    self.send(now);
                } else if Network::of(&answer).iter().any(|network| network.ssid == self.ssid) {
                    self.sees = Some(true);
                }
            }
            (Phase::Joining | Phase::Joined, Command::SendWifi) => self.end(Outcome::Complete { url: redirect_url(&answer) }),
            // A read shows the last result, whatever it answered; and others may come late.
            _ => {}
        }
    }

    fn joined(&mut self, now: u64) {
        self.phase = Phase::Joined;
        self.writes.clear();
        self.deadline = now.saturating_add(RESULT_MS);
    }

    fn fail(&mut self, fault: Fault) {
        self.end(Outcome::Failed(fault));
    }

    fn end(&mut self, outcome: Outcome) {
        self.phase = Phase::Over;
        self.credentials = None;
        self.writes.clear();
        // What was not done yet is not done any more.
        self.events.retain(|event| !matches!(event, Event::Write(_) | Event::Read(_)));
        self.events.push_back(Event::Ended(outcome));
    }
}

#[cfg(test)]
mod tests;
