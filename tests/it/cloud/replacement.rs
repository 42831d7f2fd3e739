//! A hub that takes a broken one's place, and what is downloaded in parts.

use super::rig::{Rig, TestHub, mark, now_s, row};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use hearthkey::domain::mirror::recovery::RecoveryCode;
use hearthkey::domain::mirror::statement::{EpochStatement, RecoveryRequest};
use hearthkey::domain::mirror::wire::{Consent, Kind};
use serde_json::json;
use sha2::{Digest, Sha256};

const BUNDLE: &[u8] = b"age-encryption.org/v1\nsealed to the code";

async fn recover(hub: &TestHub, code: &RecoveryCode) -> super::rig::Signed {
    let request = RecoveryRequest { hub: hub.id, nonce: [1; 16], at_s: now_s(), cloud: hub.line.key };
    let request = request.sign(&code.epoch_key(&hub.id));
    hub.line.post(&hub.own("/recovery"), &json!({"request": BASE64URL_NOPAD.encode(&request)})).await
}

/// The hub that takes the place, before the cloud knows of it.
fn successor(hub: &TestHub, epoch: u64) -> TestHub {
    TestHub { mirror: SigningKey::from_bytes(&[200; 32]), epoch, batch: 0, cursor: 0, ..hub.clone() }
}

async fn raise(new: &TestHub, code: &RecoveryCode) -> super::rig::Signed {
    let statement = EpochStatement { hub: new.id, epoch: new.epoch, mirror: new.mirror.verifying_key().to_bytes(), at_s: now_s() };
    let statement = BASE64URL_NOPAD.encode(&statement.sign(&code.epoch_key(&new.id)));
    new.call("POST", &new.own("/epoch"), json!({"statement": statement}).to_string().into_bytes()).await
}

#[tokio::test]
async fn the_bundle_is_given_to_whoever_has_the_code_and_to_nobody_else() {
    let rig = Rig::start().await;
    let hub = rig.linked(1).await;
    assert_eq!(recover(&hub, &hub.recovery()).await.code(), "nothing_to_recover");
    assert_eq!(hub.call("PUT", &hub.own("/bundle"), b"not sealed".to_vec()).await.status, 422);
    assert_eq!(hub.call("PUT", &hub.own("/bundle"), BUNDLE.to_vec()).await.status, 204);
    let given = recover(&hub, &hub.recovery()).await;
    assert_eq!((given.status, &given.json()["bundle"], &given.json()["epoch"]), (200, &json!(BASE64URL_NOPAD.encode(BUNDLE)), &json!(1)));
    // Another code, a hub that nobody knows, a request meant for another cloud: one answer.
    let wrong = recover(&hub, &RecoveryCode::from_bytes([9; 20])).await;
    let unknown = recover(&rig.hub(7), &hub.recovery()).await;
    let mut elsewhere = hub.clone();
    elsewhere.line.key = [5; 32];
    let request = RecoveryRequest { hub: hub.id, nonce: [1; 16], at_s: now_s(), cloud: [5; 32] }.sign(&hub.recovery().epoch_key(&hub.id));
    let other = hub.line.post(&hub.own("/recovery"), &json!({"request": BASE64URL_NOPAD.encode(&request)})).await;
    assert_eq!((wrong.status, &wrong.body), (404, &unknown.body));
    assert_eq!(wrong.body, other.body);
    rig.end().await;
}

