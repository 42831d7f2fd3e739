//! What D-Bus shows of the world: objects, their paths, and changes of them.

use std::collections::HashMap;

use uuid::Uuid;
use zbus::zvariant::{OwnedValue, Value};

/// What has changed for who looks through D-Bus.
#[derive(Debug)]
pub(super) enum Change {
    Appeared(Object),
    Vanished(Object),
    Properties { path: String, interface: &'static str, values: HashMap<&'static str, OwnedValue>, invalid: Vec<&'static str> },
}

/// An object of BlueZ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    Adapter { adapter: String },
    Device { adapter: String, address: String },
    Service { adapter: String, address: String, index: usize },
    Characteristic { adapter: String, address: String, service: usize, index: usize },
}

/// A device as D-Bus shows it.
pub(super) struct DeviceView {
    pub(super) name: Option<String>,
    pub(super) connected: bool,
    pub(super) resolved: bool,
    pub(super) rssi: Option<i16>,
    pub(super) uuids: Vec<String>,
    pub(super) service_data: HashMap<String, Vec<u8>>,
}

/// A characteristic as D-Bus shows it.
pub(super) struct CharacteristicView {
    pub(super) uuid: Uuid,
    pub(super) flags: Vec<&'static str>,
    pub(super) value: Vec<u8>,
    pub(super) notifying: bool,
    pub(super) mtu: u16,
}

impl Object {
    pub(super) fn path(&self) -> String {
        let device = |adapter: &str, address: &str| format!("/org/bluez/{adapter}/dev_{}", address.replace(':', "_"));
        match self {
            Self::Adapter { adapter } => format!("/org/bluez/{adapter}"),
            Self::Device { adapter, address } => device(adapter, address),
            Self::Service { adapter, address, index } => format!("{}/service{:04x}", device(adapter, address), 0x100 * (index + 1)),
            Self::Characteristic { adapter, address, service, index } => {
                let handle = 0x100 * (service + 1);
                format!("{}/service{handle:04x}/char{:04x}", device(adapter, address), handle + 1 + 3 * index)
            }
        }
    }

    /// A change of its properties.
    pub(super) fn changed(&self, values: HashMap<&'static str, OwnedValue>) -> Change {
        let interface = match self {
            Self::Adapter { .. } => "org.bluez.Adapter1",
            Self::Device { .. } => "org.bluez.Device1",
            Self::Service { .. } => "org.bluez.GattService1",
            Self::Characteristic { .. } => "org.bluez.GattCharacteristic1",
        };
        Change::Properties { path: self.path(), interface, values, invalid: Vec::new() }
    }
}

/// A value for D-Bus. It fails for open files alone, and there are none here.
pub(super) fn owned<'a>(value: impl Into<Value<'a>>) -> OwnedValue {
    value.into().try_to_owned().unwrap_or_else(|_| OwnedValue::from(false))
}
