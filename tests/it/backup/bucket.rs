//! Backups in an S3 store of other people: made, listed, checked, restored, and taken away when they are too many; and a secret that is wrong.

use super::{PASSWORD, by_code, create, data_dir, lived_in, order};
use crate::house::{HERE, config};
use crate::matrix::python;
use hearthkey::hub::{Hub, NewBackup, Retention, SystemBox, Target, fetch_chain, list_backups, restore, verify_backups};
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The store as a process, which ends with its standard input.
async fn store() -> (Child, Value) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/s3/store.py");
    let python = tokio::task::spawn_blocking(|| python("s3")).await.unwrap();
    let mut command = Command::new(python);
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    (child, serde_json::from_str(&line).unwrap())
}

fn bucket(said: &Value, secret: &str) -> Target {
    serde_json::from_value(json!({
        "kind": "s3", "endpoint": said["url"], "region": said["region"], "bucket": said["bucket"], "prefix": "hearthkey/",
        "access_key": said["key"], "secret_key": secret, "path_style": true,
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_comes_back_from_a_bucket() {
    let (_store, said) = store().await;
    let (house, _folder, code) = lived_in().await;
    let set = async |secret: &str, retention: Option<Retention>| {
        let new = NewBackup { target: Some(Some(bucket(&said, secret))), retention, ..NewBackup::default() };
        house.hub.service().set_backups_by_console(new).await.unwrap();
    };
    set("another secret", None).await;
    let refused = hearthkey::hub::ask_running(&data_dir(&house), &hearthkey::hub::Ask::CreateBackup { full: true }, |_| ()).await;
    let refused = refused.unwrap().unwrap_err();
    assert!(refused.contains("refuses the access key") && !refused.contains("Signature"), "{refused}");
    let target = bucket(&said, said["secret"].as_str().unwrap());
    set(said["secret"].as_str().unwrap(), Some(Retention { daily: 1, weekly: 0, monthly: 0 })).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let config = config(&elsewhere);
    assert!(list_backups(&config, &target).await.unwrap().is_empty(), "what was refused has left something");
    assert_eq!(create(&house, true).await["full"], true);
    house.person("late", hearthkey::domain::account::Role::Member).await;
    assert_eq!(create(&house, false).await["full"], false);
    let checked = verify_backups(&config, &target, elsewhere.path()).await.unwrap();
    assert!(checked.len() == 2 && checked.iter().all(|backup| backup.good), "{checked:?}");
    // Of one day the newest stays: a full one takes the place of what was before.
    assert_eq!(create(&house, true).await["full"], true);
    let listed = list_backups(&config, &target).await.unwrap();
    assert!(listed.len() == 1 && listed[0].good, "{listed:?}");
    let id = house.hub.identity().id;
    house.hub.shut_down().await;
    let files = fetch_chain(&config, &target, None, elsewhere.path()).await.unwrap();
    let restored = restore(&config, Arc::new(SystemBox::new(&config.clock)), order(files, by_code(&code))).await.unwrap();
    assert_eq!(restored.report.hub, id);
    let hub = Hub::start(config).await.unwrap();
    assert!(hub.service().sign_in_person("late", PASSWORD.to_owned().into(), HERE, "test").await.is_ok());
    hub.shut_down().await;
}
