//! How a device finds a hub on the network, and asks there to be claimed: DNS-SD from the device's side (mqtt, §4;
//! pairing, §8).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use data_encoding::HEXLOWER;
use mdns_sd::{IfKind, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::{Instant, sleep_until, timeout};

use super::device::Neighbour;
use super::identity::{DeviceSecret, HubId};
use super::tls::Address;

const HUB: &str = "_hearthkey._tcp.local.";
const THING: &str = "_hearthkey-thing._tcp.local.";
/// After the first hub, others may still answer.
const OTHERS: Duration = Duration::from_secs(2);
/// Hubs that are told apart.
const MOST: usize = 16;
/// Longest goodbye.
const GOODBYE: Duration = Duration::from_secs(3);

/// A hub on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundHub {
    /// Its name, for people.
    pub name: String,
    /// Its id. Nothing vouches for it before the hub has opened a credential for this device.
    pub id: HubId,
    /// Its MQTT listener.
    pub mqtts: Address,
}

/// Why no hub was found.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There are several.
    #[error("there are several hubs here; choose one with --hub-id: {0}")]
    Several(String),
    /// The responder.
    #[error("cannot speak mDNS on this network: {0}")]
    Mdns(#[from] mdns_sd::Error),
    /// The system gives no randomness.
    #[error("no randomness: {0}")]
    Entropy(String),
}

/// Looks for a hub until there is one: the wanted one, or whichever is alone. `interfaces` are looked at by name; all but
/// loopback when empty.
///
/// # Errors
/// [`NetworkError`]: there are several, or mDNS cannot be spoken.
pub async fn find_hub(wanted: Option<HubId>, interfaces: &[String]) -> Result<FoundHub, NetworkError> {
    let daemon = responder(interfaces)?;
    let found = look(&daemon, wanted).await;
    stop(&daemon).await;
    found
}

/// All hubs that answer within `within`, for a device that has lost its own.
///
/// # Errors
/// [`NetworkError::Mdns`].
pub async fn hubs(interfaces: &[String], within: Duration) -> Result<Vec<Neighbour>, NetworkError> {
    let daemon = responder(interfaces)?;
    let events = daemon.browse(HUB)?;
    let until = Instant::now() + within;
    let mut found: Vec<Neighbour> = Vec::new();
    while found.len() < MOST {
        let event = tokio::select! {
            event = events.recv_async() => event,
            () = sleep_until(until) => break,
        };
        let Ok(event) = event else { break };
        let ServiceEvent::ServiceResolved(service) = event else { continue };
        let Some(hub) = read(&service) else { continue };
        let https = Address { host: hub.mqtts.host.clone(), port: service.get_port() };
        if https.port != 0 && !found.iter().any(|known| known.https == https) {
            found.push(Neighbour { https, mqtts: hub.mqtts });
        }
    }
    stop(&daemon).await;
    Ok(found)
}

async fn look(daemon: &ServiceDaemon, wanted: Option<HubId>) -> Result<FoundHub, NetworkError> {
    let events = daemon.browse(HUB)?;
    let mut hubs = BTreeMap::new();
    let mut until = None;
    loop {
        let event = tokio::select! {
            event = events.recv_async() => event.map_err(|_| mdns_sd::Error::DaemonShutdown)?,
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return choose(hubs),
        };
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let Some(hub) = read(&service) else { continue };
                if wanted == Some(hub.id) {
                    return Ok(hub);
                }
                if wanted.is_none() && hubs.len() < MOST {
                    hubs.insert(hub.id.to_string(), hub);
                    until.get_or_insert(Instant::now() + OTHERS);
                }
            }
            ServiceEvent::ServiceRemoved(_, fullname) => {
                let name = first_label(&fullname);
                hubs.retain(|_, hub| hub.name != name);
                if hubs.is_empty() {
                    until = None;
                }
            }
            _ => {}
        }
    }
}

fn choose(hubs: BTreeMap<String, FoundHub>) -> Result<FoundHub, NetworkError> {
    let list = hubs.values().map(|hub| format!("{} ({})", hub.name, hub.id)).collect::<Vec<_>>().join(", ");
    let mut hubs = hubs.into_values();
    match (hubs.next(), hubs.next()) {
        (Some(hub), None) => Ok(hub),
        _ => Err(NetworkError::Several(list)),
    }
}

