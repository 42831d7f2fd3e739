//! Invitations, self-registration, sharing by link, the hub's settings, and its clock.

use super::Answer::{Json, Nothing};
use super::Verb::{Delete, Get, Patch, Post};
use super::{Body, Call};
use crate::web::api::{invitations, settings};

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Post, "/api/v1/invitations", "Promise an account, or share devices, by a link", |c, r, s| {
        Box::pin(invitations::make(c, r, s))
    })
    .takes(Body::Json("NewInvitation"))
    .gives(&[(201, Json("MadeInvitation"))])
    .refuses(&[404, 409]),
    Call::signed_in(Get, "/api/v1/invitations", "The open invitations", |c, _, s| Box::pin(invitations::list(c, s)))
        .gives(&[(200, Json("Invitations"))])
        .refuses(&[403]),
    Call::signed_in(Delete, "/api/v1/invitations/{invitation}", "Withdraw an invitation", |c, r, s| {
        Box::pin(invitations::withdraw(c, r, s))
    })
    .gives(&[(204, Nothing)]),
    Call::open(Post, "/api/v1/invitations/look", "What an invitation promises", |c, r| Box::pin(invitations::look(c, r)))
        .takes(Body::Json("InvitationCode"))
        .gives(&[(200, Json("InvitationLook"))])
        .refuses(&[403, 404, 409, 429]),
    Call::signed_in(Post, "/api/v1/invitations/accept", "Take what an invitation shares", |c, r, s| Box::pin(invitations::accept(c, r, s)))
        .takes(Body::Json("InvitationCode"))
        .gives(&[(200, Json("Bindings"))])
        .refuses(&[404, 409, 429]),
    Call::open(Post, "/api/v1/registrations", "Make an account for oneself", |c, r| Box::pin(invitations::register(c, r)))
        .takes(Body::Json("Registration"))
        .gives(&[(201, Json("Opened"))])
        .refuses(&[403, 404, 409, 429]),
    Call::signed_in(Get, "/api/v1/hub/settings", "What the home has set", |c, _, _| Box::pin(settings::show(c)))
        .gives(&[(200, Json("Settings"))]),
    Call::signed_in(Patch, "/api/v1/hub/settings", "Change what the home has set", |c, r, s| Box::pin(settings::change(c, r, s)))
        .takes(Body::Json("SettingsEdit"))
        .gives(&[(200, Json("Settings"))]),
    Call::signed_in(Get, "/api/v1/hub/clock", "What time it is for the hub, and how far it believes that", |c, _, _| {
        Box::pin(settings::clock(c))
    })
    .gives(&[(200, Json("Clock"))]),
    Call::signed_in(Post, "/api/v1/hub/clock", "Say what time it is, as an owner", |c, r, s| Box::pin(settings::vouch(c, r, s)))
        .takes(Body::Json("ClockWord"))
        .gives(&[(200, Json("Clock"))]),
];
