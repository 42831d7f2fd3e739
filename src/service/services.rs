//! Service accounts: making, changing and ending them, and their sign-in by OAuth client credentials (RFC 6749 §4.4) from
//! a listed network only. The secret and the tokens are kept as keyed hashes; a token is checked against the present list
//! at every use, ends when it is not used ([`super::idle`]), and with its secret, its network and its account.

use super::idle::HARD_END_MS;
use super::rights::require_role;
use super::{Actor, CloseReason, Refusal, Service, SessionToken, audit, random};
use crate::domain::account::UserId;
use crate::domain::app::{ServiceAccount, is_listed};
use crate::domain::audit::Outcome;
use crate::domain::authority::{Authority, HubAction, ServiceScope};
use crate::domain::binding::Subject;
use crate::domain::network::parse_networks;
use crate::store::tables::{BindingIndex, ServiceSecret, ServiceToken, subject_prefix};
use crate::store::{Read, StoreError, Tx};
use ipnet::IpNet;
use serde::Serialize;
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// What a service's token begins with.
pub(super) const TOKEN_PREFIX: &str = "hkv1.";
/// What a service's secret begins with.
const SECRET_PREFIX: &str = "hkvs1.";
/// Service accounts at the same time.
const MOST: usize = 100;
/// Tokens of one service account: the oldest gives way to a further one.
const TOKENS_EACH: usize = 20;

/// A service account as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceView {
    /// Its id: also its client id.
    pub id: String,
    /// What people see.
    pub name: String,
    /// From where it may come.
    pub networks: Vec<IpNet>,
    /// What it may do to the hub.
    pub scopes: Vec<ServiceScope>,
    /// When it was made, ms since 1970.
    pub created_at: u64,
    /// By whom: a subject's text.
    pub created_by: String,
}

/// What to make or change of a service account; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct ServiceChange {
    /// What people see, 1 to 64 characters.
    pub name: Option<String>,
    /// From where it may come, as written.
    pub networks: Option<Vec<String>>,
    /// What it may do to the hub.
    pub scopes: Option<Vec<ServiceScope>>,
}

/// A secret just made, shown this once.
#[derive(Debug)]
pub struct NewSecret {
    /// Of which service account.
    pub service: ServiceView,
    /// `hkvs1.…`.
    pub secret: SessionToken,
}

/// A token just issued.
#[derive(Debug)]
pub struct IssuedToken {
    /// `hkv1.…`, shown this once.
    pub token: SessionToken,
    /// For how long it lives without being used, in ms.
    pub lives_ms: u64,
    /// What it may do to the hub.
    pub scopes: Vec<ServiceScope>,
}

impl From<&ServiceAccount> for ServiceView {
    fn from(s: &ServiceAccount) -> Self {
        ServiceView {
            id: s.id.clone(),
            name: s.name.clone(),
            networks: s.networks.clone(),
            scopes: s.scopes.clone(),
            created_at: s.created_at,
            created_by: s.created_by.clone(),
        }
    }
}

impl From<crate::domain::network::NetworkError> for Refusal {
    fn from(e: crate::domain::network::NetworkError) -> Self {
        Refusal::Invalid(e.to_string())
    }
}

impl ServiceChange {
    fn apply(&self, to: &mut ServiceAccount) -> Result<(), Refusal> {
        if let Some(name) = &self.name {
            let clean = name.trim();
            if !(1..=64).contains(&clean.chars().count()) || clean.chars().any(char::is_control) {
                return Err(Refusal::Invalid("name: 1 to 64 characters, no line breaks".into()));
            }
            clean.clone_into(&mut to.name);
        }
        if let Some(networks) = &self.networks {
            to.networks = parse_networks(networks)?;
        }
        if let Some(scopes) = &self.scopes {
            to.scopes.clone_from(scopes);
            to.scopes.sort_unstable();
            to.scopes.dedup();
        }
        Ok(())
    }
}

