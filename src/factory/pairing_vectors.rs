//! The test vectors of pairing (`docs/protocol/pairing-vectors.json`): one whole conversation with every intermediate value, some of its other
//! turns, and what is to be refused. As `vectors.rs`, it is written anew with `HEARTHKEY_WRITE_VECTORS=1 cargo test vectors`.

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::vectors::{Parties, Statements, TIME, array, counting, hex};
use crate::domain::brand::Fingerprint;
use crate::domain::cbor;
use crate::domain::claim::ClaimCode;
use crate::domain::keys::OperationalSecret;
use crate::domain::pairing::{
    Advertised, Delivery, DeviceStep, EndCode, Ending, Event, Hello, Initiator, Message, Opening, Pairing, PairingKey, Reassembler,
    Responder, SERVICE, Transcript, Wifi, fragments, pair_tag, prologue,
};
use crate::domain::voucher::{pairing_parts, verify_short_voucher};

use noise::{Handshake, handshake, nonce, transport};

mod noise;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol/pairing-vectors.json");
const ROOMS: [usize; 4] = [20, 182, 244, 509];
const HUB_EPHEMERAL: u8 = 0x50;
const DEVICE_EPHEMERAL: u8 = 0x70;
const SALT: [u8; 4] = [0xf0, 0xf1, 0xf2, 0xf3];
const RESETS: u64 = 3;
const FIRMWARE: &str = "1.4.2";
/// Where this device cuts its model part.
const PIECE: usize = 400;

#[derive(Clone, Copy, PartialEq)]
enum From {
    Hub,
    Device,
}

impl From {
    fn name(self) -> &'static str {
        if self == Self::Hub { "hub" } else { "device" }
    }
}

/// A message of the conversation, with all that becomes of it.
struct Said {
    from: From,
    name: &'static str,
    nonce: u64,
    plaintext: Zeroizing<Vec<u8>>,
    ciphertext: Vec<u8>,
}

impl Said {
    fn json(&self) -> Value {
        json!({
            "from": self.from.name(), "message": self.name, "counter": self.nonce, "nonce": hex(nonce(self.nonce)),
            "plaintext": hex(&*self.plaintext), "ciphertext": hex(&self.ciphertext), "fragments": cut(&self.ciphertext),
        })
    }
}

fn cut(message: &[u8]) -> Value {
    let by_room = |room: &usize| (room.to_string(), fragments(message, *room).unwrap().iter().map(hex).collect());
    Value::Object(ROOMS.iter().map(by_room).collect::<Map<_, _>>())
}

struct Stage {
    parties: Parties,
    statements: Statements,
    key: PairingKey,
    session: Handshake,
    payload: Vec<u8>,
}

impl Stage {
    fn new() -> Self {
        let parties = Parties::new();
        let key = PairingKey::derive(&ClaimCode::from_device_key(&parties.device_key), &parties.device);
        let payload = cbor::encode(ciborium::Value::Array(vec![1.into(), cbor::bytes(parties.hub.as_bytes())]));
        let prologue = prologue(&parties.device);
        let session = handshake(&prologue, key.as_bytes(), counting(HUB_EPHEMERAL), counting(DEVICE_EPHEMERAL), &payload);
        Self { statements: parties.statements(), parties, key, session, payload }
    }

    fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        let s = &self.statements;
        pairing_parts(&s.root_public_key, &s.voucher_certificate, &s.signed_voucher, &s.batch_certificate, &s.model_statement)
    }

    fn hello(&self) -> Hello {
        let Parties { hub, device, key, brand, .. } = &self.parties;
        let (voucher, part) = self.parts();
        Hello {
            device: device.clone(),
            brand: brand.clone(),
            model: self.statements.model.name.clone(),
            hardware: "rev A".into(),
            firmware: FIRMWARE.into(),
            resets: RESETS,
            voucher,
            model_len: part.len(),
            tag: pair_tag(key, hub, device, &self.session.h, RESETS, FIRMWARE),
        }
    }

    fn delivery(&self) -> Delivery {
        Delivery {
            hub: self.parties.hub,
            // The device keeps the certificate as it is: these bytes stand for one.
            ca: counting::<40>(0x30).to_vec(),
            addresses: vec!["192.0.2.7:8883".into(), "hearthkey.local:8883".into()],
            secret: OperationalSecret::from_bytes(counting(0xd0)),
            claimed_at: TIME,
            wifi: Some(wifi("Hearth", "correct horse")),
        }
    }

    fn said(&self, from: From, nonce: u64, name: &'static str, message: &Message) -> Said {
        let plaintext = message.encode();
        assert_eq!(Message::decode(&plaintext).as_ref(), Ok(message));
        let key = if from == From::Hub { &self.session.to_device } else { &self.session.to_hub };
        let ciphertext = transport(key, nonce, &plaintext);
        Said { from, name, nonce, plaintext, ciphertext }
    }

    fn conversation(&self) -> Vec<Said> {
        let (_, part) = self.parts();
        let mut said = vec![self.said(From::Device, 0, "hello", &Message::Hello(self.hello()))];
        for (n, piece) in (0..).zip(part.chunks(PIECE)) {
            let offset = n * PIECE as u64;
            said.push(self.said(From::Hub, n, "want model", &Message::WantModel(offset)));
            said.push(self.said(From::Device, n + 1, "model part", &Message::ModelPart(offset, piece.to_vec())));
        }
        let pieces = part.chunks(PIECE).count() as u64;
        said.push(self.said(From::Hub, pieces, "credential", &Message::Credential(self.delivery())));
        said.push(self.said(From::Device, pieces + 1, "stored", &Message::Stored));
        for (n, step) in (pieces + 2..).zip([DeviceStep::Joining, DeviceStep::Looking, DeviceStep::SigningIn]) {
            said.push(self.said(From::Device, n, "progress", &Message::Progress(step, 0)));
        }
        said.push(self.said(From::Hub, pieces + 1, "complete", &Message::Complete));
        said
    }

    /// What may stand in the place of a message of the conversation, with the same counter.
    fn other_turns(&self) -> Vec<Said> {
        let hello = Hello { voucher: Vec::new(), model_len: 0, resets: 0, ..self.hello() };
        let without = Delivery { wifi: None, ..self.delivery() };
        let open = Delivery { wifi: Some(wifi("Hearth guests", "")), ..self.delivery() };
        vec![
            self.said(From::Device, 0, "hello without a voucher, and with the tag of another reset counter", &Message::Hello(hello)),
            self.said(From::Hub, 0, "credential without Wi-Fi, of a hub that knows the model", &Message::Credential(without)),
            self.said(From::Hub, 0, "credential with an open Wi-Fi", &Message::Credential(open)),
            self.said(From::Hub, 0, "end: not known here", &Message::end(EndCode::NotKnown, "no brand here vouches for this device")),
            self.said(From::Device, 1, "end: not stored", &Message::end(EndCode::NotStored, "the flash is full")),
            self.said(From::Device, 1, "progress: the passphrase is refused", &Message::Progress(DeviceStep::Joining, 3)),
        ]
    }

    fn keys(&self) -> Value {
        let Parties { hub, device, device_key, key, .. } = &self.parties;
        let code = ClaimCode::from_device_key(device_key);
        let qr = code.qr_text(device);
        let (short, mut advertised) = (self.key.short_id(&SALT), vec![1, 1]);
        advertised.extend(SALT);
        advertised.extend(short);
        assert!(self.key.is_meant(&Advertised::parse(&advertised).unwrap()));
        json!({
            "device_id": device, "code_printed": code.to_string(), "code_proper": &qr[qr.len() - 21..qr.len() - 1],
            "pairing_key": hex(self.key.as_bytes()), "hub_id_raw": hex(hub.as_bytes()),
            "hub_scoped_key": hex(key.as_bytes()), "attest_key": hex(key.attest().as_bytes()),
            "salt": hex(SALT), "short_id": hex(short), "advertised": hex(advertised),
            "service": hex(SERVICE), "prologue": hex(prologue(device)), "payload_1": hex(&self.payload),
        })
    }

    fn handshake(&self) -> Value {
        let s = &self.session;
        json!({
            "hub_ephemeral": hex(counting::<32>(HUB_EPHEMERAL)), "hub_ephemeral_public": hex(s.hub_public),
            "device_ephemeral": hex(counting::<32>(DEVICE_EPHEMERAL)), "device_ephemeral_public": hex(s.device_public),
            "shared_secret": hex(s.shared), "steps": s.trace,
            "message_1": hex(&s.message_1), "message_1_fragments": cut(&s.message_1),
            "message_2": hex(&s.message_2), "message_2_fragments": cut(&s.message_2),
            "h": hex(s.h), "key_hub_to_device": hex(s.to_device), "key_device_to_hub": hex(s.to_hub),
        })
    }

    fn attestation(&self) -> Value {
        let Parties { hub, device, key, .. } = &self.parties;
        let hello = self.hello();
        let transcript = Transcript { h: self.session.h, tag: hello.tag, resets: RESETS, firmware: FIRMWARE.into() };
        assert!(transcript.shows(key, hub, device));
        json!({
            "resets": RESETS, "firmware": FIRMWARE, "tag": hex(hello.tag),
            "message": array(vec![
                1.into(), cbor::bytes(hub.as_bytes()), cbor::text(device), cbor::text("pair"), cbor::bytes(&self.session.h),
                RESETS.into(), cbor::text(FIRMWARE),
            ]),
        })
    }

    fn statements(&self) -> Value {
        let (voucher, part) = self.parts();
        let root = Fingerprint::of(&self.statements.root_public_key);
        let vouched = verify_short_voucher(&voucher, |_, fingerprint| *fingerprint == root).unwrap();
        assert_eq!(vouched.voucher, self.statements.voucher);
        assert_eq!(vouched.model(&part).unwrap(), self.statements.model);
        json!({"voucher": hex(voucher), "model_part": hex(part)})
    }

    /// Message 1 of a hub with the code of another label: the device answers nothing.
    fn wrong_code(&self) -> Value {
        let Parties { hub, device, .. } = &self.parties;
        let other = PairingKey::from_bytes(counting(0x01));
        let (_, message) = Initiator::greet(&other, hub, device, counting(HUB_EPHEMERAL)).unwrap();
        assert!(Responder::answer(&self.key, device, counting(DEVICE_EPHEMERAL), &message).is_err());
        json!({"pairing_key": hex(other.as_bytes()), "message_1": hex(message)})
    }

    /// The session of the hub makes the same of the same.
    fn agrees_with_the_session(&self, conversation: &[Said]) {
        let Parties { hub, device, .. } = &self.parties;
        let (initiator, message_1) = Initiator::greet(&self.key, hub, device, counting(HUB_EPHEMERAL)).unwrap();
        assert_eq!(message_1, self.session.message_1);
        let (mut responder, message_2, greeted) = Responder::answer(&self.key, device, counting(DEVICE_EPHEMERAL), &message_1).unwrap();
        assert_eq!((&message_2, greeted), (&self.session.message_2, *hub));
        let mut initiator = initiator.proven(&message_2).unwrap();
        assert_eq!((initiator.h(), responder.h()), (self.session.h, self.session.h));
        for said in conversation {
            let (seals, opens) = if said.from == From::Hub { (&mut initiator, &mut responder) } else { (&mut responder, &mut initiator) };
            assert_eq!(seals.counts().0, said.nonce);
            assert_eq!(seals.seal(&said.plaintext).unwrap(), said.ciphertext);
            assert_eq!(*opens.open(&said.ciphertext).unwrap(), *said.plaintext);
        }
    }

    /// The hub's whole side says what the vectors say, in values of this size.
    fn agrees_with_the_conversation(&self, conversation: &[Said], room: usize) {
        let Parties { hub, device, .. } = &self.parties;
        let mtu = u16::try_from(room + 3).unwrap();
        let opening = Opening { hub: *hub, device: device.clone(), key: self.key.clone(), mtu, entropy: counting(HUB_EPHEMERAL) };
        let mut pairing = Pairing::start(opening, 0);
        let (mut written, mut heard, mut ended) = (Reassembler::new(), Vec::new(), None);
        let mut answers = [&self.session.message_2]
            .into_iter()
            .chain(conversation.iter().filter(|said| said.from == From::Device).map(|said| &said.ciphertext));
        // After message 2 the hello comes of itself, and after stored the progress.
        let mut due = 0;
        loop {
            match pairing.poll() {
                Some(Event::Write(value)) => {
                    if let Some(message) = written.push(&value).unwrap() {
                        assert_eq!(fragments(&message, room).unwrap().last(), Some(&value));
                        heard.push(message);
                        due = if heard.len() == 1 { 2 } else { 1 };
                    }
                    pairing.written(0);
                }
                Some(Event::Hello { hello, h }) => {
                    assert_eq!((hello, h), (self.hello(), self.session.h));
                    pairing.want_model(0);
                }
                Some(Event::Model(part)) => {
                    assert_eq!(part, self.parts().1);
                    pairing.deliver(self.delivery(), 0);
                }
                Some(Event::Stored) => due = 3,
                Some(Event::Progress { step: DeviceStep::SigningIn, .. }) => pairing.signed_in(0),
                Some(Event::Ended(ending)) => ended = Some(ending),
                Some(Event::Proven | Event::Sending { .. } | Event::Progress { .. }) => {}
                None if due > 0 && ended.is_none() => {
                    due -= 1;
                    let Some(answer) = answers.next() else { continue };
                    for value in fragments(answer, room).unwrap() {
                        pairing.received(&value, 0);
                    }
                }
                None => break,
            }
        }
        assert_eq!(ended, Some(Ending::Complete));
        let hubs = conversation.iter().filter(|said| said.from == From::Hub).map(|said| &said.ciphertext);
        assert!(heard.iter().eq([&self.session.message_1].into_iter().chain(hubs)), "values of {room} bytes");
    }
}

