//! A device and what goes wrong, step by step, without a clock, a radio or a network.

use proptest::prelude::*;

use super::super::frame::{Assembler, cut};
use super::hub::{Hub, credential, encode, numbers};
use super::*;

/// A device that has said hello, and its hub.
fn greeted(fault: Option<Fault>, mtu: u16) -> (Machine, Hub, Vec<Output>) {
    let mut machine = machine(fault);
    all(&mut machine);
    let (mut hub, values) = Hub::begin(&setup(None).secret, mtu);
    assert!(machine.connected(mtu, &[0x70; 32], 0));
    values.iter().for_each(|value| machine.written(value, 0));
    let outputs = all(&mut machine);
    let first = outputs.iter().find_map(|output| if let Output::Notify(value) = output { Some(value.clone()) } else { None });
    // Message 2 alone is read here; what follows is the test's.
    let mut rest = Vec::new();
    let mut answered = first.is_none();
    for output in outputs {
        match output {
            Output::Notify(value) if !answered => {
                answered = value[0] & 0x40 != 0;
                assert_eq!(hub.hear(&value), None);
            }
            other => rest.push(other),
        }
    }
    (machine, hub, rest)
}

fn deliver(machine: &mut Machine, hub: &mut Hub, wifi: Option<(&str, &str)>) -> Vec<Output> {
    for value in hub.say(&credential(b"ca", &["192.0.2.7:8883"], [9; 32], wifi)) {
        machine.written(&value, 1);
    }
    all(machine)
}

/// A device that has stored what it was given, and is about to sign in.
fn stored(fault: Option<Fault>) -> (Machine, Hub) {
    let (mut machine, mut hub, hello) = greeted(fault, 247);
    hub.hear_all(notified(hello));
    let outputs = deliver(&mut machine, &mut hub, None);
    assert!(outputs.iter().any(|output| matches!(output, Output::Store(_))));
    machine.stored(true, 1000);
    (machine, hub)
}

#[test]
fn a_hello_shows_the_device_key_and_how_often_it_was_reset() {
    let (_, mut hub, hello) = greeted(None, 23);
    let hello = hub.hear_all(notified(hello)).remove(0);
    let members = hello[1].as_map().unwrap();
    let keys = setup(None).secret.for_hub(HubId::from_bytes(hub::HUB));
    assert_eq!(members[8].1.as_bytes().unwrap().as_slice(), keys.pair_tag(&hub.h(), 3, "1.4.2"));
    assert_eq!(members[5].1, 3.into());
    assert_eq!(members[7].1, 5000.into());
}

#[test]
fn a_clone_of_the_label_says_hello_with_a_tag_that_is_none() {
    let (_, mut hub, hello) = greeted(Some(Fault::Clone), 247);
    let hello = hub.hear_all(notified(hello)).remove(0);
    let keys = setup(None).secret.for_hub(HubId::from_bytes(hub::HUB));
    assert_ne!(hello[1].as_map().unwrap()[8].1.as_bytes().unwrap().as_slice(), keys.pair_tag(&hub.h(), 3, "1.4.2"));
}

#[test]
fn old_firmware_says_nothing_of_resets_and_another_version_says_so_before_anything() {
    let (_, mut hub, hello) = greeted(Some(Fault::OldFirmware), 247);
    let hello = hub.hear_all(notified(hello)).remove(0);
    assert!(hello[1].as_map().unwrap().iter().all(|(name, _)| *name != 6.into()));
    assert_eq!(machine(Some(Fault::UnknownVersion)).info()[0], 2);
}

#[test]
fn a_gap_in_the_fragments_of_a_hello_is_one() {
    let (_, _, hello) = greeted(Some(Fault::FragmentGap), 23);
    let mut assembler = Assembler::default();
    let read: Result<Vec<_>, _> = notified(hello).iter().map(|value| assembler.push(value, 20)).collect();
    assert!(read.is_err());
}

