//! Peers that are no good: silent, deaf, greedy, broken or of another time. Each costs itself its connection, and the
//! others nothing.

use crate::durability::Process;
use crate::gate::lamp_twice;
use crate::house::House;
use crate::wire::{Hello, PATIENCE, Wire, packet, text};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn more_than_the_largest_packet_ends_the_connection_with_that_reason() {
    let house = House::with(|c| c.broker.max_packet_bytes = 4_096).await;
    let (lamp, mut reader, mut writer) = lamp_twice(&house).await;
    reader.subscribe(&lamp.topic("x"), 0).await;
    assert_eq!(writer.publish(&lamp.topic("x"), &[1; 3_900], false, &[]).await, 0);
    assert_eq!(reader.message().await.payload.len(), 3_900);
    let bytes = writer.publish_bytes(&lamp.topic("x"), &[1; 5_000], 2, 1, &[]);
    writer.send(&bytes).await;
    assert_eq!(writer.end().await, Some(0x95));
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let (mut silent, mut silent_tls) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        silent.push(Wire::silent(&house, None).await);
        silent_tls.push(tokio::net::TcpStream::connect(house.hub.addresses.mqtts.unwrap()).await.unwrap());
    }
    // Others stop in the middle of a CONNECT.
    let hello = Hello::of(&lamp, "half").bytes();
    for wire in &mut silent {
        wire.send(&hello[..20]).await;
    }
    let mut client = house.connect_device(&lamp).await;
    client.ping().await.unwrap();
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let house = House::with(|c| {
        c.broker.connect_deadline_s = 1;
        c.mqtts.handshake_s = 1;
    })
    .await;
    let mut plain = Wire::silent(&house, None).await;
    assert_eq!(plain.end().await, None);
    let mut tls = tokio::net::TcpStream::connect(house.hub.addresses.mqtts.unwrap()).await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, tokio::io::AsyncReadExt::read_to_end(&mut tls, &mut rest)).await.expect("it was left open");
}

#[tokio::test]
async fn garbage_ends_its_own_connection_and_no_other() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let mut bystander = Wire::connect(&house, &Hello::of(&lamp, "bystander")).await;
    let hello = || Hello::of(&lamp, "victim");
    let garbage: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xFF; 64],
        vec![0x00],
        vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        vec![0x30, 2, 0, 9],
        vec![0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3],
    ];
    for bytes in &garbage {
        let mut wire = Wire::silent(&house, None).await;
        wire.send(bytes).await;
        wire.stream.shutdown().await.unwrap();
        assert_eq!(wire.end().await, None, "{bytes:?}");
    }
    // After a good CONNECT: each of these breaks a rule of the standard.
    let publish_without_id = packet(0x32, &[&text(&lamp.topic("x"))[..], &[0, 0, 0]].concat());
    let broken = [
        vec![0x36, 3, 0, 0, 0],
        vec![0x80, 2, 0, 1],
        vec![0x82, 3, 0, 1, 0],
        vec![0xF0, 0],
        vec![0xC1, 0],
        vec![0x62, 0],
        publish_without_id,
        packet(0x30, &[&text("things/+/x")[..], &[0]].concat()),
        packet(0x30, &[&[0, 3, 0xC3, 0x28, 0x61][..], &[0]].concat()),
        hello().bytes(),
    ];
    for bytes in &broken {
        let mut wire = Wire::connect(&house, &hello()).await;
        wire.send(bytes).await;
        let code = wire.end().await.unwrap_or_else(|| panic!("{bytes:02x?}: no reason was told"));
        assert!((0x81..=0x90).contains(&code), "{bytes:02x?}: {code:#04x}");
    }
    bystander.fence().await;
}

#[tokio::test]
async fn another_protocol_level_is_told_so() {
    let house = House::new().await;
    for connect in [
        &b"\x10\x0c\x00\x04MQTT\x03\x02\x00\x05\x00\x00"[..],
        b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x05\x00\x00",
        b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x05\x00\x00",
    ] {
        let mut wire = Wire::silent(&house, None).await;
        wire.send(connect).await;
        assert_eq!(wire.next().await.unwrap().body, [0, 1]);
        assert_eq!(wire.next().await, None);
    }
}

#[tokio::test]
async fn a_subscriber_that_never_reads_neither_stops_nor_slows_the_others_and_costs_little() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    // In a process of its own, so that its memory is nobody else's.
    let House { hub, dir, owner_token, .. } = house;
    hub.shut_down().await;
    let hub = Process::start(&dir.path().join("hub")).await;
    let person = |client_id: &str| Hello::person("olivia", &owner_token, client_id);
    let mut deaf = Wire::silent_at(hub.plain, Some(4_096)).await;
    deaf.hello(&person("deaf")).await;
    deaf.subscribe(&lamp.topic("x"), 0).await;
    let mut reader = Wire::silent_at(hub.plain, None).await;
    reader.hello(&person("reader")).await;
    reader.subscribe(&lamp.topic("x"), 0).await;
    let mut writer = Wire::silent_at(hub.plain, None).await;
    assert_eq!(writer.hello(&Hello::of(&lamp, "writer")).await.1, 0);
    let before = hub.resident_kib();
    let begin = std::time::Instant::now();
    // 32 MiB: more than the kernel and the hub hold for the deaf one.
    for n in 0..512u32 {
        let payload = [&n.to_be_bytes()[..], &[0; 65_532]].concat();
        assert_eq!(writer.publish(&lamp.topic("x"), &payload, false, &[]).await, 0);
        assert_eq!(reader.message().await.payload[..4], n.to_be_bytes());
    }
    let (took, grown) = (begin.elapsed(), hub.resident_kib().saturating_sub(before));
    assert!(took < Duration::from_secs(8), "512 messages took {took:?}");
    assert!(grown < 24 * 1024, "{grown} KiB more than before");
    hub.die().await;
}

#[tokio::test]
async fn a_fifth_connection_of_one_device_is_refused_and_the_four_go_on() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let mut four = Vec::new();
    for n in 0..4 {
        four.push(Wire::connect(&house, &Hello::of(&lamp, &format!("c{n}"))).await);
    }
    assert_eq!(Wire::try_connect(&house, &Hello::of(&lamp, "c4")).await.2, 0x97);
    assert_eq!(Wire::try_connect(&house, &Hello::of(&lamp, "c4").v4()).await.2, 3);
    for wire in &mut four {
        wire.fence().await;
    }
}

#[tokio::test]
async fn a_client_without_an_id_is_given_one_or_refused_as_its_version_says() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let nameless = || Hello::of(&lamp, "");
    assert_eq!(Wire::try_connect(&house, &nameless()).await.2, 0);
    assert_eq!(Wire::try_connect(&house, &nameless().v4()).await.2, 0);
    let kept = Hello { clean: false, ..nameless().v4() };
    assert_eq!(Wire::try_connect(&house, &kept).await.2, 2);
    let long = Hello::of(&lamp, &"x".repeat(129));
    assert_eq!(Wire::try_connect(&house, &long).await.2, 0x85);
}
