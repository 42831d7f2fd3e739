//! A device's flash: the counters it has used, the credentials it holds, the commands it has run. Every change is on
//! the disk before it has an effect, and a power cut leaves either the old state or the new one, never half of one.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::identity::{Credential, HubId, MoveOrder};

/// Commands remembered: more than can be under way within their life of seconds.
const COMMANDS_KEPT: usize = 64;

/// The flash of one device; clones are the same flash.
#[derive(Debug, Clone)]
pub struct Flash {
    path: Option<PathBuf>,
    content: Arc<Mutex<Content>>,
}

/// Where a hub is, as it was said at pairing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// `host:port`, in the order to try.
    pub addresses: Vec<String>,
    /// Name and passphrase of the network that came with it, in base64url.
    wifi: Option<(String, String)>,
}

/// Why the flash could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// The disk.
    #[error("cannot keep the device's state in {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The file is no state of a device.
    #[error("{path} is no state of a simulated device: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The counter is at its end: 2⁶³−1 sign-ins have been made.
    #[error("no counter is left")]
    Exhausted,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Content {
    v: u32,
    /// How often the reset button was pressed.
    #[serde(default)]
    resets: u64,
    /// By hub id: a device that moves to another hub starts a new counter there, and finds the old one on its return.
    hubs: BTreeMap<String, HubContent>,
    /// The hub that it was last paired with.
    #[serde(default)]
    home: Option<String>,
    /// Ids of commands run, the oldest first.
    commands: VecDeque<String>,
    /// The number of the last order to move that was taken; whatever else is forgotten, this is not.
    #[serde(default)]
    rehomed: u64,
    /// The hub to which it led.
    #[serde(default)]
    moved_to: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct HubContent {
    /// The counter of the last token; 0 before the first.
    counter: u64,
    active: Option<Stored>,
    pending: Option<Stored>,
    #[serde(default)]
    place: Option<Place>,
    #[serde(default)]
    pending_place: Option<Place>,
    /// The CA certificate that an order to move has named: pinned before there is a credential.
    #[serde(default)]
    ca: Option<String>,
}

/// A credential as it lies in the file.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    ca: String,
    secret: String,
    claimed_at: u64,
}

