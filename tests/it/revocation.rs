//! A thousand live sessions, of which two hundred lose their right while messages stream: not one message that is
//! published after the revoking call has returned reaches any of the two hundred, and every one reaches the others.

use crate::house::{HERE, House};
use hearthkey::broker::Peer;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Subject, Terms};
use hearthkey::service::{Grant, Recipient};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Qos};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;

const PEOPLE: usize = 10;
const REVOKED: usize = 2;
const SESSIONS_EACH: usize = 100;
/// Messages before the first revocation and after the last one.
const STRETCH: u64 = 40;
const PATIENCE: Duration = Duration::from_secs(60);
const END: u64 = u64::MAX;

/// A connection to the gate without a socket: a thousand of them need no file descriptors.
async fn connect(house: &House, options: &ConnectOptions) -> Client<DuplexStream> {
    let (client, server) = tokio::io::duplex(16 * 1024);
    let peer = Peer { ip: HERE, spki: None, certificate: None };
    tokio::spawn(house.hub.broker().clone().serve(server, peer, CancellationToken::new()));
    Client::connect(client, options).await.unwrap()
}

/// Reads numbers until the end mark; for a session that loses its right, until it has nothing more to read.
async fn read_all(mut client: Client<DuplexStream>, loses: bool, all_over: Arc<Barrier>) -> Vec<u64> {
    let mut numbers = Vec::new();
    let number = |payload: &[u8]| u64::from_be_bytes(payload.try_into().unwrap());
    if loses {
        // Until everybody else has the end mark; then whatever still lies here was sent before this ping's answer.
        let reading = async {
            loop {
                if let Ok(Some(message)) = client.receive(PATIENCE).await {
                    numbers.push(number(&message.payload));
                }
            }
        };
        tokio::select! {
            () = reading => {}
            _ = all_over.wait() => {}
        }
        client.ping().await.unwrap();
        while let Ok(Some(message)) = client.receive(Duration::ZERO).await {
            numbers.push(number(&message.payload));
        }
        return numbers;
    }
    loop {
        let message = client.receive(PATIENCE).await.unwrap().expect("a message that was owed");
        match number(&message.payload) {
            END => break,
            n => numbers.push(n),
        }
    }
    all_over.wait().await;
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_of_a_thousand_live_sessions_lose_their_right_and_nobody_else_loses_a_message() {
    let house = House::with(|config| {
        config.broker.max_connections_per_principal = SESSIONS_EACH;
        config.broker.max_sessions_per_principal = SESSIONS_EACH;
    })
    .await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let all_over = Arc::new(Barrier::new(PEOPLE * SESSIONS_EACH));
    let mut people: Vec<Subject> = Vec::new();
    let mut readers = Vec::new();
    for person in 0..PEOPLE {
        let name = format!("person-{person}");
        let (actor, token) = house.person(&name, Role::Guest).await;
        let grant = Grant { to: Recipient::Person(name.clone()), terms: Terms::of(Privilege::View) };
        house.hub.service().grant(&house.owner, &lamp.id, grant).await.unwrap();
        for session in 0..SESSIONS_EACH {
            let options = ConnectOptions::new(format!("s{session}")).credentials(format!("user:{name}"), token.clone());
            let mut client = connect(&house, &options).await;
            assert_eq!(client.subscribe(&[(&lamp.topic("numbers"), Qos::AtLeastOnce)]).await.unwrap(), [1]);
            readers.push((person, tokio::spawn(read_all(client, person < REVOKED, all_over.clone()))));
        }
        people.push(actor.subject);
    }
    let password = lamp.keys.token(lamp.next_counter(), &[7; 16], &[]);
    let mut device = connect(&house, &ConnectOptions::new("lamp").credentials(lamp.id.as_str(), password)).await;
    let (topic, sent) = (lamp.topic("numbers"), Arc::new(AtomicU64::new(0)));
    let revoked_everyone = CancellationToken::new();
    // The stream runs by itself; it ends a stretch after the last revocation.
    let stream = {
        let (sent, stop) = (sent.clone(), revoked_everyone.clone());
        tokio::spawn(async move {
            let mut left = STRETCH;
            while left > 0 {
                let n = sent.load(Ordering::SeqCst) + 1;
                // Counted before it is sent: "sent so far" is never less than what may be on its way.
                sent.store(n, Ordering::SeqCst);
                assert_eq!(device.publish(&Message::new(topic.clone(), n.to_be_bytes().to_vec(), Qos::AtLeastOnce)).await.unwrap(), 0);
                left -= u64::from(stop.is_cancelled());
            }
            device.publish(&Message::new(topic, END.to_be_bytes().to_vec(), Qos::AtLeastOnce)).await.unwrap();
            device
        })
    };
    while sent.load(Ordering::SeqCst) < STRETCH {
        tokio::task::yield_now().await;
    }
    let mut last_allowed = Vec::new();
    for user in people.iter().take(REVOKED) {
        house.hub.service().revoke(&house.owner, &lamp.id, user, true).await.unwrap();
        last_allowed.push(sent.load(Ordering::SeqCst));
    }
    revoked_everyone.cancel();
    let _device = stream.await.unwrap();
    let total = sent.load(Ordering::SeqCst);
    for (person, reader) in readers {
        let numbers = reader.await.unwrap();
        match last_allowed.get(person) {
            Some(last) => {
                assert!(numbers.len() >= STRETCH as usize / 2, "it should have been served before");
                assert!(numbers.iter().all(|n| n <= last), "a message of {:?} came after the revocation at {last}", numbers.last());
            }
            None => assert_eq!(numbers, (1..=total).collect::<Vec<_>>(), "person {person} lost a message"),
        }
    }
}
