//! One life of the responder: from its start to the end of the hub, a name that somebody else has, or a failure. The
//! library runs in a thread of its own, probes, announces, answers, and follows the interfaces as they come and go.

use super::announce::{self, About, Names};
use super::nearby::{Nearby, THING};
use super::{Config, Listener, State};
use mdns_sd::{DaemonEvent, HostnameResolutionEvent, IfKind, RRType, Receiver, ScopedIp, ServiceDaemon, ServiceEvent};
use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// A responder that has announced nothing for so long is started again: its sockets may not have come about.
const SILENCE: Duration = Duration::from_secs(60);
/// Names of devices that one life hears. Whoever floods the network with more is not listened to for a while, and what
/// the library remembers of them goes with the life.
const MOST_HEARD: usize = 1_000;
/// How long the flooded do not listen.
const DEAF: Duration = Duration::from_secs(600);
/// Longest goodbye.
const GOODBYE: Duration = Duration::from_secs(3);
/// How long the holder of a host name is looked for.
const WHOSE: Duration = Duration::from_secs(2);
/// How often interfaces are looked at, in seconds.
const INTERFACES_S: u32 = 3;

/// How a life ended.
#[derive(Debug)]
pub(super) enum End {
    Shutdown,
    /// Somebody has the name of the host.
    HostTaken,
    /// Somebody has the name of a service.
    InstanceTaken,
    Failed(String),
}

/// What a life is lived with.
pub(super) struct Life<'a> {
    pub(super) about: &'a About,
    pub(super) names: &'a Names,
    pub(super) config: &'a Config,
    /// Whether the names are probed for before they are announced.
    pub(super) probe: bool,
    pub(super) state: &'a watch::Sender<State>,
    pub(super) listener: &'a Listener,
}

impl Life<'_> {
    pub(super) async fn run(&self, shutdown: &CancellationToken) -> End {
        let mut listen_from = Instant::now();
        loop {
            if shutdown.is_cancelled() {
                return End::Shutdown;
            }
            let daemon = match start(self.config) {
                Ok(daemon) => daemon,
                Err(error) => return End::Failed(error.to_string()),
            };
            let end = self.live(&daemon, listen_from, shutdown).await;
            stop(&daemon).await;
            match end {
                Ok(Some(end)) => return end,
                Ok(None) => {
                    tracing::warn!(
                        "more devices than a house has ask to be claimed over the network: not listening to them for 10 minutes"
                    );
                    (self.listener)(Vec::new());
                    listen_from = Instant::now() + DEAF;
                }
                Err(error) => return End::Failed(error.to_string()),
            }
        }
    }

    /// `None`: there were too many to listen to.
    async fn live(&self, daemon: &ServiceDaemon, listen_from: Instant, shutdown: &CancellationToken) -> mdns_sd::Result<Option<End>> {
        let monitor = daemon.monitor()?;
        let services = announce::services(self.about, self.names, self.probe, !self.config.interfaces.is_empty())?;
        let mut announced = services.is_empty();
        self.state.send_replace(if announced { State::Silent } else { State::Starting });
        for service in services {
            daemon.register(service)?;
        }
        let (mut nearby, mut heard) = (Nearby::default(), BTreeSet::new());
        let mut things: Option<Receiver<ServiceEvent>> = None;
        let silence = Instant::now() + SILENCE;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(Some(End::Shutdown)),
                () = sleep_until(silence), if !announced => {
                    return Ok(Some(End::Failed("no network interface took the announcement: is there a network, and UDP port 5353 to be had?".into())));
                }
                () = sleep_until(listen_from), if things.is_none() => things = Some(daemon.browse(THING)?),
                event = next(things.as_ref()) => match event {
                    Some(event) => {
                        if let ServiceEvent::ServiceFound(_, name) = &event {
                            heard.insert(name.clone());
                        }
                        if heard.len() > MOST_HEARD {
                            return Ok(None);
                        }
                        let changed = match event {
                            ServiceEvent::ServiceResolved(service) => nearby.heard(&service),
                            ServiceEvent::ServiceRemoved(_, name) => nearby.gone(&name),
                            _ => false,
                        };
                        if changed {
                            (self.listener)(nearby.list());
                        }
                    }
                    // The library drops a listener that falls behind.
                    None => return Ok(None),
                },
                event = monitor.recv_async() => match event {
                    Ok(DaemonEvent::Announce(service, to)) => {
                        tracing::debug!(%service, %to, "announced");
                        announced = true;
                        let now = State::Announced(self.names.clone());
                        if self.state.send_if_modified(|state| *state != now && { *state = now; true }) {
                            tracing::info!(name = %self.names.instance, host = %self.names.host, "announced on the network");
                        }
                    }
                    Ok(DaemonEvent::NameChange(change)) => {
                        let is_host = matches!(change.rr_type, RRType::A | RRType::AAAA);
                        tracing::debug!(name = %change.original, interface = %change.intf_name, "this name is somebody else's");
                        return Ok(Some(if is_host { End::HostTaken } else { End::InstanceTaken }));
                    }
                    Ok(DaemonEvent::Error(error)) => tracing::warn!(%error, "mDNS"),
                    Ok(DaemonEvent::IpAdd(ip)) => tracing::debug!(%ip, "an address came"),
                    Ok(DaemonEvent::IpDel(ip)) => tracing::debug!(%ip, "an address went"),
                    Ok(_) => {}
                    Err(_) => return Ok(Some(End::Failed("the responder ended by itself".into()))),
                },
            }
        }
    }
}

async fn next(things: Option<&Receiver<ServiceEvent>>) -> Option<ServiceEvent> {
    match things {
        Some(things) => things.recv_async().await.ok(),
        None => std::future::pending().await,
    }
}

/// A responder on the interfaces that are wanted.
fn start(config: &Config) -> mdns_sd::Result<ServiceDaemon> {
    let daemon = ServiceDaemon::new()?;
    daemon.set_ip_check_interval(INTERFACES_S)?;
    if config.interfaces.is_empty() {
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    } else {
        daemon.disable_interface(IfKind::All)?;
        daemon.enable_interface(config.interfaces.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(daemon)
}

/// Says goodbye for everything announced, and waits until that is sent.
async fn stop(daemon: &ServiceDaemon) {
    if let Ok(stopped) = daemon.shutdown() {
        let _ = timeout(GOODBYE, stopped.recv_async()).await;
    }
}

/// Whether a host that is not this one answers to a name; asked while nothing here does.
pub(super) async fn is_held_by_another(host: &str, config: &Config) -> bool {
    let Ok(daemon) = start(config) else { return false };
    let mut another = false;
    if let Ok(events) = daemon.resolve_hostname(&format!("{host}."), Some(WHOSE.as_millis() as u64)) {
        let look = async {
            while let Ok(event) = events.recv_async().await {
                match event {
                    HostnameResolutionEvent::AddressesFound(_, found) => {
                        another |= !found.iter().all(is_mine);
                    }
                    HostnameResolutionEvent::SearchTimeout(_) => break,
                    _ => {}
                }
                if another {
                    break;
                }
            }
        };
        let _ = timeout(WHOSE * 2, look).await;
    }
    stop(&daemon).await;
    another
}

/// Whether an address is this host's: only then can a socket be bound to it.
fn is_mine(ip: &ScopedIp) -> bool {
    let at = match ip {
        ScopedIp::V6(v6) => SocketAddr::V6(SocketAddrV6::new(*v6.addr(), 0, 0, v6.scope_id().index)),
        other => SocketAddr::new(other.to_ip_addr(), 0),
    };
    UdpSocket::bind(at).is_ok()
}
