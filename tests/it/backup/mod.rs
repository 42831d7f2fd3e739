//! Backups of a real hub: made while it runs, restored on another box, rehearsed; what is refused; and what a sudden death
//! in the middle of one leaves.

mod bucket;
mod rehearsals;

use crate::durability::Process;
use crate::house::{House, config};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::hub::{
    Ask, Hub, NewBackup, RecoveryCode, Rehearsal, RestoreError, RestoreOrder, Secrets, SystemBox, Target, ask_running, fetch_chain,
    list_backups, rehearse, restore,
};
use hearthkey::service::{Grant, Recipient, SessionToken};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const PASSWORD: &str = "another long password";

/// A house with a code, a lamp that mia may use, and a folder for backups.
async fn lived_in() -> (House, TempDir, RecoveryCode) {
    let house = House::new().await;
    let service = house.hub.service().clone();
    let (_, token) = house.person("olga", Role::Owner).await;
    let olga = service.actor(&SessionToken::new(&token), "test", crate::house::HERE).unwrap();
    let made = service.make_home_code(&olga, &SessionToken::new(&token), PASSWORD.to_owned().into()).await.unwrap();
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    house.person("mia", Role::Member).await;
    let grant = Grant { to: Recipient::Person("mia".into()), terms: Terms::of(Privilege::Operate) };
    service.grant(&house.owner, &lamp.id, grant).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let new = NewBackup { target: Some(Some(target(folder.path()))), ..NewBackup::default() };
    service.set_backups_by_console(new).await.unwrap();
    (house, folder, RecoveryCode::parse(&made.code).unwrap())
}

fn target(folder: &Path) -> Target {
    Target::Folder { path: folder.display().to_string() }
}

fn data_dir(house: &House) -> PathBuf {
    house.dir.path().join("hub")
}

async fn create(house: &House, full: bool) -> Value {
    let ask = Ask::CreateBackup { full };
    ask_running(&data_dir(house), &ask, |_| {}).await.expect("a hub runs").expect("a backup is made")
}

fn by_code(code: &RecoveryCode) -> Secrets {
    Secrets { code: Some(code.clone()), passphrase: None }
}

