//! The gate as a broker: what MQTT says must happen to messages, sessions and wills, seen by real clients and byte by byte.

use crate::house::{Device, House};
use crate::signing_in::fetch_secret;
use crate::wire::{Hello, Wire, packet, property, text, u16_property, u32_property};
use hearthkey::domain::account::Role;
use hearthkey::sim::mqtt::{ConnectOptions, Error, Message, Qos};
use hearthkey::sim::tls::Trust;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// A lamp, and two connections of it: one that subscribes and one that publishes.
pub async fn lamp_twice(house: &House) -> (Device, Wire, Wire) {
    let lamp = house.device("lamp").await;
    let reader = Wire::connect(house, &Hello::of(&lamp, "reader")).await;
    let writer = Wire::connect(house, &Hello::of(&lamp, "writer")).await;
    (lamp, reader, writer)
}

fn payloads(messages: &[crate::wire::Published]) -> Vec<&[u8]> {
    messages.iter().map(|m| &m.payload[..]).collect()
}

#[tokio::test]
async fn a_message_arrives_with_the_lower_qos_of_publisher_and_subscriber() {
    let house = House::new().await;
    let (lamp, mut reader, mut writer) = lamp_twice(&house).await;
    for (published, subscribed) in [(0u8, 1u8), (0, 2), (1, 0), (1, 1), (2, 1), (2, 2)] {
        reader.subscribe(&lamp.topic("x"), subscribed).await;
        let bytes = writer.publish_bytes(&lamp.topic("x"), b"m", published << 1, 7, &[]);
        writer.send(&bytes).await;
        let message = reader.message().await;
        assert_eq!(message.qos, published.min(subscribed), "{published} to {subscribed}");
        reader.acknowledge(if message.qos == 2 { 5 } else { 4 }, message.pid.max(1)).await;
        if published == 2 {
            writer.acknowledge(6, 7).await;
            writer.expect(7).await;
        }
        if message.qos == 2 {
            reader.expect(6).await;
            reader.acknowledge(7, message.pid).await;
        }
    }
}

#[tokio::test]
async fn a_retained_message_stays_until_an_empty_retained_one_takes_it_away() {
    let house = House::new().await;
    let (lamp, mut reader, mut writer) = lamp_twice(&house).await;
    let topic = lamp.topic("kept");
    assert_eq!(writer.publish(&topic, b"one", true, &[]).await, 0);
    assert_eq!(writer.publish(&topic, b"", false, &[]).await, 0);
    reader.subscribe(&topic, 0).await;
    let first = reader.message().await;
    assert_eq!((&first.payload[..], first.retain), (&b"one"[..], true));
    // Subscribing again is told again; a live message does not carry the flag.
    reader.subscribe(&topic, 0).await;
    assert_eq!(payloads(&reader.messages().await), [b"one"]);
    assert_eq!(writer.publish(&topic, b"two", true, &[]).await, 0);
    let live = reader.message().await;
    assert_eq!((&live.payload[..], live.retain), (&b"two"[..], false));
    assert_eq!(writer.publish(&topic, b"", true, &[]).await, 0);
    assert_eq!(payloads(&reader.messages().await), [b""]);
    reader.subscribe(&topic, 0).await;
    assert!(reader.messages().await.is_empty());
}

#[tokio::test]
async fn retain_handling_and_retain_as_published_are_honoured() {
    let house = House::new().await;
    let (lamp, mut reader, mut writer) = lamp_twice(&house).await;
    let topic = lamp.topic("kept");
    writer.publish(&topic, b"one", true, &[]).await;
    // 0x20: never; 0x10: only when new; 0x08: retain as published.
    assert_eq!(reader.subscribe_with(&[(&topic, 0x20)], &[]).await, [0]);
    assert!(reader.messages().await.is_empty());
    assert_eq!(reader.subscribe_with(&[(&topic, 0x18)], &[]).await, [0]);
    assert!(reader.messages().await.is_empty(), "it was not a new subscription");
    writer.publish(&topic, b"two", true, &[]).await;
    assert!(reader.message().await.retain);
}

