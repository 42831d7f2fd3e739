//! Firmware from end to end: a release that the factory signed, a real hub, and simulated devices that download it, restart as it, and
//! go through every fault.

use crate::house::{Device, House};
use hearthkey::domain::ids::ModelName;
use hearthkey::factory::FirmwareOrder;
use hearthkey::sim::device::{Backoff, DeviceError, Event, Options, run};
use hearthkey::sim::firmware::{self, Event as Firmware, Fault, Over, Program, Step};
use hearthkey::sim::identity::DeviceSecret;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

/// A simulated device that runs, and what it has told.
struct Running {
    events: mpsc::Receiver<Event>,
    told: Vec<Firmware>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), DeviceError>>,
}

impl Running {
    fn start(options: Options) -> Running {
        let (sender, events) = mpsc::channel(4096);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(options, sender, stop.clone()));
        Running { events, told: Vec::new(), stop, task }
    }

    async fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) {
        let looking = async {
            loop {
                let event = self.events.recv().await.expect("the device runs");
                if let Event::Firmware(event) = &event {
                    self.told.push(event.clone());
                }
                if wanted(&event) {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            panic!("not {what}: {:?}", self.told);
        }
    }

    async fn confirmed(&mut self, rel: u64) {
        self.until("confirmed", |e| matches!(e, Event::Firmware(Firmware::Confirmed { rel: is, .. }) if *is == rel)).await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// What a device is made with, over the hub's page when `https`.
fn options(house: &House, device: &Device, https: bool, faults: &[Fault]) -> Options {
    let address = house.hub.addresses.mqtts.unwrap().to_string().parse().unwrap();
    let hub_id = house.hub.identity().id.to_string().parse().unwrap();
    let mut options = Options::new(DeviceSecret::read(&device.minted.secret).unwrap(), address, hub_id);
    options.backoff = Backoff { first: Duration::from_millis(20), most: Duration::from_millis(100) };
    options.state = Some(house.dir.path().join("flash"));
    let root = house.workshop.brand(&house.brand).unwrap().root;
    let page_port = https.then(|| house.hub.addresses.https.unwrap().port());
    options.firmware = Some(firmware::Options { page_port, faults: faults.to_vec(), ..firmware::Options::new(root) });
    options
}

async fn claimed(house: &House, device: &Device, options: Options) -> Running {
    let mut running = Running::start(options);
    running.until("waiting", |e| matches!(e, Event::WaitingToBeClaimed)).await;
    house.claim(device).await;
    running.until("claimed", |e| matches!(e, Event::Claimed)).await;
    running
}

/// The maker signs an image, and the house takes it in as a file.
async fn release(house: &House, rel: u64, image: &[u8], security_minimum: u64) {
    let paths = ["image", "release.hkfw"].map(|name| house.dir.path().join(format!("{rel}-{name}")));
    std::fs::write(&paths[0], image).unwrap();
    let order = FirmwareOrder {
        model: ModelName::parse("garage-door").unwrap(),
        hardware: vec![String::new()],
        rel,
        version: format!("1.{rel}.0"),
        notes: String::new(),
        least_before: 0,
        security_minimum,
    };
    house.workshop.firmware(&house.brand, &order, &paths[0], &paths[1]).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_der(&house.hub.identity().ca_der).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let url = format!("https://localhost:{}/api/v1/firmware", house.hub.addresses.https.unwrap().port());
    let request = client.post(url).bearer_auth(&house.owner_token).header("content-type", "application/octet-stream");
    let answer = request.body(std::fs::read(&paths[1]).unwrap()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 201, "{}", answer.text().await.unwrap());
}

async fn policy(house: &House, policy: Value) {
    let (status, answer) = house.http("PUT", "/firmware/acme/garage-door/policy", &house.owner_token, Some(policy)).await;
    assert_eq!(status, 200, "{answer}");
}

/// Waits until the hub sees a device's firmware so.
async fn seen(house: &House, device: &Device, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut changes = house.hub.service().changes();
    let path = format!("/devices/{}/firmware", device.id);
    let mut last = Value::Null;
    let looking = async {
        loop {
            last = house.http("GET", &path, &house.owner_token, None).await.1;
            if wanted(&last) {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), changes.recv()).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "not {what}: {last}");
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_becomes_the_next_version_over_https() {
    let house = House::new().await;
    let door = house.device("garage-door").await;
    let mut running = claimed(&house, &door, options(&house, &door, true, &[])).await;
    policy(&house, json!({"mode": "automatic"})).await;
    release(&house, 2, &Program::image("1.2.0", 200_000), 0).await;
    running.confirmed(2).await;
    assert!(running.told.contains(&Firmware::Downloading { offset: 0, size: 200_000, over: Over::Https }));
    assert!(!running.told.iter().any(|event| matches!(event, Firmware::NotOverHttps { .. })), "{:?}", running.told);
    let shown = seen(&house, &door, "confirmed", |shown| shown["progress"]["state"] == "confirmed").await;
    assert_eq!((&shown["rel"], &shown["version"], &shown["verdict"]["state"]), (&json!(2), &json!("1.2.0"), &json!("up_to_date")));
    running.end().await;
    // Switched off and on, it is what it has become.
    let mut running = Running::start(options(&house, &door, true, &[]));
    running.until("up", |e| *e == Event::Firmware(Firmware::Runs { rel: 2, version: "1.2.0".into(), trial: false })).await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_loses_its_power_at_any_step_goes_on_by_either_way() {
    let house = House::new().await;
    policy_for_all(&house).await;
    release(&house, 2, &Program::image("1.2.0", 60_000), 0).await;
    for https in [false, true] {
        for step in [Step::Downloading, Step::Downloaded, Step::Installing, Step::Trial, Step::Confirmed] {
            let door = house.device("garage-door").await;
            let mut running = claimed(&house, &door, options(&house, &door, https, &[Fault::Power(step)])).await;
            running.until("without power", |e| *e == Event::Firmware(Firmware::PowerCut)).await;
            seen(&house, &door, "confirmed", |shown| shown["rel"] == 2 && shown["progress"]["state"] == "confirmed").await;
            running.end().await;
        }
    }
}

/// That there are doors is known from the first batch on.
async fn policy_for_all(house: &House) {
    house.device("garage-door").await;
    policy(house, json!({"mode": "automatic", "stop": {"after": 1000, "percent": 100}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_to_people_and_the_old_version_runs_on() {
    let house = House::new().await;
    policy_for_all(&house).await;
    release(&house, 2, &Program::image("1.2.0", 40_000), 0).await;
    for (fault, code) in [
        (Fault::Download { at: 20_000 }, "download"),
        (Fault::WrongHash, "hash"),
        (Fault::NoRoom, "storage"),
        (Fault::Refuse, "refused"),
        (Fault::Install, "install"),
        (Fault::Unhealthy, "health"),
    ] {
        let door = house.device("garage-door").await;
        let mut running = claimed(&house, &door, options(&house, &door, false, &[fault])).await;
        running.until("failed", |e| matches!(e, Event::Firmware(Firmware::Failed { code: is, .. }) if *is == code)).await;
        let shown = seen(&house, &door, "failed", |shown| shown["progress"]["state"] == "failed").await;
        assert_eq!((&shown["rel"], &shown["progress"]["code"]), (&json!(1), &json!(code)), "{shown}");
        assert_eq!((&shown["verdict"]["state"], &shown["verdict"]["why"]), (&json!("waits"), &json!("backoff")), "{shown}");
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_well_or_not_the_makers_is_not_kept() {
    let house = House::new().await;
    policy_for_all(&house).await;
    release(&house, 2, b"{\"hearthkey-device\":1,\"version\":\"1.2.0\",\"healthy\":false}\n", 0).await;
    let door = house.device("garage-door").await;
    let mut running = claimed(&house, &door, options(&house, &door, false, &[])).await;
    running.until("ill", |e| matches!(e, Event::Firmware(Firmware::Failed { code: "health", .. }))).await;
    seen(&house, &door, "failed", |shown| shown["progress"]["code"] == "health" && shown["rel"] == 1).await;
    running.end().await;
    // A device of another brand's making, which the hub takes for one of this brand.
    let door = house.device("garage-door").await;
    let mut other = options(&house, &door, false, &[]);
    other.firmware = Some(firmware::Options::new([9; 32]));
    let mut running = claimed(&house, &door, other).await;
    running.until("wary", |e| matches!(e, Event::Firmware(Firmware::Failed { code: "signature", .. }))).await;
    seen(&house, &door, "failed", |shown| shown["progress"]["code"] == "signature").await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_behind_can_do_nothing_but_update_and_is_whole_afterwards() {
    let house = House::new().await;
    let door = house.device("garage-door").await;
    let running = claimed(&house, &door, options(&house, &door, false, &[])).await;
    running.end().await;
    // Nobody has said yes to anything.
    release(&house, 3, &Program::image("1.3.0", 30_000), 2).await;
    let mut running = Running::start(options(&house, &door, false, &[]));
    running.confirmed(3).await;
    let shown = seen(&house, &door, "whole", |shown| shown["rel"] == 3).await;
    assert_eq!(shown["behind"], false);
    // What it says of itself is heard again, and it hears what is wanted of it.
    let mode = json!({"mode": "vacation"});
    running.until("heard", |e| matches!(e, Event::Reported { .. })).await;
    let (status, answer) = house.http("PATCH", &format!("/devices/{}/twin/desired", door.id), &house.owner_token, Some(mode)).await;
    assert!(status < 300, "{status} {answer}");
    running.until("wanted", |e| matches!(e, Event::Desired { .. })).await;
    running.end().await;
}
