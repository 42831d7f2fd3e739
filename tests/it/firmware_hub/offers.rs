//! What a device is offered, when, and what becomes of it.

use super::{Lamp, Made, image};
use crate::clock::Virtual;
use crate::house::{House, HouseOptions};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::service::{Grant, Recipient};
use serde_json::{Value, json};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// A Wednesday, 12:00 UTC.
const NOON: u64 = 1_795_608_000_000;

async fn automatic() -> House {
    let house = House::new().await;
    house.policy(json!({"mode": "automatic"})).await;
    house
}

fn small(seed: u8) -> Vec<u8> {
    image(seed, 5_000)
}

#[tokio::test]
async fn a_release_is_offered_at_once_and_goes_its_way_to_the_end() {
    let house = automatic().await;
    let (mut lamp, first) = house.lamp().await;
    assert_eq!(first, json!({}), "nothing is said, too");
    lamp.runs(1).await;
    let made = Made::new(&house, 2, small(2)).await;
    house.taken(&made).await;
    let offer = lamp.offer().await;
    for (member, value) in [
        ("rel", json!(2)),
        ("version", json!("1.2.0")),
        ("size", json!(5_000)),
        ("sha256", json!(made.release.sha256)),
        ("chunk", json!(16_384)),
        ("install", json!(true)),
        ("path", json!(format!("/firmware/{}", offer["offer"].as_str().unwrap()))),
    ] {
        assert_eq!(offer[member], value, "{member}");
    }
    let base64 = |member: &str| data_encoding::BASE64URL_NOPAD.decode(offer[member].as_str().unwrap().as_bytes()).unwrap();
    let root = house.workshop.brand(&house.brand).unwrap().root;
    let verified = hearthkey::domain::firmware::release::Release::verify(&root, &base64("certificate"), &base64("release")).unwrap();
    assert_eq!(verified, made.release);
    assert_eq!(base64("ticket").len(), 32);

    lamp.is(1, "downloading", &offer, json!({"offset": 1_000})).await;
    lamp.is(1, "downloading", &offer, json!({"offset": 3_000})).await;
    let shown = house.firmware_of(&lamp).await;
    assert_eq!((&shown["progress"]["state"], &shown["progress"]["offset"]), (&json!("downloading"), &json!(3_000)), "{shown}");
    lamp.is(1, "downloaded", &offer, json!({})).await;
    assert!(!house.hub.service().firmware_busy());
    lamp.is(1, "installing", &offer, json!({})).await;
    assert!(house.hub.service().firmware_busy());
    lamp.is(2, "confirmed", &offer, json!({})).await;
    assert!(!house.hub.service().firmware_busy());
    assert_eq!(lamp.offer().await, json!({}));
    let shown = house.firmware_of(&lamp).await;
    assert_eq!((&shown["rel"], &shown["version"], &shown["verdict"]["state"]), (&json!(2), &json!("1.2.0"), &json!("up_to_date")));
    assert_eq!(shown["history"][0]["outcome"], "confirmed");
    assert_eq!(shown["newer"], json!([]));
    let (_, all) = house.call("GET", "/firmware", None).await;
    let model = &all["models"][0];
    assert_eq!((&model["releases"][0]["tried"], &model["releases"][0]["failed"], &model["devices"]), (&json!(1), &json!(0), &json!(1)));
    for action in ["firmware.offer", "firmware.install", "firmware.confirm"] {
        assert_eq!(house.audited(action).await, 1, "{action}");
    }
    let (_, device) = house.call("GET", &format!("/devices/{}", lamp.device.id), None).await;
    assert_eq!((&device["firmware"], &device["behind"]), (&json!("1.2.0"), &json!(false)));
}

