//! What was true when something began, and is not when it ends: the later truth decides.

use crate::house::{Device, HERE, House};
use futures_util::FutureExt;
use hearthkey::domain::account::Role;
use hearthkey::domain::ids::BrandId;
use hearthkey::domain::topic::Verb;
use hearthkey::service::{CommandRequest, Refusal, Service, SignInAttempt, SignInRefusal, SignedIn};
use hearthkey::sim::mqtt::{Message, Qos};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(10);
const LOCK: &str = r#"{"model": "lock", "title": "Lock", "version": 1, "kind": "lock",
    "attributes": {"locked": {"type": "boolean", "access": "write", "critical": true}, "light": {"type": "boolean", "access": "write"}},
    "commands": {"blink": {"title": "Blink"}}}"#;

async fn lock(house: &House) -> Device {
    house.workshop.add_model(&house.brand, LOCK).unwrap();
    let device = house.device("lock").await;
    house.claim(&device).await;
    device
}

fn attempt(username: &str, password: String, certificate: Option<(String, [u8; 32])>) -> SignInAttempt {
    SignInAttempt { username: username.into(), password: password.into(), certificate, spki: None, source: HERE }
}

async fn by_certificate(service: &Arc<Service>, device: &Device, fingerprint: [u8; 32]) -> Result<SignedIn, SignInRefusal> {
    service.sign_in(attempt("", String::new(), Some((device.id.to_string(), fingerprint)))).await
}

async fn by_token(house: &House, device: &Device) -> SignedIn {
    let token = device.keys.token(device.next_counter(), &[7; 16], &[]);
    house.hub.service().sign_in(attempt(device.id.as_str(), token.to_string(), None)).await.unwrap()
}

fn wish(name: &str, value: bool) -> serde_json::Map<String, serde_json::Value> {
    serde_json::Map::from_iter([(name.to_owned(), json!(value))])
}

#[tokio::test]
async fn an_account_that_has_ended_does_nothing_that_it_had_asked_for() {
    let house = House::new().await;
    let (lamp, waiting) = (house.device("lamp").await, house.device("lamp").await);
    house.claim(&lamp).await;
    let (late, _) = house.person("paul", Role::Owner).await;
    let (mia, _) = house.person("mia", Role::Member).await;
    let service = house.hub.service();
    service.end_user(&house.owner, late.user().unwrap(), true).await.unwrap();
    // The role of the request's start still says owner.
    let brand = BrandId::parse("other").unwrap();
    let print = house.workshop.new_brand(&brand).unwrap().fingerprint.to_string();
    assert!(matches!(service.trust_brand(&late, brand, &print).await, Err(Refusal::SignedOut)));
    assert!(matches!(service.suspend(&late, &lamp.id, true).await, Err(Refusal::SignedOut)));
    assert!(matches!(service.claim(&late, &waiting.code, None, "", "").await, Err(Refusal::SignedOut)));
    assert!(matches!(service.take_administration(&late, &lamp.id).await, Err(Refusal::SignedOut)));
    assert!(matches!(service.end_user(&late, mia.user().unwrap(), true).await, Err(Refusal::SignedOut)));
    assert!(matches!(service.revoke(&late, &lamp.id, &late.subject, true).await, Err(Refusal::SignedOut)));
    assert_eq!(service.users(&house.owner).unwrap().len(), 2);
}

#[tokio::test]
async fn a_sign_in_does_not_outlive_the_claim_or_the_certificate_it_came_with() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let service = house.hub.service();
    let waiting = by_token(&house, &lamp).await;
    assert!(service.still_stands(&waiting));
    house.claim(&lamp).await;
    assert!(!service.still_stands(&waiting), "a claim ends what came before it");
    let end = service.now() + 3_600_000;
    service.certificate_issued(&house.owner, &lamp.id, [1; 32], end).await.unwrap();
    let (claimed, certified) = (by_token(&house, &lamp).await, by_certificate(service, &lamp, [1; 32]).await.unwrap());
    assert!(service.still_stands(&claimed) && service.still_stands(&certified));
    service.remove_device(&house.owner, &lamp.id).await.unwrap();
    // It admits again, as one that waits; but not these.
    assert!(service.still_stands(&by_token(&house, &lamp).await));
    assert!(!service.still_stands(&claimed) && !service.still_stands(&certified));
}

