//! The matrix of who may do what (`matrix.csv`), each cell tried against a running hub by clients of other people:
//! paho-mqtt and mosquitto. Clients of this crate only watch: they count what arrives, and where.

use crate::house::{Device, House};
use crate::signing_in::fetch_secret;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::service::{Grant, Recipient};
use hearthkey::sim::mqtt::{Client, ConnectOptions, Event, Publish, Qos};
use hearthkey::sim::tls::{Stream, Trust};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const MATRIX: &str = include_str!("matrix.csv");
const SUBJECTS: [&str; 9] = ["claimed", "waiting", "rebase", "owner", "viewer", "operator", "manager", "member", "guest"];
const VARIANTS: [&str; 6] = ["v4q0", "v4q1", "v4q2", "v5q0", "v5q1", "v5q2"];

/// One subject's square of a line.
#[derive(Clone, Debug)]
struct Cell {
    id: String,
    verb: String,
    topic: String,
    subject: usize,
    expected: String,
}

fn lines() -> impl Iterator<Item = Vec<&'static str>> {
    MATRIX.lines().filter(|l| !l.is_empty() && !l.starts_with("# ") && *l != "#").map(|l| l.split(", ").map(str::trim).collect())
}

fn cells(rooms: &Rooms) -> Vec<Cell> {
    let mut lines = lines().filter(|l| l.first() != Some(&"connect"));
    let header = lines.next().unwrap();
    assert_eq!(header[2..], SUBJECTS, "the columns are in another order");
    let mut out = Vec::new();
    for (row, line) in lines.enumerate() {
        assert_eq!(line.len(), 2 + SUBJECTS.len(), "{line:?}");
        for (subject, expected) in line[2..].iter().enumerate().filter(|(_, e)| **e != "-") {
            let topic = line[1].replace("{own}", rooms.own(subject)).replace("{other}", rooms.n.id.as_str());
            out.push(Cell { id: format!("r{row}s{subject}"), verb: line[0].into(), topic, subject, expected: (*expected).into() });
        }
    }
    out
}

struct Rooms {
    d: Device,
    w: Device,
    r: Device,
    n: Device,
}

impl Rooms {
    fn own(&self, subject: usize) -> &str {
        match SUBJECTS[subject] {
            "waiting" => self.w.id.as_str(),
            "rebase" => self.r.id.as_str(),
            _ => self.d.id.as_str(),
        }
    }
}

/// What one watcher has seen, and whose eyes they are.
struct Watcher {
    name: &'static str,
    stop: oneshot::Sender<()>,
    seen: JoinHandle<Vec<Publish>>,
}

fn watch(name: &'static str, mut client: Client<Stream>) -> Watcher {
    let (stop, mut stopped) = oneshot::channel();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            tokio::select! {
                event = client.next() => if let Event::Publish(p) = event.unwrap() { seen.push(p) },
                _ = &mut stopped => break,
            }
        }
        // Two exchanges: what was queued for it before the first is here after the second.
        client.ping().await.unwrap();
        client.ping().await.unwrap();
        while let Some(p) = client.receive(std::time::Duration::ZERO).await.unwrap() {
            seen.push(p);
        }
        seen
    });
    Watcher { name, stop, seen }
}

/// A Python with what a rig needs, made once below `target/`.
pub fn python(rig: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = root.join("target/rigs").join(rig);
    let wanted = root.join("tests/rigs").join(rig).join("requirements.txt");
    let (python, stamp) = (venv.join("bin/python"), venv.join("requirements.txt"));
    if std::fs::read(&stamp).ok() != Some(std::fs::read(&wanted).unwrap()) {
        let run = |command: &mut Command| {
            let done = command.output().unwrap();
            assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        run(Command::new(&python).args(["-m", "pip", "--quiet", "install", "-r"]).arg(&wanted));
        std::fs::copy(&wanted, &stamp).unwrap();
    }
    python
}

/// Runs a rig's script with `input` and reads the JSON it prints.
pub fn run_script(rig: &str, script: &str, input: &Value) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rigs").join(rig).join(script);
    let mut child =
        Command::new(python(rig)).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{script}: {errors}");
    serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{script} printed no JSON ({e}): {errors}"))
}

