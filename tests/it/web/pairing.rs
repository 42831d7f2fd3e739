//! Pairing over HTTP: what is answered, what is refused, and what is never answered.

use super::{Home, Known};
use hearthkey::domain::account::Role;
use hearthkey::service::{Nearby, NearbyKind, PairingProblem, PairingStep, RadioState, SettingsChange};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

async fn home() -> (Home, Known) {
    let home = Home::new().await;
    home.service.radio_changed(RadioState::Ready, Some("hci0".into()));
    let (mut known, file) = home.minted("lamp", 1);
    home.service.import_batch(&home.actor(&home.owner), file).await.unwrap();
    (home, known.remove(0))
}

fn thing(id: &str, kind: NearbyKind) -> Nearby {
    Nearby { id: id.into(), kind, name: "Plug".into(), signal: Some(-60), advertised: None, seen_ms: 1 }
}

async fn refused(home: &Home, body: Value) -> u16 {
    home.call(&home.owner, "POST /api/v1/pairings", Some(body)).await.status
}

#[tokio::test]
async fn who_may_claim_sees_the_radio_and_what_is_nearby_and_nobody_else_does() {
    let (home, _) = home().await;
    let (mona, gus) = (home.person("mona", Role::Member).await, home.person("gus", Role::Guest).await);
    home.service.nearby_changed(vec![thing("a", NearbyKind::Improv)]);
    let radio = home.call(&mona, "GET /api/v1/radio", None).await.json();
    assert_eq!((&radio["state"], &radio["adapter"], &radio["scanning"]), (&json!("ready"), &json!("hci0"), &json!(false)));
    assert_eq!(radio["wifi"], json!({"ssid": null, "system": false, "allowed": false}));
    let mut wanted = home.service.scan_wanted();
    assert_eq!(home.call(&mona, "POST /api/v1/radio/scan", None).await.status, 202);
    assert!(*wanted.borrow_and_update());
    let things = home.call(&mona, "GET /api/v1/nearby", None).await.json();
    let expected = json!([{"id": "a", "kind": "improv", "name": "Plug", "signal": -60, "state": "open", "seen": 1}]);
    assert_eq!(things["things"], expected);
    for call in ["GET /api/v1/radio", "POST /api/v1/radio/scan", "GET /api/v1/nearby", "GET /api/v1/pairings"] {
        assert_eq!(home.call(&gus, call, None).await.status, 403, "{call}");
    }
    home.service.radio_changed(RadioState::Off, None);
    assert_eq!(home.call(&mona, "POST /api/v1/radio/scan", None).await.status, 409);
    assert_eq!(home.call(&mona, "GET /api/v1/nearby", None).await.json()["things"], json!([]), "an adapter that is off hears nothing");
}

#[tokio::test]
async fn a_pairing_is_followed_to_its_end_and_its_passphrase_is_never_answered() {
    let (home, lamp) = home().await;
    let wifi = json!({"use": "given", "ssid": "home", "passphrase": "a very secret one"});
    let begun = home.call(&home.owner, "POST /api/v1/pairings", Some(json!({"code": lamp.code, "name": "Lamp", "wifi": wifi}))).await;
    assert_eq!(begun.status, 201);
    let text = begun.json().to_string();
    assert!(!text.contains("secret") && !text.contains("HK1"), "{text}");
    let view = begun.json();
    let id = view["id"].as_str().unwrap().to_owned();
    assert_eq!((&view["step"], &view["position"], &view["encrypted"]), (&json!("queued"), &json!(1), &json!(true)));
    assert_eq!(view["device_id"], json!(lamp.id.as_str()));
    let job = tokio::time::timeout(PATIENCE, home.service.next_pairing()).await.unwrap();
    assert!(!format!("{job:?}").contains("secret"), "{job:?}");
    home.service.pairing_step(&id, PairingStep::Sending { sent: 5, total: 10 });
    let view = home.call(&home.owner, &format!("GET /api/v1/pairings/{id}"), None).await.json();
    assert_eq!((&view["step"], &view["sent"], &view["total"]), (&json!("sending"), &json!(5), &json!(10)));
    assert_eq!(home.call(&home.owner, &format!("POST /api/v1/pairings/{id}/confirm"), Some(json!({}))).await.status, 409);
    home.service.finish_pairing(&id, Err(PairingProblem::new("lost", "The link is gone.", "Try again.")));
    // What has ended is told once, and the stream ends.
    let line = format!("GET /api/v1/pairings/{id}/events");
    let events = tokio::time::timeout(PATIENCE, home.call(&home.owner, &line, None)).await.expect("the stream ends");
    let told = String::from_utf8_lossy(&events.body).into_owned();
    assert!(told.contains("event:pairing") && told.contains("\"failed\"") && told.contains("The link is gone."), "{told}");
    assert_eq!(home.call(&home.owner, &format!("DELETE /api/v1/pairings/{id}"), None).await.status, 409);
    let mona = home.person("mona", Role::Member).await;
    assert_eq!(home.call(&mona, &format!("GET /api/v1/pairings/{id}"), None).await.status, 404);
}

#[tokio::test]
async fn what_cannot_be_paired_is_refused_with_what_to_do() {
    let (home, lamp) = home().await;
    home.service.nearby_changed(vec![thing("plug", NearbyKind::Improv), thing("lamp", NearbyKind::Hearthkey)]);
    assert_eq!(refused(&home, json!({})).await, 422);
    assert_eq!(refused(&home, json!({"nearby": "nobody"})).await, 404);
    assert_eq!(refused(&home, json!({"nearby": "lamp"})).await, 422);
    assert_eq!(refused(&home, json!({"code": "ABC"})).await, 422);
    let short = json!({"use": "given", "ssid": "home", "passphrase": "short"});
    assert_eq!(refused(&home, json!({"nearby": "plug", "wifi": short})).await, 422);
    assert_eq!(refused(&home, json!({"nearby": "plug", "wifi": {"use": "none", "ssid": "x"}})).await, 422);
    let system = json!({"nearby": "plug", "wifi": {"use": "system"}});
    assert_eq!(refused(&home, system.clone()).await, 409, "nobody has allowed it");
    let share = SettingsChange { share_wifi: Some(true), ..SettingsChange::default() };
    assert!(home.service.change_settings(&home.actor(&home.owner), share).await.unwrap().share_wifi);
    assert_eq!(refused(&home, system.clone()).await, 409, "the hub knows none");
    home.service.system_wifi_changed(Some("home".into()));
    assert_eq!(refused(&home, system.clone()).await, 201);
    assert_eq!(refused(&home, system).await, 409, "it is being paired");
    home.service.radio_changed(RadioState::Absent, None);
    assert_eq!(refused(&home, json!({"code": lamp.code})).await, 409);
}