impl Service {
    /// Makes a service account.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::Invalid`], [`Refusal::Conflict`] when there are too many.
    pub async fn add_service(&self, actor: &Actor, new: ServiceChange) -> Result<NewSecret, Refusal> {
        let (secret, row) = self.fresh_secret()?;
        let (who, now) = (actor.clone(), self.now());
        let mut account = ServiceAccount {
            id: uuid::Uuid::from_bytes(random()?).simple().to_string(),
            name: String::new(),
            networks: Vec::new(),
            scopes: Vec::new(),
            created_at: now,
            created_by: actor.subject.to_string(),
            ended: false,
        };
        self.store.read(|v| require_role(v, actor, HubAction::ManageAccess, now))?;
        new.apply(&mut account)?;
        let view = ServiceView::from(&account);
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                if tx.scan::<ServiceAccount>(b"", usize::MAX)?.iter().filter(|(_, s)| !s.ended).count() >= MOST {
                    return Err(Refusal::Conflict("there are too many service accounts: end one that is not needed any more".into()));
                }
                tx.put(account.id.as_bytes(), &account)?;
                tx.put(account.id.as_bytes(), &row)?;
                audit::append(tx, now, audit::done(&who, "service.add", &subject(&account.id), told(&account)))?;
                Ok::<_, Refusal>(())
            })
            .await?;
        Ok(NewSecret { service: view, secret })
    }

    /// The service accounts that have not ended.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub fn services(&self, actor: &Actor) -> Result<Vec<ServiceView>, Refusal> {
        self.store.read(|v| {
            require_role(v, actor, HubAction::ManageAccess, self.now())?;
            let all = v.scan::<ServiceAccount>(b"", usize::MAX)?;
            Ok(all.iter().filter(|(_, s)| !s.ended).map(|(_, s)| ServiceView::from(s)).collect())
        })
    }

    /// Changes a service account. What came from a network that is taken off its list has ended when this returns.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::NotFound`], [`Refusal::Invalid`].
    pub async fn change_service(&self, actor: &Actor, id: &str, change: ServiceChange) -> Result<ServiceView, Refusal> {
        let (who, key, now) = (actor.clone(), id.to_owned(), self.now());
        let view = self
            .store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                let mut account = living(tx, &key)?;
                change.apply(&mut account)?;
                tx.put(account.id.as_bytes(), &account)?;
                for (token, row) in tokens_of(tx, &account.id)? {
                    if !is_listed(&account.networks, row.source) {
                        tx.delete::<ServiceToken>(&token)?;
                    }
                }
                audit::append(tx, now, audit::done(&who, "service.change", &subject(&account.id), told(&account)))?;
                Ok::<_, Refusal>(ServiceView::from(&account))
            })
            .await?;
        self.close_fallen(&Subject::Service(id.to_owned())).await;
        Ok(view)
    }

    /// A new secret for a service account: the old one and its tokens have ended when this returns.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::NotFound`].
    pub async fn renew_service_secret(&self, actor: &Actor, id: &str) -> Result<NewSecret, Refusal> {
        let (secret, row) = self.fresh_secret()?;
        let (who, key, now) = (actor.clone(), id.to_owned(), self.now());
        let service = self
            .store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                let account = living(tx, &key)?;
                tx.put(account.id.as_bytes(), &row)?;
                delete_tokens(tx, &account.id)?;
                audit::append(tx, now, audit::done(&who, "service.secret", &subject(&account.id), "a new one; its tokens ended"))?;
                Ok::<_, Refusal>(ServiceView::from(&account))
            })
            .await?;
        self.close_sessions(&Subject::Service(id.to_owned()), CloseReason::NotAuthorized).await;
        Ok(NewSecret { service, secret })
    }

    /// Ends a service account: its secret, its tokens, its rights and its live connections, before this returns.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::NotFound`].
    pub async fn end_service(&self, actor: &Actor, id: &str) -> Result<(), Refusal> {
        let (who, key, now) = (actor.clone(), id.to_owned(), self.now());
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageAccess, now)?;
                let mut account = living(tx, &key)?;
                account.ended = true;
                tx.put(account.id.as_bytes(), &account)?;
                tx.delete::<ServiceSecret>(account.id.as_bytes())?;
                delete_tokens(tx, &account.id)?;
                let (holder, by) = (Subject::Service(account.id.clone()), who.subject.to_string());
                for (_, index) in tx.scan::<BindingIndex>(&subject_prefix(&holder), usize::MAX)? {
                    super::bindings::revoke_in(tx, &index.device, &holder, &by, now)?;
                }
                audit::append(tx, now, audit::done(&who, "service.end", &subject(&account.id), account.name.as_str()))?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.policy_changed().await;
        self.close_sessions(&Subject::Service(id.to_owned()), CloseReason::NotAuthorized).await;
        Ok(())
    }

    /// Signs a service account in. A secret has 256 random bits: what is limited is how often a source may ask at all.
    ///
    /// # Errors
    /// [`Refusal::WrongPassword`], whatever the cause; the audit has it.
    pub async fn sign_in_service(&self, id: &str, secret: &SessionToken, source: IpAddr, via: &str) -> Result<IssuedToken, Refusal> {
        let shown = self.keyed_hash(b"service secret", secret.reveal().as_bytes());
        let (token, now) = (SessionToken::fresh(TOKEN_PREFIX)?, self.now());
        let (key, service, through) = (self.service_token_key(&token), id.to_owned(), via.to_owned());
        // First a look, so that a stranger causes no write; then the same inside the transaction.
        let looked = self.store.read::<_, StoreError>(|v| recognised(v, id, &shown, source))?;
        let verdict = match looked {
            Err(reason) => Err(reason),
            Ok(_) => {
                self.store
                    .write::<_, StoreError, _>(move |tx| {
                        let account = match recognised(tx, &service, &shown, source)? {
                            Ok(account) => account,
                            Err(reason) => return Ok(Err(reason)),
                        };
                        let row = ServiceToken { service: account.id.clone(), created_at: now, expires_at: now + HARD_END_MS, source };
                        let ended = put_token(tx, &key, &row)?;
                        let name = subject(&account.id);
                        audit::append(
                            tx,
                            now,
                            audit::event(name.clone(), "service.sign_in", &name, Outcome::Done, "secret", "", &through),
                        )?;
                        Ok(Ok((account.scopes, ended)))
                    })
                    .await?
            }
        };
        match verdict {
            Ok((scopes, ended)) => {
                for old in ended {
                    self.close_session(old).await;
                }
                Ok(IssuedToken { token, lives_ms: super::idle::IDLE_MS, scopes })
            }
            Err(reason) => {
                let known = UserId::parse(id).map_or_else(|| "?service".to_owned(), |id| format!("?service:{id}"));
                self.audit_refusal(audit::event(known, "service.sign_in", "hub", Outcome::Denied, reason, "", via));
                Err(Refusal::WrongPassword)
            }
        }
    }

    /// Who holds a service's token.
    pub(super) fn service_actor(&self, token: &SessionToken, via: String, source: IpAddr) -> Result<Actor, Refusal> {
        let key = self.service_token_key(token);
        let account = self.store.read::<_, StoreError>(|v| self.service_of_token(v, &key, source))?.ok_or(Refusal::SignedOut)?;
        let (subject, authority) = (Subject::Service(account.id), Authority::Service(account.scopes));
        Ok(Actor { subject, behalf: None, authority, via, source })
    }

    /// The account of a token that stands now, as seen from `source`.
    pub(super) fn service_of_token<R: Read>(&self, rows: &R, key: &[u8; 32], source: IpAddr) -> Result<Option<ServiceAccount>, StoreError> {
        let now = self.now();
        let Some(token) = rows.get::<ServiceToken>(key)?.filter(|t| now < t.expires_at) else { return Ok(None) };
        let used = self.is_in_use(rows, key, token.created_at)?;
        let account = rows.get::<ServiceAccount>(token.service.as_bytes())?;
        Ok(account.filter(|s| used && !s.ended && is_listed(&s.networks, source)))
    }

    pub(super) fn service_token_key(&self, token: &SessionToken) -> [u8; 32] {
        self.keyed_hash(b"service token", token.reveal().as_bytes())
    }

    fn fresh_secret(&self) -> Result<(SessionToken, ServiceSecret), Refusal> {
        let secret = SessionToken::fresh(SECRET_PREFIX)?;
        let keyed_hash = self.keyed_hash(b"service secret", secret.reveal().as_bytes());
        Ok((secret, ServiceSecret { keyed_hash, made_at: self.now() }))
    }
}

