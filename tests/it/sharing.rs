//! Sharing a device: what each right allows over REST and MQTT, and that it ends, live, when it is taken away.

use crate::house::{Device, House};
use hearthkey::domain::account::Role;
use hearthkey::service::Actor;
use hearthkey::sim::mqtt::{Client, Message, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(10);
const DENIED: u8 = 0x87;

async fn share(house: &House, token: &str, device: &Device, body: Value) -> u16 {
    house.http("POST", &format!("/devices/{}/bindings", device.id), token, Some(body)).await.0
}

async fn give(house: &House, device: &Device, name: &str, privilege: &str) {
    assert_eq!(share(house, &house.owner_token, device, json!({"username": name, "privilege": privilege})).await, 200);
}

async fn take(house: &House, token: &str, device: &Device, who: &Actor, query: &str) -> (u16, Value) {
    house.http("DELETE", &format!("/devices/{}/bindings/{}{query}", device.id, who.user().unwrap()), token, None).await
}

/// The names of those whose right ended along with another.
fn names(answer: &Value) -> BTreeSet<&str> {
    answer["bindings"].as_array().unwrap().iter().map(|b| b["username"].as_str().unwrap()).collect()
}

async fn sees(house: &House, token: &str, device: &Device) -> bool {
    house.http("GET", &format!("/devices/{}", device.id), token, None).await.0 == 200
}

/// Claims a device and connects it.
async fn live(house: &House, model: &str) -> (Device, Client<Stream>) {
    let device = house.device(model).await;
    house.claim(&device).await;
    let client = house.connect_device(&device).await;
    (device, client)
}

/// A person who listens to `filters`.
async fn listener(house: &House, name: &str, token: &str, filters: &[&str]) -> Client<Stream> {
    let mut client = house.connect_person(name, token).await.unwrap();
    let filters: Vec<_> = filters.iter().map(|f| (*f, Qos::AtLeastOnce)).collect();
    assert!(client.subscribe(&filters).await.unwrap().iter().all(|code| *code < 0x80));
    client
}

async fn say(client: &mut Client<Stream>, topic: String, payload: impl Into<String>) -> u8 {
    client.publish(&Message::new(topic, payload.into(), Qos::AtLeastOnce)).await.unwrap()
}

fn number(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

/// Numbers that were heard on `topic` until a message came on `barrier`. What was offered before it comes before it.
async fn heard_until(client: &mut Client<Stream>, topic: &str, barrier: &str) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let message = client.receive(SHORT).await.unwrap().expect("the barrier");
        if *message.topic == *barrier {
            return numbers;
        }
        if *message.topic == *topic {
            numbers.push(number(&message.payload));
        }
    }
}

#[tokio::test]
async fn each_right_allows_what_it_says_over_rest_and_mqtt() {
    let house = House::new().await;
    let (door, _live) = live(&house, "garage-door").await;
    let (_, token) = house.person("mia", Role::Member).await;
    let path = |rest: &str| format!("/devices/{}{rest}", door.id);
    let stranger = house.connect_person("mia", &token).await.unwrap().subscribe(&[(&door.topic("t"), Qos::AtMostOnce)]).await.unwrap();
    assert_eq!(stranger, [DENIED]);
    assert_eq!(house.http("GET", &path("/twin"), &token, None).await.0, 404);
    // Right, then: reading the twin, a light, a name, sharing on; a critical command is asked for apart.
    for (privilege, operate, manage, administer) in
        [("view", 403, 403, 403), ("operate", 200, 403, 403), ("manage", 200, 200, 403), ("administer", 200, 200, 200)]
    {
        give(&house, &door, "mia", privilege).await;
        let status = async |method: &str, rest: &str, body: Value| house.http(method, &path(rest), &token, Some(body)).await.0;
        assert_eq!(house.http("GET", &path("/twin"), &token, None).await.0, 200, "{privilege}");
        assert_eq!(status("PATCH", "/twin/desired", json!({"light": true})).await, operate, "{privilege}");
        assert_eq!(status("PATCH", "", json!({"name": "Door"})).await, manage, "{privilege}");
        let critical = if manage == 200 { 202 } else { 403 };
        assert_eq!(status("POST", "/commands", json!({"name": "open"})).await, critical, "{privilege}");
        assert_eq!(status("POST", "/bindings", json!({"username": "olivia", "privilege": "administer"})).await, administer, "{privilege}");
        // The same over MQTT, where the hub answers below `…/update`.
        let answers = door.topic("shadow/update/+");
        let mut client = listener(&house, "mia", &token, &[&answers]).await;
        let update = json!({"state": {"desired": {"light": false}}, "clientToken": privilege}).to_string();
        let code = say(&mut client, door.topic("shadow/update"), update).await;
        assert_eq!(code < 0x80, operate == 200, "{privilege}: {code}");
        if operate == 200 {
            let accepted = door.topic("shadow/update/accepted");
            while *client.receive(SHORT).await.unwrap().expect("accepted").topic != *accepted {}
        }
    }
}

