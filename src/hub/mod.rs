//! The composition root: opens the store, loads the keys, builds the rooms, wires them with channels, runs the clock,
//! and takes everything down again in order.

mod audit;
mod backups;
mod clock;
mod config;
mod control;
#[cfg(test)]
mod cut_off;
mod doctor;
mod emergency;
mod health;
mod keys;
mod metrics;
mod network;
mod opening;
mod provision;
mod recover;
mod rehearse;
mod rehome;
mod restore;
mod sockets;
mod tls;
mod update;

pub use crate::domain::audit::chain::Verdict as AuditVerdict;
pub use crate::domain::backup::keep::{Retention, Schedule};
pub use crate::domain::backup::target::Target;
pub use crate::domain::mirror::recovery::RecoveryCode;
pub use crate::service::{BackupOutcome, ListedBackup, NewBackup, Passphrase, Proof, Replayed, Secrets};
pub use audit::{AuditFileError, export_audit, verify_audit, verify_audit_file};
pub use backups::{
    BackupsError, create_backup, fetch_chain, list_backups, newest_kept, noted_folder, set_backups, show_backups, verify_backups,
};
pub use clock::{BoxClock, ClockConfig, SystemBox, SystemClock};
pub use config::{Config, Listen};
pub use control::{Ask, ask_running};
pub use doctor::{Finding, Severity, examine, is_healthy};
pub use emergency::{Emergency, FoundBackup, is_damage};
pub use health::{HealthReport, ask_health};
pub use keys::KeyError;
pub use opening::make_console_code;
pub use recover::{
    BundleSource, CloudFacts, Courier, CourierError, Fetching, OrderError, RecoverError, RecoverOrder, Recovered, cloud_at, recover,
};
pub use rehome::{Rehomed, rehome};
pub use sockets::{Handed, HandedError};

pub use crate::store::SCHEMA_VERSION as DATABASE_LAYOUT;
pub use crate::update::closing as tell_closing;
pub use crate::update::platform;
pub use update::{
    SupervisorError, UpdateEnded, UpdateLedger, supervisor, update_apply, update_check, update_from_file, update_ledger, update_roll_back,
};

pub use rehearse::{Rehearsal, Rehearsed, keep_rehearsal, rehearse};
pub use restore::{RestoreError, RestoreOrder, RestoredHub, restore};

