//! Handing a device on, replacing one, the clock that timed rights hang on.

use super::Answer::Tagged;
use super::Verb::Post;
use super::{Body, Call};
use crate::web::api::handover;

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Post, "/api/v1/devices/{id}/transfer", "Give its administration to somebody else", |c, r, s| {
        Box::pin(handover::transfer(c, r, s))
    })
    .takes(Body::Json("Transfer"))
    .gives(&[(200, Tagged("Device"))])
    .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/devices/{id}/replace", "Put another device in its place", |c, r, s| {
        Box::pin(handover::replace(c, r, s))
    })
    .takes(Body::Json("Replacement"))
    .gives(&[(200, Tagged("Device"))])
    .refuses(&[409, 429]),
];
