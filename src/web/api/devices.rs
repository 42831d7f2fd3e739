//! Devices: listing, naming, claiming, suspending, removing, certificates.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::net::problem::Problem;
use crate::service::{DeviceChange, DeviceView};
use serde_json::json;
use std::sync::Arc;
use warp::http::StatusCode;

pub(in crate::web) async fn list(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&json!({"devices": context.service.devices(&session.actor).map_err(refusal::problem)?}))
}

pub(in crate::web) async fn show(context: Arc<Context>, request: Request, session: Session) -> Answered {
    shown(StatusCode::OK, &context.service.device(&session.actor, &request.device()?).map_err(refusal::problem)?)
}

pub(in crate::web) async fn change(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let (id, if_version) = (request.device()?, request.if_match()?);
    let body: schema::DeviceEdit = request.json(&context).await?;
    let change = DeviceChange { name: body.name, room: body.room, if_version };
    shown(StatusCode::OK, &context.service.change_device(&session.actor, &id, change).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn remove(context: Arc<Context>, request: Request, session: Session) -> Answered {
    context.service.remove_device(&session.actor, &request.device()?).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn suspend(context: Arc<Context>, request: Request, session: Session, suspend: bool) -> Answered {
    shown(StatusCode::OK, &context.service.suspend(&session.actor, &request.device()?, suspend).await.map_err(refusal::problem)?)
}

/// The right is checked before the work, and again with the record: only recorded certificates sign in.
pub(in crate::web) async fn certify(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let id = request.device()?;
    let body: schema::CertificateRequest = request.json(&context).await?;
    context.service.may_certify(&session.actor, &id).map_err(refusal::problem)?;
    let issued = (context.hooks.certify)(&body.csr, &id).map_err(|why| Problem::invalid(format!("csr: {why}")))?;
    let recorded = context.service.certificate_issued(&session.actor, &id, issued.fingerprint, issued.expires_ms).await;
    recorded.map_err(refusal::problem)?;
    let body = schema::Certificate { certificate: issued.certificate_pem, ca: issued.ca_pem, expires: issued.expires_ms };
    answer::json(StatusCode::CREATED, &body)
}

pub(in crate::web) async fn claim(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::Claim = request.json(&context).await?;
    let (name, room) = (body.name.unwrap_or_default(), body.room.unwrap_or_default());
    let claimed = context.service.claim(&session.actor, &body.code, body.device_id.as_deref(), &name, &room).await;
    shown(StatusCode::CREATED, &claimed.map_err(refusal::problem)?)
}

pub(super) fn shown_device(device: &DeviceView) -> Answered {
    shown(StatusCode::OK, device)
}

fn shown(status: StatusCode, device: &DeviceView) -> Answered {
    Ok(answer::tagged(answer::json(status, device)?, device.version))
}
