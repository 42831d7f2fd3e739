//! What a batch takes and refuses.

use super::*;
use crate::domain::model::sign_model;

const RECIPIENT: &str = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn hub() -> HubId {
    HubId::from_bytes([8; 16])
}

fn entry(n: u64) -> Entry {
    Entry {
        device_id: DeviceId::parse(&format!("lamp-{n}")).unwrap(),
        model: ModelName::parse("lamp").unwrap(),
        hardware: "A".into(),
        serial: n.to_string(),
        claim_hash: ClaimHash([n as u8; 32]),
        hub_key: HubScopedKey::from_bytes([n as u8; 32]),
        made: 5,
    }
}

fn manifest(chunks: &[&[u8]], devices: u64) -> Manifest {
    let brand = BrandId::parse("acme").unwrap();
    let model = Model::parse(r#"{"model": "lamp", "title": "Lamp", "version": 1, "kind": "lamp"}"#).unwrap();
    Manifest {
        models: vec![sign_model(&key(2), &brand, &model, 1)],
        brand,
        hub: hub(),
        batch_id: [4; 16],
        created: 6,
        devices,
        chunks: chunks.iter().map(|chunk| Sha256::digest(chunk).into()).collect(),
    }
}

fn header(manifest: &Manifest, certified: &str) -> Vec<u8> {
    let certificate = PurposeCertificate {
        brand: BrandId::parse(certified).unwrap(),
        purpose: KeyPurpose::Batch,
        public_key: key(2).verifying_key().to_bytes(),
        issued: 1,
        serial: 1,
    };
    manifest.header(&key(1).verifying_key().to_bytes(), &certificate.sign(&key(1)), &key(2)).unwrap()
}

#[test]
fn a_batch_of_a_trusted_brand_brings_its_devices() {
    let chunks = [encode_chunk(&[entry(1), entry(2)]).unwrap(), encode_chunk(&[entry(3)]).unwrap()];
    let header = header(&manifest(&[&chunks[0], &chunks[1]], 3), "acme");
    let verified = VerifiedManifest::verify(&header, &hub(), |_, _| true).unwrap();
    assert_eq!(verified.verify_chunk(0, &chunks[0]), Ok(vec![entry(1), entry(2)]));
    assert_eq!(verified.verify_chunk(1, &chunks[1]), Ok(vec![entry(3)]));
    assert_eq!(verified.check_count(2, 3), Ok(()));
    assert_eq!(verified.check_count(1, 2), Err(BatchError::Count { found: 2, chunks: 1 }), "a batch cut short passed");
    assert_eq!(verified.models[0].title, "Lamp");
}

#[test]
fn chunks_are_taken_in_their_signed_order_and_form_alone() {
    let chunks = [encode_chunk(&[entry(1)]).unwrap(), encode_chunk(&[entry(2)]).unwrap()];
    let verified = VerifiedManifest::verify(&header(&manifest(&[&chunks[0], &chunks[1]], 2), "acme"), &hub(), |_, _| true).unwrap();
    assert_eq!(verified.verify_chunk(0, &chunks[1]), Err(BatchError::Chunk(0)));
    assert_eq!(verified.verify_chunk(2, &chunks[0]), Err(BatchError::TooManyChunks));
    let mut changed = chunks[0].to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(verified.verify_chunk(0, &changed), Err(BatchError::Chunk(0)));
}

#[test]
fn a_batch_for_another_hub_is_refused() {
    let header = header(&manifest(&[], 0), "acme");
    let other = HubId::from_bytes([9; 16]);
    assert_eq!(VerifiedManifest::verify(&header, &other, |_, _| true), Err(BatchError::OtherHub(hub())));
}

#[test]
fn a_batch_of_an_unknown_root_names_it() {
    let header = header(&manifest(&[], 0), "acme");
    let refused = VerifiedManifest::verify(&header, &hub(), |_, _| false);
    let fingerprint = Fingerprint::of(&key(1).verifying_key().to_bytes());
    assert_eq!(refused, Err(StatementError::Untrusted { brand: BrandId::parse("acme").unwrap(), fingerprint }.into()));
}

#[test]
fn a_brand_fills_its_own_registry_alone() {
    let header = header(&manifest(&[], 0), "other");
    assert!(matches!(
        VerifiedManifest::verify(&header, &hub(), |_, _| true),
        Err(BatchError::Statement(StatementError::OtherBrand { what: "the manifest", .. }))
    ));
}

#[test]
fn a_device_of_a_model_that_does_not_come_along_is_refused() {
    let odd = Entry { model: ModelName::parse("heater").unwrap(), ..entry(1) };
    let chunk = encode_chunk(&[odd]).unwrap();
    let verified = VerifiedManifest::verify(&header(&manifest(&[&chunk], 1), "acme"), &hub(), |_, _| true).unwrap();
    assert!(matches!(verified.verify_chunk(0, &chunk), Err(BatchError::UnknownModel { chunk: 0, .. })));
}

#[test]
fn a_chunk_has_at_most_a_thousand_devices() {
    let entries: Vec<Entry> = (0..1001).map(entry).collect();
    assert!(encode_chunk(&entries[..1000]).is_ok());
    assert_eq!(encode_chunk(&entries), Err(StatementError::TooLarge("a chunk")));
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_it_is_read() {
    assert_eq!(frame_length([0, 0, 1, 0], CHUNK_MAX), Ok(256));
    assert_eq!(frame_length([0, 0, 0, 0], CHUNK_MAX), Err(BatchError::Length(0)));
    assert_eq!(frame_length([0xff; 4], CHUNK_MAX), Err(BatchError::Length(u32::MAX)));
    assert_eq!(frame_length(frame_prefix(&[0; 300]), CHUNK_MAX), Ok(300));
}

#[test]
fn a_hub_request_proves_the_hubs_key() {
    let line = HubRequest::line(&key(5), RECIPIENT, 7);
    let public_key = key(5).verifying_key().to_bytes();
    let expected = HubRequest { hub: HubId::from_public_key(&public_key), public_key, recipient: RECIPIENT.into(), created: 7 };
    assert_eq!(HubRequest::parse(&format!("{line}\n")), Ok(expected));
    assert!(HubRequest::parse(&line.replace("HKREQ1", "HKREQ2")).is_err());
    assert!(HubRequest::parse(&format!("{line}A")).is_err());
}

#[test]
fn a_hub_cannot_ask_in_the_name_of_another() {
    let other = key(6).verifying_key().to_bytes();
    let payload = |hub: HubId, public_key: &[u8; 32]| {
        cbor::encode(cbor::map([
            (1, cbor::bytes(hub.as_bytes())),
            (2, cbor::bytes(public_key)),
            (3, cbor::text(RECIPIENT)),
            (4, Value::from(7)),
        ]))
    };
    let line = |payload| {
        let statement = sign_statement(&key(5), Purpose::Request, payload);
        format!("{REQUEST_PREFIX}{}", data_encoding::BASE64URL_NOPAD.encode(&statement))
    };
    let own = key(5).verifying_key().to_bytes();
    assert_eq!(HubRequest::parse(&line(payload(HubId::from_public_key(&other), &own))), Err(StatementError::NotThatHub));
    assert_eq!(HubRequest::parse(&line(payload(HubId::from_public_key(&other), &other))), Err(StatementError::Signature("hub request")));
}
