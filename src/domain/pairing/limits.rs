//! How long and how much (`docs/protocol/pairing.md` §7). Times are in milliseconds.

pub use crate::domain::voucher::{MODEL_PART_MAX, SHORT_VOUCHER_MAX};

/// From Noise message 1 to the hello, without what the fragments may take.
pub const HELLO_MS: u64 = 10_000;
/// Until any other answer of the device, without what the fragments may take.
pub const ANSWER_MS: u64 = 30_000;
/// What each fragment, sent or received, adds to the time of the answer that is waited for.
pub const FRAGMENT_MS: u64 = 50;
/// From the start to *stored*, without the time a person takes to confirm.
pub const WHOLE_MS: u64 = 180_000;
/// What a person has to confirm, in all, on top of [`WHOLE_MS`].
pub const PERSON_MS: u64 = 120_000;
/// From *stored* to the sign-in.
pub const SIGN_IN_MS: u64 = 120_000;
/// How long the last message (end, complete) may take to be written. What has been decided does not wait for it any longer.
pub const PARTING_MS: u64 = 5_000;
/// The most transport messages in a session, each way: nonces 0 … 63.
pub const MESSAGES_MAX: u64 = 64;
/// The most bytes of the model part in one message.
pub const MODEL_PIECE_MAX: usize = 3_500;
/// The most bytes of the hub's CA certificate (DER).
pub const CA_MAX: usize = 1_500;
/// The most addresses of the hub.
pub const ADDRESSES_MAX: usize = 8;
/// The most bytes of an address.
pub const ADDRESS_MAX: usize = 64;
/// The most characters of the text of an end.
pub const END_TEXT_MAX: usize = 100;
