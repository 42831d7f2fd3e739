//! Evidence of clones, and the way out of quarantine.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use std::sync::Arc;

pub(in crate::web) async fn evidence(context: Arc<Context>, request: Request, session: Session) -> Answered {
    answer::ok(&context.service.evidence(&session.actor, &request.device()?).map_err(refusal::problem)?)
}

pub(in crate::web) async fn lift(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let id = request.device()?;
    let body: schema::Lift = request.json(&context).await?;
    let note = body.note.unwrap_or_default();
    super::devices::shown_device(&context.service.lift(&session.actor, &id, &note).await.map_err(refusal::problem)?)
}
