//! Should rumqttd's router carry the messages, or our own subscriptions and session queues? Both behind a gate of
//! ours, over loopback, with one load generator: throughput, what a reader that lags loses, what is never freed, and
//! whether one topic can bring it down. `docs/decisions/0003-subscriptions-of-our-own.md` is decided by this.
//!
//! `cargo bench --bench router -- [throughput|lossless|lagging|memory|topic …] [--quick] [--batch=1] [--each]`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops at the first surprise"
)]

mod rig;

use rig::hub::{Seeded, seed};
use rig::load::{self, BATCH, Outcome, Pace, Plan, connect, publish, run};
use rig::process::Process;
use rig::report::{Table, count, median, note, say};
use rig::{Arguments, prototype};
use std::io::{Read, Write};
use std::time::Duration;

/// Distinct topics, and distinct client ids, of the question of memory.
const TOPICS: usize = 20_000;
const CLIENT_IDS: usize = 5_000;

/// What can be started, by name.
const SIDES: [&str; 3] = ["own trie and queues", "router, 1 MiB × 4", "router, 64 KiB × 4"];

struct Bench {
    seeded: Seeded,
    runs: usize,
    time: Duration,
    batch: usize,
    each: bool,
}

fn main() {
    if rig::hub::was_to_seed() || prototype::was_to_serve() {
        return;
    }
    let arguments = Arguments::read();
    let (runs, time) = if arguments.quick() { (1, Duration::from_millis(1_000)) } else { (3, Duration::from_millis(1_500)) };
    note("making a hub with ten claimed devices");
    let bench =
        Bench { seeded: seed(10, 10), runs, time, batch: arguments.number("--batch=").unwrap_or(BATCH), each: arguments.has("--each") };
    for (name, part) in [
        ("throughput", Bench::throughput as fn(&Bench)),
        ("lossless", Bench::lossless),
        ("lagging", Bench::lagging),
        ("memory", Bench::memory),
        ("topic", Bench::topic),
    ] {
        if arguments.wants(name) {
            part(&bench);
        }
    }
}

impl Bench {
    fn start(&self, side: &str) -> Process {
        match side {
            "router, 1 MiB × 4" => prototype::start(1 << 20, 4),
            "router, 64 KiB × 4" => prototype::start(64 << 10, 4),
            _ => self.seeded.start().process,
        }
    }

    fn plan(&self, publishers: usize, receivers: usize, qos: u8) -> Plan {
        let who = &self.seeded.who;
        let publisher = |i: usize| (who.device(i, &format!("out-{i}")), who.topic(i));
        let receiver = |i: usize| match publishers {
            1 => (who.device(0, &format!("in-{i}")), who.topic(0)),
            _ => (who.person(&format!("in-{i}")), "things/+/bench".to_owned()),
        };
        Plan {
            publishers: (0..publishers).map(publisher).collect(),
            receivers: (0..receivers).map(receiver).collect(),
            qos,
            batch: self.batch,
            kept: false,
            lagging: (0, Duration::ZERO),
        }
    }

    fn throughput(&self) {
        let mut table = Table::new(&["case", "by", "deliveries/s", "missing", "CPU per delivery", "peak RSS"]);
        for (topology, publishers, receivers) in [("one-to-one", 1, 1), ("fan-in 10→1", 10, 1), ("fan-out 1→50", 1, 50)] {
            for qos in [0, 1] {
                note(&format!("{topology} qos{qos}"));
                let plan = self.plan(publishers, receivers, qos);
                let brokers = SIDES.map(|s| self.start(s));
                let mut seen: [(Vec<Outcome>, f64); 3] = Default::default();
                for _ in 0..self.runs {
                    for (broker, (outcomes, cpu)) in brokers.iter().zip(&mut seen) {
                        let before = broker.cpu();
                        outcomes.push(self.told(run(broker.address, &plan, Pace::FlatOut(self.time))));
                        *cpu += (broker.cpu() - before).as_secs_f64();
                    }
                }
                for (i, (side, (outcomes, cpu))) in SIDES.iter().zip(&seen).enumerate() {
                    let delivered: u64 = outcomes.iter().map(|o| o.delivered).sum();
                    table.row(&[
                        if i == 0 { format!("{topology} qos{qos}") } else { String::new() },
                        (*side).to_owned(),
                        count(median(outcomes.iter().map(Outcome::deliveries_per_s).collect())),
                        outcomes.iter().map(|o| o.missing).sum::<u64>().to_string(),
                        format!("{:.2} µs", cpu * 1e6 / delivered.max(1) as f64),
                        format!("{:.0} MB", brokers[i].memory_mb().1),
                    ]);
                }
            }
        }
        say(&format!("\nThroughput: medians of {} interleaved runs of {} s\n", self.runs, self.time.as_secs_f64()));
        table.print();
    }

