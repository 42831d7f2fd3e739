//! `hearthkey audit`: looks into the audit of a hub that is stopped, and checks what was exported of one.

use super::Where;
use crate::hub;
use clap::{Args, Subcommand};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Check or export the audit of a hub.
#[derive(Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Check that no entry was changed or taken out. The hub must be stopped, unless a file is checked.
    Verify {
        /// A file that was exported: it is checked without a hub.
        #[arg(long, conflicts_with = "data_dir")]
        file: Option<PathBuf>,
        #[command(flatten)]
        hub: Where,
    },
    /// Write the audit as JSON Lines, oldest first. The hub must be stopped.
    Export {
        /// Into this new file; to standard output unless given.
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        hub: Where,
    },
}

/// Runs the command; what it says goes to `out`.
///
/// # Errors
/// There is no hub, it is running, or the audit does not hold: then with the first entry that does not.
pub fn run(args: AuditArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.action {
        Action::Verify { file: Some(path), .. } => {
            let file = File::open(&path).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
            let found = hub::verify_audit_file(BufReader::new(file))?;
            writeln!(out, "The file says that it is the audit of the hub {}, written at {}.", found.hub, moment(found.at))?;
            tell(&found.verdict, out)?;
            writeln!(out, "Compare the hub with the one you know: a file of another hub is whole too.")?;
        }
        Action::Verify { file: None, hub } => {
            tell(&runtime.block_on(hub::verify_audit(&hub.load()?))?, out)?;
            writeln!(
                out,
                "Whoever has the file and its key could have made it anew: compare the hash with one you noted down, or with the hub's log."
            )?;
        }
        Action::Export { out: Some(path), hub } => {
            // It says who did what from where: for its owner alone, and never over a file that is there.
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let file = file.map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
            runtime.block_on(hub::export_audit(&hub.load()?, BufWriter::new(file)))?;
            writeln!(out, "Written. `hearthkey audit verify --file {}` checks it.", path.display())?;
        }
        Action::Export { out: None, hub } => runtime.block_on(hub::export_audit(&hub.load()?, std::io::stdout()))?,
    }
    Ok(())
}

fn tell(seen: &hub::AuditVerdict, out: &mut dyn Write) -> std::io::Result<()> {
    let Some((newest, hash)) = seen.newest else { return writeln!(out, "The audit is empty.") };
    writeln!(out, "The audit is whole: {} entries up to number {newest}, each following the one before it.", seen.entries)?;
    for (from, to) in &seen.gaps {
        writeln!(out, "The hub itself has cut the entries {from} to {to}, because there was no room for them.")?;
    }
    if seen.erased > 0 {
        writeln!(out, "What was personal has been erased from {} of them.", seen.erased)?;
    }
    writeln!(out, "The hash of the newest is {}.", data_encoding::HEXLOWER.encode(&hash))
}

fn moment(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| format!("{ms} ms since 1970"), |t| t.to_string())
}
