//! Pairing as the hub sees it: the radio and the device are played here, through the service and over real MQTT.

use crate::house::{Device, HERE, House, config};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::domain::device::{Standing, Trust};
use hearthkey::domain::ids::{BrandId, ModelName};
use hearthkey::domain::keys::HubScopedKey;
use hearthkey::domain::pairing::{Delivery, EndCode, Hello, pair_tag};
use hearthkey::domain::voucher::split_voucher_file;
use hearthkey::factory::{MintOptions, RunChoice, SAMPLES, Workshop};
use hearthkey::hub::Hub;
use hearthkey::service::{
    Actor, CommandRequest, Confirmation, Grant, Job, NewPairing, PairVerdict, PairingProblem, PairingView, RadioState, Recipient, Refusal,
    Service, SignInAttempt, WRONG_CODE, WifiWish,
};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Error, Message, Qos};
use hearthkey::sim::tls::Stream;
use std::sync::Arc;
use std::time::Duration;

/// The handshake hash of the session that is not there.
const H: [u8; 32] = [42; 32];
const PATIENCE: Duration = Duration::from_secs(10);

async fn house() -> House {
    let house = House::new().await;
    house.hub.service().radio_changed(RadioState::Ready, Some("hci0".into()));
    house
}

fn asked(device: &Device) -> NewPairing {
    NewPairing { code: Some(device.code.clone().into()), name: "Lamp".into(), room: "Hall".into(), ..NewPairing::default() }
}

/// What the device says, with its own key.
fn hello(house: &House, device: &Device, resets: u64) -> Hello {
    let key = HubScopedKey::from_bytes(*device.keys.scoped());
    Hello {
        device: device.id.clone(),
        brand: house.brand.clone(),
        model: device.minted.model.clone(),
        hardware: String::new(),
        firmware: "1.0".into(),
        resets,
        voucher: Vec::new(),
        model_len: 0,
        tag: pair_tag(&key, &house.hub.identity().id, &device.id, &H, resets, "1.0"),
    }
}

/// The same with the voucher that came with it, and the model part.
fn hello_with_voucher(house: &House, device: &Device) -> (Hello, Vec<u8>) {
    let (voucher, model) = split_voucher_file(&std::fs::read(&device.minted.voucher).unwrap()).unwrap();
    (Hello { voucher, model_len: model.len(), ..hello(house, device, 0) }, model)
}

/// A device whose batch the hub has not got.
fn stranger(house: &House, workshop: &Workshop, brand: &BrandId) -> Device {
    let run = workshop.mint(brand, &ModelName::parse("garage-door").unwrap(), 1, &MintOptions::default(), &()).unwrap();
    house.as_device(run.devices().next().unwrap().unwrap())
}

/// Begins a pairing and takes it as the radio does.
async fn begin(service: &Arc<Service>, actor: &Actor, new: NewPairing) -> (PairingView, Job) {
    let view = service.begin_pairing(actor, new).await.unwrap();
    let job = tokio::time::timeout(PATIENCE, service.next_pairing()).await.unwrap();
    assert_eq!(job.id, view.id);
    (view, job)
}

async fn judge(house: &House, job: &Job, hello: &Hello) -> PairVerdict {
    house.hub.service().judge_hello(job, hello, &H, None).await.unwrap()
}

/// Pairs up to where the device has what it needs.
async fn delivered(house: &House, actor: &Actor, device: &Device, resets: u64) -> (Job, Delivery) {
    let (_, job) = begin(house.hub.service(), actor, asked(device)).await;
    match judge(house, &job, &hello(house, device, resets)).await {
        PairVerdict::Deliver(delivery) => (job, delivery),
        other => panic!("{other:?}"),
    }
}

async fn refused(house: &House, actor: &Actor, device: &Device, hello: &Hello) -> EndCode {
    let (_, job) = begin(house.hub.service(), actor, asked(device)).await;
    match judge(house, &job, hello).await {
        PairVerdict::Refuse(code, problem) => {
            house.hub.service().finish_pairing(&job.id, Err(problem));
            code
        }
        other => panic!("{other:?}"),
    }
}