#[test]
fn the_link_breaks_where_it_is_to_break() {
    for at in [At::Connect, At::Handshake, At::Hello] {
        let (_, _, outputs) = greeted(Some(Fault::Drop(at)), 247);
        assert!(outputs.contains(&Output::Disconnect), "{at:?}");
        assert_eq!(notified(outputs).len(), 0, "{at:?}");
    }
    let (mut machine, mut hub, hello) = greeted(Some(Fault::Drop(At::Model)), 247);
    hub.hear_all(notified(hello));
    hub.say(&[0x82, 2, 0]).iter().for_each(|value| machine.written(value, 1));
    assert_eq!(all(&mut machine), [Output::Disconnect]);
    let (mut machine, mut hub, hello) = greeted(Some(Fault::Drop(At::Credential)), 247);
    hub.hear_all(notified(hello));
    assert_eq!(deliver(&mut machine, &mut hub, None), [Output::Disconnect]);
}

#[test]
fn a_link_that_breaks_after_stored_keeps_nobody_from_signing_in_but_a_device_without_power() {
    let (mut machine, _) = stored(Some(Fault::Drop(At::Stored)));
    let outputs = all(&mut machine);
    assert!(outputs.contains(&Output::Join(None)) && outputs.contains(&Output::Disconnect));
    assert!(notified(outputs).is_empty());
    machine.disconnected([5; 4]);
    assert!(!machine.connectable(2000), "it is busy");
    machine.joined(Joined::Well);
    machine.signing_in(SigningIn::Accepted, 3000);
    assert!(all(&mut machine).iter().any(|output| matches!(output, Output::Tell(Told::Paired { .. }))));

    let (mut machine, _) = stored(Some(Fault::Drop(At::SignIn)));
    assert!(!all(&mut machine).contains(&Output::Join(None)));
    machine.tick(151_000);
    assert!(all(&mut machine).contains(&Output::RollBack(HubId::from_bytes(hub::HUB))));
}

#[test]
fn a_silent_device_takes_everything_and_says_nothing() {
    let (mut machine, _, outputs) = greeted(Some(Fault::Silent), 247);
    assert!(notified(outputs).is_empty());
    assert!(machine.deadline().is_some());
    machine.tick(60_000);
    assert_eq!(all(&mut machine), [Output::Disconnect]);
}

#[test]
fn who_does_not_know_the_code_is_cut_off_and_waits_longer_each_time_until_the_window_closes() {
    let mut machine = machine(Some(Fault::WrongCode));
    let mut now = 0;
    let mut pauses = Vec::new();
    while machine.connectable(now) {
        let (_, values) = Hub::begin(&setup(None).secret, 247);
        assert!(machine.connected(247, &[0x70; 32], now));
        all(&mut machine);
        values.iter().for_each(|value| machine.written(value, now));
        let outputs = all(&mut machine);
        assert!(outputs.contains(&Output::Disconnect));
        machine.disconnected([0; 4]);
        let pause = outputs.iter().find_map(|output| match output {
            Output::Tell(Told::HandshakeFailed { pause }) => Some(pause.as_secs()),
            _ => None,
        });
        assert!(notified(outputs).is_empty());
        assert!(!machine.connected(247, &[0x70; 32], now));
        pauses.push(pause.unwrap());
        now += pauses.last().unwrap() * 1000;
        machine.tick(now);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    assert_eq!(machine.info()[1], 0);
}

#[test]
fn a_replay_of_the_first_message_moves_nothing() {
    let (_, values) = Hub::begin(&setup(None).secret, 247);
    let mut machine = machine(None);
    machine.connected(247, &[0x71; 32], 0);
    values.iter().for_each(|value| machine.written(value, 0));
    machine.written(&cut(&[7; 60], 244)[0], 1);
    let outputs = all(&mut machine);
    assert!(ends(&outputs, EndCode::Malformed));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Store(_) | Output::SignIn(..))));
}

#[test]
fn a_window_that_is_closed_says_so_to_who_knows_the_code() {
    let mut machine = machine(None);
    machine.connected(247, &[0x70; 32], 0);
    machine.tick(15 * 60_000);
    machine.disconnected([0; 4]);
    assert!(!machine.connectable(16 * 60_000));
    all(&mut machine);
    let (mut hub, values) = Hub::begin(&setup(None).secret, 247);
    assert!(machine.connected(247, &[0x70; 32], 16 * 60_000));
    values.iter().for_each(|value| machine.written(value, 16 * 60_000));
    let outputs = all(&mut machine);
    assert!(ends(&outputs, EndCode::WindowClosed));
    assert_eq!(numbers(&hub.hear_all(notified(outputs))[0]), [7, 1]);
}

