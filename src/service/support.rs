//! Support sessions: an owner lets one of a maker's people in to some devices of that maker, for a reason and a time. They
//! are shown to everybody they concern, ended by one tap, recorded, and end with the owner's own say over the devices.
//! That a maker's person has no right outside one is `rights`'.

use super::bindings::{name_of, put_binding, revoke_in};
use super::rights::{Now, Rows, require_role};
use super::{Actor, Change, Refusal, Service, audit, random};
use crate::domain::account::{Role, User, UserId, Username};
use crate::domain::audit::{Event, Outcome};
use crate::domain::authority::HubAction;
use crate::domain::binding::{Binding, Privilege, Subject, Terms};
use crate::domain::device::Registered;
use crate::domain::ids::{BrandId, DeviceId};
use crate::domain::policy::{Action, Reason, decide};
use crate::domain::support::{LONGEST_MS, MOST_DEVICES, REASON_CHARS, SupportSession};
use crate::store::tables::{UserName, binding_key};
use crate::store::{Read, StoreError, Tx};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Support sessions open at the same time.
const MOST_OPEN: usize = 20;

/// What an owner opens.
#[derive(Clone, Debug)]
pub struct SupportRequest {
    /// Who is let in, by user name.
    pub username: String,
    /// To which devices.
    pub devices: BTreeSet<DeviceId>,
    /// How far.
    pub privilege: Privilege,
    /// For how long, in ms.
    pub for_ms: u64,
    /// Why, for people.
    pub reason: String,
}

/// A support session as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SupportView {
    /// Its id.
    pub id: String,
    /// Who is let in.
    pub user: UserId,
    /// What people call them.
    pub name: String,
    /// What they are at the maker.
    pub role: Option<Role>,
    /// Whose they are.
    pub brand: Option<BrandId>,
    /// To which devices.
    pub devices: Vec<SupportedDevice>,
    /// How far.
    pub privilege: Privilege,
    /// Why.
    pub reason: String,
    /// By which owner.
    pub opened_by: UserId,
    /// What people call that owner.
    pub opened_by_name: String,
    /// When, ms since 1970.
    pub opened_at: u64,
    /// Until when, ms since 1970.
    pub until: u64,
}

/// A device of a support session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SupportedDevice {
    /// Its id.
    pub id: DeviceId,
    /// What people call it.
    pub name: String,
}

impl Service {
    /// Opens a support session.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for all but owners; [`Refusal::NotFound`] for an account or a device;
    /// [`Refusal::NotAllowed`] for a device that the owner does not administer; [`Refusal::Conflict`] for somebody who is no
    /// maker's person, a device of another brand, a privilege beyond the role, or a session that is open already;
    /// [`Refusal::Invalid`].
    pub async fn open_support(self: &Arc<Self>, actor: &Actor, request: SupportRequest) -> Result<SupportView, Refusal> {
        let (service, who, now) = (self.clone(), actor.clone(), self.now());
        let id = uuid::Uuid::from_bytes(random()?).simple().to_string();
        let view = self.store.write(move |tx| service.open_in(tx, &who, &request, &id, now)).await?;
        self.policy_changed().await;
        self.changed(Change::Support);
        Ok(view)
    }

