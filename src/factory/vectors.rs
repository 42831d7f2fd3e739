//! The test vectors of the protocol (`docs/protocol/vectors.json`): the checked-in file must say what this code derives. It is written anew with
//! `HEARTHKEY_WRITE_VECTORS=1 cargo test vectors`. Another implementation, which shares no code with this one, has agreed with it.

use data_encoding::HEXLOWER;
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::SAMPLES;
use crate::domain::batch::{Entry, HubRequest, Manifest, VerifiedManifest, encode_chunk};
use crate::domain::brand::{Fingerprint, KeyPurpose, PurposeCertificate};
use crate::domain::cbor;
use crate::domain::claim::ClaimCode;
use crate::domain::ids::{BrandId, DeviceId, HubId};
use crate::domain::keys::{
    Credential, DeviceKey, HubScopedKey, OperationalSecret, Token, alive_tag, hub_scoped, open_credential, rebase_tag, reset_tag,
    seal_credential,
};
use crate::domain::model::{Model, sign_model};
use crate::domain::voucher::{Voucher, verify_voucher_file, voucher_file};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol/vectors.json");
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
pub(super) const TIME: u64 = 1_790_000_000;

pub(super) fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

/// Bytes that show their order: `from`, `from`+1, …
pub(super) fn counting<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|i| from.wrapping_add(u8::try_from(i % 256).unwrap()))
}

pub(super) fn array(items: Vec<ciborium::Value>) -> String {
    hex(cbor::encode(ciborium::Value::Array(items)))
}

/// Who takes part, with their keys. The vectors of pairing have the same.
pub(super) struct Parties {
    identity: SigningKey,
    pub(super) hub: HubId,
    pub(super) device: DeviceId,
    pub(super) device_key: DeviceKey,
    pub(super) key: HubScopedKey,
    pub(super) brand: BrandId,
}

/// What the brand has signed for the device, and with which keys.
pub(super) struct Statements {
    root: SigningKey,
    voucher_key: SigningKey,
    batch_key: SigningKey,
    pub(super) root_public_key: [u8; 32],
    pub(super) voucher_certificate: Vec<u8>,
    pub(super) batch_certificate: Vec<u8>,
    pub(super) model: Model,
    pub(super) model_statement: Vec<u8>,
    pub(super) voucher: Voucher,
    pub(super) signed_voucher: Vec<u8>,
}

impl Parties {
    pub(super) fn new() -> Self {
        let identity = SigningKey::from_bytes(&counting(0x40));
        let hub = HubId::from_public_key(&identity.verifying_key().to_bytes());
        let device_key = DeviceKey::from_bytes(counting(0x00));
        let key = hub_scoped(&device_key, &hub);
        let (device, brand) = (DeviceId::parse("lamp-7k3m9q2x4t8w").unwrap(), BrandId::parse("acme").unwrap());
        Self { identity, hub, device, device_key, key, brand }
    }

    fn keys(&self) -> Value {
        json!({
            "device_key": hex(self.device_key.as_bytes()), "hub_id_raw": hex(self.hub.as_bytes()),
            "hub_scoped_key": hex(self.key.as_bytes()),
            "mqtt_key": hex(self.key.mqtt().as_bytes()), "attest_key": hex(self.key.attest().as_bytes()),
            "seal_key": hex(self.key.seal().as_bytes()), "rebase_key": hex(self.key.rebase().as_bytes()),
            "reset_key": hex(self.key.reset().as_bytes()),
        })
    }

    fn claim(&self) -> Value {
        let code = ClaimCode::from_device_key(&self.device_key);
        let qr = code.qr_text(&self.device);
        let proper = &qr[qr.len() - 21..qr.len() - 1];
        json!({
            "device_key": hex(self.device_key.as_bytes()), "device_id": self.device,
            "code_proper": proper, "check_symbol": &qr[qr.len() - 1..], "printed": code.to_string(), "qr": qr,
            "hashed": array(vec![cbor::text(&self.device), cbor::text(proper)]),
            "claim_hash": hex(code.claim_hash(&self.device).0),
        })
    }

    fn token(&self, counter: u64, spki: &[u8]) -> Value {
        let nonce: [u8; 16] = counting(0xa0);
        let token = Token::mint(&self.key, &self.hub, &self.device, spki, counter, nonce).unwrap();
        json!({
            "mqtt_key": hex(self.key.mqtt().as_bytes()), "hub_id_raw": hex(self.hub.as_bytes()), "device_id": self.device,
            "counter": counter, "nonce": hex(nonce), "spki": hex(spki),
            "info": array(vec![counter.into(), cbor::bytes(&nonce)]),
            "additional_data": array(vec![
                1.into(), cbor::bytes(self.hub.as_bytes()), cbor::text(&self.device), counter.into(), cbor::bytes(spki),
            ]),
            "password": token.to_string(),
        })
    }

