//! Sessions of people: opaque random tokens, kept only as a keyed hash, ended by sign-out, expiry or the account's end;
//! those of a maker's people also by not being used, and bound to the networks listed for them. Which kind of token
//! somebody shows is told apart here.

use super::idle::HARD_END_MS;
use super::password_reset::sweep_codes;
use super::services::TOKEN_PREFIX as SERVICE_PREFIX;
use super::{Actor, Refusal, Service, app_tokens, audit, random};
use crate::domain::account::{User, UserId};
use crate::domain::app::is_listed;
use crate::store::tables::{LastUse, ServiceToken, Session};
use crate::store::{Read, StoreError, Tx};
use data_encoding::BASE64URL_NOPAD;
use std::collections::HashSet;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// How long a session lasts, in ms.
const LIFETIME_MS: u64 = 30 * 24 * 3600 * 1000;
/// Sessions of one account: the oldest gives way to a further one.
const PER_ACCOUNT: usize = 50;
/// What a token begins with, so that leaked ones can be searched for.
const PREFIX: &str = "hkt1.";

/// A token as the client holds it. Redacted in `Debug`.
#[derive(Clone)]
pub struct SessionToken(Zeroizing<String>);

impl SessionToken {
    /// Takes what a client sent; whether it is a session is [`Service::actor`]'s to say.
    #[must_use]
    pub fn new(text: &str) -> SessionToken {
        SessionToken(Zeroizing::new(text.to_owned()))
    }
    /// A fresh one, of 256 random bits behind `prefix`.
    pub(super) fn fresh(prefix: &str) -> Result<SessionToken, Refusal> {
        let raw = Zeroizing::new(random::<32>()?);
        Ok(SessionToken(Zeroizing::new(format!("{prefix}{}", BASE64URL_NOPAD.encode(raw.as_slice())))))
    }
    /// What kind it says it is: the text up to its first dot, with it.
    fn prefix(&self) -> &str {
        self.0.split_inclusive('.').next().unwrap_or_default()
    }
    /// The text, to hand to the client once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionToken(…)")
    }
}

/// A session just opened.
#[derive(Debug)]
pub struct OpenedSession {
    /// Its token, shown this once.
    pub token: SessionToken,
    /// Until when, ms since 1970.
    pub expires: u64,
    /// Whose.
    pub user: super::UserView,
}

impl Service {
    pub(super) fn new_token() -> Result<SessionToken, Refusal> {
        SessionToken::fresh(PREFIX)
    }

    pub(super) fn session_key(&self, token: &SessionToken) -> [u8; 32] {
        self.keyed_hash(b"session", token.0.as_bytes())
    }

    pub(super) fn session_for(&self, user: &User, source: IpAddr) -> Session {
        let now = self.now();
        let expires_at = now + if user.role.is_vendor() { HARD_END_MS } else { LIFETIME_MS };
        Session { user: user.id.clone(), created_at: now, expires_at, source: source.to_string(), agent: String::new(), last_seen: 0 }
    }

    /// Who holds `token`, which is used by this. `protocol` is a word such as `https`.
    ///
    /// # Errors
    /// [`Refusal::SignedOut`]: over, ended, or shown from a network that is not listed for its holder.
    pub fn actor(&self, token: &SessionToken, protocol: &str, source: IpAddr) -> Result<Actor, Refusal> {
        let actor = self.holder_of(token, protocol, source)?;
        if actor.ends_unused() {
            self.note_use(self.token_key(token));
        }
        Ok(actor)
    }

    /// The same without using it: whether a live connection still stands. Who only listens does nothing.
    ///
    /// # Errors
    /// The same.
    pub fn holder_of(&self, token: &SessionToken, protocol: &str, source: IpAddr) -> Result<Actor, Refusal> {
        if self.is_retired() {
            return Err(Refusal::Retired);
        }
        let via = format!("{protocol} {source}");
        match token.prefix() {
            PREFIX => self.person_of(token, via, source),
            app_tokens::PREFIX => self.app_of(token, via, source),
            SERVICE_PREFIX => self.service_actor(token, via, source),
            _ => Err(Refusal::SignedOut),
        }
    }

    fn person_of(&self, token: &SessionToken, via: String, source: IpAddr) -> Result<Actor, Refusal> {
        let key = self.session_key(token);
        let user = self.store.read::<_, StoreError>(|v| self.session_holder(v, &key, source))?.ok_or(Refusal::SignedOut)?;
        self.used(key, self.now());
        Ok(Actor::person(user.id, user.role, via, source))
    }

