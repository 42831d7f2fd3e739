//! Invitations: an account, rights, or both, promised to whoever shows a one-time code; and accounts that people make for
//! themselves. What is promised is checked as the giver's right when it is promised, and again, as the giver's, when it is
//! accepted: an invitation never outlives what its giver may give. It serves once.

mod shown;

pub use shown::{GiftView, InvitationLook, InvitationView, PromiseView};

use super::accounts::{NewUser, insert_user};
use super::passwords::Asker;
use super::rights::require_role;
use super::sessions::put_session;
use super::settings::settings_in;
use super::{Actor, BindingView, Grant, OpenedSession, Recipient, Refusal, Service, UserView, audit, random};
use crate::domain::account::{Role, User, UserId, Username};
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::binding::{Binding, RevocationMark, Subject, Terms};
use crate::domain::code::Code;
use crate::domain::ids::DeviceId;
use crate::store::tables::{Invitation, Promise, UserName, binding_key};
use crate::store::{Read, StoreError, Tx};
use shown::{device_name, listed, looked, told};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// How long an invitation serves unless it says otherwise, and at least and at most, in ms.
const LIFETIME_MS: u64 = 7 * 86_400_000;
const LEAST_LIFETIME_MS: u64 = 60_000;
const MOST_LIFETIME_MS: u64 = 30 * 86_400_000;
/// Open invitations of one person, and of all.
const PER_PERSON: usize = 50;
const OF_ALL: usize = 500;
/// Devices that one invitation gives rights on.
const MOST_GRANTS: usize = 50;
/// Accounts up to which people make their own without being invited.
const MOST_ACCOUNTS: usize = 1_000;
/// Under which names guesses at codes, and accounts without one, are counted.
const GUESSED: &str = "invitation";
const OPEN: &str = "registration";

/// What is not found by a code.
const GONE: Refusal = Refusal::NotFound("invitation: it has been used or withdrawn, or its time is over; ask for a new one");

/// An invitation to make.
#[derive(Clone, Debug, Default)]
pub struct NewInvitation {
    /// The role of the account that it makes; none to share with somebody who has one.
    pub role: Option<Role>,
    /// How the one who is meant is called.
    pub display_name: String,
    /// The rights that it gives.
    pub grants: Vec<(DeviceId, Terms)>,
    /// For how long it serves, in ms.
    pub expires_in_ms: Option<u64>,
}

/// An invitation just made.
#[derive(Debug)]
pub struct MadeInvitation {
    /// Its id.
    pub id: String,
    /// Its code, shown this once.
    pub code: Zeroizing<String>,
    /// Until when it serves, ms since 1970.
    pub expires: u64,
}

/// An account that a person makes for themselves.
pub struct Registration {
    /// The invitation's code; none while anybody may make an account.
    pub code: Option<String>,
    /// The name to sign in with.
    pub username: String,
    /// The password.
    pub password: Zeroizing<String>,
    /// How the person wants to be called; as the invitation says when empty.
    pub display_name: String,
}

impl Service {
    /// Promises an account, rights, or both.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`]; [`Refusal::RoleTooLow`] for an account by somebody who is no owner; for each right those
    /// of [`Service::grant`]; [`Refusal::Invalid`]; [`Refusal::Conflict`] for too many.
    pub async fn invite(self: &Arc<Self>, actor: &Actor, new: NewInvitation) -> Result<MadeInvitation, Refusal> {
        let by = actor.user()?.clone();
        new.check()?;
        let now = self.now();
        let code = Code::from_random(&random()?);
        let key = self.invitation_key(&code);
        let row = Invitation {
            id: uuid::Uuid::from_bytes(random()?).simple().to_string(),
            by,
            role: new.role,
            display_name: plain(&new.display_name),
            grants: new.grants.into_iter().map(|(device, terms)| Promise { device, terms }).collect(),
            created_at: now,
            expires_at: now.saturating_add(new.expires_in_ms.unwrap_or(LIFETIME_MS)),
        };
        let made = MadeInvitation { id: row.id.clone(), code: code.shown(), expires: row.expires_at };
        let (service, who) = (self.clone(), actor.clone());
        self.store
            .write::<_, Refusal, _>(move |tx| {
                service.may_promise(tx, &who, &row, now)?;
                sweep(tx, now)?;
                let open = tx.scan::<Invitation>(b"", usize::MAX)?;
                if open.len() >= OF_ALL || open.iter().filter(|(_, i)| i.by == row.by).count() >= PER_PERSON {
                    return Err(Refusal::Conflict("too many invitations are open: withdraw one that nobody uses".into()));
                }
                tx.put(&key, &row)?;
                audit::append(tx, now, audit::done(&who, "invitation.make", &row.id, told(&row)))?;
                Ok(())
            })
            .await?;
        Ok(made)
    }

