//! The whole of it: a house at a real cloud, its hub stolen, another in its place, and the thief switching the box on again.

use super::{PATIENCE, Running, at_cloud, authority, counted, link, make_code, stolen, try_rehome, uploaded};
use crate::cloud::rig::Rig;
use crate::house::{HERE, House, config};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::domain::mirror::recovery::RecoveryCode;
use hearthkey::hub::{BundleSource, Config, Hub, SystemBox, cloud_at};
use hearthkey::service::{Grant, Recipient};
use hearthkey::sim::device::{Event, SignIn};
use serde_json::json;
use std::sync::Arc;

async fn from_cloud(settings: &Config, rig: &Rig) -> BundleSource {
    let clock = Arc::new(SystemBox::new(&settings.clock));
    BundleSource::Cloud(cloud_at(settings, clock, rig.cloud.url()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_devices_of_a_stolen_hub_come_over_to_the_one_that_follows_it_and_the_thief_gets_nowhere() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rig = Rig::start().await;
    let ca = authority(&rig);
    let house = House::with(at_cloud(ca.clone())).await;
    let lamp = house.device("lamp").await;
    let flashes = tempfile::tempdir().unwrap();
    let mut running = Running::start(&house, &lamp, flashes.path());
    running.until("waiting", |e| matches!(e, Event::WaitingToBeClaimed)).await;
    house.claim(&lamp).await;
    running.until("claimed", |e| matches!(e, Event::Claimed)).await;
    let mut people = Vec::new();
    for name in ["mia", "gus"] {
        people.push(house.person(name, Role::Member).await.0);
        let grant = Grant { to: Recipient::Person(name.into()), terms: Terms::of(Privilege::Operate) };
        house.hub.service().grant(&house.owner, &lamp.id, grant).await.unwrap();
    }
    let code = make_code(&house).await;
    uploaded(&rig, &house, &[&lamp]).await;
    link(&rig, &house, &["devices", "people", "bundle"]).await;
    counted(&rig, "SELECT count(*) FROM claims", 1).await;
    let handed_over = async { while house.http("GET", "/recovery", &house.owner_token, None).await.1["bundle"]["at"].is_null() {} };
    tokio::time::timeout(PATIENCE, handed_over).await.expect("the bundle is handed over");
    // After the bundle, a right is taken; the cloud hears of it.
    house.hub.service().revoke(&house.owner, &lamp.id, &people[1].subject, false).await.unwrap();
    counted(&rig, "SELECT count(*) FROM marks", 1).await;
    let before = stolen(house).await;
    let old = before.hub.clone();
    running.until("cut off", |e| matches!(e, Event::Unreachable { .. })).await;

    // A new box; another code opens nothing, and leaves nothing.
    let new = tempfile::tempdir().unwrap();
    let settings = before.settings(&new, at_cloud(ca.clone()));
    let other = RecoveryCode::from_bytes([9; 20]);
    let refused = try_rehome(&settings, &old, &other, from_cloud(&settings, &rig).await).await.unwrap_err().to_string();
    assert!(refused.contains("nothing to recover with this code"), "{refused}");
    let made = try_rehome(&settings, &old, &code, from_cloud(&settings, &rig).await).await.unwrap();
    assert!(made.told && made.old.to_string() == old && made.hub.to_string() != old && made.request.starts_with("HKMOVE1."));
    let (house, stolen_box) = before.moved_in(settings, new).await;
    assert_eq!(house.hub.identity().id, made.hub);

    // The device is told by its maker, and belongs to the new hub from then on.
    let moved = running.until("moved", |e| matches!(e, Event::Moved { .. })).await;
    assert!(!moved.iter().any(|e| matches!(e, Event::MoveRefused { .. })), "{moved:?}");
    let before = running.until("claimed anew", |e| matches!(e, Event::Claimed)).await;
    assert!(before.iter().any(|e| matches!(e, Event::CredentialStored { .. })));
    running.until("reporting", |e| matches!(e, Event::Reported { .. })).await;
    let (_, shown) = house.http("GET", &format!("/devices/{}", lamp.id), &house.owner_token, None).await;
    assert_eq!((&shown["trust"], &shown["state"]), (&json!("attested"), &json!("ready")), "{shown}");
    let (status, moves) = house.http("GET", "/recovery/moves", &house.owner_token, None).await;
    assert_eq!(
        (status, &moves["old"], &moves["told"], &moves["here"], &moves["waiting"]),
        (200, &json!(old), &json!(true), &json!(1), &json!([]))
    );

    // Rights are as they were, and what was taken after the bundle stays taken.
    assert!(!*house.hub.service().review().borrow(), "what was revoked has come down");
    let desire =
        async |token: &str| house.http("PATCH", &format!("/devices/{}/twin/desired", lamp.id), token, Some(json!({"on": true}))).await.0;
    let mut tokens = Vec::new();
    for name in ["mia", "gus"] {
        let opened = house.hub.service().sign_in_person(name, "another long password".to_owned().into(), HERE, "test").await.unwrap();
        tokens.push(opened.token.reveal().to_owned());
    }
    assert_eq!((desire(&house.owner_token).await, desire(&tokens[0]).await, desire(&tokens[1]).await), (200, 200, 404));
    running.until("told what is desired", |e| matches!(e, Event::Desired { .. })).await;
    let (_, cloud) = house.http("GET", "/cloud", &house.owner_token, None).await;
    assert!(cloud["notices"].as_array().unwrap().iter().any(|n| n["code"] == "rehomed"), "{cloud}");

    // The thief switches the box on, and it hears of it from the cloud.
    let mut settings = config(&stolen_box);
    at_cloud(ca)(&mut settings);
    let thief = Hub::start(settings).await.unwrap();
    let mut retired = thief.service().retired();
    tokio::time::timeout(PATIENCE, retired.wait_for(|retired| *retired)).await.expect("it is told").unwrap();
    thief.shut_down().await;
    // The device is at home, and stays there after a power cut too.
    running.end().await;
    let mut running = Running::start(&house, &lamp, flashes.path());
    running.until("back", |e| matches!(e, Event::SignedIn { with: SignIn::Secret })).await;
    running.end().await;
    house.hub.service().verify_audit().unwrap();
    house.hub.shut_down().await;
    rig.end().await;
}
