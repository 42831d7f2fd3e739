//! `hearthkey recover`, killed at any moment, from a file and through a cloud: no new hub ever begins where it was cut off, it is repeated with
//! success, and what stands there then is the one hub that was.

use super::{chance, rounds, tell};
use crate::durability::Process;
use crate::house::{HERE, House, HouseOptions, config};
use crate::uplink::cloud::Cloud;
use crate::uplink::usual;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::domain::mirror::wire::Consent;
use hearthkey::hub::{Config, Hub};
use hearthkey::service::{Grant, NewLink, Recipient};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const LAMPS: u64 = 30;
const PASSWORD: &str = "correct horse battery";

/// What is left of a home whose hub is gone.
struct Ruin {
    cloud: Arc<Cloud>,
    hub: String,
    code: String,
    bundle: PathBuf,
    lamp: hearthkey::domain::ids::DeviceId,
    /// The directory of the hub that is gone.
    dir: TempDir,
}

impl Ruin {
    async fn new() -> Ruin {
        let cloud = Cloud::start().await;
        let house = House::build(HouseOptions { set: Box::new(usual(&cloud)), ..HouseOptions::default() }).await;
        let lamps = house.devices("lamp", LAMPS).await;
        for lamp in &lamps {
            house.claim(lamp).await;
        }
        let (pete, _) = house.person("pete", Role::Member).await;
        let grant = Grant { to: Recipient::Person("pete".into()), terms: Terms::of(Privilege::Operate) };
        house.hub.service().grant(&house.owner, &lamps[0].id, grant).await.unwrap();
        let (status, made) = house.http("POST", "/recovery", &house.owner_token, Some(json!({"password": PASSWORD}))).await;
        assert_eq!(status, 201, "{made}");
        let new = NewLink {
            url: cloud.url(),
            key: data_encoding::BASE64URL_NOPAD.encode(&cloud.public()),
            region: "eu".into(),
            consent: BTreeSet::from([Consent::Devices, Consent::People, Consent::Bundle]),
            brands: Vec::new(),
            code: String::new(),
        };
        house.hub.service().link_cloud(&house.owner, new).await.unwrap();
        cloud.until("a bundle", |seen| seen.method == "PUT" && seen.path.ends_with("/bundle")).await;
        let bundle = house.dir.path().join("bundle");
        std::fs::write(&bundle, house.hub.service().take_bundle(&house.owner).await.unwrap()).unwrap();
        // After the bundle: it stands in the journal, and at the cloud.
        house.hub.service().revoke(&house.owner, &lamps[0].id, &pete.subject, false).await.unwrap();
        cloud.until("the mark", |seen| seen.is_sync() && !seen.sync().revoke.is_empty()).await;
        let House { hub, dir, .. } = house;
        let id = hub.identity().id.to_string();
        hub.shut_down().await;
        Ruin { cloud, hub: id, code: made["code"].as_str().unwrap().to_owned(), bundle, lamp: lamps[0].id.clone(), dir }
    }

    /// A new box, with the journal of the old one if somebody has saved it.
    fn place(&self, by_cloud: bool, with_journal: bool) -> (TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir);
        usual(&self.cloud)(&mut config);
        // Whose home was recovered through its cloud is not recovered from a file at the same time.
        config.cloud.enabled = by_cloud;
        if with_journal {
            std::fs::create_dir(&config.data_dir).unwrap();
            std::fs::copy(self.dir.path().join("hub/hub.journal"), config.data_dir.join("hub.journal")).unwrap();
            std::fs::set_permissions(&config.data_dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        }
        std::fs::write(dir.path().join("hub.toml"), toml::to_string(&config).unwrap()).unwrap();
        (dir, config)
    }

