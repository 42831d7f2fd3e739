//! What is true in the air: adapters, devices, connections. What D-Bus is to show of it is queued as [`Change`]s in the
//! order in which it came true, and sent by `objects`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zbus::zvariant::{OwnedValue, Value};

use super::objects::BluezError;
use super::shown::{Change, CharacteristicView, DeviceView, Object, owned};
use super::{AirError, Peripheral};
use crate::sim::gatt::{Advertisement, LINK_DEPTH, Service, Signal};

/// How often a device is heard while an adapter listens.
const HEARD_EVERY: Duration = Duration::from_millis(200);

/// Whether an adapter works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Switched on.
    On,
    /// Switched off; a client may switch it on.
    Off,
    /// Blocked as by rfkill: off, and cannot be switched on.
    Blocked,
}

/// What goes wrong between an adapter and a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failing {
    /// So many attempts to connect fail first.
    pub connects: u32,
    /// Connecting never comes to an end.
    pub connecting_hangs: bool,
    /// It is connected, but its services are never found.
    pub unresolved: bool,
    /// So many connections find nothing: it is on the air before it has anything to offer, as after a restart.
    pub bare: u32,
    /// After so many writes in a connection the link breaks.
    pub link_breaks_after: Option<u32>,
    /// It is no longer heard: BlueZ still knows it, and nothing new comes.
    pub out_of_reach: bool,
}

#[derive(Default)]
pub(super) struct World {
    adapters: BTreeMap<String, Adapter>,
    devices: BTreeMap<String, Device>,
    daemon: Option<mpsc::UnboundedSender<Change>>,
    me: Weak<Mutex<World>>,
}

struct Adapter {
    address: String,
    power: Power,
    /// Clients that look for devices.
    seekers: BTreeSet<String>,
    /// UUIDs they look for; empty for everything.
    wanted: Vec<Uuid>,
}

struct Device {
    peripheral: Peripheral,
    services: Vec<Service>,
    /// Adapters whose BlueZ has an object for it.
    known_by: BTreeSet<String>,
    /// What was last heard of it.
    heard: Advertisement,
    link: Option<Connected>,
    values: HashMap<Uuid, Vec<u8>>,
    gone: CancellationToken,
}

struct Connected {
    adapter: String,
    resolved: bool,
    bare: bool,
    notifying: BTreeSet<Uuid>,
    writes: u32,
    ended: CancellationToken,
}

/// The world, also after a task died with it in its hands: it is the world of a test.
pub(super) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the devices be heard again and again while an adapter listens, as they are in life.
pub(super) async fn advertise(world: Weak<Mutex<World>>, ended: CancellationToken) {
    let mut ticker = tokio::time::interval(HEARD_EVERY);
    while ended.run_until_cancelled(ticker.tick()).await.is_some() {
        let Some(world) = world.upgrade() else { return };
        lock(&world).advertise_all();
    }
}

