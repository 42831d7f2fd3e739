//! People: the first owner by the one-time setup code, sign-in, and accounts made by owners.

use super::apps::end_apps_of;
use super::password_reset::forget_codes;
use super::passwords::{Asker, Place};
use super::rights::require_role;
use super::second_factor::{self, Taken};
use super::sessions::{put_session, sessions_of};
use super::sign_out::cleaned;
use super::verified::still_verified;
use super::{Actor, OpenedSession, Refusal, Service, audit, lock, random};
use crate::domain::account::{AccountError, Role, User, UserId, Username, normal_password};
use crate::domain::app::is_listed;
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::binding::Subject;
use crate::domain::code;
use crate::domain::ids::BrandId;
use crate::store::tables::{ResetKind, Session, SetupCode, UserName};
use crate::store::{Read, StoreError, Tx};
use ipnet::IpNet;
use serde::Serialize;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Under which name guesses at the setup code are counted.
const SETUP: &str = "setup";
const SETUP_KEY: &[u8] = b"setup";
/// Symbols of the setup code: 60 bits.
const SETUP_SYMBOLS: usize = 12;

/// An account as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct UserView {
    /// Its id.
    pub id: UserId,
    /// The name it signs in with.
    pub username: String,
    /// How the person wants to be called.
    pub display_name: String,
    /// What it may do to the hub.
    pub role: Role,
    /// For a maker's people: whose they are; absent for the house's.
    pub brand: Option<BrandId>,
    /// For a maker's people: from where they may come; absent for the house's.
    pub networks: Option<Vec<IpNet>>,
}

impl From<&User> for UserView {
    fn from(u: &User) -> Self {
        UserView {
            id: u.id.clone(),
            username: u.username.as_str().to_owned(),
            display_name: u.display_name.clone(),
            role: u.role,
            brand: u.brand.clone(),
            networks: u.role.is_vendor().then(|| u.networks.clone()),
        }
    }
}

/// What the first owner sends.
pub struct SetupRequest {
    /// The one-time code the hub printed.
    pub code: String,
    /// The account to make.
    pub user: NewUser,
}

/// What somebody signs in with.
pub struct SignIn<'a> {
    /// The name.
    pub username: &'a str,
    /// The password.
    pub password: Zeroizing<String>,
    /// A code of the authenticator app, or a recovery code.
    pub second_factor: Option<Zeroizing<String>>,
    /// From where.
    pub source: IpAddr,
    /// The protocol and the source, as the audit shows it.
    pub via: &'a str,
    /// What the client calls itself.
    pub agent: &'a str,
}

/// An account to make.
pub struct NewUser {
    /// The name.
    pub username: String,
    /// The password; normalised and hashed, then forgotten.
    pub password: Zeroizing<String>,
    /// How the person wants to be called; the name when empty.
    pub display_name: String,
    /// What it may do to the hub.
    pub role: Role,
}

impl From<crate::domain::binding::TermsError> for Refusal {
    fn from(e: crate::domain::binding::TermsError) -> Self {
        Refusal::Invalid(e.to_string())
    }
}

impl From<AccountError> for Refusal {
    fn from(e: AccountError) -> Self {
        Refusal::Invalid(e.to_string())
    }
}

impl Service {
    /// Whether the hub has no owner yet.
    ///
    /// # Errors
    /// The store's fault.
    pub fn setup_required(&self) -> Result<bool, Refusal> {
        if !self.owned.load(Ordering::Relaxed) && self.store.read::<_, StoreError>(|v| has_owner(v))? {
            self.owned.store(true, Ordering::Relaxed);
        }
        Ok(!self.owned.load(Ordering::Relaxed))
    }

