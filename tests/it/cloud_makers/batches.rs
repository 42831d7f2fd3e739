//! Identities on their way to a hub: by assignment, and at first sight of a device.

use std::io::Read;

use super::rig::{Hub, Rig, device_key, device_row, lines, paired_row};
use data_encoding::HEXLOWER;
use hearthkey::cloud::Scope;
use hearthkey::domain::account::Role;
use hearthkey::domain::batch::{Entry, HEADER_MAX, VerifiedManifest, frame_length};
use hearthkey::domain::keys::hub_scoped;
use hearthkey::domain::mirror::wire::{BatchOffer, Item, ItemBody, SyncRequest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The batch in items that came down.
fn offer(items: &[Item]) -> &BatchOffer {
    let found = items.iter().find_map(|item| if let ItemBody::Batch(offer) = &item.body { Some(offer) } else { None });
    found.expect("a batch")
}

/// Downloads a batch in ranges, opens it and reads it as a hub does.
async fn read(hub: &Hub<'_>, offer: &BatchOffer) -> Vec<Entry> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < offer.bytes {
        let path = format!("/v1/hubs/{}/batches/{}", hub.id, offer.id);
        let part = hub.signed("GET", &path, None, Some(&format!("bytes={}-{}", bytes.len(), bytes.len() + 99_999))).await;
        assert_eq!(part.status, 206);
        let held = part.headers["content-range"].to_str().unwrap().to_owned();
        assert!(held.starts_with(&format!("bytes {}-", bytes.len())) && held.ends_with(&format!("/{}", offer.bytes)), "{held}");
        bytes.extend(part.bytes);
    }
    assert_eq!(HEXLOWER.encode(&Sha256::digest(&bytes)), offer.sha256);
    let mut plain = Vec::new();
    let decryptor = age::Decryptor::new(bytes.as_slice()).unwrap();
    decryptor.decrypt(std::iter::once(&hub.reader as &dyn age::Identity)).unwrap().read_to_end(&mut plain).unwrap();
    let (mut parts, mut rest) = (Vec::new(), plain.as_slice());
    while let Some((prefix, after)) = rest.split_first_chunk::<4>() {
        let (part, after) = after.split_at(frame_length(*prefix, HEADER_MAX).unwrap());
        parts.push(part);
        rest = after;
    }
    let verified = VerifiedManifest::verify(parts[0], &hub.id, |_, _| true).unwrap();
    assert_eq!(verified.devices, offer.devices);
    parts[1..].iter().enumerate().flat_map(|(n, part)| verified.verify_chunk(n, part).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_gets_the_devices_that_are_assigned_to_it_with_keys_for_it_alone() {
    let rig = Rig::start().await;
    let token = rig.token("acme", &[Scope::UploadIdentities, Scope::AssignDevices]).await;
    rig.upload(&token, "all", 0, true, lines("acme", 0, 2500)).await.good();
    let (hub, other) = (rig.hub(1, &[]).await, rig.hub(2, &[]).await);
    let path = format!("/v1/hubs/{}/assignments", hub.id);
    let assigned = rig.call("POST", &path, &token, json!({"upload": "all"})).await.good();
    assert_eq!(assigned["devices"], 2500);
    let (items, _) = hub.next().await;
    let offered = offer(&items).clone();
    assert_eq!((offered.brand.as_str(), offered.devices, offered.id.as_str()), ("acme", 2500, assigned["id"].as_str().unwrap()));
    let entries = read(&hub, &offered).await;
    assert_eq!(entries.len(), 2500);
    for (n, entry) in entries.iter().enumerate() {
        assert_eq!(entry.device_id.as_str(), format!("lamp-{n:06}"));
        assert_eq!(entry.hub_key, hub_scoped(&device_key(n as u64), &hub.id));
    }
    let progress = rig.call("GET", &format!("{path}/{}", offered.id), &token, Value::Null).await.good();
    assert_eq!((&progress["state"], &progress["bytes"]), (&json!("ready"), &json!(offered.bytes)));
    // It is nobody else's.
    other.signed("GET", &format!("/v1/hubs/{}/batches/{}", other.id, offered.id), None, None).await.refused(404, "not_found");
    other.signed("GET", &format!("/v1/hubs/{}/batches/{}", hub.id, offered.id), None, None).await.refused(401, "signature");
    drop((hub, other));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_has_shown_its_key_is_answered_and_a_guessed_id_is_not() {
    let rig = Rig::start().await;
    let token = rig.token("acme", &[Scope::UploadIdentities]).await;
    rig.upload(&token, "all", 0, true, lines("acme", 0, 20)).await.good();
    let hub = rig.hub(1, &[]).await;
    let mut guessed = paired_row(&hub.id, 2, &device_key(2), 1);
    guessed.body["serial"] = json!("S-of-another");
    let mut unnamed = paired_row(&hub.id, 3, &device_key(3), 1);
    unnamed.body.as_object_mut().unwrap().remove("serial");
    let mut broken = paired_row(&hub.id, 6, &device_key(6), 1);
    broken.body["paired"]["tag"] = json!("no tag");
    let rows = vec![
        paired_row(&hub.id, 1, &device_key(1), 1),
        guessed,
        unnamed,
        broken,
        // Everything that stands on its label and in its voucher, and nothing that it has said.
        device_row("lamp-000007", 1, 1, "provisional", 0),
        device_row("lamp-000004", 1, 1, "attested", 0),
        paired_row(&hub.id, 999_999, &device_key(999_999), 1),
    ];
    hub.put(rows).await;
    let (items, _) = hub.next().await;
    assert_eq!(items.len(), 1, "{items:?}");
    let entries = read(&hub, offer(&items)).await;
    assert_eq!(entries.iter().map(|entry| entry.device_id.as_str()).collect::<Vec<_>>(), ["lamp-000001"]);
    assert_eq!(entries[0].hub_key, hub_scoped(&device_key(1), &hub.id));
    // Said once; the next new one is another matter.
    hub.put(vec![paired_row(&hub.id, 1, &device_key(1), 2), paired_row(&hub.id, 5, &device_key(5), 1)]).await;
    let (items, _) = hub.next().await;
    let entries = read(&hub, offer(&items)).await;
    assert_eq!(entries.iter().map(|entry| entry.device_id.as_str()).collect::<Vec<_>>(), ["lamp-000005"]);
    drop(hub);
    rig.stop().await;
}

/// The devices whose tags did not hold, in items that came down.
fn forged(items: &[Item]) -> Vec<&str> {
    let devices = items.iter().filter_map(|item| match &item.body {
        ItemBody::Forged(forged) => Some(forged.device.as_str()),
        _ => None,
    });
    devices.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_does_not_hold_brings_no_key_and_its_hub_is_told_once() {
    let rig = Rig::start().await;
    let token = rig.token("acme", &[Scope::UploadIdentities]).await;
    rig.upload(&token, "all", 0, true, lines("acme", 0, 60)).await.good();
    let (hub, other) = (rig.hub(1, &[]).await, rig.hub(2, &[]).await);
    // Made by a copy without the key; and taken from what the device said to another hub.
    let copy = paired_row(&hub.id, 1, &device_key(77), 1);
    let overheard = paired_row(&other.id, 2, &device_key(2), 1);
    hub.put(vec![copy, overheard, paired_row(&hub.id, 3, &device_key(3), 1)]).await;
    let (mut items, _) = hub.next().await;
    while !items.iter().any(|item| matches!(item.body, ItemBody::Batch(_))) {
        items.extend(hub.next().await.0);
    }
    assert_eq!(forged(&items), ["lamp-000001", "lamp-000002"]);
    let entries = read(&hub, offer(&items)).await;
    assert_eq!(entries.iter().map(|entry| entry.device_id.as_str()).collect::<Vec<_>>(), ["lamp-000003"], "a forged tag brought a key");
    // The same again is known; paired anew with the genuine device, it is answered.
    hub.put(vec![paired_row(&hub.id, 1, &device_key(77), 2), paired_row(&hub.id, 2, &device_key(2), 2)]).await;
    let (items, _) = hub.next().await;
    assert!(forged(&items).is_empty(), "{items:?}");
    assert_eq!(read(&hub, offer(&items)).await[0].device_id.as_str(), "lamp-000002");
    // Who shows forged ones again and again is answered no more for an hour, with genuine ones neither.
    let many = (10..50).map(|n| paired_row(&hub.id, n, &device_key(n + 1000), 1)).collect();
    hub.put(many).await;
    let told = forged(&hub.next().await.0).len();
    assert!(told < 20, "{told}");
    hub.put(vec![paired_row(&hub.id, 5, &device_key(5), 1)]).await;
    other.put(vec![paired_row(&other.id, 6, &device_key(6), 1)]).await;
    let (items, _) = other.next().await;
    assert_eq!(offer(&items).devices, 1);
    assert!(hub.sync(SyncRequest::default()).await.items.is_empty());
    let acts = rig.vendor("acme", "anna", Role::Developer).await;
    let acts = rig.call("GET", "/v1/vendor/acts", &acts, Value::Null).await.good();
    assert!(acts.to_string().contains("wrong_tag"), "{acts}");
    drop((hub, other));
    rig.stop().await;
}
