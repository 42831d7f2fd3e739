//! Exchanges: what goes, what comes, in which order, and what happens when something breaks in between.

use super::cloud::{Answer, Cloud};
use super::{code, house, link, linked, metric, restarted, state, until, usual, wish};
use crate::house::House;
use ed25519_dalek::SigningKey;
use hearthkey::service::MirrorPhase;
use serde_json::json;

#[tokio::test]
async fn a_linked_hub_tells_its_cloud_what_is_and_what_changes() {
    let cloud = Cloud::start().await;
    let house = house(&cloud, None, |_| {}).await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    assert!(cloud.all().is_empty(), "without a link there is not one packet");
    link(&house, &cloud).await;
    let first = cloud.until("a batch with the lamp", |s| s.is_sync() && s.text().contains(lamp.id.as_str())).await;
    let posted: Vec<String> = cloud.all().into_iter().filter(|s| s.method == "POST").map(|s| s.path).collect();
    assert_eq!(posted[0], "/v1/hubs", "the link is told before anything else");
    assert_eq!(first.sync().epoch, 1);
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle && s.connected).await;
    let body = json!({"name": "Reading corner"});
    assert_eq!(house.http("PATCH", &format!("/devices/{}", lamp.id), &house.owner_token, Some(body)).await.0, 200);
    let later = cloud.until("the new name", |s| s.is_sync() && s.text().contains("Reading corner")).await;
    assert!(later.sync().batch > first.sync().batch);
    until(&house, "idle again", |s| s.phase == MirrorPhase::Idle).await;
    assert_eq!(cloud.faults(), Vec::<String>::new());
    assert!(metric(&house, "hearthkey_mirror_syncs_total{outcome=\"ok\"}").await >= 2);
    assert!(metric(&house, "hearthkey_mirror_bytes_up_total").await > first.body.len() as u64);
    assert!(metric(&house, "hearthkey_mirror_bytes_down_total").await > 0);
    assert_eq!(metric(&house, "hearthkey_mirror_linked").await, 1);
    assert!(metric(&house, "hearthkey_mirror_last_success_timestamp_seconds").await > 1_700_000_000);
}

#[tokio::test]
async fn what_is_not_the_clouds_is_told_apart_and_nothing_is_taken_from_it() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle).await;
    let html = || vec![("content-type", "text/html".to_owned())];
    let notice = json!({"ack": 1, "cursor": 99, "items": [{"cursor": 99, "id": "x", "kind": "notice",
        "body": {"code": "evil", "text": "evil", "at": 1}}], "wait_s": 1, "max_bytes": 9});
    let plain = vec![("content-type", "application/json".to_owned())];
    let to_login = vec![("location", format!("{}/login", cloud.url()))];
    type Make = Box<dyn Fn() -> Answer>;
    let cases: Vec<(&str, Make)> = vec![
        ("portal", Box::new(move || Answer::Unsigned(302, to_login.clone(), String::new()))),
        ("portal", Box::new(move || Answer::Unsigned(200, html(), "<form>Sign in</form>".into()))),
        ("portal", Box::new(|| Answer::Unsigned(511, Vec::new(), String::new()))),
        ("signature", Box::new(move || Answer::Unsigned(200, plain.clone(), notice.to_string()))),
        ("intercepted", Box::new(|| Answer::Forged(SigningKey::from_bytes(&[9; 32])))),
        ("intercepted", Box::new(|| Answer::Replayed)),
        ("unreachable", Box::new(|| Answer::Unsigned(502, vec![("content-type", "text/html".to_owned())], "<h1>Bad gateway".into()))),
        ("unreachable", Box::new(|| Answer::Nothing)),
        ("wrong_region", Box::new(|| Answer::Signed(421, json!({"code": "wrong_region", "url": "https://us.example"})))),
        ("refused", Box::new(|| Answer::Signed(401, json!({"code": "signature", "detail": "no"})))),
        ("stale", Box::new(|| Answer::Signed(409, json!({"code": "epoch_stale", "statement": "AAAA"})))),
        ("busy", Box::new(|| Answer::Signed(503, json!({"code": "unavailable"})))),
    ];
    for (expected, make) in cases {
        let syncs = cloud.all().iter().filter(|s| s.is_sync()).count();
        cloud.instead("/sync", make());
        cloud.instead("/sync", make());
        wish(&house);
        // When it comes again, what it thinks of the first answer has been told.
        let first = cloud.nth(expected, syncs + 1, |s| s.is_sync()).await;
        let again = cloud.nth(expected, syncs + 2, |s| s.is_sync()).await;
        let told = state(&house);
        assert_eq!(code(&told), expected, "{told:?}");
        assert!(told.problem.is_some_and(|p| !p.next.is_empty()));
        assert_eq!(first.body, again.body, "{expected}: the same batch is the same, byte by byte");
        until(&house, "well again", |s| s.phase == MirrorPhase::Idle && s.problem.is_none()).await;
    }
    let all = cloud.all();
    assert!(!all.iter().any(|s| s.path.contains("login")), "no redirect is followed");
    assert!(!all.iter().any(|s| s.is_sync() && s.sync().cursor == 99), "nothing was taken");
    assert!(!*house.hub.service().retired().borrow());
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_asked_for_again_with_the_same_bytes() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle).await;
    for bytes in [0, 1, 20] {
        let syncs = cloud.all().iter().filter(|s| s.is_sync()).count();
        cloud.instead("/sync", Answer::Cut(bytes));
        let (name, _) = house.person(&format!("guest{bytes}"), hearthkey::domain::account::Role::Guest).await;
        let first = cloud.nth("a batch", syncs + 1, |s| s.is_sync()).await;
        let again = cloud.nth("the batch again", syncs + 2, |s| s.is_sync()).await;
        assert_eq!(first.body, again.body, "{name:?}");
        until(&house, "idle", |s| s.phase == MirrorPhase::Idle && s.problem.is_none()).await;
    }
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn the_hub_stays_away_for_as_long_as_it_is_asked_to() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle).await;
    let asked = vec![("retry-after", "3000".to_owned())];
    cloud.instead("/sync", Answer::With(429, asked, json!({"code": "too_many_requests", "detail": "later"})));
    let before = house.hub.service().now();
    wish(&house);
    let told = until(&house, "waiting", |s| s.retry_at.is_some()).await;
    assert_eq!((code(&told), told.phase), ("busy", MirrorPhase::Waiting));
    assert!(told.retry_at.unwrap() >= before + 3_000_000, "{told:?}");
    // Stopping waits for nothing.
    house.hub.shut_down().await;
}

