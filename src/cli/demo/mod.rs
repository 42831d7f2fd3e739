//! `hearthkey demo`: a maker, a hub and three simulated devices on this machine, with nothing to configure; and
//! `--tour`, which tells the whole story by itself through public interfaces only, and checks every step of it.

#[cfg(feature = "cloud")]
mod away;
mod http;
mod life;
#[cfg(feature = "sim")]
mod nearby;
mod people;
mod stage;
mod steps;
mod tour;

use clap::Args;
use stage::Stage;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tour::Tour;

/// Try everything on this machine.
#[derive(Args)]
pub struct DemoArgs {
    /// Tell a story step by step, check each step, and end: `devices` unless another is named.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "devices")]
    tour: Option<Tour>,
    /// With --tour: name the steps and end.
    #[arg(long, requires = "tour")]
    list_steps: bool,
    /// With --tour: give this step something wrong to work with; it must fail there.
    #[arg(long, requires = "tour", value_name = "STEP")]
    r#break: Option<String>,
    /// Keep everything in this directory, and go on with it next time. Without it, a temporary one is used.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Runs the demo or the tour.
///
/// # Errors
/// What could not be set up, and what to do.
pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    if args.list_steps {
        for step in args.tour.unwrap_or(Tour::Devices).steps() {
            writeln!(out, "{:<16} {}", step.name, step.title)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if let Some(tour) = args.tour {
            let passed = tour::run(tour, args.r#break.as_deref(), &mut out).await?;
            return Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        show(args.dir, &mut out).await?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn show(dir: Option<PathBuf>, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let mut stage = Stage::build(dir, stage::Ports::Usual).await?;
    let (sender, mut events) = mpsc::channel(256);
    for index in 0..stage.devices.len() {
        stage.start_device(index, 1.0, Some(sender.clone()))?;
    }
    writeln!(out, "\n  Hearthkey demo: a hub and three devices that were given their identities at the factory.\n")?;
    writeln!(out, "  Open          https://localhost:{}", stage.hub.https.port())?;
    writeln!(
        out,
        "  (the browser warns once: the hub's own authority signed its certificate; http://localhost:{}/trust explains)",
        stage.hub.http.port()
    )?;
    match &stage.hub.setup_code {
        Some(code) => writeln!(out, "  Setup code    {code}")?,
        None => writeln!(out, "  The hub has its owner: sign in.")?,
    }
    writeln!(out, "  CA SHA-256    {}", stage.hub.ca_fingerprint)?;
    writeln!(out, "  MQTT (TLS)    localhost:{}", stage.hub.mqtts.port())?;
    writeln!(out, "\n  The labels on the devices; claim each with its code:")?;
    for device in &stage.devices {
        writeln!(out, "\n  {}  ({})\n  code  {}", device.title, device.id, device.grouped)?;
        for line in crate::factory::labels::terminal_qr(&device.label, std::io::stdout().is_terminal())?.lines() {
            writeln!(out, "    {line}")?;
        }
    }
    writeln!(out, "\n  Everything is in {}. Ctrl-C ends the demo.\n", stage.dir.display())?;
    out.flush()?;
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = int.recv() => break,
            _ = term.recv() => break,
            status = stage.hub.child.wait() => anyhow::bail!("the hub ended by itself ({}); its log is above", status?),
            Some((device, event)) = events.recv() => writeln!(out, "  {device}: {event}")?,
        }
    }
    writeln!(out, "\n  Ending the demo.")?;
    stage.end().await
}
