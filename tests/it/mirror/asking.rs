//! Wishes that the cloud brings: decided for the person they name, once, and within what an owner has agreed to.

use super::{Pair, item};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::Privilege;
use hearthkey::domain::mirror::wire::{Consent, Done, ItemBody, Kind, Request, Verb};
use serde_json::{Value, json};

const LOCK: &str = r#"{"model": "lock", "title": "Lock", "version": 1, "kind": "lock", "attributes": {
    "locked": {"type": "boolean", "access": "write", "critical": true}, "light": {"type": "boolean", "access": "write"}},
    "commands": {"open": {"title": "Open", "critical": true}, "blink": {"title": "Blink"}}}"#;
/// The password `correct horse battery`, hashed elsewhere.
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$aGVhcnRoa2V5LW5vYm9keQ$M0xzcqFTRmeFcCp3gwXQpV3OX/jdD6kSH1zVe7/8IXE";

fn said(done: &Done) -> (bool, &str) {
    (done.ok, done.code.as_str())
}

fn desired(pair: &Pair, device: &hearthkey::domain::ids::DeviceId) -> Value {
    json!(pair.service.twin(&pair.owner, device).unwrap().desired())
}

#[tokio::test]
async fn a_wish_is_done_once_and_answered_as_often_as_it_comes() {
    let mut pair = Pair::settled(&[Consent::Requests]).await;
    let lamp = pair.claimed("lamp").await.id;
    let request = pair.request(&pair.owner, Verb::Desire, Some(&lamp), json!({"on": true}));
    assert_eq!(said(&pair.wish("w1", request.clone()).await), (true, "done"));
    assert_eq!(desired(&pair, &lamp), json!({"on": true}));
    assert!(pair.audited("twin.desire").contains(&(lamp.to_string(), String::new())));
    // Somebody at home wants it otherwise; then the same wish comes again, also after a restart.
    let off = json!({"on": false}).as_object().unwrap().clone();
    pair.service.desire(&pair.owner, &lamp, off, None).await.unwrap();
    assert_eq!(said(&pair.wish("w1", request.clone()).await), (true, "done"));
    pair.restart(false).await;
    assert_eq!(said(&pair.wish("w1", request).await), (true, "done"));
    assert_eq!(desired(&pair, &lamp), json!({"on": false}));
}

#[tokio::test]
async fn a_wish_that_was_interrupted_is_not_done_a_second_time() {
    use hearthkey::store::StoreError;
    use hearthkey::store::tables::{Doing, DoneRow};
    let mut pair = Pair::settled(&[Consent::Requests]).await;
    let lamp = pair.claimed("lamp").await.id;
    pair.settle().await;
    pair.service.close().await;
    let store = pair.store();
    let done = Done { id: "w1".into(), ok: false, code: "begun".into(), detail: String::new() };
    let begun = DoneRow { doing: Doing::Begun, done, at: pair.now() };
    store.write::<_, StoreError, _>(move |tx| tx.put(b"w1", &begun)).await.unwrap();
    store.close().await;
    pair.restart(false).await;
    let request = pair.request(&pair.owner, Verb::Desire, Some(&lamp), json!({"on": true}));
    assert_eq!(said(&pair.wish("w1", request).await), (false, "interrupted"));
    assert_eq!(desired(&pair, &lamp), json!({}));
}

