//! The test vectors of firmware (`docs/protocol/firmware-vectors.json`): a release, its file, refusals, a device's stage, a chunk. As
//! `vectors.rs`, it is written anew with `HEARTHKEY_WRITE_VECTORS=1 cargo test vectors`.

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::firmware::read_release;
use super::vectors::{TIME, counting, hex};
use crate::domain::brand::{KeyPurpose, PurposeCertificate};
use crate::domain::firmware::policy::stage;
use crate::domain::firmware::release::{Head, ImageHash, Release, write_head};
use crate::domain::ids::{BrandId, DeviceId, ModelName};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol/firmware-vectors.json");
const IMAGE: &[u8] = b"{\"hearthkey-device\":1,\"version\":\"1.5.0\"}\nand any bytes";

fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

fn certificate(root: &SigningKey, brand: &str, purpose: KeyPurpose, key: &SigningKey) -> Vec<u8> {
    let brand = BrandId::parse(brand).unwrap();
    PurposeCertificate { brand, purpose, public_key: public(key), issued: TIME, serial: 3 }.sign(root)
}

#[test]
fn the_checked_in_vectors_of_firmware_are_what_the_code_derives() {
    let [root, key, other] = [0x20, 0x21, 0x22].map(|from| SigningKey::from_bytes(&counting(from)));
    let release = Release {
        brand: BrandId::parse("acme").unwrap(),
        model: ModelName::parse("lamp").unwrap(),
        hardware: vec!["A".into(), "B".into()],
        rel: 4,
        version: "1.5.0".into(),
        sha256: ImageHash::of(IMAGE),
        size: IMAGE.len() as u64,
        notes: "Softer light.".into(),
        least_before: 2,
        security_minimum: 3,
        made_at: TIME,
    };
    let good = certificate(&root, "acme", KeyPurpose::Firmware, &key);
    let signed = release.sign(&key);
    let head = write_head(&Head { root: public(&root), certificate: good.clone(), release: signed.clone() }).unwrap();
    let file = [head.as_slice(), IMAGE].concat();
    assert_eq!(read_release(&file).unwrap().0, release);

    let changed = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    let refused: Vec<Value> = [
        ("the release is changed", good.clone(), changed(&signed)),
        ("the certificate is changed", changed(&good), signed.clone()),
        ("signed by another key", good.clone(), release.sign(&other)),
        ("the certificate is another root's", certificate(&other, "acme", KeyPurpose::Firmware, &key), signed.clone()),
        ("the key is for batches", certificate(&root, "acme", KeyPurpose::Batch, &key), signed.clone()),
        ("the key is another brand's", certificate(&root, "bolt", KeyPurpose::Firmware, &key), signed.clone()),
        ("a byte follows", good.clone(), [signed.as_slice(), &[0]].concat()),
    ]
    .into_iter()
    .map(|(why, certificate, signed)| {
        assert!(Release::verify(&public(&root), &certificate, &signed).is_err(), "{why}");
        json!({"why": why, "certificate": hex(certificate), "release": hex(signed)})
    })
    .collect();
    let stages: Vec<Value> = ["lamp-7k3m9q2x4t8w", "door-1", "A"]
        .map(|id| json!({"device_id": id, "sha256": release.sha256, "stage": stage(&DeviceId::parse(id).unwrap(), &release.sha256)}))
        .into();
    let offer: [u8; 16] = counting(0x01);
    let derived = json!({
        "root_seed": hex(root.as_bytes()), "root_public_key": hex(public(&root)), "firmware_seed": hex(key.as_bytes()),
        "certificate": hex(&good), "release": hex(&signed),
        "says": {
            "brand": release.brand, "model": release.model, "hardware": release.hardware, "rel": release.rel, "version": release.version,
            "sha256": release.sha256, "size": release.size, "notes": release.notes, "least_before": release.least_before,
            "security_minimum": release.security_minimum, "made": release.made_at,
        },
        "image": hex(IMAGE), "head": hex(&head), "file": hex(&file),
        "refused": refused,
        "stages": stages,
        "chunk": {
            "offer": "01020304-0506-0708-090a-0b0c0d0e0f10", "offset": 16384, "bytes": hex([7u8; 3]),
            "payload": hex([offer.as_slice(), &16_384u64.to_be_bytes(), &[7u8; 3]].concat()),
        },
    });
    let text = serde_json::to_string_pretty(&derived).unwrap() + "\n";
    if std::env::var_os("HEARTHKEY_WRITE_VECTORS").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(PATH).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&checked_in).unwrap(), derived);
}
