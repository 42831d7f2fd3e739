//! Twins and commands over MQTT, as a device, a person and an SDK of AWS IoT use them.

use crate::house::{Device, House};
use crate::signing_in::fetch_secret;
use hearthkey::domain::account::Role;
use hearthkey::service::{CommandRequest, Refusal};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Publish, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(5);

struct Speaker {
    client: Client<Stream>,
}

impl Speaker {
    async fn device(house: &House, device: &Device) -> Speaker {
        let mut client = house.connect_device(device).await;
        let aws = format!("$aws/things/{}/shadow/#", device.id);
        let codes = client
            .subscribe(&[
                (&device.topic("shadow/#"), Qos::AtLeastOnce),
                (&aws, Qos::AtLeastOnce),
                (&device.topic("commands/+"), Qos::AtLeastOnce),
            ])
            .await;
        assert_eq!(codes.unwrap(), [1, 1, 1]);
        Speaker { client }
    }

    async fn person(house: &House, device: &Device, name: &str, token: &str) -> Speaker {
        let mut client = house.connect_person(name, token).await.unwrap();
        client.subscribe(&[(&device.topic("shadow/#"), Qos::AtLeastOnce)]).await.unwrap();
        Speaker { client }
    }

    async fn say(&mut self, topic: &str, body: Value) -> u8 {
        self.client.publish(&Message::new(topic, body.to_string(), Qos::AtLeastOnce)).await.unwrap()
    }

    /// Everything that the hub had for it when asked: topic and body.
    async fn heard(&mut self) -> Vec<(String, Value)> {
        self.client.ping().await.unwrap();
        self.client.ping().await.unwrap();
        let mut all = Vec::new();
        while let Some(Publish { topic, payload, .. }) = self.client.receive(Duration::ZERO).await.unwrap() {
            all.push((topic.to_string(), serde_json::from_slice(&payload).unwrap()));
        }
        all
    }

    /// Says something, and what is heard on the topic that ends so.
    async fn ask(&mut self, topic: &str, body: Value, ending: &str) -> Value {
        assert_eq!(self.say(topic, body).await, 0);
        let all = self.heard().await;
        let found: Vec<_> = all.iter().filter(|(t, _)| t == &format!("{topic}/{ending}")).collect();
        assert_eq!(found.len(), 1, "{topic}/{ending}: {all:?}");
        found[0].1.clone()
    }
}

async fn claimed(house: &House, model: &str) -> Device {
    let device = house.device(model).await;
    house.claim(&device).await;
    device
}

#[tokio::test]
async fn an_update_is_accepted_counted_and_documented_in_both_spellings() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let mut device = Speaker::device(&house, &lamp).await;
    let plain = lamp.topic("shadow/update");
    let body = json!({"state": {"reported": {"on": true}, "desired": {"on": false, "brightness": 40}}, "clientToken": "t-1"});
    assert_eq!(device.say(&plain, body.clone()).await, 0);
    let heard = device.heard().await;
    let on = |ending: &str| heard.iter().filter(|(t, _)| t == ending).map(|(_, b)| b.clone()).collect::<Vec<_>>();
    let accepted = &on(&format!("{plain}/accepted"))[..];
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0]["version"], 1);
    assert_eq!(accepted[0]["clientToken"], "t-1");
    assert_eq!(accepted[0]["state"], body["state"]);
    assert!(accepted[0]["metadata"]["reported"]["on"]["timestamp"].is_u64());
    assert!(on(&format!("$aws/{plain}/accepted")).is_empty(), "the answer goes to the spelling that asked");
    for spelling in [plain.clone(), format!("$aws/{plain}")] {
        let [delta] = &on(&format!("{spelling}/delta"))[..] else { panic!("{heard:?}") };
        assert_eq!(delta["state"], json!({"on": false, "brightness": 40}));
        assert_eq!(delta["version"], 1);
        assert!(delta["metadata"]["brightness"]["timestamp"].is_u64());
        let [documents] = &on(&format!("{spelling}/documents"))[..] else { panic!("{heard:?}") };
        assert_eq!(documents["current"]["state"], body["state"]);
        assert_eq!(documents["previous"]["version"], 0);
    }
    // Caught up: accepted and documents, and no delta.
    let aws = format!("$aws/{plain}");
    let caught_up = json!({"state": {"reported": {"on": false, "brightness": 40}}});
    assert_eq!(device.ask(&aws, caught_up, "accepted").await["version"], 2);
    assert!(!device.heard().await.iter().any(|(t, _)| t.ends_with("/delta")));
}

