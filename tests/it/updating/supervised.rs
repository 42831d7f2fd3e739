//! A hub under its supervisor: a new version is tried and stays, and each that does not serve is given up for the one before.

use super::rig::{Fault, Rig};
use hearthkey::hub::{update_from_file, update_roll_back};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_hub_becomes_another_version_and_goes_back_when_asked() {
    let rig = Rig::new();
    let running = rig.supervise();
    let first = running.serving().await;
    let (_, runs) = update_from_file(&rig.config, &rig.release("7.1.0", Fault::None)).await.unwrap();
    assert!(runs, "the hub is asked, and not overrun");
    let ledger = rig.ended(1, &running).await;
    assert_eq!(ledger["ledger"]["last"]["ended"], "updated", "{ledger}");
    assert_eq!((&ledger["current"], &ledger["last_good"]), (&json!("7.1.0"), &json!("7.1.0")));
    assert_eq!(ledger["ledger"]["highest"], 7_001_000);
    let second = running.serving().await;
    assert_ne!(second.pid, first.pid);
    // The same once more is nothing new, and an older one neither.
    for version in ["7.1.0", "7.0.9"] {
        let error = update_from_file(&rig.config, &rig.release(version, Fault::None)).await.unwrap_err();
        assert!(error.contains("is not newer"), "{error}");
    }
    assert!(update_roll_back(&rig.config).await.unwrap());
    let ledger = rig.ended(2, &running).await;
    assert_eq!((&ledger["current"], &ledger["ledger"]["last"]["ended"]), (&Value::Null, &json!("rolled_back")));
    assert_ne!(running.serving().await.pid, second.pid);
    // What has served is not taken again.
    let error = update_from_file(&rig.config, &rig.release("7.1.0", Fault::None)).await.unwrap_err();
    assert!(error.contains("has served here"), "{error}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_only_tried_leaves_the_way_back_as_it_was() {
    let rig = Rig::new();
    let running = rig.supervise();
    running.serving().await;
    for (number, version, fault) in [(1, "7.1.0", Fault::None), (2, "7.2.0", Fault::Crash)] {
        update_from_file(&rig.config, &rig.release(version, fault)).await.unwrap();
        assert_eq!(rig.ended(number, &running).await["current"], "7.1.0");
        running.serving().await;
    }
    assert!(update_roll_back(&rig.config).await.unwrap());
    let ledger = rig.ended(3, &running).await;
    assert_eq!((&ledger["current"], &ledger["ledger"]["last"]["ended"]), (&Value::Null, &json!("rolled_back")));
    running.serving().await;
    assert!(!rig.config.data_dir.join("update/versions/7.2.0").exists(), "what failed is taken away");
    running.stop().await;
}

async fn is_given_up(fault: Fault, because: &str) {
    let rig = Rig::new();
    let running = rig.supervise();
    let before = running.serving().await;
    update_from_file(&rig.config, &rig.release("7.1.0", fault)).await.unwrap();
    let ledger = rig.ended(1, &running).await;
    let last = &ledger["ledger"]["last"];
    assert_eq!((&ledger["current"], &last["ended"]), (&Value::Null, &json!("rolled_back")), "{ledger}");
    assert!(last["reason"].as_str().unwrap().contains(because), "{last}");
    let after = running.serving().await;
    assert_ne!(after.pid, before.pid);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_ends_at_once_is_given_up() {
    is_given_up(Fault::Crash, "exit status: 7").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_hangs_is_given_up() {
    is_given_up(Fault::Hang, "did not say within").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_never_says_that_it_serves_is_given_up() {
    is_given_up(Fault::Mute, "did not say within").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_doctor_says_no_is_given_up() {
    is_given_up(Fault::Unwell, "the twins do not answer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_leaves_another_database_is_given_up_and_the_database_of_before_comes_back() {
    is_given_up(Fault::Migrate, "exit status: 7").await;
}
