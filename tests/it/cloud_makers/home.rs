//! People away from home: what they see, what they ask for, and what ends at once.

use super::rig::{Hub, Rig, device_row, now_ms, row};
use data_encoding::HEXLOWER;
use hearthkey::cloud::Scope;
use hearthkey::domain::mirror::statement::Bulletin;
use hearthkey::domain::mirror::wire::{Consent, Done, ItemBody, Kind, Request, Row, SyncRequest, Verb};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const ANNA: &str = "00000000000000000000000000000001";
const BEN: &str = "00000000000000000000000000000002";

fn user(id: &str, name: &str, role: &str) -> Row {
    row(Kind::User, id, 1, 1, json!({"username": name, "display_name": name, "role": role}))
}

fn binding(device: &str, user: &str, generation: u64, terms: Value) -> Row {
    let body = json!({"device": device, "subject": format!("user:{user}"), "terms": terms, "granted_by": "x", "granted_at": 1});
    row(Kind::Binding, &format!("{device}/user:{user}"), generation, 1, body)
}

fn token(hub: &Hub<'_>, letter: &str) -> String {
    format!("hka1.{}.{}", hub.id, letter.repeat(43))
}

fn away(hub: &Hub<'_>, id: &str, user: &str, letter: &str) -> Row {
    let hash = HEXLOWER.encode(&Sha256::digest(token(hub, letter).as_bytes()));
    row(Kind::Away, id, 1, 1, json!({"user": user, "hash": hash, "until": now_ms() + 60_000_000, "name": "phone"}))
}

/// The request in what comes down next.
async fn request(hub: &Hub<'_>) -> (String, Request) {
    let (items, _) = hub.next().await;
    let found = items.into_iter().find_map(|item| if let ItemBody::Request(request) = item.body { Some((item.id, request)) } else { None });
    found.expect("a request")
}

async fn answer(hub: &Hub<'_>, id: &str, ok: bool, code: &str) {
    let done = Done { id: id.into(), ok, code: code.into(), detail: String::new() };
    hub.sync(SyncRequest { done: vec![done], ..SyncRequest::default() }).await;
}

const AGREED: [Consent; 4] = [Consent::Devices, Consent::Twins, Consent::Requests, Consent::Grants];

