//! Integration tests: a real hub on loopback, real clients, through public interfaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod certificates;
mod house;
mod page;
mod revocation;
mod signing_in;
mod tour;
mod web;
