//! The device side of pairing (`docs/protocol/pairing.md`), the second implementation: it shares nothing with the hub but
//! the document. `noise`, `frame` and `message` are the bytes, `machine` is what a firmware does with them, and `host`
//! gives it a clock, a flash and a network.

pub mod fault;
pub mod frame;
pub mod host;
pub mod machine;
pub mod message;
pub mod noise;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use fault::{At, Fault};
pub use host::{Front, Host, Options, Press, device};
use message::{EndCode, Step};

use super::device;
use super::identity::HubId;

/// What happens to a device that can be paired, for whoever watches. Its `Display` is one line and holds no secret.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// In its pairing.
    Pairing(Told),
    /// In its life at a hub.
    Device(device::Event),
}

/// What happens in a pairing, on the device's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It can be paired.
    WindowOpen,
    /// It can no longer be paired.
    WindowClosed,
    /// Somebody has connected.
    Connected,
    /// Somebody does not know the code.
    HandshakeFailed {
        /// How long it takes no other connection.
        pause: Duration,
    },
    /// Both know the code, and it has said who it is.
    SaidHello {
        /// To whom.
        hub: HubId,
    },
    /// The credential is stored beside the old one.
    Stored {
        /// Whose it is.
        hub: HubId,
    },
    /// How far it is after that.
    Progress {
        /// What it does.
        step: Step,
        /// 0 begun, 1 failed, and what the step itself can say.
        code: u8,
    },
    /// It has signed in: the credential is its own.
    Paired {
        /// Whose it is.
        hub: HubId,
    },
    /// The hub has said that all is done.
    Completed,
    /// It has dropped what was stored, and is as it was.
    RolledBack {
        /// Why.
        why: &'static str,
    },
    /// It has ended the pairing.
    Ended {
        /// The code that the hub was told.
        code: EndCode,
        /// The same in words.
        why: &'static str,
    },
    /// The hub has ended the pairing.
    EndedByHub {
        /// The hub's code.
        code: u64,
        /// The hub's words.
        text: String,
    },
    /// The connection is gone.
    Disconnected,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pairing(told) => told.fmt(f),
            Self::Device(event) => event.fmt(f),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WindowOpen => write!(f, "pairing: open for 15 minutes"),
            Self::WindowClosed => write!(f, "pairing: closed"),
            Self::Connected => write!(f, "pairing: a hub has connected"),
            Self::HandshakeFailed { pause } => {
                write!(f, "pairing: it does not know the code; the next one is let in after {} s", pause.as_secs())
            }
            Self::SaidHello { hub } => write!(f, "pairing: said hello to the hub {hub}"),
            Self::Stored { hub } => write!(f, "pairing: a credential of the hub {hub} is stored, and will be tried"),
            Self::Progress { step, code } => {
                let step = match step {
                    Step::Joining => "joining the Wi-Fi",
                    Step::Looking => "looking for the hub",
                    Step::SigningIn => "signing in",
                };
                match code {
                    0 => write!(f, "pairing: {step}"),
                    code => write!(f, "pairing: {step} failed ({code})"),
                }
            }
            Self::Paired { hub } => write!(f, "pairing: signed in; it belongs to the hub {hub} now"),
            Self::Completed => write!(f, "pairing: the hub says that all is done"),
            Self::RolledBack { why } => write!(f, "pairing: undone, because {why}"),
            Self::Ended { code, why } => write!(f, "pairing: ended ({}): {why}", *code as u8),
            Self::EndedByHub { code, text } => write!(f, "pairing: the hub has ended it ({code}): {text}"),
            Self::Disconnected => write!(f, "pairing: the connection is gone"),
        }
    }
}
