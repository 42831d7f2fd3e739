//! The steps about backups: one is made while the hub runs, it is rehearsed, the hub is destroyed and restored, and what was revoked after the
//! backup stays revoked.

use super::ours::{command_line, ours};
use super::runs;
use crate::cli::demo::http::Http;
use crate::cli::demo::people::{OWNER_PASSWORD, closes, command, invitation, kept, swapped, wait_for_state};
use crate::cli::demo::stage::{hub_dir, start_hub};
use crate::cli::demo::steps::{DOOR, text};
use crate::cli::demo::tour::Story;
use crate::sim::device::{Event, SignIn};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The journal's name, beside the database.
const JOURNAL: &str = "hub.journal";

pub(in crate::cli::demo) async fn backup(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (owner, door) = (story.owner.clone(), story.door.clone());
    // Without anything that opens it, a backup is of no use, and is not made.
    if !broken {
        let code = story.call("POST", "/recovery", Some(&owner), Some(json!({"password": OWNER_PASSWORD}))).await?;
        ensure!(code.status < 300, "the owner got no recovery code");
        story.kept.insert("recovery", text(&code.body, "/code")?);
    }
    invitation(story, false).await?;
    let twin = story.call("GET", &format!("/devices/{door}/twin"), Some(&owner), None).await?;
    story.kept.insert("reported", reported(&twin.body).to_string());
    let (folder, hub) = (folder(story)?, hub(story)?);
    std::fs::create_dir(&folder)?;
    let set = ["backup", "set", "--folder", &folder.display().to_string(), "--data-dir", &hub];
    ensure!(ours(story, &set, &[]).await?.well, "the folder was not taken");
    let made = ours(story, &["backup", "create", "--data-dir", &hub], &[]).await?;
    ensure!(made.well && made.said.contains("A full backup was made and read back"), "no backup was made");
    let gus = kept(story, "gus-id")?;
    let revoked = story.call("DELETE", &format!("/devices/{door}/bindings/{gus}"), Some(&owner), None).await?;
    ensure!(revoked.status == 200, "Gus' right was not taken away");
    let token = kept(story, "gus")?;
    ensure!(matches!(command(story, &token, "open").await?, 403 | 404), "Gus opens the door without a right");
    Ok(())
}

pub(in crate::cli::demo) async fn rehearse(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let code = kept(story, "recovery")?;
    let file = newest(&folder(story)?)?;
    let altered = story.stage()?.dir.join("altered.hkbk");
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    std::fs::write(&altered, bytes)?;
    let (hub, file) = (hub(story)?, file.display().to_string());
    story.sent("a copy of the backup in which one bit has fallen over");
    let altered = ["backup", "rehearse", &altered.display().to_string(), "--data-dir", &hub];
    ensure!(!ours(story, &altered, &[&code]).await?.well, "an altered backup was taken for a good one");
    story.sent("the backup as it is, with a mistyped recovery code");
    let wrong = ["backup", "rehearse", &file, "--data-dir", &hub];
    ensure!(!ours(story, &wrong, &[&swapped(&code)]).await?.well, "a wrong code opened the backup");
    story.sent("the backup as it is, the code from the drawer, and the owner's password");
    let code = if broken { swapped(&code) } else { code };
    let right = ["backup", "rehearse", &file, "--user", "olivia", "--data-dir", &hub];
    let seen = ours(story, &right, &[&code, OWNER_PASSWORD]).await?;
    ensure!(seen.well && seen.said.contains("A restore would do"), "the backup would make no hub");
    Ok(())
}

