//! A device from its first pairing on: a hub that a test plays, over TLS on loopback, and the device's own flash.

use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use mqtt_proto::v5;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::super::message::{RX, TX};
use super::hub::{Hub, credential, numbers};
use super::*;
use crate::sim::device::{DeviceError, SignIn};
use crate::sim::gatt::{GattDevice, LINK_DEPTH, Signal};
use crate::sim::state::Flash;

/// The hub's door.
struct Door {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ca: Vec<u8>,
    address: String,
}

/// One connection, up to its CONNECT.
struct Visit {
    stream: TlsStream<TcpStream>,
    buffer: BytesMut,
    password: String,
}

impl Door {
    async fn open() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["hub.local".into()]).unwrap().signed_by(&key, &ca).unwrap().der().clone();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)), ca: ca.der().to_vec(), address }
    }

    async fn visit(&self) -> Visit {
        let (tcp, _) = self.listener.accept().await.unwrap();
        let mut visit = Visit { stream: self.acceptor.accept(tcp).await.unwrap(), buffer: BytesMut::new(), password: String::new() };
        let v5::Packet::Connect(connect) = visit.read().await else { panic!("no CONNECT") };
        assert_eq!(connect.username.as_deref(), Some("lamp-1"));
        visit.password = String::from_utf8(connect.password.unwrap().to_vec()).unwrap();
        visit
    }
}

impl Visit {
    async fn answer(&mut self, code: v5::ConnectReasonCode) {
        let connack = v5::Packet::from(v5::Connack::new(false, code));
        self.stream.write_all(connack.encode().unwrap().as_ref()).await.unwrap();
    }

    async fn read(&mut self) -> v5::Packet {
        loop {
            if let Ok(Some(packet)) = v5::Packet::decode(&self.buffer) {
                let length = packet.encode_len().unwrap();
                let _ = self.buffer.split_to(length);
                return packet;
            }
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "the device went away");
        }
    }
}

/// A device that runs, and a hand at it.
struct Running {
    front: Front,
    events: mpsc::Receiver<Event>,
    hand: mpsc::Sender<Press>,
    shutdown: CancellationToken,
    life: JoinHandle<Result<(), DeviceError>>,
}

impl Running {
    fn start(state: &Path) -> Self {
        let mut options = Options::new(setup(None).secret);
        options.state = Some(state.to_owned());
        options.networks = vec![("Hearth".into(), "correct horse".into())];
        let (hand, pressed) = mpsc::channel(4);
        options.hand = Some(pressed);
        let (front, host) = device(options).unwrap();
        let (sender, events) = mpsc::channel(256);
        let shutdown = CancellationToken::new();
        let life = tokio::spawn(host.run(sender, shutdown.clone()));
        Self { front, events, hand, shutdown, life }
    }

    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.events.recv().await.expect("the device lives");
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Pairs up to *stored*; what the device says then comes through the receiver.
    async fn pair(&mut self, door: &Door, wifi: Option<(&str, &str)>) -> (Hub, mpsc::Receiver<Signal>) {
        let (link, mut signals) = mpsc::channel(LINK_DEPTH);
        self.front.connected(185, link).unwrap();
        let (mut hub, values) = Hub::begin(&setup(None).secret, 185);
        values.iter().for_each(|value| self.front.write(RX, value).unwrap());
        assert_eq!(numbers(&next(&mut hub, &mut signals).await), [1]);
        for value in hub.say(&credential(&door.ca, &["127.0.0.1:1", &door.address], [9; 32], wifi)) {
            self.front.write(RX, &value).unwrap();
        }
        assert_eq!(numbers(&next(&mut hub, &mut signals).await), [5]);
        (hub, signals)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.life.await.unwrap().unwrap();
    }
}

/// The next message of the session.
async fn next(hub: &mut Hub, signals: &mut mpsc::Receiver<Signal>) -> Vec<ciborium::Value> {
    loop {
        let Some(Signal::Notify(TX, value)) = signals.recv().await else { panic!("the device has hung up") };
        if let Some(message) = hub.hear(&value) {
            return message;
        }
    }
}

const OURS: &str = "hks1.CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk";

