//! What can be set about the radio: `[bluetooth]`.
//!
//! Which D-Bus is the system's is not set here: libdbus reads `DBUS_SYSTEM_BUS_ADDRESS` when the process starts, and
//! takes `/run/dbus/system_bus_socket` without it.

use serde::{Deserialize, Serialize};

/// The radio.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether the hub uses Bluetooth at all. Without an adapter it does no harm.
    pub enabled: bool,
    /// The adapter, as BlueZ names it (`hci0`); the first one when nothing is said.
    pub adapter: Option<String>,
    /// Whether an adapter that is off is switched on when the hub first sees it. Who switches it off later is heeded.
    pub power_on: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { enabled: true, adapter: None, power_on: true }
    }
}
