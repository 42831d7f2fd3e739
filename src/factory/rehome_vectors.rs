//! The test vectors of re-homing (`docs/protocol/rehome-vectors.json`): an order, a move request, the statement of a theft and
//! a file of orders. As `vectors.rs`, it is written anew with `HEARTHKEY_WRITE_VECTORS=1 cargo test vectors`.

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::vectors::{Parties, TIME, array, counting, hex};
use crate::domain::cbor;
use crate::domain::ids::HubId;
use crate::domain::keys::{open_order, order_keys, seal_order};
use crate::domain::mirror::recovery::RecoveryCode;
use crate::domain::rehome::{MoveRequest, RehomeStatement, read_orders, write_orders};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol/rehome-vectors.json");
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

#[test]
fn the_checked_in_vectors_of_rehoming_are_what_the_code_derives() {
    let parties = Parties::new();
    let [identity, mirror] = [0x48, 0x50].map(|from| SigningKey::from_bytes(&counting(from)));
    let request = MoveRequest {
        identity: identity.verifying_key().to_bytes(),
        recipient: RECIPIENT.into(),
        ca: counting::<40>(0x30).to_vec(),
        from: vec![parties.hub],
        addresses: vec!["hub.local:8883".into()],
        at_s: TIME,
    };
    let signed = request.sign(&identity);
    let code = RecoveryCode::from_bytes(counting(0x70));
    let recovery = code.epoch_key(&parties.hub);
    let said =
        RehomeStatement { hub: parties.hub, epoch: 2, mirror: mirror.verifying_key().to_bytes(), request: signed.clone(), at_s: TIME };
    let statement = said.sign(&recovery);
    RehomeStatement::verify(&recovery.verifying_key().to_bytes(), &statement).unwrap();

    let (counter, nonce): (u64, [u8; 16]) = (TIME, counting(0xa0));
    let order = request.order(TIME);
    let sealed = seal_order(&parties.device_key, &parties.device, counter, nonce, &order).unwrap();
    assert_eq!(open_order(&parties.device_key, &parties.device, &sealed).unwrap().order, order);
    let (rehome_key, order_key) = order_keys(&parties.device_key, counter, &nonce);
    let file = write_orders(std::slice::from_ref(&sealed));
    assert_eq!(read_orders(&file).unwrap(), std::slice::from_ref(&sealed));
    let derived = json!({
        "order": {
            "device_key": hex(parties.device_key.as_bytes()), "device_id": parties.device, "rehome_key": hex(rehome_key),
            "counter": counter, "nonce": hex(nonce), "order_key": hex(order_key),
            "info": array(vec![counter.into(), cbor::bytes(&nonce)]),
            "additional_data": array(vec![
                1.into(), cbor::text(&parties.device), cbor::text("rehome"), counter.into(), cbor::bytes(&nonce),
            ]),
            "from": [hex(parties.hub.as_bytes())], "to": hex(order.to().as_bytes()), "identity": hex(order.identity),
            "ca_certificate": hex(&order.ca), "addresses": order.addresses, "made": TIME,
            "order": hex(&sealed), "file": hex(&file),
        },
        "request": {
            "identity_seed": hex(identity.as_bytes()), "recipient": RECIPIENT, "statement": hex(&signed), "line": MoveRequest::line(&signed),
        },
        "statement": {
            "recovery_code": code.to_string(), "recovery_seed": hex(recovery.as_bytes()), "hub": hex(parties.hub.as_bytes()),
            "epoch": 2, "mirror_public_key": hex(said.mirror), "new_hub": HubId::from_public_key(&order.identity).to_string(),
            "time": TIME, "statement": hex(&statement),
        },
    });
    let text = serde_json::to_string_pretty(&derived).unwrap() + "\n";
    if std::env::var_os("HEARTHKEY_WRITE_VECTORS").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(PATH).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&checked_in).unwrap(), derived);
}
