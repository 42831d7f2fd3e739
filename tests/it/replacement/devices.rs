//! The devices of the house, and who may use them, after their hub was replaced.

use super::{Keeper, PATIENCE, actor, claimed, cloud, destroyed, make_code, sign_in};
use crate::house::{Device, House};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::service::{Grant, Recipient};
use hearthkey::sim::device::{Backoff, Event, Options, SignIn, run};
use hearthkey::sim::identity::DeviceSecret;
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Qos, Version};
use hearthkey::sim::tls::{Stream, Trust};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SHORT: Duration = Duration::from_secs(10);

/// A simulated device that stays switched on whatever happens to its hub.
struct Running {
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(house: &House, device: &Device, flashes: &Path) -> Running {
        let address = house.hub.addresses.mqtts.unwrap().to_string().parse().unwrap();
        let hub = house.hub.identity().id.to_string().parse().unwrap();
        let mut options = Options::new(DeviceSecret::read(&device.minted.secret).unwrap(), address, hub);
        options.state = Some(flashes.join(format!("flash-{}", device.id)));
        options.backoff = Backoff { first: Duration::from_millis(20), most: Duration::from_millis(100) };
        let (sender, events) = mpsc::channel(4096);
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
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not {what}"));
        before
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn share(name: &str, privilege: Privilege) -> Grant {
    Grant { to: Recipient::Person(name.into()), terms: Terms::of(privilege) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_devices_of_the_house_come_back_to_the_hub_that_replaces_theirs() {
    let house = House::new().await;
    let (lamp, thermostat) = (house.device("lamp").await, house.device("thermostat").await);
    let flashes = tempfile::tempdir().unwrap();
    let mut running = Running::start(&house, &lamp, flashes.path());
    running.until("waiting", |e| matches!(e, Event::WaitingToBeClaimed)).await;
    house.claim(&lamp).await;
    running.until("claimed", |e| matches!(e, Event::Claimed)).await;
    running.until("reported", |e| matches!(e, Event::Reported { .. })).await;
    // One that nobody has claimed yet is known there too, and signs in by its identity.
    let mut waiting = Running::start(&house, &thermostat, flashes.path());
    waiting.until("waiting", |e| matches!(e, Event::WaitingToBeClaimed)).await;
    let code = make_code(&house).await;
    let keeper = Keeper::of(&house, &code).await;
    let ruin = destroyed(house).await;
    let hub = ruin.hub;
    running.until("cut off", |e| matches!(e, Event::Unreachable { .. } | Event::Disconnected { .. })).await;
    let house = ruin.rebuilt(&code, cloud(&keeper)).await;
    assert_eq!(house.hub.identity().id, hub);

    // Nobody pairs or claims anything: the same credential, the same pinned authority.
    running.until("back", |e| matches!(e, Event::SignedIn { with: SignIn::Secret })).await;
    let before = running.until("reporting", |e| matches!(e, Event::Reported { .. })).await;
    assert!(!before.iter().any(|e| matches!(e, Event::WaitingToBeClaimed | Event::FellBack | Event::CredentialStored { .. })));
    let path = format!("/devices/{}", lamp.id);
    let (status, twin) = house.http("GET", &format!("{path}/twin"), &house.owner_token, None).await;
    assert_eq!((status, twin["reported"]["on"].is_boolean()), (200, true), "{twin}");
    let (status, _) = house.http("PATCH", &format!("{path}/twin/desired"), &house.owner_token, Some(json!({"on": true}))).await;
    assert_eq!(status, 200);
    running.until("told what is desired", |e| matches!(e, Event::Desired { delta } if delta.get("on") == Some(&json!(true)))).await;
    // The one with a counter proves that it is no recording.
    let before = waiting.until("waiting again", |e| matches!(e, Event::WaitingToBeClaimed)).await;
    assert!(before.iter().any(|e| matches!(e, Event::RebaseAsked)), "{before:?}");
    house.claim(&thermostat).await;
    waiting.until("claimed", |e| matches!(e, Event::Claimed)).await;
    let evidence = house.http("GET", &format!("/devices/{}/evidence", thermostat.id), &house.owner_token, None).await;
    assert_eq!(evidence.1["entries"], json!([]), "it is the hub that lost the counter");
    running.end().await;
    waiting.end().await;
    house.hub.service().verify_audit().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_those_of_the_bundle_and_others_than_owners_wait_for_the_review() {
    let house = House::new().await;
    let (lamp, _) = claimed(&house, "lamp").await;
    let (door, _) = claimed(&house, "garage-door").await;
    let service = house.hub.service();
    house.person("mia", Role::Member).await;
    let (gus, _) = house.person("gus", Role::Guest).await;
    service.grant(&house.owner, &lamp.id, share("mia", Privilege::Operate)).await.unwrap();
    service.grant(&house.owner, &lamp.id, share("gus", Privilege::Operate)).await.unwrap();
    service.revoke(&house.owner, &lamp.id, &gus.subject, false).await.unwrap();
    let code = make_code(&house).await;
    let keeper = Keeper::of(&house, &code).await;
    let ruin = destroyed(house).await;
    let house = ruin.rebuilt(&code, cloud(&keeper)).await;

    let (mia, gus) = (sign_in(&house, "mia", "another long password").await, sign_in(&house, "gus", "another long password").await);
    let desire = async |device: &Device, token: &str| {
        let path = format!("/devices/{}/twin/desired", device.id);
        house.http("PATCH", &path, token, Some(json!({"on": true}))).await.0
    };
    let (status, recovery) = house.http("GET", "/recovery", &house.owner_token, None).await;
    assert_eq!((status, &recovery["restored"]["review_pending"], &recovery["restored"]["epoch"]), (200, &json!(true), &json!(2)));
    assert_eq!(desire(&lamp, &house.owner_token).await, 200);
    assert_eq!((desire(&lamp, &mia).await, desire(&lamp, &gus).await), (404, 404));
    let why = house.hub.service().explain(&house.owner, &question(&lamp, "mia")).unwrap();
    assert_eq!((why.allowed, why.reason.as_str()), (false, "review_pending"));
    // A live connection that listens in vain has its right as soon as the owner has looked.
    let mut client = house.connect(&ConnectOptions::new("phone").credentials("user:mia", &mia)).await.unwrap();
    assert_eq!(client.subscribe(&[(&lamp.topic("shadow/#"), Qos::AtLeastOnce)]).await.unwrap(), [0x87]);
    assert_eq!(house.http("POST", "/recovery/review", &mia, None).await.0, 403);
    assert_eq!(house.http("POST", "/recovery/review", &house.owner_token, None).await.0, 204);
    assert_eq!(house.http("POST", "/recovery/review", &house.owner_token, None).await.0, 409);
    assert_eq!(client.subscribe(&[(&lamp.topic("shadow/#"), Qos::AtLeastOnce)]).await.unwrap(), [1]);
    assert_eq!((desire(&lamp, &mia).await, desire(&lamp, &gus).await), (200, 404));
    assert_eq!(desire(&door, &mia).await, 404);
    // To give a right anew takes a generation above every mark.
    house.hub.service().grant(&house.owner, &lamp.id, share("gus", Privilege::View)).await.unwrap();
    let bindings = house.hub.service().bindings(&house.owner, &lamp.id).unwrap();
    assert_eq!(bindings.len(), 3);
    assert!(actor(&house, &gus).user().is_ok());
}

fn question(device: &Device, name: &str) -> hearthkey::service::Question {
    hearthkey::service::Question {
        device: device.id.clone(),
        action: hearthkey::domain::policy::Action::Operate,
        name: None,
        username: Some(name.into()),
        at: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_used_after_the_bundle_was_made_opens_nothing_at_the_new_hub() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let early = house.device("lamp").await;
    house.try_device(&lamp, Version::V5, 5).await.unwrap();
    let code = make_code(&house).await;
    let keeper = Keeper::of(&house, &code).await;
    // Both sign in after the bundle, and somebody has listened.
    let recorded = async |house: &House, device: &Device, counter: u64| {
        let (stream, spki) = house.dial(Trust::FirstUse).await;
        let password = device.keys.token(counter, &[7; 16], &spki.unwrap());
        (Client::connect(stream, &ConnectOptions::new("test").credentials(device.id.as_str(), password.clone())).await.unwrap(), password)
    };
    let (_, seen) = recorded(&house, &lamp, 6).await;
    let (_, seen_early) = recorded(&house, &early, 1).await;
    let ruin = destroyed(house).await;
    let house = ruin.rebuilt(&code, cloud(&keeper)).await;
    for (device, password) in [(&lamp, seen), (&early, seen_early)] {
        let (stream, _) = house.dial(Trust::FirstUse).await;
        let options = ConnectOptions::new("test").credentials(device.id.as_str(), password);
        let mut client: Client<Stream> = Client::connect(stream, &options).await.unwrap();
        // It is asked for what the recording does not know, and may do nothing else.
        let codes = client
            .subscribe(&[(&device.topic("rebase/challenge"), Qos::AtLeastOnce), (&device.topic("shadow/#"), Qos::AtLeastOnce)])
            .await
            .unwrap();
        assert_eq!(codes, [1, 0x87]);
        client.receive(SHORT).await.unwrap().expect("a challenge");
        let report = json!({"state": {"reported": {"on": true}}}).to_string();
        let said = client.publish(&Message::new(device.topic("shadow/update"), report, Qos::AtLeastOnce)).await;
        assert!(!matches!(said, Ok(0)), "{said:?}");
    }
    // The device itself answers, and counts on from where it was.
    let mut client = house.try_device(&lamp, Version::V5, 7).await.unwrap();
    client.subscribe(&[(&lamp.topic("rebase/challenge"), Qos::AtLeastOnce)]).await.unwrap();
    let challenge = client.receive(SHORT).await.unwrap().expect("a challenge");
    let (counter, answer) = lamp.keys.rebase_answer(&challenge.payload, 7).unwrap();
    client.publish(&Message::new(lamp.topic("rebase/response"), answer, Qos::AtMostOnce)).await.unwrap();
    while client.next().await.is_ok() {}
    let mut client = house.try_device(&lamp, Version::V5, counter + 1).await.unwrap();
    assert_eq!(client.subscribe(&[(&lamp.topic("shadow/#"), Qos::AtLeastOnce)]).await.unwrap(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_out_before_goes_on_serving_under_another_master_key() {
    let house = House::new().await;
    let (lamp, secret) = claimed(&house, "lamp").await;
    let code = make_code(&house).await;
    let keeper = Keeper::of(&house, &code).await;
    let sessions_end = house.owner_token.clone();
    let ruin = destroyed(house).await;
    let house = ruin.rebuilt(&code, cloud(&keeper)).await;
    let by_secret = async |secret: &str| house.connect(&ConnectOptions::new("test").credentials(lamp.id.as_str(), secret)).await.is_ok();
    assert!(by_secret(&secret).await);
    assert!(!by_secret(&secret.replace(&secret[secret.len() - 4..], "AAAA")).await);
    assert_eq!(house.http("GET", "/me", &sessions_end, None).await.0, 401, "sessions are not carried over");
    // A bundle of the new hub makes a third one.
    let code = make_code(&house).await;
    let keeper = Keeper::of(&house, &code).await;
    let ruin = destroyed(house).await;
    let house = ruin.rebuilt(&code, cloud(&keeper)).await;
    let by_secret = house.connect(&ConnectOptions::new("test").credentials(lamp.id.as_str(), &secret)).await;
    assert!(by_secret.is_ok());
}
