//! Sharing: who has which right on a device, giving and taking it.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::domain::account::UserId;
use crate::domain::binding::Subject;
use crate::net::problem::Problem;
use serde_json::json;
use std::sync::Arc;

pub(in crate::web) async fn list(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let bindings = context.service.bindings(&session.actor, &request.device()?).map_err(refusal::problem)?;
    answer::ok(&json!({"bindings": bindings}))
}

pub(in crate::web) async fn grant(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let id = request.device()?;
    let body: schema::NewBinding = request.json(&context).await?;
    answer::ok(&context.service.grant(&session.actor, &id, body.into_grant()?).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn revoke(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let subject = holder(&request, 1)?;
    let keep = request.number("keep_grants")?.unwrap_or(0) != 0;
    let lost = context.service.revoke(&session.actor, &request.device()?, &subject, !keep).await.map_err(refusal::problem)?;
    answer::ok(&json!({"bindings": lost}))
}

pub(in crate::web) async fn administer(context: Arc<Context>, request: Request, session: Session) -> Answered {
    super::devices::shown_device(&context.service.take_administration(&session.actor, &request.device()?).await.map_err(refusal::problem)?)
}

/// The holder that the path names: an account by its id alone, any other by its text.
fn holder(request: &Request, n: usize) -> Result<Subject, Problem> {
    let text = request.parameter(n);
    let found = UserId::parse(text).map(Subject::User).or_else(|| Subject::parse(&text.replace("%3A", ":").replace("%3a", ":")));
    found.ok_or_else(|| Problem::not_found().detail("there is no such binding"))
}

/// The account that the path names. What cannot be an id is no account.
pub(super) fn account(request: &Request, n: usize) -> Result<UserId, Problem> {
    UserId::parse(request.parameter(n)).ok_or_else(|| Problem::not_found().detail("there is no such account"))
}
