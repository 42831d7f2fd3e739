//! The shapes of bodies, as `docs/protocol/api.md` has them: what calls read, and what the machine-readable description
//! says of them. Answers are written by the service's own views; that both agree is a test of the descriptions.

mod access;
mod accounts;
mod apps;
mod backup;
mod history;
mod invitations;
mod mirror;
mod pairing;
mod recovery;
mod services;
mod system;
mod update;

pub use access::{Action, Binding, Bindings, Explanation, NewBinding, Privilege, Question, Window};
pub use apps::{
    AnyApps, AppDeviceChoice, Apps, Client, Clients, ConsentAnswer, ConsentQuestion, MadeAppToken, NewAppToken, NewClient, OauthError,
    OauthMetadata, Redirect, RevocationRequest, TokenRequest, Tokens,
};
pub use backup::{
    BackupEdit, BackupEnd, BackupFile, BackupRetention, BackupRun, BackupSchedule, BackupTarget, BackupWish, Backups, Rehearsal,
    RehearsalProof, RehearsalWish,
};
pub use history::{AuditCheck, AuditEntry, AuditGap, AuditPage};
pub use invitations::{
    Clock, ClockWord, Gift, HouseRole, Invitation, InvitationCode, InvitationLook, Invitations, MadeInvitation, NewInvitation, Promised,
    PromisedGift, Registration, Settings, SettingsEdit,
};
pub use mirror::{
    AwayKey, AwayKeys, Cloud, CloudAddress, CloudBrand, CloudBulletin, CloudConsent, CloudEdit, CloudNotice, CloudPending, CloudProblem,
    CloudRefused, CloudState, CloudView, MadeAwayKey, NewAwayKey, NewCloud, TakenBulletin,
};
pub use pairing::{
    DeviceSettings, MadeDevice, Nearby, NearbyThing, NewDevice, NewPairing, Pairing, PairingConfirmation, PairingProblem, Pairings, Radio,
    RadioWifi, Scan, WifiChoice, WifiUse,
};
pub use recovery::{HomeRecoveryCode, Moves, MovingDevice, OrdersTaken, Recovery, RecoveryBundle, RestoredHub};
pub use services::{
    NewService, NewSupport, PrivilegeRights, RoleRights, Roles, Scope, ScopeRights, ServiceAccount, ServiceEdit, ServiceSecret,
    ServiceWithSecret, Services, Support, SupportSessions, SupportedDevice, UserEdit,
};
pub use system::{SystemAge, SystemBundle, SystemFate, SystemInstall, SystemPhase, SystemSlot, SystemTried, SystemUpdate};
pub use update::{HubUpdate, HubUpdateEnd, HubUpdateOutcome, HubUpdatePhase, OfferedHubRelease};
mod handover;

pub use handover::{Replacement, Transfer};
mod clones;
mod firmware;

pub use firmware::{
    ChosenFirmwarePolicy, DeviceFirmware, EndedOffer, Firmware, FirmwareApproval, FirmwareCache, FirmwarePolicy, FirmwareProgress,
    FirmwareRelease, FirmwareStop, FirmwareVerdict, ImportedRelease, ImportingRelease, ModelFirmware,
};

pub use clones::{Evidence, EvidenceEntry, Lift};

pub use accounts::{
    Display, Export, PasswordAgain, PasswordCheck, PasswordReset, RecoveryCode, RecoveryCodes, ResetCode, SecondFactor, SecondFactorCode,
    SessionEntry, Sessions, Strength,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// A password: redacted, and wiped after use.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn into_inner(self) -> Zeroizing<String> {
        self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Secret(Zeroizing::new(text)))
    }
}

/// The first owner.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The one-time code that the hub printed.
    pub code: String,
    /// The name to sign in with.
    pub username: String,
    /// 8 to 256 characters.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 256)]
    pub password: Secret,
    /// How the person wants to be called.
    #[serde(default)]
    pub display_name: Option<String>,
}

/// Who signs in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The name.
    pub username: String,
    /// The password.
    #[schema(value_type = String, format = Password)]
    pub password: Secret,
    /// A code of the authenticator app, or a recovery code.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub second_factor: Option<Secret>,
}

