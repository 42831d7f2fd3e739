//! Rows of what a home does when its hub dies: the public halves of the recovery code, the bundle, and how this hub stands
//! to the one before it and the one after it.

use super::serde_bytes_vec;
use serde::{Deserialize, Serialize};

/// What is kept of the recovery code: its public halves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryKeys {
    /// When the code was made, ms since 1970.
    pub made_at: u64,
    /// By whom: a subject's text.
    pub made_by: String,
    /// The Ed25519 key that signs epochs.
    pub public: [u8; 32],
    /// The age recipient to which bundles are sealed.
    pub recipient: String,
}

impl RecoveryKeys {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// A count of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCount {
    /// How many.
    pub count: u64,
}

impl ChangeCount {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// How often this database was opened. The journal beside it knows that too, and by it an older copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCount {
    /// How often.
    pub count: u64,
}

impl RunCount {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// The newest bundle that was handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleSent {
    /// When it was made, ms since 1970.
    pub at: u64,
    /// Its length.
    pub bytes: u64,
    /// The count of changes that it has.
    pub changes: u64,
    /// To which recipient it is sealed: a new code makes it useless.
    pub recipient: String,
    /// Identities that nobody has claimed are not in it.
    #[serde(default)]
    pub without_waiting: bool,
}

impl BundleSent {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// This hub has taken another's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When, ms since 1970.
    pub at: u64,
    /// When the bundle was made, ms since 1970, by the clock of the hub before.
    pub bundle_at: u64,
    /// The epoch it began with.
    pub epoch: u64,
    /// It is not known yet what was revoked after the bundle was made: rights of others than owners are suspended.
    pub review: bool,
    /// The statement that begins the epoch, as long as no cloud has taken it.
    #[serde(with = "serde_bytes_vec")]
    pub statement: Vec<u8>,
}

impl Restored {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// Another hub has taken this one's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// When this was learned, ms since 1970.
    pub at: u64,
    /// The epoch of the other one.
    pub epoch: u64,
    /// The statement that says so.
    #[serde(with = "serde_bytes_vec")]
    pub statement: Vec<u8>,
}

impl Retired {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// This hub follows one that was stolen, under an identity of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Following {
    /// Since when, ms since 1970.
    pub at: u64,
    /// The stolen hub, by its id.
    pub old: String,
    /// The statement of the recovery code that says so.
    #[serde(with = "serde_bytes_vec")]
    pub statement: Vec<u8>,
    /// This hub's own word to whom devices are to move, for their makers.
    #[serde(with = "serde_bytes_vec")]
    pub request: Vec<u8>,
    /// A cloud has taken the statement, or none is linked.
    pub told: bool,
}

impl Following {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}

/// An order to move, as its device reads it; to the hub it is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOrder {
    /// Its number: of two, the higher stands.
    pub counter: u64,
    /// The order.
    #[serde(with = "serde_bytes_vec")]
    pub order: Vec<u8>,
}
