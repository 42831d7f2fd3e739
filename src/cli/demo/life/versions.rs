//! The steps about the hub's own versions: under its supervisor it becomes another version, and goes back when the next one does not serve.
//!
//! A second build would take longer than the tour. The archives, what is signed of them, the supervisor, the trial and the way back are the real
//! ones; the program in each archive is a script that says another version of itself, and starts this program. `tests/system/update.sh` does the
//! same with two programs that were built.

use super::ours::{command_line, ours, program};
use super::runs;
use crate::cli::demo::people::wait_for_state;
use crate::cli::demo::stage::{hub_dir, stop_hub};
use crate::cli::demo::tour::Story;
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

const SECOND: &str = "90.0.0";
const THIRD: &str = "91.0.0";
/// Looks at how an update stands, and the pause between two: a minute.
const LOOKS: usize = 300;
const PAUSE: Duration = Duration::from_millis(200);

pub(in crate::cli::demo) async fn hub_update(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    supervise(story).await?;
    story.sent("(both versions are this program: a script in the archive says another number; archive, signature and trial are real)");
    let archive = release(story, SECOND, "").await?;
    if broken {
        let mut bytes = std::fs::read(&archive)?;
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        std::fs::write(&archive, bytes)?;
    }
    ensure!(take(story, &archive).await?, "the hub does not take the release");
    let last = ended(story, SECOND).await?;
    ensure!(last.get("ended") == Some(&json!("updated")), "the hub did not become version {SECOND}");
    serves(story, SECOND).await
}

pub(in crate::cli::demo) async fn hub_back(story: &mut Story, broken: bool) -> anyhow::Result<()> {
    story.sent(format!("version {THIRD}, which starts and says that it serves; its health check says that it does not"));
    let ill = r#"[ "$1" = doctor ] && { echo 'the twins do not answer' >&2; exit 1; }"#;
    let archive = release(story, THIRD, if broken { "" } else { ill }).await?;
    ensure!(take(story, &archive).await?, "the hub does not take the release");
    let last = ended(story, THIRD).await?;
    ensure!(last.get("ended") == Some(&json!("rolled_back")), "a version that is not well was kept");
    let reason = last.get("reason").and_then(Value::as_str).unwrap_or_default();
    ensure!(reason.contains("the twins do not answer"), "it was given up for another reason: {reason}");
    serves(story, SECOND).await
}

/// Starts the hub anew, under its supervisor and with a vendor.
async fn supervise(story: &mut Story) -> anyhow::Result<()> {
    let dir = story.stage()?.dir.clone();
    let made = ours(story, &["factory", "hub-key", "--out", &command_line(&dir.join("vendor.json"))], &[]).await?;
    let key = made.said.split('"').nth(1).context("the factory named no key")?.to_owned();
    let ports = story.stage()?.ports();
    let mut settings = format!("data_dir = {:?}\n", command_line(&hub_dir(&dir)));
    for (door, port) in ["https", "http", "mqtts"].iter().zip(ports) {
        settings.push_str(&format!("[{door}]\naddress = \"127.0.0.1:{port}\"\n"));
    }
    settings.push_str(&format!("[update]\nkey = \"{key}\"\nstarts = 1\nhealthy_s = 2\nhealth_every_s = 1\n"));
    std::fs::write(config(story)?, settings)?;
    let config = config(story)?;
    stop_hub(&mut story.stage()?.hub).await?;
    story.sent(format!("hearthkey run --config {} (the same hub, under its supervisor)", config.display()));
    let mut command = program()?;
    command.args(["run", "--log", "off", "--config"]).arg(&config).stdout(Stdio::null());
    story.stage()?.hub.child = command.spawn()?;
    story.http()?.wait_until_served().await?;
    let (owner, door) = (story.owner.clone(), story.door.clone());
    let view = story.call("GET", "/update", Some(&owner), None).await?;
    ensure!(view.body.get("supervised") == Some(&json!(true)), "the hub does not know of its supervisor");
    wait_for_state(story, &door, "ready").await
}

fn config(story: &mut Story) -> anyhow::Result<PathBuf> {
    Ok(story.stage()?.dir.join("hub.toml"))
}

/// The vendor signs a version, in whose script is `fault`.
async fn release(story: &mut Story, version: &str, fault: &str) -> anyhow::Result<PathBuf> {
    let dir = story.stage()?.dir.clone();
    let (script, site) = (dir.join(format!("hearthkey-{version}")), dir.join("site"));
    let this = std::env::current_exe().context("this program cannot find itself")?;
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && {{ echo 'hearthkey {version}'; exit 0; }}\n{fault}\nexec '{}' \"$@\"\n",
        this.display().to_string().replace('\'', r"'\''")
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let (script, out, key) = (command_line(&script), command_line(&site), command_line(&dir.join("vendor.json")));
    let order = ["factory", "hub-release", "--program", &script, "--version", version, "--key", &key, "--out", &out];
    ensure!(ours(story, &order, &[]).await?.well, "the vendor signed nothing");
    Ok(site.join(format!("hearthkey-{version}-{}.tar.gz", crate::hub::platform())))
}

async fn take(story: &mut Story, archive: &std::path::Path) -> anyhow::Result<bool> {
    let config = command_line(&config(story)?);
    Ok(ours(story, &["update", "from-file", &command_line(archive), "--config", &config], &[]).await?.well)
}

/// Waits for the end of the update to a version; how it ended, by the API of the hub that serves then.
async fn ended(story: &mut Story, version: &str) -> anyhow::Result<Value> {
    let (owner, http) = (story.owner.clone(), story.http()?);
    for _ in 0..LOOKS {
        // Between two versions nothing answers.
        if let Ok(view) = http.call("GET", "/update", Some(&owner), None).await
            && let Some(last) = view.body.get("last").filter(|last| last.get("version") == Some(&json!(version)))
        {
            story.came(format!("the update ended: {last}"));
            return Ok(last.clone());
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("the update to version {version} did not end")
}

/// The hub serves as this version, and the door is there.
async fn serves(story: &mut Story, version: &str) -> anyhow::Result<()> {
    let (owner, door) = (story.owner.clone(), story.door.clone());
    story.http()?.wait_until_served().await?;
    let view = story.call("GET", "/update", Some(&owner), None).await?;
    ensure!(view.body.get("version") == Some(&json!(version)), "another version than {version} serves");
    wait_for_state(story, &door, "ready").await?;
    runs(story, 3).await
}
