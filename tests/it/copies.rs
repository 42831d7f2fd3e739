//! Simulated devices at a real hub: a copy of one is found, one that roams is not, and an owner gets out of it over REST.

use crate::house::{Device, House};
use hearthkey::domain::device::Standing;
use hearthkey::sim::copies::{copy_of, roam};
use hearthkey::sim::device::{Backoff, Control, DeviceError, Event, Options, SignIn, run};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// A simulated device that runs.
struct Running {
    events: mpsc::Receiver<Event>,
    controls: mpsc::Sender<Control>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), DeviceError>>,
}

impl Running {
    fn start(mut options: Options) -> Running {
        let (sender, events) = mpsc::channel(1024);
        let (controls, hand) = mpsc::channel(4);
        options.controls = Some(hand);
        options.backoff = Backoff { first: Duration::from_millis(20), most: Duration::from_millis(100) };
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(options, sender, stop.clone()));
        Running { events, controls, stop, task }
    }

    async fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) {
        let looking = async { while !wanted(&self.events.recv().await.expect("the device runs")) {} };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not {what}"));
    }

    async fn signed_in(&mut self) {
        self.until("signed in", |e| matches!(e, Event::SignedIn { with: SignIn::Secret })).await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn options(house: &House, device: &Device, original: &str, directory: &str) -> Options {
    let path = |name: &str| -> PathBuf { house.dir.path().join(name) };
    let address = house.hub.addresses.mqtts.unwrap().to_string().parse().unwrap();
    let hub_id = house.hub.identity().id.to_string().parse().unwrap();
    copy_of(&device.minted.secret, &path(original), &path(directory), address, hub_id).unwrap()
}

/// A door that was claimed by the owner and has its credential in the directory `door`.
async fn claimed_door(house: &House) -> (Device, Running) {
    let door = house.device("garage-door").await;
    let mut running = Running::start(options(house, &door, "nothing", "door"));
    running.until("waiting", |e| matches!(e, Event::WaitingToBeClaimed)).await;
    house.claim(&door).await;
    running.until("claimed", |e| matches!(e, Event::Claimed)).await;
    (door, running)
}

async fn until_quarantined(house: &House, door: &Device) {
    let mut changes = house.hub.service().changes();
    let standing = || house.hub.service().device(&house.owner, &door.id).unwrap().state;
    let looking = async {
        while standing() != Standing::Quarantined {
            let _ = changes.recv().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("a quarantine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_simulated_device_is_found_and_an_owner_lifts_the_quarantine() {
    let house = House::new().await;
    let member = house.person("mona", hearthkey::domain::account::Role::Member).await.1;
    let (door, mut original) = claimed_door(&house).await;
    let (evidence, lift) = (format!("/devices/{}/evidence", door.id), format!("/devices/{}/lift", door.id));
    let before = house.http("GET", &evidence, &house.owner_token, None).await;
    assert_eq!(before, (200, json!({"entries": [], "quarantined": false})));
    assert_eq!(house.http("POST", &lift, &house.owner_token, Some(json!({}))).await.0, 409);

    let mut copy = Running::start(options(&house, &door, "door", "copy"));
    until_quarantined(&house, &door).await;
    for side in [&mut original, &mut copy] {
        side.until("shut out", |e| matches!(e, Event::SignInRefused { code: 0x8A, .. })).await;
    }
    copy.end().await;

    let (status, told) = house.http("GET", &evidence, &house.owner_token, None).await;
    assert_eq!((status, &told["quarantined"], &told["entries"][0]["kind"]), (200, &json!(true), &json!("quarantined")));
    assert_eq!(told["entries"][0].as_object().unwrap().len(), 5);
    assert_eq!(house.http("GET", &evidence, &member, None).await.0, 404);
    assert_eq!(house.http("POST", &lift, &member, Some(json!({}))).await.0, 403);
    assert_eq!(house.http("POST", "/devices/nobody-1/lift", &house.owner_token, Some(json!({}))).await.0, 404);
    let (status, shown) = house.http("GET", &format!("/devices/{}", door.id), &house.owner_token, None).await;
    assert_eq!((status, shown["state"].as_str(), shown["warning"].is_string()), (200, Some("quarantined"), true));
    let (status, lifted) = house.http("POST", &lift, &house.owner_token, Some(json!({"note": "the copy is switched off"}))).await;
    assert_eq!((status, &lifted["state"], &lifted["warning"]), (200, &json!("ready"), &json!(null)));
    original.signed_in().await;
    original.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_device_that_roams_goes_on_as_before() {
    let house = House::with(|c| c.broker.parting_ms = 50).await;
    let (door, mut running) = claimed_door(&house).await;
    for _ in 0..6 {
        assert!(roam(&running.controls).await);
        running.signed_in().await;
    }
    assert_eq!(house.hub.service().evidence(&house.owner, &door.id).unwrap().entries.len(), 0);
    assert_eq!(house.hub.service().device(&house.owner, &door.id).unwrap().state, Standing::Ready);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_device_whose_reset_button_is_pressed_waits_to_be_claimed() {
    let house = House::new().await;
    let (door, mut running) = claimed_door(&house).await;
    running.controls.send(Control::Reset).await.unwrap();
    running.until("waiting", |e| matches!(e, Event::Disconnected { code: Some(0x98), .. })).await;
    running.until("waiting again", |e| matches!(e, Event::WaitingToBeClaimed)).await;
    house.claim(&door).await;
    running.until("claimed again", |e| matches!(e, Event::Claimed)).await;
    running.end().await;
}
