//! Evidence of clones, and the way out of quarantine.

use super::Call;

/// The calls.
pub(super) static CALLS: &[Call] = &[];
