//! Sharing: giving a right on a device to somebody, taking it away, leaving. A right given is never wider or longer
//! than the giver's own; a right taken away leaves a mark for ever, and what its holder gave goes with it unless it is
//! asked to stay; the last administrator stays.

use super::apps::end_apps_of;
use super::invitations::{end_invitations, end_sharing_by};
use super::people::{erase, keep_an_owner, shut};
use super::rights::{Party, require_role};
use super::verified::Verified;
use super::{Actor, CloseReason, Refusal, Service, audit};
use crate::domain::account::{Role, User, UserId, Username};
use crate::domain::app::{Authorization, ServiceAccount};
use crate::domain::authority::HubAction;
use crate::domain::binding::{Binding, Privilege, RevocationMark, Subject, Terms};
use crate::domain::device::{Household, Registered, Trust};
use crate::domain::ids::DeviceId;
use crate::domain::policy::{Action, Reason};
use crate::store::tables::{BindingIndex, UserName, binding_index_key, binding_key, device_prefix, subject_prefix};
use crate::store::{Read, StoreError, Tx};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Bindings of one device.
pub(super) const MAX_BINDINGS: usize = 1_000;
/// Rights that an audit entry names; of more it gives the number.
const NAMED: usize = 20;

/// To whom a right is given.
#[derive(Clone, Debug)]
pub enum Recipient {
    /// A person, by user name.
    Person(String),
    /// Another device, which then does something with this one.
    Device(DeviceId),
    /// A service account, by its id.
    Service(String),
}

/// A right to give.
#[derive(Clone, Debug)]
pub struct Grant {
    /// To whom.
    pub to: Recipient,
    /// What it gives.
    pub terms: Terms,
}

/// A right as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct BindingView {
    /// On which device.
    pub device_id: DeviceId,
    /// Whose, as a subject's text.
    pub subject: String,
    /// The account's id, if it is a person's.
    pub user: Option<UserId>,
    /// The account's name, if it is a person's.
    pub username: Option<String>,
    /// What people call its holder.
    pub name: String,
    /// What it gives.
    #[serde(flatten)]
    pub terms: Terms,
    /// Who gave it: a subject's text, or `claim`.
    pub granted_by: String,
    /// What people call who gave it.
    pub granted_by_name: String,
    /// When, ms since 1970.
    pub granted_at: u64,
}

impl Service {
    /// Gives a right, or changes one that was given.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] below `administer`, or for a right longer than the giver's own; [`Refusal::NotFound`];
    /// [`Refusal::Conflict`] when it would leave nobody to administer the device.
    pub async fn grant(self: &Arc<Self>, actor: &Actor, device: &DeviceId, grant: Grant) -> Result<BindingView, Refusal> {
        let (service, who, id, now) = (self.clone(), actor.clone(), device.clone(), self.now());
        let view = self.store.write(move |tx| service.grant_in(tx, &who, &id, &grant, now)).await?;
        self.policy_changed().await;
        self.changed(super::Change::Device { id: device.clone() });
        Ok(view)
    }

    /// The same inside a transaction; the policy has changed after the commit.
    ///
    /// # Errors
    /// The same.
    pub(super) fn grant_in(&self, tx: &Tx<'_>, who: &Actor, id: &DeviceId, grant: &Grant, now: u64) -> Result<BindingView, Refusal> {
        self.grant_from(tx, who, id, grant, &self.origin(), now)
    }

    /// The same for a right that comes from `origin`.
    ///
    /// # Errors
    /// The same.
    pub(super) fn grant_from(
        &self,
        tx: &Tx<'_>,
        who: &Actor,
        id: &DeviceId,
        grant: &Grant,
        origin: &str,
        now: u64,
    ) -> Result<BindingView, Refusal> {
        self.may_give(tx, who, id, &grant.terms, now)?;
        let subject = self.recipient(tx, who, id, grant, now)?;
        let all = bindings_of(tx, id)?;
        if grant.terms.privilege < Privilege::Administer || !grant.terms.last_from(now) {
            keep_an_administrator(tx, &all, &HashSet::from([subject.clone()]), now)?;
        }
        if all.len() >= MAX_BINDINGS && !all.iter().any(|b| b.subject == subject) {
            return Err(Refusal::Conflict("this device is shared with too many: take a right away first".into()));
        }
        let binding = put_binding(tx, &subject, id, &grant.terms, &giver_of(&all, &subject, &who.subject), origin, now)?;
        let detail = format!("{:?} to {subject}{}", grant.terms.privilege, told(&grant.terms)).to_lowercase();
        audit::append(tx, now, audit::done(who, "binding.grant", id.as_str(), detail))?;
        Ok(view(tx, &binding)?)
    }

