//! Facts for the policy, loaded from the store; decisions; and the tables compiled for connections.

use super::firmware::is_behind;
use super::mirror::is_from_cloud;
use super::support::support_of;
use super::{Actor, Refusal, Service, SignedIn};
use crate::domain::account::{Role, User, UserId};
use crate::domain::app::{Authorization, ServiceAccount, is_listed};
use crate::domain::authority::{Authority, HubAction};
use crate::domain::binding::{Binding, Privilege, RevocationMark, Subject};
use crate::domain::device::{Household, Registered, Standing, Trust};
use crate::domain::ids::DeviceId;
use crate::domain::policy::{Action, Facts, Holder, Reason, Table, decide};
use crate::domain::support::SupportSession;
use crate::domain::time::Moment;
use crate::store::tables::{BindingIndex, binding_key, subject_prefix};
use crate::store::{Read, StoreError, Tx};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A moment, and how old the knowledge of revocations from outside is in it.
pub(super) struct Now {
    pub(super) moment: Moment,
    /// In ms; 0 while no cloud is linked.
    pub(super) policy_age_ms: u64,
}

impl std::ops::Deref for Now {
    type Target = Moment;
    fn deref(&self) -> &Moment {
        &self.moment
    }
}

/// Rows that bear on one subject and one device.
pub(super) struct Rows {
    pub(super) household: Household,
    /// The device has proved its key.
    attested: bool,
    /// What it runs is below the security minimum.
    behind: bool,
    pub(super) own: Side,
    /// The person an app acts for.
    behalf: Option<Side>,
    policy_age_ms: u64,
    review_pending: bool,
}

/// What is known of one who may hold a right.
pub(super) struct Side {
    active: bool,
    role: Option<Role>,
    pub(super) binding: Option<Binding>,
    revoked: u64,
    /// Its account was made from outside.
    from_cloud: bool,
}

impl Side {
    fn load<R: Read>(rows: &R, subject: &Subject, device: &DeviceId, party: &Party, now: u64) -> Result<Side, StoreError> {
        let key = binding_key(device, subject);
        let let_in = party.support.as_ref().is_none_or(|open| open.iter().any(|s| s.covers(device, now)));
        Ok(Side {
            active: party.active,
            role: party.authority.role(),
            binding: rows.get::<Binding>(&key)?.filter(|_| let_in),
            revoked: rows.get::<RevocationMark>(&key)?.map_or(0, |m| m.generation),
            from_cloud: party.from_cloud,
        })
    }

    fn holder(&self) -> Holder<'_> {
        Holder {
            active: self.active,
            role: self.role,
            binding: self.binding.as_ref(),
            revoked_generation: self.revoked,
            from_cloud: self.from_cloud,
        }
    }
}

/// A subject as the store knows it now.
pub(super) struct Party {
    /// Whether its account lives (a device: whether it works for the house).
    pub(super) active: bool,
    /// What it may do to the hub.
    pub(super) authority: Authority,
    /// The person an app acts for.
    pub(super) behalf: Option<UserId>,
    /// From where alone it may come, if it may not come from anywhere.
    networks: Option<Vec<IpNet>>,
    /// For one of a maker's people: the support sessions in which they are let in. Outside these they have no right,
    /// whatever bindings there are.
    support: Option<Vec<SupportSession>>,
    /// What others than owners may do waits for an owner's look.
    review_pending: bool,
    /// The account was made from outside.
    from_cloud: bool,
}

