//! How long a revocation takes to be true: 1,000 live sessions of 50 people read a stream; person after person loses the
//! right and gets it back. Measured: how long the revoking call took, and how long after it began the last message
//! reached one of the person's 20 sessions. After the call has returned nothing may: that is counted too.
//!
//! `cargo bench --bench cut [-- --quick]`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops at the first surprise"
)]

mod rig;

use hearthkey::broker::Peer;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Subject, Terms};
use hearthkey::service::{Grant, Recipient};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Message, Qos};
use rig::Arguments;
use rig::house::{HERE, House};
use rig::report::{Table, note, percentile, say};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;

const PEOPLE: usize = 50;
const SESSIONS_EACH: usize = 20;

fn main() {
    let arguments = Arguments::read();
    let (people, rounds) = if arguments.quick() { (10, 2) } else { (PEOPLE, 8) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(people, rounds));
}

async fn connect(house: &House, options: &ConnectOptions) -> Client<DuplexStream> {
    let (client, server) = tokio::io::duplex(16 * 1024);
    let peer = Peer { ip: HERE, spki: None, certificate: None };
    tokio::spawn(house.hub.broker().clone().serve(server, peer, CancellationToken::new()));
    Client::connect(client, options).await.unwrap()
}

/// What the sessions of one person have seen: when the last message came, in µs since the start, and how many.
#[derive(Default)]
struct Seen {
    last_us: AtomicU64,
    count: AtomicU64,
}

async fn measure(people: usize, rounds: usize) {
    let house = House::with(|config| {
        config.broker.max_connections_per_principal = SESSIONS_EACH;
        config.broker.max_sessions_per_principal = SESSIONS_EACH;
    })
    .await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let start = Instant::now();
    let us = move || u64::try_from(start.elapsed().as_micros()).unwrap();
    let topic = lamp.topic("numbers");
    note(&format!("connecting {} sessions", people * SESSIONS_EACH));
    let mut holders: Vec<(String, Subject, Arc<Seen>)> = Vec::new();
    for person in 0..people {
        let name = format!("person-{person}");
        let (actor, token) = house.person(&name, Role::Guest).await;
        give(&house, &name, &lamp).await;
        let seen = Arc::new(Seen::default());
        for session in 0..SESSIONS_EACH {
            let options = ConnectOptions::new(format!("s{session}")).credentials(format!("user:{name}"), token.clone());
            let mut client = connect(&house, &options).await;
            assert_eq!(client.subscribe(&[(&topic, Qos::AtLeastOnce)]).await.unwrap(), [1]);
            let seen = seen.clone();
            tokio::spawn(async move {
                // A session whose right is gone stays connected: the right may come back.
                while let Ok(message) = client.receive(Duration::from_secs(3600)).await {
                    if message.is_some() {
                        seen.last_us.store(us(), Ordering::SeqCst);
                        seen.count.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        holders.push((name, actor.subject, seen));
    }
    let password = lamp.keys.token(lamp.next_counter(), &[7; 16], &[]);
    let mut device = connect(&house, &ConnectOptions::new("lamp").credentials(lamp.id.as_str(), password)).await;
    let stop = CancellationToken::new();
    let stream = {
        let (stop, topic) = (stop.clone(), topic.clone());
        tokio::spawn(async move {
            let mut sent = 0u64;
            while !stop.is_cancelled() {
                device.publish(&Message::new(topic.clone(), [0u8; 64].to_vec(), Qos::AtLeastOnce)).await.unwrap();
                sent += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            sent
        })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    note("revoking");
    let (mut calls, mut cuts, mut late) = (Vec::new(), Vec::new(), 0);
    for (name, subject, seen) in (0..rounds).flat_map(|_| &holders) {
        let began = us();
        house.hub.service().revoke(&house.owner, &lamp.id, subject, true).await.unwrap();
        let returned = us();
        // What was written before the call returned may still lie between the gate and a reader: read it out first.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let last = seen.last_us.load(Ordering::SeqCst);
        let before = seen.count.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(60)).await;
        late += seen.count.load(Ordering::SeqCst) - before;
        calls.push(u32::try_from(returned - began).unwrap());
        cuts.push(u32::try_from(last.saturating_sub(began)).unwrap());
        give(&house, name, &lamp).await;
    }
    stop.cancel();
    let sent = stream.await.unwrap();
    calls.sort_unstable();
    cuts.sort_unstable();
    let ms = |values: &[u32], share: f64| format!("{:.2} ms", percentile(values, share) / 1e3);
    let mut table = Table::new(&["", "median", "p95", "p99", "slowest"]);
    for (what, values) in [("the revoking call", &calls), ("from its beginning to the last message read", &cuts)] {
        table.row(&[what.to_owned(), ms(values, 0.5), ms(values, 0.95), ms(values, 0.99), ms(values, 1.0)]);
    }
    let sessions = people * SESSIONS_EACH;
    say(&format!(
        "{} revocations of {SESSIONS_EACH} sessions each, {sessions} live sessions, {sent} messages to each; the target is 1 s\n",
        calls.len()
    ));
    table.print();
    say(&format!("\nMessages that came later than 20 ms after the call had returned: {late}"));
    assert_eq!(late, 0, "a message reached who had no right any more");
}

async fn give(house: &House, name: &str, lamp: &rig::house::Device) {
    let grant = Grant { to: Recipient::Person(name.to_owned()), terms: Terms::of(Privilege::View) };
    house.hub.service().grant(&house.owner, &lamp.id, grant).await.unwrap();
}