/// Anna administers a lamp, Ben operates a part of it; there is another lamp that neither sees.
async fn house<'a>(rig: &'a Rig) -> (Hub<'a>, String, String) {
    let hub = rig.hub(1, &AGREED).await;
    let rows = vec![
        device_row("lamp-000001", 1, 1, "attested", 0),
        device_row("lamp-000002", 1, 1, "attested", 0),
        user(ANNA, "anna", "owner"),
        user(BEN, "ben", "guest"),
        binding("lamp-000001", ANNA, 1, json!({"privilege": "administer"})),
        binding("lamp-000001", BEN, 4, json!({"privilege": "operate", "only": ["on"]})),
        away(&hub, "away-a", ANNA, "a"),
        away(&hub, "away-b", BEN, "b"),
    ];
    let twin = row(Kind::Twin, "lamp-000001", 1, 1, json!({"reported": {"on": true, "level": 3}, "desired": {}, "version": 1, "at": 1}));
    hub.sync(SyncRequest { put: rows, twin: vec![twin], ..SyncRequest::default() }).await;
    let (anna, ben) = (token(&hub, "a"), token(&hub, "b"));
    (hub, anna, ben)
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_away_sees_what_their_rights_show_and_asks_for_what_the_hub_decides() {
    let rig = Rig::start().await;
    let (hub, anna, ben) = house(&rig).await;
    let me = rig.call("GET", "/v1/home", &ben, Value::Null).await.good();
    assert_eq!((&me["username"], &me["role"], &me["hub"]), (&json!("ben"), &json!("guest"), &json!(hub.id.to_string())));
    let devices = rig.call("GET", "/v1/home/devices", &ben, Value::Null).await.good();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
    let lamp = rig.call("GET", "/v1/home/devices/lamp-000001", &ben, Value::Null).await.good();
    assert_eq!((&lamp["privilege"], &lamp["twin"]["reported"]), (&json!("operate"), &json!({"on": true})));
    rig.call("GET", "/v1/home/devices/lamp-000002", &ben, Value::Null).await.refused(404, "not_found");
    rig.call("GET", "/v1/home/devices/lamp-000001/bindings", &ben, Value::Null).await.refused(403, "not_allowed");
    let rights = rig.call("GET", "/v1/home/devices/lamp-000001/bindings", &anna, Value::Null).await.good();
    assert_eq!(rights["bindings"][1]["username"], "ben");
    for bad in ["", "hka1.x.y", &token(&hub, "c")] {
        assert_eq!(rig.call("GET", "/v1/home", bad, Value::Null).await.status, 401, "{bad}");
    }

    // A wish is the hub's to decide, and its answer is shown to who wished.
    let path = "/v1/home/devices/lamp-000001/desired";
    rig.call("PATCH", path, &ben, json!({"level": 1})).await.refused(403, "not_allowed");
    let asked = rig.call("PATCH", path, &ben, json!({"on": false})).await;
    assert_eq!(asked.status, 202);
    let asked = asked.good();
    let (id, wish) = request(&hub).await;
    assert_eq!((&json!(id), wish.by.as_str(), wish.verb, &wish.value), (&asked["id"], BEN, Verb::Desire, &json!({"on": false})));
    let path = format!("/v1/home/requests/{id}");
    assert_eq!(rig.call("GET", &path, &ben, Value::Null).await.good()["state"], "waiting");
    rig.call("GET", &path, &anna, Value::Null).await.refused(404, "not_found");
    answer(&hub, &id, false, "privilege_too_low").await;
    let state = rig.call("GET", &path, &ben, Value::Null).await.good();
    assert_eq!((&state["state"], &state["code"]), (&json!("refused"), &json!("privilege_too_low")));

    rig.call("POST", "/v1/home/devices/lamp-000001/commands", &anna, json!({"name": "blink"})).await.good();
    let (_, command) = request(&hub).await;
    assert_eq!((command.verb, command.ttl_s, &command.value["name"]), (Verb::Command, 30, &json!("blink")));
    // Rights are given below manage, and never to administer.
    let path = "/v1/home/devices/lamp-000001/bindings";
    let grant = async |privilege: &str| rig.call("PUT", path, &anna, json!({"username": "ben", "privilege": privilege})).await;
    grant("view").await.good();
    assert_eq!(request(&hub).await.1.value, json!({"username": "ben", "privilege": "view"}));
    grant("manage").await.refused(403, "not_agreed");
    grant("administer").await.refused(403, "not_allowed");
    // What the home does not agree to is not asked.
    hub.link(&[Consent::Devices]).await;
    rig.call("PATCH", "/v1/home/devices/lamp-000001/desired", &ben, json!({"on": true})).await.refused(403, "not_agreed");
    assert_eq!(rig.call("GET", "/v1/home/devices/lamp-000001", &ben, Value::Null).await.good()["twin"], Value::Null);
    drop(hub);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_from_away_ends_here_at_once_and_comes_down_as_a_mark() {
    let rig = Rig::start().await;
    let (hub, anna, ben) = house(&rig).await;
    let right = |user: &str| format!("/v1/home/devices/lamp-000001/bindings/user:{user}");
    rig.call("DELETE", &right(ANNA), &ben, Value::Null).await.refused(403, "not_allowed");
    rig.call("DELETE", &right(ANNA), &anna, Value::Null).await.refused(409, "conflict");
    let ended = rig.call("DELETE", &right(BEN), &anna, Value::Null).await.good();
    assert_eq!(ended["revoked"]["gen"], 4);
    rig.call("GET", "/v1/home/devices/lamp-000001", &ben, Value::Null).await.refused(404, "not_found");

    // A phone can carry it to a hub without the internet.
    let carried = rig.call("POST", "/v1/home/bulletin", &anna, Value::Null).await.good();
    assert_eq!((&carried["marks"], &carried["number"]), (&json!(1), &json!(1)));
    let statement = data_encoding::BASE64URL_NOPAD.decode(carried["bulletin"].as_str().unwrap().as_bytes()).unwrap();
    let key = data_encoding::BASE64URL_NOPAD.decode(rig.cloud.view().key.as_bytes()).unwrap().try_into().unwrap();
    let bulletin = Bulletin::verify(&key, &statement).unwrap();
    assert_eq!((bulletin.hub, bulletin.marks[0].key.as_str()), (hub.id, format!("lamp-000001/user:{BEN}").as_str()));
    let (_, marks) = hub.next().await;
    assert_eq!((marks.len(), marks[0].generation, marks[0].by.as_str()), (1, 4, format!("user:{ANNA}").as_str()));

    // Ben signs out, and then Anna's account ends at home: neither gets in any more.
    assert_eq!(rig.call("DELETE", "/v1/home/session", &ben, Value::Null).await.status, 204);
    rig.call("GET", "/v1/home", &ben, Value::Null).await.refused(401, "signed_out");
    let (_, marks) = hub.next().await;
    assert_eq!((marks[0].kind, marks[0].key.as_str()), (Kind::Away, "away-b"));
    hub.end(Kind::User, ANNA, 1).await;
    rig.call("GET", "/v1/home", &anna, Value::Null).await.refused(401, "signed_out");
    drop(hub);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_account_asks_for_an_account_where_the_home_agrees_and_the_hub_hears_a_hash() {
    let rig = Rig::start().await;
    let token = rig.token("acme", &[Scope::CreateUsers]).await;
    let hub = rig.hub(1, &[Consent::Devices]).await;
    let path = format!("/v1/hubs/{}/users", hub.id);
    let new = |role: &str| json!({"username": "carla", "role": role, "password": "seven hedgehogs in a teapot"});
    rig.call("POST", &path, &token, new("guest")).await.refused(404, "not_found");
    hub.put(vec![device_row("lamp-000001", 1, 1, "attested", 0)]).await;
    rig.call("POST", &path, &token, new("guest")).await.refused(403, "not_agreed");
    hub.link(&[Consent::Devices, Consent::PeopleRequests]).await;
    rig.call("POST", &path, &token, new("owner")).await.refused(422, "invalid");
    let mut easy = new("guest");
    easy["password"] = json!("12345678");
    rig.call("POST", &path, &token, easy).await.refused(422, "invalid");
    let asked = rig.call("POST", &path, &token, new("member")).await.good();
    let (id, wish) = request(&hub).await;
    assert!(wish.by.starts_with("service:") && wish.verb == Verb::User);
    assert!(wish.value["password_hash"].as_str().unwrap().starts_with("$argon2id$"));
    assert!(!serde_json::to_string(&wish).unwrap().contains("hedgehogs"));
    answer(&hub, &id, true, "done").await;
    let state = rig.call("GET", &format!("{path}/requests/{}", asked["id"].as_str().unwrap()), &token, Value::Null).await.good();
    assert_eq!(state["state"], "done");
    // Another brand has no device there.
    rig.brand("other").await;
    let other = rig.token("other", &[Scope::CreateUsers]).await;
    rig.call("POST", &path, &other, new("guest")).await.refused(404, "not_found");
    drop(hub);
    rig.stop().await;
}
