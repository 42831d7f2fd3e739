//! For how long an offer keeps its image: devices that stay away, or leave, do not fill the room for images for ever.

use super::{Lamp, Made, image};
use crate::clock::Virtual;
use crate::house::{House, HouseOptions};
use hearthkey::domain::firmware::progress::HELD_MS;
use serde_json::{Value, json};
use std::sync::Arc;

/// A Wednesday, 12:00 UTC.
const NOON: u64 = 1_795_608_000_000;

/// A house with room for two and a half images, in which the newest is offered; and its clock.
async fn small_house() -> (House, Arc<Virtual>) {
    let clock = Virtual::at(NOON, true);
    let set = Box::new(|config: &mut hearthkey::hub::Config| config.firmware.cache_bytes = 250_000);
    let house = House::build(HouseOptions { clock: Some(clock.clone()), set, ..HouseOptions::default() }).await;
    house.policy(json!({"mode": "automatic"})).await;
    (house, clock)
}

/// A lamp that is offered release 2, and the offer.
async fn offered(house: &House) -> (Lamp, Value) {
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    house.taken(&Made::new(house, 2, image(2, 100_000)).await).await;
    let offer = lamp.offer().await;
    assert_eq!(offer["rel"], 2);
    (lamp, offer)
}

/// Brings an image that needs the room of the other.
async fn large(house: &House) -> (u16, Value) {
    let kettle = hearthkey::domain::ids::ModelName::parse("kettle").unwrap();
    let made = Made::new(house, 9, image(9, 200_000)).await.with(|release| release.model = kettle);
    house.upload(&house.owner_token, made.file(house)).await
}

async fn withdrawn(house: &House) -> Vec<String> {
    let (_, log) = house.call("GET", "/audit?limit=500&action=firmware.withdraw", None).await;
    log["entries"].as_array().unwrap().iter().map(|entry| entry["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn an_offer_that_nobody_fetches_makes_room_after_a_week_is_taken_back_with_the_reason_and_comes_again_for_who_comes_back() {
    let (house, clock) = small_house().await;
    let (lamp, _) = offered(&house).await;
    let Lamp { device, client } = lamp;
    client.disconnect(0).await.unwrap();
    clock.pass(HELD_MS - 1_000);
    let (status, answer) = large(&house).await;
    assert_eq!((status, &answer["code"]), (409, &json!("cache_full")), "{answer}");
    clock.pass(1_000);
    let (status, answer) = large(&house).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(withdrawn(&house).await, ["not_cached"]);

    // It comes back, is told that there is nothing, and waits for the image alone: that is what is asked of the cloud.
    let service = house.hub.service();
    let lamps = || service.wanted_releases().unwrap().into_iter().find(|one| one.model.as_str() == "lamp").unwrap();
    assert_eq!((lamps().missing, lamps().awaited), (vec![2], vec![]), "nobody is here who waits");
    let (mut lamp, told) = house.listening(device).await;
    assert_eq!(told, json!({}));
    let verdict = house.firmware_of(&lamp).await["verdict"].clone();
    assert_eq!(verdict, json!({"state": "waits", "rel": 2, "why": "not_cached"}));
    assert_eq!(lamps().awaited, [2]);
    house.taken(&Made::new(&house, 2, image(2, 100_000)).await).await;
    assert_eq!(lamp.offer().await["rel"], 2);
}

#[tokio::test]
async fn an_offer_that_is_fetched_of_keeps_its_image_from_then_on() {
    let (house, clock) = small_house().await;
    let (mut lamp, offer) = offered(&house).await;
    clock.pass(HELD_MS - 1_000);
    lamp.say("firmware/get", &json!({"offer": offer["offer"], "offset": 0, "length": 16})).await;
    assert_eq!(lamp.hear().await.payload.len(), 40);
    clock.pass(HELD_MS - 1_000);
    assert_eq!(large(&house).await.0, 409);
    clock.pass(1_000);
    assert_eq!(large(&house).await.0, 201);
    assert_eq!(lamp.offer().await, json!({}), "who is here is told");
    // It installs: nothing that is under way is taken back, however long ago it was offered.
    house.call("DELETE", "/firmware/acme/kettle/9", None).await;
    house.taken(&Made::new(&house, 2, image(2, 100_000)).await).await;
    let offer = lamp.offer().await;
    lamp.is(1, "installing", &offer, json!({})).await;
    clock.pass(HELD_MS);
    assert_eq!(large(&house).await.0, 409);
}

#[tokio::test]
async fn a_device_that_leaves_the_house_or_is_shut_out_keeps_no_image() {
    let (house, _) = small_house().await;
    let (lamp, offer) = offered(&house).await;
    let path = format!("/devices/{}", lamp.device.id);
    let (status, answer) = house.call("DELETE", &path, None).await;
    assert_eq!(status, 204, "{answer}");
    assert_eq!(withdrawn(&house).await, ["left_the_house"]);
    let number = offer["offer"].as_str().unwrap();
    let ticket = offer["ticket"].as_str().unwrap();
    assert!(house.hub.service().firmware_download(number, ticket).is_err(), "its ticket has ended");
    let id = serde_json::from_value(offer["offer"].clone()).unwrap();
    assert!(!house.hub.service().firmware_offer_stands(id), "and a download under way ends");
    assert_eq!(large(&house).await.0, 201);

    let (house, _) = small_house().await;
    let (lamp, _) = offered(&house).await;
    let suspend = format!("/devices/{}/suspend", lamp.device.id);
    let (status, answer) = house.call("POST", &suspend, None).await;
    assert!(status < 300, "{status} {answer}");
    assert_eq!(large(&house).await.0, 201);
    assert_eq!(withdrawn(&house).await, ["not_cached"]);
}
