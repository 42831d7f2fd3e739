//! What acts for people: their own tokens, the apps they let in, and the registrations of third parties' apps.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::domain::account::UserId;
use crate::net::problem::Problem;
use crate::service::{AppView, NewAppToken};
use serde_json::{Value, json};
use std::sync::Arc;
use warp::http::StatusCode;

pub(in crate::web) async fn make_token(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::NewAppToken = request.json(&context).await?;
    let devices = body.devices.into_iter().map(schema::AppDeviceChoice::into_grant).collect::<Result<_, _>>()?;
    let new = NewAppToken { name: body.name, devices, expires_in_ms: body.expires_in_ms };
    let made = context.service.make_app_token(&session.actor, new).await.map_err(refusal::problem)?;
    let body = schema::MadeAppToken { id: made.id, token: made.token.reveal().to_owned(), expires: made.expires };
    answer::json(StatusCode::CREATED, &body)
}

pub(in crate::web) async fn mine(context: Arc<Context>, session: Session) -> Answered {
    let apps = context.service.my_apps(&session.actor).map_err(refusal::problem)?;
    answer::ok(&json!({"apps": apps.iter().map(own).collect::<Vec<_>>()}))
}

/// One's own app: whose it is goes without saying.
fn own(app: &AppView) -> Value {
    let mut body = json!(app);
    if let Value::Object(members) = &mut body {
        members.retain(|name, _| name != "user" && name != "username");
    }
    body
}

pub(in crate::web) async fn end_mine(context: Arc<Context>, request: Request, session: Session) -> Answered {
    context.service.end_my_app(&session.actor, id(&request)?).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn list(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&json!({"apps": context.service.apps(&session.actor).map_err(refusal::problem)?}))
}

pub(in crate::web) async fn end(context: Arc<Context>, request: Request, session: Session) -> Answered {
    context.service.end_app(&session.actor, id(&request)?).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn clients(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&json!({"clients": context.service.clients(&session.actor).map_err(refusal::problem)?}))
}

pub(in crate::web) async fn add_client(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::NewClient = request.json(&context).await?;
    let made = context.service.add_client(&session.actor, &body.name, &body.redirect_uris).await.map_err(refusal::problem)?;
    answer::json(StatusCode::CREATED, &made)
}

pub(in crate::web) async fn end_client(context: Arc<Context>, request: Request, session: Session) -> Answered {
    context.service.end_client(&session.actor, id(&request)?).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

/// The app that the path names. What cannot be an id is none.
fn id(request: &Request) -> Result<&str, Problem> {
    let text = request.parameter(0);
    UserId::parse(text).map(|_| text).ok_or_else(|| Problem::not_found().detail("there is no such app"))
}