#[tokio::test]
async fn a_new_epoch_retires_the_old_hub_and_brings_every_mark_again() {
    let rig = Rig::start().await;
    let mut old = rig.linked(1).await;
    old.sync(|b| {
        b.put = vec![row(Kind::Binding, "lamp/user:2", 2, 1, json!({}))];
        b.revoke = vec![mark(Kind::Binding, "lamp/user:3", 5)];
    })
    .await;
    let operator = rig.operator().await;
    operator.end(&old.id.to_string(), "binding", "lamp/user:2", 3).await.unwrap();
    operator.close().await;
    assert_eq!(old.sync(|_| {}).await.revoke.len(), 1);
    let mut new = successor(&old, 2);
    // Neither another code, nor the identity without the code, raises the epoch.
    assert_eq!(raise(&new, &RecoveryCode::from_bytes([9; 20])).await.status, 422);
    assert_eq!(new.link(&Consent::ALL).await.code(), "epoch_unproven");
    assert_eq!(raise(&new, &old.recovery()).await.status, 200);
    assert_eq!(raise(&new, &old.recovery()).await.json()["epoch"], json!(2));
    // The old one is shown the proof, whatever it asks.
    let retired = old.try_sync(&old.batch(|b| b.revoke = vec![mark(Kind::User, "u", 1)])).await;
    assert_eq!((retired.status, retired.code().as_str()), (409, "epoch_stale"));
    let proof = BASE64URL_NOPAD.decode(retired.json()["statement"].as_str().unwrap().as_bytes()).unwrap();
    let read = EpochStatement::verify(&old.recovery().epoch_key(&old.id).verifying_key().to_bytes(), &proof).unwrap();
    assert_eq!((read.epoch, read.hub), (2, old.id));
    assert_eq!(old.link(&Consent::ALL).await.code(), "epoch_stale");
    assert_eq!(old.call("PUT", &old.own("/bundle"), BUNDLE.to_vec()).await.code(), "epoch_stale");
    // Its identity does not get it back in under the new epoch.
    let thief = TestHub { epoch: 2, ..old.clone() };
    assert_eq!(thief.link(&Consent::ALL).await.code(), "signature");
    assert_eq!(thief.try_sync(&thief.batch(|_| {})).await.code(), "signature");
    // The new one begins at batch 1, and every mark comes down, also those that its predecessor had sent.
    let first = new.sync(|_| {}).await;
    assert_eq!(first.revoke.len(), 2);
    assert_eq!(raise(&successor(&old, 1), &old.recovery()).await.code(), "epoch_stale");
    rig.end().await;
}

#[tokio::test]
async fn a_batch_is_downloaded_in_parts_by_its_hub_alone() {
    let rig = Rig::start().await;
    let (mut hub, other) = (rig.linked(1).await, rig.linked(2).await);
    let body: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    let insert =
        "INSERT INTO batches (hub_id, id, brand, state, devices, bytes, sha256, at) VALUES ($1, 'b1', 'acme', 'ready', 3, $2, $3, 1)";
    let (length, hash) = (body.len() as i64, Sha256::digest(&body).to_vec());
    let database = rig.database().await;
    database.execute(insert, &[&hub.id.as_bytes().as_slice(), &length, &hash]).await.unwrap();
    let insert = "INSERT INTO batch_parts (hub_id, id, part, body) VALUES ($1, 'b1', 0, $2)";
    database.execute(insert, &[&hub.id.as_bytes().as_slice(), &body]).await.unwrap();
    let ask = |hub: TestHub, range: &'static str| async move {
        let (request, signature) = hub.signed("GET", &hub.own("/batches/b1"), Vec::new(), now_s());
        hub.line.send(if range.is_empty() { request } else { request.header("range", range) }, &signature).await
    };
    assert_eq!(ask(hub.clone(), "").await.body, body);
    let part = ask(hub.clone(), "bytes=65536-70000").await;
    assert_eq!((part.status, part.content_range.as_str()), (206, "bytes 65536-70000/100000"));
    assert_eq!(part.body, body[65536..=70000]);
    let last = ask(hub.clone(), "bytes=99999-200000").await;
    assert_eq!((last.body.as_slice(), last.content_range.as_str()), (&body[99_999..], "bytes 99999-99999/100000"));
    assert_eq!(ask(hub.clone(), "bytes=100000-").await.status, 416);
    assert_eq!(ask(other, "").await.status, 404);
    // Once it is done, it is not kept any longer.
    let offer = json!({"brand": "acme", "id": "b1", "bytes": length, "sha256": "00", "devices": 3}).to_string();
    let item = "INSERT INTO items (hub_id, cursor, id, kind, body, at) VALUES ($1, 1, 'b1', 'batch', $2, 1)";
    database.execute(item, &[&hub.id.as_bytes().as_slice(), &offer]).await.unwrap();
    let done = hearthkey::domain::mirror::wire::Done { id: "b1".into(), ok: true, code: "done".into(), detail: String::new() };
    hub.sync(|b| b.done = vec![done]).await;
    assert_eq!(ask(hub, "").await.status, 404);
    rig.end().await;
}
