//! The decision core: who may do what to which device, now. Pure; silence is deny, a deny has a reason, and every
//! decision carries the age of the knowledge it was taken with. Per connection it is compiled into a [`Table`].

mod table;

pub use table::{PublishVerdict, Table};

use super::account::Role;
use super::binding::{Binding, FROM_CLOUD, Privilege, Terms};
use super::device::Standing;
use super::time::{Grade, Moment};
use serde::Serialize;
use std::collections::BTreeSet;

/// What can be asked of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
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

const HOUR_MS: u64 = 3_600_000;

/// How old the knowledge of revocations from outside may be, in ms, for a right that came from there; `None` for ever. What
/// was given in the house never goes stale: an outage locks no family out.
#[must_use]
pub const fn budget(action: Action) -> Option<u64> {
    match action {
        Action::View => None,
        Action::Operate => Some(7 * 24 * HOUR_MS),
        Action::OperateCritical | Action::Manage | Action::Administer => Some(24 * HOUR_MS),
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
    /// It holds in weekly windows, and now is none of them.
    OutsideWindow,
    /// It holds for a time, and the hub does not know what time it is.
    TimeUnknown,
    /// The privilege is too low.
    PrivilegeTooLow,
    /// The right is to other attributes and commands of the device.
    NotCovered,
    /// All its uses are used.
    UsedUp,
    /// The app may, and the person it acts for may not.
    PersonMayNot,
    /// The device is suspended.
    Suspended,
    /// The device is quarantined.
    Quarantined,
    /// It is critical, and the device has not proved its key.
    NotAttested,
    /// What the device runs is not safe any more: it can only be updated.
    Behind,
    /// The hub has taken another's place and does not know what was revoked since.
    ReviewPending,
    /// The right came from outside, where it can be ended, and the hub has not heard from there for too long.
    PolicyStale,
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
            Reason::OutsideWindow => "your right to this device holds at other times of the week",
            Reason::TimeUnknown => {
                "your right to this device holds for a time, and the hub does not know what time it is: an owner who opens its page tells it"
            }
            Reason::NotCovered => "your right is to other functions of this device; ask who administers it for more",
            Reason::UsedUp => "your right to this device has been used as often as it was given for; ask for a new one",
            Reason::PersonMayNot => "the person this app acts for may not do this",
            Reason::PrivilegeTooLow => "your right to this device does not go that far; ask who administers it for more",
            Reason::Suspended => "the device is suspended; an owner can resume it",
            Reason::Quarantined => "the device is quarantined because two things act as it; an owner can look at the evidence",
            Reason::NotAttested => {
                "this can hurt, and the device has not proved that it is genuine; an owner can import its maker's batch, then pair it again"
            }
            Reason::Behind => {
                "what this device runs is not safe any more, and it is kept away from everything until it has been updated: who administers it can let it update"
            }
            Reason::ReviewPending => {
                "this hub has taken the place of a broken one and does not know yet what was revoked in the meantime: connect it to the internet, or ask an owner to look through who has which right"
            }
            Reason::PolicyStale => {
                "the hub has not heard for too long whether this right from outside still stands; connect it to the internet, or ask who administers the device"
            }
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
            Reason::OutsideWindow => "outside_window",
            Reason::TimeUnknown => "time_unknown",
            Reason::PrivilegeTooLow => "privilege_too_low",
            Reason::NotCovered => "not_covered",
            Reason::UsedUp => "used_up",
            Reason::PersonMayNot => "person_may_not",
            Reason::Suspended => "suspended",
            Reason::Quarantined => "quarantined",
            Reason::NotAttested => "not_attested",
            Reason::Behind => "behind",
            Reason::ReviewPending => "review_pending",
            Reason::PolicyStale => "policy_stale",
        }
    }
}

/// One who may have a right to a device, and what is known of that right.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// Whether its account lives (a device: whether it works for the house).
    pub active: bool,
    /// Its role in the house, if it is a person.
    pub role: Option<Role>,
    /// Its binding to the device, if there is one.
    pub binding: Option<&'a Binding>,
    /// The revocation mark of that binding; 0 when there is none.
    pub revoked_generation: u64,
    /// Whether its account was made from outside the house, and can be ended from there.
    pub from_cloud: bool,
}

impl Holder<'_> {
    /// Whether its right can be ended from outside the house: then it goes stale.
    fn can_be_ended_outside(&self) -> bool {
        self.from_cloud || self.binding.is_some_and(|binding| binding.origin == FROM_CLOUD)
    }
}

