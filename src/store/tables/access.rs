//! Rows of what is handed out: invitations, and the tokens and codes of apps.

use crate::domain::account::{Role, UserId};
use crate::domain::binding::{Privilege, Terms};
use crate::domain::ids::DeviceId;
use crate::domain::oauth::Challenge;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// An access token of an app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppToken {
    /// Whose: an id of an authorization.
    pub app: String,
    /// Since when, ms since 1970.
    pub created_at: u64,
    /// Until when, ms since 1970.
    pub expires_at: u64,
}

/// The refresh token of an app that serves now. Those before it are known by a mark of the hub in their text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefreshToken {
    /// HMAC-SHA256 of the token under the hub's pepper.
    pub keyed_hash: [u8; 32],
    /// Rises with each new one.
    pub generation: u64,
}

/// A code that was given to an app's page, and what it stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthorizationCode {
    /// The app, by its client id.
    pub client: String,
    /// Where it was sent.
    pub redirect_uri: String,
    /// What proves who asked for it.
    pub challenge: Challenge,
    /// Who consented.
    pub user: UserId,
    /// To what.
    pub devices: Vec<ConsentedDevice>,
    /// How far it was asked for.
    pub scope: Privilege,
    /// When the leave ends that it stands for, ms since 1970.
    pub leave_until: u64,
    /// Until when the code serves, ms since 1970.
    pub expires_at: u64,
    /// It has been used.
    pub spent: bool,
    /// The leave that came of it.
    pub app: Option<String>,
}

/// What a person lets an app have of a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsentedDevice {
    /// Which.
    pub device: DeviceId,
    /// How far.
    pub privilege: Privilege,
    /// Only to these attributes and commands.
    pub only: Option<BTreeSet<String>>,
}

/// When an app was last heard. Written seldom: a card wears.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppLastUsed {
    /// ms since 1970.
    pub at: u64,
}

/// What somebody has promised to whoever shows the code. It holds nothing by itself: when it is accepted, it is asked
/// again whether the giver may give it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// Its id, for those who list it: a UUID in text without hyphens.
    pub id: String,
    /// Who gives.
    pub by: UserId,
    /// The role of the account that it makes; none when it is for somebody who has one.
    pub role: Option<Role>,
    /// How the one who is meant is called.
    pub display_name: String,
    /// The rights that it gives.
    pub grants: Vec<Promise>,
    /// When it was made, ms since 1970.
    pub created_at: u64,
    /// Until when it serves, ms since 1970.
    pub expires_at: u64,
}

/// A right that an invitation gives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Promise {
    /// On which device.
    pub device: DeviceId,
    /// What it gives.
    pub terms: Terms,
}
