//! Connections to the databases. A hub lives on one shard, which follows from its id; so does a device. No transaction
//! spans two of them.

mod tls;
mod url;

use crate::domain::ids::HubId;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tls::DatabaseTls;
use tokio_postgres::NoTls;

/// How long a call waits for a connection.
const WAIT: Duration = Duration::from_secs(5);
/// What every connection begins with: nothing waits without an end.
const OPTIONS: &str = "-c statement_timeout=20000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=30000";

/// Why the databases are not reached.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A URL cannot be read.
    #[error("--database-url: {0}. Write it as postgresql://user@host/database, or postgresql:///database?host=/run/postgresql")]
    Url(tokio_postgres::Error),
    /// A URL asks for TLS in a way that is not there.
    #[error("--database-url: {0}")]
    Tls(&'static str),
    /// The authorities for the database's certificate.
    #[error("--database-url: the authorities for the database's certificate: {0}")]
    Authorities(String),
    /// None was named.
    #[error("--database-url names no database")]
    None,
    /// The pool.
    #[error("the database pool cannot be built: {0}")]
    Build(#[from] deadpool_postgres::BuildError),
    /// A database does not answer.
    #[error("the database does not answer: {}", with_causes(.0))]
    Connect(#[from] PoolError),
    /// The tables cannot be made or raised to the present form.
    #[error("the tables cannot be made: {0}")]
    Migrate(#[from] refinery::Error),
    /// The databases were named in another order, or another number of them.
    #[error(
        "this database was shard {was}, and is now named as shard {now}: name all databases, in the order in which they were first named"
    )]
    Order {
        /// Noted in it.
        was: String,
        /// As given.
        now: String,
    },
    /// Another cloud's keys belong to the databases.
    #[error(
        "these databases belong to a cloud with another {0}: copy cloud.key and region.key from the data directory of the process that was first"
    )]
    OtherKeys(&'static str),
    /// A statement.
    #[error("the database refuses: {0}")]
    Statement(#[from] tokio_postgres::Error),
}

/// All shards.
#[derive(Clone)]
pub(super) struct Shards(Vec<Pool>);

impl Shards {
    /// Over the databases with these URLs.
    pub(super) fn of_urls(urls: &[String], connections: usize) -> Result<Shards, DatabaseError> {
        if urls.is_empty() {
            return Err(DatabaseError::None);
        }
        let pools = urls.iter().map(|text| {
            let target = url::read(text)?;
            let tls = target.secure.map(|secure| DatabaseTls::new(secure.roots.as_deref())).transpose()?;
            pool(target.config, tls, connections)
        });
        Ok(Shards(pools.collect::<Result<_, _>>()?))
    }

    /// Over these databases, on this machine.
    pub(super) fn of(configs: Vec<tokio_postgres::Config>, connections: usize) -> Result<Shards, DatabaseError> {
        if configs.is_empty() {
            return Err(DatabaseError::None);
        }
        let pools = configs.into_iter().map(|config| pool(config, None, connections));
        Ok(Shards(pools.collect::<Result<_, _>>()?))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Each of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Pool> {
        self.0.iter()
    }

    /// Which shard a hub lives on.
    pub(super) fn index_of(&self, hub: &HubId) -> usize {
        shard_of(hub.as_bytes(), self.0.len())
    }

    /// A connection to the shard of a hub.
    pub(super) async fn of_hub(&self, hub: &HubId) -> Result<Object, PoolError> {
        self.at(shard_of(hub.as_bytes(), self.0.len())).await
    }

    /// Which shard a device is kept on, by its id.
    pub(super) fn index_of_text(&self, device: &str) -> usize {
        shard_of(device.as_bytes(), self.0.len())
    }

    /// A connection to the first shard, where what belongs to no hub and no device is kept.
    pub(super) async fn first(&self) -> Result<Object, PoolError> {
        self.at(0).await
    }

    /// A connection to a shard.
    pub(super) async fn at(&self, index: usize) -> Result<Object, PoolError> {
        match self.0.get(index) {
            Some(pool) => pool.get().await,
            None => Err(PoolError::Closed),
        }
    }

    /// Lets all connections go.
    pub(super) fn close(&self) {
        self.0.iter().for_each(Pool::close);
    }
}

/// An error with what caused it: of a refused certificate the driver itself says no more than that the handshake failed.
fn with_causes(error: &PoolError) -> String {
    let mut text = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// Connections to one database.
fn pool(mut config: tokio_postgres::Config, tls: Option<DatabaseTls>, connections: usize) -> Result<Pool, DatabaseError> {
    let options = config.get_options().map_or_else(|| OPTIONS.to_owned(), |own| format!("{OPTIONS} {own}"));
    config.options(options).application_name("hearthkey");
    let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match tls {
        Some(tls) => Manager::from_config(config, tls, how),
        None => Manager::from_config(config, NoTls, how),
    };
    let pool = Pool::builder(manager).max_size(connections).runtime(Runtime::Tokio1);
    Ok(pool.wait_timeout(Some(WAIT)).create_timeout(Some(WAIT)).build()?)
}

/// The first 8 bytes of SHA-256, big-endian, modulo the number of shards.
fn shard_of(key: &[u8], shards: usize) -> usize {
    let hash: [u8; 32] = Sha256::digest(key).into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    usize::try_from(number % u64::try_from(shards.max(1)).unwrap_or(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_stays_on_its_shard_and_hubs_spread_over_all() {
        let mut seen = [0; 4];
        for n in 0..=255u8 {
            let hub = HubId::from_public_key(&[n; 32]);
            assert_eq!(shard_of(hub.as_bytes(), 4), shard_of(hub.as_bytes(), 4));
            seen[shard_of(hub.as_bytes(), 4)] += 1;
        }
        assert!(seen.iter().all(|n| *n > 30), "{seen:?}");
        assert_eq!(shard_of(b"x", 1), 0);
    }
}
