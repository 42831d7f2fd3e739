//! The conversation from beginning to end, and what becomes of it when something is amiss.

mod messages;
mod properties;
mod table;

use super::*;
use crate::domain::ids::{DeviceId, HubId};
use table::*;

#[test]
fn a_device_with_the_code_gets_its_credential() {
    let mut table = Table::new(185);
    let events = table.run();
    let h = table.device.channel.as_ref().unwrap().h();
    assert_eq!(events, [Event::Proven, Event::Hello { hello: table.device.hello(&h), h }]);
    let Event::Hello { hello, h } = &events[1] else { unreachable!() };
    assert!(verify_pair_tag(&device_key(), &hub(), &id(), h, hello.resets, &hello.firmware, &hello.tag));

    table.hub.deliver(delivery(), 2_000);
    let events = table.run();
    let [Event::Sending { sent: 0, total }, .., Event::Stored, Event::Progress { step: DeviceStep::SigningIn, code: 0 }] = events[..]
    else {
        panic!("{events:?}")
    };
    assert!(events.contains(&Event::Sending { sent: total, total }));
    assert_eq!(table.device.heard, [Message::Credential(delivery())]);

    table.hub.signed_in(9_000);
    assert_eq!(table.run(), [Event::Ended(Ending::Complete)]);
    assert_eq!(table.device.heard.last(), Some(&Message::Complete));
    assert!(table.hub.holds_nothing());
    assert_eq!(table.hub.deadline(), None);
    assert!(table.hub.bytes_sent() > 1_000 && table.hub.bytes_received() > 700);
}

#[test]
fn every_mtu_carries_a_whole_pairing() {
    for mtu in 23..=517 {
        let mut table = Table::new(mtu);
        table.device.part.truncate(800);
        table.run();
        table.hub.want_model(0);
        assert_eq!(table.run(), [Event::Model(table.device.part.clone())], "MTU {mtu}");
        table.hub.deliver(delivery(), 0);
        table.run();
        table.hub.signed_in(0);
        assert_eq!(table.run().last(), Some(&Event::Ended(Ending::Complete)), "MTU {mtu}");
    }
}

#[test]
fn a_device_with_another_code_hangs_up() {
    let mut table = Table::with(PairingKey::from_bytes([9; 32]), 185);
    assert_eq!(table.run(), [failed(PairingFault::WrongCode)]);
    assert!(table.hub.holds_nothing());
}

#[test]
fn an_answer_without_the_code_is_a_wrong_code() {
    // The second has a public key of small order.
    for answer in [[0x11; 48], [0; 48]] {
        let mut table = Table::with(PairingKey::from_bytes([9; 32]), 185);
        let Some(Event::Write(_)) = table.hub.poll() else { panic!("no greeting") };
        table.hub.written(1_000);
        fragments(&answer, 182).unwrap().iter().for_each(|value| table.hub.received(value, 1_000));
        assert_eq!(table.run(), [failed(PairingFault::WrongCode)]);
    }
}

#[test]
fn a_link_that_breaks_before_the_greeting_is_out_says_nothing_about_the_code() {
    let mut table = Table::new(23);
    assert!(matches!(table.hub.poll(), Some(Event::Write(_))));
    table.hub.lost(1_000);
    assert_eq!(table.run(), [failed(PairingFault::Lost)]);
}

#[test]
fn a_model_is_fetched_piece_by_piece_and_no_other() {
    let mut table = Table::greeted(247);
    table.device.piece = 900;
    table.hub.want_model(1_000);
    assert_eq!(table.run(), [Event::Model(table.device.part.clone())]);
    assert_eq!(table.device.heard, (0..10).map(|n| Message::WantModel(n * 900)).collect::<Vec<_>>());

    for (offset, length) in [(1, 10), (0, 2_000)] {
        let mut table = Table::new(247);
        table.device.part.truncate(1_500);
        table.run();
        table.device.mute = true;
        table.hub.want_model(1_000);
        table.run();
        let events = table.device_says(&Message::ModelPart(offset, vec![0; length]));
        assert!(matches!(events[..], [Event::Ended(Ending::Failed(PairingFault::Malformed(_)))]), "{events:?}");
        assert!(matches!(table.device.heard.last(), Some(Message::End(EndCode::Malformed, _))));
    }
}

