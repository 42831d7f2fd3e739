//! What a release and its file are taken for, and each reason for which they are not.

use super::*;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

fn brand(name: &str) -> BrandId {
    BrandId::parse(name).unwrap()
}

fn certificate(root: &SigningKey, of: &str, purpose: KeyPurpose, of_key: &SigningKey) -> Vec<u8> {
    PurposeCertificate { brand: brand(of), purpose, public_key: public(of_key), issued: 1, serial: 3 }.sign(root)
}

const IMAGE: &[u8] = b"an image of some bytes";

fn release() -> Release {
    Release {
        brand: brand("acme"),
        model: ModelName::parse("garage-door").unwrap(),
        hardware: vec!["A".into(), "B".into()],
        rel: 4,
        version: "1.5.0".into(),
        sha256: ImageHash::of(IMAGE),
        size: IMAGE.len() as u64,
        notes: "Closes more softly.".into(),
        least_before: 2,
        security_minimum: 3,
        made_at: 1_700_000_000,
    }
}

fn head(release: &Release) -> Head {
    let certificate = certificate(&key(1), "acme", KeyPurpose::Firmware, &key(4));
    Head { root: public(&key(1)), certificate, release: release.sign(&key(4)) }
}

fn file() -> Vec<u8> {
    [write_head(&head(&release())).unwrap(), IMAGE.to_vec()].concat()
}

/// A whole release file, as a hub takes it: in pieces.
fn read(file: &[u8], piece: usize) -> Result<Release, ReleaseError> {
    let mut have = 0;
    let (head, length) = loop {
        match read_head(&file[..have])? {
            HeadRead::Done { head, length } => break (head, length),
            HeadRead::More(wanted) if have == file.len() => {
                assert!(wanted > have);
                return Err(ReleaseError::CutShort);
            }
            HeadRead::More(_) => have = (have + piece).min(file.len()),
        }
    };
    let release = head.verify(|_, _| true)?;
    let mut check = ImageCheck::new(&release);
    for piece in file[length..].chunks(piece) {
        check.take(piece)?;
    }
    check.finish()?;
    Ok(release)
}

#[test]
fn a_release_file_is_read_in_pieces_of_any_size() {
    for piece in [1, 2, 7, 100, 10_000] {
        assert_eq!(read(&file(), piece), Ok(release()), "in pieces of {piece}");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let file = file();
    for length in 0..file.len() {
        assert_eq!(read(&file[..length], 50), Err(ReleaseError::CutShort), "cut to {length} bytes");
    }
}

#[test]
fn bytes_behind_the_image_are_refused() {
    assert_eq!(read(&[file(), vec![0]].concat(), 50), Err(ReleaseError::TooLong));
}

#[test]
fn no_changed_byte_of_a_file_passes() {
    let file = file();
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(read(&changed, 50).is_err(), "byte {at}");
    }
}

#[test]
fn a_head_that_cannot_be_one_is_refused_as_soon_as_it_shows() {
    assert_eq!(read_head(b"hkfw2"), Err(ReleaseError::NotAReleaseFile));
    assert_eq!(read_head(b"P"), Err(ReleaseError::NotAReleaseFile));
    assert_eq!(read_head(b""), Ok(HeadRead::More(10)));
    assert_eq!(read_head(b"hkfw1\n\x00\x00\x40\x00"), Ok(HeadRead::More(10 + 16 * 1024)));
    assert_eq!(read_head(b"hkfw1\n\x00\x00\x40\x01"), Err(ReleaseError::NotAReleaseFile));
    let large = Head { release: vec![0; HEAD_MAX], ..head(&release()) };
    assert_eq!(write_head(&large), Err(StatementError::TooLarge("the release")));
}

