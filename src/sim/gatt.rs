//! What a simulated device is to a Bluetooth stack: a GATT server that advertises. The stand-in for BlueZ
//! (`sim::bluez`) and a real controller (`sim::peripheral`) drive it through [`GattDevice`]; what it says is
//! `sim::pairing`'s and `sim::improv`'s.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

/// A device with its GATT server. Calls come one at a time and return at once; what the device says later goes through
/// the [`Link`] of the connection.
pub trait GattDevice: Send {
    /// Its services; the same for as long as it lives.
    fn services(&self) -> Vec<Service>;

    /// What it advertises at the moment; nothing when it cannot be found or connected.
    fn advertised(&self) -> Option<Advertisement>;

    /// It is put where it can be found; `changed` is to be rung whenever [`GattDevice::advertised`] answers otherwise.
    fn plugged(&mut self, changed: Changed);

    /// A central connects.
    ///
    /// # Errors
    /// [`Refused`]: it takes no connection now.
    fn connected(&mut self, mtu: u16, link: Link) -> Result<(), Refused>;

    /// A central reads.
    ///
    /// # Errors
    /// [`Refused`]: there is nothing to read.
    fn read(&mut self, characteristic: Uuid) -> Result<Vec<u8>, Refused>;

    /// A central writes.
    ///
    /// # Errors
    /// [`Refused`]: the value is not taken.
    fn write(&mut self, characteristic: Uuid, value: &[u8]) -> Result<(), Refused>;

    /// A central subscribes to notifications, or no longer does.
    fn subscribed(&mut self, characteristic: Uuid, on: bool);

    /// The connection is gone.
    fn disconnected(&mut self);
}

/// The device does not do that now; the ATT error *unlikely error* or a refused connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device refuses")]
pub struct Refused;

/// A primary service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its characteristics, in order.
    pub characteristics: Vec<Characteristic>,
}

/// A characteristic and what can be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Characteristic {
    /// Its UUID.
    pub uuid: Uuid,
    /// It can be read.
    pub read: bool,
    /// It can be written, with response.
    pub write: bool,
    /// It can be written without response.
    pub write_without_response: bool,
    /// It notifies.
    pub notify: bool,
}

/// What a device sends to everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advertisement {
    /// Service UUIDs in the list of them.
    pub services: Vec<Uuid>,
    /// Service data by UUID.
    pub service_data: Vec<(Uuid, Vec<u8>)>,
}

/// What a device says on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// A characteristic has a new value: a notification, when the central has subscribed.
    Notify(Uuid, Vec<u8>),
    /// The device ends the connection.
    Disconnect,
}

/// The way from a device to the central, for one connection. Bounded: who says much awaits.
pub type Link = mpsc::Sender<Signal>;

/// Values on their way to a central.
pub const LINK_DEPTH: usize = 256;

/// The bell by which a device says that it advertises something else.
#[derive(Debug, Clone, Default)]
pub struct Changed(Arc<Notify>);

impl Changed {
    /// Rings.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits until it has rung since the last call.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

impl Characteristic {
    /// One that can be read.
    pub const fn readable(uuid: Uuid) -> Self {
        Self { uuid, read: true, write: false, write_without_response: false, notify: false }
    }

    /// One that takes writes with response, and no others.
    pub const fn writable(uuid: Uuid) -> Self {
        Self { uuid, read: false, write: true, write_without_response: false, notify: false }
    }

    /// One that notifies.
    pub const fn notifying(uuid: Uuid) -> Self {
        Self { uuid, read: false, write: false, write_without_response: false, notify: true }
    }

    /// The flags as BlueZ names them.
    pub fn flags(&self) -> Vec<&'static str> {
        [(self.read, "read"), (self.write_without_response, "write-without-response"), (self.write, "write"), (self.notify, "notify")]
            .into_iter()
            .filter_map(|(has, name)| has.then_some(name))
            .collect()
    }
}
