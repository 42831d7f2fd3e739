//! Handing a device on, to another person or to another device: nobody loses a right they should keep, and nobody keeps
//! one they should not.

use crate::house::{Device, House};
use crate::remotes::{heard, ready, say, signed_in};
use crate::signing_in::fetch_secret;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Subject, Terms};
use hearthkey::service::{Actor, Grant, Recipient, Refusal};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};

const DENIED: u8 = 0x87;

async fn post(house: &House, token: &str, device: &Device, call: &str, body: Value) -> (u16, Value) {
    house.http("POST", &format!("/devices/{}/{call}", device.id), token, Some(body)).await
}

async fn share(house: &House, token: &str, device: &Device, body: Value) {
    let (status, answer) = post(house, token, device, "bindings", body).await;
    assert_eq!(status, 200, "{answer}");
}

async fn sees(house: &House, token: &str, device: &Device) -> bool {
    house.http("GET", &format!("/devices/{}/twin", device.id), token, None).await.0 == 200
}

/// Who holds which right, by name: privilege, and by whom it was given.
async fn rights(house: &House, token: &str, device: &Device) -> Vec<(String, String, String)> {
    let (status, list) = house.http("GET", &format!("/devices/{}/bindings", device.id), token, None).await;
    assert_eq!(status, 200, "{list}");
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let all = list["bindings"].as_array().unwrap().iter();
    let mut all: Vec<_> = all.map(|b| (text(&b["name"]), text(&b["privilege"]), text(&b["granted_by_name"]))).collect();
    all.sort();
    all
}

fn row(name: &str, privilege: &str, by: &str) -> (String, String, String) {
    (name.into(), privilege.into(), by.into())
}

async fn listening(house: &House, name: &str, token: &str, filters: &[&str]) -> Client<Stream> {
    let mut client = house.connect_person(name, token).await.unwrap();
    let filters: Vec<_> = filters.iter().map(|f| (*f, Qos::AtLeastOnce)).collect();
    assert!(client.subscribe(&filters).await.unwrap().iter().all(|code| *code < 0x80));
    heard(&mut client).await;
    client
}

struct People {
    mia: (Actor, String),
    max: (Actor, String),
    gus: (Actor, String),
}

async fn people(house: &House) -> People {
    People {
        mia: house.person("mia", Role::Member).await,
        max: house.person("max", Role::Member).await,
        gus: house.person("gus", Role::Guest).await,
    }
}

async fn claimed(house: &House, who: &Actor, model: &str) -> Device {
    let device = house.device(model).await;
    house.hub.service().claim(who, &device.code, None, "Lamp", "Hall").await.unwrap();
    device
}

#[tokio::test]
async fn a_transfer_moves_the_administration_and_leaves_the_others_their_rights() {
    let house = House::new().await;
    let People { mia, max, gus } = people(&house).await;
    let (lamp, service) = (claimed(&house, &mia.0, "lamp").await, house.hub.service());
    share(&house, &mia.1, &lamp, json!({"username": "gus", "privilege": "operate", "uses": 9})).await;
    let mut live = listening(&house, "mia", &mia.1, &[&lamp.topic("#")]).await;
    let mut guest = listening(&house, "gus", &gus.1, &[&lamp.topic("#")]).await;
    let (status, device) = post(&house, &mia.1, &lamp, "transfer", json!({"username": "max"})).await;
    assert_eq!((status, &device["id"], &device["privilege"]), (200, &json!(lamp.id), &Value::Null));
    let mut talker = house.connect_device(&lamp).await;
    assert_eq!(say(&mut talker, &lamp.topic("telemetry"), json!(1)).await, 0);
    assert!(heard(&mut live).await.is_empty(), "nothing reaches her after the call");
    assert!(heard(&mut guest).await.iter().any(|(t, _)| *t == lamp.topic("telemetry")));
    assert_eq!(say(&mut live, &lamp.topic("shadow/update"), json!({})).await, DENIED);
    assert!(!sees(&house, &mia.1, &lamp).await && sees(&house, &max.1, &lamp).await);
    assert_eq!(rights(&house, &max.1, &lamp).await, [row("gus", "operate", "max"), row("max", "administer", "max")]);
    let left = service.bindings(&max.0, &lamp.id).unwrap().into_iter().find(|b| b.name == "gus").unwrap();
    assert_eq!(left.terms.uses, Some(9));
    let (_, page) = house.http("GET", "/audit?limit=20", &house.owner_token, None).await;
    let entry = page["entries"].as_array().unwrap().iter().find(|e| e["action"] == "device.transfer").unwrap().clone();
    assert_eq!((&entry["actor"], &entry["detail"]), (&json!(mia.0.subject.to_string()), &json!(format!("to {}", max.0.subject))));
    // Back again: a mark does not stand in the way of what is given anew.
    assert_eq!(post(&house, &max.1, &lamp, "transfer", json!({"username": "mia"})).await.0, 200);
    assert_eq!(say(&mut live, &lamp.topic("commands/identify"), json!({})).await, 0);
    assert_eq!(post(&house, &mia.1, &lamp, "transfer", json!({"username": "max"})).await.0, 200);
    // Whoever has given it away takes nothing along, and who has it now does.
    service.end_user(&house.owner, mia.0.user().unwrap(), true).await.unwrap();
    assert!(sees(&house, &max.1, &lamp).await && sees(&house, &gus.1, &lamp).await);
    share(&house, &max.1, &lamp, json!({"username": "olivia", "privilege": "administer"})).await;
    service.revoke(&house.owner, &lamp.id, &max.0.subject, true).await.unwrap();
    assert!(!sees(&house, &gus.1, &lamp).await);
}

