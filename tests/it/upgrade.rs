//! What earlier versions have written opens in this one: for each version that was released, `tests/upgrade/<version>/` holds a
//! database, its journal and master key, and a full backup with an increment. And what a later version has written is refused, with the
//! reason.
//!
//! When a version is released: `cargo test --features sim,cloud --test it -- --ignored upgrade::make_upgrade_fixture`, and commit the directory.

use crate::house::{Device, HERE, House, config};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::domain::ids::DeviceId;
use hearthkey::hub::{
    Ask, Config, DATABASE_LAYOUT, Hub, NewBackup, Passphrase, RestoreOrder, Secrets, SystemBox, Target, ask_running, fetch_chain,
    is_damage, restore,
};
use hearthkey::service::{Actor, Grant, Recipient};
use hearthkey::sim::identity::{DeviceSecret, HubId};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Qos};
use hearthkey::sim::tls::{Address, Security, Stream, Trust, dial};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const PHRASE: &str = "seven geese cross the lake";
const PASSWORD: &str = "another long password";
const SHORT: Duration = Duration::from_secs(10);
/// Bytes that the files of a version may have together.
const MOST: u64 = 200_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade")
}

/// The directories of the versions that were released.
fn versions() -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(root()).unwrap().map(|e| e.unwrap().path()).filter(|path| path.is_dir()).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

