//! Service accounts: who makes them, from where they come, what their tokens open, and how each of these ends.

use super::{HERE, Home, PASSWORD, request};
use hearthkey::broker::{self, Broker};
use hearthkey::domain::account::Role;
use hearthkey::sim::mqtt::{Client, ConnectOptions};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const ELSEWHERE: &str = "192.0.2.9";
const MINUTE: u64 = 60_000;

/// A service account: its id and its secret.
pub(super) async fn made(home: &Home, networks: &[&str], scopes: &[&str]) -> (String, String) {
    let body = json!({"name": "Acme's server", "networks": networks, "scopes": scopes});
    let answer = home.call(&home.owner, "POST /api/v1/services", Some(body)).await;
    assert_eq!(answer.status, 201, "{:?}", answer.json());
    let made = answer.json();
    (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

async fn asked(home: &Home, source: &str, id: &str, secret: &str) -> super::Answer {
    let body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    home.send_from(source, &request("POST /oauth/token", &[FORM], body.as_bytes())).await
}

/// Signs a service account in.
pub(super) async fn token(home: &Home, id: &str, secret: &str) -> String {
    let answer = asked(home, HERE, id, secret).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

async fn get(home: &Home, source: &str, token: &str, more: &[(&str, &str)]) -> u16 {
    let bearer = format!("Bearer {token}");
    let headers = [&[("authorization", bearer.as_str())], more].concat();
    home.send_from(source, &request("GET /api/v1/devices", &headers, b"")).await.status
}

fn later(home: &Home, ms: u64) {
    home.clock.0.fetch_add(ms, Ordering::Relaxed);
}

/// The newest entry with this action.
async fn told(home: &Home, action: &str) -> Value {
    let log = home.call(&home.owner, "GET /api/v1/audit?limit=50", None).await.json();
    log["entries"].as_array().unwrap().iter().find(|e| e["action"] == action).cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_secret_is_shown_once_and_opens_the_door_from_a_listed_network_only() {
    let home = Home::new().await;
    let (id, secret) = made(&home, &["10.0.0.7/30"], &["read_audit"]).await;
    let listed = home.call(&home.owner, "GET /api/v1/services", None).await;
    assert_eq!(listed.json()["services"][0]["networks"], json!(["10.0.0.4/30"]));
    assert!(!String::from_utf8(listed.body).unwrap().contains("hkvs1."));
    let issued = asked(&home, HERE, &id, &secret).await;
    assert_eq!((issued.status, issued.header("cache-control")), (200, Some("no-store")));
    let body = issued.json();
    assert_eq!((&body["token_type"], &body["expires_in"], &body["scope"]), (&json!("Bearer"), &json!(900), &json!("read_audit")));
    assert!(body["access_token"].as_str().unwrap().starts_with("hkv1."));
    // By HTTP Basic too, and not in both places.
    let basic = |id: &str| format!("Basic {}", data_encoding::BASE64.encode(format!("{id}:{secret}").as_bytes()));
    let by_basic = home.ask("POST /oauth/token", &[FORM, ("authorization", &basic(&id))], b"grant_type=client_credentials").await;
    assert_eq!(by_basic.status, 200);
    let twice = format!("grant_type=client_credentials&client_secret={secret}");
    let twice = home.ask("POST /oauth/token", &[FORM, ("authorization", &basic(&id))], twice.as_bytes()).await;
    assert_eq!((twice.status, &twice.json()["error"]), (400, &json!("invalid_request")));
    // One answer for everything that is wrong; the audit knows better.
    let unknown = "0123456789abcdef0123456789abcdef";
    let mut answers = std::collections::BTreeSet::new();
    for (source, id, secret) in
        [(ELSEWHERE, id.as_str(), secret.as_str()), (HERE, &id, "hkvs1.wrong"), (HERE, unknown, &secret), (HERE, "../x", &secret)]
    {
        let refused = asked(&home, source, id, secret).await;
        assert_eq!((refused.status, &refused.json()["error"]), (401, &json!("invalid_client")), "{source} {id}");
        answers.insert(refused.body);
    }
    assert_eq!(answers.len(), 1);
    // Refusals are written beside the answer.
    let mut reasons = std::collections::BTreeSet::new();
    while reasons.len() < 3 {
        let log = home.call(&home.owner, "GET /api/v1/audit?limit=50", None).await.json();
        let refused = log["entries"].as_array().unwrap().iter().filter(|e| e["outcome"] == "denied").cloned().collect::<Vec<_>>();
        reasons = refused.iter().map(|e| e["reason"].as_str().unwrap().to_owned()).collect();
        tokio::task::yield_now().await;
    }
    assert_eq!(reasons.iter().map(String::as_str).collect::<Vec<_>>(), ["network_not_listed", "unknown", "wrong_secret"]);
}

#[tokio::test]
async fn the_token_endpoint_says_what_it_does_not_understand() {
    let home = Home::new().await;
    for (body, error) in [
        ("", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
    ] {
        let answer = home.ask("POST /oauth/token", &[FORM], body.as_bytes()).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(error)), "{body}");
    }
    assert_eq!(home.ask("POST /oauth/token", &[("content-type", "application/json")], b"{}").await.problem().0, 415);
    assert_eq!(home.ask("GET /oauth/token", &[], b"").await.problem().0, 405);
}

#[tokio::test]
async fn a_token_works_from_a_listed_address_only_whatever_a_header_claims() {
    let home = Home::new().await;
    let (id, secret) = made(&home, &["10.0.0.7"], &[]).await;
    let token = token(&home, &id, &secret).await;
    assert_eq!(get(&home, HERE, &token, &[]).await, 200);
    assert_eq!(get(&home, "::ffff:10.0.0.7", &token, &[]).await, 200, "the address is made canonical");
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "cf-connecting-ip", "true-client-ip"] {
        let claim = if header == "forwarded" { "for=10.0.0.7" } else { HERE };
        assert_eq!(get(&home, ELSEWHERE, &token, &[(header, claim)]).await, 401, "{header}");
        // Nor does a claim do harm to who comes from where it may.
        let other = if header == "forwarded" { "for=192.0.2.9" } else { ELSEWHERE };
        assert_eq!(get(&home, HERE, &token, &[(header, other)]).await, 200, "{header}");
    }
    let line = format!("PATCH /api/v1/services/{id}");
    let moved = home.call(&home.owner, &line, Some(json!({"networks": ["192.0.2.0/24"]}))).await;
    assert_eq!(moved.status, 200);
    assert_eq!(get(&home, HERE, &token, &[]).await, 401);
    assert_eq!(get(&home, ELSEWHERE, &token, &[]).await, 401, "what came from a network that went is over everywhere");
}

#[tokio::test]
async fn a_token_lives_a_quarter_of_an_hour_after_each_use_and_never_longer_than_twelve() {
    let home = Home::new().await;
    let (id, secret) = made(&home, &[HERE], &[]).await;
    let unused = token(&home, &id, &secret).await;
    let used = token(&home, &id, &secret).await;
    for _ in 0..51 {
        later(&home, 14 * MINUTE);
        assert_eq!(get(&home, HERE, &used, &[]).await, 200);
    }
    assert_eq!(get(&home, HERE, &unused, &[]).await, 401);
    // 51 × 14 minutes are six short of twelve hours.
    later(&home, 6 * MINUTE - 1);
    assert_eq!(get(&home, HERE, &used, &[]).await, 200);
    later(&home, 1);
    assert_eq!(get(&home, HERE, &used, &[]).await, 401);
    let again = token(&home, &id, &secret).await;
    later(&home, 15 * MINUTE - 1);
    assert_eq!(get(&home, HERE, &again, &[]).await, 200);
    later(&home, 15 * MINUTE);
    assert_eq!(get(&home, HERE, &again, &[]).await, 401);
    home.service.sweep_sessions().await.unwrap();
    assert_eq!(get(&home, HERE, &again, &[]).await, 401);
}

#[tokio::test]
async fn an_old_secret_and_its_tokens_end_with_a_new_one_and_all_of_it_with_the_account() {
    let home = Home::new().await;
    let (id, old) = made(&home, &[HERE], &[]).await;
    let before = token(&home, &id, &old).await;
    let renewed = home.call(&home.owner, &format!("POST /api/v1/services/{id}/secret"), None).await;
    assert_eq!(renewed.status, 201);
    let new = renewed.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!(get(&home, HERE, &before, &[]).await, 401);
    assert_eq!(asked(&home, HERE, &id, &old).await.status, 401);
    let after = token(&home, &id, &new).await;
    assert_eq!(home.call(&home.owner, &format!("DELETE /api/v1/services/{id}"), None).await.status, 204);
    assert_eq!(get(&home, HERE, &after, &[]).await, 401);
    assert_eq!(asked(&home, HERE, &id, &new).await.status, 401);
    for line in [format!("DELETE /api/v1/services/{id}"), format!("POST /api/v1/services/{id}/secret")] {
        assert_eq!(home.call(&home.owner, &line, None).await.problem().0, 404, "{line}");
    }
    assert_eq!(home.call(&home.owner, "GET /api/v1/services", None).await.json()["services"], json!([]));
    let log = home.call(&home.owner, "GET /api/v1/audit?limit=100", None).await;
    let log = String::from_utf8(log.body).unwrap();
    assert!(!log.contains("hkvs1.") && !log.contains("hkv1."), "no secret in the audit");
}

#[tokio::test]
async fn a_program_makes_members_and_guests_and_nobody_who_could_rule_the_house() {
    let home = Home::new().await;
    let (id, secret) = made(&home, &[HERE], &["create_users"]).await;
    let service = token(&home, &id, &secret).await;
    let new = |name: &str, role: &str| Some(json!({"username": name, "password": PASSWORD, "role": role}));
    for role in ["member", "guest"] {
        let added = home.call(&service, "POST /api/v1/users", new(role, role)).await;
        assert_eq!((added.status, &added.json()["role"]), (201, &json!(role)));
        home.service.sign_in_person(role, PASSWORD.to_owned().into(), HERE.parse().unwrap(), "test").await.unwrap();
    }
    assert_eq!(told(&home, "user.add").await["actor"], format!("service:{id}"));
    assert_eq!(home.call(&service, "POST /api/v1/users", new("eve", "owner")).await.problem().0, 403);
    for role in ["developer", "product_manager", "support"] {
        let body = json!({"username": "eve", "password": PASSWORD, "role": role, "brand": "acme", "networks": [HERE]});
        assert_eq!(home.call(&service, "POST /api/v1/users", Some(body)).await.problem().0, 403, "{role}");
        assert_eq!(home.call(&service, "POST /api/v1/users", new("eve", role)).await.problem().0, 422, "{role}");
    }
    for line in ["GET /api/v1/users", "GET /api/v1/audit", "GET /api/v1/services", "GET /metrics", "GET /api/v1/me", "GET /api/v1/support"]
    {
        assert_eq!(home.call(&service, line, None).await.problem().0, 403, "{line}");
    }
    // What an owner takes away is gone with the answer.
    let line = format!("PATCH /api/v1/services/{id}");
    assert_eq!(home.call(&home.owner, &line, Some(json!({"scopes": []}))).await.status, 200);
    assert_eq!(home.call(&service, "POST /api/v1/users", new("mallory", "guest")).await.problem().0, 403);
}

#[tokio::test]
async fn a_program_that_is_delisted_while_it_acts_leaves_no_account_behind() {
    let home = Home::new().await;
    let (id, secret) = made(&home, &[HERE], &["create_users"]).await;
    let service = home.actor(&token(&home, &id, &secret).await);
    let mut adding = std::pin::pin!(home.service.add_user(&service, super::new_user("late", Role::Guest)));
    assert!(futures_util::poll!(&mut adding).is_pending(), "the password is being hashed");
    let line = format!("PATCH /api/v1/services/{id}");
    assert_eq!(home.call(&home.owner, &line, Some(json!({"networks": [ELSEWHERE]}))).await.status, 200);
    assert!(adding.await.is_err());
    let users = home.call(&home.owner, "GET /api/v1/users", None).await.json();
    assert_eq!(users["users"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_program_imports_identities_of_trusted_brands_and_trusts_none() {
    let home = Home::new().await;
    let (id, secret) = made(&home, &[HERE], &["import_identities", "read_metrics", "read_audit"]).await;
    let service = token(&home, &id, &secret).await;
    let (_, file) = home.minted("lamp", 2);
    let (bytes, bearer) = (std::fs::read(file).unwrap(), format!("Bearer {service}"));
    let headers = [("content-type", "application/octet-stream"), ("authorization", bearer.as_str())];
    let taken = home.ask("POST /api/v1/batches", &headers, &bytes).await;
    assert_eq!((taken.status, &taken.json()["added"]), (201, &json!(2)));
    assert_eq!(told(&home, "registry.import").await["actor"], format!("service:{id}"));
    let trust = Some(json!({"fingerprint": "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA"}));
    assert_eq!(home.call(&service, "PUT /api/v1/brands/other", trust).await.problem().0, 403);
    assert_eq!(home.call(&service, "GET /metrics", None).await.status, 200);
    assert_eq!(home.call(&service, "GET /api/v1/audit", None).await.status, 200);
}

#[tokio::test]
async fn a_list_of_networks_is_checked_and_only_owners_make_services() {
    let home = Home::new().await;
    let member = home.person("mia", Role::Member).await;
    let new = |networks: Value| Some(json!({"name": "x", "networks": networks, "scopes": []}));
    assert_eq!(home.call(&member, "POST /api/v1/services", new(json!([]))).await.problem().0, 403);
    assert_eq!(home.call(&member, "POST /api/v1/services", new(json!(["nonsense"]))).await.problem().0, 403);
    for wrong in [json!(["0.0.0.0/0"]), json!(["::/0"]), json!(["example.com"]), json!(vec!["10.0.0.1"; 21])] {
        let refused = home.call(&home.owner, "POST /api/v1/services", new(wrong.clone())).await;
        assert_eq!(refused.problem().0, 422, "{wrong}");
        assert!(refused.json()["detail"].as_str().unwrap().starts_with("networks: "), "{wrong}");
    }
    for name in ["", " ", "a\nb", &"x".repeat(65)] {
        let body = json!({"name": name, "networks": [], "scopes": []});
        assert_eq!(home.call(&home.owner, "POST /api/v1/services", Some(body)).await.problem().0, 422, "{name:?}");
    }
    // From nowhere: it is there and cannot come.
    let (id, secret) = made(&home, &[], &[]).await;
    assert_eq!(asked(&home, HERE, &id, &secret).await.status, 401);
}

/// A connection to a gate over the home's service, from `ip`.
pub(super) async fn dial(broker: &Arc<Broker>, ip: &str, name: &str, token: &str) -> Result<Client<DuplexStream>, ()> {
    let (client, server) = tokio::io::duplex(16 * 1024);
    let peer = broker::Peer { ip: ip.parse().unwrap(), spki: None, certificate: None };
    tokio::spawn(broker.clone().serve(server, peer, CancellationToken::new()));
    Client::connect(client, &ConnectOptions::new("c").credentials(name, token)).await.map_err(|_| ())
}

#[tokio::test]
async fn a_live_connection_ends_with_the_time_of_its_token_and_goes_on_while_it_is_used() {
    let home = Home::new().await;
    let broker = Broker::new(home.service.clone(), broker::Config::default()).unwrap();
    home.service.connect(&broker);
    let (id, secret) = made(&home, &[HERE], &[]).await;
    let (name, token) = (format!("service:{id}"), token(&home, &id, &secret).await);
    assert!(dial(&broker, ELSEWHERE, &name, &token).await.is_err(), "its network is not listed");
    assert!(dial(&broker, HERE, &format!("service:{}", "0".repeat(32)), &token).await.is_err(), "the token of another");
    assert!(dial(&broker, HERE, "user:olivia", &token).await.is_err());
    assert!(dial(&broker, HERE, &name, &home.owner).await.is_err());
    let mut live = dial(&broker, HERE, &name, &token).await.unwrap();
    later(&home, 14 * MINUTE);
    live.ping().await.unwrap();
    later(&home, 14 * MINUTE);
    broker.end_stale(false).await;
    live.ping().await.unwrap();
    later(&home, 15 * MINUTE);
    // What is over stays over, whatever it sends before somebody has looked.
    live.ping().await.unwrap();
    assert_eq!(get(&home, HERE, &token, &[]).await, 401);
    broker.end_stale(false).await;
    assert!(live.ping().await.is_err(), "its token is over");
    assert!(dial(&broker, HERE, &name, &token).await.is_err());
}
