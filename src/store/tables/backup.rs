//! Rows of backups: where they go and when, and how the newest ended.

use crate::domain::backup::keep::{Retention, Schedule};
use crate::domain::backup::target::Target;
use serde::{Deserialize, Serialize};

/// Where backups go, when, and with which ways in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSettings {
    /// Where.
    pub target: Option<Target>,
    /// When by themselves; only when an owner or the console asks, if absent.
    pub schedule: Option<Schedule>,
    /// How many are kept.
    #[serde(default)]
    pub retention: Retention,
    /// The passphrase that opens them too.
    pub passphrase: Option<PassphraseKey>,
    /// Since when this is so, ms since 1970.
    pub set_at: u64,
}

impl BackupSettings {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// What is kept of a passphrase: how it is stretched, and the public half of the key that it becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassphraseKey {
    /// The salt.
    pub salt: [u8; 16],
    /// KiB of memory.
    pub memory: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// The age recipient.
    pub recipient: String,
}

/// How backups ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupState {
    /// The newest that is there.
    pub good: Option<Ended>,
    /// What went wrong since; none after a good one.
    pub failed: Option<Ended>,
    /// How the newest rehearsal of a restore went.
    #[serde(default)]
    pub rehearsal: Option<Rehearsal>,
}

impl BackupState {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// An end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, ms since 1970.
    pub at: u64,
    /// The file's name; empty for a failure before there was one.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// What was so, and what to do, for a person; empty for a good one.
    pub detail: String,
}

/// How a rehearsal of a restore went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// When it ended, ms since 1970.
    pub at: u64,
    /// How long it took, in ms.
    pub took_ms: u64,
    /// The name of the backup, or of its newest increment; empty when it did not come so far.
    pub backup: String,
    /// As of when that is, ms since 1970.
    pub made_at: Option<u64>,
    /// Whether a restore would do.
    pub good: bool,
    /// What was looked at.
    pub proofs: Vec<Proven>,
    /// Why a restore would not do, and what to do; empty when it would.
    pub detail: String,
    /// Who asked: a subject's text.
    pub by: String,
}

/// One thing that a rehearsal has looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// What: `content`, `accounts`, `sign-in`, `twins`, `rights` or `audit`.
    pub what: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was seen.
    pub detail: String,
}
