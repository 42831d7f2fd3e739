//! A device that is bound to another: a remote operates the door, and only that, at a pace, as long as it may.

use crate::house::{Device, House};
use crate::signing_in::fetch_secret;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Subject, Terms};
use hearthkey::domain::ids::ModelName;
use hearthkey::factory::MintOptions;
use hearthkey::service::{Grant, Recipient, Refusal};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};
use std::time::Duration;

const DENIED: u8 = 0x87;

/// A device that the owner has claimed and that has completed the claim, and its secret.
pub async fn ready(house: &House, model: &str, name: &str) -> (Device, String) {
    let device = house.device(model).await;
    house.hub.service().claim(&house.owner, &device.code, None, name, "").await.unwrap();
    let secret = fetch_secret(house, &device).await;
    drop(signed_in(house, &device, &secret).await);
    (device, secret)
}

pub async fn signed_in(house: &House, device: &Device, secret: &str) -> Client<Stream> {
    house.connect(&ConnectOptions::new("thing").credentials(device.id.as_str(), secret)).await.unwrap()
}

pub async fn say(client: &mut Client<Stream>, topic: &str, body: Value) -> u8 {
    client.publish(&Message::new(topic, body.to_string(), Qos::AtLeastOnce)).await.unwrap()
}

/// All that the hub has for it by now.
pub async fn heard(client: &mut Client<Stream>) -> Vec<(String, Value)> {
    client.ping().await.unwrap();
    client.ping().await.unwrap();
    let mut all = Vec::new();
    while let Some(message) = client.receive(Duration::ZERO).await.unwrap() {
        all.push((message.topic.to_string(), serde_json::from_slice(&message.payload).unwrap_or_default()));
    }
    all
}

