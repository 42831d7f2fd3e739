//! The hub's own Wi-Fi network, for devices that are to join the same: from NetworkManager, over the system's D-Bus. The
//! passphrase is asked for only when the owners share it, for one pairing, and is held no longer. wpa_supplicant without
//! NetworkManager tells the name of its network and keeps the passphrase to itself.

use super::bus::{Bus, BusError};
use crate::domain::pairing::Wifi;
use crate::service::{PairingProblem, Service};
use dbus::Path;
use dbus::arg::{PropMap, RefArg, prop_cast};
use dbus::blocking::Connection;
use dbus::blocking::stdintf::org_freedesktop_dbus::Properties;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// How often the name of the network is looked up.
const LOOKED: Duration = Duration::from_secs(60);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);

const MANAGER: &str = "org.freedesktop.NetworkManager";
const MANAGER_PATH: &str = "/org/freedesktop/NetworkManager";
const ACTIVE: &str = "org.freedesktop.NetworkManager.Connection.Active";
const SETTINGS: &str = "org.freedesktop.NetworkManager.Settings.Connection";
const WIRELESS: &str = "802-11-wireless";
const SECURITY: &str = "802-11-wireless-security";
/// `NM_ACTIVE_CONNECTION_STATE_ACTIVATED`.
const ACTIVATED: u32 = 2;
/// `NM_SETTING_SECRET_FLAG_NONE`: the system keeps the secret, and not a person's session.
const KEPT_BY_SYSTEM: u32 = 0;

const SUPPLICANT: &str = "fi.w1.wpa_supplicant1";
const SUPPLICANT_PATH: &str = "/fi/w1/wpa_supplicant1";

type Sections = HashMap<String, PropMap>;

/// Why there is no network to hand on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WifiError {
    /// The owners do not share it.
    #[error("the owners do not share the hub's Wi-Fi")]
    NotShared,
    /// The hub is in no Wi-Fi, or nothing here manages one.
    #[error("the hub is in no Wi-Fi")]
    None,
    /// The passphrase is not to be had.
    #[error("the system does not tell the passphrase")]
    NotReadable,
    /// The network wants more than a passphrase.
    #[error("the network takes no passphrase")]
    Enterprise,
    /// D-Bus.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl From<dbus::Error> for WifiError {
    fn from(error: dbus::Error) -> Self {
        WifiError::Bus(error.into())
    }
}

impl WifiError {
    /// For the person who wanted it.
    pub(super) fn explain(&self) -> PairingProblem {
        let type_it = "Pair the device again, and type the name and the passphrase of the network.";
        let (code, detail, next) = match self {
            WifiError::NotShared => (
                "wifi_not_shared",
                "The hub may not hand its Wi-Fi to devices.",
                "An owner can allow it in the hub's settings. Or type the network by hand.",
            ),
            WifiError::None => ("no_system_wifi", "The hub is in no Wi-Fi network that it could hand on.", type_it),
            WifiError::NotReadable => ("no_system_wifi", "The system does not tell the hub the passphrase of its Wi-Fi.", type_it),
            WifiError::Enterprise => {
                ("no_system_wifi", "The hub's Wi-Fi wants more than a passphrase (802.1X).", "Give the device another network.")
            }
            WifiError::Bus(_) => ("no_system_wifi", "The hub did not learn its Wi-Fi from the system.", type_it),
        };
        PairingProblem::new(code, detail, next)
    }
}

/// Tells the service the name of the network that could be handed on, whenever it changes.
pub(super) async fn watch(service: Arc<Service>, bus: Bus, shutdown: CancellationToken) {
    loop {
        let found = tokio::select! {
            () = shutdown.cancelled() => return,
            found = name(&bus) => found,
        };
        service.system_wifi_changed(found);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOKED) => {}
        }
    }
}

/// The name of the network whose passphrase the system keeps; no secret is asked for.
pub(super) async fn name(bus: &Bus) -> Option<String> {
    let found = bus.call(|bus| Ok(current(bus).map(|network| (network.is_readable(), network.ssid)))).await;
    match found {
        Ok(Ok((true, ssid))) => Some(String::from_utf8_lossy(&ssid).into_owned()),
        _ => None,
    }
}

/// The network with its passphrase, if the owners share it.
pub(super) async fn secret(service: &Service, bus: &Bus) -> Result<Wifi, WifiError> {
    if !service.wifi_shared() { Err(WifiError::NotShared) } else { fetch(bus).await }
}

async fn fetch(bus: &Bus) -> Result<Wifi, WifiError> {
    bus.call(|bus| Ok(with_secret(bus))).await?
}

