//! Nothing acknowledged is lost: PostgreSQL is killed while hubs sync, and so is the cloud itself.

use super::rig::{Line, Rig, TestHub, now_s, prepared_dir, row};
use hearthkey::cloud::Cloud;
use hearthkey::domain::mirror::wire::{Consent, Kind, SyncReply};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// Sends the next batch until it is acknowledged; whether it took more than one attempt.
async fn insist(hub: &mut TestHub, key: String) -> bool {
    let request = hub.batch(|b| b.put = vec![row(Kind::Device, &key, 1, 1, json!({"n": key}))]);
    let body = serde_json::to_vec(&request).unwrap();
    let mut failed = false;
    loop {
        let (sent, signature) = hub.signed("POST", &hub.own("/sync"), body.clone(), now_s());
        match hub.line.try_send(sent, &signature).await {
            Ok(reply) if reply.status == 200 => {
                let reply: SyncReply = serde_json::from_slice(&reply.body).unwrap();
                assert_eq!(reply.ack, request.batch);
                (hub.batch, hub.cursor) = (reply.ack, reply.cursor);
                return failed;
            }
            Ok(reply) => assert_eq!((reply.status, reply.code().as_str()), (503, "unavailable")),
            Err(_) => {}
        }
        failed = true;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_again_and_again_loses_nothing_that_was_acknowledged() {
    let rig = Rig::with(|config| config.limits.requests_per_minute = 1_000_000).await;
    let mut hub = rig.linked(1).await;
    let mut rounds = 0;
    for n in 0.. {
        if n % 10 == 5 {
            kill(rig.cloud.database_pid().expect("PostgreSQL runs"));
            rounds += 1;
        }
        insist(&mut hub, format!("d{n}")).await;
        if rounds == 3 && n % 10 == 9 {
            assert_eq!(rig.count("rows", &hub).await, n + 1);
            break;
        }
    }
    rig.end().await;
}

/// The program itself, as it is started by hand.
struct Program {
    child: std::process::Child,
    line: Line,
}

fn start(dir: &std::path::Path) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthkey"));
    command.args(["cloud", "--listen", "127.0.0.1:0", "--announce-json", "--log", "warn", "--data-dir"]).arg(dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told: Value = loop {
        let line = lines.next().expect("the cloud starts").unwrap();
        if let Ok(told) = serde_json::from_str(&line) {
            break told;
        }
    };
    let text = |name: &str| told[name].as_str().unwrap().to_owned();
    Program { child, line: Line::new(&text("url"), &text("ca_pem"), &text("key")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_is_killed_goes_on_where_it_was_over_the_postgresql_it_left_behind() {
    let dir = prepared_dir().await;
    let path = dir.0.clone();
    let mut program = tokio::task::spawn_blocking(move || start(&path)).await.unwrap();
    let mut hub = TestHub::new(program.line.clone(), 1);
    assert_eq!(hub.link(&Consent::ALL).await.status, 201);
    for n in 0..5 {
        insist(&mut hub, format!("d{n}")).await;
    }
    kill(program.child.id());
    program.child.wait().unwrap();
    // Its PostgreSQL runs on: the next one takes its place.
    let config = super::rig::config(&dir.0);
    let cloud = Cloud::start(config.clone()).await.unwrap();
    let rig = Rig { cloud, dir, config };
    hub.line = rig.line();
    assert_eq!(hub.line.key, program.line.key);
    insist(&mut hub, "d5".into()).await;
    assert_eq!(rig.count("rows", &hub).await, 6);
    rig.end().await;
}
