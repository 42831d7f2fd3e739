//! A bundle on its way in, and the one that is here: one file in a directory of the hub's, for the hub's user and root alone. The hub writes and
//! removes it, and never reads it.

use crate::update::free_bytes;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

/// Free bytes that are left for the hub itself.
pub(super) const KEPT_FREE: u64 = 64 * 1024 * 1024;
/// Bytes after which the room is looked at again.
const LOOKED_EVERY: u64 = 8 * 1024 * 1024;

/// Where bundles lie.
#[derive(Clone, Debug)]
pub(super) struct Shelf(PathBuf);

impl Shelf {
    pub(super) fn new(dir: PathBuf) -> Shelf {
        Shelf(dir)
    }

    /// Where the bundle is that is here.
    pub(super) fn bundle(&self) -> PathBuf {
        self.0.join("bundle.raucb")
    }

    /// What is remembered of the last installation.
    pub(super) fn record(&self) -> PathBuf {
        self.0.join("installed.json")
    }

    fn part(&self) -> PathBuf {
        self.0.join("bundle.part")
    }

    /// Removes bundles, whole ones and others.
    pub(super) fn clear(&self) {
        for path in [self.part(), self.bundle()] {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "a bundle that is not needed any more stays");
            }
        }
    }

    /// Begins one, of so many bytes as far as that is known. What was here goes.
    ///
    /// # Errors
    /// For a person: no room, or the disk's fault.
    pub(super) async fn begin(&self, announced: Option<u64>, limit: u64) -> Result<Incoming, String> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(|e| self.fault(&e))?;
        self.clear();
        self.room(announced.unwrap_or(0))?;
        let path = self.part();
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).await;
        let file = opened.map_err(|e| self.fault(&e))?;
        Ok(Incoming { shelf: self.clone(), path, file: Some(file), length: 0, looked: 0, limit })
    }

    fn room(&self, wanted: u64) -> Result<(), String> {
        let free = free_bytes(&self.0).map_err(|e| self.fault(&e))?;
        let wanted = wanted.saturating_add(KEPT_FREE);
        if free < wanted {
            return Err(format!(
                "there is no room for the bundle: {} MB are needed, {} MB are free. Move old backups or firmware away, then send it again",
                wanted.div_ceil(1_000_000),
                free / 1_000_000
            ));
        }
        Ok(())
    }

    fn fault(&self, error: &io::Error) -> String {
        format!("the bundle cannot be kept in {}: {error}", self.0.display())
    }
}

/// A bundle on its way in. Dropped before its end it leaves nothing.
pub(super) struct Incoming {
    shelf: Shelf,
    path: PathBuf,
    file: Option<File>,
    length: u64,
    looked: u64,
    limit: u64,
}

impl Incoming {
    /// Takes the next bytes; says how many are here.
    pub(super) async fn take(&mut self, piece: &[u8]) -> Result<u64, String> {
        self.length += piece.len() as u64;
        if self.length > self.limit {
            return Err(format!("the file is larger than a bundle may be: {} MB", self.limit / 1_000_000));
        }
        if self.length - self.looked >= LOOKED_EVERY {
            self.looked = self.length;
            self.shelf.room(0)?;
        }
        let Some(file) = self.file.as_mut() else { return Err("the bundle is here already".into()) };
        file.write_all(piece).await.map_err(|e| self.shelf.fault(&e))?;
        Ok(self.length)
    }

    /// Gives it its name; says how many bytes it has.
    pub(super) async fn keep(mut self) -> Result<u64, String> {
        let Some(mut file) = self.file.take() else { return Err("the bundle is here already".into()) };
        file.flush().await.map_err(|e| self.shelf.fault(&e))?;
        file.sync_all().await.map_err(|e| self.shelf.fault(&e))?;
        let bundle = self.shelf.bundle();
        fs::rename(&self.path, &bundle).map_err(|e| self.shelf.fault(&e))?;
        Ok(self.length)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After it got its name there is nothing under this one.
        let _ = fs::remove_file(&self.path);
    }
}

/// Where bundles lie in a hub's directory: as RAUC sees it, which is another process with another working directory.
pub(super) fn shelf_in(data_dir: &Path) -> Shelf {
    let whole = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    Shelf::new(whole.join("system"))
}