async fn sign_in(house: &House, device: &Device, password: &str) -> Result<Client<Stream>, Error> {
    house.connect(&ConnectOptions::new("paired").credentials(device.id.as_str(), password)).await
}

/// The whole way; the device's password.
async fn paired(house: &House, actor: &Actor, device: &Device, resets: u64) -> String {
    let (job, delivery) = delivered(house, actor, device, resets).await;
    let password = delivery.secret.password().to_string();
    sign_in(house, device, &password).await.unwrap();
    assert!(house.hub.service().await_sign_in(&job.id).await);
    house.hub.service().finish_pairing(&job.id, Ok(()));
    password
}

fn shown(house: &House, actor: &Actor, id: &str) -> PairingView {
    house.hub.service().pairing(actor, id).unwrap()
}

fn standing(house: &House, device: &Device) -> Standing {
    house.hub.service().device(&house.owner, &device.id).unwrap().state
}

async fn audited(house: &House, action: &str) -> Vec<(String, String)> {
    let (_, body) = house.http("GET", "/audit?limit=200", &house.owner_token, None).await;
    let text = |e: &serde_json::Value, name: &str| e[name].as_str().unwrap_or_default().to_owned();
    let all = body["entries"].as_array().unwrap().iter().filter(|e| e["action"] == action);
    all.map(|e| (text(e, "object"), text(e, "reason"))).collect()
}

/// Waits until the audit has a pairing that was refused for this reason: refusals are written beside what was asked.
async fn denied(house: &House, reason: &str) {
    let written = async { while !audited(house, "device.pair").await.iter().any(|(_, r)| r == reason) {} };
    tokio::time::timeout(PATIENCE, written).await.unwrap_or_else(|_| panic!("{reason} is not in the audit"));
}

fn problem() -> PairingProblem {
    PairingProblem::new("lost", "The link is gone.", "Try again.")
}

#[tokio::test]
async fn a_device_that_proves_its_key_is_claimed_with_its_first_sign_in_and_not_before() {
    let house = house().await;
    let lamp = house.device("lamp").await;
    let (job, delivery) = delivered(&house, &house.owner, &lamp, 3).await;
    assert_eq!((delivery.hub, &delivery.ca), (house.hub.identity().id, &house.hub.identity().ca_der));
    assert_eq!(delivery.addresses, [house.hub.addresses.mqtts.unwrap().to_string()]);
    assert!(delivery.check().is_ok() && delivery.wifi.is_none());
    assert_eq!(standing(&house, &lamp), Standing::Waiting, "nothing is written yet");
    assert_eq!(shown(&house, &house.owner, &job.id).trust, Some(Trust::Attested));

    // Whoever is connected under the factory's identity goes.
    let mut waiting = house.connect_device(&lamp).await;
    let mut client = sign_in(&house, &lamp, &delivery.secret.password()).await.unwrap();
    assert!(tokio::time::timeout(PATIENCE, waiting.ping()).await.unwrap().is_err());
    client.ping().await.unwrap();
    assert!(house.hub.service().await_sign_in(&job.id).await);
    house.hub.service().finish_pairing(&job.id, Ok(()));
    let device = house.hub.service().device(&house.owner, &lamp.id).unwrap();
    assert_eq!((device.state, device.name.as_str(), device.room.as_str()), (Standing::Ready, "Lamp", "Hall"));
    assert_eq!((device.trust, device.privilege), (Trust::Attested, Some(Privilege::Administer)));
    let view = shown(&house, &house.owner, &job.id);
    assert_eq!((view.step, view.problem), ("done", None));
    assert_eq!(audited(&house, "claim.complete").await.len(), 1);
    assert_eq!(audited(&house, "device.pair").await, [(lamp.id.to_string(), String::new())]);
}

