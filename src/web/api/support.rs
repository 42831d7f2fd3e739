//! Support sessions, and what each role may do.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::domain::ids::DeviceId;
use crate::net::problem::Problem;
use crate::service::SupportRequest;
use serde_json::json;
use std::sync::Arc;
use warp::http::StatusCode;

/// How long a support session lasts when nothing is said, in minutes.
const MINUTES: u64 = 60;

pub(in crate::web) async fn list(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&json!({"sessions": context.service.support_sessions(&session.actor).map_err(refusal::problem)?}))
}

pub(in crate::web) async fn open(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::NewSupport = request.json(&context).await?;
    let unknown = |_| Problem::not_found().detail("there is no such device");
    let devices = body.devices.iter().map(|id| DeviceId::parse(id).map_err(unknown)).collect::<Result<_, _>>()?;
    let request = SupportRequest {
        username: body.username,
        devices,
        privilege: body.privilege.into(),
        for_ms: body.minutes.unwrap_or(MINUTES).saturating_mul(60_000),
        reason: body.reason,
    };
    answer::json(StatusCode::CREATED, &context.service.open_support(&session.actor, request).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn end(context: Arc<Context>, request: Request, session: Session) -> Answered {
    context.service.end_support(&session.actor, request.parameter(0)).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn roles(context: Arc<Context>) -> Answered {
    answer::ok(&context.service.roles())
}