#[tokio::test]
async fn another_version_is_a_conflict_and_the_token_comes_back_with_it() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let mut device = Speaker::device(&house, &lamp).await;
    let update = lamp.topic("shadow/update");
    let state = |on: bool| json!({"reported": {"on": on}});
    assert_eq!(device.ask(&update, json!({"state": state(true)}), "accepted").await["version"], 1);
    let rejected = device.ask(&update, json!({"state": state(false), "version": 7, "clientToken": "mine"}), "rejected").await;
    assert_eq!((&rejected["code"], &rejected["clientToken"]), (&json!(409), &json!("mine")));
    assert!(rejected["timestamp"].is_u64() && rejected["message"].is_string());
    assert_eq!(device.ask(&update, json!({"state": state(false), "version": 1}), "accepted").await["version"], 2);
    let got = device.ask(&lamp.topic("shadow/get"), json!({}), "accepted").await;
    assert_eq!((&got["version"], &got["state"]), (&json!(2), &state(false)));
}

#[tokio::test]
async fn what_the_model_does_not_allow_is_rejected_with_its_path_and_nothing_of_it_is_taken() {
    let house = House::new().await;
    let thermostat = house.device("thermostat").await;
    let mut device = Speaker::device(&house, &thermostat).await;
    let update = thermostat.topic("shadow/update");
    let cases = [
        (json!({"reported": {"temperature": 20.5, "target": 31}}), "reported.target"),
        (json!({"reported": {"temperature": 20.5, "target": 20.25}}), "reported.target"),
        (json!({"reported": {"temperature": "warm"}}), "reported.temperature"),
        (json!({"reported": {"temperature": 20.5, "humidity": 4}}), "reported.humidity"),
        (json!({"reported": {"mode": "party"}}), "reported.mode"),
        (json!({"desired": {"heating": true}}), "desired.heating"),
        (json!({"desired": {"target": {"deep": 1}}}), "desired.target"),
    ];
    for (state, path) in cases {
        let rejected = device.ask(&update, json!({"state": state}), "rejected").await;
        assert_eq!(rejected["code"], 400, "{rejected}");
        assert!(rejected["message"].as_str().unwrap().contains(path), "{path}: {rejected}");
    }
    assert_eq!(device.ask(&thermostat.topic("shadow/get"), json!({}), "rejected").await["code"], 404, "something was taken");
}

#[tokio::test]
async fn what_is_no_request_is_rejected_and_the_connection_stays() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let mut device = Speaker::device(&house, &lamp).await;
    let update = lamp.topic("shadow/update");
    let deep = (0..8).fold(json!(1), |inner, _| json!({"x": inner}));
    let named = lamp.topic("shadow/name/free/update");
    for (topic, body, code) in [
        (&update, json!({"state": 1}), 400),
        (&update, json!({}), 400),
        (&update, json!([]), 400),
        (&update, json!({"state": {}, "clientToken": "x".repeat(65)}), 400),
        (&update, json!({"state": {"other": {}}}), 400),
        (&named, json!({"state": {"reported": deep}}), 400),
        (&named, json!({"state": {"reported": {"text": "x".repeat(9_000)}}}), 413),
    ] {
        assert_eq!(device.ask(topic, body.clone(), "rejected").await["code"], code, "{body}");
    }
    let bytes = Message::new(update.clone(), vec![b'{', 0xFF, b'}'], Qos::AtLeastOnce);
    assert_eq!(device.client.publish(&bytes).await.unwrap(), 0);
    let heard = device.heard().await;
    let [(topic, body)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((topic, &body["code"]), (&format!("{update}/rejected"), &json!(415)));
}