    /// The open invitations: one's own, and all of them for who manages people.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`], [`Refusal::SignedOut`].
    pub fn invitations(&self, actor: &Actor) -> Result<Vec<InvitationView>, Refusal> {
        let (user, now) = (actor.user()?, self.now());
        self.store.read(|v| {
            let all = sees_all(v, actor, now)?;
            let mut out = Vec::new();
            for (_, row) in v.scan::<Invitation>(b"", OF_ALL)? {
                if now < row.expires_at && (all || row.by == *user) {
                    out.push(listed(v, row)?);
                }
            }
            out.sort_by_key(|i| std::cmp::Reverse(i.created_at));
            Ok(out)
        })
    }

    /// Withdraws an invitation: one's own, or any by who manages people. When this returns, it gives nothing.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; [`Refusal::PeopleOnly`], [`Refusal::SignedOut`].
    pub async fn withdraw_invitation(&self, actor: &Actor, id: &str) -> Result<(), Refusal> {
        let (user, who, id, now) = (actor.user()?.clone(), actor.clone(), id.to_owned(), self.now());
        self.store
            .write(move |tx| {
                let all = sees_all(tx, &who, now)?;
                let found = tx.scan::<Invitation>(b"", OF_ALL)?.into_iter().find(|(_, i)| i.id == id && (all || i.by == user));
                let (key, _) = found.ok_or(Refusal::NotFound("invitation"))?;
                tx.delete::<Invitation>(&key)?;
                audit::append(tx, now, audit::done(&who, "invitation.withdraw", &id, ""))?;
                Ok::<_, Refusal>(())
            })
            .await
    }

    /// What whoever shows the code is promised.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::TooMany`]; [`Refusal::Conflict`] when the giver may not give it any more.
    pub fn look_at_invitation(&self, code: &str, source: IpAddr, via: &str) -> Result<InvitationLook, Refusal> {
        self.attempt(source, GUESSED)?;
        let now = self.now();
        let looked = self.store.read(|v| {
            let row = self.invitation(v, code, now)?;
            let giver = giver(v, &row, source, via)?;
            self.may_promise(v, &giver, &row, now).map_err(void)?;
            Ok::<_, Refusal>(looked(v, &self.hub.name, row)?)
        });
        self.judged(looked, source, GUESSED, "invitation.look", "?", via)
    }

