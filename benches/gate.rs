//! The gate against mosquitto: throughput, losses, latency, processor time and memory, with one load generator, on
//! plain MQTT over loopback, access control on in both, runs interleaved. Without mosquitto only the hub is measured.
//!
//! `cargo bench --bench gate -- [one-to-one|fan-in|fan-out|qos0|qos1 …] [--quick] [--batch=1] [--each]`; `--batch` is the number
//! of publishes per write (32), `--each` tells of each run.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops at the first surprise"
)]

mod rig;

use rig::hub::{Credentials, Seeded, seed};
use rig::load::{self, Outcome, Pace, Plan, run};
use rig::process::Process;
use rig::report::{Table, count, median, nanos, note, percentile, say};
use rig::{Arguments, mosquitto};
use std::path::PathBuf;
use std::time::Duration;

/// A topology and a QoS, and what the hub must reach in it, as a multiple of mosquitto's.
struct Case {
    topology: &'static str,
    publishers: usize,
    receivers: usize,
    qos: u8,
    /// Whether the receivers' sessions outlive their connections.
    kept: bool,
    target: f64,
}

const CASES: [Case; 8] = [
    Case { topology: "one-to-one", publishers: 1, receivers: 1, qos: 0, kept: false, target: 4.0 },
    Case { topology: "one-to-one", publishers: 1, receivers: 1, qos: 1, kept: false, target: 3.0 },
    Case { topology: "fan-in", publishers: 10, receivers: 1, qos: 0, kept: false, target: 2.0 },
    Case { topology: "fan-in", publishers: 10, receivers: 1, qos: 1, kept: false, target: 3.0 },
    Case { topology: "fan-out", publishers: 1, receivers: 50, qos: 0, kept: false, target: 8.0 },
    Case { topology: "fan-out", publishers: 1, receivers: 50, qos: 1, kept: false, target: 3.5 },
    Case { topology: "one-to-one", publishers: 1, receivers: 1, qos: 1, kept: true, target: 1.0 },
    Case { topology: "fan-in", publishers: 10, receivers: 1, qos: 1, kept: true, target: 1.0 },
];

impl Case {
    fn name(&self) -> String {
        let kept = if self.kept { ", kept sessions" } else { "" };
        format!("{} {}→{} qos{}{kept}", self.topology, self.publishers, self.receivers, self.qos)
    }

    /// One publisher: the receivers are more connections of the same device. Several: a person who sees them all.
    fn plan(&self, who: &Credentials, batch: usize) -> Plan {
        let publishers = (0..self.publishers).map(|i| (who.device(i, &format!("out-{i}")), who.topic(i))).collect();
        let receivers = (0..self.receivers)
            .map(|i| match self.publishers {
                1 => (who.device(0, &format!("in-{i}")), who.topic(0)),
                _ => (who.person(&format!("in-{i}")), "things/+/bench".to_owned()),
            })
            .collect();
        Plan { publishers, receivers, qos: self.qos, batch, kept: self.kept, lagging: (0, Duration::ZERO) }
    }
}

/// What was seen of one broker in one case.
#[derive(Default)]
struct Side {
    throughput: Vec<Outcome>,
    paced: Vec<Outcome>,
    cpu_s: f64,
    memory_mb: f64,
}

impl Side {
    fn messages_per_s(&self) -> f64 {
        median(self.throughput.iter().map(Outcome::messages_per_s).collect())
    }
    fn deliveries_per_s(&self) -> f64 {
        median(self.throughput.iter().map(Outcome::deliveries_per_s).collect())
    }
    fn missing(&self) -> u64 {
        self.throughput.iter().chain(&self.paced).map(|o| o.missing + o.disorder + o.cut).sum()
    }
    fn latency(&self, share: f64) -> f64 {
        median(self.paced.iter().map(|o| percentile(&o.latencies, share)).collect())
    }
    fn cpu_us_per_delivery(&self) -> f64 {
        let delivered: u64 = self.throughput.iter().map(|o| o.delivered).sum();
        self.cpu_s * 1e6 / delivered.max(1) as f64
    }
    fn row(&self, case: &str, broker: &str) -> Vec<String> {
        vec![
            case.to_owned(),
            broker.to_owned(),
            count(self.messages_per_s()),
            count(self.deliveries_per_s()),
            self.missing().to_string(),
            nanos(self.latency(0.5)),
            nanos(self.latency(0.99)),
            format!("{:.2} µs", self.cpu_us_per_delivery()),
            format!("{:.0} MB", self.memory_mb),
        ]
    }
}

