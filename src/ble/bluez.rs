//! The radio by way of BlueZ: btleplug over the system's D-Bus.
//!
//! The library's tasks live in a runtime of their own, on one thread: when the bus or the daemon is gone, or one of
//! those tasks has panicked, the runtime is dropped with all of them, and a new one made ([`Session`]). Any of its calls
//! may block for 30 s and more; each has a deadline here.

use super::bus::Bus;
use super::config::Config;
use super::radio::{Adapter, AdapterState, Heard, Link, Radio, RadioError, SIGHTINGS, Sighting};
use btleplug::api::{Central as _, CentralEvent, Characteristic, Manager as _, Peripheral as _, ScanFilter, ValueNotification, WriteType};
use btleplug::platform::{Adapter as Central, Manager, Peripheral};
use futures_util::{Stream, StreamExt};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use uuid::Uuid;

/// Longest connection of the library to the bus and its daemon.
const OPEN: Duration = Duration::from_secs(10);
/// How long is waited for what a device said just before its link broke.
const LAST_WORDS: Duration = Duration::from_millis(150);
/// Longest short call.
const CALL: Duration = Duration::from_secs(10);
/// Longest establishment of a connection; the daemon itself gives up after 20 to 40 s.
const CONNECT: Duration = Duration::from_secs(30);
/// Longest discovery of what the device offers.
const DISCOVER: Duration = Duration::from_secs(20);
/// How often, and how soon again, it is looked for characteristics that are not there yet.
const LOOKS: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// Values of a device that wait to be looked at; more wait in the library.
const VALUES: usize = 256;
/// How often it is asked whether the connection still holds: the library does not say when it is gone.
const ALIVE: Duration = Duration::from_secs(1);

/// The library, connected, and the adapter that is used.
struct Session {
    central: Central,
    name: String,
    /// Taken only when the session ends.
    runtime: Mutex<Option<Runtime>>,
    /// Something of it was seen to fail.
    broken: AtomicBool,
}

