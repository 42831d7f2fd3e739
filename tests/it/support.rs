//! Support sessions: what they let in, what they record, and everything that ends them.

use crate::house::{Device, House};
use hearthkey::domain::account::Role;
use hearthkey::sim::mqtt::{Client, Message, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(10);
const PASSWORD: &str = "another long password";

/// One of a maker's people, who may come from here, signed in: the account's id and the token.
pub async fn vendor(house: &House, name: &str, role: &str, brand: &str) -> (String, String) {
    let body = json!({"username": name, "password": PASSWORD, "role": role, "brand": brand, "networks": ["127.0.0.1"]});
    let (status, added) = house.http("POST", "/users", &house.owner_token, Some(body)).await;
    assert_eq!(status, 201, "{added}");
    let (status, opened) = house.http("POST", "/sessions", "", Some(json!({"username": name, "password": PASSWORD}))).await;
    assert_eq!(status, 201);
    (added["id"].as_str().unwrap().to_owned(), opened["token"].as_str().unwrap().to_owned())
}

async fn claimed(house: &House, model: &str) -> Device {
    let device = house.device(model).await;
    house.claim(&device).await;
    device
}

fn request(name: &str, devices: &[&Device], privilege: &str) -> Value {
    let ids: Vec<&str> = devices.iter().map(|d| d.id.as_str()).collect();
    json!({"username": name, "devices": ids, "privilege": privilege, "reason": "it does not close"})
}

async fn open(house: &House, token: &str, request: Value) -> (u16, Value) {
    house.http("POST", "/support", token, Some(request)).await
}

pub async fn opened(house: &House, name: &str, devices: &[&Device], privilege: &str) -> String {
    let (status, session) = open(house, &house.owner_token, request(name, devices, privilege)).await;
    assert_eq!(status, 201, "{session}");
    session["id"].as_str().unwrap().to_owned()
}

async fn listed(house: &House, token: &str) -> usize {
    let (status, body) = house.http("GET", "/support", token, None).await;
    assert_eq!(status, 200);
    body["sessions"].as_array().unwrap().len()
}

async fn twin(house: &House, token: &str, device: &Device) -> u16 {
    house.http("GET", &format!("/devices/{}/twin", device.id), token, None).await.0
}

async fn audit(house: &House) -> Vec<Value> {
    let (_, body) = house.http("GET", "/audit?limit=200", &house.owner_token, None).await;
    body["entries"].as_array().unwrap().clone()
}

async fn say(client: &mut Client<Stream>, device: &Device, payload: &'static str) {
    assert!(client.publish(&Message::new(device.topic("telemetry/n"), payload, Qos::AtLeastOnce)).await.unwrap() < 0x80);
}

#[tokio::test]
async fn who_is_let_in_does_what_the_session_says_is_recorded_and_is_out_with_one_tap() {
    let house = House::new().await;
    let (door, lamp) = (claimed(&house, "garage-door").await, claimed(&house, "lamp").await);
    let mut talker = house.connect_device(&door).await;
    let (vera, token) = vendor(&house, "vera", "support", "acme").await;
    assert_eq!(twin(&house, &token, &door).await, 404);
    let (status, session) = open(&house, &house.owner_token, request("vera", &[&door], "operate")).await;
    assert_eq!(status, 201);
    let id = session["id"].as_str().unwrap();
    assert_eq!((&session["role"], &session["brand"], &session["privilege"]), (&json!("support"), &json!("acme"), &json!("operate")));
    assert_eq!(session["until"].as_u64().unwrap() - session["opened_at"].as_u64().unwrap(), 3_600_000);
    assert_eq!((listed(&house, &token).await, listed(&house, &house.owner_token).await), (1, 1));
    let mut live = house.connect_person("vera", &token).await.unwrap();
    let filters = [door.topic("telemetry/#"), lamp.topic("telemetry/#")];
    let filters: Vec<_> = filters.iter().map(|f| (f.as_str(), Qos::AtLeastOnce)).collect();
    assert_eq!(live.subscribe(&filters).await.unwrap(), [1, 0x87]);
    say(&mut talker, &door, "1").await;
    assert_eq!(*live.receive(SHORT).await.unwrap().expect("the door's word").payload, *b"1");
    for _ in 0..2 {
        assert_eq!((twin(&house, &token, &door).await, twin(&house, &token, &lamp).await), (200, 404));
    }
    let desire = async |body: Value| house.http("PATCH", &format!("/devices/{}/twin/desired", door.id), &token, Some(body)).await.0;
    assert_eq!(desire(json!({"light": true})).await, 200);
    let command = Some(json!({"name": "open"}));
    assert_eq!(house.http("POST", &format!("/devices/{}/commands", door.id), &token, command).await.0, 403, "critical takes manage");
    assert_eq!(house.http("PATCH", &format!("/devices/{}", door.id), &token, Some(json!({"name": "x"}))).await.0, 403);
    // Everything is told with the session; looking is told once.
    let (by, mark) = (format!("user:{vera}"), format!("support:{id}"));
    let of = |log: &[Value], action: &str| log.iter().filter(|e| e["actor"] == *by && e["action"] == action).cloned().collect::<Vec<_>>();
    let log = audit(&house).await;
    for action in ["twin.read", "twin.desire"] {
        let told = of(&log, action);
        assert_eq!(told.len(), 1, "{action}");
        assert_eq!((&told[0]["reason"], &told[0]["object"]), (&json!(mark), &json!(door.id)), "{action}");
    }
    assert_eq!(log.iter().find(|e| e["action"] == "support.open").unwrap()["object"], mark);
    // One tap: out, live and for good.
    assert_eq!(house.http("DELETE", &format!("/support/{id}"), &house.owner_token, None).await.0, 204);
    say(&mut talker, &door, "2").await;
    live.ping().await.unwrap();
    assert!(live.receive(Duration::ZERO).await.unwrap().is_none());
    assert_eq!(twin(&house, &token, &door).await, 404);
    assert_eq!((listed(&house, &token).await, listed(&house, &house.owner_token).await), (0, 0));
    assert_eq!(house.http("DELETE", &format!("/support/{id}"), &house.owner_token, None).await.0, 404);
    assert_eq!(desire(json!({"light": false})).await, 404);
}

#[tokio::test]
async fn whom_it_concerns_sees_it_and_only_owners_and_the_one_let_in_end_it() {
    let house = House::new().await;
    let door = claimed(&house, "garage-door").await;
    let (_, token) = vendor(&house, "vera", "developer", "acme").await;
    let (_, other) = vendor(&house, "viktor", "developer", "acme").await;
    let (_, mia) = house.person("mia", Role::Member).await;
    let (_, max) = house.person("max", Role::Member).await;
    let share = Some(json!({"username": "mia", "privilege": "view"}));
    assert_eq!(house.http("POST", &format!("/devices/{}/bindings", door.id), &house.owner_token, share).await.0, 200);
    let path = format!("/support/{}", opened(&house, "vera", &[&door], "manage").await);
    let seen = [listed(&house, &mia).await, listed(&house, &max).await, listed(&house, &other).await];
    assert_eq!(seen, [1, 0, 0]);
    let end = async |token: &str| house.http("DELETE", &path, token, None).await.0;
    assert_eq!([end(&mia).await, end(&max).await, end(&other).await], [403, 404, 404]);
    assert_eq!(end(&token).await, 204, "who was let in goes");
    assert_eq!(twin(&house, &token, &door).await, 404);
}

#[tokio::test]
async fn what_goes_beyond_owner_brand_role_or_time_is_not_opened() {
    let house = House::new().await;
    let (door, hers) = (claimed(&house, "garage-door").await, house.device("lamp").await);
    let (mia, mia_token) = house.person("mia", Role::Member).await;
    house.hub.service().claim(&mia, &hers.code, None, "", "").await.unwrap();
    for (name, role) in [("paula", "product_manager"), ("vera", "support"), ("dan", "developer")] {
        vendor(&house, name, role, "acme").await;
    }
    let brand = hearthkey::domain::ids::BrandId::parse("other").unwrap();
    let print = house.workshop.new_brand(&brand).unwrap().fingerprint.to_string();
    house.hub.service().trust_brand(&house.owner, brand, &print).await.unwrap();
    vendor(&house, "otto", "developer", "other").await;
    let with = |member: &str, value: Value| {
        let mut body = request("vera", &[&door], "view");
        body[member] = value;
        body
    };
    for (body, status) in [
        (request("paula", &[&door], "operate"), 409),
        (request("vera", &[&door], "manage"), 409),
        (request("dan", &[&door], "administer"), 409),
        (request("otto", &[&door], "view"), 409),
        (request("mia", &[&door], "view"), 409),
        (request("nobody", &[&door], "view"), 404),
        (request("vera", &[&hers], "view"), 403),
        (request("vera", &[&door, &hers], "view"), 403),
        (request("vera", &[], "view"), 422),
        (with("devices", json!(["unknown"])), 404),
        (with("minutes", json!(481)), 422),
        (with("minutes", json!(0)), 422),
        (with("minutes", json!(u64::MAX)), 422),
        (with("reason", json!(" ")), 422),
        (with("reason", json!("x".repeat(201))), 422),
    ] {
        assert_eq!(open(&house, &house.owner_token, body.clone()).await.0, status, "{body}");
    }
    assert_eq!(open(&house, &mia_token, request("vera", &[&hers], "view")).await.0, 403, "only owners let in");
    assert_eq!(listed(&house, &house.owner_token).await, 0);
    // Nothing was left behind by those that were refused half way.
    let (_, bindings) = house.http("GET", &format!("/devices/{}/bindings", door.id), &house.owner_token, None).await;
    assert_eq!(bindings["bindings"].as_array().unwrap().len(), 1);
    opened(&house, "vera", &[&door], "operate").await;
    assert_eq!(open(&house, &house.owner_token, request("vera", &[&door], "view")).await.0, 409, "one at a time");
}

#[tokio::test]
async fn it_ends_with_the_owners_own_say_whatever_is_asked_to_stay() {
    let house = House::new().await;
    let (lamp, door) = (claimed(&house, "lamp").await, claimed(&house, "garage-door").await);
    let (otto, otto_token) = house.person("otto", Role::Owner).await;
    let (_, token) = vendor(&house, "vera", "support", "acme").await;
    for device in [&lamp, &door] {
        let path = format!("/devices/{}/administration", device.id);
        assert_eq!(house.http("POST", &path, &otto_token, None).await.0, 200);
    }
    assert_eq!(open(&house, &otto_token, request("vera", &[&lamp, &door], "view")).await.0, 201);
    assert_eq!((twin(&house, &token, &lamp).await, twin(&house, &token, &door).await), (200, 200));
    let otto_id = otto.user().unwrap();
    let path = format!("/devices/{}/bindings/{otto_id}?keep_grants=1", lamp.id);
    assert_eq!(house.http("DELETE", &path, &house.owner_token, None).await.0, 200);
    assert_eq!((twin(&house, &token, &lamp).await, twin(&house, &token, &door).await), (404, 200), "it goes on for the rest");
    let mut talker = house.connect_device(&door).await;
    let mut live = house.connect_person("vera", &token).await.unwrap();
    assert_eq!(live.subscribe(&[(&door.topic("telemetry/#"), Qos::AtLeastOnce)]).await.unwrap(), [1]);
    assert_eq!(house.http("DELETE", &format!("/users/{otto_id}?keep_grants=1"), &house.owner_token, None).await.0, 200);
    say(&mut talker, &door, "1").await;
    live.ping().await.unwrap();
    assert!(live.receive(Duration::ZERO).await.unwrap().is_none());
    assert_eq!((twin(&house, &token, &door).await, listed(&house, &house.owner_token).await), (404, 0));
    let log = audit(&house).await;
    let told: Vec<_> = log.iter().filter(|e| e["actor"] == "hub" && e["action"].as_str().unwrap().starts_with("support.")).collect();
    let told: Vec<_> = told.iter().map(|e| (e["action"].as_str().unwrap(), e["reason"].as_str().unwrap())).collect();
    assert_eq!(told, [("support.end", "opener_ended"), ("support.narrow", "no_say_any_more")]);
}

#[tokio::test]
async fn it_ends_with_the_device_and_with_the_account_of_who_was_let_in() {
    let house = House::new().await;
    let (lamp, door) = (claimed(&house, "lamp").await, claimed(&house, "garage-door").await);
    let (id, token) = vendor(&house, "vera", "support", "acme").await;
    opened(&house, "vera", &[&lamp], "view").await;
    assert_eq!(house.http("DELETE", &format!("/devices/{}", lamp.id), &house.owner_token, None).await.0, 204);
    assert_eq!(listed(&house, &house.owner_token).await, 0);
    opened(&house, "vera", &[&door], "view").await;
    let mut live = house.connect_person("vera", &token).await.unwrap();
    assert_eq!(house.http("DELETE", &format!("/users/{id}"), &house.owner_token, None).await.0, 200);
    assert!(live.ping().await.is_err(), "the account has ended");
    assert_eq!(listed(&house, &house.owner_token).await, 0);
    let (_, bindings) = house.http("GET", &format!("/devices/{}/bindings", door.id), &house.owner_token, None).await;
    assert_eq!(bindings["bindings"].as_array().unwrap().len(), 1);
}
