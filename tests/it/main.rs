//! Integration tests: a real hub on loopback, real clients, through public interfaces.

mod house;
mod signing_in;
