//! The reference cloud: a courier and a witness for hubs, never their master (`docs/protocol/mirror.md`). It keeps a copy of
//! what an owner agreed to mirror, brings revocations, identities and people's wishes to the hub, and hands a household's
//! sealed bundle to the hub that replaces a broken one. What it brings, the hub decides.
//!
//! It is stateless over PostgreSQL: several processes may serve one region. One table ([`call`]) names every call.

mod about;
mod alarms;
mod bulletins;
mod bundle;
mod call;
mod clock;
mod cluster;
mod config;
mod dispatch;
mod download;
mod housekeeping;
mod hubs;
mod items;
mod keys;
mod limits;
pub mod load;
mod makers;
mod migrations;
mod openapi;
mod operator;
mod people;
mod pool;
mod rehome;
mod replacement;
mod reply;
mod request;
mod signed;
mod sync;
mod wake;

pub use clock::{Clock, MachineClock};
pub use cluster::ClusterError;
pub use config::{Config, Database, Limits, Linking, TlsFiles};
pub use keys::KeyError;
pub use makers::tenants::{Tenant, TenantError};
pub use migrations::form_of_tables;
pub use operator::Operator;
pub use people::bulletins::Made as MadeBulletin;
pub use people::hand::HandError;
pub use people::services::{NewService, Scope, ServiceView};
pub use people::vendors::{NewVendor, VendorView, role as vendor_role};
pub use pool::DatabaseError;

use crate::domain::mirror::signature::fingerprint;
use crate::domain::mirror::wire::CloudView;
use crate::net::tls::{Clock as TlsClock, Protocol};
use crate::net::{self, Counters, Security, TlsReloader, http};
use cluster::Cluster;
use keys::{Directory, Keys, OwnCa};
use makers::Makers;
use pool::Shards;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Why a cloud did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directory and keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The private PostgreSQL.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The databases.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The certificate.
    #[error("{path}: {source}")]
    Tls {
        /// The file.
        path: String,
        /// Why.
        source: net::TlsError,
    },
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The port.
    #[error("cannot listen on {address}: {source}. Another program may use the port: choose another one with --listen, or stop it")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A setting.
    #[error("{0}")]
    Setting(&'static str),
}

/// What every call works with.
struct Context {
    config: Config,
    /// On which requests are signed; without a slash at the end.
    public_url: String,
    keys: Keys,
    shards: Shards,
    /// Makers and people.
    makers: Makers,
    clock: Arc<dyn Clock>,
    limits: limits::Limits,
    wakes: wake::Wakes,
    shutdown: CancellationToken,
}

impl Context {
    /// ms since 1970.
    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

/// A running cloud.
pub struct Cloud {
    /// Where it listens.
    pub address: SocketAddr,
    context: Arc<Context>,
    ca_pem: Option<String>,
    cluster: Option<Cluster>,
    tasks: JoinSet<()>,
    _directory: Directory,
}

impl Cloud {
    /// Starts a cloud; when this returns, it serves.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(config: Config) -> Result<Cloud, StartError> {
        Cloud::start_by(config, Arc::new(MachineClock)).await
    }

    /// The same with another clock.
    ///
    /// # Errors
    /// The same.
    pub async fn start_by(config: Config, clock: Arc<dyn Clock>) -> Result<Cloud, StartError> {
        let directory = Directory::open(&config.data_dir)?;
        let keys = Keys::load(&directory)?;
        let (cluster, shards) = open_database(&config).await?;
        let started = Cloud::start_over(config, clock, directory, keys, shards.clone()).await;
        match (started, cluster) {
            (Ok(cloud), cluster) => Ok(Cloud { cluster, ..cloud }),
            (Err(error), cluster) => {
                shards.close();
                if let Some(cluster) = cluster {
                    cluster.stop().await;
                }
                Err(error)
            }
        }
    }

