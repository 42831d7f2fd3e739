//! Passwords, recovery, a second factor, one's own sessions and data.

use super::Answer::{Json, Nothing};
use super::Verb::{Delete, Get, Patch, Post, Put};
use super::{Body, Call};
use crate::web::api::accounts;

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::open(Post, "/api/v1/passwords/check", "How strong a password would be", |c, r| Box::pin(accounts::check_password(c, r)))
        .takes(Body::Json("PasswordCheck"))
        .gives(&[(200, Json("Strength"))])
        .refuses(&[403, 429]),
    Call::open(Post, "/api/v1/passwords/reset", "Set a new password by a reset code or a recovery code", |c, r| {
        Box::pin(accounts::reset_password(c, r))
    })
    .takes(Body::Json("PasswordReset"))
    .gives(&[(204, Nothing)])
    .refuses(&[401, 403, 429]),
    Call::signed_in(Post, "/api/v1/users/{user}/reset", "Make a code by which somebody sets a new password", |c, r, s| {
        Box::pin(accounts::make_reset_code(c, r, s))
    })
    .gives(&[(201, Json("ResetCode"))])
    .refuses(&[409, 422]),
    Call::signed_in(Post, "/api/v1/me/recovery-code", "Make an owner's recovery code; an earlier one ends", |c, r, s| {
        Box::pin(accounts::make_recovery_code(c, r, s))
    })
    .takes(Body::Json("PasswordAgain"))
    .gives(&[(201, Json("RecoveryCode"))])
    .refuses(&[429]),
    Call::signed_in(Post, "/api/v1/me/second-factor", "Begin a second factor", |c, r, s| Box::pin(accounts::begin_second_factor(c, r, s)))
        .takes(Body::Json("PasswordAgain"))
        .gives(&[(201, Json("SecondFactor"))])
        .refuses(&[409, 429]),
    Call::signed_in(Put, "/api/v1/me/second-factor", "Put it in force with a first code", |c, r, s| {
        Box::pin(accounts::confirm_second_factor(c, r, s))
    })
    .takes(Body::Json("SecondFactorCode"))
    .gives(&[(200, Json("RecoveryCodes"))])
    .refuses(&[409, 429]),
    Call::signed_in(Delete, "/api/v1/me/second-factor", "Switch it off", |c, r, s| Box::pin(accounts::remove_second_factor(c, r, s)))
        .takes(Body::Json("PasswordAgain"))
        .gives(&[(204, Nothing)])
        .refuses(&[409, 429]),
    Call::signed_in(Get, "/api/v1/me/sessions", "One's own sessions", |c, _, s| Box::pin(accounts::sessions(c, s)))
        .gives(&[(200, Json("Sessions"))])
        .refuses(&[403]),
    Call::signed_in(Delete, "/api/v1/me/sessions/{session}", "End one of them, with its live connections", |c, r, s| {
        Box::pin(accounts::end_session(c, r, s))
    })
    .gives(&[(204, Nothing)]),
    Call::signed_in(Delete, "/api/v1/users/{user}/sessions", "End all sessions of an account", |c, r, s| {
        Box::pin(accounts::end_sessions(c, r, s))
    })
    .gives(&[(204, Nothing)]),
    Call::signed_in(Patch, "/api/v1/me", "Change how one wants to be called", |c, r, s| Box::pin(accounts::rename_me(c, r, s)))
        .takes(Body::Json("Display"))
        .gives(&[(200, Json("User"))]),
    Call::signed_in(Get, "/api/v1/me/export", "All that the hub holds about oneself", |c, r, s| Box::pin(accounts::export(c, r, s)))
        .gives(&[(200, Json("Export"))])
        .refuses(&[403, 429]),
    Call::signed_in(Delete, "/api/v1/me", "End one's account and erase what is personal", |c, r, s| Box::pin(accounts::leave(c, r, s)))
        .takes(Body::Json("PasswordAgain"))
        .gives(&[(204, Nothing)])
        .refuses(&[409, 429]),
];
