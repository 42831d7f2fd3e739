//! The command line: one thin file per subcommand, which turns arguments into a call and results into text.

pub mod audit;
pub mod backup;
#[cfg(feature = "cloud")]
pub mod cloud;
#[cfg(feature = "cloud")]
pub mod cloud_load;
pub mod demo;
pub mod device;
pub mod doctor;
pub mod factory;
pub mod hub;
#[cfg(not(feature = "cloud"))]
pub mod no_cloud;
pub mod recover;
pub mod run;
pub mod update;

use crate::{config, hub as hub_room};
use clap::{Args, Parser, Subcommand};
use figment::value::Dict;
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
    /// Keep the hub of a home running, and bring new versions of it.
    Run(run::RunArgs),
    /// See and change the version of the hub.
    Update(update::UpdateArgs),
    /// Look at everything a hub needs, and say what to do about what is wrong.
    Doctor(doctor::DoctorArgs),
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

/// Which hub.
#[derive(Args)]
pub(crate) struct Where {
    /// Configuration file (TOML).
    #[arg(long, env = "HEARTHKEY_CONFIG")]
    config: Option<std::path::PathBuf>,
    /// Where the hub keeps its database and keys.
    #[arg(long)]
    data_dir: Option<std::path::PathBuf>,
}

impl Where {
    fn load(self) -> anyhow::Result<hub_room::Config> {
        let flags = self.data_dir.map(|dir| ("data_dir".to_owned(), dir.display().to_string().into()));
        config::load(self.config.as_deref(), flags.into_iter().collect::<Dict>())
    }
}

/// Runs what the arguments ask for.
///
/// # Errors
/// For a person, with what to do next.
pub fn run(cli: Cli) -> anyhow::Result<std::process::ExitCode> {
    match cli.command {
        Command::Hub(args) => hub::run(args).map(|()| std::process::ExitCode::SUCCESS),
        Command::Run(args) => run::run(args).map(|()| std::process::ExitCode::SUCCESS),
        Command::Update(args) => update::run(args, &mut std::io::stdout()).map(|()| std::process::ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::run(args, &mut std::io::stdout(), &mut std::io::stderr()),
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
