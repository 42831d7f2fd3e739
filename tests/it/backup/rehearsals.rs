//! Rehearsals of a restore that an owner asks for on the page of the hub that runs, or does beside it: who may, what is kept, and what is left.

use super::{PASSWORD, by_code, create, data_dir, lived_in, target};
use crate::house::House;
use hearthkey::domain::account::Role;
use hearthkey::hub::{Config, NewBackup, Passphrase, Rehearsal, fetch_chain, keep_rehearsal, rehearse};
use hearthkey::service::Change;
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

/// Asks for one; what it was answered.
async fn asked(house: &House, token: &str, body: Value) -> (u16, Value) {
    house.http("POST", "/backups/rehearsal", token, Some(body)).await
}

/// Waits for the end of the one that goes on; how it went.
async fn ended(house: &House, token: &str) -> Value {
    let mut changes = house.hub.service().changes();
    let looking = async {
        loop {
            let (status, view) = house.http("GET", "/backups", token, None).await;
            assert_eq!(status, 200, "{view}");
            if view["rehearsing"] == false {
                return view["rehearsal"].clone();
            }
            while !matches!(changes.recv().await, Ok(Change::Backup) | Err(_)) {}
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("the rehearsal ends")
}

fn audited(log: &Value) -> Vec<(&str, &str)> {
    let entries = log["entries"].as_array().unwrap().iter();
    entries.map(|entry| (entry["outcome"].as_str().unwrap(), entry["reason"].as_str().unwrap_or_default())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_rehearses_a_restore_on_the_page_and_how_it_went_is_kept() {
    let (house, _folder, code) = lived_in().await;
    let (_, token) = house.person("otto", Role::Owner).await;
    let (_, member) = house.person("max", Role::Member).await;
    let with = |more: Value| {
        let mut body = json!({"password": PASSWORD});
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        body
    };
    let good = with(json!({"code": code.to_string()}));

    // By owners alone, with the password, and what opens it, once.
    assert_eq!(asked(&house, &member, good.clone()).await.0, 403);
    assert_eq!(asked(&house, "", good.clone()).await.0, 401);
    for bad in [
        json!({"password": "wrong", "code": code.to_string()}),
        json!({"code": code.to_string()}),
        with(json!({})),
        with(json!({"code": "no code"})),
        with(json!({"code": code.to_string(), "passphrase": "and another thing"})),
        with(json!({"code": code.to_string(), "more": 1})),
    ] {
        let (status, problem) = asked(&house, &token, bad).await;
        assert_eq!(status, 422, "{problem}");
    }
    let (_, view) = house.http("GET", "/backups", &token, None).await;
    assert_eq!((&view["rehearsal"], &view["rehearsing"]), (&Value::Null, &json!(false)));

    // Without a backup it says so.
    assert_eq!(asked(&house, &token, good.clone()).await.0, 202);
    let none = ended(&house, &token).await;
    assert_eq!(none["good"], false);
    assert!(none["detail"].as_str().unwrap().contains("no good backup"), "{none}");

    create(&house, true).await;
    let made = create(&house, false).await;
    let (status, view) = asked(&house, &token, good.clone()).await;
    assert_eq!((status, &view["rehearsing"]), (202, &json!(true)), "{view}");
    let seen = ended(&house, &token).await;
    assert_eq!((&seen["good"], &seen["backup"], &seen["detail"]), (&json!(true), &made["name"], &json!("")), "{seen}");
    assert!(seen["at"].as_u64() >= seen["made_at"].as_u64() && seen["made_at"].is_u64() && seen["took_ms"].is_u64(), "{seen}");
    let proofs: Vec<(&str, bool)> =
        seen["proofs"].as_array().unwrap().iter().map(|proof| (proof["what"].as_str().unwrap(), proof["holds"] == true)).collect();
    assert_eq!(proofs, ["content", "accounts", "sign-in", "twins", "rights", "audit"].map(|what| (what, true)));
    assert!(!data_dir(&house).join("rehearsal").exists(), "it has the home's secrets in it");

    // Another code than that of the paper: what the paper is for is known now, and not on the day of the fire.
    let other = hearthkey::hub::RecoveryCode::from_bytes([9; 20]);
    assert_eq!(asked(&house, &token, with(json!({"code": other.to_string()}))).await.0, 202);
    let failed = ended(&house, &token).await;
    assert_eq!((&failed["good"], &failed["proofs"]), (&json!(false), &json!([])));
    assert!(failed["detail"].as_str().unwrap().contains("recovery code does not open"), "{failed}");
    assert!(!data_dir(&house).join("rehearsal").exists());
    let (_, log) = house.http("GET", "/audit?limit=50&action=backup.rehearse", &token, None).await;
    assert_eq!(audited(&log), [("denied", "failed"), ("done", ""), ("denied", "failed"), ("denied", "wrong_password")], "{log}");
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_opens_it_too_and_a_password_that_has_changed_since_is_told() {
    let (house, _folder, _) = lived_in().await;
    let (_, token) = house.person("otto", Role::Owner).await;
    let phrase = "seven geese cross the lake";
    let passphrase = Some(Some(Passphrase(phrase.to_owned().into())));
    house.hub.service().set_backups_by_console(NewBackup { passphrase, ..NewBackup::default() }).await.unwrap();
    create(&house, true).await;
    let change = json!({"current": PASSWORD, "new": "a password of another day"});
    let (status, answer) = house.http("PUT", "/me/password", &token, Some(change)).await;
    assert!(status < 300, "{status} {answer}");
    let (status, answer) = asked(&house, &token, json!({"password": "a password of another day", "passphrase": phrase})).await;
    assert_eq!(status, 202, "{answer}");
    let seen = ended(&house, &token).await;
    assert_eq!(seen["good"], false, "{seen}");
    let proofs = seen["proofs"].as_array().unwrap();
    let broken: Vec<&Value> = proofs.iter().filter(|proof| proof["holds"] == false).collect();
    assert_eq!((broken.len(), &broken[0]["what"]), (1, &json!("sign-in")), "{seen}");
    assert!(broken[0]["detail"].as_str().unwrap().contains("the password is the one of the day"), "{seen}");
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_beside_the_hub_is_kept_by_it_and_another_hubs_is_not() {
    let (house, folder, code) = lived_in().await;
    create(&house, true).await;
    let dir = tempfile::tempdir().unwrap();
    let beside = Config { data_dir: data_dir(&house), ..crate::house::config(&dir) };
    let files = fetch_chain(&beside, &target(folder.path()), None, dir.path()).await.unwrap();
    let order = Rehearsal { files: files.clone(), secrets: by_code(&code), person: None, scratch: dir.path().join("scratch") };
    let seen = rehearse(&beside, order).await.unwrap();
    assert!(keep_rehearsal(&beside, &files, &seen, 4_200).await);
    let (_, view) = house.http("GET", "/backups", &house.owner_token, None).await;
    let kept = &view["rehearsal"];
    assert_eq!((&kept["good"], &kept["took_ms"], &kept["by"]), (&json!(true), &json!(4_200), &json!("user:console")), "{view}");

    let (other, _folder, _) = lived_in().await;
    let there = Config { data_dir: data_dir(&other), ..beside };
    assert!(!keep_rehearsal(&there, &files, &seen, 1).await);
    assert_eq!(other.http("GET", "/backups", &other.owner_token, None).await.1["rehearsal"], Value::Null);
    house.hub.shut_down().await;
    other.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rehearsal_that_was_cut_off_has_left_is_gone_at_the_next_start() {
    let (house, _folder, _) = lived_in().await;
    let left = data_dir(&house).join("rehearsal/hub");
    let House { hub, dir: _keep, .. } = house;
    hub.shut_down().await;
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("hub.redb"), b"secrets").unwrap();
    let config =
        Config { data_dir: left.parent().unwrap().parent().unwrap().to_owned(), ..crate::house::config(&tempfile::tempdir().unwrap()) };
    let hub = hearthkey::hub::Hub::start(config).await.unwrap();
    assert!(!left.parent().unwrap().exists(), "it has the home's secrets in it");
    hub.shut_down().await;
}
