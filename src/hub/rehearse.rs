//! The rehearsal of a restore: into a directory of its own, as it would be on a new box; a hub is started over it that
//! nobody can reach and that calls nobody, is asked whether it would do, and is taken away again.

use super::restore::{RestoreError, open_chain};
use super::{BoxClock, Config, Hub, RestoreOrder, SystemBox, restore};
use crate::service::{Proof, RestoreReport, Secrets};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What is rehearsed.
pub struct Rehearsal {
    /// A full backup and the increments after it.
    pub files: Vec<PathBuf>,
    /// What opens them.
    pub secrets: Secrets,
    /// Somebody who would sign in, and the password.
    pub person: Option<(String, Zeroizing<String>)>,
    /// An empty directory, or one that is not there yet; it is gone afterwards.
    pub scratch: PathBuf,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// What was restored.
    pub report: RestoreReport,
    /// What was looked at.
    pub proofs: Vec<Proof>,
}

impl Rehearsed {
    /// Whether everything holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.proofs.iter().all(|proof| proof.holds)
    }
}

/// Restores backups into the scratch directory, and proves that the hub they make would do.
///
/// # Errors
/// [`RestoreError`]: it could not even be restored. The scratch directory is gone in any case.
pub async fn rehearse(config: &Config, order: Rehearsal) -> Result<Rehearsed, RestoreError> {
    // Nothing that is somebody's is ever taken away: only what is made here.
    let file_error = |source| RestoreError::File { path: order.scratch.display().to_string(), source };
    if order.scratch.exists() && order.scratch.read_dir().map_err(file_error)?.next().is_some() {
        return Err(RestoreError::NotEmpty(order.scratch.display().to_string(), "something".into()));
    }
    // That it opens is told before anything is written.
    drop(open_chain(order.files.clone(), &order.secrets).await?);
    let scratch = order.scratch.clone();
    let rehearsed = in_scratch(&unreachable(config, &scratch), order).await;
    let removed = std::fs::remove_dir_all(&scratch);
    if let Err(error) = removed {
        tracing::warn!(%error, dir = %scratch.display(), "the scratch directory could not be taken away: it has the home's secrets in it");
    }
    rehearsed
}

async fn in_scratch(config: &Config, order: Rehearsal) -> Result<Rehearsed, RestoreError> {
    let source: Arc<dyn BoxClock> = Arc::new(SystemBox::new(&config.clock));
    let restoring = RestoreOrder { files: order.files, secrets: order.secrets, set_aside: false, courier: None };
    let restored = restore(config, source.clone(), restoring).await?;
    let hub = Hub::start_by(config.clone(), source).await?;
    let summary = &restored.report.summary;
    let rows: u64 = summary.tables.values().map(|sum| sum.rows).sum();
    let compared = Proof {
        what: "content",
        holds: true,
        detail: format!("{rows} rows of {} tables, compared with what the backup says", summary.tables.len()),
    };
    let mut proofs = vec![compared];
    proofs.extend(hub.service().prove(summary, restored.report.made_at, order.person).await);
    hub.shut_down().await;
    Ok(Rehearsed { report: restored.report, proofs })
}

/// The same configuration, for a hub in `scratch` that opens no door, shows itself nowhere, and calls nobody.
fn unreachable(config: &Config, scratch: &Path) -> Config {
    let mut config = Config { data_dir: scratch.to_owned(), name: config.name.clone(), clock: config.clock.clone(), ..Config::default() };
    for door in [&mut config.https, &mut config.http, &mut config.mqtts, &mut config.mqtt] {
        door.enabled = false;
    }
    config.mdns.enabled = false;
    config.bluetooth.enabled = false;
    config.cloud.enabled = false;
    config.backup.enabled = false;
    config
}