/// What a hub says of itself; nothing when it takes no devices, or has no address that a device can use.
fn read(service: &ResolvedService) -> Option<FoundHub> {
    let id = service.get_property_val_str("id")?.parse().ok()?;
    let port = service.get_property_val_str("mqtts")?.parse().ok()?;
    let mut ips: Vec<IpAddr> = service.get_addresses().iter().map(ScopedIp::to_ip_addr).filter(|ip| !needs_scope(ip)).collect();
    // IPv4 first; then always the same one.
    ips.sort();
    Some(FoundHub { name: first_label(&service.fullname), id, mqtts: Address { host: ips.first()?.to_string(), port } })
}

/// A link-local IPv6 address says nothing without its interface.
fn needs_scope(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn first_label(fullname: &str) -> String {
    fullname.strip_suffix(HUB).unwrap_or(fullname).trim_end_matches('.').replace('\\', "")
}

/// A device that asks to be claimed, while its window is open.
pub struct Asking {
    name: String,
    txt: Vec<(&'static str, String)>,
    interfaces: Vec<String>,
    daemon: Option<ServiceDaemon>,
}

impl Asking {
    /// Of this device. Only who has its label can tell which it is.
    ///
    /// # Errors
    /// [`NetworkError::Entropy`].
    pub fn of(secret: &DeviceSecret, interfaces: &[String]) -> Result<Self, NetworkError> {
        let mut salt = [0u8; 4];
        getrandom::fill(&mut salt).map_err(|error| NetworkError::Entropy(error.to_string()))?;
        let mut info = vec![1, 1];
        info.extend(salt);
        info.extend(secret.short_id(salt));
        let name = format!("{}-{}", secret.model, HEXLOWER.encode(&salt));
        let txt = vec![("i", HEXLOWER.encode(&info)), ("n", secret.model.clone())];
        Ok(Self { name, txt, interfaces: interfaces.to_vec(), daemon: None })
    }

    /// Announces it.
    ///
    /// # Errors
    /// [`NetworkError::Mdns`].
    pub fn begin(&mut self) -> Result<(), NetworkError> {
        if self.daemon.is_some() {
            return Ok(());
        }
        let daemon = responder(&self.interfaces)?;
        let host = format!("{}.local.", self.name);
        // Port 0: nothing listens there.
        let service = ServiceInfo::new(THING, &self.name, &host, (), 0, self.txt.as_slice())?.enable_addr_auto();
        daemon.register(service)?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Says goodbye.
    pub async fn end(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            stop(&daemon).await;
        }
    }
}

fn responder(interfaces: &[String]) -> mdns_sd::Result<ServiceDaemon> {
    let daemon = ServiceDaemon::new()?;
    if interfaces.is_empty() {
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    } else {
        daemon.disable_interface(IfKind::All)?;
        daemon.enable_interface(interfaces.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(daemon)
}

async fn stop(daemon: &ServiceDaemon) {
    if let Ok(stopped) = daemon.shutdown() {
        let _ = timeout(GOODBYE, stopped.recv_async()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, txt: &[(&str, &str)], addresses: &str) -> ResolvedService {
        ServiceInfo::new(HUB, name, "attic.local.", addresses, 8443, txt).unwrap().as_resolved_service()
    }

    const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn a_hub_is_dialled_at_the_port_of_mqtt_and_an_address_that_needs_no_interface() {
        let hub = read(&service("My attic", &[("id", ID), ("mqtts", "8883")], "fe80::1,fd00::2,192.0.2.7")).unwrap();
        assert_eq!((hub.name.as_str(), hub.mqtts.to_string()), ("My attic", "192.0.2.7:8883".into()));
        let only_v6 = read(&service("a", &[("id", ID), ("mqtts", "8883")], "fe80::1,fd00::2")).unwrap();
        assert_eq!(only_v6.mqtts.to_string(), "[fd00::2]:8883");
        assert!(read(&service("a", &[("id", ID), ("mqtts", "8883")], "fe80::1")).is_none());
        assert!(read(&service("a", &[("id", ID)], "192.0.2.7")).is_none(), "it takes no devices");
        assert!(read(&service("a", &[("id", "x"), ("mqtts", "8883")], "192.0.2.7")).is_none());
    }

    #[test]
    fn among_several_a_person_chooses() {
        let hub = |name: &str, byte| FoundHub {
            name: name.into(),
            id: HubId::from_bytes([byte; 16]),
            mqtts: Address { host: "192.0.2.7".into(), port: 8883 },
        };
        let of = |hubs: &[FoundHub]| choose(hubs.iter().map(|h| (h.id.to_string(), h.clone())).collect());
        assert_eq!(of(&[hub("attic", 1)]).unwrap().name, "attic");
        let error = of(&[hub("attic", 1), hub("cellar", 2)]).unwrap_err().to_string();
        assert!(error.contains("attic (") && error.contains("cellar (") && error.contains("--hub-id"), "{error}");
    }
}