fn tokens(device: &Device, counters: std::ops::Range<u64>, nonce: u8) -> Vec<String> {
    counters.map(|c| device.keys.token(c, &[nonce; 16], &[])).collect()
}

/// Fits every place: a shadow request, a command, its result, a hello.
fn payload(subject: usize, marker: &str) -> String {
    let section = if subject < 3 { "reported" } else { "desired" };
    json!({"marker": marker, "clientToken": marker, "state": {section: {}}, "id": marker, "status": "done", "args": {},
           "nonce": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})
    .to_string()
}

/// What the watchers make of one publish: who got it as it was, and whether the hub answered it.
#[derive(Default)]
struct Seen {
    raw: Vec<&'static str>,
    answered: bool,
}

fn sort(watchers: Vec<(&'static str, Vec<Publish>)>) -> BTreeMap<String, Seen> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    for (name, messages) in watchers {
        for message in messages {
            let Ok(body) = serde_json::from_slice::<Value>(&message.payload) else { continue };
            if let Some(marker) = body["marker"].as_str() {
                seen.entry(marker.into()).or_default().raw.push(name);
            } else if (message.topic.ends_with("/accepted") || message.topic.ends_with("/rejected"))
                && let Some(marker) = body["clientToken"].as_str()
            {
                seen.entry(marker.into()).or_default().answered = true;
            }
        }
    }
    seen
}

