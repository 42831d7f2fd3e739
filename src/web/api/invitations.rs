//! Invitations: making, listing, withdrawing, looking at one, taking what it gives, and accounts made by oneself.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, people, qr, refusal, schema};
use crate::service::Registration;
use serde_json::json;
use std::sync::Arc;
use warp::http::StatusCode;

/// The page that takes the code.
const PAGE: &str = "join";

pub(in crate::web) async fn make(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::NewInvitation = request.json(&context).await?;
    let made = context.service.invite(&session.actor, body.read()?).await.map_err(refusal::problem)?;
    let link = qr::link(&request, PAGE, &made.code);
    let body = json!({"id": made.id, "code": made.code.as_str(), "qr": qr::svg(&link)?, "link": link, "expires": made.expires});
    answer::json(StatusCode::CREATED, &body)
}

pub(in crate::web) async fn list(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&json!({"invitations": context.service.invitations(&session.actor).map_err(refusal::problem)?}))
}

pub(in crate::web) async fn withdraw(context: Arc<Context>, request: Request, session: Session) -> Answered {
    context.service.withdraw_invitation(&session.actor, request.parameter(0)).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn look(context: Arc<Context>, mut request: Request) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::InvitationCode = request.json(&context).await?;
    let (source, via) = people::from(&request);
    answer::ok(&context.service.look_at_invitation(&body.code, source, &via).map_err(refusal::problem)?)
}

pub(in crate::web) async fn accept(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::InvitationCode = request.json(&context).await?;
    let bindings = context.service.accept_invitation(&session.actor, &body.code).await.map_err(refusal::problem)?;
    answer::ok(&json!({"bindings": bindings}))
}

pub(in crate::web) async fn register(context: Arc<Context>, mut request: Request) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::Registration = request.json(&context).await?;
    let new = Registration {
        code: body.code,
        username: body.username,
        password: body.password.into_inner(),
        display_name: body.display_name.unwrap_or_default(),
    };
    let (source, via) = people::from(&request);
    people::session(&context, &context.service.register(new, source, &via).await.map_err(refusal::problem)?)
}