#[tokio::test]
async fn what_people_choose_is_what_is_offered() {
    let house = House::new().await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    house.taken(&Made::new(&house, 2, small(2)).await).await;
    assert!(lamp.waiting().await.is_empty(), "nobody has said yes");
    let verdict = async |lamp: &Lamp| house.firmware_of(lamp).await["verdict"].clone();
    assert_eq!(verdict(&lamp).await, json!({"state": "waits", "rel": 2, "why": "ask"}));
    let path = format!("/devices/{}/firmware", lamp.device.id);
    for (rel, status) in [(1, 422), (3, 422)] {
        assert_eq!(house.call("POST", &format!("{path}/approve"), Some(json!({"rel": rel}))).await.0, status, "{rel}");
    }
    let (status, shown) = house.call("POST", &format!("{path}/approve"), Some(json!({"rel": 2}))).await;
    assert_eq!((status, &shown["approved"]), (200, &json!(2)), "{shown}");
    assert_eq!(lamp.offer().await["rel"], 2);
    house.policy(json!({"mode": "hold"})).await;
    assert_eq!(lamp.offer().await, json!({}), "a download under way is dropped");
    assert_eq!(verdict(&lamp).await["why"], "hold");
    assert_eq!(house.call("POST", &format!("{path}/approve"), Some(json!({"rel": 2}))).await.0, 409);
    // Its own policy goes before its model's.
    let (status, chosen) = house.call("PUT", &format!("{path}/policy"), Some(json!({"mode": "automatic"}))).await;
    assert_eq!((status, &chosen["version"]), (200, &json!(1)));
    assert_eq!(lamp.offer().await["rel"], 2);
    house.policy(json!({"mode": "automatic", "percent": 0})).await;
    assert!(lamp.waiting().await.is_empty(), "that is the model's");
    assert_eq!(house.call("DELETE", &format!("{path}/policy"), None).await.0, 204);
    assert_eq!(verdict(&lamp).await["state"], "offer", "somebody has said yes to it");
    let (mut other, first) = house.lamp().await;
    assert_eq!(first, json!({}));
    other.runs(1).await;
    assert_eq!(verdict(&other).await["why"], "stage", "it is nobody's turn");
    assert_eq!(house.audited("firmware.policy").await, 4);
    assert_eq!(house.audited("firmware.approve").await, 1);
}

#[tokio::test]
async fn who_manages_says_yes_and_who_administers_chooses() {
    let house = House::new().await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    house.taken(&Made::new(&house, 2, small(2)).await).await;
    let path = format!("/devices/{}/firmware", lamp.device.id);
    let yes = || Some(json!({"rel": 2}));
    let (_, nobody) = house.person("nobody", Role::Member).await;
    assert_eq!(house.http("GET", &path, &nobody, None).await.0, 404);
    for (name, privilege, sees, approves, chooses) in [
        ("vera", Privilege::View, 200, 403, 403),
        ("otto", Privilege::Operate, 200, 403, 403),
        ("mona", Privilege::Manage, 200, 200, 403),
        ("anna", Privilege::Administer, 200, 200, 200),
    ] {
        let (_, token) = house.person(name, Role::Member).await;
        let grant = Grant { to: Recipient::Person(name.into()), terms: Terms::of(privilege) };
        house.hub.service().grant(&house.owner, &lamp.device.id, grant).await.unwrap();
        assert_eq!(house.http("GET", &path, &token, None).await.0, sees, "{name}");
        assert_eq!(house.http("POST", &format!("{path}/approve"), &token, yes()).await.0, approves, "{name}");
        let policy = Some(json!({"mode": "automatic"}));
        assert_eq!(house.http("PUT", &format!("{path}/policy"), &token, policy).await.0, chooses, "{name}");
        assert_eq!(house.http("DELETE", &format!("{path}/policy"), &token, None).await.0, if chooses == 200 { 204 } else { 403 }, "{name}");
    }
}

#[tokio::test]
async fn an_older_policy_is_not_written_over_a_newer_one() {
    let house = House::new().await;
    let (lamp, _) = house.lamp().await;
    let (client, base) = house.client();
    let path = format!("{base}/api/v1/devices/{}/firmware/policy", lamp.device.id);
    let put = async |tag: &str, mode: &str| {
        let request = client.put(&path).bearer_auth(&house.owner_token).header("if-match", tag).json(&json!({"mode": mode}));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned()))
    };
    assert_eq!(put("\"0\"", "hold").await, (200, Some("\"1\"".into())));
    assert_eq!(put("\"0\"", "automatic").await.0, 412);
    assert_eq!(put("\"1\"", "automatic").await, (200, Some("\"2\"".into())));
}

/// A lamp fails with what it is offered, and says so.
async fn fails(lamp: &mut Lamp, code: &str) {
    let offer = lamp.offer().await;
    lamp.is(1, "failed", &offer, json!({"code": code, "detail": "it flickers"})).await;
    assert_eq!(lamp.offer().await, json!({}));
}

