//! Firmware of devices: what a maker signs (`release`), whether and when a device is offered it (`policy`), and how one update goes (`progress`).
//! The protocol is docs/protocol/firmware.md. Images are nobody's here but by their hash; where they lie, and who fetches them, is the service's.

pub mod policy;
pub mod progress;
pub mod release;
mod report;
