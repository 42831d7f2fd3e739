//! Releases from files: what is taken, and everything that is not.

use super::rig::{Fault, Rig};
use hearthkey::hub::{self, UpdateLedger, update_from_file};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn signed(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(".release");
    name.into()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

async fn refused(rig: &Rig, archive: &Path, because: &str) {
    let error = update_from_file(&rig.config, archive).await.unwrap_err();
    assert!(error.contains(because), "{error}");
    let versions = rig.config.data_dir.join("update/versions");
    let left: Vec<_> = fs::read_dir(versions).into_iter().flatten().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?} is left of what was refused");
    assert!(!rig.config.data_dir.join("update/order.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_genuine_release_for_this_machine_lies_ready_and_is_ordered() {
    let rig = Rig::new();
    let (release, runs) = update_from_file(&rig.config, &rig.release("7.1.0", Fault::None)).await.unwrap();
    assert_eq!((release.version.as_str(), release.rel, runs), ("7.1.0", 7_001_000, false));
    let mut supervisor = rig.supervisor();
    while supervisor.step().unwrap() {}
    assert_eq!(rig.ledger()["current"], "7.1.0");
    assert_eq!(supervisor.ledger().trial.as_ref().unwrap().by, "console");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_who_take_one_release_at_once_do_not_cut_each_other_off_and_what_was_left_of_killed_ones_goes() {
    let rig = Rig::new();
    let archive = rig.release("7.1.0", Fault::Slow);
    // Three that were killed: of this version, of another, and before they had anything.
    let versions = rig.config.data_dir.join("update/versions");
    fs::create_dir_all(versions.join(".7.1.0.new")).unwrap();
    fs::set_permissions(&rig.config.data_dir, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(versions.join(".7.1.0.new/hearthkey"), "half").unwrap();
    fs::create_dir_all(versions.join(".6.0.0.new/deeper")).unwrap();
    fs::write(versions.join(".5.0.0.new"), "").unwrap();
    let all = (0..6).map(|_| {
        let (config, archive) = (rig.config.clone(), archive.clone());
        tokio::spawn(async move { update_from_file(&config, &archive).await.map(|(release, _)| release.rel) })
    });
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), Ok(7_001_000));
    }
    let there: Vec<_> = fs::read_dir(&versions).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, ["7.1.0"]);
    let mut supervisor = rig.supervisor();
    while supervisor.step().unwrap() {}
    assert_eq!(rig.ledger()["current"], "7.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_altered_is_refused_to_the_byte() {
    let rig = Rig::new();
    let archive = rig.release("7.1.0", Fault::None);
    let length = fs::metadata(&archive).unwrap().len() as usize;
    flip(&archive, length / 2);
    refused(&rig, &archive, "is not the one that was signed").await;
    let archive = rig.release("7.1.0", Fault::None);
    flip(&signed(&archive), 60);
    refused(&rig, &archive, ".release: ").await;
    fs::remove_file(signed(&archive)).unwrap();
    refused(&rig, &archive, "belongs beside the archive").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_vendors_release_is_refused() {
    let (rig, other) = (Rig::new(), Rig::new());
    refused(&rig, &other.release("7.1.0", Fault::None), "the signature does not hold").await;
    let mut without = Rig::new();
    let archive = without.release("7.1.0", Fault::None);
    without.config.update.key = None;
    refused(&without, &archive, "update.key is not set").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_for_other_machines_or_databases_is_refused() {
    let rig = Rig::new();
    let archive = rig.release_as("7.1.0", Fault::None, |order| order.platform = "riscv64gc-unknown-linux-gnu".into());
    refused(&rig, &archive, "is for riscv64gc-unknown-linux-gnu").await;
    let archive = rig.release_as("7.2.0", Fault::None, |order| order.layouts = (hub::DATABASE_LAYOUT + 1, hub::DATABASE_LAYOUT + 2));
    refused(&rig, &archive, "reads databases of the layouts").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_release_is_refused_whatever_it_is_called() {
    let rig = Rig::new();
    refused(&rig, &rig.release("0.0.9", Fault::None), "is not newer").await;
    // A high version with an old place, and an old version in the place of a file that is called new.
    refused(&rig, &rig.release_as("9.9.9", Fault::None, |order| order.rel = Some(1)), "is not newer").await;
    let (old, new) = (rig.release("0.0.8", Fault::None), rig.release("9.0.0", Fault::None));
    fs::copy(&old, &new).unwrap();
    fs::copy(signed(&old), signed(&new)).unwrap();
    refused(&rig, &new, "version 0.0.8").await;
    // With the new one's word, the old archive is not what was signed.
    let new = rig.release("9.0.0", Fault::None);
    fs::copy(&old, &new).unwrap();
    refused(&rig, &new, "is not the one that was signed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_says_another_version_of_itself_is_refused() {
    let rig = Rig::new();
    refused(&rig, &rig.release("7.1.0", Fault::Impostor), "signed as version 7.1.0, and says: hearthkey 0.0.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_was_changed_where_it_lies_is_not_started() {
    let rig = Rig::new();
    update_from_file(&rig.config, &rig.release("7.1.0", Fault::None)).await.unwrap();
    let program = rig.config.data_dir.join("update/versions/7.1.0/hearthkey");
    fs::write(&program, "#!/bin/sh\nexit 0\n").unwrap();
    let mut supervisor = rig.supervisor();
    while supervisor.step().unwrap() {}
    let UpdateLedger { trial, last, .. } = supervisor.ledger().clone();
    assert!(trial.is_none());
    assert!(last.unwrap().reason.contains("is not the program that was signed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_for_an_old_version_that_lies_there_is_refused_by_the_supervisor_too() {
    let rig = Rig::new();
    update_from_file(&rig.config, &rig.release("7.1.0", Fault::None)).await.unwrap();
    let update = rig.config.data_dir.join("update");
    // Whoever has taken over the hub can write there.
    fs::write(update.join("ledger.json"), r#"{"highest": 8000000}"#).unwrap();
    let mut supervisor = rig.supervisor();
    while supervisor.step().unwrap() {}
    assert!(supervisor.ledger().last.as_ref().unwrap().reason.contains("is not newer than what has served here"));
    assert_eq!(rig.ledger()["current"], serde_json::Value::Null);
}
