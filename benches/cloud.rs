//! Simulated hubs against a cloud with a PostgreSQL of its own, all on this machine: syncs and rows a second, bytes a row,
//! latency, and what each side uses. The cloud is in the process of the load here; `tests/system/cloud-scale.sh` has it apart.
//!
//! `cargo bench --features cloud --bench cloud [-- --hubs 500 --rounds 4 --idle 10]`

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a benchmark stops at the first surprise, and prints a table")]

use hearthkey::cloud::load::{self, Phase, Process, Settings};
use hearthkey::cloud::{Cloud, Config};
use tokio_util::sync::CancellationToken;

fn number(name: &str, otherwise: usize) -> usize {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1).map_or(otherwise, |word| word.parse().unwrap_or_else(|_| panic!("{name}: a number is expected")))
}

#[tokio::main]
async fn main() {
    // PostgreSQL may run as another user, who must be able to reach its files.
    let dir = tempfile::Builder::new().prefix("cloud-bench").permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir();
    let dir = dir.unwrap();
    let config = Config { data_dir: dir.path().join("cloud"), listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
    let cloud = Cloud::start(config).await.unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, cloud.ca_pem().unwrap()).unwrap();
    let settings = Settings {
        url: cloud.url().to_owned(),
        ca_file: Some(ca_file),
        elsewhere: false,
        hubs: number("--hubs", 500),
        devices: 10,
        rounds: number("--rounds", 4),
        rows: 5,
        mark_every: 10,
        widths: vec![1, 4, 16, 64],
        wake: true,
        idle_s: u64::try_from(number("--idle", 10)).unwrap(),
        reconnect: false,
        processes: cloud.database_pid().map(|pid| Process { name: "postgresql".to_owned(), pid }).into_iter().collect(),
    };
    println!("`load` is hubs, cloud and PostgreSQL together.\n\n{}", Phase::HEAD);
    let report = load::run(&settings, &CancellationToken::new(), |phase| println!("{phase}")).await;
    cloud.shut_down().await;
    let report = report.unwrap();
    assert_eq!(report.errors(), 0, "some calls failed");
}