use crate::backup;
use crate::ble;
use crate::broker::{self, Broker};
use crate::mdns;
use crate::mirror;
use crate::net::{self, Counters, Security, SourceLimiter};
use crate::service::{HubIdentity, Refusal, Service};
use crate::store::OpenError;
use crate::web;
use data_encoding::HEXLOWER;
use jiff::tz::TimeZone;
use network::Network;
use opening::Opened;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tls::Certificates;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a hub that has taken another's place waits for what was revoked, before it serves.
const FIRST_MARKS: Duration = Duration::from_secs(20);
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
    /// The data directory holds other things, and others may look into it.
    #[error("{0} can be read by others and is not a hub's: run `chmod 700` on it, or choose an empty directory with --data-dir")]
    SharedDir(String),
    /// There is no hub to look into.
    #[error("{0} is not there: name the directory of a hub with --data-dir")]
    NoHub(String),
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
    /// A brand named in the configuration.
    #[error("the brand {brand} is not trusted as configured: {source}")]
    Trust {
        /// Which.
        brand: String,
        /// Why.
        source: Refusal,
    },
    /// A batch named in the configuration.
    #[error("{path} was not imported, and nothing of it was taken: {source}")]
    Import {
        /// Which.
        path: String,
        /// Why.
        source: Refusal,
    },
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
    /// Brands and batches that the configuration names and that were not taken, each with the reason.
    pub not_provisioned: Vec<String>,
    store_failed: CancellationToken,
    service: Arc<Service>,
    broker: Arc<Broker>,
    network: Network,
    cloud: Arc<mirror::Meter>,
    health: Option<Arc<health::Health>>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Hub {
    /// Starts a hub; when this returns, it serves.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running or open.
    pub async fn start(config: Config) -> Result<Hub, StartError> {
        let source = Arc::new(SystemBox::new(&config.clock));
        Hub::start_by(config, source).await
    }

    /// The same on a box whose clock is given.
    ///
    /// # Errors
    /// The same.
    pub async fn start_by(config: Config, source: Arc<dyn BoxClock>) -> Result<Hub, StartError> {
        if config.mqtt.enabled && !config.mqtt.address.ip().to_canonical().is_loopback() {
            return Err(StartError::NotLoopback(config.mqtt.address));
        }
        let attempts = NonZeroU32::new(config.attempts_per_minute).ok_or(StartError::Setting("attempts_per_minute must be at least 1"))?;
        config.handed.tell_unserved(&config);
        let opened = opening::open(&config, source).await?;
        let store = opened.store.clone();
        let started = Hub::start_over(opened, &config, attempts).await;
        if started.is_err() {
            store.close().await;
        }
        started
    }

    async fn start_over(opened: Opened, config: &Config, attempts: NonZeroU32) -> Result<Hub, StartError> {
        let Opened { store, clock } = opened;
        let (identity, material) = keys::load(&store, &config.name, clock.now_ms() / 1000).await?;
        // Public on purpose: it holds no secret, and goes to the maker.
        let request = config.data_dir.join("request.txt");
        std::fs::write(&request, format!("{}\n", identity.request_line))
            .map_err(|source| StartError::DataDir { path: request.display().to_string(), source })?;
        let certificates = Arc::new(Certificates::new(material, &config.name, clock.clone())?);
        let store_failed = store.failed();
        let service = Service::in_zone(store, clock, identity, Some(TimeZone::system())).await?;
        if let Err(error) = service.keep_images(config.data_dir.join("firmware"), &config.firmware).await {
            tracing::error!(%error, "images of firmware cannot be kept; the house goes on without");
        }
        let broker = Broker::new(service.clone(), config.broker.clone())?;
        service.connect(&broker);
        if let Err(error) = broker.restore().await {
            tracing::error!(%error, "the MQTT sessions of the run before cannot be read: clients subscribe again");
        }
        let not_provisioned = provision::provision(&service, config).await?;
        let setup_code = service.setup_code().await?;
        let mut hub = Hub {
            addresses: Addresses::default(),
            setup_code,
            not_provisioned,
            store_failed,
            service,
            broker,
            network: Network::default(),
            cloud: Arc::new(mirror::Meter::new(config.cloud.max_bytes_per_day)),
            health: None,
            shutdown: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        if let Err(error) = hub.open_doors(config, certificates, attempts).await {
            hub.shut_down().await;
            return Err(error);
        }
        Ok(hub)
    }

    /// Returns when the database has failed for good: the hub can write nothing any more, and has to be started again.
    pub async fn failed(&self) {
        self.store_failed.cancelled().await;
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

    /// The gate, for a program that brings connections of its own (a radio, another transport).
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Under which names the hub is found on the network, as that changes.
    #[must_use]
    pub fn network(&self) -> watch::Receiver<mdns::State> {
        self.network.state()
    }

    /// The devices on the network that ask to be claimed, as they come and go.
    #[must_use]
    pub fn things_on_network(&self) -> watch::Receiver<Vec<mdns::Found>> {
        self.network.things()
    }

    /// Ends every connection, waits for what is being written, and closes the store. Nothing acknowledged is lost.
    pub async fn shut_down(mut self) {
        self.shutdown.cancel();
        self.broker.shut_down(Duration::from_secs(5)).await;
        while self.tasks.join_next().await.is_some() {}
        self.broker.keep_all().await;
        self.service.close().await;
    }

    async fn open_doors(&mut self, config: &Config, certificates: Arc<Certificates>, attempts: NonZeroU32) -> Result<(), StartError> {
        self.call_cloud(config).await;
        let limiter = Arc::new(SourceLimiter::new(attempts, SOURCES));
        let counters = metrics::Listeners::default();
        if config.mqtts.enabled {
            let listener = config.handed.listen("mqtts", "MQTT over TLS", &config.mqtts).await?;
            self.addresses.mqtts = listener.local_addr().ok();
            if let Some(at) = self.addresses.mqtts {
                let certificates = certificates.clone();
                self.service.reached_at(move || certificates.reached_at(at));
            }
            self.serve_mqtt(listener, Security::Tls(certificates.mqtt.clone()), &config.mqtts, counters.mqtts.clone(), limiter.clone());
        }
        if config.mqtt.enabled {
            let listener = config.handed.listen("mqtt", "MQTT on loopback", &config.mqtt).await?;
            self.addresses.mqtt = listener.local_addr().ok();
            self.serve_mqtt(listener, Security::Plain, &config.mqtt, counters.mqtt.clone(), limiter.clone());
        }
        self.open_web(config, &certificates, &counters, &limiter).await?;
        self.keep_up_to_date(config);
        self.watch_health(config, &certificates)?;
        let serving = self.serving();
        self.announce(config, &certificates, &serving);
        self.tasks.spawn(self.broker.clone().expire_sessions(self.shutdown.clone()));
        self.tasks.spawn(self.broker.clone().keep_sessions(self.shutdown.clone()));
        self.tasks.spawn(ble::run(self.service.clone(), config.bluetooth.clone(), serving));
        let (service, shutdown) = (self.service.clone(), self.shutdown.clone());
        self.tasks.spawn(backup::run(service.clone(), config.backup.clone(), config.data_dir.clone(), shutdown.clone()));
        if config.backup.enabled {
            self.tasks.spawn(rehearse::attend(service.clone(), config.clone(), shutdown.clone()));
            let dir = config.data_dir.clone();
            if let Some(listener) = control::bind(&dir) {
                self.tasks.spawn(async move { control::serve(listener, &dir, service, shutdown).await });
            }
        }
        self.tasks.spawn(check_audit(self.service.clone(), self.shutdown.clone()));
        self.tasks.spawn(run_clock(self.service.clone(), certificates, self.shutdown.clone()));
        Ok(())
    }

    /// Begins to call the cloud that is linked. A hub that has just taken another's place waits for what was revoked in the
    /// meantime before it serves; when that does not come, it serves owners alone.
    async fn call_cloud(&mut self, config: &Config) {
        let (dir, meter) = (config.data_dir.join("mirror"), self.cloud.clone());
        self.tasks.spawn(mirror::run(self.service.clone(), config.cloud.clone(), dir, meter, self.shutdown.clone()));
        let mut pending = self.service.review();
        let linked = config.cloud.enabled && self.service.mirror_target().borrow().is_some();
        if !linked || !*pending.borrow() {
            return;
        }
        tracing::info!("this hub has taken another's place: it asks the cloud what was revoked in the meantime");
        if tokio::time::timeout(FIRST_MARKS, pending.wait_for(|pending| !pending)).await.is_err() {
            tracing::warn!(
                "the cloud does not say what was revoked in the meantime: until it does, or an owner has looked, only owners' rights stand"
            );
        }
    }

    /// Cancelled when the hub stops, and when it steps down: from then on it neither calls attention nor reaches out.
    fn serving(&mut self) -> CancellationToken {
        let serving = self.shutdown.child_token();
        let (ends, retirement) = (serving.clone(), self.service.retirement());
        self.tasks.spawn(async move {
            tokio::select! {
                () = ends.cancelled() => {}
                () = retirement.cancelled() => ends.cancel(),
            }
        });
        serving
    }

    /// Tells the network of the hub, once it listens.
    fn announce(&mut self, config: &Config, certificates: &Arc<Certificates>, serving: &CancellationToken) {
        if !config.mdns.enabled || self.service.is_retired() {
            return;
        }
        let identity = self.service.hub();
        let about = mdns::About {
            name: config.name.clone(),
            id: identity.id,
            ca_sha256: Sha256::digest(&identity.ca_der).into(),
            https: self.addresses.https,
            mqtts: self.addresses.mqtts,
        };
        let (state, listener) = self.network.ends(self.service.clone());
        self.tasks.spawn(mdns::run(about, config.mdns.clone(), state, listener, serving.clone()));
        self.tasks.spawn(network::certify_names(self.network.state(), certificates.clone(), self.shutdown.clone()));
    }

    async fn open_web(
        &mut self,
        config: &Config,
        certificates: &Arc<Certificates>,
        counters: &metrics::Listeners,
        limiter: &Arc<SourceLimiter>,
    ) -> Result<(), StartError> {
        let (mqtt, sockets) = mpsc::channel(64);
        let router = web::Web::new(config.web.clone(), self.service.clone(), self.hooks(config, certificates, counters, mqtt)).routes();
        if config.https.enabled {
            let listener = config.handed.listen("https", "HTTPS", &config.https).await?;
            self.addresses.https = listener.local_addr().ok();
            let security = Security::Tls(certificates.https.clone());
            self.serve_web(listener, security, &config.https, counters.https.clone(), router, &config.web);
        }
        if config.http.enabled {
            let listener = config.handed.listen("http", "HTTP", &config.http).await?;
            self.addresses.http = listener.local_addr().ok();
            let ca = certificates.ca();
            let page = web::TrustPage {
                name: config.name.clone(),
                ca_fingerprint: ca.fingerprint(),
                ca_der: ca.der().to_vec(),
                https_port: self.addresses.https.map_or(config.https.address.port(), |a| a.port()),
            };
            let router = web::trust_routes(page, &config.web);
            self.serve_web(listener, Security::Plain, &config.http, counters.http.clone(), router, &config.web);
        }
        self.tasks.spawn(serve_sockets(self.broker.clone(), sockets, limiter.clone(), self.shutdown.clone()));
        Ok(())
    }

    /// What the web needs of rooms it does not know.
    fn hooks(
        &self,
        config: &Config,
        certificates: &Arc<Certificates>,
        counters: &metrics::Listeners,
        mqtt: mpsc::Sender<web::MqttSocket>,
    ) -> web::Hooks {
        let (issuer, broker, service, counters) = (certificates.clone(), self.broker.clone(), self.service.clone(), counters.clone());
        let (not_provisioned, network, cloud) = (self.not_provisioned.len(), self.network.clone(), self.cloud.clone());
        web::Hooks {
            certify: Arc::new(move |csr, device| {
                let (certificate, until) = issuer.certify_device(csr, device.as_str()).map_err(|e| e.to_string())?;
                Ok(web::IssuedPem {
                    certificate_pem: certificate.pem(),
                    ca_pem: issuer.ca().pem(),
                    fingerprint: Sha256::digest(certificate.der()).into(),
                    expires_ms: until * 1000,
                })
            }),
            mqtt,
            metrics: Arc::new(move || metrics::page(&broker, &service, &counters, &network, &cloud, not_provisioned)),
            data_dir: config.data_dir.clone(),
            shutdown: self.shutdown.clone(),
        }
    }

    fn serve_web(
        &mut self,
        listener: TcpListener,
        security: Security,
        listen: &Listen,
        counters: Arc<Counters>,
        router: web::Router,
        bounds: &web::Config,
    ) {
        let (shutdown, bounds) = (self.shutdown.clone(), Arc::new(bounds.clone()));
        self.tasks.spawn(net::serve(listener, security, listen.limits(), counters, self.shutdown.clone(), move |stream, peer| {
            let (router, shutdown, bounds) = (router.clone(), shutdown.clone(), bounds.clone());
            async move { web::serve_connection(stream, &peer, router, &bounds, shutdown).await }
        }));
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
                    .and_then(|der| Some((net::ca::read::san_device(der)?, <[u8; 32]>::from(Sha256::digest(der)))));
                broker.serve(stream, broker::Peer { ip, spki: peer.spki, certificate }, shutdown).await;
            }
        }));
    }
}

