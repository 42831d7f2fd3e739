//! Bodies about the cloud that a home is linked to, and about keys for use from away.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// What an owner agrees to: what is mirrored, and what may come from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloudConsent {
    /// Names, rooms and standing of devices.
    Devices,
    /// Twins.
    Twins,
    /// Names and roles of people.
    People,
    /// The audit, without what is personal.
    Audit,
    /// The sealed recovery bundle.
    Bundle,
    /// Desires and commands of people away from home.
    Requests,
    /// Rights given from away, below `manage`.
    Grants,
    /// Also critical attributes and commands, and `manage`.
    Critical,
    /// Guests and members made by the system account.
    PeopleRequests,
}

impl From<CloudConsent> for crate::domain::mirror::wire::Consent {
    fn from(c: CloudConsent) -> Self {
        match c {
            CloudConsent::Devices => Self::Devices,
            CloudConsent::Twins => Self::Twins,
            CloudConsent::People => Self::People,
            CloudConsent::Audit => Self::Audit,
            CloudConsent::Bundle => Self::Bundle,
            CloudConsent::Requests => Self::Requests,
            CloudConsent::Grants => Self::Grants,
            CloudConsent::Critical => Self::Critical,
            CloudConsent::PeopleRequests => Self::PeopleRequests,
        }
    }
}

/// Which cloud to look at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudAddress {
    /// Its address, such as `https://cloud.example`.
    pub url: String,
}

/// What a cloud says of itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudView {
    /// The version of its protocol.
    pub v: u32,
    /// What people call it.
    pub name: String,
    /// Which region it serves.
    pub region: String,
    /// Its Ed25519 public key, base64url.
    pub key: String,
    /// The first 16 hex digits of that key's SHA-256.
    pub fingerprint: String,
    /// Its public address.
    pub url: String,
    /// Other regions and their addresses.
    pub regions: BTreeMap<String, String>,
    /// The makers it brings identities of.
    pub brands: Vec<CloudBrand>,
    /// `open`, `code` or `closed`.
    pub linking: String,
    /// Whether it is the one that is linked.
    pub trusted: bool,
}

/// A maker that a cloud brings identities of.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudBrand {
    /// Its name.
    pub id: String,
    /// The fingerprint of its root key.
    pub fingerprint: String,
}

/// A cloud to link.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCloud {
    /// Its address, as it said.
    pub url: String,
    /// Its key, base64url, as an owner has confirmed it.
    pub key: String,
    /// Its region.
    pub region: String,
    /// What is agreed to.
    pub consent: BTreeSet<CloudConsent>,
    /// Makers that are believed from now on, as the cloud showed them.
    #[serde(default)]
    pub brands: Vec<String>,
    /// What the cloud asks for, if it does.
    #[serde(default)]
    pub code: Option<String>,
}

/// Another consent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudEdit {
    /// What is agreed to from now on.
    pub consent: BTreeSet<CloudConsent>,
}

/// The link, and how it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cloud {
    /// Whether a cloud is linked.
    pub linked: bool,
    /// Its address.
    pub url: Option<String>,
    /// What it calls itself.
    pub name: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Its key, base64url; for owners.
    pub key: Option<String>,
    /// The fingerprint of that key.
    pub fingerprint: Option<String>,
    /// Since when, ms since 1970.
    pub linked_at: Option<u64>,
    /// Who linked it, an account's id; for owners.
    pub linked_by: Option<String>,
    /// What is agreed to.
    pub consent: BTreeSet<CloudConsent>,
    /// How it stands.
    pub state: CloudState,
    /// When the cloud was last heard, by its own clock, ms since 1970.
    pub last_success: Option<u64>,
    /// How old the knowledge of revocations from outside is, in ms; 0 with no cloud.
    pub policy_age_ms: u64,
    /// What waits to be sent; for owners.
    pub pending: Option<CloudPending>,
    /// What was refused that came from the cloud, newest first; for owners.
    pub refused: Vec<CloudRefused>,
    /// What the cloud tells, newest first; for owners.
    pub notices: Vec<CloudNotice>,
    /// The hub's epoch.
    pub epoch: u64,
    /// Whether another hub has taken this one's place.
    pub retired: bool,
    /// The hub's clock.
    pub clock: super::Clock,
}

/// How the link stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudState {
    /// `off`, `linking`, `idle`, `syncing`, `waiting` or `failing`.
    pub phase: String,
    /// What is wrong, if something is.
    pub problem: Option<CloudProblem>,
    /// When it is tried again, ms since 1970.
    pub retry_at: Option<u64>,
    /// Whether the cloud can wake the hub.
    pub connected: bool,
}

/// What is wrong with the link.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudProblem {
    /// `unreachable`, `portal`, `intercepted`, `proxy`, `signature`, `wrong_region`, `refused`, `clock` or `stale`.
    pub code: String,
    /// What is so.
    pub detail: String,
    /// What to do.
    pub next: String,
}

/// What waits to be sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudPending {
    /// Rows.
    pub rows: u64,
    /// Marks of revocation.
    pub marks: u64,
    /// Entries of the audit.
    pub audit: u64,
    /// Whether the recovery bundle waits.
    pub bundle: bool,
}

/// Something that came from the cloud and was refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudRefused {
    /// When, ms since 1970.
    pub at: u64,
    /// For whom, as the cloud says.
    pub by: String,
    /// `desire`, `command`, `grant`, `user` or `revoke`.
    pub verb: String,
    /// On which device.
    pub device: Option<String>,
    /// Why, as a word.
    pub code: String,
    /// Why, for a person.
    pub detail: String,
}

/// Something that the cloud tells owners.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudNotice {
    /// A word, such as `claimed_elsewhere`.
    pub code: String,
    /// About which device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// For people.
    pub text: String,
    /// When, ms since 1970.
    pub at: u64,
    /// Whether an owner has seen it.
    pub seen: bool,
}

/// A bulletin of revocations, carried here by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudBulletin {
    /// The cloud's signed statement, base64url.
    pub bulletin: String,
}

/// What a bulletin has changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct TakenBulletin {
    /// Marks that were new.
    pub marks: u64,
}

/// A key for use from away.
#[derive(Debug, Serialize, ToSchema)]
pub struct AwayKey {
    /// Its id.
    pub id: String,
    /// What its person calls it.
    pub name: String,
    /// Since when, ms since 1970.
    pub created_at: u64,
    /// Until when it serves, ms since 1970.
    pub until: u64,
}

/// One's own keys for use from away.
#[derive(Debug, Serialize, ToSchema)]
pub struct AwayKeys {
    /// The oldest first.
    pub keys: Vec<AwayKey>,
}

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAwayKey {
    /// What one calls it.
    pub name: String,
    /// For how many days, 1 to 366; 90 unless given.
    #[serde(default)]
    pub days: Option<u64>,
}

/// A key just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeAwayKey {
    /// Its id.
    pub id: String,
    /// The key itself, shown this once.
    pub token: String,
    /// Where it is used.
    pub url: String,
    /// Until when it serves, ms since 1970.
    pub until: u64,
}