impl Party {
    pub(super) fn load<R: Read>(rows: &R, subject: &Subject, now: u64) -> Result<Party, StoreError> {
        let review_pending = super::recovery::review_pending(rows)?;
        let nobody = Party {
            active: false,
            authority: Authority::Nothing,
            behalf: None,
            networks: None,
            support: None,
            review_pending,
            from_cloud: false,
        };
        Ok(match subject {
            Subject::User(id) => match rows.get::<User>(id.as_str().as_bytes())? {
                Some(user) if !user.ended && user.role.is_vendor() => Party {
                    active: true,
                    authority: Authority::Role(user.role),
                    networks: Some(user.networks),
                    support: Some(support_of(rows, id)?),
                    ..nobody
                },
                Some(user) if !user.ended => {
                    Party { active: true, authority: Authority::Role(user.role), from_cloud: is_from_cloud(&user), ..nobody }
                }
                _ => nobody,
            },
            Subject::App(id) => match rows.get::<Authorization>(id.as_bytes())? {
                Some(given) if given.holds(now) => {
                    // A leave holds as long as its person is one who may give it.
                    let person = Party::load(rows, &Subject::User(given.user.clone()), now)?;
                    let active = person.active && person.authority.may(HubAction::LinkApps);
                    Party { active, behalf: Some(given.user), ..nobody }
                }
                _ => nobody,
            },
            Subject::Service(id) => match rows.get::<ServiceAccount>(id.as_bytes())? {
                Some(service) if !service.ended => {
                    Party { active: true, authority: Authority::Service(service.scopes), networks: Some(service.networks), ..nobody }
                }
                _ => nobody,
            },
            Subject::Device(id) => {
                let key = id.as_str().as_bytes();
                let ready = rows.get::<Household>(key)?.is_some_and(|h| h.standing == Standing::Ready);
                // Who has proved nothing but a code drives nobody else.
                let attested = rows.get::<Registered>(key)?.is_some_and(|r| r.origin.trust() == Trust::Attested);
                // Nor does what has to be updated before anything else.
                let active = ready && attested && !is_behind(rows, id)?;
                Party { active, ..nobody }
            }
        })
    }
}

impl Party {
    /// Whether it may do nothing for now, because it is not known whether it still may.
    fn is_suspended(&self) -> bool {
        self.review_pending && self.authority.role() != Some(Role::Owner)
    }

    /// Whether it may come from `source` at all.
    pub(super) fn may_come_from(&self, source: IpAddr) -> bool {
        self.networks.as_ref().is_none_or(|networks| is_listed(networks, source))
    }
}

impl Rows {
    pub(super) fn load<R: Read>(rows: &R, subject: &Subject, device: &DeviceId, now: &Now) -> Result<Rows, StoreError> {
        Rows::of(rows, subject, &Party::load(rows, subject, now.at)?, device, now)
    }

    fn of<R: Read>(rows: &R, subject: &Subject, party: &Party, device: &DeviceId, now: &Now) -> Result<Rows, StoreError> {
        let behalf = match party.behalf.clone().map(Subject::User) {
            Some(person) => Some(Side::load(rows, &person, device, &Party::load(rows, &person, now.at)?, now.at)?),
            None => None,
        };
        let key = device.as_str().as_bytes();
        let attested = rows.get::<Registered>(key)?.is_some_and(|r| r.origin.trust() == Trust::Attested);
        let mut own = Side::load(rows, subject, device, party, now.at)?;
        // Nothing but people, and what acts for them, drives what has not proved its key.
        own.active &= attested || !subject.is_device();
        Ok(Rows {
            household: rows.get::<Household>(key)?.unwrap_or_default(),
            attested,
            behind: is_behind(rows, device)?,
            own,
            behalf,
            policy_age_ms: now.policy_age_ms,
            review_pending: party.review_pending,
        })
    }

    /// As if no review of others' rights were pending: for comparing decisions of before and after a restore.
    pub(super) fn without_review(&mut self) {
        self.review_pending = false;
    }

    /// The facts; `name` is the attribute or command in question, if there is one.
    pub(super) fn facts<'a>(&'a self, name: Option<&'a str>) -> Facts<'a> {
        Facts {
            holder: self.own.holder(),
            behalf: self.behalf.as_ref().map(Side::holder),
            standing: self.household.standing,
            attested: self.attested,
            behind: self.behind,
            name,
            policy_age_ms: self.policy_age_ms,
            review_pending: self.review_pending,
        }
    }

    /// The attributes and commands that the right is restricted to, if it is.
    pub(super) fn only(&self) -> Option<BTreeSet<String>> {
        self.facts(None).only()
    }

    /// The privilege that holds now, if any.
    pub(super) fn privilege(&self, now: &Moment) -> Option<Privilege> {
        let facts = self.facts(None);
        let least = facts.terms().map(|t| t.privilege).min();
        decide(&facts, Action::View, now).allowed.then_some(least).flatten()
    }

    /// Counts one use of a right that was given for a number of them; true when that was the last.
    pub(super) fn spend(&self, tx: &Tx<'_>) -> Result<bool, StoreError> {
        let mut last = false;
        for binding in [Some(&self.own), self.behalf.as_ref()].into_iter().flatten().filter_map(|side| side.binding.as_ref()) {
            let Some(uses) = binding.terms.uses else { continue };
            let mut spent = binding.clone();
            spent.terms.uses = Some(uses.saturating_sub(1));
            spent.version += 1;
            tx.put(&binding_key(&binding.device, &binding.subject), &spent)?;
            last |= uses <= 1;
        }
        Ok(last)
    }
}

