//! Hearthkey: the home's authority on things. Which device is genuine, who may see or command it, what state it is in;
//! decided on a box in the house, with or without the internet.
//!
//! The rooms, and who may import whom, are in `docs/architecture.md` and checked by `tests/architecture.rs`:
//! [`domain`] is pure; [`store`] keeps; [`service`] holds the use cases; [`broker`] and [`web`] are the doors;
//! [`backup`] writes and finds backups; [`mdns`] is the hub on the local network; [`mirror`] carries it to its cloud; [`update`] brings it new versions of itself and goes back; [`net`] is what doors share; [`hub`] builds them all; [`factory`] is the maker's tool; [`sim`] the simulated
//! devices; [`cli`] the command line.

pub mod backup;
pub mod ble;
pub mod broker;
pub mod cli;
#[cfg(feature = "cloud")]
pub mod cloud;
pub mod config;
pub mod domain;
pub mod factory;
pub mod hub;
pub mod mdns;
pub mod mirror;
pub mod net;
pub mod service;
pub mod sim;
pub mod store;
pub mod update;
pub mod web;
