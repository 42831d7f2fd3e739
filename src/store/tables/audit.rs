//! Rows that stand beside the audit: where it was cut, and what was erased from it.

use super::serde_bytes_vec;
use crate::domain::account::UserId;
use serde::{Deserialize, Serialize};

/// The hub's statement up to where it has cut its audit.
#[derive(Clone, Serialize, Deserialize)]
pub struct AuditCut {
    /// As signed.
    #[serde(with = "serde_bytes_vec")]
    pub statement: Vec<u8>,
}

/// How far the audit has been looked through for what it has about a person.
#[derive(Clone, Serialize, Deserialize)]
pub struct AuditErasure {
    /// Who.
    pub user: UserId,
    /// The name the account had, folded, if it still had one.
    pub name: Option<String>,
    /// The entry to look at next.
    pub next: u64,
    /// The last entry to look at.
    pub to: u64,
}