#[tokio::test]
async fn nothing_published_after_a_revocation_has_returned_arrives() {
    let house = House::new().await;
    let (shared, mut talker) = live(&house, "lamp").await;
    let (kept, mut other) = live(&house, "lamp").await;
    let (mia, token) = house.person("mia", Role::Member).await;
    give(&house, &shared, "mia", "view").await;
    give(&house, &kept, "mia", "view").await;
    let (topic, barrier) = (shared.topic("telemetry/n"), kept.topic("telemetry/end"));
    let mut client = listener(&house, "mia", &token, &[&topic, "things/+/telemetry/#"]).await;
    let (begun, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let talking = tokio::spawn({
        let (topic, begun, stop) = (topic.clone(), begun.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::SeqCst) {
                let n = begun.fetch_add(1, Ordering::SeqCst) + 1;
                assert!(say(&mut talker, topic.clone(), n.to_string()).await < 0x80);
            }
            talker
        }
    });
    assert!(client.receive(SHORT).await.unwrap().is_some(), "it hears the lamp as long as it may");
    assert_eq!(take(&house, &house.owner_token, &shared, &mia, "").await.0, 200);
    let at_revocation = begun.load(Ordering::SeqCst);
    // Some more, all of them too late.
    while begun.load(Ordering::SeqCst) < at_revocation + 50 {
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::SeqCst);
    talking.await.unwrap();
    assert!(say(&mut other, barrier.clone(), "end").await < 0x80);
    let heard = heard_until(&mut client, &topic, &barrier).await;
    assert!(heard.iter().all(|n| *n <= at_revocation), "{heard:?} after {at_revocation}");
    assert_eq!(client.subscribe(&[(&topic, Qos::AtMostOnce)]).await.unwrap(), [DENIED]);
    assert!(!sees(&house, &token, &shared).await);
}

#[tokio::test]
async fn a_right_for_a_time_ends_a_live_subscription_by_itself() {
    let house = House::new().await;
    let (shared, mut talker) = live(&house, "lamp").await;
    let (kept, mut other) = live(&house, "lamp").await;
    let (_, token) = house.person("gus", Role::Guest).await;
    give(&house, &kept, "gus", "view").await;
    let until = house.hub.service().now() + 1_500;
    let body = json!({"username": "gus", "privilege": "view", "until": until});
    assert_eq!(share(&house, &house.owner_token, &shared, body).await, 200);
    let (topic, barrier) = (shared.topic("telemetry/n"), kept.topic("telemetry/end"));
    let mut client = listener(&house, "gus", &token, &[&topic, &barrier]).await;
    let (mut n, mut late) = (0, 0);
    let mut heard = Vec::new();
    while late < 20 {
        n += 1;
        late += u64::from(house.hub.service().now() >= until);
        assert!(say(&mut talker, topic.clone(), n.to_string()).await < 0x80);
        // Read as it comes: a reader that falls far behind would be closed.
        while let Some(message) = client.receive(Duration::from_millis(1)).await.unwrap() {
            heard.push(number(&message.payload));
        }
    }
    assert!(say(&mut other, barrier.clone(), "end").await < 0x80);
    heard.extend(heard_until(&mut client, &topic, &barrier).await);
    assert!(!heard.is_empty(), "it must have heard something while it might");
    assert!(heard.iter().all(|heard| *heard <= n - late), "{heard:?} of {n}, {late} of them late");
    assert!(!sees(&house, &token, &shared).await);
}