fn order(files: Vec<PathBuf>, secrets: Secrets) -> RestoreOrder {
    RestoreOrder { files, secrets, set_aside: false, courier: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_that_burns_down_is_the_same_house_from_its_backup() {
    let (house, folder, code) = lived_in().await;
    let first = create(&house, false).await;
    assert_eq!(first["full"], true, "{first}");
    house.person("late", Role::Member).await;
    let second = create(&house, false).await;
    assert_eq!(second["full"], false, "{second}");
    let id = house.hub.identity().id;
    house.hub.shut_down().await;

    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let files = fetch_chain(&config, &target(folder.path()), None, dir.path()).await.unwrap();
    assert_eq!(files.len(), 2);
    let rehearsal = Rehearsal {
        files: files.clone(),
        secrets: by_code(&code),
        person: Some(("mia".into(), PASSWORD.to_owned().into())),
        scratch: dir.path().join("scratch"),
    };
    let seen = rehearse(&config, rehearsal).await.unwrap();
    assert!(seen.holds(), "{:?}", seen.proofs);
    assert!(seen.proofs.iter().any(|p| p.what == "sign-in") && seen.proofs.iter().any(|p| p.what == "audit"));
    assert!(!dir.path().join("scratch").exists());

    let source = Arc::new(SystemBox::new(&config.clock));
    let restored = restore(&config, source, order(files, by_code(&code))).await.unwrap();
    assert_eq!((restored.report.hub, restored.report.epoch, restored.report.review), (id, 2, true));
    let hub = Hub::start(config).await.unwrap();
    assert_eq!(hub.identity().id, id);
    let late = hub.service().sign_in_person("late", PASSWORD.to_owned().into(), crate::house::HERE, "test").await;
    assert!(late.is_ok(), "who came between the two is known");
    assert!(hub.service().verify_audit().is_ok());
    assert!(*hub.service().review().borrow(), "only owners' rights stand until somebody has looked");
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_right_is_refused_and_leaves_nothing_that_could_start() {
    let (house, folder, code) = lived_in().await;
    create(&house, true).await;
    create(&house, false).await;
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let files = fetch_chain(&config, &target(folder.path()), None, dir.path()).await.unwrap();
    let attempt = async |files: Vec<PathBuf>, secrets: Secrets| {
        let source = Arc::new(SystemBox::new(&config.clock));
        let refused = restore(&config, source, order(files, secrets)).await.unwrap_err();
        assert!(!config.data_dir.join("hub.redb").exists() && !config.data_dir.join("hub.redb.new").exists());
        refused.to_string()
    };
    let wrong = RecoveryCode::from_bytes([9; 20]);
    assert!(attempt(files.clone(), by_code(&wrong)).await.contains("recovery code does not open"));
    assert!(attempt(vec![files[1].clone()], by_code(&code)).await.contains("is missing"));
    let phrase = Secrets { code: None, passphrase: Some("seven geese cross the lake".to_owned().into()) };
    assert!(attempt(files.clone(), phrase).await.contains("without a passphrase"));
    let whole = std::fs::read(&files[0]).unwrap();
    let copy = dir.path().join("copy.hkbk");
    for (at, said) in [(whole.len() / 2, "breaks off"), (whole.len() - 1, "breaks off"), (3, "")] {
        std::fs::write(&copy, &whole[..at]).unwrap();
        assert!(attempt(vec![copy.clone()], by_code(&code)).await.contains(said), "{at}");
    }
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    std::fs::write(&copy, &changed).unwrap();
    assert!(attempt(vec![copy.clone()], by_code(&code)).await.contains("damaged"));
    // Where there is a hub, it stays as it is.
    let taken = hearthkey::hub::Config { data_dir: data_dir(&house), ..config.clone() };
    let source = Arc::new(SystemBox::new(&taken.clock));
    let refused = restore(&taken, source.clone(), order(files.clone(), by_code(&code))).await.unwrap_err();
    assert!(matches!(refused, RestoreError::HasHub(_)), "{refused}");
    let running = RestoreOrder { set_aside: true, ..order(files.clone(), by_code(&code)) };
    assert!(restore(&taken, source.clone(), running).await.unwrap_err().to_string().contains("in use"));
    // With its journal beside it, a hub that is put back needs no review: what was revoked since is known.
    house.hub.shut_down().await;
    // Nor does what else belongs to a hub stand in the way: its versions, and the socket of one that died.
    std::fs::create_dir_all(taken.data_dir.join("update/versions")).unwrap();
    std::fs::write(taken.data_dir.join("health.sock"), b"").unwrap();
    // But a version that is being tried does: its way back would put its own copy over what is restored.
    let ledger = taken.data_dir.join("update/ledger.json");
    std::fs::write(&ledger, json!({"trial": {"version": "9.0.0", "rel": 9, "by": "console"}}).to_string()).unwrap();
    let tried = RestoreOrder { set_aside: true, ..order(files.clone(), by_code(&code)) };
    assert!(matches!(restore(&taken, source.clone(), tried).await.unwrap_err(), RestoreError::Trying(_)));
    std::fs::remove_file(ledger).unwrap();
    let aside = RestoreOrder { set_aside: true, ..order(files, by_code(&code)) };
    let restored = restore(&taken, source, aside).await.unwrap();
    assert!(restored.set_aside.is_some() && restored.replayed.is_some());
    assert!(!restored.report.review);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_sets_and_orders_backups_with_the_password_again() {
    let (house, folder, _) = lived_in().await;
    let (_, token) = house.person("otto", Role::Owner).await;
    let (_, guest) = house.person("gina", Role::Guest).await;
    let settings = json!({"password": PASSWORD, "retention": {"daily": 1, "weekly": 0, "monthly": 0}, "schedule": {"minute": 210, "every_days": 1, "full_every_days": 7}});
    assert_eq!(house.http("PUT", "/backup", &guest, Some(settings.clone())).await.0, 403);
    let wrong = json!({"password": "wrong", "schedule": null});
    assert_eq!(house.http("PUT", "/backup", &token, Some(wrong)).await.0, 422);
    let (status, view) = house.http("PUT", "/backup", &token, Some(settings)).await;
    assert_eq!((status, &view["target"]["kind"]), (200, &json!("folder")), "{view}");
    let relative = json!({"password": PASSWORD, "target": {"kind": "folder", "path": "here"}});
    assert_eq!(house.http("PUT", "/backup", &token, Some(relative)).await.0, 422);
    let mut run = house.hub.service().backup_run();
    let (status, _) = house.http("POST", "/backups", &token, Some(json!({"password": PASSWORD}))).await;
    assert_eq!(status, 202);
    run.wait_for(|run| run.ended == 1).await.unwrap();
    let (_, view) = house.http("GET", "/backups", &token, None).await;
    assert_eq!(view["backups"][0]["good"], true, "{view}");
    assert_eq!(view["failed"], Value::Null);
    // A folder that is gone is told with what to do.
    std::fs::remove_dir_all(folder.path()).unwrap();
    std::fs::write(folder.path(), b"a file now").unwrap();
    let failed = ask_running(&data_dir(&house), &Ask::CreateBackup { full: false }, |_| {}).await.unwrap().unwrap_err();
    assert!(!failed.is_empty());
    let (_, view) = house.http("GET", "/backups", &token, None).await;
    assert_eq!(view["failed"]["detail"], json!(failed));
    std::fs::remove_file(folder.path()).unwrap();
    std::fs::create_dir(folder.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_dies_in_the_middle_leaves_no_half_file_that_counts_as_a_backup() {
    let (house, folder, code) = lived_in().await;
    let dir = data_dir(&house);
    let House { hub, dir: keep, .. } = house;
    hub.shut_down().await;
    for round in 0..4u32 {
        let process = Process::start(&dir).await;
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let asking = {
            let dir = dir.clone();
            tokio::spawn(async move { ask_running(&dir, &Ask::CreateBackup { full: true }, |_| _ = told.send(())).await })
        };
        // Somewhere between its beginning and its end.
        for _ in 0..=round {
            if heard.recv().await.is_none() {
                break;
            }
        }
        process.die().await;
        let _ = asking.await;
        let free = tempfile::tempdir().unwrap();
        for backup in list_backups(&config(&free), &target(folder.path())).await.unwrap() {
            assert!(backup.good, "{backup:?}");
        }
    }
    let process = Process::start(&dir).await;
    ask_running(&dir, &Ask::CreateBackup { full: true }, |_| {}).await.unwrap().unwrap();
    process.die().await;
    let left: Vec<String> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(left.iter().all(|name| !name.ends_with(".part")), "{left:?}");
    let free = tempfile::tempdir().unwrap();
    let config = config(&free);
    let files = fetch_chain(&config, &target(folder.path()), None, free.path()).await.unwrap();
    let rehearsal = Rehearsal { files, secrets: by_code(&code), person: None, scratch: free.path().join("scratch") };
    assert!(rehearse(&config, rehearsal).await.unwrap().holds());
    drop(keep);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_backups_are_switched_off_nobody_waits_for_one() {
    let house = House::with(|config| config.backup.enabled = false).await;
    let folder = tempfile::tempdir().unwrap();
    let new = NewBackup { target: Some(Some(target(folder.path()))), ..NewBackup::default() };
    house.hub.service().set_backups_by_console(new).await.unwrap();
    let body = json!({"password": "correct horse battery"});
    let (status, problem) = house.http("POST", "/backups", &house.owner_token, Some(body)).await;
    assert!(status == 409 && problem["detail"].as_str().unwrap().contains("switched off"), "{status}: {problem}");
    house.hub.shut_down().await;
}
