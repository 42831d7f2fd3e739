//! Who may come in over MQTT, and with which answer.

use crate::house::{Device, House};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Error, Message, Qos, Version};
use hearthkey::sim::tls::{Stream, Trust};
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(5);

fn refused_with(result: Result<Client<Stream>, Error>) -> u8 {
    match result {
        Err(Error::Refused(connack)) => connack.code,
        Err(other) => panic!("not a CONNACK: {other}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[tokio::test]
async fn a_device_signs_in_with_its_next_token_in_both_versions() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    for version in [Version::V4, Version::V5] {
        let mut client = house.try_device(&device, version, device.next_counter()).await.unwrap();
        client.ping().await.unwrap();
        client.disconnect(0).await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_identity_and_a_wrong_tag_get_the_same_answer() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    let (_, spki) = house.dial(Trust::FirstUse).await;
    let password = device.keys.token(1, &[1; 16], &spki.unwrap());
    let unknown = ConnectOptions::new("x").credentials("lamp-unknown", password.clone());
    assert_eq!(refused_with(house.connect(&unknown).await), 0x86);
    let relayed = device.keys.token(1, &[1; 16], &[9; 32]);
    assert_eq!(refused_with(house.connect(&ConnectOptions::new("x").credentials(device.id.as_str(), relayed)).await), 0x86);
    let v4 = ConnectOptions::new("x").credentials("lamp-unknown", password).version(Version::V4);
    assert_eq!(refused_with(house.connect(&v4).await), 4);
}

#[tokio::test]
async fn the_identical_token_again_is_refused() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    house.try_device(&device, Version::V5, 5).await.unwrap();
    assert_eq!(refused_with(house.try_device(&device, Version::V5, 5).await), 0x86);
}

#[tokio::test]
async fn a_device_that_lost_its_counter_gets_back_by_a_challenge_and_can_do_nothing_else() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    house.try_device(&device, Version::V5, 100).await.unwrap();
    let mut lost = house.try_device(&device, Version::V5, 3).await.unwrap();
    assert_eq!(lost.subscribe(&[(&device.topic("#"), Qos::AtMostOnce)]).await.unwrap(), [0x87]);
    assert_eq!(lost.subscribe(&[(&device.topic("rebase/challenge"), Qos::AtMostOnce)]).await.unwrap(), [0]);
    let challenge = lost.receive(SHORT).await.unwrap().expect("a challenge");
    let (counter, answer) = device.keys.rebase_answer(&challenge.payload, 3).unwrap();
    assert!(counter >= 100);
    let topic = device.topic("rebase/response");
    let _ = lost.publish(&Message::new(topic.clone(), answer.clone(), Qos::AtMostOnce)).await;
    // Closed, whatever was answered.
    while lost.next().await.is_ok() {}
    house.try_device(&device, Version::V5, counter + 1).await.unwrap();
    // The answer serves once.
    let mut again = house.try_device(&device, Version::V5, 4).await.unwrap();
    let _ = again.publish(&Message::new(topic, answer, Qos::AtMostOnce)).await;
    while again.next().await.is_ok() {}
    assert!(house.try_device(&device, Version::V5, counter + 2).await.is_ok());
}

#[tokio::test]
async fn a_suspended_device_is_banned_at_once_and_comes_back_when_resumed() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    let mut client = house.connect_device(&device).await;
    house.hub.service().suspend(&house.owner, &device.id, true).await.unwrap();
    assert!(client.ping().await.is_err(), "its session must have been cut");
    assert_eq!(refused_with(house.try_device(&device, Version::V5, device.next_counter()).await), 0x8A);
    house.hub.service().suspend(&house.owner, &device.id, false).await.unwrap();
    house.connect_device(&device).await;
}

#[tokio::test]
async fn a_person_signs_in_with_a_session_token_and_with_nothing_else() {
    let house = House::new().await;
    house.connect_person("olivia", &house.owner_token).await.unwrap();
    house.connect_person("OLIVIA", &house.owner_token).await.unwrap();
    assert_eq!(refused_with(house.connect_person("peter", &house.owner_token).await), 0x86);
    assert_eq!(refused_with(house.connect_person("olivia", "correct horse battery").await), 0x86);
}

#[tokio::test]
async fn claiming_delivers_a_sealed_secret_that_completes_it() {
    let house = House::new().await;
    let device = house.device("garage-door").await;
    let mut waiting = house.connect_device(&device).await;
    waiting.ping().await.unwrap();
    house.claim(&device).await;
    assert!(waiting.ping().await.is_err(), "the claim must close the waiting session");
    let secret = fetch_secret(&house, &device).await;
    let state = |h: &House| h.hub.service().device(&h.owner, &device.id).unwrap().state;
    assert_eq!(state(&house), hearthkey::domain::device::Standing::Claimed);
    house.connect(&ConnectOptions::new("door").credentials(device.id.as_str(), secret.as_str())).await.unwrap();
    assert_eq!(state(&house), hearthkey::domain::device::Standing::Ready);
    // The secret is forgotten by the hub, and goes on serving.
    house.connect(&ConnectOptions::new("door").credentials(device.id.as_str(), secret.as_str())).await.unwrap();
}

#[tokio::test]
async fn a_clean_start_ends_a_kept_session_and_the_hub_goes_on() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    for (clean, present) in [(false, false), (false, true), (true, false), (false, true)] {
        let (stream, spki) = house.dial(Trust::FirstUse).await;
        let password = device.keys.token(device.next_counter(), &[7; 16], &spki.unwrap());
        let mut options = ConnectOptions::new("kept").credentials(device.id.as_str(), password);
        options.clean = clean;
        options.session_expiry_s = Some(600);
        let client = Client::connect(stream, &options).await.unwrap();
        assert_eq!(client.connack().session_present, present, "clean start: {clean}");
        client.disconnect(0).await.unwrap();
    }
}

/// Says hello as a device and opens what comes back.
pub async fn fetch_secret(house: &House, device: &Device) -> String {
    let mut client = house.connect_device(device).await;
    client.subscribe(&[(&device.topic("claim/credential"), Qos::AtLeastOnce)]).await.unwrap();
    let nonce = [3u8; 24];
    let hello = serde_json::json!({"nonce": data_encoding::BASE64URL_NOPAD.encode(&nonce)}).to_string();
    client.publish(&Message::new(device.topic("claim/hello"), hello, Qos::AtLeastOnce)).await.unwrap();
    let message = client.receive(SHORT).await.unwrap().expect("a credential");
    let credential = device.keys.open_credential(&message.payload, &nonce).unwrap();
    assert_eq!(credential.ca, house.hub.identity().ca_der);
    credential.password().to_string()
}