/// A network as the system knows it.
struct Network {
    ssid: Vec<u8>,
    /// Where its settings are; `None` when only wpa_supplicant knows of it.
    settings: Option<Path<'static>>,
    protection: Protection,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protection {
    Open,
    /// A passphrase, which the system keeps.
    Kept,
    /// A passphrase that is somebody else's affair.
    Elsewhere,
    Enterprise,
}

impl Network {
    fn is_readable(&self) -> bool {
        matches!(self.protection, Protection::Open | Protection::Kept)
    }
}

fn with_secret(bus: &Connection) -> Result<Wifi, WifiError> {
    let network = current(bus)?;
    let passphrase = match (network.protection, network.settings) {
        (Protection::Open, _) => Zeroizing::new(String::new()),
        (Protection::Enterprise, _) => return Err(WifiError::Enterprise),
        (Protection::Kept, Some(settings)) => {
            let proxy = bus.with_proxy(MANAGER, settings, ANSWER);
            let (secrets,): (Sections,) = match proxy.method_call(SETTINGS, "GetSecrets", (SECURITY,)) {
                Ok(secrets) => secrets,
                Err(error) => {
                    let error = BusError::from(error);
                    tracing::info!(%error, "NetworkManager does not tell the passphrase of the Wi-Fi; the hub needs the right to it");
                    return Err(WifiError::NotReadable);
                }
            };
            let found = secrets.get(SECURITY).and_then(|section| prop_cast::<String>(section, "psk"));
            let found = found.map(|psk| Zeroizing::new(psk.clone()));
            wipe(secrets);
            found.ok_or(WifiError::NotReadable)?
        }
        (Protection::Kept | Protection::Elsewhere, _) => return Err(WifiError::NotReadable),
    };
    Wifi::new(network.ssid, passphrase).map_err(|_| WifiError::NotReadable)
}

/// What came with the passphrase is overwritten; the library's own message is out of reach.
fn wipe(secrets: Sections) {
    for (_, section) in secrets {
        for (_, mut value) in section {
            if let Some(text) = dbus::arg::cast_mut::<String>(&mut *value.0) {
                zeroize::Zeroize::zeroize(text);
            }
        }
    }
}

/// The network the hub is in.
fn current(bus: &Connection) -> Result<Network, WifiError> {
    match by_manager(bus) {
        Err(WifiError::Bus(BusError::NoService)) => match by_supplicant(bus) {
            Err(WifiError::Bus(BusError::NoService)) => Err(WifiError::None),
            other => other,
        },
        other => other,
    }
}

fn by_manager(bus: &Connection) -> Result<Network, WifiError> {
    let manager = bus.with_proxy(MANAGER, MANAGER_PATH, ANSWER);
    let active: Vec<Path<'static>> = manager.get(MANAGER, "ActiveConnections")?;
    // The one that leads to the rest of the world first.
    let primary: Option<Path<'static>> = manager.get(MANAGER, "PrimaryConnection").ok();
    let (first, others): (Vec<_>, Vec<_>) = active.into_iter().partition(|path| Some(path) == primary.as_ref());
    for path in first.into_iter().chain(others) {
        let connection = bus.with_proxy(MANAGER, path, ANSWER);
        let kind: String = connection.get(ACTIVE, "Type")?;
        let state: u32 = connection.get(ACTIVE, "State")?;
        if kind != WIRELESS || state != ACTIVATED {
            continue;
        }
        let settings: Path<'static> = connection.get(ACTIVE, "Connection")?;
        let (sections,): (Sections,) = bus.with_proxy(MANAGER, settings.clone(), ANSWER).method_call(SETTINGS, "GetSettings", ())?;
        // A hub that spans a network of its own is in none.
        let mode = sections.get(WIRELESS).and_then(|s| prop_cast::<String>(s, "mode")).map(String::as_str);
        if matches!(mode, Some("ap" | "adhoc" | "mesh")) {
            continue;
        }
        let Some(ssid) = sections.get(WIRELESS).and_then(|s| prop_cast::<Vec<u8>>(s, "ssid")) else { continue };
        return Ok(Network { ssid: ssid.clone(), settings: Some(settings), protection: protection(sections.get(SECURITY)) });
    }
    Err(WifiError::None)
}

fn protection(section: Option<&PropMap>) -> Protection {
    let Some(section) = section else { return Protection::Open };
    let flags = section.get("psk-flags").and_then(|v| v.0.as_u64()).unwrap_or_default();
    match prop_cast::<String>(section, "key-mgmt").map(String::as_str) {
        Some("wpa-psk" | "sae") if flags == u64::from(KEPT_BY_SYSTEM) => Protection::Kept,
        Some("wpa-psk" | "sae") => Protection::Elsewhere,
        Some("owe") => Protection::Open,
        _ => Protection::Enterprise,
    }
}

fn by_supplicant(bus: &Connection) -> Result<Network, WifiError> {
    let interfaces: Vec<Path<'static>> = bus.with_proxy(SUPPLICANT, SUPPLICANT_PATH, ANSWER).get(SUPPLICANT, "Interfaces")?;
    for interface in interfaces {
        let proxy = bus.with_proxy(SUPPLICANT, interface, ANSWER);
        let network: Path<'static> = proxy.get("fi.w1.wpa_supplicant1.Interface", "CurrentNetwork")?;
        if &*network == "/" {
            continue;
        }
        let properties: PropMap = bus.with_proxy(SUPPLICANT, network, ANSWER).get("fi.w1.wpa_supplicant1.Network", "Properties")?;
        let Some(ssid) = prop_cast::<String>(&properties, "ssid") else { continue };
        let ssid = ssid.trim_matches('"').as_bytes().to_vec();
        let open = prop_cast::<String>(&properties, "key_mgmt").is_some_and(|k| k == "NONE");
        return Ok(Network { ssid, settings: None, protection: if open { Protection::Open } else { Protection::Elsewhere } });
    }
    Err(WifiError::None)
}
