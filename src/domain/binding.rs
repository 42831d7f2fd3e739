//! Bindings: who may do what to which device, given by whom. Whether one allows something now is `policy`'s.

use super::account::UserId;
use super::ids::DeviceId;
use serde::{Deserialize, Serialize};

/// Matter's four privileges, each holding those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// Reads the twin.
    View,
    /// Also sets what is not critical.
    Operate,
    /// Also what is critical, and settings.
    Manage,
    /// Also bindings and removal.
    Administer,
}

/// Who holds a binding, and who acts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A person's account.
    User(UserId),
    /// Another device.
    Device(DeviceId),
    /// A third party's app, by its id.
    App(String),
    /// A service account, by its id.
    Service(String),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::User(id) => write!(f, "user:{id}"),
            Subject::Device(id) => write!(f, "device:{id}"),
            Subject::App(id) => write!(f, "app:{id}"),
            Subject::Service(id) => write!(f, "service:{id}"),
        }
    }
}

/// A right of one subject on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// On which device.
    pub device: DeviceId,
    /// Whose.
    pub subject: Subject,
    /// How far it goes.
    pub privilege: Privilege,
    /// Who gave it: a subject's text, or `claim` when possession of the code did.
    pub granted_by: String,
    /// When, ms since 1970.
    pub granted_at: u64,
    /// Rises each time the right is given again; a revocation mark at or above it ends the right for ever.
    pub generation: u64,
    /// Not before, ms since 1970.
    pub from: Option<u64>,
    /// Not at or after, ms since 1970.
    pub until: Option<u64>,
}

/// A revocation, apart from the row it ends: it only ever grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationMark {
    /// Generations up to and including this one are over.
    pub generation: u64,
    /// When it was last raised, ms since 1970.
    pub at: u64,
    /// By whom.
    pub by: String,
}
