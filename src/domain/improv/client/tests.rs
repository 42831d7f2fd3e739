//! The client against a device that is played by hand.

use super::*;
use Characteristic as Of;

const PHRASE: &str = "correct horse battery staple";

fn events(client: &mut Client) -> Vec<Event> {
    std::iter::from_fn(|| client.poll()).collect()
}

/// A client that has read what the device can do and in which state it is.
fn opened(capabilities: u8, state: u8) -> Client {
    let mut client = Client::start(b"home", PHRASE, 20, 0);
    assert_eq!(events(&mut client), [Event::Read(Of::Capabilities), Event::Read(Of::State)]);
    client.value(Of::Capabilities, &[capabilities], 1);
    client.value(Of::State, &[state], 2);
    client
}

/// Acknowledges every write; what was written, and the other events.
fn write_all(client: &mut Client, now: u64) -> (Vec<u8>, Vec<Event>) {
    let (mut bytes, mut others) = (Vec::new(), Vec::new());
    while let Some(event) = client.poll() {
        match event {
            Event::Write(part) => {
                assert!(part.len() <= 20);
                bytes.extend_from_slice(&part);
                client.written(now);
            }
            other => others.push(other),
        }
    }
    (bytes, others)
}

fn credentials() -> Vec<u8> {
    frame(Command::SendWifi, &[b"home", PHRASE.as_bytes()]).unwrap().to_vec()
}

fn joining() -> Client {
    let mut client = opened(0, 2);
    assert_eq!(write_all(&mut client, 3), (credentials(), vec![Event::Joining]));
    client.value(Of::State, &[3], 4);
    client
}

#[test]
fn a_device_that_needs_nothing_else_gets_the_network_in_parts_of_twenty_bytes() {
    let mut client = joining();
    client.value(Of::State, &[4], 5);
    assert_eq!(events(&mut client), []);
    let url = frame(Command::SendWifi, &[b"http://192.0.2.7"]).unwrap();
    client.value(Of::Result, &url, 6);
    assert_eq!(events(&mut client), [Event::Ended(Outcome::Complete { url: Some("http://192.0.2.7".into()) })]);
    assert_eq!(client.deadline(), None);
}

#[test]
fn a_person_is_asked_to_press_the_button_and_the_device_shows_itself_once() {
    let mut client = opened(1, 1);
    let (written, told) = write_all(&mut client, 3);
    assert_eq!((written, told), (vec![2, 0, 2], vec![Event::Press]));
    client.value(Of::State, &[2], 90_000);
    assert_eq!(write_all(&mut client, 90_001), (credentials(), vec![Event::Joining]));
}

#[test]
fn nobody_presses_the_button_in_time() {
    let mut client = opened(0, 1);
    client.tick(BUTTON_MS + 2);
    assert_eq!(events(&mut client), [Event::Press, Event::Ended(Outcome::Failed(Fault::NotPressed))]);
}

#[test]
fn a_device_says_what_it_is_even_over_several_notifications_or_a_read() {
    let answer = frame(Command::DeviceInfo, &[b"ESPHome", b"2026.11.0", b"ESP32-C6", b"Kitchen blinds"]).unwrap();
    for by_read in [false, true] {
        let mut client = opened(2, 2);
        assert_eq!(write_all(&mut client, 3).0, [3, 0, 3]);
        client.value(Of::Result, &answer[..20], 4);
        assert_eq!(events(&mut client), [Event::Read(Of::Result)]);
        client.value(Of::Result, if by_read { &answer } else { &answer[20..] }, 5);
        let (written, told) = write_all(&mut client, 6);
        assert_eq!(written, credentials());
        assert!(matches!(told.first(), Some(Event::Info(info)) if info.name.as_deref() == Some("Kitchen blinds")), "{told:?}");
    }
}

#[test]
fn a_device_that_does_not_say_what_it_is_gets_the_network_all_the_same() {
    let mut silent = opened(2, 2);
    assert_eq!(write_all(&mut silent, 3).0, [3, 0, 3]);
    silent.tick(ANSWER_MS + 2);
    assert_eq!(write_all(&mut silent, ANSWER_MS + 3).0, credentials());
    let mut old = opened(2, 2);
    assert_eq!(write_all(&mut old, 3).0, [3, 0, 3]);
    old.value(Of::Error, &[2], 4);
    assert_eq!(write_all(&mut old, 5).0, credentials());
}

#[test]
fn what_the_device_cannot_do_ends_it_and_the_next_try_begins_anew() {
    for (byte, error) in
        [(3, DeviceError::CannotConnect), (4, DeviceError::NotAuthorized), (1, DeviceError::BadPacket), (9, DeviceError::Unknown(9))]
    {
        let mut client = joining();
        client.value(Of::Error, &[0], 5);
        assert_eq!(events(&mut client), []);
        client.value(Of::Error, &[byte], 6);
        assert_eq!(events(&mut client), [Event::Ended(Outcome::Failed(Fault::Device(error)))]);
        assert!(client.credentials.is_none());
    }
}

