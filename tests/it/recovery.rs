//! Getting back in, and being put out: what a reset, a sign-out from elsewhere and a role that falls do to connections
//! that live, and the code that a stopped hub prints.

use crate::house::{HERE, House};
use futures_util::poll;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::hub::{Hub, make_console_code};
use hearthkey::service::{Grant, NewUser, Recipient, Refusal, SessionToken, SignIn, UserChange};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Qos};
use hearthkey::sim::tls::Stream;
use std::pin::pin;
use std::time::Duration;
use zeroize::Zeroizing;

/// As [`House::person`] sets it.
const OLD: &str = "another long password";
const NEW: &str = "a new password of mine";
const PATIENCE: Duration = Duration::from_secs(10);

fn text(password: &str) -> Zeroizing<String> {
    password.to_owned().into()
}

async fn connect(house: &House, id: &str, token: &str) -> Client<Stream> {
    house.connect(&ConnectOptions::new(id).credentials("user:mia", token)).await.unwrap()
}

/// Reads an event stream to its end.
async fn to_the_end(mut stream: reqwest::Response) -> String {
    let mut all = String::new();
    while let Ok(Some(part)) = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("the stream ends") {
        all.push_str(&String::from_utf8_lossy(&part));
    }
    all
}

async fn events(house: &House, token: &str) -> reqwest::Response {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_der(&house.hub.identity().ca_der).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let url = format!("https://localhost:{}/api/v1/events", house.hub.addresses.https.unwrap().port());
    let mut stream = client.get(url).bearer_auth(token).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let hello = stream.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&hello).contains("hello"));
    stream
}

#[tokio::test]
async fn a_session_that_is_ended_from_elsewhere_loses_mqtt_and_events_before_the_answer() {
    let house = House::new().await;
    let service = house.hub.service();
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let (mia, phone) = house.person("mia", Role::Member).await;
    let grant = Grant { to: Recipient::Person("mia".into()), terms: Terms::of(Privilege::Operate) };
    service.grant(&house.owner, &lamp.id, grant).await.unwrap();
    let tablet = service.sign_in_person("mia", text(OLD), HERE, "test").await.unwrap().token;
    let (mut on_phone, mut on_tablet) = (connect(&house, "phone", &phone).await, connect(&house, "tablet", tablet.reveal()).await);
    for client in [&mut on_phone, &mut on_tablet] {
        assert_eq!(client.subscribe(&[(&lamp.topic("#"), Qos::AtLeastOnce)]).await.unwrap(), [1]);
    }
    let stream = events(&house, &phone).await;
    let all = service.sessions(&mia, &tablet).unwrap();
    let other = all.iter().find(|s| !s.current).unwrap();
    service.end_session(&mia, &other.id).await.unwrap();
    // What happens from now on reaches the tablet, and not the phone.
    let mut thing = house.connect_device(&lamp).await;
    let code = thing.publish(&Message::new(lamp.topic("events/note"), b"after".to_vec(), Qos::AtLeastOnce)).await.unwrap();
    assert_eq!(code, 0);
    let change = hearthkey::service::DeviceChange { name: Some("After".into()), ..Default::default() };
    service.change_device(&house.owner, &lamp.id, change).await.unwrap();
    loop {
        let heard = on_tablet.receive(PATIENCE).await.unwrap().expect("the tablet hears it");
        if &heard.payload[..] == b"after" {
            break;
        }
    }
    assert!(on_phone.ping().await.is_err());
    assert!(matches!(on_phone.receive(Duration::ZERO).await, Ok(None) | Err(_)));
    assert!(!to_the_end(stream).await.contains("After"));
    assert!(service.actor(&SessionToken::new(&phone), "test", HERE).is_err());
    // An owner ends the others too.
    service.end_sessions(&house.owner, mia.user().unwrap()).await.unwrap();
    assert!(on_tablet.ping().await.is_err());
}