#[tokio::test]
async fn a_device_of_a_trusted_brand_that_the_hub_never_heard_of_is_provisional_once_a_person_says_yes() {
    let house = house().await;
    let door = stranger(&house, &house.workshop, &house.brand);
    let service = house.hub.service();
    // The models of the brand are not known either.
    let (said, model) = hello_with_voucher(&house, &door);
    let (_, job) = begin(service, &house.owner, asked(&door)).await;
    assert!(matches!(judge(&house, &job, &said).await, PairVerdict::WantModel));
    assert!(matches!(service.judge_hello(&job, &said, &H, Some(&model)).await.unwrap(), PairVerdict::Confirm));
    let view = shown(&house, &house.owner, &job.id);
    assert_eq!((view.step, view.trust), ("confirming", Some(Trust::Provisional)));
    let wifi = WifiWish::given("home", "long enough".to_owned().into()).unwrap();
    service.confirm_pairing(&house.owner, &job.id, Some(wifi)).unwrap();
    let Confirmation::Confirmed { delivery, wifi, .. } = service.pairing_confirmed(&job.id).await else { panic!("it is confirmed") };
    assert_eq!(wifi.unwrap().ssid, b"home");
    assert!(service.device(&house.owner, &door.id).is_err(), "nothing is written yet");
    let mut live = sign_in(&house, &door, &delivery.secret.password()).await.unwrap();
    assert!(service.await_sign_in(&job.id).await);
    service.finish_pairing(&job.id, Ok(()));
    let device = service.device(&house.owner, &door.id).unwrap();
    assert_eq!((device.trust, device.state, device.kind.as_str()), (Trust::Provisional, Standing::Ready, "garage-door"));
    assert_eq!(audited(&house, "registry.voucher").await.len(), 1);

    // It takes nothing critical, and neither drives nor is driven.
    live.ping().await.unwrap();
    let open = CommandRequest { name: "open".into(), args: serde_json::Value::Null, ttl_ms: None, wait_ms: None, client_token: None };
    match service.command(&house.owner, &door.id, open).await {
        Err(Refusal::NotAllowed(reason)) => assert_eq!(reason.as_str(), "not_attested"),
        other => panic!("{other:?}"),
    }
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    for (driven, driver) in [(&door, &lamp), (&lamp, &door)] {
        let grant = Grant { to: Recipient::Device(driver.id.clone()), terms: Terms::of(Privilege::Operate) };
        assert!(matches!(service.grant(&house.owner, &driven.id, grant).await, Err(Refusal::Conflict(_))));
    }
}

/// Two devices that are paired by voucher and code: one that is genuine, and a copy that knows the code and lacks the key.
pub async fn genuine_and_copy(house: &House) -> (String, Vec<Device>) {
    let service = house.hub.service();
    service.radio_changed(RadioState::Ready, Some("hci0".into()));
    let run = house.workshop.mint(&house.brand, &ModelName::parse("garage-door").unwrap(), 2, &MintOptions::default(), &()).unwrap();
    let doors: Vec<Device> = run.devices().map(|minted| house.as_device(minted.unwrap())).collect();
    for (n, door) in doors.iter().enumerate() {
        let (said, model) = hello_with_voucher(house, door);
        let said = if n == 1 { Hello { tag: [7; 32], ..said } } else { said };
        let (_, job) = begin(service, &house.owner, asked(door)).await;
        assert!(matches!(service.judge_hello(&job, &said, &H, Some(&model)).await.unwrap(), PairVerdict::Confirm));
        service.confirm_pairing(&house.owner, &job.id, None).unwrap();
        let Confirmation::Confirmed { delivery, .. } = service.pairing_confirmed(&job.id).await else { panic!("it is confirmed") };
        sign_in(house, door, &delivery.secret.password()).await.unwrap();
        assert!(service.await_sign_in(&job.id).await);
        service.finish_pairing(&job.id, Ok(()));
        assert_eq!(service.device(&house.owner, &door.id).unwrap().trust, Trust::Provisional);
    }
    (run.run.clone(), doors)
}

/// How sure the hub is of them, and how they stand.
pub fn found(house: &House, doors: &[Device]) -> Vec<(Trust, Standing)> {
    doors.iter().map(|door| house.hub.service().device(&house.owner, &door.id).unwrap()).map(|d| (d.trust, d.state)).collect()
}

#[tokio::test]
async fn what_a_provisional_device_said_shows_whether_it_is_genuine_when_its_batch_comes() {
    let house = house().await;
    let (run, doors) = genuine_and_copy(&house).await;
    let file = house.dir.path().join("late.hkb");
    house.workshop.batch(&house.brand, &RunChoice::One(run), &house.hub.identity().request_line, &file, &()).unwrap();
    house.hub.service().import_batch(&house.owner, file).await.unwrap();
    assert_eq!(found(&house, &doors), [(Trust::Attested, Standing::Ready), (Trust::Attested, Standing::Quarantined)]);
    assert_eq!(audited(&house, "device.attest").await.len(), 2);
}

