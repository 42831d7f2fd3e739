//! A stand-in for BlueZ: `org.bluez` as a client of D-Bus sees it, on a private bus, with simulated devices in the air
//! around its adapters. It imitates what the real one does where clients stumble: objects that come with a connection
//! and go with it, reads that also appear as changes, values that are too long, adapters that vanish, a daemon that dies.
//!
//! [`Air`] is the hand that moves it all. The bus is `bus`, what is true `world`, and what D-Bus shows of it `shown` and `objects`.

pub(in crate::sim) mod bus;
mod objects;
mod shown;
mod world;

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::gatt::{Changed, GattDevice};
use bus::Bus;
use objects::Daemon;
use world::World;
pub use world::{Failing, Power};

/// A place with its own D-Bus, a BlueZ on it and devices in reach. When it is dropped, the bus ends.
pub struct Air {
    world: Arc<Mutex<World>>,
    bus: tokio::sync::Mutex<Bus>,
    address: String,
    daemon: tokio::sync::Mutex<Option<Daemon>>,
    ended: CancellationToken,
}

/// A simulated device as it lies somewhere.
pub struct Peripheral {
    /// The name it advertises.
    pub name: Option<String>,
    /// Its address, `AA:BB:CC:DD:EE:01`.
    pub address: String,
    /// The MTU it agrees to: 23 to 517.
    pub mtu: u16,
    /// How strongly it is heard, in dBm.
    pub rssi: i16,
    /// What it does.
    pub device: Box<dyn GattDevice>,
    /// What goes wrong between it and the adapter.
    pub failing: Failing,
}

/// Why the air cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum AirError {
    /// There is no D-Bus daemon.
    #[error("dbus-daemon is missing: install the package dbus")]
    NoBus,
    /// The D-Bus daemon does not start.
    #[error("dbus-daemon does not start: {0}")]
    Bus(String),
    /// The system gives no randomness for a name.
    #[error("no randomness: {0}")]
    Entropy(String),
    /// D-Bus.
    #[error("D-Bus: {0}")]
    DBus(#[from] zbus::Error),
    /// There is no such adapter or device.
    #[error("{0} is not there")]
    Absent(String),
    /// There is one of this name or address already.
    #[error("{0} is there already")]
    Taken(String),
    /// The MTU of a device is not from 23 to 517.
    #[error("{0} is no MTU: 23 to 517")]
    Mtu(u16),
}

impl Air {
    /// A bus with a BlueZ that has one adapter, `hci0`, switched on.
    ///
    /// # Errors
    /// [`AirError::NoBus`] says what to install.
    pub async fn start() -> Result<Self, AirError> {
        let air = Self::start_without_adapter().await?;
        air.add_adapter("hci0", Power::On)?;
        Ok(air)
    }

    /// The same without any adapter.
    ///
    /// # Errors
    /// As [`Air::start`].
    pub async fn start_without_adapter() -> Result<Self, AirError> {
        let bus = Bus::start().await?;
        let address = bus.address();
        let world = Arc::new(Mutex::new(World::default()));
        let daemon = Daemon::start(&address, &world).await?;
        let ended = CancellationToken::new();
        tokio::spawn(world::advertise(Arc::downgrade(&world), ended.clone()));
        Ok(Self { world, bus: tokio::sync::Mutex::new(bus), address, daemon: tokio::sync::Mutex::new(Some(daemon)), ended })
    }

    /// The address of the bus, for `DBUS_SYSTEM_BUS_ADDRESS`; the same after [`Air::kill_bus`] and [`Air::start_bus`].
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Plugs an adapter in: `hci0`, `hci1`, …
    ///
    /// # Errors
    /// [`AirError::Taken`].
    pub fn add_adapter(&self, name: &str, power: Power) -> Result<(), AirError> {
        world::lock(&self.world).add_adapter(name, power)
    }

