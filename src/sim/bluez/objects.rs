//! The objects of BlueZ on the bus: thin, each looks at the world when it is asked. One task shows what has changed, in
//! the order in which it came true.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zbus::message::Header;
use zbus::names::InterfaceName;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};
use zbus::{Connection, fdo, interface};

use super::AirError;
use super::shown::{Change, CharacteristicView, DeviceView, Object};
use super::world::{Power, World, lock};

/// How often a connection that hangs looks whether it still may.
const STILL_CONNECTING: std::time::Duration = std::time::Duration::from_millis(20);

/// Errors as BlueZ names them.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.bluez.Error")]
pub(super) enum BluezError {
    #[zbus(error)]
    ZBus(zbus::Error),
    Failed(String),
    NotReady(String),
    InProgress(String),
    AlreadyConnected(String),
    NotConnected(String),
    NotPermitted(String),
    NotSupported(String),
    InvalidArguments(String),
    InvalidValueLength(String),
    DoesNotExist(String),
}

/// A running BlueZ.
pub(super) struct Daemon {
    connection: Connection,
    ended: CancellationToken,
}

type Shared = Arc<Mutex<World>>;
type Options = HashMap<String, OwnedValue>;

impl Daemon {
    pub(super) async fn start(address: &str, world: &Shared) -> Result<Self, AirError> {
        let connection = zbus::connection::Builder::address(address)?.serve_at("/", fdo::ObjectManager)?.build().await?;
        let left = fdo::DBusProxy::new(&connection).await?.receive_name_owner_changed().await?;
        let changes = lock(world).daemon_started(world);
        let ended = CancellationToken::new();
        tokio::spawn(show(connection.clone(), Arc::clone(world), changes, ended.clone()));
        tokio::spawn(watch(left, Arc::clone(world), ended.clone()));
        connection.request_name("org.bluez").await?;
        Ok(Self { connection, ended })
    }