#[tokio::test]
async fn what_is_critical_takes_a_consent_of_its_own() {
    let mut pair = Pair::settled(&[Consent::Requests, Consent::Grants]).await;
    pair.add_model(LOCK);
    let mut lock = pair.claimed("lock").await;
    let id = lock.id.clone();
    let _line = pair.live(&mut lock).await;
    let owner = pair.owner.clone();
    let wish = |pair: &Pair, verb, value| pair.request(&owner, verb, Some(&id), value);
    let unlock = wish(&pair, Verb::Desire, json!({"locked": false}));
    let open = wish(&pair, Verb::Command, json!({"name": "open"}));
    assert_eq!(said(&pair.wish("1", unlock.clone()).await), (false, "no_consent"));
    assert_eq!(said(&pair.wish("2", open.clone()).await), (false, "no_consent"));
    let mixed = wish(&pair, Verb::Desire, json!({"light": true, "locked": false}));
    assert_eq!(said(&pair.wish("3", mixed).await), (false, "no_consent"));
    let blink = wish(&pair, Verb::Command, json!({"name": "blink", "params": {}}));
    assert_eq!(said(&pair.wish("4", blink).await), (true, "done"));
    assert_eq!(pair.refused(), ["no_consent"; 3]);
    assert_eq!(desired(&pair, &id), json!({}));
    pair.service.change_consent(&pair.owner, [Consent::Requests, Consent::Critical].into()).await.unwrap();
    assert_eq!(said(&pair.wish("5", unlock).await), (true, "done"));
    assert_eq!(said(&pair.wish("6", open).await), (true, "done"));
}

#[tokio::test]
async fn nothing_is_asked_for_that_no_owner_agreed_to() {
    let mut pair = Pair::settled(&[Consent::Devices, Consent::Critical]).await;
    let lamp = pair.claimed("lamp").await.id;
    pair.person("mia", Role::Member).await;
    let owner = pair.owner.clone();
    for (verb, value) in [
        (Verb::Desire, json!({"on": true})),
        (Verb::Command, json!({"name": "identify"})),
        (Verb::Grant, json!({"username": "mia", "privilege": "view"})),
    ] {
        let request = pair.request(&owner, verb, Some(&lamp), value);
        assert_eq!(said(&pair.wish(&format!("{verb:?}"), request).await), (false, "no_consent"));
    }
    let user = Request { by: "service:scim".into(), ..pair.request(&owner, Verb::User, None, json!({})) };
    assert_eq!(said(&pair.wish("user", user).await), (false, "no_consent"));
}

#[tokio::test]
async fn the_cloud_asks_in_the_name_of_those_alone_who_have_made_a_key_for_it() {
    let mut pair = Pair::settled(&[Consent::Requests]).await;
    let lamp = pair.claimed("lamp").await.id;
    let mia = pair.person("mia", Role::Member).await;
    pair.give(&lamp, "mia", Privilege::Operate).await;
    let wish = |pair: &Pair| pair.request(&mia, Verb::Desire, Some(&lamp), json!({"on": true}));
    assert_eq!(said(&pair.wish("1", wish(&pair)).await), (false, "no_away_key"));
    let key = pair.service.make_away_key(&mia, "phone", Some(1)).await.unwrap();
    assert_eq!(said(&pair.wish("2", wish(&pair)).await), (true, "done"));
    pair.service.end_away_key(&mia, &key.id).await.unwrap();
    assert_eq!(said(&pair.wish("3", wish(&pair)).await), (false, "no_away_key"));
    pair.service.make_away_key(&mia, "phone", Some(1)).await.unwrap();
    pair.wait(24 * 3_600_000);
    assert_eq!(said(&pair.wish("4", wish(&pair)).await), (false, "no_away_key"), "it is over");
    pair.service.end_user(&pair.owner, mia.user().unwrap(), true).await.unwrap();
    assert_eq!(said(&pair.wish("5", wish(&pair)).await), (false, "unknown_person"));
    let nobody = Request { by: "f".repeat(32), ..wish(&pair) };
    assert_eq!(said(&pair.wish("6", nobody).await), (false, "unknown_person"));
}

