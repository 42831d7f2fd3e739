//! Backups.

use super::Answer::Json;
use super::Verb::{Get, Post, Put};
use super::{Body, Call};
use crate::web::api::backup;

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Get, "/api/v1/backups", "How backups are set and stand, and what there is", |c, _, s| Box::pin(backup::show(c, s)))
        .gives(&[(200, Json("Backups"))])
        .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/backups", "Make a backup now; how it goes is in GET", |c, r, s| Box::pin(backup::create(c, r, s)))
        .takes(Body::Json("BackupWish"))
        .gives(&[(202, Json("BackupRun"))])
        .refuses(&[403, 409, 429]),
    Call::signed_in(Post, "/api/v1/backups/rehearsal", "Rehearse a restore of the newest good backup; how it went is in GET", |c, r, s| {
        Box::pin(backup::rehearse(c, r, s))
    })
    .takes(Body::Json("RehearsalWish"))
    .gives(&[(202, Json("Backups"))])
    .refuses(&[403, 409, 429]),
    Call::signed_in(Put, "/api/v1/backup", "Set where backups go, when, how many are kept, and a passphrase", |c, r, s| {
        Box::pin(backup::set(c, r, s))
    })
    .takes(Body::Json("BackupEdit"))
    .gives(&[(200, Json("Backups"))])
    .refuses(&[403, 429]),
];
