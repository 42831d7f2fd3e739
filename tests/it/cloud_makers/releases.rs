//! Releases of firmware: uploaded by the maker, verified, staged, and told to the hubs whose devices they are for.

use super::rig::{Answer, Hub, Rig, device_row, now_ms};
use crate::firmware_hub::{image, release_file};
use data_encoding::HEXLOWER;
use hearthkey::cloud::Scope;
use hearthkey::domain::account::Role;
use hearthkey::domain::mirror::wire::{ReleasesTold, SyncRequest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

async fn upload(rig: &Rig, token: &str, query: &str, file: Vec<u8>) -> Answer {
    let request = rig.client_from("127.0.0.1").post(rig.url(&format!("/v1/releases{query}"))).bearer_auth(token);
    rig.ask(request.header("content-type", "application/octet-stream").body(file)).await
}

/// What a hub is told when it knows `n`.
async fn told(hub: &Hub<'_>, n: Option<u64>) -> Option<ReleasesTold> {
    hub.sync(SyncRequest { fw: n, ..SyncRequest::default() }).await.fw
}

fn named(told: &ReleasesTold) -> Vec<(&str, &str, u64, u8)> {
    told.releases.iter().map(|one| (one.brand.as_str(), one.model.as_str(), one.rel, one.percent)).collect()
}

async fn download(hub: &Hub<'_>, sha256: &str, range: &str) -> Answer {
    hub.signed("GET", &format!("/v1/hubs/{}/firmware/{sha256}", hub.id), None, Some(range)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_told_to_the_hubs_that_have_its_devices_once_somebody_stages_it() {
    let rig = Rig::start().await;
    let token = rig.token("acme", &[Scope::UploadReleases]).await;
    let (hub, other) = (rig.hub(1, &[]).await, rig.hub(2, &[]).await);
    hub.put(vec![device_row("lamp-000001", 1, 1, "attested", 0)]).await;
    let none = told(&hub, Some(0)).await;
    assert_eq!(none, None, "there is nothing to tell");
    let file = release_file(&rig.brand_dir("acme"), "lamp", "A", 3, &image(1, 700_000));
    let shown = upload(&rig, &token, "?brand=acme", file.clone()).await;
    assert_eq!(shown.status, 201);
    let shown = shown.good();
    let sha256 = HEXLOWER.encode(&Sha256::digest(&file));
    assert_eq!(
        (&shown["rel"], &shown["percent"], &shown["sha256"], &shown["size"]),
        (&json!(3), &json!(0), &json!(sha256), &json!(file.len()))
    );
    assert!(shown["at"].as_u64().unwrap() <= now_ms());
    // The same again is the same.
    let again = upload(&rig, &token, "", file.clone()).await;
    assert_eq!((again.status, again.good()["at"].clone()), (200, shown["at"].clone()));

    let first = told(&hub, Some(0)).await.unwrap();
    assert_eq!(named(&first), [("acme", "lamp", 3, 0)]);
    assert_eq!(told(&hub, Some(first.n)).await, None, "it knows");
    assert_eq!(told(&hub, None).await, None, "an older hub does not ask");
    assert_eq!(named(&told(&other, Some(0)).await.unwrap()), []);
    // With a device of the model comes what there is of it.
    let new = SyncRequest { put: vec![device_row("lamp-000002", 1, 1, "attested", 0)], fw: Some(first.n), ..SyncRequest::default() };
    assert_eq!(named(&other.sync(new).await.fw.unwrap()), [("acme", "lamp", 3, 0)]);

    // A product manager lets it out by and by, and stops it.
    let manager = rig.vendor("acme", "petra", Role::ProductManager).await;
    for (change, percent) in [(json!({"percent": 10}), 10), (json!({"stopped": true}), 0), (json!({"percent": 50, "stopped": false}), 50)] {
        rig.call("PATCH", "/v1/releases/lamp/3", &manager, change).await.good();
        assert_eq!(named(&told(&hub, Some(first.n)).await.unwrap()), [("acme", "lamp", 3, percent)]);
    }
    for bad in [json!({}), json!({"percent": 101}), json!({"percent": -1}), json!({"percent": 5, "more": 1})] {
        rig.call("PATCH", "/v1/releases/lamp/3", &manager, bad).await.refused(422, "invalid");
    }
    rig.call("PATCH", "/v1/releases/lamp/4", &manager, json!({"percent": 1})).await.refused(404, "not_found");

    // A hub fetches the file in parts, and nobody else does.
    let mut bytes = Vec::new();
    while bytes.len() < file.len() {
        let part = download(&hub, &sha256, &format!("bytes={}-{}", bytes.len(), bytes.len() + 99_999)).await;
        assert_eq!(part.status, 206);
        bytes.extend(part.bytes);
    }
    assert!(bytes == file, "another file came");
    let stranger = rig.hub(3, &[]).await;
    download(&stranger, &sha256, "bytes=0-9").await.refused(404, "not_found");
    download(&hub, &"0".repeat(64), "bytes=0-9").await.refused(404, "not_found");
    download(&hub, &sha256, "bytes=9000000-").await.refused(416, "range");
    stranger.signed("GET", &format!("/v1/hubs/{}/firmware/{sha256}", hub.id), None, None).await.refused(401, "signature");

    let developer = rig.vendor("acme", "anna", Role::Developer).await;
    let acts = rig.call("GET", "/v1/vendor/acts", &developer, Value::Null).await.good();
    let done = |action: &str| acts["entries"].as_array().unwrap().iter().filter(|entry| entry["action"] == action).count();
    assert_eq!((done("release.upload"), done("release.stage")), (1, 3), "{acts}");
    drop((hub, other, stranger));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_withdrawn_by_the_makers_people_for_good_and_nobody_gets_it_any_more() {
    let rig = Rig::start().await;
    rig.brand("other").await;
    let token = rig.token("acme", &[Scope::UploadReleases]).await;
    let hub = rig.hub(1, &[]).await;
    hub.put(vec![device_row("lamp-000001", 1, 1, "attested", 0)]).await;
    let file = release_file(&rig.brand_dir("acme"), "lamp", "A", 3, &image(1, 300_000));
    upload(&rig, &token, "?percent=100", file.clone()).await.good();
    let sha256 = HEXLOWER.encode(&Sha256::digest(&file));
    let known = told(&hub, Some(0)).await.unwrap().n;

    // Not by programs, not by support, not by another brand's people.
    let path = "/v1/releases/lamp/3";
    let manager = rig.vendor("acme", "petra", Role::ProductManager).await;
    let support = rig.vendor("acme", "sam", Role::Support).await;
    let theirs = rig.vendor("other", "otto", Role::Developer).await;
    rig.call("DELETE", path, &token, Value::Null).await.refused(401, "signed_out");
    rig.call("DELETE", path, &support, Value::Null).await.refused(403, "not_allowed");
    rig.call("DELETE", path, &theirs, Value::Null).await.refused(404, "not_found");
    rig.call("DELETE", "/v1/releases/lamp/9", &manager, Value::Null).await.refused(404, "not_found");
    assert_eq!(download(&hub, &sha256, "bytes=0-9").await.status, 206, "it is there");

    for _ in 0..2 {
        let shown = rig.call("DELETE", path, &manager, Value::Null).await.good();
        assert_eq!(shown["withdrawn"], true, "{shown}");
    }
    let heard = told(&hub, Some(known)).await.unwrap();
    assert_eq!(named(&heard), [("acme", "lamp", 3, 0)]);
    assert!(heard.releases[0].withdrawn);
    download(&hub, &sha256, "bytes=0-9").await.refused(404, "not_found");
    // Its number stays taken, and nothing brings it back.
    rig.call("PATCH", path, &manager, json!({"percent": 100})).await.refused(409, "conflict");
    upload(&rig, &token, "?percent=100", file).await.refused(409, "conflict");
    let again = release_file(&rig.brand_dir("acme"), "lamp", "A", 3, &image(2, 300));
    upload(&rig, &token, "", again).await.refused(409, "conflict");
    assert!(told(&hub, Some(0)).await.unwrap().releases[0].withdrawn);

    let developer = rig.vendor("acme", "anna", Role::Developer).await;
    let acts = rig.call("GET", "/v1/vendor/acts", &developer, Value::Null).await.good();
    let done: Vec<&Value> = acts["entries"].as_array().unwrap().iter().filter(|entry| entry["action"] == "release.withdraw").collect();
    assert_eq!(done.len(), 1, "{acts}");
    drop(hub);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_brand_has_not_signed_is_refused_and_leaves_nothing() {
    let rig = Rig::start().await;
    rig.brand("other").await;
    let token = rig.token("acme", &[Scope::UploadReleases]).await;
    let good = release_file(&rig.brand_dir("acme"), "lamp", "A", 3, &image(1, 300_000));
    let changed = |at: usize| {
        let mut file = good.clone();
        file[at] ^= 1;
        file
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let workshop = hearthkey::factory::Workshop::open(elsewhere.path()).unwrap();
    workshop.new_brand(&hearthkey::factory::BrandId::parse("acme").unwrap()).unwrap();
    let foreign = |dir: &std::path::Path| release_file(dir, "lamp", "A", 3, &image(1, 10));
    for (file, status, code) in [
        (Vec::new(), 422, "size"),
        (b"no release".to_vec(), 422, "not_a_release"),
        (good[..200].to_vec(), 422, "size"),
        (good[..good.len() - 1].to_vec(), 422, "size"),
        ([good.clone(), vec![0]].concat(), 422, "size"),
        (changed(good.len() - 1), 422, "hash"),
        (changed(200), 422, "signature"),
        (foreign(&elsewhere.path().join("acme")), 403, "brand_not_trusted"),
        (foreign(&rig.brand_dir("other")), 403, "brand_not_trusted"),
    ] {
        upload(&rig, &token, "", file).await.refused(status, code);
    }
    let list = async || rig.call("GET", "/v1/releases", &token, Value::Null).await.good()["releases"].clone();
    assert_eq!(list().await, json!([]));
    let hub = rig.hub(1, &[]).await;
    hub.put(vec![device_row("lamp-000001", 1, 1, "attested", 0)]).await;
    assert_eq!(told(&hub, Some(0)).await, None);

    // Nothing of those that were cut stands in the way of the whole one; the number is taken then.
    upload(&rig, &token, "?percent=100", good.clone()).await.good();
    let second = release_file(&rig.brand_dir("acme"), "lamp", "A", 3, &image(2, 300));
    upload(&rig, &token, "", second).await.refused(409, "conflict");
    assert_eq!((list().await[0]["percent"].clone(), list().await.as_array().unwrap().len()), (json!(100), 1));

    // Each in their own room.
    upload(&rig, &token, "?brand=other", good.clone()).await.refused(403, "not_allowed");
    upload(&rig, &token, "?percent=101", good.clone()).await.refused(422, "invalid");
    let without = rig.token("acme", &[Scope::UploadIdentities]).await;
    upload(&rig, &without, "", good.clone()).await.refused(403, "not_allowed");
    upload(&rig, "nothing", "", good).await.refused(401, "signed_out");
    let theirs = rig.token("other", &[Scope::UploadReleases]).await;
    rig.call("PATCH", "/v1/releases/lamp/3", &theirs, json!({"percent": 0})).await.refused(404, "not_found");
    assert_eq!(rig.call("GET", "/v1/releases", &theirs, Value::Null).await.good()["releases"], json!([]));
    let support = rig.vendor("acme", "sam", Role::Support).await;
    rig.call("GET", "/v1/releases", &support, Value::Null).await.good();
    rig.call("PATCH", "/v1/releases/lamp/3", &support, json!({"percent": 0})).await.refused(403, "not_allowed");
    drop(hub);
    rig.stop().await;
}
