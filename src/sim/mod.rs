//! Simulated devices: the second implementation of the device side, written from `docs/protocol/` alone. It imports
//! nothing of the crate, so that a mistake in the hub cannot hide in code that both sides share.
//!
//! `mqtt` and `tls` are a client for the public protocol, which the demo's tour and the load generator use too;
//! `identity` and `state` are what a firmware keeps secret and keeps; `network` is how they find a hub
//! and are found; `device` is their life; `things` are what it does; `firmware` is how they become their next version;
//! `copies` are what a hub must tell apart; `link` is a network between two programs that can be cut.

#[cfg(feature = "sim")]
pub mod bluez;
pub mod copies;
pub mod device;
pub mod firmware;
pub mod gatt;
pub mod identity;
pub mod improv;
pub mod link;
pub mod mqtt;
pub mod network;
#[cfg(feature = "sim")]
pub mod network_manager;
pub mod pairing;
#[cfg(feature = "sim")]
pub mod peripheral;
#[cfg(feature = "sim")]
pub mod rauc;
pub mod state;
pub mod things;
pub mod tls;