/// An account to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The name to sign in with.
    pub username: String,
    /// 8 to 256 characters.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 256)]
    pub password: Secret,
    /// How the person wants to be called.
    #[serde(default)]
    pub display_name: Option<String>,
    /// What it may do to the hub.
    pub role: Role,
    /// For a maker's people: whose they are, a brand that is trusted here.
    #[serde(default)]
    pub brand: Option<String>,
    /// For a maker's people: from where they may come; at most 20 addresses or networks, such as `192.0.2.0/24`.
    #[serde(default)]
    pub networks: Option<Vec<String>>,
}

/// What somebody is in the house, or at a maker; `GET /roles` says what each may do.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Owner,
    /// Claims devices and uses those it is bound to.
    Member,
    /// Uses the devices it is bound to.
    Guest,
    /// A maker's developer: manages in a support session.
    Developer,
    /// A maker's product manager: looks in a support session.
    ProductManager,
    /// A maker's support: operates in a support session.
    Support,
}

impl From<Role> for crate::domain::account::Role {
    fn from(r: Role) -> Self {
        match r {
            Role::Owner => Self::Owner,
            Role::Member => Self::Member,
            Role::Guest => Self::Guest,
            Role::Developer => Self::Developer,
            Role::ProductManager => Self::ProductManager,
            Role::Support => Self::Support,
        }
    }
}

/// A password to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The present one.
    #[schema(value_type = String, format = Password)]
    pub current: Secret,
    /// The new one, 8 to 256 characters.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 256)]
    pub new: Secret,
}

/// What to change of a device's record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceEdit {
    /// A new name.
    #[serde(default)]
    pub name: Option<String>,
    /// A new room.
    #[serde(default)]
    pub room: Option<String>,
}

/// A device to claim.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The code as typed, or the whole text of the QR code.
    pub code: String,
    /// Which device, when the code alone does not say.
    #[serde(default)]
    pub device_id: Option<String>,
    /// What to call it.
    #[serde(default)]
    pub name: Option<String>,
    /// Where it is.
    #[serde(default)]
    pub room: Option<String>,
}

/// A command to run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCommand {
    /// Which, by the device's model.
    pub name: String,
    /// With what.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub args: Value,
    /// For how long it is worth doing, in ms; 30000 unless given.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// How long to wait for the result, in ms; at most 30000.
    #[serde(default)]
    #[schema(maximum = 30_000)]
    pub wait_ms: Option<u64>,
}

/// A request for a client certificate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// PKCS #10, PEM.
    pub csr: String,
}

/// The root of a brand that an owner has compared.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustBrand {
    /// As the maker publishes it.
    pub fingerprint: String,
}

/// The hub.
#[derive(Debug, Serialize, ToSchema)]
pub struct Hub {
    /// Its id.
    pub hub_id: String,
    /// Its name in the house.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Whether it waits for its first owner.
    pub setup_required: bool,
    /// SHA-256 of its CA's certificate.
    pub ca_fingerprint: String,
    /// Whether anybody may make a guest's account.
    pub open_registration: bool,
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// Its id.
    pub id: String,
    /// The name it signs in with.
    pub username: String,
    /// How the person wants to be called.
    pub display_name: String,
    /// What it may do to the hub.
    #[schema(inline, example = "member")]
    pub role: String,
    /// For a maker's people: whose they are.
    pub brand: Option<String>,
    /// For a maker's people: from where they may come.
    pub networks: Option<Vec<String>>,
    /// Whether signing in takes a second factor.
    pub second_factor: bool,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    /// Its id.
    pub id: String,
    /// The name it signs in with.
    pub username: String,
    /// How the person wants to be called.
    pub display_name: String,
    /// What it may do to the hub.
    #[schema(inline, example = "member")]
    pub role: String,
    /// For a maker's people: whose they are.
    pub brand: Option<String>,
    /// For a maker's people: from where they may come.
    pub networks: Option<Vec<String>>,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub struct Opened {
    /// Whose.
    pub user: User,
    /// `hkt1.…`, shown this once.
    pub token: String,
    /// Until when, ms since 1970.
    pub expires: u64,
}

/// All accounts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Users {
    /// Those that have not ended.
    pub users: Vec<User>,
}