#[test]
fn the_model_is_given_piece_by_piece_and_no_further() {
    let (mut machine, mut hub, hello) = greeted(None, 517);
    hub.hear_all(notified(hello));
    let mut ask = |offset: u64| {
        hub.say(&encode(&ciborium::Value::Array(vec![2.into(), offset.into()]))).iter().for_each(|value| machine.written(value, 1));
        let outputs = all(&mut machine);
        (hub.hear_all(notified(outputs.clone_notifies())), outputs)
    };
    let (first, _) = ask(0);
    assert_eq!(first[0][2].as_bytes().unwrap().len(), 3500);
    let (second, _) = ask(3500);
    assert_eq!(second[0][2].as_bytes().unwrap().len(), 1500);
    let (_, outputs) = ask(5000);
    assert!(ends(&outputs, EndCode::Malformed));
}

#[test]
fn a_network_that_does_not_work_undoes_everything_and_says_why() {
    for (fault, code) in [(Fault::WifiRefused, 3), (Fault::WifiNotFound, 2)] {
        let (mut machine, mut hub, hello) = greeted(Some(fault), 247);
        hub.hear_all(notified(hello));
        deliver(&mut machine, &mut hub, Some(("Hearth", "correct horse")));
        machine.stored(true, 1000);
        let outputs = all(&mut machine);
        assert!(outputs.contains(&Output::RollBack(HubId::from_bytes(hub::HUB))));
        let said: Vec<Vec<u64>> = hub.hear_all(notified(outputs)).iter().map(|message| numbers(message)).collect();
        assert_eq!(said, [vec![5], vec![6, 1, 0], vec![6, 1, code], vec![7, 9]]);
        machine.disconnected([6; 4]);
        assert!(machine.connectable(2000));
    }
}

#[test]
fn a_flash_that_does_not_take_it_ends_the_pairing() {
    let (mut machine, mut hub, hello) = greeted(None, 247);
    hub.hear_all(notified(hello));
    deliver(&mut machine, &mut hub, None);
    machine.stored(false, 1000);
    let outputs = all(&mut machine);
    assert!(ends(&outputs, EndCode::NotStored));
    assert_eq!(numbers(&hub.hear_all(notified(outputs))[0]), [7, 6]);
}

#[test]
fn a_refused_password_undoes_it_at_once_and_a_refused_certificate_does_not() {
    let (mut machine, mut hub) = stored(None);
    hub.hear_all(notified(all(&mut machine)));
    machine.joined(Joined::Well);
    machine.signing_in(SigningIn::CertificateRefused, 2000);
    machine.signing_in(SigningIn::CertificateRefused, 3000);
    machine.signing_in(SigningIn::Unreachable, 4000);
    machine.signing_in(SigningIn::Asking, 5000);
    let outputs = all(&mut machine);
    assert!(!outputs.iter().any(|output| matches!(output, Output::RollBack(_))));
    let said: Vec<Vec<u64>> = hub.hear_all(notified(outputs)).iter().map(|message| numbers(message)).collect();
    assert_eq!(said, [[6, 2, 0], [6, 3, 2], [6, 2, 1], [6, 3, 0]]);
    machine.signing_in(SigningIn::PasswordRefused, 6000);
    let outputs = all(&mut machine);
    assert!(outputs.contains(&Output::RollBack(HubId::from_bytes(hub::HUB))));
    assert_eq!(numbers(&hub.hear_all(notified(outputs))[1]), [7, 8]);
}

#[test]
fn a_hub_that_ends_it_after_stored_is_heard_and_the_password_decides() {
    let (mut machine, mut hub) = stored(None);
    hub.hear_all(notified(all(&mut machine)));
    hub.say(&[0x83, 7, 0, 0x60]).iter().for_each(|value| machine.written(value, 2000));
    let outputs = all(&mut machine);
    assert!(outputs.contains(&Output::Disconnect));
    assert!(!outputs.iter().any(|output| matches!(output, Output::RollBack(_))));
}