#[tokio::test]
async fn a_paired_device_belongs_to_the_hub_at_connack_and_comes_back_by_itself() {
    let door = Door::open().await;
    let state = tempfile::tempdir().unwrap();
    let mut device = Running::start(state.path());
    let (mut hub, mut signals) = device.pair(&door, Some(("Hearth", "correct horse"))).await;
    let mut visit = door.visit().await;
    assert_eq!(visit.password, OURS);
    assert!(Flash::open(state.path(), "lamp-1").unwrap().home().is_none(), "it is not its own yet");
    // Joining, looking, nobody at the first address, asking at the second.
    for wanted in [[6, 1, 0], [6, 2, 0], [6, 2, 1], [6, 3, 0]] {
        assert_eq!(numbers(&next(&mut hub, &mut signals).await), wanted);
    }
    visit.answer(v5::ConnectReasonCode::Success).await;
    device.until(|event| matches!(event, Event::Pairing(Told::Paired { .. }))).await;
    assert!(device.front.advertised().is_none(), "the window is closed");
    hub.say(&[0x81, 8]).iter().for_each(|value| device.front.write(RX, value).unwrap());
    device.until(|event| *event == Event::Pairing(Told::Completed)).await;
    device.front.disconnected();
    // It goes on in the same connection.
    assert!(matches!(visit.read().await, v5::Packet::Subscribe(_)));
    device.stop().await;

    let mut device = Running::start(state.path());
    assert!(device.front.advertised().is_none());
    // Where it found the hub it looks first.
    let mut visit = door.visit().await;
    assert_eq!(visit.password, OURS);
    visit.answer(v5::ConnectReasonCode::Success).await;
    device.until(|event| matches!(event, Event::Device(device::Event::SignedIn { with: SignIn::Secret }))).await;
    device.stop().await;
}

#[tokio::test]
async fn a_refused_password_leaves_the_device_as_it_was() {
    let door = Door::open().await;
    let state = tempfile::tempdir().unwrap();
    let mut device = Running::start(state.path());
    let _held = device.pair(&door, None).await;
    door.visit().await.answer(v5::ConnectReasonCode::BadUserNameOrPassword).await;
    device.until(|event| matches!(event, Event::Pairing(Told::RolledBack { .. }))).await;
    device.front.disconnected();
    device.until(|event| *event == Event::Pairing(Told::Disconnected)).await;
    let flash = Flash::open(state.path(), "lamp-1").unwrap();
    assert!(flash.home().is_none() && flash.arriving().is_none());
    assert!(device.front.advertised().is_some(), "it can be paired again");
    device.stop().await;
}

#[tokio::test]
async fn a_connection_that_breaks_before_connack_is_tried_again_also_after_a_power_cut() {
    let door = Door::open().await;
    let state = tempfile::tempdir().unwrap();
    let mut device = Running::start(state.path());
    let _held = device.pair(&door, None).await;
    drop(door.visit().await);
    drop(door.visit().await);
    device.stop().await;
    let mut device = Running::start(state.path());
    door.visit().await.answer(v5::ConnectReasonCode::Success).await;
    device.until(|event| matches!(event, Event::Pairing(Told::Paired { .. }))).await;
    device.stop().await;
}

#[tokio::test]
async fn a_wrong_passphrase_is_said_and_undone() {
    let door = Door::open().await;
    let state = tempfile::tempdir().unwrap();
    let mut device = Running::start(state.path());
    let (mut hub, mut signals) = device.pair(&door, Some(("Hearth", "wrong horse"))).await;
    assert_eq!(numbers(&next(&mut hub, &mut signals).await), [6, 1, 0]);
    assert_eq!(numbers(&next(&mut hub, &mut signals).await), [6, 1, 3]);
    assert_eq!(numbers(&next(&mut hub, &mut signals).await), [7, 9]);
    assert_eq!(signals.recv().await, Some(Signal::Disconnect));
    assert!(Flash::open(state.path(), "lamp-1").unwrap().arriving().is_none());
    device.stop().await;
}

#[tokio::test]
async fn a_reset_by_hand_forgets_the_hub_is_counted_and_opens_the_window() {
    let door = Door::open().await;
    let state = tempfile::tempdir().unwrap();
    let mut device = Running::start(state.path());
    let _held = device.pair(&door, None).await;
    let mut visit = door.visit().await;
    visit.answer(v5::ConnectReasonCode::Success).await;
    device.until(|event| matches!(event, Event::Pairing(Told::Paired { .. }))).await;
    device.front.disconnected();
    device.hand.send(Press::Pair).await.unwrap();
    device.until(|event| *event == Event::Pairing(Told::WindowOpen)).await;
    assert_eq!(device.front.read(super::super::message::INFO).unwrap()[1], 2);
    device.hand.send(Press::Reset).await.unwrap();
    device.until(|event| *event == Event::Pairing(Told::WindowOpen)).await;
    assert_eq!(device.front.read(super::super::message::INFO).unwrap()[1], 1);
    let flash = Flash::open(state.path(), "lamp-1").unwrap();
    assert!(flash.home().is_none());
    assert_eq!(flash.resets(), 1);
    device.stop().await;
}
