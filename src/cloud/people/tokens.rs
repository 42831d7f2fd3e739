//! Tokens of programs and people of makers: opaque, kept as keyed hashes, good from listed networks only, ended by not
//! being used for a quarter of an hour, after twelve hours in any case, and with whoever holds them. Who holds one is looked
//! up at each use, with the account as it is now: what was ended, ends at once.

use std::net::IpAddr;

use data_encoding::BASE64URL_NOPAD;
use ipnet::IpNet;
use tokio_postgres::{Client, Error};
use zeroize::Zeroizing;

use crate::cloud::makers::region::RegionKey;
use crate::domain::app::is_listed;

/// How long a token lives after its last use, in ms.
pub const IDLE_MS: u64 = 15 * 60 * 1000;
/// After how long it ends in any case, in ms.
pub const HARD_END_MS: u64 = 12 * 3600 * 1000;
/// A use is written at most so often, in ms: a restart or another server may take that much off.
const WRITTEN_EVERY_MS: u64 = 60 * 1000;
/// Tokens of one holder: the oldest gives way to a further one.
const EACH: i64 = 20;

/// Whose tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A program's.
    Service,
    /// A person's.
    Vendor,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Kind::Service => "service",
            Kind::Vendor => "vendor",
        }
    }

    /// What such a token begins with, so that leaked ones can be searched for.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Kind::Service => "hkcs1.",
            Kind::Vendor => "hkcv1.",
        }
    }

    /// Of which kind a text says it is.
    #[must_use]
    pub fn of(token: &str) -> Option<Kind> {
        [Kind::Service, Kind::Vendor].into_iter().find(|kind| token.starts_with(kind.prefix()))
    }
}

/// A secret in a body, wiped when it is dropped.
///
/// # Errors
/// The deserialiser's.
pub fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    <String as serde::Deserialize>::deserialize(deserializer).map(Zeroizing::new)
}

/// 256 random bits behind `prefix`.
///
/// # Errors
/// The operating system's.
pub fn fresh(prefix: &str) -> Result<Zeroizing<String>, getrandom::Error> {
    let mut raw = Zeroizing::new([0; 32]);
    getrandom::fill(raw.as_mut_slice())?;
    Ok(Zeroizing::new(format!("{prefix}{}", BASE64URL_NOPAD.encode(raw.as_slice()))))
}

/// 128 random bits in hex: an id.
///
/// # Errors
/// The operating system's.
pub fn fresh_id() -> Result<String, getrandom::Error> {
    let mut raw = [0; 16];
    getrandom::fill(&mut raw)?;
    Ok(data_encoding::HEXLOWER.encode(&raw))
}

/// Opens a token for `holder` and gives it, this once. The oldest beyond a holder's share end.
///
/// # Errors
/// The database's.
pub async fn open(
    client: &Client,
    region: &RegionKey,
    kind: Kind,
    holder: &str,
    token: &str,
    source: IpAddr,
    now: u64,
) -> Result<(), Error> {
    let hash = region.keyed_hash(kind.word(), token);
    let (now, end) = (now.cast_signed(), (now + HARD_END_MS).cast_signed());
    client
        .execute(
            "INSERT INTO tokens (hash, kind, holder, source, created_at, last_use, expires_at) VALUES ($1, $2, $3, $4, $5, $5, $6)",
            &[&hash.as_slice(), &kind.word(), &holder, &source.to_canonical().to_string(), &now, &end],
        )
        .await?;
    client
        .execute(
            "DELETE FROM tokens WHERE hash IN (SELECT hash FROM tokens WHERE kind = $1 AND holder = $2 ORDER BY created_at DESC, hash OFFSET $3)",
            &[&kind.word(), &holder, &EACH],
        )
        .await?;
    Ok(())
}

/// Whose token it is, when it stands: its holder's id. It is used by this.
///
/// # Errors
/// The database's.
pub async fn holder(client: &Client, region: &RegionKey, kind: Kind, token: &str, now: u64) -> Result<Option<String>, Error> {
    let hash = region.keyed_hash(kind.word(), token);
    let (at, idle) = (now.cast_signed(), now.saturating_sub(IDLE_MS).cast_signed());
    let found = client
        .query_opt(
            "SELECT holder, last_use FROM tokens WHERE hash = $1 AND kind = $2 AND expires_at > $3 AND last_use > $4",
            &[&hash.as_slice(), &kind.word(), &at, &idle],
        )
        .await?;
    let Some(found) = found else { return Ok(None) };
    let (holder, last_use): (String, i64) = (found.get(0), found.get(1));
    if now.saturating_sub(last_use.unsigned_abs()) >= WRITTEN_EVERY_MS {
        client.execute("UPDATE tokens SET last_use = $2 WHERE hash = $1 AND last_use < $2", &[&hash.as_slice(), &at]).await?;
    }
    Ok(Some(holder))
}

/// Ends a token.
///
/// # Errors
/// The database's.
pub async fn close(client: &Client, region: &RegionKey, kind: Kind, token: &str) -> Result<(), Error> {
    let hash = region.keyed_hash(kind.word(), token);
    client.execute("DELETE FROM tokens WHERE hash = $1", &[&hash.as_slice()]).await.map(drop)
}

/// Ends all tokens of a holder.
///
/// # Errors
/// The database's.
pub async fn close_all(client: &tokio_postgres::Transaction<'_>, kind: Kind, holder: &str) -> Result<u64, Error> {
    client.execute("DELETE FROM tokens WHERE kind = $1 AND holder = $2", &[&kind.word(), &holder]).await
}

/// Forgets tokens that are over.
///
/// # Errors
/// The database's.
pub async fn sweep(client: &Client, now: u64) -> Result<u64, Error> {
    let (at, idle) = (now.cast_signed(), now.saturating_sub(IDLE_MS).cast_signed());
    client.execute("DELETE FROM tokens WHERE expires_at <= $1 OR last_use <= $2", &[&at, &idle]).await
}

/// Whether an address lies in one of the networks as they are kept. One that cannot be read lists nothing.
#[must_use]
pub fn comes_from(networks: &[String], source: IpAddr) -> bool {
    let read: Vec<IpNet> = networks.iter().filter_map(|network| network.parse().ok()).collect();
    is_listed(&read, source)
}
