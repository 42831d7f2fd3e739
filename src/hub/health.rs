//! Whether the hub really serves: its database answers, and a device could sign in. Looked at when somebody asks on the socket in the data
//! directory (`hearthkey doctor`), and as often as the service manager wants to hear of it.

use super::tls::Certificates;
use super::{Addresses, Config};
use crate::service::Service;
use crate::update;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// The socket's name in the data directory.
const SOCKET: &str = "health.sock";
/// Bytes that a socket's path may have (`sun_path` has 108).
const PATH_MAX: usize = 100;
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER_MAX: u64 = 64 * 1024;
/// Who asks for certificates this long before their end is told, in seconds.
pub(super) const SOON_S: u64 = 20 * 24 * 3600;

/// What a running hub says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HealthReport {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// What does not serve; absent when all does.
    pub problem: Option<String>,
    /// The layout of its database.
    pub layout: u32,
    /// Where it listens: by the names `https`, `http`, `mqtts`, `mqtt`.
    pub addresses: std::collections::BTreeMap<String, SocketAddr>,
    /// The end of the listeners' certificate, s since 1970.
    pub certificate_until: u64,
    /// The end of the CA's, s since 1970.
    pub ca_until: u64,
    /// The names for which the listeners' certificate holds.
    pub names: Vec<String>,
    /// The clock, as the API shows it.
    pub clock: Value,
    /// Whether a cloud is linked, and how that stands as the API shows it.
    pub cloud: Value,
    /// Brands and batches of the configuration that were not taken.
    pub not_provisioned: Vec<String>,
}

/// Where the hub of a data directory answers.
pub(super) fn socket_of(data_dir: &Path) -> Option<PathBuf> {
    let path = data_dir.join(SOCKET);
    (path.as_os_str().len() <= PATH_MAX).then_some(path)
}

