//! The audit beyond its newest page: filtering, exporting, checking.

use super::Call;

/// The calls.
pub(super) static CALLS: &[Call] = &[];