    /// Whether `who` may give a right on these terms.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::NotAllowed`], [`Refusal::NotFound`].
    pub(super) fn may_give<R: Read>(&self, rows: &R, who: &Actor, id: &DeviceId, terms: &Terms, now: u64) -> Result<(), Refusal> {
        terms.check(now)?;
        let own = self.require(rows, who, id, Action::Administer)?;
        let Some(own) = &own.own.binding else { return Err(Refusal::NotAllowed(Reason::NotBound)) };
        if terms.lie_within(&own.terms, now) { Ok(()) } else { Err(Refusal::NotAllowed(Reason::PrivilegeTooLow)) }
    }

    /// Who is meant, and whether a right on this device can be theirs at all.
    fn recipient(&self, tx: &Tx<'_>, who: &Actor, device: &DeviceId, grant: &Grant, now: u64) -> Result<Subject, Refusal> {
        let subject = match &grant.to {
            Recipient::Person(name) => {
                let user = user_by_name(tx, &Username::parse(name)?.folded())?;
                if user.role.is_vendor() {
                    return Err(Refusal::Conflict("a maker's people are let in by a support session only: an owner opens one".into()));
                }
                return Ok(Subject::User(user.id));
            }
            Recipient::Device(other) => {
                if other == device {
                    return Err(Refusal::Conflict("a device is its own already: choose another one".into()));
                }
                // Who could press the remote's buttons could open the door: it takes the say over both.
                self.require(tx, who, other, Action::Administer)?;
                for unproved in [other, device] {
                    if tx.get::<Registered>(unproved.as_str().as_bytes())?.is_none_or(|r| r.origin.trust() != Trust::Attested) {
                        return Err(Refusal::Conflict(format!(
                            "{unproved} has not proved its key, so it neither drives other devices nor is driven by them: import the maker's \
                             batch first"
                        )));
                    }
                }
                if reaches(tx, device, other)? {
                    return Err(Refusal::Conflict(format!(
                        "{device} may already drive {other}: in a circle they could drive each other for ever"
                    )));
                }
                Subject::Device(other.clone())
            }
            Recipient::Service(id) => Subject::Service(id.clone()),
        };
        if matches!(subject, Subject::Service(_)) && !Party::load(tx, &subject, now)?.active {
            return Err(Refusal::NotFound("service account"));
        }
        if grant.terms.privilege == Privilege::Administer {
            return Err(Refusal::Conflict("only people administer devices: choose view, operate or manage".into()));
        }
        Ok(subject)
    }

    /// Takes a right away, and by default (`with_grants`) every right on the device that its holder gave, and that those
    /// gave in turn; one's own right without being asked why. Who leaves takes nobody along, and nobody takes away their
    /// own right by taking that of their giver. Says which rights of others ended too. When this returns, nothing more
    /// reaches whoever lost one.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] below `administer` for the right of another; [`Refusal::NotFound`];
    /// [`Refusal::Conflict`] when nobody would be left to administer the device.
    pub async fn revoke(
        self: &Arc<Self>,
        actor: &Actor,
        device: &DeviceId,
        subject: &Subject,
        with_grants: bool,
    ) -> Result<Vec<BindingView>, Refusal> {
        let (service, who, id, now) = (self.clone(), actor.clone(), device.clone(), self.now());
        let subject = subject.clone();
        let lost = self
            .store
            .write(move |tx| {
                let own = subject == who.subject;
                if own {
                    // To leave takes no right: not even one that has begun, or on a device that works.
                    if !Party::load(tx, &who.subject, now)?.active {
                        return Err(Refusal::SignedOut);
                    }
                } else {
                    service.require(tx, &who, &id, Action::Administer)?;
                }
                let all = bindings_of(tx, &id)?;
                let mut with_it = if with_grants && !own { given_by(&all, &subject, &who.subject) } else { Vec::new() };
                add_apps(tx, &all, &subject, &mut with_it)?;
                let leaving = with_it.iter().map(|b| &b.subject).chain([&subject]).cloned().collect();
                keep_an_administrator(tx, &all, &leaving, now)?;
                let by = who.subject.to_string();
                if !revoke_in(tx, &id, &subject, &by, now)? {
                    return Err(Refusal::NotFound("binding"));
                }
                let lost = revoke_all(tx, &with_it, &by, now)?;
                let action = if own { "binding.leave" } else { "binding.revoke" };
                audit::append(tx, now, audit::done(&who, action, id.as_str(), format!("{subject}{}", with_them(&lost))))?;
                Ok(lost)
            })
            .await?;
        self.policy_changed().await;
        self.changed(super::Change::Device { id: device.clone() });
        Ok(lost)
    }

