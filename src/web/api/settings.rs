//! What the home has set, and the hub's clock.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::service::SettingsChange;
use std::sync::Arc;

pub(in crate::web) async fn show(context: Arc<Context>) -> Answered {
    answer::ok(&context.service.settings().map_err(refusal::problem)?)
}

pub(in crate::web) async fn change(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::SettingsEdit = request.json(&context).await?;
    let change = SettingsChange {
        open_registration: body.open_registration,
        time_zone: body.time_zone,
        audit_max_bytes: body.audit_max_bytes,
        share_wifi: body.share_wifi,
    };
    answer::ok(&context.service.change_settings(&session.actor, change).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn clock(context: Arc<Context>) -> Answered {
    answer::ok(&context.service.clock())
}

pub(in crate::web) async fn vouch(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::ClockWord = request.json(&context).await?;
    answer::ok(&context.service.vouch_time(&session.actor, Some(&session.token), body.now).await.map_err(refusal::problem)?)
}
