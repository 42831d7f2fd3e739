//! Makers' files over HTTP, and certificates.

use super::{HERE, HOST, Home};
use hearthkey::domain::account::Role;
use hearthkey::web::Config;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const FILE: (&str, &str) = ("content-type", "application/octet-stream");

fn left_over(home: &Home) -> usize {
    let names = std::fs::read_dir(home.dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.starts_with("incoming-")).count()
}

#[tokio::test]
async fn an_owner_brings_a_batch_and_nothing_is_left_of_the_upload() {
    let home = Home::new().await;
    let (known, file) = home.minted("lamp", 3);
    let (bytes, bearer) = (std::fs::read(file).unwrap(), format!("Bearer {}", home.owner));
    let answer = home.ask("POST /api/v1/batches", &[FILE, ("authorization", &bearer)], &bytes).await;
    assert_eq!(answer.status, 201, "{:?}", answer.json());
    assert_eq!((&answer.json()["added"], &answer.json()["brand"]), (&json!(3), &json!("acme")));
    let claimed = home.call(&home.owner, "POST /api/v1/claims", Some(json!({"code": known[0].code, "name": "Desk"}))).await;
    assert_eq!((claimed.status, &claimed.json()["name"]), (201, &json!("Desk")));
    let damaged = home.ask("POST /api/v1/batches", &[FILE, ("authorization", &bearer)], &bytes[..bytes.len() / 2]).await;
    assert_eq!(damaged.problem(), (422, "invalid".into()));
    assert_eq!(left_over(&home), 0);
}

#[tokio::test]
async fn a_batch_of_a_member_or_of_another_type_or_too_long_is_refused() {
    let home = Home::with(Config { batch_bytes: 1000, ..Config::default() }).await;
    let member = format!("Bearer {}", home.person("mia", Role::Member).await);
    let owner = format!("Bearer {}", home.owner);
    assert_eq!(home.ask("POST /api/v1/batches", &[FILE, ("authorization", &member)], b"x").await.problem(), (403, "not_allowed".into()));
    assert_eq!(home.ask("POST /api/v1/batches", &[("authorization", &owner)], b"x").await.problem().0, 415);
    assert_eq!(home.ask("POST /api/v1/batches", &[FILE, ("authorization", &owner)], &[0; 1001]).await.problem().0, 413);
    assert_eq!(left_over(&home), 0);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let home = Home::new().await;
    let mut stream = home.connect_from(HERE);
    let head = format!(
        "POST /api/v1/batches HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {}\r\nContent-Type: {}\r\nContent-Length: 100000\r\n\r\nsome",
        home.owner, FILE.1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A file's coming and going tells nobody: there is only looking.
    let until = async |count: usize| {
        for _ in 0..1000 {
            if left_over(&home) == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} files instead of {count}", left_over(&home));
    };
    until(1).await;
    drop(stream);
    until(0).await;
}

#[tokio::test]
async fn who_administers_a_device_gets_a_certificate_for_it() {
    let home = Home::new().await;
    let id = home.claimed("lamp", &home.owner).await;
    let line = format!("POST /api/v1/devices/{id}/certificate");
    let issued = home.call(&home.owner, &line, Some(json!({"csr": "good"}))).await;
    assert_eq!((issued.status, issued.json()), (201, json!({"certificate": format!("for {id}"), "ca": "ca", "expires": 99})));
    let refused = home.call(&home.owner, &line, Some(json!({"csr": "bad"}))).await;
    assert_eq!(refused.problem(), (422, "invalid".into()));
    assert!(refused.json()["detail"].as_str().unwrap().starts_with("csr: "));
    let log = home.call(&home.owner, "GET /api/v1/audit?limit=1", None).await.json();
    assert_eq!(log["entries"][0]["action"], "certificate.issue");
}

#[tokio::test]
async fn a_brand_is_believed_by_an_owner_under_one_fingerprint() {
    let home = Home::new().await;
    let member = home.person("mia", Role::Member).await;
    let known = home.call(&home.owner, "GET /api/v1/brands", None).await.json()["brands"][0].clone();
    let trust = |fingerprint: &str| Some(json!({"fingerprint": fingerprint}));
    let print = known["fingerprint"].as_str().unwrap();
    assert_eq!(home.call(&home.owner, "PUT /api/v1/brands/acme", trust(print)).await.status, 200);
    assert_eq!(home.call(&member, "PUT /api/v1/brands/other", trust(print)).await.problem().0, 403);
    assert_eq!(home.call(&home.owner, "PUT /api/v1/brands/other", trust("nonsense")).await.problem().0, 422);
    assert_eq!(home.call(&member, "GET /api/v1/hub/request", None).await.problem().0, 403);
    let line = home.call(&home.owner, "GET /api/v1/hub/request", None).await;
    assert!(line.body.starts_with(b"HKREQ1."));
}
