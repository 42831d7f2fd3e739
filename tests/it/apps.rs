//! Apps over MQTT, and a third party's app as such are written: with a library that knows OAuth and nothing of this hub.

use crate::house::{Device, House};
use crate::matrix::run_script;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Subject, Terms};
use hearthkey::service::{Actor, Grant, Recipient};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Error, Message, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(10);
const DENIED: u8 = 0x87;

/// A token for a program, by REST: the app's id and the token.
pub async fn token(house: &House, person: &str, device: &Device, privilege: &str) -> (String, String) {
    let body = json!({"name": "Dashboard", "devices": [{"id": device.id, "privilege": privilege}]});
    let (status, made) = house.http("POST", "/me/tokens", person, Some(body)).await;
    assert_eq!(status, 201, "{made}");
    (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
}

async fn connect(house: &House, id: &str, token: &str, client: &str) -> Result<Client<Stream>, Error> {
    house.connect(&ConnectOptions::new(client).credentials(format!("app:{id}"), token)).await
}

async fn listening(house: &House, id: &str, token: &str, device: &Device) -> Client<Stream> {
    let mut client = connect(house, id, token, "app").await.unwrap();
    assert_eq!(client.subscribe(&[(&device.topic("telemetry"), Qos::AtLeastOnce)]).await.unwrap(), [1]);
    client
}

/// Whether the connection has been ended with "not authorised", without a message before.
async fn was_cut(client: &mut Client<Stream>) -> bool {
    matches!(client.receive(SHORT).await, Err(Error::Closed(closed)) if closed.code == Some(DENIED))
}

async fn shared(house: &House, device: &Device, name: &str) -> (Actor, String) {
    let person = house.person(name, Role::Member).await;
    let grant = Grant { to: Recipient::Person(name.into()), terms: Terms::of(Privilege::Operate) };
    house.hub.service().grant(&house.owner, &device.id, grant).await.unwrap();
    person
}

#[tokio::test]
async fn an_app_hears_over_mqtt_what_it_may_and_says_only_what_it_may() {
    let house = House::new().await;
    let devices = house.devices("lamp", 2).await;
    for device in &devices {
        house.claim(device).await;
    }
    let (lamp, other) = (&devices[0], &devices[1]);
    let mut live = house.connect_device(lamp).await;
    let (id, looks) = token(&house, &house.owner_token, lamp, "view").await;
    let mut client = listening(&house, &id, &looks, lamp).await;
    assert_eq!(client.subscribe(&[(&other.topic("telemetry"), Qos::AtMostOnce)]).await.unwrap(), [DENIED]);
    let update =
        |on: bool| Message::new(lamp.topic("shadow/update"), json!({"state": {"desired": {"on": on}}}).to_string(), Qos::AtLeastOnce);
    assert_eq!(client.publish(&update(true)).await.unwrap(), DENIED);
    live.publish(&Message::new(lamp.topic("telemetry"), "hello", Qos::AtLeastOnce)).await.unwrap();
    let heard = client.receive(SHORT).await.unwrap().unwrap();
    assert_eq!((&*heard.topic, &heard.payload[..]), (&*lamp.topic("telemetry"), &b"hello"[..]));
    let (id, works) = token(&house, &house.owner_token, lamp, "operate").await;
    let mut client = connect(&house, &id, &works, "app").await.unwrap();
    assert!(client.publish(&update(true)).await.unwrap() < 0x80);
}

#[tokio::test]
async fn a_token_opens_the_gate_to_its_own_app_alone() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let (id, one) = token(&house, &house.owner_token, &lamp, "view").await;
    let (other, two) = token(&house, &house.owner_token, &lamp, "view").await;
    let mut stays = listening(&house, &id, &one, &lamp).await;
    for (user, password) in [
        (format!("app:{other}"), one.as_str()),
        (format!("app:{id}"), "hka1.x"),
        (format!("app:{id}"), &house.owner_token),
        ("user:olivia".into(), &one),
        ("app:".into(), &one),
    ] {
        let refused = house.connect(&ConnectOptions::new("app").credentials(user.clone(), password)).await;
        assert!(refused.is_err(), "{user}");
    }
    // The same client id under another app is another session.
    let _two = connect(&house, &other, &two, "app").await.unwrap();
    stays.ping().await.unwrap();
    // Under its own it is the same one.
    let _again = connect(&house, &id, &one, "app").await.unwrap();
    assert!(stays.receive(SHORT).await.is_err());
}

