//! Opening what a hub keeps: its directory, the master key, the store, and the clock that goes on from it. Shared by
//! the running hub and by what looks into a stopped one.

use super::clock::{BoxClock, SystemBox};
use super::rehearse::REHEARSAL_DIR;
use super::{Config, StartError, SystemClock, keys};
use crate::domain::audit::Entry;
use crate::service::{self, Clock};
use crate::store::journal::{self, JOURNAL_FILE};
use crate::store::tables::ClockFloor;
use crate::store::{OpenError, RESERVE_FILE, Read, Store, StoreError, WAL_FILE};
use crate::update;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// The database's name in the directory.
pub(super) const STORE_FILE: &str = "hub.redb";

/// The database while a restore or a recovery fills it.
pub(super) const UNFINISHED: &str = "hub.redb.new";

/// A database that a restore has set aside: what its name begins with.
pub(super) const ASIDE: &str = "hub.redb.aside-";
/// What may lie in the directory of a hub whose database is gone, or is to be made: what goes on serving the one that takes its
/// place (its journal and key, images, versions), what was set aside, and what is made anew in any case. Names that end in `*` are
/// beginnings. Nothing of it is read as if it were the new database's: what is remembered of backups is taken away.
const LEFT: [&str; 17] = [
    "hub.redb.*",
    "master.key",
    "master.key.new",
    "lost+found",
    JOURNAL_FILE,
    "hub.journal.*",
    WAL_FILE,
    "hub.wal.*",
    RESERVE_FILE,
    "hub.sock",
    "health.sock",
    "request.txt",
    "backup",
    "firmware",
    "mirror",
    "update",
    REHEARSAL_DIR,
];

/// Whether a file of this name may lie where a hub is made.
pub(super) fn may_lie(name: &str) -> bool {
    LEFT.iter().any(|left| left.strip_suffix('*').map_or(name == *left, |begins| name.starts_with(begins)))
}

/// What a hub keeps, open.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
}

/// Opens what a hub that is stopped keeps.
///
/// # Errors
/// [`StartError`]: there is no hub, or it is running.
pub(super) async fn open_stopped(config: &Config) -> Result<Opened, StartError> {
    let file = config.data_dir.join(STORE_FILE);
    if !file.exists() {
        return Err(StartError::NoHub(file.display().to_string()));
    }
    open(config, Arc::new(SystemBox::new(&config.clock))).await
}

/// Opens the hub's directory and everything in it; made at first boot.
pub(super) async fn open(config: &Config, source: Arc<dyn BoxClock>) -> Result<Opened, StartError> {
    make_private(&config.data_dir)?;
    let file = config.data_dir.join(STORE_FILE);
    let name = file.display().to_string();
    if let Some(why) = lost(&config.data_dir, &file) {
        return Err(why.into());
    }
    let master = keys::master_key(&config.data_dir, config.credentials_dir.as_deref(), !file.exists())?;
    update::opening(file.metadata().map_or(0, |found| found.len()));
    let store = tokio::task::spawn_blocking(move || Store::open(&file, master))
        .await
        // Damage that the check at opening did not see ends in a panic of whoever reads it.
        .map_err(|_| OpenError::Damaged(name, "reading it met a fault; the log has it".into()))??;
    let known = store.read::<_, StoreError>(|v| {
        let newest = v.scan_back::<Entry>(&[u8::MAX; 9], 1)?.first().map_or(0, |(_, e)| e.at);
        Ok((newest, v.get::<ClockFloor>(ClockFloor::ROW)?.map_or(0, |f| f.at)))
    });
    let (seen_ms, floor_ms) = match known {
        Ok(known) => known,
        Err(error) => {
            store.close().await;
            return Err(service::Refusal::from(error).into());
        }
    };
    let clock = Arc::new(SystemClock::new(source, floor_ms, seen_ms));
    // Before anybody is let in: a database that was put back to an older copy must not bring back what has ended since.
    if let Err(error) = service::catch_up(&store, clock.now_ms()).await {
        store.close().await;
        return Err(error.into());
    }
    Ok(Opened { store, clock })
}

/// Why no new hub may begin in this directory, where no database is: there was one, or there is to be one.
fn lost(dir: &Path, file: &Path) -> Option<OpenError> {
    if file.metadata().is_ok_and(|about| about.len() > 0) {
        return None;
    }
    let name = file.display().to_string();
    if !file.exists() {
        if let Some(aside) = set_aside(dir) {
            let ways = format!(
                "put the backup back once more, or give {aside} the name hub.redb again, and the hub.wal with the same ending the name hub.wal"
            );
            return Some(OpenError::Damaged(name, format!("it is gone, and {aside} was set aside: {ways}")));
        }
        if dir.join(UNFINISHED).exists() {
            return Some(OpenError::CutOff(name));
        }
    }
    let why = "it is gone or empty, though hub.journal is a hub's; to begin a new hub here, move hub.journal and master.key away";
    was_a_hub(dir).then(|| OpenError::Damaged(name, why.into()))
}