impl Flash {
    /// The flash in the file `<device_id>.json` in `directory`, which is created if need be. A device without a file is
    /// a new one.
    ///
    /// # Errors
    /// [`FlashError::Io`], [`FlashError::Corrupt`].
    pub fn open(directory: &Path, device_id: &str) -> Result<Self, FlashError> {
        let path = directory.join(format!("{device_id}.json"));
        let content = match fs::create_dir_all(directory).and_then(|()| fs::read(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content { v: 1, ..Content::default() },
            Err(error) => return Err(FlashError::Io { path, error }),
            Ok(bytes) => {
                let corrupt = |reason: String| FlashError::Corrupt { path: path.clone(), reason };
                let content: Content = serde_json::from_slice(&Zeroizing::new(bytes)).map_err(|e| corrupt(e.to_string()))?;
                if content.v != 1 {
                    return Err(corrupt("only version 1 is known".into()));
                }
                for stored in content.hubs.values().flat_map(|hub| hub.active.iter().chain(&hub.pending)) {
                    stored.credential().ok_or_else(|| corrupt("a credential cannot be read".into()))?;
                }
                content
            }
        };
        Ok(Self { path: Some(path), content: Arc::new(Mutex::new(content)) })
    }

    /// A flash that forgets at the end of the process: for load tests.
    pub fn volatile() -> Self {
        Self { path: None, content: Arc::new(Mutex::new(Content { v: 1, ..Content::default() })) }
    }

    /// The last counter used at `hub`; 0 before the first.
    pub fn counter(&self, hub: HubId) -> u64 {
        self.read().hub_content(hub).map_or(0, |hub| hub.counter)
    }

    /// The credential in use.
    pub fn active(&self, hub: HubId) -> Option<Credential> {
        self.read().hub_content(hub)?.active.as_ref()?.credential()
    }

    /// A credential that has come and has not been used with success yet.
    pub fn pending(&self, hub: HubId) -> Option<Credential> {
        self.read().hub_content(hub)?.pending.as_ref()?.credential()
    }

    /// Takes the next counter for `hub`; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`FlashError::Exhausted`], [`FlashError::Io`]: then no counter was taken.
    pub fn next_counter(&mut self, hub: HubId) -> Result<u64, FlashError> {
        const LAST: u64 = i64::MAX as u64;
        let next = self.counter(hub).checked_add(1).filter(|next| *next <= LAST).ok_or(FlashError::Exhausted)?;
        self.change(|content| content.hub(hub).counter = next)?;
        Ok(next)
    }

    /// Sets the counter last used at `hub`, as a re-base agreed it (or as a lost flash would have it).
    ///
    /// # Errors
    /// [`FlashError::Io`].
    pub fn set_counter(&mut self, hub: HubId, counter: u64) -> Result<(), FlashError> {
        self.change(|content| content.hub(hub).counter = counter)
    }

    /// Puts a new credential beside the old one.
    ///
    /// # Errors
    /// [`FlashError::Io`].
    pub fn store_pending(&mut self, hub: HubId, credential: &Credential) -> Result<(), FlashError> {
        let stored = Stored::from(credential);
        self.change(|content| content.hub(hub).pending = Some(stored))
    }

    /// Puts what came by pairing beside what there is: a credential, and where its hub is.
    ///
    /// # Errors
    /// [`FlashError::Io`].
    pub fn store_paired(&mut self, hub: HubId, credential: &Credential, place: Place) -> Result<(), FlashError> {
        let stored = Stored::from(credential);
        self.change(|content| {
            let hub = content.hub(hub);
            hub.pending = Some(stored);
            hub.pending_place = Some(place);
        })
    }

    /// Notes at which of its addresses a hub was found: it is tried first from now on.
    ///
    /// # Errors
    /// [`FlashError::Io`].
    pub fn found_at(&mut self, hub: HubId, address: &str) -> Result<(), FlashError> {
        self.change(|content| {
            if let Some(place) = &mut content.hub(hub).place {
                place.addresses.sort_by_key(|known| known != address);
            }
        })
    }

    /// The hub that the device was last paired with, and where it is.
    pub fn home(&self) -> Option<(HubId, Place)> {
        let content = self.read();
        let hub = content.home.as_ref()?.parse().ok()?;
        Some((hub, content.hub_content(hub)?.place.clone()?))
    }

    /// What came by pairing and was neither made the device's own nor dropped.
    pub fn arriving(&self) -> Option<(HubId, Place)> {
        let content = self.read();
        let mut hubs = content.hubs.iter().filter(|(_, of)| of.pending.is_some());
        hubs.find_map(|(hub, of)| Some((hub.parse().ok()?, of.pending_place.clone()?)))
    }

    /// The number of the last order to move that was taken; 0 before the first.
    pub fn rehomed(&self) -> u64 {
        self.read().rehomed
    }

    /// The hub to which the device has moved, if it has.
    pub fn moved_to(&self) -> Option<HubId> {
        self.read().moved_to.as_ref()?.parse().ok()
    }

    /// The CA that an order has named for `hub`.
    pub fn ordered_ca(&self, hub: HubId) -> Option<Vec<u8>> {
        BASE64URL_NOPAD.decode(self.read().hub_content(hub)?.ca.as_ref()?.as_bytes()).ok()
    }

    /// Whether it is at home at `hub`: claimed there, or told to go there.
    pub fn belongs_to(&self, hub: HubId) -> bool {
        let content = self.read();
        content.hub_content(hub).is_some_and(|of| of.active.is_some() || of.pending.is_some() || of.ca.is_some())
    }

    /// Moves from one hub to another, in one step: the order's number, the new hub and its CA are kept, and what the old hub
    /// gave is forgotten.
    ///
    /// # Errors
    /// [`FlashError::Io`]: then it has not moved.
    pub fn move_to(&mut self, from: HubId, order: &MoveOrder) -> Result<(), FlashError> {
        self.change(|content| {
            content.rehomed = content.rehomed.max(order.counter);
            content.moved_to = Some(order.to.to_string());
            content.home = None;
            let old = content.hub(from);
            *old = HubContent { counter: old.counter, ..HubContent::default() };
            let new = content.hub(order.to);
            *new = HubContent { counter: new.counter, ca: Some(BASE64URL_NOPAD.encode(&order.ca)), ..HubContent::default() };
        })
    }

    /// Makes the pending credential the active one.
    ///
    /// # Errors
    /// [`FlashError::Io`].
    pub fn promote(&mut self, hub: HubId) -> Result<(), FlashError> {
        self.change(|content| {
            let of = content.hub(hub);
            let Some(pending) = of.pending.take() else { return };
            of.active = Some(pending);
            if let Some(place) = of.pending_place.take() {
                of.place = Some(place);
                content.home = Some(hub.to_string());
            }
        })
    }

    /// Forgets a pending credential that the hub does not take.
    ///
    /// # Errors
    /// [`FlashError::Io`].
    pub fn drop_pending(&mut self, hub: HubId) -> Result<(), FlashError> {
        self.change(|content| {
            let hub = content.hub(hub);
            hub.pending = None;
            hub.pending_place = None;
        })
    }

    /// The reset button: credentials for all hubs are forgotten, the reset is counted, counters stay.
    ///
    /// # Errors
    /// [`FlashError::Io`].
    pub fn reset(&mut self) -> Result<(), FlashError> {
        self.change(|content| {
            content.resets = content.resets.saturating_add(1);
            content.home = None;
            content.moved_to = None;
            for hub in content.hubs.values_mut() {
                *hub = HubContent { counter: hub.counter, ..HubContent::default() };
            }
        })
    }

    /// Everything is lost, as after a fault of the chip.
    ///
    /// # Errors
    /// [`FlashError::Io`].
    pub fn lose(&mut self) -> Result<(), FlashError> {
        self.change(|content| *content = Content { v: 1, ..Content::default() })
    }

    /// How often the reset button was pressed.
    pub fn resets(&self) -> u64 {
        self.read().resets
    }

    /// Notes that the command `id` is about to run. False when it has run before.
    ///
    /// # Errors
    /// [`FlashError::Io`]: then it must not run.
    pub fn first_time(&mut self, id: &str) -> Result<bool, FlashError> {
        if self.read().commands.iter().any(|known| known == id) {
            return Ok(false);
        }
        self.change(|content| {
            if content.commands.len() >= COMMANDS_KEPT {
                content.commands.pop_front();
            }
            content.commands.push_back(id.to_owned());
        })?;
        Ok(true)
    }

    fn read(&self) -> MutexGuard<'_, Content> {
        // A change is whole or has not begun, whoever died.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a change to a copy, writes the copy, and only then makes it the state.
    fn change(&mut self, change: impl FnOnce(&mut Content)) -> Result<(), FlashError> {
        let mut held = self.read();
        let mut content = held.clone();
        change(&mut content);
        if let Some(path) = &self.path {
            write(path, &content).map_err(|error| FlashError::Io { path: path.clone(), error })?;
        }
        *held = content;
        Ok(())
    }
}

/// Writes beside the file, syncs, renames over it, and syncs the directory: the rename is what makes it true.
fn write(path: &Path, content: &Content) -> io::Result<()> {
    let bytes = Zeroizing::new(serde_json::to_vec_pretty(content)?);
    let beside = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

impl Content {
    fn hub(&mut self, hub: HubId) -> &mut HubContent {
        self.hubs.entry(hub.to_string()).or_default()
    }

    fn hub_content(&self, hub: HubId) -> Option<&HubContent> {
        self.hubs.get(&hub.to_string())
    }
}

impl Place {
    /// A hub at these addresses, in the network of this name and passphrase.
    pub fn new(addresses: Vec<String>, wifi: Option<(&[u8], &str)>) -> Self {
        let wifi = wifi.map(|(ssid, passphrase)| (BASE64URL_NOPAD.encode(ssid), BASE64URL_NOPAD.encode(passphrase.as_bytes())));
        Self { addresses, wifi }
    }

    /// The name of the network that came with it.
    pub fn ssid(&self) -> Option<Vec<u8>> {
        BASE64URL_NOPAD.decode(self.wifi.as_ref()?.0.as_bytes()).ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((_, passphrase)) = &mut self.wifi {
            passphrase.zeroize();
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Stored {
    fn credential(&self) -> Option<Credential> {
        let ca = BASE64URL_NOPAD.decode(self.ca.as_bytes()).ok()?;
        let secret = Zeroizing::new(BASE64URL_NOPAD.decode(self.secret.as_bytes()).ok()?);
        let secret = Zeroizing::new(<[u8; 32]>::try_from(secret.as_slice()).ok()?);
        Some(Credential { ca, secret, claimed_at: self.claimed_at })
    }
}

impl From<&Credential> for Stored {
    fn from(credential: &Credential) -> Self {
        Self {
            ca: BASE64URL_NOPAD.encode(&credential.ca),
            secret: BASE64URL_NOPAD.encode(credential.secret.as_slice()),
            claimed_at: credential.claimed_at,
        }
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored(claimed at {})", self.claimed_at)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn hub(byte: u8) -> HubId {
        HubId::from_bytes([byte; 16])
    }

    fn credential(byte: u8) -> Credential {
        Credential { ca: vec![byte; 5], secret: Zeroizing::new([byte; 32]), claimed_at: 7 }
    }

    #[test]
    fn a_counter_is_on_the_disk_before_it_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let mut flash = Flash::open(directory.path(), "d").unwrap();
        assert_eq!(flash.next_counter(hub(1)).unwrap(), 1);
        let after_a_power_cut = Flash::open(directory.path(), "d").unwrap();
        assert_eq!(after_a_power_cut.counter(hub(1)), 1);
    }

    #[test]
    fn each_hub_has_a_counter_of_its_own() {
        let mut flash = Flash::volatile();
        flash.next_counter(hub(1)).unwrap();
        flash.next_counter(hub(1)).unwrap();
        assert_eq!(flash.next_counter(hub(2)).unwrap(), 1);
    }

    #[test]
    fn no_counter_follows_the_last_one() {
        let mut flash = Flash::volatile();
        flash.set_counter(hub(1), i64::MAX as u64 - 1).unwrap();
        assert_eq!(flash.next_counter(hub(1)).unwrap(), i64::MAX as u64);
        assert!(matches!(flash.next_counter(hub(1)), Err(FlashError::Exhausted)));
    }

    #[test]
    fn the_old_credential_stays_until_the_new_one_is_promoted() {
        let directory = tempfile::tempdir().unwrap();
        let mut flash = Flash::open(directory.path(), "d").unwrap();
        flash.store_pending(hub(1), &credential(1)).unwrap();
        flash.promote(hub(1)).unwrap();
        flash.store_pending(hub(1), &credential(2)).unwrap();
        let mut flash = Flash::open(directory.path(), "d").unwrap();
        assert!(flash.active(hub(1)) == Some(credential(1)));
        assert!(flash.pending(hub(1)) == Some(credential(2)));
        flash.promote(hub(1)).unwrap();
        assert!(flash.active(hub(1)) == Some(credential(2)));
        assert!(flash.pending(hub(1)).is_none());
    }

    #[test]
    fn where_a_hub_is_comes_and_goes_with_its_credential() {
        let directory = tempfile::tempdir().unwrap();
        let mut flash = Flash::open(directory.path(), "d").unwrap();
        let place = |port: u8| Place::new(vec![format!("hub.local:{port}")], Some((b"home", "passphrase")));
        flash.store_paired(hub(1), &credential(1), place(1)).unwrap();
        assert!(flash.home().is_none());
        assert_eq!(Flash::open(directory.path(), "d").unwrap().arriving(), Some((hub(1), place(1))));
        flash.promote(hub(1)).unwrap();
        flash.store_paired(hub(2), &credential(2), place(2)).unwrap();
        flash.drop_pending(hub(2)).unwrap();
        let mut flash = Flash::open(directory.path(), "d").unwrap();
        assert_eq!(flash.home(), Some((hub(1), place(1))));
        assert_eq!(flash.arriving(), None);
        flash.reset().unwrap();
        assert_eq!(flash.home(), None);
    }

    #[test]
    fn a_reset_forgets_credentials_and_is_counted_and_the_counters_stay() {
        let directory = tempfile::tempdir().unwrap();
        let mut flash = Flash::open(directory.path(), "d").unwrap();
        flash.next_counter(hub(1)).unwrap();
        flash.store_pending(hub(1), &credential(1)).unwrap();
        flash.reset().unwrap();
        let mut flash = Flash::open(directory.path(), "d").unwrap();
        assert_eq!((flash.resets(), flash.counter(hub(1))), (1, 1));
        assert!(flash.pending(hub(1)).is_none());
        flash.lose().unwrap();
        assert_eq!((flash.resets(), flash.counter(hub(1))), (0, 0));
    }

    #[test]
    fn a_command_runs_once_even_across_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut flash = Flash::open(directory.path(), "d").unwrap();
        assert!(flash.first_time("c1").unwrap());
        let mut flash = Flash::open(directory.path(), "d").unwrap();
        assert!(!flash.first_time("c1").unwrap());
    }

    #[test]
    fn a_write_that_fails_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("gone");
        let mut flash = Flash::open(&home, "d").unwrap();
        fs::remove_dir(&home).unwrap();
        assert!(flash.next_counter(hub(1)).is_err());
        assert_eq!(flash.counter(hub(1)), 0);
    }

    #[test]
    fn half_a_file_is_refused_not_taken_for_a_new_device() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("d.json"), b"{\"v\": 1, \"hu").unwrap();
        assert!(matches!(Flash::open(directory.path(), "d"), Err(FlashError::Corrupt { .. })));
    }

    #[test]
    fn only_its_owner_may_read_the_file() {
        let directory = tempfile::tempdir().unwrap();
        Flash::open(directory.path(), "d").unwrap().next_counter(hub(1)).unwrap();
        let mode = fs::metadata(directory.path().join("d.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