#[tokio::test]
async fn a_person_who_says_no_to_a_provisional_device_leaves_nothing_of_it() {
    let house = house().await;
    let door = stranger(&house, &house.workshop, &house.brand);
    let service = house.hub.service().clone();
    let (said, model) = hello_with_voucher(&house, &door);
    let (view, job) = begin(&service, &house.owner, asked(&door)).await;
    assert!(matches!(service.judge_hello(&job, &said, &H, Some(&model)).await.unwrap(), PairVerdict::Confirm));
    let waiting = tokio::spawn({
        let (service, id) = (service.clone(), job.id.clone());
        async move { service.pairing_confirmed(&id).await }
    });
    service.cancel_pairing(&house.owner, &view.id).unwrap();
    assert!(matches!(waiting.await.unwrap(), Confirmation::Cancelled));
    service.finish_pairing(&job.id, Err(problem()));
    assert_eq!(shown(&house, &house.owner, &view.id).step, "cancelled");
    assert!(service.device(&house.owner, &door.id).is_err());
}

#[tokio::test]
async fn who_does_not_prove_what_the_registry_asks_is_refused_with_the_reason_in_the_audit_alone() {
    let house = house().await;
    let lamp = house.device("lamp").await;
    let copy = Hello { tag: [1; 32], ..hello(&house, &lamp, 0) };
    assert_eq!(refused(&house, &house.owner, &lamp, &copy).await, EndCode::NotTrusted);
    let unknown = stranger(&house, &house.workshop, &house.brand);
    assert_eq!(refused(&house, &house.owner, &unknown, &hello(&house, &unknown, 0)).await, EndCode::NotKnown);
    // Of a brand that nobody trusted here.
    let other = Workshop::open(house.dir.path().join("other")).unwrap();
    let brand = BrandId::parse("elsewhere").unwrap();
    other.new_brand(&brand).unwrap();
    for sample in SAMPLES {
        other.add_model(&brand, sample.json).unwrap();
    }
    let foreign = stranger(&house, &other, &brand);
    let (said, _) = hello_with_voucher(&house, &foreign);
    assert_eq!(refused(&house, &house.owner, &foreign, &said).await, EndCode::NotKnown);
    // A voucher of another device.
    let (theirs, _) = hello_with_voucher(&house, &stranger(&house, &house.workshop, &house.brand));
    let borrowed = Hello { voucher: theirs.voucher, ..hello(&house, &unknown, 0) };
    assert_eq!(refused(&house, &house.owner, &unknown, &borrowed).await, EndCode::NotTrusted);
    for reason in ["wrong_tag", "no_voucher", "unknown_identity", "wrong_voucher"] {
        denied(&house, reason).await;
    }
    assert_eq!(standing(&house, &lamp), Standing::Waiting);
}

#[tokio::test]
async fn a_device_of_somebody_else_is_refused_and_who_administers_it_gets_a_new_credential_and_nothing_else() {
    let house = house().await;
    let lamp = house.device("lamp").await;
    let (mona, _) = house.person("mona", Role::Member).await;
    let first = paired(&house, &mona, &lamp, 4).await;
    assert_eq!(refused(&house, &house.owner, &lamp, &hello(&house, &lamp, 4)).await, EndCode::ClaimedElsewhere);

    let service = house.hub.service();
    let before = service.device(&mona, &lamp.id).unwrap();
    let (job, delivery) = delivered(&house, &mona, &lamp, 4).await;
    sign_in(&house, &lamp, &first).await.expect("until the new one is used, the old one serves");
    let mut live = sign_in(&house, &lamp, &delivery.secret.password()).await.unwrap();
    live.ping().await.unwrap();
    assert!(service.await_sign_in(&job.id).await);
    service.finish_pairing(&job.id, Ok(()));
    let after = service.device(&mona, &lamp.id).unwrap();
    assert_eq!((after.name, after.privilege, after.state), (before.name, before.privilege, before.state));
    assert!(sign_in(&house, &lamp, &first).await.is_err(), "the old one lets nobody in any more");
}

