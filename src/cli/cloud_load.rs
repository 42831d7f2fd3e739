//! `hearthkey cloud-load`: simulated hubs against a cloud of one's own, for figures.

use crate::cloud::load::{self, Phase, Process, Settings};
use anyhow::bail;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Put simulated hubs to a cloud of your own, and see what they cost.
#[derive(Args)]
pub struct CloudLoadArgs {
    /// The cloud's public URL.
    #[arg(long, default_value = "https://localhost:9443")]
    url: String,
    /// PEM file of the cloud's own CA.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// The cloud may be on another machine: it is mine, and may be loaded.
    #[arg(long)]
    yes_elsewhere: bool,
    /// Simulated hubs.
    #[arg(long, default_value_t = 1_000)]
    hubs: usize,
    /// Devices of each hub.
    #[arg(long, default_value_t = 10)]
    devices: usize,
    /// Rounds; in a round, each hub syncs once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Changed rows of a sync; 0 for hubs that only ask.
    #[arg(long, default_value_t = 5)]
    rows: usize,
    /// Each so many syncs of a hub, a right is ended by a mark and given again; 0 for never.
    #[arg(long, default_value_t = 10)]
    mark_every: usize,
    /// How many hubs sync at the same time; several, with commas, for a phase of all rounds each.
    #[arg(long, value_delimiter = ',', default_value = "16")]
    at_a_time: Vec<usize>,
    /// Each hub keeps its stream of wake-ups open.
    #[arg(long)]
    wake: bool,
    /// For so many seconds, when they have sent everything, the hubs do nothing.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    idle: u64,
    /// Each sync makes a connection of its own.
    #[arg(long, conflicts_with = "wake")]
    reconnect: bool,
    /// A process (with all below it) whose processor time and memory is told, such as cloud=4711. May be given more than once.
    #[arg(long, value_name = "NAME=PID", value_parser = Process::parse)]
    watch: Vec<Process>,
    /// Print everything as one JSON object.
    #[arg(long)]
    json: bool,
    /// Instead of all this, write so many made-up identities to the standard output, to try an upload with.
    #[arg(long, value_name = "COUNT", requires_all = ["brand", "model"])]
    write_identities: Option<u64>,
    /// Their brand.
    #[arg(long)]
    brand: Option<String>,
    /// Their model.
    #[arg(long)]
    model: Option<String>,
}

/// Runs the command. Not a success when a hub's turn failed.
///
/// # Errors
/// Why there was no load, and what to do.
pub fn run(args: CloudLoadArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if let Some(count) = args.write_identities {
        load::write_identities(out, count, args.brand.as_deref().unwrap_or_default(), args.model.as_deref().unwrap_or_default())?;
        return Ok(ExitCode::SUCCESS);
    }
    let json = args.json;
    let settings = Settings {
        url: args.url,
        ca_file: args.ca_file,
        elsewhere: args.yes_elsewhere,
        hubs: args.hubs,
        devices: args.devices,
        rounds: args.rounds,
        rows: args.rows,
        mark_every: args.mark_every,
        widths: args.at_a_time,
        wake: args.wake,
        idle_s: args.idle,
        reconnect: args.reconnect,
        processes: args.watch,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let ending = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
            ending.cancel();
        });
        if !json {
            writeln!(out, "{}", Phase::HEAD)?;
        }
        let told = |phase: &Phase| {
            if !json {
                // Whoever reads no more also stops the load, by its signal.
                let _ = writeln!(out, "{phase}").and_then(|()| out.flush());
            }
        };
        anyhow::Ok(load::run(&settings, &stop, told).await?)
    })?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    }
    if report.stopped {
        bail!("ended before its end; what stands above was measured until then");
    }
    Ok(if report.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
