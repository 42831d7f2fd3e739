//! Sessions that outlive the hub: over a restart in order, and over a power cut, for which the hub's directory is copied while it runs.

use crate::durability::Process;
use crate::faults::rig::Mounted;
use crate::faults::{chance, rounds, tell};
use crate::house::{Device, House, config};
use crate::wire::{Hello, Published, Wire, packet, property, text, u32_property};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::hub::Hub;
use hearthkey::service::{Grant, Recipient};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Error, Message, Qos};
use hearthkey::sim::tls::Stream;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The house after a power cut: another hub, over what is on the disk now. The one before goes down.
async fn cut(house: House) -> House {
    let dir = tempfile::tempdir().unwrap();
    copy(&house.dir.path().join("hub"), &dir.path().join("hub"));
    let before = house.hub;
    before.shut_down().await;
    let hub = Hub::start(config(&dir)).await.unwrap();
    House { hub, dir, ..house }
}

/// The house after a restart in order.
async fn restarted(house: House) -> House {
    house.hub.shut_down().await;
    let hub = Hub::start(config(&house.dir)).await.unwrap();
    House { hub, ..house }
}

async fn after(house: House, in_order: bool) -> House {
    if in_order { restarted(house).await } else { cut(house).await }
}

/// Somebody's kept session, and whether it was there.
async fn kept(house: &House, hello: Hello) -> (Wire, bool) {
    let (wire, flags, code) = Wire::try_connect(house, &hello.kept()).await;
    assert_eq!(code, 0);
    (wire, flags == 1)
}

async fn leave(mut wire: Wire) {
    wire.send(&[0xE0, 0]).await;
    wire.end().await;
}

/// Leaves, and comes back once the hub knows that: what is published from now on waits.
async fn away(house: &House, hello: impl Fn() -> Hello, wire: Wire) {
    leave(wire).await;
    let (again, present) = kept(house, hello()).await;
    assert!(present);
    leave(again).await;
}

/// A house on a disk of its own, and a lamp with a session that is away: it subscribes to the lamp's `x`.
async fn sleeping_on(disk: &Mounted, qos: u8) -> (House, Device) {
    let data = disk.path().join("hub");
    let house = House::with(move |config| config.data_dir = data).await;
    let lamp = house.device("lamp").await;
    let sleeper = || Hello::of(&lamp, "sleeper");
    let (mut wire, _) = kept(&house, sleeper()).await;
    wire.subscribe(&lamp.topic("x"), qos).await;
    away(&house, sleeper, wire).await;
    (house, lamp)
}

