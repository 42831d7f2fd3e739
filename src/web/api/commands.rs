//! Commands: sending one, and how far it is.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::service::CommandRequest;
use std::sync::Arc;
use warp::http::{StatusCode, header};

/// 200 when the command is over by the time of the answer, 202 while it is not.
pub(in crate::web) async fn send(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let id = request.device()?;
    let body: schema::NewCommand = request.json(&context).await?;
    let command = CommandRequest { name: body.name, args: body.args, ttl_ms: body.ttl_ms, wait_ms: body.wait_ms, client_token: None };
    let view = context.service.command(&session.actor, &id, command).await.map_err(refusal::problem)?;
    let over = matches!(view.status.as_str(), "done" | "failed" | "expired");
    let status = if over { StatusCode::OK } else { StatusCode::ACCEPTED };
    let location = format!("/api/v1/devices/{id}/commands/{}", view.id);
    Ok(answer::with(answer::json(status, &view)?, header::LOCATION, &location))
}

pub(in crate::web) async fn show(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let view = context.service.command_view(&session.actor, &request.device()?, request.parameter(1));
    answer::ok(&view.map_err(refusal::problem)?)
}