/// Says what is wrong with one try of a cell; `None` when all is as expected.
fn judge(cell: &Cell, variant: &str, word: &str, seen: &Seen) -> Option<String> {
    let closed = word.starts_with("closed");
    let refused = match variant {
        // paho takes a refusing PUBREC for a good one and asks on: the hub knows nothing of the id (0x92).
        "v5q1" => word == "refused 0x87",
        "v5q2" => word == "refused 0x87" || word == "refused 0x92",
        "v5q0" => word == "closed 0x87",
        _ => closed,
    };
    let listeners: &[&str] = match SUBJECTS[cell.subject] {
        "claimed" => &["D", "manager", "operator", "owner", "viewer"],
        "waiting" => &["W"],
        _ => &[],
    };
    let raw: BTreeSet<_> = seen.raw.iter().copied().collect();
    let once = raw.len() == seen.raw.len();
    let is_request = cell.topic.contains("/shadow/");
    let silent = seen.raw.is_empty() && !seen.answered;
    let right = match cell.expected.as_str() {
        "delivered" => word == "ok" && once && raw == listeners.iter().copied().collect(),
        "handled" => word == "ok" && seen.raw.is_empty() && seen.answered == is_request,
        "refused" if cell.verb == "will" => silent,
        "refused" if cell.verb == "subscribe" => word == if variant.starts_with("v5") { "refused 0x87" } else { "refused 0x80" },
        "refused" => refused && silent,
        "closes" => closed && silent,
        heard => cell.verb == "subscribe" && word == heard,
    };
    (!right).then(|| {
        let Cell { verb, topic, subject, expected, .. } = cell;
        let answered = if seen.answered { ", answered" } else { "" };
        format!("{} {verb} {topic} ({variant}): expected {expected}, was `{word}`, seen by {:?}{answered}", SUBJECTS[*subject], seen.raw)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_matrix_is_as_it_stands_there() {
    let house = House::new().await;
    let mut devices = house.devices("lamp", 4).await;
    let (n, r, w, d) = (devices.pop().unwrap(), devices.pop().unwrap(), devices.pop().unwrap(), devices.pop().unwrap());
    let rooms = Rooms { d, w, r, n };
    house.claim(&rooms.d).await;
    let secret = fetch_secret(&house, &rooms.d).await;
    house.connect(&ConnectOptions::new("first").credentials(rooms.d.id.as_str(), secret.as_str())).await.unwrap();
    let (nora, nora_token) = house.person("nora", Role::Member).await;
    house.hub.service().claim(&nora, &rooms.n.code, None, "", "").await.unwrap();
    let mut people = vec![("olivia", house.owner_token.clone())];
    for (name, role, privilege) in [
        ("vera", Role::Guest, Some(Privilege::View)),
        ("otto", Role::Guest, Some(Privilege::Operate)),
        ("mona", Role::Member, Some(Privilege::Manage)),
        ("max", Role::Member, None),
        ("greta", Role::Guest, None),
    ] {
        people.push((name, house.person(name, role).await.1));
        if let Some(privilege) = privilege {
            let grant = Grant { to: Recipient::Person(name.into()), terms: Terms::of(privilege) };
            house.hub.service().grant(&house.owner, &rooms.d.id, grant).await.unwrap();
        }
    }

    let mut watchers = Vec::new();
    for (name, device) in [("D", &rooms.d), ("W", &rooms.w), ("N", &rooms.n)] {
        let mut client = house.connect_device(device).await;
        let (room, aws) = (device.topic("#"), format!("$aws/things/{}/shadow/#", device.id));
        client.subscribe(&[(&room, Qos::ExactlyOnce), (&aws, Qos::ExactlyOnce)]).await.unwrap();
        watchers.push(watch(name, client));
    }
    let named = SUBJECTS[3..].iter().zip(&people).map(|(name, (user, token))| (*name, *user, token));
    for (name, user, token) in named.chain([("nora", "nora", &nora_token)]) {
        let mut client = house.connect_person(user, token).await.unwrap();
        client.subscribe(&[("#", Qos::ExactlyOnce), ("$aws/#", Qos::ExactlyOnce)]).await.unwrap();
        watchers.push(watch(name, client));
    }
    // R has used a high counter: every lower one opens a re-base session.
    house.try_device(&rooms.r, hearthkey::sim::mqtt::Version::V5, 1_000_000).await.unwrap();

    let cells = cells(&rooms);
    assert!(cells.len() > 900, "{}", cells.len());
    let address = house.hub.addresses.mqtt.unwrap();
    let subjects: Vec<Value> = SUBJECTS
        .iter()
        .enumerate()
        .map(|(subject, name)| {
            let (username, passwords) = match *name {
                "claimed" => (rooms.d.id.to_string(), vec![secret.clone()]),
                "waiting" => (rooms.w.id.to_string(), tokens(&rooms.w, 100..5_000, 1)),
                "rebase" => (rooms.r.id.to_string(), tokens(&rooms.r, 1..5_000, 1)),
                _ => (format!("user:{}", people[subject - 3].0), vec![people[subject - 3].1.clone()]),
            };
            let mine: Vec<Value> = cells
                .iter()
                .filter(|c| c.subject == subject)
                .map(|c| json!({"id": c.id, "verb": c.verb, "topic": c.topic, "payload": payload(subject, "MARKER")}))
                .collect();
            json!({"name": name, "client_id": "paho", "username": username, "passwords": passwords, "cells": mine})
        })
        .collect();
    let prober = |room: &str, device: &Device, passwords: Vec<String>| json!({"name": room, "room": room, "topic": device.topic("probe"), "client_id": "prober", "username": device.id.as_str(), "passwords": passwords});
    let probers = [
        prober("D", &rooms.d, vec![secret.clone()]),
        prober("N", &rooms.n, tokens(&rooms.n, 100..102, 1)),
        prober("W", &rooms.w, tokens(&rooms.w, 50..52, 1)),
    ];
    let plan = json!({"host": address.ip().to_string(), "port": address.port(), "subjects": subjects, "probers": probers});
    let answer = tokio::task::spawn_blocking(move || run_script("paho", "cells.py", &plan)).await.unwrap();
    assert_eq!(answer["faults"], json!([]));

    let port = address.port();
    let tries: Vec<(Cell, String, String)> = cells
        .iter()
        .filter(|c| matches!(c.verb.as_str(), "publish" | "subscribe") && !c.topic.contains("{cell}"))
        .enumerate()
        .map(|(i, cell)| {
            let i = i as u64;
            let (user, password) = match SUBJECTS[cell.subject] {
                "claimed" => (rooms.d.id.to_string(), secret.clone()),
                "waiting" => (rooms.w.id.to_string(), tokens(&rooms.w, 10_000 + i..10_001 + i, 2).remove(0)),
                "rebase" => (rooms.r.id.to_string(), tokens(&rooms.r, 10_000 + i..10_001 + i, 2).remove(0)),
                _ => (format!("user:{}", people[cell.subject - 3].0), people[cell.subject - 3].1.clone()),
            };
            (cell.clone(), user, password)
        })
        .collect();
    let mosquitto = tokio::task::spawn_blocking(move || mosquitto(port, &tries)).await.unwrap();

    let mut seen = Vec::new();
    for watcher in watchers {
        watcher.stop.send(()).unwrap();
        seen.push((watcher.name, watcher.seen.await.unwrap()));
    }
    let seen = sort(seen);
    let nothing = Seen::default();
    let mut wrong = Vec::new();
    for cell in &cells {
        for variant in VARIANTS {
            let marker = format!("{}-{variant}", cell.id);
            let word = answer["results"][&marker].as_str().unwrap_or("not tried");
            wrong.extend(judge(cell, variant, word, seen.get(&marker).unwrap_or(&nothing)));
        }
        if let Some(word) = mosquitto.get(&cell.id) {
            let marker = format!("{}-mosquitto", cell.id);
            wrong.extend(judge_mosquitto(cell, word, seen.get(&marker).unwrap_or(&nothing)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cells' tries:\n{}", wrong.len(), cells.len() * VARIANTS.len(), wrong.join("\n"));
}

/// Four at a time; a session of a subject is one of at most four.
fn mosquitto(port: u16, tries: &[(Cell, String, String)]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    std::thread::scope(|scope| {
        // One thread per subject: sign-ins of one subject go one after the other, as its counter does.
        let workers: Vec<_> = (0..SUBJECTS.len())
            .map(|subject| {
                scope.spawn(move || {
                    let mine = tries.iter().filter(|(cell, ..)| cell.subject == subject);
                    mine.map(|(cell, user, password)| (cell.id.clone(), mosquitto_try(port, cell, user, password))).collect::<Vec<_>>()
                })
            })
            .collect();
        for worker in workers {
            out.extend(worker.join().unwrap());
        }
    });
    out
}

fn mosquitto_try(port: u16, cell: &Cell, user: &str, password: &str) -> String {
    let marker = format!("{}-mosquitto", cell.id);
    let port = port.to_string();
    let common =
        ["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1", "-d", "-i", "mosquitto", "-u", user, "-P", password, "-t", &cell.topic];
    let done = if cell.verb == "publish" {
        Command::new("mosquitto_pub").args(common).args(["-m", &payload(cell.subject, &marker)]).output()
    } else {
        Command::new("mosquitto_sub").args(common).args(["-E", "-W", "20"]).output()
    };
    let done = done.unwrap();
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

fn judge_mosquitto(cell: &Cell, output: &str, seen: &Seen) -> Option<String> {
    let variant = "v5q1";
    let said = |text: &str| output.contains(text);
    let word = if cell.verb == "publish" {
        if said("RC:135") {
            "refused 0x87"
        } else if said("PUBACK") && (said("RC:0)") || said("RC:16)")) {
            "ok"
        } else {
            "closed"
        }
    } else if said("): 135") {
        "refused 0x87"
    } else if said("): 1") {
        // It leaves before anything can be heard.
        &cell.expected
    } else {
        output
    };
    judge(cell, variant, word, seen).map(|w| format!("mosquitto: {w}\n    {}", output.replace('\n', "\n    ")))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_come_in_is_told_so_with_the_code_that_stands_in_the_matrix() {
    let house = House::new().await;
    let (device, other) = (house.device("lamp").await, house.device("lamp").await);
    house.claim(&device).await;
    let secret = fetch_secret(&house, &device).await;
    let suspended = house.device("lamp").await;
    house.claim(&suspended).await;
    let suspended_secret = fetch_secret(&house, &suspended).await;
    house.connect(&ConnectOptions::new("x").credentials(suspended.id.as_str(), suspended_secret.as_str())).await.unwrap();
    house.hub.service().suspend(&house.owner, &suspended.id, true).await.unwrap();
    house.person("max", Role::Member).await;
    let port = house.hub.addresses.mqtt.unwrap().port().to_string();
    let used = device.keys.token(50, &[1; 16], &[]);
    let (stream, _) = house.dial(Trust::Plain).await;
    Client::connect(stream, &ConnectOptions::new("x").credentials(device.id.as_str(), used.as_str())).await.unwrap();
    let mut wrong_secret = secret.clone();
    let last = if wrong_secret.pop() == Some('A') { 'Q' } else { 'A' };
    wrong_secret.push(last);
    let d = device.id.as_str();
    let mut nonce = 10;
    for line in lines().filter(|l| l.first() == Some(&"connect")) {
        for (version, code) in [("5", line[2]), ("311", line[3])] {
            // Whoever guesses in the device's name does not keep the device out.
            house.connect(&ConnectOptions::new("x").credentials(d, secret.as_str())).await.unwrap();
            nonce += 1;
            let token = |device: &Device, counter: u64, spki: &[u8]| device.keys.token(counter, &[nonce; 16], spki);
            let login: Option<(String, String)> = match line[1] {
                "anonymous" => None,
                "unknown device" => Some(("lamp-000000000000".into(), token(&device, 60, &[]))),
                "wrong secret" => Some((d.into(), wrong_secret.clone())),
                "secret of another" => Some((other.id.to_string(), secret.clone())),
                "token of another" => Some((d.into(), token(&other, 60, &[]))),
                "token for another hub key" => Some((d.into(), token(&device, 60, &[9; 32]))),
                "token again" => Some((d.into(), used.clone())),
                "person with a wrong token" => Some(("user:olivia".into(), "hkt1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into())),
                "person with the token of another" => Some(("user:max".into(), house.owner_token.clone())),
                "person with a password" => Some(("user:olivia".into(), "correct horse battery".into())),
                "suspended with its secret" => Some((suspended.id.to_string(), suspended_secret.clone())),
                "suspended with a token" => Some((suspended.id.to_string(), token(&suspended, 60, &[]))),
                "suspended with a wrong secret" => Some((suspended.id.to_string(), secret.clone())),
                other => panic!("nobody knows how to be: {other}"),
            };
            let mut command = Command::new("mosquitto_pub");
            command.args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-d", "-i", "x", "-t", "things/x/y", "-m", "m"]);
            if let Some((user, password)) = &login {
                command.args(["-u", user, "-P", password]);
            }
            let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            let number = code.strip_prefix("0x").map_or_else(|| code.parse(), |hex| u8::from_str_radix(hex, 16)).unwrap();
            assert!(said.contains(&format!("CONNACK ({number})")), "{} over {version}: expected {code}, was: {said}", line[1]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_speaks_tls_with_the_hubs_ca_and_refuses_without_it() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    house.claim(&device).await;
    let secret = fetch_secret(&house, &device).await;
    let ca = house.ca_file();
    let port = house.hub.addresses.mqtts.unwrap().port().to_string();
    let publish = |cafile: Option<&Path>| {
        let mut command = Command::new("mosquitto_pub");
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-V",
            "5",
            "-q",
            "1",
            "-d",
            "-i",
            "x",
            "-m",
            "1",
            "-u",
            device.id.as_str(),
            "-P",
            &secret,
        ]);
        command.args(["-t", &device.topic("temperature")]);
        match cafile {
            Some(path) => command.arg("--cafile").arg(path),
            None => command.args(["--capath", "/etc/ssl/certs"]),
        };
        command
    };
    let (mut with, mut without) = (publish(Some(&ca)), publish(None));
    let (with, without) = tokio::task::spawn_blocking(move || (with.output().unwrap(), without.output().unwrap())).await.unwrap();
    assert!(with.status.success(), "{}", String::from_utf8_lossy(&with.stderr));
    assert!(!without.status.success(), "a hub that nobody vouches for was believed");
}
