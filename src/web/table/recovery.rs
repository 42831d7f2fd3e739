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
];
