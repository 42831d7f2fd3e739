//! One backup: to the place, under another name, synced, read back and checked, then named; then what may go, goes.

use super::catalogue::{chain_to, kept, listed};
use super::folder::{clear_unfinished, wrong};
use super::place::{EXTENSION, Place, PlaceError, UNFINISHED};
use super::{Config, DIR};
use crate::domain::backup::keep::{Retention, Schedule};
use crate::domain::backup::target::Target;
use crate::domain::backup::{Header, PLACE_MAX};
use crate::domain::ids::HubId;
use crate::service::{BackupError, BackupIndex, BackupOutcome, MadeBackup, Refusal, Service, check_backup};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What is remembered of the newest backup.
const INDEX: &str = "index";
/// Where the newest backup lies.
const NOTE: &str = "newest.json";
/// Increments after which a full one is made in any case: a restore reads all of them.
const INCREMENTS_MAX: u64 = 30;
const DAY_MS: u64 = 86_400_000;
/// Rows after which the progress is told.
const TOLD_EVERY: u64 = 1_000;

/// What is wanted of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// A full one also where an increment would do.
    pub full: bool,
}

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// There is no place for it.
    #[error("it is not set where backups go: say so on the page, or with `hearthkey backup set`")]
    NoTarget,
    /// The place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Making it.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// What was written is not what is read.
    #[error("what was written could not be read back as it was ({0}): the disk or stick may be failing; use another one")]
    ReadBack(BackupError),
    /// The service.
    #[error(transparent)]
    Service(#[from] Refusal),
}

/// Makes a backup at the target that is set. `stop` interrupts it; then nothing of it is left.
///
/// # Errors
/// [`RoundError`].
pub async fn back_up(
    service: &Arc<Service>,
    config: &Config,
    data_dir: &Path,
    wanted: Wanted,
    stop: CancellationToken,
) -> Result<BackupOutcome, RoundError> {
    let settings = service.backup_settings()?;
    let target = settings.target.ok_or(RoundError::NoTarget)?;
    let own = data_dir.join(DIR);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&own).map_err(|e| wrong(&own, e))?;
    let place = Place::open(&target, config, &own).await?;
    let hub = service.hub().id;
    let begins = format!(".hearthkey-{}-", short(&hub));
    clear_unfinished(place.staging(), &begins);
    clear_unfinished(&own, INDEX);
    let items = place.list().await?;
    let full_every = settings.schedule.unwrap_or_default();
    let mut previous = if wanted.full { None } else { remembered(&own.join(INDEX), &full_every, service.now()) };
    // An increment is of use only where all it goes on from lies.
    previous = previous.filter(|index| chain_to(&items, index.of.id).is_ok());
    let unfinished = place.staging().join(format!("{begins}{}{UNFINISHED}", service.now()));
    let next_index = own.join(format!("{INDEX}{UNFINISHED}"));
    let work = Work { service: service.clone(), file: unfinished.clone(), index: next_index.clone(), stop: stop.clone() };
    let written = tokio::task::spawn_blocking(move || match work.write(previous) {
        // The index is of another program's tables: then everything.
        Err(RoundError::Backup(BackupError::OtherTables)) => work.write(None),
        other => other,
    })
    .await
    .map_err(|_| PlaceError::Fault)
    .map_err(RoundError::from)
    .and_then(|written| written);
    let brought = match written {
        Ok(made) => {
            let name = name_of(&made.header);
            tokio::select! {
                () = stop.cancelled() => Err(BackupError::Interrupted.into()),
                brought = place.bring(&unfinished, &name) => brought.map(|()| (made, name)).map_err(RoundError::from),
            }
        }
        Err(error) => Err(error),
    };
    let (made, name) = match brought {
        Ok(done) => done,
        Err(error) => {
            let _ = fs::remove_file(&unfinished);
            let _ = fs::remove_file(&next_index);
            return Err(error);
        }
    };
    // If this is lost, the next one is a full one.
    if let Err(error) = fs::rename(&next_index, own.join(INDEX)) {
        tracing::warn!(%error, "what the next backup goes on from could not be kept: it will be a full one");
    }
    note_newest(&own, &target, &made.header);
    tidy(service, &place, &settings.retention).await;
    tracing::info!(%name, bytes = made.length, rows = made.rows, "a backup was made");
    Ok(BackupOutcome::Good { id: made.header.id.to_string(), name, bytes: made.length, full: made.header.follows.is_none() })
}

/// What a run has to do on a thread of its own.
struct Work {
    service: Arc<Service>,
    file: PathBuf,
    index: PathBuf,
    stop: CancellationToken,
}

