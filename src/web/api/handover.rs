//! Handing a device on: to another person, or to another device that takes its place.

use super::caller::Session;
use super::devices::shown_device;
use super::request::Request;
use super::{Answered, Context, refusal, schema};
use crate::domain::ids::DeviceId;
use crate::net::problem::Problem;
use std::sync::Arc;

pub(in crate::web) async fn transfer(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let id = request.device()?;
    let body: schema::Transfer = request.json(&context).await?;
    shown_device(&context.service.transfer(&session.actor, &id, &body.username).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn replace(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let id = request.device()?;
    let body: schema::Replacement = request.json(&context).await?;
    if body.code.is_some() {
        context.attempt(request.caller.ip)?;
    }
    let by = DeviceId::parse(&body.by).map_err(|_| Problem::not_found().detail("there is no such device"))?;
    let replaced = context.service.replace_device(&session.actor, &id, &by, body.code.as_deref()).await;
    shown_device(&replaced.map_err(refusal::problem)?)
}
