//! `hearthkey update`: how versions stand, a release from a file, the way back; and, of a hub that runs, whether there is a new one.

use super::Where;
use crate::hub::{self, UpdateEnded};
use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::PathBuf;

/// See and change the version of the hub.
#[derive(Args)]
pub struct UpdateArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Say what runs, what is tried, and how the last update ended.
    Status {
        #[command(flatten)]
        hub: Where,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask the vendor of the configuration whether there is a new version; nothing is changed.
    Check {
        #[command(flatten)]
        hub: Where,
    },
    /// Get the newest version from the vendor, check it, and try it: at once in a hub that runs, else at the next start.
    Apply {
        #[command(flatten)]
        hub: Where,
    },
    /// Take a release from a file, without any network; `FILE.release` has to lie beside it.
    FromFile {
        /// The archive.
        file: PathBuf,
        #[command(flatten)]
        hub: Where,
    },
    /// Go back to the version before.
    RollBack {
        #[command(flatten)]
        hub: Where,
    },
}

/// Runs the command; what it says goes to `out`.
///
/// # Errors
/// For a person, with what to do next.
pub fn run(args: UpdateArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let when = |runs| {
        if runs {
            "the hub changes to it as soon as nothing stands in the way"
        } else {
            "it is tried at the next start with `hearthkey run`"
        }
    };
    match args.action {
        Action::Status { hub, json } => status(&hub.load()?, json, out),
        Action::Check { hub } => {
            let config = hub.load()?;
            match runtime.block_on(hub::update_check(&config)).map_err(|e| anyhow!(e))? {
                Some(release) => writeln!(
                    out,
                    "Version {} is there (release {}, {} bytes).\n{}",
                    release.version, release.rel, release.size, release.notes
                )?,
                None => writeln!(out, "There is no newer version for this hub.")?,
            }
            Ok(())
        }
        Action::Apply { hub } => {
            let config = hub.load()?;
            let Some((release, runs)) = runtime.block_on(hub::update_apply(&config)).map_err(|e| anyhow!(e))? else {
                bail!("there is no newer version for this hub");
            };
            writeln!(out, "Version {} is genuine and lies ready: {}.", release.version, when(runs))?;
            Ok(())
        }
        Action::FromFile { file, hub } => {
            let (release, runs) = runtime.block_on(hub::update_from_file(&hub.load()?, &file)).map_err(|e| anyhow!(e))?;
            writeln!(out, "Version {} is genuine and lies ready: {}.", release.version, when(runs))?;
            Ok(())
        }
        Action::RollBack { hub } => {
            let runs = runtime.block_on(hub::update_roll_back(&hub.load()?)).map_err(|e| anyhow!(e))?;
            writeln!(out, "The version before is asked for: {}.", when(runs))?;
            Ok(())
        }
    }
}

fn status(config: &hub::Config, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let (ledger, current, last_good) = hub::update_ledger(config);
    if json {
        let line = serde_json::json!({"program": env!("CARGO_PKG_VERSION"), "current": current, "last_good": last_good, "ledger": ledger});
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let name =
        |version: Option<&str>| version.map_or_else(|| format!("{} (the program of the system)", env!("CARGO_PKG_VERSION")), str::to_owned);
    writeln!(out, "to run     {}", name(current.as_deref()))?;
    writeln!(out, "last good  {}", name(last_good.as_deref()))?;
    if let Some(trial) = &ledger.trial {
        writeln!(out, "tried      {}, {} starts so far", trial.version, trial.starts)?;
    }
    if let Some(last) = &ledger.last {
        let what = match last.ended {
            UpdateEnded::Updated => "stays",
            UpdateEnded::RolledBack => "was given up",
            UpdateEnded::Refused => "was not taken",
        };
        let why = if last.reason.is_empty() { String::new() } else { format!(": {}", last.reason) };
        writeln!(out, "last       {} {what}{why}", last.version.as_ref().map_or("?", |version| version.as_str()))?;
    }
    Ok(())
}
