//! The hub on the local network (mDNS and DNS-SD, RFC 6762 and 6763): what it announces, so that devices, apps and
//! people find it, and which devices there ask to be claimed. What is announced is `announce`'s, one life of the
//! responder `life`'s, the list of devices `nearby`'s. Whatever goes wrong here, the hub goes on.

mod announce;
mod life;
mod nearby;

pub use announce::{About, Names};
pub use nearby::Found;

use life::{End, Life};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause after the first failure of the responder; it doubles up to [`PAUSE_MOST`].
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// Longest pause between two attempts.
const PAUSE_MOST: Duration = Duration::from_secs(300);
/// Names that are tried before the hub takes one that nobody else can have.
const MOST_NAMES: u32 = 20;

/// What can be set about mDNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether the hub announces itself and looks for devices.
    pub enabled: bool,
    /// Interfaces it does that on, by name, such as `["eth0"]`; empty means all but loopback.
    pub interfaces: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config { enabled: true, interfaces: Vec::new() }
    }
}

/// How the hub stands on the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It is not announced: switched off, or nothing listens where others reach it.
    #[default]
    Silent,
    /// It is making sure that nobody has its name, or waits for a network.
    Starting,
    /// It is found under these names.
    Announced(Names),
    /// It could not be announced, and is tried again; why.
    Failed(String),
}

/// Where the devices that ask to be claimed go: the whole list at each change.
pub type Listener = Arc<dyn Fn(Vec<Found>) + Send + Sync>;

/// Announces the hub and lists devices until `shutdown`; then says goodbye and returns. A name that another host has is
/// left to it: the hub goes by `<name>-2`, and so on, until it is started again.
pub async fn run(about: About, config: Config, state: watch::Sender<State>, listener: Listener, shutdown: CancellationToken) {
    let (mut attempt, mut probe, mut failures) = (1, true, 0u32);
    // The name for which somebody was looked for. Some responders do not defend a host's name against a probe, and answer
    // a plain question for it.
    let mut asked_for = 0;
    loop {
        let names = Names::of(&about, attempt, MOST_NAMES);
        let life = Life { about: &about, names: &names, config: &config, probe, state: &state, listener: &listener };
        let first = std::mem::replace(&mut asked_for, attempt) != attempt;
        let taken = first
            && tokio::select! {
                () = shutdown.cancelled() => false,
                taken = life::is_held_by_another(&names.host, &config) => taken,
            };
        let end = if taken { End::InstanceTaken } else { life.run(&shutdown).await };
        listener(Vec::new());
        match end {
            End::Shutdown => {
                state.send_replace(State::Silent);
                return;
            }
            // The same daemon on two interfaces of one network hears itself, and would yield its name to itself.
            End::HostTaken if probe && !life::is_held_by_another(&names.host, &config).await => probe = false,
            End::HostTaken | End::InstanceTaken => {
                attempt += 1;
                let next = Names::of(&about, attempt, MOST_NAMES);
                tracing::warn!(
                    name = %names.instance, host = %names.host, new_name = %next.instance, new_host = %next.host,
                    "another host on the network has this hub's name: it is announced under another one; give one of them a name of its own"
                );
                state.send_replace(State::Starting);
            }
            End::Failed(reason) => {
                let pause = PAUSE_FIRST.saturating_mul(1 << failures.min(8)).min(PAUSE_MOST);
                failures = failures.saturating_add(1);
                tracing::warn!(%reason, again_in_s = pause.as_secs(), "the hub could not be announced on the network; everything else goes on");
                state.send_replace(State::Failed(reason));
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}