fn bodies(messages: &[Published]) -> Vec<&str> {
    messages.iter().map(|m| std::str::from_utf8(&m.payload).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_who_is_away_is_there_after_a_restart_and_after_a_power_cut() {
    for in_order in [true, false] {
        let house = House::new().await;
        let lamp = house.device("lamp").await;
        let sleeper = || Hello::of(&lamp, "sleeper");
        let (mut wire, present) = kept(&house, sleeper()).await;
        assert!(!present);
        wire.subscribe_with(&[(&lamp.topic("x/#"), 1)], &[property::SUBSCRIPTION_ID, 5]).await;
        wire.subscribe(&lamp.topic("gone"), 1).await;
        let mut unsubscribe = vec![0, 8, 0];
        unsubscribe.extend(text(&lamp.topic("gone")));
        wire.send(&packet(0xA2, &unsubscribe)).await;
        wire.expect(11).await;
        away(&house, sleeper, wire).await;
        let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
        for (place, body) in [("x/1", "one"), ("gone", "not this"), ("x/2", "two"), ("y", "nor this")] {
            assert_eq!(writer.publish(&lamp.topic(place), body.as_bytes(), false, &[]).await, 0);
        }
        let brief = u32_property(property::MESSAGE_EXPIRY, 3_600);
        assert_eq!(writer.publish(&lamp.topic("x/3"), b"three", false, &brief).await, 0);
        let house = after(house, in_order).await;
        let (mut wire, present) = kept(&house, sleeper()).await;
        assert!(present, "in order: {in_order}");
        let heard = wire.messages().await;
        assert_eq!(bodies(&heard), ["one", "two", "three"]);
        assert!(heard.iter().all(|m| m.properties.contains(&(property::SUBSCRIPTION_ID, 5))), "{heard:?}");
        let left = heard[2].properties.iter().find(|(id, _)| *id == property::MESSAGE_EXPIRY).unwrap().1;
        assert!((3_000..=3_600).contains(&left), "{left}");
        // It subscribes as before, and what it has acknowledged comes no more.
        for m in &heard {
            wire.acknowledge(4, m.pid).await;
        }
        wire.fence().await;
        let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
        assert_eq!(writer.publish(&lamp.topic("x/4"), b"four", false, &[]).await, 0);
        let live = wire.message().await;
        assert_eq!(live.payload, b"four");
        wire.acknowledge(4, live.pid).await;
        wire.fence().await;
        let house = restarted(house).await;
        let (mut wire, present) = kept(&house, sleeper()).await;
        assert!(present);
        assert_eq!(bodies(&wire.messages().await), Vec::<&str>::new());
        house.hub.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_has_not_acknowledged_comes_again_after_a_restart_and_after_a_power_cut() {
    for in_order in [true, false] {
        let house = House::new().await;
        let lamp = house.device("lamp").await;
        let reader = || Hello::of(&lamp, "reader");
        let (mut wire, _) = kept(&house, reader()).await;
        wire.subscribe(&lamp.topic("x"), 1).await;
        let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
        for body in ["one", "two"] {
            assert_eq!(writer.publish(&lamp.topic("x"), body.as_bytes(), false, &[]).await, 0, "it is the hub's");
        }
        let heard = wire.messages().await;
        assert_eq!(bodies(&heard), ["one", "two"]);
        wire.acknowledge(4, heard[0].pid).await;
        wire.fence().await;
        let house = after(house, in_order).await;
        let (mut wire, present) = kept(&house, reader()).await;
        assert!(present);
        let again = wire.messages().await;
        assert!(bodies(&again).ends_with(&["two"]), "{again:?}");
        // In order all is known; after a cut, what was acknowledged in the last second may come once more.
        assert!(!in_order || (again.len() == 1 && again[0].dup && again[0].pid == heard[1].pid), "{again:?}");
        house.hub.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_qos_2_is_received_once_whatever_cuts_it_off() {
    for (in_order, received) in [(true, false), (true, true), (false, false), (false, true)] {
        let house = House::new().await;
        let lamp = house.device("lamp").await;
        let (reader, writer) = (|| Hello::of(&lamp, "reader"), || Hello::of(&lamp, "writer"));
        let (mut wire, _) = kept(&house, reader()).await;
        wire.subscribe(&lamp.topic("x"), 2).await;
        let (mut sender, _) = kept(&house, writer()).await;
        let first = sender.publish_bytes(&lamp.topic("x"), b"once", 4, 5, &[]);
        sender.send(&first).await;
        sender.expect(5).await;
        let heard = wire.message().await;
        assert_eq!((&heard.payload[..], heard.qos), (&b"once"[..], 2));
        if received {
            wire.acknowledge(5, heard.pid).await;
            wire.expect(6).await;
        }
        let house = after(house, in_order).await;
        // The sender does not know whether it was heard: it says it again, and it is not passed on again.
        let (mut sender, present) = kept(&house, writer()).await;
        assert!(present);
        let again = sender.publish_bytes(&lamp.topic("x"), b"once", 12, 5, &[]);
        sender.send(&again).await;
        sender.expect(5).await;
        sender.acknowledge(6, 5).await;
        assert_eq!(sender.expect(7).await.body[..2], [0, 5]);
        let (mut wire, present) = kept(&house, reader()).await;
        assert!(present);
        if received {
            let released = wire.expect(6).await;
            assert_eq!(released.body[..2], heard.pid.to_be_bytes(), "it is told that the hub knows");
            wire.acknowledge(7, heard.pid).await;
            assert_eq!(bodies(&wire.messages().await), Vec::<&str>::new());
        } else {
            let repeated = wire.messages().await;
            assert_eq!(bodies(&repeated), ["once"], "in order: {in_order}");
            assert!(repeated[0].dup && repeated[0].pid == heard.pid, "the client would take it for another: {repeated:?}");
        }
        // Released, its identifier is free: over another cut too.
        let house = after(house, in_order).await;
        let (mut sender, _) = kept(&house, writer()).await;
        sender.send(&first).await;
        sender.expect(5).await;
        let (mut wire, _) = kept(&house, reader()).await;
        assert!(bodies(&wire.messages().await).contains(&"once"), "a new message");
        house.hub.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_while_a_session_waits_does_not_come_back_with_the_right() {
    for lost in [None, Some(true), Some(false)] {
        let house = House::new().await;
        let lamp = house.device("lamp").await;
        house.claim(&lamp).await;
        let (mia, token) = house.person("mia", Role::Member).await;
        let share = || Grant { to: Recipient::Person("mia".into()), terms: Terms::of(Privilege::Operate) };
        house.hub.service().grant(&house.owner, &lamp.id, share()).await.unwrap();
        let phone = || Hello::person("mia", &token, "phone");
        let (mut wire, _) = kept(&house, phone()).await;
        wire.subscribe(&lamp.topic("x"), 1).await;
        away(&house, phone, wire).await;
        let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
        writer.publish(&lamp.topic("x"), b"before", false, &[]).await;
        house.hub.service().revoke(&house.owner, &lamp.id, &mia.subject, false).await.unwrap();
        writer.publish(&lamp.topic("x"), b"meanwhile", false, &[]).await;
        let house = match lost {
            None => house,
            Some(in_order) => after(house, in_order).await,
        };
        house.hub.service().grant(&house.owner, &lamp.id, share()).await.unwrap();
        let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
        writer.publish(&lamp.topic("x"), b"after", false, &[]).await;
        let (mut wire, present) = kept(&house, phone()).await;
        let heard = wire.messages().await;
        // Where the hub has started without her right, her session subscribes to nothing, and is none.
        let expected: &[&str] = if lost.is_none() { &["after"] } else { &[] };
        assert_eq!((bodies(&heard), present), (expected.to_vec(), lost.is_none()), "{lost:?}");
        house.hub.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_has_ended_has_ended_after_a_power_cut_too() {
    let house = House::new().await;
    let (lamp, other) = (house.device("lamp").await, house.device("lamp").await);
    house.claim(&other).await;
    let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
    for name in ["begun anew", "given up"] {
        let (mut wire, _) = kept(&house, Hello::of(&lamp, name)).await;
        wire.subscribe(&lamp.topic("x"), 1).await;
        away(&house, || Hello::of(&lamp, name), wire).await;
    }
    let (mut wire, _) = kept(&house, Hello::of(&other, "sold")).await;
    wire.subscribe(&other.topic("x"), 1).await;
    away(&house, || Hello::of(&other, "sold"), wire).await;
    writer.publish(&lamp.topic("x"), b"waits", false, &[]).await;
    Wire::connect(&house, &Hello::of(&other, "writer")).await.publish(&other.topic("x"), b"waits", false, &[]).await;

    // A clean start; a session that is to end with its connection; and a device that leaves the house.
    let clean = Wire::connect(&house, &Hello::of(&lamp, "begun anew")).await;
    let (wire, present) = kept(&house, Hello::of(&lamp, "given up")).await;
    assert!(present);
    let mut wire = wire;
    wire.messages().await;
    wire.send(&[0xE0, 7, 0, 5, property::SESSION_EXPIRY, 0, 0, 0, 0]).await;
    wire.end().await;
    // The hub lets go of it before it lets the next one in.
    let (fence, present) = kept(&house, Hello::of(&lamp, "given up")).await;
    assert!(!present);
    house.hub.service().remove_device(&house.owner, &other.id).await.unwrap();
    let _open = (clean, fence);

    let house = cut(house).await;
    for name in ["begun anew", "given up"] {
        let (mut wire, present) = kept(&house, Hello::of(&lamp, name)).await;
        assert_eq!((present, wire.messages().await.len()), (false, 0), "{name}");
    }
    let (mut wire, present) = kept(&house, Hello::of(&other, "sold")).await;
    assert_eq!((present, wire.messages().await.len()), (false, 0));
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_acknowledges_at_once_costs_no_write() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let (mut wire, _) = kept(&house, Hello::of(&lamp, "reader")).await;
    wire.subscribe(&lamp.topic("x"), 1).await;
    let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
    let waiting = || house.hub.service().kept_messages().unwrap();
    // On a busy machine one may be late, and is written: not each.
    for n in 0..20u16 {
        let bytes = writer.publish_bytes(&lamp.topic("x"), b"m", 2, n + 1, &[]);
        writer.send(&bytes).await;
        let heard = wire.message().await;
        wire.acknowledge(4, heard.pid).await;
        writer.expect(4).await;
    }
    assert!(waiting() < 20, "each was written");
    // One that is not acknowledged is.
    let bytes = writer.publish_bytes(&lamp.topic("x"), b"m", 2, 99, &[]);
    writer.send(&bytes).await;
    writer.expect(4).await;
    assert!(waiting() >= 1);
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_who_is_away_a_message_is_not_acknowledged() {
    let Some(disk) = Mounted::small(64) else { return };
    let (house, lamp) = sleeping_on(&disk, 2).await;
    let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
    let mut old = Wire::connect(&house, &Hello::of(&lamp, "old").v4()).await;
    disk.fill();
    assert_eq!(writer.publish(&lamp.topic("x"), b"m", false, &[]).await, 0x97);
    let exact = writer.publish_bytes(&lamp.topic("x"), b"m", 4, 7, &[]);
    writer.send(&exact).await;
    assert_eq!(writer.expect(5).await.body[..3], [0, 7, 0x97]);
    // Nobody waits: it goes on.
    assert_eq!(writer.publish(&lamp.topic("y"), b"m", false, &[]).await, 0);
    // MQTT 3.1.1 cannot say so.
    let bytes = old.publish_bytes(&lamp.topic("x"), b"m", 2, 1, &[]);
    old.send(&bytes).await;
    old.end().await;
    disk.clear();
    assert_eq!(writer.publish(&lamp.topic("x"), b"m", false, &[]).await, 0);
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_messages_of_qos_2_neither_comes_twice() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let reader = || Hello::of(&lamp, "reader");
    let (mut wire, _) = kept(&house, reader()).await;
    wire.subscribe(&lamp.topic("x"), 2).await;
    let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
    let mut ids = Vec::new();
    for (pid, body) in [(1, b"one"), (2, b"two")] {
        let bytes = writer.publish_bytes(&lamp.topic("x"), body, 4, pid, &[]);
        writer.send(&bytes).await;
        writer.expect(5).await;
        writer.acknowledge(6, pid).await;
        writer.expect(7).await;
        let heard = wire.message().await;
        ids.push(heard.pid);
        // The first is over; the second was only just sent.
        if pid == 1 {
            wire.acknowledge(5, heard.pid).await;
            wire.expect(6).await;
            wire.acknowledge(7, heard.pid).await;
            wire.fence().await;
        }
    }
    let house = cut(house).await;
    let (mut wire, present) = kept(&house, reader()).await;
    assert!(present);
    let heard = wire.messages().await;
    assert_eq!((bodies(&heard), heard[0].pid), (vec!["two"], ids[1]));
    wire.acknowledge(5, ids[1]).await;
    wire.expect(6).await;
    wire.acknowledge(7, ids[1]).await;
    // An identifier that a client may still hold is not the next one.
    let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
    assert_eq!(writer.publish(&lamp.topic("x"), b"three", false, &[]).await, 0);
    let next = wire.message().await;
    assert!(next.pid > ids[1], "{} after {ids:?}", next.pid);
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_qos_2_that_was_not_taken_is_a_new_one_when_it_is_said_again() {
    let Some(disk) = Mounted::small(64) else { return };
    let (house, lamp) = sleeping_on(&disk, 1).await;
    // MQTT 3.1.1, clean session 0.
    let old = || Hello { clean: false, ..Hello::of(&lamp, "old").v4() };
    let mut writer = Wire::connect(&house, &old()).await;
    disk.fill();
    let first = writer.publish_bytes(&lamp.topic("x"), b"said twice", 4, 5, &[]);
    writer.send(&first).await;
    writer.end().await;
    disk.clear();
    let (mut writer, _, _) = Wire::try_connect(&house, &old()).await;
    let again = writer.publish_bytes(&lamp.topic("x"), b"said twice", 12, 5, &[]);
    writer.send(&again).await;
    writer.expect(5).await;
    let (mut wire, _) = kept(&house, Hello::of(&lamp, "sleeper")).await;
    let heard = wire.messages().await;
    assert_eq!(bodies(&heard).last(), Some(&"said twice"), "it was acknowledged");
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_reader_may_not_have_at_the_time_it_never_has() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let (mia, token) = house.person("mia", Role::Member).await;
    let share = || Grant { to: Recipient::Person("mia".into()), terms: Terms::of(Privilege::Operate) };
    house.hub.service().grant(&house.owner, &lamp.id, share()).await.unwrap();
    let one_at_a_time = crate::wire::u16_property(property::RECEIVE_MAXIMUM, 1);
    let (mut wire, _) = kept(&house, Hello::person("mia", &token, "phone").with(one_at_a_time)).await;
    wire.subscribe(&lamp.topic("x"), 1).await;
    let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
    writer.publish(&lamp.topic("x"), b"before", false, &[]).await;
    let before = wire.message().await;
    house.hub.service().revoke(&house.owner, &lamp.id, &mia.subject, false).await.unwrap();
    writer.publish(&lamp.topic("x"), b"meanwhile", false, &[]).await;
    house.hub.service().grant(&house.owner, &lamp.id, share()).await.unwrap();
    writer.publish(&lamp.topic("x"), b"after", false, &[]).await;
    wire.acknowledge(4, before.pid).await;
    let heard = wire.messages().await;
    assert_eq!(bodies(&heard), ["after"]);
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_whose_right_was_gone_at_a_start_does_not_come_back_with_it() {
    let house = House::new().await;
    let (lamp, other) = (house.device("lamp").await, house.device("lamp").await);
    let (mia, token) = house.person("mia", Role::Member).await;
    let share = || Grant { to: Recipient::Person("mia".into()), terms: Terms::of(Privilege::Operate) };
    let phone = || Hello::person("mia", &token, "phone");
    for device in [&lamp, &other] {
        house.claim(device).await;
        house.hub.service().grant(&house.owner, &device.id, share()).await.unwrap();
    }
    let (mut wire, _) = kept(&house, phone()).await;
    for device in [&lamp, &other] {
        wire.subscribe(&device.topic("x"), 1).await;
    }
    away(&house, phone, wire).await;
    house.hub.service().revoke(&house.owner, &lamp.id, &mia.subject, false).await.unwrap();
    let house = cut(house).await;
    house.hub.service().grant(&house.owner, &lamp.id, share()).await.unwrap();
    let house = cut(house).await;
    for (device, body) in [(&lamp, b"of the one"), (&other, b"of another")] {
        let mut writer = Wire::connect(&house, &Hello::of(device, "writer")).await;
        writer.publish(&device.topic("x"), body, false, &[]).await;
    }
    let (mut wire, present) = kept(&house, phone()).await;
    assert!(present);
    assert_eq!(bodies(&wire.messages().await), ["of another"]);
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_after_a_restart_leaves_no_session() {
    for in_order in [true, false] {
        let house = House::new().await;
        let lamp = house.device("lamp").await;
        house.claim(&lamp).await;
        let token = house.owner_token.clone();
        let phone = || Hello::person("olivia", &token, "phone");
        let (mut wire, _) = kept(&house, phone()).await;
        wire.subscribe(&lamp.topic("x"), 1).await;
        away(&house, phone, wire).await;
        let house = after(house, in_order).await;
        let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
        writer.publish(&lamp.topic("x"), b"for who was signed in", false, &[]).await;
        assert_eq!(house.hub.broker().session_counts().0, 2);
        assert_eq!(house.http("DELETE", "/sessions/current", &token, None).await.0, 204);
        assert_eq!(house.hub.broker().session_counts().0, 1);
        let house = cut(house).await;
        assert_eq!((house.hub.broker().session_counts().0, house.hub.service().kept_messages().unwrap()), (0, 0));
        house.hub.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_to_end_with_its_connection_ends_with_the_power_too() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let phone = || Hello::of(&lamp, "phone");
    let (mut wire, _) = kept(&house, phone()).await;
    wire.subscribe(&lamp.topic("x"), 1).await;
    away(&house, phone, wire).await;
    let (_wire, flags, _) = Wire::try_connect(&house, &Hello { clean: false, ..phone() }).await;
    assert_eq!(flags, 1);
    let house = cut(house).await;
    let (_, present) = kept(&house, phone()).await;
    assert!(!present);
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_keep_their_order_whoever_the_messages_are_kept_for() {
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    let (sleeper, reader) = (|| Hello::of(&lamp, "sleeper"), || Hello::of(&lamp, "reader"));
    let (mut wire, _) = kept(&house, sleeper()).await;
    wire.subscribe(&lamp.topic("away"), 1).await;
    away(&house, sleeper, wire).await;
    // It hears, and acknowledges nothing.
    let (mut silent, _) = kept(&house, reader()).await;
    silent.subscribe(&lamp.topic("late"), 2).await;
    let mut writer = Wire::connect(&house, &Hello::of(&lamp, "writer")).await;
    let mut all = Vec::new();
    let places = ["away", "nobody", "late", "nobody", "away", "late", "nobody"];
    for n in 0..400u16 {
        let topic = lamp.topic(places[usize::from(n) % places.len()]);
        all.extend(writer.publish_bytes(&topic, &n.to_be_bytes(), 2, n + 1, &[]));
    }
    // And one that is refused, in the midst.
    all.extend(writer.publish_bytes("things/another/x", b"m", 2, 401, &[]));
    all.extend(writer.publish_bytes(&lamp.topic("away"), b"m", 2, 402, &[]));
    all.extend(packet(0xC0, &[]));
    writer.send(&all).await;
    for n in 1..=402u16 {
        let ack = writer.expect(4).await;
        assert_eq!(ack.body[..2], n.to_be_bytes());
        assert_eq!(ack.body.get(2).copied().unwrap_or(0), if n == 401 { 0x87 } else { 0 });
    }
    let house = cut(house).await;
    let numbers = |messages: Vec<Published>| messages.iter().filter(|m| m.payload.len() == 2).map(|m| m.payload[1]).collect::<Vec<_>>();
    let all_at = |place: &str| (0..400u16).filter(|n| places[usize::from(*n) % places.len()] == place).map(|n| n as u8).collect::<Vec<_>>();
    for (hello, place) in [(sleeper(), "away"), (reader(), "late")] {
        let (mut wire, present) = kept(&house, hello).await;
        assert!(present);
        let heard = numbers(wire.messages().await);
        assert_eq!(heard, all_at(place)[..heard.len()], "in their order");
        assert!(heard.len() >= 100, "all of them, or as many as are sent at once: {}", heard.len());
    }
    house.hub.shut_down().await;
}

/// Publishes numbers until the hub dies: the last one that was acknowledged.
async fn numbers(mut client: Client<Stream>, device: &Device, from: u64) -> u64 {
    let mut n = from;
    loop {
        let message = Message::new(device.topic("n"), n.to_string(), Qos::AtLeastOnce);
        match client.publish(&message).await {
            Ok(code) if code < 0x80 => n += 1,
            _ => return n,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sudden_deaths_no_acknowledged_message_is_lost_to_who_comes_and_goes() {
    let (mut chance, rounds) = (chance(), rounds(6));
    let house = House::new().await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let House { hub, dir, owner_token, .. } = house;
    hub.shut_down().await;
    let data = dir.path().join("hub");
    let reader = ConnectOptions { clean: false, session_expiry_s: Some(3_600), ..ConnectOptions::new("reader") };
    let reader = reader.credentials("user:olivia", owner_token.as_str());
    let (mut acknowledged, mut heard, mut begun) = (0, BTreeSet::new(), false);
    for round in 0..=rounds {
        let process = Process::start(&data).await;
        let mut client = process.connect(&reader).await.unwrap();
        assert_eq!(client.connack().session_present, begun, "round {round}");
        if !begun {
            client.subscribe(&[(&lamp.topic("n"), Qos::AtLeastOnce)]).await.unwrap();
            begun = true;
        }
        let publisher = process.tls(&lamp, hearthkey::sim::tls::Trust::FirstUse).await.0.unwrap();
        let writing = async { if round < rounds { numbers(publisher, &lamp, acknowledged).await } else { acknowledged } };
        let dying = async {
            // It comes and goes, and hears some of it.
            for _ in 0..1 + chance.below(3) {
                take(&mut client, &mut heard, 20 + chance.below(60)).await;
                client.disconnect(0).await.unwrap();
                client = process.connect(&reader).await.unwrap();
                assert!(client.connack().session_present);
            }
            if round == rounds {
                take(&mut client, &mut heard, usize::MAX).await;
            }
            process.die().await;
        };
        (acknowledged, ()) = tokio::join!(writing, dying);
    }
    let missing: Vec<u64> = (0..acknowledged).filter(|n| !heard.contains(n)).collect();
    tell(&format!("deaths {rounds}, acknowledged {acknowledged}, heard {} of them", heard.len()));
    assert!(acknowledged > rounds * 10, "{acknowledged}");
    assert_eq!(missing, Vec::<u64>::new(), "of {acknowledged}");
}

async fn take(client: &mut Client<Stream>, heard: &mut BTreeSet<u64>, most: usize) {
    for _ in 0..most {
        match client.receive(Duration::from_secs(2)).await {
            Ok(Some(m)) => heard.insert(std::str::from_utf8(&m.payload).unwrap().parse().unwrap()),
            Ok(None) => return,
            Err(Error::Closed(_)) => return,
            Err(error) => panic!("{error}"),
        };
    }
}
