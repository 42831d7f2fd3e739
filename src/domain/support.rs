//! Support sessions: for what, how far and until when an owner lets one of a maker's people in. Outside an open one a
//! maker's person has no right to any device. Opening and ending them is `service`'s.

use super::account::UserId;
use super::binding::Privilege;
use super::ids::DeviceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Longest that one lasts, in ms.
pub const LONGEST_MS: u64 = 8 * 3600 * 1000;
/// Devices of one session.
pub const MOST_DEVICES: usize = 50;
/// Longest reason, in characters.
pub const REASON_CHARS: usize = 200;

/// An open support session. One that has ended is only in the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportSession {
    /// Its id, as in `support:<id>`: a UUID in text without hyphens.
    pub id: String,
    /// Who is let in.
    pub user: UserId,
    /// To which devices; at least one.
    pub devices: BTreeSet<DeviceId>,
    /// How far.
    pub privilege: Privilege,
    /// Why, for people.
    pub reason: String,
    /// The owner who opened it: it lives no longer than that owner's say over the devices.
    pub opened_by: UserId,
    /// When, ms since 1970.
    pub opened_at: u64,
    /// Until when, ms since 1970.
    pub until: u64,
    /// The devices whose state has been looked at, each of which is recorded once.
    #[serde(default)]
    pub looked_at: BTreeSet<DeviceId>,
}

impl SupportSession {
    /// Whether it lets its person in to `device` at `now`, ms since 1970.
    #[must_use]
    pub fn covers(&self, device: &DeviceId, now: u64) -> bool {
        now < self.until && self.devices.contains(device)
    }
}
