//! What is sent: everything at linking, then what changes; the same again until it is acknowledged; and nothing that was not
//! agreed to.

use super::Pair;
use data_encoding::BASE64URL_NOPAD;
use hearthkey::domain::account::Role;
use hearthkey::domain::audit::chain::{Point, PointKind};
use hearthkey::domain::audit::export::EntryLine;
use hearthkey::domain::binding::Privilege;
use hearthkey::domain::ids::DeviceId;
use hearthkey::domain::mirror::wire::{Consent, Kind, Row};
use hearthkey::service::DeviceChange;
use serde_json::{Value, json};

const HOUR_MS: u64 = 3_600_000;

fn body<'a>(pair: &'a Pair, kind: Kind, key: &str) -> &'a Row {
    pair.copy.rows.get(&(kind, key.to_owned())).unwrap_or_else(|| panic!("{kind:?} {key} is not there"))
}

async fn rename(pair: &Pair, device: &DeviceId, name: &str) {
    let change = DeviceChange { name: Some(name.into()), ..DeviceChange::default() };
    pair.service.change_device(&pair.owner, device, change).await.unwrap();
}

async fn desire(pair: &Pair, device: &DeviceId, value: Value) {
    pair.service.desire(&pair.owner, device, value.as_object().unwrap().clone(), None).await.unwrap();
}

#[tokio::test]
async fn everything_there_is_is_sent_at_linking_and_then_what_changes() {
    let mut pair = Pair { den: crate::den::Den::new(crate::den::ANSWERS).await, copy: super::Copy::default() };
    let lamp = pair.claimed("lamp").await.id;
    desire(&pair, &lamp, json!({"on": true})).await;
    assert!(pair.service.next_batch(1 << 20).await.unwrap().is_none(), "there is no cloud");
    pair.link(&[Consent::Devices, Consent::Twins, Consent::People]).await;
    pair.settle().await;
    assert_eq!(pair.copy.begun, Kind::ALL);
    let device = body(&pair, Kind::Device, lamp.as_str());
    assert_eq!((device.generation, &device.body["standing"], &device.body["trust"]), (1, &json!("ready"), &json!("attested")));
    let owner = pair.owner.user().unwrap().to_string();
    assert_eq!(body(&pair, Kind::User, &owner).body, json!({"role": "owner", "username": "olivia", "display_name": "olivia"}));
    let binding = body(&pair, Kind::Binding, &format!("{lamp}/user:{owner}"));
    assert_eq!(
        (binding.generation, &binding.body["terms"]["privilege"], &binding.body["granted_by"]),
        (1, &json!("administer"), &json!("claim"))
    );
    assert_eq!(pair.copy.twins[lamp.as_str()].body["desired"], json!({"on": true}));
    // From now on only what changes.
    rename(&pair, &lamp, "Hall").await;
    let (request, _) = pair.exchange(|_| {}).await;
    assert_eq!((request.put.len(), request.twin.len(), request.revoke.len()), (1, 0, 0), "{request:?}");
    assert_eq!((&request.put[0].body["name"], request.put[0].version), (&json!("Hall"), 1));
    // What is written and is the same is not sent again.
    rename(&pair, &lamp, "Hall").await;
    let (request, applied) = pair.exchange(|_| {}).await;
    assert!(request.put.is_empty() && !applied.again);
}

#[tokio::test]
async fn without_consent_nobodys_name_leaves_the_house_and_no_twin() {
    let mut pair = Pair::new(&[Consent::Audit]).await;
    let lamp = pair.claimed("lamp").await.id;
    rename(&pair, &lamp, "Grandmothers chamber").await;
    desire(&pair, &lamp, json!({"brightness": 77})).await;
    pair.person("xaver", Role::Member).await;
    let mut sent = String::new();
    loop {
        let prepared = pair.prepared().await;
        sent.push_str(std::str::from_utf8(&prepared.body).unwrap());
        pair.copy.take(&prepared.request);
        if !pair.answer(&prepared, |_| {}).await.unwrap().again {
            break;
        }
    }
    for personal in ["xaver", "olivia", "Grandmother", "brightness\":77", "127.0.0.1"] {
        assert!(!sent.contains(personal), "{personal}");
    }
    assert!(pair.copy.twins.is_empty() && !pair.copy.audit.is_empty());
    assert_eq!(pair.copy.standing(Kind::User).len(), 2, "ids and roles go always");
}