#[tokio::test]
async fn of_many_certificates_the_newest_sign_in() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let service = house.hub.service();
    let now = service.now();
    service.certificate_issued(&house.owner, &lamp.id, [0xFF; 32], now).await.unwrap();
    for n in 0..110u8 {
        // Falling fingerprints: the order of the rows is the opposite of that of their making.
        service.certificate_issued(&house.owner, &lamp.id, [200 - n; 32], now + 3_600_000 + u64::from(n)).await.unwrap();
    }
    for (fingerprint, stands) in [(0xFF, false), (200, false), (111, false), (110, true), (91, true)] {
        assert_eq!(by_certificate(service, &lamp, [fingerprint; 32]).await.is_ok(), stands, "{fingerprint}");
    }
}

#[tokio::test]
async fn the_last_edge_of_presence_is_the_one_that_stays() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let service = house.hub.service();
    service.device_connected(&lamp.id).await;
    {
        // The first connection goes, and while the card is still writing that, the second one comes.
        let mut down = Box::pin(service.device_disconnected(&lamp.id));
        assert!(down.as_mut().now_or_never().is_none(), "it must be writing");
        service.device_connected(&lamp.id).await;
        down.await;
    }
    let mut owner = house.connect_person("olivia", &house.owner_token).await.unwrap();
    owner.subscribe(&[(&lamp.topic("presence"), Qos::AtMostOnce)]).await.unwrap();
    let kept = owner.receive(SHORT).await.unwrap().expect("the retained presence");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&kept.payload).unwrap()["online"], true);
}

#[tokio::test]
async fn a_critical_desire_does_not_outlive_the_connection_it_was_made_for() {
    let house = House::new().await;
    let device = lock(&house).await;
    let service = house.hub.service();
    for _ in 0..20 {
        service.device_connected(&device.id).await;
        let mut desire = Box::pin(service.desire(&house.owner, &device.id, wish("locked", false), None));
        let early = desire.as_mut().now_or_never();
        assert!(early.is_none(), "it must be writing");
        service.device_disconnected(&device.id).await;
        let answer = desire.await;
        assert!(matches!(answer, Ok(_) | Err(Refusal::Offline)), "{answer:?}");
        assert!(!service.twin(&house.owner, &device.id).unwrap().desired().contains_key("locked"));
    }
}

#[tokio::test]
async fn what_is_critical_is_offline_and_not_a_conflict_while_the_device_is_away() {
    let house = House::new().await;
    let device = lock(&house).await;
    let path = format!("/devices/{}/twin/desired", device.id);
    let (status, body) = house.http("PATCH", &path, &house.owner_token, Some(json!({"locked": false}))).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("offline")), "{body}");
    assert_eq!(house.http("PATCH", &path, &house.owner_token, Some(json!({"light": true}))).await.0, 200);
    // Over MQTT it is a rejection like any other.
    let mut owner = house.connect_person("olivia", &house.owner_token).await.unwrap();
    owner.subscribe(&[(&device.topic("shadow/update/rejected"), Qos::AtMostOnce)]).await.unwrap();
    let update = json!({"state": {"desired": {"locked": false}}, "clientToken": "t"}).to_string();
    owner.publish(&Message::new(device.topic("shadow/update"), update, Qos::AtLeastOnce)).await.unwrap();
    let rejected = owner.receive(SHORT).await.unwrap().expect("rejected");
    let rejected: serde_json::Value = serde_json::from_slice(&rejected.payload).unwrap();
    assert_eq!((rejected["code"].as_u64(), rejected["clientToken"].as_str()), (Some(409), Some("t")));
}

#[tokio::test]
async fn what_a_removed_device_was_still_writing_is_not_there_for_the_next_household() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let service = house.hub.service();
    let signed_in = by_token(&house, &lamp).await;
    service.device_connected(&lamp.id).await;
    let sent = service.command(&house.owner, &lamp.id, CommandRequest { name: "identify".into(), ..CommandRequest::default() }).await;
    let mut removal = Box::pin(service.remove_device(&house.owner, &lamp.id));
    assert!(removal.as_mut().now_or_never().is_none(), "it must be writing");
    let report = json!({"state": {"reported": {"on": true}}}).to_string();
    let mut late = Box::pin(service.shadow_request(&signed_in, &lamp.id, None, Verb::Update, report.as_bytes(), false));
    assert!(late.as_mut().now_or_never().is_none(), "it must be queued behind the removal");
    removal.await.unwrap();
    late.await.unwrap();
    house.claim(&lamp).await;
    assert!(service.twin(&house.owner, &lamp.id).unwrap().reported().is_empty());
    assert!(matches!(service.command_view(&house.owner, &lamp.id, &sent.unwrap().id), Err(Refusal::NotFound(_))));
}