fn subject(id: &str) -> String {
    format!("service:{id}")
}

/// For the audit: what a service account is.
fn told(account: &ServiceAccount) -> String {
    let networks: Vec<String> = account.networks.iter().map(ToString::to_string).collect();
    let scopes: Vec<&str> = account.scopes.iter().map(|s| s.as_str()).collect();
    format!("{}; from {}; may {}", account.name, list(&networks.join(" ")), list(&scopes.join(" ")))
}

fn list(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

/// The account that this secret (its keyed hash) belongs to and that may come from `source`; or why not, for the audit.
fn recognised<R: Read>(rows: &R, id: &str, shown: &[u8; 32], source: IpAddr) -> Result<Result<ServiceAccount, &'static str>, StoreError> {
    let known = if UserId::parse(id).is_some() { rows.get::<ServiceAccount>(id.as_bytes())? } else { None };
    let Some(account) = known.filter(|s| !s.ended) else { return Ok(Err("unknown")) };
    let right = rows.get::<ServiceSecret>(account.id.as_bytes())?;
    if !right.is_some_and(|right| bool::from(right.keyed_hash.ct_eq(shown))) {
        return Ok(Err("wrong_secret"));
    }
    Ok(if is_listed(&account.networks, source) { Ok(account) } else { Err("network_not_listed") })
}

fn living(tx: &Tx<'_>, id: &str) -> Result<ServiceAccount, Refusal> {
    tx.get::<ServiceAccount>(id.as_bytes())?.filter(|s| !s.ended).ok_or(Refusal::NotFound("service account"))
}

fn tokens_of(tx: &Tx<'_>, id: &str) -> Result<Vec<(Vec<u8>, ServiceToken)>, StoreError> {
    let mut all = tx.scan::<ServiceToken>(b"", usize::MAX)?;
    all.retain(|(_, t)| t.service == id);
    Ok(all)
}

fn delete_tokens(tx: &Tx<'_>, id: &str) -> Result<(), StoreError> {
    for (key, _) in tokens_of(tx, id)? {
        tx.delete::<ServiceToken>(&key)?;
    }
    Ok(())
}

/// Writes a token. Beyond [`TOKENS_EACH`] of its account the oldest end: their keys, whose connections end too.
fn put_token(tx: &Tx<'_>, key: &[u8; 32], row: &ServiceToken) -> Result<Vec<[u8; 32]>, StoreError> {
    let mut known = tokens_of(tx, &row.service)?;
    known.sort_by_key(|(_, t)| t.created_at);
    let mut ended = Vec::new();
    for (old, _) in known.iter().take((known.len() + 1).saturating_sub(TOKENS_EACH)) {
        tx.delete::<ServiceToken>(old)?;
        ended.extend(<[u8; 32]>::try_from(old.as_slice()));
    }
    tx.put(key, row)?;
    Ok(ended)
}
