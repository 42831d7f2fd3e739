//! Connections to the databases. A hub lives on one shard, which follows from its id; so does a device. No transaction
//! spans two of them.

use crate::domain::ids::HubId;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio_postgres::NoTls;
use tokio_postgres::config::{Host, SslMode};

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
    /// A URL asks for TLS.
    #[error("--database-url: TLS to the database is not there yet; use a Unix socket, the same machine, or a tunnel")]
    Tls,
    /// None was named.
    #[error("--database-url names no database")]
    None,
    /// The pool.
    #[error("the database pool cannot be built: {0}")]
    Build(#[from] deadpool_postgres::BuildError),
    /// A database does not answer.
    #[error("the database does not answer: {0}")]
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
        let configs = urls.iter().map(|url| {
            let config: tokio_postgres::Config = url.parse().map_err(DatabaseError::Url)?;
            let local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
            if !local && config.get_ssl_mode() == SslMode::Require { Err(DatabaseError::Tls) } else { Ok(config) }
        });
        Shards::of(configs.collect::<Result<_, _>>()?, connections)
    }

    /// Over these databases.
    pub(super) fn of(configs: Vec<tokio_postgres::Config>, connections: usize) -> Result<Shards, DatabaseError> {
        if configs.is_empty() {
            return Err(DatabaseError::None);
        }
        let pools = configs.into_iter().map(|mut config| {
            let options = config.get_options().map_or_else(|| OPTIONS.to_owned(), |own| format!("{OPTIONS} {own}"));
            config.options(options).application_name("hearthkey");
            let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
            let pool = Pool::builder(manager).max_size(connections).runtime(Runtime::Tokio1);
            pool.wait_timeout(Some(WAIT)).create_timeout(Some(WAIT)).build()
        });
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

    #[tokio::test]
    async fn a_url_that_asks_for_tls_is_refused_with_what_to_do() {
        let refused = |url: &str| Shards::of_urls(&[url.to_owned()], 1).map(|_| ()).unwrap_err().to_string();
        assert!(refused("postgresql://db.example/x?sslmode=require").contains("tunnel"));
        assert!(refused("not a url").contains("postgresql://"));
        assert!(Shards::of_urls(&["postgresql:///x?host=/run/postgresql".to_owned()], 1).is_ok());
    }
}
