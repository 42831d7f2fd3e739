//! A home without a cloud: the maker's tool makes the orders, and an owner carries them to the new hub.

use super::{Running, make_code, stolen, try_rehome};
use crate::house::House;
use hearthkey::factory::RunChoice;
use hearthkey::hub::BundleSource;
use hearthkey::sim::device::Event;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cloud_the_makers_file_moves_the_devices() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let flashes = tempfile::tempdir().unwrap();
    let mut running = Running::start(&house, &lamp, flashes.path());
    running.until("waiting", |e| matches!(e, Event::WaitingToBeClaimed)).await;
    house.claim(&lamp).await;
    running.until("claimed", |e| matches!(e, Event::Claimed)).await;
    let code = make_code(&house).await;
    let bundle = house.hub.service().take_bundle(&house.owner).await.unwrap();
    let before = stolen(house).await;
    let new = tempfile::tempdir().unwrap();
    let settings = before.settings(&new, |_| {});
    let made = try_rehome(&settings, &before.hub.clone(), &code, BundleSource::File(bundle.clone())).await.unwrap();
    assert!(!made.told);
    // A hub is never overwritten.
    assert!(try_rehome(&settings, &before.hub.clone(), &code, BundleSource::File(bundle)).await.unwrap_err().to_string().contains("empty"));
    let (house, _thief) = before.moved_in(settings, new).await;
    let (_, moves) = house.http("GET", "/recovery/moves", &house.owner_token, None).await;
    assert_eq!((&moves["here"], &moves["waiting"][0]["ordered"], &moves["request"]), (&json!(0), &json!(false), &json!(made.request)));
    // Nobody takes the place of a device that has not come: the hub has no key for it yet.
    assert!(house.try_device(&lamp, hearthkey::sim::mqtt::Version::V5, 99).await.is_err());

    let (orders, batch) = (house.dir.path().join("moves.hkm"), house.dir.path().join("batch.hkb"));
    let report = house.workshop.rehome(&house.brand, &RunChoice::Latest, &made.request, &[], None, &orders).unwrap();
    assert_eq!((report.hub, report.devices), (made.hub, 1));
    let request = &house.hub.identity().request_line;
    house.workshop.batch(&house.brand, &RunChoice::Latest, request, &batch, &()).unwrap();
    let service = house.hub.service();
    service.import_batch(&house.owner, batch).await.unwrap();
    let taken = service.import_orders(&house.owner, &std::fs::read(&orders).unwrap()).await.unwrap();
    assert_eq!((taken.taken, taken.passed_over), (1, 0));
    let again = service.import_orders(&house.owner, &std::fs::read(&orders).unwrap()).await.unwrap();
    assert_eq!((again.taken, again.passed_over), (0, 1), "what is not newer is passed over");
    assert!(service.import_orders(&house.owner, b"nonsense").await.is_err());
    running.until("moved", |e| matches!(e, Event::Moved { .. })).await;
    running.until("claimed anew", |e| matches!(e, Event::Claimed)).await;
    running.end().await;
    house.hub.shut_down().await;
}

#[tokio::test]
async fn a_hub_that_follows_none_takes_no_orders_and_has_none() {
    let house = House::new().await;
    assert_eq!(house.http("GET", "/recovery/moves", &house.owner_token, None).await.0, 404);
    let file = hearthkey::domain::rehome::write_orders(&[vec![1]]);
    assert!(house.hub.service().import_orders(&house.owner, &file).await.is_err());
    assert!(house.hub.service().move_order("lamp-1").is_err() && house.hub.service().move_order("../x").is_err());
    house.hub.shut_down().await;
}
