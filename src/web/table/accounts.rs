//! Passwords, recovery, a second factor, one's own sessions and data.

use super::Call;

/// The calls.
pub(super) static CALLS: &[Call] = &[];
