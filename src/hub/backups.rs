//! Backups of a hub that is stopped, and what lies where backups go: for the command line.

use super::opening::{Opened, open_stopped};
use super::{Config, FoundBackup, StartError, keys};
use crate::backup::{self, DIR, Item, Place, PlaceError, RoundError, Wanted, back_up, chain_to, listed};
use crate::domain::backup::BackupId;
use crate::domain::backup::target::Target;
use crate::service::{Actor, BackupOutcome, BackupView, ListedBackup, NewBackup, Refusal, Service, check_backup};
use jiff::tz::TimeZone;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum BackupsError {
    /// The hub.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The backup.
    #[error(transparent)]
    Round(#[from] RoundError),
    /// A backup that cannot be restored from there.
    #[error("{0}")]
    Chain(String),
}

impl From<Refusal> for BackupsError {
    fn from(error: Refusal) -> Self {
        BackupsError::Start(error.into())
    }
}

/// Makes a backup of a hub that is stopped, where it is set.
///
/// # Errors
/// [`BackupsError`].
pub async fn create_backup(config: &Config, full: bool) -> Result<BackupOutcome, BackupsError> {
    let service = stopped(config).await?;
    let outcome = create_by(&service, config, full).await;
    service.close().await;
    outcome
}

async fn create_by(service: &Arc<Service>, config: &Config, full: bool) -> Result<BackupOutcome, BackupsError> {
    drop(service.order_backup_by_console(full)?);
    let wish = service.backup_wanted()?.ok_or(StartError::Setting("the backup was not begun: please report it"))?;
    let made = back_up(service, &config.backup, &config.data_dir, Wanted { full }, CancellationToken::new()).await;
    let outcome = made.as_ref().map_or_else(|error| BackupOutcome::Failed { detail: error.to_string() }, Clone::clone);
    service.backup_ended(&wish, outcome).await?;
    Ok(made?)
}

/// Sets how backups of a hub that is stopped are made.
///
/// # Errors
/// [`BackupsError`].
pub async fn set_backups(config: &Config, new: NewBackup) -> Result<(), BackupsError> {
    let service = stopped(config).await?;
    let set = service.set_backups_by_console(new).await;
    service.close().await;
    Ok(set?)
}

/// How they are set and how they stand, for a hub that is stopped; what lies there is looked at.
///
/// # Errors
/// [`BackupsError`].
pub async fn show_backups(config: &Config) -> Result<BackupView, BackupsError> {
    let service = stopped(config).await?;
    let seen = async {
        if let Some(target) = service.backup_settings()?.target {
            let items = items(config, &target).await?;
            service.backups_listed(listed(&items, Some(service.hub().id)));
        }
        Ok::<_, BackupsError>(service.backups(&Actor::console())?)
    };
    let seen = seen.await;
    service.close().await;
    seen
}

/// What lies at a target.
///
/// # Errors
/// [`BackupsError`].
pub async fn list_backups(config: &Config, target: &Target) -> Result<Vec<ListedBackup>, BackupsError> {
    Ok(listed(&items(config, target).await?, None))
}

/// Reads everything that lies at a target, and checks it as far as it can be without a secret: by its hub's signature.
///
/// # Errors
/// [`BackupsError`]: the place; what is wrong with a file is said in the list.
pub async fn verify_backups(config: &Config, target: &Target, scratch: &Path) -> Result<Vec<ListedBackup>, BackupsError> {
    let place = open(config, target).await?;
    let items = place.list().await?;
    let mut all = listed(&items, None);
    for backup in all.iter_mut().filter(|backup| backup.id.is_some()) {
        let file = place.fetch(&backup.name, scratch).await?;
        let checking = file.clone();
        let checked = tokio::task::spawn_blocking(move || File::open(&checking).map_err(Into::into).and_then(|mut f| check_backup(&mut f)));
        if let Err(error) = checked.await.map_err(|_| PlaceError::Fault)? {
            (backup.good, backup.problem) = (false, Some(error.to_string()));
        }
        if file.starts_with(scratch) {
            let _ = std::fs::remove_file(file);
        }
    }
    Ok(all)
}

/// The files that it takes to restore a backup: that with this id (or a beginning of it), or the newest good one. What is
/// elsewhere is copied into `scratch`.
///
/// # Errors
/// [`BackupsError`].
pub async fn fetch_chain(config: &Config, target: &Target, id: Option<&str>, scratch: &Path) -> Result<Vec<PathBuf>, BackupsError> {
    let place = open(config, target).await?;
    let items = place.list().await?;
    let all = listed(&items, None);
    let meant = match id {
        Some(id) => all.iter().find(|b| b.id.as_deref().is_some_and(|known| known.starts_with(id)) || b.name == id),
        None => all.iter().find(|b| b.good),
    };
    let meant = meant.and_then(|b| BackupId::parse(b.id.as_deref()?)).ok_or_else(|| {
        BackupsError::Chain(match id {
            Some(id) => format!("there is no whole backup {id} at the {}", target.shown()),
            None => format!("there is no good backup at the {}", target.shown()),
        })
    })?;
    let mut files = Vec::new();
    for item in chain_to(&items, meant).map_err(BackupsError::Chain)? {
        files.push(place.fetch(&item.name, scratch).await?);
    }
    Ok(files)
}

/// The newest backup as the hub has noted it outside of its database: for the day on which that cannot be read.
#[must_use]
pub fn newest_kept(config: &Config) -> Vec<FoundBackup> {
    let Some(note) = backup::newest_note(&config.data_dir) else { return Vec::new() };
    let from = match &note.folder {
        Some(folder) => format!("--folder {folder}"),
        None => "--target FILE (see docs/backup.md)".into(),
    };
    vec![FoundBackup {
        place: note.place,
        made: note.made,
        command: format!("hearthkey backup restore {from} --set-aside --data-dir {}", config.data_dir.display()),
    }]
}

/// The folder in which the newest backup lies, as it is noted beside the database.
#[must_use]
pub fn noted_folder(config: &Config) -> Option<Target> {
    backup::newest_note(&config.data_dir)?.folder.map(|path| Target::Folder { path })
}

async fn items(config: &Config, target: &Target) -> Result<Vec<Item>, BackupsError> {
    Ok(open(config, target).await?.list().await?)
}

async fn open(config: &Config, target: &Target) -> Result<Place, BackupsError> {
    target.check().map_err(BackupsError::Chain)?;
    Ok(Place::open(target, &config.backup, &config.data_dir.join(DIR)).await?)
}

/// The use cases of a hub that is stopped, over its own store.
async fn stopped(config: &Config) -> Result<Arc<Service>, BackupsError> {
    let Opened { store, clock } = open_stopped(config).await?;
    let built = async {
        let (identity, _) = keys::load(&store, &config.name, clock.now_ms() / 1000).await.map_err(StartError::from)?;
        Ok::<_, StartError>(Service::in_zone(store.clone(), clock, identity, Some(TimeZone::system())).await?)
    };
    match built.await {
        Ok(service) => Ok(service),
        Err(error) => {
            store.close().await;
            Err(error.into())
        }
    }
}