impl World {
    /// A BlueZ begins: it finds the adapters and knows no device. What it is to show comes through the receiver.
    pub(super) fn daemon_started(&mut self, me: &Arc<Mutex<World>>) -> mpsc::UnboundedReceiver<Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.me = Arc::downgrade(me);
        self.daemon = Some(sender);
        for adapter in self.adapters.keys().cloned().collect::<Vec<_>>() {
            self.change(Change::Appeared(Object::Adapter { adapter }));
        }
        receiver
    }

    pub(super) fn daemon_died(&mut self) {
        self.daemon = None;
        for address in self.devices.keys().cloned().collect::<Vec<_>>() {
            self.disconnect(&address);
        }
        self.devices.values_mut().for_each(|device| device.known_by.clear());
        for adapter in self.adapters.values_mut() {
            adapter.seekers.clear();
            adapter.wanted.clear();
        }
    }

    pub(super) fn add_adapter(&mut self, name: &str, power: Power) -> Result<(), AirError> {
        if self.adapters.contains_key(name) {
            return Err(AirError::Taken(name.to_owned()));
        }
        let number: u8 = name.trim_start_matches("hci").parse().unwrap_or(255);
        let adapter = Adapter { address: format!("00:AA:01:00:00:{number:02X}"), power, seekers: BTreeSet::new(), wanted: Vec::new() };
        self.adapters.insert(name.to_owned(), adapter);
        self.change(Change::Appeared(Object::Adapter { adapter: name.to_owned() }));
        Ok(())
    }

    pub(super) fn remove_adapter(&mut self, name: &str) -> Result<(), AirError> {
        self.leave_adapter(name);
        for address in self.devices.keys().cloned().collect::<Vec<_>>() {
            self.forget(name, &address);
        }
        self.adapters.remove(name).ok_or_else(|| AirError::Absent(name.to_owned()))?;
        self.change(Change::Vanished(Object::Adapter { adapter: name.to_owned() }));
        Ok(())
    }

    pub(super) fn set_power(&mut self, name: &str, power: Power) -> Result<(), AirError> {
        let adapter = self.adapters.get_mut(name).ok_or_else(|| AirError::Absent(name.to_owned()))?;
        let before = std::mem::replace(&mut adapter.power, power);
        if power != Power::On && before == Power::On {
            self.leave_adapter(name);
        }
        if power != before {
            let values = [("Powered", owned(power == Power::On)), ("PowerState", owned(power.state()))];
            self.adapter_changed(name, values.into_iter().collect());
        }
        Ok(())
    }

    /// A client switches an adapter on or off.
    pub(super) fn power_asked(&mut self, name: &str, on: bool) -> Result<(), &'static str> {
        match (self.adapters.get(name).map(|adapter| adapter.power), on) {
            (None, _) => Err("no such adapter"),
            (Some(Power::Blocked), true) => Err("Blocked through rfkill"),
            (Some(Power::Blocked), false) => Ok(()),
            (Some(_), on) => self.set_power(name, if on { Power::On } else { Power::Off }).map_err(|_| "no such adapter"),
        }
    }

    pub(super) fn adapter_address(&self, name: &str) -> String {
        self.adapters.get(name).map(|adapter| adapter.address.clone()).unwrap_or_default()
    }

    pub(super) fn power(&self, name: &str) -> Power {
        self.adapters.get(name).map_or(Power::Off, |adapter| adapter.power)
    }

    pub(super) fn discovering(&self, name: &str) -> bool {
        self.adapters.get(name).is_some_and(|adapter| !adapter.seekers.is_empty())
    }

    pub(super) fn set_filter(&mut self, name: &str, wanted: Vec<Uuid>) -> Result<(), BluezError> {
        let adapter = self.adapters.get_mut(name).ok_or_else(|| BluezError::DoesNotExist("Does Not Exist".into()))?;
        adapter.wanted = wanted;
        Ok(())
    }

    pub(super) fn seek(&mut self, name: &str, client: &str) -> Result<(), BluezError> {
        let adapter = self.adapters.get_mut(name).ok_or_else(|| BluezError::DoesNotExist("Does Not Exist".into()))?;
        if adapter.power != Power::On {
            return Err(BluezError::NotReady("Resource Not Ready".into()));
        }
        let first = adapter.seekers.is_empty();
        if !adapter.seekers.insert(client.to_owned()) {
            return Err(BluezError::InProgress("Operation already in progress".into()));
        }
        if first {
            self.adapter_changed(name, HashMap::from([("Discovering", owned(true))]));
        }
        self.advertise_all();
        Ok(())
    }

    pub(super) fn stop_seeking(&mut self, name: &str, client: &str) -> Result<(), BluezError> {
        let removed = self.adapters.get_mut(name).is_some_and(|adapter| adapter.seekers.remove(client));
        if !removed {
            return Err(BluezError::Failed("No discovery started".into()));
        }
        if !self.discovering(name) {
            self.stopped_discovering(name);
        }
        Ok(())
    }

    /// A client has left the bus: what it was looking for is no longer looked for.
    pub(super) fn client_left(&mut self, client: &str) {
        for name in self.adapters.keys().cloned().collect::<Vec<_>>() {
            let _ = self.stop_seeking(&name, client);
        }
    }

    pub(super) fn add_device(&mut self, peripheral: Peripheral) -> Result<CancellationToken, AirError> {
        let address = peripheral.address.clone();
        if self.devices.contains_key(&address) {
            return Err(AirError::Taken(address));
        }
        if !(23..=517).contains(&peripheral.mtu) {
            return Err(AirError::Mtu(peripheral.mtu));
        }
        let gone = CancellationToken::new();
        let device = Device {
            services: peripheral.device.services(),
            peripheral,
            known_by: BTreeSet::new(),
            heard: Advertisement::default(),
            link: None,
            values: HashMap::new(),
            gone: gone.clone(),
        };
        self.devices.insert(address.clone(), device);
        self.advertise(&address);
        Ok(gone)
    }

    pub(super) fn remove_device(&mut self, address: &str) -> Result<(), AirError> {
        self.disconnect(address);
        for adapter in self.adapters.keys().cloned().collect::<Vec<_>>() {
            self.forget(&adapter, address);
        }
        let device = self.devices.remove(address).ok_or_else(|| AirError::Absent(address.to_owned()))?;
        device.gone.cancel();
        Ok(())
    }

    pub(super) fn set_rssi(&mut self, address: &str, rssi: i16) -> Result<(), AirError> {
        self.devices.get_mut(address).ok_or_else(|| AirError::Absent(address.to_owned()))?.peripheral.rssi = rssi;
        self.advertise(address);
        Ok(())
    }

    pub(super) fn set_failing(&mut self, address: &str, failing: Failing) -> Result<(), AirError> {
        self.devices.get_mut(address).ok_or_else(|| AirError::Absent(address.to_owned()))?.peripheral.failing = failing;
        Ok(())
    }

    pub(super) fn connected(&self, address: &str) -> bool {
        self.devices.get(address).is_some_and(|device| device.link.is_some())
    }

    fn advertise_all(&mut self) {
        for address in self.devices.keys().cloned().collect::<Vec<_>>() {
            self.advertise(&address);
        }
    }

    /// A device is heard, by every adapter that listens.
    pub(super) fn advertise(&mut self, address: &str) {
        let Some(device) = self.devices.get_mut(address) else { return };
        let Some(heard) = device.peripheral.device.advertised() else { return };
        if device.link.is_some() || device.peripheral.failing.out_of_reach || self.daemon.is_none() {
            return;
        }
        let hears = |adapter: &&Adapter| {
            let wanted = |uuid: &Uuid| adapter.wanted.is_empty() || adapter.wanted.contains(uuid);
            adapter.power == Power::On && !adapter.seekers.is_empty() && (adapter.wanted.is_empty() || heard.services.iter().any(wanted))
        };
        let listening: Vec<String> = self.adapters.iter().filter(|(_, adapter)| hears(adapter)).map(|(name, _)| name.clone()).collect();
        if listening.is_empty() {
            return;
        }
        device.heard = heard;
        let rssi = device.peripheral.rssi;
        let view = DeviceView::of(device, true);
        let mut changes = Vec::new();
        for adapter in listening {
            let object = Object::Device { adapter: adapter.clone(), address: address.to_owned() };
            if device.known_by.insert(adapter) {
                changes.push(Change::Appeared(object));
            } else {
                let data: HashMap<String, Value<'_>> =
                    view.service_data.iter().map(|(uuid, bytes)| (uuid.clone(), Value::from(bytes.clone()))).collect();
                let values = [("RSSI", owned(rssi)), ("ServiceData", owned(data)), ("UUIDs", owned(view.uuids.clone()))];
                changes.push(object.changed(values.into_iter().collect()));
            }
        }
        changes.into_iter().for_each(|change| self.change(change));
    }

    /// Connects a device; its objects come, and then its services are resolved. False when that never comes to an end.
    pub(super) fn connect(&mut self, adapter: &str, address: &str) -> Result<bool, BluezError> {
        if self.power(adapter) != Power::On {
            return Err(BluezError::NotReady("Resource Not Ready".into()));
        }
        let device = self.devices.get_mut(address).ok_or_else(|| BluezError::DoesNotExist("Does Not Exist".into()))?;
        let aborted = || BluezError::Failed("le-connection-abort-by-local".into());
        match &device.link {
            Some(link) if link.adapter == adapter => return Err(BluezError::AlreadyConnected("Already Connected".into())),
            Some(_) => return Err(aborted()),
            None => {}
        }
        let failing = &mut device.peripheral.failing;
        if failing.connecting_hangs {
            return Ok(false);
        }
        if failing.connects > 0 {
            failing.connects -= 1;
            return Err(aborted());
        }
        if failing.out_of_reach || device.peripheral.device.advertised().is_none() {
            return Err(aborted());
        }
        let (unresolved, bare) = (failing.unresolved, failing.bare > 0);
        failing.bare -= u32::from(bare);
        let (sender, signals) = mpsc::channel(LINK_DEPTH);
        device.peripheral.device.connected(device.peripheral.mtu, sender).map_err(|_| aborted())?;
        let ended = CancellationToken::new();
        let (resolved, notifying, ended_too) = (!unresolved, BTreeSet::new(), ended.clone());
        let link = Connected { adapter: adapter.to_owned(), resolved, bare, notifying, writes: 0, ended: ended_too };
        device.link = Some(link);
        device.values.clear();
        let objects = device.gatt(adapter);
        let uuids = device.uuids();
        let object = Object::Device { adapter: adapter.to_owned(), address: address.to_owned() };
        self.change(object.changed(HashMap::from([("Connected", owned(true))])));
        if !unresolved {
            objects.into_iter().for_each(|object| self.change(Change::Appeared(object)));
            self.change(object.changed(HashMap::from([("UUIDs", owned(uuids)), ("ServicesResolved", owned(true))])));
        }
        tokio::spawn(listen(self.me.clone(), address.to_owned(), signals, ended));
        Ok(true)
    }

    /// Whether a connection that never comes about is still being made.
    pub(super) fn connecting(&self, adapter: &str, address: &str) -> bool {
        self.devices.get(address).is_some_and(|device| device.known_by.contains(adapter) && device.peripheral.failing.connecting_hangs)
    }

    /// Ends the connection of a device, whoever does it. False when there was none.
    pub(super) fn disconnect(&mut self, address: &str) -> bool {
        let Some(device) = self.devices.get_mut(address) else { return false };
        let objects = device.link.as_ref().map(|link| device.gatt(&link.adapter)).unwrap_or_default();
        let Some(link) = device.link.take() else { return false };
        link.ended.cancel();
        device.peripheral.device.disconnected();
        device.values.clear();
        let object = Object::Device { adapter: link.adapter, address: address.to_owned() };
        if link.resolved {
            self.change(object.changed(HashMap::from([("ServicesResolved", owned(false))])));
            objects.into_iter().rev().for_each(|object| self.change(Change::Vanished(object)));
        }
        self.change(object.changed(HashMap::from([("Connected", owned(false))])));
        true
    }

    pub(super) fn device(&self, adapter: &str, address: &str) -> Option<DeviceView> {
        let device = self.devices.get(address)?;
        Some(DeviceView::of(device, self.discovering(adapter) && !device.peripheral.failing.out_of_reach))
    }

    pub(super) fn service(&self, address: &str, index: usize) -> Option<Uuid> {
        Some(self.devices.get(address)?.services.get(index)?.uuid)
    }

    pub(super) fn characteristic(&self, address: &str, service: usize, index: usize) -> Option<CharacteristicView> {
        let device = self.devices.get(address)?;
        let characteristic = device.services.get(service)?.characteristics.get(index)?;
        Some(CharacteristicView {
            uuid: characteristic.uuid,
            flags: characteristic.flags(),
            value: device.values.get(&characteristic.uuid).cloned().unwrap_or_default(),
            notifying: device.link.as_ref().is_some_and(|link| link.notifying.contains(&characteristic.uuid)),
            mtu: device.peripheral.mtu,
        })
    }

    /// Reads; BlueZ also shows what was read as a change of the value.
    pub(super) fn read(&mut self, address: &str, object: &Object, uuid: Uuid) -> Result<Vec<u8>, BluezError> {
        let device = self.linked(address)?;
        let value = device.peripheral.device.read(uuid).map_err(|_| refused())?;
        device.values.insert(uuid, value.clone());
        self.change(object.changed(HashMap::from([("Value", owned(value.clone()))])));
        Ok(value)
    }

    pub(super) fn write(&mut self, address: &str, uuid: Uuid, value: &[u8]) -> Result<(), BluezError> {
        let device = self.linked(address)?;
        if value.len() > usize::from(device.peripheral.mtu) - 3 {
            return Err(BluezError::InvalidValueLength("Invalid Length".into()));
        }
        let breaks = device.peripheral.failing.link_breaks_after;
        let link = device.link.as_mut().ok_or_else(not_connected)?;
        link.writes += 1;
        if breaks.is_some_and(|after| link.writes > after) {
            self.disconnect(address);
            return Err(not_connected());
        }
        device.peripheral.device.write(uuid, value).map_err(|_| refused())
    }

    pub(super) fn notify(&mut self, address: &str, object: &Object, uuid: Uuid, on: bool) -> Result<(), BluezError> {
        let device = self.linked(address)?;
        let link = device.link.as_mut().ok_or_else(not_connected)?;
        let changed = if on { link.notifying.insert(uuid) } else { link.notifying.remove(&uuid) };
        if !changed {
            return if on {
                Err(BluezError::InProgress("In Progress".into()))
            } else {
                Err(BluezError::Failed("No notify session started".into()))
            };
        }
        device.peripheral.device.subscribed(uuid, on);
        self.change(object.changed(HashMap::from([("Notifying", owned(on))])));
        Ok(())
    }

    /// A device has a new value: what is to be shown of it, when somebody has subscribed.
    fn notified(&mut self, address: &str, uuid: Uuid, mut value: Vec<u8>) {
        let Some(device) = self.devices.get_mut(address) else { return };
        let Some(link) = device.link.as_ref().filter(|link| link.notifying.contains(&uuid)) else { return };
        // What does not fit into one notification is cut off.
        value.truncate(usize::from(device.peripheral.mtu) - 3);
        let found = device.gatt(&link.adapter).into_iter().find(|object| match object {
            Object::Characteristic { service, index, .. } => {
                device.services.get(*service).and_then(|s| s.characteristics.get(*index)).is_some_and(|c| c.uuid == uuid)
            }
            _ => false,
        });
        device.values.insert(uuid, value.clone());
        if let Some(object) = found {
            self.change(object.changed(HashMap::from([("Value", owned(value))])));
        }
    }

    fn linked(&mut self, address: &str) -> Result<&mut Device, BluezError> {
        self.devices.get_mut(address).filter(|device| device.link.is_some()).ok_or_else(not_connected)
    }

    /// An adapter goes: nothing is looked for, and no connection stays.
    fn leave_adapter(&mut self, name: &str) {
        let linked = |device: &Device| device.link.as_ref().is_some_and(|link| link.adapter == name);
        let gone: Vec<String> = self.devices.iter().filter(|(_, device)| linked(device)).map(|(address, _)| address.clone()).collect();
        gone.iter().for_each(|address| {
            self.disconnect(address);
        });
        if self.discovering(name) {
            if let Some(adapter) = self.adapters.get_mut(name) {
                adapter.seekers.clear();
            }
            self.stopped_discovering(name);
        }
    }

    fn stopped_discovering(&mut self, name: &str) {
        self.adapter_changed(name, HashMap::from([("Discovering", owned(false))]));
        let known: Vec<String> =
            self.devices.iter().filter(|(_, device)| device.known_by.contains(name)).map(|(address, _)| address.clone()).collect();
        for address in known {
            let path = Object::Device { adapter: name.to_owned(), address }.path();
            self.change(Change::Properties { path, interface: "org.bluez.Device1", values: HashMap::new(), invalid: vec!["RSSI"] });
        }
    }

    /// BlueZ forgets a device.
    pub(super) fn forget(&mut self, adapter: &str, address: &str) {
        let Some(device) = self.devices.get_mut(address) else { return };
        let here = device.link.as_ref().is_some_and(|link| link.adapter == adapter);
        if here {
            self.disconnect(address);
        }
        let known = self.devices.get_mut(address).is_some_and(|device| device.known_by.remove(adapter));
        if known {
            self.change(Change::Vanished(Object::Device { adapter: adapter.to_owned(), address: address.to_owned() }));
        }
    }

    /// The address of the device at an object path of this adapter.
    pub(super) fn at_path(&self, adapter: &str, path: &str) -> Option<String> {
        let here = |address: &&String| Object::Device { adapter: adapter.to_owned(), address: (*address).clone() }.path() == path;
        self.devices.iter().filter(|(_, device)| device.known_by.contains(adapter)).map(|(address, _)| address).find(here).cloned()
    }

    fn adapter_changed(&mut self, name: &str, values: HashMap<&'static str, OwnedValue>) {
        self.change(Object::Adapter { adapter: name.to_owned() }.changed(values));
    }

    fn change(&self, change: Change) {
        // Without a BlueZ nobody sees it.
        if let Some(daemon) = &self.daemon {
            let _ = daemon.send(change);
        }
    }
}

