//! The hub itself: what it is, its metrics, and the line a maker needs.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, caller, refusal, schema};
use crate::domain::authority::HubAction;
use crate::net::problem::Problem;
use crate::service::Refusal;
use std::sync::Arc;
use warp::http::StatusCode;

pub(in crate::web) async fn show(context: Arc<Context>) -> Answered {
    let hub = context.service.hub();
    answer::ok(&schema::Hub {
        hub_id: hub.id.to_string(),
        name: hub.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        setup_required: context.service.setup_required().map_err(refusal::problem)?,
        ca_fingerprint: hub.ca_fingerprint.clone(),
        open_registration: context.service.settings().map_err(refusal::problem)?.open_registration,
    })
}

/// For programs on this box, and for owners: counts tell when somebody is at home.
pub(in crate::web) async fn metrics(context: Arc<Context>, request: Request) -> Answered {
    if !request.caller.ip.to_canonical().is_loopback() {
        let (token, _) = caller::token(&request.headers).ok_or_else(Problem::signed_out)?;
        let actor = context.service.actor(&token, "https", request.caller.ip).map_err(refusal::problem)?;
        if !actor.may(HubAction::ReadMetrics) {
            return Err(refusal::problem(Refusal::RoleTooLow));
        }
    }
    let page = (context.hooks.metrics)();
    Ok(answer::typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page.into_bytes()))
}

pub(in crate::web) async fn request_line(context: Arc<Context>, session: Session) -> Answered {
    if !session.actor.may(HubAction::ManageRegistry) {
        return Err(refusal::problem(Refusal::RoleTooLow));
    }
    let line = context.service.hub().request_line.clone();
    Ok(answer::typed(StatusCode::OK, "text/plain; charset=utf-8", line.into_bytes()))
}
