//! The version of the hub: see it, look for a new one, install it, go back.

use super::accounts::{again, password_again};
use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal};
use std::sync::Arc;
use warp::http::StatusCode;

pub(in crate::web) async fn show(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&context.service.hub_update(&session.actor).map_err(refusal::problem)?)
}

pub(in crate::web) async fn check(context: Arc<Context>, request: Request, session: Session) -> Answered {
    context.attempt(request.caller.ip)?;
    answer::ok(&context.service.check_update(&session.actor).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn apply(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let password = password_again(&context, &mut request).await?;
    let view = context.service.apply_update(&session.actor, &session.token, password).await.map_err(again)?;
    answer::json(StatusCode::ACCEPTED, &view)
}

pub(in crate::web) async fn roll_back(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let password = password_again(&context, &mut request).await?;
    let view = context.service.roll_back_update(&session.actor, &session.token, password).await.map_err(again)?;
    answer::json(StatusCode::ACCEPTED, &view)
}