#[tokio::test]
async fn a_right_is_never_given_wider_or_longer_than_the_givers_own() {
    let house = House::new().await;
    let (lamp, _live) = live(&house, "lamp").await;
    let (_, token) = house.person("mia", Role::Member).await;
    house.person("gus", Role::Guest).await;
    let until = house.hub.service().now() + 3_600_000;
    let own = json!({"username": "mia", "privilege": "administer", "until": until});
    assert_eq!(share(&house, &house.owner_token, &lamp, own).await, 200);
    assert_eq!(share(&house, &token, &lamp, json!({"username": "gus", "privilege": "view"})).await, 403);
    assert_eq!(share(&house, &token, &lamp, json!({"username": "gus", "privilege": "view", "until": until + 1})).await, 403);
    assert_eq!(share(&house, &token, &lamp, json!({"username": "gus", "privilege": "view", "until": until})).await, 200);
    assert_eq!(share(&house, &token, &lamp, json!({"username": "nobody", "privilege": "view", "until": until})).await, 404);
}

#[tokio::test]
async fn revoking_takes_along_what_was_given_and_says_so() {
    let house = House::new().await;
    let (lamp, mut talker) = live(&house, "lamp").await;
    let (mia, mia_token) = house.person("mia", Role::Member).await;
    let (_, max_token) = house.person("max", Role::Member).await;
    let (_, gus_token) = house.person("gus", Role::Guest).await;
    let chain = async || {
        give(&house, &lamp, "mia", "administer").await;
        assert_eq!(share(&house, &mia_token, &lamp, json!({"username": "max", "privilege": "administer"})).await, 200);
        assert_eq!(share(&house, &max_token, &lamp, json!({"username": "gus", "privilege": "view"})).await, 200);
        // The last in the chain gives to the first: nobody is asked twice.
        assert_eq!(share(&house, &max_token, &lamp, json!({"username": "mia", "privilege": "administer"})).await, 200);
    };
    chain().await;
    let (status, lost) = take(&house, &house.owner_token, &lamp, &mia, "?keep_grants=1").await;
    assert_eq!((status, names(&lost).len()), (200, 0));
    assert!(sees(&house, &gus_token, &lamp).await && !sees(&house, &mia_token, &lamp).await);
    chain().await;
    let topic = lamp.topic("telemetry/n");
    let mut guest = listener(&house, "gus", &gus_token, &[&topic]).await;
    let (status, lost) = take(&house, &house.owner_token, &lamp, &mia, "").await;
    assert_eq!((status, names(&lost)), (200, BTreeSet::from(["gus", "max"])));
    assert!(say(&mut talker, topic, "1").await < 0x80);
    guest.ping().await.unwrap();
    assert!(guest.receive(Duration::ZERO).await.unwrap().is_none());
    for token in [&mia_token, &max_token, &gus_token] {
        assert!(!sees(&house, token, &lamp).await);
    }
    let (_, audit) = house.http("GET", "/audit?limit=5", &house.owner_token, None).await;
    let told = audit["entries"].as_array().unwrap().iter().find(|e| e["action"] == "binding.revoke").unwrap();
    assert!(told["detail"].as_str().unwrap().contains("; 2 rights given by it ended too:"), "{told}");
}

#[tokio::test]
async fn who_takes_a_right_away_keeps_their_own_even_when_it_came_from_there() {
    let house = House::new().await;
    let (lamp, _live) = live(&house, "lamp").await;
    let (_, mia_token) = house.person("mia", Role::Member).await;
    let (_, gus_token) = house.person("gus", Role::Guest).await;
    give(&house, &lamp, "mia", "administer").await;
    assert_eq!(share(&house, &mia_token, &lamp, json!({"username": "gus", "privilege": "view"})).await, 200);
    let (status, lost) = take(&house, &mia_token, &lamp, &house.owner, "").await;
    assert_eq!((status, names(&lost).len()), (200, 0));
    assert!(sees(&house, &mia_token, &lamp).await && sees(&house, &gus_token, &lamp).await);
}