#[tokio::test]
async fn a_wish_is_decided_as_at_the_hubs_own_door() {
    let mut pair = Pair::settled(&[Consent::Requests, Consent::Critical]).await;
    let lamp = pair.claimed("lamp").await.id;
    let gus = pair.resident("gus", Role::Guest).await;
    let wish = |pair: &Pair, value| pair.request(&gus, Verb::Desire, Some(&lamp), value);
    assert_eq!(said(&pair.wish("1", wish(&pair, json!({"on": true}))).await), (false, "not_found"), "what one may not see is not there");
    pair.give(&lamp, "gus", Privilege::View).await;
    assert_eq!(said(&pair.wish("2", wish(&pair, json!({"on": true}))).await), (false, "privilege_too_low"));
    pair.give(&lamp, "gus", Privilege::Operate).await;
    assert_eq!(said(&pair.wish("3", wish(&pair, json!({"brightness": 1000}))).await), (false, "invalid"));
    assert_eq!(said(&pair.wish("4", wish(&pair, json!("on"))).await), (false, "malformed"));
    let offline = pair.request(&gus, Verb::Command, Some(&lamp), json!({"name": "identify"}));
    assert_eq!(said(&pair.wish("5", offline).await), (false, "offline"), "a command never waits for a device");
    let ghost = Request { device: Some("ghost".into()), ..wish(&pair, json!({"on": true})) };
    assert_eq!(said(&pair.wish("6", ghost).await), (false, "not_found"));
    assert_eq!(said(&pair.wish("7", wish(&pair, json!({"on": true}))).await), (true, "done"));
}

#[tokio::test]
async fn a_wish_past_its_time_is_not_done() {
    let mut pair = Pair::settled(&[Consent::Requests]).await;
    let lamp = pair.claimed("lamp").await.id;
    let made = pair.request(&pair.owner, Verb::Desire, Some(&lamp), json!({"on": true}));
    pair.wait(made.ttl_s * 1_000);
    assert_eq!(said(&pair.wish("1", made.clone()).await), (false, "too_late"));
    let tomorrow = Request { at: pair.now() + 3_600_000, ..made.clone() };
    assert_eq!(said(&pair.wish("2", tomorrow).await), (false, "malformed"));
    let for_ever = Request { at: pair.now(), ttl_s: 10_000_000, ..made.clone() };
    assert_eq!(said(&pair.wish("3", for_ever).await), (false, "malformed"));
    // A cloud that sets its own clock back does not make an old wish a new one, on a hub that knows the time.
    pair.wait(3_600_000);
    let prepared = pair.prepared().await;
    let mut reply = hearthkey::domain::mirror::wire::SyncReply { ack: prepared.ticket.batch, ..Default::default() };
    reply.items.push(item("4", ItemBody::Request(made.clone())));
    pair.service.batch_acked(prepared.ticket, &reply, made.at / 1_000, 5).await.unwrap();
    assert_eq!(pair.refused()[0], "too_late");
    assert_eq!(desired(&pair, &lamp), json!({}));
}

