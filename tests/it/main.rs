//! Integration tests: a real hub on loopback, real clients, through public interfaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

#[cfg(feature = "sim")]
mod air;
mod apps;
#[cfg(feature = "cloud")]
mod attesting;
mod audit;
mod backup;
mod certificates;
mod clock;
mod clones;
#[cfg(feature = "cloud")]
mod cloud;
#[cfg(feature = "cloud")]
mod cloud_makers;
mod copies;
mod den;
mod durability;
mod faults;
#[cfg(feature = "cloud")]
mod firmware_cloud;
mod firmware_device;
mod firmware_hub;
mod fuzz;
mod gate;
mod handed;
mod handover;
mod house;
mod invitations;
mod journal;
mod kept;
mod late;
mod lifetime;
mod listed;
mod matrix;
mod meeting;
mod mirror;
mod mirror_model;
mod model;
mod network;
mod page;
#[cfg(feature = "sim")]
mod pairing;
mod pairings;
#[cfg(feature = "cloud")]
mod partitions;
mod parts;
mod peers;
mod people;
mod recovery;
mod registry;
#[cfg(feature = "cloud")]
mod rehoming;
mod remotes;
mod replacement;
mod resets;
mod revocation;
mod sharing;
mod signatures;
mod signing_in;
mod support;
mod tour;
mod twins;
mod updating;
mod upgrade;
mod uplink;
mod uses;
mod web;
mod wire;
