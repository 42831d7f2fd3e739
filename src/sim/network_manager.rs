//! A stand-in for NetworkManager on a private bus: one Wi-Fi network that this machine is in, and its passphrase for
//! whoever asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};
use zbus::{Connection, fdo, interface};

const MANAGER: &str = "/org/freedesktop/NetworkManager";
const ACTIVE: &str = "/org/freedesktop/NetworkManager/ActiveConnection/7";
const SETTINGS: &str = "/org/freedesktop/NetworkManager/Settings/3";

type Sections = HashMap<String, HashMap<String, OwnedValue>>;

/// The network.
#[derive(Debug, Clone)]
pub struct Network {
    /// Its name.
    pub ssid: Vec<u8>,
    /// How it is protected, as NetworkManager says it (`wpa-psk`, `sae`, `wpa-eap`); nothing for an open one.
    pub key_mgmt: Option<&'static str>,
    /// The passphrase, when the system keeps it.
    pub passphrase: Option<String>,
    /// Whether the passphrase is told to nobody.
    pub guarded: bool,
}

/// A running NetworkManager; it ends with this.
#[derive(Debug)]
pub struct NetworkManager {
    _connection: Connection,
    asked: Arc<AtomicU32>,
}

impl NetworkManager {
    /// Starts on the bus at `address`.
    ///
    /// # Errors
    /// D-Bus.
    pub async fn start(address: &str, network: Network) -> zbus::Result<Self> {
        let asked = Arc::new(AtomicU32::new(0));
        let connection = zbus::connection::Builder::address(address)?
            .serve_at(MANAGER, Manager)?
            .serve_at(ACTIVE, Active)?
            .serve_at(SETTINGS, Settings { network, asked: Arc::clone(&asked) })?
            .name("org.freedesktop.NetworkManager")?
            .build()
            .await?;
        Ok(Self { _connection: connection, asked })
    }

    /// How often somebody has asked for the passphrase.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

fn path(text: &'static str) -> OwnedObjectPath {
    ObjectPath::from_static_str_unchecked(text).into()
}

struct Manager;

#[interface(name = "org.freedesktop.NetworkManager")]
impl Manager {
    #[zbus(property)]
    fn active_connections(&self) -> Vec<OwnedObjectPath> {
        vec![path(ACTIVE)]
    }

    #[zbus(property)]
    fn primary_connection(&self) -> OwnedObjectPath {
        path(ACTIVE)
    }
}

struct Active;

#[interface(name = "org.freedesktop.NetworkManager.Connection.Active")]
impl Active {
    #[zbus(property, name = "Type")]
    fn kind(&self) -> String {
        "802-11-wireless".to_owned()
    }

    #[zbus(property)]
    fn state(&self) -> u32 {
        2
    }

    #[zbus(property)]
    fn connection(&self) -> OwnedObjectPath {
        path(SETTINGS)
    }
}

struct Settings {
    network: Network,
    asked: Arc<AtomicU32>,
}

#[interface(name = "org.freedesktop.NetworkManager.Settings.Connection")]
impl Settings {
    fn get_settings(&self) -> fdo::Result<Sections> {
        let wireless = [("ssid", Value::from(self.network.ssid.clone())), ("mode", Value::from("infrastructure"))];
        let mut sections = HashMap::from([("802-11-wireless".to_owned(), section(wireless)?)]);
        if let Some(key_mgmt) = self.network.key_mgmt {
            let flags: u32 = if self.network.passphrase.is_some() { 0 } else { 1 };
            let security = [("key-mgmt", Value::from(key_mgmt)), ("psk-flags", Value::from(flags))];
            sections.insert("802-11-wireless-security".to_owned(), section(security)?);
        }
        Ok(sections)
    }

    fn get_secrets(&self, name: String) -> fdo::Result<Sections> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.network.guarded {
            return Err(fdo::Error::AccessDenied("Insufficient privileges".to_owned()));
        }
        let secrets = self.network.passphrase.clone().filter(|_| name == "802-11-wireless-security");
        let secrets = secrets.ok_or_else(|| fdo::Error::Failed("no secrets".to_owned()))?;
        Ok(HashMap::from([(name, section([("psk", Value::from(secrets))])?)]))
    }
}

fn section<'a>(values: impl IntoIterator<Item = (&'static str, Value<'a>)>) -> fdo::Result<HashMap<String, OwnedValue>> {
    let owned = |value: Value<'a>| value.try_to_owned().map_err(|error| fdo::Error::Failed(error.to_string()));
    values.into_iter().map(|(name, value)| Ok((name.to_owned(), owned(value)?))).collect()
}
