//! Listed networks with real connections from several addresses: what a service account does by REST and MQTT, and that
//! live connections end with its network, its secret and itself.

use crate::house::{Device, House};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpSocket;

const SHORT: Duration = Duration::from_secs(10);
const FIRST: &str = "127.0.0.2";
const SECOND: &str = "127.0.0.3";
const DENIED: u8 = 0x87;

/// An HTTPS client whose connections come from `source`.
fn client(house: &House, source: &str) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_der(&house.hub.identity().ca_der).unwrap();
    let source: IpAddr = source.parse().unwrap();
    reqwest::Client::builder().tls_certs_only([ca]).no_proxy().local_address(source).build().unwrap()
}

fn url(house: &House, path: &str) -> String {
    format!("https://localhost:{}{path}", house.hub.addresses.https.unwrap().port())
}

/// A call of the REST API from `source`.
async fn http(house: &House, source: &str, method: &str, path: &str, token: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = client(house, source).request(method.parse().unwrap(), url(house, &format!("/api/v1{path}"))).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

/// A service account that may come from `networks`.
pub async fn service(house: &House, networks: &[&str]) -> (String, String) {
    let body = json!({"name": "server", "networks": networks, "scopes": []});
    let (status, made) = house.http("POST", "/services", &house.owner_token, Some(body)).await;
    assert_eq!(status, 201);
    (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

/// Signs a service account in from `source`; `None` when it is refused.
pub async fn token(house: &House, source: &str, id: &str, secret: &str) -> Option<String> {
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let request = client(house, source).post(url(house, "/oauth/token")).header("content-type", "application/x-www-form-urlencoded");
    let answer: Value = serde_json::from_slice(&request.body(form).send().await.unwrap().bytes().await.unwrap()).unwrap();
    answer["access_token"].as_str().map(str::to_owned)
}

/// An MQTT connection of the service account from `source`.
async fn mqtt(house: &House, source: &str, id: &str, token: &str) -> Option<Client<Stream>> {
    let socket = if source.contains(':') { TcpSocket::new_v6() } else { TcpSocket::new_v4() }.unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    let stream = Stream::Plain(socket.connect(house.hub.addresses.mqtt.unwrap()).await.unwrap());
    Client::connect(stream, &ConnectOptions::new(source).credentials(format!("service:{id}"), token)).await.ok()
}

pub async fn bind(house: &House, device: &Device, id: &str, privilege: &str) {
    let body = json!({"service": id, "privilege": privilege});
    assert_eq!(house.http("POST", &format!("/devices/{}/bindings", device.id), &house.owner_token, Some(body)).await.0, 200);
}

#[tokio::test]
async fn a_service_does_what_it_is_bound_to_by_rest_and_mqtt_and_nothing_else() {
    let house = House::new().await;
    let (lamp, other) = (house.device("lamp").await, house.device("lamp").await);
    house.claim(&lamp).await;
    house.claim(&other).await;
    let mut talker = house.connect_device(&lamp).await;
    let (id, secret) = service(&house, &[FIRST]).await;
    assert_eq!(token(&house, SECOND, &id, &secret).await, None);
    let token = token(&house, FIRST, &id, &secret).await.unwrap();
    let twin = format!("/devices/{}/twin", lamp.id);
    assert_eq!(http(&house, FIRST, "GET", &twin, &token, None).await.0, 404);
    bind(&house, &lamp, &id, "view").await;
    assert_eq!(http(&house, FIRST, "GET", &twin, &token, None).await.0, 200);
    assert_eq!(http(&house, SECOND, "GET", &twin, &token, None).await.0, 401);
    let desire = Some(json!({"on": true}));
    assert_eq!(http(&house, FIRST, "PATCH", &format!("{twin}/desired"), &token, desire.clone()).await.0, 403);
    assert!(mqtt(&house, SECOND, &id, &token).await.is_none());
    let mut listener = mqtt(&house, FIRST, &id, &token).await.unwrap();
    let filters = [lamp.topic("telemetry/#"), other.topic("telemetry/#")];
    let filters: Vec<_> = filters.iter().map(|f| (f.as_str(), Qos::AtLeastOnce)).collect();
    assert_eq!(listener.subscribe(&filters).await.unwrap(), [1, DENIED]);
    talker.publish(&Message::new(lamp.topic("telemetry/n"), "1", Qos::AtLeastOnce)).await.unwrap();
    assert_eq!(*listener.receive(SHORT).await.unwrap().expect("the lamp's word").payload, *b"1");
    bind(&house, &lamp, &id, "operate").await;
    assert_eq!(http(&house, FIRST, "PATCH", &format!("{twin}/desired"), &token, desire).await.0, 200);
    let (_, audit) = house.http("GET", "/audit?limit=20", &house.owner_token, None).await;
    let told = audit["entries"].as_array().unwrap().iter().find(|e| e["action"] == "twin.desire").unwrap().clone();
    assert_eq!((told["actor"].as_str().unwrap(), told["via"].as_str().unwrap()), (&*format!("service:{id}"), "https 127.0.0.2"));
    let administer = json!({"service": id, "privilege": "administer"});
    let line = format!("/devices/{}/bindings", lamp.id);
    assert_eq!(house.http("POST", &line, &house.owner_token, Some(administer)).await.0, 409);
    // Taken away, it is gone from the live connection.
    assert_eq!(house.http("DELETE", &format!("{line}/service:{id}"), &house.owner_token, None).await.0, 200);
    talker.publish(&Message::new(lamp.topic("telemetry/n"), "2", Qos::AtLeastOnce)).await.unwrap();
    listener.ping().await.unwrap();
    assert!(listener.receive(Duration::ZERO).await.unwrap().is_none());
}

#[tokio::test]
async fn live_connections_end_with_their_network_the_secret_and_the_account_and_others_stay() {
    let house = House::new().await;
    let (id, secret) = service(&house, &[FIRST, SECOND]).await;
    let first = token(&house, FIRST, &id, &secret).await.unwrap();
    let second = token(&house, SECOND, &id, &secret).await.unwrap();
    let mut stays = mqtt(&house, FIRST, &id, &first).await.unwrap();
    // From the second network, with a token of the first as well as with its own.
    let mut goes = mqtt(&house, SECOND, &id, &first).await.unwrap();
    let path = format!("/services/{id}");
    let stream = |source: &str, token: &str| client(&house, source).get(url(&house, "/api/v1/events")).bearer_auth(token).send();
    let mut events = stream(SECOND, &second).await.unwrap();
    assert!(events.chunk().await.unwrap().is_some(), "hello");
    let listed = Some(json!({"networks": [FIRST]}));
    assert_eq!(house.http("PATCH", &path, &house.owner_token, listed).await.0, 200);
    assert!(goes.ping().await.is_err(), "its network went off the list");
    stays.ping().await.unwrap();
    while let Ok(Some(_)) = events.chunk().await {}
    assert_eq!(http(&house, SECOND, "GET", "/devices", &second, None).await.0, 401);
    assert_eq!(http(&house, FIRST, "GET", "/devices", &second, None).await.0, 401, "it was asked for from a network that is gone");
    let mut events = stream(FIRST, &first).await.unwrap();
    assert!(events.chunk().await.unwrap().is_some(), "hello");
    let (status, renewed) = house.http("POST", &format!("{path}/secret"), &house.owner_token, None).await;
    assert_eq!(status, 201);
    assert!(stays.ping().await.is_err(), "its secret has ended");
    while let Ok(Some(_)) = events.chunk().await {}
    assert!(mqtt(&house, FIRST, &id, &first).await.is_none());
    let third = token(&house, FIRST, &id, renewed["secret"].as_str().unwrap()).await.unwrap();
    let mut last = mqtt(&house, FIRST, &id, &third).await.unwrap();
    assert_eq!(house.http("DELETE", &path, &house.owner_token, None).await.0, 204);
    assert!(last.ping().await.is_err(), "it has ended");
}

#[tokio::test]
async fn an_ipv6_address_is_listed_as_one() {
    let house = House::with(|config| config.mqtt.address = "[::1]:0".parse().unwrap()).await;
    let (id, secret) = service(&house, &[FIRST, "::1"]).await;
    let token = token(&house, FIRST, &id, &secret).await.unwrap();
    let mut live = mqtt(&house, "::1", &id, &token).await.unwrap();
    let listed = Some(json!({"networks": [FIRST, "2001:db8::/32"]}));
    assert_eq!(house.http("PATCH", &format!("/services/{id}"), &house.owner_token, listed).await.0, 200);
    assert!(live.ping().await.is_err());
    assert!(mqtt(&house, "::1", &id, &token).await.is_none());
}
