//! Integration tests: a real hub on loopback, real clients, through public interfaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod audit;
mod certificates;
mod durability;
mod fuzz;
mod gate;
mod house;
mod late;
mod lifetime;
mod listed;
mod matrix;
mod model;
mod page;
mod peers;
mod people;
mod recovery;
mod registry;
mod revocation;
mod sharing;
mod signing_in;
mod support;
mod tour;
mod twins;
mod web;
mod wire;
