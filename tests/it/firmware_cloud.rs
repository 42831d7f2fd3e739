//! Firmware from its maker to a device, by the cloud: uploaded there, fetched by a real hub that an owner has linked, staged by
//! the maker's people, installed by a simulated device, and withdrawn. The hub asks by itself once an hour: what comes in time, the
//! cloud has woken it for.

use crate::cloud::rig::Rig;
use crate::firmware_device::{claimed, options, policy, seen};
use crate::firmware_hub::{image, release_file};
use crate::house::{BRAND, House};
use hearthkey::cloud::{NewService, NewVendor, Scope};
use hearthkey::domain::account::Role;
use hearthkey::sim::firmware::Program;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// What a maker's program and a maker's person do at the cloud.
struct Maker {
    http: reqwest::Client,
    url: String,
    brand_dir: PathBuf,
    program: String,
    person: String,
}

impl Maker {
    async fn new(rig: &Rig, house: &House) -> Maker {
        let brand_dir = house.dir.path().join("factory").join(BRAND);
        let operator = rig.operator().await;
        operator.add_tenant(&brand_dir).await.unwrap();
        let networks = vec!["127.0.0.0/8".to_owned(), "::1".to_owned()];
        let new =
            NewService { name: "builds".into(), brand: BRAND.into(), networks: networks.clone(), scopes: vec![Scope::UploadReleases] };
        let (view, secret) = operator.add_service(&new).await.unwrap();
        let password = "seven hedgehogs in a teapot";
        let petra = NewVendor {
            username: "petra".into(),
            display_name: String::new(),
            role: Role::ProductManager,
            brand: BRAND.into(),
            networks,
            password: password.to_owned().into(),
        };
        operator.add_vendor(&petra).await.unwrap();
        operator.close().await;
        let (http, url) = (rig.line().http, rig.cloud.url().to_string());
        let url = url.trim_end_matches('/').to_owned();
        let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", view.id, secret.as_str());
        let request = http.post(format!("{url}/v1/token")).header("content-type", "application/x-www-form-urlencoded");
        let token: Value = request.body(form).send().await.unwrap().json().await.unwrap();
        let signing_in = json!({"username": "petra", "password": password});
        let session: Value = http.post(format!("{url}/v1/vendor/session")).json(&signing_in).send().await.unwrap().json().await.unwrap();
        let text = |value: &Value, member: &str| value[member].as_str().unwrap_or_else(|| panic!("{value}")).to_owned();
        Maker { program: text(&token, "access_token"), person: text(&session, "token"), http, url, brand_dir }
    }

    async fn upload(&self, rel: u64, percent: u8) {
        let file = release_file(&self.brand_dir, "garage-door", "", rel, &Program::image(&format!("1.{rel}.0"), 300_000));
        let url = format!("{}/v1/releases?percent={percent}", self.url);
        let uploaded = self.http.post(url).bearer_auth(&self.program).body(file).send().await.unwrap();
        assert_eq!(uploaded.status(), 201, "{}", uploaded.text().await.unwrap());
    }

    async fn stage(&self, rel: u64, percent: u8) {
        let request = self.http.patch(format!("{}/v1/releases/garage-door/{rel}", self.url)).bearer_auth(&self.program);
        let staged = request.json(&json!({"percent": percent})).send().await.unwrap();
        assert_eq!(staged.status(), 200, "{}", staged.text().await.unwrap());
    }

    async fn withdraw(&self, rel: u64) {
        let request = self.http.delete(format!("{}/v1/releases/garage-door/{rel}", self.url)).bearer_auth(&self.person);
        let withdrawn = request.send().await.unwrap();
        assert_eq!(withdrawn.status(), 200, "{}", withdrawn.text().await.unwrap());
    }
}

/// A cloud whose hubs come by themselves once an hour, and a house that may reach it.
async fn pair(cache_bytes: u64) -> (Rig, House) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rig = Rig::with(|config| config.limits.wait_s = 3_600).await;
    let ca = rig.dir.0.join("authority.pem");
    std::fs::write(&ca, rig.cloud.ca_pem().unwrap()).unwrap();
    let house = House::with(move |config| {
        config.cloud.ca_file = Some(ca);
        config.cloud.proxy = Some("none".into());
        config.cloud.debounce_ms = 20;
        config.firmware.cache_bytes = cache_bytes;
    })
    .await;
    (rig, house)
}

/// An owner links the cloud; waits until the hub was told what there is, and hears when there is more.
async fn linked(rig: &Rig, house: &House) {
    let look = rig.cloud.view();
    let wish = json!({"url": look.url, "key": look.key, "region": look.region, "consent": [], "brands": [BRAND]});
    let (status, linked) = house.http("PUT", "/cloud", &house.owner_token, Some(wish)).await;
    assert_eq!(status, 200, "{linked}");
    let mut changes = house.hub.service().changes();
    let looking = async {
        while house.http("GET", "/cloud", &house.owner_token, None).await.1["state"]["connected"] != true {
            let _ = tokio::time::timeout(Duration::from_millis(200), changes.recv()).await;
        }
    };
    tokio::time::timeout(crate::cloud::rig::PATIENCE, looking).await.expect("the hub hears the cloud");
}