/// What a decision is taken from: the rows that bear on one subject and one device.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who asks.
    pub holder: Holder<'a>,
    /// The person an app acts for: it never has more.
    pub behalf: Option<Holder<'a>>,
    /// How the device stands.
    pub standing: Standing,
    /// Whether it has proved its key.
    pub attested: bool,
    /// Whether what it runs is below the security minimum of its model.
    pub behind: bool,
    /// The attribute or command in question; `None` when it is about the device as a whole.
    pub name: Option<&'a str>,
    /// How old the knowledge of revocations from outside is, in ms; 0 with no cloud linked.
    pub policy_age_ms: u64,
    /// The hub has taken another's place, and it is not known yet what was revoked after what it was made from.
    pub review_pending: bool,
}

impl<'a> Facts<'a> {
    fn holders(&self) -> impl Iterator<Item = Holder<'a>> + use<'a> {
        [Some(self.holder), self.behalf].into_iter().flatten()
    }

    /// The next moment after `now` at which a decision may fall otherwise, as long as no row changes and nothing is heard
    /// from outside, ms since 1970: a validity begins or ends, or what came from outside goes stale.
    #[must_use]
    pub fn next_edge(&self, now: &Moment) -> u64 {
        let valid = self.terms().map(|terms| terms.next_edge(now)).min().unwrap_or(u64::MAX);
        if !self.holders().any(|holder| holder.can_be_ended_outside()) {
            return valid;
        }
        // At its budget a right still holds.
        let left = Action::ALL.into_iter().filter_map(budget).filter_map(|budget| budget.checked_sub(self.policy_age_ms));
        left.map(|left| now.at.saturating_add(left).saturating_add(1)).fold(valid, u64::min)
    }

    /// The terms that bear on the decision.
    pub fn terms(&self) -> impl Iterator<Item = &'a Terms> + use<'a> {
        self.holders().filter_map(|h| h.binding).map(|b| &b.terms)
    }

    /// The attributes and commands that a restricted right is to: those that all its terms have in common. `None` when it
    /// is to the whole device.
    #[must_use]
    pub fn only(&self) -> Option<BTreeSet<String>> {
        self.terms().filter_map(|t| t.only.as_ref()).fold(None, |both: Option<BTreeSet<String>>, only| {
            Some(both.map_or_else(|| only.clone(), |both| both.intersection(only).cloned().collect()))
        })
    }
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

/// Decides.
#[must_use]
pub fn decide(facts: &Facts<'_>, action: Action, now: &Moment) -> Decision {
    let reason = match (of_holder(facts, &facts.holder, action, now), &facts.behalf) {
        (Reason::Bound, Some(person)) if of_holder(facts, person, action, now) != Reason::Bound => Reason::PersonMayNot,
        (reason, _) => reason,
    };
    Decision { allowed: reason == Reason::Bound, reason, policy_age_ms: facts.policy_age_ms }
}

fn of_holder(facts: &Facts<'_>, holder: &Holder<'_>, action: Action, now: &Moment) -> Reason {
    if !holder.active {
        return Reason::AccountEnded;
    }
    if !facts.standing.is_bound() {
        return Reason::NotClaimed;
    }
    let Some(binding) = holder.binding else { return Reason::NotBound };
    if binding.generation <= holder.revoked_generation {
        return Reason::Revoked;
    }
    // An owner reviews, so an owner's rights stand.
    if facts.review_pending && holder.role != Some(Role::Owner) {
        return Reason::ReviewPending;
    }
    let terms = &binding.terms;
    if terms.are_timed() && now.grade == Grade::None {
        return Reason::TimeUnknown;
    }
    if terms.from.is_some_and(|from| now.at < from) {
        return Reason::NotYet;
    }
    if terms.until.is_some_and(|until| now.at >= until) {
        return Reason::Expired;
    }
    if !terms.windows.is_empty() && !terms.windows.iter().any(|w| w.holds(&now.zone, now.at)) {
        return Reason::OutsideWindow;
    }
    // Name and room are settings of the whole device.
    if terms.privilege < action.needs() || (action == Action::Manage && terms.only.is_some()) {
        return Reason::PrivilegeTooLow;
    }
    if facts.name.is_some_and(|name| !terms.cover(name)) {
        return Reason::NotCovered;
    }
    let drives = matches!(action, Action::Operate | Action::OperateCritical);
    if drives && terms.uses == Some(0) {
        return Reason::UsedUp;
    }
    if holder.can_be_ended_outside() && budget(action).is_some_and(|budget| facts.policy_age_ms > budget) {
        return Reason::PolicyStale;
    }
    match facts.standing {
        Standing::Suspended if drives => Reason::Suspended,
        // Only owners keep a quarantined device.
        Standing::Quarantined if holder.role != Some(Role::Owner) => Reason::Quarantined,
        _ if drives && facts.behind => Reason::Behind,
        // Who has shown a code may be a copy of the thing behind which the door is.
        _ if action == Action::OperateCritical && !facts.attested => Reason::NotAttested,
        _ => Reason::Bound,
    }
}

#[cfg(test)]
mod tests;
