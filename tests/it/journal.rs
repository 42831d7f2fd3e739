//! A database that is put back to an older copy, beside the journal that the hub has written since; and one that is damaged.

use crate::house::{Device, HERE, House, config};
use hearthkey::domain::account::Role;
use hearthkey::domain::audit::filter::Filter;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::hub::{Emergency, FoundBackup, Hub, is_damage};
use hearthkey::service::{Actor, Grant, Recipient, SessionToken};
use hearthkey::sim::mqtt::{Qos, Version};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};

const OLD: &str = "another long password";

/// Stops the hub, lets something happen to its files, and starts it again.
async fn restarted(mut house: House, meanwhile: impl FnOnce(PathBuf)) -> House {
    house.hub.shut_down().await;
    meanwhile(house.dir.path().join("hub"));
    house.hub = Hub::start(config(&house.dir)).await.unwrap();
    house
}

fn copy(dir: &Path) {
    std::fs::copy(dir.join("hub.redb"), dir.join("older.redb")).unwrap();
}

fn put_back(dir: &Path) {
    std::fs::copy(dir.join("older.redb"), dir.join("hub.redb")).unwrap();
}

fn owner(house: &House) -> Actor {
    house.hub.service().actor(&SessionToken::new(&house.owner_token), "test", HERE).unwrap()
}

fn told(house: &House, action: &str) -> Vec<String> {
    let filter = Filter { action: Some(action.into()), ..Filter::default() };
    let page = house.hub.service().audit_page(&Actor::console(), &filter, None, 50).unwrap();
    page.entries.into_iter().map(|entry| format!("{} {}", entry.event.reason, entry.event.detail)).collect()
}

