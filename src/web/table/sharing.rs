//! Handing a device on, replacing one, the clock that timed rights hang on.

use super::Call;

/// The calls.
pub(super) static CALLS: &[Call] = &[];
