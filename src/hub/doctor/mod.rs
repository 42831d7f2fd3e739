//! `hearthkey doctor`: what is wrong with this box and this hub, and what to do about each. It looks, and changes nothing: a hub that runs is
//! asked, one that is stopped is looked at from outside.

mod machine;
mod place;
mod reach;

use super::{Config, HealthReport, ask_health};
use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Something does not work, or soon will not.
    Warning,
    /// The hub does not serve, or cannot start.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a word that stays.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when there is nothing to do.
    pub fix: String,
}

impl Finding {
    fn ok(code: &'static str, found: impl Into<String>) -> Finding {
        Finding { code, severity: Severity::Ok, found: found.into(), fix: String::new() }
    }

    fn new(code: &'static str, severity: Severity, found: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { code, severity, found: found.into(), fix: fix.into() }
    }
}

/// Looks at everything.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let running = ask_health(&config.data_dir).await;
    let settings = config.clone();
    let place = tokio::task::spawn_blocking(move || [place::look(&settings), machine::look()].concat());
    let mut all = place.await.unwrap_or_default();
    all.insert(0, hub(&running));
    let report = running.ok();
    all.push(place::database(config, report.as_ref()).await);
    all.extend(reach::ports(config, report.as_ref()).await);
    all.push(reach::clock(report.as_ref()));
    all.extend(reach::certificates(report.as_ref()));
    all.push(reach::bluetooth(config).await);
    all.push(reach::cloud(config, report.as_ref()));
    all.push(reach::versions(config));
    all
}

/// The one question of a supervisor: does the hub of this directory serve?
///
/// # Errors
/// In words.
pub async fn is_healthy(config: &Config) -> Result<(), String> {
    let report = ask_health(&config.data_dir).await?;
    report.problem.map_or(Ok(()), Err)
}

fn hub(running: &Result<HealthReport, String>) -> Finding {
    match running {
        Ok(HealthReport { problem: Some(problem), version, .. }) => Finding::new(
            "hub",
            Severity::Error,
            format!("the hub {version} runs, and does not serve: {problem}"),
            "Look at its log. If the disk is well and has room, restart it.",
        ),
        Ok(report) if !report.not_provisioned.is_empty() => Finding::new(
            "hub",
            Severity::Warning,
            format!("the hub {} serves, without what its configuration names: {}", report.version, report.not_provisioned.join("; ")),
            "Put the files where the configuration says, or take them out of it; then restart the hub.",
        ),
        Ok(report) => Finding::ok("hub", format!("the hub {} serves (process {})", report.version, report.pid)),
        Err(_) => Finding::new(
            "hub",
            Severity::Note,
            "no hub runs over this data directory",
            "Start it: `hearthkey run`, or `systemctl start hearthkey`.",
        ),
    }
}
