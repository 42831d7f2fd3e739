//! Bodies about invitations, accounts made by oneself, the home's settings, and the hub's clock.

use super::{Privilege, Secret, Window};
use crate::domain::binding::Terms;
use crate::domain::ids::DeviceId;
use crate::net::problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// An invitation to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// The role of the account that it makes; left out, it is for somebody who has an account.
    #[serde(default)]
    pub role: Option<HouseRole>,
    /// How the one who is meant is called.
    #[serde(default)]
    pub display_name: Option<String>,
    /// The rights that it gives, each device once.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub grants: Vec<Gift>,
    /// For how long it serves, in ms; seven days unless given.
    #[serde(default)]
    #[schema(minimum = 60_000, maximum = 2_592_000_000_u64)]
    pub expires_in_ms: Option<u64>,
}

/// What somebody is in the house.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HouseRole {
    /// Everything.
    Owner,
    /// Claims devices and uses those it is bound to.
    Member,
    /// Uses the devices it is bound to.
    Guest,
}

/// A right to promise.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Gift {
    /// On which device.
    pub device_id: String,
    /// How far.
    pub privilege: Privilege,
    /// Only to these attributes and commands; to all when left out.
    #[serde(default)]
    pub only: Option<BTreeSet<String>>,
    /// Not before, ms since 1970.
    #[serde(default)]
    pub from: Option<u64>,
    /// Not at or after, ms since 1970.
    #[serde(default)]
    pub until: Option<u64>,
    /// Only in these weekly windows, by the home's clock; always when left out.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// How many times something may be done with it; any number when left out.
    #[serde(default)]
    pub uses: Option<u32>,
}

impl NewInvitation {
    /// What is promised.
    ///
    /// # Errors
    /// For a person: a device that cannot be one, a window that cannot be read.
    pub(crate) fn read(self) -> Result<crate::service::NewInvitation, Problem> {
        use crate::domain::account::Role;
        Ok(crate::service::NewInvitation {
            role: self.role.map(|role| match role {
                HouseRole::Owner => Role::Owner,
                HouseRole::Member => Role::Member,
                HouseRole::Guest => Role::Guest,
            }),
            display_name: self.display_name.unwrap_or_default(),
            grants: self.grants.into_iter().map(Gift::read).collect::<Result<_, _>>()?,
            expires_in_ms: self.expires_in_ms,
        })
    }
}

impl Gift {
    fn read(self) -> Result<(DeviceId, Terms), Problem> {
        let device = DeviceId::parse(&self.device_id).map_err(|_| Problem::not_found().detail("there is no such device"))?;
        let terms = Terms {
            privilege: self.privilege.into(),
            only: self.only,
            from: self.from,
            until: self.until,
            windows: self.windows.into_iter().map(Window::read).collect::<Result<_, _>>()?,
            uses: self.uses,
        };
        Ok((device, terms))
    }
}

/// An invitation just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeInvitation {
    /// Its id.
    pub id: String,
    /// Its code, shown this once.
    pub code: String,
    /// The link to hand on.
    pub link: String,
    /// The same as a QR code: SVG.
    pub qr: String,
    /// Until when it serves, ms since 1970.
    pub expires: u64,
}

/// Open invitations, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Invitations {
    /// Each of them.
    pub invitations: Vec<Invitation>,
}

/// An invitation.
#[derive(Debug, Serialize, ToSchema)]
pub struct Invitation {
    /// Its id.
    pub id: String,
    /// Who gives: an account's id.
    pub by: String,
    /// What people call who gives.
    pub by_name: String,
    /// `owner`, `member` or `guest`; none when it is for somebody who has an account.
    pub role: Option<String>,
    /// How the one who is meant is called.
    pub display_name: String,
    /// The rights that it gives.
    pub grants: Vec<Promised>,
    /// When it was made, ms since 1970.
    pub created_at: u64,
    /// Until when it serves, ms since 1970.
    pub expires: u64,
}

/// A right that an invitation gives.
#[derive(Debug, Serialize, ToSchema)]
pub struct Promised {
    /// On which device.
    pub device_id: String,
    /// What people call it.
    pub device_name: String,
    /// `view`, `operate`, `manage` or `administer`.
    pub privilege: String,
    /// The attributes and commands it is restricted to.
    pub only: Option<BTreeSet<String>>,
    /// Not before, ms since 1970.
    pub from: Option<u64>,
    /// Not at or after, ms since 1970.
    pub until: Option<u64>,
    /// The weekly windows it is restricted to.
    pub windows: Vec<Window>,
    /// How many uses it gives.
    pub uses: Option<u32>,
}

/// What an invitation promises, to who is invited.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvitationLook {
    /// The hub's name.
    pub hub: String,
    /// What people call who gives.
    pub by_name: String,
    /// `owner`, `member` or `guest`; none when it is for somebody who has an account.
    pub role: Option<String>,
    /// How the one who is meant is called.
    pub display_name: String,
    /// The rights that it gives.
    pub grants: Vec<PromisedGift>,
    /// Until when it serves, ms since 1970.
    pub expires: u64,
}

/// A right that an invitation gives, without the device's id.
#[derive(Debug, Serialize, ToSchema)]
pub struct PromisedGift {
    /// What people call the device.
    pub device_name: String,
    /// `view`, `operate`, `manage` or `administer`.
    pub privilege: String,
    /// The attributes and commands it is restricted to.
    pub only: Option<BTreeSet<String>>,
    /// Not before, ms since 1970.
    pub from: Option<u64>,
    /// Not at or after, ms since 1970.
    pub until: Option<u64>,
    /// The weekly windows it is restricted to.
    pub windows: Vec<Window>,
    /// How many uses it gives.
    pub uses: Option<u32>,
}

/// The code of an invitation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvitationCode {
    /// As typed, or as it stands in the link.
    pub code: String,
}

/// An account to make for oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The invitation's code; left out while the hub lets anybody make an account.
    #[serde(default)]
    pub code: Option<String>,
    /// The name to sign in with.
    pub username: String,
    /// 8 to 256 characters.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 256)]
    pub password: Secret,
    /// How the person wants to be called.
    #[serde(default)]
    pub display_name: Option<String>,
}

/// What the home has set.
#[derive(Debug, Serialize, ToSchema)]
pub struct Settings {
    /// Whether anybody may make an account, as a guest.
    pub open_registration: bool,
    /// The home's time zone, by its IANA name.
    pub time_zone: String,
    /// How many bytes of audit are kept.
    pub audit_max_bytes: u64,
    /// Whether the hub may hand its own Wi-Fi to devices that are paired.
    pub share_wifi: bool,
}

/// What to change of the settings; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsEdit {
    /// Whether anybody may make an account, as a guest.
    #[serde(default)]
    pub open_registration: Option<bool>,
    /// The home's time zone, by its IANA name.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// How many bytes of audit are kept.
    #[serde(default)]
    #[schema(minimum = 1_048_576, maximum = 4_294_967_296_u64)]
    pub audit_max_bytes: Option<u64>,
    /// Whether the hub may hand its own Wi-Fi to devices that are paired.
    #[serde(default)]
    pub share_wifi: Option<bool>,
}

/// The hub's clock.
#[derive(Debug, Serialize, ToSchema)]
pub struct Clock {
    /// ms since 1970.
    pub now: u64,
    /// How far that is believed: `none`, `ntp` or `vouched`.
    pub grade: String,
    /// The home's time zone, by its IANA name.
    pub time_zone: String,
    /// Whether the box's clock and an owner differ: then the time counts as unknown.
    pub contradicted: bool,
}

/// What time it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockWord {
    /// ms since 1970.
    pub now: u64,
}
