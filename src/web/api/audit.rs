//! The audit, page by page.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal};
use crate::domain::audit::Recorded;
use serde_json::{Value, json};
use std::sync::Arc;

/// Entries of a page when nothing is said.
const PAGE: u64 = 50;
/// Most entries of a page.
const MOST: u64 = 500;

pub(in crate::web) async fn page(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let limit = request.number("limit")?.unwrap_or(PAGE).clamp(1, MOST);
    let before = request.number("before")?;
    let entries = context.service.audit(&session.actor, before, usize::try_from(limit).unwrap_or(1)).map_err(refusal::problem)?;
    let next = entries.last().map(|e| e.seq).filter(|seq| entries.len() as u64 == limit && *seq > 1);
    let shown: Vec<Value> = entries.iter().map(shown).collect();
    answer::ok(&json!({"entries": shown, "next": next}))
}

fn shown(entry: &Recorded) -> Value {
    let e = &entry.event;
    json!({
        "seq": entry.seq, "at": entry.at, "actor": e.actor, "behalf": e.behalf, "action": e.action, "object": e.object,
        "outcome": e.outcome, "reason": e.reason, "detail": e.detail, "via": e.via,
        "erased": entry.erased,
    })
}
