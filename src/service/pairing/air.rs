//! What is in the air: the state of the radio, the things nearby, and whether anybody wants to know of them.

use super::desk::Inner;
use crate::domain::authority::HubAction;
use crate::domain::pairing::Advertised;
use crate::service::rights::require_role;
use crate::service::{Actor, Refusal, Service, lock};
use serde::Serialize;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;

/// How long a look around lasts, ms.
const LOOK_MS: u64 = 30_000;
/// Things nearby that are remembered.
const NEARBY: usize = 200;

/// How the hub's Bluetooth radio is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RadioState {
    /// Switched off in the configuration.
    #[default]
    Disabled,
    /// There is no adapter, or nothing that drives one.
    Absent,
    /// The adapter is switched off.
    Off,
    /// Something blocks it (rfkill).
    Blocked,
    /// It is being started.
    Starting,
    /// It works.
    Ready,
}

impl RadioState {
    /// What is so, and what to do next, for a person.
    #[must_use]
    pub fn explain(self) -> (&'static str, &'static str) {
        match self {
            RadioState::Disabled => (
                "Bluetooth is switched off in the hub's configuration.",
                "Set enabled = true below [bluetooth] and start the hub again; or claim the device over the network.",
            ),
            RadioState::Absent => (
                "The hub has no Bluetooth adapter, or its Bluetooth service (BlueZ) does not run.",
                "Plug an adapter in, and see that the service bluetooth runs; or claim the device over the network.",
            ),
            RadioState::Off => ("The Bluetooth adapter is switched off.", "Switch it on: bluetoothctl power on."),
            RadioState::Blocked => ("The Bluetooth adapter is blocked.", "End the block: rfkill unblock bluetooth."),
            RadioState::Starting => ("The Bluetooth adapter is being started.", "Wait a moment."),
            RadioState::Ready => ("Bluetooth works.", "Switch the device on, near the hub."),
        }
    }

    fn works(self) -> bool {
        matches!(self, RadioState::Starting | RadioState::Ready)
    }
}

/// What a thing nearby is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NearbyKind {
    /// A device that pairs by the code on its label.
    Hearthkey,
    /// A stock device that takes Wi-Fi settings.
    Improv,
    /// Something that tells of itself in the network.
    Network,
}

/// A thing nearby, as it calls itself: nothing of it is proved.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearby {
    /// By what it can be chosen; at most 64 bytes.
    pub id: String,
    /// What it is.
    pub kind: NearbyKind,
    /// What it calls itself.
    pub name: String,
    /// How strong it is heard, dBm.
    pub signal: Option<i16>,
    /// What a Hearthkey device tells of its pairing.
    pub advertised: Option<Advertised>,
    /// When it was last heard, ms since 1970.
    pub seen_ms: u64,
}

/// The radio as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct RadioView {
    /// How it is.
    pub state: RadioState,
    /// Which adapter.
    pub adapter: Option<String>,
    /// What is so.
    pub message: &'static str,
    /// What to do next.
    pub next: &'static str,
    /// Whether it looks around now.
    pub scanning: bool,
    /// The hub's own Wi-Fi.
    pub wifi: WifiView,
}

/// The Wi-Fi that the hub is in.
#[derive(Clone, Debug, Serialize)]
pub struct WifiView {
    /// Its name, if it is known.
    pub ssid: Option<String>,
    /// Whether the hub knows its passphrase, and could hand it on.
    pub system: bool,
    /// Whether the owners allow that.
    pub allowed: bool,
}

/// All of it.
pub(in crate::service) struct Air {
    now: Mutex<Now>,
    wanted: watch::Sender<bool>,
}

#[derive(Default)]
struct Now {
    state: RadioState,
    adapter: Option<String>,
    ssid: Option<String>,
    nearby: Vec<Nearby>,
    network: Vec<Nearby>,
    /// Somebody looks until then, monotonic ms.
    until: u64,
}

impl Default for Air {
    fn default() -> Self {
        Air { now: Mutex::default(), wanted: watch::channel(false).0 }
    }
}

impl Service {
    /// The radio has changed.
    pub fn radio_changed(&self, state: RadioState, adapter: Option<String>) {
        {
            let mut now = lock(&self.air.now);
            if !state.works() {
                now.nearby.clear();
            }
            (now.state, now.adapter) = (state, adapter);
        }
        self.changed(crate::service::Change::Radio);
    }

    /// The name of the Wi-Fi whose passphrase the hub knows; `None` when there is none.
    pub fn system_wifi_changed(&self, ssid: Option<String>) {
        lock(&self.air.now).ssid = ssid;
    }

