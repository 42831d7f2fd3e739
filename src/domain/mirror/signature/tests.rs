//! The machinery against RFC 9421's own example, and what is refused.

use super::*;

fn hub() -> HubId {
    HubId::from_public_key(&[7; 32])
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn public() -> [u8; 32] {
    key().verifying_key().to_bytes()
}

const URL: &str = "https://cloud.example/v1/hubs/x/sync";
const PARTS: RequestParts = RequestParts { method: "POST", target_uri: URL, body: b"{\"v\":1}", epoch: 3 };

fn signed() -> SignedHeaders {
    sign_request(&key(), &hub(), &PARTS, 1_790_000_000, [9; 16])
}

fn verify(headers: &SignedHeaders) -> Result<VerifiedRequest, SignatureError> {
    verify_request(&public(), &PARTS, &headers.as_headers())
}

/// RFC 9421, B.2.6, with the key of B.1.4.
#[test]
fn the_base_of_the_standards_example_is_signed_as_in_the_standard() {
    let params = r#"("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#;
    let covered = [
        ("\"date\"", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("\"@method\"", "POST"),
        ("\"@path\"", "/foo"),
        ("\"@authority\"", "example.com"),
        ("\"content-type\"", "application/json"),
        ("\"content-length\"", "18"),
    ];
    let base = base(&covered, params);
    assert_eq!(
        base,
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\"@authority\": example.com\n\
         \"content-type\": application/json\n\"content-length\": 18\n\"@signature-params\": \
         (\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\""
    );
    // The last 32 bytes of the private key's PKCS #8.
    let pkcs8 = BASE64.decode(b"MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF").unwrap();
    let key = SigningKey::from_bytes(&pkcs8[16..].try_into().unwrap());
    let headers = headers("sig-b26", digest_of(b""), params, &key.sign(base.as_bytes()));
    assert_eq!(headers.signature, "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:");
    assert_eq!(headers.signature_input, format!("sig-b26={params}"));
    assert!(signature_bytes("sig-b26", &headers.signature).is_some());
}

/// RFC 9530, appendix B.1 (the body with its line feed), and D of the same for the empty one.
#[test]
fn a_digest_is_written_as_in_the_standard() {
    assert_eq!(digest_of(b"{\"hello\": \"world\"}\n"), "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
    assert_eq!(digest_of(b""), "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
}

#[test]
fn a_request_names_its_hub_and_holds_for_every_part() {
    let headers = signed();
    assert_eq!(claimed_hub(&headers.as_headers()), Some(hub()));
    assert_eq!(verify(&headers), Ok(VerifiedRequest { hub: hub(), created_s: 1_790_000_000, nonce: [9; 16] }));
    let parts = |parts| verify_request(&public(), &parts, &headers.as_headers());
    assert_eq!(parts(RequestParts { method: "PUT", ..PARTS }), Err(SignatureError::Signature));
    assert_eq!(parts(RequestParts { target_uri: "https://cloud.example/v1/hubs/y/sync", ..PARTS }), Err(SignatureError::Signature));
    assert_eq!(parts(RequestParts { epoch: 4, ..PARTS }), Err(SignatureError::Signature));
    assert_eq!(parts(RequestParts { body: b"{}", ..PARTS }), Err(SignatureError::Body));
    assert_eq!(parts(RequestParts { method: "POST\n\"x\": y", ..PARTS }), Err(SignatureError::Malformed("the method")));
    assert_eq!(parts(RequestParts { target_uri: "https://a/\n", ..PARTS }), Err(SignatureError::Malformed("the URL")));
    let other = SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes();
    assert_eq!(verify_request(&other, &PARTS, &headers.as_headers()), Err(SignatureError::Signature));
}

#[test]
fn the_parameters_of_a_request_are_taken_in_their_one_form() {
    let good = signed();
    let changed = |from: &str, to: &str| {
        assert!(good.signature_input.contains(from), "{from}");
        verify(&SignedHeaders { signature_input: good.signature_input.replacen(from, to, 1), ..good.clone() }).unwrap_err()
    };
    for (from, to) in [
        ("alg=\"ed25519\"", "alg=\"hmac-sha256\""),
        (";alg=\"ed25519\"", ""),
        ("hearthkey-sync-v1", "hearthkey-reply-v1"),
        ("\"@method\" \"@target-uri\"", "\"@target-uri\" \"@method\""),
        (" \"hearthkey-epoch\"", ""),
        ("\"@method\"", "\"@method\" \"@method\""),
        ("\"@method\"", "\"@method\";req"),
        ("created=1790000000", "created=1790000000;created=1790000000"),
        ("created=1790000000", "created=01790000000"),
        ("created=1790000000", "created=-1"),
        ("created=1790000000", "created=\"1790000000\""),
        ("created=1790000000;nonce=", "nonce="),
        (";tag=", ";expires=9;tag="),
        ("nonce=\"CQ", "nonce=\"CQ=="),
        (";keyid", " ;keyid"),
        (";keyid", "; keyid"),
    ] {
        let error = changed(from, to);
        assert!(matches!(error, SignatureError::Profile | SignatureError::Malformed(_)), "{from} → {to}: {error:?}");
    }
    assert_eq!(changed("1790000000", "1790000001"), SignatureError::Signature);
    let other = HubId::from_public_key(&[8; 32]).to_string();
    assert_eq!(changed(&hub().to_string(), &other), SignatureError::Signature);
    assert_eq!(changed(&hub().to_string(), "nobody"), SignatureError::OtherKey);
}

#[test]
fn one_signature_is_taken_and_no_second() {
    let good = signed();
    let twice = format!("{}, {}", good.signature_input, good.signature_input.replacen("hub=", "x=", 1));
    assert_eq!(verify(&SignedHeaders { signature_input: twice, ..good.clone() }), Err(SignatureError::Malformed("Signature-Input")));
    let again = format!("{}, {}", good.signature_input, good.signature_input);
    assert_eq!(verify(&SignedHeaders { signature_input: again, ..good.clone() }), Err(SignatureError::Profile));
    for signature in [
        format!("{0}, {0}", good.signature),
        format!("{};x", good.signature),
        good.signature.replacen("hub=", "sig=", 1),
        good.signature.replace("==", ""),
        "hub=:AAAA:".into(),
        "hub".into(),
        format!("hub=:{}:", "A".repeat(2000)),
    ] {
        assert_eq!(
            verify(&SignedHeaders { signature: signature.clone(), ..good.clone() }),
            Err(SignatureError::Malformed("Signature")),
            "{signature}"
        );
    }
    for content_digest in ["", "sha-512=:AAAA:", &format!("{}, sha-512=:AAAA:", good.content_digest)] {
        assert_eq!(verify(&SignedHeaders { content_digest: content_digest.into(), ..good.clone() }), Err(SignatureError::Body));
    }
    let nothing = Headers { content_digest: "", signature_input: "", signature: "" };
    assert_eq!(verify_request(&public(), &PARTS, &nothing), Err(SignatureError::Unsigned));
    assert_eq!(claimed_hub(&nothing), None);
}

#[test]
fn a_reply_belongs_to_its_request() {
    let (request, cloud) = (signed(), SigningKey::from_bytes(&[3; 32]));
    let pinned = cloud.verifying_key().to_bytes();
    let reply = sign_reply(&cloud, 200, b"{}", &request.signature, 1_790_000_001);
    let verify = |status, body: &[u8], signature: &str| verify_reply(&pinned, status, body, signature, &reply.as_headers());
    assert_eq!(verify(200, b"{}", &request.signature), Ok(1_790_000_001));
    assert_eq!(verify(409, b"{}", &request.signature), Err(SignatureError::Signature));
    assert_eq!(verify(200, b"{ }", &request.signature), Err(SignatureError::Body));
    let other = sign_request(&key(), &hub(), &PARTS, 1_790_000_000, [8; 16]);
    assert_eq!(verify(200, b"{}", &other.signature), Err(SignatureError::Signature), "a reply to another request");
    assert_eq!(verify(200, b"{}", ""), Err(SignatureError::Profile));
    assert_eq!(verify(200, b"{}", "rubbish"), Err(SignatureError::Malformed("the request's Signature")));
    assert_eq!(verify_reply(&public(), 200, b"{}", &request.signature, &reply.as_headers()), Err(SignatureError::OtherKey));
    assert!(reply.signature_input.contains(&format!("keyid=\"{}\"", fingerprint(&pinned))));
}

#[test]
fn a_reply_to_an_unsigned_request_covers_none_and_answers_no_signed_one() {
    let (request, cloud) = (signed(), SigningKey::from_bytes(&[3; 32]));
    let pinned = cloud.verifying_key().to_bytes();
    let reply = sign_reply(&cloud, 200, b"{}", "", 5);
    assert_eq!(verify_reply(&pinned, 200, b"{}", "", &reply.as_headers()), Ok(5));
    assert_eq!(verify_reply(&pinned, 200, b"{}", &request.signature, &reply.as_headers()), Err(SignatureError::Profile));
}

#[test]
fn a_request_is_no_reply() {
    let request = signed();
    assert_eq!(verify_reply(&public(), 200, b"{}", "", &request.as_headers()), Err(SignatureError::Malformed("Signature-Input")));
}

proptest::proptest! {
    #[test]
    fn any_headers_are_answered(input in "\\PC{0,200}", signature in "\\PC{0,200}") {
        let headers = Headers { content_digest: "", signature_input: &input, signature: &signature };
        proptest::prop_assert!(verify_request(&public(), &PARTS, &headers).is_err());
        proptest::prop_assert!(verify_reply(&public(), 200, b"", &signature, &headers).is_err());
    }
}