    /// The setup code while there is no owner, made when there is none, in groups of four.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn setup_code(&self) -> Result<Option<String>, Refusal> {
        let fresh = Zeroizing::new(random::<SETUP_SYMBOLS>()?);
        let code = code::symbols(fresh.as_slice());
        let code = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                if has_owner(tx)? {
                    tx.delete::<SetupCode>(SETUP_KEY)?;
                    return Ok(None);
                }
                if let Some(known) = tx.get::<SetupCode>(SETUP_KEY)? {
                    return Ok(Some(known.code.clone()));
                }
                tx.put(SETUP_KEY, &SetupCode { code: code.clone() })?;
                Ok(Some(code.clone()))
            })
            .await?;
        Ok(code.map(|c| code::grouped(&c)))
    }

    /// Makes the first owner and signs it in. The code serves once.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] when there is an owner, [`Refusal::WrongPassword`] for a wrong code,
    /// [`Refusal::TooMany`], [`Refusal::Invalid`].
    pub async fn set_up(&self, request: SetupRequest, source: IpAddr, via: &str) -> Result<OpenedSession, Refusal> {
        if !self.setup_required()? {
            return Err(Refusal::Conflict("this hub has an owner already: sign in".into()));
        }
        self.attempt(source, SETUP)?;
        let given = code::normal(&request.code);
        let known = self.store.read::<_, StoreError>(|v| v.get::<SetupCode>(SETUP_KEY))?;
        if !known.is_some_and(|k| bool::from(k.code.as_bytes().ct_eq(given.as_bytes()))) {
            self.audit_refusal(audit::event("?", "hub.setup", "hub", Outcome::Denied, "wrong_code", "", via));
            return Err(self.wrong_password(source, SETUP));
        }
        self.succeeded_attempt(source, SETUP);
        let place = self.hash_place(Asker::Source(source))?;
        let user = self.new_user(&place, NewUser { role: Role::Owner, ..request.user }, "setup").await?;
        let (token, now) = (Self::new_token()?, self.now());
        let (key, session) = (self.session_key(&token), self.session_for(&user, source));
        let event = audit::event(format!("user:{}", user.id), "hub.setup", "hub", Outcome::Done, "setup_code", user.username.as_str(), via);
        let expires = session.expires_at;
        let view = UserView::from(&user);
        self.store
            .write(move |tx| {
                if has_owner(tx)? || tx.get::<SetupCode>(SETUP_KEY)?.is_none() {
                    return Err(Refusal::Conflict("this hub has an owner already: sign in".into()));
                }
                insert_user(tx, &user)?;
                tx.delete::<SetupCode>(SETUP_KEY)?;
                put_session(tx, &key, &session)?;
                audit::append(tx, now, event.clone())?;
                Ok(())
            })
            .await?;
        Ok(OpenedSession { token, expires, user: view })
    }

    /// Signs a person in who has no second factor; see [`Service::open_session`].
    ///
    /// # Errors
    /// The same.
    pub async fn sign_in_person(
        &self,
        username: &str,
        password: Zeroizing<String>,
        source: IpAddr,
        via: &str,
    ) -> Result<OpenedSession, Refusal> {
        self.open_session(SignIn { username, password, second_factor: None, source, via, agent: "" }).await
    }

    /// Signs a person in.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`], whether or not the account exists; [`Refusal::TooMany`]; only after name and password
    /// were right [`Refusal::SecondFactorRequired`] and [`Refusal::WrongSecondFactor`].
    pub async fn open_session(&self, given: SignIn<'_>) -> Result<OpenedSession, Refusal> {
        let SignIn { username, password, second_factor, source, via, agent } = given;
        let name = Username::parse(username).ok();
        let folded = name.as_ref().map(Username::folded).unwrap_or_default();
        let account = guessed(&folded);
        let place = self.hash_place(Asker::Source(source))?;
        self.attempt(source, &account)?;
        let user = self.store.read::<_, StoreError>(|v| {
            let known = v.get::<UserName>(folded.as_bytes())?;
            known.map_or(Ok(None), |n| v.get::<User>(n.id.as_str().as_bytes()))
        })?;
        let user = user.filter(|u| !u.ended);
        // Normalised as at creation; what could never be a password is checked all the same, for equal time.
        let password = name.as_ref().and_then(|n| normal_password(&password, n).ok()).unwrap_or(password);
        let fits = self.password_fits(&place, password, user.as_ref().map(|u| u.password_hash.clone())).await?;
        let tried = format!("?{}", shown_name(username, user.is_some()));
        let refused = audit::event(tried, "session.open", "hub", Outcome::Denied, "wrong_password", "", via);
        let Some(user) = user.filter(|_| fits) else {
            self.audit_refusal(refused);
            return Err(self.wrong_password(source, &account));
        };
        // Not before the password is checked: the answer and its time are those of a wrong one.
        if user.role.is_vendor() && !is_listed(&user.networks, source) {
            let reason = "network_not_listed";
            self.audit_refusal(audit::event(format!("?user:{}", user.id), "session.open", "hub", Outcome::Denied, reason, "", via));
            return Err(self.wrong_password(source, &account));
        }
        let (token, now) = (Self::new_token()?, self.now());
        let (key, mut session) = (self.session_key(&token), self.session_for(&user, source));
        session.agent = cleaned(agent);
        let shown = second_factor.map(|text| self.shown_second_factor(text));
        if shown.is_some() {
            lock(&self.lockout).check_anywhere(source, &account, self.clock.monotonic_ms()).map_err(Refusal::TooMany)?;
        }
        let (expires, verified, through) = (session.expires_at, user.clone(), via.to_owned());
        let opened = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                let verified = still_verified(tx, &verified)?.ok_or(Refusal::WrongPassword)?;
                if verified.role.is_vendor() && !is_listed(&verified.networks, source) {
                    return Err(Refusal::WrongPassword);
                }
                let reason = match second_factor::take(tx, &verified.id, shown.as_ref(), now)? {
                    Taken::NotNeeded => "password",
                    Taken::Code => "password_and_code",
                    Taken::Recovery => "password_and_recovery_code",
                    Taken::Missing => return Err(Refusal::SecondFactorRequired),
                    Taken::Wrong => return Err(Refusal::WrongSecondFactor),
                };
                let ended = put_session(tx, &key, &session)?;
                let actor = format!("user:{}", verified.id);
                audit::append(tx, now, audit::event(actor, "session.open", verified.id.as_str(), Outcome::Done, reason, "", &through))?;
                Ok(ended)
            })
            .await;
        let ended = match opened {
            Ok(ended) => ended,
            Err(Refusal::WrongPassword) => {
                self.audit_refusal(refused);
                return Err(self.wrong_password(source, &account));
            }
            Err(Refusal::WrongSecondFactor) => {
                self.second_factor_refused(&user.id, via);
                lock(&self.lockout).failed_anywhere(&account, self.clock.monotonic_ms());
                return Err(self.check_lockout(source, &account).err().unwrap_or(Refusal::WrongSecondFactor));
            }
            // Without the second factor the attempt stays counted: who knows the password gets no more guesses at it.
            Err(other) => return Err(other),
        };
        self.succeeded_attempt(source, &account);
        for session in ended {
            self.close_session(session).await;
        }
        Ok(OpenedSession { token, expires, user: UserView::from(&user) })
    }

    /// Changes one's own password. Every other session of the account ends, and every app that acts for it, live
    /// connections too.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`], [`Refusal::TooMany`], [`Refusal::Invalid`]; [`Refusal::SignedOut`] when the session
    /// has ended in the meantime.
    pub async fn change_password(
        &self,
        actor: &Actor,
        token: &super::SessionToken,
        current: Zeroizing<String>,
        new: Zeroizing<String>,
    ) -> Result<(), Refusal> {
        let id = actor.user()?;
        let name = self.me(actor)?.username;
        let place = self.hash_place(Asker::Account(actor.subject.clone()))?;
        let new = self.new_password(&place, &new, &Username::parse(&name)?).await?;
        drop(place);
        let (verified, place) = self.verified(actor, token, current, "password.change").await?;
        let hash = self.hash_password(&place, new).await?;
        let (now, kept, who) = (self.now(), self.session_key(token), actor.clone());
        let apps = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                // Hashing takes its time, and others may have been quicker: whoever changed the password or ended this
                // session since has the last word.
                let mut user = verified.still(tx)?;
                user.password_hash.clone_from(&hash);
                tx.put(user.id.as_str().as_bytes(), &user)?;
                for (session, _) in sessions_of(tx, &user.id)? {
                    if session != kept {
                        tx.delete::<Session>(&session)?;
                    }
                }
                // A code that somebody asked for before remembering the password, or had stolen.
                forget_codes(tx, &user.id, |kind| kind != ResetKind::Recovery)?;
                let apps = end_apps_of(tx, &user.id, &who.subject.to_string(), now)?;
                audit::append(tx, now, audit::done(&who, "password.change", user.id.as_str(), "other sessions ended, and apps"))?;
                Ok(apps)
            })
            .await?;
        self.close_sessions(&Subject::User(id.clone()), super::CloseReason::NotAuthorized).await;
        self.apps_ended(&apps).await;
        self.changed(super::Change::Accounts);
        Ok(())
    }

    /// Makes an account for somebody of the house. A service account makes members and guests only.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::Invalid`], [`Refusal::Conflict`] when the name is taken.
    pub async fn add_user(&self, actor: &Actor, new: NewUser) -> Result<UserView, Refusal> {
        if new.role.is_vendor() {
            return Err(Refusal::Invalid("brand: say whose person it is, and from which networks they come".into()));
        }
        self.add_account(actor, new, None).await
    }

    /// The same; one of a maker's people when `vendor` says of which, and from where they come.
    pub(super) async fn add_account(
        &self,
        actor: &Actor,
        new: NewUser,
        vendor: Option<(BrandId, Vec<IpNet>)>,
    ) -> Result<UserView, Refusal> {
        self.store.read(|v| may_add(v, actor, new.role, self.now()))?;
        let place = self.hash_place(Asker::Account(actor.subject.clone()))?;
        let mut user = self.new_user(&place, new, &actor.subject.to_string()).await?;
        let mut detail = format!("{} as {:?}", user.username.as_str(), user.role);
        if let Some((brand, networks)) = vendor {
            detail.push_str(&format!(" of {brand}"));
            (user.brand, user.networks) = (Some(brand), networks);
        }
        let (now, event) = (self.now(), audit::done(actor, "user.add", user.id.as_str(), detail));
        let (who, view) = (actor.clone(), UserView::from(&user));
        self.store
            .write(move |tx| {
                may_add(tx, &who, user.role, now)?;
                insert_user(tx, &user)?;
                audit::append(tx, now, event.clone())?;
                Ok::<_, Refusal>(())
            })
            .await?;
        Ok(view)
    }

    /// All accounts that have not ended.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub fn users(&self, actor: &Actor) -> Result<Vec<UserView>, Refusal> {
        let rows = self.store.read::<_, Refusal>(|v| {
            require_role(v, actor, HubAction::ManagePeople, self.now())?;
            Ok(v.scan::<User>(b"", 10_000)?)
        })?;
        Ok(rows.iter().filter(|(_, u)| !u.ended).map(|(_, u)| UserView::from(u)).collect())
    }

    /// The account that acts.
    ///
    /// # Errors
    /// [`Refusal::SignedOut`] when it has ended in the meantime.
    pub fn me(&self, actor: &Actor) -> Result<UserView, Refusal> {
        let id = actor.user()?;
        let user = self.store.read::<_, StoreError>(|v| v.get::<User>(id.as_str().as_bytes()))?;
        user.filter(|u| !u.ended).as_ref().map(UserView::from).ok_or(Refusal::SignedOut)
    }

    pub(super) async fn new_user(&self, place: &Place, new: NewUser, by: &str) -> Result<User, Refusal> {
        let username = Username::parse(&new.username)?;
        let password = self.new_password(place, &new.password, &username).await?;
        let display_name = display_name(&new.display_name);
        let id = UserId::from_uuid(uuid::Uuid::from_bytes(random()?));
        Ok(User {
            id,
            display_name: if display_name.is_empty() { username.as_str().to_owned() } else { display_name },
            role: new.role,
            password_hash: self.hash_password(place, password).await?,
            created_at: self.now(),
            created_by: by.to_owned(),
            ended: false,
            networks: Vec::new(),
            brand: None,
            username,
        })
    }

    /// Counts an attempt as a failure until it has succeeded, unless it has to wait.
    pub(super) fn attempt(&self, source: IpAddr, account: &str) -> Result<(), Refusal> {
        lock(&self.lockout).attempt(source, account, self.clock.monotonic_ms()).map_err(Refusal::TooMany)
    }

    /// The answer to a failed attempt that has been counted.
    pub(super) fn wrong_password(&self, source: IpAddr, account: &str) -> Refusal {
        self.check_lockout(source, account).err().unwrap_or(Refusal::WrongPassword)
    }

    pub(super) fn check_lockout(&self, source: IpAddr, account: &str) -> Result<(), Refusal> {
        lock(&self.lockout).check(source, account, self.clock.monotonic_ms()).map_err(Refusal::TooMany)
    }

    pub(super) fn failed_attempt(&self, source: IpAddr, account: &str) -> u64 {
        lock(&self.lockout).failed(source, account, self.clock.monotonic_ms())
    }

    pub(super) fn succeeded_attempt(&self, source: IpAddr, account: &str) {
        lock(&self.lockout).succeeded(source, account);
    }
}

