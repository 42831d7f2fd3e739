//! A hub and a device across a table: a device that keeps to the protocol, and a link that carries every value at once.

use zeroize::Zeroizing;

use crate::domain::ids::{BrandId, DeviceId, HubId, ModelName};
use crate::domain::keys::{HubScopedKey, OperationalSecret};
use crate::domain::pairing::*;

pub fn hub() -> HubId {
    HubId::from_bytes([1; 16])
}

pub fn id() -> DeviceId {
    DeviceId::parse("door-1").unwrap()
}

pub fn label() -> PairingKey {
    PairingKey::from_bytes([2; 32])
}

pub fn device_key() -> HubScopedKey {
    HubScopedKey::from_bytes([3; 32])
}

pub fn opening(mtu: u16) -> Opening {
    Opening { hub: hub(), device: id(), key: label(), mtu, entropy: [4; 32] }
}

pub fn delivery() -> Delivery {
    Delivery {
        hub: hub(),
        ca: vec![5; 900],
        addresses: vec!["192.0.2.7:8883".into()],
        secret: OperationalSecret::from_bytes([6; 32]),
        claimed_at: 1_790_000_000,
        wifi: Some(Wifi::new(b"Hearth".to_vec(), Zeroizing::new("correct horse".into())).unwrap()),
    }
}

/// The device's side, as far as it does what it should.
pub struct Device {
    key: PairingKey,
    room: usize,
    incoming: Reassembler,
    pub channel: Option<Channel>,
    /// What it has for a model part, and how much of it fits into a message.
    pub part: Vec<u8>,
    pub piece: usize,
    /// What it was told.
    pub heard: Vec<Message>,
    /// Whether it answers nothing any more.
    pub mute: bool,
    pub hung_up: bool,
}

impl Device {
    pub fn new(key: PairingKey, mtu: u16) -> Self {
        let (room, part) = (value_max(mtu), (0..=255).cycle().take(9_000).collect());
        Self { key, room, incoming: Reassembler::new(), channel: None, part, piece: 3_500, heard: Vec::new(), mute: false, hung_up: false }
    }

    /// Takes a value, and gives the notifications that answer it.
    pub fn take(&mut self, value: &[u8]) -> Vec<Vec<u8>> {
        let Ok(Some(message)) = self.incoming.push(value) else { return Vec::new() };
        let Some(channel) = &mut self.channel else { return self.greeted(&message) };
        let Ok(plaintext) = channel.open(&message) else { return Vec::new() };
        let message = Message::decode(&plaintext).unwrap();
        self.heard.push(message.clone());
        let answers = match message {
            _ if self.mute => Vec::new(),
            Message::WantModel(offset) => {
                let rest = &self.part[usize::try_from(offset).unwrap()..];
                vec![Message::ModelPart(offset, rest[..rest.len().min(self.piece)].to_vec())]
            }
            Message::Credential(_) => vec![Message::Stored, Message::Progress(DeviceStep::SigningIn, 0)],
            _ => Vec::new(),
        };
        answers.iter().flat_map(|answer| self.say(answer)).collect()
    }

    fn greeted(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        let Ok((channel, answer, _)) = Responder::answer(&self.key, &id(), [7; 32], message) else {
            self.hung_up = true;
            return Vec::new();
        };
        let hello = Message::Hello(self.hello(&channel.h()));
        self.channel = Some(channel);
        let mut values = fragments(&answer, self.room).unwrap();
        if !self.mute {
            values.extend(self.say(&hello));
        }
        values
    }

    pub fn hello(&self, h: &[u8; 32]) -> Hello {
        Hello {
            device: id(),
            brand: BrandId::parse("acme").unwrap(),
            model: ModelName::parse("door").unwrap(),
            hardware: "rev A".into(),
            firmware: "1.0".into(),
            resets: 2,
            voucher: vec![8; 700],
            model_len: self.part.len(),
            tag: pair_tag(&device_key(), &hub(), &id(), h, 2, "1.0"),
        }
    }

    /// Says something, in notifications.
    pub fn say(&mut self, message: &Message) -> Vec<Vec<u8>> {
        let sealed = self.channel.as_mut().unwrap().seal(&message.encode()).unwrap();
        fragments(&sealed, self.room).unwrap()
    }
}

/// Both, and what the hub's side has told so far.
pub struct Table {
    pub hub: Pairing,
    pub device: Device,
    pub now: u64,
    pub events: Vec<Event>,
}

impl Table {
    pub fn new(mtu: u16) -> Self {
        Self::with(label(), mtu)
    }

    pub fn with(key: PairingKey, mtu: u16) -> Self {
        Self { hub: Pairing::start(opening(mtu), 1_000), device: Device::new(key, mtu), now: 1_000, events: Vec::new() }
    }

    /// Carries values to and fro until both are silent. What was told since the last time.
    pub fn run(&mut self) -> Vec<Event> {
        let before = self.events.len();
        while let Some(event) = self.hub.poll() {
            if let Event::Write(value) = &event {
                let answers = self.device.take(value);
                self.hub.written(self.now);
                answers.iter().for_each(|answer| self.hub.received(answer, self.now));
            } else {
                self.events.push(event);
            }
            if self.device.hung_up {
                self.hub.lost(self.now);
            }
        }
        self.events[before..].to_vec()
    }

    /// What the device says now, and what comes of it.
    pub fn device_says(&mut self, message: &Message) -> Vec<Event> {
        let values = self.device.say(message);
        values.iter().for_each(|value| self.hub.received(value, self.now));
        self.run()
    }

    /// Up to the hub's decision.
    pub fn greeted(mtu: u16) -> Self {
        let mut table = Self::new(mtu);
        assert!(matches!(table.run()[..], [Event::Proven, Event::Hello { .. }]));
        table
    }

    /// Up to *stored*, and the first progress.
    pub fn stored(mtu: u16) -> Self {
        let mut table = Self::greeted(mtu);
        table.hub.deliver(delivery(), table.now);
        table.run();
        assert!(matches!(table.events[..], [.., Event::Stored, Event::Progress { .. }]));
        table
    }

    /// Lets the time pass up to the deadline: nothing happens one millisecond before it.
    pub fn wait_it_out(&mut self) -> Vec<Event> {
        let deadline = self.hub.deadline().unwrap();
        self.hub.tick(deadline - 1);
        assert_eq!(self.hub.poll(), None);
        self.now = deadline;
        self.hub.tick(deadline);
        self.run()
    }
}

pub fn failed(fault: PairingFault) -> Event {
    Event::Ended(Ending::Failed(fault))
}