#[tokio::test]
async fn a_device_that_was_away_learns_on_get_what_was_desired_meanwhile() {
    let house = House::new().await;
    let lamp = claimed(&house, "lamp").await;
    let mut person = Speaker::person(&house, &lamp, "olivia", &house.owner_token).await;
    let update = lamp.topic("shadow/update");
    person.ask(&update, json!({"state": {"desired": {"brightness": 70}}}), "accepted").await;
    let mut device = Speaker::device(&house, &lamp).await;
    let got = device.ask(&lamp.topic("shadow/get"), json!({}), "accepted").await;
    assert_eq!(got["state"]["delta"], json!({"brightness": 70}));
    // And at once while it is here.
    person.ask(&update, json!({"state": {"desired": {"brightness": 30}}}), "accepted").await;
    let heard = device.heard().await;
    assert!(heard.iter().any(|(t, b)| *t == format!("{update}/delta") && b["state"] == json!({"brightness": 30})), "{heard:?}");
    device.ask(&update, json!({"state": {"reported": {"brightness": 30}}}), "accepted").await;
    let twin = house.hub.service().twin(&house.owner, &lamp.id).unwrap();
    assert!(twin.delta().is_empty());
}

#[tokio::test]
async fn a_person_writes_desired_and_nothing_else() {
    let house = House::new().await;
    let lamp = claimed(&house, "lamp").await;
    let mut person = Speaker::person(&house, &lamp, "olivia", &house.owner_token).await;
    let update = lamp.topic("shadow/update");
    let rejected = person.ask(&update, json!({"state": {"reported": {"on": true}, "desired": {"on": true}}}), "rejected").await;
    assert_eq!(rejected["code"], 403);
    assert_eq!(person.ask(&update, json!({"state": {"desired": {"on": true}}}), "accepted").await["version"], 1);
    // Who is bound to nothing is refused by the gate already.
    let (_, token) = house.person("greta", Role::Guest).await;
    let mut guest = house.connect_person("greta", &token).await.unwrap();
    let message = Message::new(update, json!({"state": {"desired": {"on": false}}}).to_string(), Qos::AtLeastOnce);
    assert_eq!(guest.publish(&message).await.unwrap(), 0x87);
    assert_eq!(house.hub.service().twin(&house.owner, &lamp.id).unwrap().version(), 1);
}

#[tokio::test]
async fn a_deleted_twin_is_gone_and_goes_on_counting() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let mut device = Speaker::device(&house, &lamp).await;
    let (update, delete) = (lamp.topic("shadow/update"), lamp.topic("shadow/delete"));
    device.ask(&update, json!({"state": {"reported": {"on": true}}}), "accepted").await;
    assert_eq!(device.ask(&delete, json!({"clientToken": "d"}), "accepted").await["clientToken"], "d");
    assert_eq!(device.ask(&lamp.topic("shadow/get"), json!({}), "rejected").await["code"], 404);
    assert_eq!(device.ask(&delete, json!({}), "rejected").await["code"], 404);
    assert_eq!(device.ask(&update, json!({"state": {"reported": {"on": true}}}), "accepted").await["version"], 2);
}

#[tokio::test]
async fn named_shadows_are_the_makers_own_and_few() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let mut device = Speaker::device(&house, &lamp).await;
    for n in 0..10 {
        let topic = lamp.topic(&format!("shadow/name/s{n}/update"));
        assert_eq!(device.ask(&topic, json!({"state": {"reported": {"anything": [n]}}}), "accepted").await["version"], 1);
    }
    let one_more = lamp.topic("shadow/name/s10/update");
    assert_eq!(device.ask(&one_more, json!({"state": {"reported": {}}}), "rejected").await["code"], 403);
    // The classic one has its place all the same.
    assert_eq!(device.ask(&lamp.topic("shadow/update"), json!({"state": {"reported": {"on": true}}}), "accepted").await["version"], 1);
}

fn request(name: &str, ttl_ms: u64, wait_ms: u64) -> CommandRequest {
    CommandRequest { name: name.into(), args: Value::Null, ttl_ms: Some(ttl_ms), wait_ms: Some(wait_ms), client_token: None }
}