    /// `hearthkey recover` as a process, which is killed after so long; whether it had come to its end, or why not.
    async fn recover(&self, dir: &TempDir, by_cloud: bool, after: Option<Duration>) -> Result<bool, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearthkey"));
        command.args(["recover", "--hub", &self.hub, "--config"]).arg(dir.path().join("hub.toml"));
        if by_cloud {
            command.args(["--cloud", &self.cloud.url()]);
        } else {
            command.arg("--bundle").arg(&self.bundle);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(format!("{}\n", self.code).as_bytes()).await;
        drop(stdin);
        if let Some(after) = after
            && tokio::time::timeout(after, child.wait()).await.is_err()
        {
            child.kill().await.unwrap();
            return Ok(false);
        }
        let done = child.wait_with_output().await.unwrap();
        if done.status.success() { Ok(true) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    }

    /// The hub that stands there is the one that was, and what was revoked is not back.
    async fn check(&self, config: &Config) {
        let hub = Hub::start(config.clone()).await.unwrap();
        assert_eq!((hub.identity().id.to_string(), hub.setup_code.is_none()), (self.hub.clone(), true));
        let sign_in = async |name: &str, password: &str| {
            let opened = hub.service().sign_in_person(name, password.to_owned().into(), HERE, "test").await.unwrap();
            hub.service().actor(&opened.token, "test", HERE).unwrap()
        };
        let owner = sign_in("olivia", PASSWORD).await;
        assert_eq!(hub.service().devices(&owner).unwrap().len() as u64, LAMPS);
        let pete = sign_in("pete", "another long password").await;
        assert!(hub.service().twin(&pete, &self.lamp).is_err(), "what was revoked is back");
        hub.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_is_killed_anywhere_is_repeated_and_there_is_one_hub_then_and_no_new_one() {
    let (mut chance, rounds) = (chance(), rounds(2));
    let ruin = Ruin::new().await;
    let mut whole = [0, 0];
    for by_cloud in [false, true] {
        let (dir, config) = ruin.place(by_cloud, by_cloud);
        let began = Instant::now();
        assert_eq!(ruin.recover(&dir, by_cloud, None).await, Ok(true));
        whole[usize::from(by_cloud)] = began.elapsed().as_micros() as u64;
        ruin.check(&config).await;
    }
    let (mut cut, mut refused) = (0, 0);
    for round in 0..rounds {
        let (by_cloud, with_journal) = (round % 2 == 1, chance.percent(50));
        let (dir, config) = ruin.place(by_cloud, with_journal);
        let at = format!("round {round}, by cloud: {by_cloud}, with journal: {with_journal}");
        let mut done = false;
        for _ in 0..=chance.below(2) {
            let after = Duration::from_micros(chance.next() % whole[usize::from(by_cloud)]);
            match ruin.recover(&dir, by_cloud, Some(after)).await {
                Ok(ended) => done |= ended,
                // It had come to its end just before it was killed, and nothing is put over it.
                Err(why) => assert!(config.data_dir.join("hub.redb").exists() && why.contains("is not empty"), "{at}: {why}"),
            }
            done |= config.data_dir.join("hub.redb").exists();
            if done {
                break;
            }
            cut += 1;
            if with_journal || config.data_dir.join("hub.redb.new").exists() {
                // Somebody starts a hub there.
                let (mut child, said) = Process::said(Process::command(&config.data_dir)).await;
                assert!(said["recovery_mode"].as_str().is_some(), "{at}: a new hub began: {said}");
                child.kill().await.unwrap();
                assert!(!config.data_dir.join("hub.redb").exists(), "{at}");
                refused += 1;
            }
        }
        if !done {
            assert_eq!(ruin.recover(&dir, by_cloud, None).await, Ok(true), "{at}");
        }
        // And once more: there is a hub now, which stays.
        let again = ruin.recover(&dir, by_cloud, None).await.unwrap_err();
        assert!(again.contains("is not empty"), "{at}: {again}");
        ruin.check(&config).await;
    }
    assert_eq!(ruin.cloud.faults(), Vec::<String>::new());
    let told: Value = json!({"recoveries": rounds, "cut off": cut, "started meanwhile, and in recovery mode": refused});
    tell(&told.to_string());
}
