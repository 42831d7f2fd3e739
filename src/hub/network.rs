//! What the hub knows of itself on the network: under which names it is found, and who asks there to be claimed.

use super::tls::Certificates;
use crate::domain::pairing::Advertised;
use crate::mdns::{Found, Listener, State};
use crate::service::{Nearby, NearbyKind, Service};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The hub's end of the room `mdns`.
#[derive(Clone, Default)]
pub(super) struct Network {
    state: watch::Sender<State>,
    things: watch::Sender<Vec<Found>>,
}

impl Network {
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn things(&self) -> watch::Receiver<Vec<Found>> {
        self.things.subscribe()
    }

    /// What the room is given: where it says how it stands, and where its list goes.
    pub(super) fn ends(&self, service: Arc<Service>) -> (watch::Sender<State>, Listener) {
        let things = self.things.clone();
        let listener: Listener = Arc::new(move |found: Vec<Found>| {
            let seen_ms = service.now();
            service.network_changed(found.iter().map(|thing| nearby(thing, seen_ms)).collect());
            things.send_if_modified(|known| {
                *known != found && {
                    *known = found;
                    true
                }
            });
        });
        (self.state.clone(), listener)
    }
}

fn nearby(found: &Found, seen_ms: u64) -> Nearby {
    Nearby {
        id: found.id.chars().take(64).collect(),
        kind: NearbyKind::Network,
        name: found.name.clone(),
        signal: None,
        advertised: Advertised::parse(&found.info),
        seen_ms,
    }
}

/// Keeps the names of the certificates up with the one under which the hub is found.
pub(super) async fn certify_names(mut state: watch::Receiver<State>, certificates: Arc<Certificates>, shutdown: CancellationToken) {
    loop {
        let names = match &*state.borrow_and_update() {
            State::Announced(names) => Some(names.host.clone()),
            _ => None,
        };
        if let Some(host) = names
            && let Err(error) = certificates.add_name(&host)
        {
            tracing::error!(%error, %host, "the listeners' certificate could not be issued for the new name; the old one stays");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}
