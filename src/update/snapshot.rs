//! The database as it was before a new version: a copy of the closed file, byte by byte (a copy that shares its blocks with the file would share
//! its faults), with the write-ahead log beside it, and the way back to it: a version that was ended by force has left there what its file lacks. The journal beside the database stays where it is: it is read over what is put back when that is opened,
//! so that nothing revoked meanwhile comes back.

use super::places::{PlaceError, remove, sync_dir};
use crate::domain::release::Version;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Free bytes that are left alone.
const LEFT: u64 = 16 * 1024 * 1024;

/// The write-ahead log beside a database.
fn log_of(database: &Path) -> PathBuf {
    database.with_extension("wal")
}

/// The snapshot's file.
pub(super) fn path_of(database: &Path, version: &Version) -> PathBuf {
    beside(database, &format!("before-{version}"))
}

/// Where the database of a version that failed is kept, until the next one serves.
pub(super) fn failed_of(database: &Path) -> PathBuf {
    beside(database, "failed")
}

/// Takes the snapshot; nothing when there is no database yet.
///
/// # Errors
/// For a person: no room, or the disk's fault. Nothing is left.
pub(super) fn take(database: &Path, version: &Version) -> Result<bool, String> {
    let size = match database.metadata() {
        Ok(found) => found.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(format!("{}: {e}", database.display())),
    };
    let dir = database.parent().unwrap_or(Path::new("."));
    let free = free_bytes(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let wanted = size.saturating_add(LEFT);
    if free < wanted {
        return Err(format!(
            "a copy of the database needs {} MB free, and {} has {} MB: make room, then try again",
            wanted.div_ceil(1_000_000),
            dir.display(),
            free / 1_000_000
        ));
    }
    // The log first: with the copy of the database the snapshot is whole.
    let log = log_of(database);
    if log.exists() {
        copy_whole(&log, &path_of(&log, version)).map_err(|e| e.to_string())?;
    }
    copy_whole(database, &path_of(database, version)).map_err(|e| e.to_string())?;
    Ok(true)
}

/// Puts the snapshot back; what a new version made of the database is kept aside. Done again after a power cut, it ends the same.
///
/// # Errors
/// The disk's fault.
pub(super) fn put_back(database: &Path, version: &Version) -> Result<(), PlaceError> {
    let snapshot = path_of(database, version);
    if !snapshot.exists() {
        return Ok(());
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PlaceError { path, source }
    };
    let log = log_of(database);
    let its_log = path_of(&log, version);
    if its_log.exists() {
        fs::rename(&its_log, &log).map_err(failed(&its_log))?;
    }
    if database.exists() {
        fs::rename(database, failed_of(database)).map_err(failed(database))?;
    }
    fs::rename(&snapshot, database).map_err(failed(&snapshot))?;
    sync_dir(database.parent().unwrap_or(Path::new(".")))
}

/// Takes the snapshot away; on disk too, so that no power cut brings it back beside a database that has gone on.
pub(super) fn drop_it(database: &Path, version: &Version) -> Result<(), PlaceError> {
    let snapshot = path_of(database, version);
    if !snapshot.exists() {
        return Ok(());
    }
    let its_log = path_of(&log_of(database), version);
    if its_log.exists() {
        remove(&its_log)?;
    }
    remove(&snapshot)?;
    sync_dir(database.parent().unwrap_or(Path::new(".")))
}

/// Copies a file: under another name until it is whole and on disk. For its owner alone.
///
/// # Errors
/// [`PlaceError`]; nothing is left of the copy.
pub fn copy_whole(from: &Path, to: &Path) -> Result<(), PlaceError> {
    let unfinished = beside(to, "new");
    let copied = || -> io::Result<()> {
        let mut source = File::open(from)?;
        let mut copy = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let n = source.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            copy.write_all(buffer.get(..n).unwrap_or_default())?;
        }
        copy.sync_all()?;
        fs::rename(&unfinished, to)
    };
    if let Err(source) = copied() {
        let _ = fs::remove_file(&unfinished);
        return Err(PlaceError { path: to.to_owned(), source });
    }
    sync_dir(to.parent().unwrap_or(Path::new(".")))
}

/// Bytes that are free for this process.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_put_back_as_it_was_and_the_other_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (database, version) = (dir.path().join("hub.redb"), Version::parse("1.2.3").unwrap());
        assert_eq!(take(&database, &version), Ok(false), "nothing to keep");
        fs::write(&database, b"before").unwrap();
        assert_eq!(take(&database, &version), Ok(true));
        fs::write(&database, b"after").unwrap();
        put_back(&database, &version).unwrap();
        put_back(&database, &version).unwrap();
        assert_eq!((fs::read(&database).unwrap(), fs::read(failed_of(&database)).unwrap()), (b"before".to_vec(), b"after".to_vec()));
    }

    #[test]
    fn the_log_of_a_database_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (database, log, version) = (dir.path().join("hub.redb"), dir.path().join("hub.wal"), Version::parse("1.2.3").unwrap());
        fs::write(&database, b"before").unwrap();
        fs::write(&log, b"what before lacks").unwrap();
        take(&database, &version).unwrap();
        fs::write(&database, b"after").unwrap();
        fs::write(&log, b"what after lacks").unwrap();
        put_back(&database, &version).unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"what before lacks");
        take(&database, &version).unwrap();
        drop_it(&database, &version).unwrap();
        assert_eq!(dir.path().read_dir().unwrap().count(), 3, "the database, the one that failed, and the log");
    }

    #[test]
    fn a_power_cut_between_the_two_renames_is_made_good() {
        let dir = tempfile::tempdir().unwrap();
        let (database, version) = (dir.path().join("hub.redb"), Version::parse("1.2.3").unwrap());
        fs::write(&database, b"before").unwrap();
        take(&database, &version).unwrap();
        fs::rename(&database, failed_of(&database)).unwrap();
        put_back(&database, &version).unwrap();
        assert_eq!(fs::read(&database).unwrap(), b"before");
    }
}
