//! What the tasks of the room share, and the one that looks after the adapter.

use super::bus::Bus;
use super::radio::{Adapter, AdapterState, Radio};
use crate::service::{Nearby, RadioState, Service};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often an adapter that works is looked at.
const WORKS: Duration = Duration::from_secs(4);
/// How often one is looked at that does not: at first, and at last.
const FAILS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// One radio and what it is wanted for.
pub(super) struct Room<R> {
    pub(super) service: Arc<Service>,
    pub(super) radio: R,
    pub(super) bus: Bus,
    /// Something failed: the adapter is to be looked at now.
    pub(super) trouble: Notify,
    adapter: watch::Sender<Adapter>,
    nearby: watch::Sender<Vec<Nearby>>,
    /// A pairing looks for its device; or it is connected, and there is no looking around.
    need: watch::Sender<Need>,
}

/// What a pairing needs of the radio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    #[default]
    Nothing,
    /// To look around.
    Search,
    /// Silence: most controllers do not connect reliably while they look around.
    Link,
}

impl<R: Radio> Room<R> {
    pub(super) fn new(service: Arc<Service>, radio: R) -> Room<R> {
        let starting = Adapter { state: AdapterState::Starting, name: None };
        Room {
            service,
            radio,
            bus: Bus::new(),
            trouble: Notify::new(),
            adapter: watch::channel(starting).0,
            nearby: watch::channel(Vec::new()).0,
            need: watch::channel(Need::Nothing).0,
        }
    }

    /// The adapter as it was when it was last looked at.
    pub(super) fn adapter(&self) -> Adapter {
        self.adapter.borrow().clone()
    }

    /// Its changes.
    pub(super) fn adapters(&self) -> watch::Receiver<Adapter> {
        self.adapter.subscribe()
    }

    /// The things nearby.
    pub(super) fn nearby(&self) -> watch::Receiver<Vec<Nearby>> {
        self.nearby.subscribe()
    }

    /// Tells what is nearby.
    pub(super) fn tell(&self, things: Vec<Nearby>) {
        self.service.nearby_changed(things.clone());
        self.nearby.send_replace(things);
    }

    /// Says what the pairing needs, until the answer is dropped.
    pub(super) fn need(&self, need: Need) -> Needed<'_> {
        self.need.send_replace(need);
        Needed(&self.need)
    }

    /// Waits until somebody wants to look around, and the radio can.
    pub(super) async fn scan_wanted(&self) {
        self.scan_is(true).await;
    }

    /// Waits until looking around is to end.
    pub(super) async fn scan_stopped(&self, shutdown: &CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.scan_is(false) => {}
        }
    }

    async fn scan_is(&self, wanted: bool) {
        let (mut looked, mut need, mut adapter) = (self.service.scan_wanted(), self.need.subscribe(), self.adapter.subscribe());
        loop {
            let now = {
                let need = *need.borrow_and_update();
                let ready = adapter.borrow_and_update().state == AdapterState::Ready;
                let looked = *looked.borrow_and_update();
                ready && (need == Need::Search || (need == Need::Nothing && looked))
            };
            if now == wanted {
                return;
            }
            let changed = async {
                tokio::select! {
                    changed = looked.changed() => changed,
                    changed = need.changed() => changed,
                    changed = adapter.changed() => changed,
                }
            };
            if changed.await.is_err() {
                // The service is gone, and with it whoever wants to look.
                return std::future::pending().await;
            }
        }
    }

    /// Looks after the adapter: says how it is, and looks again, soon when something failed.
    pub(super) async fn look_after(&self, shutdown: CancellationToken) {
        let (mut pause, mut first) = (FAILS.0, true);
        loop {
            let now = tokio::select! {
                () = shutdown.cancelled() => return,
                now = self.radio.adapter() => now,
            };
            let before = self.adapter();
            if now != before || first {
                report(&now);
                self.service.radio_changed(state_of(now.state), now.name.clone());
                self.adapter.send_replace(now.clone());
                pause = FAILS.0;
            }
            first = false;
            let wait = if now.state == AdapterState::Ready { WORKS } else { pause };
            pause = (pause * 2).min(FAILS.1);
            // At most one look per 100 ms, however much fails.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = timeout(wait, self.trouble.notified()) => {}
            }
        }
    }
}

/// What a pairing needs, until this is dropped.
pub(super) struct Needed<'a>(&'a watch::Sender<Need>);

impl Drop for Needed<'_> {
    fn drop(&mut self) {
        self.0.send_replace(Need::Nothing);
    }
}

fn state_of(state: AdapterState) -> RadioState {
    match state {
        AdapterState::NoBus | AdapterState::NoDaemon | AdapterState::NoAdapter => RadioState::Absent,
        AdapterState::Off => RadioState::Off,
        AdapterState::Blocked => RadioState::Blocked,
        AdapterState::Starting => RadioState::Starting,
        AdapterState::Ready => RadioState::Ready,
    }
}

/// One line for the log at each change.
fn report(adapter: &Adapter) {
    let name = adapter.name.as_deref().unwrap_or("-");
    match adapter.state {
        AdapterState::NoBus => tracing::info!("no Bluetooth: there is no system D-Bus. Devices can be claimed over the network"),
        AdapterState::NoDaemon => tracing::info!("no Bluetooth: BlueZ does not run. Devices can be claimed over the network"),
        AdapterState::NoAdapter => tracing::info!("no Bluetooth: there is no adapter. Devices can be claimed over the network"),
        AdapterState::Off => tracing::info!(adapter = name, "the Bluetooth adapter is switched off: bluetoothctl power on"),
        AdapterState::Blocked => tracing::info!(adapter = name, "the Bluetooth adapter is blocked: rfkill unblock bluetooth"),
        AdapterState::Starting => tracing::info!(adapter = name, "the Bluetooth adapter is being started"),
        AdapterState::Ready => tracing::info!(adapter = name, "Bluetooth works"),
    }
}