    /// Dies at once: no object says goodbye.
    pub(super) async fn end(self) {
        self.ended.cancel();
        let _ = self.connection.clone().close().await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Shows what has changed, until the daemon ends.
async fn show(connection: Connection, world: Shared, mut changes: mpsc::UnboundedReceiver<Change>, ended: CancellationToken) {
    while let Some(Some(change)) = ended.run_until_cancelled(changes.recv()).await {
        let shown = ended.run_until_cancelled(show_one(&connection, &world, change)).await;
        if let Some(Err(error)) = shown {
            tracing::debug!(%error, "the stand-in for BlueZ could not show a change");
        }
    }
}

async fn show_one(connection: &Connection, world: &Shared, change: Change) -> zbus::Result<()> {
    let server = connection.object_server();
    let world = || Arc::clone(world);
    match change {
        Change::Appeared(object) => {
            let path = object.path();
            match object {
                Object::Adapter { adapter } => server.at(path, AdapterObject { adapter, world: world() }).await?,
                Object::Device { adapter, address } => server.at(path, DeviceObject { adapter, address, world: world() }).await?,
                Object::Service { adapter, address, index } => {
                    server.at(path, ServiceObject { adapter, address, index, world: world() }).await?
                }
                Object::Characteristic { ref address, service, index, .. } => {
                    let address = address.clone();
                    server.at(path, CharacteristicObject { object, address, service, index, world: world() }).await?
                }
            };
            Ok(())
        }
        Change::Vanished(object) => {
            let path = object.path();
            match object {
                Object::Adapter { .. } => server.remove::<AdapterObject, _>(path).await?,
                Object::Device { .. } => server.remove::<DeviceObject, _>(path).await?,
                Object::Service { .. } => server.remove::<ServiceObject, _>(path).await?,
                Object::Characteristic { .. } => server.remove::<CharacteristicObject, _>(path).await?,
            };
            Ok(())
        }
        Change::Properties { path, interface, values, invalid } => {
            let emitter = SignalEmitter::new(connection, path)?;
            let values = values.iter().map(|(name, value)| Ok((*name, Value::try_from(value)?)));
            let values = values.collect::<zbus::Result<HashMap<&str, Value<'_>>>>()?;
            let interface = InterfaceName::from_static_str(interface)?;
            fdo::Properties::properties_changed(&emitter, interface, values, Cow::Owned(invalid)).await
        }
    }
}

/// Notes which clients leave the bus.
async fn watch(mut left: fdo::NameOwnerChangedStream, world: Shared, ended: CancellationToken) {
    while let Some(Some(change)) = ended.run_until_cancelled(left.next()).await {
        if let Ok(change) = change.args()
            && change.new_owner().is_none()
        {
            lock(&world).client_left(change.name().as_str());
        }
    }
}

struct AdapterObject {
    adapter: String,
    world: Shared,
}

#[interface(name = "org.bluez.Adapter1")]
impl AdapterObject {
    #[zbus(property(emits_changed_signal = "const"))]
    fn address(&self) -> String {
        lock(&self.world).adapter_address(&self.adapter)
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn address_type(&self) -> String {
        "public".to_owned()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        format!("air {}", self.adapter)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn alias(&self) -> String {
        format!("air {}", self.adapter)
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn modalias(&self) -> String {
        "usb:v1D6Bp0246d0542".to_owned()
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn class(&self) -> u32 {
        0
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn powered(&self) -> bool {
        lock(&self.world).power(&self.adapter) == Power::On
    }

    #[zbus(property)]
    fn set_powered(&self, on: bool) -> fdo::Result<()> {
        lock(&self.world).power_asked(&self.adapter, on).map_err(|why| fdo::Error::Failed(why.to_owned()))
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn power_state(&self) -> String {
        lock(&self.world).power(&self.adapter).state().to_owned()
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn discoverable(&self) -> bool {
        false
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn discovering(&self) -> bool {
        lock(&self.world).discovering(&self.adapter)
    }

    #[zbus(property(emits_changed_signal = "false"), name = "UUIDs")]
    fn uuids(&self) -> Vec<String> {
        Vec::new()
    }

    fn set_discovery_filter(&self, filter: Options) -> Result<(), BluezError> {
        let texts = match filter.get("UUIDs") {
            None => Vec::new(),
            Some(value) => Vec::<String>::try_from(value.clone()).map_err(|_| BluezError::InvalidArguments("Invalid arguments".into()))?,
        };
        let uuids: Result<Vec<Uuid>, _> = texts.iter().map(|text| Uuid::parse_str(text)).collect();
        let uuids = uuids.map_err(|_| BluezError::InvalidArguments("Invalid arguments".into()))?;
        lock(&self.world).set_filter(&self.adapter, uuids)
    }

    fn get_discovery_filters(&self) -> Vec<String> {
        ["UUIDs", "RSSI", "Pathloss", "Transport", "DuplicateData"].map(str::to_owned).to_vec()
    }

    fn start_discovery(&self, #[zbus(header)] header: Header<'_>) -> Result<(), BluezError> {
        lock(&self.world).seek(&self.adapter, &sender(&header))
    }

    fn stop_discovery(&self, #[zbus(header)] header: Header<'_>) -> Result<(), BluezError> {
        lock(&self.world).stop_seeking(&self.adapter, &sender(&header))
    }

    fn remove_device(&self, path: OwnedObjectPath) -> Result<(), BluezError> {
        let mut world = lock(&self.world);
        let address = world.at_path(&self.adapter, path.as_str()).ok_or_else(|| BluezError::DoesNotExist("Does Not Exist".into()))?;
        world.forget(&self.adapter, &address);
        Ok(())
    }
}

struct DeviceObject {
    adapter: String,
    address: String,
    world: Shared,
}

impl DeviceObject {
    fn view(&self) -> fdo::Result<DeviceView> {
        lock(&self.world).device(&self.adapter, &self.address).ok_or_else(absent)
    }
}

#[interface(name = "org.bluez.Device1")]
impl DeviceObject {
    #[zbus(property(emits_changed_signal = "const"))]
    fn address(&self) -> String {
        self.address.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn address_type(&self) -> String {
        "random".to_owned()
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn name(&self) -> fdo::Result<String> {
        self.view()?.name.ok_or_else(absent)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn alias(&self) -> fdo::Result<String> {
        Ok(self.view()?.name.unwrap_or_else(|| self.address.replace(':', "-")))
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn adapter(&self) -> fdo::Result<OwnedObjectPath> {
        object_path(&Object::Adapter { adapter: self.adapter.clone() })
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn paired(&self) -> bool {
        false
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn bonded(&self) -> bool {
        false
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn trusted(&self) -> bool {
        false
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn blocked(&self) -> bool {
        false
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn legacy_pairing(&self) -> bool {
        false
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn connected(&self) -> fdo::Result<bool> {
        Ok(self.view()?.connected)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn services_resolved(&self) -> fdo::Result<bool> {
        Ok(self.view()?.resolved)
    }

    #[zbus(property(emits_changed_signal = "false"), name = "RSSI")]
    fn rssi(&self) -> fdo::Result<i16> {
        self.view()?.rssi.ok_or_else(absent)
    }

    #[zbus(property(emits_changed_signal = "false"), name = "UUIDs")]
    fn uuids(&self) -> fdo::Result<Vec<String>> {
        Ok(self.view()?.uuids)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn service_data(&self) -> fdo::Result<HashMap<String, OwnedValue>> {
        let owned = |bytes: Vec<u8>| Value::from(bytes).try_to_owned().map_err(|error| fdo::Error::Failed(error.to_string()));
        self.view()?.service_data.into_iter().map(|(uuid, bytes)| Ok((uuid, owned(bytes)?))).collect()
    }

    async fn connect(&self) -> Result<(), BluezError> {
        let connected = lock(&self.world).connect(&self.adapter, &self.address)?;
        if !connected {
            // Whoever waits here has a deadline, or none; RemoveDevice ends it, as in the real one.
            while lock(&self.world).connecting(&self.adapter, &self.address) {
                tokio::time::sleep(STILL_CONNECTING).await;
            }
            return Err(BluezError::Failed("le-connection-abort-by-local".into()));
        }
        Ok(())
    }

    fn disconnect(&self) -> Result<(), BluezError> {
        if lock(&self.world).disconnect(&self.address) { Ok(()) } else { Err(BluezError::NotConnected("Not Connected".into())) }
    }
}

struct ServiceObject {
    adapter: String,
    address: String,
    index: usize,
    world: Shared,
}

#[interface(name = "org.bluez.GattService1")]
impl ServiceObject {
    #[zbus(property(emits_changed_signal = "const"), name = "UUID")]
    fn uuid(&self) -> fdo::Result<String> {
        Ok(lock(&self.world).service(&self.address, self.index).ok_or_else(absent)?.to_string())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn primary(&self) -> bool {
        true
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn device(&self) -> fdo::Result<OwnedObjectPath> {
        object_path(&Object::Device { adapter: self.adapter.clone(), address: self.address.clone() })
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn includes(&self) -> Vec<OwnedObjectPath> {
        Vec::new()
    }
}

struct CharacteristicObject {
    object: Object,
    address: String,
    service: usize,
    index: usize,
    world: Shared,
}

impl CharacteristicObject {
    fn view(&self) -> Option<CharacteristicView> {
        lock(&self.world).characteristic(&self.address, self.service, self.index)
    }

    /// The characteristic, when it can do that.
    fn able(&self, flags: &[&str]) -> Result<CharacteristicView, BluezError> {
        let view = self.view().ok_or_else(|| BluezError::DoesNotExist("Does Not Exist".into()))?;
        let able = view.flags.iter().any(|flag| flags.contains(flag));
        if able { Ok(view) } else { Err(BluezError::NotPermitted(format!("{} not permitted", flags.join(" or ")))) }
    }
}

#[interface(name = "org.bluez.GattCharacteristic1")]
impl CharacteristicObject {
    #[zbus(property(emits_changed_signal = "const"), name = "UUID")]
    fn uuid(&self) -> fdo::Result<String> {
        Ok(self.view().ok_or_else(absent)?.uuid.to_string())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn service(&self) -> fdo::Result<OwnedObjectPath> {
        match &self.object {
            Object::Characteristic { adapter, address, service, .. } => {
                object_path(&Object::Service { adapter: adapter.clone(), address: address.clone(), index: *service })
            }
            _ => Err(absent()),
        }
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn flags(&self) -> fdo::Result<Vec<String>> {
        Ok(self.view().ok_or_else(absent)?.flags.into_iter().map(str::to_owned).collect())
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn value(&self) -> fdo::Result<Vec<u8>> {
        Ok(self.view().ok_or_else(absent)?.value)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn notifying(&self) -> fdo::Result<bool> {
        self.view().filter(|view| view.flags.contains(&"notify")).map(|view| view.notifying).ok_or_else(absent)
    }

    #[zbus(property(emits_changed_signal = "false"), name = "MTU")]
    fn mtu(&self) -> fdo::Result<u16> {
        Ok(self.view().ok_or_else(absent)?.mtu)
    }

    fn read_value(&self, _options: Options) -> Result<Vec<u8>, BluezError> {
        let view = self.able(&["read"])?;
        lock(&self.world).read(&self.address, &self.object, view.uuid)
    }

    fn write_value(&self, value: Vec<u8>, options: Options) -> Result<(), BluezError> {
        let kind = options.get("type").and_then(|kind| String::try_from(kind.clone()).ok());
        let view = match kind.as_deref() {
            Some("command") => self.able(&["write-without-response"])?,
            Some("request") => self.able(&["write"])?,
            None => self.able(&["write", "write-without-response"])?,
            Some(_) => return Err(BluezError::NotSupported("Operation is not supported".into())),
        };
        if options.contains_key("offset") && options.get("offset").and_then(|offset| u16::try_from(offset.clone()).ok()) != Some(0) {
            return Err(BluezError::NotSupported("Operation is not supported".into()));
        }
        lock(&self.world).write(&self.address, view.uuid, &value)
    }

    fn start_notify(&self) -> Result<(), BluezError> {
        let view = self.able(&["notify"])?;
        lock(&self.world).notify(&self.address, &self.object, view.uuid, true)
    }

    fn stop_notify(&self) -> Result<(), BluezError> {
        let view = self.able(&["notify"])?;
        lock(&self.world).notify(&self.address, &self.object, view.uuid, false)
    }
}

fn sender(header: &Header<'_>) -> String {
    header.sender().map(ToString::to_string).unwrap_or_default()
}

fn object_path(object: &Object) -> fdo::Result<OwnedObjectPath> {
    OwnedObjectPath::try_from(object.path()).map_err(|error| fdo::Error::Failed(error.to_string()))
}

fn absent() -> fdo::Error {
    fdo::Error::InvalidArgs("No such property".to_owned())
}
