//! What apps exchange at the token endpoint: a code for a leave and its tokens (RFC 6749 §4.1.3, RFC 7636 §4.6), a refresh
//! token for the next pair (§6), and any of them for nothing (RFC 7009).
//!
//! A code and a refresh token serve once. A second use shows that two hold it, and nobody can say which of them is the
//! thief: what came of it ends (RFC 6749 §4.1.2, RFC 9700 §4.14.2). Of refresh tokens only the newest is kept, as a keyed
//! hash; older ones are known by a mark of the hub, so that nobody ends a leave with a made-up one, and however often an
//! app refreshes, it takes no more room.

use super::app_tokens::{self, leave_of, put_app_token};
use super::apps::{AppGrant, end_in};
use super::rights::Party;
use super::{Actor, Refusal, Service, SessionToken, audit, random};
use crate::domain::account::UserId;
use crate::domain::app::{Authorization, Client};
use crate::domain::audit::Outcome;
use crate::domain::authority::Authority;
use crate::domain::binding::{Privilege, Subject};
use crate::domain::oauth::{furthest, scope_of};
use crate::store::tables::{AppToken, AuthorizationCode, RefreshToken};
use crate::store::{Read, StoreError, Tx};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// How long an access token lives, in ms.
const ACCESS_MS: u64 = 3600 * 1000;
/// What a refresh token begins with.
const REFRESH_PREFIX: &str = "hkr1.";
/// Bytes of a refresh token: the leave's id, its number, what nobody can guess, and the hub's mark.
const REFRESH_BYTES: usize = ID + 8 + 16 + MARK;
const ID: usize = 16;
const MARK: usize = 16;

/// What an app brings for a code.
#[derive(Clone, Debug)]
pub struct CodeExchange {
    /// The code.
    pub code: String,
    /// Who it says it is.
    pub client_id: String,
    /// Where the code was sent.
    pub redirect_uri: String,
    /// What it made its challenge of.
    pub code_verifier: String,
}

/// Tokens just issued.
#[derive(Debug)]
pub struct IssuedTokens {
    /// The leave: `app:<id>` is the user name over MQTT.
    pub app: String,
    /// For an hour.
    pub access: SessionToken,
    /// For the next pair.
    pub refresh: SessionToken,
    /// How long the access token lives, in ms.
    pub expires_in_ms: u64,
    /// How far the leave goes.
    pub scope: &'static str,
}

/// Why an app got no tokens, in the words of RFC 6749 §5.2.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// Something is missing, twice, or makes no sense.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// There is no such app.
    #[error("there is no such client on this hub")]
    InvalidClient,
    /// The code or token is not one, serves no more, or is another's. One answer for all of these.
    #[error("the code or token does not serve, or not for this client: begin anew")]
    InvalidGrant,
    /// The client may not do this.
    #[error("this token is another client's")]
    UnauthorizedClient,
    /// No such grant is known.
    #[error("grant_type: authorization_code, refresh_token or client_credentials is expected")]
    UnsupportedGrantType,
    /// More than was given.
    #[error("scope: no more than was given at first")]
    InvalidScope,
    /// The hub's own reasons.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<StoreError> for GrantError {
    fn from(e: StoreError) -> Self {
        GrantError::Refused(Refusal::Store(e))
    }
}

/// What became of a code, in its first transaction.
enum Taken {
    Good(Box<AuthorizationCode>),
    Bad,
    /// It had been used; this leave has ended for it.
    Reused(String),
}

/// A refresh token that this hub once gave.
struct Genuine {
    app: String,
    generation: u64,
}

impl Service {
    /// Exchanges a code for a leave and its tokens. A second use of it ends what came of the first.
    ///
    /// # Errors
    /// [`GrantError`]. The code is spent, whatever comes of it.
    pub async fn exchange_code(self: &Arc<Self>, asked: CodeExchange, source: IpAddr) -> Result<IssuedTokens, GrantError> {
        self.known_client(&asked.client_id)?;
        let (key, now, via) = (self.code_key(&asked.code), self.now(), format!("https {source}"));
        let through = via.clone();
        let client = format!("client:{}", asked.client_id);
        // First a look, so that a stranger's guess causes no write.
        if self.store.read::<_, StoreError>(|v| v.get::<AuthorizationCode>(&key))?.is_none() {
            return Err(self.refuse_grant(&client, "code", &via));
        }
        match self.store.write::<_, StoreError, _>(move |tx| take_code(tx, &key, &asked, now, &through)).await? {
            Taken::Good(code) => self.give_for_code(*code, key, source, via).await,
            Taken::Bad => Err(self.refuse_grant(&client, "code", &via)),
            Taken::Reused(app) => {
                self.apps_ended(&[app]).await;
                Err(self.refuse_grant(&client, "code_used_before", &via))
            }
        }
    }