    /// An owner of the hub takes the administration of a device, whoever it belongs to; audited like any grant.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::NotFound`], [`Refusal::Conflict`] for a device that waits to be claimed.
    pub async fn take_administration(&self, actor: &Actor, device: &DeviceId) -> Result<super::DeviceView, Refusal> {
        if !actor.may(HubAction::SeeAllDevices) {
            return Err(Refusal::RoleTooLow);
        }
        let (who, id, now, origin) = (actor.clone(), device.clone(), self.now(), self.origin());
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::SeeAllDevices, now)?;
                if tx.get::<Registered>(id.as_str().as_bytes())?.is_none() {
                    return Err(Refusal::NotFound("device"));
                }
                if !tx.get::<Household>(id.as_str().as_bytes())?.unwrap_or_default().standing.is_bound() {
                    return Err(Refusal::Conflict("nobody has claimed this device: claim it by its code".into()));
                }
                put_binding(tx, &who.subject, &id, &Terms::of(Privilege::Administer), &who.subject.to_string(), &origin, now)?;
                audit::append(tx, now, audit::done(&who, "binding.take", id.as_str(), "administer"))?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.policy_changed().await;
        self.changed(super::Change::Device { id: device.clone() });
        self.device(actor, device)
    }

    /// Who has which right on a device. Who does not administer it sees its own.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn bindings(&self, actor: &Actor, device: &DeviceId) -> Result<Vec<BindingView>, Refusal> {
        self.store.read(|v| {
            let all = match self.require(v, actor, device, Action::Administer) {
                Ok(_) => true,
                Err(Refusal::NotAllowed(_)) => actor.may(HubAction::SeeAllDevices),
                Err(other) => return Err(other),
            };
            let mut out = Vec::new();
            for (_, binding) in v.scan::<Binding>(&device_prefix(device), MAX_BINDINGS)? {
                if all || binding.subject == actor.subject {
                    out.push(view(v, &binding)?);
                }
            }
            Ok(out)
        })
    }

    /// Ends an account: its sessions, its apps, its rights, and by default (`with_grants`) every right it gave to others, and that
    /// those gave in turn, but none of the one who asks. Says which rights of others that were. When this returns,
    /// nothing more reaches whoever lost one.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::NotFound`]; [`Refusal::Conflict`] for the last owner.
    pub async fn end_user(&self, actor: &Actor, user: &UserId, with_grants: bool) -> Result<Vec<BindingView>, Refusal> {
        self.end_account(actor, user, Ending { with_grants, erase: false, leaving: None }).await
    }

    pub(super) async fn end_account(&self, actor: &Actor, user: &UserId, ending: Ending) -> Result<Vec<BindingView>, Refusal> {
        let (who, id, now, erasing) = (actor.clone(), user.clone(), self.now(), ending.erase);
        let (lost, apps) = self
            .store
            .write(move |tx| {
                match &ending.leaving {
                    Some(verified) => drop(verified.still(tx)?),
                    None => require_role(tx, &who, HubAction::ManagePeople, now)?,
                }
                let Ended { user: ended, lost, apps } =
                    end_account_in(tx, &id, &who.subject, &who.subject.to_string(), ending.with_grants, now)?;
                let name = if ending.erase { "erased" } else { ended.username.as_str() };
                audit::append(tx, now, audit::done(&who, "user.end", id.as_str(), format!("{name}{}", with_them(&lost))))?;
                if ending.erase {
                    erase(tx, &ended, now)?;
                }
                Ok::<_, Refusal>((lost, apps))
            })
            .await?;
        self.policy_changed().await;
        self.close_sessions(&Subject::User(user.clone()), CloseReason::NotAuthorized).await;
        self.apps_ended(&apps).await;
        self.changed(super::Change::Accounts);
        if erasing && let Err(error) = self.run_erasures().await {
            tracing::warn!(%error, "what is personal in the audit is not erased yet; the hub goes on with it");
        }
        Ok(lost)
    }
}