#[tokio::test]
async fn a_device_that_was_reset_by_hand_is_transferred_in_the_transaction_of_its_sign_in() {
    let house = house().await;
    let lamp = house.device("lamp").await;
    let (mona, _) = house.person("mona", Role::Member).await;
    let first = paired(&house, &mona, &lamp, 4).await;
    let mut old_life = sign_in(&house, &lamp, &first).await.unwrap();
    let said = Message { retain: true, ..Message::new(lamp.topic("diary"), "we were away", Qos::AtLeastOnce) };
    assert_eq!(old_life.publish(&said).await.unwrap(), 0);
    let (job, delivery) = delivered(&house, &house.owner, &lamp, 5).await;
    let service = house.hub.service();
    assert!(service.device(&mona, &lamp.id).is_ok(), "until it signs in, it is hers");
    let mut live = sign_in(&house, &lamp, &delivery.secret.password()).await.unwrap();
    live.ping().await.unwrap();
    assert!(service.await_sign_in(&job.id).await);
    service.finish_pairing(&job.id, Ok(()));
    assert!(matches!(service.device(&mona, &lamp.id), Err(Refusal::NotFound(_))));
    assert_eq!(service.device(&house.owner, &lamp.id).unwrap().privilege, Some(Privilege::Administer));
    assert!(service.retained().unwrap().iter().all(|(topic, _)| !topic.ends_with("diary")));
    assert!(tokio::time::timeout(PATIENCE, old_life.ping()).await.unwrap().is_err());
    assert_eq!(audited(&house, "device.reset").await, [(lamp.id.to_string(), "reset_counter".into())]);
    // The same word again moves nothing.
    assert_eq!(refused(&house, &mona, &lamp, &hello(&house, &lamp, 5)).await, EndCode::ClaimedElsewhere);
}

#[tokio::test]
async fn a_hub_that_dies_before_the_sign_in_has_changed_nothing_and_one_that_dies_after_it_lets_the_device_in() {
    let house = house().await;
    let (lamp, door) = (house.device("lamp").await, house.device("garage-door").await);
    let first = paired(&house, &house.owner, &lamp, 1).await;
    let (job, unused) = delivered(&house, &house.owner, &lamp, 1).await;
    house.hub.service().finish_pairing(&job.id, Err(problem()));
    let (job, lost) = delivered(&house, &house.owner, &lamp, 1).await;
    house.hub.service().finish_pairing(&job.id, Err(problem()));
    let (_, delivery) = delivered(&house, &house.owner, &door, 1).await;
    let password = delivery.secret.password().to_string();
    // Committed, and CONNACK never sent.
    let attempt =
        SignInAttempt { username: door.id.to_string(), password: password.clone().into(), certificate: None, spki: None, source: HERE };
    assert!(house.hub.service().sign_in(attempt).await.is_ok());
    let House { hub, dir, workshop, brand, owner, owner_token } = house;
    hub.shut_down().await;
    let hub = Hub::start(config(&dir)).await.unwrap();
    let house = House { hub, dir, workshop, brand, owner, owner_token };
    assert!(house.hub.service().pairings(&house.owner).unwrap().is_empty());
    sign_in(&house, &door, &password).await.expect("the device tries again");
    assert_eq!(standing(&house, &door), Standing::Ready);
    for secret in [unused.secret, lost.secret] {
        assert!(sign_in(&house, &lamp, &secret.password()).await.is_err());
    }
    sign_in(&house, &lamp, &first).await.expect("as it was");
}

