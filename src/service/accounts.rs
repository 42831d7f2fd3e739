//! People: the first owner by the one-time setup code, sign-in, and accounts made by owners.

use super::rights::require_role;
use super::{Actor, OpenedSession, Refusal, Service, audit, lock, random};
use crate::domain::account::{AccountError, HouseholdRole, HubAction, User, UserId, Username, normal_password};
use crate::domain::audit::Outcome;
use crate::store::tables::{Session, SetupCode, UserName};
use crate::store::{Read, StoreError, Tx};
use serde::Serialize;
use std::net::IpAddr;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const SETUP_KEY: &[u8] = b"setup";
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
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
    pub role: HouseholdRole,
}

impl From<&User> for UserView {
    fn from(u: &User) -> Self {
        UserView { id: u.id.clone(), username: u.username.as_str().to_owned(), display_name: u.display_name.clone(), role: u.role }
    }
}

/// What the first owner sends.
pub struct SetupRequest {
    /// The one-time code the hub printed.
    pub code: String,
    /// The account to make.
    pub user: NewUser,
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
    pub role: HouseholdRole,
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
        Ok(!self.store.read::<_, StoreError>(|v| has_owner(v))?)
    }

    /// The setup code while there is no owner, made when there is none, in groups of four.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn setup_code(&self) -> Result<Option<String>, Refusal> {
        let fresh = Zeroizing::new(random::<SETUP_SYMBOLS>()?);
        let code: String = fresh.iter().filter_map(|b| ALPHABET.get(usize::from(b & 31))).map(|c| char::from(*c)).collect();
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
        Ok(code.map(|c| c.as_bytes().chunks(4).map(String::from_utf8_lossy).collect::<Vec<_>>().join("-")))
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
        self.check_lockout(source, "setup")?;
        let given: Zeroizing<String> = Zeroizing::new(
            request
                .code
                .chars()
                .filter(|c| !matches!(c, '-' | ' '))
                .map(|c| match c.to_ascii_uppercase() {
                    'I' | 'L' => '1',
                    'O' => '0',
                    c => c,
                })
                .take(64)
                .collect(),
        );
        let known = self.store.read::<_, StoreError>(|v| v.get::<SetupCode>(SETUP_KEY))?;
        if !known.is_some_and(|k| bool::from(k.code.as_bytes().ct_eq(given.as_bytes()))) {
            let wait = self.failed_attempt(source, "setup");
            self.audit_refusal(audit::event("?", "hub.setup", "hub", Outcome::Denied, "wrong_code", "", via));
            return Err(if wait > 0 { Refusal::TooMany(wait) } else { Refusal::WrongPassword });
        }
        let user = self.new_user(NewUser { role: HouseholdRole::Owner, ..request.user }, "setup").await?;
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
                tx.put(&key, &session)?;
                audit::append(tx, now, event.clone())?;
                Ok(())
            })
            .await?;
        self.succeeded_attempt(source, "setup");
        Ok(OpenedSession { token, expires, user: view })
    }

    /// Signs a person in.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`], whether or not the account exists; [`Refusal::TooMany`].
    pub async fn sign_in_person(
        &self,
        username: &str,
        password: Zeroizing<String>,
        source: IpAddr,
        via: &str,
    ) -> Result<OpenedSession, Refusal> {
        let name = Username::parse(username).ok();
        let account = name.as_ref().map_or_else(|| "?".to_owned(), Username::folded);
        self.check_lockout(source, &account)?;
        let user = self.store.read::<_, StoreError>(|v| {
            let known = v.get::<UserName>(account.as_bytes())?;
            known.map_or(Ok(None), |n| v.get::<User>(n.id.as_str().as_bytes()))
        })?;
        let user = user.filter(|u| !u.ended);
        // Normalised as at creation; what could never be a password is checked all the same, for equal time.
        let password = name.as_ref().and_then(|n| normal_password(&password, n).ok()).unwrap_or(password);
        let fits = self.password_fits(password, user.as_ref().map(|u| u.password_hash.clone())).await?;
        let Some(user) = user.filter(|_| fits) else {
            let wait = self.failed_attempt(source, &account);
            let tried: String = username.chars().take(64).collect();
            self.audit_refusal(audit::event(format!("?{tried}"), "session.open", "hub", Outcome::Denied, "wrong_password", "", via));
            return Err(if wait > 0 { Refusal::TooMany(wait) } else { Refusal::WrongPassword });
        };
        self.succeeded_attempt(source, &account);
        let (token, now) = (Self::new_token()?, self.now());
        let (key, session) = (self.session_key(&token), self.session_for(&user, source));
        let event = audit::event(format!("user:{}", user.id), "session.open", user.id.as_str(), Outcome::Done, "password", "", via);
        let expires = session.expires_at;
        self.store
            .write::<_, StoreError, _>(move |tx| {
                tx.put(&key, &session)?;
                audit::append(tx, now, event.clone())
            })
            .await?;
        Ok(OpenedSession { token, expires, user: UserView::from(&user) })
    }

    /// Changes one's own password. Every other session of the account ends, live connections too.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`], [`Refusal::TooMany`], [`Refusal::Invalid`].
    pub async fn change_password(
        &self,
        actor: &Actor,
        token: &super::SessionToken,
        current: Zeroizing<String>,
        new: Zeroizing<String>,
    ) -> Result<(), Refusal> {
        let key = actor.user.as_str().as_bytes().to_vec();
        let user = self.store.read::<_, StoreError>(|v| v.get::<User>(&key))?.ok_or(Refusal::SignedOut)?;
        let account = user.username.folded();
        self.check_lockout(actor.source, &account)?;
        let current = normal_password(&current, &user.username).unwrap_or(current);
        if !self.password_fits(current, Some(user.password_hash.clone())).await? {
            let wait = self.failed_attempt(actor.source, &account);
            let event = audit::event(
                actor.subject().to_string(),
                "password.change",
                actor.user.as_str(),
                Outcome::Denied,
                "wrong_password",
                "",
                &actor.via,
            );
            self.audit_refusal(event);
            return Err(if wait > 0 { Refusal::TooMany(wait) } else { Refusal::WrongPassword });
        }
        self.succeeded_attempt(actor.source, &account);
        let hash = self.hash_password(normal_password(&new, &user.username)?).await?;
        let (now, kept, who) = (self.now(), self.session_key(token), actor.clone());
        self.store
            .write(move |tx| {
                let mut user = tx.get::<User>(&key)?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
                user.password_hash.clone_from(&hash);
                tx.put(&key, &user)?;
                for (session, row) in tx.scan::<Session>(b"", usize::MAX)? {
                    if row.user == user.id && session != kept {
                        tx.delete::<Session>(&session)?;
                    }
                }
                audit::append(tx, now, audit::done(&who, "password.change", user.id.as_str(), "other sessions ended"))?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.policy_changed().await;
        self.close_sessions(&actor.subject(), super::CloseReason::NotAuthorized).await;
        Ok(())
    }

    /// Makes an account.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::Invalid`], [`Refusal::Conflict`] when the name is taken.
    pub async fn add_user(&self, actor: &Actor, new: NewUser) -> Result<UserView, Refusal> {
        self.store.read(|v| require_role(v, actor, HubAction::ManagePeople))?;
        let user = self.new_user(new, &actor.subject().to_string()).await?;
        let (now, event) =
            (self.now(), audit::done(actor, "user.add", user.id.as_str(), format!("{} as {:?}", user.username.as_str(), user.role)));
        let (who, view) = (actor.clone(), UserView::from(&user));
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManagePeople)?;
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
        if !actor.role.may(HubAction::ManagePeople) {
            return Err(Refusal::RoleTooLow);
        }
        let rows = self.store.read::<_, StoreError>(|v| v.scan::<User>(b"", 10_000))?;
        Ok(rows.iter().filter(|(_, u)| !u.ended).map(|(_, u)| UserView::from(u)).collect())
    }

    /// The account that acts.
    ///
    /// # Errors
    /// [`Refusal::SignedOut`] when it has ended in the meantime.
    pub fn me(&self, actor: &Actor) -> Result<UserView, Refusal> {
        let user = self.store.read::<_, StoreError>(|v| v.get::<User>(actor.user.as_str().as_bytes()))?;
        user.as_ref().map(UserView::from).ok_or(Refusal::SignedOut)
    }

    async fn new_user(&self, new: NewUser, by: &str) -> Result<User, Refusal> {
        let username = Username::parse(&new.username)?;
        let password = normal_password(&new.password, &username)?;
        let display_name: String = new.display_name.trim().chars().filter(|c| !c.is_control()).take(64).collect();
        let id = UserId::from_uuid(uuid::Uuid::from_bytes(random()?));
        Ok(User {
            id,
            display_name: if display_name.is_empty() { username.as_str().to_owned() } else { display_name },
            role: new.role,
            password_hash: self.hash_password(password).await?,
            created_at: self.now(),
            created_by: by.to_owned(),
            ended: false,
            username,
        })
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

fn has_owner<R: Read>(rows: &R) -> Result<bool, StoreError> {
    // The first accounts of a hub are its owners; a house has few accounts.
    Ok(rows.scan::<User>(b"", 10_000)?.iter().any(|(_, u)| u.role == HouseholdRole::Owner && !u.ended))
}

fn insert_user(tx: &Tx<'_>, user: &User) -> Result<(), Refusal> {
    let folded = user.username.folded();
    if tx.get::<UserName>(folded.as_bytes())?.is_some() {
        return Err(Refusal::Conflict(format!("the user name {} is taken: choose another", user.username.as_str())));
    }
    tx.put(folded.as_bytes(), &UserName { id: user.id.clone() })?;
    tx.put(user.id.as_str().as_bytes(), user)?;
    Ok(())
}
