//! Handing a device on: to another person (transfer), or to another device that takes its place (replace). Each is one
//! transaction: nobody is without a right in between, and nobody has two. What others hold stays; what was the old
//! administrator's, or the old device's, ends with its mark.

use super::bindings::{
    MAX_BINDINGS, add_apps, bindings_of, keep_an_administrator, name_of, put_binding, reaches, revoke_all, revoke_in, user_by_name,
    with_them,
};
use super::forget::{Forgotten, forget_device};
use super::rights::{Rows, require_role};
use super::{Actor, CloseReason, DeviceView, Refusal, Service, audit};
use crate::domain::account::{User, Username};
use crate::domain::authority::HubAction;
use crate::domain::binding::{Binding, FROM_CLOUD, RevocationMark, Subject, Terms};
use crate::domain::claim::ScannedCode;
use crate::domain::device::{Household, Registered, Standing, Trust};
use crate::domain::ids::DeviceId;
use crate::domain::model::Model;
use crate::domain::policy::{Action, Reason, decide};
use crate::store::tables::{BindingIndex, Credential, binding_key, subject_prefix};
use crate::store::{Read, Tx};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

impl Service {
    /// Gives the administration of a device to somebody else: the right of who asks ends, with those of the apps that act
    /// for them, and what they gave to others is from now on given by the new one. A right between two devices stays
    /// only where the new one administers both. The new one gets no more than there was to give.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`]; [`Refusal::NotAllowed`] below `administer`; [`Refusal::NotFound`] for the device or the
    /// account; [`Refusal::Conflict`] for oneself, a maker's person, or whose right is neither less nor more.
    pub async fn transfer(self: &Arc<Self>, actor: &Actor, device: &DeviceId, username: &str) -> Result<DeviceView, Refusal> {
        actor.user()?;
        let folded = Username::parse(username)?.folded();
        let (service, who, id, now) = (self.clone(), actor.clone(), device.clone(), self.now());
        let others = self.store.write(move |tx| service.transfer_in(tx, &who, &id, &folded, now)).await?;
        self.policy_changed().await;
        for id in others.iter().chain([device]) {
            self.changed(super::Change::Device { id: id.clone() });
        }
        self.device_after(actor, device)
    }

    /// The other devices to which the rights of this one have ended.
    fn transfer_in(&self, tx: &Tx<'_>, who: &Actor, id: &DeviceId, folded: &str, now: u64) -> Result<Vec<DeviceId>, Refusal> {
        let own = self.require(tx, who, id, Action::Administer)?.own.binding.ok_or(Refusal::NotAllowed(Reason::NotBound))?;
        let heir = user_by_name(tx, folded)?;
        if heir.role.is_vendor() {
            return Err(Refusal::Conflict("a maker's people are let in by a support session only: name somebody of the house".into()));
        }
        let to = Subject::User(heir.id);
        if to == who.subject {
            return Err(Refusal::Conflict("you administer it already: name somebody else".into()));
        }
        self.inherit(tx, id, &own, &to, now)?;
        let all = bindings_of(tx, id)?;
        let mut ending = Vec::new();
        add_apps(tx, &all, &who.subject, &mut ending)?;
        let leaving: HashSet<Subject> = ending.iter().map(|b| &b.subject).chain([&who.subject]).cloned().collect();
        keep_an_administrator(tx, &all, &leaving, now)?;
        // What the leaving one gave, in person or through an app, is the new one's to answer for.
        let givers: HashSet<String> = leaving.iter().map(ToString::to_string).collect();
        for binding in all.iter().filter(|b| b.subject != to && !leaving.contains(&b.subject) && givers.contains(&b.granted_by)) {
            match &binding.subject {
                Subject::Device(remote) if !self.administers(tx, &to, remote)? => ending.push(binding.clone()),
                _ => given_by(tx, binding, &to)?,
            }
        }
        let itself = Subject::Device(id.clone());
        let mut others = Vec::new();
        for (_, index) in tx.scan::<BindingIndex>(&subject_prefix(&itself), usize::MAX)? {
            let held = tx.get::<Binding>(&binding_key(&index.device, &itself))?.filter(|b| givers.contains(&b.granted_by));
            let Some(held) = held else { continue };
            if self.administers(tx, &to, &index.device)? {
                given_by(tx, &held, &to)?;
            } else {
                ending.push(held);
                others.push(index.device);
            }
        }
        let by = who.subject.to_string();
        let lost = revoke_all(tx, &ending, &by, now)?;
        revoke_in(tx, id, &who.subject, &by, now)?;
        audit::append(tx, now, audit::done(who, "device.transfer", id.as_str(), format!("to {to}{}", with_them(&lost))))?;
        Ok(others)
    }

