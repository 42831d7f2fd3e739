//! Durable writes: what a sync of this disk costs, how many twin updates share one, and how long a device waits until
//! its update (QoS 1) is acknowledged, in syncs. The devices speak MQTT to a hub in this process.
//!
//! `cargo bench --bench store [-- --quick] [--card]`; with `--card` every sync takes 5 ms more, as on a memory card
//! (strace delays it, where it is installed).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops at the first surprise"
)]

mod rig;

use rig::Arguments;
use rig::house::{Device, House};
use rig::load::{Login, connect, publish};
use rig::report::{Table, count, nanos, note, percentile, say};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Set when this process runs under strace.
const DELAYED: &str = "--delayed";

fn main() {
    let arguments = Arguments::read();
    if arguments.has("--card") && !arguments.has(DELAYED) {
        let delayed = std::process::Command::new("strace")
            .args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=5000"])
            .arg(std::env::current_exe().expect("this program"))
            .args(std::env::args().skip(1))
            .arg(DELAYED)
            .status();
        return delayed.map_or_else(|_| say("strace is not installed: a card cannot be imitated"), |_| ());
    }
    let quick = arguments.quick();
    let time = Duration::from_secs(if quick { 2 } else { 8 });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        note("making a house with 32 devices");
        let house = House::new().await;
        let devices = house.devices("thermostat", 32).await;
        let address = house.hub.addresses.mqtt.expect("plain MQTT");
        let probes = if quick { 100 } else { 300 };
        let mut table =
            Table::new(&["devices at once", "updates/s", "updates per commit", "median", "p99", "sync: median", "p99", "p99 in syncs"]);
        for writers in [1, 8, 32] {
            note(&format!("{writers} devices update their twins"));
            // The disk is others' too: it is asked before and after.
            let mut syncs = self::syncs(house.dir.path(), probes);
            let before = house.hub.service().write_counts();
            let began = Instant::now();
            let mut waits = update(address, &devices[..writers], time).await;
            let elapsed = began.elapsed().as_secs_f64();
            let after = house.hub.service().write_counts();
            waits.sort_unstable();
            syncs.extend(self::syncs(house.dir.path(), probes));
            syncs.sort_unstable();
            let sync = percentile(&syncs, 0.5);
            let updates = waits.len() as f64;
            table.row(&[
                writers.to_string(),
                count(updates / elapsed),
                format!("{:.1}", (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64),
                nanos(percentile(&waits, 0.5)),
                nanos(percentile(&waits, 0.99)),
                nanos(sync),
                nanos(percentile(&syncs, 0.99)),
                format!("{:.1}", percentile(&waits, 0.99) / sync),
            ]);
        }
        table.print();
        say("\nTargets: 20 updates or more per sync with 32 writers; p99 of an acknowledged update at most 3 syncs");
        house.hub.shut_down().await;
    });
}

/// Times of a write of a page with its sync, in ns.
fn syncs(dir: &Path, n: usize) -> Vec<u32> {
    let mut file = std::fs::File::create(dir.join("sync")).expect("a file");
    let page = [7u8; 4096];
    for _ in 0..64 {
        file.write_all(&page).expect("a write");
    }
    file.sync_all().expect("a sync");
    (0..n)
        .map(|i| {
            let began = Instant::now();
            file.seek(SeekFrom::Start((i as u64 % 64) * 4096)).expect("a seek");
            file.write_all(&page).expect("a write");
            file.sync_data().expect("a sync");
            u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX)
        })
        .collect()
}

/// Every device sets what it reports, waits for the acknowledgement, and does it again; the waits in ns.
async fn update(address: SocketAddr, devices: &[Device], time: Duration) -> Vec<u32> {
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = devices
        .iter()
        .map(|device| {
            // Without TLS there is no key to bind the token to.
            let password = device.keys.token(device.next_counter(), &[5; 16], &[]);
            let login = Login { client_id: "twin".into(), username: device.id.to_string(), password };
            let (topic, stop) = (device.topic("shadow/update"), stop.clone());
            std::thread::spawn(move || one(address, &login, &topic, &stop))
        })
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    tokio::task::spawn_blocking(move || threads.into_iter().flat_map(|t| t.join().expect("a device")).collect()).await.expect("devices")
}

fn one(address: SocketAddr, login: &Login, topic: &str, stop: &AtomicBool) -> Vec<u32> {
    let mut stream = connect(address, login);
    let mut waits = Vec::new();
    let mut id = 0u16;
    while !stop.load(Ordering::Relaxed) {
        id = id % 60_000 + 1;
        let body = format!(r#"{{"state":{{"reported":{{"temperature":{}}}}}}}"#, 15.0 + f64::from(id % 100) / 10.0);
        let began = Instant::now();
        stream.write_all(&publish(topic, 1, id, body.as_bytes())).expect("a publish");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("an acknowledgement");
        assert_eq!((answer[0], u16::from_be_bytes([answer[2], answer[3]])), (0x40, id));
        waits.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    stream.write_all(&[0xE0, 0]).expect("a goodbye");
    waits
}
