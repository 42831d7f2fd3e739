//! `docs/protocol/pairing-vectors.json`: computed by the hub's implementation, which shares no code with this one.

use ciborium::Value as Cbor;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};

use super::super::frame::{Assembler, cut};
use super::super::message::{self, FromHub};
use super::super::noise::Responder;
use super::*;
use crate::sim::identity::HubId;

struct Vectors(Value);

impl Vectors {
    fn read() -> Self {
        Self(serde_json::from_str(include_str!("../../../../docs/protocol/pairing-vectors.json")).unwrap())
    }

    fn text(&self, path: &str) -> &str {
        self.0.pointer(path).and_then(Value::as_str).expect(path)
    }

    fn hex(&self, path: &str) -> Vec<u8> {
        HEXLOWER.decode(self.text(path).as_bytes()).expect(path)
    }

    fn key(&self, path: &str) -> [u8; 32] {
        self.hex(path).try_into().expect(path)
    }

    fn list(&self, path: &str) -> Vec<Vec<u8>> {
        let all = self.0.pointer(path).and_then(Value::as_array).expect(path);
        all.iter().map(|item| HEXLOWER.decode(item.as_str().unwrap().as_bytes()).unwrap()).collect()
    }

    fn len(&self, path: &str) -> usize {
        self.0.pointer(path).and_then(Value::as_array).expect(path).len()
    }

    /// The vectors of identity.md begin with the device key 00 … 1f; so do these.
    fn secret(&self) -> DeviceSecret {
        let key: Vec<u8> = (0..32).collect();
        let born = json!({
            "v": 1, "device_id": self.text("/keys/device_id"), "brand": "acme", "model": "lamp", "hardware": self.hardware(), "serial": "1",
            "device_key": BASE64URL_NOPAD.encode(&key),
        });
        DeviceSecret::parse(born.to_string().as_bytes()).unwrap()
    }

    fn hardware(&self) -> String {
        let hello: Cbor = ciborium::from_reader(self.hex("/conversation/0/plaintext").as_slice()).unwrap();
        let members = hello.as_array().unwrap()[1].as_map().unwrap();
        members[3].1.as_text().unwrap().to_owned()
    }

    fn setup(&self) -> Setup {
        Setup {
            secret: self.secret(),
            firmware: self.text("/attestation/firmware").into(),
            voucher: self.hex("/statements/voucher"),
            model: self.hex("/statements/model_part"),
            model_piece: 400,
            fault: None,
        }
    }
}

#[test]
fn the_keys_and_the_tag_are_those_published() {
    let vectors = Vectors::read();
    let secret = vectors.secret();
    assert_eq!(secret.pairing_key().to_vec(), vectors.hex("/keys/pairing_key"));
    assert_eq!(message::prologue(&secret.device_id), vectors.hex("/keys/prologue"));
    assert_eq!(message::SERVICE.as_bytes().to_vec(), vectors.hex("/keys/service"));
    let hub = HubId::from_bytes(vectors.hex("/keys/hub_id_raw").try_into().unwrap());
    assert_eq!(message::opening(&vectors.hex("/keys/payload_1")), Some(hub));
    let tag = secret.for_hub(hub).pair_tag(&vectors.key("/handshake/h"), 3, vectors.text("/attestation/firmware"));
    assert_eq!(tag.to_vec(), vectors.hex("/attestation/tag"));
}

#[test]
fn the_handshake_is_the_one_published() {
    let vectors = Vectors::read();
    let responder = || {
        let psk = vectors.key("/keys/pairing_key");
        Responder::new(&psk, &vectors.hex("/keys/prologue"), &vectors.key("/handshake/device_ephemeral"))
    };
    let (payload, answer, transport) = responder().answer(&vectors.hex("/handshake/message_1")).unwrap();
    assert_eq!(payload, vectors.hex("/keys/payload_1"));
    assert_eq!(answer, vectors.hex("/handshake/message_2"));
    assert_eq!(transport.h.to_vec(), vectors.hex("/handshake/h"));
    let (to_device, to_hub) = transport.keys();
    assert_eq!(to_device.to_vec(), vectors.hex("/handshake/key_hub_to_device"));
    assert_eq!(to_hub.to_vec(), vectors.hex("/handshake/key_device_to_hub"));
    assert!(responder().answer(&vectors.hex("/wrong_code/message_1")).is_err());
}

