//! Devices that sign in with a client certificate of the hub's CA.

use crate::house::{Device, House};
use hearthkey::net::{Ca, CaKey, Validity};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Error, Message, Qos};
use hearthkey::sim::tls::{Address, ClientCertificate, DialError, Security, Stream, Trust, dial};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::time::Duration;

const STEP: Duration = Duration::from_secs(10);

/// A key and a signing request for it.
fn request() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap().pem().unwrap();
    (key.serialize_pem(), csr)
}

async fn certify(house: &House, device: &Device, csr: &str) -> (u16, serde_json::Value) {
    let path = format!("/devices/{}/certificate", device.id);
    house.http("POST", &path, &house.owner_token, Some(serde_json::json!({"csr": csr}))).await
}

async fn connect(house: &House, key: &str, certificate: &str, username: &str) -> Result<Client<Stream>, String> {
    let address: Address = house.hub.addresses.mqtts.unwrap().to_string().parse().unwrap();
    let client = ClientCertificate {
        chain: vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
        key: PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
    };
    let security = Security { trust: Trust::FirstUse, client: Some(client) };
    let stream = dial(&address, &security, STEP).await.map_err(|e: DialError| e.to_string())?.stream;
    Client::connect(stream, &ConnectOptions::new("cert").credentials(username, "")).await.map_err(|e: Error| e.to_string())
}

#[tokio::test]
async fn the_certificate_says_who_it_is_and_the_user_name_does_not() {
    let house = House::new().await;
    let devices = house.devices("lamp", 2).await;
    house.claim(&devices[0]).await;
    let (key, csr) = request();
    let (status, body) = certify(&house, &devices[0], &csr).await;
    assert_eq!(status, 201, "{body}");
    let certificate = body["certificate"].as_str().unwrap();
    let mut client = connect(&house, &key, certificate, devices[1].id.as_str()).await.unwrap();
    let code = |topic: String| Message::new(topic, "x", Qos::AtLeastOnce);
    assert_eq!(client.publish(&code(devices[0].topic("t"))).await.unwrap(), 0);
    assert_eq!(client.publish(&code(devices[1].topic("t"))).await.unwrap(), 0x87);
}

#[tokio::test]
async fn a_certificate_ends_with_the_claim_it_came_from() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    house.claim(&device).await;
    let (key, csr) = request();
    let (_, body) = certify(&house, &device, &csr).await;
    let certificate = body["certificate"].as_str().unwrap().to_owned();
    let mut live = connect(&house, &key, &certificate, "").await.unwrap();
    house.hub.service().remove_device(&house.owner, &device.id).await.unwrap();
    assert!(live.ping().await.is_err(), "the live session must have been cut");
    assert!(connect(&house, &key, &certificate, "").await.is_err(), "and the certificate must not let it in again");
}

#[tokio::test]
async fn a_certificate_of_another_authority_does_not_pass_the_handshake() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    let (key, csr) = request();
    let ca = Ca::create(CaKey::generate().unwrap(), "someone else").unwrap();
    let forever = Validity { not_before: 0, not_after: 4_000_000_000 };
    let forged = ca.issue_device(&csr, device.id.as_str(), forever).unwrap();
    assert!(connect(&house, &key, &forged.pem(), device.id.as_str()).await.is_err());
}

#[tokio::test]
async fn only_who_administers_a_device_gets_a_certificate_for_it() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    house.claim(&device).await;
    let (_, token) = house.person("paul", hearthkey::domain::account::Role::Member).await;
    let (_, csr) = request();
    let path = format!("/devices/{}/certificate", device.id);
    let (status, _) = house.http("POST", &path, &token, Some(serde_json::json!({"csr": csr}))).await;
    assert_eq!(status, 404);
    let (status, body) = certify(&house, &device, "not a request").await;
    assert_eq!(status, 422, "{body}");
}
