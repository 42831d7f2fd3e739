//! How a simulated device becomes its next version (`docs/protocol/firmware.md`): what it takes and refuses, its two places for an image, and
//! the start with the new one. `release` is what it checks, `slots` what lies on its flash, `update` what it does with an offer, and `fetch`
//! the download over HTTPS. When it speaks and to whom is `sim::device`'s.
//!
//! An image of a simulated device is one line of JSON, [`Program`], and then any bytes; see [`Program`] for the members.

mod event;
pub(super) mod fetch;
mod release;
mod slots;
#[cfg(test)]
mod tests;
pub(super) mod update;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

pub use event::{Event, Over};

/// What a device brings with it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The root key of its brand, which its maker put into it.
    pub root: [u8; 32],
    /// The release that it left the factory with.
    pub rel: u64,
    /// The version of that.
    pub version: String,
    /// The port of the hub's page for downloads over HTTPS; without it everything comes over MQTT.
    pub page_port: Option<u16>,
    /// What will go wrong, each once.
    pub faults: Vec<Fault>,
}

impl Options {
    /// A device that left the factory with release 1, version 1.0.0, and downloads over MQTT.
    #[must_use]
    pub fn new(root: [u8; 32]) -> Self {
        Self { root, rel: 1, version: "1.0.0".into(), page_port: None, faults: Vec::new() }
    }
}

/// Reads a brand's root key from the public file of its workshop (`brand.json`).
///
/// # Errors
/// What is wrong with the file.
pub fn read_root(path: &Path) -> Result<[u8; 32], String> {
    let at = |reason: String| format!("{}: {reason}", path.display());
    let text = std::fs::read(path).map_err(|error| at(error.to_string()))?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| at(error.to_string()))?;
    let key = value.get("root_public_key").and_then(serde_json::Value::as_str).unwrap_or_default();
    let key = BASE64URL_NOPAD.decode(key.as_bytes()).ok().and_then(|key| key.try_into().ok());
    key.ok_or_else(|| at("it has no root_public_key: give the brand.json of the workshop".into()))
}

/// What an image tells a simulated device to be: the first line of it, in JSON.
///
/// `{"hearthkey-device": 1, "version": "1.5.0", "healthy": false}` comes up and is not well. What is left out is as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Program {
    /// The form of this line, 1.
    #[serde(rename = "hearthkey-device")]
    pub form: u32,
    /// The version that it calls itself.
    pub version: String,
    /// Whether it finds itself well once it has reached the hub.
    #[serde(default = "yes")]
    pub healthy: bool,
    /// Whether it comes up at all.
    #[serde(default = "yes")]
    pub starts: bool,
    /// Whether it comes up and then hangs: nothing is heard of it until somebody pulls its plug.
    #[serde(default)]
    pub silent: bool,
}

const fn yes() -> bool {
    true
}

impl Program {
    /// Reads the first line of an image; nothing when that is no program.
    #[must_use]
    pub fn of(image: &[u8]) -> Option<Self> {
        let line = image.split(|byte| *byte == b'\n').next()?;
        serde_json::from_slice(line).ok().filter(|program: &Self| program.form == 1)
    }

    /// The image of a version that is well, filled up to `size` bytes.
    #[must_use]
    pub fn image(version: &str, size: usize) -> Vec<u8> {
        let mut image = format!("{}\n", serde_json::json!({"hearthkey-device": 1, "version": version})).into_bytes();
        let filling = (0u8..=250).cycle().take(size.saturating_sub(image.len()));
        image.extend(filling);
        image
    }
}

/// What goes wrong with an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The download ends for good when so many bytes are there.
    Download {
        /// Bytes.
        at: u64,
    },
    /// A bit of the image falls over on the flash.
    WrongHash,
    /// The flash has no room.
    NoRoom,
    /// It does not want to be updated.
    Refuse,
    /// The image cannot be written to where it would start from.
    Install,
    /// The new version finds itself not well, whatever the image says.
    Unhealthy,
    /// The new version comes up and hangs, whatever the image says.
    Silent,
    /// The power fails.
    Power(Step),
}

/// Where the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// When half of the image is there.
    Downloading,
    /// When all of it is there and checked, before anybody was told.
    Downloaded,
    /// When it has said that it installs, and has written nothing.
    Installing,
    /// When the new version is up, before it has found itself well.
    Trial,
    /// When the new version has found itself well, before anybody was told.
    Confirmed,
}

const FAULTS: [(&str, Fault); 11] = [
    ("wrong-hash", Fault::WrongHash),
    ("no-room", Fault::NoRoom),
    ("refuse", Fault::Refuse),
    ("install", Fault::Install),
    ("unhealthy", Fault::Unhealthy),
    ("silent", Fault::Silent),
    ("power@downloading", Fault::Power(Step::Downloading)),
    ("power@downloaded", Fault::Power(Step::Downloaded)),
    ("power@installing", Fault::Power(Step::Installing)),
    ("power@trial", Fault::Power(Step::Trial)),
    ("power@confirmed", Fault::Power(Step::Confirmed)),
];

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(at) = text.strip_prefix("download@") {
            return at.parse().map(|at| Self::Download { at }).map_err(|_| format!("{at} is no number of bytes"));
        }
        let known = FAULTS.iter().find(|(word, _)| *word == text).map(|(_, fault)| *fault);
        known.ok_or_else(|| {
            let words: Vec<&str> = FAULTS.iter().map(|(word, _)| *word).collect();
            format!("{text} is none of download@BYTES, {}", words.join(", "))
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Download { at } => write!(f, "download@{at}"),
            other => f.write_str(FAULTS.iter().find(|(_, fault)| fault == other).map_or("?", |(word, _)| word)),
        }
    }
}
