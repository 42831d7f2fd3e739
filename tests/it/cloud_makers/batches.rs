//! Identities on their way to a hub: by assignment, and at first sight of a device.

use std::io::Read;

use super::rig::{Hub, Rig, device_key, device_row, lines};
use data_encoding::HEXLOWER;
use hearthkey::cloud::Scope;
use hearthkey::domain::batch::{Entry, HEADER_MAX, VerifiedManifest, frame_length};
use hearthkey::domain::keys::hub_scoped;
use hearthkey::domain::mirror::wire::{BatchOffer, Item, ItemBody};
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
async fn a_device_seen_with_a_voucher_alone_is_answered_and_a_guessed_id_is_not() {
    let rig = Rig::start().await;
    let token = rig.token("acme", &[Scope::UploadIdentities]).await;
    rig.upload(&token, "all", 0, true, lines("acme", 0, 20)).await.good();
    let hub = rig.hub(1, &[]).await;
    let mut guessed = device_row("lamp-000002", 1, 1, "provisional", 0);
    guessed.body["serial"] = json!("S-of-another");
    let mut unnamed = device_row("lamp-000003", 1, 1, "provisional", 0);
    unnamed.body.as_object_mut().unwrap().remove("serial");
    let rows = vec![
        device_row("lamp-000001", 1, 1, "provisional", 0),
        guessed,
        unnamed,
        device_row("lamp-000004", 1, 1, "attested", 0),
        device_row("lamp-999999", 1, 1, "provisional", 0),
    ];
    hub.put(rows).await;
    let (items, _) = hub.next().await;
    let entries = read(&hub, offer(&items)).await;
    assert_eq!(entries.iter().map(|entry| entry.device_id.as_str()).collect::<Vec<_>>(), ["lamp-000001"]);
    assert_eq!(entries[0].hub_key, hub_scoped(&device_key(1), &hub.id));
    // Said once; the next new one is another matter.
    hub.put(vec![device_row("lamp-000001", 1, 2, "provisional", 0), device_row("lamp-000005", 1, 1, "provisional", 0)]).await;
    let (items, _) = hub.next().await;
    let entries = read(&hub, offer(&items)).await;
    assert_eq!(entries.iter().map(|entry| entry.device_id.as_str()).collect::<Vec<_>>(), ["lamp-000005"]);
    drop(hub);
    rig.stop().await;
}