    fn open_in(&self, tx: &Tx<'_>, who: &Actor, request: &SupportRequest, id: &str, now: u64) -> Result<SupportView, Refusal> {
        require_role(tx, who, HubAction::ManageAccess, now)?;
        let opener = who.user()?.clone();
        let user = maker_person(tx, &request.username)?;
        let reason: String = request.reason.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if reason.is_empty() || reason.chars().count() > REASON_CHARS {
            return Err(Refusal::Invalid(format!("reason: 1 to {REASON_CHARS} characters, for everybody in the house to read")));
        }
        if request.devices.is_empty() || request.devices.len() > MOST_DEVICES {
            return Err(Refusal::Invalid(format!("devices: 1 to {MOST_DEVICES} of them")));
        }
        if request.for_ms == 0 || request.for_ms > LONGEST_MS {
            return Err(Refusal::Invalid("minutes: from 1 to 480".into()));
        }
        if user.role.most_in_support().is_none_or(|most| request.privilege > most) {
            return Err(Refusal::Conflict(
                "privilege: product managers look, support operates, developers manage, and none administers".into(),
            ));
        }
        let open = tx.scan::<SupportSession>(b"", usize::MAX)?;
        if open.len() >= MOST_OPEN {
            return Err(Refusal::Conflict("too many support sessions are open: end one first".into()));
        }
        let (subject, until) = (Subject::User(user.id.clone()), now + request.for_ms);
        let terms = Terms { until: Some(until), ..Terms::of(request.privilege) };
        for device in &request.devices {
            let own = self.require(tx, who, device, Action::Administer)?.own;
            if own.binding.is_none_or(|own| !terms.lie_within(&own.terms, now)) {
                return Err(Refusal::NotAllowed(Reason::PrivilegeTooLow));
            }
            let made_by = tx.get::<Registered>(device.as_str().as_bytes())?.ok_or(Refusal::NotFound("device"))?.brand;
            if user.brand.as_ref() != Some(&made_by) {
                return Err(Refusal::Conflict(format!("{device} is made by {made_by}: its own maker's people are let in to it")));
            }
            if open.iter().any(|(_, s)| s.user == user.id && s.devices.contains(device)) {
                return Err(Refusal::Conflict(format!("this person is let in to {device} already: end that session first")));
            }
            put_binding(tx, &subject, device, &terms, &who.subject.to_string(), &self.origin(), now)?;
        }
        let session = SupportSession {
            id: id.to_owned(),
            user: user.id,
            devices: request.devices.clone(),
            privilege: request.privilege,
            reason,
            opened_by: opener,
            opened_at: now,
            until,
            looked_at: BTreeSet::new(),
        };
        tx.put(session.id.as_bytes(), &session)?;
        let devices: Vec<&str> = session.devices.iter().map(DeviceId::as_str).collect();
        let detail =
            format!("{:?} for {subject} on {}, {} min: {}", session.privilege, devices.join(" "), request.for_ms / 60_000, session.reason);
        audit::append(tx, now, audit::done(who, "support.open", &named(&session), detail))?;
        Ok(view(tx, &session)?)
    }

    /// The support sessions that are open, as far as they concern who asks: owners all of them, others of the house those
    /// on devices they may view, a maker's person their own.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`].
    pub fn support_sessions(&self, actor: &Actor) -> Result<Vec<SupportView>, Refusal> {
        let user = actor.user()?;
        let now = self.moment();
        self.store.read(|v| {
            let mut out = Vec::new();
            for (_, session) in v.scan::<SupportSession>(b"", usize::MAX)? {
                if now.at < session.until && concerns(v, actor, user, &session, &now)? {
                    out.push(view(v, &session)?);
                }
            }
            Ok(out)
        })
    }

