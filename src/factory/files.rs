//! Files of the workshop: complete or absent, and closed to others where they hold secrets.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::FactoryError;

/// Who may read a file.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    /// Its owner alone.
    Private,
    /// Everybody.
    Public,
}

/// Makes a directory (and those above it) closed to others. One that exists stays as it is.
pub(super) fn private_dir(path: &Path) -> Result<(), FactoryError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// Writes a new file durably, by way of a temporary one beside it: whatever happens, it is whole or not there.
///
/// # Errors
/// [`FactoryError::Exists`] when there is one already.
pub(super) fn create(path: &Path, mode: Mode, bytes: &[u8]) -> Result<(), FactoryError> {
    let temporary = temporary(path);
    write_synced(&temporary, mode, bytes)?;
    // A hard link, unlike a rename, refuses to replace.
    let linked = fs::hard_link(&temporary, path);
    let _ = fs::remove_file(&temporary);
    match linked {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(FactoryError::Exists(path.to_path_buf())),
        other => other.map_err(at(path)),
    }
}

/// As [`create`], replacing what was there.
pub(super) fn replace(path: &Path, mode: Mode, bytes: &[u8]) -> Result<(), FactoryError> {
    let temporary = temporary(path);
    write_synced(&temporary, mode, bytes)?;
    fs::rename(&temporary, path).map_err(at(path))
}

/// Writes one of many files into a directory that is itself still temporary: no file of its own is needed beside it, nor a sync for each.
pub(super) fn write_within(path: &Path, mode: Mode, bytes: &[u8]) -> Result<(), FactoryError> {
    open_new(path, mode).and_then(|mut file| file.write_all(bytes)).map_err(at(path))
}

/// A temporary file beside `path`, to be renamed to it when it is complete.
pub(super) fn begin(path: &Path, mode: Mode) -> Result<(File, std::path::PathBuf), FactoryError> {
    let temporary = temporary(path);
    let _ = fs::remove_file(&temporary);
    let file = open_new(&temporary, mode).map_err(at(&temporary))?;
    Ok((file, temporary))
}

pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FactoryError> {
    fs::read(path).map(Zeroizing::new).map_err(at(path))
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, FactoryError> {
    serde_json::from_slice(&read(path)?).map_err(|e| content(path, e.to_string()))
}

/// JSON for people to read, with a newline at its end.
pub(super) fn json<T: Serialize>(value: &T) -> Zeroizing<Vec<u8>> {
    // Names, numbers and texts always have a JSON form.
    let mut bytes = Zeroizing::new(serde_json::to_vec(value).unwrap_or_default());
    bytes.push(b'\n');
    bytes
}

/// Puts the path to an error of the operating system.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> FactoryError {
    let path = path.to_path_buf();
    move |reason| FactoryError::File { path, reason }
}

pub(super) fn content(path: &Path, reason: impl Into<String>) -> FactoryError {
    FactoryError::Content { path: path.to_path_buf(), reason: reason.into() }
}

fn write_synced(path: &Path, mode: Mode, bytes: &[u8]) -> Result<(), FactoryError> {
    // What an earlier, interrupted attempt left behind was never complete.
    let _ = fs::remove_file(path);
    open_new(path, mode).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all())).map_err(at(path))
}

fn open_new(path: &Path, mode: Mode) -> io::Result<File> {
    let bits = match mode {
        Mode::Private => 0o600,
        Mode::Public => 0o644,
    };
    OpenOptions::new().write(true).create_new(true).mode(bits).open(path)
}

fn temporary(path: &Path) -> std::path::PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    path.with_file_name(name)
}