#[tokio::test]
async fn a_transfer_gives_no_more_than_there_was_and_stays_within_reach_of_who_gave() {
    let house = House::new().await;
    let People { mia, max, .. } = people(&house).await;
    let lamp = claimed(&house, &house.owner, "lamp").await;
    let until = house.hub.service().now() + 3_600_000;
    share(&house, &house.owner_token, &lamp, json!({"username": "mia", "privilege": "administer", "until": until})).await;
    share(&house, &house.owner_token, &lamp, json!({"username": "max", "privilege": "view"})).await;
    assert_eq!(post(&house, &mia.1, &lamp, "transfer", json!({"username": "max"})).await.0, 409, "his own has no end: he would lose it");
    let max_subject = max.0.subject.clone();
    house.hub.service().revoke(&house.owner, &lamp.id, &max_subject, true).await.unwrap();
    assert_eq!(post(&house, &mia.1, &lamp, "transfer", json!({"username": "max"})).await.0, 200);
    let all = house.hub.service().bindings(&house.owner, &lamp.id).unwrap();
    let his = all.iter().find(|b| b.subject == max_subject.to_string()).unwrap();
    assert_eq!(
        (his.terms.privilege, his.terms.until, his.granted_by.as_str()),
        (Privilege::Administer, Some(until), house.owner.subject.to_string().as_str())
    );
    // Who administers already keeps the right as it is.
    assert_eq!(post(&house, &max.1, &lamp, "transfer", json!({"username": "olivia"})).await.0, 200);
    assert_eq!(rights(&house, &house.owner_token, &lamp).await, [row("olivia", "administer", "")]);
}

#[tokio::test]
async fn only_who_administers_transfers_and_only_to_somebody_else_of_the_house() {
    let house = House::new().await;
    let People { mia, max, gus } = people(&house).await;
    let lamp = claimed(&house, &mia.0, "lamp").await;
    share(&house, &mia.1, &lamp, json!({"username": "gus", "privilege": "manage"})).await;
    let to = |name: &str| json!({"username": name});
    assert_eq!(post(&house, &max.1, &lamp, "transfer", to("max")).await.0, 404, "he knows of no such device");
    assert_eq!(post(&house, &gus.1, &lamp, "transfer", to("max")).await.0, 403);
    assert_eq!(post(&house, &house.owner_token, &lamp, "transfer", to("max")).await.0, 403, "an owner takes it first");
    assert_eq!(post(&house, &mia.1, &lamp, "transfer", to("mia")).await.0, 409);
    assert_eq!(post(&house, &mia.1, &lamp, "transfer", to("nobody")).await.0, 404);
    assert_eq!(post(&house, &mia.1, &lamp, "transfer", json!({})).await.0, 422);
    let device = Actor::device(lamp.id.clone(), "test".into(), crate::house::HERE);
    let by_device = house.hub.service().transfer(&device, &lamp.id, "max").await;
    assert!(matches!(by_device, Err(Refusal::PeopleOnly)), "{by_device:?}");
    assert_eq!(rights(&house, &mia.1, &lamp).await, [row("gus", "manage", "mia"), row("mia", "administer", "")]);
    // Two at the same time: one of them finds nothing left to give.
    let service = house.hub.service();
    let (a, b) = tokio::join!(service.transfer(&mia.0, &lamp.id, "max"), service.transfer(&mia.0, &lamp.id, "olivia"));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    let heir = if a.is_ok() { "max" } else { "olivia" };
    assert_eq!(
        service
            .bindings(&house.owner, &lamp.id)
            .unwrap()
            .iter()
            .filter(|b| b.terms.privilege == Privilege::Administer)
            .map(|b| b.name.as_str())
            .collect::<Vec<_>>(),
        [heir]
    );
}