/// Whether a token with this counter lets the device in as itself.
async fn is_let_in(house: &House, device: &Device, counter: u64) -> bool {
    match house.try_device(device, Version::V5, counter).await {
        Ok(mut client) => matches!(client.subscribe(&[(&device.topic("#"), Qos::AtMostOnce)]).await.as_deref(), Ok([0])),
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_put_back_to_an_older_copy_brings_nothing_back_that_has_ended_since() {
    let house = House::new().await;
    let (lamp, gone) = (house.device("lamp").await, house.device("thermostat").await);
    house.claim(&lamp).await;
    house.claim(&gone).await;
    let (mia, _) = house.person("mia", Role::Member).await;
    let (pete, _) = house.person("pete", Role::Member).await;
    for name in ["mia", "pete"] {
        let grant = Grant { to: Recipient::Person(name.into()), terms: Terms::of(Privilege::Operate) };
        house.hub.service().grant(&house.owner, &lamp.id, grant).await.unwrap();
    }
    for counter in 1..=3 {
        assert!(is_let_in(&house, &lamp, counter).await);
    }
    let house = restarted(house, |dir| copy(&dir)).await;
    let (service, olivia) = (house.hub.service().clone(), owner(&house));
    service.revoke(&olivia, &lamp.id, &mia.subject, false).await.unwrap();
    service.end_user(&olivia, pete.user().unwrap(), false).await.unwrap();
    service.remove_device(&olivia, &gone.id).await.unwrap();
    for counter in 4..=6 {
        assert!(is_let_in(&house, &lamp, counter).await);
    }
    let before = service.verify_audit().unwrap();
    assert_eq!(before.gaps, []);
    drop(service);

    let house = restarted(house, |dir| put_back(&dir)).await;
    let (service, olivia) = (house.hub.service().clone(), owner(&house));
    assert!(service.devices(&mia).unwrap().is_empty(), "the right has come back");
    assert!(service.sign_in_person("pete", OLD.to_owned().into(), HERE, "test").await.is_err(), "the account has come back");
    assert_eq!(service.devices(&olivia).unwrap().iter().map(|d| d.id.clone()).collect::<Vec<_>>(), std::slice::from_ref(&lamp.id));
    for used in 1..=7 {
        assert!(!is_let_in(&house, &lamp, used).await, "counter {used} was taken without a proof");
    }
    // The chain holds, and says what is missing in it.
    let (end, _) = before.newest.unwrap();
    let after = service.verify_audit().unwrap();
    assert_eq!(after.gaps.iter().map(|(_, to)| *to).collect::<Vec<_>>(), [end]);
    let replayed = told(&house, "hub.replay");
    assert!(
        replayed.len() == 1 && replayed[0].starts_with("older_database ") && replayed[0].contains("the audit lacks the entries"),
        "{replayed:?}"
    );
    drop(service);

    // Once: what was taken is not taken again.
    let house = restarted(house, |_| {}).await;
    assert_eq!(told(&house, "hub.replay").len(), 1);
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_has_ended_stays_ended_and_the_box_gives_a_code_for_a_new_one() {
    let house = House::new().await;
    let house = restarted(house, |dir| copy(&dir)).await;
    let (otto, _) = house.person("otto", Role::Owner).await;
    let olivia = owner(&house);
    house.hub.service().end_user(&otto, olivia.user().unwrap(), false).await.unwrap();
    let house = restarted(house, |dir| put_back(&dir)).await;
    let again = house.hub.service().sign_in_person("olivia", "correct horse battery".to_owned().into(), HERE, "test").await;
    assert!(again.is_err() && house.hub.setup_code.is_some());
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_started_again_and_again_takes_nothing_from_its_journal() {
    let mut house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    for counter in 1..=5 {
        assert!(is_let_in(&house, &lamp, counter).await);
        house = restarted(house, |_| {}).await;
    }
    assert!(told(&house, "hub.replay").is_empty());
    assert_eq!(house.hub.service().verify_audit().unwrap().gaps, []);
    // Nor does one whose journal is lost, or torn: it is made good from the database.
    house = restarted(house, |dir| std::fs::remove_file(dir.join("hub.journal")).unwrap()).await;
    let torn = |dir: PathBuf| {
        let bytes = std::fs::read(dir.join("hub.journal")).unwrap();
        std::fs::write(dir.join("hub.journal"), &bytes[..bytes.len() - 5]).unwrap();
    };
    house = restarted(house, torn).await;
    assert!(is_let_in(&house, &lamp, 6).await && told(&house, "hub.replay").is_empty());
    house.hub.shut_down().await;
}

/// What is done to a database file, by its name.
type Damage = fn(&mut Vec<u8>);
const DAMAGE: [(&str, Damage); 4] = [
    ("pages are overwritten", |bytes| bytes.iter_mut().skip(8192).step_by(512).for_each(|b| *b ^= 0xFF)),
    ("the second half is gone", |bytes| bytes.truncate(bytes.len() / 2)),
    ("it is something else", |bytes| bytes.fill(0x55)),
    ("it is empty", |bytes| bytes.clear()),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_database_is_damaged_says_so_over_https_and_lets_nobody_in() {
    let House { hub, dir, .. } = House::new().await;
    let file = dir.path().join("hub/hub.redb");
    hub.shut_down().await;
    let whole = std::fs::read(&file).unwrap();
    for (name, damage) in DAMAGE {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(&file, &bytes).unwrap();
        let why = Hub::start(config(&dir)).await.err().unwrap_or_else(|| panic!("{name}: it started"));
        assert!(is_damage(&why), "{name}: {why}");
        let backup = FoundBackup { place: "/media/usb".into(), made: "yesterday".into(), command: "hearthkey backup restore".into() };
        let emergency = Emergency::start(&config(&dir), &why, &[backup]).await.unwrap();
        assert!(emergency.addresses.mqtt.is_none() && emergency.addresses.mqtts.is_none());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap();
        let ask = |path: &str| client.get(format!("https://localhost:{}{path}", emergency.addresses.https.unwrap().port())).send();
        let (page, call) = (ask("/").await.unwrap(), ask("/api/v1/health").await.unwrap());
        assert_eq!((page.status().as_u16(), call.status().as_u16()), (503, 503));
        let (page, call) = (page.text().await.unwrap(), call.json::<Value>().await.unwrap());
        assert!(page.contains("hearthkey backup restore") && page.contains("hub.journal"), "{page}");
        assert_eq!(call["code"], "recovery_mode");
        emergency.shut_down().await;
        assert_eq!(std::fs::read(&file).unwrap_or_default().len(), bytes.len(), "{name}: the file is as it was");
    }
    // What was put right serves as before.
    std::fs::write(&file, &whole).unwrap();
    Hub::start(config(&dir)).await.unwrap().shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_stays_in_recovery_mode_until_it_is_told_to_stop() {
    let House { hub, dir, .. } = House::new().await;
    hub.shut_down().await;
    std::fs::write(dir.path().join("hub/hub.redb"), b"not a database").unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hearthkey"));
    command.env("HEARTHKEY_MDNS__ENABLED", "false").env("HEARTHKEY_BLUETOOTH__ENABLED", "false");
    command.args(["hub", "--announce-json", "--log", "off", "--data-dir"]).arg(dir.path().join("hub"));
    for listener in ["--https", "--http", "--mqtts", "--mqtt"] {
        command.args([listener, "127.0.0.1:0"]);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let said: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("it said `{line}`: {e}"));
    assert!(said["recovery_mode"].is_string() && said["https"].is_string() && said["mqtts"].is_null(), "{said}");
    let told = std::process::Command::new("kill").args(["-TERM", &child.id().unwrap().to_string()]).status().unwrap();
    assert!(told.success());
    let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
}