pub(in crate::cli::demo) async fn restore(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    let (code, folder, id) = (kept(story, "recovery")?, folder(story)?, story.stage()?.hub.id.clone());
    let stage = story.stage()?;
    let (dir, ports) = (stage.dir.clone(), stage.ports());
    stage.hub.child.kill().await?;
    destroy(&hub_dir(&dir), !broken)?;
    story.sent(format!(
        "kill -9; everything in the hub's directory is gone{}",
        if broken { ", the journal too" } else { " but the journal, which lies beside the database" }
    ));
    let hub = hub(story)?;
    let again = ["backup", "restore", "--folder", &folder.display().to_string(), "--data-dir", &hub];
    let restored = ours(story, &again, &[&code]).await?;
    ensure!(restored.well, "no hub was made of the backup");
    ensure!(restored.said.contains("From the journal of this directory came"), "what was revoked since the backup is not known");
    ensure!(
        !restored.said.contains("What was revoked since is not known"),
        "the journal goes further than the backup, and is not believed"
    );
    // What the devices did before the hub broke is of no interest any more.
    while story.events.try_recv().is_ok() {}
    let hub = start_hub(&dir, ports, None).await?;
    story.came(format!("hub {} serves HTTPS {}, MQTT over TLS {}", hub.id, hub.https, hub.mqtts));
    ensure!(hub.id == id && hub.setup_code.is_none(), "another hub has come back");
    let http = Http::trusting(hub.http, hub.https, &hub.ca_fingerprint).await?;
    http.wait_until_served().await?;
    story.http = Some(http);
    story.stage()?.hub = hub;
    Ok(())
}

pub(in crate::cli::demo) async fn reconnect(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    if broken {
        story.sent("the door's plug is pulled");
        let running = story.stage()?.devices.get_mut(DOOR).and_then(|door| door.running.take());
        if let Some((stop, task)) = running {
            stop.cancel();
            let _ = task.await;
        }
        while story.events.try_recv().is_ok() {}
    }
    let by_secret = |e: &Event| matches!(e, Event::SignedIn { with: SignIn::Secret }).then_some(());
    story.wait_for("garage door", "sign in with what it has, without being claimed again", by_secret).await?;
    let olivia = json!({"username": "olivia", "password": OWNER_PASSWORD});
    let signed_in = story.call("POST", "/sessions", None, Some(olivia)).await?;
    ensure!(signed_in.status == 201, "the owner cannot sign in with her name and password");
    story.owner = text(&signed_in.body, "/token")?;
    let (owner, door) = (story.owner.clone(), story.door.clone());
    wait_for_state(story, &door, "ready").await?;
    let twin = story.call("GET", &format!("/devices/{door}/twin"), Some(&owner), None).await?;
    let now = reported(&twin.body).to_string();
    ensure!(now == kept(story, "reported")?, "the twin is not as it was");
    runs(story, 3).await?;
    ensure!(closes(story, &owner).await?, "the door does not obey its owner");
    let gus = json!({"username": "gus", "password": "blau und 3 Äpfel im Korb"});
    let signed_in = story.call("POST", "/sessions", None, Some(gus)).await?;
    ensure!(signed_in.status == 201, "Gus cannot sign in");
    let refused = command(story, &text(&signed_in.body, "/token")?, "open").await?;
    ensure!(matches!(refused, 403 | 404), "what was taken away from Gus has come back with the backup");
    let whole = story.call("GET", "/audit/verify", Some(&owner), None).await?;
    ensure!(whole.body.get("whole") == Some(&json!(true)), "the chain is broken");
    Ok(())
}

/// What the door says of itself, without what changes by itself.
fn reported(twin: &Value) -> Value {
    let pick = |name: &str| twin.pointer(&format!("/reported/{name}")).cloned().unwrap_or_default();
    json!({"position": pick("position"), "state": pick("state")})
}

fn folder(story: &mut Story) -> anyhow::Result<PathBuf> {
    Ok(story.stage()?.dir.join("nas"))
}

/// The hub's directory, as it is typed.
fn hub(story: &mut Story) -> anyhow::Result<String> {
    Ok(command_line(&hub_dir(&story.stage()?.dir)))
}

fn newest(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension() == Some(OsStr::new("hkbk")));
    files.sort();
    files.pop().context("there is no backup in the folder")
}

/// Takes away what is in a hub's directory.
fn destroy(dir: &Path, spare_journal: bool) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if spare_journal && entry.file_name() == JOURNAL {
            continue;
        }
        if entry.file_type()?.is_dir() { std::fs::remove_dir_all(entry.path())? } else { std::fs::remove_file(entry.path())? }
    }
    Ok(())
}