fn wifi(ssid: &str, passphrase: &str) -> Wifi {
    Wifi::new(ssid.into(), Zeroizing::new(passphrase.into())).unwrap()
}

/// Plaintexts that are no message, whoever says them.
fn refused_messages() -> Value {
    let cases: [(&str, &[u8]); 14] = [
        ("nothing", &[]),
        ("no array", &[0xa0]),
        ("an empty array", &[0x80]),
        ("an unknown type", &[0x81, 0x09]),
        ("a byte that follows", &[0x81, 0x05, 0x00]),
        ("a member that follows", &[0x82, 0x05, 0x00]),
        ("a long form of the type", &[0x81, 0x18, 0x05]),
        ("an indefinite array", &[0x9f, 0x05, 0xff]),
        ("a type that is a text", &[0x81, 0x61, 0x35]),
        ("an empty model part", &[0x83, 0x03, 0x00, 0x40]),
        ("a step that there is not", &[0x83, 0x06, 0x04, 0x00]),
        ("a negative code", &[0x83, 0x06, 0x01, 0x20]),
        ("an end code that there is not", &[0x83, 0x07, 0x0a, 0x60]),
        ("an end without a text", &[0x82, 0x07, 0x00]),
    ];
    refused(cases.iter().map(|(why, plaintext)| {
        assert!(Message::decode(plaintext).is_err(), "{why}");
        json!({"why": why, "plaintext": hex(plaintext)})
    }))
}

