//! The recovery code and the bundle: what a home keeps for the day on which its hub dies.

use super::accounts::{again, password_again};
use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, qr, refusal};
use crate::domain::authority::HubAction;
use crate::domain::rehome::FILE_MAX;
use crate::service::{QR_RECOVERY_PREFIX, Refusal};
use serde_json::json;
use std::sync::Arc;
use warp::http::{StatusCode, header};
use zeroize::Zeroizing;

pub(in crate::web) async fn show(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&context.service.recovery(&session.actor).map_err(refusal::problem)?)
}

pub(in crate::web) async fn make(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let password = password_again(&context, &mut request).await?;
    let made = context.service.make_home_code(&session.actor, &session.token, password).await.map_err(again)?;
    let text = Zeroizing::new(format!("{QR_RECOVERY_PREFIX}{}:{}", made.hub.to_ascii_uppercase(), made.code.replace('-', "")));
    let body = json!({"code": *made.code, "hub": made.hub, "url": made.cloud, "qr": qr::svg(&text)?});
    answer::json(StatusCode::CREATED, &body)
}

pub(in crate::web) async fn bundle(context: Arc<Context>, session: Session) -> Answered {
    let service = context.service.clone();
    let bundle = service.take_bundle(&session.actor).await.map_err(refusal::problem)?;
    let file = answer::typed(StatusCode::OK, "application/octet-stream", bundle);
    Ok(answer::with(file, header::CONTENT_DISPOSITION, "attachment; filename=\"hearthkey-recovery-bundle.age\""))
}

pub(in crate::web) async fn review(context: Arc<Context>, session: Session) -> Answered {
    context.service.finish_review(&session.actor).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn moves(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&context.service.moves(&session.actor).map_err(refusal::problem)?)
}

pub(in crate::web) async fn take_moves(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    if !session.actor.may(HubAction::ImportIdentities) {
        return Err(refusal::problem(Refusal::RoleTooLow));
    }
    request.expect_type(&["application/octet-stream"])?;
    let file = request.bytes(&context, FILE_MAX).await?;
    answer::ok(&context.service.import_orders(&session.actor, &file).await.map_err(refusal::problem)?)
}

/// For devices whose hub was stolen: they have nothing yet to trust this one by, and take nothing from it but this.
pub(in crate::web) async fn order(context: Arc<Context>, request: Request) -> Answered {
    context.check_order(request.caller.ip)?;
    let order = context.service.move_order(request.parameter(0)).map_err(refusal::problem)?;
    Ok(answer::typed(StatusCode::OK, "application/octet-stream", order))
}
