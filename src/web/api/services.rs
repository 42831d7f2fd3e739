//! Service accounts: listing, making, changing and ending them.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::net::problem::Problem;
use crate::service::{NewSecret, ServiceChange};
use serde_json::{Value, json};
use std::sync::Arc;
use warp::http::StatusCode;

pub(in crate::web) async fn list(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&json!({"services": context.service.services(&session.actor).map_err(refusal::problem)?}))
}

pub(in crate::web) async fn add(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::NewService = request.json(&context).await?;
    let scopes = body.scopes.into_iter().map(Into::into).collect();
    let new = ServiceChange { name: Some(body.name), networks: Some(body.networks), scopes: Some(scopes) };
    let NewSecret { service, secret } = context.service.add_service(&session.actor, new).await.map_err(refusal::problem)?;
    let mut shown = serde_json::to_value(&service).map_err(|_| Problem::internal())?;
    if let Value::Object(members) = &mut shown {
        members.insert("secret".into(), secret.reveal().into());
    }
    answer::json(StatusCode::CREATED, &shown)
}

pub(in crate::web) async fn change(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::ServiceEdit = request.json(&context).await?;
    let scopes = body.scopes.map(|all| all.into_iter().map(Into::into).collect());
    let change = ServiceChange { name: body.name, networks: body.networks, scopes };
    answer::ok(&context.service.change_service(&session.actor, request.parameter(0), change).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn renew_secret(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let made = context.service.renew_service_secret(&session.actor, request.parameter(0)).await.map_err(refusal::problem)?;
    answer::json(StatusCode::CREATED, &json!({"secret": made.secret.reveal()}))
}

pub(in crate::web) async fn end(context: Arc<Context>, request: Request, session: Session) -> Answered {
    context.service.end_service(&session.actor, request.parameter(0)).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}
