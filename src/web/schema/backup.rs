//! Bodies about backups.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// That a backup is wanted now.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupWish {
    /// One's own password, again.
    pub password: String,
    /// A full one also where an increment would do.
    pub full: Option<bool>,
}

/// What to set; what is absent stays, and null takes away.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupEdit {
    /// One's own password, again.
    pub password: String,
    /// `{"kind":"folder","path"}`, `{"kind":"usb","path"}`, or `{"kind":"s3","endpoint","region","bucket","prefix",
    /// "access_key","secret_key","path_style"}`.
    #[schema(value_type = Option<Object>)]
    pub target: Option<Value>,
    /// When.
    pub schedule: Option<BackupSchedule>,
    /// How many are kept.
    pub retention: Option<BackupRetention>,
    /// A passphrase that opens those made from now on: 12 to 256 characters.
    pub passphrase: Option<String>,
}

/// When backups are made by themselves.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupSchedule {
    /// At which minute of the home's day, 0 to 1439.
    pub minute: u16,
    /// Every so many days, 1 to 31.
    pub every_days: u16,
    /// A full one again after so many days; 0: always.
    pub full_every_days: u16,
}

/// How many are kept: the newest of each of the last so many days, weeks and months.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupRetention {
    /// Days.
    pub daily: u16,
    /// Weeks.
    pub weekly: u16,
    /// Months.
    pub monthly: u16,
}

/// How the present backup goes, and how the one before ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupRun {
    /// How many have ended since the hub has started.
    pub ended: u64,
    /// Whether one runs.
    pub running: bool,
    /// Rows that it has gone through.
    pub rows: u64,
    /// How the newest ended: `{"outcome":"good","id","name","bytes","full"}` or `{"outcome":"failed","detail"}`.
    #[schema(value_type = Option<Object>)]
    pub outcome: Option<Value>,
}

/// How a backup ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupEnd {
    /// When, ms since 1970.
    pub at: u64,
    /// The file's name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// What was so, and what to do.
    pub detail: String,
}

/// Where backups go.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupTarget {
    /// `folder`, `usb` or `s3`.
    pub kind: String,
    /// For people, without the secret.
    pub text: String,
}

/// A file where backups go.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupFile {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Option<String>,
    /// The one it goes on from.
    pub parent: Option<String>,
    /// `full` or `increment`.
    pub kind: Option<String>,
    /// When it was made, ms since 1970.
    pub made_at: Option<u64>,
    /// Its bytes.
    pub bytes: u64,
    /// Whether it is whole, and everything it goes on from is there.
    pub good: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// That a restore is to be rehearsed: with the code, or the passphrase.
#[derive(Debug, Serialize, ToSchema)]
pub struct RehearsalWish {
    /// One's own password, again; that one can sign in with it is tried.
    pub password: String,
    /// The home's recovery code.
    pub code: Option<String>,
    /// The passphrase of the backups.
    pub passphrase: Option<String>,
}

/// How a rehearsal of a restore went.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rehearsal {
    /// When it ended, ms since 1970.
    pub at: u64,
    /// How long it took, in ms.
    pub took_ms: u64,
    /// The name of the backup, or of its newest increment; may be empty.
    pub backup: String,
    /// As of when that is, ms since 1970.
    pub made_at: Option<u64>,
    /// Whether a restore would do.
    pub good: bool,
    /// What was looked at.
    pub proofs: Vec<RehearsalProof>,
    /// Why a restore would not do, and what to do; may be empty.
    pub detail: String,
    /// Who asked.
    pub by: String,
}

/// One thing that a rehearsal has looked at.
#[derive(Debug, Serialize, ToSchema)]
pub struct RehearsalProof {
    /// `content`, `accounts`, `sign-in`, `twins`, `rights` or `audit`.
    pub what: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was seen.
    pub detail: String,
}

/// Backups as an owner sees them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Backups {
    /// Where they go.
    pub target: Option<BackupTarget>,
    /// When, by themselves.
    pub schedule: Option<BackupSchedule>,
    /// How many are kept.
    pub retention: BackupRetention,
    /// Whether the recovery code opens the next one.
    pub by_code: bool,
    /// Whether a passphrase does.
    pub by_passphrase: bool,
    /// When the next one is due, ms since 1970.
    pub next_at: Option<u64>,
    /// The newest that is there.
    pub good: Option<BackupEnd>,
    /// What went wrong since.
    pub failed: Option<BackupEnd>,
    /// How the newest rehearsal of a restore went.
    pub rehearsal: Option<Rehearsal>,
    /// Whether one goes on.
    pub rehearsing: bool,
    /// How the present one goes.
    pub run: BackupRun,
    /// What is there, newest first.
    pub backups: Vec<BackupFile>,
    /// When that was looked at, ms since 1970.
    pub listed_at: u64,
}
