//! Sharing: giving a right on a device to somebody, taking it away, leaving. A right given is never wider or longer
//! than the giver's own; a right taken away leaves a mark for ever, and what its holder gave goes with it unless it is
//! asked to stay; the last administrator stays.

use super::rights::{Rows, require_role};
use super::{Actor, CloseReason, Refusal, Service, audit};
use crate::domain::account::{HouseholdRole, HubAction, User, UserId, Username};
use crate::domain::binding::{Binding, Privilege, RevocationMark, Subject};
use crate::domain::device::{Household, Registered};
use crate::domain::ids::DeviceId;
use crate::domain::policy::{Action, Reason};
use crate::store::tables::{BindingIndex, UserName, binding_index_key, binding_key, device_prefix, subject_prefix};
use crate::store::{Read, StoreError, Tx};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Bindings of one device.
const MAX_BINDINGS: usize = 1_000;
/// Rights that an audit entry names; of more it gives the number.
const NAMED: usize = 20;

/// A right to give.
#[derive(Clone, Debug)]
pub struct Grant {
    /// To whom: a user name.
    pub username: String,
    /// How far.
    pub privilege: Privilege,
    /// Not before, ms since 1970.
    pub from: Option<u64>,
    /// Not at or after, ms since 1970.
    pub until: Option<u64>,
}

