//! What the hub announces: three services under one name, on the ports where it really listens.

use crate::domain::ids::HubId;
use mdns_sd::{IfKind, ServiceInfo};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// The hub itself, for devices and apps; its port is that of HTTPS.
const HUB: &str = "_hearthkey._tcp.local.";
/// MQTT over TLS, as IANA registers it.
const MQTT: &str = "_secure-mqtt._tcp.local.";
/// The page.
const HTTPS: &str = "_https._tcp.local.";
/// Longest label of the DNS, in bytes.
const LABEL: usize = 63;

/// The hub as the network is told of it.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name in the house.
    pub name: String,
    /// Its id.
    pub id: HubId,
    /// SHA-256 of its CA's certificate.
    pub ca_sha256: [u8; 32],
    /// Where HTTPS listens.
    pub https: Option<SocketAddr>,
    /// Where MQTT over TLS listens.
    pub mqtts: Option<SocketAddr>,
}

/// The names that a hub goes by on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Of its services, as people read it.
    pub instance: String,
    /// Of the host, `<name>.local`.
    pub host: String,
}

impl Names {
    /// The names of the `attempt`-th try, counted from 1: `name`, `name-2`, `name-3`; after `most` tries one with the
    /// hub's id in it. A name that cannot be a host's (as with spaces) gives a host name made of the id at once.
    pub(super) fn of(about: &About, attempt: u32, most: u32) -> Names {
        let id: String = about.id.to_string().chars().take(8).collect();
        let suffix = match attempt {
            ..=1 => String::new(),
            n if n <= most => format!("-{n}"),
            _ => format!("-{id}"),
        };
        let room = LABEL - suffix.len();
        let given = about.name.trim();
        let mut instance = if given.is_empty() { "hearthkey" } else { given }.to_owned();
        while instance.len() > room {
            instance.pop();
        }
        let label = given.to_ascii_lowercase();
        let plain = !label.is_empty()
            && label.len() <= room
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-');
        let label = if plain { label } else { format!("hearthkey-{id}") };
        Names { instance: format!("{instance}{suffix}"), host: format!("{label}{suffix}.local") }
    }
}

/// The services of a hub under these names; empty when it listens nowhere that `loopback` or the network reaches.
///
/// # Errors
/// The library's, when a name or a text does not fit the DNS.
pub(super) fn services(about: &About, names: &Names, probe: bool, loopback: bool) -> mdns_sd::Result<Vec<ServiceInfo>> {
    let reached = |address: Option<SocketAddr>| address.filter(|a| loopback || !a.ip().to_canonical().is_loopback());
    let (https, mqtts) = (reached(about.https), reached(about.mqtts));
    let mut txt = HashMap::from([
        ("id".to_owned(), about.id.to_string()),
        ("fp".to_owned(), data_encoding::HEXLOWER.encode(&about.ca_sha256)),
        ("v".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    let mut out = Vec::new();
    let mut add = |kind: &str, at: SocketAddr, txt: &HashMap<String, String>| -> mdns_sd::Result<()> {
        let host = format!("{}.", names.host);
        let mut info = ServiceInfo::new(kind, &names.instance, &host, (), at.port(), txt.clone())?.enable_addr_auto();
        info.set_interfaces(vec![reach(at.ip())]);
        info.set_requires_probe(probe);
        out.push(info);
        Ok(())
    };
    if let Some(at) = mqtts {
        add(MQTT, at, &txt)?;
    }
    if let Some(at) = https {
        txt.insert("path".to_owned(), "/".to_owned());
        add(HTTPS, at, &txt)?;
        txt.remove("path");
    }
    if let Some(at) = https.or(mqtts) {
        let ports = [("https", https), ("mqtts", mqtts)];
        txt.extend(ports.into_iter().filter_map(|(key, at)| Some((key.to_owned(), at?.port().to_string()))));
        if https.is_some() {
            txt.insert("api".to_owned(), "/api/v1".to_owned());
        }
        add(HUB, at, &txt)?;
    }
    Ok(out)
}

/// Where a listener's address is reached: a wildcard everywhere, any other where it is.
fn reach(ip: IpAddr) -> IfKind {
    match ip.to_canonical() {
        IpAddr::V6(ip) if ip.is_unspecified() => IfKind::All,
        IpAddr::V4(ip) if ip.is_unspecified() => IfKind::IPv4,
        IpAddr::V4(ip) if ip.is_loopback() => IfKind::LoopbackV4,
        IpAddr::V6(ip) if ip.is_loopback() => IfKind::LoopbackV6,
        ip => IfKind::Addr(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(name: &str) -> About {
        let any = |port| Some(SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), port));
        About { name: name.into(), id: HubId::from_public_key(&[7; 32]), ca_sha256: [0xAB; 32], https: any(8443), mqtts: any(8883) }
    }

    fn names(name: &str, attempt: u32) -> (String, String) {
        let Names { instance, host } = Names::of(&about(name), attempt, 3);
        (instance, host)
    }

    #[test]
    fn a_taken_name_gets_a_number_and_in_the_end_the_hubs_id() {
        assert_eq!(names("Attic", 1), ("Attic".into(), "attic.local".into()));
        assert_eq!(names("Attic", 2), ("Attic-2".into(), "attic-2.local".into()));
        assert_eq!(names("Attic", 3), ("Attic-3".into(), "attic-3.local".into()));
        let id: String = about("x").id.to_string().chars().take(8).collect();
        assert_eq!(names("Attic", 4), (format!("Attic-{id}"), format!("attic-{id}.local")));
    }

    #[test]
    fn a_name_that_is_no_hosts_keeps_its_letters_for_people_and_fits_a_label() {
        let id: String = about("x").id.to_string().chars().take(8).collect();
        assert_eq!(names("Haus am Öhr", 1), ("Haus am Öhr".into(), format!("hearthkey-{id}.local")));
        assert_eq!(names("", 1).0, "hearthkey");
        let long = names(&"ü".repeat(60), 2);
        assert!(long.0.len() <= LABEL && long.0.ends_with("ü-2"), "{long:?}");
    }

    #[test]
    fn the_services_have_the_listeners_ports_and_say_whose_they_are() {
        let about = about("attic");
        let made = services(&about, &Names::of(&about, 1, 3), true, false).unwrap();
        let ports: Vec<_> = made.iter().map(|s| (s.get_type().to_owned(), s.get_port())).collect();
        assert_eq!(ports, [(MQTT.to_owned(), 8883), (HTTPS.to_owned(), 8443), (HUB.to_owned(), 8443)]);
        let hub = made.last().unwrap();
        assert_eq!(hub.get_property_val_str("id"), Some(about.id.to_string().as_str()));
        assert_eq!(hub.get_property_val_str("fp"), Some("ab".repeat(32).as_str()));
        assert_eq!((hub.get_property_val_str("mqtts"), hub.get_property_val_str("api")), (Some("8883"), Some("/api/v1")));
        assert_eq!(hub.get_hostname(), "attic.local.");
    }

    #[test]
    fn what_listens_on_loopback_is_not_told_to_the_network() {
        let here = |port| Some(SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port));
        let about = About { https: here(8443), mqtts: here(8883), ..about("attic") };
        let names = Names::of(&about, 1, 3);
        assert!(services(&about, &names, true, false).unwrap().is_empty());
        assert_eq!(services(&about, &names, true, true).unwrap().len(), 3);
    }
}