    /// The account of a session that stands now, as seen from `source`.
    pub(super) fn session_holder<R: Read>(&self, rows: &R, key: &[u8; 32], source: IpAddr) -> Result<Option<User>, StoreError> {
        let now = self.now();
        let Some(session) = rows.get::<Session>(key)?.filter(|s| now < s.expires_at) else { return Ok(None) };
        let Some(user) = rows.get::<User>(session.user.as_str().as_bytes())?.filter(|u| !u.ended) else { return Ok(None) };
        let stands = !user.role.is_vendor() || (is_listed(&user.networks, source) && self.is_in_use(rows, key, session.created_at)?);
        Ok(stands.then_some(user))
    }

    /// Under which key a token is kept, whatever kind it is.
    pub(super) fn token_key(&self, token: &SessionToken) -> [u8; 32] {
        match token.prefix() {
            app_tokens::PREFIX => self.app_token_key(token),
            SERVICE_PREFIX => self.service_token_key(token),
            _ => self.session_key(token),
        }
    }

    /// Ends the session of `token`, and the live connections that signed in with it.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn sign_out(&self, actor: &Actor, token: &SessionToken) -> Result<(), Refusal> {
        let (key, now, event) = (self.session_key(token), self.now(), audit::done(actor, "session.end", actor.user()?.as_str(), ""));
        self.store
            .write::<_, StoreError, _>(move |tx| {
                tx.delete::<Session>(&key)?;
                audit::append(tx, now, event.clone())
            })
            .await?;
        self.close_session(key).await;
        self.changed(super::Change::Accounts);
        Ok(())
    }

    /// Forgets sessions, tokens, and codes for new passwords, that are over; writes when the other sessions were last used.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn sweep_sessions(&self) -> Result<(), Refusal> {
        let now = self.now();
        let stay = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                let mut stay = HashSet::new();
                for (key, session) in tx.scan::<Session>(b"", usize::MAX)? {
                    if session.expires_at <= now {
                        tx.delete::<Session>(&key)?;
                    } else {
                        stay.insert(key);
                    }
                }
                for (key, token) in tx.scan::<ServiceToken>(b"", usize::MAX)? {
                    if token.expires_at <= now {
                        tx.delete::<ServiceToken>(&key)?;
                    } else {
                        stay.insert(key);
                    }
                }
                for (key, _) in tx.scan::<LastUse>(b"", usize::MAX)? {
                    if !stay.contains(&key) {
                        tx.delete::<LastUse>(&key)?;
                    }
                }
                sweep_codes(tx, now)?;
                Ok(stay)
            })
            .await?;
        self.forget_uses(|key| stay.contains(key.as_slice()));
        self.keep_last_used().await
    }
}

/// Writes a session. Beyond [`PER_ACCOUNT`] of its account the oldest end: their keys, whose connections end too.
pub(super) fn put_session(tx: &Tx<'_>, key: &[u8; 32], session: &Session) -> Result<Vec<[u8; 32]>, StoreError> {
    let mut known = sessions_of(tx, &session.user)?;
    known.sort_by_key(|(_, s)| s.created_at);
    let mut ended = Vec::new();
    for (old, _) in known.iter().take((known.len() + 1).saturating_sub(PER_ACCOUNT)) {
        tx.delete::<Session>(old)?;
        ended.extend(<[u8; 32]>::try_from(old.as_slice()));
    }
    tx.put(key, session)?;
    Ok(ended)
}

/// All sessions of an account, with their keys.
pub(super) fn sessions_of<R: Read>(rows: &R, user: &UserId) -> Result<Vec<(Vec<u8>, Session)>, StoreError> {
    let mut all = rows.scan::<Session>(b"", usize::MAX)?;
    all.retain(|(_, s)| s.user == *user);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MasterKey, Store};

    #[tokio::test]
    async fn the_oldest_session_of_an_account_gives_way_and_those_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new([7; 32])).unwrap();
        let of = |user: &UserId, n: u8| {
            let row = Session {
                user: user.clone(),
                created_at: u64::from(n),
                expires_at: 1_000,
                source: String::new(),
                agent: String::new(),
                last_seen: 0,
            };
            let store = store.clone();
            let key = [n; 32];
            async move { store.write::<_, StoreError, _>(move |tx| put_session(tx, &key, &row)).await.unwrap() }
        };
        let (mia, max) = (UserId::from_uuid(uuid::Uuid::from_u128(1)), UserId::from_uuid(uuid::Uuid::from_u128(2)));
        assert!(of(&max, 0).await.is_empty());
        for n in 1..=50 {
            assert!(of(&mia, n).await.is_empty(), "{n}");
        }
        assert_eq!(of(&mia, 51).await, [[1; 32]]);
        assert_eq!(of(&mia, 52).await, [[2; 32]]);
        let count = |user: &UserId| store.read::<_, StoreError>(|v| sessions_of(v, user)).unwrap().len();
        assert_eq!((count(&mia), count(&max)), (50, 1));
    }
}