impl Session {
    async fn open(name: String) -> Result<Session, RadioError> {
        let failed = |reason: String| RadioError::Failed { step: "opening the adapter", reason };
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).max_blocking_threads(1).thread_name("bluetooth").enable_all().build();
        let session = Runtimed(Some(runtime.map_err(|e| failed(e.to_string()))?));
        let wanted = name.clone();
        // In the runtime: the first call blocks, and what it starts must stay there.
        let opening = session.handle()?.spawn(async move {
            let manager = Manager::new().await?;
            for central in manager.adapters().await? {
                let info = central.adapter_info().await?;
                if info.split(' ').next().is_some_and(|id| id.rsplit('/').next() == Some(wanted.as_str())) {
                    return Ok(Some(central));
                }
            }
            Ok::<_, btleplug::Error>(None)
        });
        let central = timeout(OPEN, opening).await.map_err(|_| RadioError::TimedOut("opening the adapter"))?;
        let central = central.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
        let central = central.ok_or_else(|| RadioError::Adapter(format!("{name} is not there")))?;
        Ok(Session { central, name, runtime: Mutex::new(session.release()), broken: AtomicBool::new(false) })
    }

    fn handle(&self) -> Result<Handle, RadioError> {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        runtime.as_ref().map(|r| r.handle().clone()).ok_or_else(|| RadioError::Gone("it was closed".into()))
    }

    /// Runs a call of the library in its runtime, with a deadline. A panic in it is an error like any other.
    async fn run<T, F>(&self, step: &'static str, limit: Duration, call: F) -> Result<T, RadioError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, btleplug::Error>> + Send + 'static,
    {
        let mut task = AbortOnDrop(self.handle()?.spawn(call));
        match timeout(limit, &mut task.0).await {
            Err(_) => Err(RadioError::TimedOut(step)),
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(reason(step, &error)),
            Ok(Err(error)) => {
                self.broken.store(true, Ordering::Relaxed);
                Err(RadioError::Gone(error.to_string()))
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

/// A runtime that is shut down without waiting, which is allowed everywhere.
struct Runtimed(Option<Runtime>);

impl Runtimed {
    fn handle(&self) -> Result<Handle, RadioError> {
        self.0.as_ref().map(|r| r.handle().clone()).ok_or_else(|| RadioError::Gone("it was closed".into()))
    }

    fn release(mut self) -> Option<Runtime> {
        self.0.take()
    }
}

impl Drop for Runtimed {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn reason(step: &'static str, error: &btleplug::Error) -> RadioError {
    match error {
        btleplug::Error::DeviceNotFound => RadioError::NotFound,
        other => RadioError::Failed { step, reason: other.to_string() },
    }
}

/// The radio.
pub struct Bluez {
    config: Config,
    bus: Bus,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    scan: Mutex<Option<AbortOnDrop<()>>>,
    /// The daemon was told to look for devices, and not yet to stop.
    discovering: AtomicBool,
    /// The adapter that was switched on, or found on: who switches it off afterwards is heeded.
    seen_on: Mutex<Option<String>>,
}

impl Bluez {
    /// A radio that is not looked at yet.
    #[must_use]
    pub fn new(config: Config) -> Bluez {
        Bluez {
            config,
            bus: Bus::new(),
            session: tokio::sync::Mutex::default(),
            scan: Mutex::default(),
            discovering: AtomicBool::new(false),
            seen_on: Mutex::default(),
        }
    }

    /// The session on the adapter, opened if there is none.
    async fn session(&self, name: Option<&str>) -> Result<Arc<Session>, RadioError> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref()
            && name.is_none_or(|name| name == session.name)
            && !session.broken.load(Ordering::Relaxed)
        {
            return Ok(session.clone());
        }
        *slot = None;
        let name = match name {
            Some(name) => name.to_owned(),
            None => self.bus.adapter(self.config.adapter.clone()).await.name.ok_or_else(|| RadioError::Adapter("there is none".into()))?,
        };
        let session = Arc::new(Session::open(name).await?);
        *slot = Some(session.clone());
        Ok(session)
    }

    /// Whether the session's own connection answers.
    async fn answers(&self, name: &str) -> bool {
        let Ok(session) = self.session(Some(name)).await else { return false };
        let central = session.central.clone();
        let answer = session.run("asking for the adapter", CALL, async move { central.adapter_info().await }).await;
        if answer.is_err() {
            session.broken.store(true, Ordering::Relaxed);
        }
        answer.is_ok()
    }

    /// An adapter that is off: switched on once, unless it has been on before.
    async fn power_on(&self, name: &str) -> AdapterState {
        let known = self.seen_on.lock().unwrap_or_else(PoisonError::into_inner).replace(name.to_owned());
        if !self.config.power_on || known.as_deref() == Some(name) {
            return AdapterState::Off;
        }
        match self.bus.power_on(name.to_owned()).await {
            Ok(true) => AdapterState::Starting,
            Ok(false) => {
                // Once it is no longer blocked, it is switched on.
                self.forget_adapter();
                AdapterState::Blocked
            }
            Err(error) => {
                tracing::warn!(%error, adapter = name, "the Bluetooth adapter could not be switched on");
                AdapterState::Off
            }
        }
    }

    fn forget_adapter(&self) {
        *self.seen_on.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Radio for Bluez {
    type Link = BluezLink;

    async fn adapter(&self) -> Adapter {
        let mut adapter = self.bus.adapter(self.config.adapter.clone()).await;
        let name = adapter.name.clone().unwrap_or_default();
        match adapter.state {
            AdapterState::Off => adapter.state = self.power_on(&name).await,
            AdapterState::Ready => {
                *self.seen_on.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.clone());
                if !self.answers(&name).await {
                    adapter.state = AdapterState::Starting;
                }
            }
            AdapterState::Blocked | AdapterState::NoAdapter | AdapterState::NoDaemon | AdapterState::NoBus => self.forget_adapter(),
            AdapterState::Starting => {}
        }
        if matches!(adapter.state, AdapterState::NoAdapter | AdapterState::NoDaemon | AdapterState::NoBus) {
            *self.session.lock().await = None;
        }
        adapter
    }

    async fn scan(&self) -> Result<mpsc::Receiver<Heard>, RadioError> {
        self.stop_scan().await;
        let session = self.session(None).await?;
        let central = session.central.clone();
        let events = session.run("listening", CALL, async move { central.events().await }).await?;
        // BlueZ and the kernel look for a filter's services in the list of services alone. A device that has room for its
        // service data, and not for the list as well, would never be heard: who listens picks what it is after.
        let filter = ScanFilter::default();
        let central = session.central.clone();
        self.discovering.store(true, Ordering::Relaxed);
        session.run("starting to look", CALL, async move { central.start_scan(filter).await }).await?;
        let (heard, sightings) = mpsc::channel(SIGHTINGS);
        // Holds no session: the end of its runtime ends it too.
        let task = session.handle()?.spawn(listen(session.central.clone(), events, heard));
        *self.scan.lock().unwrap_or_else(PoisonError::into_inner) = Some(AbortOnDrop(task));
        Ok(sightings)
    }

    async fn stop_scan(&self) {
        drop(self.scan.lock().unwrap_or_else(PoisonError::into_inner).take());
        if !self.discovering.load(Ordering::Relaxed) {
            return;
        }
        let session = self.session.lock().await.clone();
        if let Some(session) = session {
            let central = session.central.clone();
            let _ = session.run("stopping to look", CALL, async move { central.stop_scan().await }).await;
        }
        // Only now: whoever drops this while it waits leaves the stopping to the next one.
        self.discovering.store(false, Ordering::Relaxed);
    }

    async fn connect(&self, id: &str, service: u128, needed: &[u128]) -> Result<BluezLink, RadioError> {
        let session = self.session(None).await?;
        let central = session.central.clone();
        let all = session.run("finding the device", CALL, async move { central.peripherals().await }).await?;
        let peripheral = all.into_iter().find(|p| name_of(p) == id).ok_or(RadioError::NotFound)?;
        // From here on, whatever ends this also ends the connection.
        let mut link = BluezLink {
            session: session.clone(),
            bus: self.bus.clone(),
            peripheral,
            characteristics: BTreeSet::new(),
            service: Uuid::from_u128(service),
            notifications: None,
            alive: interval(ALIVE),
            open: true,
        };
        link.alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        match link.establish(needed).await {
            Ok(()) => Ok(link),
            Err(error) => {
                link.close().await;
                Err(error)
            }
        }
    }
}

/// By what a device is named here: its address, in hexadecimal.
fn name_of(peripheral: &Peripheral) -> String {
    format!("ble-{:012x}", u64::from(peripheral.address()))
}

type Events = Pin<Box<dyn Stream<Item = CentralEvent> + Send>>;
type Values = Pin<Box<dyn Stream<Item = ValueNotification> + Send>>;

/// Passes on what is heard now. The stream begins with all that the daemon remembers: of that, only what has a signal
/// strength is in the air at this moment.
async fn listen(central: Central, mut events: Events, heard: mpsc::Sender<Heard>) {
    while let Some(event) = events.next().await {
        let id = match event {
            CentralEvent::StateUpdate(_) => {
                if heard.send(Heard::Adapter).await.is_err() {
                    return;
                }
                continue;
            }
            CentralEvent::DeviceDiscovered(id)
            | CentralEvent::ServicesAdvertisement { id, .. }
            | CentralEvent::ServiceDataAdvertisement { id, .. }
            | CentralEvent::RssiUpdate { id, .. } => id,
            _ => continue,
        };
        let look = async {
            let peripheral = central.peripheral(&id).await.ok()?;
            let properties = peripheral.properties().await.ok()??;
            Some((peripheral, properties))
        };
        let Ok(Some((peripheral, properties))) = timeout(CALL, look).await else { continue };
        if properties.rssi.is_none() {
            continue;
        }
        let sighting = Sighting {
            id: name_of(&peripheral),
            name: properties.advertisement_name,
            // 127 means that it is not known (Bluetooth Core 5.4, vol. 4, part E, §7.7.65.2).
            signal: properties.rssi.filter(|rssi| *rssi != 127),
            services: properties.services.iter().map(Uuid::as_u128).collect(),
            data: properties.service_data.into_iter().map(|(uuid, data)| (uuid.as_u128(), data)).collect(),
        };
        match heard.try_send(Heard::Device(sighting)) {
            Err(mpsc::error::TrySendError::Closed(_)) => return,
            // It is heard again soon.
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
        }
    }
}

/// What a device says, and the task that passes it on.
struct Notifications {
    values: mpsc::Receiver<(u128, Vec<u8>)>,
    _task: AbortOnDrop<()>,
}

/// A connection by way of BlueZ.
pub struct BluezLink {
    session: Arc<Session>,
    bus: Bus,
    peripheral: Peripheral,
    characteristics: BTreeSet<Characteristic>,
    service: Uuid,
    notifications: Option<Notifications>,
    alive: Interval,
    open: bool,
}

impl BluezLink {
    async fn establish(&mut self, needed: &[u128]) -> Result<(), RadioError> {
        let peripheral = self.peripheral.clone();
        self.session.run("connecting", CONNECT, async move { peripheral.connect().await }).await?;
        // The daemon may say that all is found before all of it is on the bus.
        for _ in 0..LOOKS {
            let peripheral = self.peripheral.clone();
            self.session.run("discovering", DISCOVER, async move { peripheral.discover_services().await }).await?;
            self.characteristics = self.peripheral.characteristics().into_iter().filter(|c| c.service_uuid == self.service).collect();
            if needed.iter().all(|uuid| self.characteristic(*uuid).is_ok()) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(RadioError::Missing)
    }

    fn characteristic(&self, uuid: u128) -> Result<Characteristic, RadioError> {
        self.characteristics.iter().find(|c| c.uuid.as_u128() == uuid).cloned().ok_or(RadioError::Missing)
    }

    async fn is_connected(&self) -> bool {
        let peripheral = self.peripheral.clone();
        self.session.run("asking for the connection", CALL, async move { peripheral.is_connected().await }).await.unwrap_or(false)
    }
}

impl Link for BluezLink {
    fn mtu(&self) -> u16 {
        self.peripheral.mtu()
    }

    async fn read(&self, characteristic: u128) -> Result<Vec<u8>, RadioError> {
        let (peripheral, of) = (self.peripheral.clone(), self.characteristic(characteristic)?);
        self.session.run("reading", CALL, async move { peripheral.read(&of).await }).await
    }

    async fn write(&self, characteristic: u128, value: &[u8]) -> Result<(), RadioError> {
        let (peripheral, of) = (self.peripheral.clone(), self.characteristic(characteristic)?);
        let value = zeroize::Zeroizing::new(value.to_vec());
        self.session.run("writing", CALL, async move { peripheral.write(&of, &value, WriteType::WithResponse).await }).await
    }

    async fn listen(&mut self, characteristics: &[u128]) -> Result<(), RadioError> {
        let peripheral = self.peripheral.clone();
        let stream = self.session.run("listening", CALL, async move { peripheral.notifications().await }).await?;
        for uuid in characteristics {
            let (peripheral, of) = (self.peripheral.clone(), self.characteristic(*uuid)?);
            self.session.run("subscribing", CALL, async move { peripheral.subscribe(&of).await }).await?;
        }
        // What is read shows up as a notification as well: only what was asked for is one.
        let (wanted, service) = (characteristics.to_vec(), self.service);
        let (said, values) = mpsc::channel(VALUES);
        let task = self.session.handle()?.spawn(async move {
            let mut stream: Values = stream;
            while let Some(n) = stream.next().await {
                let uuid = n.uuid.as_u128();
                if n.service_uuid == service && wanted.contains(&uuid) && said.send((uuid, n.value)).await.is_err() {
                    return;
                }
            }
        });
        self.notifications = Some(Notifications { values, _task: AbortOnDrop(task) });
        Ok(())
    }

    async fn next(&mut self) -> Option<(u128, Vec<u8>)> {
        loop {
            let notified = async {
                match &mut self.notifications {
                    Some(notifications) => notifications.values.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                notification = notified => return notification,
                _ = self.alive.tick() => {}
            }
            if !self.is_connected().await {
                // What it said before it went may still be on its way.
                let notifications = self.notifications.as_mut()?;
                return timeout(LAST_WORDS, notifications.values.recv()).await.ok().flatten();
            }
        }
    }

    async fn close(mut self) {
        self.open = false;
        self.notifications = None;
        end(self.session.clone(), self.bus.clone(), self.peripheral.clone()).await;
    }
}

impl Drop for BluezLink {
    fn drop(&mut self) {
        if self.open
            && let Ok(handle) = Handle::try_current()
        {
            handle.spawn(end(self.session.clone(), self.bus.clone(), self.peripheral.clone()));
        }
    }
}

/// Disconnects, and lets the daemon forget the device: its objects, and what it has noted of services that the next
/// firmware may not have.
async fn end(session: Arc<Session>, bus: Bus, peripheral: Peripheral) {
    let address = peripheral.address().to_string();
    let _ = session.run("disconnecting", CALL, async move { peripheral.disconnect().await }).await;
    if let Err(error) = bus.forget(session.name.clone(), address).await {
        tracing::debug!(%error, "the Bluetooth service did not forget a device");
    }
}