/// Carries what a device says, until its connection ends.
async fn listen(world: Weak<Mutex<World>>, address: String, mut signals: mpsc::Receiver<Signal>, ended: CancellationToken) {
    while let Some(Some(signal)) = ended.run_until_cancelled(signals.recv()).await {
        let Some(world) = world.upgrade() else { return };
        let mut world = lock(&world);
        if ended.is_cancelled() {
            return;
        }
        match signal {
            Signal::Notify(uuid, value) => world.notified(&address, uuid, value),
            Signal::Disconnect => {
                world.disconnect(&address);
            }
        }
    }
}

impl Device {
    /// Its GATT objects, services before their characteristics.
    fn gatt(&self, adapter: &str) -> Vec<Object> {
        if self.link.as_ref().is_some_and(|link| link.bare) {
            return Vec::new();
        }
        let (adapter, address) = (adapter.to_owned(), self.peripheral.address.clone());
        let mut objects = Vec::new();
        for (service, of) in self.services.iter().enumerate() {
            objects.push(Object::Service { adapter: adapter.clone(), address: address.clone(), index: service });
            for index in 0..of.characteristics.len() {
                objects.push(Object::Characteristic { adapter: adapter.clone(), address: address.clone(), service, index });
            }
        }
        objects
    }

    /// What it has, as advertised and as found.
    fn uuids(&self) -> Vec<String> {
        let found = self.services.iter().map(|service| service.uuid).filter(|_| self.link.as_ref().is_some_and(|link| !link.bare));
        let all: BTreeSet<String> = self.heard.services.iter().copied().chain(found).map(|uuid| uuid.to_string()).collect();
        all.into_iter().collect()
    }
}

impl DeviceView {
    fn of(device: &Device, heard: bool) -> Self {
        Self {
            name: device.peripheral.name.clone(),
            connected: device.link.is_some(),
            resolved: device.link.as_ref().is_some_and(|link| link.resolved),
            rssi: (heard && device.link.is_none()).then_some(device.peripheral.rssi),
            uuids: device.uuids(),
            service_data: device.heard.service_data.iter().map(|(uuid, data)| (uuid.to_string(), data.clone())).collect(),
        }
    }
}

impl Power {
    /// As the property `PowerState` says it.
    pub(super) fn state(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Blocked => "off-blocked",
        }
    }
}

fn not_connected() -> BluezError {
    BluezError::NotConnected("Not Connected".into())
}

fn refused() -> BluezError {
    BluezError::Failed("Operation failed with ATT error: 0x0e".into())
}
