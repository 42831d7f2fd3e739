//! Bodies about the audit.

use serde::Serialize;
use utoipa::ToSchema;

/// Who did what.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Its number.
    pub seq: u64,
    /// When, ms since 1970.
    pub at: u64,
    /// Who.
    pub actor: String,
    /// The person for whom an app acted, `user:<id>`; empty for all others.
    pub behalf: String,
    /// What.
    pub action: String,
    /// To what.
    pub object: String,
    /// `allowed`, `denied` or `done`.
    pub outcome: String,
    /// Why.
    pub reason: String,
    /// More, for a person.
    pub detail: String,
    /// Through what.
    pub via: String,
    /// Whether what was personal in it has been erased: detail, via, and a name that was tried.
    pub erased: bool,
}

/// A page of the audit, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// Its entries.
    pub entries: Vec<AuditEntry>,
    /// What to give as `before` for the page after; none on the last one. With a filter, a page that is not the last may be
    /// empty: one page looks at 10,000 entries at most.
    pub next: Option<u64>,
}

/// Whether the audit is whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditCheck {
    /// Whether it is.
    pub whole: bool,
    /// Where it is not, and why, for a person.
    pub broken: Option<String>,
    /// How many entries hold.
    pub entries: u64,
    /// Of how many of these what was personal has been erased.
    pub erased: u64,
    /// The first of them.
    pub first: Option<u64>,
    /// The newest of them.
    pub newest: Option<u64>,
    /// The hash of the newest, to note down.
    pub hash: Option<String>,
    /// What the hub has cut because there was no room.
    pub gaps: Vec<AuditGap>,
}

/// Entries that the hub has cut.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditGap {
    /// From this number on.
    pub from: u64,
    /// Up to this one.
    pub to: u64,
}
