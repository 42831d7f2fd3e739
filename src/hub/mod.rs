//! The composition root: opens the store, loads the keys, builds the rooms, wires them with channels, runs the clock,
//! and takes everything down again in order.

mod clock;
mod config;
mod keys;
mod metrics;
mod tls;

pub use clock::SystemClock;
pub use config::{Config, Listen};
pub use keys::KeyError;

use crate::broker::{self, Broker};
use crate::net::{self, Counters, Security, SourceLimiter};
use crate::service::{Clock, HubIdentity, Refusal, Service};
use crate::store::{OpenError, Store};
use crate::web;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;
use tls::Certificates;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Addresses remembered by the limit on attempts.
const SOURCES: usize = 10_000;

/// Why the hub did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error("{path}: {source}. Choose a directory the hub may write with --data-dir")]
    DataDir {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] net::TlsError),
    /// A first use of the store.
    #[error(transparent)]
    Service(#[from] Refusal),
    /// A port.
    #[error("cannot listen on {address} for {what}: {source}. Another program may use the port: choose another one, or stop it")]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// MQTT without TLS is for loopback.
    #[error("mqtt.address {0} is not a loopback address: MQTT without TLS is for programs on this box only; use mqtts")]
    NotLoopback(SocketAddr),
    /// A setting.
    #[error("{0}")]
    Setting(&'static str),
}

/// Where a running hub listens; `None` for what is switched off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// HTTPS.
    pub https: Option<SocketAddr>,
    /// Plain HTTP, for the CA.
    pub http: Option<SocketAddr>,
    /// MQTT over TLS.
    pub mqtts: Option<SocketAddr>,
    /// MQTT without TLS.
    pub mqtt: Option<SocketAddr>,
}

/// A running hub.
pub struct Hub {
    /// Where it listens.
    pub addresses: Addresses,
    /// The one-time code for the first owner, while there is none.
    pub setup_code: Option<String>,
    service: Arc<Service>,
    broker: Arc<Broker>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Hub {
    /// Starts a hub; when this returns, it serves.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(config: Config) -> Result<Hub, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let dir = &config.data_dir;
        let dir_error = |source| StartError::DataDir { path: dir.display().to_string(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(dir_error)?;
        if config.mqtt.enabled && !config.mqtt.address.ip().to_canonical().is_loopback() {
            return Err(StartError::NotLoopback(config.mqtt.address));
        }
        let attempts = NonZeroU32::new(config.attempts_per_minute).ok_or(StartError::Setting("attempts_per_minute must be at least 1"))?;
        let master = keys::master_key(dir, config.credentials_dir.as_deref())?;
        let file = dir.join("hub.redb");
        let store = tokio::task::spawn_blocking(move || Store::open(&file, master))
            .await
            .map_err(|_| StartError::Setting("the store could not be opened; see the log"))??;
        let (identity, material) = keys::load(&store, &config.name, clock.now_ms() / 1000).await?;
        std::fs::write(dir.join("request.txt"), format!("{}\n", identity.request_line)).map_err(dir_error)?;
        let certificates = Arc::new(Certificates::new(material, &config.name, clock.clone())?);
        let service = Service::new(store, clock, identity).await?;
        let broker = Broker::new(service.clone(), config.broker.clone())?;
        service.connect(broker.clone());
        let setup_code = service.setup_code().await?;
        let mut hub =
            Hub { addresses: Addresses::default(), setup_code, service, broker, shutdown: CancellationToken::new(), tasks: JoinSet::new() };
        if let Err(error) = hub.open_doors(&config, certificates, attempts).await {
            hub.shut_down().await;
            return Err(error);
        }
        Ok(hub)
    }

    /// What the hub is.
    #[must_use]
    pub fn identity(&self) -> &HubIdentity {
        self.service.hub()
    }

    /// The use cases, for a program that embeds a hub.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Ends every connection, waits for what is being written, and closes the store. Nothing acknowledged is lost.
    pub async fn shut_down(mut self) {
        self.shutdown.cancel();
        self.broker.shut_down(Duration::from_secs(5)).await;
        while self.tasks.join_next().await.is_some() {}
        self.service.close().await;
    }

    async fn open_doors(&mut self, config: &Config, certificates: Arc<Certificates>, attempts: NonZeroU32) -> Result<(), StartError> {
        let limiter = Arc::new(SourceLimiter::new(attempts, SOURCES));
        let counters = metrics::Listeners::default();
        if config.mqtts.enabled {
            let listener = bind("MQTT over TLS", &config.mqtts).await?;
            self.addresses.mqtts = listener.local_addr().ok();
            self.serve_mqtt(listener, Security::Tls(certificates.mqtt.clone()), &config.mqtts, counters.mqtts.clone(), limiter.clone());
        }
        if config.mqtt.enabled {
            let listener = bind("MQTT on loopback", &config.mqtt).await?;
            self.addresses.mqtt = listener.local_addr().ok();
            self.serve_mqtt(listener, Security::Plain, &config.mqtt, counters.mqtt.clone(), limiter.clone());
        }
        self.open_web(config, &certificates, &counters).await?;
        self.tasks.spawn(self.broker.clone().expire_sessions(self.shutdown.clone()));
        self.tasks.spawn(run_clock(self.service.clone(), certificates, self.shutdown.clone()));
        Ok(())
    }

    async fn open_web(
        &mut self,
        _config: &Config,
        _certificates: &Arc<Certificates>,
        _counters: &metrics::Listeners,
    ) -> Result<(), StartError> {
        Ok(())
    }

    fn serve_mqtt(
        &mut self,
        listener: TcpListener,
        security: Security,
        listen: &Listen,
        counters: Arc<Counters>,
        limiter: Arc<SourceLimiter>,
    ) {
        let (broker, shutdown) = (self.broker.clone(), self.shutdown.clone());
        self.tasks.spawn(net::serve(listener, security, listen.limits(), counters, self.shutdown.clone(), move |stream, peer| {
            let (broker, shutdown, limiter) = (broker.clone(), shutdown.clone(), limiter.clone());
            async move {
                let ip = peer.addr.ip();
                if limiter.check(ip).is_err() {
                    tracing::warn!(%ip, "closed: too many connections a minute");
                    return;
                }
                let certificate = peer
                    .client_certificate
                    .as_deref()
                    .and_then(|der| Some((net::ca::read::san_device(der)?, <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(der)))));
                broker.serve(stream, broker::Peer { ip, spki: peer.spki, certificate }, shutdown).await;
            }
        }));
    }
}

async fn bind(what: &'static str, listen: &Listen) -> Result<TcpListener, StartError> {
    TcpListener::bind(listen.address).await.map_err(|source| StartError::Listen { what, address: listen.address, source })
}

/// Runs what happens by itself: moments and commands end, sessions are swept, certificates renewed.
async fn run_clock(service: Arc<Service>, certificates: Arc<Certificates>, shutdown: CancellationToken) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ticks = 0u64;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = second.tick() => ticks += 1,
        }
        let ended = service.end_moments().await.and(service.expire_commands().await);
        let swept = if ticks.is_multiple_of(3_600) { service.sweep_sessions().await } else { Ok(()) };
        if let Err(error) = ended.and(swept) {
            tracing::error!(%error, "the hub's clock could not do its work; it tries again");
        }
        if ticks.is_multiple_of(300)
            && let Err(error) = certificates.renew()
        {
            tracing::error!(%error, "the listeners' certificate could not be renewed; the old one stays");
        }
    }
}
