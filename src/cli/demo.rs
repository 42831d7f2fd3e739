//! stub
use clap::Args;
/// stub
#[derive(Args)]
pub struct DemoArgs {}
/// stub
/// # Errors
/// none
pub fn run(_args: DemoArgs) -> anyhow::Result<std::process::ExitCode> {
    Ok(std::process::ExitCode::SUCCESS)
}
