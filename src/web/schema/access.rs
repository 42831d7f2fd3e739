//! Bodies about rights: giving them, listing them, asking the policy why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A right to give.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBinding {
    /// To whom: a user name.
    pub username: String,
    /// How far.
    pub privilege: Privilege,
    /// Not before, ms since 1970.
    #[serde(default)]
    pub from: Option<u64>,
    /// Not at or after, ms since 1970.
    #[serde(default)]
    pub until: Option<u64>,
}

/// How far a right goes; each holds those before it.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
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

impl From<Privilege> for crate::domain::binding::Privilege {
    fn from(p: Privilege) -> Self {
        match p {
            Privilege::View => Self::View,
            Privilege::Operate => Self::Operate,
            Privilege::Manage => Self::Manage,
            Privilege::Administer => Self::Administer,
        }
    }
}

/// A right on a device.
#[derive(Debug, Serialize, ToSchema)]
pub struct Binding {
    /// On which device.
    pub device_id: String,
    /// The account's id.
    pub user: String,
    /// The account's name.
    pub username: String,
    /// `view`, `operate`, `manage` or `administer`.
    pub privilege: String,
    /// Not before, ms since 1970.
    pub from: Option<u64>,
    /// Not at or after, ms since 1970.
    pub until: Option<u64>,
    /// Who gave it; `claim` for who showed the code.
    pub granted_by: String,
    /// When, ms since 1970.
    pub granted_at: u64,
}

/// What is asked of the policy.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// On which device.
    pub device_id: String,
    /// To do what.
    pub action: Action,
    /// About whom: a user name; oneself when left out.
    #[serde(default)]
    pub username: Option<String>,
    /// At which time, ms since 1970; now when left out.
    #[serde(default)]
    pub at: Option<u64>,
}

/// What can be done to a device.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Read its state.
    View,
    /// Set or run what is not critical.
    Operate,
    /// Set or run what is critical.
    OperateCritical,
    /// Change its name and settings.
    Manage,
    /// Change its bindings, remove it.
    Administer,
}

impl From<Action> for crate::domain::policy::Action {
    fn from(a: Action) -> Self {
        match a {
            Action::View => Self::View,
            Action::Operate => Self::Operate,
            Action::OperateCritical => Self::OperateCritical,
            Action::Manage => Self::Manage,
            Action::Administer => Self::Administer,
        }
    }
}

/// The policy's answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// Whether it may.
    pub allowed: bool,
    /// Why, as a word.
    pub reason: String,
    /// Why, and what to do.
    pub explanation: String,
    /// How old the knowledge of revocations from outside is, in ms.
    pub policy_age_ms: u64,
    /// The privilege that the action needs.
    pub needs: String,
    /// The privilege that the binding gives, if there is one.
    pub privilege: Option<String>,
    /// Who gave it.
    pub granted_by: Option<String>,
}

/// Rights.
#[derive(Debug, Serialize, ToSchema)]
pub struct Bindings {
    /// Each of them.
    pub bindings: Vec<Binding>,
}
