//! Twins: reading them, and changing what is desired.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal};
use crate::domain::ids::DeviceId;
use crate::domain::twin::Twin;
use serde_json::Value;
use std::sync::Arc;

pub(in crate::web) async fn show(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let id = request.device()?;
    context.service.record_look(&session.actor, &id).await.map_err(refusal::problem)?;
    let twin = context.service.twin(&session.actor, &id).map_err(refusal::problem)?;
    shown(&context, &session, &id, &twin)
}

pub(in crate::web) async fn desire(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let (id, if_version) = (request.device()?, request.if_match()?);
    let patch = request.object(&context).await?;
    let twin = context.service.desire(&session.actor, &id, patch, if_version).await.map_err(refusal::problem)?;
    shown(&context, &session, &id, &twin)
}

/// With whether the device can do anything about it at all.
fn shown(context: &Context, session: &Session, id: &DeviceId, twin: &Twin) -> Answered {
    let mut body = twin.view();
    if let Value::Object(members) = &mut body {
        let device = context.service.device(&session.actor, id).map_err(refusal::problem)?;
        members.insert("behind".into(), device.behind.into());
    }
    Ok(answer::tagged(answer::ok(&body)?, twin.version()))
}
