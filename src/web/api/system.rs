//! The system of the box: see it, bring a bundle, install it, restart.

use super::accounts::{again, password_again};
use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::net::problem::Problem;
use std::sync::Arc;
use std::time::Duration;
use warp::http::{StatusCode, header};

const FILE: &str = "application/octet-stream";
/// Longest time for a whole bundle.
const WHOLE: Duration = Duration::from_secs(3_600);

pub(in crate::web) async fn show(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&context.service.system_update(&session.actor).await.map_err(refusal::problem)?)
}

/// The role is checked before a byte of the file is taken.
pub(in crate::web) async fn bring(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let limit = context.service.system_bundle_limit(&session.actor).map_err(refusal::problem)?;
    context.attempt(request.caller.ip)?;
    request.expect_type(&[FILE])?;
    request.check_length(limit)?;
    let announced = request.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let mut import = context.service.begin_system_bundle(&session.actor, announced).await.map_err(refusal::problem)?;
    let receiving = async {
        while let Some(part) = request.part(&context).await? {
            import.take(&part).await.map_err(refusal::problem)?;
        }
        Ok::<_, Problem>(import)
    };
    let import = tokio::time::timeout(WHOLE, receiving).await.unwrap_or_else(|_| Err(Problem::too_slow()))?;
    answer::json(StatusCode::CREATED, &import.finish().await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn discard(context: Arc<Context>, session: Session) -> Answered {
    context.service.discard_system_bundle(&session.actor).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn install(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::SystemInstall = request.json(&context).await?;
    let view = context.service.install_system(&session.actor, &session.token, body.password.into_inner(), body.older);
    answer::json(StatusCode::ACCEPTED, &view.await.map_err(again)?)
}

pub(in crate::web) async fn restart(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let password = password_again(&context, &mut request).await?;
    let view = context.service.restart_box(&session.actor, &session.token, password).await.map_err(again)?;
    answer::json(StatusCode::ACCEPTED, &view)
}