/// MQTT connections that came as WebSockets go to the gate like any other.
async fn serve_sockets(
    broker: Arc<Broker>,
    mut sockets: mpsc::Receiver<web::MqttSocket>,
    limiter: Arc<SourceLimiter>,
    shutdown: CancellationToken,
) {
    let mut open = JoinSet::new();
    loop {
        let socket = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            socket = sockets.recv() => socket,
        };
        let Some(web::MqttSocket { stream, ip, spki }) = socket else { break };
        if limiter.check(ip).is_err() {
            tracing::warn!(%ip, "closed: too many connections a minute");
            continue;
        }
        let peer = broker::Peer { ip, spki, certificate: None };
        open.spawn(broker.clone().serve(stream, peer, shutdown.clone()));
    }
    while open.join_next().await.is_some() {}
}

/// Checks the audit once, beside everything else, and logs where its chain ends: whoever keeps the log elsewhere can
/// tell later whether it was made anew.
async fn check_audit(service: Arc<Service>, shutdown: CancellationToken) {
    let check = tokio::task::spawn_blocking(move || service.verify_audit());
    tokio::select! {
        // The store's closing ends the check.
        () = shutdown.cancelled() => {}
        checked = check => match checked {
            Ok(Ok(verdict)) => {
                if let Some((seq, hash)) = verdict.newest {
                    tracing::info!(entries = verdict.entries, seq, newest = %HEXLOWER.encode(&hash), "the audit is whole");
                }
            }
            Ok(Err(error)) => tracing::error!(%error, "the audit does not hold: somebody or something has changed the database"),
            Err(error) => tracing::error!(%error, "the audit could not be checked"),
        },
    }
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
        let ended = service
            .watch_clock()
            .await
            .and(service.end_moments().await)
            .and(service.expire_commands().await)
            .and(service.run_erasures().await)
            .and(service.sweep_support().await)
            .and(service.sweep_firmware().await);
        let swept = if ticks.is_multiple_of(3_600) {
            service.sweep_sessions().await.and(service.sweep_invitations().await).and(service.sweep_apps().await)
        } else {
            Ok(())
        };
        let cut = if ticks.is_multiple_of(60) { service.sweep_audit().await } else { Ok(()) };
        if let Err(error) = ended.and(swept).and(cut) {
            tracing::error!(%error, "the hub's clock could not do its work; it tries again");
        }
        if (ticks.is_multiple_of(300) || certificates.is_out_of_date())
            && let Err(error) = certificates.renew()
        {
            tracing::error!(%error, "the listeners' certificate could not be renewed; the old one stays");
        }
    }
}
