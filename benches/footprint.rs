//! What a hub takes when nothing happens: resident memory with nobody connected and with 1,000 idle devices over TLS,
//! and the time from the start of the program until it serves, with 1,000 devices in the store.
//!
//! `cargo bench --bench footprint [-- --quick] [--devices=1000]`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops at the first surprise"
)]

mod rig;

use rig::Arguments;
use rig::hub::seed;
use rig::report::{Table, median, note, say};
use std::time::Duration;

fn main() {
    if rig::hub::was_to_seed() {
        return;
    }
    let arguments = Arguments::read();
    let count = arguments.number("--devices=").unwrap_or(if arguments.quick() { 100 } else { 1_000 });
    note(&format!("making a hub with {count} devices"));
    let seeded = seed(count as u64, 0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let starts: Vec<f64> = (0..10).map(|_| seeded.start().started_in.as_secs_f64() * 1e3).collect();
    let hub = seeded.start();
    std::thread::sleep(Duration::from_secs(2));
    let (idle, _) = hub.process.memory_mb();
    note("connecting the devices");
    let clients = runtime.block_on(seeded.connect_all(&hub));
    std::thread::sleep(Duration::from_secs(2));
    let (full, highest) = hub.process.memory_mb();
    let before = hub.process.cpu();
    std::thread::sleep(Duration::from_secs(5));
    let cpu = (hub.process.cpu() - before).as_secs_f64() / 5.0 * 100.0;
    let connected = clients.len();
    runtime.block_on(async { drop(clients) });
    std::thread::sleep(Duration::from_secs(2));
    let (after, _) = hub.process.memory_mb();
    let slowest = starts.iter().copied().fold(0.0, f64::max);
    let mut table = Table::new(&["what", "measured", "target"]);
    let mut row = |what: &str, measured: String, target: &str| table.row(&[what.to_owned(), measured, target.to_owned()]);
    row(
        &format!("start to serving, {count} devices in the store"),
        format!("{:.0} ms (slowest of 10: {slowest:.0} ms)", median(starts)),
        "≤ 150 ms",
    );
    row("resident, idle", format!("{idle:.1} MB"), "≤ 20 MB");
    row(&format!("resident, {connected} idle devices over TLS"), format!("{full:.1} MB"), "≤ 60 MB");
    row("of that, for each device", format!("{:.1} kB", (full - idle) * 1e3 / connected as f64), "");
    row("highest while they connected", format!("{highest:.1} MB"), "");
    row("processor, with them connected and silent", format!("{cpu:.1} %"), "");
    row("resident after they have gone", format!("{after:.1} MB"), "");
    table.print();
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_hearthkey")).map_or(0, |m| m.len());
    say(&format!("\nThe program as built here (profile bench, with symbols): {:.1} MB", size as f64 / 1e6));
}
