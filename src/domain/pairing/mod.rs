//! The hub's side of pairing over Bluetooth Low Energy (`docs/protocol/pairing.md`): what is advertised, how messages are cut, what they say,
//! the secure session, and the conversation with its limits. Radio, clock and randomness are the caller's: bytes, milliseconds and entropy
//! come in, and out come values to write and what has happened.

mod advertised;
mod conversation;
mod frame;
mod limits;
mod message;
mod noise;

pub use super::keys::{PairingKey, Transcript, pair_tag, verify_pair_tag};
pub use advertised::{ADVERTISED_BYTES, Advertised, WindowState};
pub use conversation::{Ending, Event, Opening, Pairing, PairingFault, Phase};
pub use frame::{FrameError, MESSAGE_MAX, Reassembler, VALUE_MAX, VALUE_MIN, fragments, value_max};
pub use limits::*;
pub use message::{Delivery, DeliveryError, DeviceStep, EndCode, Hello, Message, Wifi, WifiError};
pub use noise::{Channel, Initiator, NoiseError, Responder, prologue};

/// The GATT service, as the 16 bytes of its UUID in the order they are written: `ac9443d2-687c-4c4c-aa78-2d61b4d36cd2`.
pub const SERVICE: [u8; 16] = 0xac94_43d2_687c_4c4c_aa78_2d61_b4d3_6cd2_u128.to_be_bytes();
/// The characteristic that the hub writes to, with response: `436c5d49-3b6f-44e0-83ae-a02fda7273f0`.
pub const RX: [u8; 16] = 0x436c_5d49_3b6f_44e0_83ae_a02f_da72_73f0_u128.to_be_bytes();
/// The characteristic that the device notifies on: `8e0e6803-b197-4fa6-8b95-0c83424dadee`.
pub const TX: [u8; 16] = 0x8e0e_6803_b197_4fa6_8b95_0c83_424d_adee_u128.to_be_bytes();
/// The characteristic that says what is advertised: `e18042a9-450a-4bfd-b00a-c2c835c5c68a`.
pub const INFO: [u8; 16] = 0xe180_42a9_450a_4bfd_b00a_c2c8_35c5_c68a_u128.to_be_bytes();

#[cfg(test)]
mod tests;
