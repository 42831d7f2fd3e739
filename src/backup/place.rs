//! A place for backups, whatever it is: what lies there, bringing a file in, getting one, and taking one away.

use super::Config;
use super::bucket::BucketPlace;
use super::catalogue::Item;
use super::folder::Folder;
use crate::domain::backup::target::Target;
use std::path::{Path, PathBuf};

/// What backups' names end in.
pub(super) const EXTENSION: &str = ".hkbk";
/// What names end in of files that are not whole yet.
pub(super) const UNFINISHED: &str = ".part";

/// Why a place cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It is not there, or cannot be written.
    #[error("{path}: {source}. {next}")]
    File {
        /// Which file or directory.
        path: String,
        /// Why.
        source: std::io::Error,
        /// What to do.
        next: &'static str,
    },
    /// Nothing is mounted there.
    #[error("nothing is mounted at {0}: plug the stick in (and mount it). Nothing was written, so that the box's own card is not filled")]
    NotMounted(String),
    /// The store is not reached, or does not do it.
    #[error("the store at {endpoint}: {detail}. {next}")]
    Store {
        /// Its URL.
        endpoint: String,
        /// What was so.
        detail: String,
        /// What to do.
        next: &'static str,
    },
    /// A name that is none.
    #[error("{0} is not the name of a backup here")]
    Name(String),
    /// A fault of this program.
    #[error("backups met a fault of this program; the log has it: please report it")]
    Fault,
}

/// What to do about a file system's fault.
pub(super) fn next_for(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match source.kind() {
        NotFound => "Is the disk or share there? Make the folder, or choose another one",
        PermissionDenied => "Give the hub's user the right to write there, or choose another folder",
        StorageFull | QuotaExceeded => "It is full: make room, keep fewer backups, or choose another place",
        ReadOnlyFilesystem => "It can only be read: mount it for writing, or choose another place",
        _ => "Check the disk or share, and try again",
    }
}

/// A place that is open.
pub enum Place {
    /// A folder, or a stick.
    Folder(Folder),
    /// A bucket.
    Bucket(Box<BucketPlace>),
}

impl Place {
    /// Opens a place. `staging` is a directory of the hub's for files on their way.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn open(target: &Target, config: &Config, staging: &Path) -> Result<Place, PlaceError> {
        Ok(match target {
            Target::Folder { path } => Place::Folder(Folder::open(Path::new(path), false)?),
            Target::Usb { path } => Place::Folder(Folder::open(Path::new(path), true)?),
            Target::S3(bucket) => Place::Bucket(Box::new(BucketPlace::open(bucket, config, staging).await?)),
        })
    }

    /// Where a file is written before it is brought in.
    pub(super) fn staging(&self) -> &Path {
        match self {
            Place::Folder(folder) => folder.path(),
            Place::Bucket(bucket) => bucket.staging(),
        }
    }

    /// What lies there; each file's beginning and end were looked at.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn list(&self) -> Result<Vec<Item>, PlaceError> {
        match self {
            Place::Folder(folder) => {
                let folder = folder.clone();
                tokio::task::spawn_blocking(move || folder.list()).await.map_err(|_| PlaceError::Fault)?
            }
            Place::Bucket(bucket) => bucket.list().await,
        }
    }

    /// Brings a file that is whole and synced in under `name`, and looks whether it has arrived.
    pub(super) async fn bring(&self, file: &Path, name: &str) -> Result<(), PlaceError> {
        match self {
            Place::Folder(folder) => folder.bring(file, name),
            Place::Bucket(bucket) => bucket.bring(file, name).await,
        }
    }

    /// A file on this box with what lies there under `name`: itself, or a copy in `into`.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn fetch(&self, name: &str, into: &Path) -> Result<PathBuf, PlaceError> {
        if !is_name(name) {
            return Err(PlaceError::Name(name.to_owned()));
        }
        match self {
            Place::Folder(folder) => Ok(folder.path().join(name)),
            Place::Bucket(bucket) => bucket.fetch(name, into).await,
        }
    }

    /// Takes one away.
    pub(super) async fn delete(&self, name: &str) -> Result<(), PlaceError> {
        if !is_name(name) {
            return Err(PlaceError::Name(name.to_owned()));
        }
        match self {
            Place::Folder(folder) => folder.delete(name),
            Place::Bucket(bucket) => bucket.delete(name).await,
        }
    }
}

/// Whether a name is one that a backup can have: no path, nothing hidden.
pub(super) fn is_name(name: &str) -> bool {
    name.ends_with(EXTENSION)
        && !name.starts_with('.')
        && name.len() <= 200
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
