//! Where versions lie, and how something there is changed: whole, or not at all.
//!
//! ```text
//! <dir>/versions/<version>/hearthkey   a program that was checked
//!                         /release     what its vendor signed of it
//!      /current    -> versions/<version>   what is to run; absent: the program that the supervisor is
//!      /last-good  -> versions/<version>   what has served without a fault
//!      /ledger.json   the supervisor's: what is tried, what was, how it ended
//!      /order.json    the hub's: what to do next
//!      /wish.json     the command line's, for a hub that runs
//!      /download/     what has come so far
//!      /unpack.lock   held by whoever changes something among the versions
//! ```

use crate::domain::brand::StatementError;
use crate::domain::release::{HubRelease, STATEMENT_MAX, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The program's name.
pub(super) const PROGRAM: &str = "hearthkey";
/// The name of what its vendor signed.
pub(super) const RELEASE: &str = "release";
/// What the name of a version that is not whole yet ends with.
const UNFINISHED: &str = ".new";
/// Bytes of a file of ours that are read.
const FILE_MAX: u64 = 256 * 1024;

/// A place could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}. Check the free space, and that the directory is the hub's", .path.display())]
pub struct PlaceError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// The directory of versions.
#[derive(Clone, Debug)]
pub struct Places {
    dir: PathBuf,
}

impl Places {
    /// The directory; nothing is made yet.
    #[must_use]
    pub fn new(dir: PathBuf) -> Places {
        Places { dir }
    }

    /// Makes the directory, for its owner alone.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn make(&self) -> Result<(), PlaceError> {
        private_dir(&self.versions())?;
        private_dir(&self.downloads())
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the versions are.
    #[must_use]
    pub fn versions(&self) -> PathBuf {
        self.dir.join("versions")
    }

    /// Where what comes lies until it is whole.
    #[must_use]
    pub fn downloads(&self) -> PathBuf {
        self.dir.join("download")
    }

    /// A version's directory.
    #[must_use]
    pub fn version(&self, version: &Version) -> PathBuf {
        self.versions().join(version.as_str())
    }

    /// A version's program.
    #[must_use]
    pub fn program(&self, version: &Version) -> PathBuf {
        self.version(version).join(PROGRAM)
    }

    /// Where a version is made, until it is whole.
    pub(super) fn unfinished(&self, version: &Version) -> PathBuf {
        self.versions().join(format!(".{version}{UNFINISHED}"))
    }

    /// Waits until nobody else, of this process or another, puts versions or orders there, and keeps others waiting for as long as what it
    /// returns is held. Whoever is killed holds nothing any more. Blocks.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub(super) fn alone(&self) -> Result<File, PlaceError> {
        let path = self.dir.join("unpack.lock");
        let locked = || {
            let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        locked().map_err(|source| PlaceError { path: path.clone(), source })
    }

    /// Takes away what those that were cut off have left of versions. Whoever calls it is [`alone`](Self::alone).
    ///
    /// # Errors
    /// [`PlaceError`].
    pub(super) fn tidy(&self) -> Result<(), PlaceError> {
        let failed = |path: PathBuf| move |source| PlaceError { path, source };
        for entry in fs::read_dir(self.versions()).map_err(failed(self.versions()))? {
            let path = entry.map_err(failed(self.versions()))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with('.') && name.ends_with(UNFINISHED) {
                tracing::info!(path = %path.display(), "what was left of a version that was not unpacked whole is taken away");
                let gone = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                gone.map_err(failed(path))?;
            }
        }
        Ok(())
    }

    /// The ledger's file.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.dir.join("ledger.json")
    }

    /// The order's file.
    #[must_use]
    pub fn order(&self) -> PathBuf {
        self.dir.join("order.json")
    }

    /// The wish's file.
    #[must_use]
    pub fn wish(&self) -> PathBuf {
        self.dir.join("wish.json")
    }

    /// What is to run; `None`: the program that the supervisor is.
    #[must_use]
    pub fn current(&self) -> Option<Version> {
        self.pointed("current")
    }

    /// What has served without a fault.
    #[must_use]
    pub fn last_good(&self) -> Option<Version> {
        self.pointed("last-good")
    }

    /// Sets what is to run, whole or not at all.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn point_current(&self, to: Option<&Version>) -> Result<(), PlaceError> {
        self.point("current", to)
    }

    /// Sets what has served without a fault.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn point_last_good(&self, to: Option<&Version>) -> Result<(), PlaceError> {
        self.point("last-good", to)
    }

    /// What the vendor signed of a version that lies here.
    ///
    /// # Errors
    /// For a person: it is not there, or this key has not signed it, or for another version.
    pub fn release(&self, vendor: &[u8; 32], version: &Version) -> Result<HubRelease, String> {
        let path = self.version(version).join(RELEASE);
        let statement = read_bounded(&path, STATEMENT_MAX as u64).map_err(|e| format!("{}: {e}", path.display()))?;
        let release = HubRelease::verify(vendor, &statement).map_err(|e: StatementError| format!("{}: {e}", path.display()))?;
        if release.version == *version { Ok(release) } else { Err(format!("{} is of version {}", path.display(), release.version)) }
    }

    /// The versions that lie here.
    #[must_use]
    pub fn all(&self) -> Vec<Version> {
        let entries = fs::read_dir(self.versions()).into_iter().flatten().flatten();
        entries.filter_map(|entry| Version::parse(entry.file_name().to_str()?).ok()).collect()
    }

    fn pointed(&self, link: &str) -> Option<Version> {
        let target = fs::read_link(self.dir.join(link)).ok()?;
        Version::parse(target.file_name()?.to_str()?).ok()
    }

    fn point(&self, link: &str, to: Option<&Version>) -> Result<(), PlaceError> {
        let path = self.dir.join(link);
        let failed = |source| PlaceError { path: path.clone(), source };
        match to {
            Some(version) => {
                let unfinished = self.dir.join(format!(".{link}.new"));
                match fs::remove_file(&unfinished) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                    _ => {}
                }
                std::os::unix::fs::symlink(Path::new("versions").join(version.as_str()), &unfinished).map_err(failed)?;
                fs::rename(&unfinished, &path).map_err(failed)?;
            }
            None => remove(&path)?,
        }
        sync_dir(&self.dir)
    }
}