/// Fragments that are no message: the last of them ends the pairing.
fn refused_fragments() -> Value {
    let cases: [(&str, &[&[u8]]); 11] = [
        ("an empty value", &[&[]]),
        ("a first fragment without a byte of the message", &[&[0xc0, 0, 1]]),
        ("a later one without", &[&[0x80, 0, 2, 1], &[0x41]]),
        ("a total of 0", &[&[0xc0, 0, 0, 1]]),
        ("a total of 4,097", &[&[0x80, 0x10, 0x01, 1]]),
        ("no beginning", &[&[0x41, 1]]),
        ("a second beginning", &[&[0x80, 0, 2, 1], &[0x80, 0, 2, 1]]),
        ("a repeated number", &[&[0x80, 0, 3, 1], &[0x01, 1], &[0x41, 1]]),
        ("a number left out", &[&[0x80, 0, 3, 1], &[0x42, 1]]),
        ("more than the total", &[&[0x80, 0, 2, 1], &[0x41, 1, 1]]),
        ("less than the total at LAST", &[&[0x80, 0, 3, 1], &[0x41, 1]]),
    ];
    refused(cases.iter().map(|(why, values)| {
        let mut reassembler = Reassembler::new();
        let (last, before) = values.split_last().unwrap();
        before.iter().for_each(|value| assert_eq!(reassembler.push(value), Ok(None), "{why}"));
        assert!(reassembler.push(last).is_err(), "{why}");
        json!({"why": why, "values": values.iter().map(hex).collect::<Vec<_>>()})
    }))
}

fn refused(cases: impl Iterator<Item = Value>) -> Value {
    Value::Array(cases.collect())
}

#[test]
fn the_checked_in_vectors_of_pairing_are_what_the_code_says() {
    let stage = Stage::new();
    let conversation = stage.conversation();
    stage.agrees_with_the_session(&conversation);
    for room in ROOMS {
        stage.agrees_with_the_conversation(&conversation, room);
    }
    let delivery = stage.delivery();
    let derived = json!({
        "keys": stage.keys(),
        "handshake": stage.handshake(),
        "attestation": stage.attestation(),
        "statements": stage.statements(),
        "credential": {
            "ca_certificate": hex(&delivery.ca), "addresses": delivery.addresses,
            "operational_secret": hex(delivery.secret.as_bytes()), "password": delivery.secret.password().to_string(),
            "claimed_at": delivery.claimed_at, "ssid": "Hearth", "passphrase": "correct horse",
        },
        // Long enough that its numbers begin anew.
        "long_message": {"message": hex(counting::<1300>(0)), "fragments": cut(&counting::<1300>(0))},
        "conversation": conversation.iter().map(Said::json).collect::<Vec<_>>(),
        "other_turns": stage.other_turns().iter().map(Said::json).collect::<Vec<_>>(),
        "wrong_code": stage.wrong_code(),
        "refused_messages": refused_messages(),
        "refused_fragments": refused_fragments(),
    });
    let text = serde_json::to_string_pretty(&derived).unwrap() + "\n";
    if std::env::var_os("HEARTHKEY_WRITE_VECTORS").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(PATH).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&checked_in).unwrap(), derived);
}