/// The version's hub in a directory of its own, and what is known of it.
fn unpacked(version: &Path) -> (TempDir, Config, Value) {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    fs::create_dir(&config.data_dir).unwrap();
    let mut packed = flate2::read::GzDecoder::new(File::open(version.join("hub.redb.gz")).unwrap());
    std::io::copy(&mut packed, &mut File::create(config.data_dir.join("hub.redb")).unwrap()).unwrap();
    for name in ["hub.journal", "master.key"] {
        fs::copy(version.join(name), config.data_dir.join(name)).unwrap();
    }
    for (path, mode) in [(config.data_dir.clone(), 0o700), (config.data_dir.join("master.key"), 0o600)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let about = serde_json::from_slice(&fs::read(version.join("about.json")).unwrap()).unwrap();
    (dir, config, about)
}

/// The lamp of that home, as it was made.
async fn lamp(hub: &Hub, version: &Path, about: &Value, counter: u64) -> Client<Stream> {
    let of: HubId = about["hub"].as_str().unwrap().parse().unwrap();
    let keys = DeviceSecret::read(&version.join("lamp.secret")).unwrap().for_hub(of);
    let address: Address = hub.addresses.mqtts.unwrap().to_string().parse().unwrap();
    let connection = dial(&address, &Security { trust: Trust::FirstUse, client: None }, SHORT).await.unwrap();
    let password = keys.token(counter, &[7; 16], &connection.spki.unwrap());
    let options = ConnectOptions::new("lamp").credentials(about["lamp"].as_str().unwrap(), password);
    Client::connect(connection.stream, &options).await.unwrap()
}

async fn person(hub: &Hub, name: &str) -> Actor {
    let opened = hub.service().sign_in_person(name, PASSWORD.to_owned().into(), HERE, "test").await.unwrap();
    hub.service().actor(&opened.token, "test", HERE).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_of_every_released_version_is_the_same_home_in_this_one() {
    for version in versions() {
        let (_dir, config, about) = unpacked(&version);
        let bytes: u64 = fs::read_dir(&version).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < MOST, "{}: {bytes} bytes", version.display());
        let hub = Hub::start(config.clone()).await.unwrap();
        assert_eq!(json!(hub.identity().id.to_string()), about["hub"]);
        assert!(hub.setup_code.is_none());
        let id = DeviceId::parse(about["lamp"].as_str().unwrap()).unwrap();
        let (olga, mia, pete) = (person(&hub, "olga").await, person(&hub, "mia").await, person(&hub, "pete").await);
        let service = hub.service();
        assert_eq!(service.twin(&olga, &id).unwrap().view()["reported"]["brightness"], 42);
        assert!(service.twin(&mia, &id).is_ok() && service.twin(&pete, &id).is_err(), "rights are not as they were");
        let audit = service.verify_audit().unwrap();
        assert!(audit.entries >= about["audit"].as_u64().unwrap() && audit.gaps.is_empty());
        // The lamp goes on after the counter of its last sign-in, and not before.
        let mut client = lamp(&hub, &version, &about, about["counter"].as_u64().unwrap() + 1).await;
        let topic = format!("things/{id}/#");
        assert_eq!(client.subscribe(&[(&topic, Qos::AtLeastOnce)]).await.unwrap(), [1]);
        hub.shut_down().await;
        Hub::start(config).await.unwrap().shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_every_released_version_are_restored_by_this_one() {
    for version in versions() {
        let (_dir, of_then, about) = unpacked(&version);
        let files = vec![version.join("full.hkbk"), version.join("increment.hkbk")];
        for beside_its_journal in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut config = config(&dir);
            if beside_its_journal {
                fs::remove_file(of_then.data_dir.join("hub.redb")).unwrap();
                config.data_dir.clone_from(&of_then.data_dir);
            }
            let restored = restore(&config, Arc::new(SystemBox::new(&config.clock)), order(files.clone())).await.unwrap();
            assert_eq!((restored.report.backups, restored.report.review), (2, !beside_its_journal));
            let hub = Hub::start(config).await.unwrap();
            assert_eq!(json!(hub.identity().id.to_string()), about["hub"]);
            let id = DeviceId::parse(about["lamp"].as_str().unwrap()).unwrap();
            let olga = person(&hub, "olga").await;
            assert_eq!(hub.service().twin(&olga, &id).unwrap().view()["reported"]["brightness"], 42);
            // Who was put out after the backup is out where the journal lies.
            let pete = person(&hub, "pete").await;
            assert!(hub.service().twin(&pete, &id).is_err());
            assert_eq!(hub.service().twin(&person(&hub, "mia").await, &id).is_ok(), beside_its_journal);
            assert!(hub.service().verify_audit().is_ok());
            hub.shut_down().await;
        }
    }
}

fn order(files: Vec<PathBuf>) -> RestoreOrder {
    let secrets = Secrets { code: None, passphrase: Some(PHRASE.to_owned().into()) };
    RestoreOrder { files, secrets, set_aside: false, courier: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_version_has_written_is_refused_with_what_to_do_and_left_as_it_was() {
    let version = versions().pop().unwrap();
    let (_dir, config, _) = unpacked(&version);
    let file = config.data_dir.join("hub.redb");
    {
        let db = redb::Database::open(&file).unwrap();
        let txn = db.begin_write().unwrap();
        let mut row = vec![1];
        ciborium::into_writer(&json!({"version": DATABASE_LAYOUT + 1}), &mut row).unwrap();
        let table = redb::TableDefinition::<&[u8], &[u8]>::new("layout");
        txn.open_table(table).unwrap().insert(b"version".as_slice(), row.as_slice()).unwrap();
        txn.commit().unwrap();
    }
    let why = Hub::start(config.clone()).await.err().unwrap();
    assert!(is_damage(&why), "{why}");
    let (found, known) = (DATABASE_LAYOUT + 1, DATABASE_LAYOUT);
    assert!(why.to_string().contains(&format!("has layout {found}, this program knows up to {known}: install the newer version")), "{why}");

    let dir = tempfile::tempdir().unwrap();
    let config = crate::house::config(&dir);
    let later = dir.path().join("later.hkbk");
    let mut bytes = fs::read(version.join("full.hkbk")).unwrap();
    assert_eq!(&bytes[..6], b"hkbk1\n");
    bytes[4] = b'2';
    fs::write(&later, &bytes).unwrap();
    let refused = restore(&config, Arc::new(SystemBox::new(&config.clock)), order(vec![later])).await.unwrap_err().to_string();
    assert!(refused.contains("written by a newer version") && refused.contains("install that version"), "{refused}");
    assert!(!config.data_dir.join("hub.redb").exists());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes into the tree: once for each version that is released"]
async fn make_upgrade_fixture() {
    let to = root().join(env!("CARGO_PKG_VERSION"));
    fs::create_dir_all(root()).unwrap();
    fs::create_dir(&to).expect("there is one for this version already");
    let house = House::new().await;
    let folder = tempfile::tempdir().unwrap();
    let service = house.hub.service().clone();
    let target = Target::Folder { path: folder.path().display().to_string() };
    let passphrase = Some(Some(Passphrase(PHRASE.to_owned().into())));
    service.set_backups_by_console(NewBackup { target: Some(Some(target.clone())), passphrase, ..NewBackup::default() }).await.unwrap();
    let lamp: Device = house.device("lamp").await;
    house.claim(&lamp).await;
    let (olga, _) = house.person("olga", Role::Owner).await;
    let mut people = Vec::new();
    for name in ["mia", "pete"] {
        people.push(house.person(name, Role::Member).await.0);
        let grant = Grant { to: Recipient::Person(name.into()), terms: Terms::of(Privilege::Operate) };
        service.grant(&house.owner, &lamp.id, grant).await.unwrap();
    }
    let grant = Grant { to: Recipient::Person("olga".into()), terms: Terms::of(Privilege::Administer) };
    service.grant(&house.owner, &lamp.id, grant).await.unwrap();
    let data = house.dir.path().join("hub");
    let create = async || ask_running(&data, &Ask::CreateBackup { full: false }, |_| ()).await.unwrap().unwrap();
    create().await;
    let mut client = house.connect_device(&lamp).await;
    let update = lamp.topic("shadow/update");
    client.subscribe(&[(&format!("{update}/accepted"), Qos::AtLeastOnce)]).await.unwrap();
    client.publish(&Message::new(&*update, r#"{"state": {"reported": {"brightness": 42}}}"#, Qos::AtLeastOnce)).await.unwrap();
    client.receive(SHORT).await.unwrap().unwrap();
    create().await;
    // After the backups: so that the journal has something that they have not.
    service.revoke(&house.owner, &lamp.id, &people[1].subject, false).await.unwrap();
    assert!(service.twin(&olga, &lamp.id).is_ok());
    let about = json!({
        "hub": house.hub.identity().id.to_string(),
        "lamp": lamp.id.to_string(),
        "counter": lamp.next_counter() - 1,
        "audit": service.verify_audit().unwrap().entries,
    });
    drop((client, service));
    let elsewhere = tempfile::tempdir().unwrap();
    let files = fetch_chain(&config(&elsewhere), &target, None, elsewhere.path()).await.unwrap();
    for (file, name) in files.iter().zip(["full.hkbk", "increment.hkbk"]) {
        fs::copy(file, to.join(name)).unwrap();
    }
    let House { hub, dir: _dir, .. } = house;
    hub.shut_down().await;
    let mut packed = flate2::write::GzEncoder::new(File::create(to.join("hub.redb.gz")).unwrap(), flate2::Compression::best());
    std::io::copy(&mut File::open(data.join("hub.redb")).unwrap(), &mut packed).unwrap();
    packed.finish().unwrap();
    for name in ["hub.journal", "master.key"] {
        fs::copy(data.join(name), to.join(name)).unwrap();
    }
    fs::copy(&lamp.minted.secret, to.join("lamp.secret")).unwrap();
    fs::write(to.join("about.json"), format!("{about:#}\n")).unwrap();
}
