//! The client against a scripted peer on an in-memory stream.

use std::time::Duration;

use bytes::BytesMut;
use mqtt_proto::{Pid, QosPid, TopicName, v3, v5};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{Client, Closed, ConnectOptions, Error, Event, Message, Qos, Version};

/// A broker that says what the test tells it to.
struct Peer(DuplexStream, BytesMut);

impl Peer {
    async fn expect(&mut self) -> v5::Packet {
        loop {
            if let Ok(Some(packet)) = v5::Packet::decode(&self.1) {
                let length = packet.encode_len().unwrap();
                let _ = self.1.split_to(length);
                return packet;
            }
            assert_ne!(self.0.read_buf(&mut self.1).await.unwrap(), 0, "the client went away");
        }
    }

    async fn say(&mut self, packet: impl Into<v5::Packet>) {
        self.0.write_all(packet.into().encode().unwrap().as_ref()).await.unwrap();
    }
}

fn options() -> ConnectOptions {
    ConnectOptions { step: Duration::from_millis(500), ..ConnectOptions::new("tester") }
}

async fn connected() -> (Client<DuplexStream>, Peer) {
    let (ours, theirs) = duplex(64 * 1024);
    let mut peer = Peer(theirs, BytesMut::new());
    let accept = async {
        assert!(matches!(peer.expect().await, v5::Packet::Connect(_)));
        peer.say(v5::Connack::new(false, v5::ConnectReasonCode::Success)).await;
        peer
    };
    let options = options();
    let (client, peer) = tokio::join!(Client::connect(ours, &options), accept);
    (client.unwrap(), peer)
}

fn pid(number: u16) -> Pid {
    Pid::try_from(number).unwrap()
}

fn incoming(qos_pid: QosPid, payload: &'static [u8]) -> v5::Publish {
    v5::Publish::new(qos_pid, TopicName::try_from("t").unwrap(), payload.into())
}

#[tokio::test]
async fn a_refused_connect_shows_the_code_of_the_broker() {
    let (ours, theirs) = duplex(4096);
    let mut peer = Peer(theirs, BytesMut::new());
    let options = options().credentials("lamp-1", "wrong");
    let (client, ()) = tokio::join!(Client::connect(ours, &options), async {
        let v5::Packet::Connect(connect) = peer.expect().await else { panic!("no CONNECT") };
        assert_eq!(connect.username.as_deref(), Some("lamp-1"));
        peer.say(v5::Connack::new(false, v5::ConnectReasonCode::BadUserNameOrPassword)).await;
    });
    let Err(Error::Refused(connack)) = client else { panic!("{client:?}") };
    assert_eq!(connack.code, 0x86);
    assert!(connack.refuses_credentials());
}

#[tokio::test]
async fn a_silent_broker_runs_into_the_deadline() {
    let (ours, _theirs) = duplex(4096);
    let options = ConnectOptions { step: Duration::from_millis(20), ..options() };
    assert!(matches!(Client::connect(ours, &options).await, Err(Error::Deadline("CONNACK", _))));
}

#[tokio::test]
async fn a_publish_returns_the_reason_of_its_own_puback() {
    let (mut client, mut peer) = connected().await;
    let message = Message::new("things/other/x", "1", Qos::AtLeastOnce);
    let (code, ()) = tokio::join!(client.publish(&message), async {
        let v5::Packet::Publish(publish) = peer.expect().await else { panic!("no PUBLISH") };
        let QosPid::Level1(sent) = publish.qos_pid else { panic!("not QoS 1") };
        peer.say(incoming(QosPid::Level0, b"between")).await;
        peer.say(v5::Puback::new(sent, v5::PubackReasonCode::NotAuthorized)).await;
    });
    assert_eq!(code.unwrap(), 0x87);
    assert_eq!(client.in_flight().0, 0);
    let kept = client.receive(Duration::ZERO).await.unwrap().expect("the message in between is kept");
    assert_eq!(&kept.payload[..], b"between");
}

#[tokio::test]
async fn an_abandoned_publish_is_still_sent_and_its_answer_turns_up_later() {
    let (mut client, mut peer) = connected().await;
    let message = Message::new("t", "1", Qos::AtLeastOnce);
    {
        let publish = client.publish(&message);
        tokio::pin!(publish);
        let abandoned = tokio::select! { biased; _ = &mut publish => false, () = std::future::ready(()) => true };
        assert!(abandoned);
    }
    let (event, sent) = tokio::join!(client.next(), async {
        let v5::Packet::Publish(publish) = peer.expect().await else { panic!("no PUBLISH") };
        let QosPid::Level1(sent) = publish.qos_pid else { panic!("not QoS 1") };
        peer.say(v5::Puback::new_success(sent)).await;
        sent.value()
    });
    assert_eq!(event.unwrap(), Event::PubAck { pid: sent, code: 0 });
}

#[tokio::test]
async fn a_qos_2_message_is_handed_on_once_however_often_it_comes() {
    let (mut client, mut peer) = connected().await;
    peer.say(incoming(QosPid::Level2(pid(7)), b"once")).await;
    peer.say(incoming(QosPid::Level2(pid(7)), b"once")).await;
    peer.say(v5::Pubrel::new_success(pid(7))).await;
    peer.say(incoming(QosPid::Level0, b"last")).await;
    assert_eq!(&client.receive(Duration::from_secs(1)).await.unwrap().unwrap().payload[..], b"once");
    assert_eq!(&client.receive(Duration::from_secs(1)).await.unwrap().unwrap().payload[..], b"last");
    client.flush().await.unwrap();
    assert!(matches!(peer.expect().await, v5::Packet::Pubrec(_)));
    assert!(matches!(peer.expect().await, v5::Packet::Pubrec(_)));
    assert!(matches!(peer.expect().await, v5::Packet::Pubcomp(_)));
}