/// A right as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct BindingView {
    /// On which device.
    pub device_id: DeviceId,
    /// Whose: the account's id.
    pub user: UserId,
    /// The account's name.
    pub username: String,
    /// How far.
    pub privilege: Privilege,
    /// Not before, ms since 1970.
    pub from: Option<u64>,
    /// Not at or after, ms since 1970.
    pub until: Option<u64>,
    /// Who gave it: a subject's text, or `claim`.
    pub granted_by: String,
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
        let now = self.now();
        if grant.until.is_some_and(|until| until <= now || grant.from.is_some_and(|from| from >= until)) {
            return Err(Refusal::Invalid("until: it must lie in the future and after from".into()));
        }
        let folded = Username::parse(&grant.username)?.folded();
        let (service, who, id) = (self.clone(), actor.clone(), device.clone());
        let view = self
            .store
            .write(move |tx| {
                let own = service.require(tx, &who, &id, Action::Administer)?;
                let user = user_by_name(tx, &folded)?;
                let subject = Subject::User(user.id.clone());
                may_give(&own, &grant, now)?;
                let all = bindings_of(tx, &id)?;
                if grant.privilege < Privilege::Administer || grant.until.is_some() || grant.from.is_some_and(|from| from > now) {
                    keep_an_administrator(tx, &all, &HashSet::from([subject.clone()]), now)?;
                }
                if all.len() >= MAX_BINDINGS && !all.iter().any(|b| b.subject == subject) {
                    return Err(Refusal::Conflict("this device is shared with too many: take a right away first".into()));
                }
                let by = who.subject().to_string();
                let binding = put_binding(tx, &subject, &id, grant.privilege, (grant.from, grant.until), &by, now)?;
                let detail = format!("{:?} to {subject}", grant.privilege).to_lowercase();
                audit::append(tx, now, audit::done(&who, "binding.grant", id.as_str(), detail))?;
                Ok(view(&binding, &user))
            })
            .await?;
        self.policy_changed().await;
        self.changed(super::Change::Device { id: device.clone() });
        Ok(view)
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
        user: &UserId,
        with_grants: bool,
    ) -> Result<Vec<BindingView>, Refusal> {
        let (service, who, id, now) = (self.clone(), actor.clone(), device.clone(), self.now());
        let subject = Subject::User(user.clone());
        let lost = self
            .store
            .write(move |tx| {
                let own = subject == who.subject();
                if own {
                    // To leave takes no right: not even one that has begun, or on a device that works.
                    tx.get::<User>(who.user.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
                } else {
                    service.require(tx, &who, &id, Action::Administer)?;
                }
                let all = bindings_of(tx, &id)?;
                let with_it = if with_grants && !own { given_by(&all, &subject, &who.subject()) } else { Vec::new() };
                let leaving = with_it.iter().map(|b| &b.subject).chain([&subject]).cloned().collect();
                keep_an_administrator(tx, &all, &leaving, now)?;
                let by = who.subject().to_string();
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
        if !actor.role.may(HubAction::SeeAllDevices) {
            return Err(Refusal::RoleTooLow);
        }
        let (who, id, now) = (actor.clone(), device.clone(), self.now());
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::SeeAllDevices)?;
                if tx.get::<Registered>(id.as_str().as_bytes())?.is_none() {
                    return Err(Refusal::NotFound("device"));
                }
                if !tx.get::<Household>(id.as_str().as_bytes())?.unwrap_or_default().standing.is_bound() {
                    return Err(Refusal::Conflict("nobody has claimed this device: claim it by its code".into()));
                }
                put_binding(tx, &who.subject(), &id, Privilege::Administer, (None, None), &who.subject().to_string(), now)?;
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
                Err(Refusal::NotAllowed(_)) => actor.role.may(HubAction::SeeAllDevices),
                Err(other) => return Err(other),
            };
            let mut out = Vec::new();
            for (_, binding) in v.scan::<Binding>(&device_prefix(device), MAX_BINDINGS)? {
                let Subject::User(id) = &binding.subject else { continue };
                if !all && *id != actor.user {
                    continue;
                }
                if let Some(user) = v.get::<User>(id.as_str().as_bytes())? {
                    out.push(view(&binding, &user));
                }
            }
            Ok(out)
        })
    }

    /// Ends an account: its sessions, its rights, and by default (`with_grants`) every right it gave to others, and that
    /// those gave in turn, but none of the one who asks. Says which rights of others that were. When this returns,
    /// nothing more reaches whoever lost one.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::NotFound`]; [`Refusal::Conflict`] for the last owner.
    pub async fn end_user(&self, actor: &Actor, user: &UserId, with_grants: bool) -> Result<Vec<BindingView>, Refusal> {
        if !actor.role.may(HubAction::ManagePeople) {
            return Err(Refusal::RoleTooLow);
        }
        let (who, id, now) = (actor.clone(), user.clone(), self.now());
        let lost = self
            .store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManagePeople)?;
                let key = id.as_str().as_bytes();
                let mut ended = tx.get::<User>(key)?.filter(|u| !u.ended).ok_or(Refusal::NotFound("account"))?;
                let owners = tx.scan::<User>(b"", usize::MAX)?;
                if ended.role == HouseholdRole::Owner
                    && !owners.iter().any(|(_, u)| u.id != id && u.role == HouseholdRole::Owner && !u.ended)
                {
                    return Err(Refusal::Conflict("this is the last owner: make another one first".into()));
                }
                ended.ended = true;
                tx.put(key, &ended)?;
                tx.delete::<UserName>(ended.username.folded().as_bytes())?;
                for (session, row) in tx.scan::<crate::store::tables::Session>(b"", usize::MAX)? {
                    if row.user == id {
                        tx.delete::<crate::store::tables::Session>(&session)?;
                    }
                }
                let subject = Subject::User(id.clone());
                let by = who.subject().to_string();
                for (_, index) in tx.scan::<BindingIndex>(&subject_prefix(&subject), usize::MAX)? {
                    revoke_in(tx, &index.device, &subject, &by, now)?;
                }
                let mut lost = Vec::new();
                if with_grants {
                    let all: Vec<Binding> = tx.scan::<Binding>(b"", usize::MAX)?.into_iter().map(|(_, b)| b).collect();
                    for of_device in all.chunk_by(|a, b| a.device == b.device) {
                        lost.extend(revoke_all(tx, &given_by(of_device, &subject, &who.subject()), &by, now)?);
                    }
                }
                let detail = format!("{}{}", ended.username.as_str(), with_them(&lost));
                audit::append(tx, now, audit::done(&who, "user.end", id.as_str(), detail))?;
                Ok::<_, Refusal>(lost)
            })
            .await?;
        self.policy_changed().await;
        self.close_sessions(&Subject::User(user.clone()), CloseReason::NotAuthorized).await;
        Ok(lost)
    }
}