    /// The new administrator gets what the old one had, in the old one's place among who gave to whom: neither longer,
    /// nor out of reach of whoever could take it from the old one.
    fn inherit(&self, tx: &Tx<'_>, id: &DeviceId, own: &Binding, to: &Subject, now: u64) -> Result<(), Refusal> {
        let leaver = own.subject.to_string();
        let above = Subject::parse(&own.granted_by).filter(|giver| *giver != *to && *giver != own.subject);
        let giver = above.map_or_else(|| to.to_string(), |giver| giver.to_string());
        match live(tx, id, to)? {
            Some(has) if has.terms.contain(&own.terms, now) => {
                if has.granted_by == leaver {
                    tx.put(&binding_key(id, to), &Binding { granted_by: giver, version: has.version + 1, ..has })?;
                }
            }
            Some(has) if !own.terms.contain(&has.terms, now) => {
                return Err(Refusal::Conflict(
                    "the other has a right of their own that reaches further in part: take it away first, or give them the administration"
                        .into(),
                ));
            }
            _ => {
                put_binding(tx, to, id, &own.terms, &giver, &self.origin(), now)?;
            }
        }
        Ok(())
    }

    fn administers(&self, tx: &Tx<'_>, who: &Subject, device: &DeviceId) -> Result<bool, Refusal> {
        let now = self.moment();
        Ok(decide(&Rows::load(tx, who, device, &now)?.facts(None), Action::Administer, &now).allowed)
    }

    /// Puts `new` in the place of `old`: it takes over name, room and every right, those that others have on the old one
    /// and those that the old one has on others; the old one leaves the house. With a `code` the new one is claimed in
    /// the same transaction. A device that is shut out can be replaced, and stays shut out; it never takes another's
    /// place.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`]; [`Refusal::NotAllowed`] and [`Refusal::NotFound`] for who does not administer both;
    /// [`Refusal::ClaimRefused`], [`Refusal::TooMany`] for the code; [`Refusal::Conflict`] where a right cannot be moved.
    pub async fn replace_device(
        self: &Arc<Self>,
        actor: &Actor,
        old: &DeviceId,
        new: &DeviceId,
        code: Option<&str>,
    ) -> Result<DeviceView, Refusal> {
        actor.user()?;
        if old == new {
            return Err(Refusal::Invalid("by: a device does not replace itself; name the new one".into()));
        }
        let claim = code.map(|code| self.scan_replacement(actor, new, code)).transpose()?;
        // An unknown device is refused where the right is asked for.
        let model = self.model_of(new).ok().flatten();
        let (service, who, now) = (self.clone(), actor.clone(), self.now());
        let (from, to, shown) = (old.clone(), new.clone(), claim.clone());
        let moved = self.store.write(move |tx| service.replace_in(tx, &who, &from, &to, shown.as_ref(), model.as_deref(), now)).await;
        let left = match (moved, &claim) {
            (Err(Refusal::ClaimRefused), Some(_)) => return Err(self.claim_failed(actor, "replacement")),
            (moved, _) => moved?,
        };
        if claim.is_some() {
            self.claim_succeeded(actor);
        }
        self.forgotten(old, left).await;
        if claim.is_some() {
            self.close_sessions(&Subject::Device(new.clone()), CloseReason::Administrative).await;
        }
        self.changed(super::Change::Device { id: new.clone() });
        self.device(actor, new)
    }

    fn scan_replacement(&self, actor: &Actor, new: &DeviceId, code: &str) -> Result<(ScannedCode, Credential), Refusal> {
        if !actor.may(HubAction::ClaimDevice) {
            return Err(Refusal::RoleTooLow);
        }
        self.check_claims(actor)?;
        let scanned = ScannedCode::parse(code).map_err(|e| Refusal::Invalid(e.to_string()))?;
        if scanned.device_id.as_ref().is_some_and(|id| id != new) {
            return Err(Refusal::Invalid("the code on the label belongs to another device id".into()));
        }
        Ok((scanned, self.new_credential()?))
    }

