//! Service accounts, a maker's people, support sessions, roles.

use super::Call;

/// The calls.
pub(super) static CALLS: &[Call] = &[];
