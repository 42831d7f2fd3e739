//! What the cloud takes for a theft, and what it does not.

use crate::cloud::rig::{Rig, Signed, TestHub, mark, row};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use hearthkey::domain::mirror::recovery::RecoveryCode;
use hearthkey::domain::mirror::statement::EpochStatement;
use hearthkey::domain::mirror::wire::{Consent, Kind};
use hearthkey::domain::rehome::{MoveRequest, RehomeStatement};
use serde_json::json;

const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// The statement that `new` follows `old`, under any key.
fn statement(old: &TestHub, new: &TestHub, epoch: u64, key: &SigningKey) -> Vec<u8> {
    let request = MoveRequest {
        identity: new.identity.verifying_key().to_bytes(),
        recipient: RECIPIENT.into(),
        ca: vec![0x30; 300],
        from: vec![old.id],
        addresses: Vec::new(),
        at_s: 5,
    };
    let mirror = new.mirror.verifying_key().to_bytes();
    RehomeStatement { hub: old.id, epoch, mirror, request: request.sign(&new.identity), at_s: 5 }.sign(key)
}

fn paper(old: &TestHub) -> SigningKey {
    old.recovery().epoch_key(&old.id)
}

async fn rehome(old: &TestHub, by: &TestHub, statement: &[u8]) -> Signed {
    let body = json!({"old": old.id.to_string(), "statement": BASE64URL_NOPAD.encode(statement)});
    by.call("POST", &by.own("/rehome"), body.to_string().into_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_recovery_code_ends_a_hub_and_then_for_good() {
    let rig = Rig::start().await;
    let mut old = rig.linked(1).await;
    let lamp = row(Kind::Device, "lamp-1", 1, 1, json!({"brand": "acme", "model": "lamp", "claimed_at": 5}));
    old.sync(|r| (r.put, r.revoke) = (vec![lamp], vec![mark(Kind::Binding, "lamp-1/user:2", 3)])).await;
    let (new, other) = (rig.hub(2), rig.hub(3));

    // Not the thief, who has the identity and the mirror key; not another house's code; not for a hub that has none.
    let refused = |signed: Signed| (signed.status, signed.code());
    let no = (403, "recovery_code".to_owned());
    for key in [old.identity.clone(), old.mirror.clone(), RecoveryCode::from_bytes([8; 20]).epoch_key(&old.id)] {
        assert_eq!(refused(rehome(&old, &other, &statement(&old, &other, 2, &key)).await), no);
    }
    assert_eq!(refused(rehome(&new, &other, &statement(&new, &other, 2, &paper(&new))).await), no);
    // Changed, or sent by another than it names.
    let good = statement(&old, &new, 2, &paper(&old));
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(refused(rehome(&old, &new, &changed).await), no);
    assert_eq!(rehome(&old, &other, &good).await.status, 401);
    // Not above the epoch that is known.
    assert_eq!(rehome(&old, &new, &statement(&old, &new, 1, &paper(&old))).await.code(), "epoch_stale");
    old.sync(|_| {}).await;

    assert_eq!(rehome(&old, &new, &good).await.status, 200);
    assert_eq!(rehome(&old, &new, &good).await.status, 200, "sent again, it has been done");
    // The stolen hub is told by a statement it can verify, whatever it asks, in its own epoch and in any other.
    let told = old.try_sync(&old.batch(|_| {})).await;
    assert_eq!((told.status, told.code().as_str()), (409, "epoch_stale"));
    let shown = BASE64URL_NOPAD.decode(told.json()["statement"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(shown, good);
    assert_eq!(old.link(&Consent::ALL).await.code(), "epoch_stale");
    assert_eq!(old.unlink().await.code(), "epoch_stale");
    for epoch in [2, 3, 9] {
        let thief = TestHub { epoch, mirror: SigningKey::from_bytes(&[0x77; 32]), ..old.clone() };
        let raised = EpochStatement { hub: old.id, epoch, mirror: thief.mirror.verifying_key().to_bytes(), at_s: 5 };
        for key in [&paper(&old), &old.identity] {
            let body = json!({"statement": BASE64URL_NOPAD.encode(&raised.sign(key))});
            assert_ne!(thief.call("POST", &thief.own("/epoch"), body.to_string().into_bytes()).await.status, 200);
        }
        assert_ne!(thief.try_sync(&thief.batch(|_| {})).await.status, 200);
        assert_ne!(thief.link(&Consent::ALL).await.status, 201);
    }
    assert_eq!(rig.count("rows", &old).await, 0, "nobody sees the stolen hub's home from away");

    // The new one is linked, and what was revoked comes down to it.
    let mut new = new;
    assert_eq!(new.link(&Consent::ALL).await.status, 201);
    let page = new.call("GET", &new.own("/moves"), Vec::new()).await;
    assert_eq!((page.status, page.json()), (200, json!({"orders": {}, "more": false})));
    let first = new.sync(|_| {}).await;
    assert_eq!(first.revoke, [mark(Kind::Binding, "lamp-1/user:2", 3)]);
    assert!(serde_json::to_string(&first.items).unwrap().contains("rehomed"));
    // No third one takes the stolen one's devices, not even by the code: it is the new hub's to be followed now.
    assert_eq!(rehome(&old, &other, &statement(&old, &other, 9, &paper(&old))).await.code(), "epoch_stale");
    // The code stays good for the bundle alone, and the old hub's place is nobody's.
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_never_came_is_given_up_and_one_that_follows_none_gets_nothing() {
    let rig = Rig::start().await;
    let old = rig.linked(1).await;
    let (first, second) = (rig.hub(2), rig.hub(3));
    assert_eq!(rehome(&old, &first, &statement(&old, &first, 2, &paper(&old))).await.status, 200);
    // The box broke before it was linked: the code says so again.
    assert_eq!(rehome(&old, &second, &statement(&old, &second, 3, &paper(&old))).await.status, 200);
    assert_eq!(second.link(&Consent::ALL).await.status, 201);
    // Neither the one that was given up nor a stranger gets anything, and the one that follows is told.
    let stranger = rig.linked(5).await;
    assert_eq!(first.link(&Consent::ALL).await.status, 201);
    for (hub, told) in [(&first, false), (&stranger, false), (&second, true)] {
        let page = hub.call("GET", &hub.own("/moves"), Vec::new()).await;
        assert_eq!(page.json(), json!({"orders": {}, "more": false}));
        let mut hub = hub.clone();
        assert_eq!(serde_json::to_string(&hub.sync(|_| {}).await.items).unwrap().contains("rehomed"), told);
    }
    rig.end().await;
}
