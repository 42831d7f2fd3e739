//! Firmware from its maker to a device, by the cloud: uploaded there, fetched by a real hub that an owner has linked, staged by
//! the maker's people, and installed by a simulated device.

use crate::cloud::rig::Rig;
use crate::firmware_device::{claimed, options, policy, seen};
use crate::firmware_hub::release_file;
use crate::house::{BRAND, House};
use hearthkey::cloud::{NewService, Scope};
use hearthkey::sim::firmware::Program;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_door_becomes_the_version_that_its_maker_uploaded_to_the_cloud() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rig = Rig::with(|config| config.limits.wait_s = 5).await;
    let ca = rig.dir.0.join("authority.pem");
    std::fs::write(&ca, rig.cloud.ca_pem().unwrap()).unwrap();
    let house = House::with(move |config| {
        config.cloud.ca_file = Some(ca);
        config.cloud.proxy = Some("none".into());
        config.cloud.debounce_ms = 20;
    })
    .await;
    let door = house.device("garage-door").await;
    let mut running = claimed(&house, &door, options(&house, &door, false, &[])).await;
    policy(&house, json!({"mode": "automatic"})).await;
    seen(&house, &door, "listening", |shown| shown["rel"] == 1).await;

    // The maker uploads a release, for nobody yet.
    let brand_dir = house.dir.path().join("factory").join(BRAND);
    let operator = rig.operator().await;
    operator.add_tenant(&brand_dir).await.unwrap();
    let new = NewService {
        name: "builds".into(),
        brand: BRAND.into(),
        networks: vec!["127.0.0.0/8".into(), "::1".into()],
        scopes: vec![Scope::UploadReleases],
    };
    let (view, secret) = operator.add_service(&new).await.unwrap();
    operator.close().await;
    let http = rig.line().http;
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", view.id, secret.as_str());
    let request = http.post(format!("{}/v1/token", rig.cloud.url())).header("content-type", "application/x-www-form-urlencoded");
    let token: Value = request.body(form).send().await.unwrap().json().await.unwrap();
    let token = token["access_token"].as_str().unwrap();
    let file = release_file(&brand_dir, "garage-door", "", 2, &Program::image("1.2.0", 700_000));
    let uploaded = http.post(format!("{}/v1/releases", rig.cloud.url())).bearer_auth(token).body(file).send().await.unwrap();
    assert_eq!(uploaded.status(), 201, "{}", uploaded.text().await.unwrap());

    // An owner links the cloud: the release is told, and stays where it is.
    let look = rig.cloud.view();
    let wish = json!({"url": look.url, "key": look.key, "region": look.region, "consent": [], "brands": [BRAND]});
    let (status, linked) = house.http("PUT", "/cloud", &house.owner_token, Some(wish)).await;
    assert_eq!(status, 200, "{linked}");
    let service = house.hub.service();
    let told = async {
        let mut changes = service.changes();
        while !service.releases_told() {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(200), changes.recv()).await;
        }
    };
    tokio::time::timeout(crate::cloud::rig::PATIENCE, told).await.expect("the hub is told");
    assert!(service.pending_releases().is_empty());

    // It is staged for everybody: the hub hears it, fetches it, and the device becomes it.
    let url = format!("{}/v1/releases/garage-door/2", rig.cloud.url());
    let staged = http.patch(url).bearer_auth(token).json(&json!({"percent": 100})).send().await.unwrap();
    assert_eq!(staged.status(), 200, "{}", staged.text().await.unwrap());
    service.mirror_wish().notify_one();
    running.confirmed(2).await;
    let shown = seen(&house, &door, "confirmed", |shown| shown["progress"]["state"] == "confirmed").await;
    assert_eq!((&shown["rel"], &shown["version"]), (&json!(2), &json!("1.2.0")));
    let (_, all) = house.http("GET", "/firmware", &house.owner_token, None).await;
    assert_eq!(all["models"][0]["releases"][0]["from"], "cloud", "{all}");
    running.end().await;
    house.hub.shut_down().await;
    rig.end().await;
}