#[tokio::test]
async fn a_right_between_devices_outlives_a_transfer_only_where_the_new_one_administers_both() {
    let house = House::new().await;
    let People { mia, max, .. } = people(&house).await;
    let (door, remote) = (claimed(&house, &mia.0, "garage-door").await, claimed(&house, &mia.0, "lamp").await);
    let drives = || {
        let own = house.hub.service().bindings(&max.0, &door.id).or_else(|_| house.hub.service().bindings(&mia.0, &door.id)).unwrap();
        own.into_iter().find(|b| b.subject == format!("device:{}", remote.id)).map(|b| b.granted_by_name)
    };
    let bind = async |token: &str| share(&house, token, &door, json!({"device": remote.id, "privilege": "manage", "only": ["open"]})).await;
    bind(&mia.1).await;
    assert_eq!(post(&house, &mia.1, &remote, "transfer", json!({"username": "max"})).await.0, 200);
    assert_eq!(drives(), None, "his remote does not open her door");
    assert_eq!(post(&house, &max.1, &remote, "transfer", json!({"username": "mia"})).await.0, 200);
    bind(&mia.1).await;
    assert_eq!(post(&house, &mia.1, &door, "transfer", json!({"username": "max"})).await.0, 200);
    assert_eq!(drives(), None, "nor does her remote open his");
    assert_eq!(post(&house, &max.1, &door, "transfer", json!({"username": "mia"})).await.0, 200);
    // With one hand over both, it stays.
    bind(&mia.1).await;
    share(&house, &mia.1, &door, json!({"username": "max", "privilege": "administer"})).await;
    assert_eq!(post(&house, &mia.1, &remote, "transfer", json!({"username": "max"})).await.0, 200);
    assert_eq!(drives().as_deref(), Some("max"));
    assert_eq!(post(&house, &mia.1, &door, "transfer", json!({"username": "max"})).await.0, 200);
    assert_eq!(drives().as_deref(), Some("max"));
}

/// The owner's pair of a door and its replacement, both of the house.
struct Pair {
    house: House,
    old: (Device, String),
    new: (Device, String),
}

async fn pair() -> Pair {
    let house = House::new().await;
    let old = ready(&house, "garage-door", "Garage").await;
    let new = ready(&house, "garage-door", "Spare").await;
    Pair { house, old, new }
}

async fn replace(house: &House, token: &str, old: &Device, new: &Device) -> (u16, Value) {
    post(house, token, old, "replace", json!({"by": new.id})).await
}