#[test]
fn a_device_without_a_model_part_is_asked_for_none() {
    let mut table = Table::new(247);
    table.device.part.clear();
    table.run();
    table.hub.want_model(1_000);
    assert_eq!(table.run(), [Event::Model(Vec::new())]);
    assert!(table.device.heard.is_empty());
}

#[test]
fn no_more_than_64_messages_are_exchanged() {
    let mut table = Table::greeted(247);
    table.device.piece = 1;
    table.hub.want_model(1_000);
    let events = table.run();
    assert_eq!(events, [failed(PairingFault::Malformed("more than 64 messages".into()))]);
    assert_eq!(table.device.channel.as_ref().unwrap().counts().0, MESSAGES_MAX + 1);

    let mut table = Table::stored(247);
    let progress = Message::Progress(DeviceStep::Looking, 0);
    let events: Vec<_> = (0..70).flat_map(|_| table.device_says(&progress)).collect();
    assert_eq!(events.len(), 62);
    assert!(matches!(events.last(), Some(Event::Ended(Ending::Failed(PairingFault::Malformed(_))))));
}

#[test]
fn every_wait_comes_to_its_end() {
    let timed_out = |phase| failed(PairingFault::TimedOut(phase));
    let mut table = Table::new(23);
    table.device = Device::new(label(), 23);
    table.device.mute = true;
    assert_eq!(table.hub.deadline(), Some(1_000 + HELLO_MS + 4 * FRAGMENT_MS));
    table.run();
    // Message 2 has come, in three fragments.
    assert_eq!(table.hub.deadline(), Some(1_000 + HELLO_MS + 7 * FRAGMENT_MS));
    assert_eq!(table.wait_it_out(), [timed_out(Phase::Hello)]);
    assert_eq!(table.device.heard, [Message::end(EndCode::TimedOut, "")]);

    let mut table = Table::new(517);
    let Some(Event::Write(_)) = table.hub.poll() else { panic!("no greeting") };
    table.hub.written(1_000);
    assert_eq!(table.wait_it_out(), [timed_out(Phase::Proof)]);

    let mut table = Table::greeted(517);
    assert_eq!(table.hub.deadline(), Some(1_000 + WHOLE_MS));
    assert_eq!(table.wait_it_out(), [timed_out(Phase::Decision)]);

    let mut table = Table::greeted(517);
    table.device.mute = true;
    table.hub.want_model(5_000);
    table.run();
    assert_eq!(table.hub.deadline(), Some(5_000 + ANSWER_MS + FRAGMENT_MS));
    assert_eq!(table.wait_it_out(), [timed_out(Phase::Model)]);

    let mut table = Table::greeted(517);
    table.device.mute = true;
    table.hub.deliver(delivery(), 5_000);
    table.run();
    assert_eq!(table.hub.deadline(), Some(5_000 + ANSWER_MS + 3 * FRAGMENT_MS));
    assert_eq!(table.wait_it_out(), [timed_out(Phase::Stored)]);
    assert_eq!(table.device.heard.last(), Some(&Message::end(EndCode::TimedOut, "")));

    let mut table = Table::stored(517);
    assert_eq!(table.hub.deadline(), Some(1_000 + SIGN_IN_MS));
    assert_eq!(table.wait_it_out(), [timed_out(Phase::SignIn)]);
    assert!(table.hub.holds_nothing());
}

#[test]
fn nothing_takes_longer_than_the_whole_may() {
    let mut table = Table::greeted(517);
    table.device.mute = true;
    table.hub.want_model(1_000 + WHOLE_MS - 10);
    table.run();
    assert_eq!(table.hub.deadline(), Some(1_000 + WHOLE_MS));
}

