//! What is nearby, pairing with it, and stock MQTT devices.

use super::Answer::{Events, Json};
use super::Verb::{Delete, Get, Post};
use super::{Body, Call};
use crate::web::api::pairing;
use crate::web::events;

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Get, "/api/v1/radio", "The hub's Bluetooth radio", |c, _, s| Box::pin(pairing::radio(c, s)))
        .gives(&[(200, Json("Radio"))]),
    Call::signed_in(Post, "/api/v1/radio/scan", "Look around for 30 s", |c, _, s| Box::pin(pairing::scan(c, s)))
        .gives(&[(202, Json("Scan"))])
        .refuses(&[409]),
    Call::signed_in(Get, "/api/v1/nearby", "What is nearby", |c, _, s| Box::pin(pairing::nearby(c, s))).gives(&[(200, Json("Nearby"))]),
    Call::signed_in(Post, "/api/v1/pairings", "Pair a device that is nearby", |c, r, s| Box::pin(pairing::begin(c, r, s)))
        .takes(Body::Json("NewPairing"))
        .gives(&[(201, Json("Pairing"))])
        .refuses(&[404, 409, 429]),
    Call::signed_in(Get, "/api/v1/pairings", "The pairings of the last ten minutes", |c, _, s| Box::pin(pairing::list(c, s)))
        .gives(&[(200, Json("Pairings"))]),
    Call::signed_in(Get, "/api/v1/pairings/{pairing}", "A pairing, and how far it is", |c, r, s| Box::pin(pairing::show(c, r, s)))
        .gives(&[(200, Json("Pairing"))]),
    Call::signed_in(Delete, "/api/v1/pairings/{pairing}", "End a pairing", |c, r, s| Box::pin(pairing::cancel(c, r, s)))
        .gives(&[(200, Json("Pairing"))])
        .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/pairings/{pairing}/confirm", "Go on with a device that has not proved its key", |c, r, s| {
        Box::pin(pairing::confirm(c, r, s))
    })
    .takes(Body::Json("PairingConfirmation"))
    .gives(&[(200, Json("Pairing"))])
    .refuses(&[409]),
    Call::signed_in(Get, "/api/v1/pairings/{pairing}/events", "How far it is, as Server-Sent Events", |c, r, s| {
        Box::pin(events::pairing(c, r, s))
    })
    .gives(&[(200, Events)])
    .refuses(&[429]),
    Call::signed_in(Post, "/api/v1/devices", "Make a password for a stock MQTT device", |c, r, s| Box::pin(pairing::add_stock(c, r, s)))
        .takes(Body::Json("NewDevice"))
        .gives(&[(201, Json("MadeDevice"))])
        .refuses(&[409]),
];