#[tokio::test]
async fn an_app_that_is_ended_is_gone_from_the_gate_before_the_answer() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let mut live = house.connect_device(&lamp).await;
    let (mia, mia_token) = shared(&house, &lamp, "mia").await;
    let service = house.hub.service();
    let mut say = async |text: &'static str| live.publish(&Message::new(lamp.topic("telemetry"), text, Qos::AtLeastOnce)).await.unwrap();

    // By its person; what others let act stays.
    let (kept_id, kept_token) = token(&house, &house.owner_token, &lamp, "view").await;
    let mut kept = listening(&house, &kept_id, &kept_token, &lamp).await;
    let (id, secret) = token(&house, &mia_token, &lamp, "view").await;
    let mut client = listening(&house, &id, &secret, &lamp).await;
    assert_eq!(house.http("DELETE", &format!("/me/apps/{id}"), &mia_token, None).await.0, 204);
    say("after").await;
    assert!(was_cut(&mut client).await);
    assert!(connect(&house, &id, &secret, "app").await.is_err());
    assert_eq!(&kept.receive(SHORT).await.unwrap().unwrap().payload[..], b"after");

    // By a new password.
    let (id, secret) = token(&house, &mia_token, &lamp, "view").await;
    let mut client = listening(&house, &id, &secret, &lamp).await;
    let change = json!({"current": "another long password", "new": "yet another long password"});
    assert_eq!(house.http("PUT", "/me/password", &mia_token, Some(change)).await.0, 204);
    say("after").await;
    assert!(was_cut(&mut client).await);

    // The person's right goes: the connection stays, and hears nothing.
    let (id, secret) = token(&house, &mia_token, &lamp, "view").await;
    let mut client = listening(&house, &id, &secret, &lamp).await;
    service.revoke(&house.owner, &lamp.id, &mia.subject, true).await.unwrap();
    say("after").await;
    client.ping().await.unwrap();
    assert!(client.receive(Duration::ZERO).await.unwrap().is_none());
    assert_eq!(client.subscribe(&[(&lamp.topic("telemetry"), Qos::AtLeastOnce)]).await.unwrap(), [DENIED]);

    // The person goes.
    let grant = Grant { to: Recipient::Person("mia".into()), terms: Terms::of(Privilege::Operate) };
    service.grant(&house.owner, &lamp.id, grant).await.unwrap();
    let (id, secret) = token(&house, &mia_token, &lamp, "view").await;
    let mut client = listening(&house, &id, &secret, &lamp).await;
    service.end_user(&house.owner, mia.user().unwrap(), true).await.unwrap();
    say("after").await;
    assert!(was_cut(&mut client).await);
    assert!(connect(&house, &id, &secret, "app").await.is_err());

    // The registration of nobody else's app was touched.
    let owner = Subject::User(house.owner.user().unwrap().clone());
    assert_eq!(service.my_apps(&house.owner).unwrap().len(), 1, "{owner}");
}

#[tokio::test]
async fn a_third_partys_app_gets_in_by_oauth_and_is_cut_when_its_token_is_revoked() {
    let house = House::new().await;
    let devices = house.devices("lamp", 2).await;
    for device in &devices {
        house.claim(device).await;
    }
    let body = json!({"name": "Third party", "redirect_uris": ["http://127.0.0.1/callback"]});
    let (status, client) = house.http("POST", "/oauth/clients", &house.owner_token, Some(body)).await;
    assert_eq!(status, 201);
    let plan = json!({
        "base": format!("https://localhost:{}", house.hub.addresses.https.unwrap().port()),
        "mqtts": house.hub.addresses.mqtts.unwrap().port(),
        "ca": house.ca_file(),
        "client_id": client["id"],
        // An app on this computer listens on whatever port is free.
        "redirect_uri": "http://127.0.0.1:51004/callback",
        "person": house.owner_token,
        "device": devices[0].id,
        "other": devices[1].id,
    });
    let told: Value = tokio::task::spawn_blocking(move || run_script("oauth", "flow.py", &plan)).await.unwrap();
    assert_eq!(
        told,
        json!({
            "denied": "access_denied", "iss": true, "scope": "view", "devices": [devices[0].id], "change": 403, "renewed": true,
            "after_refresh": 200, "revoked": 200, "after_revocation": 401,
            "mqtt": {"connect": [0], "subscribed": [1, DENIED], "ended": DENIED}, "mqtt_after": [134],
        })
    );
}
