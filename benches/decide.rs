//! What one decision of the policy costs on the way of a message: `decide` itself, and the table compiled for a
//! connection, for topics it allows and topics it does not. Allocations are counted by glibc's `libmemusage.so` in a
//! process of its own, where it is installed: a counting allocator of our own would need unsafe code.
//!
//! `cargo bench --bench decide [-- --quick]`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark stops at the first surprise"
)]

mod rig;

use hearthkey::domain::account::{Role, UserId};
use hearthkey::domain::binding::{Binding, Privilege, Subject, Terms};
use hearthkey::domain::device::Standing;
use hearthkey::domain::ids::DeviceId;
use hearthkey::domain::policy::{Action, Facts, Holder, PublishVerdict, Table, decide};
use hearthkey::domain::time::{Moment, Window};
use rig::Arguments;
use rig::report::{self, median, nanos, say};
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

/// Told to a process of its own: run so many decisions of each kind and print nothing.
const COUNT: &str = "--decisions=";

fn binding(device: &str) -> Binding {
    Binding {
        device: DeviceId::parse(device).unwrap(),
        subject: Subject::User(UserId::from_uuid(uuid::Uuid::from_u128(1))),
        terms: Terms { from: Some(10), until: Some(u64::MAX), ..Terms::of(Privilege::Operate) },
        granted_by: "claim".into(),
        granted_at: 1,
        generation: 2,
        version: 0,
        origin: String::new(),
    }
}

fn facts(binding: &Binding) -> Facts<'_> {
    let holder = Holder { active: true, role: Some(Role::Member), binding: Some(binding), revoked_generation: 1, from_cloud: false };
    Facts {
        holder,
        behalf: None,
        standing: Standing::Ready,
        attested: true,
        behind: false,
        name: None,
        policy_age_ms: 0,
        review_pending: false,
    }
}

fn name(i: usize) -> String {
    format!("lamp-{i:016x}")
}

const USERS: usize = 1_000;
const DEVICES: usize = 10_000;
/// Bindings of each person.
const EACH: usize = 20;
/// From one device of a person to the next, and from one person's first to the next one's.
const STRIDE: usize = 3;
const SPREAD: usize = 10;

/// The bindings of each person; every device is shared by two.
fn house() -> Vec<Vec<Binding>> {
    let always: Window =
        serde_json::from_str(r#"{"days": ["mon","tue","wed","thu","fri","sat","sun"], "from": "00:00", "to": "00:00"}"#).unwrap();
    let terms = |n: usize| match n % 4 {
        0 => Terms { windows: vec![always.clone()], ..Terms::of(Privilege::Operate) },
        1 => Terms { only: Some(["toggle".to_owned()].into()), ..Terms::of(Privilege::Operate) },
        2 => Terms { until: Some(u64::MAX), ..Terms::of(Privilege::Manage) },
        _ => Terms::of(Privilege::Administer),
    };
    let device = |user: usize, n: usize| name((user * SPREAD + n * STRIDE) % DEVICES);
    (0..USERS).map(|user| (0..EACH).map(|n| Binding { terms: terms(user + n), ..binding(&device(user, n)) }).collect()).collect()
}

/// The facts of one binding: every fifth holder is an app, whose person has the same.
fn shared(binding: &Binding, user: usize) -> Facts<'_> {
    let facts = facts(binding);
    Facts { behalf: (user % 5 == 4).then_some(facts.holder), ..facts }
}

type Work<'a> = (String, Box<dyn Fn(usize) -> bool + 'a>);

