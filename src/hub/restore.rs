//! A hub from its backups: checked as a whole first, then filled into a database under another name, with what the journal
//! of the directory knows; until the last step nothing is there that could start.

use super::opening::{ASIDE, STORE_FILE, UNFINISHED, may_lie};
use super::recover::{Courier, CourierError};
use super::{BoxClock, Config, KeyError, StartError, SystemClock, keys, opening};
use crate::domain::mirror::statement::RecoveryRequest;
use crate::domain::time::Grade;
use crate::service::{
    BackupError, Chain, Clock, Refusal, Replayed, RestoreLife, RestoreReport, Secrets, begun_in, fill_from_backup, finish_review_in,
    replay_journal,
};
use crate::store::journal::{self, JOURNAL_FILE};
use crate::store::{MasterKey, OpenError, Store, WAL_FILE};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is restored, and how.
pub struct RestoreOrder {
    /// A full backup and the increments after it, in any order.
    pub files: Vec<PathBuf>,
    /// What opens them.
    pub secrets: Secrets,
    /// Sets a database aside that is there already: it stays, under another name.
    pub set_aside: bool,
    /// The cloud that is linked: it is told of the new epoch at once. Needs the recovery code.
    pub courier: Option<Arc<dyn Courier>>,
}

/// What has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredHub {
    /// What was restored.
    pub report: RestoreReport,
    /// What was taken from the journal of the directory.
    pub replayed: Option<Replayed>,
    /// Where the database is that was there before.
    pub set_aside: Option<PathBuf>,
    /// The cloud knows of the new epoch.
    pub begun: bool,
}

/// Why no hub was made. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something.
    #[error("{0} is not empty ({1} is there): name a directory that is empty or not there yet with --data-dir")]
    NotEmpty(String, String),
    /// There is a database.
    #[error(
        "there is a database in {0} already: stop the hub, and say --set-aside to keep it under another name; or name another directory with --data-dir"
    )]
    HasHub(String),
    /// A version is being tried: its way back would put another database over the one that is restored.
    #[error(
        "the version {0} of this hub is being tried in this directory: start `hearthkey run` there until it stays or is given up (`hearthkey update status` says), then stop it and restore"
    )]
    Trying(String),
    /// A backup's file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The backups.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The cloud.
    #[error(transparent)]
    Courier(#[from] CourierError),
    /// A cloud is asked, and there is no code.
    #[error("a cloud is told of the new hub by the recovery code alone: give it, or leave --cloud out")]
    CodeForCloud,
    /// The directory.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system.
    #[error("the system gave no randomness; try again")]
    Random,
}

impl From<OpenError> for RestoreError {
    fn from(error: OpenError) -> Self {
        RestoreError::Start(error.into())
    }
}

impl From<KeyError> for RestoreError {
    fn from(error: KeyError) -> Self {
        RestoreError::Start(error.into())
    }
}

impl From<Refusal> for RestoreError {
    fn from(error: Refusal) -> Self {
        RestoreError::Start(error.into())
    }
}

/// Makes a hub in the directory of `config` from backups.
///
/// # Errors
/// [`RestoreError`]; nothing that could start is left.
pub async fn restore(config: &Config, source: Arc<dyn BoxClock>, order: RestoreOrder) -> Result<RestoredHub, RestoreError> {
    let dir = config.data_dir.as_path();
    refuse_if_taken(dir, order.set_aside)?;
    if let Some(trial) = super::update_ledger(config).0.trial {
        return Err(RestoreError::Trying(trial.version.to_string()));
    }
    let chain = open_chain(order.files, &order.secrets).await?;
    let hub = chain.hub().ok_or(BackupError::NotABackup)?;
    let clock = SystemClock::new(source, 0, 0);
    let mut now_s = clock.now_ms() / 1000;
    let mut known_epoch = 0;
    if let Some(courier) = &order.courier {
        let code = order.secrets.code.as_ref().ok_or(RestoreError::CodeForCloud)?;
        let facts = courier.look().await?;
        if clock.grade() == Grade::None {
            now_s = facts.now_s;
        }
        let request = RecoveryRequest { hub, nonce: random()?, at_s: now_s, cloud: facts.key }.sign(&code.epoch_key(&hub));
        known_epoch = courier.bundle(&hub, request).await?.1;
    }
    let beside = dir.join(JOURNAL_FILE);
    let unreadable = |source| RestoreError::File { path: beside.display().to_string(), source };
    let noted = journal::read(&beside).map_err(unreadable)?.map(|found| found.known).filter(|k| k.hub == Some(*hub.as_bytes()));
    known_epoch = known_epoch.max(noted.as_ref().map_or(0, |noted| noted.epoch));
    opening::make_private(dir)?;
    let master = keys::master_key(dir, config.credentials_dir.as_deref(), true)?;
    let life = RestoreLife { code: order.secrets.code.clone(), seed: random()?, now: now_s.saturating_mul(1000), known_epoch };
    let made = fill(dir, chain, life, master, order.courier.as_deref(), now_s).await;
    let named = match made {
        Ok((report, replayed, begun)) => {
            name(dir, order.set_aside, now_s).map(|set_aside| RestoredHub { report, replayed, set_aside, begun })
        }
        Err(error) => Err(error),
    };
    if named.is_err() {
        let _ = fs::remove_file(dir.join(UNFINISHED));
    }
    named
}