#[test]
fn what_is_being_stored_when_the_pairing_ends_is_dropped_again() {
    for ended_by_the_hub in [true, false] {
        let (mut machine, mut hub, hello) = greeted(None, 247);
        hub.hear_all(notified(hello));
        assert!(deliver(&mut machine, &mut hub, None).iter().any(|output| matches!(output, Output::Store(_))));
        if ended_by_the_hub {
            hub.say(&[0x83, 7, 0, 0x60]).iter().for_each(|value| machine.written(value, 2));
        } else {
            machine.disconnected([0; 4]);
        }
        all(&mut machine);
        machine.stored(true, 3);
        assert!(all(&mut machine).contains(&Output::RollBack(HubId::from_bytes(hub::HUB))), "{ended_by_the_hub}");
    }
}

#[test]
fn without_a_sign_in_everything_is_undone_after_150_seconds() {
    let (mut machine, _) = stored(None);
    machine.joined(Joined::Well);
    machine.disconnected([0; 4]);
    all(&mut machine);
    assert_eq!(machine.deadline(), Some(151_000));
    machine.tick(150_999);
    assert_eq!(all(&mut machine), []);
    machine.tick(151_000);
    assert!(all(&mut machine).contains(&Output::RollBack(HubId::from_bytes(hub::HUB))));
    assert!(machine.connectable(151_000), "it can be paired again");
}

#[test]
fn a_new_salt_hides_the_device_after_every_connection() {
    let mut machine = machine(None);
    let before = machine.info();
    machine.connected(247, &[0; 32], 0);
    assert_eq!(machine.info(), before);
    machine.disconnected([9; 4]);
    assert_ne!(machine.info()[6..], before[6..]);
}

#[test]
fn a_slow_device_waits_before_each_fragment() {
    let (mut hub, values) = Hub::begin(&setup(None).secret, 247);
    let mut machine = machine(Some(Fault::Slow));
    machine.connected(247, &[0x70; 32], 0);
    values.iter().for_each(|value| machine.written(value, 0));
    let outputs = all(&mut machine);
    let pauses = outputs.iter().filter(|output| matches!(output, Output::Pause(_))).count();
    let values = notified(outputs);
    assert_eq!(pauses, values.len());
    assert_eq!(hub.hear_all(values).len(), 1);
}

trait CloneNotifies {
    fn clone_notifies(&self) -> Vec<Output>;
}

impl CloneNotifies for Vec<Output> {
    fn clone_notifies(&self) -> Vec<Output> {
        let notifies = self.iter().filter_map(|output| if let Output::Notify(value) = output { Some(value.clone()) } else { None });
        notifies.map(Output::Notify).collect()
    }
}

proptest! {
    /// Whatever a stranger writes, the device neither stores nor signs in nor stays connected for ever.
    #[test]
    fn noise_from_a_stranger_moves_nothing(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..40)) {
        let mut machine = machine(None);
        machine.connected(65, &[0x70; 32], 0);
        values.iter().for_each(|value| machine.written(value, 0));
        machine.tick(400_000);
        let outputs = all(&mut machine);
        prop_assert!(outputs.contains(&Output::Disconnect));
        let touched = outputs.iter().any(|output| matches!(output, Output::Store(_) | Output::SignIn(..) | Output::Join(_)));
        prop_assert!(!touched);
    }

    /// What is cut comes together again, at every length.
    #[test]
    fn a_message_survives_its_fragments(message in proptest::collection::vec(any::<u8>(), 1..4097), most in 20usize..510) {
        let mut assembler = Assembler::default();
        let values = cut(&message, most);
        let mut whole = None;
        for (value, left) in values.iter().zip((0..values.len()).rev()) {
            prop_assert!(value.len() <= most);
            whole = assembler.push(value, most).unwrap();
            prop_assert_eq!(whole.is_some(), left == 0);
        }
        prop_assert_eq!(whole.map(|whole| whole.to_vec()), Some(message));
    }
}
