//! What ends a link, or begins it anew; the bundle; and the day's share.

use super::cloud::{Answer, Cloud};
use super::{code, house, link, link_for, linked, metric, restarted, state, until, usual, wish};
use crate::house::House;
use hearthkey::domain::account::Role;
use hearthkey::domain::mirror::recovery::RecoveryCode;
use hearthkey::domain::mirror::statement::EpochStatement;
use hearthkey::domain::mirror::wire::Consent;
use hearthkey::service::MirrorPhase;
use serde_json::json;

/// The home's recovery code, made by its owner.
async fn recovery_code(house: &House) -> RecoveryCode {
    let body = json!({"password": "correct horse battery"});
    let (status, made) = house.http("POST", "/recovery", &house.owner_token, Some(body)).await;
    assert!((200..300).contains(&status), "{status} {made}");
    RecoveryCode::parse(made["code"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_hub_that_its_cloud_has_forgotten_links_again_and_tells_everything() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    cloud.until("the lamp", |s| s.is_sync() && s.text().contains(lamp.id.as_str())).await;
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle).await;
    cloud.forget();
    wish(&house);
    cloud.nth("the link again", 2, |s| s.path == "/v1/hubs").await;
    cloud.nth("the lamp again", 2, |s| s.is_sync() && s.text().contains(lamp.id.as_str())).await;
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle && s.problem.is_none()).await;
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn a_proof_that_another_hub_has_taken_its_place_ends_every_call() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    let key = recovery_code(&house).await.epoch_key(&house.hub.identity().id);
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle).await;
    let said = EpochStatement { hub: house.hub.identity().id, epoch: 2, mirror: [7; 32], at_s: super::cloud::now_s() };
    let statement = data_encoding::BASE64URL_NOPAD.encode(&said.sign(&key));
    cloud.instead("/sync", Answer::Signed(409, json!({"code": "epoch_stale", "statement": statement})));
    let mut retired = house.hub.service().retired();
    wish(&house);
    tokio::time::timeout(super::PATIENCE, retired.wait_for(|retired| *retired)).await.unwrap().unwrap();
    let before = cloud.all().len();
    wish(&house);
    let house = restarted(house, None, usual(&cloud)).await;
    wish(&house);
    house.hub.shut_down().await;
    assert_eq!(cloud.all().len(), before, "it calls nobody any more, not even after a start");
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn the_bundle_is_handed_over_sealed_and_again_when_it_was_not_taken() {
    let cloud = Cloud::start().await;
    let house = house(&cloud, None, |_| {}).await;
    recovery_code(&house).await;
    cloud.instead("/bundle", Answer::Nothing);
    link_for(&house, &cloud, &[Consent::Devices, Consent::Bundle]).await;
    let first = cloud.nth("the bundle", 1, |s| s.path.ends_with("/bundle")).await;
    assert_eq!((first.method.as_str(), first.headers["content-type"].as_str()), ("PUT", "application/octet-stream"));
    assert!(first.body.starts_with(b"age-encryption.org/v1"));
    cloud.nth("the bundle again", 2, |s| s.path.ends_with("/bundle")).await;
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle).await;
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn when_the_days_share_is_used_up_the_hub_says_so_and_stays_away() {
    let cloud = Cloud::start().await;
    let house = house(&cloud, None, |config| config.cloud.max_bytes_per_day = 1).await;
    link(&house, &cloud).await;
    let told = until(&house, "a problem", |s| s.problem.is_some()).await;
    assert_eq!((code(&told), told.phase), ("budget", MirrorPhase::Waiting));
    assert!(told.retry_at.unwrap() > house.hub.service().now());
    // What had to be told has been, all the same.
    cloud.until("a batch", |s| s.is_sync()).await;
    house.person("gus", Role::Guest).await;
    assert!(metric(&house, "hearthkey_mirror_pending{what=\"audit\"}").await > 0);
    assert_eq!(code(&state(&house)), "budget");
}
