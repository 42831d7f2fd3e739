//! Pairing with what is nearby: the queue of pairings and what people see of them, what the hub makes of a device's
//! hello, and the credential that waits in memory for the device's first sign-in. The radio is another room's, which
//! fetches its work here ([`Service::next_pairing`]) and says how far it is.
//!
//! Nothing is written before the device signs in with what it was given; then the claim is one transaction before
//! CONNACK (`admission`). A hub that dies in between has forgotten the credential, and nothing has changed.

mod admission;
mod air;
mod desk;
mod requests;
mod room;
mod stock;
mod verdict;

pub use air::{Nearby, NearbyKind, RadioState, RadioView, WifiView};
pub use requests::{NewPairing, WifiWish};
pub use stock::{MadeStockDevice, StockSettings};

pub(super) use air::Air;
pub(super) use desk::Desk;

use crate::domain::device::Trust;
use crate::domain::ids::DeviceId;
use crate::domain::pairing::{Delivery, EndCode, PairingKey, Wifi};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// What a pairing is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PairingKind {
    /// A device that proves itself, by the code on its label.
    Hearthkey,
    /// A stock device that takes Wi-Fi settings (Improv).
    Improv,
}

/// How far a pairing is. The radio's room sets those between [`PairingStep::Searching`] and [`PairingStep::Waiting`]
/// ([`Service::pairing_step`]); the others are the desk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "step")]
pub enum PairingStep {
    /// Others are before it.
    Queued,
    /// The radio looks for the device.
    Searching,
    /// It connects.
    Connecting,
    /// Both sides prove that they know the code.
    Proving,
    /// A person is asked whether to go on.
    Confirming,
    /// The credential, or the Wi-Fi settings, are being sent; in bytes.
    Sending {
        /// So many have been sent.
        sent: u64,
        /// Of so many.
        total: u64,
    },
    /// The device joins the network.
    Joining,
    /// The hub waits for it to sign in.
    Waiting,
    /// It is paired.
    Done,
    /// It is not.
    Failed,
    /// A person has ended it.
    Cancelled,
}

impl PairingStep {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_last(self) -> bool {
        matches!(self, PairingStep::Done | PairingStep::Failed | PairingStep::Cancelled)
    }

    /// The word, as in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PairingStep::Queued => "queued",
            PairingStep::Searching => "searching",
            PairingStep::Connecting => "connecting",
            PairingStep::Proving => "proving",
            PairingStep::Confirming => "confirming",
            PairingStep::Sending { .. } => "sending",
            PairingStep::Joining => "joining",
            PairingStep::Waiting => "waiting",
            PairingStep::Done => "done",
            PairingStep::Failed => "failed",
            PairingStep::Cancelled => "cancelled",
        }
    }

    /// Whether the radio's room may set it.
    fn is_the_radios(self) -> bool {
        !matches!(self, PairingStep::Queued | PairingStep::Confirming) && !self.is_last()
    }
}

/// The [`PairingProblem::code`] that counts as a wrong guess of the account that began the pairing, unless the
/// registry confirms the code.
pub const WRONG_CODE: &str = "wrong_code";

/// Why a pairing failed, for the person who began it. Secrets and what the other side sent do not belong in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PairingProblem {
    /// A word for programs.
    pub code: &'static str,
    /// What is so.
    pub detail: String,
    /// What to do next.
    pub next: String,
}

impl PairingProblem {
    /// A problem in words.
    #[must_use]
    pub fn new(code: &'static str, detail: impl Into<String>, next: impl Into<String>) -> Self {
        PairingProblem { code, detail: detail.into(), next: next.into() }
    }
}

/// A pairing as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairingView {
    /// Its id.
    pub id: String,
    /// What it is with.
    pub kind: PairingKind,
    /// How far it is.
    pub step: &'static str,
    /// Its place in the queue, from 1; `None` when it is not queued.
    pub position: Option<usize>,
    /// The device, once it is known.
    pub device_id: Option<DeviceId>,
    /// What people will call it.
    pub name: String,
    /// Where it will be.
    pub room: String,
    /// How sure the hub is of it, once that is known.
    pub trust: Option<Trust>,
    /// Bytes sent, while something is being sent.
    pub sent: Option<u64>,
    /// Of so many.
    pub total: Option<u64>,
    /// Why it failed.
    pub problem: Option<PairingProblem>,
    /// Where the device says that it goes on (Improv).
    pub result_url: Option<String>,
    /// Whether what is sent to the device is encrypted on the air by the pairing itself.
    pub encrypted: bool,
    /// When it was asked for, ms since 1970.
    pub started: u64,
    /// When it last changed, ms since 1970.
    pub updated: u64,
}

impl PairingView {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_over(&self) -> bool {
        [PairingStep::Done, PairingStep::Failed, PairingStep::Cancelled].iter().any(|last| last.as_str() == self.step)
    }
}

/// What the radio has to do.
#[derive(Clone, Debug)]
pub enum JobKind {
    /// Pair a device that knows the code on its label.
    Hearthkey {
        /// Which.
        device: DeviceId,
        /// The key of the session, made from the code.
        key: PairingKey,
    },
    /// Give Wi-Fi settings to a stock device.
    Improv,
}

/// One pairing, as the radio's room gets it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// What to do.
    pub kind: JobKind,
    /// The [`Nearby::id`] of the thing, when the person chose one.
    pub nearby: Option<String>,
    /// Wi-Fi that the person has given for it.
    pub wifi: Option<Wifi>,
    /// The hub's own Wi-Fi is wanted; only when it may be shared.
    pub wants_system_wifi: bool,
    /// Cancelled when a person ends the pairing. The room still says [`Service::finish_pairing`].
    pub cancel: CancellationToken,
}

/// What becomes of a hello.
#[derive(Debug)]
pub enum PairVerdict {
    /// The model part is needed: ask for it, then judge again.
    WantModel,
    /// Send this, without Wi-Fi in it: the radio's room adds that of the job.
    Deliver(Delivery),
    /// A person must confirm: wait for [`Service::pairing_confirmed`].
    Confirm,
    /// End it, with this for the device; the true reason is in the audit.
    Refuse(EndCode, PairingProblem),
}

/// What a person made of a provisional device.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, on its way")]
pub enum Confirmation {
    /// Go on.
    Confirmed {
        /// Send this, without Wi-Fi in it.
        delivery: Delivery,
        /// Wi-Fi that the person has given.
        wifi: Option<Wifi>,
        /// The hub's own Wi-Fi is wanted.
        wants_system_wifi: bool,
    },
    /// It was ended.
    Cancelled,
    /// Nobody answered in time.
    TimedOut,
}
