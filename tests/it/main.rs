//! Integration tests: a real hub on loopback, real clients, through public interfaces.

mod house;
mod page;
mod signing_in;
mod tour;