#[test]
fn an_error_left_by_somebody_else_means_nothing() {
    let mut client = Client::start(b"home", PHRASE, 20, 0);
    client.value(Of::Error, &[3], 1);
    assert_eq!(events(&mut client), [Event::Read(Of::Capabilities), Event::Read(Of::State)]);
}

#[test]
fn a_service_that_is_taken_away_means_success_only_when_the_device_was_in_the_network() {
    let mut early = joining();
    early.lost();
    assert_eq!(events(&mut early), [Event::Ended(Outcome::Failed(Fault::Lost))]);
    let mut late = joining();
    late.value(Of::State, &[4], 5);
    late.lost();
    assert_eq!(events(&mut late), [Event::Ended(Outcome::Complete { url: None })]);
    let mut quiet = joining();
    quiet.value(Of::State, &[4], 5);
    quiet.tick(5 + RESULT_MS);
    assert_eq!(events(&mut quiet), [Event::Ended(Outcome::Complete { url: None })]);
}

#[test]
fn a_device_in_a_network_is_left_alone() {
    let mut client = opened(0, 4);
    assert_eq!(events(&mut client), [Event::Ended(Outcome::Failed(Fault::AlreadyJoined))]);
}

#[test]
fn every_wait_has_an_end() {
    let mut silent = Client::start(b"home", PHRASE, 20, 0);
    silent.tick(ANSWER_MS);
    assert_eq!(events(&mut silent), [Event::Ended(Outcome::Failed(Fault::TimedOut))]);
    let mut trying = joining();
    trying.tick(3 + JOIN_MS);
    assert_eq!(events(&mut trying), [Event::Ended(Outcome::Failed(Fault::NoWord))]);
    let mut unwritten = opened(0, 2);
    unwritten.tick(2 + ANSWER_MS);
    assert_eq!(events(&mut unwritten), [Event::Ended(Outcome::Failed(Fault::TimedOut))]);
}

#[test]
fn cancelling_leaves_nothing_to_write_whenever_it_happens() {
    let steps: [fn() -> Client; 4] = [|| Client::start(b"home", PHRASE, 20, 0), || opened(1, 1), || opened(0, 2), joining];
    for (at, step) in steps.into_iter().enumerate() {
        let mut client = step();
        client.cancel();
        client.cancel();
        client.lost();
        client.written(9);
        client.value(Of::State, &[2], 10);
        let left = events(&mut client);
        assert_eq!(left.last(), Some(&Event::Ended(Outcome::Failed(Fault::Cancelled))), "{at}");
        assert!(!left.iter().any(|event| matches!(event, Event::Write(_))), "{at}");
        assert!(client.credentials.is_none() && client.writes.is_empty());
    }
}

#[test]
fn names_that_are_none_and_phrases_that_do_not_fit_never_reach_the_device() {
    for (ssid, phrase) in [(&b""[..], "12345678"), (&[b'x'; 33], "12345678"), (b"home", &*"x".repeat(250))] {
        let mut client = Client::start(ssid, phrase, 20, 0);
        assert_eq!(events(&mut client), [Event::Ended(Outcome::Failed(Fault::TooLong))]);
    }
}

#[test]
fn what_is_no_state_is_malformed() {
    for value in [&[][..], &[0], &[7], &[2, 2]] {
        let mut client = Client::start(b"home", PHRASE, 20, 0);
        let _ = events(&mut client);
        client.value(Of::State, value, 1);
        assert_eq!(events(&mut client), [Event::Ended(Outcome::Failed(Fault::Malformed))], "{value:?}");
    }
}

#[test]
fn a_network_that_the_device_does_not_see_is_told_apart_from_a_wrong_passphrase() {
    let network = |name: &[u8]| frame(Command::Scan, &[name, b"-50", b"YES"]).unwrap();
    let last = frame(Command::Scan, &[]).unwrap();
    for (names, fault) in [(&[&b"cafe"[..], b"home"][..], Fault::Device(DeviceError::CannotConnect)), (&[&b"cafe"[..]], Fault::NotSeen)] {
        let mut client = opened(4, 2);
        assert_eq!(write_all(&mut client, 3).0, frame(Command::Scan, &[]).unwrap().to_vec());
        for name in names {
            client.value(Of::Result, &network(name), 4);
        }
        client.value(Of::Result, &last, 5);
        assert_eq!(write_all(&mut client, 6), (credentials(), vec![Event::Joining]));
        client.value(Of::Error, &[3], 7);
        assert_eq!(events(&mut client), [Event::Ended(Outcome::Failed(fault))]);
    }
}

#[test]
fn a_device_that_does_not_say_what_it_sees_gets_the_network_all_the_same() {
    let mut client = opened(4, 2);
    write_all(&mut client, 3);
    // Half an answer, and no more: nothing is concluded from it.
    client.value(Of::Result, &frame(Command::Scan, &[b"home", b"-50", b"YES"]).unwrap()[..5], 4);
    while client.poll().is_some() {}
    client.tick(3 + SCAN_MS);
    assert_eq!(write_all(&mut client, 20_000), (credentials(), vec![Event::Joining]));
    client.value(Of::Error, &[3], 20_001);
    assert_eq!(events(&mut client), [Event::Ended(Outcome::Failed(Fault::Device(DeviceError::CannotConnect)))]);
}
