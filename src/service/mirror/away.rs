//! Keys by which people use their home from away: each makes their own at home. The cloud gets a hash, and shows a person
//! with the key what it has been told of them; what they wish for, this hub decides.

use super::link::link_in;
use super::marks::raise_to;
use super::rows::marked;
use crate::domain::account::{User, UserId};
use crate::domain::mirror::wire::Kind;
use crate::service::apps::{fresh_id, shown_name};
use crate::service::{Actor, Refusal, Service, SessionToken, audit, random};
use crate::store::tables::AwayKey;
use crate::store::{Read, StoreError, Tx};
use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// For how many days a key serves unless the person says otherwise, and at most.
const DAYS: u64 = 90;
const DAYS_MAX: u64 = 366;
/// Keys of one person at the same time.
const PER_PERSON: usize = 10;
/// Keys of a house.
const KEYS_MAX: usize = 10_000;

/// A key as its person sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AwayKeyView {
    /// Its id.
    pub id: String,
    /// What the person calls it.
    pub name: String,
    /// Since when, ms since 1970.
    pub created_at: u64,
    /// Until when it serves, ms since 1970.
    pub until: u64,
}

/// A key just made.
#[derive(Debug)]
pub struct MadeAwayKey {
    /// Its id.
    pub id: String,
    /// The key, shown this once.
    pub token: SessionToken,
    /// Where it is used: the cloud's address.
    pub url: String,
    /// Until when it serves, ms since 1970.
    pub until: u64,
}

impl Service {
    /// Makes a key for use from away, for the one who asks.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`], [`Refusal::SignedOut`]; [`Refusal::RoleTooLow`] for a maker's people;
    /// [`Refusal::Conflict`] when no cloud is linked, or for too many; [`Refusal::Invalid`].
    pub async fn make_away_key(&self, actor: &Actor, name: &str, days: Option<u64>) -> Result<MadeAwayKey, Refusal> {
        let user = actor.user()?.clone();
        let days = days.unwrap_or(DAYS);
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(Refusal::Invalid(format!("days: a number from 1 to {DAYS_MAX}")));
        }
        let raw = Zeroizing::new(random::<32>()?);
        let token = Zeroizing::new(format!("hka1.{}.{}", self.hub.id, BASE64URL_NOPAD.encode(raw.as_slice())));
        let (who, now) = (actor.clone(), self.now());
        let key = AwayKey {
            id: fresh_id()?,
            user,
            name: shown_name(name)?,
            hash: Sha256::digest(token.as_bytes()).into(),
            created_at: now,
            until: now + days * DAY_MS,
        };
        let (id, until) = (key.id.clone(), key.until);
        let url = self
            .store
            .write::<_, Refusal, _>(move |tx| {
                living(tx, &key.user)?;
                let link = link_in(tx)?.ok_or_else(|| Refusal::Conflict("no cloud is linked: ask an owner to link one".into()))?;
                let all = tx.scan::<AwayKey>(b"", KEYS_MAX)?;
                // What is over makes room.
                for (_, over) in all.iter().filter(|(_, k)| k.until <= now) {
                    end_in(tx, over, "hub", now)?;
                }
                let own = all.iter().filter(|(_, k)| k.until > now && k.user == key.user).count();
                if own >= PER_PERSON || all.len() >= KEYS_MAX {
                    return Err(Refusal::Conflict("too many keys for use from away: end one that you do not need first".into()));
                }
                tx.put(key.id.as_bytes(), &key)?;
                audit::append(tx, now, audit::done(&who, "away.make", key.user.as_str(), key.name.as_str()))?;
                Ok(link.url)
            })
            .await?;
        Ok(MadeAwayKey { id, token: SessionToken::new(&token), url, until })
    }

    /// The keys of the one who asks.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`], [`Refusal::SignedOut`].
    pub fn away_keys(&self, actor: &Actor) -> Result<Vec<AwayKeyView>, Refusal> {
        let (user, now) = (actor.user()?, self.now());
        let all = self.store.read::<_, Refusal>(|v| {
            v.get::<User>(user.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
            Ok(v.scan::<AwayKey>(b"", KEYS_MAX)?)
        })?;
        let mut own: Vec<AwayKeyView> = all
            .into_iter()
            .filter(|(_, k)| k.user == *user && k.until > now)
            .map(|(_, k)| AwayKeyView { id: k.id, name: k.name, created_at: k.created_at, until: k.until })
            .collect();
        own.sort_by_key(|k| k.created_at);
        Ok(own)
    }

    /// Ends a key of one's own, for ever.
    ///
    /// # Errors
    /// [`Refusal::PeopleOnly`], [`Refusal::NotFound`].
    pub async fn end_away_key(&self, actor: &Actor, id: &str) -> Result<(), Refusal> {
        let (user, who, id, now) = (actor.user()?.clone(), actor.clone(), id.to_owned(), self.now());
        self.store
            .write(move |tx| {
                tx.get::<User>(user.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
                let key = tx.get::<AwayKey>(id.as_bytes())?.filter(|k| k.user == user).ok_or(Refusal::NotFound("key"))?;
                end_in(tx, &key, &who.subject.to_string(), now)?;
                audit::append(tx, now, audit::done(&who, "away.end", user.as_str(), key.name))?;
                Ok(())
            })
            .await
    }
}

/// That a person of the house may have such keys.
fn living<R: Read>(rows: &R, user: &UserId) -> Result<(), Refusal> {
    let user = rows.get::<User>(user.as_str().as_bytes())?.filter(|u| !u.ended).ok_or(Refusal::SignedOut)?;
    if user.role.is_vendor() { Err(Refusal::RoleTooLow) } else { Ok(()) }
}

/// Whether a person has a key that serves.
pub(super) fn has_away_key<R: Read>(rows: &R, user: &UserId, now: u64) -> Result<bool, StoreError> {
    Ok(rows.scan::<AwayKey>(b"", KEYS_MAX)?.iter().any(|(_, k)| k.user == *user && k.until > now))
}

fn end_in(tx: &Tx<'_>, key: &AwayKey, by: &str, now: u64) -> Result<(), StoreError> {
    tx.delete::<AwayKey>(key.id.as_bytes())?;
    let generation = marked(tx, Kind::Away, &key.id)?.max(1);
    raise_to(tx, Kind::Away, &key.id, generation, by, now)
}

/// Ends all keys of a person: when the account ends, or its password changes.
pub(in crate::service) fn end_away_keys_of(tx: &Tx<'_>, user: &UserId, by: &str, now: u64) -> Result<(), StoreError> {
    for (_, key) in tx.scan::<AwayKey>(b"", KEYS_MAX)?.iter().filter(|(_, k)| k.user == *user) {
        end_in(tx, key, by, now)?;
    }
    Ok(())
}

/// Ends all keys there are: the cloud they are for is not this hub's any more.
pub(super) fn end_all(tx: &Tx<'_>, by: &str, now: u64) -> Result<(), StoreError> {
    for (_, key) in tx.scan::<AwayKey>(b"", KEYS_MAX)? {
        end_in(tx, &key, by, now)?;
    }
    Ok(())
}
