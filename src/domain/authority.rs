//! What may be done to the hub itself, and by whom: the one table that enforces it and that the pages and the API show.
//! What may be done to a device is a binding's; who somebody is, `account`'s and `app`'s.

use super::account::Role;
use serde::{Deserialize, Serialize};

/// What can be done to the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HubAction {
    /// Bind an unbound device by its code.
    ClaimDevice,
    /// See that a device exists, whoever it belongs to.
    SeeAllDevices,
    /// Suspend and resume a device, look at the evidence of a clone, lift a quarantine.
    SuspendDevice,
    /// Make accounts.
    AddPeople,
    /// List people, change their roles, end accounts, reset passwords.
    ManagePeople,
    /// Read who did what.
    ReadAudit,
    /// Trust brands.
    ManageRegistry,
    /// Take in batches and vouchers of a brand that is trusted.
    ImportIdentities,
    /// Make and end service accounts and apps' registrations, list networks, open support sessions, change settings.
    ManageAccess,
    /// Read the metrics.
    ReadMetrics,
    /// Give apps and tokens a part of one's own rights.
    LinkApps,
}

impl HubAction {
    /// All of them, in the order in which they are shown.
    pub const ALL: [HubAction; 11] = [
        HubAction::ClaimDevice,
        HubAction::LinkApps,
        HubAction::SeeAllDevices,
        HubAction::SuspendDevice,
        HubAction::AddPeople,
        HubAction::ManagePeople,
        HubAction::ReadAudit,
        HubAction::ReadMetrics,
        HubAction::ManageRegistry,
        HubAction::ImportIdentities,
        HubAction::ManageAccess,
    ];
}

impl Role {
    /// What a role may do to the hub.
    #[must_use]
    pub fn may(self, action: HubAction) -> bool {
        match self {
            Role::Owner => true,
            Role::Member => matches!(action, HubAction::ClaimDevice | HubAction::LinkApps),
            // A guest uses what it is bound to; a maker's people use what a support session binds them to.
            Role::Guest | Role::Developer | Role::ProductManager | Role::Support => false,
        }
    }
}

/// What a service account may do to the hub: nothing but what it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceScope {
    /// Make accounts of members and guests.
    CreateUsers,
    /// Take in batches and vouchers.
    ImportIdentities,
    /// Read the audit.
    ReadAudit,
    /// Read the metrics.
    ReadMetrics,
}

impl ServiceScope {
    /// All of them.
    pub const ALL: [ServiceScope; 4] =
        [ServiceScope::CreateUsers, ServiceScope::ImportIdentities, ServiceScope::ReadAudit, ServiceScope::ReadMetrics];

    /// The word, as in the API and the audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceScope::CreateUsers => "create_users",
            ServiceScope::ImportIdentities => "import_identities",
            ServiceScope::ReadAudit => "read_audit",
            ServiceScope::ReadMetrics => "read_metrics",
        }
    }

    /// What it opens.
    #[must_use]
    pub fn may(self, action: HubAction) -> bool {
        action
            == match self {
                ServiceScope::CreateUsers => HubAction::AddPeople,
                ServiceScope::ImportIdentities => HubAction::ImportIdentities,
                ServiceScope::ReadAudit => HubAction::ReadAudit,
                ServiceScope::ReadMetrics => HubAction::ReadMetrics,
            }
    }
}

/// By what somebody may do something to the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// A person's role.
    Role(Role),
    /// What a service account was made for.
    Service(Vec<ServiceScope>),
    /// Nothing: devices and apps do nothing to the hub.
    Nothing,
}

impl Authority {
    /// Whether it reaches so far.
    #[must_use]
    pub fn may(&self, action: HubAction) -> bool {
        match self {
            Authority::Role(role) => role.may(action),
            Authority::Service(scopes) => scopes.iter().any(|s| s.may(action)),
            Authority::Nothing => false,
        }
    }

    /// The role, if it is a person's.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        match self {
            Authority::Role(role) => Some(*role),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_owner_reads_the_audit_and_a_guest_claims_nothing() {
        assert!(Role::Owner.may(HubAction::ReadAudit));
        assert!(!Role::Member.may(HubAction::ReadAudit));
        assert!(Role::Member.may(HubAction::ClaimDevice));
        assert!(!Role::Guest.may(HubAction::ClaimDevice));
    }

    #[test]
    fn a_makers_people_do_nothing_to_the_hub_and_a_service_only_what_it_was_made_for() {
        for action in HubAction::ALL {
            for role in [Role::Developer, Role::ProductManager, Role::Support] {
                assert!(!role.may(action), "{role:?} {action:?}");
            }
            let service = Authority::Service(vec![ServiceScope::CreateUsers]);
            assert_eq!(service.may(action), action == HubAction::AddPeople);
            assert!(!Authority::Nothing.may(action));
        }
    }
}