#[tokio::test]
async fn a_new_device_takes_over_name_room_and_every_right_and_the_old_one_is_gone() {
    let Pair { house, old: (old, old_secret), new: (new, new_secret) } = pair().await;
    let service = house.hub.service();
    let room = json!({"room": "Drive"});
    assert_eq!(house.http("PATCH", &format!("/devices/{}", old.id), &house.owner_token, Some(room)).await.0, 200);
    let People { mia, gus, max: (max, max_token) } = people(&house).await;
    share(&house, &house.owner_token, &old, json!({"username": "mia", "privilege": "administer"})).await;
    let window = json!([{"days": ["mon"], "from": "09:00", "to": "17:00"}]);
    share(&house, &mia.1, &old, json!({"username": "gus", "privilege": "manage", "only": ["open", "light"], "uses": 7})).await;
    share(&house, &mia.1, &old, json!({"username": "max", "privilege": "view", "windows": window})).await;
    // A remote drives the door, and the door drives a lamp.
    let ((remote, remote_secret), (lamp, _)) = (ready(&house, "lamp", "Remote").await, ready(&house, "lamp", "Lamp").await);
    share(&house, &house.owner_token, &old, json!({"device": remote.id, "privilege": "manage", "only": ["open"]})).await;
    share(&house, &house.owner_token, &lamp, json!({"device": old.id, "privilege": "operate", "only": ["on"]})).await;
    let (mut old_client, mut new_client) = (signed_in(&house, &old, &old_secret).await, signed_in(&house, &new, &new_secret).await);
    assert_eq!(say(&mut old_client, &old.topic("shadow/update"), json!({"state": {"reported": {"position": 5}}})).await, 0);
    let kept = Message { retain: true, ..Message::new(old.topic("note"), "kept", Qos::AtLeastOnce) };
    assert_eq!(old_client.publish(&kept).await.unwrap(), 0);
    new_client.subscribe(&[(&new.topic("commands/+"), Qos::AtLeastOnce)]).await.unwrap();
    let mut remote_client = signed_in(&house, &remote, &remote_secret).await;
    let mut live = listening(&house, "mia", &mia.1, &[&old.topic("#")]).await;

    let (status, device) = replace(&house, &house.owner_token, &old, &new).await;
    assert_eq!(
        (status, &device["id"], &device["name"], &device["room"]),
        (200, &json!(new.id), &json!("Garage"), &json!("Drive")),
        "{device}"
    );
    let expected = [
        row("Remote", "manage", "olivia"),
        row("gus", "manage", "mia"),
        row("max", "view", "mia"),
        row("mia", "administer", "olivia"),
        row("olivia", "administer", ""),
    ];
    assert_eq!(rights(&house, &house.owner_token, &new).await, expected);
    let moved = service.bindings(&house.owner, &new.id).unwrap();
    let of = |who: &Actor| moved.iter().find(|b| b.subject == who.subject.to_string()).unwrap().terms.clone();
    assert_eq!((of(&gus.0).uses, of(&gus.0).only.map(|o| o.len())), (Some(7), Some(2)));
    assert_eq!(of(&max).windows.len(), 1);
    assert!(!sees(&house, &max_token, &old).await);
    let drives = service.bindings(&house.owner, &lamp.id).unwrap();
    assert!(drives.iter().any(|b| b.subject == format!("device:{}", new.id) && b.terms.only == Some(["on".to_owned()].into())));
    assert!(!drives.iter().any(|b| b.subject == format!("device:{}", old.id)));
    // The remote's live session opens the new door, and no more the old one.
    assert_eq!(say(&mut remote_client, &new.topic("commands/open"), json!({})).await, 0);
    assert_eq!(heard(&mut new_client).await.len(), 1);
    assert_eq!(say(&mut remote_client, &old.topic("commands/open"), json!({})).await, DENIED);
    // Of the old one nothing is left but its identity.
    assert!(old_client.ping().await.is_err(), "its session must have been cut");
    let with_secret = ConnectOptions::new("thing").credentials(old.id.as_str(), old_secret.as_str());
    assert!(house.connect(&with_secret).await.is_err(), "its secret serves no more");
    let (_, gone) = house.http("GET", &format!("/devices/{}", old.id), &house.owner_token, None).await;
    assert_eq!((&gone["state"], &gone["name"], &gone["privilege"]), (&json!("waiting"), &json!(""), &Value::Null));
    assert!(heard(&mut live).await.is_empty());
    // The next household finds nothing of this one's.
    service.claim(&mia.0, &old.code, None, "", "").await.unwrap();
    let twin = service.twin(&mia.0, &old.id).unwrap();
    assert!(!twin.exists());
    let mut next = house.connect_person("mia", &mia.1).await.unwrap();
    next.subscribe(&[(&old.topic("#"), Qos::AtLeastOnce)]).await.unwrap();
    assert!(!heard(&mut next).await.iter().any(|(t, _)| *t == old.topic("note")));
    let secret = fetch_secret(&house, &old).await;
    let mut again = signed_in(&house, &old, &secret).await;
    assert_eq!(say(&mut again, &lamp.topic("shadow/update"), json!({"state": {"desired": {"on": true}}})).await, DENIED);
}