#[tokio::test]
async fn filters_against_the_standard_are_refused_and_the_others_of_the_packet_are_not() {
    let house = House::new().await;
    let (lamp, mut reader, _) = lamp_twice(&house).await;
    let own = lamp.topic("x");
    let bad = ["a/#/b", "a#", "a+/b", "#/", "$share//a", "$share/g", "$share/g/", "$share/g+/a", "", "$share/g/a/#/b"];
    for filter in bad {
        assert_eq!(reader.subscribe_with(&[(filter, 0), (&own, 1)], &[]).await, [0x8F, 1], "{filter}");
    }
    let mut old = Wire::connect(&house, &Hello::of(&lamp, "old").v4()).await;
    assert_eq!(old.subscribe_with(&[("a/#/b", 0), (&own, 1)], &[]).await, [0x80, 1]);
}

#[tokio::test]
async fn one_unsubscribe_gets_one_answer_with_a_code_for_each_filter() {
    let house = House::new().await;
    let (lamp, mut reader, mut writer) = lamp_twice(&house).await;
    reader.subscribe(&lamp.topic("x"), 1).await;
    let unsubscribe = |filters: &[&str]| {
        let mut body = vec![0, 8, 0];
        filters.iter().for_each(|f| body.extend(text(f)));
        packet(0xA2, &body)
    };
    reader.send(&unsubscribe(&[&lamp.topic("x"), "never/was"])).await;
    assert_eq!(reader.expect(11).await.body, [0, 8, 0, 0, 0x11]);
    reader.send(&unsubscribe(&["never/was"])).await;
    assert_eq!(reader.expect(11).await.body, [0, 8, 0, 0x11]);
    writer.publish(&lamp.topic("x"), b"m", false, &[]).await;
    assert!(reader.messages().await.is_empty());
}

#[tokio::test]
async fn a_topic_alias_is_resolved_before_the_check_and_is_the_publishers_alone() {
    let house = House::new().await;
    let (lamp, mut reader, mut writer) = lamp_twice(&house).await;
    let other = house.device("lamp").await;
    let mut victim = Wire::connect(&house, &Hello::of(&other, "victim")).await;
    victim.subscribe(&other.topic("x"), 0).await;
    reader.subscribe(&lamp.topic("x"), 0).await;
    let alias = |n: u16| u16_property(property::TOPIC_ALIAS, n);
    assert_eq!(writer.publish(&lamp.topic("x"), b"1", false, &alias(3)).await, 0);
    assert_eq!(writer.publish("", b"2", false, &alias(3)).await, 0);
    // Another's topic, by its name and then by the alias that was set with it.
    assert_eq!(writer.publish(&other.topic("x"), b"3", false, &alias(4)).await, 0x87);
    assert_eq!(writer.publish("", b"4", false, &alias(4)).await, 0x87);
    assert_eq!(writer.publish("", b"5", false, &alias(3)).await, 0);
    let heard = reader.messages().await;
    assert_eq!(payloads(&heard), [b"1", b"2", b"5"]);
    assert!(heard.iter().all(|m| m.topic == lamp.topic("x") && m.properties.is_empty()), "{heard:?}");
    assert!(victim.messages().await.is_empty());
    for (bytes, code) in [(alias(0), 0x94), (alias(17), 0x94), (alias(9), 0x82)] {
        let mut wrong = Wire::connect(&house, &Hello::of(&lamp, "wrong")).await;
        let bytes = wrong.publish_bytes("", b"m", 2, 1, &bytes);
        wrong.send(&bytes).await;
        assert_eq!(wrong.end().await, Some(code));
    }
}

#[tokio::test]
async fn a_will_is_sent_after_a_cut_and_not_after_a_goodbye() {
    let house = House::new().await;
    let (lamp, mut reader, _) = lamp_twice(&house).await;
    reader.subscribe(&lamp.topic("will"), 1).await;
    let with_will = |text: &str| Hello { will: Some((lamp.topic("will"), text.into())), ..Hello::of(&lamp, "mortal") };
    let mut polite = Wire::connect(&house, &with_will("polite")).await;
    polite.send(&[0xE0, 0]).await;
    polite.end().await;
    let mut asking = Wire::connect(&house, &with_will("asking")).await;
    asking.send(&[0xE0, 1, 4]).await;
    asking.end().await;
    let message = reader.message().await;
    assert_eq!(message.payload, b"asking");
    reader.acknowledge(4, message.pid).await;
    drop(Wire::connect(&house, &with_will("cut")).await);
    assert_eq!(reader.message().await.payload, b"cut");
}