/// The whole conversation at every length of a value: what the device says is what is published, fragment by fragment.
#[test]
fn the_conversation_is_the_one_published() {
    let vectors = Vectors::read();
    for (most, mtu) in [(20, 23), (182, 185), (244, 247), (509, 517)] {
        let mut machine = Machine::new(vectors.setup(), 3, false);
        machine.open_window(vectors.hex("/keys/salt").try_into().unwrap(), 0);
        assert_eq!(machine.info().to_vec(), vectors.hex("/keys/advertised"));
        assert!(machine.connected(mtu, &vectors.key("/handshake/device_ephemeral"), 0));
        for value in vectors.list(&format!("/handshake/message_1_fragments/{most}")) {
            machine.written(&value, 0);
        }
        let mut said = notified(all(&mut machine));
        assert_eq!(
            said.drain(..vectors.len(&format!("/handshake/message_2_fragments/{most}"))).collect::<Vec<_>>(),
            vectors.list(&format!("/handshake/message_2_fragments/{most}"))
        );

        let mut delivery = None;
        for turn in 0..vectors.len("/conversation") {
            let at = format!("/conversation/{turn}");
            let fragments = vectors.list(&format!("{at}/fragments/{most}"));
            if vectors.text(&format!("{at}/from")) == "hub" {
                assert!(said.is_empty(), "the device says more than is published");
                fragments.iter().for_each(|value| machine.written(value, 1));
                let outputs = all(&mut machine);
                if let Some(Output::Store(stored)) = outputs.iter().find(|output| matches!(output, Output::Store(_))) {
                    delivery = Some(stored.clone());
                    // The flash, the network and the hub do as they should.
                    machine.stored(true, 2);
                    machine.joined(Joined::Well);
                    machine.signing_in(SigningIn::Asking, 3);
                    said.extend(notified(all(&mut machine)));
                    machine.signing_in(SigningIn::Accepted, 4);
                    assert!(all(&mut machine).iter().any(|output| matches!(output, Output::Tell(Told::Paired { .. }))));
                }
                if vectors.text(&format!("{at}/message")) == "complete" {
                    assert!(outputs.contains(&Output::Tell(Told::Completed)));
                }
                said.extend(notified(outputs));
            } else {
                let head: Vec<Vec<u8>> = said.drain(..fragments.len().min(said.len())).collect();
                assert_eq!(head, fragments, "{at} at {most}");
            }
        }
        let delivery = delivery.expect("the credential came");
        assert_eq!(delivery.hub.as_bytes().to_vec(), vectors.hex("/keys/hub_id_raw"));
        assert_eq!(delivery.credential.ca, vectors.hex("/credential/ca_certificate"));
        assert_eq!(*delivery.credential.password(), vectors.text("/credential/password"));
        assert_eq!(delivery.credential.claimed_at, 1_790_000_000);
        assert_eq!(delivery.addresses[0].to_string(), vectors.text("/credential/addresses/0"));
        let wifi = delivery.wifi.expect("a network came");
        assert_eq!(
            (wifi.ssid.as_slice(), wifi.passphrase.as_str()),
            (vectors.text("/credential/ssid").as_bytes(), vectors.text("/credential/passphrase"))
        );
    }
}

/// Every single message, from its plaintext to its fragments and back.
#[test]
fn the_other_turns_are_cut_as_published_and_read_by_who_may_read_them() {
    let vectors = Vectors::read();
    for turn in 0..vectors.len("/other_turns") {
        let at = format!("/other_turns/{turn}");
        let (plain, sealed) = (vectors.hex(&format!("{at}/plaintext")), vectors.hex(&format!("{at}/ciphertext")));
        for most in [20, 182, 244, 509] {
            assert_eq!(cut(&sealed, most), vectors.list(&format!("{at}/fragments/{most}")));
        }
        let may = vectors.text(&format!("{at}/from")) == "hub" || vectors.text(&format!("{at}/message")).starts_with("end");
        assert_eq!(FromHub::decode(&plain).is_some(), may, "{at}");
    }
    let said = |name: &str| {
        let turns = (0..vectors.len("/other_turns")).map(|turn| format!("/other_turns/{turn}"));
        turns.into_iter().find(|at| vectors.text(&format!("{at}/message")) == name).map(|at| vectors.hex(&format!("{at}/plaintext")))
    };
    assert_eq!(said("end: not stored"), Some(message::end(EndCode::NotStored, "the flash is full")));
    assert_eq!(said("progress: the passphrase is refused"), Some(message::progress(message::Step::Joining, 3)));
}

#[test]
fn what_is_refused_is_refused_here_too() {
    let vectors = Vectors::read();
    for refused in 0..vectors.len("/refused_fragments") {
        let mut assembler = Assembler::default();
        let values = vectors.list(&format!("/refused_fragments/{refused}/values"));
        let outcome: Result<Vec<_>, _> = values.iter().map(|value| assembler.push(value, 509)).collect();
        assert!(outcome.is_err(), "{}", vectors.text(&format!("/refused_fragments/{refused}/why")));
    }
    for refused in 0..vectors.len("/refused_messages") {
        let plain = vectors.hex(&format!("/refused_messages/{refused}/plaintext"));
        assert!(FromHub::decode(&plain).is_none(), "{}", vectors.text(&format!("/refused_messages/{refused}/why")));
    }
}