#[test]
fn a_head_is_in_the_one_form() {
    let framed = |row: Value| {
        let row = cbor::encode(row);
        [MAGIC.as_slice(), &(row.len() as u32).to_be_bytes(), &row].concat()
    };
    let part = || cbor::bytes(&[1]);
    for (name, row) in [
        ("a part too many", Value::Array(vec![cbor::bytes(&[1; 32]), part(), part(), part()])),
        ("a part too few", Value::Array(vec![cbor::bytes(&[1; 32]), part()])),
        ("a short root", Value::Array(vec![part(), part(), part()])),
        ("a map", cbor::map([(1, part())])),
    ] {
        assert!(matches!(read_head(&framed(row)), Err(ReleaseError::Statement(_))), "{name}");
    }
    let mut trailing = write_head(&head(&release())).unwrap();
    trailing[9] += 1;
    trailing.push(0);
    assert!(matches!(read_head(&trailing), Err(ReleaseError::Statement(_))));
}

#[test]
fn a_release_holds_under_its_own_brand_alone() {
    let root = public(&key(1));
    let signed = release().sign(&key(4));
    let verify = |certificate: &[u8], release: &[u8]| Release::verify(&root, certificate, release);
    let good = certificate(&key(1), "acme", KeyPurpose::Firmware, &key(4));
    assert_eq!(verify(&good, &signed), Ok(release()));

    let refused = |result: Result<Release, ReleaseError>| match result {
        Err(ReleaseError::Statement(why)) => why,
        other => panic!("{other:?}"),
    };
    let of_another_root = certificate(&key(9), "acme", KeyPurpose::Firmware, &key(4));
    assert_eq!(refused(verify(&of_another_root, &signed)), StatementError::Signature("certificate"));
    for purpose in [KeyPurpose::Batch, KeyPurpose::Voucher] {
        let found = refused(verify(&certificate(&key(1), "acme", purpose, &key(4)), &signed));
        assert_eq!(found, StatementError::KeyPurpose { expected: KeyPurpose::Firmware, found: purpose });
    }
    assert_eq!(refused(verify(&good, &release().sign(&key(5)))), StatementError::Signature("firmware release"), "signed by another key");
    let as_a_voucher = sign_statement(&key(4), Purpose::Voucher, vec![1]);
    assert_eq!(refused(verify(&good, &as_a_voucher)), StatementError::Signature("firmware release"), "a statement for another purpose");
    let of_another_brand = certificate(&key(1), "bolt", KeyPurpose::Firmware, &key(4));
    assert_eq!(
        refused(verify(&of_another_brand, &signed)),
        StatementError::OtherBrand { what: "the release", expected: brand("bolt"), found: brand("acme") }
    );
    let mut trailing = signed.clone();
    trailing.push(0);
    assert!(matches!(refused(verify(&good, &trailing)), StatementError::Form(_)));
}

#[test]
fn a_release_with_a_field_too_many_or_too_few_is_refused() {
    let payload = verify_statement(&public(&key(4)), Purpose::Firmware, &release().sign(&key(4))).unwrap();
    let Value::Map(fields) = cbor::decode("x", &payload).unwrap() else { panic!() };
    let good = certificate(&key(1), "acme", KeyPurpose::Firmware, &key(4));
    let verify = |fields: Vec<(Value, Value)>| {
        Release::verify(&public(&key(1)), &good, &sign_statement(&key(4), Purpose::Firmware, cbor::encode(Value::Map(fields))))
    };
    assert_eq!(verify(fields.clone()), Ok(release()));
    for left_out in 0..fields.len() {
        let mut fields = fields.clone();
        fields.remove(left_out);
        assert!(verify(fields).is_err(), "without field {}", left_out + 1);
    }
    let more = [fields, vec![(Value::from(12), Value::from(0))]].concat();
    assert!(verify(more).is_err());
}

#[test]
fn a_brand_that_nobody_confirmed_is_told_with_its_fingerprint() {
    let fingerprint = Fingerprint::of(&public(&key(1)));
    let head = head(&release());
    let asked = head.verify(|of, by| {
        assert_eq!((of, by), (&brand("acme"), &fingerprint));
        false
    });
    assert_eq!(asked, Err(StatementError::Untrusted { brand: brand("acme"), fingerprint }.into()));
}