    /// Makes an account for oneself, by an invitation or while anybody may, and signs it in: all of it, or nothing.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a code that gives nothing; [`Refusal::Conflict`] when the giver may not give it any
    /// more, or the name is taken; [`Refusal::Invalid`] without a code when one is needed; [`Refusal::TooMany`].
    pub async fn register(self: &Arc<Self>, new: Registration, source: IpAddr, via: &str) -> Result<OpenedSession, Refusal> {
        let place = self.hash_place(Asker::Source(source))?;
        let counted = if new.code.is_some() { GUESSED } else { OPEN };
        self.attempt(source, counted)?;
        let known = self.store.read(|v| self.may_register(v, new.code.as_deref(), &new.username, source, via));
        let (role, by, called) = match known {
            Err(refused) => return self.judged(Err(refused), source, counted, "user.register", "?", via),
            Ok(known) => known,
        };
        let display_name = if new.display_name.trim().is_empty() { called } else { new.display_name };
        let account = NewUser { username: new.username, password: new.password, display_name, role };
        let user = self.new_user(&place, account, &by).await?;
        let (token, now) = (Self::new_token()?, self.now());
        let (key, session) = (self.session_key(&token), self.session_for(&user, source));
        let (expires, view) = (session.expires_at, UserView::from(&user));
        let (service, code, told) = (self.clone(), new.code.map(Zeroizing::new), via.to_owned());
        let given = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                // Hashing takes its time: the invitation may have been used or withdrawn meanwhile.
                let (role, _, _) = service.may_register(tx, code.as_ref().map(|c| c.as_str()), user.username.as_str(), source, &told)?;
                if role != user.role {
                    return Err(GONE);
                }
                insert_user(tx, &user)?;
                let who = Actor::person(user.id.clone(), user.role, told.clone(), source);
                let reason = if code.is_some() { "invitation" } else { "open" };
                let event = audit::event(
                    who.subject.to_string(),
                    "user.register",
                    user.id.as_str(),
                    Outcome::Done,
                    reason,
                    user.username.as_str(),
                    &told,
                );
                audit::append(tx, now, event)?;
                let given = match &code {
                    Some(code) => service.redeem(tx, code, &user, &who, now)?,
                    None => Vec::new(),
                };
                put_session(tx, &key, &session)?;
                Ok(given)
            })
            .await?;
        if counted == GUESSED {
            self.succeeded_attempt(source, counted);
        }
        self.given(&given).await;
        Ok(OpenedSession { token, expires, user: view })
    }

    /// Takes what an invitation without a role promises: the rights that one has from it now.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`], [`Refusal::SignedOut`]; [`Refusal::NotFound`] for a code that gives nothing;
    /// [`Refusal::Conflict`] when the giver may not give it any more, or it makes an account; [`Refusal::TooMany`].
    pub async fn accept_invitation(self: &Arc<Self>, actor: &Actor, code: &str) -> Result<Vec<BindingView>, Refusal> {
        let counted = format!("{GUESSED} {}", actor.user()?);
        self.attempt(actor.source, &counted)?;
        let (service, who, code, now) = (self.clone(), actor.clone(), Zeroizing::new(code.to_owned()), self.now());
        let accepted = self
            .store
            .write(move |tx| {
                let id = who.user()?;
                let user = tx.get::<User>(id.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
                let row = service.invitation(tx, &code, now)?;
                if row.role.is_some() {
                    return Err(Refusal::Conflict(
                        "this invitation makes a new account, and you have one: pass it on, or sign out first".into(),
                    ));
                }
                if row.by == user.id {
                    return Err(Refusal::Conflict("this is your own invitation: pass it on".into()));
                }
                service.redeem(tx, &code, &user, &who, now)
            })
            .await;
        let given = self.judged(accepted, actor.source, &counted, "invitation.accept", &actor.subject.to_string(), &actor.via)?;
        self.given(&given).await;
        Ok(given)
    }

    /// Forgets invitations whose time is over.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn sweep_invitations(&self) -> Result<(), Refusal> {
        let now = self.now();
        Ok(self.store.write::<_, StoreError, _>(move |tx| sweep(tx, now)).await?)
    }

    /// Whether who gives may give all of it now.
    fn may_promise<R: Read>(&self, rows: &R, giver: &Actor, row: &Invitation, now: u64) -> Result<(), Refusal> {
        if row.role.is_some() {
            require_role(rows, giver, HubAction::AddPeople, now)?;
        }
        for promise in &row.grants {
            self.may_give(rows, giver, &promise.device, &promise.terms, now)?;
        }
        Ok(())
    }

    /// The role of the account that may be made, by whom, and how the person is called.
    fn may_register<R: Read>(
        &self,
        rows: &R,
        code: Option<&str>,
        username: &str,
        source: IpAddr,
        via: &str,
    ) -> Result<(Role, String, String), Refusal> {
        let allowed = match code {
            Some(code) => {
                let row = self.invitation(rows, code, self.now())?;
                let Some(role) = row.role else {
                    return Err(Refusal::Conflict(
                        "this invitation is for somebody who has an account: sign in, then open it again".into(),
                    ));
                };
                let giver = giver(rows, &row, source, via)?;
                self.may_promise(rows, &giver, &row, self.now()).map_err(void)?;
                (role, giver.subject.to_string(), row.display_name)
            }
            None if !settings_in(rows)?.open_registration => {
                return Err(Refusal::Invalid("code: this hub makes accounts by invitation only; ask an owner for one".into()));
            }
            None if rows.scan::<User>(b"", MOST_ACCOUNTS)?.len() >= MOST_ACCOUNTS => {
                return Err(Refusal::Conflict(
                    "this hub has as many accounts as people may make by themselves; ask an owner for an invitation".into(),
                ));
            }
            None => (Role::Guest, "registration".to_owned(), String::new()),
        };
        // Before the work of hashing; inserting asks again.
        let name = Username::parse(username)?;
        if rows.get::<UserName>(name.folded().as_bytes())?.is_some() {
            return Err(Refusal::Conflict(format!("the user name {} is taken: choose another", name.as_str())));
        }
        Ok(allowed)
    }

    /// Gives what the code promises, as its giver, and ends it.
    fn redeem(&self, tx: &Tx<'_>, code: &str, to: &User, who: &Actor, now: u64) -> Result<Vec<BindingView>, Refusal> {
        let row = self.invitation(tx, code, now)?;
        let giver = giver(tx, &row, who.source, &who.via)?;
        self.may_promise(tx, &giver, &row, now).map_err(void)?;
        let mut given = Vec::new();
        for promise in &row.grants {
            let subject = Subject::User(to.id.clone());
            let grant = Grant { to: Recipient::Person(to.username.as_str().to_owned()), terms: promise.terms.clone() };
            match held(tx, &subject, &promise.device, now)? {
                // A link is no reason to lose a right that goes further.
                Some(own) if own.terms == promise.terms || promise.terms.lie_within(&own.terms, now) => {
                    given.push(super::bindings::view(tx, &own)?)
                }
                Some(own) if !own.terms.lie_within(&promise.terms, now) => {
                    let name = device_name(tx, &promise.device)?;
                    return Err(Refusal::Conflict(format!("you have another right on {name} already: ask who invited you to change it")));
                }
                _ => given.push(self.grant_in(tx, &giver, &promise.device, &grant, now)?),
            }
        }
        tx.delete::<Invitation>(&self.key_of(code)?)?;
        audit::append(tx, now, audit::done(who, "invitation.accept", &row.id, format!("of {}", giver.subject)))?;
        Ok(given)
    }

    /// The open invitation with this code.
    fn invitation<R: Read>(&self, rows: &R, code: &str, now: u64) -> Result<Invitation, Refusal> {
        rows.get::<Invitation>(&self.key_of(code)?)?.filter(|i| now < i.expires_at).ok_or(GONE)
    }

    fn key_of(&self, code: &str) -> Result<[u8; 32], Refusal> {
        Code::parse(code).map(|code| self.invitation_key(&code)).ok_or(GONE)
    }

    fn invitation_key(&self, code: &Code) -> [u8; 32] {
        self.keyed_hash(b"invitation", code.symbols().as_bytes())
    }

    /// Ends the count of an attempt that has shown a code that is one; a guess is audited, and slowed down.
    fn judged<T>(
        &self,
        outcome: Result<T, Refusal>,
        source: IpAddr,
        counted: &str,
        action: &str,
        who: &str,
        via: &str,
    ) -> Result<T, Refusal> {
        match &outcome {
            Err(Refusal::NotFound(_)) => {
                self.audit_refusal(audit::event(who, action, "?", Outcome::Denied, "wrong_code", "", via));
                self.check_lockout(source, counted)?;
            }
            Ok(_) => self.succeeded_attempt(source, counted),
            Err(_) => {}
        }
        outcome
    }

    async fn given(&self, bindings: &[BindingView]) {
        if bindings.is_empty() {
            return;
        }
        self.policy_changed().await;
        for binding in bindings {
            self.changed(super::Change::Device { id: binding.device_id.clone() });
        }
    }
}

