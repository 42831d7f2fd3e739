//! Twins: reading them, and changing what is desired.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal};
use std::sync::Arc;

pub(in crate::web) async fn show(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let id = request.device()?;
    context.service.record_look(&session.actor, &id).await.map_err(refusal::problem)?;
    let twin = context.service.twin(&session.actor, &id).map_err(refusal::problem)?;
    Ok(answer::tagged(answer::ok(&twin.view())?, twin.version()))
}

pub(in crate::web) async fn desire(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let (id, if_version) = (request.device()?, request.if_match()?);
    let patch = request.object(&context).await?;
    let twin = context.service.desire(&session.actor, &id, patch, if_version).await.map_err(refusal::problem)?;
    Ok(answer::tagged(answer::ok(&twin.view())?, twin.version()))
}