    /// Pulls an adapter out: its connections end, and its objects vanish.
    ///
    /// # Errors
    /// [`AirError::Absent`].
    pub fn remove_adapter(&self, name: &str) -> Result<(), AirError> {
        world::lock(&self.world).remove_adapter(name)
    }

    /// Switches an adapter on or off, or blocks it as rfkill does: then it is off, and nobody can switch it on.
    ///
    /// # Errors
    /// [`AirError::Absent`].
    pub fn set_power(&self, name: &str, power: Power) -> Result<(), AirError> {
        world::lock(&self.world).set_power(name, power)
    }

    /// Whether an adapter is looking for devices.
    pub fn discovering(&self, name: &str) -> bool {
        world::lock(&self.world).discovering(name)
    }

    /// Puts a device in reach of all adapters.
    ///
    /// # Errors
    /// [`AirError::Taken`], [`AirError::Mtu`].
    pub fn add_device(&self, mut peripheral: Peripheral) -> Result<(), AirError> {
        let changed = Changed::default();
        peripheral.device.plugged(changed.clone());
        let address = peripheral.address.clone();
        let gone = world::lock(&self.world).add_device(peripheral)?;
        let world = Arc::downgrade(&self.world);
        tokio::spawn(async move {
            while gone.run_until_cancelled(changed.rung()).await.is_some() {
                let Some(world) = world.upgrade() else { return };
                world::lock(&world).advertise(&address);
            }
        });
        Ok(())
    }

    /// Takes a device away: its connection breaks, and BlueZ forgets it.
    ///
    /// # Errors
    /// [`AirError::Absent`].
    pub fn remove_device(&self, address: &str) -> Result<(), AirError> {
        world::lock(&self.world).remove_device(address)
    }

    /// Breaks the connection to a device, as when it goes out of reach for a moment. False when there was none.
    pub fn break_link(&self, address: &str) -> bool {
        world::lock(&self.world).disconnect(address)
    }

    /// Whether a device is connected.
    pub fn connected(&self, address: &str) -> bool {
        world::lock(&self.world).connected(address)
    }

    /// How strongly a device is heard from now on, in dBm.
    ///
    /// # Errors
    /// [`AirError::Absent`].
    pub fn set_rssi(&self, address: &str, rssi: i16) -> Result<(), AirError> {
        world::lock(&self.world).set_rssi(address, rssi)
    }

    /// What goes wrong with a device from now on.
    ///
    /// # Errors
    /// [`AirError::Absent`].
    pub fn set_failing(&self, address: &str, failing: Failing) -> Result<(), AirError> {
        world::lock(&self.world).set_failing(address, failing)
    }

    /// Kills BlueZ: its name and everything under it vanish without a word, and all connections break.
    pub async fn kill_daemon(&self) {
        if let Some(daemon) = self.daemon.lock().await.take() {
            world::lock(&self.world).daemon_died();
            daemon.end().await;
        }
    }

    /// Starts BlueZ again, if it does not run.
    ///
    /// # Errors
    /// [`AirError::DBus`]: the bus is not there.
    pub async fn start_daemon(&self) -> Result<(), AirError> {
        let mut daemon = self.daemon.lock().await;
        if daemon.is_none() {
            *daemon = Some(Daemon::start(&self.address, &self.world).await?);
        }
        Ok(())
    }

    /// Kills the bus, and BlueZ with it.
    pub async fn kill_bus(&self) {
        self.kill_daemon().await;
        self.bus.lock().await.kill().await;
    }

    /// Starts the bus again at the same address, and BlueZ on it.
    ///
    /// # Errors
    /// As [`Air::start`].
    pub async fn start_bus(&self) -> Result<(), AirError> {
        self.bus.lock().await.spawn().await?;
        self.start_daemon().await
    }
}

impl Drop for Air {
    fn drop(&mut self) {
        self.ended.cancel();
        world::lock(&self.world).daemon_died();
    }
}

impl std::fmt::Debug for Air {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Air").field("address", &self.address).finish_non_exhaustive()
    }
}
