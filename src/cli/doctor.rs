//! `hearthkey doctor`: what is wrong with this box and this hub, and what to do about it. It changes nothing.

use super::Where;
use crate::hub::{self, Severity};
use clap::Args;
use std::io::Write;
use std::process::ExitCode;

/// The exit code when nothing is broken, and something soon will be. 2 is clap's, for arguments that it does not know.
const WARNED: u8 = 3;

/// Look at everything a hub needs, and say what to do about what is wrong.
///
/// Ends with 0 when all is well, 1 when the hub does not serve or cannot start, 3 when something else is wrong.
#[derive(Args)]
pub struct DoctorArgs {
    /// Only ask whether the hub that runs serves: 0 when it does, 1 when not. For supervisors.
    #[arg(long)]
    health: bool,
    /// The findings as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: Where,
}

/// Runs the command; findings go to `out`, why a hub is not healthy to `err`.
///
/// # Errors
/// The configuration cannot be read.
pub fn run(args: DoctorArgs, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let config = args.hub.load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if args.health {
        let health = runtime.block_on(hub::is_healthy(&config));
        if args.json {
            writeln!(out, "{}", serde_json::json!({"healthy": health.is_ok(), "problem": health.as_ref().err()}))?;
        }
        return Ok(match health {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                writeln!(err, "{problem}")?;
                ExitCode::FAILURE
            }
        });
    }
    let findings = runtime.block_on(hub::examine(&config));
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
    if args.json {
        writeln!(out, "{}", serde_json::json!({"worst": worst, "findings": findings}))?;
    } else {
        for finding in &findings {
            let mark = match finding.severity {
                Severity::Ok => "ok     ",
                Severity::Note => "note   ",
                Severity::Warning => "warning",
                Severity::Error => "ERROR  ",
            };
            writeln!(out, "{mark}  {:12}  {}", finding.code, finding.found)?;
            if !finding.fix.is_empty() {
                writeln!(out, "                       -> {}", finding.fix)?;
            }
        }
    }
    Ok(match worst {
        Severity::Ok | Severity::Note => ExitCode::SUCCESS,
        Severity::Warning => ExitCode::from(WARNED),
        Severity::Error => ExitCode::FAILURE,
    })
}
