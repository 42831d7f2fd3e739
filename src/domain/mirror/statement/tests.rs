//! Each statement reads back, holds for its signer, hub and purpose alone, and is bounded.

use super::*;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> [u8; 32] {
    key(seed).verifying_key().to_bytes()
}

fn hub() -> HubId {
    HubId::from_public_key(&public(1))
}

const AGE: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

fn link() -> LinkStatement {
    LinkStatement {
        identity: public(1),
        mirror: public(2),
        epoch: 1,
        recovery: Some(RecoveryKeys { key: public(3), recipient: AGE.into() }),
        recipient: AGE.into(),
        name: "Home".into(),
        region: "eu".into(),
        consent: Consent::ALL.into_iter().collect(),
        at_s: 1_790_000_000,
        cloud: public(4),
        code: String::new(),
    }
}

fn mark() -> Mark {
    Mark { kind: Kind::Binding, key: "door/user:1".into(), generation: 4, at: 5, by: "user:2".into() }
}

#[test]
fn a_link_names_its_hub_by_the_key_that_signed_it() {
    let read = LinkStatement::read(&link().sign(&key(1))).unwrap();
    assert_eq!(read, link());
    assert_eq!(read.hub(), hub());
    assert_eq!(LinkStatement::read(&link().sign(&key(2))), Err(StatementError::Signature("link statement")));
    let plain = LinkStatement { recovery: None, consent: BTreeSet::new(), ..link() };
    assert_eq!(LinkStatement::read(&plain.sign(&key(1))), Ok(plain));
}

#[test]
fn a_link_is_refused_when_a_field_is_not_of_its_form() {
    for wrong in [
        LinkStatement { name: "x".repeat(65), ..link() },
        LinkStatement { region: "e\nu".into(), ..link() },
        LinkStatement { recipient: "age1".into(), ..link() },
        LinkStatement { recovery: Some(RecoveryKeys { key: public(3), recipient: "x".into() }), ..link() },
    ] {
        assert!(matches!(LinkStatement::read(&wrong.sign(&key(1))), Err(StatementError::Form(_))), "{wrong:?}");
    }
}

#[test]
fn each_statement_reads_back_for_its_key_and_purpose_alone() {
    let unlink = UnlinkStatement { hub: hub(), at_s: 7 };
    let signed = unlink.sign(&key(1));
    assert_eq!(UnlinkStatement::verify(&public(1), &signed), Ok(unlink));
    assert!(UnlinkStatement::verify(&public(2), &signed).is_err());
    assert!(EpochStatement::verify(&public(1), &signed).is_err());
    assert_eq!(UnlinkStatement::verify(&public(2), &unlink.sign(&key(2))), Err(StatementError::NotThatHub));

    let epoch = EpochStatement { hub: hub(), epoch: 2, mirror: public(5), at_s: 7 };
    let signed = epoch.sign(&key(3));
    assert_eq!(EpochStatement::verify(&public(3), &signed), Ok(epoch));
    assert_eq!(EpochStatement::verify(&public(4), &signed), Err(StatementError::Signature("epoch statement")));

    let request = RecoveryRequest { hub: hub(), nonce: [6; 16], at_s: 7, cloud: public(4) };
    let signed = request.sign(&key(3));
    assert_eq!(RecoveryRequest::verify(&public(3), &signed), Ok(request));
    assert!(EpochStatement::verify(&public(3), &signed).is_err(), "a request for the bundle passed as a new epoch");
}

#[test]
fn a_bulletin_carries_marks_and_not_too_many() {
    let bulletin = Bulletin { hub: hub(), number: 3, at_s: 7, marks: vec![mark(), Mark { kind: Kind::Away, ..mark() }] };
    let signed = bulletin.sign(&key(4));
    assert_eq!(Bulletin::verify(&public(4), &signed), Ok(bulletin.clone()));
    assert!(Bulletin::verify(&public(1), &signed).is_err());
    let full = Bulletin { marks: vec![mark(); MARKS_MAX], ..bulletin.clone() };
    assert_eq!(Bulletin::verify(&public(4), &full.sign(&key(4))).unwrap().marks.len(), MARKS_MAX);
    let more = Bulletin { marks: vec![mark(); MARKS_MAX + 1], ..bulletin.clone() };
    assert_eq!(Bulletin::verify(&public(4), &more.sign(&key(4))), Err(StatementError::TooLarge("the bulletin")));
    let long = Bulletin { marks: vec![Mark { key: "x".repeat(KEY_MAX + 1), ..mark() }], ..bulletin };
    assert!(Bulletin::verify(&public(4), &long.sign(&key(4))).is_err());
}

#[test]
fn a_bundle_is_taken_apart_and_its_seal_is_of_its_content() {
    let seal = BundleSeal::of(hub(), 2, 7, b"content");
    let whole = BundleSeal::join(&seal.sign(&key(1)), b"content");
    let (signed, content) = BundleSeal::part(&whole).unwrap();
    let read = BundleSeal::verify(&public(1), signed).unwrap();
    assert_eq!(read, seal);
    assert!(read.is_of(content) && !read.is_of(b"another"));
    assert_eq!(BundleSeal::verify(&public(2), &seal.sign(&key(2))), Err(StatementError::NotThatHub));
    assert_eq!(BundleSeal::part(&whole[..3]), None);
    assert_eq!(BundleSeal::part(&[0, 0, 0, 9, 1]), None);
    assert_eq!(BundleSeal::part(&[0, 0, 0, 0]), Some((&[][..], &[][..])));
}
