//! Why something is allowed, or not.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::domain::ids::DeviceId;
use crate::net::problem::Problem;
use crate::service::Question;
use std::sync::Arc;

pub(in crate::web) async fn explain(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::Question = request.json(&context).await?;
    let device = DeviceId::parse(&body.device_id).map_err(|_| Problem::not_found().detail("there is no such device"))?;
    let question = Question { device, action: body.action.into(), name: body.name, username: body.username, at: body.at };
    answer::ok(&context.service.explain(&session.actor, &question).map_err(refusal::problem)?)
}
