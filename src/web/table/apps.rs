//! Apps: tokens, OAuth, and what a person has let act for them.

use super::Call;

/// The calls.
pub(super) static CALLS: &[Call] = &[];
