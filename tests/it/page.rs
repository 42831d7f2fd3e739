//! The page in a real browser: a person sets the hub up, claims a door by its typed code and opens it; every page about
//! people and access, adding a device nearby, the cloud, firmware, backups and updates, with answers made up; a home and a
//! real cloud, a door that is really updated, and the system of the box. The steps are in `tests/rigs/ui`; here is the house they happen in.

use crate::house::{HERE, House, HouseOptions};
use hearthkey::hub;
use hearthkey::sim::device::{Backoff, Options, run};
use hearthkey::sim::identity::DeviceSecret;
use hearthkey::sim::rauc::Rauc;
use hearthkey::sim::tls::Address;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sets_up_the_hub_claims_a_door_and_opens_it_in_a_browser() {
    in_a_house_with_a_door("ui.test.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_joins_by_an_invitation_and_comes_back_in_by_a_reset_link_in_a_browser() {
    in_a_house_with_a_door("joining.test.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_guards_an_account_with_a_second_factor_in_a_browser() {
    in_a_house_with_a_door("own-account.test.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_an_app_act_for_a_person_until_they_are_ended_in_a_browser() {
    in_a_house_with_a_door("apps.test.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_support_session_shows_on_every_page_and_one_tap_ends_it_in_a_browser() {
    in_a_house_with_a_door("support.test.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_about_people_and_access_hold_on_a_phone_and_a_desk() {
    let mut browser = browser("pages.test.mjs");
    browser.env("HEARTHKEY_DIST", env!("HEARTHKEY_UI_DIR"));
    look_around(browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_nearby_is_added_step_by_step_in_a_browser() {
    let mut browser = browser("adding.test.mjs");
    browser.env("HEARTHKEY_DIST", env!("HEARTHKEY_UI_DIR"));
    look_around(browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_linked_to_a_cloud_and_its_recovery_code_kept_step_by_step_in_a_browser() {
    let mut browser = browser("cloud.test.mjs");
    browser.env("HEARTHKEY_DIST", env!("HEARTHKEY_UI_DIR"));
    look_around(browser).await;
}

#[cfg(feature = "cloud")]
#[tokio::test(flavor = "multi_thread")]
async fn a_home_is_linked_to_a_real_cloud_lives_with_it_and_leaves_it_in_a_browser() {
    let mut browser = browser("linked.test.mjs");
    browser.env("HEARTHKEY", env!("CARGO_BIN_EXE_hearthkey"));
    look_around(browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_is_kept_well_a_door_updated_and_a_backup_made_in_a_browser() {
    let mut browser = browser("kept.test.mjs");
    browser.env("HEARTHKEY", env!("CARGO_BIN_EXE_hearthkey"));
    look_around(browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_becomes_another_version_and_goes_back_while_the_page_follows_it_in_a_browser() {
    let mut browser = browser("renewed.test.mjs");
    browser.env("HEARTHKEY", env!("CARGO_BIN_EXE_hearthkey"));
    look_around(browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firmware_backups_and_the_hub_s_own_update_are_told_and_chosen_step_by_step_in_a_browser() {
    let mut browser = browser("upkeep.test.mjs");
    browser.env("HEARTHKEY_DIST", env!("HEARTHKEY_UI_DIR"));
    look_around(browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_of_the_box_is_brought_installed_and_started_in_a_browser() {
    let rauc = Rauc::start(true).await.unwrap();
    let address = rauc.address();
    let set = Box::new(move |config: &mut hub::Config| config.update.bus = Some(address));
    let house = House::build(HouseOptions { owner: false, set, ..HouseOptions::default() }).await;
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let mut browser = browser("box.test.mjs");
    browser
        .env("HEARTHKEY_URL", format!("https://127.0.0.1:{}", house.hub.addresses.https.unwrap().port()))
        .env("HEARTHKEY_SETUP_CODE", house.hub.setup_code.clone().unwrap())
        .env("HEARTHKEY_BOX", format!("http://{}", listener.local_addr().unwrap()));
    tokio::select! {
        () = look_around(browser) => {}
        () = stand_in(listener, &rauc) => {}
    }
    assert_eq!(rauc.restarts(), 1);
    house.hub.shut_down().await;
}

/// Does to the box what the browser's steps ask for, each once RAUC is at it.
async fn stand_in(listener: TcpListener, rauc: &Rauc) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
        let what = line.split(['/', ' ']).nth(2).unwrap().to_owned();
        while if what == "restarted" { rauc.restarts() == 0 } else { !rauc.is_installing() } {
            tokio::task::yield_now().await;
        }
        match what.as_str() {
            "progress" => rauc.progress(40),
            "fail" => rauc.finish(Some("Failed updating slot rootfs.1: No space left on device")),
            "finish" => rauc.finish(None),
            "restarted" => {}
            other => panic!("{other}"),
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
    }
}

/// Runs the steps in `file` in a browser, against a hub without an owner and a simulated garage door that waits to be claimed.
async fn in_a_house_with_a_door(file: &str) {
    let house = House::build(HouseOptions { owner: false, ..HouseOptions::default() }).await;
    let device = house.device("garage-door").await;
    let secret = DeviceSecret::read(&device.minted.secret).unwrap();
    let address: Address = house.hub.addresses.mqtts.unwrap().to_string().parse().unwrap();
    let mut options = Options::new(secret, address, house.hub.identity().id.to_string().parse().unwrap());
    options.backoff = Backoff::FAST;
    let (events, mut seen) = mpsc::channel(256);
    let stop = CancellationToken::new();
    let door = tokio::spawn(run(options, events, stop.clone()));
    let drain = tokio::spawn(async move { while seen.recv().await.is_some() {} });
    let port = house.hub.addresses.https.unwrap().port();
    let mut browser = browser(file);
    browser
        .env("HEARTHKEY_URL", format!("https://127.0.0.1:{port}"))
        .env("HEARTHKEY_SETUP_CODE", house.hub.setup_code.clone().unwrap())
        .env("HEARTHKEY_LABEL", &device.code);
    look_around(browser).await;
    stop.cancel();
    door.await.unwrap().unwrap();
    drain.await.unwrap();
}

/// The steps in `file`, with what they need installed.
pub fn browser(file: &str) -> Command {
    // Two tests must not install at the same time.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one = INSTALLING.lock().unwrap();
    let rig = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rigs/ui");
    if !["playwright-core", "qrcode-generator"].iter().all(|each| rig.join("node_modules").join(each).exists()) {
        let installed = Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&rig).status();
        assert!(installed.is_ok_and(|s| s.success()), "npm ci in tests/rigs/ui failed");
    }
    let mut node = Command::new("node");
    node.args(["--test", file]).current_dir(&rig);
    node
}

pub async fn look_around(mut browser: Command) {
    let output = tokio::task::spawn_blocking(move || browser.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
