//! Service accounts, support sessions, and what each role may do.

use super::Answer::{Json, Nothing};
use super::Verb::{Delete, Get, Patch, Post};
use super::{Body, Call};
use crate::web::api::{people, services, support};

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Get, "/api/v1/services", "Service accounts", |c, _, s| Box::pin(services::list(c, s)))
        .gives(&[(200, Json("Services"))])
        .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/services", "Make a service account; its secret is shown this once", |c, r, s| {
        Box::pin(services::add(c, r, s))
    })
    .takes(Body::Json("NewService"))
    .gives(&[(201, Json("ServiceWithSecret"))])
    .refuses(&[409]),
    Call::signed_in(Patch, "/api/v1/services/{id}", "Change its name, networks or scopes", |c, r, s| Box::pin(services::change(c, r, s)))
        .takes(Body::Json("ServiceEdit"))
        .gives(&[(200, Json("ServiceAccount"))]),
    Call::signed_in(Delete, "/api/v1/services/{id}", "End it: its secret, tokens, rights and connections", |c, r, s| {
        Box::pin(services::end(c, r, s))
    })
    .gives(&[(204, Nothing)]),
    Call::signed_in(Post, "/api/v1/services/{id}/secret", "A new secret; the old one and its tokens end", |c, r, s| {
        Box::pin(services::renew_secret(c, r, s))
    })
    .gives(&[(201, Json("ServiceSecret"))]),
    Call::signed_in(Patch, "/api/v1/users/{user}", "Change an account", |c, r, s| Box::pin(people::change(c, r, s)))
        .takes(Body::Json("UserEdit"))
        .gives(&[(200, Json("User"))])
        .refuses(&[409]),
    Call::signed_in(Get, "/api/v1/support", "Support sessions that are open", |c, _, s| Box::pin(support::list(c, s)))
        .gives(&[(200, Json("SupportSessions"))])
        .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/support", "Let one of a maker's people in, for a reason and a time", |c, r, s| {
        Box::pin(support::open(c, r, s))
    })
    .takes(Body::Json("NewSupport"))
    .gives(&[(201, Json("Support"))])
    .refuses(&[404, 409]),
    Call::signed_in(Delete, "/api/v1/support/{id}", "End it at once", |c, r, s| Box::pin(support::end(c, r, s))).gives(&[(204, Nothing)]),
    Call::signed_in(Get, "/api/v1/roles", "What each role, scope and privilege allows, from the tables that enforce it", |c, _, _| {
        Box::pin(support::roles(c))
    })
    .gives(&[(200, Json("Roles"))]),
];