    async fn give_for_code(
        self: &Arc<Self>,
        code: AuthorizationCode,
        key: [u8; 32],
        source: IpAddr,
        via: String,
    ) -> Result<IssuedTokens, GrantError> {
        let now = self.now();
        let app = super::apps::fresh_id()?;
        let (access, refresh) = (self.new_app_token()?, self.new_refresh_token(&app, 1)?);
        let (access_key, refresh_hash) = (self.app_token_key(&access), self.refresh_hash(refresh.reveal()));
        let expires_in_ms = ACCESS_MS.min(code.leave_until.saturating_sub(now));
        let issued = IssuedTokens { app: app.clone(), access, refresh, expires_in_ms, scope: scope_of(code.scope) };
        let (service, client) = (self.clone(), format!("client:{}", code.client));
        let through = via.clone();
        let given = self
            .store
            .write(move |tx| {
                // Another use of it, a new password or the app's end takes the code away.
                let row = tx.get::<AuthorizationCode>(&key)?.filter(|c| c.spent && c.app.is_none()).ok_or(Refusal::SignedOut)?;
                let party = Party::load(tx, &Subject::User(row.user.clone()), now)?;
                if !party.active || !party.authority.may(crate::domain::authority::HubAction::LinkApps) {
                    return Err(Refusal::SignedOut);
                }
                let client = tx.get::<Client>(row.client.as_bytes())?.ok_or(Refusal::SignedOut)?;
                let leave = Authorization {
                    id: app.clone(),
                    user: row.user.clone(),
                    client: Some(row.client.clone()),
                    name: client.name,
                    created_at: now,
                    expires_at: row.leave_until,
                    scope: Some(row.scope),
                    ended: false,
                };
                let who = acting(&app, &row.user, &through, source);
                let devices: Vec<AppGrant> = row.devices.iter().cloned().map(AppGrant::from).collect();
                service.give_leave(tx, &who, &leave, &devices, now)?;
                tx.put(&access_key, &AppToken { app: app.clone(), created_at: now, expires_at: now + expires_in_ms })?;
                tx.put(app.as_bytes(), &RefreshToken { keyed_hash: refresh_hash, generation: 1 })?;
                tx.put(&key, &AuthorizationCode { app: Some(app.clone()), devices: Vec::new(), ..row })?;
                Ok::<_, Refusal>(())
            })
            .await;
        match given {
            Ok(()) => {
                self.policy_changed().await;
                Ok(issued)
            }
            Err(fault @ Refusal::Store(_)) => Err(fault.into()),
            // Since the consent, the person has lost a right, the role, or the account.
            Err(_) => Err(self.refuse_grant(&client, "consent_over", &via)),
        }
    }