#[tokio::test]
async fn what_is_not_agreed_to_any_more_is_forgotten_there() {
    let mut pair = Pair::new(&[Consent::Devices, Consent::Twins, Consent::People]).await;
    let lamp = pair.claimed("lamp").await.id;
    desire(&pair, &lamp, json!({"on": true})).await;
    pair.settle().await;
    assert!(!pair.copy.twins.is_empty());
    // A batch with the name is on its way when an owner changes their mind.
    rename(&pair, &lamp, "Secret").await;
    let before = pair.prepared().await;
    pair.service.change_consent(&pair.owner, [Consent::Requests].into()).await.unwrap();
    let after = pair.prepared().await;
    assert!(!String::from_utf8(after.body.clone()).unwrap().contains("Secret"));
    assert_ne!(after.ticket.batch, before.ticket.batch, "a number has one content");
    assert!(pair.answer(&before, |_| {}).await.is_err());
    pair.settle().await;
    assert!(pair.copy.twins.is_empty());
    let device = &body(&pair, Kind::Device, lamp.as_str()).body;
    assert!(device.get("name").is_none() && device.get("standing").is_none() && device["brand"] == "acme");
    let owner = pair.owner.user().unwrap().to_string();
    assert_eq!(body(&pair, Kind::User, &owner).body, json!({"role": "owner"}));
}

#[tokio::test]
async fn a_batch_without_an_answer_is_sent_again_byte_by_byte_also_after_a_restart() {
    let mut pair = Pair::settled(&[Consent::Devices]).await;
    let lamp = pair.claimed("lamp").await.id;
    rename(&pair, &lamp, "Hall").await;
    let first = pair.prepared().await;
    rename(&pair, &lamp, "Kitchen").await;
    assert_eq!(pair.prepared().await.body, first.body);
    pair.restart(false).await;
    let again = pair.prepared().await;
    assert_eq!((again.ticket, &again.body), (first.ticket, &first.body));
    pair.copy.take(&again.request);
    let applied = pair.answer(&again, |_| {}).await.unwrap();
    assert!(applied.again, "what has changed meanwhile still waits");
    assert_eq!(body(&pair, Kind::Device, lamp.as_str()).body["name"], "Hall");
    pair.settle().await;
    assert_eq!(body(&pair, Kind::Device, lamp.as_str()).body["name"], "Kitchen");
    // The same answer a second time answers nothing.
    assert!(pair.answer(&again, |_| {}).await.is_err());
}

#[tokio::test]
async fn a_change_of_a_right_keeps_its_generation_and_a_new_one_begins_above_its_mark() {
    let mut pair = Pair::settled(&[]).await;
    let lamp = pair.claimed("lamp").await.id;
    let mia = pair.person("mia", Role::Member).await;
    let key = format!("{lamp}/{}", mia.subject);
    let version = |pair: &Pair| (body(pair, Kind::Binding, &key).generation, body(pair, Kind::Binding, &key).version);
    pair.give(&lamp, "mia", Privilege::View).await;
    pair.settle().await;
    assert_eq!(version(&pair), (1, 0));
    pair.give(&lamp, "mia", Privilege::Operate).await;
    pair.settle().await;
    assert_eq!(version(&pair), (1, 1));
    pair.service.revoke(&pair.owner, &lamp, &mia.subject, true).await.unwrap();
    let (request, _) = pair.exchange(|_| {}).await;
    assert_eq!(
        request.revoke.iter().map(|m| (m.kind, m.key.as_str(), m.generation)).collect::<Vec<_>>(),
        [(Kind::Binding, key.as_str(), 1)]
    );
    pair.give(&lamp, "mia", Privilege::View).await;
    pair.settle().await;
    assert_eq!(version(&pair), (2, 0));
    assert_eq!(pair.copy.standing(Kind::Binding).len(), 2);
}

