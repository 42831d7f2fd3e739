//! The audit: pages, exporting, checking.

use super::Answer::{Json, Lines};
use super::Call;
use super::Verb::Get;
use crate::web::api::audit;

/// Texts by which entries are chosen.
const CHOSEN: &[(&str, &str)] = &[
    (
        "actor",
        "Only what this one did, or an app for it: `user:<id>`, `app:<id>`, `service:<id>`, `device:<id>`, `hub`; `?` for all strangers",
    ),
    ("object", "Only what was done to this"),
    ("action", "Only actions whose name begins with this"),
    ("outcome", "Only with this outcome: `allowed`, `denied` or `done`"),
];

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Get, "/api/v1/audit", "Who did what, newest first", |c, r, s| Box::pin(audit::page(c, r, s)))
        .queried(&[
            ("limit", "How many entries; 1 to 500, 50 unless given"),
            ("before", "Only entries with a lower number"),
            ("since", "Not before, ms since 1970"),
            ("until", "Before, ms since 1970"),
        ])
        .asked(CHOSEN)
        .gives(&[(200, Json("AuditPage"))])
        .refuses(&[403, 422]),
    Call::signed_in(Get, "/api/v1/audit/export", "The audit as JSON Lines, oldest first, with all that it takes to check it", |c, r, s| {
        Box::pin(audit::export(c, r, s))
    })
    .queried(&[("since", "Not before, ms since 1970"), ("until", "Before, ms since 1970")])
    .asked(CHOSEN)
    .gives(&[(200, Lines)])
    .refuses(&[403, 422, 429]),
    Call::signed_in(Get, "/api/v1/audit/verify", "Whether the audit is whole", |c, _, s| Box::pin(audit::verify(c, s)))
        .gives(&[(200, Json("AuditCheck"))])
        .refuses(&[403, 429]),
];