    #[expect(clippy::too_many_arguments, reason = "the two devices, and what was read of them before")]
    fn replace_in(
        &self,
        tx: &Tx<'_>,
        who: &Actor,
        old: &DeviceId,
        new: &DeviceId,
        claim: Option<&(ScannedCode, Credential)>,
        model: Option<&Model>,
        now: u64,
    ) -> Result<Forgotten, Refusal> {
        let before = self.require_to_replace(tx, who, old)?;
        let registered = tx.get::<Registered>(new.as_str().as_bytes())?;
        if let Some((scanned, credential)) = claim {
            require_role(tx, who, HubAction::ClaimDevice, now)?;
            let registered = registered.as_ref().filter(|r| r.claim_hash.matches(&r.id, &scanned.code)).ok_or(Refusal::ClaimRefused)?;
            if !self.claim_in(tx, who, &registered.id, credential, &before.name, &before.room, now)? {
                return Err(Refusal::ClaimRefused);
            }
        } else if !matches!(self.require(tx, who, new, Action::Administer)?.household.standing, Standing::Claimed | Standing::Ready) {
            return Err(Refusal::Conflict(format!("{new} is shut out itself: it replaces nothing")));
        }
        let own = live(tx, new, &who.subject)?.ok_or(Refusal::NotAllowed(Reason::NotBound))?;
        let (itself, other) = (Subject::Device(old.clone()), Subject::Device(new.clone()));
        let mut on_old = Vec::new();
        for binding in bindings_of(tx, old)?.into_iter().filter(|b| b.subject != other) {
            // A maker's people were let in to the old device, and to no other.
            if !is_makers(tx, &binding.subject)? {
                on_old.push(binding);
            }
        }
        let unproved = registered.as_ref().is_none_or(|r| r.origin.trust() != Trust::Attested);
        if unproved && let Some(driver) = on_old.iter().find(|b| b.subject.is_device()) {
            let driver = &driver.subject;
            return Err(Refusal::Conflict(format!(
                "{driver} may drive {old}, and {new} has not proved its key: take that right away, or import the maker's batch first"
            )));
        }
        names_exist(&on_old, tx.get::<Registered>(old.as_str().as_bytes())?.as_ref(), registered.as_ref(), model)?;
        let mut count = 0;
        for binding in &on_old {
            count += usize::from(self.move_to(tx, binding, new, &binding.subject, Some(&own.terms), now)?);
        }
        if bindings_of(tx, new)?.len() > MAX_BINDINGS {
            return Err(Refusal::Conflict("the new device would be shared with too many: take rights away first".into()));
        }
        let mut driven = Vec::new();
        for (_, index) in tx.scan::<BindingIndex>(&subject_prefix(&itself), usize::MAX)? {
            let held = tx.get::<Binding>(&binding_key(&index.device, &itself))?.filter(|_| index.device != *new);
            let Some(held) = held else { continue };
            if unproved {
                return Err(Refusal::Conflict(format!(
                    "{old} may drive other devices, and {new} has not proved its key: import the maker's batch first"
                )));
            }
            count += usize::from(self.move_to(tx, &held, &index.device, &other, None, now)?);
            driven.push(index.device);
        }
        let by = who.subject.to_string();
        let mut left = forget_device(tx, old, &by, now)?;
        // All was without circles before, and only what the new one drives and is driven by has changed.
        for device in &driven {
            if reaches(tx, device, new)? {
                return Err(Refusal::Conflict(format!("{new} and {device} would drive each other in a circle: take one right away first")));
            }
        }
        left.driven.extend(driven);
        let key = new.as_str().as_bytes();
        let household = tx.get::<Household>(key)?.unwrap_or_default();
        tx.put(key, &Household { name: before.name, room: before.room, version: household.version + 1, ..household })?;
        audit::append(tx, now, audit::done(who, "device.replace", old.as_str(), format!("by {new}, with {count} rights")))?;
        audit::append(tx, now, audit::done(who, "device.take_place", new.as_str(), format!("of {old}, with {count} rights")))?;
        Ok(left)
    }