#[tokio::test]
async fn a_device_that_leaves_the_house_is_over_and_comes_back_as_another_generation() {
    let mut pair = Pair::settled(&[Consent::Devices]).await;
    let lamp = pair.claimed("lamp").await;
    pair.settle().await;
    pair.service.remove_device(&pair.owner, &lamp.id).await.unwrap();
    pair.settle().await;
    assert_eq!(pair.copy.marks[&(Kind::Device, lamp.id.to_string())], 1);
    assert!(pair.copy.standing(Kind::Device).is_empty() && pair.copy.standing(Kind::Binding).is_empty());
    pair.service.claim(&pair.owner, &lamp.code, None, "", "").await.unwrap();
    pair.settle().await;
    assert_eq!(body(&pair, Kind::Device, lamp.id.as_str()).generation, 2);
    assert_eq!(pair.copy.standing(Kind::Device).len(), 1);
}

#[tokio::test]
async fn what_does_not_fit_one_batch_comes_in_several_and_nothing_is_missing() {
    let mut pair = Pair::new(&[Consent::People]).await;
    let lamp = pair.claimed("lamp").await.id;
    for n in 0..8 {
        let name = format!("somebody-{n}");
        let who = pair.person(&name, Role::Guest).await;
        pair.give(&lamp, &name, Privilege::View).await;
        for _ in 0..10 {
            pair.service.make_away_key(&who, "phone", None).await.unwrap();
        }
    }
    let mut batches = 0;
    loop {
        let prepared = pair.service.next_batch(0).await.unwrap().unwrap();
        assert!(prepared.body.len() <= 16 * 1024, "{}", prepared.body.len());
        pair.copy.take(&prepared.request);
        batches += 1;
        if !pair.answer(&prepared, |_| {}).await.unwrap().again {
            break;
        }
    }
    assert!(batches > 1);
    let standing = [Kind::User, Kind::Binding, Kind::Away].map(|kind| pair.copy.standing(kind).len());
    assert_eq!(standing, [9, 9, 80]);
    // One that has become too large for what the cloud takes now is put together anew, under its number.
    pair.service.change_consent(&pair.owner, [Consent::People, Consent::Devices].into()).await.unwrap();
    let large = pair.prepared().await;
    assert!(large.body.len() > 16 * 1024);
    let small = pair.service.next_batch(0).await.unwrap().unwrap();
    assert!(small.body.len() <= 16 * 1024 && small.ticket == large.ticket);
}

#[tokio::test]
async fn copies_are_compared_when_nothing_waits_and_only_what_differs_is_sent_anew() {
    let mut pair = Pair::settled(&[Consent::Devices, Consent::People]).await;
    let lamp = pair.claimed("lamp").await.id;
    let mia = pair.person("mia", Role::Member).await;
    pair.give(&lamp, "mia", Privilege::Operate).await;
    pair.service.revoke(&pair.owner, &lamp, &mia.subject, true).await.unwrap();
    pair.service.end_user(&pair.owner, mia.user().unwrap(), true).await.unwrap();
    pair.settle().await;
    pair.wait(HOUR_MS + 1);
    let (request, _) = pair.exchange(|_| {}).await;
    let digests = request.digest.expect("a comparison is due");
    for kind in [Kind::Device, Kind::Binding, Kind::User, Kind::Away] {
        assert_eq!(digests[&kind], pair.copy.digest(kind), "{kind:?}");
    }
    // Within the hour there is no other.
    assert!(pair.exchange(|_| {}).await.0.digest.is_none());
    // A copy that has lost a row and has one too many.
    pair.copy.rows.remove(&(Kind::Device, lamp.to_string()));
    let ghost = Row { kind: Kind::Device, key: "ghost".into(), generation: 1, version: 0, origin: String::new(), body: json!({}) };
    pair.copy.rows.insert((Kind::Device, "ghost".into()), ghost);
    pair.copy.begun.clear();
    pair.wait(HOUR_MS + 1);
    let differs = |pair: &Pair, theirs: &str| theirs != pair.copy.digest(Kind::Device);
    let prepared = pair.prepared().await;
    assert!(differs(&pair, &prepared.request.digest.as_ref().unwrap()[&Kind::Device]));
    assert!(pair.answer(&prepared, |reply| reply.resync = vec![Kind::Device]).await.unwrap().again);
    pair.settle().await;
    assert_eq!(pair.copy.begun, [Kind::Device]);
    pair.wait(HOUR_MS + 1);
    let request = pair.exchange(|_| {}).await.0;
    assert!(!differs(&pair, &request.digest.unwrap()[&Kind::Device]));
}