#[tokio::test]
async fn the_will_of_a_suspended_device_is_void() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let mut owner = Wire::connect(&house, &Hello::person("olivia", &house.owner_token, "owner")).await;
    owner.subscribe(&lamp.topic("will"), 1).await;
    let hello = Hello { will: Some((lamp.topic("will"), b"last words".to_vec())), ..Hello::of(&lamp, "mortal") };
    let mut mortal = Wire::connect(&house, &hello).await;
    house.hub.service().suspend(&house.owner, &lamp.id, true).await.unwrap();
    mortal.end().await;
    assert!(owner.messages().await.is_empty(), "a suspended device has spoken");
}

#[tokio::test]
async fn silence_beyond_one_and_a_half_keep_alives_ends_a_connection_and_keep_alive_zero_does_not() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let mut for_ever = Wire::connect(&house, &Hello::of(&lamp, "for ever")).await;
    let begin = std::time::Instant::now();
    let mut mortal = Wire::connect(&house, &Hello { keep_alive: 1, ..Hello::of(&lamp, "mortal") }).await;
    assert_eq!(mortal.end().await, Some(0x8D));
    assert!(begin.elapsed() >= Duration::from_millis(1_500), "{:?}", begin.elapsed());
    for_ever.fence().await;
}

#[tokio::test]
async fn a_second_connection_takes_the_session_of_its_principal_and_of_no_other() {
    let house = House::new().await;
    let (lamp, other) = (house.device("lamp").await, house.device("lamp").await);
    let mut first = Wire::connect(&house, &Hello::of(&lamp, "same")).await;
    let mut neighbour = Wire::connect(&house, &Hello::of(&other, "same")).await;
    let mut person = Wire::connect(&house, &Hello::person("olivia", &house.owner_token, "same")).await;
    let mut second = Wire::connect(&house, &Hello::of(&lamp, "same")).await;
    assert_eq!(first.end().await, Some(0x8E));
    second.fence().await;
    neighbour.fence().await;
    person.fence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_connections_of_one_session_at_once_one_remains() {
    let house = std::sync::Arc::new(House::new().await);
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    // With the secret: of tokens that overtake each other the older ones open re-base sessions.
    let secret = fetch_secret(&house, &lamp).await;
    for _ in 0..10 {
        let dials: Vec<_> = (0..3)
            .map(|_| {
                let (house, hello) = (house.clone(), Hello { password: secret.clone(), ..Hello::of(&lamp, "same").kept() });
                tokio::spawn(async move { Wire::try_connect(&house, &hello).await })
            })
            .collect();
        // Asked only when all have had their answer: by then every take-over has begun.
        let (mut alive, mut open) = (0, Vec::new());
        for dial in dials {
            open.push(dial.await.unwrap());
        }
        for (wire, _, code) in &mut open {
            if *code == 0 {
                // One that was taken over may be closed already.
                let _ = wire.stream.write_all(&[0xC0, 0, 0xC0, 0]).await;
                let mut pongs = 0;
                while pongs < 2 {
                    match wire.next().await {
                        Some(p) if p.first == 0xD0 => pongs += 1,
                        Some(_) => {}
                        None => break,
                    }
                }
                alive += u8::from(pongs == 2);
            }
        }
        assert!(alive <= 1, "{alive} connections serve one session");
    }
}

#[tokio::test]
async fn a_kept_session_gets_what_was_queued_and_a_clean_one_nothing() {
    let house = House::new().await;
    let (lamp, _, mut writer) = lamp_twice(&house).await;
    let (mut sleeper, flags, _) = Wire::try_connect(&house, &Hello::of(&lamp, "sleeper").kept()).await;
    assert_eq!(flags, 0, "there was no session yet");
    sleeper.subscribe(&lamp.topic("x"), 1).await;
    sleeper.send(&[0xE0, 0]).await;
    sleeper.end().await;
    // The next connection waits for the end of the first; this one is a fence.
    let (mut again, flags, _) = Wire::try_connect(&house, &Hello::of(&lamp, "sleeper").kept()).await;
    assert_eq!(flags, 1);
    again.send(&[0xE0, 0]).await;
    again.end().await;
    for n in 0..5u8 {
        assert_eq!(writer.publish(&lamp.topic("x"), &[n], false, &[]).await, 0);
    }
    let (mut awake, flags, _) = Wire::try_connect(&house, &Hello::of(&lamp, "sleeper").kept()).await;
    assert_eq!(flags, 1);
    let queued = awake.messages().await;
    assert_eq!(payloads(&queued), [[0], [1], [2], [3], [4]]);
    // Not acknowledged: all come again, marked.
    drop(awake);
    let (mut back, flags, _) = Wire::try_connect(&house, &Hello::of(&lamp, "sleeper").kept()).await;
    assert_eq!(flags, 1);
    let repeated = back.messages().await;
    assert_eq!(payloads(&repeated), [[0], [1], [2], [3], [4]]);
    assert!(repeated.iter().all(|m| m.dup));
    for m in repeated {
        back.acknowledge(4, m.pid).await;
    }
    back.fence().await;
    drop(back);
    let (mut done, flags, _) = Wire::try_connect(&house, &Hello::of(&lamp, "sleeper").kept()).await;
    assert_eq!(flags, 1);
    assert!(done.messages().await.is_empty());
    drop(done);
    let (mut clean, flags, _) = Wire::try_connect(&house, &Hello::of(&lamp, "sleeper")).await;
    assert_eq!(flags, 0);
    assert_eq!(writer.publish(&lamp.topic("x"), b"m", false, &[]).await, 0);
    assert!(clean.messages().await.is_empty());
}

#[tokio::test]
async fn a_message_of_qos_2_is_passed_on_once_however_often_it_is_sent() {
    let house = House::new().await;
    let (lamp, mut reader, _) = lamp_twice(&house).await;
    reader.subscribe(&lamp.topic("x"), 0).await;
    let mut writer = Wire::connect(&house, &Hello::of(&lamp, "exact").kept()).await;
    let topic = lamp.topic("x");
    let (first, again) = (writer.publish_bytes(&topic, b"once", 4, 5, &[]), writer.publish_bytes(&topic, b"once", 12, 5, &[]));
    writer.send(&first).await;
    writer.send(&again).await;
    writer.expect(5).await;
    writer.expect(5).await;
    // Also over a break of the connection: the session remembers.
    drop(writer);
    let (mut writer, flags, _) = Wire::try_connect(&house, &Hello::of(&lamp, "exact").kept()).await;
    assert_eq!(flags, 1);
    writer.send(&again).await;
    writer.expect(5).await;
    writer.acknowledge(6, 5).await;
    assert_eq!(writer.expect(7).await.body[..2], [0, 5]);
    assert_eq!(payloads(&reader.messages().await), [b"once"]);
    // Released: the same id is a new message.
    writer.send(&first).await;
    writer.expect(5).await;
    assert_eq!(payloads(&reader.messages().await), [b"once"]);
}

#[tokio::test]
async fn a_shared_subscription_goes_to_one_member_in_turn_and_passes_over_who_has_no_right() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let (_, guest_token) = house.person("greta", Role::Guest).await;
    let filter = "$share/g/things/+/x";
    let mut a = Wire::connect(&house, &Hello::person("olivia", &house.owner_token, "a")).await;
    let mut b = Wire::connect(&house, &Hello::person("olivia", &house.owner_token, "b")).await;
    let mut guest = Wire::connect(&house, &Hello::person("greta", &guest_token, "c")).await;
    for wire in [&mut a, &mut b, &mut guest] {
        wire.subscribe(filter, 0).await;
    }
    let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
    for n in 0..12u8 {
        assert_eq!(writer.publish(&lamp.topic("x"), &[n], false, &[]).await, 0);
    }
    let (to_a, to_b, to_guest) = (a.messages().await, b.messages().await, guest.messages().await);
    assert!(to_guest.is_empty());
    assert!(!to_a.is_empty() && !to_b.is_empty(), "{} and {}", to_a.len(), to_b.len());
    let mut all: Vec<u8> = to_a.iter().chain(&to_b).map(|m| m.payload[0]).collect();
    all.sort_unstable();
    assert_eq!(all, (0..12).collect::<Vec<u8>>());
}

