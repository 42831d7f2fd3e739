//! Invitations, self-registration, sharing by link, and the hub's settings.

use super::Call;

/// The calls.
pub(super) static CALLS: &[Call] = &[];
