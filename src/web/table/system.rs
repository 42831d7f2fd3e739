//! The system of the box.

use super::Answer::{Json, Nothing};
use super::Verb::{Delete, Get, Post};
use super::{Body, Call};
use crate::web::api::system;

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Get, "/api/v1/update/system", "The system of the box, where RAUC updates it; 409 where there is none", |c, _, s| {
        Box::pin(system::show(c, s))
    })
    .gives(&[(200, Json("SystemUpdate"))])
    .refuses(&[403, 409]),
    Call::signed_in(Post, "/api/v1/update/system/bundle", "Bring a bundle; RAUC verifies it", |c, r, s| Box::pin(system::bring(c, r, s)))
        .takes(Body::File)
        .gives(&[(201, Json("SystemBundle"))])
        .refuses(&[403, 409, 429]),
    Call::signed_in(Delete, "/api/v1/update/system/bundle", "Remove the bundle that is here", |c, _, s| Box::pin(system::discard(c, s)))
        .gives(&[(204, Nothing)])
        .refuses(&[403, 409]),
    Call::signed_in(Post, "/api/v1/update/system/install", "Have RAUC install the bundle that is here", |c, r, s| {
        Box::pin(system::install(c, r, s))
    })
    .takes(Body::Json("SystemInstall"))
    .gives(&[(202, Json("SystemUpdate"))])
    .refuses(&[403, 409, 429]),
    Call::signed_in(Post, "/api/v1/update/system/restart", "Restart the box into the system that was installed", |c, r, s| {
        Box::pin(system::restart(c, r, s))
    })
    .takes(Body::Json("PasswordAgain"))
    .gives(&[(202, Json("SystemUpdate"))])
    .refuses(&[403, 409, 429]),
];