#[tokio::test]
async fn subscription_identifiers_come_back_and_no_local_keeps_ones_own_away() {
    let house = House::new().await;
    let (lamp, mut reader, mut writer) = lamp_twice(&house).await;
    let id = |n: u8| vec![property::SUBSCRIPTION_ID, n];
    reader.subscribe_with(&[(&lamp.topic("x/#"), 0)], &id(5)).await;
    reader.subscribe_with(&[(&lamp.topic("x"), 0)], &id(9)).await;
    // 4: no local.
    writer.subscribe_with(&[(&lamp.topic("x/#"), 4)], &[]).await;
    assert_eq!(writer.publish(&lamp.topic("x"), b"m", false, &[]).await, 0);
    let heard = reader.messages().await;
    let mut ids: Vec<u32> =
        heard.iter().flat_map(|m| &m.properties).filter(|(k, _)| *k == property::SUBSCRIPTION_ID).map(|p| p.1).collect();
    ids.sort_unstable();
    assert_eq!(ids, [5, 9]);
    assert!(writer.messages().await.is_empty());
    reader.publish(&lamp.topic("x"), b"n", false, &[]).await;
    assert_eq!(payloads(&writer.messages().await), [b"n"]);
    let mut wrong = Wire::connect(&house, &Hello::of(&lamp, "wrong")).await;
    let bytes = wrong.publish_bytes(&lamp.topic("x"), b"m", 2, 1, &id(5));
    wrong.send(&bytes).await;
    assert_eq!(wrong.end().await, Some(0x82), "only the hub sends subscription identifiers");
}

