//! Where the parts of access meet: a right that one part ends is not kept, brought back or told by another.

use crate::clock::{Virtual, house};
use crate::house::{Device, House};
use crate::remotes::refused;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::service::{AppGrant, CommandRequest, Grant, NewAppToken, Recipient, SessionToken};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Error, Message, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(10);
const DENIED: u8 = 0x87;
const MINUTE: u64 = 60_000;

async fn claimed(house: &House, model: &str) -> Device {
    let device = house.device(model).await;
    house.claim(&device).await;
    device
}

async fn share(house: &House, token: &str, device: &Device, body: Value) -> u16 {
    house.http("POST", &format!("/devices/{}/bindings", device.id), token, Some(body)).await.0
}

async fn privilege(house: &House, token: &str, device: &Device) -> Value {
    house.http("GET", &format!("/devices/{}", device.id), token, None).await.1["privilege"].clone()
}

/// A token for a program that looks at a device: the app's id and the token.
async fn app(house: &House, person: &str, device: &Device) -> (String, String) {
    let body = json!({"name": "Mia's secret diary", "devices": [{"id": device.id}]});
    let (status, made) = house.http("POST", "/me/tokens", person, Some(body)).await;
    assert_eq!(status, 201, "{made}");
    (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
}

async fn listening(house: &House, id: &str, token: &str, device: &Device) -> Client<Stream> {
    let mut client = house.connect(&ConnectOptions::new("app").credentials(format!("app:{id}"), token)).await.unwrap();
    assert!(client.subscribe(&[(&device.topic("telemetry"), Qos::AtLeastOnce)]).await.unwrap()[0] < 0x80);
    client
}

async fn was_cut(client: &mut Client<Stream>) -> bool {
    matches!(client.receive(SHORT).await, Err(Error::Closed(closed)) if closed.code == Some(DENIED))
}

async fn entries(house: &House, action: &str) -> Vec<Value> {
    let (_, page) = house.http("GET", &format!("/audit?limit=200&action={action}"), &house.owner_token, None).await;
    page["entries"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_lost_connection_commands_nothing() {
    let house = House::new().await;
    let door = claimed(&house, "garage-door").await;
    let mut live = house.connect_device(&door).await;
    live.subscribe(&[(&door.topic("commands/+"), Qos::AtLeastOnce)]).await.unwrap();
    let will = Message::new(door.topic("commands/open"), "{}", Qos::AtLeastOnce);
    let options = ConnectOptions { will: Some(will), ..ConnectOptions::new("will").credentials("user:olivia", house.owner_token.clone()) };
    drop(house.connect(&options).await.unwrap());
    refused(&house, "topic.publish", "command_in_a_will").await;
    assert_eq!(entries(&house, "command.send").await, Vec::<Value>::new());
    // What is meant now is done.
    let mut owner = house.connect_person("olivia", &house.owner_token).await.unwrap();
    owner.publish(&Message::new(door.topic("commands/close"), "{}", Qos::AtLeastOnce)).await.unwrap();
    assert_eq!(*live.receive(SHORT).await.unwrap().unwrap().topic, *door.topic("commands/close"));
}

#[tokio::test]
async fn a_right_that_begins_while_its_holder_is_connected_is_not_refused_by_what_was_true_before() {
    let clock = Virtual::at(1_800_000_000_000, true);
    let house = house(&clock).await;
    let lamp = claimed(&house, "lamp").await;
    let (_, token) = house.person("gus", Role::Guest).await;
    let now = house.hub.service().now();
    let terms = Terms { from: Some(now + MINUTE), until: Some(now + 10 * MINUTE), ..Terms::of(Privilege::Operate) };
    house.hub.service().grant(&house.owner, &lamp.id, Grant { to: Recipient::Person("gus".into()), terms }).await.unwrap();
    let mut guest = house.connect_person("gus", &token).await.unwrap();
    let wish = Message::new(lamp.topic("shadow/update"), json!({"state": {"desired": {"on": true}}}).to_string(), Qos::AtLeastOnce);
    assert_eq!(guest.publish(&wish).await.unwrap(), DENIED);
    clock.pass(2 * MINUTE);
    assert_eq!(guest.publish(&wish).await.unwrap(), 0, "it has begun");
    clock.pass(10 * MINUTE);
    assert_eq!(guest.publish(&wish).await.unwrap(), DENIED, "it is over");
}

#[tokio::test]
async fn the_connection_of_an_app_ends_soon_after_its_token() {
    let clock = Virtual::at(1_800_000_000_000, true);
    let house = house(&clock).await;
    let lamp = claimed(&house, "lamp").await;
    let devices = vec![AppGrant { device: lamp.id.clone(), privilege: Privilege::View, only: None }];
    let new = NewAppToken { name: "Dashboard".into(), devices, expires_in_ms: Some(MINUTE) };
    let made = house.hub.service().make_app_token(&house.owner, new).await.unwrap();
    let mut live = listening(&house, &made.id, made.token.reveal(), &lamp).await;
    house.hub.broker().end_stale(false).await;
    live.ping().await.unwrap();
    clock.pass(MINUTE);
    house.hub.broker().end_stale(false).await;
    assert!(was_cut(&mut live).await);
}

#[tokio::test]
async fn nobody_gets_out_of_reach_of_who_let_them_in() {
    let house = House::new().await;
    let lamp = claimed(&house, "lamp").await;
    let (anna, anna_token) = house.person("anna", Role::Member).await;
    let (_, ben) = house.person("ben", Role::Member).await;
    let (_, cleo) = house.person("cleo", Role::Member).await;
    let administer = |name: &str| json!({"username": name, "privilege": "administer"});
    assert_eq!(share(&house, &house.owner_token, &lamp, administer("anna")).await, 200);
    assert_eq!(share(&house, &anna_token, &lamp, administer("ben")).await, 200);
    // Ben has it given anew by himself, and by whom he let in.
    assert_eq!(share(&house, &ben, &lamp, administer("ben")).await, 200);
    assert_eq!(share(&house, &ben, &lamp, administer("cleo")).await, 200);
    assert_eq!(share(&house, &cleo, &lamp, administer("ben")).await, 200);
    let path = format!("/devices/{}/bindings/user:{}", lamp.id, anna.user().unwrap());
    assert_eq!(house.http("DELETE", &path, &house.owner_token, None).await.0, 200);
    for token in [&anna_token, &ben, &cleo] {
        assert_eq!(privilege(&house, token, &lamp).await, Value::Null);
    }
    assert_eq!(privilege(&house, &house.owner_token, &lamp).await, "administer");
}

#[tokio::test]
async fn apps_of_who_became_a_guest_do_not_come_back_with_the_role() {
    let house = House::new().await;
    let lamp = claimed(&house, "lamp").await;
    let (mia, mia_token) = house.person("mia", Role::Member).await;
    assert_eq!(share(&house, &house.owner_token, &lamp, json!({"username": "mia", "privilege": "operate"})).await, 200);
    let (id, token) = app(&house, &mia_token, &lamp).await;
    let mut live = listening(&house, &id, &token, &lamp).await;
    let role = async |role: &str| {
        let path = format!("/users/{}", mia.user().unwrap());
        assert_eq!(house.http("PATCH", &path, &house.owner_token, Some(json!({"role": role}))).await.0, 200);
    };
    role("guest").await;
    assert!(was_cut(&mut live).await);
    role("member").await;
    assert_eq!(house.http("GET", &format!("/devices/{}", lamp.id), &token, None).await.0, 401);
    assert_eq!(privilege(&house, &mia_token, &lamp).await, "operate");
}

#[tokio::test]
async fn who_may_not_ask_about_others_is_not_told_which_accounts_there_are() {
    let house = House::new().await;
    let lamp = claimed(&house, "lamp").await;
    let (_, token) = house.person("gus", Role::Guest).await;
    let ask = async |name: &str| {
        let body = json!({"device_id": lamp.id, "action": "view", "username": name});
        let (status, answer) = house.http("POST", "/access/explain", &token, Some(body)).await;
        (status, answer["detail"].clone())
    };
    assert_eq!(ask("olivia").await, ask("nobody-here").await);
    assert_eq!(share(&house, &house.owner_token, &lamp, json!({"username": "gus", "privilege": "view"})).await, 200);
    assert_eq!(ask("olivia").await, ask("nobody-here").await);
    assert_eq!((ask("olivia").await.0, ask("gus").await.0), (403, 200));
}

#[tokio::test]
async fn a_makers_person_is_not_let_in_to_what_replaces_a_device() {
    let house = House::new().await;
    let (old, new) = (claimed(&house, "lamp").await, claimed(&house, "lamp").await);
    let body =
        json!({"username": "vera", "password": "another long password", "role": "support", "brand": "acme", "networks": ["127.0.0.1"]});
    assert_eq!(house.http("POST", "/users", &house.owner_token, Some(body)).await.0, 201);
    let request = json!({"username": "vera", "devices": [old.id], "privilege": "view", "reason": "it flickers"});
    assert_eq!(house.http("POST", "/support", &house.owner_token, Some(request)).await.0, 201);
    let path = format!("/devices/{}/replace", old.id);
    assert_eq!(house.http("POST", &path, &house.owner_token, Some(json!({"by": new.id}))).await.0, 200);
    let (_, rights) = house.http("GET", &format!("/devices/{}/bindings", new.id), &house.owner_token, None).await;
    let names: Vec<&Value> = rights["bindings"].as_array().unwrap().iter().map(|b| &b["username"]).collect();
    assert_eq!(names, ["olivia"]);
    assert_eq!(house.http("GET", "/support", &house.owner_token, None).await.1["sessions"], json!([]));
}

#[tokio::test]
async fn what_a_person_called_an_app_that_an_owner_ended_goes_with_the_person() {
    let house = House::new().await;
    let lamp = claimed(&house, "lamp").await;
    let (mia, mia_token) = house.person("mia", Role::Member).await;
    assert_eq!(share(&house, &house.owner_token, &lamp, json!({"username": "mia", "privilege": "view"})).await, 200);
    let (id, _) = app(&house, &mia_token, &lamp).await;
    assert_eq!(house.http("DELETE", &format!("/apps/{id}"), &house.owner_token, None).await.0, 204);
    let told = async || entries(&house, "app.").await.iter().filter(|e| e.to_string().contains("diary")).count();
    assert_eq!(told().await, 2, "its link and its end");
    let path = format!("/users/{}?erase=1", mia.user().unwrap());
    assert_eq!(house.http("DELETE", &path, &house.owner_token, None).await.0, 200);
    assert_eq!(told().await, 0);
    assert!(house.hub.service().actor(&SessionToken::new(&mia_token), "test", crate::house::HERE).is_err());
}

#[tokio::test]
async fn a_command_waits_until_its_device_listens_and_goes_no_further_than_its_connection() {
    let house = House::new().await;
    let door = house.device("garage-door").await;
    house.claim(&door).await;
    let service = house.hub.service();
    let open = async || {
        let request = CommandRequest { name: "open".into(), ..CommandRequest::default() };
        service.command(&house.owner, &door.id, request).await.unwrap()
    };
    let status = |id: &str| service.command_view(&house.owner, &door.id, id).unwrap().status;
    // Connected, and not subscribed yet: nobody has it, and nobody is told so.
    let mut live = house.connect_device(&door).await;
    let mut changes = service.changes();
    let command = open().await;
    assert_eq!(command.status, "waiting");
    live.subscribe(&[(&door.topic("commands/+"), Qos::AtLeastOnce)]).await.unwrap();
    let came = live.receive(SHORT).await.unwrap().expect("the command that waited");
    assert_eq!(*came.topic, *door.topic("commands/open"));
    assert_eq!(status(&command.id), "sent");
    // Whoever listens has it at once.
    assert_eq!(open().await.status, "sent");
    // What waits ends with the connection, and is not done after a return.
    drop(live);
    let second = house.connect_device(&door).await;
    let left = open().await;
    assert_eq!(left.status, "waiting");
    drop(second);
    while status(&left.id) == "waiting" {
        let _ = changes.recv().await;
    }
    assert_eq!(status(&left.id), "failed");
    let mut third = house.connect_device(&door).await;
    third.subscribe(&[(&door.topic("commands/+"), Qos::AtLeastOnce)]).await.unwrap();
    assert_eq!(open().await.status, "sent");
    let new: Value = serde_json::from_slice(&third.receive(SHORT).await.unwrap().expect("the new one").payload).unwrap();
    assert_ne!(new["id"], left.id.as_str(), "what had waited was done after a return");
}