async fn bind(house: &House, door: &Device, remote: &Device, more: Value) -> (u16, Value) {
    let mut body = json!({"device": remote.id, "privilege": "manage", "only": ["open"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    house.http("POST", &format!("/devices/{}/bindings", door.id), &house.owner_token, Some(body)).await
}

/// The entries of the audit, newest first, about the door.
async fn audited(house: &House, action: &str, outcome: &str) -> Vec<Value> {
    let (_, page) = house.http("GET", "/audit?limit=200", &house.owner_token, None).await;
    let entries = page["entries"].as_array().unwrap().clone();
    entries.into_iter().filter(|e| e["action"] == action && e["outcome"] == outcome).collect()
}

/// Refusals are written soon, not at once.
pub async fn refused(house: &House, action: &str, reason: &str) -> Value {
    for _ in 0..300 {
        if let Some(entry) = audited(house, action, "denied").await.into_iter().find(|e| e["reason"] == reason) {
            return entry;
        }
        tokio::task::yield_now().await;
    }
    panic!("no refusal of {action} for {reason}");
}

struct Pair {
    house: House,
    door: Device,
    remote: Device,
    door_client: Client<Stream>,
    remote_client: Client<Stream>,
}

/// A door that listens to its commands, and a remote that is bound to open it.
async fn pair() -> Pair {
    let house = House::new().await;
    let ((door, door_secret), (remote, secret)) = (ready(&house, "garage-door", "Door").await, ready(&house, "lamp", "Remote").await);
    let mut door_client = signed_in(&house, &door, &door_secret).await;
    door_client.subscribe(&[(&door.topic("#"), Qos::AtLeastOnce)]).await.unwrap();
    heard(&mut door_client).await;
    let mut remote_client = signed_in(&house, &remote, &secret).await;
    let own = remote.topic("bound/#");
    assert_eq!(bind(&house, &door, &remote, json!({})).await.0, 200);
    let result = door.topic("commands/+/result");
    assert_eq!(remote_client.subscribe(&[(&own, Qos::AtLeastOnce), (&result, Qos::AtLeastOnce)]).await.unwrap(), [1, 1]);
    Pair { house, door, remote, door_client, remote_client }
}

#[tokio::test]
async fn a_remote_opens_the_door_and_learns_what_became_of_it() {
    let Pair { house, door, remote, mut door_client, mut remote_client } = pair().await;
    let topic = door.topic("commands/open");
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        remote_client.publish(&Message::new(topic.clone(), r#"{"clientToken": "mine"}"#, qos)).await.unwrap();
        remote_client.ping().await.unwrap();
        let told = heard(&mut door_client).await;
        let [(on, command)] = &told[..] else { panic!("{told:?}") };
        assert_eq!((on, &command["args"]), (&topic, &json!({})));
        let report = json!({"id": command["id"], "status": "done", "message": "open", "result": {"position": 100, "took_ms": 3}});
        assert_eq!(say(&mut door_client, &door.topic("commands/open/result"), report).await, 0);
        let news = heard(&mut remote_client).await;
        assert!(news.iter().all(|(t, _)| *t == door.topic("commands/open/result")), "{news:?}");
        let [sent, done] = &news.iter().map(|(_, b)| b).collect::<Vec<_>>()[..] else { panic!("{news:?}") };
        assert_eq!((&sent["status"], &sent["clientToken"], &sent["id"]), (&json!("sent"), &json!("mine"), &command["id"]));
        assert_eq!((&done["status"], &done["clientToken"]), (&json!("done"), &json!("mine")));
        assert_eq!(done["result"], json!({"took_ms": 3}), "an attribute's value is not the command's to tell");
        assert!(heard(&mut door_client).await.is_empty(), "the door is not told what it said itself");
    }
    let sent = audited(&house, "command.send", "done").await;
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|e| e["actor"] == format!("device:{}", remote.id) && e["object"] == door.id.as_str()), "{sent:?}");
}

#[tokio::test]
async fn a_remote_does_nothing_else_and_each_refusal_says_why() {
    let Pair { house, door, remote, mut door_client, mut remote_client } = pair().await;
    for (place, body) in [
        ("commands/close", json!({})),
        ("shadow/get", json!({})),
        ("shadow/delete", json!({})),
        ("commands/open/result", json!({"id": "x", "status": "done"})),
        ("telemetry", json!(1)),
        ("presence", json!({"online": false})),
        ("bound/x/shadow/update/accepted", json!({})),
        ("claim/hello", json!({"nonce": "AAAAAAAAAAAAAAAAAAAAAA"})),
    ] {
        assert_eq!(say(&mut remote_client, &door.topic(place), body).await, DENIED, "{place}");
    }
    // What it may ask, and does not get: a wish for what it is not bound to, a shadow of another name, everything.
    for (place, body, message) in [
        ("shadow/update", json!({"state": {"desired": {"light": true}}, "clientToken": "t"}), "other functions"),
        ("shadow/update", json!({"state": {"desired": null}}), "other functions"),
        ("shadow/name/x/update", json!({"state": {"desired": {"open": 1}}}), "other functions"),
        ("commands/open", json!({"args": {"x": 1}, "clientToken": "t"}), "x"),
        ("commands/open", json!(1), "JSON object"),
    ] {
        assert_eq!(say(&mut remote_client, &door.topic(place), body).await, 0, "{place}");
        let told = heard(&mut remote_client).await;
        let [(on, answer)] = &told[..] else { panic!("{place}: {told:?}") };
        assert!(on.starts_with(&remote.topic(&format!("bound/{}/", door.id))), "{on}");
        assert!(answer["message"].as_str().unwrap().contains(message), "{place}: {answer}");
    }
    assert!(
        !heard(&mut door_client).await.iter().any(|(t, _)| t.contains("commands/") || t.ends_with("documents")),
        "nothing has happened"
    );
    for filter in ["#", "things/#", "things/+/shadow/#", "+/+/commands/#", "$share/g/things/+/presence", "$aws/#"] {
        assert_eq!(remote_client.subscribe(&[(filter, Qos::AtLeastOnce)]).await.unwrap(), [DENIED], "{filter}");
    }
    let entry = refused(&house, "command.send", "not_covered").await;
    assert_eq!(
        (&entry["actor"], &entry["object"], &entry["detail"]),
        (&json!(format!("device:{}", remote.id)), &json!(door.id), &json!("close"))
    );
    refused(&house, "twin.desire", "not_covered").await;
    refused(&house, "command.send", "invalid").await;
    refused(&house, "topic.publish", "not_its_topic").await;
}

#[tokio::test]
async fn a_remote_with_a_part_hears_nothing_of_the_shadow_however_it_asks() {
    let Pair { house, door, mut door_client, mut remote_client, .. } = pair().await;
    let kept = Message { retain: true, ..Message::new(door.topic("state-of-things"), "secret", Qos::AtLeastOnce) };
    assert_eq!(door_client.publish(&kept).await.unwrap(), 0);
    let aws = format!("$aws/things/{}/shadow/#", door.id);
    let share = format!("$share/g/{}", door.topic("#"));
    for filter in [&door.topic("#"), &door.topic("shadow/+/+"), &aws, &share] {
        assert!(remote_client.subscribe(&[(filter, Qos::AtLeastOnce)]).await.unwrap()[0] < 0x80, "{filter}");
    }
    let report = json!({"state": {"reported": {"position": 40, "state": "opening"}, "desired": {"light": true}}});
    assert_eq!(say(&mut door_client, &door.topic("shadow/update"), report).await, 0);
    assert_eq!(say(&mut door_client, &door.topic("shadow/get"), json!({})).await, 0);
    assert_eq!(say(&mut door_client, &door.topic("telemetry"), json!({"position": 40})).await, 0);
    let mut owner = house.connect_person("olivia", &house.owner_token).await.unwrap();
    assert_eq!(say(&mut owner, &door.topic("shadow/update"), json!({"state": {"desired": {"auto_close": true}}})).await, 0);
    let all = heard(&mut remote_client).await;
    assert!(!all.is_empty() && all.iter().all(|(topic, _)| *topic == door.topic("presence")), "{all:?}");
}

#[tokio::test]
async fn a_remote_learns_the_outcome_of_its_wish_in_its_own_room() {
    let Pair { house, door, remote, mut door_client, mut remote_client } = pair().await;
    assert_eq!(bind(&house, &door, &remote, json!({"privilege": "operate", "only": ["light"]})).await.0, 200);
    heard(&mut door_client).await;
    let body = json!({"state": {"desired": {"light": true}}, "clientToken": "t"});
    assert_eq!(say(&mut remote_client, &door.topic("shadow/update"), body).await, 0);
    let told = heard(&mut remote_client).await;
    let [(on, answer)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*on, remote.topic(&format!("bound/{}/shadow/update/accepted", door.id)));
    assert_eq!((&answer["state"], &answer["clientToken"]), (&json!({"desired": {"light": true}}), &json!("t")));
    assert!(heard(&mut door_client).await.iter().any(|(t, b)| *t == door.topic("shadow/update/delta") && b["state"]["light"] == true));
    let entry = audited(&house, "twin.desire", "done").await.remove(0);
    assert_eq!((&entry["actor"], &entry["detail"]), (&json!(format!("device:{}", remote.id)), &json!("light")));
    // Nobody else hears it there, who may hear all else of the remote.
    let mut owner = house.connect_person("olivia", &house.owner_token).await.unwrap();
    owner.subscribe(&[(&remote.topic("#"), Qos::AtLeastOnce)]).await.unwrap();
    let body = json!({"state": {"desired": {"light": false}}});
    assert_eq!(say(&mut remote_client, &door.topic("shadow/update"), body).await, 0);
    assert_eq!(heard(&mut remote_client).await.len(), 1);
    assert!(!heard(&mut owner).await.iter().any(|(t, _)| t.contains("/bound/")));
}

#[tokio::test]
async fn a_remote_that_is_set_off_again_and_again_is_slowed_down_and_others_are_not() {
    let Pair { house, door, remote, mut door_client, mut remote_client } = pair().await;
    for _ in 0..40 {
        assert_eq!(say(&mut remote_client, &door.topic("commands/open"), json!({})).await, 0);
    }
    let refusals = heard(&mut remote_client).await.iter().filter(|(_, b)| b["reason"] == "too_often").count();
    let opened = heard(&mut door_client).await.len();
    assert_eq!(opened + refusals, 40);
    assert!((5..40).contains(&opened), "{opened}");
    let entry = refused(&house, "command.send", "too_often").await;
    assert_eq!(entry["actor"], format!("device:{}", remote.id));
    let (status, _) =
        house.http("POST", &format!("/devices/{}/commands", door.id), &house.owner_token, Some(json!({"name": "open"}))).await;
    assert_eq!(status, 202, "people are not held up by a remote that runs wild");
}

#[tokio::test]
async fn devices_are_never_bound_in_a_circle_however_long_and_however_quick() {
    let house = House::new().await;
    let all = house.devices("lamp", 5).await;
    for device in &all {
        house.claim(device).await;
    }
    let may = json!({"privilege": "operate", "only": null});
    for pair in all.windows(2).take(3) {
        assert_eq!(bind(&house, &pair[1], &pair[0], may.clone()).await.0, 200);
    }
    // 0 drives 1 drives 2 drives 3.
    for (driven, driver) in [(0, 0), (0, 1), (0, 3), (1, 3)] {
        assert_eq!(bind(&house, &all[driven], &all[driver], may.clone()).await.0, 409, "{driver} would drive {driven}");
    }
    assert_eq!(bind(&house, &all[3], &all[0], may.clone()).await.0, 200, "two ways are no circle");
    // Two that would close a circle together, at the same time.
    let service = house.hub.service();
    let operate = |other: &Device| Grant { to: Recipient::Device(other.id.clone()), terms: Terms::of(Privilege::Operate) };
    let (there, back) =
        tokio::join!(service.grant(&house.owner, &all[4].id, operate(&all[3])), service.grant(&house.owner, &all[0].id, operate(&all[4])),);
    assert!(there.is_ok() != back.is_ok(), "{there:?} {back:?}");
    // Once the chain is broken, the other way round is free.
    let chain = Subject::Device(all[0].id.clone());
    service.revoke(&house.owner, &all[1].id, &chain, true).await.unwrap();
    service.revoke(&house.owner, &all[3].id, &chain, true).await.unwrap();
    if let Ok(view) = &back {
        service.revoke(&house.owner, &view.device_id, &Subject::parse(&view.subject).unwrap(), true).await.unwrap();
    }
    assert_eq!(bind(&house, &all[0], &all[3], may).await.0, 200);
}

#[tokio::test]
async fn who_binds_devices_administers_both_and_a_provisional_one_drives_nobody() {
    let Pair { house, door, remote, .. } = pair().await;
    let (_, token) = house.person("mia", Role::Member).await;
    let share = json!({"username": "mia", "privilege": "administer"});
    assert_eq!(house.http("POST", &format!("/devices/{}/bindings", door.id), &house.owner_token, Some(share.clone())).await.0, 200);
    let grant = json!({"device": remote.id, "privilege": "operate"});
    assert_eq!(
        house.http("POST", &format!("/devices/{}/bindings", door.id), &token, Some(grant.clone())).await.0,
        404,
        "she knows of no remote"
    );
    assert_eq!(house.http("POST", &format!("/devices/{}/bindings", remote.id), &house.owner_token, Some(share)).await.0, 200);
    assert_eq!(house.http("POST", &format!("/devices/{}/bindings", door.id), &token, Some(grant)).await.0, 200);
    assert_eq!(bind(&house, &door, &remote, json!({"privilege": "administer", "only": null})).await.0, 409);
    // By voucher and code alone nobody has proved a key.
    let lamp = ModelName::parse("lamp").unwrap();
    let run = house.workshop.mint(&house.brand, &lamp, 1, &MintOptions::default(), &()).unwrap();
    let minted = run.devices().next().unwrap().unwrap();
    let provisional = house.as_device(minted);
    house.hub.service().import_voucher(&house.owner, &std::fs::read(&provisional.minted.voucher).unwrap()).await.unwrap();
    house.claim(&provisional).await;
    let (status, problem) = bind(&house, &door, &provisional, json!({})).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("not proved its key"), "{problem}");
}

#[tokio::test]
async fn the_list_of_rights_shows_the_remote_by_its_name() {
    let Pair { house, door, remote, .. } = pair().await;
    let (_, list) = house.http("GET", &format!("/devices/{}/bindings", door.id), &house.owner_token, None).await;
    let all = list["bindings"].as_array().unwrap();
    let shown = all.iter().find(|b| b["subject"] == format!("device:{}", remote.id)).unwrap();
    assert_eq!((&shown["name"], &shown["privilege"], &shown["only"]), (&json!("Remote"), &json!("manage"), &json!(["open"])));
    assert_eq!((&shown["granted_by_name"], &shown["username"]), (&json!("olivia"), &Value::Null));
}

#[tokio::test]
async fn a_suspended_remote_does_nothing_until_it_is_resumed() {
    let Pair { house, door, remote, mut door_client, mut remote_client } = pair().await;
    let service = house.hub.service();
    service.suspend(&house.owner, &remote.id, true).await.unwrap();
    assert!(remote_client.ping().await.is_err(), "its session must have been cut");
    let who = hearthkey::service::Actor::device(remote.id.clone(), "test".into(), crate::house::HERE);
    let open = || hearthkey::service::CommandRequest { name: "open".into(), ..Default::default() };
    assert!(matches!(service.command(&who, &door.id, open()).await, Err(Refusal::NotFound(_))), "nor what it had asked for before");
    assert!(heard(&mut door_client).await.is_empty());
    service.suspend(&house.owner, &remote.id, false).await.unwrap();
    assert!(service.command(&who, &door.id, open()).await.is_ok());
    service.suspend(&house.owner, &door.id, true).await.unwrap();
    assert!(service.command(&who, &door.id, open()).await.is_err(), "a suspended door stays shut");
}

#[tokio::test]
async fn a_remote_loses_its_right_while_it_is_connected() {
    let Pair { house, door, remote, mut door_client, mut remote_client } = pair().await;
    house.hub.service().revoke(&house.owner, &door.id, &Subject::Device(remote.id.clone()), true).await.unwrap();
    assert_eq!(say(&mut remote_client, &door.topic("commands/open"), json!({})).await, DENIED);
    assert!(heard(&mut door_client).await.is_empty());
    refused(&house, "command.send", "not_bound").await;
    let path = format!("/devices/{}/commands", door.id);
    assert_eq!(house.http("POST", &path, &house.owner_token, Some(json!({"name": "open"}))).await.0, 202);
    assert!(heard(&mut remote_client).await.is_empty(), "it does not hear of it");
}

#[tokio::test]
async fn a_removed_remote_takes_no_right_along_to_its_next_owner() {
    let Pair { house, door, remote, mut door_client, remote_client } = pair().await;
    let service = house.hub.service();
    service.remove_device(&house.owner, &remote.id).await.unwrap();
    drop(remote_client);
    let names = |list: &[hearthkey::service::BindingView]| list.iter().map(|b| b.subject.clone()).collect::<Vec<_>>();
    let left = names(&service.bindings(&house.owner, &door.id).unwrap());
    assert_eq!(left, [house.owner.subject.to_string()]);
    // Somebody else claims it, and it completes the claim.
    let (mia, _) = house.person("mia", Role::Member).await;
    service.claim(&mia, &remote.code, None, "", "").await.unwrap();
    let secret = fetch_secret(&house, &remote).await;
    let mut again = signed_in(&house, &remote, &secret).await;
    assert_eq!(say(&mut again, &door.topic("commands/open"), json!({})).await, DENIED);
    assert_eq!(again.subscribe(&[(&door.topic("presence"), Qos::AtLeastOnce)]).await.unwrap(), [DENIED]);
    assert!(heard(&mut door_client).await.is_empty());
    // Nor can it be bound again by who does not administer it any more.
    assert_eq!(bind(&house, &door, &remote, json!({})).await.0, 403);
}

#[tokio::test]
async fn a_remote_that_has_not_completed_its_claim_does_nothing_yet() {
    let house = House::new().await;
    let (door, _) = ready(&house, "garage-door", "Door").await;
    let remote = house.device("lamp").await;
    house.claim(&remote).await;
    assert_eq!(bind(&house, &door, &remote, json!({})).await.0, 200);
    let mut early = house.connect_device(&remote).await;
    assert_eq!(say(&mut early, &door.topic("commands/open"), json!({})).await, DENIED);
    let secret = {
        early.disconnect(0).await.unwrap();
        fetch_secret(&house, &remote).await
    };
    let mut early = house.connect_device(&remote).await;
    let _complete = house.connect(&ConnectOptions::new("other").credentials(remote.id.as_str(), secret.as_str())).await.unwrap();
    assert_eq!(say(&mut early, &door.topic("commands/open"), json!({})).await, 0, "a session that was there before may too");
}