    fn rebase(&self) -> Value {
        let (challenge, counter): ([u8; 32], u64) = (counting(0x60), 70_000);
        json!({
            "rebase_key": hex(self.key.rebase().as_bytes()), "hub_id_raw": hex(self.hub.as_bytes()), "device_id": self.device,
            "challenge": hex(challenge), "counter": counter,
            "message": array(vec![
                1.into(), cbor::bytes(self.hub.as_bytes()), cbor::text(&self.device), cbor::bytes(&challenge), counter.into(),
            ]),
            "tag": hex(rebase_tag(&self.key, &self.hub, &self.device, &challenge, counter)),
        })
    }

    fn alive(&self) -> Value {
        let (challenge, instance): ([u8; 32], [u8; 16]) = (counting(0x80), counting(0xf0));
        json!({
            "attest_key": hex(self.key.attest().as_bytes()), "hub_id_raw": hex(self.hub.as_bytes()), "device_id": self.device,
            "challenge": hex(challenge), "instance": hex(instance),
            "message": array(vec![
                1.into(), cbor::bytes(self.hub.as_bytes()), cbor::text(&self.device), cbor::text("alive"), cbor::bytes(&challenge),
                cbor::bytes(&instance),
            ]),
            "tag": hex(alive_tag(&self.key, &self.hub, &self.device, &challenge, &instance)),
        })
    }

    fn reset(&self) -> Value {
        let (nonce, counter): ([u8; 16], u64) = (counting(0xb0), 3);
        json!({
            "reset_key": hex(self.key.reset().as_bytes()), "hub_id_raw": hex(self.hub.as_bytes()), "device_id": self.device,
            "nonce": hex(nonce), "counter": counter,
            "message": array(vec![
                1.into(), cbor::bytes(self.hub.as_bytes()), cbor::text(&self.device), cbor::bytes(&nonce), counter.into(),
            ]),
            "tag": hex(reset_tag(&self.key, &self.hub, &self.device, &nonce, counter)),
        })
    }

    fn credential(&self) -> Value {
        let (nonce, iv): ([u8; 16], [u8; 12]) = (counting(0xb0), counting(0xc0));
        let secret = OperationalSecret::from_bytes(counting(0xd0));
        let password = secret.password().to_string();
        // The device keeps the certificate as it is: these bytes stand for one.
        let credential = Credential { hub: self.hub, ca: counting::<40>(0x30).to_vec(), secret, claimed_at: TIME };
        let sealed = seal_credential(&self.key, &self.device, &nonce, iv, &credential).unwrap();
        assert_eq!(open_credential(&self.key, &self.hub, &self.device, &nonce, iv, &sealed).unwrap(), credential);
        json!({
            "seal_key": hex(self.key.seal().as_bytes()), "hub_id_raw": hex(self.hub.as_bytes()), "device_id": self.device,
            "nonce": hex(nonce), "iv": hex(iv), "ca_certificate": hex(&credential.ca),
            "operational_secret": hex(credential.secret.as_bytes()), "claimed_at": TIME,
            "plaintext": hex(cbor::encode(cbor::map([
                (1, cbor::bytes(self.hub.as_bytes())), (2, cbor::bytes(&credential.ca)),
                (3, cbor::bytes(credential.secret.as_bytes())), (4, TIME.into()),
            ]))),
            "additional_data": array(vec![
                1.into(), cbor::bytes(self.hub.as_bytes()), cbor::text(&self.device), cbor::text("to device"), cbor::bytes(&nonce),
            ]),
            "box": hex(sealed), "password": password,
        })
    }

    fn request(&self) -> Value {
        let line = HubRequest::line(&self.identity, RECIPIENT, TIME);
        assert_eq!(HubRequest::parse(&line).unwrap().hub, self.hub);
        json!({"identity_seed": hex(self.identity.as_bytes()), "recipient": RECIPIENT, "created": TIME, "line": line})
    }

