//! The cloud that the home is linked to, and keys for use from away.

use super::Answer::{Json, Nothing};
use super::Verb::{Delete, Get, Patch, Post, Put};
use super::{Body, Call};
use crate::web::api::mirror;

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Get, "/api/v1/cloud", "The cloud that is linked, and how that stands", |c, _, s| Box::pin(mirror::show(c, s)))
        .gives(&[(200, Json("Cloud"))])
        .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/cloud/look", "What a cloud says of itself", |c, r, s| Box::pin(mirror::look(c, r, s)))
        .takes(Body::Json("CloudAddress"))
        .gives(&[(200, Json("CloudView"))])
        .refuses(&[403, 502]),
    Call::signed_in(Put, "/api/v1/cloud", "Link a cloud, or change the link to it", |c, r, s| Box::pin(mirror::link(c, r, s)))
        .takes(Body::Json("NewCloud"))
        .gives(&[(200, Json("Cloud"))])
        .refuses(&[403, 409, 502]),
    Call::signed_in(Patch, "/api/v1/cloud", "Change what the cloud may have and ask for", |c, r, s| Box::pin(mirror::change(c, r, s)))
        .takes(Body::Json("CloudEdit"))
        .gives(&[(200, Json("Cloud"))])
        .refuses(&[403, 409]),
    Call::signed_in(Delete, "/api/v1/cloud", "Unlink the cloud", |c, _, s| Box::pin(mirror::unlink(c, s)))
        .gives(&[(204, Nothing)])
        .refuses(&[403, 409]),
    Call::signed_in(Post, "/api/v1/cloud/sync", "Talk to the cloud now", |c, _, s| Box::pin(mirror::sync(c, s)))
        .gives(&[(202, Nothing)])
        .refuses(&[403, 409]),
    Call::signed_in(Post, "/api/v1/cloud/bulletin", "Bring a bulletin of revocations that the cloud has signed", |c, r, s| {
        Box::pin(mirror::bulletin(c, r, s))
    })
    .takes(Body::Json("CloudBulletin"))
    .gives(&[(200, Json("TakenBulletin"))])
    .refuses(&[403, 409]),
    Call::signed_in(Delete, "/api/v1/cloud/notices", "Say that what the cloud tells has been seen", |c, _, s| Box::pin(mirror::seen(c, s)))
        .gives(&[(204, Nothing)])
        .refuses(&[403]),
    Call::signed_in(Get, "/api/v1/me/away", "One's own keys for use from away", |c, _, s| Box::pin(mirror::keys(c, s)))
        .gives(&[(200, Json("AwayKeys"))])
        .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/me/away", "Make a key for use from away", |c, r, s| Box::pin(mirror::make_key(c, r, s)))
        .takes(Body::Json("NewAwayKey"))
        .gives(&[(201, Json("MadeAwayKey"))])
        .refuses(&[403, 409]),
    Call::signed_in(Delete, "/api/v1/me/away/{key}", "End a key for use from away", |c, r, s| Box::pin(mirror::end_key(c, r, s)))
        .gives(&[(204, Nothing)])
        .refuses(&[403, 404]),
];
