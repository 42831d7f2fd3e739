//! The rehearsal of a restore: into a directory of its own, as it would be on a new box; a hub is started over it that
//! nobody can reach and that calls nobody, is asked whether it would do, and is taken away again. An owner may ask for it on the page of
//! the hub that runs; how it went is kept there, whoever has done it.

use super::opening::{STORE_FILE, make_private};
use super::restore::{RestoreError, open_chain};
use super::{Ask, BoxClock, Config, Hub, RestoreOrder, SystemBox, ask_running, fetch_chain, restore};
use crate::service::{Proof, Proven, RehearsalResult, RehearsalWish, RestoreReport, Secrets, Service};
use crate::update::free_bytes;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// Where a running hub rehearses, in its directory: gone afterwards, and at the next start.
pub(super) const REHEARSAL_DIR: &str = "rehearsal";
/// A copy of the backup and two of the database it makes fit into so many times its size, and this.
const ROOM: (u64, u64) = (4, 64 * 1024 * 1024);

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

impl Rehearsed {
    /// As it is kept; `files` are what was restored, and `took` is how long it took, in ms.
    fn result(&self, files: &[PathBuf], took_ms: u64) -> RehearsalResult {
        let proofs = self.proofs.iter().map(|p| Proven { what: p.what.to_owned(), holds: p.holds, detail: p.detail.clone() });
        let wrong: Vec<String> = self.proofs.iter().filter(|p| !p.holds).map(|p| format!("{}: {}", p.what, p.detail)).collect();
        let detail = match wrong.first() {
            None => String::new(),
            Some(_) => format!("A restore would not do: {}. Make a full backup, and rehearse again", wrong.join("; ")),
        };
        RehearsalResult {
            took_ms,
            backup: newest_name(files),
            made_at: Some(self.report.made_at),
            good: self.holds(),
            proofs: proofs.collect(),
            detail,
            ..RehearsalResult::default()
        }
    }
}

fn newest_name(files: &[PathBuf]) -> String {
    files.last().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Tells the hub that runs in the directory of `config` how a rehearsal beside it went, if it was of that hub; whether it was told.
pub async fn keep_rehearsal(config: &Config, files: &[PathBuf], seen: &Rehearsed, took_ms: u64) -> bool {
    let ask = Ask::Rehearsed { hub: seen.report.hub, result: Box::new(seen.result(files, took_ms)) };
    matches!(ask_running(&config.data_dir, &ask, |_| {}).await, Some(Ok(_)))
}

/// Rehearses what owners ask for, until `shutdown`; one that goes on then is given up, and leaves nothing. What one that was cut off has left is gone
/// when this returns.
pub(super) fn attend(service: Arc<Service>, config: Config, shutdown: CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    // It has the home's secrets in it.
    clear(&config.data_dir.join(REHEARSAL_DIR));
    // Boxed, since the hub that is rehearsed has one of these, too.
    Box::pin(attend_to(service, config, shutdown))
}

async fn attend_to(service: Arc<Service>, config: Config, shutdown: CancellationToken) {
    let dir = config.data_dir.join(REHEARSAL_DIR);
    let wakes = service.rehearsal_wakes();
    loop {
        if let Some(wish) = service.rehearsal_wanted() {
            let (by, via) = (wish.by.clone(), wish.via.clone());
            let began = Instant::now();
            let done = tokio::select! {
                () = shutdown.cancelled() => None,
                done = wished(&service, &config, &dir, wish) => Some(done),
            };
            clear(&dir);
            let Some(done) = done else { return };
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let failed = |detail: String| RehearsalResult { took_ms, detail, ..RehearsalResult::default() };
            let result = match done {
                Ok((files, seen)) => seen.result(&files, took_ms),
                Err(error) => failed(error),
            };
            let result = RehearsalResult { at: service.now(), by, ..result };
            if let Err(error) = service.rehearsal_ended(result, &via).await {
                tracing::error!(%error, "how a rehearsal went could not be kept");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = wakes.notified() => {}
        }
    }
}

async fn wished(service: &Service, config: &Config, dir: &Path, wish: RehearsalWish) -> Result<(Vec<PathBuf>, Rehearsed), String> {
    let target = service.backup_settings().map_err(|e| e.to_string())?.target.ok_or("say first where backups go")?;
    let database = std::fs::metadata(config.data_dir.join(STORE_FILE)).map_or(0, |about| about.len());
    let needed = database.saturating_mul(ROOM.0).saturating_add(ROOM.1);
    let free = free_bytes(&config.data_dir).map_err(|e| e.to_string())?;
    if free < needed {
        let (needed, free) = (needed.div_ceil(1_000_000), free / 1_000_000);
        return Err(format!("a rehearsal here needs {needed} MB free, and there are {free} MB: make room, or rehearse on another machine"));
    }
    let copies = dir.join("copies");
    make_private(&copies).map_err(|e| e.to_string())?;
    let files = fetch_chain(config, &target, None, &copies).await.map_err(|e| e.to_string())?;
    let order = Rehearsal { files: files.clone(), secrets: wish.secrets, person: Some(wish.person), scratch: dir.join("hub") };
    let mut seen = rehearse(config, order).await.map_err(|e| e.to_string())?;
    for proof in seen.proofs.iter_mut().filter(|proof| proof.what == "sign-in" && !proof.holds) {
        proof.detail.push_str(
            " (after a restore the password is the one of the day of the backup: was it changed since? Then make a backup first)",
        );
    }
    Ok((files, seen))
}

fn clear(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::error!(%error, dir = %dir.display(), "what a rehearsal has left could not be taken away: it has the home's secrets in it");
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
