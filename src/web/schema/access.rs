//! Bodies about rights: giving them, listing them, asking the policy why.

use crate::domain::binding::Terms;
use crate::domain::ids::DeviceId;
use crate::net::problem::Problem;
use crate::service::{Grant, Recipient};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// A right to give.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBinding {
    /// To whom: a user name. This, `device` or `service`.
    #[serde(default)]
    pub username: Option<String>,
    /// To which other device, by its id: it then does something with this one.
    #[serde(default)]
    pub device: Option<String>,
    /// To which service account, by its id.
    #[serde(default)]
    pub service: Option<String>,
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

/// A time that comes back each week.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// On which days it begins: `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`.
    pub days: Vec<String>,
    /// From when, `HH:MM`.
    pub from: String,
    /// Until when, `HH:MM`; on the next day when it is not after `from`.
    pub to: String,
}

impl NewBinding {
    /// What is given, and to whom.
    ///
    /// # Errors
    /// For a person: nobody, or more than one, is named; a window cannot be read.
    pub(crate) fn into_grant(self) -> Result<Grant, Problem> {
        let to = match (self.username, self.device, self.service) {
            (Some(name), None, None) => Recipient::Person(name),
            (None, Some(device), None) => {
                Recipient::Device(DeviceId::parse(&device).map_err(|_| Problem::not_found().detail("there is no such device"))?)
            }
            (None, None, Some(service)) => Recipient::Service(service),
            _ => return Err(Problem::invalid("username: name one of username, device and service")),
        };
        let terms = Terms {
            privilege: self.privilege.into(),
            only: self.only,
            from: self.from,
            until: self.until,
            windows: self.windows.into_iter().map(Window::read).collect::<Result<_, _>>()?,
            uses: self.uses,
        };
        Ok(Grant { to, terms })
    }
}

impl Window {
    /// The window that is meant.
    ///
    /// # Errors
    /// What cannot be read, for a person.
    pub(crate) fn read(self) -> Result<crate::domain::time::Window, Problem> {
        let text = serde_json::json!({"days": self.days, "from": self.from, "to": self.to});
        serde_json::from_value(text).map_err(|e| Problem::invalid(format!("windows: {e}")))
    }
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
    /// Whose: `user:<id>`, `device:<id>`, `app:<id>` or `service:<id>`.
    pub subject: String,
    /// The account's id, if it is a person's.
    pub user: Option<String>,
    /// The account's name, if it is a person's.
    pub username: Option<String>,
    /// What people call its holder.
    pub name: String,
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
    /// How many uses are left.
    pub uses: Option<u32>,
    /// Who gave it; `claim` for who showed the code.
    pub granted_by: String,
    /// What people call who gave it.
    pub granted_by_name: String,
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
    /// With which attribute or command; with the device as a whole when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// About whom: a user name, or `device:<id>`, `app:<id>`, `service:<id>`; oneself when left out.
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
