//! The database as it was before a new version: a copy of the closed file, byte by byte (a copy that shares its blocks with the file would share
//! its faults), with the write-ahead log beside it, in which a version that was ended by force has left what its file lacks; and the way back to
//! both. The journal beside the database stays where it is: it is read over what is put back when that is opened, so that nothing revoked meanwhile
//! comes back.

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

/// Where the database of a version that failed is kept, and its log, until the next one serves.
fn failed_of(file: &Path) -> PathBuf {
    beside(file, "failed")
}

/// Takes that away.
pub(super) fn drop_failed(database: &Path) -> Result<(), PlaceError> {
    remove(&failed_of(database))?;
    remove(&failed_of(&log_of(database)))
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
    let log = log_of(database);
    let its_log = path_of(&log, version);
    let wanted = size.saturating_add(log.metadata().map_or(0, |found| found.len())).saturating_add(LEFT);
    if free < wanted {
        // What an attempt that was cut off has left.
        remove(&its_log).map_err(|e| e.to_string())?;
        return Err(format!(
            "a copy of the database needs {} MB free, and {} has {} MB: make room, then try again",
            wanted.div_ceil(1_000_000),
            dir.display(),
            free / 1_000_000
        ));
    }
    // The log first: with the copy of the database the snapshot is whole.
    let copied = if log.exists() { copy_whole(&log, &its_log) } else { remove(&its_log) };
    if let Err(error) = copied.and_then(|()| copy_whole(database, &path_of(database, version))) {
        let _ = fs::remove_file(&its_log);
        return Err(error.to_string());
    }
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
    let dir = database.parent().unwrap_or(Path::new("."));
    let moved = |from: &Path, to: &Path| fs::rename(from, to).map_err(failed(from)).and_then(|()| sync_dir(dir));
    // The database first: without one, what was begun here is gone on with, whatever a layout looks like then.
    if database.exists() {
        moved(database, &failed_of(database))?;
    }
    let log = log_of(database);
    let its_log = path_of(&log, version);
    if its_log.exists() {
        if log.exists() {
            moved(&log, &failed_of(&log))?;
        }
        moved(&its_log, &log)?;
    }
    moved(&snapshot, database)
}

/// Takes the snapshot away; on disk too, so that no power cut brings it back beside a database that has gone on.
pub(super) fn drop_it(database: &Path, version: &Version) -> Result<(), PlaceError> {
    remove(&path_of(&log_of(database), version))?;
    let snapshot = path_of(database, version);
    if !snapshot.exists() {
        return Ok(());
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
        assert_eq!(fs::read(failed_of(&log)).unwrap(), b"what after lacks");
        take(&database, &version).unwrap();
        drop_it(&database, &version).unwrap();
        assert_eq!(dir.path().read_dir().unwrap().count(), 4, "the database and the log, and those that failed");
        drop_failed(&database).unwrap();
        assert_eq!(dir.path().read_dir().unwrap().count(), 2);
        fs::create_dir(path_of(&database, &version)).unwrap();
        assert!(take(&database, &version).is_err());
        assert_eq!(dir.path().read_dir().unwrap().count(), 3, "no copy of the log alone");
    }

    #[test]
    fn a_power_cut_at_any_step_of_the_way_back_leaves_both_files_of_one_version() {
        for cut in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let (database, log, version) = (dir.path().join("hub.redb"), dir.path().join("hub.wal"), Version::parse("1.2.3").unwrap());
            for (file, text) in [(&database, b"before"), (&log, b"lacked")] {
                fs::write(file, text).unwrap();
            }
            take(&database, &version).unwrap();
            for (file, text) in [(&database, b"after!"), (&log, b"others")] {
                fs::write(file, text).unwrap();
            }
            let steps = [(&database, failed_of(&database)), (&log, failed_of(&log)), (&path_of(&log, &version), log.clone())];
            for (from, to) in steps.iter().take(cut) {
                fs::rename(from, to).unwrap();
            }
            put_back(&database, &version).unwrap();
            let read = |path: &Path| fs::read(path).unwrap();
            assert_eq!((read(&database), read(&log)), (b"before".to_vec(), b"lacked".to_vec()), "cut after {cut} steps");
            assert_eq!(
                (read(&failed_of(&database)), read(&failed_of(&log))),
                (b"after!".to_vec(), b"others".to_vec()),
                "cut after {cut} steps"
            );
        }
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