impl NewInvitation {
    fn check(&self) -> Result<(), Refusal> {
        let invalid = |text: &str| Err(Refusal::Invalid(text.into()));
        if self.role.is_none() && self.grants.is_empty() {
            return invalid("role: an invitation makes an account or shares devices; name one of role and grants");
        }
        if self.role.is_some_and(Role::is_vendor) {
            return invalid("role: invite owners, members and guests; an owner makes the accounts of a maker's people");
        }
        let devices: HashSet<&DeviceId> = self.grants.iter().map(|(device, _)| device).collect();
        if devices.len() != self.grants.len() || devices.len() > MOST_GRANTS {
            return invalid("grants: each device once, at most 50 devices");
        }
        if self.expires_in_ms.is_some_and(|ms| !(LEAST_LIFETIME_MS..=MOST_LIFETIME_MS).contains(&ms)) {
            return invalid("expires_in_ms: from one minute to 30 days");
        }
        Ok(())
    }
}

/// Ends the invitations of a person that fit, inside a transaction; the number of them.
pub(super) fn end_invitations(tx: &Tx<'_>, by: &UserId, fits: impl Fn(&Invitation) -> bool) -> Result<usize, StoreError> {
    let mut ended = 0;
    for (key, _) in tx.scan::<Invitation>(b"", OF_ALL)?.into_iter().filter(|(_, i)| i.by == *by && fits(i)) {
        tx.delete::<Invitation>(&key)?;
        ended += 1;
    }
    Ok(ended)
}