/// Whether `actor` may do `action` to the hub, by what is stored now: called first in a transaction, because the account
/// may have ended, or lost the role, since the request came in.
///
/// # Errors
/// [`Refusal::SignedOut`] for an account that has ended, [`Refusal::RoleTooLow`].
pub(super) fn require_role<R: Read>(rows: &R, actor: &Actor, action: HubAction, now: u64) -> Result<(), Refusal> {
    // Whoever holds the box has no account that could end.
    let may = if actor.subject == Subject::User(UserId::console()) {
        actor.may(action)
    } else {
        let party = Party::load(rows, &actor.subject, now)?;
        if !party.active || !party.may_come_from(actor.source) {
            return Err(Refusal::SignedOut);
        }
        if party.is_suspended() && party.authority.may(action) {
            return Err(Refusal::NotAllowed(Reason::ReviewPending));
        }
        party.authority.may(action)
    };
    if may { Ok(()) } else { Err(Refusal::RoleTooLow) }
}

impl Service {
    /// Whether `actor` may do `action` to `device` as a whole, from `rows`. What it may not even see is not found.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::NotAllowed`].
    pub(super) fn require<R: Read>(&self, rows: &R, actor: &Actor, device: &DeviceId, action: Action) -> Result<Rows, Refusal> {
        self.require_each(rows, actor, device, action, std::iter::empty())
    }

    /// The same for these attributes or commands of it.
    ///
    /// # Errors
    /// The same.
    pub(super) fn require_each<'a, R: Read>(
        &self,
        rows: &R,
        actor: &Actor,
        device: &DeviceId,
        action: Action,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Rows, Refusal> {
        let now = self.moment();
        // The account is read again inside the transaction: it may have ended since the request came in.
        let party = Party::load(rows, &actor.subject, now.at)?;
        if !party.may_come_from(actor.source) {
            return Err(Refusal::SignedOut);
        }
        let found = Rows::of(rows, &actor.subject, &party, device, &now)?;
        let mut decision = decide(&found.facts(None), action, &now);
        for name in names {
            if decision.allowed {
                decision = decide(&found.facts(Some(name)), action, &now);
            }
        }
        if decision.allowed {
            return Ok(found);
        }
        let may_know = decide(&found.facts(None), Action::View, &now).allowed
            || (party.authority.may(HubAction::SeeAllDevices) && rows.get::<Registered>(device.as_str().as_bytes())?.is_some());
        Err(if may_know { Refusal::NotAllowed(decision.reason) } else { Refusal::NotFound("device") })
    }

    /// The table of a connection that has just signed in.
    #[must_use]
    pub fn compile_for(&self, who: &SignedIn) -> Table {
        match &who.subject {
            Subject::Device(id) if who.rebase => Table::of_rebase(id.as_str()),
            subject => self.compile_bound(subject),
        }
    }

    /// The table of a connection anew, after the policy has changed; `known` is the one it had.
    #[must_use]
    pub fn compile(&self, subject: &Subject, known: &Table) -> Table {
        // The one use of a re-base session does not change.
        if known.is_of_rebase() { known.clone() } else { self.compile_bound(subject) }
    }

    fn compile_bound(&self, subject: &Subject) -> Table {
        let now = self.moment();
        let loaded = self.store.read::<_, StoreError>(|v| {
            if let Subject::Device(id) = subject
                && is_behind(v, id)?
            {
                return Ok(None);
            }
            let party = Party::load(v, subject, now.at)?;
            let mut all = Vec::new();
            for (_, index) in v.scan::<BindingIndex>(&subject_prefix(subject), 10_000)? {
                let rows = Rows::of(v, subject, &party, &index.device, &now)?;
                all.push((index.device, rows));
            }
            Ok(Some(all))
        });
        match (loaded, subject) {
            (Ok(None), Subject::Device(id)) => Table::of_update(id.as_str()),
            (Ok(None), _) => Table::nothing(),
            (Ok(Some(all)), _) => {
                let facts = all.iter().map(|(device, rows)| (device.as_str(), rows.facts(None)));
                match subject {
                    Subject::Device(id) => Table::of_device(id.as_str(), facts, &now),
                    _ => Table::of_bound(facts, &now),
                }
            }
            (Err(error), _) => {
                // What cannot be read allows nothing.
                tracing::error!(%error, "a policy could not be compiled; the connection has no rights");
                Table::nothing()
            }
        }
    }
}
