//! The row of the hub's own versions.

use serde::{Deserialize, Serialize};

/// Which versions of this program have served here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubUpdates {
    /// The highest release that ever stayed: what is not above it is not taken again.
    pub highest: u64,
    /// The number of the last update whose end was written into the audit.
    pub told: u64,
}

impl HubUpdates {
    /// The key of the only row.
    pub const ROW: &[u8] = b"hub";
}