/// Whether the journal in this directory is that of a hub: then a new one must not begin here as if nothing had been.
fn was_a_hub(dir: &Path) -> bool {
    journal::read(&dir.join(JOURNAL_FILE)).ok().flatten().is_some_and(|found| found.known.hub.is_some())
}

/// A database that was set aside, while the one that was to take its place did not come.
fn set_aside(dir: &Path) -> Option<String> {
    let names = dir.read_dir().ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(ASIDE)).max()
}

/// Makes a code by which the person with this user name sets a new password, once, within a day: for whoever holds the box
/// of a hub that is stopped. It switches a second factor off too.
///
/// # Errors
/// [`StartError`]: there is no hub, it is running, or [`StartError::Service`] when nobody has this name.
pub async fn make_console_code(config: &Config, username: &str) -> Result<service::MadeCode, StartError> {
    let Opened { store, clock } = open_stopped(config).await?;
    let made = service::make_console_code(&store, username, clock.now_ms()).await;
    store.close().await;
    Ok(made?)
}

/// Makes the directory, or closes it to others. One that holds other things is not the hub's to close.
pub(super) fn make_private(dir: &Path) -> Result<(), StartError> {
    let error = |source| StartError::DataDir { path: dir.display().to_string(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(error)?;
    if dir.metadata().map_err(error)?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let is_empty = dir.read_dir().map_err(error)?.next().is_none();
    if !is_empty && !dir.join(STORE_FILE).exists() {
        return Err(StartError::SharedDir(dir.display().to_string()));
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open_it(config: &Config) -> Result<Opened, StartError> {
        open(config, Arc::new(SystemBox::new(&config.clock))).await
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    fn open_to_all() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, data)
    }

    #[tokio::test]
    async fn what_a_hub_keeps_is_for_its_owner_alone_also_in_a_directory_it_was_given() {
        let (_keep, data) = open_to_all();
        let config = Config { data_dir: data.clone(), ..Config::default() };
        open_it(&config).await.unwrap().store.close().await;
        assert_eq!((mode(&data), mode(&data.join(STORE_FILE)), mode(&data.join("master.key"))), (0o700, 0o600, 0o600));
        // As an earlier release left it.
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(data.join(STORE_FILE), std::fs::Permissions::from_mode(0o644)).unwrap();
        open_it(&config).await.unwrap().store.close().await;
        assert_eq!((mode(&data), mode(&data.join(STORE_FILE))), (0o700, 0o600));
    }

    #[test]
    fn a_directory_that_others_use_is_not_closed_to_them() {
        let (_keep, data) = open_to_all();
        std::fs::write(data.join("photo.jpg"), b"").unwrap();
        assert!(matches!(make_private(&data), Err(StartError::SharedDir(_))));
        assert_eq!(mode(&data), 0o755);
    }

    #[tokio::test]
    async fn a_lost_master_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        open_it(&config).await.unwrap().store.close().await;
        std::fs::remove_file(dir.path().join("master.key")).unwrap();
        assert!(matches!(open_it(&config).await, Err(StartError::Keys(keys::KeyError::Lost(_)))));
        assert!(!dir.path().join("master.key").exists());
    }

    #[tokio::test]
    async fn no_new_hub_begins_beside_a_database_that_was_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        open_it(&config).await.unwrap().store.close().await;
        // As a restore left it that was cut off between its last two steps, on a box whose journal is lost as well.
        std::fs::rename(dir.path().join(STORE_FILE), dir.path().join("hub.redb.aside-1800000000")).unwrap();
        std::fs::remove_file(dir.path().join(JOURNAL_FILE)).unwrap();
        let why = open_it(&config).await.err().unwrap();
        assert!(super::super::is_damage(&why) && why.to_string().contains("aside-1800000000"), "{why}");
        assert!(!dir.path().join(STORE_FILE).exists());
    }

    #[tokio::test]
    async fn no_new_hub_begins_where_a_restore_or_a_recovery_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        make_private(dir.path()).unwrap();
        std::fs::write(dir.path().join(UNFINISHED), b"half of it").unwrap();
        let why = open_it(&config).await.err().unwrap();
        assert!(super::super::is_damage(&why) && why.to_string().contains("was cut off here. Repeat it"), "{why}");
        assert!(!dir.path().join(STORE_FILE).exists() && !dir.path().join("master.key").exists());
        std::fs::remove_file(dir.path().join(UNFINISHED)).unwrap();
        open_it(&config).await.unwrap().store.close().await;
    }

    #[tokio::test]
    async fn looking_for_a_hub_where_there_is_none_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().join("typo"), ..Config::default() };
        assert!(matches!(open_stopped(&config).await, Err(StartError::NoHub(_))));
        assert!(!config.data_dir.exists());
    }
}
