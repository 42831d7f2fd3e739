//! What the hub knows, as pure code: identities, statements, bindings, policy, twins, models, audit.
//!
//! No async, no IO, no clock, no randomness: time and entropy are arguments. Nothing here imports another room.

pub mod account;
pub mod app;
pub mod audit;
pub mod authority;
pub mod backup;
pub mod batch;
pub mod binding;
pub mod brand;
pub mod cbor;
pub mod claim;
pub mod clone;
pub mod code;
pub mod device;
pub mod firmware;
pub mod ids;
pub mod improv;
pub mod keys;
pub mod mirror;
pub mod model;
pub mod network;
pub mod oauth;
pub mod pairing;
pub mod policy;
pub mod rehome;
pub mod release;
mod schema;
pub mod support;
pub mod system;
pub mod time;
pub mod timekeeping;
pub mod topic;
pub mod totp;
pub mod twin;
pub mod voucher;