#[tokio::test]
async fn a_message_carries_what_is_left_of_its_life_and_is_not_delivered_after_it() {
    let house = House::new().await;
    let (lamp, mut reader, mut writer) = lamp_twice(&house).await;
    reader.subscribe(&lamp.topic("x"), 1).await;
    let life = |s: u32| u32_property(property::MESSAGE_EXPIRY, s);
    writer.publish(&lamp.topic("x"), b"lives", false, &life(1_000)).await;
    let message = reader.message().await;
    let (id, left) = message.properties[0];
    assert!(id == property::MESSAGE_EXPIRY && (990..=1_000).contains(&left), "{:?}", message.properties);
    let mut sleeper = Wire::connect(&house, &Hello::of(&lamp, "sleeper").kept()).await;
    sleeper.subscribe(&lamp.topic("x"), 1).await;
    drop(sleeper);
    // Let in again, it is known that the cut was noticed.
    let mut sleeper = Wire::connect(&house, &Hello::of(&lamp, "sleeper").kept()).await;
    sleeper.send(&[0xE0, 0]).await;
    sleeper.end().await;
    writer.publish(&lamp.topic("x"), b"dies", false, &life(1)).await;
    writer.publish(&lamp.topic("x"), b"stays", false, &[]).await;
    // A second passes: the keep-alive of another connection says when.
    let mut clock = Wire::connect(&house, &Hello { keep_alive: 1, ..Hello::of(&lamp, "sleeper 2") }).await;
    assert_eq!(clock.end().await, Some(0x8D));
    let mut awake = Wire::connect(&house, &Hello::of(&lamp, "sleeper").kept()).await;
    assert_eq!(payloads(&awake.messages().await), [&b"stays"[..]]);
}

#[tokio::test]
async fn a_retained_message_ends_with_its_life() {
    let house = House::new().await;
    let (lamp, mut reader, mut writer) = lamp_twice(&house).await;
    writer.publish(&lamp.topic("kept"), b"brief", true, &u32_property(property::MESSAGE_EXPIRY, 1)).await;
    let mut clock = Wire::connect(&house, &Hello { keep_alive: 1, ..Hello::of(&lamp, "clock") }).await;
    assert_eq!(clock.end().await, Some(0x8D));
    reader.subscribe(&lamp.topic("kept"), 0).await;
    assert!(reader.messages().await.is_empty(), "told of what has expired");
}

#[tokio::test]
async fn no_more_than_the_receive_maximum_is_in_flight_also_when_a_session_is_resumed() {
    let house = House::new().await;
    let (lamp, _, mut writer) = lamp_twice(&house).await;
    let window = |n: u16| u16_property(property::RECEIVE_MAXIMUM, n);
    let mut reader = Wire::connect(&house, &Hello::of(&lamp, "narrow").kept().with(window(3))).await;
    reader.subscribe(&lamp.topic("x"), 1).await;
    for n in 0..10u8 {
        writer.publish(&lamp.topic("x"), &[n], false, &[]).await;
    }
    let first = reader.messages().await;
    assert_eq!(first.len(), 3);
    reader.acknowledge(4, first[0].pid).await;
    assert_eq!(reader.message().await.payload, [3]);
    assert!(reader.messages().await.is_empty());
    drop(reader);
    let mut narrower = Wire::connect(&house, &Hello::of(&lamp, "narrow").kept().with(window(1))).await;
    let again = narrower.messages().await;
    assert_eq!(payloads(&again), [[1]], "the window of the new connection counts");
}