#[tokio::test]
async fn what_is_cancelled_or_lost_leaves_the_device_as_it_was() {
    let house = house().await;
    let service = house.hub.service().clone();
    let lamp = house.device("lamp").await;
    let (job, delivery) = delivered(&house, &house.owner, &lamp, 0).await;
    let waiting = tokio::spawn({
        let (service, id) = (service.clone(), job.id.clone());
        async move { service.await_sign_in(&id).await }
    });
    service.cancel_pairing(&house.owner, &job.id).unwrap();
    assert!(job.cancel.is_cancelled());
    assert!(!waiting.await.unwrap());
    service.finish_pairing(&job.id, Err(problem()));
    assert!(sign_in(&house, &lamp, &delivery.secret.password()).await.is_err());
    assert_eq!((shown(&house, &house.owner, &job.id).step, standing(&house, &lamp)), ("cancelled", Standing::Waiting));
    assert!(matches!(service.cancel_pairing(&house.owner, &job.id), Err(Refusal::Conflict(_))), "it is over");

    let (job, delivery) = delivered(&house, &house.owner, &lamp, 0).await;
    service.finish_pairing(&job.id, Err(problem()));
    assert!(sign_in(&house, &lamp, &delivery.secret.password()).await.is_err());
    let view = shown(&house, &house.owner, &job.id);
    assert_eq!((view.step, view.problem.unwrap().code), ("failed", "lost"));
    assert!(!service.await_sign_in(&job.id).await);
    // The next one works.
    paired(&house, &house.owner, &lamp, 0).await;
}

#[tokio::test]
async fn wrong_codes_count_as_in_a_claim_wherever_they_are_found_out() {
    let house = house().await;
    let (lamp, other) = (house.device("lamp").await, house.device("lamp").await);
    let service = house.hub.service();
    let wrong =
        || NewPairing { device: Some(lamp.id.to_string()), code: Some(other.minted.code.to_string().into()), ..NewPairing::default() };
    for _ in 0..2 {
        assert!(matches!(service.begin_pairing(&house.owner, wrong()).await, Err(Refusal::ClaimRefused)));
    }
    // A code of a device that is in the registry finds it.
    let typed = NewPairing { code: Some(other.minted.code.to_string().into()), ..NewPairing::default() };
    let (view, job) = begin(service, &house.owner, typed).await;
    assert_eq!(view.device_id.as_ref(), Some(&other.id));
    service.finish_pairing(&job.id, Err(PairingProblem::new(WRONG_CODE, "The code is wrong.", "Compare the label.")));
    // Its code is the right one, whoever hangs up in its place: that was no guess. With a device that nobody knows it may be one.
    let unknown = NewPairing { device: Some("lamp-000000000000".into()), ..wrong() };
    let (_, job) = begin(service, &house.owner, unknown).await;
    service.finish_pairing(&job.id, Err(PairingProblem::new(WRONG_CODE, "The code is wrong.", "Compare the label.")));
    assert!(matches!(service.begin_pairing(&house.owner, wrong()).await, Err(Refusal::ClaimRefused)));
    assert!(matches!(service.begin_pairing(&house.owner, wrong()).await, Err(Refusal::TooMany(_))), "the fifth makes it wait");
    assert!(matches!(service.begin_pairing(&house.owner, asked(&lamp)).await, Err(Refusal::TooMany(_))));
}

#[tokio::test]
async fn pairings_wait_for_each_other_and_everybody_sees_their_own() {
    let house = house().await;
    let devices = house.devices("lamp", 10).await;
    let service = house.hub.service();
    let (mona, _) = house.person("mona", Role::Member).await;
    let (gus, _) = house.person("gus", Role::Guest).await;
    assert!(matches!(service.begin_pairing(&gus, asked(&devices[0])).await, Err(Refusal::RoleTooLow)));
    assert!(matches!(service.pairings(&gus), Err(Refusal::RoleTooLow)));
    let (first, job) = begin(service, &house.owner, asked(&devices[0])).await;
    assert!(matches!(service.begin_pairing(&mona, asked(&devices[0])).await, Err(Refusal::Conflict(_))), "one at a time");
    let mut queued = Vec::new();
    for device in &devices[1..9] {
        queued.push(service.begin_pairing(&mona, asked(device)).await.unwrap());
    }
    assert!(matches!(service.begin_pairing(&mona, asked(&devices[9])).await, Err(Refusal::Conflict(_))), "eight wait");
    assert_eq!(queued.iter().map(|v| v.position).collect::<Vec<_>>(), (1..=8).map(Some).collect::<Vec<_>>());
    assert_eq!((service.pairings(&mona).unwrap().len(), service.pairings(&house.owner).unwrap().len()), (8, 9));
    assert!(matches!(service.pairing(&mona, &first.id), Err(Refusal::NotFound(_))));
    assert!(matches!(service.cancel_pairing(&mona, &first.id), Err(Refusal::NotFound(_))));
    assert_eq!(service.cancel_pairing(&mona, &queued[0].id).unwrap().step, "cancelled");
    assert_eq!(shown(&house, &mona, &queued[1].id).position, Some(1));
    service.finish_pairing(&job.id, Err(problem()));
    let next = tokio::time::timeout(PATIENCE, service.next_pairing()).await.unwrap();
    assert_eq!(next.id, queued[1].id);
}

