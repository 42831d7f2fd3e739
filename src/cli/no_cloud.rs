//! `hearthkey cloud` in a program that was built without it: says how to build it.

use anyhow::bail;
use clap::Args;

/// Run the reference cloud (not in this build).
#[derive(Args)]
pub struct CloudArgs {
    /// Whatever the cloud would take.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// Always, with what to do.
pub fn run(_args: &CloudArgs) -> anyhow::Result<()> {
    bail!("this program was built without the cloud: build it with `cargo build --release --features cloud`")
}