#[tokio::test]
async fn anyone_leaves_without_asking_but_the_last_administrator_stays() {
    let house = House::new().await;
    let (lamp, _live) = live(&house, "lamp").await;
    let (mia, token) = house.person("mia", Role::Member).await;
    assert_eq!(take(&house, &token, &lamp, &mia, "").await.0, 404, "who has no right has none to leave");
    // Even a right that has not begun, or on a device that is shut out.
    let from = house.hub.service().now() + 3_600_000;
    assert_eq!(share(&house, &house.owner_token, &lamp, json!({"username": "mia", "privilege": "view", "from": from})).await, 200);
    assert_eq!(take(&house, &token, &lamp, &mia, "").await.0, 200);
    give(&house, &lamp, "mia", "view").await;
    house.hub.service().suspend(&house.owner, &lamp.id, true).await.unwrap();
    assert_eq!(take(&house, &token, &lamp, &mia, "").await.0, 200);
    house.hub.service().suspend(&house.owner, &lamp.id, false).await.unwrap();
    assert!(!sees(&house, &token, &lamp).await);
    // The last one stays: neither one who only views, nor one whose right begins later, takes over.
    give(&house, &lamp, "mia", "manage").await;
    assert_eq!(take(&house, &house.owner_token, &lamp, &house.owner, "").await.0, 409);
    let later = json!({"username": "mia", "privilege": "administer", "from": from});
    assert_eq!(share(&house, &house.owner_token, &lamp, later).await, 200);
    assert_eq!(take(&house, &house.owner_token, &lamp, &house.owner, "").await.0, 409);
    assert_eq!(share(&house, &house.owner_token, &lamp, json!({"username": "olivia", "privilege": "view"})).await, 409);
    give(&house, &lamp, "mia", "administer").await;
    assert_eq!(take(&house, &house.owner_token, &lamp, &house.owner, "").await.0, 200);
    assert_eq!(take(&house, &token, &lamp, &mia, "").await.0, 409);
}

#[tokio::test]
async fn an_owner_of_the_hub_takes_administration_and_nobody_else_does() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let path = format!("/devices/{}/administration", lamp.id);
    assert_eq!(house.http("POST", &path, &house.owner_token, None).await.0, 409, "nobody has claimed it");
    let (mia, mia_token) = house.person("mia", Role::Member).await;
    let (_, max_token) = house.person("max", Role::Member).await;
    house.hub.service().claim(&mia, &lamp.code, None, "", "").await.unwrap();
    assert_eq!(house.http("POST", &path, &max_token, None).await.0, 403);
    assert_eq!(house.http("GET", &format!("/devices/{}/twin", lamp.id), &house.owner_token, None).await.0, 403);
    let (status, device) = house.http("POST", &path, &house.owner_token, None).await;
    assert_eq!((status, device["privilege"].as_str()), (200, Some("administer")));
    assert!(sees(&house, &mia_token, &lamp).await, "who claimed it keeps it");
    let (_, audit) = house.http("GET", "/audit?limit=1", &house.owner_token, None).await;
    assert_eq!(audit["entries"][0]["action"], "binding.take");
}

#[tokio::test]
async fn ending_an_account_cuts_its_live_session_and_ends_what_it_gave() {
    let house = House::new().await;
    let (lamp, _live) = live(&house, "lamp").await;
    let (mia, mia_token) = house.person("mia", Role::Member).await;
    let (_, max_token) = house.person("max", Role::Member).await;
    house.person("gus", Role::Guest).await;
    give(&house, &lamp, "mia", "administer").await;
    assert_eq!(share(&house, &mia_token, &lamp, json!({"username": "max", "privilege": "administer"})).await, 200);
    assert_eq!(share(&house, &max_token, &lamp, json!({"username": "gus", "privilege": "view"})).await, 200);
    let mut client = listener(&house, "mia", &mia_token, &[&lamp.topic("#")]).await;
    let (status, lost) = house.http("DELETE", &format!("/users/{}", mia.user().unwrap()), &house.owner_token, None).await;
    assert_eq!((status, names(&lost)), (200, BTreeSet::from(["gus", "max"])));
    assert!(client.ping().await.is_err(), "its session must have been cut");
    assert!(house.connect_person("mia", &mia_token).await.is_err());
    assert_eq!(house.http("GET", "/me", &mia_token, None).await.0, 401);
    assert!(!sees(&house, &max_token, &lamp).await && sees(&house, &house.owner_token, &lamp).await);
}