    /// Statements of the brand about the device.
    pub(super) fn statements(&self) -> Statements {
        let [root, voucher_key, batch_key] = [0x10, 0x20, 0x30].map(|from| SigningKey::from_bytes(&counting(from)));
        let certificate = |purpose, key: &SigningKey, serial| {
            let public_key = key.verifying_key().to_bytes();
            PurposeCertificate { brand: self.brand.clone(), purpose, public_key, issued: TIME, serial }.sign(&root)
        };
        let model = Model::parse(SAMPLES[2].json).unwrap();
        let voucher = Voucher {
            device_id: self.device.clone(),
            brand: self.brand.clone(),
            model: model.name.clone(),
            hardware: "rev A".into(),
            serial: "20260921-001-000001".into(),
            claim_hash: ClaimCode::from_device_key(&self.device_key).claim_hash(&self.device),
            made: TIME,
        };
        Statements {
            root_public_key: root.verifying_key().to_bytes(),
            voucher_certificate: certificate(KeyPurpose::Voucher, &voucher_key, 1),
            batch_certificate: certificate(KeyPurpose::Batch, &batch_key, 2),
            model_statement: sign_model(&batch_key, &self.brand, &model, TIME),
            signed_voucher: voucher.sign(&voucher_key),
            root,
            voucher_key,
            batch_key,
            model,
            voucher,
        }
    }

    /// What is signed, by whom, and the files made of it.
    fn brand(&self) -> Value {
        let statements = self.statements();
        let Statements { root, voucher_key, batch_key, root_public_key: public, model, voucher, .. } = &statements;
        let Statements { voucher_certificate, batch_certificate, model_statement, signed_voucher: signed, .. } = &statements;
        let file = voucher_file(public, voucher_certificate, signed, batch_certificate, model_statement);
        assert_eq!(verify_voucher_file(&file, |_, f| *f == Fingerprint::of(public)).unwrap().voucher, *voucher);

        let entry = Entry {
            device_id: self.device.clone(),
            model: model.name.clone(),
            hardware: voucher.hardware.clone(),
            serial: voucher.serial.clone(),
            claim_hash: voucher.claim_hash,
            hub_key: self.key.clone(),
            made: TIME,
        };
        let chunk = encode_chunk(std::slice::from_ref(&entry)).unwrap();
        let batch_id: [u8; 16] = counting(0xe0);
        let manifest = Manifest {
            brand: self.brand.clone(),
            hub: self.hub,
            batch_id,
            created: TIME,
            models: vec![model_statement.clone()],
            devices: 1,
            chunks: vec![Sha256::digest(&*chunk).into()],
        };
        let header = manifest.header(public, batch_certificate, batch_key).unwrap();
        let verified = VerifiedManifest::verify(&header, &self.hub, |_, _| true).unwrap();
        assert_eq!(verified.verify_chunk(0, &chunk).unwrap(), [entry]);
        json!({
            "brand": self.brand, "issued": TIME,
            "root_seed": hex(root.as_bytes()), "root_public_key": hex(public), "fingerprint": Fingerprint::of(public).to_string(),
            "voucher_seed": hex(voucher_key.as_bytes()), "voucher_certificate": hex(voucher_certificate),
            "batch_seed": hex(batch_key.as_bytes()), "batch_certificate": hex(batch_certificate),
            "model": "lamp", "model_json": model.to_json().to_string(), "model_statement": hex(model_statement),
            "device_id": self.device, "hardware": voucher.hardware, "serial": voucher.serial, "made": TIME,
            "voucher": hex(signed), "voucher_file": hex(&file),
            "batch_id": hex(batch_id), "chunk": hex(&*chunk), "header": hex(&header),
        })
    }
}

#[test]
fn the_checked_in_vectors_are_what_the_code_derives() {
    let parties = Parties::new();
    let public_key = parties.identity.verifying_key().to_bytes();
    let spki: [u8; 32] = Sha256::digest(b"a SubjectPublicKeyInfo").into();
    let derived = json!({
        "hub": {"public_key": hex(public_key), "hub_id_raw": hex(parties.hub.as_bytes()), "hub_id": parties.hub},
        "keys": parties.keys(),
        "claim": parties.claim(),
        "tokens": [parties.token(1, &spki), parties.token(i64::MAX as u64, &[])],
        "rebase": parties.rebase(),
        "alive": parties.alive(),
        "reset": parties.reset(),
        "credential": parties.credential(),
        "request": parties.request(),
        "brand": parties.brand(),
    });
    let text = serde_json::to_string_pretty(&derived).unwrap() + "\n";
    if std::env::var_os("HEARTHKEY_WRITE_VECTORS").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(PATH).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&checked_in).unwrap(), derived);
}
