//! Where backups go, and the clockwork that makes them: folders, sticks and buckets; what lies there; when the next one is
//! due; which may go. What is in a file, and who may ask for one, is the service's.
//!
//! A file is written under another name, synced, read back and checked before it gets its own: what bears the name of a
//! backup is one. One run is [`round`]'s, the places are [`place`]'s with [`folder`] and [`bucket`], what lies there
//! [`catalogue`]'s.

mod bucket;
mod catalogue;
mod folder;
mod place;
mod round;

pub use catalogue::{Item, chain_to, listed};
pub use place::{Place, PlaceError};
pub use round::{NewestNote, RoundError, Wanted, back_up, newest_note};

use crate::service::{BackupOutcome, Service};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the clockwork looks, if nothing wakes it.
const LOOK: Duration = Duration::from_secs(30);
/// The directory in the hub's, for what is remembered of the newest backup and for files on their way to a bucket.
pub const DIR: &str = "backup";

/// What can be set about backups in the configuration. Where they go and when, an owner says on the hub's page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether backups are made at all.
    pub enabled: bool,
    /// A PEM file with authorities that are believed beside those of the system: for a store of one's own.
    pub ca_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config { enabled: true, ca_file: None }
    }
}

/// Makes backups when they are due or asked for, until `shutdown`; one that runs then is interrupted, and leaves nothing.
pub async fn run(service: Arc<Service>, config: Config, data_dir: PathBuf, shutdown: CancellationToken) {
    if !config.enabled {
        return;
    }
    let wakes = service.backup_wakes();
    let mut listed_for = None;
    loop {
        match service.backup_wanted() {
            Ok(Some(wish)) => {
                let wanted = Wanted { full: wish.full };
                let outcome = match back_up(&service, &config, &data_dir, wanted, shutdown.clone()).await {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        tracing::error!(%error, "no backup was made");
                        BackupOutcome::Failed { detail: error.to_string() }
                    }
                };
                if shutdown.is_cancelled() {
                    return;
                }
                if let Err(error) = service.backup_ended(&wish, outcome).await {
                    tracing::error!(%error, "how the backup ended could not be kept");
                }
                listed_for = None;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "whether a backup is due could not be read; it is tried again"),
        }
        // What lies at the target, once for every target and after every backup.
        if let Ok(settings) = service.backup_settings()
            && listed_for.as_ref() != Some(&settings.target)
        {
            show(&service, &config, &data_dir).await;
            listed_for = Some(settings.target);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = wakes.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Tells the service what lies at the target.
async fn show(service: &Arc<Service>, config: &Config, data_dir: &Path) {
    let Ok(settings) = service.backup_settings() else { return };
    let Some(target) = settings.target else {
        service.backups_listed(Vec::new());
        return;
    };
    let items = match Place::open(&target, config, &data_dir.join(DIR)).await {
        Ok(place) => place.list().await,
        Err(error) => Err(error),
    };
    match items {
        Ok(items) => service.backups_listed(listed(&items, Some(service.hub().id))),
        Err(error) => {
            tracing::warn!(%error, "what lies where backups go cannot be looked at");
            service.backups_listed(Vec::new());
        }
    }
}
