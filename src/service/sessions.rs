//! Sessions of people: opaque random tokens, kept only as a keyed hash, ended by sign-out, expiry or the account's end.

use super::{Actor, Refusal, Service, audit, random};
use crate::domain::account::User;
use crate::store::tables::Session;
use crate::store::{Read, StoreError};
use data_encoding::BASE64URL_NOPAD;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// How long a session lasts, in ms.
const LIFETIME_MS: u64 = 30 * 24 * 3600 * 1000;
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
        Ok(Actor { user: user.id, role: user.role, via: format!("{protocol} {source}"), source })
    }

    /// Ends the session of `token`, and the live connections that came with its account.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn sign_out(&self, actor: &Actor, token: &SessionToken) -> Result<(), Refusal> {
        let (key, now, event) = (self.session_key(token), self.now(), audit::done(actor, "session.end", actor.user.as_str(), ""));
        self.store
            .write::<_, StoreError, _>(move |tx| {
                tx.delete::<Session>(&key)?;
                audit::append(tx, now, event.clone())
            })
            .await?;
        self.policy_changed().await;
        self.close_sessions(&actor.subject(), super::CloseReason::NotAuthorized).await;
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
