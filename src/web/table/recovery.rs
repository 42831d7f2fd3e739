//! The recovery code, the bundle, and the review after a hub has taken another's place.

use super::Answer::{File, Json, Nothing};
use super::Verb::{Get, Post};
use super::{Body, Call};
use crate::web::api::recovery;

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Get, "/api/v1/recovery", "How the home is prepared for the day on which its hub dies", |c, _, s| {
        Box::pin(recovery::show(c, s))
    })
    .gives(&[(200, Json("Recovery"))])
    .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/recovery", "Make the recovery code; an earlier one ends", |c, r, s| Box::pin(recovery::make(c, r, s)))
        .takes(Body::Json("PasswordAgain"))
        .gives(&[(201, Json("HomeRecoveryCode"))])
        .refuses(&[403, 429]),
    Call::signed_in(Get, "/api/v1/recovery/bundle", "The recovery bundle as a file, sealed to the recovery code", |c, _, s| {
        Box::pin(recovery::bundle(c, s))
    })
    .gives(&[(200, File)])
    .refuses(&[403, 409]),
    Call::signed_in(Post, "/api/v1/recovery/review", "Say that the rights of all have been looked through", |c, _, s| {
        Box::pin(recovery::review(c, s))
    })
    .gives(&[(204, Nothing)])
    .refuses(&[403, 409]),
    Call::signed_in(Get, "/api/v1/recovery/moves", "Which devices of a stolen hub have come over, and what makers are asked", |c, _, s| {
        Box::pin(recovery::moves(c, s))
    })
    .gives(&[(200, Json("Moves"))])
    .refuses(&[403, 404]),
    Call::signed_in(Post, "/api/v1/recovery/moves", "Take in a maker's file of move orders", |c, r, s| {
        Box::pin(recovery::take_moves(c, r, s))
    })
    .takes(Body::File)
    .gives(&[(200, Json("OrdersTaken"))])
    .refuses(&[403, 404, 413]),
    Call::open(
        Get,
        "/rehome/{device}",
        "The order for a device of a stolen hub to move to this one; only the device can read it",
        |c, r| Box::pin(recovery::order(c, r)),
    )
    .gives(&[(200, File)])
    .refuses(&[404, 429]),
];
