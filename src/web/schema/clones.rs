//! Bodies about clones: what speaks for one, and the way out of quarantine.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What speaks for two things acting as one device.
#[derive(Debug, Serialize, ToSchema)]
pub struct Evidence {
    /// The newest first.
    pub entries: Vec<EvidenceEntry>,
    /// Whether the device is quarantined now.
    pub quarantined: bool,
}

/// One piece of it, or what was done about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct EvidenceEntry {
    /// When, ms since 1970.
    pub at: u64,
    /// `counter_lost`, `contested`, `proved`, `quarantined` or `lifted`.
    pub kind: String,
    /// From which address.
    pub source: String,
    /// The client id, and the number of the sign-in.
    pub session: String,
    /// What it was, for a person.
    pub detail: String,
}

/// The end of a quarantine.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Lift {
    /// Why, for the record: at most 200 characters of it are kept.
    #[serde(default)]
    pub note: Option<String>,
}