/// How an account ends.
pub(super) struct Ending {
    /// Whether what it gave to others ends with it.
    pub(super) with_grants: bool,
    /// Whether what is personal is erased.
    pub(super) erase: bool,
    /// Set when the person goes of its own will; else an owner ends it.
    pub(super) leaving: Option<Verified>,
}

/// What ended with an account.
pub(super) struct Ended {
    /// The account.
    pub(super) user: User,
    /// Rights of others.
    pub(super) lost: Vec<BindingView>,
    /// Apps that acted for it.
    pub(super) apps: Vec<String>,
}

/// Ends an account inside a transaction: its sessions, its apps, its rights, and with `with_grants` those it gave, save that
/// of `spared`.
///
/// # Errors
/// [`Refusal::NotFound`]; [`Refusal::Conflict`] for the last owner.
pub(super) fn end_account_in(tx: &Tx<'_>, id: &UserId, spared: &Subject, by: &str, with_grants: bool, now: u64) -> Result<Ended, Refusal> {
    let user = tx.get::<User>(id.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::NotFound("account"))?;
    if user.role == Role::Owner {
        keep_an_owner(tx, id)?;
    }
    Ok(end_account_of(tx, user, spared, by, with_grants, now)?)
}

/// The same, whoever is left: for what has been decided before.
pub(super) fn end_account_of(
    tx: &Tx<'_>,
    mut user: User,
    spared: &Subject,
    by: &str,
    with_grants: bool,
    now: u64,
) -> Result<Ended, StoreError> {
    let id = &user.id.clone();
    let key = id.as_str().as_bytes();
    user.ended = true;
    tx.put(key, &user)?;
    tx.delete::<UserName>(user.username.folded().as_bytes())?;
    shut(tx, id)?;
    end_invitations(tx, id, |_| true)?;
    let subject = Subject::User(id.clone());
    for (_, index) in tx.scan::<BindingIndex>(&subject_prefix(&subject), usize::MAX)? {
        revoke_in(tx, &index.device, &subject, by, now)?;
    }
    let apps = end_apps_of(tx, id, by, now)?;
    let mut lost = Vec::new();
    let all: Vec<Binding> = tx.scan::<Binding>(b"", usize::MAX)?.into_iter().map(|(_, b)| b).collect();
    for of_device in all.chunk_by(|a, b| a.device == b.device) {
        let mut with_it = if with_grants { given_by(of_device, &subject, spared) } else { Vec::new() };
        add_apps(tx, of_device, &subject, &mut with_it)?;
        lost.extend(revoke_all(tx, &with_it, by, now)?);
    }
    Ok(Ended { user, lost, apps })
}

pub(super) fn view<R: Read>(rows: &R, binding: &Binding) -> Result<BindingView, StoreError> {
    let user = match &binding.subject {
        Subject::User(id) => rows.get::<User>(id.as_str().as_bytes())?,
        _ => None,
    };
    Ok(BindingView {
        device_id: binding.device.clone(),
        subject: binding.subject.to_string(),
        name: name_of(rows, &binding.subject)?,
        username: user.as_ref().map(|u| u.username.as_str().to_owned()),
        user: user.map(|u| u.id),
        terms: binding.terms.clone(),
        granted_by_name: Subject::parse(&binding.granted_by).map_or(Ok(String::new()), |giver| name_of(rows, &giver))?,
        granted_by: binding.granted_by.clone(),
        granted_at: binding.granted_at,
    })
}

/// What people call a subject; empty for one that is not known any more.
pub(super) fn name_of<R: Read>(rows: &R, subject: &Subject) -> Result<String, StoreError> {
    Ok(match subject {
        Subject::User(id) => rows.get::<User>(id.as_str().as_bytes())?.map(|u| u.display_name),
        Subject::App(id) => rows.get::<Authorization>(id.as_bytes())?.map(|a| a.name),
        Subject::Service(id) => rows.get::<ServiceAccount>(id.as_bytes())?.map(|s| s.name),
        Subject::Device(id) => rows.get::<Household>(id.as_str().as_bytes())?.map(|h| h.name),
    }
    .unwrap_or_default())
}

