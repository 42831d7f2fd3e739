//! The table of roles that is shown is the one that enforces: for every role and every scope, every action on the hub is
//! tried by a call, and what the table says is what the call answers.

use super::services::{made, token};
use super::{HERE, Home, PASSWORD};
use hearthkey::domain::account::Role;
use hearthkey::domain::authority::HubAction;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A call that the action opens, with a body; it fails for another reason for who may.
fn probe(action: HubAction) -> (&'static str, Option<Value>) {
    match action {
        HubAction::ClaimDevice => ("POST /api/v1/claims", Some(json!({"code": "0000-0000-0000-0000-0000-0"}))),
        HubAction::SeeAllDevices => ("POST /api/v1/devices/unknown/administration", None),
        HubAction::SuspendDevice => ("POST /api/v1/devices/unknown/suspend", None),
        HubAction::AddPeople => ("POST /api/v1/users", Some(json!({"username": "", "password": PASSWORD, "role": "guest"}))),
        HubAction::ManagePeople => ("GET /api/v1/users", None),
        HubAction::ReadAudit => ("GET /api/v1/audit", None),
        HubAction::ManageRegistry => ("GET /api/v1/brands", None),
        HubAction::ImportIdentities => ("POST /api/v1/vouchers", None),
        HubAction::ManageAccess => ("GET /api/v1/services", None),
        HubAction::ReadMetrics => ("GET /metrics", None),
        HubAction::LinkApps => ("POST /api/v1/me/tokens", Some(json!({"name": "", "devices": []}))),
    }
}

/// What the calls let `token` do.
async fn allowed(home: &Home, token: &str) -> BTreeSet<String> {
    let described = home.ask("GET /api/openapi.json", &[], b"").await.json();
    let mut all = BTreeSet::new();
    for action in HubAction::ALL {
        let (line, body) = probe(action);
        let status = if action == HubAction::ImportIdentities {
            let bearer = format!("Bearer {token}");
            home.ask(line, &[("authorization", &bearer), ("content-type", "application/octet-stream")], b"x").await.status
        } else {
            home.call(token, line, body).await.status
        };
        if action == HubAction::LinkApps && described["paths"].get("/api/v1/me/tokens").is_none() {
            continue;
        }
        assert!(status != 401 && status < 500, "{action:?}: {status}");
        if status != 403 {
            all.insert(word(action));
        }
    }
    all
}

fn word(action: HubAction) -> String {
    serde_json::to_value(action).unwrap().as_str().unwrap().to_owned()
}

/// What the table says, of those that could be tried.
fn said(home_table: &Value, tried_apps: bool) -> BTreeSet<String> {
    let all = home_table["hub"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned());
    all.filter(|a| tried_apps || a != "link_apps").collect()
}

#[tokio::test]
async fn what_the_table_says_of_each_role_and_scope_is_what_the_calls_do() {
    let home = Home::new().await;
    let table = home.call(&home.owner, "GET /api/v1/roles", None).await.json();
    let described = home.ask("GET /api/openapi.json", &[], b"").await.json();
    let apps = described["paths"].get("/api/v1/me/tokens").is_some();
    let roles = table["roles"].as_array().unwrap();
    assert_eq!(roles.len(), Role::ALL.len());
    for row in roles {
        let role = row["role"].as_str().unwrap();
        let vendor = row["vendor"] == true;
        let mut body = json!({"username": format!("a-{role}"), "password": PASSWORD, "role": role});
        if vendor {
            body["brand"] = json!("acme");
            body["networks"] = json!([HERE]);
        }
        assert_eq!(home.call(&home.owner, "POST /api/v1/users", Some(body)).await.status, 201, "{role}");
        let sign_in = json!({"username": format!("a-{role}"), "password": PASSWORD}).to_string();
        let opened = home.ask("POST /api/v1/sessions", &[("content-type", "application/json")], sign_in.as_bytes()).await;
        let token = opened.json()["token"].as_str().unwrap().to_owned();
        assert_eq!(allowed(&home, &token).await, said(row, apps), "{role}");
        assert_eq!(row["most_in_support"].is_null(), !vendor, "{role}");
    }
    let scopes = table["scopes"].as_array().unwrap();
    assert_eq!(scopes.len(), 4);
    for row in scopes {
        let scope = row["scope"].as_str().unwrap();
        let (id, secret) = made(&home, &[HERE], &[scope]).await;
        assert_eq!(allowed(&home, &token(&home, &id, &secret).await).await, said(row, apps), "{scope}");
    }
    let (id, secret) = made(&home, &[HERE], &[]).await;
    assert_eq!(allowed(&home, &token(&home, &id, &secret).await).await, BTreeSet::new());
}

#[tokio::test]
async fn what_the_table_says_of_each_privilege_is_what_the_policy_answers() {
    let home = Home::new().await;
    let table = home.call(&home.owner, "GET /api/v1/roles", None).await.json();
    let device = home.claimed("lamp", &home.owner).await;
    home.person("gus", Role::Guest).await;
    let privileges = table["privileges"].as_array().unwrap();
    assert_eq!(privileges.len(), 4);
    for row in privileges {
        let give = json!({"username": "gus", "privilege": row["privilege"]});
        assert_eq!(home.call(&home.owner, &format!("POST /api/v1/devices/{device}/bindings"), Some(give)).await.status, 200);
        for action in ["view", "operate", "operate_critical", "manage", "administer"] {
            let question = json!({"device_id": device, "action": action, "username": "gus"});
            let answer = home.call(&home.owner, "POST /api/v1/access/explain", Some(question)).await.json();
            let says = row["device"].as_array().unwrap().iter().any(|a| a == action);
            assert_eq!(answer["allowed"] == true, says, "{row} {action}");
        }
    }
}