/// Reads a file of ours; `None` when it is not there, or holds nothing that can be read: then it says nothing.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = read_bounded(path, FILE_MAX).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(read) => Some(read),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "this file cannot be read, and is passed over");
            None
        }
    }
}

/// Writes a file of ours.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), PlaceError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|e| PlaceError { path: path.to_owned(), source: io::Error::other(e) })?;
    write_whole(path, &bytes)
}

/// Writes a file that is there whole and on disk, or as it was before.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), PlaceError> {
    let failed = |source| PlaceError { path: path.to_owned(), source };
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let written = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    if let Err(error) = written() {
        let _ = fs::remove_file(&unfinished);
        return Err(failed(error));
    }
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Gives a file of ours another name, in the place of what has that; on disk when this returns.
pub(super) fn move_over(from: &Path, to: &Path) -> Result<(), PlaceError> {
    fs::rename(from, to).map_err(|source| PlaceError { path: from.to_owned(), source })?;
    sync_dir(to.parent().unwrap_or(Path::new(".")))
}

/// Takes a file away, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), PlaceError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PlaceError { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}

/// What was renamed in a directory is on disk when this returns.
pub(super) fn sync_dir(dir: &Path) -> Result<(), PlaceError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| PlaceError { path: dir.to_owned(), source })
}

pub(super) fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(io::Error::other("it is larger than it may be")) } else { Ok(bytes) }
}

fn private_dir(dir: &Path) -> Result<(), PlaceError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| PlaceError { path: dir.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_set_anew_over_what_a_power_cut_left_and_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path().join("update"));
        places.make().unwrap();
        let (one, two) = (Version::parse("1.0.0").unwrap(), Version::parse("2.0.0").unwrap());
        assert_eq!(places.current(), None);
        places.point_current(Some(&one)).unwrap();
        std::os::unix::fs::symlink("nowhere", places.dir().join(".current.new")).unwrap();
        places.point_current(Some(&two)).unwrap();
        assert_eq!((places.current(), places.last_good()), (Some(two), None));
        places.point_current(None).unwrap();
        places.point_current(None).unwrap();
        assert_eq!(places.current(), None);
    }

    #[test]
    fn a_link_that_somebody_set_to_another_place_is_no_version() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path().to_owned());
        std::os::unix::fs::symlink("/bin", places.dir().join("current")).unwrap();
        assert_eq!(places.current(), None);
    }
}
