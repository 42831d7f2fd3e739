//! A hub under its supervisor: a new version is tried and stays, and each that does not serve is given up for the one before.

use super::rig::{Fault, Rig};
use crate::firmware_hub::{Made, image};
use crate::house::House;
use hearthkey::hub::{Hub, update_from_file, update_roll_back};
use hearthkey::service::ReleaseOrigin;
use serde_json::{Value, json};
use tokio::net::UnixDatagram;

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

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_quiet_moment_outlives_the_hubs_end() {
    let rig = Rig::new();
    let config = rig.config.clone();
    let house = House::with(move |settings| {
        *settings = config;
        settings.supervised = true;
    })
    .await;
    // A release for devices comes in, and takes its time.
    let file = Made::new(&house, 1, image(1, 100_000)).await.file(&house);
    let mut import = house.hub.service().begin_release_import(ReleaseOrigin::File(house.owner.clone())).unwrap();
    import.take(&file[..50_000]).await.unwrap();
    update_from_file(&rig.config, &rig.release("7.1.0", Fault::None)).await.unwrap();
    let waits = async || while house.http("GET", "/update", &house.owner_token, None).await.1["phase"] != "waiting" {};
    tokio::time::timeout(std::time::Duration::from_secs(30), waits()).await.expect("it waits");
    drop(import);
    let update = rig.config.data_dir.join("update");
    let (wish, order) = (update.join("wish.json"), update.join("order.json"));
    assert!(wish.exists() || order.exists(), "a power cut now would lose what was asked for");
    house.hub.shut_down().await;
    assert!(wish.exists() || order.exists());
    let running = rig.supervise();
    assert_eq!(rig.ended(1, &running).await["current"], "7.1.0");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_in_recovery_mode_is_left_alone_to_say_what_happened() {
    let mut rig = Rig::new();
    (rig.config.update.ready_s, rig.config.update.watchdog_s) = (2, 2);
    Hub::start(rig.config.clone()).await.unwrap().shut_down().await;
    std::fs::write(rig.config.data_dir.join("hub.redb"), b"this was a database").unwrap();
    let manager = rig.dir.path().join("manager");
    let ear = UnixDatagram::bind(&manager).unwrap();
    let mut command = rig.command();
    command.env("NOTIFY_SOCKET", &manager);
    let running = rig.supervise_by(command);
    // The service manager hears that there is nothing more to wait for, and then for longer than both deadlines that all live.
    let (mut ready, mut alive) = (false, 0);
    while alive < 12 {
        let mut said = vec![0; 4096];
        let n = ear.recv(&mut said).await.unwrap();
        let said = String::from_utf8_lossy(&said[..n]).into_owned();
        ready |= said.contains("READY=1");
        alive += if ready { u32::from(said.contains("WATCHDOG=1")) } else { 0 };
        let announced = running.heard.borrow().announced.len();
        assert!(announced <= 1, "it was ended, and started again");
    }
    assert!(running.announced()["recovery_mode"].as_str().unwrap().contains("is damaged"));
    running.stop().await;
}
