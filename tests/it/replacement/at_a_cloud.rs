//! The whole of it over real TLS: the hub hands its bundle to a cloud, dies, and is replaced through that cloud; what was
//! revoked in between comes down first, and the hub before is told.

use super::{Keeper, PATIENCE, claimed, cloud, make_code, sign_in, try_recover};
use crate::house::{House, HouseOptions, config};
use crate::uplink::cloud::{Cloud, Seen};
use crate::uplink::usual;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::domain::mirror::wire::Consent;
use hearthkey::hub::{BundleSource, Hub, RecoverOrder, SystemBox, cloud_at, recover};
use hearthkey::service::{Grant, NewLink, Recipient};
use hearthkey::sim::mqtt::ConnectOptions;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

async fn link(house: &House, at: &Cloud) {
    let new = NewLink {
        url: at.url(),
        key: data_encoding::BASE64URL_NOPAD.encode(&at.public()),
        region: "eu".into(),
        consent: BTreeSet::from([Consent::Devices, Consent::People, Consent::Bundle]),
        brands: Vec::new(),
        code: String::new(),
    };
    house.hub.service().link_cloud(&house.owner, new).await.unwrap();
}

fn is_bundle(seen: &Seen) -> bool {
    seen.method == "PUT" && seen.path.ends_with("/bundle")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_dies_and_another_takes_its_place_through_the_cloud_and_what_was_revoked_stays_revoked() {
    let at = Cloud::start().await;
    let house = House::build(HouseOptions { set: Box::new(usual(&at)), ..HouseOptions::default() }).await;
    let (lamp, secret) = claimed(&house, "lamp").await;
    for name in ["mia", "gus"] {
        house.person(name, Role::Member).await;
        let grant = Grant { to: Recipient::Person(name.into()), terms: Terms::of(Privilege::Operate) };
        house.hub.service().grant(&house.owner, &lamp.id, grant).await.unwrap();
    }
    let code = make_code(&house).await;
    link(&house, &at).await;
    at.until("a bundle", is_bundle).await;
    let handed_over = async { while house.http("GET", "/recovery", &house.owner_token, None).await.1["bundle"]["at"].is_null() {} };
    tokio::time::timeout(PATIENCE, handed_over).await.expect("the bundle is noted down");

    // After the bundle, a right is taken; the cloud hears of it, and the hub dies.
    let users = house.http("GET", "/users", &house.owner_token, None).await.1;
    let mia = users["users"].as_array().unwrap().iter().find(|u| u["username"] == "mia").unwrap()["id"].as_str().unwrap().to_owned();
    let revoked = house.http("DELETE", &format!("/devices/{}/bindings/{mia}", lamp.id), &house.owner_token, None).await;
    assert_eq!(revoked.0, 200);
    at.until("the mark", |seen| seen.is_sync() && !seen.sync().revoke.is_empty()).await;
    let House { hub, dir, workshop, brand, .. } = house;
    let (id, mqtts) = (hub.identity().id, hub.addresses.mqtts.unwrap());
    hub.shut_down().await;

    // A new box, which knows the address of the cloud, the hub's id, and what is on the paper.
    let new = tempfile::tempdir().unwrap();
    let mut settings = config(&new);
    usual(&at)(&mut settings);
    settings.mqtts.address = mqtts;
    let clock: Arc<SystemBox> = Arc::new(SystemBox::new(&settings.clock));
    let order = |typed: &str, from| RecoverOrder::read(Some(&id.to_string()), typed, from).unwrap();
    let other = hearthkey::domain::mirror::recovery::RecoveryCode::from_bytes([9; 20]);
    let from = BundleSource::Cloud(cloud_at(&settings, clock.clone(), &at.url()).await.unwrap());
    let refused = recover(&settings, clock.clone(), order(&other.to_string(), from)).await.unwrap_err().to_string();
    assert!(refused.contains("nothing to recover with this code"), "{refused}");
    let from = BundleSource::Cloud(cloud_at(&settings, clock.clone(), &at.url()).await.unwrap());
    let made = recover(&settings, clock.clone(), order(&code.to_string(), from)).await.unwrap();
    assert_eq!((made.hub, made.epoch, made.begun), (id, 2, true));

    // It asks what was revoked before it serves anybody.
    let hub = Hub::start(settings).await.unwrap();
    assert!(!*hub.service().review().borrow(), "the first answer has come");
    let opened = hub.service().sign_in_person("olivia", super::PASSWORD.to_owned().into(), crate::house::HERE, "test").await.unwrap();
    let owner = hub.service().actor(&opened.token, "test", crate::house::HERE).unwrap();
    let house = House { hub, dir: new, workshop, brand, owner, owner_token: opened.token.reveal().to_owned() };
    let first = at.until("the first exchange", |seen| seen.is_sync() && seen.sync().epoch == 2).await.sync();
    assert_eq!((first.batch, first.cursor), (1, 0));
    let desire =
        async |token: &str| house.http("PATCH", &format!("/devices/{}/twin/desired", lamp.id), token, Some(json!({"on": true}))).await.0;
    let (mia, gus) = (sign_in(&house, "mia", "another long password").await, sign_in(&house, "gus", "another long password").await);
    assert_eq!((desire(&house.owner_token).await, desire(&gus).await, desire(&mia).await), (200, 200, 404));
    house.connect(&ConnectOptions::new("thing").credentials(lamp.id.as_str(), &secret)).await.unwrap();
    let restored = house.http("GET", "/recovery", &house.owner_token, None).await.1;
    assert_eq!(restored["restored"]["review_pending"], json!(false), "{restored}");

    // The hub before comes back from the dead, and hears of it.
    let mut settings = config(&dir);
    usual(&at)(&mut settings);
    let old = Hub::start(settings).await.unwrap();
    let mut retired = old.service().retired();
    tokio::time::timeout(PATIENCE, retired.wait_for(|retired| *retired)).await.expect("it is told").unwrap();
    assert!(old.service().is_retired());
    old.shut_down().await;
    assert_eq!(at.faults(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_with_another_key_than_the_one_that_was_linked_is_not_told_of_the_new_hub() {
    let at = Cloud::start().await;
    let house = House::build(HouseOptions { set: Box::new(usual(&at)), ..HouseOptions::default() }).await;
    let code = make_code(&house).await;
    link(&house, &at).await;
    let keeper = Keeper::of(&house, &code).await;
    let dir = tempfile::tempdir().unwrap();
    let refused = try_recover(&dir, house.hub.identity().id, &code, cloud(&keeper)).await.unwrap_err().to_string();
    assert!(refused.contains("not the one that the home was linked to"), "{refused}");
    assert!(keeper.0.lock().unwrap().statement.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_from_a_file_tells_the_cloud_of_its_epoch_as_soon_as_it_meets_it() {
    let at = Cloud::start().await;
    let house = House::build(HouseOptions { set: Box::new(usual(&at)), ..HouseOptions::default() }).await;
    let code = make_code(&house).await;
    link(&house, &at).await;
    at.until("a bundle", is_bundle).await;
    let bundle = house.hub.service().take_bundle(&house.owner).await.unwrap();
    let id = house.hub.identity().id;
    house.hub.shut_down().await;
    let dir = tempfile::tempdir().unwrap();
    assert!(!try_recover(&dir, id, &code, BundleSource::File(bundle)).await.unwrap().begun);
    let mut settings = config(&dir);
    usual(&at)(&mut settings);
    let hub = Hub::start(settings).await.unwrap();
    assert!(!*hub.service().review().borrow());
    assert_eq!(hub.service().epoch_statement().unwrap(), None);
    at.until("the epoch", |seen| seen.path.ends_with("/epoch")).await;
    hub.shut_down().await;
    assert_eq!(at.faults(), Vec::<String>::new());
}