/// For the audit: what restricts a right.
fn told(terms: &Terms) -> String {
    let mut text = String::new();
    if let Some(only) = &terms.only {
        text.push_str(&format!(", only {}", only.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" ")));
    }
    if terms.are_timed() {
        text.push_str(", at times");
    }
    if let Some(uses) = terms.uses {
        text.push_str(&format!(", {uses} times"));
    }
    text
}

/// Whether `from` may drive `to`, directly or through others.
pub(super) fn reaches(tx: &Tx<'_>, from: &DeviceId, to: &DeviceId) -> Result<bool, StoreError> {
    let (mut seen, mut next) = (HashSet::new(), vec![from.clone()]);
    while let Some(device) = next.pop() {
        if device == *to {
            return Ok(true);
        }
        if seen.insert(device.clone()) {
            let driven = tx.scan::<BindingIndex>(&subject_prefix(&Subject::Device(device)), usize::MAX)?;
            next.extend(driven.into_iter().map(|(_, index)| index.device));
        }
    }
    Ok(false)
}

/// An app's right never outlives that of the person it acts for, so that it cannot come back with a later one.
pub(super) fn add_apps(tx: &Tx<'_>, all: &[Binding], holder: &Subject, ending: &mut Vec<Binding>) -> Result<(), StoreError> {
    for binding in all {
        let Subject::App(id) = &binding.subject else { continue };
        let person = tx.get::<Authorization>(id.as_bytes())?.map(|a| Subject::User(a.user));
        let goes = person.is_none_or(|p| p == *holder || ending.iter().any(|b| b.subject == p));
        if goes && !ending.iter().any(|b| b.subject == binding.subject) {
            ending.push(binding.clone());
        }
    }
    Ok(())
}

pub(super) fn user_by_name(tx: &Tx<'_>, folded: &str) -> Result<User, Refusal> {
    let found = match tx.get::<UserName>(folded.as_bytes())? {
        Some(name) => tx.get::<User>(name.id.as_str().as_bytes())?,
        None => None,
    };
    found.filter(|u| !u.ended).ok_or(Refusal::NotFound("account"))
}

pub(super) fn bindings_of(tx: &Tx<'_>, device: &DeviceId) -> Result<Vec<Binding>, StoreError> {
    Ok(tx.scan::<Binding>(&device_prefix(device), usize::MAX)?.into_iter().map(|(_, b)| b).collect())
}

/// Who counts as the giver of the right of `subject` that `who` gives or changes: `who`. But whose own right comes from that
/// subject, directly or through others, changes nothing of who gave it: nobody gets out of reach of who could take their
/// right by having it given anew by themselves, or by whom they let in.
fn giver_of(all: &[Binding], subject: &Subject, who: &Subject) -> String {
    let given = |holder: &str| all.iter().find(|b| b.subject.to_string() == holder).map(|b| b.granted_by.clone());
    let (own, mut seen, mut above) = (subject.to_string(), HashSet::new(), Some(who.to_string()));
    while let Some(holder) = above.filter(|holder| seen.insert(holder.clone())) {
        above = given(&holder);
        if holder == own {
            return above.unwrap_or_else(|| who.to_string());
        }
    }
    who.to_string()
}

/// Of the bindings of one device, those that `giver` gave, and that their holders gave in turn; not that of `spared`, nor
/// what `spared` gave: who takes a right away keeps their own, whoever gave it.
pub(super) fn given_by(all: &[Binding], giver: &Subject, spared: &Subject) -> Vec<Binding> {
    let mut by_giver: HashMap<&str, Vec<&Binding>> = HashMap::new();
    for binding in all.iter().filter(|b| b.subject != *giver && b.subject != *spared) {
        by_giver.entry(&binding.granted_by).or_default().push(binding);
    }
    let (mut out, mut givers) = (Vec::new(), vec![giver.to_string()]);
    // Each giver is taken out once, so that two who gave to each other end.
    while let Some(next) = givers.pop() {
        for binding in by_giver.remove(next.as_str()).unwrap_or_default() {
            givers.push(binding.subject.to_string());
            out.push(binding.clone());
        }
    }
    out
}

