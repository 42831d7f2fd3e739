//! The matrix of who may do what (`matrix.csv`), each cell tried against a running hub by clients of other people:
//! paho-mqtt and mosquitto. Clients of this crate only watch: they count what arrives, and where.

mod connect;
mod judge;
mod mosquitto;
mod scene;
mod table;
mod watch;

use crate::house::House;
use crate::signing_in::fetch_secret;
use judge::{Seen, judge, sort};
use scene::Scene;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const VARIANTS: [&str; 6] = ["v4q0", "v4q1", "v4q2", "v5q0", "v5q1", "v5q2"];

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

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_matrix_is_as_it_stands_there() {
    let scene = Scene::new().await;
    let cells = table::cells(&scene);
    assert!(cells.len() > 2_000, "{}", cells.len());
    let watchers = scene.watchers().await;
    // R has used a high counter: every lower one opens a re-base session.
    scene.house.try_device(&scene.rooms.r, hearthkey::sim::mqtt::Version::V5, 1_000_000).await.unwrap();

    let address = scene.house.hub.addresses.mqtt.unwrap();
    let subjects: Vec<Value> = scene
        .subjects
        .iter()
        .enumerate()
        .map(|(subject, who)| {
            let mine: Vec<Value> = cells
                .iter()
                .filter(|c| c.subject == subject)
                .map(|c| json!({"id": c.id, "verb": c.verb, "topic": c.topic, "payload": who.payload("MARKER")}))
                .collect();
            json!({"name": who.name, "client_id": "paho", "username": who.username, "passwords": scene.passwords(who), "cells": mine})
        })
        .collect();
    let plan = json!({"host": address.ip().to_string(), "port": address.port(), "subjects": subjects, "probers": scene.probers()});
    let answer = tokio::task::spawn_blocking(move || run_script("paho", "cells.py", &plan)).await.unwrap();
    assert_eq!(answer["faults"], json!([]));
    let tries = mosquitto::tries(&scene, &cells);
    let mosquitto = tokio::task::spawn_blocking(move || mosquitto::all(address.port(), &tries)).await.unwrap();

    let mut seen = Vec::new();
    for watcher in watchers {
        seen.push(watcher.end().await);
    }
    let mut seen = sort(&scene.rooms, seen);
    let mut wrong = std::mem::take(&mut seen.strays);
    let nothing = Seen::default();
    for cell in &cells {
        let who = &scene.subjects[cell.subject];
        let of = |marker: &str| seen.of.get(marker).unwrap_or(&nothing);
        for variant in VARIANTS {
            let marker = format!("{}-{variant}", cell.id);
            let word = answer["results"][&marker].as_str().unwrap_or("not tried");
            wrong.extend(judge(&scene.rooms, who, cell, variant, word, of(&marker)));
        }
        if let Some(word) = mosquitto.get(&cell.id) {
            wrong.extend(mosquitto::judge(&scene.rooms, who, cell, word, of(&format!("{}-mosquitto", cell.id))));
        }
    }
    let sent = seen.of.values().filter(|s| !s.news.is_empty()).count();
    assert!(wrong.is_empty(), "{} wrong of {} cells' tries:\n{}", wrong.len(), cells.len() * VARIANTS.len(), wrong.join("\n"));
    assert_eq!(seen.commands, sent, "the devices were told other commands than were sent");
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
