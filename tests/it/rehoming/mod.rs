//! A hub is stolen: a new one follows it under an identity of its own, its devices come over, and the thief, who has the
//! box with all keys in it, gets nowhere with them.

mod at_the_cloud;
mod by_makers;
mod orders;
mod story;

use crate::cloud::rig::Rig;
use crate::house::{BRAND, Device, HERE, House, config};
use hearthkey::cloud::{NewService, Scope};
use hearthkey::domain::mirror::recovery::RecoveryCode;
use hearthkey::hub::{BundleSource, Config, Hub, RecoverError, RecoverOrder, Rehomed, SystemBox, rehome};
use hearthkey::sim::device::{Backoff, Event, Neighbour, Options, run};
use hearthkey::sim::identity::DeviceSecret;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse battery";

/// A simulated device that stays switched on whatever becomes of its hub.
struct Running {
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// At this house; when its hub is gone, it asks whoever stands at the same address.
    fn start(house: &House, device: &Device, flashes: &Path) -> Running {
        let (mqtts, https) = (house.hub.addresses.mqtts.unwrap(), house.hub.addresses.https.unwrap());
        let address = |at: SocketAddr| at.to_string().parse().unwrap();
        let hub = house.hub.identity().id.to_string().parse().unwrap();
        let mut options = Options::new(DeviceSecret::read(&device.minted.secret).unwrap(), address(mqtts), hub);
        options.state = Some(flashes.join(format!("flash-{}", device.id)));
        options.backoff = Backoff { first: Duration::from_millis(20), most: Duration::from_millis(200) };
        options.nearby = vec![Neighbour { https: address(https), mqtts: address(mqtts) }];
        let (sender, events) = mpsc::channel(8192);
        let stop = CancellationToken::new();
        let running = run(options, sender, stop.clone());
        Running { events, stop, task: tokio::spawn(async move { running.await.unwrap() }) }
    }

    async fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut before = Vec::new();
        let looking = async {
            loop {
                let event = self.events.recv().await.expect("the device runs");
                if wanted(&event) {
                    return;
                }
                before.push(event);
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            panic!("not {what}; at last {:?}", before.iter().rev().take(12).collect::<Vec<_>>());
        }
        before
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// The owner makes the recovery code, as on the page.
async fn make_code(house: &House) -> RecoveryCode {
    let (status, made) = house.http("POST", "/recovery", &house.owner_token, Some(json!({"password": PASSWORD}))).await;
    assert_eq!(status, 201, "{made}");
    RecoveryCode::parse(made["code"].as_str().unwrap()).unwrap()
}

/// The maker serves its brand in this cloud, and has uploaded these devices.
async fn uploaded(rig: &Rig, house: &House, devices: &[&Device]) {
    let operator = rig.operator().await;
    operator.add_tenant(&house.dir.path().join("factory").join(BRAND)).await.unwrap();
    let new = NewService {
        name: "factory".into(),
        brand: BRAND.into(),
        networks: vec!["127.0.0.0/8".into(), "::1".into()],
        scopes: vec![Scope::UploadIdentities],
    };
    let (view, secret) = operator.add_service(&new).await.unwrap();
    operator.close().await;
    let http = rig.line().http;
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", view.id, secret.as_str());
    let request = http.post(format!("{}/v1/token", rig.cloud.url())).header("content-type", "application/x-www-form-urlencoded");
    let token: Value = request.body(form).send().await.unwrap().json().await.unwrap();
    let lines: String = devices
        .iter()
        .map(|device| serde_json::from_slice::<Value>(&std::fs::read(&device.minted.secret).unwrap()).unwrap())
        .map(|secret| format!("{secret}\n"))
        .collect();
    let upload = http.post(format!("{}/v1/identities?brand={BRAND}", rig.cloud.url())).header("upload-id", "spring").body(lines);
    let uploaded = upload.bearer_auth(token["access_token"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(uploaded.status(), 200, "{}", uploaded.text().await.unwrap());
}

/// The cloud's certificate authority, for hubs.
fn authority(rig: &Rig) -> PathBuf {
    let ca = rig.dir.0.join("authority.pem");
    std::fs::write(&ca, rig.cloud.ca_pem().unwrap()).unwrap();
    ca
}

fn at_cloud(ca: PathBuf) -> impl FnOnce(&mut Config) + Send + 'static {
    move |config| {
        config.cloud.ca_file = Some(ca);
        config.cloud.debounce_ms = 20;
    }
}

async fn link(rig: &Rig, house: &House, consent: &[&str]) {
    let look = rig.cloud.view();
    let wish = json!({"url": look.url, "key": look.key, "region": look.region, "consent": consent, "brands": [BRAND]});
    let (status, linked) = house.http("PUT", "/cloud", &house.owner_token, Some(wish)).await;
    assert_eq!(status, 200, "{linked}");
}

/// Waits until a question to the cloud's database has this answer.
async fn counted(rig: &Rig, query: &str, expected: i64) {
    let database = rig.database().await;
    let asking = async { while database.query_one(query, &[]).await.unwrap().get::<_, i64>(0) != expected {} };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("not {expected}: {query}"));
}

async fn try_rehome(settings: &Config, old: &str, code: &RecoveryCode, from: BundleSource) -> Result<Rehomed, RecoverError> {
    let order = RecoverOrder::read(Some(old), &code.to_string(), from).unwrap();
    rehome(settings, Arc::new(SystemBox::new(&settings.clock)), order, Vec::new()).await
}

/// What a thief has, and what a house has left.
struct Stolen {
    /// The box.
    dir: TempDir,
    workshop: hearthkey::factory::Workshop,
    brand: hearthkey::domain::ids::BrandId,
    hub: String,
    mqtts: SocketAddr,
    https: SocketAddr,
}

async fn stolen(house: House) -> Stolen {
    let House { hub, dir, workshop, brand, .. } = house;
    let (id, mqtts, https) = (hub.identity().id.to_string(), hub.addresses.mqtts.unwrap(), hub.addresses.https.unwrap());
    hub.shut_down().await;
    Stolen { dir, workshop, brand, hub: id, mqtts, https }
}

impl Stolen {
    /// A configuration for the new box, at the address that the old one had.
    fn settings(&self, new: &TempDir, set: impl FnOnce(&mut Config)) -> Config {
        let mut settings = config(new);
        (settings.mqtts.address, settings.https.address) = (self.mqtts, self.https);
        set(&mut settings);
        settings
    }

    /// The new hub runs, and the owner has signed in with the password as before. The stolen box is left.
    async fn moved_in(self, settings: Config, new: TempDir) -> (House, TempDir) {
        let hub = Hub::start(settings).await.unwrap();
        let opened = hub.service().sign_in_person("olivia", PASSWORD.to_owned().into(), HERE, "test").await.unwrap();
        let owner = hub.service().actor(&opened.token, "test", HERE).unwrap();
        let owner_token = opened.token.reveal().to_owned();
        (House { hub, dir: new, workshop: self.workshop, brand: self.brand, owner, owner_token }, self.dir)
    }
}