#[test]
fn a_persons_time_does_not_count_up_to_its_limit() {
    let mut table = Table::greeted(517);
    table.hub.person_asked(1_000 + WHOLE_MS - 1_000);
    assert_eq!(table.hub.deadline(), Some(1_000 + WHOLE_MS - 1_000 + PERSON_MS));
    // Whoever asks again starts nothing anew.
    table.hub.person_asked(1_000 + WHOLE_MS + 20_000);
    table.hub.want_model(1_000 + WHOLE_MS + 59_000);
    table.now = 1_000 + WHOLE_MS + 59_000;
    assert!(matches!(table.run()[..], [Event::Model(_)]));
    assert_eq!(table.hub.deadline(), Some(1_000 + WHOLE_MS + 60_000));
    table.hub.person_asked(table.now);
    assert_eq!(table.hub.deadline(), Some(table.now + PERSON_MS - 60_000));
    assert_eq!(table.wait_it_out(), [failed(PairingFault::TimedOut(Phase::Person))]);
}

#[test]
fn a_device_that_left_its_radio_to_sign_in_is_waited_for() {
    let mut table = Table::stored(517);
    table.hub.lost(2_000);
    assert_eq!(table.run(), []);
    table.hub.signed_in(60_000);
    assert_eq!(table.run(), [Event::Ended(Ending::Complete)]);

    let mut table = Table::stored(517);
    table.hub.lost(2_000);
    assert_eq!(table.wait_it_out(), [failed(PairingFault::TimedOut(Phase::SignIn))]);
    let mut table = Table::stored(517);
    table.hub.lost(2_000);
    table.hub.cancel(3_000);
    assert_eq!(table.run(), [failed(PairingFault::Cancelled)]);
}

#[test]
fn a_sign_in_counts_even_when_it_is_quicker_than_the_radio_or_later_than_its_time() {
    let mut table = Table::greeted(517);
    table.device.mute = true;
    table.hub.deliver(delivery(), 1_000);
    table.run();
    table.hub.signed_in(1_500);
    assert_eq!(table.run(), [Event::Stored, Event::Ended(Ending::Complete)]);
    assert_eq!(table.device.heard.last(), Some(&Message::Complete));

    let mut table = Table::stored(517);
    table.hub.signed_in(1_000 + SIGN_IN_MS);
    assert_eq!(table.run(), [Event::Ended(Ending::Complete)]);
    let mut table = Table::greeted(517);
    table.hub.signed_in(1_500);
    assert_eq!(table.run(), []);
}

#[test]
fn what_is_decided_does_not_wait_for_a_link_that_hangs() {
    let mut table = Table::stored(517);
    table.hub.signed_in(2_000);
    assert!(matches!(table.hub.poll(), Some(Event::Write(_))));
    assert_eq!(table.hub.deadline(), Some(2_000 + PARTING_MS));
    table.hub.cancel(2_500);
    table.hub.refuse(EndCode::Busy, "", 2_600);
    table.hub.tick(2_000 + PARTING_MS);
    assert_eq!(table.run(), [Event::Ended(Ending::Complete)]);

    let mut table = Table::stored(517);
    table.hub.cancel(2_000);
    assert!(matches!(table.hub.poll(), Some(Event::Write(_))));
    table.hub.lost(2_001);
    assert_eq!(table.run(), [failed(PairingFault::Cancelled)]);
}

#[test]
fn a_refused_device_hears_why() {
    let mut table = Table::greeted(23);
    table.hub.refuse(EndCode::NotTrusted, &"é".repeat(300), 2_000);
    assert_eq!(table.run(), [failed(PairingFault::Refused { code: EndCode::NotTrusted, by_device: false })]);
    assert_eq!(table.device.heard, [Message::End(EndCode::NotTrusted, "é".repeat(END_TEXT_MAX))]);
    assert!(table.hub.holds_nothing());
}

#[test]
fn a_device_that_refuses_is_heard_at_any_time() {
    let end = Message::end(EndCode::NotStored, "the flash\nis full");
    let refused = failed(PairingFault::Refused { code: EndCode::NotStored, by_device: true });
    let mut table = Table::greeted(23);
    assert_eq!(table.device_says(&end), std::slice::from_ref(&refused));
    assert_eq!(table.hub.said(), Some("the flashis full"));
    let mut table = Table::stored(23);
    assert_eq!(table.device_says(&end), std::slice::from_ref(&refused));
    // In the midst of the credential, too.
    let mut table = Table::greeted(23);
    table.hub.deliver(delivery(), 2_000);
    assert!(matches!(table.hub.poll(), Some(Event::Sending { .. })));
    assert!(matches!(table.hub.poll(), Some(Event::Write(_))));
    assert_eq!(table.device_says(&end), [refused]);
}

