//! Facts for the policy, loaded from the store; decisions; and the tables compiled for connections.

use super::{Actor, Refusal, Service, SignedIn};
use crate::domain::account::{HouseholdRole, HubAction, User, UserId};
use crate::domain::binding::{Binding, Privilege, RevocationMark, Subject};
use crate::domain::device::{Household, Registered};
use crate::domain::ids::DeviceId;
use crate::domain::policy::{Action, Facts, Table, decide};
use crate::store::tables::{BindingIndex, binding_key, subject_prefix};
use crate::store::{Read, StoreError};

/// Rows that bear on one subject and one device.
pub(super) struct Rows {
    pub(super) household: Household,
    pub(super) binding: Option<Binding>,
    pub(super) revoked: u64,
}

impl Rows {
    pub(super) fn load<R: Read>(rows: &R, subject: &Subject, device: &DeviceId) -> Result<Rows, StoreError> {
        let key = binding_key(device, subject);
        Ok(Rows {
            household: rows.get::<Household>(device.as_str().as_bytes())?.unwrap_or_default(),
            binding: rows.get::<Binding>(&key)?,
            revoked: rows.get::<RevocationMark>(&key)?.map_or(0, |m| m.generation),
        })
    }

    pub(super) fn facts(&self, active: bool, role: Option<HouseholdRole>) -> Facts<'_> {
        Facts {
            active,
            role,
            standing: self.household.standing,
            binding: self.binding.as_ref(),
            revoked_generation: self.revoked,
            // No cloud is linked: what was granted in the house never goes stale.
            policy_age_ms: 0,
        }
    }
}

/// Whether `actor` may do `action` to the hub, by the role that is stored now: called first in a transaction, because
/// the account may have ended, or lost the role, since the request came in. The role, for what depends on it further.
///
/// # Errors
/// [`Refusal::SignedOut`] for an account that has ended, [`Refusal::RoleTooLow`].
pub(super) fn require_role<R: Read>(rows: &R, actor: &Actor, action: HubAction) -> Result<HouseholdRole, Refusal> {
    let role = if actor.user == UserId::console() {
        // Whoever holds the box has no account that could end.
        actor.role
    } else {
        let user = rows.get::<User>(actor.user.as_str().as_bytes())?;
        user.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?.role
    };
    if role.may(action) { Ok(role) } else { Err(Refusal::RoleTooLow) }
}

impl Service {
    /// Whether `actor` may do `action` to `device`, from `rows`. What it may not even see is not found.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::NotAllowed`].
    pub(super) fn require<R: Read>(&self, rows: &R, actor: &Actor, device: &DeviceId, action: Action) -> Result<Rows, Refusal> {
        let found = Rows::load(rows, &actor.subject(), device)?;
        // The account is read again inside the transaction: it may have ended since the request came in.
        let user = rows.get::<User>(actor.user.as_str().as_bytes())?;
        let role = user.as_ref().map(|u| u.role);
        let facts = found.facts(user.is_some_and(|u| !u.ended), role);
        let now = self.now();
        let decision = decide(&facts, action, now);
        if decision.allowed {
            return Ok(found);
        }
        let may_know = decide(&facts, Action::View, now).allowed
            || (facts.active
                && role.is_some_and(|r| r.may(HubAction::SeeAllDevices))
                && rows.get::<Registered>(device.as_str().as_bytes())?.is_some());
        Err(if may_know { Refusal::NotAllowed(decision.reason) } else { Refusal::NotFound("device") })
    }

    /// The privilege `actor` has on `device` now, if any.
    pub(super) fn privilege(&self, rows: &Rows, role: HouseholdRole) -> Option<Privilege> {
        let facts = rows.facts(true, Some(role));
        let now = self.now();
        [Action::Administer, Action::Manage, Action::View]
            .into_iter()
            .find(|a| decide(&facts, *a, now).allowed)
            .and(rows.binding.as_ref())
            .map(|b| b.privilege)
    }

    /// The table of a connection that has just signed in.
    #[must_use]
    pub fn compile_for(&self, who: &SignedIn) -> Table {
        match &who.subject {
            Subject::Device(id) if who.rebase => Table::of_rebase(id.as_str()),
            Subject::Device(id) => Table::of_device(id.as_str()),
            subject => self.compile_bound(subject),
        }
    }

    /// The table of a connection anew, after the policy has changed; `known` is the one it had.
    #[must_use]
    pub fn compile(&self, subject: &Subject, known: &Table) -> Table {
        match subject {
            // A device's room does not change; one that may not be here any more is closed instead.
            Subject::Device(_) => known.clone(),
            subject => self.compile_bound(subject),
        }
    }

    fn compile_bound(&self, subject: &Subject) -> Table {
        let loaded = self.store.read::<_, StoreError>(|v| {
            let (active, role) = match subject {
                Subject::User(id) => {
                    let user = v.get::<User>(id.as_str().as_bytes())?;
                    (user.as_ref().is_some_and(|u| !u.ended), user.map(|u| u.role))
                }
                _ => (false, None),
            };
            let mut all = Vec::new();
            for (_, index) in v.scan::<BindingIndex>(&subject_prefix(subject), 10_000)? {
                let rows = Rows::load(v, subject, &index.device)?;
                all.push((index.device, rows));
            }
            Ok((active, role, all))
        });
        match loaded {
            Ok((active, role, all)) => {
                Table::of_bound(all.iter().map(|(device, rows)| (device.as_str(), rows.facts(active, role))), self.now())
            }
            Err(error) => {
                // What cannot be read allows nothing.
                tracing::error!(%error, "a policy could not be compiled; the connection has no rights");
                Table::nothing()
            }
        }
    }
}
