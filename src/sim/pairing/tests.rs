//! The published vectors, byte for byte, and a device against a hub that a test plays.

use super::machine::{Joined, Machine, Output, Setup, SigningIn};
use super::message::EndCode;
use super::*;
use crate::sim::identity::DeviceSecret;

mod faults;
pub(super) mod hub;
mod life;
mod vectors;

fn setup(fault: Option<Fault>) -> Setup {
    let secret = crate::sim::identity::tests::secret();
    Setup { secret, firmware: "1.4.2".into(), voucher: vec![0x5A; 700], model: vec![0xA5; 5000], model_piece: message::MODEL_PART, fault }
}

/// A device whose window is open.
fn machine(fault: Option<Fault>) -> Machine {
    let mut machine = Machine::new(setup(fault), 3, false);
    machine.open_window([1, 2, 3, 4], 0);
    machine
}

/// Everything that is to be done now.
fn all(machine: &mut Machine) -> Vec<Output> {
    std::iter::from_fn(|| machine.poll()).collect()
}

/// The values to notify among what is to be done now.
fn notified(outputs: Vec<Output>) -> Vec<Vec<u8>> {
    outputs.into_iter().filter_map(|output| if let Output::Notify(value) = output { Some(value) } else { None }).collect()
}

fn ends(outputs: &[Output], wanted: EndCode) -> bool {
    outputs.iter().any(|output| matches!(output, Output::Tell(Told::Ended { code, .. }) if *code == wanted))
        && outputs.contains(&Output::Disconnect)
}