fn view(binding: &Binding, user: &User) -> BindingView {
    BindingView {
        device_id: binding.device.clone(),
        user: user.id.clone(),
        username: user.username.as_str().to_owned(),
        privilege: binding.privilege,
        from: binding.from,
        until: binding.until,
        granted_by: binding.granted_by.clone(),
        granted_at: binding.granted_at,
    }
}

fn user_by_name(tx: &Tx<'_>, folded: &str) -> Result<User, Refusal> {
    let found = match tx.get::<UserName>(folded.as_bytes())? {
        Some(name) => tx.get::<User>(name.id.as_str().as_bytes())?,
        None => None,
    };
    found.filter(|u| !u.ended).ok_or(Refusal::NotFound("account"))
}

/// Nobody gives more than they have: not wider, not earlier, not longer.
fn may_give(own: &Rows, grant: &Grant, now: u64) -> Result<(), Refusal> {
    let Some(own) = &own.binding else { return Err(Refusal::NotAllowed(Reason::NotBound)) };
    let longer = own.until.is_some_and(|end| grant.until.is_none_or(|until| until > end));
    let earlier = own.from.is_some_and(|start| grant.from.unwrap_or(now) < start);
    if grant.privilege > own.privilege || longer || earlier {
        return Err(Refusal::NotAllowed(Reason::PrivilegeTooLow));
    }
    Ok(())
}

fn bindings_of(tx: &Tx<'_>, device: &DeviceId) -> Result<Vec<Binding>, StoreError> {
    Ok(tx.scan::<Binding>(&device_prefix(device), usize::MAX)?.into_iter().map(|(_, b)| b).collect())
}

/// Of the bindings of one device, those that `giver` gave, and that their holders gave in turn; not that of `spared`, nor
/// what `spared` gave: who takes a right away keeps their own, whoever gave it.
fn given_by(all: &[Binding], giver: &Subject, spared: &Subject) -> Vec<Binding> {
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

/// Ends these rights; as they are shown, those of people.
fn revoke_all(tx: &Tx<'_>, bindings: &[Binding], by: &str, now: u64) -> Result<Vec<BindingView>, StoreError> {
    let mut lost = Vec::new();
    for binding in bindings {
        revoke_in(tx, &binding.device, &binding.subject, by, now)?;
        if let Subject::User(id) = &binding.subject
            && let Some(holder) = tx.get::<User>(id.as_str().as_bytes())?
        {
            lost.push(view(binding, &holder));
        }
    }
    Ok(lost)
}

/// For the audit: the rights that ended along with one.
fn with_them(lost: &[BindingView]) -> String {
    if lost.is_empty() {
        return String::new();
    }
    let mut text = format!("; {} rights given by it ended too:", lost.len());
    for binding in lost.iter().take(NAMED) {
        text.push_str(&format!(" user:{} on {}", binding.user, binding.device_id));
    }
    if lost.len() > NAMED {
        text.push_str(" …");
    }
    text
}

/// A device that nobody administers could never be given back: among those `leaving` must not be the last who does.
fn keep_an_administrator(tx: &Tx<'_>, all: &[Binding], leaving: &HashSet<Subject>, now: u64) -> Result<(), Refusal> {
    let lasting = |b: &Binding| b.privilege == Privilege::Administer && b.until.is_none() && b.from.is_none_or(|from| from <= now);
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

/// Writes a right and its index row, one generation above all that was before, marks included.
pub(super) fn put_binding(
    tx: &Tx<'_>,
    subject: &Subject,
    device: &DeviceId,
    privilege: Privilege,
    (from, until): (Option<u64>, Option<u64>),
    by: &str,
    now: u64,
) -> Result<Binding, StoreError> {
    let key = binding_key(device, subject);
    let marked = tx.get::<RevocationMark>(&key)?.map_or(0, |m| m.generation);
    let before = tx.get::<Binding>(&key)?.map_or(0, |b| b.generation);
    let binding = Binding {
        device: device.clone(),
        subject: subject.clone(),
        privilege,
        granted_by: by.to_owned(),
        granted_at: now,
        generation: marked.max(before) + 1,
        from,
        until,
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
    Ok(true)
}