/// Asks the hub that runs over a data directory how it is.
///
/// # Errors
/// In words: none answers.
pub async fn ask_health(data_dir: &Path) -> Result<HealthReport, String> {
    let path = socket_of(data_dir).ok_or("the path of the data directory is too long for a socket: choose a shorter one")?;
    let asked = async {
        let mut stream = UnixStream::connect(&path).await?;
        let mut answer = Vec::new();
        (&mut stream).take(ANSWER_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(LOOK + Duration::from_secs(2), asked).await.map_err(|_| "the hub does not answer in time".to_owned())?;
    let answer = answer.map_err(|e| format!("no hub answers at {}: {e}", path.display()))?;
    serde_json::from_slice(&answer).map_err(|e| format!("the hub's answer cannot be read: {e}"))
}

/// What is looked at.
pub(super) struct Health {
    service: Arc<Service>,
    certificates: Arc<Certificates>,
    door: Option<SocketAddr>,
    tls: Arc<ClientConfig>,
    addresses: Addresses,
    not_provisioned: Vec<String>,
}

impl Health {
    pub(super) fn new(
        service: Arc<Service>,
        certificates: Arc<Certificates>,
        addresses: Addresses,
        not_provisioned: Vec<String>,
    ) -> Result<Health, crate::net::TlsError> {
        let tls = Arc::new(certificates.own_client()?);
        let door = addresses.mqtts.or(addresses.https).map(reachable);
        Ok(Health { service, certificates, door, tls, addresses, not_provisioned })
    }

    /// Looks.
    ///
    /// # Errors
    /// In words: what does not serve.
    async fn look(&self) -> Result<(), String> {
        let service = self.service.clone();
        let database = tokio::task::spawn_blocking(move || service.answers().map_err(|e| e.to_string()));
        let looked = async {
            database.await.map_err(|e| e.to_string())?.map_err(|e| format!("the database does not answer: {e}"))?;
            let Some(door) = self.door else { return Ok(()) };
            let failed = |e: std::io::Error| format!("nobody can sign in at {door}: {e}");
            let stream = TcpStream::connect(door).await.map_err(failed)?;
            let name = ServerName::try_from("localhost").map_err(|e| e.to_string())?;
            let mut stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(failed)?;
            let _ = stream.shutdown().await;
            Ok(())
        };
        timeout(LOOK, looked).await.unwrap_or_else(|_| Err(format!("it did not answer itself within {} s", LOOK.as_secs())))
    }

    async fn report(&self) -> HealthReport {
        let problem = self.look().await.err();
        let Addresses { https, http, mqtts, mqtt } = self.addresses;
        let named = [("https", https), ("http", http), ("mqtts", mqtts), ("mqtt", mqtt)];
        let linked = self.service.mirror_target().borrow().is_some();
        let (certificate_until, ca_until, names) = self.certificates.told();
        HealthReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            problem,
            layout: crate::store::SCHEMA_VERSION,
            addresses: named.into_iter().filter_map(|(name, at)| Some((name.to_owned(), at?))).collect(),
            certificate_until,
            ca_until,
            names,
            clock: serde_json::to_value(self.service.clock()).unwrap_or_default(),
            cloud: serde_json::json!({"linked": linked, "state": self.service.mirror_state()}),
            not_provisioned: self.not_provisioned.clone(),
        }
    }

    /// Tells the service manager as often as it wants to hear, and only while the hub serves.
    pub(super) async fn feed_watchdog(self: Arc<Self>, every: Duration, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval((every / 4).max(Duration::from_millis(200)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            match self.look().await {
                Ok(()) => update::watchdog(),
                Err(problem) => tracing::error!(%problem, "the hub does not serve; when that lasts, it is started again"),
            }
        }
    }

    /// Answers on the socket in the data directory, which is closed to others.
    async fn answer(self: Arc<Self>, listener: UnixListener, data_dir: PathBuf, shutdown: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((mut stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            // One after the other: whoever asks waits for at most a look.
            let answer = serde_json::to_vec(&self.report().await).unwrap_or_default();
            let _ = timeout(LOOK, async {
                let _ = stream.write_all(&answer).await;
                stream.shutdown().await
            })
            .await;
        }
        if let Some(path) = socket_of(&data_dir) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Makes the socket, before anybody is told that the hub serves: who asks from then on is heard. Where it cannot be made, the
/// hub goes on without.
fn bind(data_dir: &Path) -> Option<UnixListener> {
    let Some(path) = socket_of(data_dir) else {
        tracing::warn!("the path of the data directory is too long for a socket: `hearthkey doctor` cannot ask this hub");
        return None;
    };
    // The lock on the database keeps a second hub out: what lies here is of one that is gone.
    let _ = std::fs::remove_file(&path);
    let told = |error: &std::io::Error| tracing::warn!(%error, path = %path.display(), "`hearthkey doctor` cannot ask this hub");
    UnixListener::bind(&path).inspect_err(told).ok()
}

/// The address at which a listener is reached from here.
fn reachable(at: SocketAddr) -> SocketAddr {
    let ip = match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        // One that takes both is asked by the older, which every box has.
        IpAddr::V6(ip) if ip.is_unspecified() => local_of_both(),
        ip => ip,
    };
    SocketAddr::new(ip, at.port())
}

fn local_of_both() -> IpAddr {
    let only_v6 = std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").is_ok_and(|text| text.trim() == "1");
    if only_v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

impl super::Hub {
    /// Tells the service manager that the hub serves, and from now on that it lives.
    pub fn tell_manager(&mut self) {
        if let (Some(every), Some(health)) = (update::told_of_watchdog(), self.health.clone()) {
            self.tasks.spawn(health.feed_watchdog(every, self.shutdown.clone()));
        }
        update::serving();
    }

    pub(super) fn watch_health(&mut self, config: &Config, certificates: &Arc<Certificates>) -> Result<(), crate::net::TlsError> {
        let health = Health::new(self.service.clone(), certificates.clone(), self.addresses, self.not_provisioned.clone())?;
        let health = Arc::new(health);
        if let Some(listener) = bind(&config.data_dir) {
            self.tasks.spawn(health.clone().answer(listener, config.data_dir.clone(), self.shutdown.clone()));
        }
        self.health = Some(health);
        Ok(())
    }
}
