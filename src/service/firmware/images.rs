//! Images on disk: `firmware/<SHA-256 in hex>` in the hub's directory, within a cap. One comes in under another name, is synced,
//! and only then gets its own; what lies there under a name that no row knows is left of an interrupted import, and removed.

use super::FirmwareRefusal;
use crate::domain::firmware::release::ImageHash;
use crate::store::tables::ImageRow;
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the names of images under way end with.
const PART: &str = ".part";

/// Where images lie, and how many bytes of them.
pub(super) struct Images {
    dir: PathBuf,
    /// Bytes of all images at most.
    pub(super) limit: u64,
}

impl Images {
    /// Opens the directory, or makes it, for its owner alone.
    pub(super) fn open(dir: PathBuf, limit: u64) -> io::Result<Images> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Images { dir, limit })
    }

    /// Removes what no row knows, and says which images are there that rows know. Those of another size are not.
    pub(super) fn tidy(&self, known: &HashMap<ImageHash, ImageRow>) -> io::Result<Vec<ImageHash>> {
        let mut there = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let hash = entry.file_name().to_str().and_then(|name| ImageHash::parse(name).ok());
            let row = hash.and_then(|hash| Some((hash, known.get(&hash)?)));
            match row {
                Some((hash, row)) if entry.metadata()?.len() == row.size => there.push(hash),
                _ => {
                    tracing::info!(name = %entry.file_name().display(), "what an interrupted import has left is removed");
                    if let Err(error) = fs::remove_file(entry.path()) {
                        tracing::warn!(%error, path = %entry.path().display(), "it could not be removed");
                    }
                }
            }
        }
        Ok(there)
    }

    pub(super) fn path(&self, hash: &ImageHash) -> PathBuf {
        self.dir.join(hash.to_string())
    }

    /// A file for an image that comes in.
    pub(super) fn begin(&self, name: &str) -> io::Result<Incoming> {
        let path = self.dir.join(format!("{name}{PART}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Incoming { path, file: Some(file) })
    }

    /// Removes an image; one that is not there is removed.
    pub(super) fn remove(&self, hash: &ImageHash) -> io::Result<()> {
        match fs::remove_file(self.path(hash)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Up to `length` bytes of an image from `offset`.
    pub(super) fn part(&self, hash: &ImageHash, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path(hash))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut part = Vec::with_capacity(length);
        file.take(length as u64).read_to_end(&mut part)?;
        Ok(part)
    }
}

/// An image that comes in; what is dropped before its end leaves nothing.
pub(super) struct Incoming {
    path: PathBuf,
    file: Option<File>,
}

impl Incoming {
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(piece))
    }

    /// Gives it its name. When this returns, it is on disk under it.
    pub(super) fn keep(mut self, as_path: &Path) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            file.sync_all()?;
        }
        fs::rename(&self.path, as_path)?;
        let dir = as_path.parent().unwrap_or_else(|| Path::new("."));
        File::open(dir)?.sync_all()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After it got its name there is nothing under this one.
        let _ = fs::remove_file(&self.path);
    }
}

/// Which images go to make room for `size` more bytes, least recently offered first; never one that is `kept`.
///
/// # Errors
/// [`FirmwareRefusal::TooLarge`], [`FirmwareRefusal::CacheFull`].
pub(super) fn make_room(
    images: &[(ImageHash, ImageRow)],
    kept: impl Fn(&ImageHash) -> bool,
    size: u64,
    limit: u64,
) -> Result<Vec<ImageHash>, FirmwareRefusal> {
    if size > limit {
        return Err(FirmwareRefusal::TooLarge { size, limit });
    }
    let mut used: u64 = images.iter().map(|(_, row)| row.size).sum();
    let mut free: Vec<_> = images.iter().filter(|(hash, _)| !kept(hash)).collect();
    free.sort_by_key(|(hash, row)| (row.offered_at, *hash));
    let mut gone = Vec::new();
    for (hash, row) in free {
        if used + size <= limit {
            break;
        }
        used -= row.size;
        gone.push(*hash);
    }
    if used + size <= limit { Ok(gone) } else { Err(FirmwareRefusal::CacheFull) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(n: u8, size: u64, offered_at: u64) -> (ImageHash, ImageRow) {
        (ImageHash::from_bytes([n; 32]), ImageRow { size, offered_at })
    }

    #[test]
    fn the_least_recently_offered_goes_first_and_none_that_is_offered_now() {
        let all = [image(1, 40, 30), image(2, 40, 10), image(3, 20, 20)];
        let gone = |size, kept: u8| make_room(&all, |h| h.as_bytes() == &[kept; 32], size, 110).map_err(|e| e.code());
        let named = |n: &[u8]| n.iter().map(|n| ImageHash::from_bytes([*n; 32])).collect::<Vec<_>>();
        assert_eq!(gone(10, 0), Ok(named(&[])));
        assert_eq!(gone(11, 0), Ok(named(&[2])));
        assert_eq!(gone(60, 2), Ok(named(&[3, 1])));
        assert_eq!(gone(110, 0), Ok(named(&[2, 3, 1])));
        assert_eq!(gone(80, 1), Err("cache_full"));
        assert_eq!(gone(111, 0), Err("too_large"));
    }

    #[test]
    fn what_is_torn_is_removed_and_what_is_whole_stays() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::open(dir.path().join("firmware"), 1_000).unwrap();
        let (whole, short, unknown) = (ImageHash::of(b"whole"), ImageHash::of(b"short"), ImageHash::of(b"unknown"));
        for (hash, bytes) in [(whole, &b"whole"[..]), (short, b"sho"), (unknown, b"unknown")] {
            let mut incoming = images.begin("x").unwrap();
            incoming.write(bytes).unwrap();
            incoming.keep(&images.path(&hash)).unwrap();
        }
        fs::write(images.dir.join("torn.part"), b"half").unwrap();
        let known = [whole, short].map(|hash| (hash, ImageRow { size: 5, offered_at: 0 })).into();
        assert_eq!(images.tidy(&known).unwrap(), [whole]);
        assert_eq!(fs::read_dir(&images.dir).unwrap().count(), 1);
        assert_eq!(images.part(&whole, 1, 3).unwrap(), b"hol");
        assert_eq!(images.part(&whole, 9, 3).unwrap(), b"");
    }
}