#[test]
fn a_credential_that_is_half_said_when_it_is_cancelled_stays_so() {
    let mut table = Table::greeted(23);
    table.hub.deliver(delivery(), 2_000);
    for _ in 0..5 {
        if let Some(Event::Write(value)) = table.hub.poll() {
            table.device.take(&value);
            table.hub.written(2_000);
        }
    }
    table.hub.cancel(2_000);
    assert_eq!(table.run().last(), Some(&failed(PairingFault::Cancelled)));
    assert!(table.device.heard.is_empty());
    assert!(table.hub.holds_nothing());
}

#[test]
fn what_comes_where_it_is_not_due_ends_the_pairing() {
    let malformed = |events: &[Event]| matches!(events, [Event::Ended(Ending::Failed(PairingFault::Malformed(_)))]);
    let hello = Message::Hello(Device::new(label(), 23).hello(&[0; 32]));
    let others = [
        hello,
        Message::WantModel(0),
        Message::ModelPart(0, vec![1]),
        Message::Credential(delivery()),
        Message::Stored,
        Message::Progress(DeviceStep::Joining, 0),
        Message::Complete,
    ];
    for message in &others {
        let mut table = Table::greeted(185);
        assert!(malformed(&table.device_says(message)), "{message:?}");
        assert!(matches!(table.device.heard[..], [Message::End(EndCode::Malformed, _)]), "{message:?}");
        let mut table = Table::stored(185);
        assert_eq!(malformed(&table.device_says(message)), !matches!(message, Message::Progress(..)), "{message:?}");
    }

    // Stored, before the credential was.
    let mut table = Table::greeted(23);
    table.hub.deliver(delivery(), 2_000);
    table.hub.poll();
    table.hub.poll();
    let events = table.device_says(&Message::Stored);
    assert!(malformed(&events), "{events:?}");
    // A hello of another device.
    let mut table = Table::new(185);
    table.device.mute = true;
    table.run();
    let other = Hello { device: DeviceId::parse("door-2").unwrap(), ..table.device.hello(&[0; 32]) };
    assert!(malformed(&table.device_says(&Message::Hello(other))));
    // Something that was not sealed, or is no fragment.
    for value in [&[0xc0, 0, 3, 1, 2, 3][..], &[0x41, 1], &[]] {
        let mut table = Table::greeted(185);
        table.hub.received(value, 1_000);
        assert!(malformed(&table.run()), "{value:?}");
        assert!(matches!(table.device.heard[..], [Message::End(EndCode::Malformed, _)]));
    }
}

#[test]
fn a_credential_that_does_not_fit_is_not_sent() {
    let cases = [
        (Delivery { ca: vec![0; CA_MAX + 1], ..delivery() }, DeliveryError::Certificate(CA_MAX + 1)),
        (Delivery { hub: HubId::from_bytes([9; 16]), ..delivery() }, DeliveryError::OtherHub),
        (Delivery { addresses: Vec::new(), ..delivery() }, DeliveryError::Addresses(0)),
    ];
    for (delivery, error) in cases {
        let mut table = Table::greeted(185);
        table.hub.deliver(delivery, 2_000);
        assert_eq!(table.run(), [failed(PairingFault::Undeliverable(error))]);
        assert!(matches!(table.device.heard[..], [Message::End(EndCode::Cancelled, _)]));
    }
}

#[test]
fn after_the_end_nothing_is_taken_and_nothing_said() {
    let mut table = Table::stored(185);
    table.hub.cancel(2_000);
    table.run();
    let sent = table.hub.bytes_sent();
    table.hub.received(&[0xc0, 0, 1, 1], 3_000);
    table.hub.written(3_000);
    table.hub.signed_in(3_000);
    table.hub.deliver(delivery(), 3_000);
    table.hub.want_model(3_000);
    table.hub.refuse(EndCode::Busy, "", 3_000);
    table.hub.person_asked(3_000);
    table.hub.cancel(3_000);
    table.hub.lost(3_000);
    table.hub.tick(u64::MAX);
    assert_eq!(table.hub.poll(), None);
    assert_eq!(table.hub.bytes_sent(), sent);
    assert!(table.hub.holds_nothing());
}
