//! What a device tells whoever watches it.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::sim::firmware;
use crate::sim::identity::HubId;
use crate::sim::things::{Kind, Refusal};
use crate::sim::tls::Address;

/// Something that happened to a device. Its `Display` is one line for a person; it never holds a secret, save the
/// claim code that is printed on the device's label.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The device is switched on.
    Started {
        /// Its id.
        device_id: String,
        /// What it is.
        kind: Kind,
        /// The claim code on its label.
        claim_code: String,
    },
    /// It is about to connect.
    Connecting {
        /// Where to.
        address: Address,
        /// As what.
        with: SignIn,
    },
    /// The hub has taken the sign-in.
    SignedIn {
        /// As what.
        with: SignIn,
    },
    /// The hub has refused the sign-in.
    SignInRefused {
        /// As what.
        with: SignIn,
        /// The code of CONNACK.
        code: u8,
        /// The same in words.
        reason: String,
    },
    /// No connection came about.
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The hub refused a subscription in the device's own room.
    SubscriptionRefused {
        /// The filter.
        filter: String,
        /// The code of SUBACK.
        code: u8,
    },
    /// It has said hello, and waits for a person who claims it.
    WaitingToBeClaimed,
    /// A credential came, was opened and stored.
    CredentialStored {
        /// When it was claimed, in seconds since 1970.
        claimed_at: u64,
    },
    /// What came as a credential is none for this device.
    CredentialRefused {
        /// Why.
        reason: String,
    },
    /// It signed in with the new credential: it is claimed.
    Claimed,
    /// A new credential was refused again and again, and is forgotten.
    CredentialForgotten,
    /// The operational secret was refused again and again: it goes back to its identity and waits to be claimed.
    FellBack,
    /// The hub asks for proof, because the counter was stale.
    RebaseAsked,
    /// It has answered, and counts from here.
    Rebased {
        /// The counter last used, as agreed.
        counter: u64,
    },
    /// The hub wants other values.
    Desired {
        /// Attributes and the values wanted.
        delta: Map<String, Value>,
    },
    /// It cannot take one of them.
    DesiredRefused(Refusal),
    /// The hub has its report.
    Reported {
        /// What was reported.
        state: Map<String, Value>,
    },
    /// The hub did not take its report.
    ReportRefused {
        /// Reason code of PUBACK, or the code in the rejection.
        code: u64,
        /// The message of the rejection.
        message: String,
    },
    /// A command came and is carried out.
    Command {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// A command came that is not carried out: too late, again, or malformed.
    CommandIgnored {
        /// Its id, empty when it had none.
        id: String,
        /// Why.
        reason: &'static str,
    },
    /// A command has got on.
    CommandResult {
        /// Its id.
        id: String,
        /// `running`, `done` or `failed`.
        status: &'static str,
        /// Why it failed.
        message: Option<String>,
    },
    /// Another has taken its place at the hub; it has answered that it is still there.
    PlaceTaken,
    /// Its hub was stolen, and its maker has told it which one follows: it belongs there from now on.
    Moved {
        /// The new hub.
        hub: HubId,
        /// The number of the order.
        counter: u64,
    },
    /// A hub had an order to move for it that it does not take.
    MoveRefused {
        /// Why.
        reason: String,
    },
    /// Its firmware has got on.
    Firmware(firmware::Event),
    /// The connection is gone.
    Disconnected {
        /// Reason code of the hub's DISCONNECT (MQTT 5).
        code: Option<u8>,
        /// In words.
        reason: String,
    },
    /// It will try again.
    Retrying {
        /// After this time.
        after: Duration,
    },
    /// It is switched off.
    Stopped,
}

/// As what a device signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignIn {
    /// With its identity, by a counter token.
    Token,
    /// With a new credential, for the first time.
    NewSecret,
    /// With its operational secret.
    Secret,
}

impl fmt::Display for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "its identity (counter token)",
            Self::NewSecret => "its new operational secret",
            Self::Secret => "its operational secret",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { device_id, kind, claim_code } => {
                write!(f, "{device_id}, a {kind}, is switched on; claim code {claim_code}")
            }
            Self::Connecting { address, with } => write!(f, "connecting to {address} with {with}"),
            Self::SignedIn { with } => write!(f, "signed in with {with}"),
            Self::SignInRefused { with, reason, .. } => write!(f, "not let in with {with}: {reason}"),
            Self::Unreachable { reason } => write!(f, "{reason}"),
            Self::SubscriptionRefused { filter, code } => write!(f, "subscription to {filter} refused: 0x{code:02X}"),
            Self::WaitingToBeClaimed => write!(f, "waiting to be claimed"),
            Self::CredentialStored { .. } => write!(f, "a credential came; it is stored, and will be tried"),
            Self::CredentialRefused { reason } => write!(f, "a credential came and was refused: {reason}"),
            Self::Claimed => write!(f, "claimed: the new credential works and is its own now"),
            Self::CredentialForgotten => write!(f, "the new credential does not work and is forgotten"),
            Self::FellBack => write!(f, "the operational secret is no longer taken: back to its identity"),
            Self::RebaseAsked => write!(f, "the hub has seen a later counter and asks for proof"),
            Self::Rebased { counter } => write!(f, "proof given; counting from {counter}"),
            Self::Desired { delta } => write!(f, "desired: {}", Json(delta)),
            Self::DesiredRefused(refusal) => write!(f, "cannot set {}: {}", refusal.attribute, refusal.reason),
            Self::Reported { state } => write!(f, "reported: {}", Json(state)),
            Self::ReportRefused { code, message } => write!(f, "report refused ({code}): {message}"),
            Self::Command { id, name } => write!(f, "command {name} ({id})"),
            Self::CommandIgnored { id, reason } => write!(f, "command {id} ignored: {reason}"),
            Self::CommandResult { id, status, message: None } => write!(f, "command {id}: {status}"),
            Self::CommandResult { id, status, message: Some(message) } => write!(f, "command {id}: {status}: {message}"),
            Self::PlaceTaken => write!(f, "another thing has taken its place at the hub; it has said that it is still here"),
            Self::Moved { hub, counter } => write!(f, "told by its maker to move to the hub {hub} (order {counter})"),
            Self::MoveRefused { reason } => write!(f, "an order to move was refused: {reason}"),
            Self::Firmware(event) => event.fmt(f),
            Self::Disconnected { reason, .. } => write!(f, "{reason}"),
            Self::Retrying { after } => write!(f, "next try in {:.1} s", after.as_secs_f64()),
            Self::Stopped => write!(f, "switched off"),
        }
    }
}

/// Attributes as JSON on one line.
struct Json<'a>(&'a Map<String, Value>);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}
