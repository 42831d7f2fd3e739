//! What can be set about a hub. Every member has a default; an unknown one is an error.

use super::{ClockConfig, Handed};
use crate::net::Limits;
use crate::service::FirmwareConfig;
use crate::{backup, ble, broker, mdns, mirror, update, web};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The configuration of a hub.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the hub keeps its database and keys.
    pub data_dir: PathBuf,
    /// The hub's name in the house; `<name>.local` on the network.
    pub name: String,
    /// HTTPS: UI, REST, events, MQTT over WebSocket.
    pub https: Listen,
    /// Plain HTTP: only the page that hands out the CA, and redirects.
    pub http: Listen,
    /// MQTT over TLS.
    pub mqtts: Listen,
    /// MQTT without TLS, on loopback only; off unless switched on.
    pub mqtt: Listen,
    /// How far the box's clock is believed.
    pub clock: ClockConfig,
    /// The gate's bounds.
    pub broker: broker::Config,
    /// The web's bounds.
    pub web: web::Config,
    /// How the hub is found on the network.
    pub mdns: mdns::Config,
    /// The radio, for devices nearby.
    pub bluetooth: ble::Config,
    /// The way to the cloud that an owner has linked.
    pub cloud: mirror::Config,
    /// Firmware for devices.
    pub firmware: FirmwareConfig,
    /// New versions of this program.
    pub update: update::Config,
    /// Backups; where they go and when, an owner says on the page.
    pub backup: backup::Config,
    /// Sign-in and claim attempts of one address per minute, over all accounts.
    pub attempts_per_minute: u32,
    /// Where the service manager put credentials.
    pub credentials_dir: Option<PathBuf>,
    /// Brands to trust, with the fingerprint of their root: the word of whoever sets up the box.
    pub trust: BTreeMap<String, String>,
    /// Registry batches to take at start.
    pub import: Vec<PathBuf>,
    /// Whether the hub refuses to start when one of `trust` and `import` fails. Otherwise it is logged and counted, and
    /// the house goes on with what it knows.
    pub provision_strictly: bool,
    /// Whether the supervisor has started this program; not a setting.
    #[serde(skip)]
    pub supervised: bool,
    /// Sockets that the service manager has opened; not a setting.
    #[serde(skip)]
    pub handed: Handed,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data_dir: PathBuf::from("hearthkey-data"),
            name: "hearthkey".into(),
            https: Listen::on(8443),
            http: Listen::on(8080),
            mqtts: Listen::on(8883),
            mqtt: Listen { enabled: false, address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883), ..Listen::on(1883) },
            clock: ClockConfig::default(),
            broker: broker::Config::default(),
            web: web::Config::default(),
            mdns: mdns::Config::default(),
            bluetooth: ble::Config::default(),
            cloud: mirror::Config::default(),
            firmware: FirmwareConfig::default(),
            update: update::Config::default(),
            supervised: false,
            handed: Handed::default(),
            backup: backup::Config::default(),
            attempts_per_minute: 600,
            credentials_dir: None,
            trust: BTreeMap::new(),
            import: Vec::new(),
            provision_strictly: false,
        }
    }
}

/// One listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Whether it listens at all.
    pub enabled: bool,
    /// On which address and port; port 0 takes any free one.
    pub address: SocketAddr,
    /// Connections at the same time.
    pub max_connections: usize,
    /// Of these, from one address.
    pub max_per_ip: usize,
    /// Longest TLS handshake, in seconds.
    pub handshake_s: u64,
}

impl Default for Listen {
    fn default() -> Self {
        Listen::on(0)
    }
}

impl Listen {
    fn on(port: u16) -> Listen {
        Listen {
            enabled: true,
            address: SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            max_connections: 4_096,
            max_per_ip: 1_024,
            handshake_s: 10,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_connections: self.max_connections,
            max_per_ip: self.max_per_ip,
            handshake_timeout: Duration::from_secs(self.handshake_s),
            drain: Duration::from_secs(5),
        }
    }
}