#[tokio::test]
async fn a_client_that_takes_small_packets_only_gets_no_larger_one() {
    let house = House::new().await;
    let (lamp, _, mut writer) = lamp_twice(&house).await;
    let hello = Hello::of(&lamp, "small").with(u32_property(property::MAXIMUM_PACKET, 200));
    let mut small = Wire::connect(&house, &hello).await;
    small.subscribe(&lamp.topic("x"), 1).await;
    writer.publish(&lamp.topic("x"), &[1; 1_000], false, &[]).await;
    writer.publish(&lamp.topic("x"), b"fits", false, &[]).await;
    let got: Vec<usize> = small.messages().await.iter().map(|m| m.payload.len()).collect();
    assert_eq!(got, [4]);
}

#[tokio::test]
async fn as_many_messages_of_qos_2_may_be_unreleased_as_connack_says() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let mut wire = Wire::silent(&house, None).await;
    wire.send(&Hello::of(&lamp, "x").bytes()).await;
    let connack = wire.expect(2).await;
    // Receive Maximum (0x21) with its two bytes, or the standard's 65,535.
    let at = connack.body.iter().skip(3).position(|b| *b == property::RECEIVE_MAXIMUM);
    let most = at.map_or(u16::MAX, |at| u16::from_be_bytes([connack.body[at + 4], connack.body[at + 5]]));
    for pid in 1..=most.min(300) {
        let bytes = wire.publish_bytes(&lamp.topic("x"), b"m", 4, pid, &[]);
        wire.send(&bytes).await;
        assert_eq!(wire.next().await.unwrap().first, 0x50, "message {pid} of {most}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_suspended_while_it_signs_in_does_not_stay() {
    let house = std::sync::Arc::new(House::new().await);
    let lamp = std::sync::Arc::new(house.device("lamp").await);
    for round in 0..100 {
        let (h, l) = (house.clone(), lamp.clone());
        let dial = tokio::spawn(async move { Wire::try_connect(&h, &Hello::of(&l, "race")).await });
        house.hub.service().suspend(&house.owner, &lamp.id, true).await.unwrap();
        let (mut wire, _, code) = dial.await.unwrap();
        if code == 0 {
            let _ = wire.stream.write_all(&[0xC0, 0, 0xC0, 0]).await;
            let mut pongs = 0;
            while let Some(p) = wire.next().await {
                pongs += u8::from(p.first == 0xD0);
                assert!(pongs < 2, "round {round}: it is suspended and served");
            }
        }
        house.hub.service().suspend(&house.owner, &lamp.id, false).await.unwrap();
    }
}

#[tokio::test]
async fn a_credential_reaches_its_device_and_no_person() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let mut owner = Wire::connect(&house, &Hello::person("olivia", &house.owner_token, "owner")).await;
    owner.subscribe("#", 0).await;
    owner.subscribe(&lamp.topic("claim/+"), 0).await;
    fetch_secret(&house, &lamp).await;
    let topics: Vec<String> = owner.messages().await.into_iter().map(|m| m.topic).collect();
    assert!(topics.iter().all(|t| t.ends_with("/presence")), "{topics:?}");
}

#[tokio::test]
async fn a_person_whose_right_ends_hears_nothing_more() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
    let mut owner = Wire::connect(&house, &Hello::person("olivia", &house.owner_token, "owner")).await;
    owner.subscribe("things/+/x", 0).await;
    writer.publish(&lamp.topic("x"), b"1", false, &[]).await;
    assert_eq!(payloads(&owner.messages().await), [b"1"]);
    house.hub.service().remove_device(&house.owner, &lamp.id).await.unwrap();
    let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
    assert_eq!(writer.publish(&lamp.topic("x"), b"2", false, &[]).await, 0);
    assert!(owner.messages().await.is_empty());
}

#[tokio::test]
async fn the_hub_says_that_it_goes_down() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let (stream, _) = house.dial(Trust::FirstUse).await;
    let password = lamp.keys.token(1, &[1; 16], &house.dial(Trust::FirstUse).await.1.unwrap());
    let options = ConnectOptions::new("x").credentials(lamp.id.as_str(), password);
    let mut client = hearthkey::sim::mqtt::Client::connect(stream, &options).await.unwrap();
    assert_eq!(client.publish(&Message::new(lamp.topic("x"), "m", Qos::AtLeastOnce)).await.unwrap(), 0);
    house.hub.shut_down().await;
    let Err(Error::Closed(closed)) = client.next().await else { panic!("it went on") };
    assert_eq!(closed.code, Some(0x8B));
}
