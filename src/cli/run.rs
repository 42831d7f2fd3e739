//! `hearthkey run`: keeps a hub running, tries a new version, and goes back when that does not serve.

use super::hub::{HubArgs, start_log};
use crate::hub;
use anyhow::{Context, bail};
use clap::Args;
use std::ffi::OsString;

/// Keep the hub of a home running, and bring new versions of it.
///
/// Takes what `hearthkey hub` takes, and hands it on. A new version stays when it serves for a while; otherwise the one before comes back.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs until it is told to stop.
///
/// # Errors
/// Why there is no supervisor.
pub fn run(args: RunArgs) -> anyhow::Result<()> {
    if args.hub.has_action() {
        bail!("`hearthkey run` runs a hub; for what is done without one, use `hearthkey hub`");
    }
    start_log(args.hub.log())?;
    let config = args.hub.load()?;
    let program = std::env::current_exe().context("this program does not find itself")?;
    let supervisor = hub::supervisor(&config, program, handed_on())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(supervisor.run())?)
}

/// What stands after `run` on the command line.
fn handed_on() -> Vec<OsString> {
    std::env::args_os().skip_while(|argument| argument != "run").skip(1).collect()
}
