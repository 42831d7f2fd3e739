//! Integration tests: a real hub on loopback, real clients, through public interfaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod certificates;
mod clones;
mod copies;
mod den;
mod durability;
mod fuzz;
mod gate;
mod house;
mod late;
mod lifetime;
mod matrix;
mod model;
mod page;
mod peers;
mod people;
mod registry;
mod resets;
mod revocation;
mod sharing;
mod signing_in;
mod tour;
mod twins;
mod web;
mod wire;