#[tokio::test]
async fn a_command_is_sent_runs_and_is_done() {
    let house = House::new().await;
    let door = claimed(&house, "garage-door").await;
    let mut device = Speaker::device(&house, &door).await;
    let service = house.hub.service().clone();
    let sent = service.command(&house.owner, &door.id, request("open", 20_000, 0)).await.unwrap();
    assert_eq!(sent.status, "sent");
    let message = device.client.receive(SHORT).await.unwrap().unwrap();
    assert_eq!(*message.topic, door.topic("commands/open"));
    let body: Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((&body["id"], &body["args"], &body["expires_ms"]), (&json!(sent.id), &json!({}), &json!(20_000)));
    let result = door.topic("commands/open/result");
    let state = || service.command_view(&house.owner, &door.id, &sent.id).unwrap();
    device.say(&result, json!({"id": sent.id, "status": "running", "message": "half"})).await;
    assert_eq!((state().status.as_str(), state().message.as_str()), ("running", "half"));
    // Another command's name, another id, a status that is none: nothing changes.
    device.say(&door.topic("commands/close/result"), json!({"id": sent.id, "status": "done"})).await;
    device.say(&result, json!({"id": "other", "status": "done"})).await;
    device.say(&result, json!({"id": sent.id, "status": "sent"})).await;
    assert_eq!(state().status, "running");
    device.say(&result, json!({"id": sent.id, "status": "done", "result": {"took": 4}})).await;
    assert_eq!((state().status.as_str(), &state().result), ("done", &json!({"took": 4})));
    // What is over stays as it is.
    device.say(&result, json!({"id": sent.id, "status": "failed"})).await;
    assert_eq!(state().status, "done");
}

#[tokio::test]
async fn who_waits_for_a_command_gets_its_result() {
    let house = House::new().await;
    let lamp = claimed(&house, "lamp").await;
    let mut device = Speaker::device(&house, &lamp).await;
    let (service, owner, id) = (house.hub.service().clone(), house.owner.clone(), lamp.id.clone());
    let waiting = tokio::spawn(async move { service.command(&owner, &id, request("identify", 20_000, 20_000)).await.unwrap() });
    let message = device.client.receive(SHORT).await.unwrap().unwrap();
    let body: Value = serde_json::from_slice(&message.payload).unwrap();
    device.say(&lamp.topic("commands/identify/result"), json!({"id": body["id"], "status": "failed", "message": "no bulb"})).await;
    let over = waiting.await.unwrap();
    assert_eq!((over.status.as_str(), over.message.as_str()), ("failed", "no bulb"));
}

#[tokio::test]
async fn a_command_that_nobody_answers_expires() {
    let house = House::new().await;
    let lamp = claimed(&house, "lamp").await;
    let _device = Speaker::device(&house, &lamp).await;
    let over = house.hub.service().command(&house.owner, &lamp.id, request("identify", 1, 30_000)).await.unwrap();
    assert_eq!(over.status, "expired");
}

#[tokio::test]
async fn a_command_to_a_device_that_is_away_is_refused() {
    let house = House::new().await;
    let lamp = claimed(&house, "lamp").await;
    let command = || house.hub.service().command(&house.owner, &lamp.id, request("identify", 1_000, 0));
    assert!(matches!(command().await, Err(Refusal::Offline)));
    // A session that may only re-base is nobody one could tell anything.
    house.try_device(&lamp, hearthkey::sim::mqtt::Version::V5, 100).await.unwrap().disconnect(0).await.unwrap();
    let mut lost = house.try_device(&lamp, hearthkey::sim::mqtt::Version::V5, 50).await.unwrap();
    lost.ping().await.unwrap();
    assert!(matches!(command().await, Err(Refusal::Offline)), "it can hear nothing");
}

#[tokio::test]
async fn a_command_fits_the_model_or_is_refused_with_its_path() {
    let house = House::new().await;
    let thermostat = claimed(&house, "thermostat").await;
    let _device = Speaker::device(&house, &thermostat).await;
    for (name, args) in [
        ("explode", json!({})),
        ("boost", json!({})),
        ("boost", json!({"minutes": 0})),
        ("boost", json!({"minutes": 5, "x": 1})),
        ("boost", json!([])),
    ] {
        let request = CommandRequest { name: name.into(), args: args.clone(), ..CommandRequest::default() };
        let answer = house.hub.service().command(&house.owner, &thermostat.id, request).await;
        assert!(matches!(answer, Err(Refusal::Invalid(_))), "{name} {args}: {answer:?}");
    }
}

