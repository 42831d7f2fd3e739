//! The version of the hub.

use super::Answer::Json;
use super::Verb::{Get, Post};
use super::{Body, Call};
use crate::web::api::update;

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Get, "/api/v1/update", "The hub's version, and what is done about it", |c, _, s| Box::pin(update::show(c, s)))
        .gives(&[(200, Json("HubUpdate"))])
        .refuses(&[403, 409]),
    Call::signed_in(Post, "/api/v1/update/check", "Ask the vendor for a new version", |c, r, s| Box::pin(update::check(c, r, s)))
        .gives(&[(200, Json("HubUpdate"))])
        .refuses(&[403, 409, 429]),
    Call::signed_in(Post, "/api/v1/update/apply", "Install the version that is offered", |c, r, s| Box::pin(update::apply(c, r, s)))
        .takes(Body::Json("PasswordAgain"))
        .gives(&[(202, Json("HubUpdate"))])
        .refuses(&[403, 409, 429]),
    Call::signed_in(Post, "/api/v1/update/roll-back", "Go back to the version before", |c, r, s| Box::pin(update::roll_back(c, r, s)))
        .takes(Body::Json("PasswordAgain"))
        .gives(&[(202, Json("HubUpdate"))])
        .refuses(&[403, 409, 429]),
];
