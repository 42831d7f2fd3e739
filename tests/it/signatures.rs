//! The signatures of the mirror against another implementation of RFC 9421, which shares no code with this one
//! (`tests/rigs/signatures`): it verifies ours, and ours verifies its.

use crate::matrix::run_script;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use ed25519_dalek::SigningKey;
use hearthkey::domain::ids::HubId;
use hearthkey::domain::mirror::signature::{
    Headers, RequestParts, SignedHeaders, fingerprint, sign_reply, sign_request, verify_reply, verify_request,
};
use serde_json::{Value, json};

const NONCE: [u8; 16] = [0xfb, 0xef, 0xff, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

struct Keys {
    hub: HubId,
    mirror: SigningKey,
    cloud: SigningKey,
}

fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

fn header_values(headers: &SignedHeaders) -> Value {
    json!({"content-digest": headers.content_digest, "signature-input": headers.signature_input, "signature": headers.signature})
}

fn request(keys: &Keys, parts: &RequestParts, created: u64) -> (SignedHeaders, Value) {
    let headers = sign_request(&keys.mirror, &keys.hub, parts, created, NONCE);
    let mut values = header_values(&headers);
    values["hearthkey-epoch"] = json!(parts.epoch.to_string());
    let plan = json!({
        "method": parts.method, "url": parts.target_uri, "body": BASE64.encode(parts.body), "headers": values,
        "label": "hub", "tag": "hearthkey-sync-v1", "keyid": keys.hub, "created": created, "nonce": BASE64URL_NOPAD.encode(&NONCE),
        "seed": HEXLOWER.encode(keys.mirror.as_bytes()), "public": HEXLOWER.encode(&public(&keys.mirror)),
    });
    (headers, plan)
}

fn reply(keys: &Keys, status: u16, body: &[u8], to: &Value, signature: &str, created: u64) -> (SignedHeaders, Value) {
    let headers = sign_reply(&keys.cloud, status, body, signature, created);
    let plan = json!({
        "status": status, "request": to, "body": BASE64.encode(body), "headers": header_values(&headers),
        "label": "cloud", "tag": "hearthkey-reply-v1", "keyid": fingerprint(&public(&keys.cloud)), "created": created,
        "seed": HEXLOWER.encode(keys.cloud.as_bytes()), "public": HEXLOWER.encode(&public(&keys.cloud)),
    });
    (headers, plan)
}

fn taken(headers: &Value) -> Headers<'_> {
    let text = |name| headers[name].as_str().unwrap_or_default();
    Headers { content_digest: text("content-digest"), signature_input: text("signature-input"), signature: text("signature") }
}

#[test]
fn another_implementation_verifies_our_signatures_and_ours_verify_its() {
    let identity = SigningKey::from_bytes(&[1; 32]);
    let keys = Keys {
        hub: HubId::from_public_key(&public(&identity)),
        mirror: SigningKey::from_bytes(&[2; 32]),
        cloud: SigningKey::from_bytes(&[3; 32]),
    };
    // It refuses what was signed in the future.
    let created = u64::try_from(jiff::Timestamp::now().as_second()).unwrap() - 60;
    let url = "https://cloud.example/v1/hubs/x/sync";
    let requests = [
        RequestParts { method: "POST", target_uri: url, body: b"{\"v\":1}", epoch: 1 },
        RequestParts { method: "GET", target_uri: "https://cloud.example:8443/v1/hubs/x/wake?cursor=7", body: b"", epoch: 3 },
        RequestParts {
            method: "DELETE",
            target_uri: "https://127.0.0.1:9/v1/hubs/x",
            body: "{\"unlink\":\"ä\"}".as_bytes(),
            epoch: u64::MAX,
        },
        RequestParts { method: "PUT", target_uri: "https://cloud.example/base/v1/hubs/x/bundle", body: &[0xff; 4096], epoch: 2 },
    ];
    let replies: [(u16, &[u8]); 4] = [(200, b"{\"ack\":1}"), (200, b""), (409, b"{\"code\":\"resync\"}"), (503, &[0; 100])];

    let (mut plans, mut ours) = (Vec::new(), Vec::new());
    for (parts, (status, body)) in requests.iter().zip(replies) {
        let (asked, plan) = request(&keys, parts, created);
        let (answered, of_reply) = reply(&keys, status, body, &plan, &asked.signature, created + 1);
        plans.extend([plan, of_reply]);
        ours.extend([asked, answered]);
    }
    let unsigned = json!({"method": "GET", "url": "https://cloud.example/v1", "headers": {}});
    let (answered, of_reply) = reply(&keys, 200, b"{}", &unsigned, "", created);
    plans.push(of_reply);
    ours.push(answered);

    // What was changed since holds for neither.
    let changed = |plan: &Value, pointer: &str, to: Value| {
        let mut plan = plan.clone();
        *plan.pointer_mut(pointer).unwrap() = to;
        plan
    };
    let bad = [
        changed(&plans[0], "/method", json!("PUT")),
        changed(&plans[0], "/url", json!("https://cloud.example/v1/hubs/y/sync")),
        changed(&plans[0], "/body", json!(BASE64.encode(b"{\"v\":2}"))),
        changed(&plans[0], "/headers/hearthkey-epoch", json!("2")),
        changed(&plans[1], "/status", json!(201)),
        changed(&plans[1], "/request/headers/signature", json!(ours[2].signature)),
        changed(&plans[1], "/body", json!("")),
    ];
    let verify: Vec<&Value> = plans.iter().chain(&bad).collect();
    let told = run_script("signatures", "both_ways.py", &json!({"verify": verify, "sign": plans}));

    let (good, refused) = told["verified"].as_array().unwrap().split_at(plans.len());
    for (plan, said) in plans.iter().zip(good) {
        let covered = if plan["label"] == "hub" { 5 } else { 3 + usize::from(plan["request"]["headers"]["signature"].is_string()) };
        assert_eq!(*said, json!({"created": plan["created"], "nonce": plan["nonce"], "covered": covered}), "{plan}");
    }
    assert!(refused.iter().all(|said| said["error"].is_string()), "{refused:?}");

    for ((plan, mine), its) in plans.iter().zip(&ours).zip(told["signed"].as_array().unwrap()) {
        // Ed25519 has one signature for one text: not a byte differs.
        for (name, value) in header_values(mine).as_object().unwrap() {
            assert_eq!(its[name], *value, "{name} of {plan}");
        }
    }
    let its = |n: usize| taken(&told["signed"][n]);
    for (n, (parts, (status, body))) in requests.iter().zip(replies).enumerate() {
        let read = verify_request(&public(&keys.mirror), parts, &its(2 * n)).unwrap();
        assert_eq!((read.hub, read.created_s, read.nonce), (keys.hub, created, NONCE));
        let vouched = verify_reply(&public(&keys.cloud), status, body, its(2 * n).signature, &its(2 * n + 1));
        assert_eq!(vouched, Ok(created + 1));
    }
    assert_eq!(verify_reply(&public(&keys.cloud), 200, b"{}", "", &its(8)), Ok(created));
}