#[tokio::test]
async fn a_qos_2_publish_goes_through_all_four_steps() {
    let (mut client, mut peer) = connected().await;
    let message = Message::new("t", "1", Qos::ExactlyOnce);
    let (code, ()) = tokio::join!(client.publish(&message), async {
        let v5::Packet::Publish(publish) = peer.expect().await else { panic!("no PUBLISH") };
        let QosPid::Level2(sent) = publish.qos_pid else { panic!("not QoS 2") };
        peer.say(v5::Pubrec::new_success(sent)).await;
        let v5::Packet::Pubrel(rel) = peer.expect().await else { panic!("no PUBREL") };
        assert_eq!(rel.pid, sent);
        peer.say(v5::Pubcomp::new_success(sent)).await;
    });
    assert_eq!(code.unwrap(), 0);
}

#[tokio::test]
async fn the_reason_of_a_disconnect_reaches_the_caller() {
    let (mut client, mut peer) = connected().await;
    peer.say(v5::Disconnect::new(v5::DisconnectReasonCode::AdministrativeAction)).await;
    let end = client.next().await;
    assert!(matches!(end, Err(Error::Closed(Closed { code: Some(0x98), .. }))), "{end:?}");
}

#[tokio::test]
async fn a_suback_gives_one_code_per_filter() {
    let (mut client, mut peer) = connected().await;
    let filters = [("a/#", Qos::AtLeastOnce), ("b/#", Qos::AtLeastOnce)];
    let (codes, ()) = tokio::join!(client.subscribe(&filters), async {
        let v5::Packet::Subscribe(subscribe) = peer.expect().await else { panic!("no SUBSCRIBE") };
        let codes = vec![v5::SubscribeReasonCode::GrantedQoS1, v5::SubscribeReasonCode::NotAuthorized];
        peer.say(v5::Suback::new(subscribe.pid, codes)).await;
    });
    assert_eq!(codes.unwrap(), [1, 0x87]);
}

#[tokio::test]
async fn an_acknowledgement_nobody_waits_for_is_a_fault_of_the_broker() {
    let (mut client, mut peer) = connected().await;
    peer.say(v5::Puback::new_success(pid(9))).await;
    assert!(matches!(client.next().await, Err(Error::Malformed(_))));
}

#[tokio::test]
async fn the_keep_alive_pings_by_itself_and_misses_a_silent_broker() {
    let (ours, theirs) = duplex(4096);
    let mut peer = Peer(theirs, BytesMut::new());
    let options = ConnectOptions { step: Duration::from_millis(30), keep_alive_s: 1, ..options() };
    let (client, ()) = tokio::join!(Client::connect(ours, &options), async {
        peer.expect().await;
        peer.say(v5::Connack::new(false, v5::ConnectReasonCode::Success)).await;
    });
    let mut client = client.unwrap();
    let (end, ping) = tokio::join!(client.next(), peer.expect());
    assert!(matches!(ping, v5::Packet::Pingreq));
    assert!(matches!(end, Err(Error::Deadline("PINGRESP", _))), "{end:?}");
}

#[tokio::test]
async fn the_receive_maximum_of_the_broker_is_kept() {
    let (ours, theirs) = duplex(4096);
    let mut peer = Peer(theirs, BytesMut::new());
    let options = options();
    let (client, ()) = tokio::join!(Client::connect(ours, &options), async {
        peer.expect().await;
        let mut connack = v5::Connack::new(false, v5::ConnectReasonCode::Success);
        connack.properties.receive_max = Some(1);
        peer.say(connack).await;
    });
    let mut client = client.unwrap();
    let message = Message::new("t", "", Qos::AtLeastOnce);
    client.start_publish(&message).unwrap();
    assert!(matches!(client.start_publish(&message), Err(Error::WindowFull(1))));
}

#[tokio::test]
async fn version_3_1_1_shows_its_own_return_code() {
    let (ours, mut theirs) = duplex(4096);
    let options = ConnectOptions { version: Version::V4, ..options() };
    let (client, ()) = tokio::join!(Client::connect(ours, &options), async {
        let mut buffer = vec![0; 256];
        let length = theirs.read(&mut buffer).await.unwrap();
        assert!(matches!(v3::Packet::decode(&buffer[..length]), Ok(Some(v3::Packet::Connect(_)))));
        theirs.write_all(&[0x20, 2, 0, 4]).await.unwrap();
    });
    let Err(Error::Refused(connack)) = client else { panic!("{client:?}") };
    assert_eq!(connack.code, 4);
    assert!(connack.refuses_credentials());
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_decoded_when_it_is_whole() {
    let mut whole = BytesMut::new();
    super::codec::publish(Version::V5, &mut whole, &Message::new("a/b", vec![7; 300], Qos::AtMostOnce), None).unwrap();
    let mut buffer = BytesMut::new();
    let length = whole.len();
    for (index, byte) in whole.iter().enumerate() {
        buffer.extend_from_slice(&[*byte]);
        let decoded = super::codec::decode(Version::V5, &mut buffer, 1024).unwrap();
        assert_eq!(decoded.is_some(), index + 1 == length);
    }
    assert!(buffer.is_empty());
}

#[test]
fn a_frame_over_the_limit_is_refused_before_it_is_read() {
    let mut buffer = BytesMut::from(&[0x30, 0xFF, 0xFF, 0x7F][..]);
    assert!(matches!(super::codec::decode(Version::V4, &mut buffer, 1024), Err(Error::TooLarge { .. })));
}
