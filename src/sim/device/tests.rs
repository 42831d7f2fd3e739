//! A device against a hub that is played by the test, packet by packet, over a plain connection on loopback.

use bytes::BytesMut;
use data_encoding::BASE64URL_NOPAD;
use mqtt_proto::{Pid, QosPid, TopicName, v5};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::sim::identity::tests::{keys, plaintext, seal, secret};

struct Hub {
    listener: TcpListener,
    events: mpsc::Receiver<Event>,
    shutdown: CancellationToken,
    device: JoinHandle<Result<(), DeviceError>>,
}

/// The hub's side of one connection.
struct Conn {
    stream: TcpStream,
    buffer: BytesMut,
    connect: v5::Connect,
}

async fn hub(prepare: impl FnOnce(&mut Flash)) -> Hub {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let (sender, events) = mpsc::channel(256);
    let mut options = Options::new(secret(), address, keys().hub());
    options.tls = false;
    options.backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(2) };
    let directory = tempfile::tempdir().unwrap();
    let mut flash = Flash::open(directory.path(), "lamp-1").unwrap();
    prepare(&mut flash);
    options.state = Some(directory.path().to_owned());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let device = tokio::spawn(async move {
        let end = run(options, sender, stop).await;
        drop(directory);
        end
    });
    Hub { listener, events, shutdown, device }
}

impl Hub {
    /// The next connection, up to its CONNECT.
    async fn accept(&self) -> Conn {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut buffer = BytesMut::new();
        let v5::Packet::Connect(connect) = read(&mut stream, &mut buffer).await else { panic!("no CONNECT") };
        Conn { stream, buffer, connect }
    }

    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.events.recv().await.expect("the device is alive");
            if wanted(&event) {
                return event;
            }
        }
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.device.await.unwrap().unwrap();
    }
}

impl Conn {
    fn password(&self) -> String {
        String::from_utf8(self.connect.password.clone().unwrap().to_vec()).unwrap()
    }

    async fn say(&mut self, packet: impl Into<v5::Packet>) {
        self.stream.write_all(packet.into().encode().unwrap().as_ref()).await.unwrap();
    }

    async fn answer(&mut self, code: v5::ConnectReasonCode) {
        self.say(v5::Connack::new(false, code)).await;
    }

    async fn publish(&mut self, topic: &str, payload: impl Into<bytes::Bytes>) {
        let pid = Pid::try_from(77).unwrap();
        self.say(v5::Publish::new(QosPid::Level1(pid), TopicName::try_from(topic).unwrap(), payload.into())).await;
    }

