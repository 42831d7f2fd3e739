//! Makers: brands that the region serves, the identities of their devices, which hub is told of which, and who claims what.

pub(in crate::cloud) mod acts;
pub(in crate::cloud) mod assign;
pub(in crate::cloud) mod background;
pub(in crate::cloud) mod batch_file;
pub(in crate::cloud) mod calls;
pub(in crate::cloud) mod down;
pub(in crate::cloud) mod identities;
pub(in crate::cloud) mod jobs;
pub(in crate::cloud) mod ledger;
pub(in crate::cloud) mod line;
pub(in crate::cloud) mod moves;
pub(in crate::cloud) mod region;
pub(in crate::cloud) mod rule;
pub(in crate::cloud) mod sightings;
pub(in crate::cloud) mod staging;
pub(in crate::cloud) mod tenants;
pub(in crate::cloud) mod uploads;

use super::clock::Clock;
use super::keys::Keys;
use super::people::passwords::Passwords;
use super::pool::Shards;
use ed25519_dalek::SigningKey;
use region::RegionKey;
use std::sync::Arc;
use tokio::sync::Notify;

/// What the calls of makers and people work with.
pub(super) struct Makers {
    pub(super) shards: Shards,
    pub(super) region: Arc<RegionKey>,
    /// Signs bulletins.
    pub(super) cloud: SigningKey,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) passwords: Passwords,
    /// Items that may wait for one hub.
    pub(super) most_items: u64,
    /// Something waits to be done in the background.
    pub(super) wish: Notify,
}

impl Makers {
    /// Over these databases, with these keys.
    pub(super) fn new(shards: Shards, keys: &Keys, clock: Arc<dyn Clock>, most_items: u64) -> Makers {
        Makers {
            shards,
            region: Arc::new(RegionKey::new(&keys.region)),
            cloud: keys.cloud.clone(),
            clock,
            passwords: Passwords::default(),
            most_items,
            wish: Notify::new(),
        }
    }

    /// ms since 1970.
    pub(super) fn now(&self) -> u64 {
        self.clock.now_ms()
    }
}