#[tokio::test]
async fn a_release_that_fails_too_often_is_stopped_told_and_goes_on_when_a_person_says_so() {
    let house = automatic().await;
    let mut lamps = Vec::new();
    for _ in 0..4 {
        let (mut lamp, _) = house.lamp().await;
        lamp.runs(1).await;
        lamps.push(lamp);
    }
    house.taken(&Made::new(&house, 2, small(2)).await).await;
    let mut last = lamps.pop().unwrap();
    let offer = last.offer().await;
    assert_eq!(offer["rel"], 2);
    for lamp in &mut lamps {
        fails(lamp, "health").await;
    }
    assert_eq!(last.offer().await, json!({}), "it is taken back from who has not begun");
    assert_eq!(house.firmware_of(&last).await["verdict"], json!({"state": "waits", "rel": 2, "why": "stopped"}));
    let (_, all) = house.call("GET", "/firmware", None).await;
    let release = &all["models"][0]["releases"][0];
    assert_eq!((&release["tried"], &release["failed"], &release["stopped"]), (&json!(3), &json!(3), &json!(true)));
    let (_, cloud) = house.call("GET", "/cloud", None).await;
    let codes: Vec<&str> = cloud["notices"].as_array().unwrap().iter().map(|n| n["code"].as_str().unwrap()).collect();
    assert_eq!(codes.iter().filter(|code| **code == "firmware_failed").count(), 3, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == "firmware_stopped").count(), 1, "{codes:?}");
    assert_eq!(house.call("POST", "/firmware/acme/lamp/2/resume", None).await.0, 204);
    assert_eq!(last.offer().await["rel"], 2);
    assert_eq!(house.audited("firmware.stop").await + house.audited("firmware.resume").await, 2);
    let shown = house.firmware_of(&lamps[0]).await;
    assert_eq!((&shown["progress"]["state"], &shown["progress"]["detail"]), (&json!("failed"), &json!("it flickers")), "{shown}");
    assert_eq!(shown["verdict"]["why"], "backoff");
}

async fn on(clock: &std::sync::Arc<Virtual>) -> House {
    House::build(HouseOptions { clock: Some(clock.clone()), ..HouseOptions::default() }).await
}

#[tokio::test]
async fn a_device_that_failed_is_offered_it_again_three_times_and_then_a_person_decides() {
    let clock = Virtual::at(NOON, true);
    let house = on(&clock).await;
    house.policy(json!({"mode": "automatic", "stop": {"after": 100, "percent": 100}})).await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    house.taken(&Made::new(&house, 2, small(2)).await).await;
    for pause in [HOUR, 4 * HOUR, 24 * HOUR] {
        fails(&mut lamp, "install").await;
        clock.pass(pause - 1);
        house.hub.service().sweep_firmware().await.unwrap();
        assert!(lamp.waiting().await.is_empty());
        clock.pass(1);
        house.hub.service().sweep_firmware().await.unwrap();
    }
    fails(&mut lamp, "install").await;
    clock.pass(100 * HOUR);
    house.hub.service().sweep_firmware().await.unwrap();
    assert_eq!(house.firmware_of(&lamp).await["verdict"]["why"], "gave_up");
    let approve = format!("/devices/{}/firmware/approve", lamp.device.id);
    assert_eq!(house.call("POST", &approve, Some(json!({"rel": 2}))).await.0, 200);
    assert_eq!(lamp.offer().await["rel"], 2);
}

#[tokio::test]
async fn installing_begins_in_its_window_and_a_device_that_goes_silent_has_failed() {
    let clock = Virtual::at(NOON, true);
    let house = on(&clock).await;
    house.policy(json!({"mode": "automatic", "window": {"days": ["wed"], "from": "13:00", "to": "14:00"}})).await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    house.taken(&Made::new(&house, 2, small(2)).await).await;
    let early = lamp.offer().await;
    assert_eq!((&early["rel"], &early["install"]), (&json!(2), &json!(false)), "it is fetched before");
    lamp.is(1, "downloaded", &early, json!({})).await;
    clock.pass(HOUR);
    house.hub.service().sweep_firmware().await.unwrap();
    let now = lamp.offer().await;
    assert_eq!((&now["offer"], &now["install"]), (&early["offer"], &json!(true)), "the same offer");
    lamp.is(1, "installing", &now, json!({})).await;
    clock.pass(29 * MINUTE);
    house.hub.service().sweep_firmware().await.unwrap();
    assert_eq!(house.firmware_of(&lamp).await["progress"]["state"], "installing");
    clock.pass(2 * MINUTE);
    house.hub.service().sweep_firmware().await.unwrap();
    let shown = house.firmware_of(&lamp).await;
    assert_eq!((&shown["progress"]["state"], &shown["progress"]["code"]), (&json!("failed"), &json!("silent")), "{shown}");
    assert_eq!(lamp.offer().await, json!({}));
    // What it says later counts.
    lamp.is(2, "confirmed", &now, json!({})).await;
    assert_eq!(house.firmware_of(&lamp).await["progress"]["state"], "confirmed");
    let (_, all) = house.call("GET", "/firmware", None).await;
    assert_eq!(all["models"][0]["releases"][0]["failed"], 0);
}

