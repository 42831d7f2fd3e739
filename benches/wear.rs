//! What a home of 100 devices costs a small box: bytes that the hub writes to its memory card in a day, and its memory, with nobody there, with the
//! devices connected, with each of them reporting a value once a minute, and with the page open in five browsers beside. As root the hub has 128 MiB and
//! no more.
//!
//! `cargo bench --bench wear [-- --quick] [--devices=100] [--every=60]`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops at the first surprise"
)]

mod rig;

use hearthkey::sim::mqtt::{Client, Message, Qos};
use hearthkey::sim::tls::Stream;
use rig::Arguments;
use rig::hub::{Running, seed};
use rig::process::Group;
use rig::report::{Table, note, say};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const DAY_S: f64 = 86_400.0;
const NEVER: Duration = Duration::from_secs(86_400);
/// What a service may have on a small box, in bytes.
const BUDGET: u64 = 128 << 20;
/// Browsers with the page open.
const PAGES: usize = 5;

fn main() {
    if rig::hub::was_to_seed() {
        return;
    }
    let arguments = Arguments::read();
    let count = arguments.number("--devices=").unwrap_or(100);
    let every = Duration::from_secs(arguments.number("--every=").unwrap_or(60) as u64);
    // What the hub does by itself is minutes apart.
    let time = Duration::from_secs(if arguments.quick() { 60 } else { 600 });
    note(&format!("making a hub with {count} devices"));
    let seeded = seed(count as u64, count);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let group = Group::with_memory(BUDGET);
    let hub = group.as_ref().map_or_else(|| seeded.start(), |group| seeded.start_in(group));
    let mut table = Table::new(&["", "written", "in a day", "updates acknowledged", "each", "resident, at its highest so far"]);
    let mut row = |what: &str, seen: &Seen| {
        let each = if seen.updates == 0 { String::new() } else { format!("{:.1} kB", seen.bytes as f64 / 1e3 / seen.updates as f64) };
        table.row(&[
            what.to_owned(),
            format!("{:.1} kB in {:.0} s", seen.bytes as f64 / 1e3, seen.time.as_secs_f64()),
            format!("{:.1} MB", seen.bytes as f64 / 1e6 * DAY_S / seen.time.as_secs_f64()),
            seen.updates.to_string(),
            each,
            format!("{:.1} MB", hub.process.memory_mb().1),
        ]);
    };
    let settle = || std::thread::sleep(Duration::from_secs(10));
    settle();
    note("nobody is there");
    row("nobody", &runtime.block_on(watch(&hub, time, async { 0 })));
    note("connecting the devices");
    let clients = runtime.block_on(seeded.connect_all(&hub));
    let ids: Vec<&str> = seeded.devices.iter().map(|(id, _)| id.as_str()).collect();
    note("the devices are silent");
    let (seen, clients) = runtime.block_on(living(&hub, clients, &ids, NEVER, time));
    row(&format!("{count} devices, silent"), &seen);
    note("the devices report");
    let (seen, clients) = runtime.block_on(living(&hub, clients, &ids, every, time));
    row(&format!("{count} devices, each a value every {} s", every.as_secs()), &seen);
    note("the page is open");
    let token = &seeded.who.person.1;
    let pages = runtime.block_on(open_pages(&hub, token));
    let (seen, _) = runtime.block_on(living(&hub, clients, &ids, every, time));
    row(&format!("the same, and {PAGES} browsers with the page open"), &seen);
    drop(pages);
    table.print();
    match &group {
        Some(group) => {
            let (peak, kills) = group.seen();
            say(&format!(
                "\nWith {} MiB and no more: {peak:.1} MB at the most, files among them; ended for want of memory {kills} times",
                BUDGET >> 20
            ));
        }
        None => say("\nThe hub's memory was not bounded: making a group of processes needs root"),
    }
    drop(hub);
}

/// What was seen in a time.
struct Seen {
    bytes: u64,
    updates: u64,
    time: Duration,
}

async fn watch(hub: &Running, time: Duration, during: impl Future<Output = u64>) -> Seen {
    let (before, began) = (hub.process.written(), Instant::now());
    let (updates, ()) = tokio::join!(during, tokio::time::sleep(time));
    Seen { bytes: hub.process.written() - before, updates, time: began.elapsed() }
}

/// Every device reports a value each `every`, one after another within it, and waits for the acknowledgement. In between it says that it is there.
async fn living(hub: &Running, clients: Vec<Client<Stream>>, ids: &[&str], every: Duration, time: Duration) -> (Seen, Vec<Client<Stream>>) {
    let mut devices = JoinSet::new();
    let until = tokio::time::Instant::now() + time;
    let count = u32::try_from(clients.len()).expect("a house");
    for ((at, mut client), id) in (0u32..).zip(clients).zip(ids) {
        let topic = format!("things/{id}/shadow/update");
        devices.spawn(async move {
            let (mut updates, mut next) = (0u64, tokio::time::Instant::now() + every / count * (at + 1));
            loop {
                while let left = next.min(until).saturating_duration_since(tokio::time::Instant::now())
                    && !left.is_zero()
                {
                    client.receive(left).await.expect("a connection");
                }
                if next >= until {
                    break;
                }
                let body = format!(r#"{{"state":{{"reported":{{"brightness":{}}}}}}}"#, (u64::from(at) + updates) % 100);
                client.publish(&Message::new(topic.clone(), body, Qos::AtLeastOnce)).await.expect("an acknowledgement");
                updates += 1;
                next += every;
            }
            (at, updates, client)
        });
    }
    let mut back = Vec::new();
    let all = async {
        let mut updates = 0;
        while let Some(done) = devices.join_next().await {
            let (at, some, client) = done.expect("a device");
            updates += some;
            back.push((at, client));
        }
        updates
    };
    let seen = watch(hub, time, all).await;
    back.sort_by_key(|(at, _)| *at);
    (seen, back.into_iter().map(|(_, client)| client).collect())
}

/// What a page asks for when it is opened, and its stream of events, which is read to its end.
async fn open_pages(hub: &Running, token: &str) -> JoinSet<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let base = format!("https://localhost:{}", hub.https.port());
    let mut pages = JoinSet::new();
    for _ in 0..PAGES {
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().expect("a client");
        for path in ["/", "/api/v1/me", "/api/v1/devices"] {
            let answer = client.get(format!("{base}{path}")).bearer_auth(token).send().await.expect("an answer");
            assert!(answer.status().is_success(), "{path}: {}", answer.status());
            answer.bytes().await.expect("a body");
        }
        let mut events = client.get(format!("{base}/api/v1/events")).bearer_auth(token).send().await.expect("a stream");
        assert!(events.status().is_success(), "events: {}", events.status());
        pages.spawn(async move { while let Ok(Some(_)) = events.chunk().await {} });
    }
    pages
}