    /// Gives the next pair for a refresh token. A second use of one ends the whole leave.
    ///
    /// # Errors
    /// [`GrantError`].
    pub async fn refresh(&self, client_id: &str, token: &str, scope: Option<&str>, source: IpAddr) -> Result<IssuedTokens, GrantError> {
        self.known_client(client_id)?;
        let (now, via, client) = (self.now(), format!("https {source}"), format!("client:{client_id}"));
        let Some(genuine) = self.genuine(token) else { return Err(self.refuse_grant(&client, "refresh_token", &via)) };
        let asked = match scope {
            Some(text) => Some(furthest(Some(text)).ok_or(GrantError::InvalidScope)?),
            None => None,
        };
        let given = self.refresh_hash(token);
        let (access, next) = (self.new_app_token()?, self.new_refresh_token(&genuine.app, genuine.generation + 1)?);
        let (access_key, next_hash) = (self.app_token_key(&access), self.refresh_hash(next.reveal()));
        let (through, client_id) = (via.clone(), client_id.to_owned());
        let rotated = self
            .store
            .write::<_, GrantError, _>(move |tx| {
                let active = Party::load(tx, &Subject::App(genuine.app.clone()), now)?.active;
                let leave = tx.get::<Authorization>(genuine.app.as_bytes())?;
                let leave = leave.filter(|l| active && l.client.as_ref() == Some(&client_id)).ok_or(GrantError::InvalidGrant)?;
                let row = tx.get::<RefreshToken>(leave.id.as_bytes())?.ok_or(GrantError::InvalidGrant)?;
                let who = acting(&leave.id, &leave.user, &through, source);
                if !bool::from(row.keyed_hash.ct_eq(&given)) {
                    end_reused(tx, &leave, &who, "a refresh token was used again", now)?;
                    return Ok(Err(leave.id));
                }
                let most = leave.scope.unwrap_or(Privilege::View);
                if asked.is_some_and(|a| a > most) {
                    return Err(GrantError::InvalidScope);
                }
                let expires_at = leave.expires_at.min(now + ACCESS_MS);
                tx.put(leave.id.as_bytes(), &RefreshToken { keyed_hash: next_hash, generation: genuine.generation + 1 })?;
                let over = put_app_token(tx, &access_key, &AppToken { app: leave.id.clone(), created_at: now, expires_at })?;
                audit::append(tx, now, audit::done(&who, "app.refresh", &format!("app:{}", leave.id), ""))?;
                Ok(Ok((leave.id, expires_at - now, scope_of(most), over)))
            })
            .await;
        match rotated {
            Ok(Ok((app, expires_in_ms, scope, over))) => {
                for token in over {
                    self.close_session(token).await;
                }
                Ok(IssuedTokens { app, access, refresh: next, expires_in_ms, scope })
            }
            Ok(Err(app)) => {
                self.apps_ended(&[app]).await;
                Err(self.refuse_grant(&client, "refresh_token_used_before", &via))
            }
            Err(GrantError::InvalidGrant) => Err(self.refuse_grant(&client, "refresh_token", &via)),
            Err(other) => Err(other),
        }
    }

    /// Ends a token: an access token alone, a refresh token with the whole leave, a personal access token with its leave.
    /// One that is none is as good as ended (RFC 7009 §2.2).
    ///
    /// # Errors
    /// [`GrantError::UnauthorizedClient`] for a token of another client.
    pub async fn revoke_token(&self, client_id: Option<&str>, token: &str, source: IpAddr) -> Result<(), GrantError> {
        let (now, via) = (self.now(), format!("https {source}"));
        let access = token.starts_with(app_tokens::PREFIX).then(|| self.app_token_key(&SessionToken::new(token)));
        let genuine = self.genuine(token).map(|g| g.app);
        let known = match &access {
            Some(key) => self.store.read::<_, StoreError>(|v| v.get::<AppToken>(key))?.is_some(),
            None => genuine.is_some(),
        };
        if !known {
            return Ok(());
        }
        let client = client_id.map(str::to_owned);
        let ended = self
            .store
            .write::<_, GrantError, _>(move |tx| {
                let leave = match (&access, &genuine) {
                    (Some(key), _) => leave_of(tx, key, now)?,
                    (None, Some(app)) => tx.get::<Authorization>(app.as_bytes())?.filter(|l| l.holds(now)),
                    (None, None) => None,
                };
                let Some(leave) = leave else { return Ok(None) };
                // Whoever holds a personal token may end it: what is found in the open should be.
                if leave.client.is_some() && leave.client != client {
                    return Err(GrantError::UnauthorizedClient);
                }
                let who = acting(&leave.id, &leave.user, &via, source);
                let object = format!("app:{}", leave.id);
                let whole = leave.client.is_none() || access.is_none();
                match access {
                    Some(key) if !whole => {
                        tx.delete::<AppToken>(&key)?;
                        audit::append(tx, now, audit::done(&who, "app.revoke_token", &object, ""))?;
                    }
                    _ => {
                        end_in(tx, &leave, &who.subject.to_string(), now)?;
                        audit::append(tx, now, audit::done(&who, "app.end", &object, "by its own token"))?;
                    }
                }
                Ok(Some((leave.id, whole)))
            })
            .await?;
        match ended {
            Some((app, true)) => self.apps_ended(&[app]).await,
            Some((_, false)) => {
                if let Some(key) = access {
                    self.close_session(key).await;
                }
            }
            None => {}
        }
        Ok(())
    }

