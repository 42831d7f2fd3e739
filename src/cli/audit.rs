//! `hearthkey audit`: looks into the audit of a hub that is stopped.

use crate::{config, hub};
use clap::{Args, Subcommand};
use figment::value::Dict;
use std::io::Write;
use std::path::PathBuf;

/// Check the audit of a hub.
#[derive(Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Check that no entry was changed or taken out. The hub must be stopped.
    Verify {
        /// Configuration file (TOML).
        #[arg(long, env = "HEARTHKEY_CONFIG")]
        config: Option<PathBuf>,
        /// Where the hub keeps its database and keys.
        #[arg(long)]
        data_dir: Option<PathBuf>,
    },
}

/// Runs the command; what it says goes to `out`.
///
/// # Errors
/// There is no hub, it is running, or the audit does not hold: then with the first entry that does not.
pub fn run(args: AuditArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let Action::Verify { config, data_dir } = args.action;
    let flags = data_dir.map(|dir| ("data_dir".to_owned(), dir.display().to_string().into()));
    let config = config::load(config.as_deref(), flags.into_iter().collect::<Dict>())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match runtime.block_on(hub::verify_audit(&config))? {
        None => writeln!(out, "The audit is empty.")?,
        Some(newest) => {
            let hash = data_encoding::HEXLOWER.encode(&newest.hash);
            writeln!(out, "The audit is whole: {} entries, each following the one before it.", newest.seq)?;
            writeln!(out, "The hash of the newest is {hash}.")?;
            writeln!(
                out,
                "Whoever could write the file could have made it anew: compare the hash with one you noted down, or with the hub's log."
            )?;
        }
    }
    Ok(())
}
