//! The decision core: who may do what to which device, now. Pure; silence is deny, a deny has a reason, and every
//! decision carries the age of the knowledge it was taken with. Per connection it is compiled into a [`Table`].

mod table;

pub use table::{PublishVerdict, Table};

use super::account::HouseholdRole;
use super::binding::{Binding, Privilege};
use super::device::Standing;
use serde::Serialize;

/// What can be asked of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Read the twin, presence, telemetry.
    View,
    /// Set what is not critical; run a command that is not critical.
    Operate,
    /// Set or run what is critical.
    OperateCritical,
    /// Change its name, room and settings.
    Manage,
    /// Change its bindings, remove it.
    Administer,
}

impl Action {
    /// All of them, weakest first.
    pub const ALL: [Action; 5] = [Action::View, Action::Operate, Action::OperateCritical, Action::Manage, Action::Administer];

    /// The least privilege that allows it.
    #[must_use]
    pub fn needs(self) -> Privilege {
        match self {
            Action::View => Privilege::View,
            Action::Operate => Privilege::Operate,
            Action::OperateCritical | Action::Manage => Privilege::Manage,
            Action::Administer => Privilege::Administer,
        }
    }
}

/// Why a decision fell as it did: a word for programs, a sentence for people by [`Reason::explain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A binding allows it.
    Bound,
    /// The account has ended.
    AccountEnded,
    /// Nobody has claimed the device.
    NotClaimed,
    /// There is no binding.
    NotBound,
    /// The binding was revoked.
    Revoked,
    /// The binding begins later.
    NotYet,
    /// The binding is over.
    Expired,
    /// The privilege is too low.
    PrivilegeTooLow,
    /// The device is suspended.
    Suspended,
    /// The device is quarantined.
    Quarantined,
}

impl Reason {
    /// For a person: what is so, and what to do.
    #[must_use]
    pub fn explain(self) -> &'static str {
        match self {
            Reason::Bound => "a binding allows it",
            Reason::AccountEnded => "the account has ended; ask an owner",
            Reason::NotClaimed => "nobody has claimed this device; claim it by the code on its label",
            Reason::NotBound => "you are not bound to this device; ask somebody who administers it to share it",
            Reason::Revoked => "your right to this device was revoked; ask who administers it",
            Reason::NotYet => "your right to this device begins later",
            Reason::Expired => "your right to this device has ended; ask for a new one",
            Reason::PrivilegeTooLow => "your right to this device does not go that far; ask who administers it for more",
            Reason::Suspended => "the device is suspended; an owner can resume it",
            Reason::Quarantined => "the device is quarantined because two things act as it; an owner can look at the evidence",
        }
    }

    /// The word, as in the API and the audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Bound => "bound",
            Reason::AccountEnded => "account_ended",
            Reason::NotClaimed => "not_claimed",
            Reason::NotBound => "not_bound",
            Reason::Revoked => "revoked",
            Reason::NotYet => "not_yet",
            Reason::Expired => "expired",
            Reason::PrivilegeTooLow => "privilege_too_low",
            Reason::Suspended => "suspended",
            Reason::Quarantined => "quarantined",
        }
    }
}

/// What a decision is taken from: the rows that bear on one subject and one device.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whether the subject's account lives.
    pub active: bool,
    /// The subject's role in the house, if it is a person.
    pub role: Option<HouseholdRole>,
    /// How the device stands.
    pub standing: Standing,
    /// The binding of the subject to the device, if there is one.
    pub binding: Option<&'a Binding>,
    /// The revocation mark of that binding; 0 when there is none.
    pub revoked_generation: u64,
    /// How old the knowledge of revocations from outside is, in ms; 0 with no cloud linked.
    pub policy_age_ms: u64,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Whether it may.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
    /// The age of the knowledge it was taken with, in ms.
    pub policy_age_ms: u64,
}

/// Decides. `now` is ms since 1970.
#[must_use]
pub fn decide(facts: &Facts<'_>, action: Action, now: u64) -> Decision {
    let reason = reason(facts, action, now);
    Decision { allowed: reason == Reason::Bound, reason, policy_age_ms: facts.policy_age_ms }
}

fn reason(facts: &Facts<'_>, action: Action, now: u64) -> Reason {
    if !facts.active {
        return Reason::AccountEnded;
    }
    if !facts.standing.is_bound() {
        return Reason::NotClaimed;
    }
    let Some(binding) = facts.binding else { return Reason::NotBound };
    if binding.generation <= facts.revoked_generation {
        return Reason::Revoked;
    }
    if binding.from.is_some_and(|from| now < from) {
        return Reason::NotYet;
    }
    if binding.until.is_some_and(|until| now >= until) {
        return Reason::Expired;
    }
    if binding.privilege < action.needs() {
        return Reason::PrivilegeTooLow;
    }
    let drives = matches!(action, Action::Operate | Action::OperateCritical);
    match facts.standing {
        Standing::Suspended if drives => Reason::Suspended,
        // Only owners keep a quarantined device.
        Standing::Quarantined if facts.role != Some(HouseholdRole::Owner) => Reason::Quarantined,
        _ => Reason::Bound,
    }
}

#[cfg(test)]
mod tests;