#[tokio::test]
async fn a_device_that_says_too_much_about_a_command_is_not_listened_to() {
    let house = House::new().await;
    let device = lock(&house).await;
    let service: &Arc<Service> = house.hub.service();
    let mut live = house.connect_device(&device).await;
    live.subscribe(&[(&device.topic("commands/+"), Qos::AtMostOnce)]).await.unwrap();
    let blink = || CommandRequest { name: "blink".into(), ..CommandRequest::default() };
    let sent = service.command(&house.owner, &device.id, blink()).await.unwrap();
    let report = async |body: serde_json::Value| {
        let mut body = body;
        body["id"] = json!(sent.id);
        service.command_result(&device.id, "blink", body.to_string().as_bytes()).await
    };
    assert!(matches!(report(json!({"status": "done", "result": "x".repeat(8 * 1024)})).await, Err(Refusal::Invalid(_))));
    for _ in 0..10 {
        report(json!({"status": "running", "message": "m\n".repeat(1_000)})).await.unwrap();
    }
    assert!(matches!(report(json!({"status": "running"})).await, Err(Refusal::TooMany(_))));
    let view = service.command_view(&house.owner, &device.id, &sent.id).unwrap();
    assert_eq!((view.status.as_str(), view.message.as_str()), ("running", "m".repeat(256).as_str()));
    report(json!({"status": "done", "result": {"ok": true}})).await.unwrap();
    // What runs is never forgotten for what comes: so there is an end to it.
    for _ in 0..50 {
        service.command(&house.owner, &device.id, blink()).await.unwrap();
    }
    assert!(matches!(service.command(&house.owner, &device.id, blink()).await, Err(Refusal::TooMany(_))));
}

#[tokio::test]
async fn a_re_base_cannot_use_up_the_counter() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let service = house.hub.service();
    by_token(&house, &lamp).await;
    for (own, taken) in [((1 << 62), false), (1 << 39, true)] {
        let challenge = service.rebase_challenge(&lamp.id).unwrap();
        let (counter, answer) = lamp.keys.rebase_answer(&challenge, own).unwrap();
        assert_eq!(counter, own);
        assert_eq!(service.rebase(&lamp.id, &answer, "test").await.is_ok(), taken, "{own}");
    }
}

#[tokio::test]
async fn a_deleted_named_shadow_makes_room_for_another() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let mut client = house.connect_device(&lamp).await;
    client.subscribe(&[(&lamp.topic("shadow/name/+/+/+"), Qos::AtLeastOnce)]).await.unwrap();
    let mut ask = async |name: String, verb: &str| {
        let body = if verb == "update" { r#"{"state": {"reported": {"a": 1}}}"# } else { "" };
        let topic = lamp.topic(&format!("shadow/name/{name}/{verb}"));
        client.publish(&Message::new(topic.clone(), body, Qos::AtLeastOnce)).await.unwrap();
        loop {
            let heard = client.receive(SHORT).await.unwrap().expect("an answer");
            if let Some(outcome) = heard.topic.strip_prefix(&format!("{topic}/")).filter(|o| matches!(*o, "accepted" | "rejected")) {
                return outcome == "accepted";
            }
        }
    };
    for n in 0..10 {
        assert!(ask(format!("s{n}"), "update").await);
    }
    assert!(!ask("one-more".into(), "update").await);
    assert!(ask("s0".into(), "delete").await);
    assert!(ask("one-more".into(), "update").await);
    // A deleted one comes back only where there is room.
    assert!(!ask("s0".into(), "update").await);
}

#[tokio::test]
async fn the_models_of_a_batch_are_there_before_its_devices() {
    let house = House::new().await;
    house.device("lamp").await;
    let entries = house.hub.service().audit(&house.owner, None, 10).unwrap();
    let imports: Vec<_> =
        entries.iter().filter(|e| e.event.action.starts_with("registry.import")).map(|e| e.event.action.as_str()).collect();
    assert_eq!(imports, ["registry.import", "registry.import.begin"], "newest first");
}