#[tokio::test]
async fn a_cloud_that_never_has_enough_is_not_sent_everything_again_and_again() {
    let mut pair = Pair::settled(&[]).await;
    pair.claimed("lamp").await;
    pair.settle().await;
    pair.copy.begun.clear();
    for _ in 0..10 {
        pair.exchange(|reply| reply.resync = vec![Kind::Binding]).await;
        pair.settle().await;
    }
    assert_eq!(pair.copy.begun, [Kind::Binding]);
}

#[tokio::test]
async fn a_cloud_that_has_lost_batches_gets_everything_anew_under_the_number_it_expects() {
    let mut pair = Pair::settled(&[Consent::Devices, Consent::Audit]).await;
    let lamp = pair.claimed("lamp").await.id;
    pair.settle().await;
    let whole = pair.copy.audit.len();
    pair.copy = super::Copy::default();
    rename(&pair, &lamp, "Hall").await;
    let _lost = pair.prepared().await;
    pair.service.mirror_resync(3).await.unwrap();
    assert_eq!(pair.prepared().await.ticket.batch, 3);
    pair.settle().await;
    assert_eq!(body(&pair, Kind::Device, lamp.as_str()).body["name"], "Hall");
    assert!(pair.copy.audit.len() > whole);
}

#[tokio::test]
async fn the_audit_goes_as_a_chain_that_holds_and_ends_where_the_hub_says() {
    let mut pair = Pair::settled(&[Consent::Audit]).await;
    for n in 0..40 {
        let name = format!("phone-{n}");
        let key = pair.service.make_away_key(&pair.owner, &name, None).await.unwrap();
        pair.service.end_away_key(&pair.owner, &key.id).await.unwrap();
    }
    let mut last: Option<(u64, [u8; 32])> = None;
    let mut heads = Vec::new();
    pair.copy.audit.clear();
    pair.service.mirror_resync(50).await.unwrap();
    loop {
        let prepared = pair.service.next_batch(0).await.unwrap().unwrap();
        if let Some(range) = &prepared.request.audit {
            assert_eq!(range.from, last.map_or(1, |(seq, _)| seq + 1));
            for item in &range.items {
                let (entry, beside) = serde_json::from_value::<EntryLine>(item.clone()).unwrap().read().unwrap();
                assert!(entry.follows(last) && beside.is_none(), "{item}");
                last = Some((entry.seq, entry.hash));
            }
            heads.extend(range.head.clone());
        }
        if !pair.answer(&prepared, |_| {}).await.unwrap().again && heads.len() == 1 {
            break;
        }
    }
    let point = Point::read(&BASE64URL_NOPAD.decode(heads[0].as_bytes()).unwrap()).unwrap();
    assert_eq!((point.kind, Some(point.place), point.hub), (PointKind::End, last, pair.service.hub().id));
    assert!(last.unwrap().0 > 40);
}
