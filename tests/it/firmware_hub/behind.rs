//! A device whose firmware is not safe any more: it may become another version, and nothing else; and nobody reaches it.

use super::{Lamp, Made, image};
use crate::house::House;
use crate::remotes;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::service::{Grant, Recipient};
use hearthkey::sim::mqtt::{Message, Qos, Version};
use serde_json::json;

/// A release that makes all below it unsafe.
async fn urgent(house: &House, rel: u64) -> Made {
    let made = Made::new(house, rel, image(u8::try_from(rel).unwrap(), 20_000)).await;
    made.with(|release| release.security_minimum = rel)
}

async fn command(house: &House, lamp: &Lamp) -> (u16, String) {
    let body = Some(json!({"name": "identify"}));
    let (status, answer) = house.call("POST", &format!("/devices/{}/commands", lamp.device.id), body).await;
    (status, answer["detail"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn it_is_shut_in_at_once_updates_and_is_whole_again_without_coming_back() {
    let house = House::new().await;
    house.policy(json!({"mode": "ask", "percent": 0, "window": {"days": ["mon"], "from": "02:00", "to": "02:01"}})).await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(3).await;
    let rooms = [lamp.device.topic("shadow/#"), lamp.device.topic("commands/+")];
    lamp.client.subscribe(&[(&rooms[0], Qos::AtLeastOnce), (&rooms[1], Qos::AtLeastOnce)]).await.unwrap();
    assert_eq!(lamp.say("shadow/update", &json!({"state": {"reported": {"on": true}}})).await, 0);
    lamp.waiting().await;
    assert_eq!(command(&house, &lamp).await.0, 202);
    lamp.hear().await;

    house.taken(&urgent(&house, 4).await).await;
    let offer = lamp.offer().await;
    assert_eq!((&offer["rel"], &offer["install"]), (&json!(4), &json!(true)), "whatever stage, window and consent say");
    for place in ["shadow/update", "shadow/get", "commands/identify/result", "temperature", "claim/hello", "proof/response"] {
        assert_eq!(lamp.say(place, &json!({"state": {"reported": {"on": false}}})).await, 0x87, "{place}");
    }
    // What it does as it always did does not end its connection.
    let told = Message::new(lamp.device.topic("temperature"), "20", Qos::AtMostOnce);
    lamp.client.publish(&told).await.unwrap();
    lamp.client.publish(&Message { retain: true, ..told }).await.unwrap();
    let (status, why) = command(&house, &lamp).await;
    assert!(status == 403 && why.contains("not safe"), "{status} {why}");
    let desired = Some(json!({"on": false}));
    assert_eq!(house.call("PATCH", &format!("/devices/{}/twin/desired", lamp.device.id), desired.clone()).await.0, 403);
    assert!(lamp.waiting().await.is_empty(), "nothing reaches it");
    let (_, twin) = house.call("GET", &format!("/devices/{}/twin", lamp.device.id), None).await;
    assert_eq!((&twin["behind"], &twin["reported"]["on"]), (&json!(true), &json!(true)), "{twin}");
    let (_, device) = house.call("GET", &format!("/devices/{}", lamp.device.id), None).await;
    assert!(device["behind"] == true && device["warning"].as_str().unwrap().contains("not safe"), "{device}");

    // It signs in, with every version, and is as shut in as before; subscriptions stand for the day on which it is whole.
    for version in [Version::V4, Version::V5] {
        let mut again = house.try_device(&lamp.device, version, lamp.device.next_counter()).await.unwrap();
        let own = lamp.device.topic("#");
        assert_ne!(again.subscribe(&[(&own, Qos::AtLeastOnce), (&rooms[1], Qos::AtLeastOnce)]).await.unwrap(), [0x80, 0x80]);
        let topic = lamp.device.topic("shadow/update");
        let answered = again.publish(&Message::new(&topic, r#"{"state": {"reported": {"on": false}}}"#, Qos::AtLeastOnce)).await.unwrap();
        assert_eq!(answered, if version == Version::V5 { 0x87 } else { 0 }, "3.1.1 cannot say no");
        again.ping().await.unwrap();
        lamp.client = again;
    }
    let (_, twin) = house.call("GET", &format!("/devices/{}/twin", lamp.device.id), None).await;
    assert_eq!(twin["reported"]["on"], true, "what it said was not taken");
    let seen: Vec<_> = lamp.waiting().await.iter().map(|heard| heard.topic.to_string()).collect();
    assert!(seen.iter().all(|topic| topic.ends_with("/firmware/offer")) && !seen.is_empty(), "{seen:?}");

    lamp.is(3, "installing", &offer, json!({})).await;
    lamp.is(4, "confirmed", &offer, json!({})).await;
    assert_eq!(lamp.say("shadow/update", &json!({"state": {"reported": {"on": false}}})).await, 0, "acknowledged, it is whole");
    assert_eq!(house.call("PATCH", &format!("/devices/{}/twin/desired", lamp.device.id), desired).await.0, 200);
    assert_eq!(command(&house, &lamp).await.0, 202);
    let heard: Vec<_> = lamp.waiting().await.iter().map(|heard| heard.topic.to_string()).collect();
    assert!(heard.iter().any(|topic| topic.ends_with("/commands/identify")), "{heard:?}");
    assert_eq!((house.audited("firmware.behind").await, house.audited("firmware.whole").await), (0, 1));
}

#[tokio::test]
async fn a_floor_never_sinks_and_one_that_says_it_fell_below_is_shut_in() {
    let house = House::new().await;
    house.policy(json!({"mode": "hold"})).await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(5).await;
    house.taken(&urgent(&house, 4).await).await;
    house.taken(&Made::new(&house, 6, image(6, 1_000)).await).await;
    assert_eq!(house.call("DELETE", "/firmware/acme/lamp/4", None).await.0, 204);
    let shown = house.firmware_of(&lamp).await;
    assert_eq!((&shown["floor"], &shown["behind"]), (&json!(4), &json!(false)));
    lamp.runs(3).await;
    assert_eq!(lamp.say("temperature", &json!(1)).await, 0x87);
    let shown = house.firmware_of(&lamp).await;
    assert_eq!((&shown["behind"], &shown["verdict"]["why"]), (&json!(true), &json!("hold")), "people may hold it");
    assert_eq!(house.audited("firmware.behind").await, 1);
    // One that has never said what it runs is not behind.
    let (mut silent, _) = house.lamp().await;
    assert_eq!(silent.say("temperature", &json!(1)).await, 0);
    lamp.runs(4).await;
    assert_eq!(lamp.say("temperature", &json!(1)).await, 0);
}

#[tokio::test]
async fn it_does_nothing_to_others_either() {
    let house = House::new().await;
    let ((target, _), (remote, secret)) = (remotes::ready(&house, "lamp", "Lamp").await, remotes::ready(&house, "lamp", "Remote").await);
    let grant = Grant { to: Recipient::Device(remote.id.clone()), terms: Terms::of(Privilege::Operate) };
    house.hub.service().grant(&house.owner, &target.id, grant).await.unwrap();
    let options = hearthkey::sim::mqtt::ConnectOptions::new("test").credentials(remote.id.as_str(), secret.as_str());
    let client = house.connect(&options).await.unwrap();
    let mut lamp = Lamp { device: remote, client };
    let wish = Message::new(target.topic("shadow/update"), r#"{"state": {"desired": {"on": true}}}"#, Qos::AtLeastOnce);
    assert_eq!(lamp.client.publish(&wish).await.unwrap(), 0);
    lamp.runs(1).await;
    house.taken(&urgent(&house, 2).await).await;
    assert_eq!(lamp.client.publish(&wish).await.unwrap(), 0x87);
    let listening = lamp.client.subscribe(&[(&target.topic("shadow/#"), Qos::AtLeastOnce)]).await.unwrap();
    assert_eq!(listening, [0x87]);
    lamp.runs(2).await;
    assert_eq!(lamp.client.publish(&wish).await.unwrap(), 0);
}

#[tokio::test]
async fn another_household_begins_with_its_own_choices_and_the_same_floor() {
    let house = House::new().await;
    house.taken(&urgent(&house, 4).await).await;
    house.taken(&Made::new(&house, 5, image(5, 1_000)).await).await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(4).await;
    let path = format!("/devices/{}/firmware", lamp.device.id);
    assert_eq!(house.call("PUT", &format!("{path}/policy"), Some(json!({"mode": "automatic"}))).await.0, 200);
    assert_eq!(lamp.offer().await["rel"], 5);
    assert_eq!(house.call("DELETE", &format!("/devices/{}", lamp.device.id), None).await.0, 204);
    let Lamp { device, .. } = lamp;
    house.claim(&device).await;
    let (lamp, offer) = house.listening(device).await;
    assert_eq!(offer, json!({}), "nobody here has chosen that");
    let shown = house.firmware_of(&lamp).await;
    assert_eq!((&shown["rel"], &shown["own_policy"], &shown["approved"]), (&json!(4), &json!(false), &json!(null)));
}