    /// Answers as a hub does until the device publishes on `topic`, and returns what it published.
    async fn serve_until(&mut self, topic: &str) -> Value {
        loop {
            match read(&mut self.stream, &mut self.buffer).await {
                v5::Packet::Subscribe(subscribe) => {
                    let codes = vec![v5::SubscribeReasonCode::GrantedQoS1; subscribe.topics.len()];
                    self.say(v5::Suback::new(subscribe.pid, codes)).await;
                }
                v5::Packet::Pingreq => self.say(v5::Packet::Pingresp).await,
                v5::Packet::Publish(publish) => {
                    if let QosPid::Level1(pid) = publish.qos_pid {
                        self.say(v5::Puback::new_success(pid)).await;
                    }
                    if &*publish.topic_name == topic {
                        return serde_json::from_slice(&publish.payload).unwrap();
                    }
                }
                _ => {}
            }
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut BytesMut) -> v5::Packet {
    loop {
        if let Ok(Some(packet)) = v5::Packet::decode(buffer) {
            let length = packet.encode_len().unwrap();
            let _ = buffer.split_to(length);
            return packet;
        }
        assert_ne!(stream.read_buf(buffer).await.unwrap(), 0, "the device went away");
    }
}

/// Whether the password is the token that the device should make with this counter.
fn is_token(password: &str, counter: u64) -> bool {
    let nonce = password.split('.').nth(2).and_then(|nonce| BASE64URL_NOPAD.decode(nonce.as_bytes()).ok());
    let nonce: [u8; 16] = nonce.unwrap().try_into().unwrap();
    password == keys().token(counter, &nonce, &[])
}

fn credential() -> Credential {
    Credential { ca: b"ca".to_vec(), secret: Zeroizing::new([5; 32]), claimed_at: 1_700_000_000 }
}

fn claimed(flash: &mut Flash) {
    flash.store_pending(keys().hub(), &credential()).unwrap();
    flash.promote(keys().hub()).unwrap();
}

#[tokio::test]
async fn a_device_says_hello_stores_what_comes_and_makes_it_its_own_at_connack() {
    let mut hub = hub(|_| {}).await;
    let mut first = hub.accept().await;
    assert_eq!(first.connect.username.as_deref(), Some("lamp-1"));
    assert!(is_token(&first.password(), 1));
    first.answer(v5::ConnectReasonCode::Success).await;
    let hello = first.serve_until("things/lamp-1/claim/hello").await;
    let nonce = BASE64URL_NOPAD.decode(hello["nonce"].as_str().unwrap().as_bytes()).unwrap();
    let sealed = seal(&keys(), "lamp-1", &plaintext([0x11; 16]), &nonce);
    first.publish("things/lamp-1/claim/credential", sealed).await;

    // The hub dies before CONNACK: the device comes again with the same secret.
    let second = hub.accept().await;
    assert_eq!(second.password(), *credential().password());
    drop(second);
    let mut third = hub.accept().await;
    assert_eq!(third.password(), *credential().password());
    third.answer(v5::ConnectReasonCode::Success).await;
    hub.until(|event| *event == Event::Claimed).await;
    hub.end().await;
}

#[tokio::test]
async fn a_credential_that_answers_an_older_hello_is_not_taken() {
    let mut hub = hub(|_| {}).await;
    let mut conn = hub.accept().await;
    conn.answer(v5::ConnectReasonCode::Success).await;
    conn.serve_until("things/lamp-1/claim/hello").await;
    let sealed = seal(&keys(), "lamp-1", &plaintext([0x11; 16]), &[1; 32]);
    conn.publish("things/lamp-1/claim/credential", sealed).await;
    hub.until(|event| matches!(event, Event::CredentialRefused { .. })).await;
    hub.end().await;
}

#[tokio::test]
async fn after_three_refusals_of_its_secret_a_device_goes_back_to_its_identity() {
    let hub = hub(claimed).await;
    for _ in 0..3 {
        let mut conn = hub.accept().await;
        assert_eq!(conn.password(), *credential().password());
        conn.answer(v5::ConnectReasonCode::BadUserNameOrPassword).await;
    }
    assert!(is_token(&hub.accept().await.password(), 1));
    hub.end().await;
}

#[tokio::test]
async fn a_device_with_a_stale_counter_proves_itself_and_counts_on_from_the_floor() {
    let mut hub = hub(|_| {}).await;
    let mut conn = hub.accept().await;
    conn.answer(v5::ConnectReasonCode::Success).await;
    let v5::Packet::Subscribe(subscribe) = read(&mut conn.stream, &mut conn.buffer).await else { panic!() };
    assert_eq!(&*subscribe.topics[0].0, "things/lamp-1/rebase/challenge");
    conn.say(v5::Suback::new(subscribe.pid, vec![v5::SubscribeReasonCode::GrantedQoS1])).await;
    let challenge = json!({"challenge": BASE64URL_NOPAD.encode(&[0x44; 32]), "floor": 41});
    conn.publish("things/lamp-1/rebase/challenge", challenge.to_string()).await;
    let answer = conn.serve_until("things/lamp-1/rebase/response").await;
    assert_eq!(answer, json!({"counter": 41, "tag": "wtH8Be-eMJKs7r6wqUCjfuwZan33Bg2uHsJXHu6j-_c"}));
    conn.say(v5::Disconnect::new(v5::DisconnectReasonCode::AdministrativeAction)).await;
    hub.until(|event| *event == Event::Rebased { counter: 41 }).await;
    assert!(is_token(&hub.accept().await.password(), 42));
    hub.end().await;
}

#[tokio::test]
async fn a_command_is_carried_out_once_and_its_end_is_told() {
    let mut hub = hub(claimed).await;
    let mut conn = hub.accept().await;
    conn.answer(v5::ConnectReasonCode::Success).await;
    conn.serve_until("things/lamp-1/shadow/update").await;
    let command = json!({"id": "c1", "args": {}, "expires_ms": 30_000}).to_string();
    conn.publish("things/lamp-1/commands/dance", command.clone()).await;
    let result = conn.serve_until("things/lamp-1/commands/dance/result").await;
    assert_eq!(result, json!({"id": "c1", "status": "failed", "message": "no command dance"}));
    conn.publish("things/lamp-1/commands/dance", command).await;
    let ignored = hub.until(|event| matches!(event, Event::CommandIgnored { .. })).await;
    assert_eq!(ignored, Event::CommandIgnored { id: "c1".into(), reason: "it was carried out before" });
    hub.end().await;
}

#[tokio::test]
async fn an_expired_command_is_not_carried_out() {
    let mut hub = hub(claimed).await;
    let mut conn = hub.accept().await;
    conn.answer(v5::ConnectReasonCode::Success).await;
    conn.serve_until("things/lamp-1/shadow/update").await;
    let command = json!({"id": "c2", "args": {}, "expires_ms": 1_600_000_000_000u64}).to_string();
    conn.publish("things/lamp-1/commands/identify", command).await;
    let event = hub.until(|event| matches!(event, Event::Command { .. } | Event::CommandIgnored { .. })).await;
    assert_eq!(event, Event::CommandIgnored { id: "c2".into(), reason: "it has expired" });
    hub.end().await;
}

#[tokio::test]
async fn what_is_desired_is_done_and_then_reported() {
    let hub = hub(claimed).await;
    let mut conn = hub.accept().await;
    conn.answer(v5::ConnectReasonCode::Success).await;
    let report = conn.serve_until("things/lamp-1/shadow/update").await;
    assert_eq!(report["state"]["reported"]["on"], json!(false));
    let delta = json!({"version": 4, "state": {"on": true, "brightness": 500}}).to_string();
    conn.publish("things/lamp-1/shadow/update/delta", delta).await;
    let report = conn.serve_until("things/lamp-1/shadow/update").await;
    assert_eq!(report, json!({"state": {"reported": {"on": true}}}));
    hub.end().await;
}

#[tokio::test]
async fn a_report_that_was_not_acknowledged_is_made_again_on_the_next_connection() {
    let hub = hub(claimed).await;
    let mut conn = hub.accept().await;
    conn.answer(v5::ConnectReasonCode::Success).await;
    conn.serve_until("things/lamp-1/shadow/get").await;
    drop(conn);
    let mut conn = hub.accept().await;
    conn.answer(v5::ConnectReasonCode::Success).await;
    let report = conn.serve_until("things/lamp-1/shadow/update").await;
    assert_eq!(report["state"]["reported"]["brightness"], json!(80));
    hub.end().await;
}

#[test]
fn the_pause_doubles_up_to_its_bound() {
    let pauses: Vec<u64> = (1..=8).map(|failures| Backoff::HOME.after(failures).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(Backoff::HOME.after(u32::MAX).as_secs(), 60);
}
