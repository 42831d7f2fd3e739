//! New versions of this program, and the way back (`docs/update.md`).
//!
//! Two sides, which meet in a directory ([`places`]). The hub's side looks for a release, checks what its vendor signed ([`fetch`], [`unpack`],
//! [`desk`]) and leaves an order. The supervisor's side ([`supervise`], with [`ledger`]) is another process, whose program stays: it carries out
//! orders, one durable step at a time, starts the program that is to run, listens to what it says of itself ([`notify`]), and goes back to the one
//! before when the new one does not serve. It never trusts the directory: each program is checked against its release before it is started.

mod desk;
mod fetch;
mod habit;
mod ledger;
mod notify;
mod places;
mod snapshot;
mod supervise;
mod system;
mod unpack;

pub use desk::{Desk, Facts, Wish, check_release, get_release, order_release, order_roll_back};
pub use fetch::FetchError;
pub use ledger::{Ended, Ledger, Order, OrderKind, Outcome, Trial};
pub use notify::{closing, opening, recovering, serving, told_of_watchdog, watchdog};
pub use places::{PlaceError, Places};
pub use snapshot::{copy_whole, free_bytes};
pub use supervise::{SuperviseError, Supervised, Supervisor};
pub use system::{SystemDesk, SystemFacts};
pub use unpack::{UnpackError, check_program, unpack};

use crate::domain::release::Version;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What can be set about updates. Without `url` and `key` no packet leaves, and nothing is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether the hub looks for new versions by itself.
    pub enabled: bool,
    /// The vendor's manifest: an `https://` address.
    pub url: Option<String>,
    /// The vendor's Ed25519 public key, 64 hexadecimal digits. What another key has signed is not taken, from a file neither.
    pub key: Option<String>,
    /// A PEM file with authorities that are believed beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether a new version is installed by itself, in the window; otherwise an owner is told of it, and asked.
    pub automatic: bool,
    /// Hours of the day in which a version may be installed by itself, in the home's time zone: from, and until before. The
    /// same hour twice means always.
    pub window: (u8, u8),
    /// Hours between looks; each look comes up to a quarter of that later or sooner.
    pub interval_h: u64,
    /// Where versions lie; `update` in the data directory without it.
    pub dir: Option<PathBuf>,
    /// How long a start may take until the hub says that it serves, in seconds.
    pub ready_s: u64,
    /// For how long a new version has to serve without a fault until it stays, in seconds.
    pub healthy_s: u64,
    /// How often its health is asked for meanwhile, in seconds.
    pub health_every_s: u64,
    /// How often a new version is started until the one before comes back.
    pub starts: u32,
    /// The hub is ended and started again when it has not been heard for this long, in seconds.
    pub watchdog_s: u64,
    /// The largest bundle of the box's system that is taken, in millions of bytes.
    pub bundle_mb: u64,
    /// Where the D-Bus is on which RAUC is; without it the system's own.
    pub bus: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            enabled: false,
            url: None,
            key: None,
            ca_file: None,
            automatic: false,
            window: (2, 5),
            interval_h: 24,
            dir: None,
            ready_s: 90,
            healthy_s: 600,
            health_every_s: 20,
            starts: 2,
            watchdog_s: 60,
            bundle_mb: 1_024,
            bus: None,
        }
    }
}

impl Config {
    /// The vendor's key, if one is set.
    ///
    /// # Errors
    /// For a person: the setting is no key.
    pub fn vendor(&self) -> Result<Option<[u8; 32]>, &'static str> {
        let Some(text) = self.key.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Some).ok_or("update.key is not a public key: write the 64 hexadecimal digits that the vendor publishes")
    }

    /// Where versions lie.
    #[must_use]
    pub fn places(&self, data_dir: &std::path::Path) -> Places {
        Places::new(self.dir.clone().unwrap_or_else(|| data_dir.join("update")))
    }

    fn seconds(of: u64) -> Duration {
        // A year is as good as never, and no sum with it overflows.
        Duration::from_secs(of.clamp(1, 31_536_000))
    }
}

/// The version of this program; always there, as a test asks for.
#[must_use]
pub fn own_version() -> Option<Version> {
    Version::parse(env!("CARGO_PKG_VERSION")).ok()
}

/// Its place in the order of versions.
#[must_use]
pub fn own_rel() -> u64 {
    own_version().map_or(0, |version| version.rel())
}

/// For which machines this program was built, as a target triple.
#[must_use]
pub fn platform() -> &'static str {
    self_update::get_target()
}

/// Milliseconds since 1970 by the box's clock: for people to read, nothing is decided by it.
fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_a_version_and_knows_its_platform() {
        assert_eq!(own_version().unwrap().as_str(), env!("CARGO_PKG_VERSION"));
        assert!(own_rel() > 0);
        assert!(platform().contains('-'));
    }

    #[test]
    fn a_key_is_32_bytes_in_hexadecimal_or_an_error() {
        let with = |key: &str| Config { key: Some(key.to_owned()), ..Config::default() }.vendor();
        assert_eq!(with(&"0a".repeat(32)), Ok(Some([10; 32])));
        assert_eq!(with(&"0A".repeat(32)), Ok(Some([10; 32])));
        assert_eq!(with(""), Ok(None));
        assert!(with("0a").is_err() && with(&"zz".repeat(32)).is_err());
    }
}
