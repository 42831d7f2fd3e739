//! The page in a real browser: a person sets the hub up, claims a door by its typed code and opens it. The steps are in
//! `tests/rigs/ui`; here is the house they happen in.

use crate::house::{House, HouseOptions};
use hearthkey::sim::device::{Backoff, Options, run};
use hearthkey::sim::identity::DeviceSecret;
use hearthkey::sim::tls::Address;
use std::path::Path;
use std::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sets_up_the_hub_claims_a_door_and_opens_it_in_a_browser() {
    let house = House::build(HouseOptions { owner: false, ..HouseOptions::default() }).await;
    let device = house.device("garage-door").await;
    let rig = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rigs/ui");
    if !rig.join("node_modules/playwright-core").exists() {
        let installed = Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&rig).status();
        assert!(installed.is_ok_and(|s| s.success()), "npm ci in tests/rigs/ui failed");
    }
    let secret = DeviceSecret::read(&device.minted.secret).unwrap();
    let address: Address = house.hub.addresses.mqtts.unwrap().to_string().parse().unwrap();
    let mut options = Options::new(secret, address, house.hub.identity().id.to_string().parse().unwrap());
    options.backoff = Backoff::FAST;
    let (events, mut seen) = mpsc::channel(256);
    let stop = CancellationToken::new();
    let door = tokio::spawn(run(options, events, stop.clone()));
    let drain = tokio::spawn(async move { while seen.recv().await.is_some() {} });
    let port = house.hub.addresses.https.unwrap().port();
    let mut browser = Command::new("node");
    browser
        .args(["--test", "ui.test.mjs"])
        .current_dir(&rig)
        .env("HEARTHKEY_URL", format!("https://127.0.0.1:{port}"))
        .env("HEARTHKEY_SETUP_CODE", house.hub.setup_code.clone().unwrap())
        .env("HEARTHKEY_LABEL", &device.code);
    let output = tokio::task::spawn_blocking(move || browser.output()).await.unwrap().unwrap();
    stop.cancel();
    door.await.unwrap().unwrap();
    drain.await.unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