/// Ends these rights; as they are shown.
pub(super) fn revoke_all(tx: &Tx<'_>, bindings: &[Binding], by: &str, now: u64) -> Result<Vec<BindingView>, StoreError> {
    let mut lost = Vec::new();
    for binding in bindings {
        revoke_in(tx, &binding.device, &binding.subject, by, now)?;
        lost.push(view(tx, binding)?);
    }
    Ok(lost)
}

/// For the audit: the rights that ended along with one.
pub(super) fn with_them(lost: &[BindingView]) -> String {
    if lost.is_empty() {
        return String::new();
    }
    let mut text = format!("; {} rights given by it ended too:", lost.len());
    for binding in lost.iter().take(NAMED) {
        text.push_str(&format!(" {} on {}", binding.subject, binding.device_id));
    }
    if lost.len() > NAMED {
        text.push_str(" …");
    }
    text
}

/// A device that nobody administers could never be given back: among those `leaving` must not be the last who does.
pub(super) fn keep_an_administrator(tx: &Tx<'_>, all: &[Binding], leaving: &HashSet<Subject>, now: u64) -> Result<(), Refusal> {
    let lasting = |b: &Binding| b.terms.privilege == Privilege::Administer && b.terms.last_from(now);
    let administers = all.iter().any(|b| leaving.contains(&b.subject) && lasting(b));
    let mut others = false;
    for binding in all.iter().filter(|b| !leaving.contains(&b.subject) && lasting(b)) {
        if let Subject::User(id) = &binding.subject {
            others |= tx.get::<User>(id.as_str().as_bytes())?.is_some_and(|u| !u.ended);
        }
    }
    if administers && !others {
        return Err(Refusal::Conflict(
            "this is the last who administers the device: let somebody else administer it first, or remove the device".into(),
        ));
    }
    Ok(())
}

/// Writes a right and its index row. One that stands is changed within its generation, so that a mark that was made
/// elsewhere in the meantime ends it all the same; a new one begins above all that was before, marks included.
pub(super) fn put_binding(
    tx: &Tx<'_>,
    subject: &Subject,
    device: &DeviceId,
    terms: &Terms,
    by: &str,
    origin: &str,
    now: u64,
) -> Result<Binding, StoreError> {
    let key = binding_key(device, subject);
    let marked = tx.get::<RevocationMark>(&key)?.map_or(0, |m| m.generation);
    let before = tx.get::<Binding>(&key)?;
    if terms.privilege < Privilege::Administer && before.as_ref().is_some_and(|b| b.terms.privilege == Privilege::Administer) {
        end_sharing_by(tx, subject, device)?;
    }
    let (generation, version) = match &before {
        Some(standing) if standing.generation > marked => (standing.generation, standing.version + 1),
        other => (marked.max(other.as_ref().map_or(0, |b| b.generation)) + 1, 0),
    };
    let binding = Binding {
        device: device.clone(),
        subject: subject.clone(),
        terms: terms.clone(),
        granted_by: by.to_owned(),
        granted_at: now,
        generation,
        version,
        origin: origin.to_owned(),
    };
    tx.put(&key, &binding)?;
    tx.put(&binding_index_key(subject, device), &BindingIndex { device: device.clone() })?;
    Ok(binding)
}

/// Ends one right inside a transaction, with its mark; false when there was none.
pub(super) fn revoke_in(tx: &Tx<'_>, device: &DeviceId, subject: &Subject, by: &str, now: u64) -> Result<bool, StoreError> {
    let key = binding_key(device, subject);
    let Some(binding) = tx.get::<Binding>(&key)? else { return Ok(false) };
    let marked = tx.get::<RevocationMark>(&key)?.map_or(0, |m| m.generation);
    // A mark only ever grows.
    tx.put(&key, &RevocationMark { generation: marked.max(binding.generation), at: now, by: by.to_owned() })?;
    tx.delete::<Binding>(&key)?;
    tx.delete::<BindingIndex>(&binding_index_key(subject, device))?;
    if binding.terms.privilege == Privilege::Administer {
        end_sharing_by(tx, subject, device)?;
    }
    Ok(true)
}