#[tokio::test]
async fn a_new_device_is_claimed_by_its_code_as_it_takes_the_place() {
    let house = House::new().await;
    let (old, _) = ready(&house, "lamp", "Reading lamp").await;
    let (new, other) = (house.device("lamp").await, house.device("lamp").await);
    let (_, gus) = house.person("gus", Role::Guest).await;
    share(&house, &house.owner_token, &old, json!({"username": "gus", "privilege": "administer"})).await;
    let body = |device: &Device, code: &str| json!({"by": device.id, "code": code});
    assert_eq!(replace(&house, &house.owner_token, &old, &new).await.0, 403, "it is nobody's yet");
    assert_eq!(post(&house, &house.owner_token, &old, "replace", body(&new, &other.code)).await.0, 422, "the label says another device");
    let bare = other.code.rsplit(':').next().unwrap();
    assert_eq!(post(&house, &house.owner_token, &old, "replace", body(&new, bare)).await.0, 404);
    assert_eq!(post(&house, &house.owner_token, &old, "replace", body(&old, &old.code)).await.0, 422);
    assert_eq!(post(&house, &gus, &old, "replace", body(&new, &new.code)).await.0, 403, "a guest claims nothing");
    let left = house.http("GET", &format!("/devices/{}", old.id), &house.owner_token, None).await.1;
    assert_eq!((&left["state"], &left["name"]), (&json!("ready"), &json!("Reading lamp")), "nothing has happened");
    let (status, device) = post(&house, &house.owner_token, &old, "replace", body(&new, &new.code)).await;
    assert_eq!((status, &device["state"], &device["name"]), (200, &json!("claimed"), &json!("Reading lamp")), "{device}");
    assert_eq!(rights(&house, &house.owner_token, &new).await, [row("gus", "administer", "olivia"), row("olivia", "administer", "")]);
    let secret = fetch_secret(&house, &new).await;
    signed_in(&house, &new, &secret).await;
    // What has been claimed is not claimed again, with the right code either.
    assert_eq!(post(&house, &house.owner_token, &new, "replace", body(&other, &new.code)).await.0, 422);
    let (third, _) = ready(&house, "lamp", "Third").await;
    assert_eq!(post(&house, &house.owner_token, &third, "replace", body(&new, &new.code)).await.0, 404);
}

#[tokio::test]
async fn a_part_of_the_old_device_must_be_a_part_of_the_new_one() {
    let house = House::new().await;
    let ((door, _), (lamp, _)) = (ready(&house, "garage-door", "Door").await, ready(&house, "lamp", "Lamp").await);
    people(&house).await;
    share(&house, &house.owner_token, &door, json!({"username": "gus", "privilege": "manage", "only": ["open", "light"]})).await;
    let (status, problem) = replace(&house, &house.owner_token, &door, &lamp).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("(light, open)"), "{problem}");
    assert_eq!(rights(&house, &house.owner_token, &door).await.len(), 2, "nothing has happened");
    share(&house, &house.owner_token, &door, json!({"username": "gus", "privilege": "view"})).await;
    assert_eq!(replace(&house, &house.owner_token, &door, &lamp).await.0, 200);
    assert_eq!(rights(&house, &house.owner_token, &lamp).await, [row("gus", "view", "olivia"), row("olivia", "administer", "")]);
}

#[tokio::test]
async fn a_device_that_is_shut_out_can_be_replaced_stays_shut_out_and_replaces_nothing() {
    let Pair { house, old: (old, _), new: (new, _) } = pair().await;
    let service = house.hub.service();
    let (mia, token) = house.person("mia", Role::Member).await;
    share(&house, &house.owner_token, &old, json!({"username": "mia", "privilege": "administer"})).await;
    share(&house, &house.owner_token, &new, json!({"username": "mia", "privilege": "administer"})).await;
    service.suspend(&house.owner, &new.id, true).await.unwrap();
    assert_eq!(replace(&house, &token, &old, &new).await.0, 409);
    service.suspend(&house.owner, &new.id, false).await.unwrap();
    service.suspend(&house.owner, &old.id, true).await.unwrap();
    assert_eq!(replace(&house, &token, &old, &new).await.0, 200);
    let left = house.http("GET", &format!("/devices/{}", old.id), &house.owner_token, None).await.1;
    assert_eq!((&left["state"], &left["privilege"]), (&json!("suspended"), &Value::Null));
    let refused = service.claim(&mia, &old.code, None, "", "").await;
    assert!(matches!(refused, Err(Refusal::ClaimRefused)), "{refused:?}");
    assert!(house.try_device(&old, hearthkey::sim::mqtt::Version::V5, 90).await.is_err());
    // Let in again, it waits like a new one.
    service.suspend(&house.owner, &old.id, false).await.unwrap();
    service.claim(&mia, &old.code, None, "", "").await.unwrap();
}