#[tokio::test]
async fn a_window_does_not_open_by_a_clock_that_nobody_vouches_for() {
    let clock = Virtual::at(NOON + HOUR, false);
    let house = on(&clock).await;
    let everyday = json!({"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "00:00", "to": "00:00"});
    house.policy(json!({"mode": "automatic", "window": everyday})).await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    house.taken(&Made::new(&house, 2, small(2)).await).await;
    let offer = lamp.offer().await;
    assert_eq!((&offer["rel"], &offer["install"]), (&json!(2), &json!(false)));
}

#[tokio::test]
async fn what_does_not_fit_a_device_is_not_offered_and_steps_are_kept() {
    let house = automatic().await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    house.taken(&Made::new(&house, 9, small(9)).await.with(|release| release.hardware = vec!["other".into()])).await;
    assert!(lamp.waiting().await.is_empty());
    assert_eq!(house.firmware_of(&lamp).await["verdict"]["why"], "hardware");
    house.taken(&Made::new(&house, 4, small(4)).await.with(|release| release.least_before = 3)).await;
    assert_eq!(house.firmware_of(&lamp).await["verdict"]["why"], "step");
    house.taken(&Made::new(&house, 3, small(3)).await).await;
    let first = lamp.offer().await;
    assert_eq!(first["rel"], 3);
    // It came up with it, and nobody heard: what it runs says enough.
    lamp.runs(3).await;
    let next = lamp.offer().await;
    assert_eq!(next["rel"], 4);
    for nonsense in
        [json!({"rel": 3}), json!("idle"), json!({"rel": 3, "version": "x", "state": "failed", "offer": next["offer"], "code": "silent"})]
    {
        assert_eq!(lamp.say("firmware/report", &nonsense).await, 0, "it is not taken, and does no harm");
    }
    lamp.is(3, "confirmed", &first, json!({})).await;
    assert!(lamp.waiting().await.is_empty(), "the offer stands");
    assert_eq!(house.firmware_of(&lamp).await["progress"]["state"], "offered");
}

#[tokio::test]
async fn a_device_that_comes_back_is_told_the_offer_that_stands() {
    let house = automatic().await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    house.taken(&Made::new(&house, 2, small(2)).await).await;
    let before = lamp.offer().await;
    let Lamp { device, client } = lamp;
    client.disconnect(0).await.unwrap();
    let (mut lamp, again) = house.listening(device).await;
    assert_eq!(again, before, "ticket and all");
    // A wildcard listens, too; what it says now is nothing new.
    let all = lamp.device.topic("#");
    lamp.client.subscribe(&[(&all, hearthkey::sim::mqtt::Qos::AtLeastOnce)]).await.unwrap();
    let heard: Vec<_> = lamp.waiting().await.iter().map(|heard| heard.topic.to_string()).collect();
    assert!(heard.iter().any(|topic| topic.ends_with("/firmware/offer")), "{heard:?}");
    lamp.runs(1).await;
    assert!(lamp.waiting().await.is_empty());
}

#[tokio::test]
async fn what_happens_is_told_live_to_who_may_see_it() {
    let house = automatic().await;
    let mut changes = house.hub.service().changes();
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    house.taken(&Made::new(&house, 2, small(2)).await).await;
    lamp.offer().await;
    let mut told: Vec<Value> = Vec::new();
    while let Ok(change) = changes.try_recv() {
        told.push(serde_json::to_value(&change).unwrap());
    }
    assert!(told.contains(&json!({"kind": "firmware", "id": lamp.device.id})), "{told:?}");
    assert!(told.contains(&json!({"kind": "firmware", "id": null})), "{told:?}");
    let wanted = house.hub.service().wanted_releases().unwrap();
    let [lamps] = &wanted[..] else { panic!("{wanted:?}") };
    assert_eq!((lamps.oldest, &lamps.cached[..], &lamps.missing[..]), (Some(1), &[2u64][..], &[][..]));
}