/// The same of those that give a right on `device`: its giver has ceased to administer it.
pub(super) fn end_sharing_by(tx: &Tx<'_>, subject: &Subject, device: &DeviceId) -> Result<(), StoreError> {
    let Some(by) = subject.user() else { return Ok(()) };
    end_invitations(tx, by, |i| i.grants.iter().any(|p| p.device == *device)).map(drop)
}

fn sweep(tx: &Tx<'_>, now: u64) -> Result<(), StoreError> {
    for (key, _) in tx.scan::<Invitation>(b"", usize::MAX)?.into_iter().filter(|(_, i)| i.expires_at <= now) {
        tx.delete::<Invitation>(&key)?;
    }
    Ok(())
}

/// Who gives, as it stands now.
fn giver<R: Read>(rows: &R, row: &Invitation, source: IpAddr, via: &str) -> Result<Actor, Refusal> {
    let user = rows.get::<User>(row.by.as_str().as_bytes())?.filter(|u| !u.ended).ok_or_else(|| void(Refusal::SignedOut))?;
    Ok(Actor::person(user.id, user.role, format!("invitation, {via}"), source))
}

/// What the giver would be told is nothing for the one who is invited.
fn void(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Store(_) => refusal,
        _ => Refusal::Conflict("who invited you cannot give this any more: ask for a new invitation".into()),
    }
}

/// The right that somebody has on a device, unless it is over.
fn held(tx: &Tx<'_>, subject: &Subject, device: &DeviceId, now: u64) -> Result<Option<Binding>, StoreError> {
    let key = binding_key(device, subject);
    let marked = tx.get::<RevocationMark>(&key)?.map_or(0, |m| m.generation);
    let binding = tx.get::<Binding>(&key)?;
    Ok(binding.filter(|b| b.generation > marked && b.terms.uses != Some(0) && b.terms.until.is_none_or(|until| now < until)))
}

fn sees_all<R: Read>(rows: &R, actor: &Actor, now: u64) -> Result<bool, Refusal> {
    match require_role(rows, actor, HubAction::ManagePeople, now) {
        Ok(()) => Ok(true),
        Err(Refusal::RoleTooLow) => Ok(false),
        Err(other) => Err(other),
    }
}

fn plain(name: &str) -> String {
    name.trim().chars().filter(|c| !c.is_control()).take(64).collect()
}