/// Under which name guesses at the password of a user name are counted, apart from all other kinds of guesses.
pub(super) fn guessed(folded: &str) -> String {
    format!("user {folded}")
}

/// A name that was tried, as the audit shows it. People also type passwords there: of one that is no account's, only
/// the beginning.
pub(super) fn shown_name(tried: &str, known: bool) -> String {
    let shown = if known { 64 } else { 3 };
    let mut text: String = tried.chars().take(shown).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if tried.chars().nth(shown).is_some() {
        text.push('…');
    }
    text
}

/// How a person wants to be called, as it is kept; may be empty.
pub(super) fn display_name(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(64).collect()
}

fn has_owner<R: Read>(rows: &R) -> Result<bool, StoreError> {
    // The first accounts of a hub are its owners; a house has few accounts.
    Ok(rows.scan::<User>(b"", 10_000)?.iter().any(|(_, u)| u.role == Role::Owner && !u.ended))
}

/// Whether `actor` may make an account with this role. Programs make people of the house who can do little to it: whoever
/// takes over a maker's server must not become an owner of every home.
fn may_add<R: Read>(rows: &R, actor: &Actor, role: Role, now: u64) -> Result<(), Refusal> {
    require_role(rows, actor, HubAction::AddPeople, now)?;
    let program = actor.subject.user().is_none();
    if program && !matches!(role, Role::Member | Role::Guest) { Err(Refusal::RoleTooLow) } else { Ok(()) }
}

pub(super) fn insert_user(tx: &Tx<'_>, user: &User) -> Result<(), Refusal> {
    let folded = user.username.folded();
    if tx.get::<UserName>(folded.as_bytes())?.is_some() {
        return Err(Refusal::Conflict(format!("the user name {} is taken: choose another", user.username.as_str())));
    }
    tx.put(folded.as_bytes(), &UserName { id: user.id.clone() })?;
    tx.put(user.id.as_str().as_bytes(), user)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_as_a_name_is_shown_without_line_breaks_and_whole_only_when_it_is_one() {
        assert_eq!(shown_name("olivia", true), "olivia");
        assert_eq!(shown_name("correct horse battery", false), "cor…");
        assert_eq!(shown_name("a\nrefused actor=owner", false), "a\u{fffd}r…");
        assert_eq!(shown_name(&"x".repeat(70), true).chars().count(), 65);
        assert_eq!(shown_name("", false), "");
    }

    #[test]
    fn guesses_at_different_things_are_counted_apart() {
        // A user may be called like anything else that is guessed at.
        for other in [SETUP, "claim 0123", "lamp-1"] {
            assert_ne!(guessed(other), other);
            assert!(guessed(other).starts_with("user "));
        }
    }
}