    /// Doubles the rate until something is missing or the broker falls behind.
    fn lossless(&self) {
        let time = Duration::from_secs(1);
        let mut table = Table::new(&["case", "by", "highest rate kept", "deliveries/s", "the next rate fails by"]);
        for (topology, publishers, receivers) in [("one-to-one", 1, 1), ("fan-in 10→1", 10, 1), ("fan-out 1→50", 1, 50)] {
            for (i, side) in SIDES.iter().enumerate() {
                note(&format!("{topology}, {side}"));
                let broker = self.start(side);
                let plan = self.plan(publishers, receivers, 0);
                let (mut kept, mut rate, mut why) = (0.0, if receivers > 1 { 1_250.0 } else { 12_500.0 }, String::new());
                while why.is_empty() && rate < 4e6 {
                    let attempt = || self.told(run(broker.address, &plan, Pace::Rate(rate, time)));
                    let failed = |o: &Outcome| o.missing > 0 || o.span_s > time.as_secs_f64() * 1.25;
                    let mut o = attempt();
                    if failed(&o) {
                        // Once more, for the machine is others' too.
                        o = attempt();
                    }
                    if o.missing > 0 {
                        why = format!("losing {:.1} %", o.missing as f64 * 100.0 / (o.missing + o.delivered) as f64);
                    } else if failed(&o) {
                        why = "falling behind".to_owned();
                    } else {
                        kept = rate;
                        rate *= 2.0;
                    }
                }
                let case = if i == 0 { topology } else { "" };
                table.row(&[case.to_owned(), (*side).to_owned(), count(kept), count(kept * receivers as f64), why]);
            }
        }
        say("\nWithout a loss: QoS 0 at a given rate, doubled until something is missing or late\n");
        table.print();
    }

    /// Five of ten readers stop for two seconds now and then, at a rate that the others follow easily.
    fn lagging(&self) {
        let mut table = Table::new(&["QoS", "by", "published", "deliveries", "missing", "readers closed", "publishing took", "peak RSS"]);
        for qos in [0, 1] {
            for side in SIDES {
                note(&format!("lagging readers, qos{qos}, {side}"));
                let broker = self.start(side);
                let plan = Plan { lagging: (5, Duration::from_secs(2)), ..self.plan(1, 10, qos) };
                let o = self.told(run(broker.address, &plan, Pace::Rate(50_000.0, Duration::from_secs(6))));
                table.row(&[
                    qos.to_string(),
                    side.to_owned(),
                    count(o.sent as f64),
                    count(o.delivered as f64),
                    format!("{} ({:.1} %)", o.missing, o.missing as f64 * 100.0 / (o.sent * 10).max(1) as f64),
                    o.cut.to_string(),
                    format!("{:.1} s", o.publishing_s),
                    format!("{:.0} MB", broker.memory_mb().1),
                ]);
            }
        }
        say("\nLagging readers: five of ten stop reading for 2 s every 20 reads, at 50,000 messages/s for 6 s\n");
        table.print();
    }

    fn memory(&self) {
        let mut table = Table::new(&["by", "at first", "after 20,000 topics", "for each", "after 5,000 client ids", "for each"]);
        for side in SIDES {
            note(&format!("memory, {side}"));
            let broker = self.start(side);
            let who = &self.seeded.who;
            // Once round, so that what is needed once is there.
            run(broker.address, &self.plan(1, 1, 0), Pace::Rate(1_000.0, Duration::from_millis(500)));
            let (first, _) = broker.memory_mb();
            let mut stream = connect(broker.address, &who.device(0, "topics"));
            for i in 0..TOPICS {
                let topic = format!("things/{}/t/{i}", who.devices[0].0);
                stream.write_all(&publish(&topic, 0, 0, b"x")).expect("a publish");
            }
            ping(&mut stream);
            let (topics, _) = broker.memory_mb();
            for i in 0..CLIENT_IDS {
                let mut stream = connect(broker.address, &who.device(1, &format!("client-{i}")));
                stream.write_all(&[0xE0, 0]).expect("a goodbye");
                // The broker's end of it.
                let _ = stream.read(&mut [0; 1]);
            }
            ping(&mut stream);
            let (ids, _) = broker.memory_mb();
            let each = |mb: f64, n: usize| format!("{:.0} B", (mb * 1e6 / n as f64).max(0.0));
            let mb = |n: f64| format!("{n:.1} MB");
            table.row(&[side.to_owned(), mb(first), mb(topics), each(topics - first, TOPICS), mb(ids), each(ids - topics, CLIENT_IDS)]);
        }
        say("\nMemory that stays: one publisher uses 20,000 topics once, then 5,000 client ids come and go\n");
        table.print();
    }

    /// One publish whose topic begins with a character that is not ASCII.
    fn topic(&self) {
        let mut table = Table::new(&["by", "to its sender", "afterwards, to everybody else"]);
        for side in &SIDES[..2] {
            note(&format!("a topic, {side}"));
            let broker = self.start(side);
            let who = &self.seeded.who;
            // The router looks at the topic for each filter there is.
            let _listener = load::subscriber(broker.address, &who.person("listener"), "things/+/bench", 0);
            let mut stream = connect(broker.address, &who.device(0, "sender"));
            stream.set_read_timeout(Some(Duration::from_secs(3))).expect("an option");
            stream.write_all(&publish("é/x", 0, 0, b"x")).expect("a publish");
            let answered = stream.write_all(&[0xC0, 0]).is_ok() && matches!(stream.read(&mut [0; 2]), Ok(2));
            let serves = load::serves(broker.address, &who.device(1, "other"), &who.topic(1));
            let sender = if answered { "goes on" } else { "its connection ends" };
            table.row(&[(*side).to_owned(), sender.to_owned(), if serves { "serves" } else { "serves nobody any more" }.to_owned()]);
        }
        say("\nOne PUBLISH to `é/x`\n");
        table.print();
    }

    fn told(&self, outcome: Outcome) -> Outcome {
        if self.each {
            note(&outcome.summary());
        }
        outcome
    }
}

/// Waits until the broker has worked off what the connection has sent.
fn ping(stream: &mut std::net::TcpStream) {
    stream.write_all(&[0xC0, 0]).expect("a PINGREQ");
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).expect("a PINGRESP");
    assert_eq!(answer, [0xD0, 0]);
}