#[tokio::test]
async fn who_replaces_administers_both_and_gives_no_more_than_they_have() {
    let Pair { house, old: (old, _), new: (new, _) } = pair().await;
    let People { mia, gus, .. } = people(&house).await;
    assert_eq!(replace(&house, &mia.1, &old, &new).await.0, 404);
    share(&house, &house.owner_token, &old, json!({"username": "mia", "privilege": "administer"})).await;
    assert_eq!(replace(&house, &mia.1, &old, &new).await.0, 404, "she knows of no such device");
    share(&house, &house.owner_token, &new, json!({"username": "mia", "privilege": "manage"})).await;
    assert_eq!(replace(&house, &mia.1, &old, &new).await.0, 403);
    // She administers the new one for an hour: she brings nobody there for longer.
    let until = house.hub.service().now() + 3_600_000;
    share(&house, &house.owner_token, &new, json!({"username": "mia", "privilege": "administer", "until": until})).await;
    assert_eq!(replace(&house, &mia.1, &old, &new).await.0, 403);
    share(&house, &house.owner_token, &new, json!({"username": "mia", "privilege": "administer"})).await;
    // A right that the guest has on the new one already, and that is neither less nor more.
    share(&house, &house.owner_token, &old, json!({"username": "gus", "privilege": "manage", "only": ["open"]})).await;
    share(&house, &house.owner_token, &new, json!({"username": "gus", "privilege": "view"})).await;
    let (status, problem) = replace(&house, &mia.1, &old, &new).await;
    assert_eq!(status, 409, "{problem}");
    share(&house, &house.owner_token, &new, json!({"username": "gus", "privilege": "manage"})).await;
    assert_eq!(replace(&house, &mia.1, &old, &new).await.0, 200);
    let kept = house.hub.service().bindings(&house.owner, &new.id).unwrap();
    let his = kept.iter().find(|b| b.subject == gus.0.subject.to_string()).unwrap();
    assert_eq!((his.terms.privilege, his.terms.only.clone()), (Privilege::Manage, None), "he keeps the wider one");
    assert!(house.hub.service().replace_device(&house.owner, &old.id, &new.id, None).await.is_err(), "once is enough");
}

#[tokio::test]
async fn a_replacement_closes_no_circle_and_drives_not_itself() {
    let house = House::new().await;
    let all = house.devices("lamp", 4).await;
    for device in &all {
        house.claim(device).await;
    }
    let [a, b, old, new] = &all[..] else { panic!() };
    let service = house.hub.service();
    let drive = async |driver: &Device, driven: &Device| {
        let grant = Grant { to: Recipient::Device(driver.id.clone()), terms: Terms::of(Privilege::Operate) };
        service.grant(&house.owner, &driven.id, grant).await.unwrap();
    };
    drive(old, a).await;
    drive(a, b).await;
    drive(b, new).await;
    let (status, problem) = replace(&house, &house.owner_token, old, new).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("circle"), "{problem}");
    assert_eq!(service.bindings(&house.owner, &a.id).unwrap().len(), 2, "nothing has happened");
    service.revoke(&house.owner, &new.id, &Subject::Device(b.id.clone()), true).await.unwrap();
    drive(old, new).await;
    // Both at once, and a grant that would close the circle meanwhile.
    let grant = Grant { to: Recipient::Device(b.id.clone()), terms: Terms::of(Privilege::Operate) };
    let (replaced, granted) =
        tokio::join!(service.replace_device(&house.owner, &old.id, &new.id, None), service.grant(&house.owner, &new.id, grant));
    assert!(replaced.is_ok() != granted.is_ok(), "{replaced:?} {granted:?}");
    if replaced.is_ok() {
        let own = service.bindings(&house.owner, &new.id).unwrap();
        assert!(own.iter().all(|b| !b.subject.starts_with("device:")), "{own:?}");
    }
}
