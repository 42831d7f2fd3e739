//! The journal beside the database, `hub.journal`: what no roll-back and no restore may lose. The store's writer appends to
//! it, in one write and one sync for a batch, before the batch's commit; its form is `domain::mirror::journal`'s.
//!
//! What is written and whose commit then fails or is cut off does no harm: a mark that was wanted and not acknowledged ends
//! what somebody wanted to end, and a counter that lies too high costs a device one challenge. Nothing in the journal ever
//! gives anything. Which rows are noted is [`derive`]'s; what a database that is older takes from it is decided in `service`.

mod derive;
mod disk;

pub(super) use derive::{concerns, entries_of, entries_of_all};
pub(super) use disk::{Disk, FileDisk};

use crate::domain::mirror::journal::{Entry, Known, MAGIC, Reader};
use std::io;
use std::path::Path;

/// The journal's name in the hub's directory.
pub const JOURNAL_FILE: &str = "hub.journal";

/// A journal is not written anew below so many bytes.
const SMALL: u64 = 1024 * 1024;
/// It is when it is longer than so many times what it says.
const GROWN: u64 = 4;
/// Bytes of a journal that are read at most: far beyond what a house of ten thousand devices has after every compaction.
const LONGEST: u64 = 256 * 1024 * 1024;

/// What a journal said when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// All of it, of each thing the highest.
    pub known: Known,
    /// Where the audit stood before the last time it was noted. A database that stands there lacks one batch, which was
    /// never acknowledged if it is no older copy.
    pub head_before: Option<(u64, [u8; 32])>,
    /// The write-ahead log beside the database was damaged or gone: of what was acknowledged last some may be missing there.
    pub lacks: bool,
    /// Up to where bytes held from the beginning.
    holds: u64,
    /// What followed did not hold, or parts of it: the file is to be written anew.
    damaged: bool,
}

/// Reads the bytes of a journal. What is damaged is passed over.
fn read_bytes(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    let take = |found: &mut Found, entry: Entry| {
        if matches!(entry, Entry::Head { .. }) && found.known.is_raised_by(&entry) {
            found.head_before = found.known.newest_head();
        }
        found.known.take(entry);
    };
    let mut reader = Reader::new(bytes).unwrap_or_else(|| {
        found.damaged = true;
        Reader::within(bytes)
    });
    reader.by_ref().for_each(|entry| take(&mut found, entry));
    found.holds = reader.position() as u64;
    while reader.pass_damage() {
        found.damaged = true;
        reader.by_ref().for_each(|entry| take(&mut found, entry));
    }
    found
}

/// What the journal at `path` says; `None` when there is none. It may be beside a hub that is stopped, or a copy.
///
/// # Errors
/// It cannot be read, or is longer than a journal can be.
pub fn read(path: &Path) -> io::Result<Option<Found>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(about) if about.len() > LONGEST => return Err(io::Error::other("it is longer than a journal can be")),
        other => other.map(drop)?,
    }
    Ok(Some(read_bytes(&std::fs::read(path)?)))
}

/// Why nothing was appended.
#[derive(Debug)]
pub(super) enum AppendError {
    /// Nothing is left of it; the next may go: the disk was full.
    Refused(io::Error),
    /// What is on the disk is not known: nothing more may be promised until it is opened again.
    Failed(io::Error),
}

impl AppendError {
    pub(super) fn into_cause(self) -> io::Error {
        match self {
            AppendError::Refused(cause) | AppendError::Failed(cause) => cause,
        }
    }
}

/// A journal, open for appending; what it says is known.
pub(super) struct Journal {
    disk: Box<dyn Disk>,
    known: Known,
    length: u64,
    /// Bytes that what is known takes, as it was last counted.
    live: u64,
    failed: bool,
}

impl Journal {
    /// Opens or creates the journal on `disk`. A tail that was torn is cut off, and one that is damaged otherwise is kept
    /// aside and written anew with all that could be read.
    pub(super) fn open(mut disk: Box<dyn Disk>) -> io::Result<(Journal, Found)> {
        let bytes = disk.read(LONGEST)?;
        let length = bytes.len() as u64;
        let found = read_bytes(&bytes);
        let known = found.known.clone();
        let mut journal = Journal { disk, live: framed(known.entries()).len() as u64, known, length, failed: false };
        if found.damaged {
            tracing::error!(
                "the journal beside the database was damaged: what could be read of it is kept, the file as it was in hub.journal.damaged"
            );
            journal.disk.keep_aside("damaged")?;
            journal.rewrite()?;
        } else if found.holds < length {
            tracing::warn!(bytes = length - found.holds, "the journal ended in a record that was not written to its end; it is cut off");
            journal.disk.cut(found.holds)?;
            journal.length = found.holds;
        }
        if journal.length == 0 {
            journal.rewrite()?;
        }
        Ok((journal, found))
    }

    /// Appends what raises what is known, and syncs it. Nothing is written when nothing does. What is of another hub than
    /// the one before begins a journal of its own; the other's is kept aside.
    pub(super) fn append(&mut self, entries: Vec<Entry>) -> Result<(), AppendError> {
        if self.failed {
            return Err(AppendError::Failed(io::Error::other("the journal has failed before; restart the hub")));
        }
        let other = entries.iter().any(|entry| matches!(entry, Entry::Hub(id) if self.known.hub.is_some_and(|known| known != *id)));
        if other {
            self.begin_anew().map_err(AppendError::Refused)?;
        }
        let fresh: Vec<Entry> = entries.into_iter().filter(|entry| self.known.is_raised_by(entry)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.compact_if_grown();
        let bytes = framed(fresh.iter().cloned());
        if let Err(error) = self.disk.append(self.length, &bytes) {
            // Whatever part of it was written must not stand before what comes next.
            return Err(match self.disk.cut(self.length) {
                Ok(()) => AppendError::Refused(error),
                Err(_) => self.fail(error),
            });
        }
        if let Err(error) = self.disk.sync() {
            // After a sync that failed nobody knows what is on the disk, and the next one may claim that all is well.
            return Err(self.fail(error));
        }
        self.length += bytes.len() as u64;
        fresh.into_iter().for_each(|entry| self.known.take(entry));
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> AppendError {
        self.failed = true;
        AppendError::Failed(error)
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        tracing::warn!("the journal beside the database is another hub's; it is kept as hub.journal.other, and a new one begun");
        self.disk.keep_aside("other")?;
        self.known = Known::default();
        self.rewrite()
    }

    /// Writes what is known, and nothing else, when the file has grown far beyond it.
    fn compact_if_grown(&mut self) {
        if self.length <= SMALL.max(self.live.saturating_mul(GROWN)) {
            return;
        }
        self.live = framed(self.known.entries()).len() as u64;
        if self.length > self.live.saturating_mul(GROWN)
            && let Err(error) = self.rewrite()
        {
            tracing::warn!(%error, "the journal could not be written anew; it goes on as it is");
        }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let bytes = [&MAGIC[..], &framed(self.known.entries())].concat();
        self.disk.replace(&bytes)?;
        self.live = bytes.len() as u64;
        self.length = self.live;
        Ok(())
    }
}

fn framed(entries: impl Iterator<Item = Entry>) -> Vec<u8> {
    entries.filter_map(|entry| entry.frame()).flatten().collect()
}

#[cfg(test)]
mod tests;