/// Opens and checks files off the runtime's threads: it reads all of them.
pub(super) async fn open_chain(files: Vec<PathBuf>, secrets: &Secrets) -> Result<Chain<File>, RestoreError> {
    let secrets = secrets.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let open = |path: &PathBuf| {
            let wrong = |source| RestoreError::File { path: path.display().to_string(), source };
            File::open(path).map_err(wrong)
        };
        let files = files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, RestoreError>(Chain::open(files, &secrets)?)
    });
    opened.await.map_err(|_| fault())?
}

async fn fill(
    dir: &Path,
    chain: Chain<File>,
    life: RestoreLife,
    master: MasterKey,
    courier: Option<&dyn Courier>,
    now_s: u64,
) -> Result<(RestoreReport, Option<Replayed>, bool), RestoreError> {
    let path = dir.join(UNFINISHED);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(RestoreError::File { path: path.display().to_string(), source });
        }
        _ => {}
    }
    let store = tokio::task::spawn_blocking(move || Store::open_apart(&path, master)).await.map_err(|_| fault())??;
    let filled = fill_and_begin(&store, &dir.join(JOURNAL_FILE), chain, life, courier, now_s).await;
    store.close().await;
    filled
}

pub(super) async fn fill_and_begin(
    store: &Store,
    journal: &Path,
    chain: Chain<File>,
    life: RestoreLife,
    courier: Option<&dyn Courier>,
    now_s: u64,
) -> Result<(RestoreReport, Option<Replayed>, bool), RestoreError> {
    let (now, code, seed) = (life.now, life.code.clone(), life.seed);
    let mut report = fill_from_backup(store, chain, life).await?;
    // A journal that goes as far as the backup, or further, has everything that was revoked since on this box.
    let noted = journal::read(journal).ok().flatten().and_then(|found| found.known.newest_head());
    let newer = noted.is_some_and(|(seq, _)| report.audit_at.is_none_or(|at| at <= seq));
    let replayed = replay_journal(store, journal, now).await?;
    if newer && replayed.is_some_and(|r| !r.of_another_hub) {
        finish_review_in(store, now).await?;
        report.review = false;
    }
    let mut begun = false;
    if let (Some(courier), true, Some(_)) = (courier, report.signed, code) {
        // The last that can fail for a reason: from here on a hub before this one is told that it has been replaced.
        let mirror = ed25519_dalek::SigningKey::from_bytes(&seed);
        courier.begin(&report.hub, report.epoch, report.statement.clone(), mirror, now_s).await?;
        begun_in(store).await?;
        begun = true;
    }
    Ok((report, replayed, begun))
}

/// Gives the database its name; one that is there is set aside first.
pub(super) fn name(dir: &Path, set_aside: bool, now_s: u64) -> Result<Option<PathBuf>, RestoreError> {
    let file = dir.join(STORE_FILE);
    let wrong = |source| RestoreError::File { path: file.display().to_string(), source };
    let mut aside = None;
    if set_aside && file.exists() {
        let to = dir.join(format!("{ASIDE}{now_s}"));
        // What its file lacks, after a crash, is in the log.
        let log = dir.join(WAL_FILE);
        if log.exists() {
            let copy = dir.join(format!("{WAL_FILE}.aside-{now_s}"));
            fs::copy(&log, &copy).and_then(|_| File::open(&copy)?.sync_all()).map_err(wrong)?;
        }
        // A second name, so that at no time there is no database; where the file system has no such, it is moved, and a hub that is
        // started between the two steps says so.
        if fs::hard_link(&file, &to).is_err() {
            fs::rename(&file, &to).map_err(wrong)?;
        }
        // Before anything takes its place, so that no power cut leaves the new one alone.
        File::open(dir).and_then(|d| d.sync_all()).map_err(wrong)?;
        aside = Some(to);
    }
    fs::rename(dir.join(UNFINISHED), &file).map_err(wrong)?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(wrong)?;
    // What was remembered of backups is of the database before.
    let _ = fs::remove_file(dir.join("backup").join("index"));
    Ok(aside)
}

fn refuse_if_taken(dir: &Path, set_aside: bool) -> Result<(), RestoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(RestoreError::File { path: dir.display().to_string(), source }),
    };
    let path = || dir.display().to_string();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == STORE_FILE {
            if !set_aside {
                return Err(RestoreError::HasHub(path()));
            }
            // A hub that runs holds its file.
            let free = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
            if !free {
                return Err(OpenError::InUse(entry.path().display().to_string()).into());
            }
            continue;
        }
        if !may_lie(&name) {
            return Err(RestoreError::NotEmpty(path(), name));
        }
    }
    Ok(())
}

fn random<const N: usize>() -> Result<[u8; N], RestoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| RestoreError::Random)?;
    Ok(bytes)
}

fn fault() -> RestoreError {
    RestoreError::Start(StartError::Setting("restoring met a fault of this program: please report it"))
}