fn main() {
    let arguments = Arguments::read();
    let now = Moment::utc(100);
    let bindings: Vec<Binding> = (0..10_000).map(|i| binding(&name(i))).collect();
    let person = |n: usize| Table::of_bound(bindings.iter().take(n).map(|b| (b.device.as_str(), facts(b))), &now);
    let (small, large, device) = (person(1_000), person(10_000), Table::of_device(&name(1), std::iter::empty(), &now));
    // More topics than the fastest cache holds would measure the memory; a busy connection repeats some.
    let topics: Vec<String> = (0..64).map(|i| format!("things/{}/sensors/temperature", name(i * 15))).collect();
    let commands: Vec<String> = (0..64).map(|i| format!("things/{}/commands/toggle", name(i * 15))).collect();
    let foreign: Vec<String> = (0..64).map(|i| format!("things/{}/sensors/temperature", name(20_000 + i))).collect();
    let own = [format!("things/{}/sensors/temperature", name(1)), format!("things/{}/shadow/update", name(1))];
    let one = facts(&bindings[0]);
    let works: Vec<Work<'_>> = vec![
        ("decide, allowed".into(), Box::new(|_| decide(black_box(&one), black_box(Action::View), &now).allowed)),
        ("decide, denied".into(), Box::new(|_| !decide(black_box(&one), black_box(Action::Administer), &now).allowed)),
        ("device publishes, its own room".into(), Box::new(|i| device.publish(black_box(&own[i % 2]), false) != PublishVerdict::Deny)),
        (
            "device publishes, another's room".into(),
            Box::new(|i| device.publish(black_box(&foreign[i % 64]), false) == PublishVerdict::Deny),
        ),
        ("device receives, its own room".into(), Box::new(|i| device.receive(black_box(&own[i % 2])))),
        ("person of 1,000 devices receives".into(), Box::new(|i| small.receive(black_box(&topics[i % 64])))),
        ("person of 1,000 devices, refused".into(), Box::new(|i| !small.receive(black_box(&foreign[i % 64])))),
        ("person of 10,000 devices receives".into(), Box::new(|i| large.receive(black_box(&topics[i % 64])))),
        ("person of 10,000 devices, refused".into(), Box::new(|i| !large.receive(black_box(&foreign[i % 64])))),
        (
            "person of 10,000 devices commands".into(),
            Box::new(|i| large.publish(black_box(&commands[i % 64]), false) == PublishVerdict::Handle),
        ),
    ];
    // A big house: 1,000 people, 10,000 devices, 20,000 bindings, some of them restricted, timed or an app's.
    let house = house();
    let compile = |user: usize| Table::of_bound(house[user].iter().map(|b| (b.device.as_str(), shared(b, user))), &now);
    let tables: Vec<Table> = (0..USERS).map(compile).collect();
    let hits: Vec<Vec<String>> =
        house.iter().map(|own| own.iter().map(|b| format!("things/{}/commands/toggle", b.device)).collect()).collect();
    let misses: Vec<String> = (0..DEVICES).map(|d| format!("things/{}/commands/toggle", name(d))).collect();
    // Steps that share no factor with the counts visit all of them in no order that a cache could guess.
    let user = |i: usize| i.wrapping_mul(7_919) % USERS;
    let works: Vec<Work<'_>> = works
        .into_iter()
        .chain([
            (
                "one of 1,000 people of 20,000 bindings, hit".to_owned(),
                Box::new(|i: usize| tables[user(i)].publish(black_box(&hits[user(i)][i % EACH]), false) == PublishVerdict::Handle)
                    as Box<dyn Fn(usize) -> bool>,
            ),
            (
                "one of 1,000 people of 20,000 bindings, miss".to_owned(),
                Box::new(|i: usize| {
                    // The device after its last one is another's.
                    let foreign = (user(i) * SPREAD + EACH * STRIDE) % DEVICES;
                    tables[user(i)].publish(black_box(&misses[foreign]), false) == PublishVerdict::Deny
                }),
            ),
            (
                "decide with a window, an app and its person".to_owned(),
                Box::new(|i: usize| decide(black_box(&shared(&house[1][i % EACH], 4)), black_box(Action::View), &now).allowed),
            ),
        ])
        .collect();
    if let Some(n) = arguments.number(COUNT) {
        for (_, work) in &works {
            assert!((0..n).all(work), "a decision was wrong");
        }
        return;
    }
    let n = if arguments.quick() { 200_000 } else { 2_000_000 };
    let mut table = report::Table::new(&["decision", "median of 9", "slowest of 9"]);
    for (what, work) in &works {
        assert!((0..1_000).all(work), "{what}: a decision was wrong");
        let times: Vec<f64> = (0..9)
            .map(|_| {
                let began = Instant::now();
                assert!((0..n).all(work));
                began.elapsed().as_nanos() as f64 / n as f64
            })
            .collect();
        let slowest = times.iter().copied().fold(0.0, f64::max);
        table.row(&[what.clone(), nanos(median(times)), nanos(slowest)]);
    }
    say("One decision; the target is 100 ns or less, and no allocation\n");
    table.print();
    let times = (0..USERS).map(|u| {
        let began = Instant::now();
        black_box(compile(u));
        began.elapsed().as_nanos() as f64
    });
    say(&format!("\nA table of {EACH} bindings is compiled anew in {} (median of {USERS})", nanos(median(times.collect()))));
    match (allocations(0), allocations(100_000)) {
        (Some(none), Some(many)) => {
            let decisions = 100_000 * works.len() as i64;
            say(&format!("\nAllocations in {decisions} decisions: {}", many - none));
        }
        _ => say("\nAllocations were not counted: libmemusage.so of glibc is not installed here"),
    }
}

/// Allocations of this program when it makes `n` decisions of each kind.
fn allocations(n: usize) -> Option<i64> {
    let library = ["/lib/x86_64-linux-gnu/libmemusage.so", "/lib/aarch64-linux-gnu/libmemusage.so", "/usr/lib64/libmemusage.so"];
    let library = library.into_iter().find(|p| std::path::Path::new(p).exists())?;
    let run = Command::new(std::env::current_exe().ok()?).arg(format!("{COUNT}{n}")).env("LD_PRELOAD", library).output().ok()?;
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    let of = |kind: &str| -> Option<i64> {
        let line = said.lines().find(|l| l.contains(kind))?;
        line.split_once('|')?.1.split_whitespace().find_map(|word| word.parse().ok())
    };
    Some(of("malloc|")? + of("calloc|")? + of("realloc|")?)
}
