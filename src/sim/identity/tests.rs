//! The derivations against values that a third program computed from the specification alone, and against what the
//! specification promises of them.

use super::*;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

pub(in crate::sim) fn secret() -> DeviceSecret {
    let json = format!(r#"{{"v":1,"device_id":"lamp-1","brand":"acme","model":"lamp","hardware":"A","serial":"1","device_key":"{KEY}"}}"#);
    DeviceSecret::parse(json.as_bytes()).unwrap()
}

pub(in crate::sim) fn keys() -> HubKeys {
    secret().for_hub(HubId::from_bytes([0x11; 16]))
}

/// The published vectors: computed by the hub's implementation, which shares no code with this one.
#[test]
fn the_published_vectors_hold() {
    let all: serde_json::Value = serde_json::from_str(include_str!("../../../docs/protocol/vectors.json")).unwrap();
    let text = |path: &str| all.pointer(path).and_then(serde_json::Value::as_str).expect(path).to_owned();
    let number = |path: &str| all.pointer(path).and_then(serde_json::Value::as_u64).expect(path);
    let hex = |path: &str| data_encoding::HEXLOWER.decode(text(path).as_bytes()).expect(path);
    let b64 = |path: &str| BASE64URL_NOPAD.encode(&hex(path));
    let born = serde_json::json!({
        "v": 1, "device_id": text("/claim/device_id"), "brand": "acme", "model": "lamp", "hardware": "A", "serial": "1",
        "device_key": b64("/keys/device_key"),
    });
    let secret = DeviceSecret::parse(born.to_string().as_bytes()).unwrap();
    assert_eq!(secret.claim_code(), text("/claim/printed"));
    assert_eq!(secret.claim_qr(), text("/claim/qr"));

    let hub: HubId = text("/hub/hub_id").parse().unwrap();
    assert_eq!(hub.as_bytes().as_slice(), hex("/hub/hub_id_raw"));
    let keys = secret.for_hub(hub);
    assert_eq!(keys.scoped.as_slice(), hex("/keys/hub_scoped_key"));
    assert_eq!(keys.mqtt.as_slice(), hex("/keys/mqtt_key"));
    assert_eq!(keys.seal.as_slice(), hex("/keys/seal_key"));
    assert_eq!(keys.rebase.as_slice(), hex("/keys/rebase_key"));

    let tokens = all.get("tokens").and_then(serde_json::Value::as_array).unwrap().len();
    assert!(tokens > 0);
    for at in (0..tokens).map(|index| format!("/tokens/{index}")) {
        let nonce = hex(&format!("{at}/nonce")).try_into().unwrap();
        let token = keys.token(number(&format!("{at}/counter")), &nonce, &hex(&format!("{at}/spki")));
        assert_eq!(token, text(&format!("{at}/password")));
    }

    let message = serde_json::json!({
        "v": 1, "nonce": b64("/credential/nonce"), "iv": b64("/credential/iv"), "box": b64("/credential/box"),
    });
    let credential = keys.open_credential(message.to_string().as_bytes(), &hex("/credential/nonce")).unwrap();
    assert_eq!(credential.ca, hex("/credential/ca_certificate"));
    assert_eq!(credential.secret.as_slice(), hex("/credential/operational_secret"));
    assert_eq!(credential.claimed_at, number("/credential/claimed_at"));
    assert_eq!(*credential.password(), text("/credential/password"));

    let tag = keys.rebase_tag(&hex("/rebase/challenge"), number("/rebase/counter"));
    assert_eq!(tag.as_slice(), hex("/rebase/tag"));

    assert_eq!(keys.attest.as_slice(), hex("/keys/attest_key"));
    assert_eq!(keys.reset.as_slice(), hex("/keys/reset_key"));
    let instance = hex("/alive/instance").try_into().unwrap();
    assert_eq!(keys.alive_tag(&hex("/alive/challenge"), &instance).as_slice(), hex("/alive/tag"));
    assert_eq!(keys.reset_tag(&hex("/reset/nonce"), number("/reset/counter")).as_slice(), hex("/reset/tag"));
}

#[test]
fn the_claim_code_is_the_one_on_the_label() {
    assert_eq!(secret().claim_code(), "A7A-G6H-PV6-682-2PH-K9D-ZPY");
    assert_eq!(secret().claim_qr(), "HK1:lamp-1:A7AG6HPV66822PHK9DZPY");
}

#[test]
fn the_hub_scoped_key_is_the_one_the_maker_computes() {
    let hex = data_encoding::HEXLOWER.encode(keys().scoped());
    assert_eq!(hex, "f96a4d0da8e227dfafa2be54de31d830d028c8f53c2a7bc5df2c77e3ab20cf99");
    assert_eq!(keys().hub().to_string(), "ceirceirceirceirceirceirce");
}

#[test]
fn counter_tokens_are_the_expected_ones_whatever_the_length_of_the_counter() {
    let keys = keys();
    for (counter, spki, tag) in [
        (1, &[0x33; 32][..], "IpXOrpja9uwltXFORYJPhQ"),
        (1, &[], "IM5nLRdhfR3Udqf9VXpuLg"),
        (300, &[0x33; 32], "5-thfUm6JvLa7bBBr9mbQw"),
        (1_099_511_627_776, &[0x33; 32], "ch3dH1ibeH12YuoI3i6OLw"),
    ] {
        let expected = format!("hk1.{counter}.IiIiIiIiIiIiIiIiIiIiIg.{tag}");
        assert_eq!(keys.token(counter, &[0x22; 16], spki), expected);
    }
}

#[test]
fn a_box_that_another_program_sealed_opens() {
    let b64 = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let sealed = "RCNc-G_g0BBSTLqOUJIL_9QCK60mC4PgZaapd911CTXFqwCZ3-qxHzBrLjYUIy6Sl5aRKwjdNFa25o8SWtmmfoRkImeGCu0U6D7FdkY7Olw";
    let message = serde_json::json!({"v": 1, "nonce": b64(&[0x66; 32]), "iv": b64(&[0x77; 12]), "box": sealed});
    let credential = keys().open_credential(message.to_string().as_bytes(), &[0x66; 32]).unwrap();
    assert_eq!((credential.ca.as_slice(), credential.claimed_at), (&b"ca"[..], 1_700_000_000));
    assert_eq!(*credential.secret, [5; 32]);
}

#[test]
fn the_tag_of_a_rebase_is_the_expected_one() {
    let tag = BASE64URL_NOPAD.encode(&keys().rebase_tag(&[0x44; 32], 41));
    assert_eq!(tag, "wtH8Be-eMJKs7r6wqUCjfuwZan33Bg2uHsJXHu6j-_c");
}

pub(in crate::sim) fn seal(keys: &HubKeys, device: &str, plaintext: &Value, nonce: &[u8]) -> Vec<u8> {
    let aad =
        cbor(&Value::Array(vec![1.into(), bytes(&keys.hub.0), Value::Text(device.into()), Value::Text("to device".into()), bytes(nonce)]));
    let sealed = cipher(&keys.seal).encrypt(&Nonce::from([9u8; 12]), Payload { msg: &cbor(plaintext), aad: &aad }).unwrap();
    let b64 = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    serde_json::json!({"v": 1, "nonce": b64(nonce), "iv": b64(&[9u8; 12]), "box": b64(&sealed)}).to_string().into_bytes()
}

pub(in crate::sim) fn plaintext(hub: [u8; 16]) -> Value {
    Value::Map(vec![(1.into(), bytes(&hub)), (2.into(), bytes(b"ca")), (3.into(), bytes(&[5; 32])), (4.into(), 1_700_000_000.into())])
}

#[test]
fn a_credential_opens_with_the_nonce_it_answers() {
    let keys = keys();
    let message = seal(&keys, "lamp-1", &plaintext([0x11; 16]), b"a nonce of ours!");
    let credential = keys.open_credential(&message, b"a nonce of ours!").unwrap();
    assert_eq!(credential.ca, b"ca");
    assert_eq!(credential.claimed_at, 1_700_000_000);
    assert_eq!(credential.password().as_str(), format!("hks1.{}", BASE64URL_NOPAD.encode(&[5; 32])));
}

#[test]
fn a_credential_for_an_older_hello_is_refused() {
    let keys = keys();
    let message = seal(&keys, "lamp-1", &plaintext([0x11; 16]), b"an older nonce..");
    let refused = keys.open_credential(&message, b"a nonce of ours!");
    assert_eq!(refused.unwrap_err(), IdentityError::Message("it answers another hello"));
}

#[test]
fn a_credential_for_another_device_does_not_open() {
    let keys = keys();
    let message = seal(&keys, "lamp-2", &plaintext([0x11; 16]), b"a nonce of ours!");
    assert_eq!(keys.open_credential(&message, b"a nonce of ours!").unwrap_err(), IdentityError::Sealed);
}

#[test]
fn a_credential_that_names_another_hub_is_refused() {
    let keys = keys();
    let message = seal(&keys, "lamp-1", &plaintext([0x12; 16]), b"a nonce of ours!");
    let refused = keys.open_credential(&message, b"a nonce of ours!");
    assert_eq!(refused.unwrap_err(), IdentityError::Message("it is of another hub"));
}

#[test]
fn the_check_symbol_catches_every_wrong_symbol_and_every_exchange() {
    let symbols = secret().claim_symbols();
    let check = |code: &[u8]| code.iter().rev().fold(0, |sum, symbol| times_alpha(sum ^ symbol));
    let (code, [printed]) = symbols.split_at(20) else { panic!("20 symbols and a check symbol") };
    assert_eq!(check(code), *printed);
    for at in 0..20 {
        for wrong in (0..32).filter(|wrong| *wrong != code[at]) {
            let mut other = code.to_vec();
            other[at] = wrong;
            assert_ne!(check(&other), *printed);
        }
        for with in (0..20).filter(|with| code[*with] != code[at]) {
            let mut other = code.to_vec();
            other.swap(at, with);
            assert_ne!(check(&other), *printed);
        }
    }
}

#[test]
fn a_token_depends_on_the_key_the_device_was_shown() {
    let keys = keys();
    assert_ne!(keys.token(1, &[2; 16], &[3; 32]), keys.token(1, &[2; 16], &[4; 32]));
    assert!(keys.token(i64::MAX as u64, &[2; 16], &[3; 32]).len() <= 128);
}

#[test]
fn a_rebase_goes_on_from_the_larger_counter() {
    let challenge = serde_json::json!({"challenge": BASE64URL_NOPAD.encode(&[7; 32]), "floor": 40}).to_string();
    assert_eq!(keys().rebase_answer(challenge.as_bytes(), 3).unwrap().0, 40);
    assert_eq!(keys().rebase_answer(challenge.as_bytes(), 50).unwrap().0, 50);
    assert!(keys().rebase_answer(br#"{"challenge": "AAAA", "floor": 1}"#, 1).is_err());
}

#[test]
fn a_secret_file_with_a_strange_device_id_or_key_is_refused() {
    for json in [
        r#"{"v":2,"device_id":"a","brand":"","model":"","hardware":"","serial":"","device_key":""}"#.to_owned(),
        format!(r#"{{"v":1,"device_id":"a/b","brand":"","model":"","hardware":"","serial":"","device_key":"{KEY}"}}"#),
        r#"{"v":1,"device_id":"a","brand":"","model":"","hardware":"","serial":"","device_key":"AAAA"}"#.to_owned(),
    ] {
        assert!(matches!(DeviceSecret::parse(json.as_bytes()), Err(IdentityError::Secret(_))), "{json}");
    }
}

#[test]
fn a_hub_id_is_read_as_it_is_written() {
    let id = HubId::from_bytes([0xA5; 16]);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert!(id.to_string().to_uppercase().parse::<HubId>().is_err());
    assert!("short".parse::<HubId>().is_err());
}

/// The published order to move is read here as it was written there.
#[test]
fn the_published_move_order_holds() {
    let all: serde_json::Value = serde_json::from_str(include_str!("../../../docs/protocol/rehome-vectors.json")).unwrap();
    let text = |name: &str| all["order"][name].as_str().expect(name).to_owned();
    let hex = |name: &str| data_encoding::HEXLOWER.decode(text(name).as_bytes()).expect(name);
    let born = serde_json::json!({
        "v": 1, "device_id": text("device_id"), "brand": "acme", "model": "lamp", "hardware": "A", "serial": "1",
        "device_key": BASE64URL_NOPAD.encode(&hex("device_key")),
    });
    let secret = DeviceSecret::parse(born.to_string().as_bytes()).unwrap();
    let hub = |raw: &[u8]| HubId::from_bytes(raw.try_into().unwrap());
    let from = hub(&data_encoding::HEXLOWER.decode(all["order"]["from"][0].as_str().unwrap().as_bytes()).unwrap());
    let counter = all["order"]["counter"].as_u64().unwrap();
    let read = secret.open_order(&hex("order"), counter - 1, from).unwrap();
    assert_eq!((read.counter, read.to, read.ca), (counter, hub(&hex("to")), hex("ca_certificate")));
    assert_eq!(read.addresses, [all["order"]["addresses"][0].as_str().unwrap()]);
    assert_eq!(secret.open_order(&hex("order"), counter, from), Err(MoveError::Counter));
    assert_eq!(secret.open_order(&hex("order"), 0, read.to), Err(MoveError::OtherHub));
}
