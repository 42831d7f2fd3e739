//! A right to a part of a device: what belongs to the rest is neither read, nor written, nor guessed, by whichever way.

use crate::house::{Device, House};
use crate::remotes::{heard, ready, refused, say, signed_in};
use hearthkey::domain::account::Role;
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};

const DENIED: u8 = 0x87;

struct Home {
    house: House,
    door: Device,
    door_client: Client<Stream>,
    /// The guest's session.
    token: String,
}

/// A door that says where it stands, and a guest to whom no part of it is given yet.
async fn home() -> Home {
    let house = House::new().await;
    let (door, secret) = ready(&house, "garage-door", "Door").await;
    let mut door_client = signed_in(&house, &door, &secret).await;
    door_client.subscribe(&[(&door.topic("commands/+"), Qos::AtLeastOnce)]).await.unwrap();
    let state = json!({"reported": {"position": 77, "state": "opening", "light": false}, "desired": {"light": true, "auto_close": true}});
    assert_eq!(say(&mut door_client, &door.topic("shadow/update"), json!({"state": state})).await, 0);
    let (_, token) = house.person("gus", Role::Guest).await;
    Home { house, door, door_client, token }
}

impl Home {
    async fn give(&self, more: Value) {
        let mut body = json!({"username": "gus", "privilege": "manage"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/devices/{}/bindings", self.door.id);
        assert_eq!(self.house.http("POST", &path, &self.house.owner_token, Some(body)).await.0, 200);
    }

    async fn guest(&self, method: &str, rest: &str, body: Option<Value>) -> (u16, Value) {
        self.house.http(method, &format!("/devices/{}{rest}", self.door.id), &self.token, body).await
    }
}

/// Nothing of what the guest may not see stands in it: no name, and no value (77 may well be in the digits of a time).
fn tells_nothing(value: &Value) {
    let text = value.to_string();
    for secret in ["position", "opening", "auto_close"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert!(!holds(value, &json!(77)), "77: {text}");
}

/// Whether `part` is one of the values in it.
fn holds(value: &Value, part: &Value) -> bool {
    let told = part.to_string();
    let within = match value {
        Value::Array(all) => all.iter().any(|one| holds(one, part)),
        Value::Object(all) => all.values().any(|one| holds(one, part)),
        Value::String(text) => text.split_whitespace().any(|word| word == told),
        _ => false,
    };
    within || value == part
}

#[tokio::test]
async fn a_part_of_the_twin_is_read_and_written_and_the_rest_is_not_told_even_by_an_error() {
    let home = home().await;
    home.give(json!({"only": ["light"]})).await;
    let (status, twin) = home.guest("GET", "/twin", None).await;
    assert_eq!((status, &twin["desired"], &twin["reported"]), (200, &json!({"light": true}), &json!({"light": false})));
    assert_eq!(twin["delta"], json!({"light": true}));
    assert!(twin["metadata"]["desired"]["light"]["timestamp"].is_u64());
    tells_nothing(&twin);
    let (status, twin) = home.guest("PATCH", "/twin/desired", Some(json!({"light": false}))).await;
    assert_eq!((status, &twin["desired"], &twin["delta"]), (200, &json!({"light": false}), &json!({})));
    tells_nothing(&twin);
    // What is there and what is not look the same, whatever the value.
    let refusal = async |name: &str, value: Value| {
        let (status, mut body) = home.guest("PATCH", "/twin/desired", Some(json!({name: value}))).await;
        body.as_object_mut().unwrap().remove("instance");
        (status, body.to_string())
    };
    let expected = refusal("never_heard_of", json!(1)).await;
    assert_eq!(expected.0, 403);
    for (name, value) in [("position", json!(77)), ("position", json!("x")), ("auto_close", json!(true)), ("auto_close", Value::Null)] {
        assert_eq!(refusal(name, value.clone()).await, expected, "{name} {value}");
    }
    for (body, status) in [(json!({"light": 5}), 422), (json!({"light": true, "position": 1}), 403)] {
        let (got, problem) = home.guest("PATCH", "/twin/desired", Some(body.clone())).await;
        assert_eq!(got, status, "{body}");
        tells_nothing(&problem);
    }
    let (status, devices) = home.house.http("GET", "/devices", &home.token, None).await;
    assert_eq!((status, &devices["devices"][0]["only"]), (200, &json!(["light"])));
    tells_nothing(&devices);
    // Name and room are of the whole.
    assert_eq!(home.guest("PATCH", "", Some(json!({"name": "Mine"}))).await.0, 403);
    assert_eq!(home.guest("POST", "/commands", Some(json!({"name": "open"}))).await.0, 403);
}

#[tokio::test]
async fn a_command_of_the_part_is_seen_without_the_values_of_the_rest() {
    let mut home = home().await;
    home.give(json!({"only": ["open", "light"]})).await;
    let by_owner = async |home: &Home, name: &str| {
        let path = format!("/devices/{}/commands", home.door.id);
        home.house.http("POST", &path, &home.house.owner_token, Some(json!({"name": name}))).await.1["id"].as_str().unwrap().to_owned()
    };
    let (open, stop) = (by_owner(&home, "open").await, by_owner(&home, "stop").await);
    for (name, id) in [("open", &open), ("stop", &stop)] {
        let report = json!({"id": id, "status": "done", "result": {"position": 77, "light": true, "took_ms": 3}});
        let topic = home.door.topic(&format!("commands/{name}/result"));
        assert_eq!(say(&mut home.door_client, &topic, report).await, 0);
    }
    let (status, seen) = home.guest("GET", &format!("/commands/{open}"), None).await;
    assert_eq!((status, &seen["status"], &seen["result"]), (200, &json!("done"), &json!({"light": true, "took_ms": 3})));
    assert_eq!(home.guest("GET", &format!("/commands/{stop}"), None).await.0, 404);
    assert_eq!(home.guest("GET", "/commands/01a20992-0000-7000-8000-000000000000", None).await.0, 404);
}

#[tokio::test]
async fn narrowing_a_full_right_takes_back_what_had_been_queued_and_what_streams() {
    let mut home = home().await;
    home.give(json!({})).await;
    let options = || {
        let options = ConnectOptions::new("gone").credentials("user:gus", home.token.clone());
        ConnectOptions { clean: false, session_expiry_s: Some(3_600), ..options }
    };
    let filters = [home.door.topic("#"), format!("$aws/things/{}/shadow/#", home.door.id), "things/+/shadow/#".to_owned(), "#".to_owned()];
    let filters: Vec<_> = filters.iter().map(|f| (f.as_str(), Qos::AtLeastOnce)).collect();
    let mut away = home.house.connect(&options()).await.unwrap();
    assert!(away.subscribe(&filters).await.unwrap().iter().all(|code| *code < 0x80));
    heard(&mut away).await;
    away.disconnect(0).await.unwrap();
    let mut live = home.house.connect(&ConnectOptions::new("here").credentials("user:gus", home.token.clone())).await.unwrap();
    assert!(live.subscribe(&filters).await.unwrap().iter().all(|code| *code < 0x80));
    let report = |n: u64| json!({"state": {"reported": {"position": n}}});
    let (update, telemetry) = (home.door.topic("shadow/update"), home.door.topic("telemetry"));
    let kept = Message { retain: true, ..Message::new(telemetry.clone(), "77", Qos::AtLeastOnce) };
    assert_eq!(say(&mut home.door_client, &update, report(50)).await, 0);
    assert_eq!(home.door_client.publish(&kept).await.unwrap(), 0);
    assert!(heard(&mut live).await.iter().any(|(t, _)| t.ends_with("documents")), "a full right hears it");
    home.give(json!({"only": ["light"]})).await;
    assert_eq!(say(&mut home.door_client, &update, report(51)).await, 0);
    assert_eq!(home.door_client.publish(&kept).await.unwrap(), 0);
    let of_the_part = |all: &[(String, Value)]| all.iter().all(|(topic, _)| *topic == home.door.topic("presence"));
    let all = heard(&mut live).await;
    assert!(of_the_part(&all), "{all:?}");
    // A new subscription, in a group or not, brings nothing more; nor does coming back to what had been queued.
    for filter in [telemetry.clone(), "$share/g/#".to_owned(), format!("$share/g/{}", home.door.topic("shadow/#"))] {
        assert!(live.subscribe(&[(&filter, Qos::AtLeastOnce)]).await.unwrap()[0] < 0x80);
    }
    let mut back = home.house.connect(&options()).await.unwrap();
    assert_eq!(say(&mut home.door_client, &update, report(52)).await, 0);
    assert_eq!(home.door_client.publish(&kept).await.unwrap(), 0);
    for client in [&mut live, &mut back] {
        let all = heard(client).await;
        assert!(of_the_part(&all), "{all:?}");
    }
    assert_eq!(say(&mut live, &home.door.topic("shadow/get"), json!({})).await, DENIED);
    // A wish for its part goes through; whoever sees all of the door hears of it.
    let mut owner = home.house.connect_person("olivia", &home.house.owner_token).await.unwrap();
    owner.subscribe(&[(&home.door.topic("shadow/update/+"), Qos::AtLeastOnce)]).await.unwrap();
    let wish = json!({"state": {"desired": {"light": false}}});
    assert_eq!(say(&mut live, &update, wish).await, 0);
    assert!(heard(&mut owner).await.iter().any(|(t, _)| *t == home.door.topic("shadow/update/accepted")));
    assert!(of_the_part(&heard(&mut live).await));
}

#[tokio::test]
async fn a_will_of_who_has_been_narrowed_does_nothing_to_the_rest() {
    let home = home().await;
    home.give(json!({})).await;
    let wish = json!({"state": {"desired": {"auto_close": false}}}).to_string();
    let will = Message::new(home.door.topic("shadow/update"), wish, Qos::AtLeastOnce);
    let options = ConnectOptions { will: Some(will), ..ConnectOptions::new("will").credentials("user:gus", home.token.clone()) };
    let dying = home.house.connect(&options).await.unwrap();
    home.give(json!({"only": ["light"]})).await;
    drop(dying);
    refused(&home.house, "twin.desire", "not_covered").await;
    let twin = home.house.hub.service().twin(&home.house.owner, &home.door.id).unwrap();
    assert_eq!(twin.desired()["auto_close"], true);
}
