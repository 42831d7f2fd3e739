//! Evidence of clones, and the way out of quarantine.

use super::Answer::{Json, Tagged};
use super::Verb::{Get, Post};
use super::{Body, Call};
use crate::web::api::clones;

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Get, "/api/v1/devices/{id}/evidence", "What speaks for two things acting as this device", |c, r, s| {
        Box::pin(clones::evidence(c, r, s))
    })
    .gives(&[(200, Json("Evidence"))])
    .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/devices/{id}/lift", "End its quarantine", |c, r, s| Box::pin(clones::lift(c, r, s)))
        .takes(Body::Json("Lift"))
        .gives(&[(200, Tagged("Device"))])
        .refuses(&[409]),
];