#[tokio::test]
async fn a_new_password_by_a_code_ends_live_connections_before_the_answer() {
    let house = House::new().await;
    let service = house.hub.service();
    let (mia, token) = house.person("mia", Role::Member).await;
    let mut live = connect(&house, "phone", &token).await;
    live.ping().await.unwrap();
    let made = service.make_reset_code(&house.owner, mia.user().unwrap()).await.unwrap();
    live.ping().await.unwrap();
    service.reset_password(&made.code, text(NEW), HERE, "test").await.unwrap();
    assert!(live.ping().await.is_err());
    assert!(house.connect(&ConnectOptions::new("phone").credentials("user:mia", &token)).await.is_err());
}

#[tokio::test]
async fn a_sign_in_that_is_being_checked_while_the_password_is_reset_opens_nothing() {
    let house = House::new().await;
    let service = house.hub.service();
    let (mia, _) = house.person("mia", Role::Member).await;
    let made = service.make_reset_code(&house.owner, mia.user().unwrap()).await.unwrap();
    let mut thief = pin!(service.sign_in_person("mia", text(OLD), HERE, "test"));
    assert!(poll!(&mut thief).is_pending(), "the old password is being checked");
    service.reset_password(&made.code, text(NEW), HERE, "test").await.unwrap();
    assert!(matches!(thief.await, Err(Refusal::WrongPassword)));
}

#[tokio::test]
async fn an_account_that_ends_while_its_code_is_used_gets_no_password() {
    let house = House::new().await;
    let service = house.hub.service();
    let (mia, _) = house.person("mia", Role::Member).await;
    let made = service.make_reset_code(&house.owner, mia.user().unwrap()).await.unwrap();
    let mut late = pin!(service.reset_password(&made.code, text(NEW), HERE, "test"));
    assert!(poll!(&mut late).is_pending(), "the new password is being hashed");
    service.end_user(&house.owner, mia.user().unwrap(), true).await.unwrap();
    assert!(matches!(late.await, Err(Refusal::WrongCode)));
}

#[tokio::test]
async fn an_owner_who_becomes_a_guest_loses_what_only_owners_have_also_what_is_under_way() {
    let house = House::new().await;
    let service = house.hub.service();
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let (otto, token) = house.person("otto", Role::Owner).await;
    // He sees the device of others as an owner, and nothing of it as a guest.
    let stream = events(&house, &token).await;
    let add = NewUser { username: "back-door".into(), password: text(NEW), display_name: String::new(), role: Role::Owner };
    let mut adding = pin!(service.add_user(&otto, add));
    assert!(poll!(&mut adding).is_pending(), "the password is being hashed");
    let made = service.make_reset_code(&otto, house.owner.user().unwrap()).await.unwrap();
    let to = UserChange { role: Some(Role::Guest), ..UserChange::default() };
    service.change_user(&house.owner, otto.user().unwrap(), to).await.unwrap();
    assert!(matches!(adding.await, Err(Refusal::RoleTooLow)));
    assert!(matches!(service.reset_password(&made.code, text(NEW), HERE, "test").await, Err(Refusal::WrongCode)));
    let change = hearthkey::service::DeviceChange { name: Some("After".into()), ..Default::default() };
    service.change_device(&house.owner, &lamp.id, change).await.unwrap();
    service.sign_out(&otto, &SessionToken::new(&token)).await.unwrap();
    let seen = to_the_end(stream).await;
    assert!(!seen.contains("After"), "{seen}");
}

#[tokio::test]
async fn whoever_holds_the_box_gets_a_code_while_the_hub_is_stopped() {
    let house = House::new().await;
    let config = { hearthkey::hub::Config { data_dir: house.dir.path().join("hub"), ..crate::house::config(&house.dir) } };
    assert!(make_console_code(&config, "olivia").await.is_err(), "the hub runs");
    house.hub.shut_down().await;
    assert!(make_console_code(&config, "nobody").await.is_err());
    let made = make_console_code(&config, "Olivia").await.unwrap();
    let hub = Hub::start(config.clone()).await.unwrap();
    let service = hub.service();
    service.reset_password(&made.code, text(NEW), HERE, "test").await.unwrap();
    assert!(matches!(service.reset_password(&made.code, text(OLD), HERE, "test").await, Err(Refusal::WrongCode)));
    let given = SignIn { username: "olivia", password: text(NEW), second_factor: None, source: HERE, via: "test", agent: "" };
    service.open_session(given).await.unwrap();
    service.verify_audit().unwrap();
    hub.shut_down().await;
}