struct Bench {
    seeded: Seeded,
    mosquitto: Option<PathBuf>,
    batch: usize,
    each: bool,
    runs: usize,
    time: Duration,
}

impl Bench {
    fn measure(&self, case: &Case) -> (Side, Option<Side>) {
        let (mut hub, mut peer) = (Side::default(), Side::default());
        let hub_process = self.seeded.start().process;
        // A colon ends the name in mosquitto's password file.
        let there = Credentials { person: ("olivia".to_owned(), self.seeded.who.person.1.clone()), ..self.seeded.who.clone() };
        let peer_process = self.mosquitto.as_ref().map(|p| mosquitto::start(p, &self.seeded.dir, &there));
        let mut sides: Vec<(&mut Side, &Process, Plan)> = vec![(&mut hub, &hub_process, case.plan(&self.seeded.who, self.batch))];
        sides.extend(peer_process.as_ref().map(|p| (&mut peer, p, case.plan(&there, self.batch))));
        for _ in 0..self.runs {
            for (side, process, plan) in &mut sides {
                let before = process.cpu();
                let outcome = run(process.address, plan, Pace::FlatOut(self.time));
                side.cpu_s += (process.cpu() - before).as_secs_f64();
                if self.each {
                    note(&format!("{} {}", process.address, outcome.summary()));
                }
                side.throughput.push(outcome);
            }
        }
        // Half of the peer's peak; without a peer, half of the hub's.
        let rate = sides.last().map_or(0.0, |(side, ..)| side.messages_per_s()) / 2.0;
        for _ in 0..self.runs {
            for (side, process, plan) in &mut sides {
                side.paced.push(run(process.address, plan, Pace::Rate(rate, self.time)));
            }
        }
        for (side, process, _) in &mut sides {
            side.memory_mb = process.memory_mb().1;
        }
        let measured = peer_process.is_some();
        (hub, measured.then_some(peer))
    }
}

fn main() {
    if rig::hub::was_to_seed() {
        return;
    }
    let arguments = Arguments::read();
    let peer = mosquitto::find();
    match &peer {
        Some((_, version)) => say(&format!("Hearthkey against mosquitto {version}; 128-byte payload, access control on, no TLS, loopback")),
        None => say("mosquitto is not installed: only the hub is measured (apt install mosquitto, to compare)"),
    }
    let (runs, time) = if arguments.quick() { (1, Duration::from_millis(1_000)) } else { (3, Duration::from_millis(2_000)) };
    note("making a hub with ten claimed devices");
    let bench = Bench {
        seeded: seed(10, 10),
        mosquitto: peer.map(|(path, _)| path),
        batch: arguments.number("--batch=").unwrap_or(load::BATCH),
        each: arguments.has("--each"),
        runs,
        time,
    };
    let mut numbers = Table::new(&["case", "broker", "msg/s", "deliveries/s", "missing", "p50", "p99", "CPU per delivery", "peak RSS"]);
    let mut ratios = Table::new(&["case", "throughput", "target", "p99 at half of mosquitto's peak", "target", "missing"]);
    for case in CASES.iter().filter(|c| arguments.wants(&c.name())) {
        note(&case.name());
        let (hub, peer) = bench.measure(case);
        numbers.row(&hub.row(&case.name(), "hearthkey"));
        let Some(peer) = peer else { continue };
        numbers.row(&peer.row("", "mosquitto"));
        // By what was published: where mosquitto loses messages, it is not charged for them here.
        let throughput = hub.messages_per_s() / peer.messages_per_s();
        let latency = hub.latency(0.99) / peer.latency(0.99);
        let mark = |good: bool| if good { "met" } else { "NOT met" };
        ratios.row(&[
            case.name(),
            format!("{throughput:.1}×"),
            format!("≥ {}×: {}", case.target, mark(throughput >= case.target)),
            format!("{latency:.2}×"),
            format!("≤ 1×: {}", mark(latency <= 1.0)),
            format!("{}: {}", hub.missing(), mark(hub.missing() == 0)),
        ]);
    }
    say(&format!("\nMedians of {runs} interleaved runs of {} s; latency at half of mosquitto's peak rate\n", time.as_secs_f64()));
    numbers.print();
    if bench.mosquitto.is_some() {
        say("\nHearthkey as a multiple of mosquitto\n");
        ratios.print();
    }
}
