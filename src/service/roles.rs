//! What each role, each scope and each privilege allows, generated from the tables that enforce it.

use super::Service;
use crate::domain::account::Role;
use crate::domain::authority::{HubAction, ServiceScope};
use crate::domain::binding::Privilege;
use crate::domain::policy::Action;
use serde::Serialize;

/// The tables, for people and programs to read.
#[derive(Clone, Debug, Serialize)]
pub struct Roles {
    /// What a role may do to the hub.
    pub roles: Vec<RoleView>,
    /// What a service account may do to the hub.
    pub scopes: Vec<ScopeView>,
    /// What a privilege on a device allows.
    pub privileges: Vec<PrivilegeView>,
}

/// A role.
#[derive(Clone, Debug, Serialize)]
pub struct RoleView {
    /// Which.
    pub role: Role,
    /// Whether it is one of a maker's people.
    pub vendor: bool,
    /// What it may do to the hub.
    pub hub: Vec<HubAction>,
    /// How far a support session may go with it.
    pub most_in_support: Option<Privilege>,
}

/// A scope of service accounts.
#[derive(Clone, Debug, Serialize)]
pub struct ScopeView {
    /// Which.
    pub scope: ServiceScope,
    /// What it opens.
    pub hub: Vec<HubAction>,
}

/// A privilege.
#[derive(Clone, Debug, Serialize)]
pub struct PrivilegeView {
    /// Which.
    pub privilege: Privilege,
    /// What it allows.
    pub device: Vec<Action>,
}

impl Service {
    /// What each role, scope and privilege allows.
    #[must_use]
    pub fn roles(&self) -> Roles {
        let hub = |may: &dyn Fn(HubAction) -> bool| HubAction::ALL.into_iter().filter(|a| may(*a)).collect();
        let role = |role: Role| RoleView {
            role,
            vendor: role.is_vendor(),
            hub: hub(&|action| role.may(action)),
            most_in_support: role.most_in_support(),
        };
        Roles {
            roles: Role::ALL.into_iter().map(role).collect(),
            scopes: ServiceScope::ALL.into_iter().map(|scope| ScopeView { scope, hub: hub(&|action| scope.may(action)) }).collect(),
            privileges: Privilege::ALL
                .into_iter()
                .map(|privilege| PrivilegeView { privilege, device: Action::ALL.into_iter().filter(|a| a.needs() <= privilege).collect() })
                .collect(),
        }
    }
}
