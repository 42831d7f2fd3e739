//! Bodies about service accounts, support sessions and the table of roles.

use super::{Privilege, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A service account to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewService {
    /// What people see, 1 to 64 characters.
    pub name: String,
    /// From where it may come: at most 20 addresses or networks, such as `192.0.2.0/24`.
    pub networks: Vec<String>,
    /// What it may do to the hub.
    pub scopes: Vec<Scope>,
}

/// What to change of a service account; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceEdit {
    /// What people see, 1 to 64 characters.
    #[serde(default)]
    pub name: Option<String>,
    /// From where it may come; what came from elsewhere ends.
    #[serde(default)]
    pub networks: Option<Vec<String>>,
    /// What it may do to the hub.
    #[serde(default)]
    pub scopes: Option<Vec<Scope>>,
}

/// What a service account may do to the hub.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Make accounts of members and guests.
    CreateUsers,
    /// Take in batches and vouchers of brands that are trusted.
    ImportIdentities,
    /// Read the audit.
    ReadAudit,
    /// Read the metrics.
    ReadMetrics,
}

impl From<Scope> for crate::domain::authority::ServiceScope {
    fn from(s: Scope) -> Self {
        match s {
            Scope::CreateUsers => Self::CreateUsers,
            Scope::ImportIdentities => Self::ImportIdentities,
            Scope::ReadAudit => Self::ReadAudit,
            Scope::ReadMetrics => Self::ReadMetrics,
        }
    }
}

/// A service account.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceAccount {
    /// Its id: what it signs in with as `client_id`, and its MQTT name behind `service:`.
    pub id: String,
    /// What people see.
    pub name: String,
    /// From where it may come.
    pub networks: Vec<String>,
    /// What it may do to the hub.
    pub scopes: Vec<Scope>,
    /// When it was made, ms since 1970.
    pub created_at: u64,
    /// By whom, as a subject's text.
    pub created_by: String,
}

/// A service account just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceWithSecret {
    /// Its id.
    pub id: String,
    /// `hkvs1.…`, shown this once.
    pub secret: String,
    /// What people see.
    pub name: String,
    /// From where it may come.
    pub networks: Vec<String>,
    /// What it may do to the hub.
    pub scopes: Vec<Scope>,
    /// When it was made, ms since 1970.
    pub created_at: u64,
    /// By whom, as a subject's text.
    pub created_by: String,
}

/// Service accounts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Services {
    /// Those that have not ended.
    pub services: Vec<ServiceAccount>,
}

/// A new secret of a service account.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceSecret {
    /// `hkvs1.…`, shown this once.
    pub secret: String,
}

/// What to change of an account; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserEdit {
    /// Another role; between those of the house only.
    #[serde(default)]
    pub role: Option<super::Role>,
    /// Another name to be called by; the user name when empty.
    #[serde(default)]
    pub display_name: Option<String>,
    /// For a maker's people: from where they may come; what came from elsewhere ends.
    #[serde(default)]
    pub networks: Option<Vec<String>>,
}

/// A support session to open.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSupport {
    /// Who is let in: one of a maker's people, by user name.
    pub username: String,
    /// To which devices, by id; 1 to 50, of that maker.
    pub devices: Vec<String>,
    /// How far: never beyond `view` for product managers, `operate` for support, `manage` for developers.
    pub privilege: Privilege,
    /// For how long, 1 to 480; 60 unless given.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 480)]
    pub minutes: Option<u64>,
    /// Why, 1 to 200 characters, for everybody in the house to read.
    pub reason: String,
}

/// A support session that is open.
#[derive(Debug, Serialize, ToSchema)]
pub struct Support {
    /// Its id.
    pub id: String,
    /// The account of who is let in.
    pub user: String,
    /// What people call them.
    pub name: String,
    /// What they are at the maker.
    pub role: Option<Role>,
    /// Whose they are.
    pub brand: Option<String>,
    /// To which devices.
    pub devices: Vec<SupportedDevice>,
    /// `view`, `operate` or `manage`.
    pub privilege: String,
    /// Why.
    pub reason: String,
    /// The owner's account who opened it.
    pub opened_by: String,
    /// What people call that owner.
    pub opened_by_name: String,
    /// When, ms since 1970.
    pub opened_at: u64,
    /// Until when, ms since 1970.
    pub until: u64,
}

/// A device of a support session.
#[derive(Debug, Serialize, ToSchema)]
pub struct SupportedDevice {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
}

/// Support sessions.
#[derive(Debug, Serialize, ToSchema)]
pub struct SupportSessions {
    /// Those that are open and concern who asks.
    pub sessions: Vec<Support>,
}

/// What each role, scope and privilege allows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Roles {
    /// What a role may do to the hub.
    pub roles: Vec<RoleRights>,
    /// What a service account may do to the hub.
    pub scopes: Vec<ScopeRights>,
    /// What a privilege on a device allows.
    pub privileges: Vec<PrivilegeRights>,
}

/// What a role may do.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoleRights {
    /// Which.
    pub role: Role,
    /// Whether it is one of a maker's people.
    pub vendor: bool,
    /// What it may do to the hub, as words.
    pub hub: Vec<String>,
    /// How far a support session may go with it; none for people of the house.
    pub most_in_support: Option<String>,
}

/// What a scope opens.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScopeRights {
    /// Which.
    pub scope: Scope,
    /// What it opens, as words.
    pub hub: Vec<String>,
}

/// What a privilege allows.
#[derive(Debug, Serialize, ToSchema)]
pub struct PrivilegeRights {
    /// `view`, `operate`, `manage` or `administer`.
    pub privilege: String,
    /// What it allows, as words.
    pub device: Vec<String>,
}
