//! The few calls on the system's D-Bus that the Bluetooth library has no words for: what adapters there are and why one
//! does not work, switching one on, forgetting a device. Each call has a connection of its own, made and ended on a
//! thread that may block, and at most [`AT_ONCE`] are under way.

use super::radio::{Adapter, AdapterState};
use dbus::arg::{PropMap, prop_cast};
use dbus::blocking::Connection;
use dbus::blocking::stdintf::org_freedesktop_dbus::Properties;
use dbus::channel::{BusType, Channel};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Calls at the same time.
const AT_ONCE: usize = 2;
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest wait for a whole call, with the connection before it.
const WHOLE: Duration = Duration::from_secs(15);

const BLUEZ: &str = "org.bluez";
const ADAPTER: &str = "org.bluez.Adapter1";
const DEVICE: &str = "org.bluez.Device1";

/// All objects of a service, their interfaces and properties.
type Objects = HashMap<dbus::Path<'static>, HashMap<String, PropMap>>;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BusError {
    /// There is no bus.
    #[error("no system D-Bus: {0}")]
    NoBus(String),
    /// Nobody has the name that was called.
    #[error("the service does not run")]
    NoService,
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// An error of the service: its name and what it says.
    #[error("{name}: {message}")]
    Failed {
        /// The name of the error.
        name: String,
        /// For a person.
        message: String,
    },
}

impl From<dbus::Error> for BusError {
    fn from(error: dbus::Error) -> Self {
        let name = error.name().unwrap_or_default();
        match name.strip_prefix("org.freedesktop.DBus.Error.") {
            Some("ServiceUnknown" | "NameHasNoOwner") => BusError::NoService,
            Some(other) if other.starts_with("Spawn.") => BusError::NoService,
            Some("NoReply" | "Timeout" | "TimedOut") => BusError::TimedOut,
            Some("Disconnected" | "NoServer") => BusError::NoBus(error.message().unwrap_or_default().to_owned()),
            _ => BusError::Failed { name: name.to_owned(), message: error.message().unwrap_or_default().to_owned() },
        }
    }
}

/// The way to the system's D-Bus.
#[derive(Clone)]
pub(super) struct Bus(Arc<Semaphore>);

impl Bus {
    pub(super) fn new() -> Bus {
        Bus(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Runs `calls` on a connection.
    pub(super) async fn call<T, F>(&self, calls: F) -> Result<T, BusError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, BusError> + Send + 'static,
    {
        let permits = self.0.clone();
        let whole = async move {
            let permit = permits.acquire_owned().await.map_err(|_| BusError::TimedOut)?;
            let done = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let channel = Channel::get_private(BusType::System);
                let connection = Connection::from(channel.map_err(|e| BusError::NoBus(e.message().unwrap_or_default().to_owned()))?);
                calls(&connection)
            });
            done.await.map_err(|error| BusError::Failed { name: "panic".into(), message: error.to_string() })?
        };
        timeout(WHOLE, whole).await.map_err(|_| BusError::TimedOut)?
    }

    /// The adapter of that name, or the first one.
    pub(super) async fn adapter(&self, wanted: Option<String>) -> Adapter {
        let found = self.call(|bus| adapters(&objects(bus)?)).await;
        let none = |state| Adapter { state, name: None };
        match found {
            Err(BusError::NoBus(_)) => none(AdapterState::NoBus),
            Err(BusError::NoService) => none(AdapterState::NoDaemon),
            Err(error) => {
                tracing::debug!(%error, "the Bluetooth service does not answer");
                none(AdapterState::Starting)
            }
            Ok(all) => {
                let found = all.into_iter().find(|a| wanted.is_none() || a.name == wanted);
                found.unwrap_or_else(|| none(AdapterState::NoAdapter))
            }
        }
    }

    /// Switches an adapter on; false when it is blocked.
    pub(super) async fn power_on(&self, adapter: String) -> Result<bool, BusError> {
        let set = move |bus: &Connection| {
            let proxy = bus.with_proxy(BLUEZ, format!("/org/bluez/{adapter}"), ANSWER);
            Ok(proxy.set(ADAPTER, "Powered", true)?)
        };
        match self.call(set).await {
            Ok(()) => Ok(true),
            Err(BusError::Failed { name, message }) if name.ends_with(".Blocked") || message.contains("rfkill") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets the daemon forget a device and all it has noted of it, unless a person has paired it with this machine.
    pub(super) async fn forget(&self, adapter: String, address: String) -> Result<(), BusError> {
        let forget = move |bus: &Connection| {
            let path = format!("/org/bluez/{adapter}/dev_{}", address.replace(':', "_"));
            let device = bus.with_proxy(BLUEZ, path.clone(), ANSWER);
            if device.get::<bool>(DEVICE, "Paired")? {
                return Ok(());
            }
            let path = dbus::Path::new(path).map_err(|message| BusError::Failed { name: "path".into(), message })?;
            let adapter = bus.with_proxy(BLUEZ, format!("/org/bluez/{adapter}"), ANSWER);
            Ok(adapter.method_call::<(), _, _, _>(ADAPTER, "RemoveDevice", (path,))?)
        };
        self.call(forget).await
    }
}

fn objects(bus: &Connection) -> Result<Objects, BusError> {
    let root = bus.with_proxy(BLUEZ, "/", ANSWER);
    let (objects,): (Objects,) = root.method_call("org.freedesktop.DBus.ObjectManager", "GetManagedObjects", ())?;
    Ok(objects)
}

/// The adapters by name.
fn adapters(objects: &Objects) -> Result<Vec<Adapter>, BusError> {
    let mut all: Vec<Adapter> = objects
        .iter()
        .filter_map(|(path, interfaces)| {
            let properties = interfaces.get(ADAPTER)?;
            let name = path.rsplit('/').next()?.to_owned();
            Some(Adapter { state: state_of(properties), name: Some(name) })
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// What BlueZ says of an adapter. Before 5.67 it had no `PowerState`, and a block shows only when it is switched on.
fn state_of(properties: &PropMap) -> AdapterState {
    let powered = prop_cast::<bool>(properties, "Powered").copied().unwrap_or_default();
    match prop_cast::<String>(properties, "PowerState").map(String::as_str) {
        Some("off-blocked") => AdapterState::Blocked,
        Some("off-enabling") => AdapterState::Starting,
        _ if powered => AdapterState::Ready,
        _ => AdapterState::Off,
    }
}
