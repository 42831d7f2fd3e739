//! Integration tests: a real hub on loopback, real clients, through public interfaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

#[cfg(feature = "sim")]
mod air;
mod apps;
mod audit;
mod certificates;
mod clock;
mod clones;
#[cfg(feature = "cloud")]
mod cloud;
mod copies;
mod den;
mod durability;
mod fuzz;
mod gate;
mod handover;
mod house;
mod invitations;
mod late;
mod lifetime;
mod listed;
mod matrix;
mod meeting;
mod model;
mod network;
mod page;
#[cfg(feature = "sim")]
mod pairing;
mod pairings;
mod parts;
mod peers;
mod people;
mod recovery;
mod registry;
mod remotes;
mod resets;
mod revocation;
mod sharing;
mod signatures;
mod signing_in;
mod support;
mod tour;
mod twins;
mod uses;
mod web;
mod wire;