    async fn start_over(
        config: Config,
        clock: Arc<dyn Clock>,
        directory: Directory,
        keys: Keys,
        shards: Shards,
    ) -> Result<Cloud, StartError> {
        migrations::apply(&shards).await?;
        migrations::same_keys(&shards, &keys).await?;
        let limits = limits::Limits::of(&config.limits).ok_or(StartError::Setting("a limit per minute must be at least 1"))?;
        let tls_clock = {
            let clock = clock.clone();
            TlsClock::new(move || clock.now_ms() / 1000)
        };
        let own = match config.tls {
            TlsFiles::Own => Some(OwnCa::load(&directory, config.listen.ip())?),
            TlsFiles::Files { .. } => None,
        };
        let tls = match (&config.tls, &own) {
            (TlsFiles::Files { certificate, key }, _) => from_files(certificate, key, tls_clock)?,
            (TlsFiles::Own, Some(own)) => own.tls(clock.now_ms() / 1000, tls_clock)?,
            (TlsFiles::Own, None) => return Err(StartError::Setting("there is no certificate")),
        };
        let listen = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let url = config.public_url.clone().unwrap_or_else(|| format!("https://localhost:{}", address.port()));
        let public_url = url.trim_end_matches('/').to_owned();
        if !public_url.starts_with("https://") {
            return Err(StartError::Setting("the public URL begins with https://"));
        }
        let shutdown = CancellationToken::new();
        let ca_pem = own.as_ref().map(OwnCa::pem);
        let makers = Makers::new(shards.clone(), &keys, clock.clone(), config.limits.items_per_hub);
        let wakes = wake::Wakes::new(config.limits.wakes);
        let context = Arc::new(Context { public_url, keys, shards, makers, clock, limits, wakes, shutdown: shutdown.clone(), config });
        let tls = Arc::new(tls);
        let mut tasks = JoinSet::new();
        tasks.spawn(housekeeping::run(context.clone(), own.map(|own| (own, tls.clone()))));
        tasks.spawn(wake::poll(context.clone()));
        tasks.spawn(wake::tell_of_releases(context.clone()));
        tasks.spawn(makers::background::run(context.clone()));
        tasks.spawn(serve(listener, tls, context.clone()));
        Ok(Cloud { address, context, ca_pem, cluster: None, tasks, _directory: directory })
    }

    /// The URL on which requests are signed.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.context.public_url
    }

    /// The certificate of its own CA, when it has one.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The fingerprint of the cloud key, as owners compare it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(self.context.keys.cloud.verifying_key().as_bytes())
    }

    /// What it says of itself to anybody.
    #[must_use]
    pub fn view(&self) -> CloudView {
        about::view(&self.context)
    }

    /// The process of the private PostgreSQL, while there is one.
    #[must_use]
    pub fn database_pid(&self) -> Option<u32> {
        self.cluster.as_ref().and_then(Cluster::pid)
    }

    /// Ends every connection after what is being done, and stops the private PostgreSQL.
    pub async fn shut_down(mut self) {
        self.context.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.context.shards.close();
        if let Some(cluster) = self.cluster.take() {
            cluster.stop().await;
        }
    }
}

/// The databases that the configuration names; the private one is started.
async fn open_database(config: &Config) -> Result<(Option<Cluster>, Shards), StartError> {
    match &config.database {
        Database::Private => {
            let cluster = Cluster::start(&config.data_dir.join("postgres"), config.durable).await?;
            match Shards::of(vec![cluster.connection()], config.limits.pool) {
                Ok(shards) => Ok((Some(cluster), shards)),
                Err(error) => {
                    cluster.stop().await;
                    Err(error.into())
                }
            }
        }
        Database::Urls(urls) => Ok((None, Shards::of_urls(urls, config.limits.pool)?)),
    }
}

fn from_files(certificate: &std::path::Path, key: &std::path::Path, clock: TlsClock) -> Result<TlsReloader, StartError> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map(zeroize::Zeroizing::new).map_err(|source| StartError::File { path: path.display().to_string(), source })
    };
    let made = TlsReloader::from_pem(Protocol::Https, &read(certificate)?, &read(key)?, clock);
    made.map_err(|source| StartError::Tls { path: certificate.display().to_string(), source })
}

async fn serve(listener: TcpListener, tls: Arc<TlsReloader>, context: Arc<Context>) {
    let limits = net::Limits {
        max_connections: context.config.limits.max_connections,
        max_per_ip: context.config.limits.max_per_ip,
        handshake_timeout: Duration::from_secs(10),
        drain: Duration::from_secs(10),
    };
    let bounds =
        http::Bounds { silence: Duration::from_secs(60), stall: Duration::from_secs(60), max_headers: 64, max_concurrent_streams: 64 };
    let shutdown = context.shutdown.clone();
    net::serve(listener, Security::Tls(tls), limits, Arc::new(Counters::default()), shutdown.clone(), move |stream, peer| {
        let (context, shutdown) = (context.clone(), shutdown.clone());
        async move {
            let source = peer.addr.ip();
            let service = hyper::service::service_fn(move |request| dispatch::serve(context.clone(), source, request));
            http::serve_http(stream, peer.addr, service, bounds, shutdown).await;
        }
    })
    .await;
}
