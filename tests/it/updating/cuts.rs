//! The power goes between every two steps of an update and of a way back: the next start goes on from there, and the hub serves.

use super::rig::{Fault, Rig};
use crate::faults::tell;
use hearthkey::hub::{Hub, update_from_file};
use serde_json::{Value, json};
use std::fs;

async fn with_database(rig: &Rig) {
    Hub::start(rig.config.clone()).await.unwrap().shut_down().await;
}

fn files(rig: &Rig) -> Vec<String> {
    let names = fs::read_dir(&rig.config.data_dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("hub.redb")).collect();
    names.sort();
    names
}

/// Does `steps` steps in a supervisor that is then gone; whether there were as many.
fn steps(rig: &Rig, steps: usize) -> bool {
    let mut supervisor = rig.supervisor();
    (0..steps).all(|_| supervisor.step().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_was_cut_off_after_any_step_goes_on_at_the_next_start() {
    let mut done = 0;
    for cut in 0.. {
        let rig = Rig::new();
        with_database(&rig).await;
        update_from_file(&rig.config, &rig.release("7.1.0", Fault::None)).await.unwrap();
        if !steps(&rig, cut) {
            break;
        }
        if cut <= 1 {
            // The power went in the midst of the step that follows: what was written of it has no name yet.
            fs::write(rig.config.data_dir.join("hub.redb.before-7.1.0.new"), b"half of a copy").unwrap();
            fs::write(rig.config.data_dir.join("update/ledger.json.new"), b"{\"trial\":").unwrap();
        }
        let running = rig.supervise();
        let ledger = rig.ended(1, &running).await;
        assert_eq!(
            (&ledger["current"], &ledger["last_good"], &ledger["ledger"]["last"]["ended"]),
            (&json!("7.1.0"), &json!("7.1.0"), &json!("updated")),
            "cut {cut}"
        );
        running.serving().await;
        assert_eq!(files(&rig), ["hub.redb"], "cut {cut}");
        running.stop().await;
        done += 1;
    }
    tell(&format!("an update that was cut off after each of {done} steps went on"));
    assert!(done >= 4, "{done} steps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_was_cut_off_after_any_step_ends_with_the_database_of_before() {
    let mut done = 0;
    for cut in 0.. {
        let rig = Rig::new();
        with_database(&rig).await;
        update_from_file(&rig.config, &rig.release("7.1.0", Fault::Crash)).await.unwrap();
        while steps(&rig, 1) {}
        let before = fs::read(rig.config.data_dir.join("hub.redb.before-7.1.0")).unwrap();
        // The new version has made something else of the database, and is given up.
        fs::write(rig.config.data_dir.join("hub.redb"), b"of another layout").unwrap();
        let file = rig.config.data_dir.join("update/ledger.json");
        let mut ledger: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        ledger["trial"]["back"] = json!("it ended");
        fs::write(&file, ledger.to_string()).unwrap();
        let more = steps(&rig, cut);
        while steps(&rig, 1) {}
        assert_eq!(fs::read(rig.config.data_dir.join("hub.redb")).unwrap(), before, "cut {cut}");
        assert_eq!(
            (&rig.ledger()["current"], &rig.ledger()["ledger"]["last"]["ended"]),
            (&Value::Null, &json!("rolled_back")),
            "cut {cut}"
        );
        Hub::start(rig.config.clone()).await.unwrap().shut_down().await;
        if !more {
            break;
        }
        done += 1;
    }
    tell(&format!("a way back that was cut off after each of {done} steps went on"));
    assert!(done >= 3, "{done} steps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_is_killed_takes_its_hub_with_it_and_the_next_one_goes_on() {
    let rig = Rig::new();
    let mut running = rig.supervise();
    let first = running.serving().await;
    update_from_file(&rig.config, &rig.release("7.1.0", Fault::None)).await.unwrap();
    running.die().await;
    let running = rig.supervise();
    assert_ne!(running.serving().await.pid, first.pid);
    // The wish lay there all the while.
    assert_eq!(rig.ended(1, &running).await["current"], "7.1.0");
    running.stop().await;
}
