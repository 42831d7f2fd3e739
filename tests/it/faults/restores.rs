//! Killed in the midst of making a backup, and of putting one back: no half file counts as a backup, a restore can be repeated, and at
//! no time does a new hub begin where there was one.

use super::rig::Home;
use super::{chance, rounds, tell};
use crate::durability::Process;
use crate::house::{House, config};
use hearthkey::hub::{Ask, NewBackup, Passphrase, Rehearsal, Secrets, Target, ask_running, fetch_chain, list_backups, rehearse};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const PHRASE: &str = "seven geese cross the lake";

fn target(folder: &Path) -> Target {
    Target::Folder { path: folder.display().to_string() }
}

fn by_phrase() -> Secrets {
    Secrets { code: None, passphrase: Some(PHRASE.to_owned().into()) }
}

/// A home with some devices and a folder for its backups.
async fn home() -> (Home, TempDir) {
    let house = House::new().await;
    for device in house.devices("lamp", 40).await {
        house.claim(&device).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let new = NewBackup {
        target: Some(Some(target(folder.path()))),
        passphrase: Some(Some(Passphrase(PHRASE.to_owned().into()))),
        ..NewBackup::default()
    };
    house.hub.service().set_backups_by_console(new).await.unwrap();
    (Home::of(house).await, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_killed_while_it_makes_backups_has_no_half_one_among_them() {
    let (mut chance, rounds) = (chance(), rounds(3));
    let (home, folder) = home().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let mut good = 0;
    for round in 0..rounds {
        let process = Process::start(&home.data).await;
        let dir = home.data.clone();
        let full = round == 0 || chance.percent(50);
        let asking = tokio::spawn(async move { ask_running(&dir, &Ask::CreateBackup { full }, |_| ()).await });
        // The moment is what is tried here.
        tokio::time::sleep(Duration::from_micros(chance.next() % 400_000)).await;
        process.die().await;
        let _ = asking.await;
        let listed = list_backups(&config(&elsewhere), &target(folder.path())).await.unwrap();
        assert!(listed.iter().all(|backup| backup.good), "{listed:?}");
        // Older ones of the same day go; never the last.
        assert!(good == 0 || !listed.is_empty(), "the backups are gone");
        good = good.max(listed.len());
    }
    let process = Process::start(&home.data).await;
    ask_running(&home.data, &Ask::CreateBackup { full: false }, |_| ()).await.unwrap().unwrap();
    process.die().await;
    let files = fetch_chain(&config(&elsewhere), &target(folder.path()), None, elsewhere.path()).await.unwrap();
    let rehearsal = Rehearsal { files, secrets: by_phrase(), person: None, scratch: elsewhere.path().join("scratch") };
    assert!(rehearse(&config(&elsewhere), rehearsal).await.unwrap().holds());
    tell(&json!({"deaths while backing up": rounds, "whole backups": good}).to_string());
}

/// `hearthkey backup restore` as a process, which is killed after so long; whether it had come to its end.
async fn restore(data: &Path, folder: &Path, after: Option<Duration>) -> Result<bool, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthkey"));
    command.args(["backup", "restore", "--passphrase", "--set-aside", "--folder"]).arg(folder).arg("--data-dir").arg(data);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(format!("{PHRASE}\n").as_bytes()).await;
    drop(stdin);
    if let Some(after) = after {
        let ended = tokio::time::timeout(after, child.wait()).await;
        if ended.is_err() {
            child.kill().await.unwrap();
            return Ok(false);
        }
    }
    let done = child.wait_with_output().await.unwrap();
    if done.status.success() { Ok(true) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_is_repeated_and_no_new_hub_ever_begins_there() {
    let (mut chance, rounds) = (chance(), rounds(3));
    let (home, folder) = home().await;
    let process = Process::start(&home.data).await;
    ask_running(&home.data, &Ask::CreateBackup { full: true }, |_| ()).await.unwrap().unwrap();
    process.die().await;
    let began = std::time::Instant::now();
    assert_eq!(restore(&home.data, folder.path(), None).await, Ok(true));
    let whole = began.elapsed().as_micros() as u64;
    let mut cut = 0;
    for _ in 0..rounds {
        let after = Duration::from_micros(chance.next() % whole);
        match restore(&home.data, folder.path(), Some(after)).await {
            Ok(done) => cut += u64::from(!done),
            Err(why) => panic!("{why}"),
        }
        // Whatever stands there now, it is this hub: `start` finds that it has its owner.
        let process = Process::start(&home.data).await;
        assert_eq!(process.hub, home.hub);
        process.die().await;
        assert_eq!(restore(&home.data, folder.path(), None).await, Ok(true), "after a cut at {after:?}");
    }
    let aside = std::fs::read_dir(&home.data).unwrap().filter(|e| {
        let name = e.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("hub.redb.aside-")
    });
    assert!(aside.count() > 0);
    tell(&json!({"restores": rounds, "cut": cut}).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_last_two_steps_of_a_restore_the_hub_says_what_to_do() {
    let (home, _folder) = home().await;
    let aside: PathBuf = home.data.join("hub.redb.aside-1800000000");
    for with_journal in [true, false] {
        std::fs::rename(home.data.join("hub.redb"), &aside).unwrap();
        if !with_journal {
            std::fs::remove_file(home.data.join("hub.journal")).unwrap();
        }
        let (mut child, said) = Process::said(Process::command(&home.data)).await;
        let why = said["recovery_mode"].as_str().unwrap_or_else(|| panic!("a new hub began: {said}"));
        assert!(why.contains("it is gone"), "{why}");
        child.kill().await.unwrap();
        assert!(!home.data.join("hub.redb").exists());
        std::fs::rename(&aside, home.data.join("hub.redb")).unwrap();
        Process::start(&home.data).await.die().await;
    }
}
