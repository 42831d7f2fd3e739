//! Commands of this program, as a person types them: what was typed and what it said are shown, secrets are not.

use crate::cli::demo::tour::Story;
use anyhow::{Context, anyhow, ensure};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Longest that a command takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a command ended.
pub(super) struct Ended {
    /// With exit code 0.
    pub(super) well: bool,
    /// What it said, on both outputs.
    pub(super) said: String,
}

/// This program, with settings for a look.
pub(super) fn program() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program cannot find itself")?);
    command.env("HEARTHKEY_MDNS__ENABLED", "false").env("HEARTHKEY_BLUETOOTH__ENABLED", "false");
    command.env("HEARTHKEY_CLOCK__TRUSTED", "true").env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// A path on a command line.
pub(super) fn command_line(path: &Path) -> String {
    path.display().to_string()
}

/// Runs a command; `typed` are the lines that it asks for.
pub(super) async fn ours(story: &mut Story, arguments: &[&str], typed: &[&str]) -> anyhow::Result<Ended> {
    story.sent(format!("hearthkey {}", arguments.join(" ")));
    let mut command = program()?;
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().ok_or_else(|| anyhow!("nothing can be typed"))?;
    // A command that refuses before it asks reads nothing, and its input is closed.
    let _ = input.write_all(typed.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes()).await;
    drop(input);
    let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    ensure!(done.is_ok(), "hearthkey {} did not end within {} s", arguments.join(" "), PATIENCE.as_secs());
    let done = done??;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        story.came(line);
    }
    Ok(Ended { well: done.status.success(), said })
}