impl Work {
    fn write(&self, previous: Option<BackupIndex>) -> Result<MadeBackup, RoundError> {
        let create = |path: &Path| {
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path).map_err(|e| wrong(path, e))
        };
        let (file, index) = (create(&self.file)?, create(&self.index)?);
        let mut told = 0;
        let mut go_on = |rows: u64| {
            if rows >= told + TOLD_EVERY {
                told = rows;
                self.service.backup_progress(rows);
            }
            !self.stop.is_cancelled()
        };
        let written = self.service.write_backup(previous, BufWriter::new(file), BufWriter::new(index), &mut go_on);
        let (made, file, index) = written.map_err(|error| match error {
            BackupError::Io(source) => RoundError::Place(wrong(&self.file, source)),
            other => other.into(),
        })?;
        for (buffered, path) in [(file, &self.file), (index, &self.index)] {
            let synced =
                buffered.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|mut f| f.flush().and_then(|()| f.sync_all()));
            synced.map_err(|e| wrong(path, e))?;
        }
        let mut again = File::open(&self.file).map_err(|e| wrong(&self.file, e))?;
        let seen = check_backup(&mut again).map_err(RoundError::ReadBack)?;
        if seen.header != made.header {
            return Err(RoundError::ReadBack(BackupError::Altered));
        }
        Ok(made)
    }
}

/// The index of the newest backup, if an increment may go on from it.
fn remembered(path: &Path, schedule: &Schedule, now: u64) -> Option<BackupIndex> {
    let index = match File::open(path).map_err(BackupError::from).and_then(BackupIndex::open) {
        Ok(index) => index,
        Err(BackupError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(%error, "what was remembered of the newest backup cannot be read: the next one is a full one");
            return None;
        }
    };
    let young = now.saturating_sub(index.of.base_at) < u64::from(schedule.full_every_days) * DAY_MS;
    let short = index.of.place + 1 < INCREMENTS_MAX.min(PLACE_MAX);
    (young && short && index.of.layout == crate::service::BACKUP_LAYOUT).then_some(index)
}

/// Takes away what is not kept any more, increments before what they go on from; and shows what is there.
async fn tidy(service: &Arc<Service>, place: &Place, retention: &Retention) {
    let items = match place.list().await {
        Ok(items) => items,
        Err(error) => {
            tracing::warn!(%error, "older backups could not be looked at; they stay");
            return;
        }
    };
    let hub = service.hub().id;
    let known = kept(&items, hub);
    let all: Vec<_> = known.iter().map(|(_, kept)| *kept).collect();
    let going = retention.to_go(&all, &service.home_zone());
    let mut gone = Vec::new();
    let mut names: Vec<_> = known.iter().filter(|(_, k)| going.contains(&k.id)).collect();
    names.sort_by_key(|(_, k)| std::cmp::Reverse(k.made_at));
    for (name, _) in names {
        match place.delete(name).await {
            Ok(()) => gone.push(name.clone()),
            Err(error) => tracing::warn!(%error, %name, "an older backup could not be taken away"),
        }
    }
    let left: Vec<_> = items.into_iter().filter(|item| !gone.contains(&item.name)).collect();
    service.backups_listed(listed(&left, Some(hub)));
}

/// The newest backup as it is noted beside the database, without any secret: when the database cannot be read, it is known
/// from here where to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestNote {
    /// Where it lies, for people.
    pub place: String,
    /// The folder, if it is one.
    pub folder: Option<String>,
    /// When it was made, for people.
    pub made: String,
}

/// The note in the hub's directory, if there is one.
#[must_use]
pub fn newest_note(data_dir: &Path) -> Option<NewestNote> {
    serde_json::from_slice(&fs::read(data_dir.join(DIR).join(NOTE)).ok()?).ok()
}

fn note_newest(own: &Path, target: &Target, header: &Header) {
    let folder = match target {
        Target::Folder { path } | Target::Usb { path } => Some(path.clone()),
        Target::S3(_) => None,
    };
    let at = i64::try_from(header.made_at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let made = at.map_or_else(|| "an unknown time".into(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string());
    let note = NewestNote { place: target.shown(), folder, made };
    let written = serde_json::to_vec(&note).map_err(std::io::Error::other).and_then(|json| {
        fs::write(own.join(format!("{NOTE}{UNFINISHED}")), json)?;
        fs::rename(own.join(format!("{NOTE}{UNFINISHED}")), own.join(NOTE))
    });
    if let Err(error) = written {
        tracing::warn!(%error, "where the newest backup lies could not be noted beside the database");
    }
}

/// A name that tells what it is, in the order of time.
fn name_of(header: &Header) -> String {
    let at = i64::try_from(header.made_at).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(|| header.made_at.to_string(), |at| at.strftime("%Y%m%dT%H%M%SZ").to_string());
    let kind = if header.follows.is_some() { "increment" } else { "full" };
    let id = header.id.to_string();
    format!("hearthkey-{}-{at}-{kind}-{}{EXTENSION}", short(&header.hub), id.get(..8).unwrap_or(&id))
}

fn short(hub: &HubId) -> String {
    hub.to_string().chars().take(8).collect()
}
