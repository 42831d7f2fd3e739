//! Event streams and WebSockets: what lives longer than an answer.

use super::{HERE, HOST, Home, PATIENCE};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::domain::ids::DeviceId;
use hearthkey::service::{DeviceChange, Grant, Recipient, SessionToken};
use hearthkey::web::Config;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// An open event stream, and what has come of it.
pub(super) struct Events {
    stream: DuplexStream,
    text: String,
}

impl Events {
    pub(super) async fn open(home: &Home, token: &str, more: &str) -> Events {
        let mut stream = home.connect_from(HERE);
        let head = format!("GET /api/v1/events HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Events { stream, text: String::new() }
    }

    async fn more(&mut self) -> bool {
        let mut part = [0; 4096];
        let n = tokio::time::timeout(PATIENCE, self.stream.read(&mut part)).await.expect("something in time").unwrap();
        self.text.push_str(&String::from_utf8_lossy(&part[..n]));
        n > 0
    }

    /// Reads until the event has come, and gives its data.
    pub(super) async fn next(&mut self, name: &str) -> Value {
        let wanted = format!("event:{name}\n");
        loop {
            if let Some(at) = self.text.find(&wanted) {
                let rest = &self.text[at..];
                if let Some(end) = rest.find("\n\n") {
                    let data = rest[..end].lines().find_map(|l| l.strip_prefix("data:")).unwrap();
                    let value = serde_json::from_str(data).unwrap();
                    self.text = rest[end..].to_owned();
                    return value;
                }
            }
            assert!(self.more().await, "the stream ended before {name}: {}", self.text);
        }
    }

    /// Reads until the end, and gives what came.
    pub(super) async fn rest(mut self) -> String {
        while !self.text.contains("\r\n0\r\n\r\n") && self.more().await {}
        self.text
    }
}

async fn rename(home: &Home, token: &str, id: &DeviceId, name: &str) {
    let change = DeviceChange { name: Some(name.into()), ..DeviceChange::default() };
    home.service.change_device(&home.actor(token), id, change).await.unwrap();
}

#[tokio::test]
async fn a_stream_tells_what_its_account_may_see_and_nothing_of_others() {
    let home = Home::new().await;
    let (mia, max) = (home.person("mia", Role::Member).await, home.person("max", Role::Member).await);
    let (hers, his) = (home.claimed("lamp", &mia).await, home.claimed("lamp", &max).await);
    let mut events = Events::open(&home, &mia, "").await;
    assert!(events.next("hello").await["at"].is_u64());
    assert!(events.text.is_empty() || !events.text.contains("resync"));
    rename(&home, &max, &his, "secret").await;
    let desired = serde_json::json!({"on": true}).as_object().unwrap().clone();
    home.service.desire(&home.actor(&max), &his, desired.clone(), None).await.unwrap();
    rename(&home, &mia, &hers, "Reading lamp").await;
    let device = events.next("device").await;
    assert_eq!((device["id"].as_str(), device["name"].as_str()), (Some(hers.as_str()), Some("Reading lamp")));
    home.service.desire(&home.actor(&mia), &hers, desired, None).await.unwrap();
    let twin = events.next("twin").await;
    assert_eq!(
        (twin["device_id"].as_str(), &twin["desired"]["on"], &twin["delta"]["on"]),
        (Some(hers.as_str()), &true.into(), &true.into())
    );
    assert!(twin.get("metadata").is_none());
    home.service.remove_device(&home.actor(&mia), &hers).await.unwrap();
    assert_eq!(events.next("removed").await["id"], hers.as_str());
    home.service.sign_out(&home.actor(&mia), &SessionToken::new(&mia)).await.unwrap();
    let all = events.rest().await;
    assert!(!all.contains(his.as_str()) && !all.contains("secret"), "{all}");
}

#[tokio::test]
async fn a_device_leaves_the_stream_when_the_right_to_it_ends_by_its_time() {
    let home = Home::new().await;
    let (mia, gus) = (home.person("mia", Role::Member).await, home.person("gus", Role::Guest).await);
    let lamp = home.claimed("lamp", &mia).await;
    let until = Some(home.service.now() + 60_000);
    let grant = Grant { to: Recipient::Person("gus".into()), terms: Terms { until, ..Terms::of(Privilege::View) } };
    home.service.grant(&home.actor(&mia), &lamp, grant).await.unwrap();
    let mut events = Events::open(&home, &gus, "").await;
    events.next("hello").await;
    home.clock.0.fetch_add(60_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(events.next("removed").await["id"], lamp.as_str());
}

#[tokio::test]
async fn a_stream_ends_with_its_session_within_a_second() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    let lamp = home.claimed("lamp", &mia).await;
    let mut events = Events::open(&home, &mia, "").await;
    events.next("hello").await;
    let other = home.service.sign_in_person("mia", super::PASSWORD.to_owned().into(), HERE.parse().unwrap(), "test").await.unwrap();
    home.service.sign_out(&home.actor(&mia), &SessionToken::new(&mia)).await.unwrap();
    rename(&home, other.token.reveal(), &lamp, "after").await;
    let ended = tokio::time::timeout(Duration::from_secs(2), events.rest()).await.expect("the stream ends");
    assert!(!ended.contains("after"), "{ended}");
}

#[tokio::test]
async fn a_command_shows_in_the_streams_of_those_who_see_the_device() {
    let home = Home::new().await;
    let id = home.claimed("thermostat", &home.owner).await;
    home.service.device_connected(&id).await;
    let mut events = Events::open(&home, &home.owner, "Last-Event-ID: 5\r\n").await;
    events.next("hello").await;
    assert_eq!(events.next("resync").await, serde_json::json!({}));
    let command = serde_json::json!({"name": "boost", "args": {"minutes": 5}});
    let sent = home.call(&home.owner, &format!("POST /api/v1/devices/{id}/commands"), Some(command)).await.json();
    assert_eq!(events.next("command").await["id"], sent["id"]);
}

#[tokio::test]
async fn a_reader_that_missed_something_is_told_to_load_again() {
    let home = Home::new().await;
    let id = home.claimed("lamp", &home.owner).await;
    let mut events = Events::open(&home, &home.owner, "").await;
    events.next("hello").await;
    // More changes than the service keeps for a reader, and than fit into the connection unread.
    for n in 0..3_000 {
        if n % 2 == 0 { home.service.device_connected(&id).await } else { home.service.device_disconnected(&id).await }
    }
    assert_eq!(events.next("resync").await, serde_json::json!({}));
}

#[tokio::test]
async fn an_account_has_so_many_streams_at_once_and_all_end_with_the_hub() {
    let home = Home::with(Config { event_streams_per_account: 1, ..Config::default() }).await;
    let mut first = Events::open(&home, &home.owner, "").await;
    first.next("hello").await;
    let second = home.call(&home.owner, "GET /api/v1/events", None).await;
    assert_eq!(second.problem(), (429, "too_many".into()));
    assert!(second.header("retry-after").is_some());
    home.shutdown.cancel();
    tokio::time::timeout(PATIENCE, first.rest()).await.expect("the stream ends with the hub");
}

/// A WebSocket handshake by hand (RFC 6455 §4.1), with the example key of §1.3.
fn handshake(more: &str) -> String {
    format!(
        "GET /mqtt HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

async fn head(stream: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time").unwrap());
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn bytes_go_both_ways_through_a_websocket() {
    let mut home = Home::new().await;
    let mut client = home.connect_from(HERE);
    client.write_all(handshake("Sec-WebSocket-Protocol: other, mqtt\r\n").as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") && answer.contains("sec-websocket-protocol: mqtt\r\n"), "{answer}");
    let mut socket = home.sockets.recv().await.unwrap();
    assert_eq!((socket.ip.to_string().as_str(), socket.spki), (HERE, Some([1; 32])));
    // A binary frame with a mask of zeros, then one that goes the other way.
    client.write_all(&[&[0x82, 0x84, 0, 0, 0, 0], &b"ping"[..]].concat()).await.unwrap();
    let mut got = [0; 4];
    socket.stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
    socket.stream.write_all(b"pong!").await.unwrap();
    let mut frame = [0; 7];
    client.read_exact(&mut frame).await.unwrap();
    assert_eq!((frame[0], frame[1], &frame[2..]), (0x82, 5, &b"pong!"[..]));
    // The broker hangs up: the client gets a close frame and the end.
    drop(socket);
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest)).await.expect("the end").unwrap();
    assert_eq!(rest.first(), Some(&0x88));
}

#[tokio::test]
async fn text_ends_a_websocket() {
    let mut home = Home::new().await;
    let mut client = home.connect_from(HERE);
    client.write_all(handshake("Sec-WebSocket-Protocol: mqtt\r\n").as_bytes()).await.unwrap();
    head(&mut client).await;
    let mut socket = home.sockets.recv().await.unwrap();
    client.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, socket.stream.read_to_end(&mut rest)).await.expect("the end").unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_websocket_is_refused_to_foreign_pages_without_the_subprotocol_and_while_the_broker_is_full() {
    let home = Home::new().await;
    let ask = async |more: &str| {
        let mut client = home.connect_from(HERE);
        client.write_all(handshake(more).as_bytes()).await.unwrap();
        head(&mut client).await[9..12].to_owned()
    };
    assert_eq!(ask("").await, "400");
    assert_eq!(ask("Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://evil.example\r\n").await, "403");
    assert_eq!(ask(&format!("Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://{HOST}\r\n")).await, "101");
    for _ in 0..3 {
        assert_eq!(ask("Sec-WebSocket-Protocol: mqtt\r\n").await, "101");
    }
    assert_eq!(ask("Sec-WebSocket-Protocol: mqtt\r\n").await, "503");
    assert_eq!(home.ask("GET /mqtt", &[], b"").await.problem(), (426, "upgrade_required".into()));
}

#[tokio::test]
async fn who_sees_a_part_of_a_device_is_told_of_that_part_alone() {
    let home = Home::new().await;
    let (mia, gus) = (home.person("mia", Role::Member).await, home.person("gus", Role::Guest).await);
    let lamp = home.claimed("lamp", &mia).await;
    let only = Some(["on".to_owned()].into());
    let grant = Grant { to: Recipient::Person("gus".into()), terms: Terms { only, ..Terms::of(Privilege::Operate) } };
    home.service.grant(&home.actor(&mia), &lamp, grant).await.unwrap();
    let desire = async |value: Value| {
        let patch = value.as_object().unwrap().clone();
        home.service.desire(&home.actor(&mia), &lamp, patch, None).await.unwrap();
    };
    let mut events = Events::open(&home, &gus, "").await;
    events.next("hello").await;
    desire(serde_json::json!({"on": true, "brightness": 42})).await;
    let twin = events.next("twin").await;
    assert_eq!((&twin["desired"], &twin["delta"]), (&serde_json::json!({"on": true}), &serde_json::json!({"on": true})));
    // That something else has changed is not told; nor is a command that is not its own.
    desire(serde_json::json!({"brightness": 43})).await;
    home.service.device_connected(&lamp).await;
    let identify = || hearthkey::service::CommandRequest { name: "identify".into(), ..Default::default() };
    let sent = home.service.command(&home.actor(&mia), &lamp, identify()).await.unwrap();
    desire(serde_json::json!({"on": false})).await;
    assert_eq!(events.next("twin").await["desired"], serde_json::json!({"on": false}));
    let path = format!("GET /api/v1/devices/{lamp}/commands/{}", sent.id);
    assert_eq!(home.call(&gus, &path, None).await.status, 404);
    assert_eq!(home.call(&mia, &path, None).await.status, 200);
    // Narrowed while the stream runs.
    let only = Some(["identify".to_owned()].into());
    let grant = Grant { to: Recipient::Person("gus".into()), terms: Terms { only, ..Terms::of(Privilege::Operate) } };
    home.service.grant(&home.actor(&mia), &lamp, grant).await.unwrap();
    desire(serde_json::json!({"on": true})).await;
    home.service.command(&home.actor(&mia), &lamp, identify()).await.unwrap();
    let command = events.next("command").await;
    assert_eq!(command["name"], "identify");
    home.service.sign_out(&home.actor(&gus), &SessionToken::new(&gus)).await.unwrap();
    let all = events.rest().await;
    assert!(!all.contains("brightness") && !all.contains(r#""on""#), "{all}");
}

#[tokio::test]
async fn the_stream_of_an_app_shows_its_devices_and_ends_with_the_app() {
    let home = Home::new().await;
    let (lamp, other) = (home.claimed("lamp", &home.owner).await, home.claimed("lamp", &home.owner).await);
    let (id, token) = home.token(&home.owner, serde_json::json!([{"id": lamp}])).await;
    let mut events = Events::open(&home, &token, "").await;
    events.next("hello").await;
    rename(&home, &home.owner, &other, "Other").await;
    rename(&home, &home.owner, &lamp, "Mine").await;
    assert_eq!(events.next("device").await["id"], serde_json::json!(lamp));
    assert_eq!(home.call(&home.owner, &format!("DELETE /api/v1/me/apps/{id}"), None).await.status, 204);
    rename(&home, &home.owner, &lamp, "Secret").await;
    assert!(!events.rest().await.contains("Secret"));
}
