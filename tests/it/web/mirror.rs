//! The cloud and keys for use from away, as calls: who may make them, and what is answered.

use super::Home;
use hearthkey::domain::account::Role;
use serde_json::{Value, json};

fn cloud(consent: &[&str]) -> Value {
    let key = data_encoding::BASE64URL_NOPAD.encode(&[5; 32]);
    json!({"url": "https://cloud.example", "key": key, "region": "eu", "consent": consent})
}

#[tokio::test]
async fn only_owners_link_and_everybody_sees_how_it_stands() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    let none = home.call(&mia, "GET /api/v1/cloud", None).await.json();
    assert_eq!((&none["linked"], &none["state"]["phase"], &none["policy_age_ms"]), (&json!(false), &json!("off"), &json!(0)));
    for (line, body) in [
        ("PUT /api/v1/cloud", Some(cloud(&[]))),
        ("PATCH /api/v1/cloud", Some(json!({"consent": []}))),
        ("DELETE /api/v1/cloud", None),
        ("POST /api/v1/cloud/sync", None),
        ("POST /api/v1/cloud/look", Some(json!({"url": "https://cloud.example"}))),
        ("DELETE /api/v1/cloud/notices", None),
    ] {
        assert_eq!(home.call(&mia, line, body.clone()).await.status, 403, "{line}");
        assert_eq!(home.call("", line, body).await.status, 401, "{line}");
    }
    let looked = home.call(&home.owner, "POST /api/v1/cloud/look", Some(json!({"url": "https://cloud.example"}))).await;
    assert_eq!(looked.problem(), (502, "off".into()), "nobody carries the mirror here");
    assert_eq!(home.call(&home.owner, "POST /api/v1/cloud/sync", None).await.status, 409);
    let bundle = home.call(&home.owner, "PUT /api/v1/cloud", Some(cloud(&["bundle"]))).await;
    assert_eq!(bundle.problem(), (409, "recovery_code_first".into()));
    assert_eq!(home.call(&home.owner, "PUT /api/v1/cloud", Some(cloud(&["everything"]))).await.status, 422);
    let linked = home.call(&home.owner, "PUT /api/v1/cloud", Some(cloud(&["devices", "twins"]))).await;
    assert_eq!(linked.status, 200);
    let shown = linked.json();
    assert_eq!((&shown["linked"], &shown["consent"], &shown["region"]), (&json!(true), &json!(["devices", "twins"]), &json!("eu")));
    assert_eq!(shown["fingerprint"].as_str().map(str::len), Some(16));
    let changed = home.call(&home.owner, "PATCH /api/v1/cloud", Some(json!({"consent": ["requests"]}))).await.json();
    assert_eq!(changed["consent"], json!(["requests"]));
    assert!(changed["pending"]["audit"].is_u64() && home.call(&mia, "GET /api/v1/cloud", None).await.json()["pending"].is_null());
    assert_eq!(home.call(&home.owner, "POST /api/v1/cloud/sync", None).await.status, 202);
    assert_eq!(home.call(&home.owner, "DELETE /api/v1/cloud/notices", None).await.status, 204);
    let bad = home.call(&mia, "POST /api/v1/cloud/bulletin", Some(json!({"bulletin": "AAAA"}))).await;
    assert_eq!(bad.problem(), (422, "invalid".into()));
    assert_eq!(home.call(&home.owner, "DELETE /api/v1/cloud", None).await.status, 204);
    assert_eq!(home.call(&home.owner, "GET /api/v1/cloud", None).await.json()["linked"], false);
}

#[tokio::test]
async fn each_person_has_keys_of_their_own_for_use_from_away() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Guest).await;
    let key = Some(json!({"name": "phone", "days": 7}));
    assert_eq!(home.call(&mia, "POST /api/v1/me/away", key.clone()).await.status, 409, "there is no cloud");
    home.call(&home.owner, "PUT /api/v1/cloud", Some(cloud(&["requests"]))).await;
    let made = home.call(&mia, "POST /api/v1/me/away", key).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    assert!(made["token"].as_str().unwrap().starts_with("hka1.") && made["url"] == "https://cloud.example");
    let listed = home.call(&mia, "GET /api/v1/me/away", None).await.json();
    assert_eq!((&listed["keys"][0]["id"], &listed["keys"][0]["name"]), (&made["id"], &json!("phone")));
    assert!(listed["keys"][0].get("token").is_none());
    let path = format!("DELETE /api/v1/me/away/{}", made["id"].as_str().unwrap());
    assert_eq!(home.call(&home.owner, &path, None).await.status, 404);
    assert_eq!(home.call(&mia, &path, None).await.status, 204);
    assert_eq!(home.call(&mia, "GET /api/v1/me/away", None).await.json()["keys"], json!([]));
    assert_eq!(home.call(&mia, "POST /api/v1/me/away", Some(json!({"name": "phone", "days": 0}))).await.status, 422);
}
