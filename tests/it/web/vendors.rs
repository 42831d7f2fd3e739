//! A maker's people: from listed networks only, for a while only, and blind outside a support session.

use super::services::dial;
use super::{Answer, HERE, Home, PASSWORD, request};
use hearthkey::broker::{self, Broker};
use hearthkey::domain::account::Role;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const ELSEWHERE: &str = "192.0.2.9";
const MINUTE: u64 = 60_000;

async fn add(home: &Home, name: &str, role: &str, more: Value) -> Answer {
    let mut body = json!({"username": name, "password": PASSWORD, "role": role});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    home.call(&home.owner, "POST /api/v1/users", Some(body)).await
}

async fn sign_in(home: &Home, source: &str, name: &str) -> Answer {
    let body = json!({"username": name, "password": PASSWORD}).to_string();
    home.send_from(source, &request("POST /api/v1/sessions", &[("content-type", "application/json")], body.as_bytes())).await
}

async fn me(home: &Home, source: &str, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    home.send_from(source, &request("GET /api/v1/me", &[("authorization", &bearer)], b"")).await.status
}

/// A maker's person who may come from here, signed in: the account's id and the token.
async fn vendor(home: &Home, name: &str, role: &str) -> (String, String) {
    let added = add(home, name, role, json!({"brand": "acme", "networks": [HERE]})).await;
    assert_eq!(added.status, 201, "{:?}", added.json());
    let opened = sign_in(home, HERE, name).await.json();
    (added.json()["id"].as_str().unwrap().to_owned(), opened["token"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_owner_makes_a_makers_people_for_a_brand_and_networks() {
    let home = Home::new().await;
    let added = add(&home, "vera", "support", json!({"brand": "acme", "networks": ["10.0.0.9/24"]})).await;
    assert_eq!((added.status, &added.json()["networks"], &added.json()["brand"]), (201, &json!(["10.0.0.0/24"]), &json!("acme")));
    for (role, more) in [
        ("support", json!({})),
        ("support", json!({"networks": [HERE]})),
        ("support", json!({"brand": "unknown", "networks": [HERE]})),
        ("support", json!({"brand": "acme", "networks": ["0.0.0.0/0"]})),
        ("member", json!({"brand": "acme", "networks": [HERE]})),
        ("owner", json!({"networks": [HERE]})),
    ] {
        assert_eq!(add(&home, "x", role, more.clone()).await.problem().0, 422, "{role} {more}");
    }
    let mia = home.person("mia", Role::Member).await;
    assert_eq!(home.call(&mia, "GET /api/v1/me", None).await.json()["networks"], Value::Null);
    let body = json!({"username": "x", "password": PASSWORD, "role": "support", "brand": "acme", "networks": [HERE]});
    assert_eq!(home.call(&mia, "POST /api/v1/users", Some(body)).await.problem().0, 403);
}

#[tokio::test]
async fn a_right_password_from_another_network_is_answered_as_a_wrong_one_and_the_audit_knows_better() {
    let home = Home::new().await;
    add(&home, "vera", "support", json!({"brand": "acme", "networks": [HERE]})).await;
    let wrong = home
        .ask("POST /api/v1/sessions", &[("content-type", "application/json")], br#"{"username":"vera","password":"not this one"}"#)
        .await;
    let outside = sign_in(&home, ELSEWHERE, "vera").await;
    assert_eq!((outside.status, &outside.body), (401, &wrong.body));
    let is_told = async || {
        let log = home.call(&home.owner, "GET /api/v1/audit?limit=50", None).await.json();
        log["entries"].as_array().unwrap().iter().any(|e| e["action"] == "session.open" && e["reason"] == "network_not_listed")
    };
    // A refusal is written beside the answer.
    while !is_told().await {
        tokio::task::yield_now().await;
    }
    assert_eq!(sign_in(&home, HERE, "vera").await.status, 201);
}

#[tokio::test]
async fn a_session_of_theirs_is_checked_against_the_list_at_every_use_and_ends_with_it() {
    let home = Home::new().await;
    let (id, token) = vendor(&home, "vera", "support").await;
    assert_eq!((me(&home, HERE, &token).await, me(&home, ELSEWHERE, &token).await), (200, 401));
    let broker = Broker::new(home.service.clone(), broker::Config::default()).unwrap();
    home.service.connect(&broker);
    assert!(dial(&broker, ELSEWHERE, "user:vera", &token).await.is_err());
    let mut live = dial(&broker, HERE, "user:vera", &token).await.unwrap();
    live.ping().await.unwrap();
    let change =
        async |networks: Value| home.call(&home.owner, &format!("PATCH /api/v1/users/{id}"), Some(json!({"networks": networks}))).await;
    // One more network takes nothing away.
    assert_eq!(change(json!([HERE, ELSEWHERE])).await.status, 200);
    live.ping().await.unwrap();
    assert_eq!(me(&home, ELSEWHERE, &token).await, 200);
    assert_eq!(change(json!([ELSEWHERE])).await.status, 200);
    assert!(live.ping().await.is_err(), "its network went off the list");
    assert_eq!((me(&home, HERE, &token).await, me(&home, ELSEWHERE, &token).await), (401, 401));
    assert_eq!(sign_in(&home, HERE, "vera").await.status, 401);
    assert_eq!(sign_in(&home, ELSEWHERE, "vera").await.status, 201);
    assert_eq!(change(json!(["::/0"])).await.problem().0, 422);
    let mia = home.person("mia", Role::Member).await;
    let line = format!("PATCH /api/v1/users/{}", home.actor(&mia).user().unwrap());
    assert_eq!(home.call(&home.owner, &line, Some(json!({"networks": [HERE]}))).await.problem().0, 409);
}

#[tokio::test]
async fn their_session_ends_without_use_and_after_twelve_hours_and_with_the_account() {
    let home = Home::new().await;
    let (id, token) = vendor(&home, "vera", "developer").await;
    let mia = home.person("mia", Role::Member).await;
    let later = |ms| home.clock.0.fetch_add(ms, Ordering::Relaxed);
    for _ in 0..51 {
        later(14 * MINUTE);
        assert_eq!(me(&home, HERE, &token).await, 200);
    }
    later(6 * MINUTE);
    assert_eq!(me(&home, HERE, &token).await, 401);
    let short = sign_in(&home, HERE, "vera").await.json()["token"].as_str().unwrap().to_owned();
    later(15 * MINUTE);
    assert_eq!(me(&home, HERE, &short).await, 401);
    assert_eq!(me(&home, HERE, &mia).await, 200, "people of the house stay signed in");
    let last = sign_in(&home, HERE, "vera").await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(home.call(&home.owner, &format!("DELETE /api/v1/users/{id}"), None).await.status, 200);
    assert_eq!(me(&home, HERE, &last).await, 401);
}

#[tokio::test]
async fn without_a_support_session_they_see_nothing_and_nobody_can_share_with_them() {
    let home = Home::new().await;
    let device = home.claimed("lamp", &home.owner).await;
    let (_, token) = vendor(&home, "vera", "support").await;
    assert_eq!(home.call(&token, "GET /api/v1/devices", None).await.json()["devices"], json!([]));
    assert_eq!(home.call(&token, "GET /api/v1/support", None).await.json()["sessions"], json!([]));
    for line in [format!("GET /api/v1/devices/{device}"), format!("GET /api/v1/devices/{device}/twin")] {
        assert_eq!(home.call(&token, &line, None).await.problem().0, 404, "{line}");
    }
    let share = Some(json!({"username": "vera", "privilege": "view"}));
    assert_eq!(home.call(&home.owner, &format!("POST /api/v1/devices/{device}/bindings"), share).await.problem().0, 409);
}
