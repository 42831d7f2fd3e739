//! A machine that lacks something: descriptors, a radio.

use super::rig::{Home, run};
use crate::durability::Process;
use crate::house::House;
use hearthkey::sim::mqtt::{Message, Qos};
use hearthkey::sim::tls::Trust;
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Command;

fn open_descriptors(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_sessions_go_on_and_new_ones_wait_until_there_are_some() {
    let house = House::new().await;
    let devices = house.devices("lamp", 2).await;
    for device in &devices {
        house.claim(device).await;
    }
    let home = Home::of(house).await;
    let process = Process::start(&home.data).await;
    let (client, _) = process.tls(&devices[0], Trust::FirstUse).await;
    let mut client = client.unwrap();
    let update = devices[0].topic("shadow/update");
    client.subscribe(&[(&format!("{update}/accepted"), Qos::AtLeastOnce)]).await.unwrap();
    let most = open_descriptors(&process) + 3;
    assert!(run("prlimit", &["--pid", &process.id().to_string(), &format!("--nofile={most}:")]));
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(TcpStream::connect(process.plain).await.unwrap());
    }
    while open_descriptors(&process) < most {
        tokio::task::yield_now().await;
    }
    // Who is in is served, to the disk and back.
    for n in 1..=5 {
        let body = format!(r#"{{"state": {{"reported": {{"brightness": {n}}}}}}}"#);
        client.publish(&Message::new(&*update, body, Qos::AtLeastOnce)).await.unwrap();
        assert!(client.receive(Duration::from_secs(10)).await.unwrap().is_some(), "update {n}");
    }
    // Somebody new comes while there is no room, and is served as soon as there is.
    let waiting = process.tls(&devices[1], Trust::FirstUse);
    let (waited, ()) = tokio::join!(waiting, async {
        client.ping().await.unwrap();
        drop(held);
    });
    waited.0.unwrap().ping().await.unwrap();
    client.ping().await.unwrap();
    let (status, _) = home.caller(&process).call("GET", "/devices", None).await.unwrap();
    assert_eq!(status, 200);
    process.die().await;
    home.audit(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_radio_and_without_its_bus_the_hub_serves_and_says_what_is_missing() {
    let home = Home::of(House::new().await).await;
    let nowhere = format!("unix:path={}", home.dir.path().join("no-bus").display());
    let mut command = Process::command(&home.data);
    command.env("HEARTHKEY_BLUETOOTH__ENABLED", "true").env("DBUS_SYSTEM_BUS_ADDRESS", &nowhere);
    let process = Process::by(command).await;
    let (status, _) = home.caller(&process).call("GET", "/devices", None).await.unwrap();
    assert_eq!(status, 200);
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_hearthkey"));
    doctor.args(["doctor", "--json", "--data-dir"]).arg(&home.data).env("DBUS_SYSTEM_BUS_ADDRESS", &nowhere);
    let said = doctor.env("HEARTHKEY_BLUETOOTH__ENABLED", "true").output().await.unwrap();
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    let findings = said.as_array().or_else(|| said["findings"].as_array()).unwrap();
    let found = findings.iter().find(|finding| finding["code"] == "bluetooth").unwrap();
    assert!(found["severity"] != "ok" && found["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{found}");
    process.die().await;
}