    /// Who administers a device may replace it also when it is shut out: that is the way out for one that was cloned.
    fn require_to_replace(&self, tx: &Tx<'_>, who: &Actor, old: &DeviceId) -> Result<Household, Refusal> {
        let now = self.moment();
        let rows = Rows::load(tx, &who.subject, old, &now)?;
        let mut facts = rows.facts(None);
        if facts.standing == Standing::Quarantined {
            facts.standing = Standing::Suspended;
        }
        if decide(&facts, Action::Administer, &now).allowed {
            return Ok(rows.household);
        }
        Ok(self.require(tx, who, old, Action::Administer)?.household)
    }

    /// Gives on `device` to `subject` what `binding` gave elsewhere, unless it has as much already; whether it was moved.
    /// Nobody gets more on a device than `own` reaches, the right there of who replaces.
    fn move_to(
        &self,
        tx: &Tx<'_>,
        binding: &Binding,
        device: &DeviceId,
        subject: &Subject,
        own: Option<&Terms>,
        now: u64,
    ) -> Result<bool, Refusal> {
        // What was revoked elsewhere is not brought back here.
        let Some(binding) = live(tx, &binding.device, &binding.subject)? else { return Ok(false) };
        if let Some(has) = live(tx, device, subject)? {
            if has.terms.contain(&binding.terms, now) {
                return Ok(false);
            }
            if !binding.terms.contain(&has.terms, now) {
                let name = name_of(tx, subject)?;
                return Err(Refusal::Conflict(format!(
                    "{name} ({subject}) has another right on {device}, neither less nor more: take one of them away first"
                )));
            }
        }
        if own.is_some_and(|own| !binding.terms.lie_within(own, now)) {
            return Err(Refusal::NotAllowed(Reason::PrivilegeTooLow));
        }
        // What came from outside stays what can be ended from there.
        let origin = if binding.origin == FROM_CLOUD { binding.origin.clone() } else { self.origin() };
        let moved = put_binding(tx, subject, device, &binding.terms, &binding.granted_by, &origin, now)?;
        tx.put(&binding_key(device, subject), &Binding { granted_at: binding.granted_at, ..moved })?;
        Ok(true)
    }
}

/// A right that no mark has ended.
fn live(tx: &Tx<'_>, device: &DeviceId, subject: &Subject) -> Result<Option<Binding>, Refusal> {
    let key = binding_key(device, subject);
    let revoked = tx.get::<RevocationMark>(&key)?.map_or(0, |m| m.generation);
    Ok(tx.get::<Binding>(&key)?.filter(|b| b.generation > revoked))
}

fn is_makers(tx: &Tx<'_>, subject: &Subject) -> Result<bool, Refusal> {
    let Some(user) = subject.user() else { return Ok(false) };
    Ok(tx.get::<User>(user.as_str().as_bytes())?.is_some_and(|u| u.role.is_vendor()))
}

/// From now on it was given by `giver`.
fn given_by(tx: &Tx<'_>, binding: &Binding, giver: &Subject) -> Result<(), Refusal> {
    let after = Binding { granted_by: giver.to_string(), version: binding.version + 1, ..binding.clone() };
    tx.put(&binding_key(&binding.device, &binding.subject), &after)?;
    Ok(())
}

/// A right to a part of the old device must mean something on the new one.
fn names_exist(on_old: &[Binding], old: Option<&Registered>, new: Option<&Registered>, model: Option<&Model>) -> Result<(), Refusal> {
    if old.zip(new).is_some_and(|(old, new)| old.brand == new.brand && old.model == new.model) {
        return Ok(());
    }
    let known = |name: &String| model.is_some_and(|m| m.attributes.contains_key(name) || m.commands.contains_key(name));
    let missing: BTreeSet<&str> =
        on_old.iter().filter_map(|b| b.terms.only.as_ref()).flatten().filter(|name| !known(name)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let named = missing.iter().take(20).copied().collect::<Vec<_>>().join(", ");
    Err(Refusal::Conflict(format!("rights on the old device are to what the new one does not have ({named}): take them away first")))
}
