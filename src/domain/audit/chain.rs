//! The chain as a whole: where it ends, and following it from its beginning.

use super::octets;
use serde::{Deserialize, Serialize};

/// Where the chain ends, and how much room it takes: kept apart from it, so that an end that was cut off is missed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The newest entry's number; 0 before there is one.
    pub seq: u64,
    /// The newest entry's hash.
    #[serde(with = "octets")]
    pub hash: [u8; 32],
    /// Bytes of all rows that are kept, those beside the chain too.
    pub bytes: u64,
}

impl Head {
    /// Number and hash of the newest entry.
    #[must_use]
    pub fn newest(&self) -> Option<(u64, [u8; 32])> {
        (self.seq > 0).then_some((self.seq, self.hash))
    }
}