#[test]
fn every_bound_of_a_release_is_kept() {
    type Change = fn(&mut Release);
    let within: [(&str, Change); 8] = [
        ("the smallest image", |r| r.size = 1),
        ("the largest image", |r| r.size = IMAGE_MAX),
        ("the longest notes", |r| r.notes = "é".repeat(NOTES_MAX)),
        ("sixteen revisions", |r| r.hardware = (0..16).map(|n| n.to_string()).collect()),
        ("no revision", |r| r.hardware = vec![String::new()]),
        ("the highest rel", |r| r.rel = REL_MAX),
        ("from the one before", |r| r.least_before = 3),
        ("none other is safe", |r| r.security_minimum = 4),
    ];
    let beyond: [(&str, Change); 14] = [
        ("size", |r| r.size = 0),
        ("size", |r| r.size = IMAGE_MAX + 1),
        ("notes", |r| r.notes = "é".repeat(NOTES_MAX + 1)),
        ("hardware", |r| r.hardware.clear()),
        ("hardware", |r| r.hardware = (0..17).map(|n| n.to_string()).collect()),
        ("hardware", |r| r.hardware = vec!["A".into(), "A".into()]),
        ("hardware", |r| r.hardware = vec!["x".repeat(65)]),
        ("hardware", |r| r.hardware = vec!["A\n".into()]),
        ("rel", |r| (r.rel, r.least_before, r.security_minimum) = (0, 0, 0)),
        ("rel", |r| r.rel = REL_MAX + 1),
        ("version", |r| r.version = "1.5".into()),
        ("version", |r| r.version = format!("1.5.0-{}", "x".repeat(60))),
        ("least rel before", |r| r.least_before = 4),
        ("security minimum", |r| r.security_minimum = 5),
    ];
    let signed = |change: Change| {
        let mut changed = release();
        change(&mut changed);
        let head = head(&changed);
        (Release::verify(&head.root, &head.certificate, &head.release), changed)
    };
    for (name, change) in within {
        let (read, changed) = signed(change);
        assert_eq!(read, Ok(changed), "{name}");
    }
    for (field, change) in beyond {
        let (read, changed) = signed(change);
        assert!(matches!(read, Err(ReleaseError::Bound { field: found, .. }) if found == field), "{field}: {changed:?}");
    }
}

#[test]
fn a_version_is_a_semantic_one() {
    for good in
        ["0.0.0", "1.4.2", "10.20.30", "1.0.0-alpha.1", "1.0.0-0.3.7", "1.0.0-x-y.z", "1.0.0+20130313", "1.0.0-beta+exp.sha.5114f85"]
    {
        assert!(is_semantic_version(good), "{good}");
    }
    for wrong in ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3-a..b", "v1.2.3", "1.2.x", "1.2.3 ", "1.2.3-é"]
    {
        assert!(!is_semantic_version(wrong), "{wrong}");
    }
}

#[test]
fn an_image_is_held_against_its_release() {
    let piecewise = |image: &[u8]| {
        let mut check = ImageCheck::new(&release());
        image.chunks(3).try_for_each(|piece| check.take(piece))?;
        check.finish()
    };
    assert_eq!(piecewise(IMAGE), Ok(()));
    assert_eq!(piecewise(&IMAGE[1..]), Err(ReleaseError::CutShort));
    assert_eq!(piecewise(&[IMAGE, b"x"].concat()), Err(ReleaseError::TooLong));
    assert_eq!(piecewise(&[&IMAGE[1..], b"x"].concat()), Err(ReleaseError::Hash));
}

#[test]
fn the_hash_of_an_image_has_one_spelling() {
    let hash = ImageHash::of(IMAGE);
    assert_eq!(ImageHash::parse(&hash.to_string()), Ok(hash));
    assert!(ImageHash::parse(&hash.to_string().to_uppercase()).is_err());
    assert!(ImageHash::parse("00").is_err());
}