    /// Ends a support session. When this returns, nothing more reaches who was let in.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], also for one that does not concern who asks; [`Refusal::RoleTooLow`] for all but owners and
    /// the one who was let in.
    pub async fn end_support(&self, actor: &Actor, id: &str) -> Result<(), Refusal> {
        let (who, key, now) = (actor.clone(), id.to_owned(), self.moment());
        let user = actor.user()?.clone();
        self.store
            .write(move |tx| {
                let found = tx.get::<SupportSession>(key.as_bytes())?.ok_or(Refusal::NotFound("support session"))?;
                if !concerns(tx, &who, &user, &found, &now)? {
                    return Err(Refusal::NotFound("support session"));
                }
                if found.user != user {
                    require_role(tx, &who, HubAction::ManageAccess, now.at)?;
                }
                let event = audit::done(&who, "support.end", &named(&found), "");
                end_in(tx, &found, event, now.at)?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.policy_changed().await;
        self.changed(Change::Support);
        Ok(())
    }

    /// Ends what is over by its time. Called by the hub's clock, about once a second.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn sweep_support(&self) -> Result<(), Refusal> {
        if self.end_those_that_fell().await? {
            self.policy_changed().await;
        }
        Ok(())
    }

    /// Ends the support sessions that stand no more, before a changed policy is applied to live sessions.
    pub(super) async fn end_fallen_support(&self) {
        if let Err(error) = self.end_those_that_fell().await {
            tracing::error!(%error, "support sessions could not be looked at; the hub's clock tries again");
        }
    }

    async fn end_those_that_fell(&self) -> Result<bool, Refusal> {
        let now = self.moment();
        let fallen = self.store.read::<_, StoreError>(|v| {
            for (_, session) in v.scan::<SupportSession>(b"", usize::MAX)? {
                if standing(v, &session, &now)? != Fate::Stands {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if !fallen {
            return Ok(false);
        }
        self.store
            .write::<_, StoreError, _>(move |tx| {
                for (_, session) in tx.scan::<SupportSession>(b"", usize::MAX)? {
                    let because = |action: &str, reason: &str, detail: &str| {
                        audit::event("hub", action, &named(&session), Outcome::Done, reason, detail, "hub")
                    };
                    match standing(tx, &session, &now)? {
                        Fate::Stands => {}
                        Fate::Ends(reason) => end_in(tx, &session, because("support.end", reason, ""), now.at)?,
                        Fate::Shrinks(stay) => {
                            let gone: Vec<DeviceId> = session.devices.difference(&stay).cloned().collect();
                            revoke_on(tx, &session, gone.iter(), now.at)?;
                            let told: Vec<&str> = gone.iter().map(DeviceId::as_str).collect();
                            tx.put(session.id.as_bytes(), &SupportSession { devices: stay, ..session.clone() })?;
                            audit::append(tx, now.at, because("support.narrow", "no_say_any_more", &told.join(" ")))?;
                        }
                    }
                }
                Ok(())
            })
            .await?;
        self.changed(Change::Support);
        Ok(true)
    }

    /// Records that one of a maker's people looks at a device's state: once for each device and session, before they see it.
    ///
    /// # Errors
    /// The store's fault: then nothing is shown.
    pub async fn record_look(&self, actor: &Actor, device: &DeviceId) -> Result<(), Refusal> {
        self.record_looks(actor, Some(device)).await
    }

    /// The same for `device`, or for all that they are let in to: who subscribes may hear of each.
    ///
    /// # Errors
    /// The same.
    pub async fn record_looks(&self, actor: &Actor, device: Option<&DeviceId>) -> Result<(), Refusal> {
        let Some(user) = actor.subject.user().filter(|_| actor.authority.role().is_some_and(Role::is_vendor)) else { return Ok(()) };
        let (user, now) = (user.clone(), self.now());
        let is_new = move |session: &SupportSession, one: Option<&DeviceId>| -> Vec<DeviceId> {
            let meant = session.devices.iter().filter(|d| one.is_none_or(|one| *d == one) && session.covers(d, now));
            meant.filter(|d| !session.looked_at.contains(*d)).cloned().collect()
        };
        let open = self.store.read::<_, StoreError>(|v| support_of(v, &user))?;
        if open.iter().all(|s| is_new(s, device).is_empty()) {
            return Ok(());
        }
        let (who, one) = (actor.clone(), device.cloned());
        self.store
            .write::<_, StoreError, _>(move |tx| {
                for mut session in support_of(tx, &user)? {
                    for device in is_new(&session, one.as_ref()) {
                        audit::append(tx, now, audit::done(&who, "twin.read", device.as_str(), ""))?;
                        session.looked_at.insert(device);
                    }
                    tx.put(session.id.as_bytes(), &session)?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}

/// The support sessions of one person, those included whose time is over and that nobody has swept yet.
pub(super) fn support_of<R: Read>(rows: &R, user: &UserId) -> Result<Vec<SupportSession>, StoreError> {
    let all = rows.scan::<SupportSession>(b"", usize::MAX)?;
    Ok(all.into_iter().map(|(_, s)| s).filter(|s| s.user == *user).collect())
}

/// What a maker's person does is told with the support session in which they do it.
pub(super) fn told_with_session(tx: &Tx<'_>, now: u64, mut event: Event) -> Result<Event, StoreError> {
    let Some(user) = event.actor.strip_prefix("user:").and_then(UserId::parse) else { return Ok(event) };
    let object = DeviceId::parse(&event.object).ok();
    let sessions = support_of(tx, &user)?;
    let Some(session) = sessions.iter().find(|s| object.as_ref().is_some_and(|device| s.covers(device, now))) else { return Ok(event) };
    if event.reason.is_empty() {
        event.reason = named(session);
    } else {
        event.detail = format!("{} ({})", event.detail, named(session)).trim().to_owned();
    }
    Ok(event)
}

/// What becomes of an open session.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Stands,
    /// It goes on for these devices.
    Shrinks(BTreeSet<DeviceId>),
    Ends(&'static str),
}

fn standing<R: Read>(rows: &R, session: &SupportSession, now: &Now) -> Result<Fate, StoreError> {
    if now.at >= session.until {
        return Ok(Fate::Ends("expired"));
    }
    let living = |id: &UserId| rows.get::<User>(id.as_str().as_bytes()).map(|u| u.filter(|u| !u.ended));
    let Some(person) = living(&session.user)?.filter(|u| u.role.most_in_support().is_some_and(|most| session.privilege <= most)) else {
        return Ok(Fate::Ends("account_ended"));
    };
    if living(&session.opened_by)?.is_none_or(|u| !u.role.may(HubAction::ManageAccess)) {
        return Ok(Fate::Ends("opener_ended"));
    }
    let (opener, subject) = (Subject::User(session.opened_by.clone()), Subject::User(person.id));
    let mut stay = BTreeSet::new();
    for device in &session.devices {
        // What suspends or quarantines a device does not end an owner's say over it.
        let says = decide(&Rows::load(rows, &opener, device, now)?.facts(None), Action::Administer, now).allowed;
        let given = rows.get::<Binding>(&binding_key(device, &subject))?.is_some_and(|b| b.granted_by == opener.to_string());
        if says && given {
            stay.insert(device.clone());
        }
    }
    Ok(match stay.len() {
        0 => Fate::Ends("no_say_any_more"),
        n if n == session.devices.len() => Fate::Stands,
        _ => Fate::Shrinks(stay),
    })
}

/// Ends a session: its rights, its row, and `event` in the audit.
fn end_in(tx: &Tx<'_>, session: &SupportSession, event: Event, now: u64) -> Result<(), StoreError> {
    revoke_on(tx, session, session.devices.iter(), now)?;
    tx.delete::<SupportSession>(session.id.as_bytes())?;
    audit::append(tx, now, event)?;
    Ok(())
}

fn revoke_on<'a>(tx: &Tx<'_>, session: &SupportSession, devices: impl Iterator<Item = &'a DeviceId>, now: u64) -> Result<(), StoreError> {
    let subject = Subject::User(session.user.clone());
    for device in devices {
        revoke_in(tx, device, &subject, &named(session), now)?;
    }
    Ok(())
}

fn concerns<R: Read>(rows: &R, actor: &Actor, user: &UserId, session: &SupportSession, now: &Now) -> Result<bool, StoreError> {
    let Some(account) = rows.get::<User>(user.as_str().as_bytes())?.filter(|u| !u.ended) else { return Ok(false) };
    if account.role.is_vendor() {
        return Ok(session.user == *user);
    }
    if account.role.may(HubAction::ManageAccess) {
        return Ok(true);
    }
    for device in &session.devices {
        if decide(&Rows::load(rows, &actor.subject, device, now)?.facts(None), Action::View, now).allowed {
            return Ok(true);
        }
    }
    Ok(false)
}

fn maker_person(tx: &Tx<'_>, name: &str) -> Result<User, Refusal> {
    let folded = Username::parse(name)?.folded();
    let found = match tx.get::<UserName>(folded.as_bytes())? {
        Some(name) => tx.get::<User>(name.id.as_str().as_bytes())?,
        None => None,
    };
    let user = found.filter(|u| !u.ended).ok_or(Refusal::NotFound("account"))?;
    if !user.role.is_vendor() {
        return Err(Refusal::Conflict("this is somebody of the house: share the device with them instead".into()));
    }
    Ok(user)
}

fn view<R: Read>(rows: &R, session: &SupportSession) -> Result<SupportView, StoreError> {
    let person = rows.get::<User>(session.user.as_str().as_bytes())?;
    let mut devices = Vec::new();
    for id in &session.devices {
        devices.push(SupportedDevice { id: id.clone(), name: name_of(rows, &Subject::Device(id.clone()))? });
    }
    Ok(SupportView {
        id: session.id.clone(),
        user: session.user.clone(),
        name: person.as_ref().map(|u| u.display_name.clone()).unwrap_or_default(),
        role: person.as_ref().map(|u| u.role),
        brand: person.and_then(|u| u.brand),
        devices,
        privilege: session.privilege,
        reason: session.reason.clone(),
        opened_by_name: name_of(rows, &Subject::User(session.opened_by.clone()))?,
        opened_by: session.opened_by.clone(),
        opened_at: session.opened_at,
        until: session.until,
    })
}

fn named(session: &SupportSession) -> String {
    format!("support:{}", session.id)
}