#[tokio::test]
async fn a_person_commands_over_mqtt_and_the_device_hears_what_the_hub_made_of_it() {
    let house = House::new().await;
    let thermostat = claimed(&house, "thermostat").await;
    let mut device = Speaker::device(&house, &thermostat).await;
    let mut person = Speaker::person(&house, &thermostat, "olivia", &house.owner_token).await;
    let topic = thermostat.topic("commands/boost");
    // Without what the model demands nothing is sent.
    person.say(&topic, json!({"args": {"minutes": 500}})).await;
    assert!(device.heard().await.is_empty());
    person.say(&topic, json!({"args": {"minutes": 5}, "id": "mine"})).await;
    let heard = device.heard().await;
    let [(heard_on, body)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((heard_on, &body["args"]), (&topic, &json!({"minutes": 5})));
    assert!(body["id"] != "mine" && body["expires_ms"].is_u64(), "{body}");
    let view = house.hub.service().command_view(&house.owner, &thermostat.id, body["id"].as_str().unwrap()).unwrap();
    assert_eq!(view.by, house.owner.subject.to_string());
}

#[tokio::test]
async fn a_critical_desire_is_of_the_moment_and_never_waits_for_a_device_that_is_away() {
    let house = House::new().await;
    let model = r#"{"model": "valve", "title": "Gas valve", "version": 1, "kind": "valve", "attributes": {
        "open": {"type": "boolean", "access": "write", "critical": true}, "name": {"type": "string", "access": "write"}}}"#;
    house.workshop.add_model(&house.brand, model).unwrap();
    let valve = claimed(&house, "valve").await;
    let mut person = Speaker::person(&house, &valve, "olivia", &house.owner_token).await;
    let update = valve.topic("shadow/update");
    let both = json!({"state": {"desired": {"open": true, "name": "cellar"}}});
    assert_eq!(person.ask(&update, both.clone(), "rejected").await["code"], 409);
    let mut device = Speaker::device(&house, &valve).await;
    person.ask(&update, both, "accepted").await;
    let heard = device.heard().await;
    assert!(heard.iter().any(|(t, b)| *t == format!("{update}/delta") && b["state"]["open"] == true), "{heard:?}");
    // It leaves without having done it: the wish is over, the harmless one stays.
    device.client.disconnect(0).await.unwrap();
    let mut again = Speaker::device(&house, &valve).await;
    let got = again.ask(&valve.topic("shadow/get"), json!({}), "accepted").await;
    assert_eq!(got["state"]["desired"], json!({"name": "cellar"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_aws_iot_speaks_to_the_hub_as_to_its_cloud() {
    let house = House::new().await;
    let lamp = claimed(&house, "lamp").await;
    let secret = fetch_secret(&house, &lamp).await;
    house.connect(&ConnectOptions::new("first").credentials(lamp.id.as_str(), secret.as_str())).await.unwrap();
    let mut person = Speaker::person(&house, &lamp, "olivia", &house.owner_token).await;
    person.ask(&lamp.topic("shadow/update"), json!({"state": {"desired": {"brightness": 60}}}), "accepted").await;
    let address = house.hub.addresses.mqtts.unwrap();
    let plan = json!({"host": "127.0.0.1", "port": address.port(), "ca": house.ca_file(), "thing": lamp.id.as_str(), "password": secret});
    let told = tokio::task::spawn_blocking(move || crate::matrix::run_script("aws", "shadow.py", &plan)).await.unwrap();
    assert_eq!(told["get"]["desired"], json!({"brightness": 60}));
    assert_eq!(told["get"]["delta"], json!({"brightness": 60}));
    assert_eq!(told["update"]["version"], 2);
    assert_eq!(told["rejected"]["code"], 400);
    assert_eq!(told["delta"], json!({"brightness": 60}));
    let three = json!({"state": {"desired": {"brightness": 60}, "reported": {"on": true}, "delta": {"brightness": 60}}, "version": 2, "token": "three"});
    assert_eq!(told["three"], three);
    assert_eq!(house.hub.service().twin(&house.owner, &lamp.id).unwrap().view()["reported"], json!({"on": true}));
}
