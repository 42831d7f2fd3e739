//! Sessions of people: opaque random tokens, kept only as a keyed hash, ended by sign-out, expiry or the account's end.

use super::{Actor, Refusal, Service, audit, random};
use crate::domain::account::{User, UserId};
use crate::store::tables::Session;
use crate::store::{Read, StoreError, Tx};
use data_encoding::BASE64URL_NOPAD;
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
        let raw = Zeroizing::new(random::<32>()?);
        Ok(SessionToken(Zeroizing::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(raw.as_slice())))))
    }

    pub(super) fn session_key(&self, token: &SessionToken) -> [u8; 32] {
        self.keyed_hash(b"session", token.0.as_bytes())
    }

    pub(super) fn session_for(&self, user: &User, source: IpAddr) -> Session {
        let now = self.now();
        Session { user: user.id.clone(), created_at: now, expires_at: now + LIFETIME_MS, source: source.to_string() }
    }

    /// Who holds `token`. `protocol` is a word such as `https`.
    ///
    /// # Errors
    /// [`Refusal::SignedOut`].
    pub fn actor(&self, token: &SessionToken, protocol: &str, source: IpAddr) -> Result<Actor, Refusal> {
        if !token.0.starts_with(PREFIX) {
            return Err(Refusal::SignedOut);
        }
        let key = self.session_key(token);
        let now = self.now();
        let user = self.store.read::<_, StoreError>(|v| {
            let session = v.get::<Session>(&key)?.filter(|s| now < s.expires_at);
            session.map_or(Ok(None), |s| v.get::<User>(s.user.as_str().as_bytes()))
        })?;
        let user = user.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
        Ok(Actor::person(user.id, user.role, format!("{protocol} {source}"), source))
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
        Ok(())
    }

    /// Forgets sessions that are over.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn sweep_sessions(&self) -> Result<(), Refusal> {
        let now = self.now();
        self.store
            .write::<_, StoreError, _>(move |tx| {
                for (key, _) in tx.scan::<Session>(b"", usize::MAX)?.into_iter().filter(|(_, s)| s.expires_at <= now) {
                    tx.delete::<Session>(&key)?;
                }
                Ok(())
            })
            .await?;
        Ok(())
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
            let row = Session { user: user.clone(), created_at: u64::from(n), expires_at: 1_000, source: String::new() };
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