    /// All that the radio hears now, in the place of what it heard before. The first 200 are taken.
    pub fn nearby_changed(&self, mut nearby: Vec<Nearby>) {
        nearby.truncate(NEARBY);
        lock(&self.air.now).nearby = nearby;
    }

    /// The same for what tells of itself in the network.
    pub fn network_changed(&self, mut nearby: Vec<Nearby>) {
        nearby.truncate(NEARBY);
        lock(&self.air.now).network = nearby;
    }

    /// True while somebody looks around, or a pairing is under way.
    #[must_use]
    pub fn scan_wanted(&self) -> watch::Receiver<bool> {
        self.air.wanted.subscribe()
    }

    /// Whether the owners allow that the hub's own Wi-Fi is handed to devices.
    #[must_use]
    pub fn wifi_shared(&self) -> bool {
        self.settings().is_ok_and(|s| s.share_wifi)
    }

    /// The radio, for who may claim.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub fn radio(&self, actor: &Actor) -> Result<RadioView, Refusal> {
        self.may_pair(actor)?;
        let allowed = self.wifi_shared();
        let scanning = *self.air.wanted.borrow();
        let now = lock(&self.air.now);
        let (message, next) = now.state.explain();
        let wifi = WifiView { ssid: now.ssid.clone(), system: now.ssid.is_some(), allowed };
        Ok(RadioView { state: now.state, adapter: now.adapter.clone(), message, next, scanning, wifi })
    }

    /// Looks around for 30 s; until when, ms since 1970. Asked again, it goes on.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::Conflict`] when the radio does not work.
    pub fn look_around(self: &std::sync::Arc<Self>, actor: &Actor) -> Result<u64, Refusal> {
        self.may_pair(actor)?;
        let began = {
            let mut now = lock(&self.air.now);
            now.state.require()?;
            let monotonic = self.clock.monotonic_ms();
            let began = now.until <= monotonic;
            now.until = monotonic + LOOK_MS;
            began
        };
        self.weigh_scan();
        if began {
            // Ends by itself: nobody has to come back to end it.
            let service = std::sync::Arc::downgrade(self);
            tokio::spawn(async move {
                while let Some(service) = service.upgrade() {
                    let left = lock(&service.air.now).until.saturating_sub(service.clock.monotonic_ms());
                    service.weigh_scan();
                    drop(service);
                    if left == 0 {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(left.clamp(50, LOOK_MS))).await;
                }
            });
        }
        Ok(self.now() + LOOK_MS)
    }

    /// What is nearby, for who may claim: the strongest first.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub fn nearby(&self, actor: &Actor) -> Result<Vec<Nearby>, Refusal> {
        self.may_pair(actor)?;
        let now = lock(&self.air.now);
        let mut all: Vec<Nearby> = now.nearby.iter().chain(&now.network).cloned().collect();
        all.sort_by_key(|thing| std::cmp::Reverse(thing.signal.unwrap_or(i16::MIN)));
        Ok(all)
    }

    /// One thing nearby.
    pub(super) fn nearby_named(&self, id: &str) -> Option<Nearby> {
        let now = lock(&self.air.now);
        now.nearby.iter().chain(&now.network).find(|thing| thing.id == id).cloned()
    }

    /// That the radio works, or will soon.
    pub(super) fn require_radio(&self) -> Result<(), Refusal> {
        lock(&self.air.now).state.require()
    }

    /// The Wi-Fi whose passphrase the hub knows.
    pub(super) fn system_ssid(&self) -> Option<String> {
        lock(&self.air.now).ssid.clone()
    }

    /// Whether `actor` is a person who may claim, by what is stored now.
    pub(super) fn may_pair(&self, actor: &Actor) -> Result<(), Refusal> {
        actor.user()?;
        self.store.read(|v| require_role(v, actor, HubAction::ClaimDevice, self.now()))
    }

    /// Says whether looking around is wanted, when that has changed.
    pub(super) fn weigh_scan(&self) {
        let looked = lock(&self.air.now).until > self.clock.monotonic_ms();
        let wanted = looked || Inner::is_busy(&self.pairings.lock());
        self.air.wanted.send_if_modified(|before| std::mem::replace(before, wanted) != wanted);
    }
}

impl RadioState {
    fn require(self) -> Result<(), Refusal> {
        let (message, next) = self.explain();
        if self.works() { Ok(()) } else { Err(Refusal::Conflict(format!("{message} {next}"))) }
    }
}

impl Inner {
    /// Whether a pairing is open.
    fn is_busy(&self) -> bool {
        self.open.iter().any(|e| !e.step.is_last())
    }
}
