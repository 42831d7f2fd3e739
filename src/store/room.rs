//! Room on the disk, looked at before each batch. The database takes a full disk for a fault that lasts, and a hub that ends
//! over it cannot start again: so what does not fit is refused before it is begun. A reserve beside the database keeps room
//! for what a home needs also then: sign-ins, revocations, the audit.

use super::StoreError;
use rustix::fs::{FallocateFlags, StatVfsMountFlags, fallocate, statvfs};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The reserve's name beside the database.
pub const RESERVE_FILE: &str = "hub.reserve";
/// Bytes of the reserve.
const RESERVE: u64 = 8 * 1024 * 1024;
/// Below so many free bytes, what is large and comes again is not taken any more.
const TIGHT: u64 = 16 * 1024 * 1024;
/// Below so many nothing is: more than a batch writes.
const FULL: u64 = 2 * 1024 * 1024;

/// Tables that may grow without end by what devices say and makers send.
const LARGE: [&str; 5] = ["twins", "retained", "mqtt_waiting", "firmware_images", "firmware_releases"];

/// How much can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Everything.
    Ample,
    /// What is not large.
    Tight,
    /// Nothing.
    Full,
    /// Nothing: the file system can only be read.
    ReadOnly,
}

impl Level {
    fn of(free: u64, read_only: bool) -> Level {
        match free {
            _ if read_only => Level::ReadOnly,
            ..FULL => Level::Full,
            FULL..TIGHT => Level::Tight,
            TIGHT.. => Level::Ample,
        }
    }

    /// Why a batch cannot be written, if it cannot.
    pub(super) fn refusal(self) -> Option<StoreError> {
        match self {
            Level::Ample | Level::Tight => None,
            Level::Full => Some(StoreError::Full),
            Level::ReadOnly => Some(StoreError::ReadOnly),
        }
    }

    /// Whether rows of this table are too large for it.
    pub(super) fn refuses(self, table: &str) -> bool {
        self != Level::Ample && LARGE.contains(&table)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reserve {
    /// It is there, or is to be made.
    Wanted,
    /// It is there.
    Held,
    /// This file system has none.
    Never,
}

/// The disk under a database.
pub(super) struct Room {
    dir: PathBuf,
    database: PathBuf,
    /// The database, opened once more to see whether it can be written: it is the same file for as long as it is open.
    probe: Option<File>,
    reserve: Reserve,
    told: Level,
}

impl Room {
    /// Beside this database, which need not be there yet.
    pub(super) fn beside(database: &Path) -> Room {
        let dir = database.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        Room { dir, database: database.to_owned(), probe: None, reserve: Reserve::Wanted, told: Level::Ample }
    }

    /// How much can be written now. The reserve is given up when the disk is full, and made again when there is room.
    pub(super) fn level(&mut self) -> Level {
        if !self.takes_writes() {
            return self.tell(Level::ReadOnly, 0);
        }
        let (mut level, mut free) = self.look();
        if level == Level::Full && fs::remove_file(self.dir.join(RESERVE_FILE)).is_ok() {
            tracing::error!("the disk is full: the reserve beside the database is used up now. Free some space");
            self.reserve = Reserve::Wanted;
            (level, free) = self.look();
        }
        if self.reserve == Reserve::Wanted && level == Level::Ample && free >= TIGHT + RESERVE {
            self.reserve = if self.make_reserve().is_ok() { Reserve::Held } else { Reserve::Never };
        }
        self.tell(level, free)
    }

    /// A file system that has found a fault in itself takes no write any more, also where it is not shown as one for reading only. A write
    /// of no bytes is refused as any other, and costs nothing.
    fn takes_writes(&mut self) -> bool {
        if self.probe.is_none() {
            match OpenOptions::new().write(true).open(&self.database) {
                Ok(file) => self.probe = Some(file),
                Err(error) => return error.kind() != io::ErrorKind::ReadOnlyFilesystem,
            }
        }
        self.probe.as_ref().is_none_or(|file| file.write_at(&[], 0).is_ok())
    }

    fn tell(&mut self, level: Level, free: u64) -> Level {
        if level != self.told {
            self.told = level;
            match level {
                Level::Ample => tracing::info!("there is room on the disk again: everything is written"),
                Level::Tight => tracing::error!(
                    free,
                    "the disk is almost full: new values of twins, retained messages and firmware are refused. Free some space"
                ),
                Level::Full => {
                    tracing::error!(free, "the disk is full: nothing is written, what is there goes on serving. Free some space")
                }
                Level::ReadOnly => tracing::error!(
                    "the disk can only be read: nothing is written, what is there goes on serving. Check its health, and mount it for writing"
                ),
            }
        }
        level
    }

    fn look(&self) -> (Level, u64) {
        // A disk that does not say is written to.
        let Ok(found) = statvfs(&self.dir) else { return (Level::Ample, 0) };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        (Level::of(free, found.f_flag.contains(StatVfsMountFlags::RDONLY)), free)
    }

    fn make_reserve(&self) -> io::Result<()> {
        let path = self.dir.join(RESERVE_FILE);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        if file.metadata()?.len() == RESERVE {
            return Ok(());
        }
        fallocate(&file, FallocateFlags::empty(), 0, RESERVE).map_err(|error| {
            let _ = fs::remove_file(&path);
            error.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_is_refused_before_what_a_home_needs() {
        assert_eq!(Level::of(u64::MAX, false), Level::Ample);
        assert_eq!(
            [Level::of(TIGHT, false), Level::of(TIGHT - 1, false), Level::of(FULL, false)],
            [Level::Ample, Level::Tight, Level::Tight]
        );
        assert_eq!([Level::of(FULL - 1, false), Level::of(u64::MAX, true)], [Level::Full, Level::ReadOnly]);
        assert!(Level::Tight.refuses("twins") && !Level::Tight.refuses("bindings") && !Level::Ample.refuses("twins"));
        assert!(Level::Tight.refusal().is_none() && matches!(Level::ReadOnly.refusal(), Some(StoreError::ReadOnly)));
        const { assert!(RESERVE >= 2 * FULL) };
    }

    #[test]
    fn a_reserve_lies_beside_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let mut room = Room::beside(&dir.path().join("hub.redb"));
        if room.level() == Level::Ample && room.reserve == Reserve::Held {
            assert_eq!(dir.path().join(RESERVE_FILE).metadata().unwrap().len(), RESERVE);
        }
    }
}
