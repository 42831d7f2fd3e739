//! The system of the box, where RAUC updates it as a whole (the appliance's image): an owner brings a bundle, RAUC verifies it under the builder's
//! keyring and writes it to the slot that does not run, the box restarts into it. The hub adds no trust and reads no bundle: it keeps the file
//! ([`incoming`]), hands its path to RAUC over D-Bus ([`rauc`]), and tells what RAUC says ([`words`]). [`desk`] is the order in which that happens.

mod desk;
mod incoming;
mod rauc;
mod words;

pub use desk::{SystemDesk, SystemFacts};
