//! Where a journal is written: a file, or what a test puts in its place.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What a journal needs of its file.
pub(in crate::store) trait Disk: Send {
    /// All of it, if it has no more than `most` bytes.
    fn read(&mut self, most: u64) -> io::Result<Vec<u8>>;
    /// Writes at the end, which is at `at`.
    fn append(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Puts on the disk what was written.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts what follows `length` bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Puts another content in the place of the whole, which is on the disk when this returns; at no time is there neither.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Keeps a copy of the file as it is, under its name and this word; it is on the disk when this returns.
    fn keep_aside(&mut self, word: &str) -> io::Result<()>;
}

/// A file for its owner alone.
pub(in crate::store) struct FileDisk {
    path: PathBuf,
    file: File,
}

impl FileDisk {
    /// Opens or creates it.
    pub(in crate::store) fn open(path: &Path) -> io::Result<FileDisk> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(FileDisk { path: path.to_owned(), file })
    }

    fn beside(&self, word: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(word);
        name.into()
    }

    fn sync_directory(&self) -> io::Result<()> {
        let directory = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

impl Disk for FileDisk {
    fn read(&mut self, most: u64) -> io::Result<Vec<u8>> {
        if self.file.metadata()?.len() > most {
            return Err(io::Error::other("it is longer than such a file can be: move it away, and tell who maintains this program"));
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn append(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.beside("new");
        let written = (|| {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            // In pieces of a page: a file that was written as a whole may have large pages in memory, each of which counts as written with any
            // change in it.
            bytes.chunks(4096).try_for_each(|piece| file.write_all(piece))?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &self.path)?;
            Ok(file)
        })();
        match written {
            Ok(file) => {
                // From here on the name is the new file's, whatever happens.
                self.file = file;
                self.sync_directory()
            }
            Err(error) => {
                let _ = std::fs::remove_file(&unfinished);
                Err(error)
            }
        }
    }

    fn keep_aside(&mut self, word: &str) -> io::Result<()> {
        let aside = self.beside(word);
        std::fs::copy(&self.path, &aside)?;
        // On the disk before the file that it is a copy of is written anew.
        File::open(&aside)?.sync_all()?;
        self.sync_directory()
    }
}
