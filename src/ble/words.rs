//! What people are told when a pairing fails: what is so, and what to do next.

use super::radio::{AdapterState, RadioError};
use crate::domain::improv::{DeviceError, Fault};
use crate::domain::pairing::{DeviceStep, EndCode, PairingFault, Phase};
use crate::service::{PairingProblem, WRONG_CODE};

/// The radio does not work.
pub(super) fn radio(state: AdapterState) -> PairingProblem {
    let (code, detail, next) = match state {
        AdapterState::NoBus | AdapterState::NoDaemon | AdapterState::NoAdapter => {
            ("radio_absent", "The hub's Bluetooth is gone.", "See that the adapter is plugged in and that the service bluetooth runs.")
        }
        AdapterState::Off => ("radio_off", "The Bluetooth adapter was switched off.", "Switch it on: bluetoothctl power on."),
        AdapterState::Blocked => ("radio_blocked", "The Bluetooth adapter is blocked.", "End the block: rfkill unblock bluetooth."),
        AdapterState::Starting | AdapterState::Ready => (
            "radio_failed",
            "The hub's Bluetooth does not answer.",
            "Try again in a minute. If that does not help, start the service bluetooth again.",
        ),
    };
    PairingProblem::new(code, detail, next)
}

/// No device nearby fits.
pub(super) fn not_found() -> PairingProblem {
    PairingProblem::new(
        "not_found",
        "No device nearby fits this code.",
        "Switch the device on near the hub and open its pairing window, as its manual says. Compare the code with the label.",
    )
}

/// The thing that the person chose is not heard.
pub(super) fn not_heard() -> PairingProblem {
    PairingProblem::new("not_found", "The device is not heard any more.", "Switch it on near the hub, and look for devices again.")
}

/// The chosen thing is another device than the one of the code.
pub(super) fn other_device() -> PairingProblem {
    PairingProblem::new(
        "other_device",
        "The code does not belong to the device that was chosen.",
        "Compare the code with the label of the device.",
    )
}

/// A device nearby speaks another version of the protocol.
pub(super) fn other_version() -> PairingProblem {
    PairingProblem::new(
        "other_version",
        "The device speaks another version of the pairing protocol.",
        "Update the device or the hub, and try again.",
    )
}

/// The device says that its window is closed.
pub(super) fn window_closed() -> PairingProblem {
    PairingProblem::new(
        "window_closed",
        "The device's pairing window is closed.",
        "Open it by hand, as the device's manual says, and try again.",
    )
}

/// A person has ended it.
pub(super) fn cancelled() -> PairingProblem {
    PairingProblem::new("cancelled", "The pairing was cancelled.", "Nothing has changed on either side.")
}

/// Nobody confirmed.
pub(super) fn not_confirmed() -> PairingProblem {
    PairingProblem::new("not_confirmed", "Nobody confirmed the device in time.", "Pair it again, and confirm it within two minutes.")
}

/// The device did not sign in.
pub(super) fn no_sign_in(last: Option<(DeviceStep, u64)>) -> PairingProblem {
    let (detail, next) = match last {
        Some((DeviceStep::Joining, 2)) => (
            "The device does not find the Wi-Fi network.",
            "See that the network is in reach of the device and that its name is right; many devices know 2.4 GHz only.",
        ),
        Some((DeviceStep::Joining, 3)) => ("The Wi-Fi network refused the passphrase.", "Type the passphrase again."),
        Some((DeviceStep::Joining, _)) => {
            ("The device did not get into the Wi-Fi network.", "See that the network is in reach of the device, then pair it again.")
        }
        Some((DeviceStep::Looking, _)) => (
            "The device did not find the hub in the network.",
            "See that both are in the same network and that nothing in between keeps them apart (a guest network, a firewall).",
        ),
        Some((DeviceStep::SigningIn, _)) => (
            "The device reached the hub and did not sign in.",
            "Pair it again. If that does not help, reset it by hand as its manual says.",
        ),
        None => {
            ("The device has not signed in, and is as it was before.", "See that it reaches the network the hub is in, then pair it again.")
        }
    };
    PairingProblem::new("no_sign_in", detail, next)
}

/// The connection could not be made, or did not hold.
pub(super) fn link(error: &RadioError) -> PairingProblem {
    let near = "Put the device closer to the hub, and try again.";
    match error {
        RadioError::NotFound => not_heard(),
        RadioError::Missing => PairingProblem::new(
            "malformed",
            "The device does not offer what it advertises.",
            "Update the device, or switch it off and on, and try again.",
        ),
        RadioError::Gone(_) | RadioError::Adapter(_) => radio(AdapterState::Starting),
        RadioError::TimedOut(_) | RadioError::Failed { .. } => {
            PairingProblem::new("no_connection", "The hub did not get a Bluetooth connection to the device.", near)
        }
    }
}