/// A device as the asking account sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// Its maker.
    pub brand: String,
    /// Its type.
    pub model: String,
    /// Hardware revision.
    pub hardware: String,
    /// Serial number.
    pub serial: String,
    /// What kind of thing.
    pub kind: String,
    /// What the maker calls it.
    pub title: String,
    /// `attested`, `provisional` or `unattested`.
    pub trust: String,
    /// `waiting`, `claimed`, `ready`, `suspended` or `quarantined`.
    pub state: String,
    /// Whether it is connected.
    pub online: bool,
    /// When it was last heard, ms since 1970.
    pub last_seen: Option<u64>,
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub room: String,
    /// `view`, `operate`, `manage`, `administer`, or none.
    pub privilege: Option<String>,
    /// The attributes and commands that the right is restricted to, when it is.
    pub only: Option<Vec<String>>,
    /// What to know before using it: that it is quarantined, or kept away from everything until it has been updated.
    pub warning: Option<String>,
    /// The version of its firmware, if it has said it.
    pub firmware: Option<String>,
    /// Whether that is below the security minimum of its model.
    pub behind: bool,
    /// The record's version: its `ETag`.
    pub version: u64,
}

/// The devices that the asking account may see.
#[derive(Debug, Serialize, ToSchema)]
pub struct Devices {
    /// All of them.
    pub devices: Vec<Device>,
}

/// The state of a device.
#[derive(Debug, Serialize, ToSchema)]
pub struct Twin {
    /// What people want.
    #[schema(value_type = Object)]
    pub desired: Value,
    /// What the device says.
    #[schema(value_type = Object)]
    pub reported: Value,
    /// What is desired and not reported.
    #[schema(value_type = Object)]
    pub delta: Value,
    /// Rises with each change: its `ETag`.
    pub version: u64,
    /// When each value was written.
    #[schema(value_type = Object)]
    pub metadata: Value,
    /// Whether what the device runs is not safe any more: then it hears of nothing until it has been updated.
    pub behind: bool,
}

/// What to merge into desired; null takes a value away (RFC 7396).
#[derive(Debug, ToSchema)]
#[schema(value_type = Object)]
pub struct Desired(pub Value);

/// A command and how far it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Command {
    /// Its id.
    pub id: String,
    /// Of which device.
    pub device_id: String,
    /// Which.
    pub name: String,
    /// With what.
    #[schema(value_type = Object)]
    pub args: Value,
    /// `waiting` (connected, and it does not listen yet), `sent` (the device has it), `running`, `done`, `failed` or `expired`.
    pub status: String,
    /// What the device says about it.
    pub message: String,
    /// What it returned: any JSON.
    pub result: Value,
    /// Who asked.
    pub by: String,
    /// When, ms since 1970.
    pub at: u64,
    /// Until when it may be done, ms since 1970.
    pub expires: u64,
}

/// A client certificate.
#[derive(Debug, Serialize, ToSchema)]
pub struct Certificate {
    /// PEM.
    pub certificate: String,
    /// The hub's CA, PEM.
    pub ca: String,
    /// Until when it holds, ms since 1970.
    pub expires: u64,
}

/// A device type.
#[derive(Debug, Serialize, ToSchema)]
pub struct Model {
    /// Its name.
    pub model: String,
    /// What people call it.
    pub title: String,
    /// Its version.
    pub version: u64,
    /// What kind of thing.
    pub kind: String,
    /// Its attributes by name.
    #[schema(value_type = Object)]
    pub attributes: Value,
    /// Its commands by name.
    #[schema(value_type = Object)]
    pub commands: Value,
}

/// A brand that is believed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Brand {
    /// Its name.
    pub id: String,
    /// Its root's fingerprint.
    pub fingerprint: String,
    /// Since when, ms since 1970.
    pub trusted_at: u64,
    /// By whom.
    pub trusted_by: String,
    /// How many of its devices the registry knows.
    pub devices: u64,
}

/// All brands that are believed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Brands {
    /// All of them.
    pub brands: Vec<Brand>,
}

/// What an import did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Import {
    /// Whose identities.
    pub brand: String,
    /// The batch, in hex.
    pub batch_id: String,
    /// Identities that were new.
    pub added: u64,
    /// Identities that were known.
    pub known: u64,
    /// Models that came along.
    pub models: Vec<String>,
}

/// A device that the hub now recognises.
#[derive(Debug, Serialize, ToSchema)]
pub struct Introduced {
    /// Its id.
    pub device_id: String,
    /// Its maker.
    pub brand: String,
    /// Its type.
    pub model: String,
}

/// Why a call was refused (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:hearthkey:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What programs compare.
    pub code: String,
    /// What is wrong this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
