//! The audit: page by page, as a file, and whether it is whole.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal};
use crate::domain::audit::filter::Filter;
use crate::domain::audit::{Outcome, Recorded};
use crate::net::problem::Problem;
use crate::service::{AuditExport, Service};
use data_encoding::HEXLOWER;
use futures_util::stream;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::mpsc;
use warp::Reply;
use warp::http::header;

/// Entries of a page when nothing is said.
const PAGE: u64 = 50;
/// Most entries of a page.
const MOST: u64 = 500;

pub(in crate::web) async fn page(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let limit = request.number("limit")?.unwrap_or(PAGE).clamp(1, MOST);
    let before = request.number("before")?;
    let limit = usize::try_from(limit).unwrap_or(1);
    let page = context.service.audit_page(&session.actor, &filter(&request)?, before, limit).map_err(refusal::problem)?;
    let shown: Vec<Value> = page.entries.iter().map(shown).collect();
    answer::ok(&json!({"entries": shown, "next": page.next}))
}

pub(in crate::web) async fn verify(context: Arc<Context>, session: Session) -> Answered {
    let check = context.service.check_audit(&session.actor).await.map_err(refusal::problem)?;
    let seen = check.seen;
    let gaps: Vec<Value> = seen.gaps.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
    answer::ok(&json!({
        "whole": check.broken.is_none(),
        "broken": check.broken.map(|b| b.to_string()),
        "entries": seen.entries,
        "erased": seen.erased,
        "first": seen.first,
        "newest": seen.newest.map(|(seq, _)| seq),
        "hash": seen.newest.map(|(_, hash)| HEXLOWER.encode(&hash)),
        "gaps": gaps,
    }))
}

/// One block at a time: the next is read when the one before it is on its way. It ends with the reader, with the
/// session, and with the right to read.
pub(in crate::web) async fn export(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let mut export = context.service.export_audit(&session.actor, filter(&request)?).await.map_err(refusal::problem)?;
    let (blocks, mut ready) = mpsc::channel::<Vec<u8>>(1);
    let (service, shutdown, source) = (context.service.clone(), context.hooks.shutdown.clone(), request.caller.ip);
    tokio::spawn(async move {
        let pump = async {
            while let Ok(place) = blocks.reserve().await {
                let (service, session) = (service.clone(), session.clone());
                let read = tokio::task::spawn_blocking(move || (lines(&service, &session, source, &mut export), export)).await;
                let Ok((Some(block), same)) = read else { return };
                export = same;
                if !block.is_empty() {
                    place.send(block);
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = pump => {}
        }
    });
    let body = stream::poll_fn(move |cx| ready.poll_recv(cx).map(|b| b.map(Ok::<_, Infallible>)));
    let response = warp::reply::stream(body).into_response();
    let response = answer::with(response, header::CONTENT_TYPE, "application/x-ndjson");
    Ok(answer::with(response, header::CONTENT_DISPOSITION, "attachment; filename=\"audit.jsonl\""))
}

fn lines(service: &Service, session: &Session, source: IpAddr, export: &mut AuditExport) -> Option<Vec<u8>> {
    let actor = service.actor(&session.token, "https", source).ok()?;
    match service.export_lines(&actor, export) {
        Ok(lines) => lines,
        Err(error) => {
            tracing::warn!(%error, "an export of the audit ends before its end");
            None
        }
    }
}

fn filter(request: &Request) -> Result<Filter, Problem> {
    let outcome = request.text("outcome")?.map(|given| {
        let known = Outcome::ALL.into_iter().find(|o| o.as_str() == given);
        known.ok_or_else(|| Problem::invalid("outcome: allowed, denied or done is expected"))
    });
    Ok(Filter {
        actor: request.text("actor")?,
        object: request.text("object")?,
        action: request.text("action")?,
        outcome: outcome.transpose()?,
        since: request.number("since")?,
        until: request.number("until")?,
    })
}

fn shown(entry: &Recorded) -> Value {
    let e = &entry.event;
    json!({
        "seq": entry.seq, "at": entry.at, "actor": e.actor, "behalf": e.behalf, "action": e.action, "object": e.object,
        "outcome": e.outcome, "reason": e.reason, "detail": e.detail, "via": e.via,
        "erased": entry.erased,
    })
}