/// A conversation failed.
pub(super) fn fault(fault: &PairingFault, last: Option<(DeviceStep, u64)>) -> PairingProblem {
    match fault {
        PairingFault::WrongCode => PairingProblem::new(
            WRONG_CODE,
            "The device hung up without an answer: its code is another one, or the connection broke.",
            "Compare the code with the label, put the device near the hub, wait a minute, and try again. After ten wrong codes the device closes its window.",
        ),
        PairingFault::Malformed(_) => PairingProblem::new(
            "malformed",
            "The device said something the hub does not understand.",
            "Update the device or the hub, and try again.",
        ),
        PairingFault::TimedOut(Phase::SignIn) => no_sign_in(last),
        PairingFault::TimedOut(Phase::Person) => not_confirmed(),
        PairingFault::TimedOut(Phase::Decision) | PairingFault::Undeliverable(_) => internal(),
        PairingFault::TimedOut(_) => {
            PairingProblem::new("timed_out", "The device did not answer in time.", "Switch it off and on near the hub, and try again.")
        }
        PairingFault::Lost => PairingProblem::new(
            "lost",
            "The connection to the device broke.",
            "Put the device closer to the hub, and try again. Nothing has changed on either side.",
        ),
        PairingFault::Cancelled => cancelled(),
        PairingFault::Refused { code, .. } => refused(*code, last),
    }
}

fn refused(code: EndCode, last: Option<(DeviceStep, u64)>) -> PairingProblem {
    match code {
        EndCode::Cancelled => {
            PairingProblem::new("cancelled", "The pairing was cancelled at the device.", "Nothing has changed on either side.")
        }
        EndCode::WindowClosed => window_closed(),
        EndCode::Busy => {
            PairingProblem::new("busy", "The device is being paired by somebody else.", "Wait until that has ended, and try again.")
        }
        EndCode::NotStored => PairingProblem::new(
            "not_stored",
            "The device could not store its credential.",
            "Switch it off and on, and try again. If that does not help, it is broken.",
        ),
        EndCode::NetworkFails => no_sign_in(last),
        EndCode::TimedOut => PairingProblem::new("timed_out", "The device waited too long for the hub.", "Try again."),
        EndCode::Malformed => {
            PairingProblem::new("malformed", "The device does not understand this hub.", "Update the device or the hub, and try again.")
        }
        EndCode::NotKnown | EndCode::ClaimedElsewhere | EndCode::NotTrusted => {
            PairingProblem::new("refused", "The device refuses this hub.", "Reset it by hand, as its manual says, and try again.")
        }
    }
}

/// Something in the hub.
pub(super) fn internal() -> PairingProblem {
    PairingProblem::new("internal", "The hub could not go on.", "Try again. The hub's log has the reason.")
}

/// An Improv device did not get into the network.
pub(super) fn improv(fault: Fault) -> PairingProblem {
    let (code, detail, next) = match fault {
        Fault::AlreadyJoined => (
            "already_joined",
            "The device is in a Wi-Fi network already.",
            "Reset its Wi-Fi by hand, as its manual says, to give it another one.",
        ),
        Fault::NotPressed => {
            ("not_pressed", "Nobody pressed the device's button.", "Try again, and press the button on the device when asked.")
        }
        Fault::Device(DeviceError::CannotConnect) => (
            "no_wifi",
            "The device did not get into the Wi-Fi network.",
            "Type the passphrase again, and see that the network is in reach of the device; many devices know 2.4 GHz only.",
        ),
        Fault::NotSeen => (
            "network_not_seen",
            "The device does not see the Wi-Fi network.",
            "Compare the name, put the device closer to the access point, and see that the network is there on 2.4 GHz: many devices know no other.",
        ),
        Fault::Device(DeviceError::NotAuthorized) => {
            ("not_pressed", "The device takes no settings now.", "Press its button, and try again.")
        }
        Fault::Device(_) | Fault::Malformed => {
            ("malformed", "The device does not understand the settings.", "Update the device, and try again.")
        }
        Fault::TimedOut => ("timed_out", "The device did not answer in time.", "Switch it off and on near the hub, and try again."),
        Fault::NoWord => (
            "no_wifi",
            "The device did not say whether it got into the network.",
            "Look for it in the network. If it is not there, try again.",
        ),
        Fault::Lost => ("lost", "The connection to the device broke.", "Put the device closer to the hub, and try again."),
        Fault::TooLong => {
            ("bad_wifi", "The name or the passphrase of the network is too long.", "A name has up to 32 bytes, a passphrase 8 to 64.")
        }
        Fault::Cancelled => return cancelled(),
    };
    PairingProblem::new(code, detail, next)
}

/// An Improv device needs a network, and none was given.
pub(super) fn wifi_needed() -> PairingProblem {
    PairingProblem::new(
        "wifi_needed",
        "The device needs a Wi-Fi network.",
        "Start again, and give the name and the passphrase of your network.",
    )
}
