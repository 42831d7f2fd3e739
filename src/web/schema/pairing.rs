//! Bodies about what is nearby and pairing with it, and about stock MQTT devices.

use super::{Device, Secret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The hub's Bluetooth radio.
#[derive(Debug, Serialize, ToSchema)]
pub struct Radio {
    /// `disabled`, `absent`, `off`, `blocked`, `starting` or `ready`.
    pub state: String,
    /// Which adapter.
    pub adapter: Option<String>,
    /// What is so, for a person.
    pub message: String,
    /// What to do next.
    pub next: String,
    /// Whether it looks around now.
    pub scanning: bool,
    /// The Wi-Fi that the hub is in.
    pub wifi: RadioWifi,
}

/// The Wi-Fi that the hub is in.
#[derive(Debug, Serialize, ToSchema)]
pub struct RadioWifi {
    /// Its name, if it is known.
    pub ssid: Option<String>,
    /// Whether the hub knows its passphrase.
    pub system: bool,
    /// Whether the owners allow that it is handed to devices.
    pub allowed: bool,
}

/// How long the radio looks around.
#[derive(Debug, Serialize, ToSchema)]
pub struct Scan {
    /// Until then, ms since 1970.
    pub until: u64,
}

/// What is nearby.
#[derive(Debug, Serialize, ToSchema)]
pub struct Nearby {
    /// The strongest first.
    pub things: Vec<NearbyThing>,
}

/// A thing nearby, as it calls itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct NearbyThing {
    /// By what it can be chosen.
    pub id: String,
    /// `hearthkey`, `improv` or `network`.
    pub kind: String,
    /// What it calls itself.
    pub name: String,
    /// How strong it is heard, dBm.
    pub signal: Option<i16>,
    /// `open`, `claimed`, `closed` or `unknown`: whether it can be paired now.
    pub state: String,
    /// When it was last heard, ms since 1970.
    pub seen: u64,
}

/// What shall be paired: a device by the code on its label, or a stock device nearby.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPairing {
    /// The code as it was typed, or the whole text of the QR code.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub code: Option<Secret>,
    /// The device, for a typed code.
    #[serde(default)]
    pub device_id: Option<String>,
    /// The thing nearby.
    #[serde(default)]
    pub nearby: Option<String>,
    /// What people will call it.
    #[serde(default)]
    pub name: Option<String>,
    /// Where it will be.
    #[serde(default)]
    pub room: Option<String>,
    /// The Wi-Fi it shall be given.
    #[serde(default)]
    pub wifi: Option<WifiChoice>,
}

/// The answer for a device that has not proved its key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PairingConfirmation {
    /// The Wi-Fi it shall be given, if another one than was asked for.
    #[serde(default)]
    pub wifi: Option<WifiChoice>,
}

/// The Wi-Fi that a device shall be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WifiChoice {
    /// Which one.
    #[serde(rename = "use")]
    pub which: WifiUse,
    /// The name of a given one, 1 to 32 bytes.
    #[serde(default)]
    pub ssid: Option<String>,
    /// Its passphrase, 8 to 64 bytes; empty for an open network. Never shown again.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    pub passphrase: Option<Secret>,
}

/// Which Wi-Fi.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WifiUse {
    /// None.
    None,
    /// The hub's own.
    System,
    /// The one that is given here.
    Given,
}

/// A pairing.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pairing {
    /// Its id.
    pub id: String,
    /// `hearthkey` or `improv`.
    pub kind: String,
    /// `queued`, `searching`, `connecting`, `proving`, `confirming`, `sending`, `joining`, `waiting`, `done`, `failed` or
    /// `cancelled`.
    pub step: String,
    /// Its place in the queue, from 1.
    pub position: Option<u64>,
    /// The device, once it is known.
    pub device_id: Option<String>,
    /// What people will call it.
    pub name: String,
    /// Where it will be.
    pub room: String,
    /// `attested`, `provisional` or `unattested`, once that is known.
    pub trust: Option<String>,
    /// Bytes sent, while something is being sent.
    pub sent: Option<u64>,
    /// Of so many.
    pub total: Option<u64>,
    /// Why it failed.
    pub problem: Option<PairingProblem>,
    /// Where a stock device says that it goes on.
    pub result_url: Option<String>,
    /// Whether what is sent to the device is encrypted on the air by the pairing itself.
    pub encrypted: bool,
    /// When it was asked for, ms since 1970.
    pub started: u64,
    /// When it last changed, ms since 1970.
    pub updated: u64,
}

/// Why a pairing failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct PairingProblem {
    /// A word for programs.
    pub code: String,
    /// What is so.
    pub detail: String,
    /// What to do next.
    pub next: String,
}

/// Pairings.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pairings {
    /// The newest first.
    pub pairings: Vec<Pairing>,
}

/// A stock MQTT device.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// What people will call it.
    pub name: String,
    /// Where it is.
    #[serde(default)]
    pub room: Option<String>,
}

/// What a stock device is set up with. Shown once.
#[derive(Serialize, ToSchema)]
pub struct MadeDevice {
    /// The device.
    pub device: Device,
    /// Its MQTT user name.
    pub username: String,
    /// Its MQTT password.
    pub password: String,
    /// The hub's host name or address.
    pub host: String,
    /// Its port for MQTT over TLS.
    pub port: u16,
    /// The hub's CA (PEM).
    pub ca: String,
    /// The same to be pasted.
    pub settings: DeviceSettings,
}

/// Settings to paste. They hold the password.
#[derive(Serialize, ToSchema)]
pub struct DeviceSettings {
    /// For ESPHome (YAML).
    pub esphome: String,
    /// For Tasmota (console).
    pub tasmota: String,
}
