//! The command line: one thin file per subcommand, which turns arguments into a call and results into text.

pub mod audit;
pub mod backup;
#[cfg(feature = "cloud")]
pub mod cloud;
#[cfg(feature = "cloud")]
pub mod cloud_load;
pub mod demo;
pub mod device;
pub mod factory;
pub mod hub;
#[cfg(not(feature = "cloud"))]
pub mod no_cloud;
pub mod recover;

use clap::{Parser, Subcommand};
#[cfg(not(feature = "cloud"))]
use no_cloud as cloud;

/// Hearthkey: the home's authority on things.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub of a home.
    Hub(hub::HubArgs),
    /// Try everything on this machine: a maker, a hub, three devices.
    Demo(demo::DemoArgs),
    /// Run a simulated device.
    Device(device::DeviceArgs),
    /// Check the audit of a hub that is stopped.
    Audit(audit::AuditArgs),
    /// Back up a hub, and restore it.
    Backup(backup::BackupArgs),
    /// Make a hub that takes the place of one that is broken.
    Recover(recover::RecoverArgs),
    /// The maker's tool: brands, models, identities, batches, labels.
    Factory(factory::FactoryArgs),
    /// Run the reference cloud.
    Cloud(cloud::CloudArgs),
    /// Put simulated hubs to a cloud of your own, and see what they cost.
    #[cfg(feature = "cloud")]
    CloudLoad(cloud_load::CloudLoadArgs),
}

/// Runs what the arguments ask for.
///
/// # Errors
/// For a person, with what to do next.
pub fn run(cli: Cli) -> anyhow::Result<std::process::ExitCode> {
    match cli.command {
        Command::Hub(args) => hub::run(args).map(|()| std::process::ExitCode::SUCCESS),
        Command::Demo(args) => demo::run(args),
        Command::Device(args) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(device::run(args, &mut std::io::stdout()))?;
            Ok(std::process::ExitCode::SUCCESS)
        }
        Command::Audit(args) => audit::run(args, &mut std::io::stdout()).map(|()| std::process::ExitCode::SUCCESS),
        Command::Backup(args) => backup::run(args, &mut std::io::stdout()),
        Command::Recover(args) => recover::run(args, &mut std::io::stdout()).map(|()| std::process::ExitCode::SUCCESS),
        #[cfg(feature = "cloud")]
        Command::Cloud(args) => cloud::run(args, &mut std::io::stdout()).map(|()| std::process::ExitCode::SUCCESS),
        #[cfg(not(feature = "cloud"))]
        Command::Cloud(args) => cloud::run(&args).map(|()| std::process::ExitCode::SUCCESS),
        #[cfg(feature = "cloud")]
        Command::CloudLoad(args) => cloud_load::run(args, &mut std::io::stdout()),
        Command::Factory(args) => factory::run(args).map(|()| std::process::ExitCode::SUCCESS),
    }
}
