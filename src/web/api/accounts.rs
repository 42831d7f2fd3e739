//! Passwords, recovery, the second factor, one's own sessions and data.

use super::caller::{self, Session};
use super::people::from;
use super::request::Request;
use super::{Answered, Context, answer, qr, refusal, schema};
use crate::net::problem::Problem;
use crate::service::Refusal;
use serde_json::json;
use std::sync::Arc;
use warp::http::{StatusCode, header};
use zeroize::Zeroizing;

pub(in crate::web) async fn check_password(context: Arc<Context>, mut request: Request) -> Answered {
    context.check(request.caller.ip)?;
    let body: schema::PasswordCheck = request.json(&context).await?;
    let checked = context.service.check_password(body.password.into_inner(), body.username.as_deref(), request.caller.ip).await;
    answer::ok(&checked.map_err(refusal::problem)?)
}

pub(in crate::web) async fn reset_password(context: Arc<Context>, mut request: Request) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::PasswordReset = request.json(&context).await?;
    let (source, via) = from(&request);
    let reset = context.service.reset_password(&body.code.into_inner(), body.password.into_inner(), source, &via).await;
    reset.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn make_reset_code(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let user = super::bindings::account(&request, 0)?;
    let made = context.service.make_reset_code(&session.actor, &user).await.map_err(refusal::problem)?;
    let link = Zeroizing::new(qr::link(&request, "reset", &made.code));
    let body = json!({"code": *made.code, "link": *link, "qr": qr::svg(&link)?, "expires": made.expires.unwrap_or_default()});
    answer::json(StatusCode::CREATED, &body)
}

pub(in crate::web) async fn make_recovery_code(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let password = password_again(&context, &mut request).await?;
    let made = context.service.make_recovery_code(&session.actor, &session.token, password).await.map_err(again)?;
    answer::json(StatusCode::CREATED, &json!({"code": *made.code}))
}

pub(in crate::web) async fn begin_second_factor(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let password = password_again(&context, &mut request).await?;
    let begun = context.service.begin_second_factor(&session.actor, &session.token, password).await.map_err(again)?;
    answer::json(StatusCode::CREATED, &json!({"secret": *begun.secret, "uri": *begun.uri, "qr": qr::svg(&begun.uri)?}))
}

pub(in crate::web) async fn confirm_second_factor(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::SecondFactorCode = request.json(&context).await?;
    let codes = context.service.confirm_second_factor(&session.actor, body.code.into_inner()).await.map_err(refusal::problem)?;
    let codes: Vec<&str> = codes.iter().map(|c| c.as_str()).collect();
    answer::ok(&json!({"recovery_codes": codes}))
}

pub(in crate::web) async fn remove_second_factor(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let password = password_again(&context, &mut request).await?;
    context.service.remove_second_factor(&session.actor, &session.token, password).await.map_err(again)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn sessions(context: Arc<Context>, session: Session) -> Answered {
    let all = context.service.sessions(&session.actor, &session.token).map_err(refusal::problem)?;
    answer::ok(&json!({"sessions": all}))
}

pub(in crate::web) async fn end_session(context: Arc<Context>, request: Request, session: Session) -> Answered {
    context.service.end_session(&session.actor, request.parameter(0)).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn end_sessions(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let user = super::bindings::account(&request, 0)?;
    context.service.end_sessions(&session.actor, &user).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn rename_me(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::Display = request.json(&context).await?;
    answer::ok(&context.service.rename_me(&session.actor, &body.display_name).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn export(context: Arc<Context>, request: Request, session: Session) -> Answered {
    context.attempt(request.caller.ip)?;
    let _turn = context.exports.try_acquire().map_err(|_| Problem::too_many(10_000).detail("Somebody else's data is being collected."))?;
    let service = context.service.clone();
    let collected = tokio::task::spawn_blocking(move || service.export(&session.actor, &session.token)).await;
    let data = collected.map_err(|error| {
        tracing::error!(%error, "an export broke");
        Problem::internal()
    })?;
    let file = answer::ok(&data.map_err(refusal::problem)?)?;
    Ok(answer::with(file, header::CONTENT_DISPOSITION, "attachment; filename=\"hearthkey-my-data.json\""))
}

pub(in crate::web) async fn leave(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let password = password_again(&context, &mut request).await?;
    context.service.leave(&session.actor, &session.token, password).await.map_err(again)?;
    Ok(answer::with(answer::nothing(), header::SET_COOKIE, &caller::cookie("", 0)))
}

pub(super) async fn password_again(context: &Context, request: &mut Request) -> Result<Zeroizing<String>, Problem> {
    context.attempt(request.caller.ip)?;
    let body: schema::PasswordAgain = request.json(context).await?;
    Ok(body.password.into_inner())
}

/// A wrong password of who is signed in is a member of the body that does not fit; a 401 would say that the session is over.
pub(super) fn again(refused: Refusal) -> Problem {
    match refused {
        Refusal::WrongPassword => Problem::invalid("password: the password is wrong"),
        other => refusal::problem(other),
    }
}
