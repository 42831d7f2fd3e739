//! A device as the hub knows it: its registered identity, its standing, its sign-in counter. Its state is `twin`,
//! its type `model`, its secrets `keys`.

use super::claim::ClaimHash;
use super::ids::{BrandId, DeviceId, ModelName};
use serde::{Deserialize, Serialize};

/// Where an identity came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A signed batch made for this hub, by its id in hex: the hub holds the device's hub-scoped key.
    Batch(String),
    /// A brand-signed voucher: no key, so nothing but the code is proved.
    Voucher,
    /// Made by this hub for a stock device, which proves nothing.
    Unattested,
}

impl Origin {
    /// How sure the hub is of a device with such an identity.
    #[must_use]
    pub fn trust(&self) -> Trust {
        match self {
            Origin::Batch(_) => Trust::Attested,
            Origin::Voucher => Trust::Provisional,
            Origin::Unattested => Trust::Unattested,
        }
    }
}

/// An identity in the registry. What is not here cannot connect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// The identity.
    pub id: DeviceId,
    /// Its maker.
    pub brand: BrandId,
    /// Its type.
    pub model: ModelName,
    /// Hardware revision, as the maker wrote it.
    pub hardware: String,
    /// Serial number, as the maker wrote it.
    pub serial: String,
    /// What its claim code must hash to.
    pub claim_hash: ClaimHash,
    /// When it was made, seconds since 1970, by the maker's word.
    pub made: u64,
    /// Where the identity came from.
    pub origin: Origin,
    /// When this hub learned of it, ms since 1970.
    pub added_at: u64,
}

/// How sure the hub is that a device is what it says. Always shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// It proved its device key against the registry.
    Attested,
    /// Voucher and code only.
    Provisional,
    /// A stock device with a credential given by hand.
    Unattested,
}

/// How a device stands at this hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Recognised, bound to nobody.
    #[default]
    Waiting,
    /// Bound; it has not yet signed in with what the claim gave it.
    Claimed,
    /// Bound, and the claim is complete.
    Ready,
    /// Shut out by an owner.
    Suspended,
    /// Shut out because two things act as this device.
    Quarantined,
}

impl Standing {
    /// Whether the device may sign in.
    #[must_use]
    pub fn admits(self) -> bool {
        !matches!(self, Standing::Suspended | Standing::Quarantined)
    }
    /// Whether somebody has claimed it (a suspended one stays claimed).
    #[must_use]
    pub fn is_bound(self) -> bool {
        !matches!(self, Standing::Waiting)
    }
}

impl Household {
    /// Shuts the device out because two things act as it; false when it is shut out already.
    pub fn quarantine(&mut self) -> bool {
        if !self.standing.admits() {
            return false;
        }
        self.before_quarantine = std::mem::replace(&mut self.standing, Standing::Quarantined);
        self.version += 1;
        true
    }

    /// Ends the quarantine; false when there is none. A device that was suspended on top of it stays suspended.
    pub fn lift(&mut self) -> bool {
        let quarantined = match self.standing {
            Standing::Suspended => &mut self.before_suspension,
            _ => &mut self.standing,
        };
        if *quarantined != Standing::Quarantined {
            return false;
        }
        *quarantined = self.before_quarantine;
        self.version += 1;
        true
    }

    /// Whether two things act as the device and no owner has looked yet, suspended or not.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.standing == Standing::Quarantined || (self.standing == Standing::Suspended && self.before_suspension == Standing::Quarantined)
    }
}

/// What the house has made of the device. Absent until it is first claimed or suspended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Household {
    /// How it stands.
    pub standing: Standing,
    /// What it was before it was suspended.
    pub before_suspension: Standing,
    /// What it was before it was quarantined.
    #[serde(default)]
    pub before_quarantine: Standing,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub room: String,
    /// Rises with each change of this record; the `ETag` of the device.
    pub version: u64,
    /// When it was claimed, ms since 1970.
    pub claimed_at: Option<u64>,
}

/// The last counter a device signed in with, stored before CONNACK.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SignInCounter {
    /// The highest accepted.
    pub counter: u64,
    /// SHA-256 of the last accepted token, to tell a replay from a lost counter.
    pub last_token: Vec<u8>,
    /// It was set by a re-base, and no token has been accepted since.
    #[serde(default)]
    pub rebased: bool,
    /// It comes from before the hub took another's place: tokens above it may have been used there, so the next one must
    /// be followed by a re-base.
    #[serde(default)]
    pub restored: bool,
}

/// How often a device has been reset by hand, by its own authenticated word.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResetCounter {
    /// The highest it has named.
    pub counter: u64,
}

/// When a device was last heard, written seldom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LastSeen {
    /// ms since 1970.
    pub at: u64,
}
