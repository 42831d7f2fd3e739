//! A session by itself: its queue, what is in flight, what is sent again.

use super::*;

fn delivery(qos: u8, n: usize) -> Delivery {
    let message = Message {
        topic: "things/test/x".into(),
        payload: Bytes::from(vec![0; n]),
        qos,
        retain: false,
        properties: None,
        from: 0,
        expires: None,
        momentary: false,
    };
    Delivery { message: Arc::new(message), qos, retain: false, identifiers: Vec::new(), kept: None }
}

fn sent(session: &Session) -> Vec<(u16, bool)> {
    let mut out = Vec::new();
    session.drain(&mut out, 1000);
    out.iter().filter_map(|o| if let Outgoing::Publish { pkid, dup, .. } = o { Some((*pkid, *dup)) } else { None }).collect()
}

#[test]
fn no_more_than_the_window_is_in_flight() {
    let session = Session::for_test("a");
    session.attach(2);
    for _ in 0..3 {
        assert_eq!(session.offer(delivery(1, 1), &mut Vec::new()), Offer::Taken);
    }
    assert_eq!(sent(&session), [(1, false), (2, false)]);
    assert_eq!(sent(&session), []);
    assert!(session.finish(1));
    assert_eq!(sent(&session), [(3, false)]);
}

#[test]
fn what_is_in_flight_is_sent_again_on_the_next_connection_and_qos_0_is_not_kept() {
    let session = Session::for_test("a");
    session.attach(10);
    session.offer(delivery(1, 1), &mut Vec::new());
    session.offer(delivery(2, 1), &mut Vec::new());
    assert_eq!(sent(&session).len(), 2);
    assert!(session.release(2).is_some());
    session.offer(delivery(0, 1), &mut Vec::new());
    session.detach();
    assert_eq!(session.offer(delivery(0, 1), &mut Vec::new()), Offer::Dropped);
    assert_eq!(session.offer(delivery(1, 1), &mut Vec::new()), Offer::Taken);
    session.attach(10);
    let mut out = Vec::new();
    session.drain(&mut out, 100);
    assert!(matches!(out[0], Outgoing::Publish { pkid: 1, dup: true, .. }));
    assert!(matches!(&out[1], Outgoing::Control(p) if matches!(**p, Packet::PubRel(PubRel { pkid: 2, .. }, _))));
    assert!(matches!(out[2], Outgoing::Publish { pkid: 3, dup: false, .. }));
    assert_eq!(out.len(), 3);
}

#[test]
fn what_is_for_now_or_never_is_neither_queued_nor_sent_again() {
    let momentary = || {
        let mut d = delivery(1, 1);
        if let Some(message) = Arc::get_mut(&mut d.message) {
            message.momentary = true;
        }
        d
    };
    let session = Session::for_test("a");
    assert_eq!(session.offer(momentary(), &mut Vec::new()), Offer::Dropped);
    session.attach(1);
    session.offer(momentary(), &mut Vec::new());
    session.offer(momentary(), &mut Vec::new());
    assert_eq!(sent(&session).len(), 1);
    session.detach();
    session.attach(10);
    assert_eq!(sent(&session), []);
}

#[test]
fn queues_are_bounded_online_and_offline() {
    let session = Session::for_test("a");
    session.attach(10);
    let mut congested = 0;
    for _ in 0..HARD.0 {
        if session.offer(delivery(0, 1), &mut Vec::new()) == Offer::Congested {
            congested += 1;
        }
    }
    assert!(congested > 0);
    assert_eq!(session.offer(delivery(0, 1), &mut Vec::new()), Offer::Dropped);
    assert_eq!(session.offer(delivery(1, 1), &mut Vec::new()), Offer::Overflow);
    session.detach();
    for _ in 0..OFFLINE.0 {
        session.offer(delivery(1, 1), &mut Vec::new());
    }
    assert_eq!(session.offer(delivery(1, 1), &mut Vec::new()), Offer::Dropped);
}

#[test]
fn unreleased_ids_are_counted_once_and_bounded() {
    let session = Session::for_test("a");
    assert_eq!(session.receive_once(1), Some(true));
    assert_eq!(session.receive_once(1), Some(false));
    for id in 2..=UNRELEASED {
        assert_eq!(session.receive_once(id), Some(true));
    }
    assert_eq!(session.receive_once(9999), None);
    assert!(session.forget_received(1));
    assert_eq!(session.receive_once(9999), Some(true));
}

#[test]
fn a_purge_takes_what_waits_and_what_is_in_flight() {
    let session = Session::for_test("a");
    session.attach(1);
    session.offer(delivery(1, 1), &mut Vec::new());
    session.offer(delivery(1, 1), &mut Vec::new());
    assert_eq!(sent(&session).len(), 1);
    session.purge(|_| false);
    session.detach();
    session.attach(1);
    assert_eq!(sent(&session), []);
}
