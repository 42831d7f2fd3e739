//! The hub's way to its cloud (`docs/protocol/mirror.md`): carries what the service has to tell, brings what the cloud has
//! for it, and tells how that goes. The hub is always the caller. Nothing here decides: what the cloud brings is weighed by
//! the service, and without a link there is not one packet.
//!
//! One call is [`line`]'s, the certificate behind it [`trust`]'s, what answered instead of the cloud [`answer`]'s; when to
//! call is [`uplink`]'s and [`round`]'s, with [`pace`], [`wake`] and [`meter`]; registry batches are [`fetch`]'s, with [`releases`]; a cloud that is not linked yet
//! [`look`]'s; the recovery bundle is [`replacement`]'s; a box that is to take a hub's place calls through [`rescue`].

mod answer;
mod fetch;
mod line;
mod look;
mod meter;
mod pace;
mod releases;
mod replacement;
mod rescue;
mod round;
mod trust;
mod uplink;
mod wake;

pub use meter::{Meter, OUTCOMES};
pub use rescue::Rescue;

use crate::service::Service;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What can be set about the way to the cloud. Which cloud it is, an owner says on the hub's page.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether the hub calls a cloud that an owner has linked. Without a link it calls nobody.
    pub enabled: bool,
    /// The proxy to go through, such as `http://name:password@proxy.lan:3128`; `none` for none. Without this setting, what
    /// `HTTPS_PROXY` and `NO_PROXY` say.
    pub proxy: Option<String>,
    /// A PEM file with authorities that are believed beside those of the system: for a cloud of one's own, or a network
    /// that inspects what leaves it.
    pub ca_file: Option<PathBuf>,
    /// Bytes a day at most, both ways together, about. Beyond that only what is small and urgent goes.
    pub max_bytes_per_day: u64,
    /// For how long changes are gathered before they are sent, in ms.
    pub debounce_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { enabled: true, proxy: None, ca_file: None, max_bytes_per_day: 200_000_000, debounce_ms: 500 }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy's URL may hold a password.
        f.debug_struct("Config")
            .field("enabled", &self.enabled)
            .field("proxy", &self.proxy.as_ref().map(|_| "…"))
            .field("ca_file", &self.ca_file)
            .field("max_bytes_per_day", &self.max_bytes_per_day)
            .field("debounce_ms", &self.debounce_ms)
            .finish()
    }
}

/// Carries the mirror until `shutdown`. `dir` is where unfinished downloads lie, and nothing else.
pub fn run(
    service: Arc<Service>,
    config: Config,
    dir: PathBuf,
    meter: Arc<Meter>,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send {
    if config.enabled {
        service.connect_cloud_look(Arc::new(look::Looker::new(&service, config.clone(), meter.clone())));
    }
    async move {
        if config.enabled {
            let uplink = uplink::Uplink::new(service, config, dir, meter);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = uplink.run() => {}
            }
            uplink.settle().await;
        }
    }
}

/// A random number; 0 when the system has none, which makes pauses shorter and nothing else.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}