/// Waits until the hub's releases of the door, the newest first, are so.
async fn releases(house: &House, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut changes = house.hub.service().changes();
    let mut last = Value::Null;
    let looking = async {
        loop {
            last = house.http("GET", "/firmware", &house.owner_token, None).await.1["models"][0]["releases"].clone();
            if wanted(&last) {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(500), changes.recv()).await;
        }
    };
    assert!(tokio::time::timeout(crate::cloud::rig::PATIENCE, looking).await.is_ok(), "not {what}: {last}");
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_becomes_the_version_that_its_maker_uploaded_to_the_cloud() {
    let (rig, house) = pair(10_000_000).await;
    let door = house.device("garage-door").await;
    let mut running = claimed(&house, &door, options(&house, &door, false, &[])).await;
    policy(&house, json!({"mode": "automatic"})).await;
    seen(&house, &door, "listening", |shown| shown["rel"] == 1).await;

    // The maker uploads a release, for nobody yet: it is told, and stays where it is.
    let maker = Maker::new(&rig, &house).await;
    maker.upload(2, 0).await;
    linked(&rig, &house).await;
    assert!(house.hub.service().pending_releases().is_empty());

    // It is staged for everybody: the cloud says so, the hub fetches it, and the device becomes it.
    maker.stage(2, 100).await;
    running.confirmed(2).await;
    let shown = seen(&house, &door, "confirmed", |shown| shown["progress"]["state"] == "confirmed").await;
    assert_eq!((&shown["rel"], &shown["version"]), (&json!(2), &json!("1.2.0")));
    let all = releases(&house, "here", |all| all[0]["rel"] == 2).await;
    assert_eq!(all[0]["from"], "cloud", "{all}");
    running.end().await;
    house.hub.shut_down().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_comes_wakes_the_hub_and_one_that_is_withdrawn_is_offered_to_nobody_more_while_who_has_it_keeps_it() {
    let (rig, house) = pair(10_000_000).await;
    let door = house.device("garage-door").await;
    let mut running = claimed(&house, &door, options(&house, &door, false, &[])).await;
    seen(&house, &door, "listening", |shown| shown["rel"] == 1).await;
    let maker = Maker::new(&rig, &house).await;
    linked(&rig, &house).await;

    // Nobody does anything at home meanwhile: what comes, comes because the cloud says that there is something.
    maker.upload(2, 100).await;
    releases(&house, "fetched", |all| all[0]["rel"] == 2 && all[0]["cached"] == true).await;
    policy(&house, json!({"mode": "automatic"})).await;
    running.confirmed(2).await;
    policy(&house, json!({"mode": "ask"})).await;
    maker.upload(3, 100).await;
    releases(&house, "fetched", |all| all[0]["rel"] == 3 && all[0]["cached"] == true).await;
    let verdict = seen(&house, &door, "waiting", |shown| shown["verdict"]["rel"] == 3).await["verdict"].clone();
    assert_eq!(verdict, json!({"state": "waits", "rel": 3, "why": "ask"}));

    maker.withdraw(3).await;
    releases(&house, "withdrawn", |all| all[0]["withdrawn"] == true).await;
    maker.withdraw(2).await;
    releases(&house, "withdrawn", |all| all[1]["withdrawn"] == true).await;
    let yes = Some(json!({"rel": 3}));
    let (status, answer) = house.http("POST", &format!("/devices/{}/firmware/approve", door.id), &house.owner_token, yes).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("withdrawn"), "{answer}");
    policy(&house, json!({"mode": "automatic"})).await;
    let shown = seen(&house, &door, "left as it is", |shown| shown["verdict"]["state"] == "up_to_date").await;
    assert_eq!((&shown["rel"], &shown["progress"]["state"]), (&json!(2), &json!("confirmed")), "it keeps what it has");
    let (_, log) = house.http("GET", "/audit?limit=50&action=firmware.recall", &house.owner_token, None).await;
    let told: Vec<(&Value, &Value)> = log["entries"].as_array().unwrap().iter().map(|entry| (&entry["actor"], &entry["detail"])).collect();
    assert_eq!(told, [(&json!("cloud"), &json!("rel 2")), (&json!("cloud"), &json!("rel 3"))]);
    let (_, cloud) = house.http("GET", "/cloud", &house.owner_token, None).await;
    let notices = cloud["notices"].as_array().unwrap().iter().filter(|notice| notice["code"] == "firmware_withdrawn").count();
    assert_eq!(notices, 2, "{cloud}");
    running.end().await;
    house.hub.shut_down().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_made_room_comes_again_from_the_cloud_for_a_device_that_waits_for_it() {
    let (rig, house) = pair(500_000).await;
    let door = house.device("garage-door").await;
    let mut running = claimed(&house, &door, options(&house, &door, false, &[])).await;
    seen(&house, &door, "listening", |shown| shown["rel"] == 1).await;
    let maker = Maker::new(&rig, &house).await;
    linked(&rig, &house).await;
    maker.upload(2, 100).await;
    releases(&house, "fetched", |all| all[0]["rel"] == 2 && all[0]["cached"] == true).await;
    // Nobody has said yes yet, and somebody brings what needs the room.
    let large = release_file(&maker.brand_dir, "kettle", "", 9, &image(9, 400_000));
    let (status, answer) = house.upload(&house.owner_token, large).await;
    assert_eq!(status, 201, "{answer}");
    releases(&house, "gone", |all| all[0]["cached"] == false).await;
    policy(&house, json!({"mode": "automatic"})).await;
    running.confirmed(2).await;
    running.end().await;
    house.hub.shut_down().await;
    rig.end().await;
}
