//! The radio: devices nearby over Bluetooth Low Energy, paired as `docs/protocol/pairing.md` says, and stock devices that
//! take their Wi-Fi settings by Improv.
//!
//! What is said to a device is `domain`'s ([`crate::domain::pairing`], [`crate::domain::improv`]), and what becomes of it
//! `service`'s. Here is the radio ([`Radio`], and BlueZ behind it), looking around (`scan`), the driver of one pairing at
//! a time (`drive`, `improv`), and the hub's own Wi-Fi (`wifi`). Without an adapter the room does nothing, and says so.

mod bluez;
mod bus;
mod config;
mod drive;
mod improv;
mod radio;
mod room;
mod scan;
mod wifi;
mod words;

pub use bluez::{Bluez, BluezLink};
pub use config::Config;
pub use radio::{Adapter, AdapterState, Heard, Link, Radio, RadioError, Sighting};

use crate::service::{RadioState, Service};
use room::Room;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Waits before the room is begun again, when one of its tasks has panicked: the first and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What adapter there is, and how it stands; nothing is changed about it.
pub async fn examine(config: &Config) -> Adapter {
    bus::Bus::new().adapter(config.adapter.clone()).await
}

/// Runs the room until `shutdown`. Never fails: what does not work is said, and tried again.
pub async fn run(service: Arc<Service>, config: Config, shutdown: CancellationToken) {
    if !config.enabled {
        service.radio_changed(RadioState::Disabled, None);
        return;
    }
    let mut pause = AGAIN.0;
    loop {
        let began = Instant::now();
        run_once(service.clone(), Bluez::new(config.clone()), shutdown.clone()).await;
        if shutdown.is_cancelled() {
            return;
        }
        if began.elapsed() > AGAIN.1 {
            pause = AGAIN.0;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pause) => pause = (pause * 2).min(AGAIN.1),
        }
    }
}

/// Runs the room's tasks until `shutdown`, or until one of them has panicked; then all are ended.
async fn run_once<R: Radio>(service: Arc<Service>, radio: R, shutdown: CancellationToken) {
    let room = Arc::new(Room::new(service, radio));
    let mut tasks = JoinSet::new();
    let stop = shutdown.child_token();
    let (keeper, until) = (room.clone(), stop.clone());
    tasks.spawn(async move { keeper.look_after(until).await });
    tasks.spawn(scan::run(room.clone(), stop.clone()));
    tasks.spawn(drive::run(room.clone(), stop.clone()));
    tasks.spawn(wifi::watch(room.service.clone(), room.bus.clone(), stop.clone()));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the Bluetooth room failed; the room begins again");
        }
        stop.cancel();
    }
}