    fn known_client(&self, id: &str) -> Result<(), GrantError> {
        let id = UserId::parse(id).ok_or(GrantError::InvalidClient)?;
        self.store.read::<_, StoreError>(|v| v.get::<Client>(id.as_str().as_bytes()))?.map(|_| ()).ok_or(GrantError::InvalidClient)
    }

    fn refuse_grant(&self, client: &str, reason: &str, via: &str) -> GrantError {
        // A client's id is no secret: whoever sends one is still a stranger.
        self.audit_refusal(audit::event(format!("?{client}"), "app.token", "hub", Outcome::Denied, reason, "", via));
        GrantError::InvalidGrant
    }

    fn new_refresh_token(&self, app: &str, generation: u64) -> Result<SessionToken, Refusal> {
        let id = HEXLOWER.decode(app.as_bytes()).map_err(|_| Refusal::NotFound("app"))?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(REFRESH_BYTES));
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&generation.to_be_bytes());
        bytes.extend_from_slice(&random::<16>()?);
        let mark = self.refresh_mark(&bytes);
        bytes.extend_from_slice(&mark);
        Ok(SessionToken::new(&Zeroizing::new(format!("{REFRESH_PREFIX}{}", BASE64URL_NOPAD.encode(&bytes)))))
    }

    fn refresh_mark(&self, bytes: &[u8]) -> [u8; MARK] {
        let whole = self.keyed_hash(b"refresh token mark", bytes);
        let mut mark = [0; MARK];
        mark.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        mark
    }

    fn refresh_hash(&self, token: &str) -> [u8; 32] {
        self.keyed_hash(b"refresh token", token.as_bytes())
    }

    /// Reads a refresh token that this hub has given, now or before.
    fn genuine(&self, token: &str) -> Option<Genuine> {
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(token.strip_prefix(REFRESH_PREFIX)?.as_bytes()).ok()?);
        let (told, mark) = bytes.split_at_checked(REFRESH_BYTES - MARK)?;
        if !bool::from(self.refresh_mark(told).ct_eq(mark)) {
            return None;
        }
        let (app, rest) = told.split_at_checked(ID)?;
        let generation = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
        Some(Genuine { app: HEXLOWER.encode(app), generation })
    }
}

/// Takes a code for one use. Whatever is wrong with the attempt, the code is gone after it.
fn take_code(tx: &Tx<'_>, key: &[u8; 32], asked: &CodeExchange, now: u64, via: &str) -> Result<Taken, StoreError> {
    let Some(mut code) = tx.get::<AuthorizationCode>(key)? else { return Ok(Taken::Bad) };
    if let Some(app) = &code.app {
        if let Some(leave) = tx.get::<Authorization>(app.as_bytes())?.filter(|l| !l.ended) {
            let who = acting(&leave.id, &leave.user, via, IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
            end_reused(tx, &leave, &who, "its code was used again", now)?;
        }
        tx.delete::<AuthorizationCode>(key)?;
        return Ok(Taken::Reused(app.clone()));
    }
    let fits = !code.spent
        && now < code.expires_at
        && code.client == asked.client_id
        && code.redirect_uri == asked.redirect_uri
        && code.challenge.is_of(&asked.code_verifier);
    if !fits {
        tx.delete::<AuthorizationCode>(key)?;
        return Ok(Taken::Bad);
    }
    code.spent = true;
    tx.put(key, &code)?;
    Ok(Taken::Good(Box::new(code)))
}

/// Ends a leave of which two hold a secret.
fn end_reused(tx: &Tx<'_>, leave: &Authorization, who: &Actor, why: &str, now: u64) -> Result<(), StoreError> {
    end_in(tx, leave, &who.subject.to_string(), now)?;
    audit::append(tx, now, audit::done(who, "app.end", &format!("app:{}", leave.id), why))?;
    Ok(())
}

/// An app that acts at the token endpoint.
fn acting(app: &str, user: &UserId, via: &str, source: IpAddr) -> Actor {
    Actor { subject: Subject::App(app.to_owned()), behalf: Some(user.clone()), authority: Authority::Nothing, via: via.to_owned(), source }
}
