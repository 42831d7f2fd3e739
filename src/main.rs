//! Arguments → command → exit code.

use clap::Parser;
use hearthkey::cli::{Cli, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            use std::io::Write;
            // Nothing to do when even this cannot be written.
            let _ = writeln!(std::io::stderr(), "hearthkey: {error:#}");
            ExitCode::FAILURE
        }
    }
}