#[tokio::test]
async fn who_loses_the_right_to_claim_pairs_nothing_any_more_at_whatever_step() {
    let house = house().await;
    let (lamp, door) = (house.device("lamp").await, house.device("garage-door").await);
    let service = house.hub.service().clone();
    let (mona, _) = house.person("mona", Role::Member).await;
    let (mick, _) = house.person("mick", Role::Member).await;
    let demote = async |actor: &Actor| {
        let id = actor.user().unwrap().to_string();
        let guest = Some(serde_json::json!({"role": "guest"}));
        assert_eq!(house.http("PATCH", &format!("/users/{id}"), &house.owner_token, guest).await.0, 200);
    };
    // While it waits for the device's sign-in.
    let (job, delivery) = delivered(&house, &mona, &lamp, 0).await;
    let waits = service.begin_pairing(&mick, asked(&door)).await.unwrap();
    demote(&mona).await;
    demote(&mick).await;
    assert!(sign_in(&house, &lamp, &delivery.secret.password()).await.is_err());
    assert_eq!(standing(&house, &lamp), Standing::Waiting);
    assert!(!service.await_sign_in(&job.id).await);
    assert_eq!(shown(&house, &house.owner, &job.id).problem.unwrap().code, "not_allowed");
    service.finish_pairing(&job.id, Err(problem()));
    // While it is queued: the next one comes up in its place.
    let (next, job) = begin(&service, &house.owner, asked(&lamp)).await;
    assert_eq!(next.id, job.id);
    let view = shown(&house, &house.owner, &waits.id);
    assert_eq!((view.step, view.problem.unwrap().code), ("failed", "not_allowed"));
    denied(&house, "not_allowed").await;
}

#[tokio::test]
async fn a_stock_device_signs_in_with_what_it_was_given_and_is_gone_when_it_is_removed() {
    let house = house().await;
    let body = serde_json::json!({"name": "Plug", "room": "Hall"});
    let (status, made) = house.http("POST", "/devices", &house.owner_token, Some(body)).await;
    assert_eq!(status, 201, "{made}");
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let (id, password) = (text("username"), text("password"));
    assert_eq!((&made["device"]["trust"], &made["device"]["state"]), (&serde_json::json!("unattested"), &serde_json::json!("ready")));
    assert_eq!((text("host"), made["port"].as_u64().unwrap()), ("127.0.0.1".into(), u64::from(house.hub.addresses.mqtts.unwrap().port())));
    let esphome = made["settings"]["esphome"].as_str().unwrap();
    assert!(esphome.contains(&format!("topic_prefix: things/{id}\n")) && esphome.contains(&password), "{esphome}");
    let options = ConnectOptions::new(id.as_str()).credentials(id.as_str(), password.as_str());
    let mut client = house.connect(&options).await.unwrap();
    let state = Message { retain: true, ..Message::new(format!("things/{id}/switch/relay/state"), "ON", Qos::AtLeastOnce) };
    assert_eq!(client.publish(&state).await.unwrap(), 0);
    assert_eq!(house.http("DELETE", &format!("/devices/{id}"), &house.owner_token, None).await.0, 204);
    assert!(tokio::time::timeout(PATIENCE, client.ping()).await.unwrap().is_err());
    assert!(house.connect(&options).await.is_err());
    assert_eq!(house.http("GET", &format!("/devices/{id}"), &house.owner_token, None).await.0, 404);
    let (_, devices) = house.http("GET", "/devices", &house.owner_token, None).await;
    assert!(devices["devices"].as_array().unwrap().is_empty(), "{devices}");
}