#[tokio::test]
async fn rights_given_from_away_are_marked_and_go_no_further_than_an_owner_agreed_to() {
    let mut pair = Pair::settled(&[Consent::Grants]).await;
    let lamp = pair.claimed("lamp").await.id;
    let mia = pair.resident("mia", Role::Member).await;
    let gus = pair.person("gus", Role::Guest).await;
    let owner = pair.owner.clone();
    let wish = |pair: &Pair, who, name: &str, privilege: &str| {
        pair.request(who, Verb::Grant, Some(&lamp), json!({"username": name, "privilege": privilege}))
    };
    assert_eq!(said(&pair.wish("1", wish(&pair, &owner, "gus", "administer")).await), (false, "only_at_home"));
    assert_eq!(said(&pair.wish("2", wish(&pair, &owner, "gus", "manage")).await), (false, "no_consent"));
    assert_eq!(said(&pair.wish("3", wish(&pair, &mia, "gus", "view")).await), (false, "not_found"), "mia may not give it");
    pair.give(&lamp, "mia", Privilege::Manage).await;
    assert_eq!(said(&pair.wish("4", wish(&pair, &mia, "gus", "view")).await), (false, "privilege_too_low"));
    assert_eq!(said(&pair.wish("5", wish(&pair, &owner, "nobody", "view")).await), (false, "not_found"));
    assert!(!pair.sees(&gus, &lamp));
    assert_eq!(said(&pair.wish("6", wish(&pair, &owner, "gus", "operate")).await), (true, "done"));
    assert!(pair.sees(&gus, &lamp));
    let row = pair.copy.rows[&(Kind::Binding, format!("{lamp}/{}", gus.subject))].clone();
    assert_eq!((row.origin.as_str(), &row.body["granted_by"]), ("cloud", &json!(owner.subject.to_string())));
    // What was given at home is changed at home.
    assert_eq!(said(&pair.wish("7", wish(&pair, &owner, "mia", "view")).await), (false, "conflict"));
    assert_eq!(said(&pair.wish("8", wish(&pair, &owner, "gus", "view")).await), (true, "done"));
    pair.service.change_consent(&owner, [Consent::Grants, Consent::Critical].into()).await.unwrap();
    assert_eq!(said(&pair.wish("9", wish(&pair, &owner, "gus", "manage")).await), (true, "done"));
    assert_eq!(said(&pair.wish("10", wish(&pair, &owner, "gus", "administer")).await), (false, "only_at_home"));
}

#[tokio::test]
async fn people_are_made_from_outside_by_the_system_account_alone_and_never_as_owners() {
    let mut pair = Pair::settled(&[Consent::PeopleRequests]).await;
    let owner = pair.owner.clone();
    let wish = |pair: &Pair, by: &str, value: Value| Request { by: by.into(), ..pair.request(&owner, Verb::User, None, value) };
    let person = |name: &str, role: &str| json!({"username": name, "role": role, "password_hash": HASH});
    assert_eq!(said(&pair.wish("1", wish(&pair, "service:scim", person("eve", "owner"))).await), (false, "not_allowed"));
    assert_eq!(said(&pair.wish("2", wish(&pair, "service:scim", person("eve", "developer"))).await), (false, "not_allowed"));
    let by_owner = wish(&pair, owner.user().unwrap().as_str(), person("eve", "guest"));
    assert_eq!(said(&pair.wish("3", by_owner).await), (false, "not_allowed"));
    let weak = json!({"username": "eve", "role": "guest", "password_hash": "$argon2id$v=19$m=8,t=1,p=1$YWFhYWFhYWE$YWFhYQ"});
    assert_eq!(said(&pair.wish("4", wish(&pair, "service:scim", weak)).await), (false, "malformed"));
    assert_eq!(said(&pair.wish("5", wish(&pair, "service:scim", person("nils", "guest"))).await), (true, "done"));
    assert_eq!(said(&pair.wish("6", wish(&pair, "service:scim", person("Nils", "guest"))).await), (false, "conflict"));
    let users = pair.service.users(&pair.owner).unwrap();
    assert!(users.iter().any(|u| u.username == "nils" && u.role == Role::Guest) && users.len() == 2);
}

#[tokio::test]
async fn what_was_refused_is_listed_for_owners_and_the_list_is_bounded() {
    let mut pair = Pair::settled(&[]).await;
    let lamp = pair.claimed("lamp").await.id;
    for n in 0..60 {
        let request = pair.request(&pair.owner, Verb::Desire, Some(&lamp), json!({"on": true}));
        pair.wish(&format!("w{n}"), request).await;
    }
    let mia = pair.person("mia", Role::Member).await;
    let status = pair.service.cloud_status(&pair.owner).unwrap();
    assert_eq!(status.refused.len(), 50);
    let one = &status.refused[0];
    assert_eq!((one.verb.as_str(), one.device.as_deref(), one.code.as_str()), ("desire", Some(lamp.as_str()), "no_consent"));
    assert!(one.detail.contains("owner"));
    assert!(pair.service.cloud_status(&mia).unwrap().refused.is_empty());
}
