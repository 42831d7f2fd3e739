//! A folder, and a stick: a folder that has to be a mount point.

use super::catalogue::Item;
use super::place::{PlaceError, UNFINISHED, is_name, next_for};
use crate::service::look_at_backup;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Files that are looked at in a folder at most.
const LISTED_MAX: usize = 10_000;

/// A folder that was there when it was opened.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Opens a folder. A stick's must be a mount point; any other is made when it is not there.
    pub(super) fn open(path: &Path, mounted: bool) -> Result<Folder, PlaceError> {
        if mounted {
            let table = fs::read_to_string("/proc/self/mountinfo").map_err(|e| wrong(path, e))?;
            let real = fs::canonicalize(path).map_err(|_| PlaceError::NotMounted(path.display().to_string()))?;
            if !is_mounted(&table, &real) {
                return Err(PlaceError::NotMounted(path.display().to_string()));
            }
        } else if !path.exists() {
            // Only the last part: a disk that is not there has no folder above either.
            fs::create_dir(path).map_err(|e| wrong(path, e))?;
        }
        Ok(Folder { path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Blocks.
    pub(super) fn list(&self) -> Result<Vec<Item>, PlaceError> {
        let mut items = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|e| wrong(&self.path, e))?.take(LISTED_MAX) {
            let entry = entry.map_err(|e| wrong(&self.path, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !is_name(&name) {
                continue;
            }
            let opened = File::open(entry.path()).and_then(|file| file.metadata().map(|about| (file, about)));
            let (mut file, about) = opened.map_err(|e| wrong(&entry.path(), e))?;
            if !about.is_file() {
                continue;
            }
            let looked = look_at_backup(&mut file).map_err(|e| e.to_string());
            items.push(Item { name, bytes: about.len(), looked });
        }
        Ok(items)
    }

    /// Gives a file of this folder its name.
    pub(super) fn bring(&self, file: &Path, name: &str) -> Result<(), PlaceError> {
        let to = self.path.join(name);
        fs::rename(file, &to).map_err(|e| wrong(&to, e))?;
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(|e| wrong(&self.path, e))
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), PlaceError> {
        let path = self.path.join(name);
        fs::remove_file(&path).map_err(|e| wrong(&path, e))
    }
}

/// Takes away what runs before this one have left unfinished: files of this hub's that have no name yet.
pub(super) fn clear_unfinished(dir: &Path, begins: &str) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().take(LISTED_MAX) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(begins)
            && name.ends_with(UNFINISHED)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(%error, file = %entry.path().display(), "what a backup has left unfinished stays");
        }
    }
}

pub(super) fn wrong(path: &Path, source: io::Error) -> PlaceError {
    let next = next_for(&source);
    PlaceError::File { path: path.display().to_string(), source, next }
}

/// Whether `path` (without links in it) is a mount point in a table as `/proc/self/mountinfo` has it (proc(5)): the fifth
/// word of a line, in which spaces and the like are written as `\040`.
fn is_mounted(table: &str, path: &Path) -> bool {
    table.lines().filter_map(|line| line.split(' ').nth(4)).any(|word| Path::new(&unescaped(word)) == path)
}

fn unescaped(word: &str) -> String {
    let mut parts = word.split('\\');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (octal, rest) = part.split_at_checked(3).unwrap_or((part, ""));
        match u8::from_str_radix(octal, 8) {
            Ok(plain) => out.push(plain),
            Err(_) => out.extend_from_slice(octal.as_bytes()),
        }
        out.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stick_that_is_not_plugged_in_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Folder::open(dir.path(), true), Err(PlaceError::NotMounted(_))));
        assert!(matches!(Folder::open(&dir.path().join("stick"), true), Err(PlaceError::NotMounted(_))));
        assert!(!dir.path().join("stick").exists());
        assert!(Folder::open(Path::new("/proc"), true).is_ok(), "that is one on every Linux");
    }

    #[test]
    fn a_mount_table_is_read_as_it_is_written() {
        let table = "22 1 0:21 / /proc rw - proc proc rw\n36 25 8:1 / /media/my\\040stick rw,noatime shared:1 - vfat /dev/sda1 rw\n";
        assert!(is_mounted(table, Path::new("/media/my stick")));
        assert!(!is_mounted(table, Path::new("/media")));
        assert!(!is_mounted(table, Path::new("/media/my stick/backups")));
    }

    #[test]
    fn a_folder_is_made_and_one_above_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Folder::open(&dir.path().join("backups"), false).is_ok());
        let refused = Folder::open(&dir.path().join("disk/backups"), false).unwrap_err().to_string();
        assert!(refused.contains("Is the disk or share there?"), "{refused}");
    }
}
