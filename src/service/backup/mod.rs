//! Backups: everything the hub keeps, in one encrypted file that a new box becomes the same hub from, and increments that
//! follow it.
//!
//! What a file is: [`seal`] (chunks, the check of a whole file), [`content`] (rows), [`ways`] (who can open it). It is
//! written by [`make`] with the help of an [`index`] of the one before, restored by [`restore`], and proved by [`proof`].
//! Where files go, and the clockwork, are the room `backup`'s; what people set and see is [`desk`]'s.

mod content;
mod desk;
mod index;
mod make;
mod proof;
mod rehearsals;
mod restore;
mod samples;
mod seal;
#[cfg(test)]
mod tests;
mod ways;

pub use content::{Sum, Summary};
pub(super) use desk::Desk;
pub use desk::{BackupOutcome, BackupRun, BackupView, BackupWish, EndedView, ListedBackup, NewBackup, Passphrase};
pub use index::{Index as BackupIndex, Indexed};
pub use make::MadeBackup;
pub use proof::Proof;
pub use rehearsals::RehearsalWish;
pub use restore::{Chain, RestoreLife, RestoreReport, fill_from_backup};
pub use samples::Sample;
pub use seal::{Looked, check as check_backup, look as look_at_ends, look_at as look_at_backup};
pub use ways::Secrets;

use super::{Refusal, Service, random};
use crate::domain::backup::BackupId;
use crate::store::StoreError;
use std::io::{self, Write};
use zeroize::Zeroizing;

/// Why a backup is not made, or does not become a hub.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Another file.
    #[error("this is no backup of a hub: choose a file whose name ends in .hkbk")]
    NotABackup,
    /// A newer program made it.
    #[error("the backup was written by a newer version of this program{}: install that version, or a newer one, and try again", by(.0))]
    Newer(String),
    /// It breaks off.
    #[error("the backup breaks off, or something was added to it: copy it again from where it was kept, or use another one")]
    Short,
    /// It was changed.
    #[error("the backup is damaged, or was changed: copy it again from where it was kept, or use another one")]
    Altered,
    /// The code opens another.
    #[error("the recovery code does not open this backup: compare it with the paper; was a newer one made after the backup?")]
    WrongCode,
    /// The passphrase opens another.
    #[error("the passphrase does not open this backup: type it again; was another one set when the backup was made?")]
    WrongPassphrase,
    /// There was no code when it was made.
    #[error("this backup was made when the home had no recovery code: open it with the passphrase")]
    NotByCode,
    /// There was no passphrase when it was made.
    #[error("this backup was made without a passphrase: open it with the recovery code")]
    NotByPassphrase,
    /// Nothing to open it with.
    #[error("give the recovery code, or the passphrase of the backups")]
    NoSecret,
    /// The first is missing.
    #[error("an increment alone is no hub: the full backup {0} with which it begins is missing")]
    NoBase(BackupId),
    /// One between is missing.
    #[error("a backup is missing between: {0} is not there, and the one after it goes on from it")]
    Gap(BackupId),
    /// Of different hubs, or chains.
    #[error("these backups do not belong together: take one full backup and the increments that were made after it")]
    OtherChain,
    /// What was restored is not what the backup says.
    #[error("what was restored differs from what the backup says of the table {0}: use another backup, and report this")]
    Differs(String),
    /// A passphrase that is none.
    #[error("a passphrase has 12 to 256 characters; several words that nobody would guess are good ones")]
    Passphrase,
    /// Nobody could open it.
    #[error("make a recovery code first (page Cloud), or set a passphrase for backups: without either, nobody could open a backup")]
    NoWay,
    /// The hub has no keys yet.
    #[error("the hub has no keys: start it once")]
    NoKeys,
    /// The index is of another program.
    #[error("the tables are not those of the backup before: the next one has to be a full one")]
    OtherTables,
    /// Memory for stretching a passphrase.
    #[error("there is not enough memory to check the passphrase: close other programs, and try again")]
    Memory,
    /// Somebody has stopped it.
    #[error("the backup was interrupted; nothing of it was kept")]
    Interrupted,
    /// The file system.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn by(program: &str) -> String {
    if program.is_empty() { String::new() } else { format!(" ({program})") }
}

impl Service {
    /// Writes a backup of what stands now to `out`, and what is to be remembered of it to `index`; with a `previous` one
    /// only what has changed since. Readers and writers go on meanwhile. Blocks: for a thread of its own. `go_on` is
    /// asked every hundred rows, with their number.
    ///
    /// # Errors
    /// [`BackupError`]: what was written is of no use then.
    pub fn write_backup<W: Write, I: Write>(
        &self,
        previous: Option<BackupIndex>,
        out: W,
        index: I,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(MadeBackup, W, I), BackupError> {
        let none = |_: Refusal| BackupError::Io(io::Error::other("the system gave no randomness; try again"));
        let (id, key) = (BackupId::from_bytes(random().map_err(none)?), Zeroizing::new(random().map_err(none)?));
        let of = make::Of { hub: &self.hub.id, at: self.now(), id, key: &key };
        self.store.read(|v| make::write(v, &of, previous, out, index, go_on))
    }
}