#[tokio::test]
async fn a_cloud_that_takes_less_at_once_gets_smaller_batches() {
    let cloud = Cloud::start().await;
    let house = house(&cloud, None, |_| {}).await;
    for device in house.devices("lamp", 150).await {
        house.claim(&device).await;
    }
    cloud.instead("/sync", Answer::Signed(413, json!({"code": "too_large", "max_bytes": 20000})));
    cloud.takes(20_000);
    link(&house, &cloud).await;
    let first = cloud.nth("the first batch", 1, |s| s.is_sync()).await;
    assert!(first.body.len() > 20_000);
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle).await;
    let syncs: Vec<_> = cloud.all().into_iter().filter(|s| s.is_sync()).skip(1).collect();
    assert!(
        syncs.len() > 2 && syncs.iter().all(|s| s.body.len() <= 20_000),
        "{:?}",
        syncs.iter().map(|s| s.body.len()).collect::<Vec<_>>()
    );
    assert_eq!(syncs[0].sync().batch, first.sync().batch, "what was refused was not taken");
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn the_cloud_wakes_the_hub_also_after_the_stream_was_cut() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    for n in 1..=3u64 {
        cloud.listened_to().await;
        until(&house, "the hub listens", |s| s.connected && s.phase == MirrorPhase::Idle).await;
        cloud.item(&format!("n{n}"), "notice", json!({"code": "hello", "text": "Hello", "at": 1}));
        // The exchange that brings it, and the one that says how far the hub has come.
        wish_after_taking(&house, &cloud, n).await;
        cloud.cut_streams().await;
    }
    assert!(metric(&house, "hearthkey_mirror_wakes_total").await >= 3);
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

/// Waits until the hub has been woken and has taken what was there; then its next exchange says so.
async fn wish_after_taking(house: &House, cloud: &Cloud, cursor: u64) {
    cloud.brought(cursor).await;
    until(house, "idle", |s| s.phase == MirrorPhase::Idle).await;
    wish(house);
    cloud.until("the cursor", |s| s.is_sync() && s.sync().cursor == cursor).await;
}

#[tokio::test]
async fn a_hub_that_is_started_again_goes_on_with_the_batch_it_was_at() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle).await;
    let syncs = cloud.all().iter().filter(|s| s.is_sync()).count();
    // Each answer is lost until the hub is started again.
    for _ in 0..2 {
        cloud.instead("/sync", Answer::Cut(0));
    }
    house.person("gus", hearthkey::domain::account::Role::Guest).await;
    let lost = cloud.nth("a batch", syncs + 1, |s| s.is_sync()).await;
    let house = restarted(house, None, usual(&cloud)).await;
    let again = cloud.nth("the batch again, however often it came before", syncs + 3, |s| s.is_sync()).await;
    assert_eq!(lost.body, again.body);
    assert_eq!(cloud.all().iter().filter(|s| s.path == "/v1/hubs").count(), 1, "the link is not told again");
    cloud.listened_to().await;
    assert_eq!(cloud.faults(), Vec::<String>::new());
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle).await;
}

#[tokio::test]
async fn an_unlinked_cloud_is_told_to_forget_and_then_left_alone() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle).await;
    cloud.instead("DELETE /v1/hubs", Answer::Nothing);
    house.hub.service().unlink_cloud(&house.owner).await.unwrap();
    let told = cloud.nth("the end, told again", 2, |s| s.method == "DELETE").await;
    assert!(told.text().contains("unlink"));
    let mut target = house.hub.service().mirror_target();
    target.wait_for(Option::is_none).await.unwrap();
    let (all, before) = (cloud.all().len(), state(&house));
    wish(&house);
    house.person("gus", hearthkey::domain::account::Role::Guest).await;
    assert_eq!((cloud.all().len(), before.connected), (all, false));
    assert_eq!(cloud.faults(), Vec::<String>::new());
}
