//! The sessions of an account as its person sees them, and ending them from elsewhere. What a session is, is `sessions`'.

use super::rights::require_role;
use super::sessions::sessions_of;
use super::{Actor, Change, CloseReason, Refusal, Service, SessionToken, audit, lock};
use crate::domain::account::{User, UserId};
use crate::domain::authority::HubAction;
use crate::domain::binding::Subject;
use crate::store::tables::Session;
use crate::store::{Read, StoreError};
use data_encoding::HEXLOWER;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// Characters kept of what a client calls itself.
const AGENT: usize = 200;

/// When sessions were last used, by their keys; written now and then, as a card wears out with every write.
pub(super) type LastUsed = HashMap<[u8; 32], u64>;

/// A session as its person sees it.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    /// By which it is ended; not the token.
    pub id: String,
    /// When it was opened, ms since 1970.
    pub created_at: u64,
    /// When it was last used, ms since 1970: right to the hour after a restart.
    pub last_seen: u64,
    /// Until when, ms since 1970.
    pub expires: u64,
    /// From which address it was opened.
    pub source: String,
    /// What with, as it called itself.
    pub agent: String,
    /// Whether it is the one that asks.
    pub current: bool,
}

impl Service {
    /// Notes that a session is in use.
    pub(super) fn used(&self, session: [u8; 32], now: u64) {
        lock(&self.last_used).insert(session, now);
    }

    /// One's own sessions, the latest first.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`]; the store's fault.
    pub fn sessions(&self, actor: &Actor, token: &SessionToken) -> Result<Vec<SessionView>, Refusal> {
        let (id, now, own) = (actor.user()?, self.now(), self.session_key(token));
        let mut rows = self.store.read::<_, StoreError>(|v| sessions_of(v, id))?;
        rows.retain(|(_, s)| now < s.expires_at);
        rows.sort_by_key(|(_, s)| std::cmp::Reverse(s.created_at));
        let used = lock(&self.last_used);
        let view = |(key, row): (Vec<u8>, Session)| SessionView {
            id: self.session_id(&key),
            created_at: row.created_at,
            last_seen: key
                .as_slice()
                .try_into()
                .ok()
                .and_then(|k: [u8; 32]| used.get(&k).copied())
                .unwrap_or(0)
                .max(row.last_seen)
                .max(row.created_at),
            expires: row.expires_at,
            source: row.source,
            agent: row.agent,
            current: key == own,
        };
        Ok(rows.into_iter().map(view).collect())
    }

    /// Ends one of one's own sessions, and the live connections that signed in with it, before this returns.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub async fn end_session(&self, actor: &Actor, session: &str) -> Result<(), Refusal> {
        let id = actor.user()?.clone();
        let known = self.store.read::<_, StoreError>(|v| sessions_of(v, &id))?;
        let found = known.into_iter().map(|(key, _)| key).find(|key| self.session_id(key) == session);
        let key = found.and_then(|k| <[u8; 32]>::try_from(k).ok()).ok_or(Refusal::NotFound("session"))?;
        let (now, who) = (self.now(), actor.clone());
        self.store
            .write::<_, Refusal, _>(move |tx| {
                tx.get::<User>(id.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
                if !tx.delete::<Session>(&key)? {
                    return Err(Refusal::NotFound("session"));
                }
                audit::append(tx, now, audit::done(&who, "session.end", id.as_str(), "from elsewhere"))?;
                Ok(())
            })
            .await?;
        self.close_session(key).await;
        self.changed(Change::Accounts);
        Ok(())
    }

    /// Ends all sessions of an account, as an owner, and its live connections before this returns.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::NotFound`].
    pub async fn end_sessions(&self, actor: &Actor, user: &UserId) -> Result<(), Refusal> {
        let (who, id, now) = (actor.clone(), user.clone(), self.now());
        actor.user()?;
        self.store
            .write::<_, Refusal, _>(move |tx| {
                require_role(tx, &who, HubAction::ManagePeople, now)?;
                tx.get::<User>(id.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::NotFound("account"))?;
                let all = sessions_of(tx, &id)?;
                for (session, _) in &all {
                    tx.delete::<Session>(session)?;
                }
                audit::append(tx, now, audit::done(&who, "session.end", id.as_str(), format!("all {} of the account", all.len())))?;
                Ok(())
            })
            .await?;
        self.close_sessions(&Subject::User(user.clone()), CloseReason::NotAuthorized).await;
        self.changed(Change::Accounts);
        Ok(())
    }

    /// What a client calls itself, for a session that has just been opened.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn note_agent(&self, token: &SessionToken, agent: &str) -> Result<(), Refusal> {
        let (key, agent) = (self.session_key(token), cleaned(agent));
        self.store
            .write::<_, Refusal, _>(move |tx| {
                if let Some(mut session) = tx.get::<Session>(&key)? {
                    session.agent.clone_from(&agent);
                    tx.put(&key, &session)?;
                }
                Ok(())
            })
            .await
    }

    /// Writes when sessions were last used. One transaction for all of them, and none when nothing is new.
    ///
    /// # Errors
    /// The store's fault.
    pub(super) async fn keep_last_used(&self) -> Result<(), Refusal> {
        let used: LastUsed = lock(&self.last_used).clone();
        let rows = self.store.read::<_, StoreError>(|v| v.scan::<Session>(b"", usize::MAX))?;
        let known: HashSet<[u8; 32]> = rows.iter().filter_map(|(k, _)| k.as_slice().try_into().ok()).collect();
        lock(&self.last_used).retain(|key, _| known.contains(key));
        let newer = |(key, row): &(Vec<u8>, Session)| {
            let key: [u8; 32] = key.as_slice().try_into().ok()?;
            used.get(&key).filter(|at| **at > row.last_seen).map(|at| (key, *at))
        };
        let newer: Vec<([u8; 32], u64)> = rows.iter().filter_map(newer).collect();
        if newer.is_empty() {
            return Ok(());
        }
        self.store
            .write::<_, Refusal, _>(move |tx| {
                for (key, at) in &newer {
                    if let Some(mut session) = tx.get::<Session>(key)? {
                        session.last_seen = *at;
                        tx.put(key, &session)?;
                    }
                }
                Ok(())
            })
            .await
    }

    /// The name of a session towards its person: it opens nothing.
    fn session_id(&self, key: &[u8]) -> String {
        let hash = self.keyed_hash(b"session id", key);
        HEXLOWER.encode(hash.get(..16).unwrap_or_default())
    }
}

/// What a client calls itself, bounded, in one line.
pub(super) fn cleaned(agent: &str) -> String {
    agent.chars().filter(|c| !c.is_control()).take(AGENT).collect::<String>().trim().to_owned()
}
