//! People: setting up, signing in and out, accounts.

use super::caller::{self, Session};
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::domain::account::Role;
use crate::net::problem::Problem;
use crate::service::{NewUser, OpenedSession, Refusal, SetupRequest, Vendor};
use serde_json::json;
use std::sync::Arc;
use warp::http::{StatusCode, header};

pub(in crate::web) async fn set_up(context: Arc<Context>, mut request: Request) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::Setup = request.json(&context).await?;
    let user = NewUser {
        username: body.username,
        password: body.password.into_inner(),
        display_name: body.display_name.unwrap_or_default(),
        role: Role::Owner,
    };
    let (source, via) = from(&request);
    let opened = context.service.set_up(SetupRequest { code: body.code, user }, source, &via).await.map_err(|r| match r {
        Refusal::WrongPassword => Problem::new(401, "sign_in_refused", "The setup code is wrong")
            .next("Type the code that the hub printed when it started; it is on its console and in its log."),
        other => refusal::problem(other),
    })?;
    session(&context, &opened)
}

pub(in crate::web) async fn sign_in(context: Arc<Context>, mut request: Request) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::SignIn = request.json(&context).await?;
    let (source, via) = from(&request);
    let opened = context.service.sign_in_person(&body.username, body.password.into_inner(), source, &via).await;
    session(&context, &opened.map_err(refusal::problem)?)
}

pub(super) fn from(request: &Request) -> (std::net::IpAddr, String) {
    (request.caller.ip, format!("https {}", request.caller.ip))
}

/// The token, in the body for programs and in the cookie for browsers.
pub(super) fn session(context: &Context, opened: &OpenedSession) -> Answered {
    let token = opened.token.reveal();
    let body = json!({"user": opened.user, "token": token, "expires": opened.expires});
    let seconds = opened.expires.saturating_sub(context.service.now()) / 1000;
    Ok(answer::with(answer::json(StatusCode::CREATED, &body)?, header::SET_COOKIE, &caller::cookie(token, seconds)))
}

pub(in crate::web) async fn sign_out(context: Arc<Context>, session: Session) -> Answered {
    context.service.sign_out(&session.actor, &session.token).await.map_err(refusal::problem)?;
    Ok(answer::with(answer::nothing(), header::SET_COOKIE, &caller::cookie("", 0)))
}

pub(in crate::web) async fn me(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&context.service.me(&session.actor).map_err(refusal::problem)?)
}

pub(in crate::web) async fn list(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&json!({"users": context.service.users(&session.actor).map_err(refusal::problem)?}))
}

pub(in crate::web) async fn add(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::NewUser = request.json(&context).await?;
    let new = NewUser {
        username: body.username,
        password: body.password.into_inner(),
        display_name: body.display_name.unwrap_or_default(),
        role: body.role.into(),
    };
    let added = match (body.brand, body.networks) {
        (None, None) => context.service.add_user(&session.actor, new).await,
        (brand, networks) => {
            let vendor = Vendor { brand: brand.unwrap_or_default(), networks: networks.unwrap_or_default() };
            context.service.add_vendor_person(&session.actor, new, vendor).await
        }
    };
    answer::json(StatusCode::CREATED, &added.map_err(refusal::problem)?)
}

pub(in crate::web) async fn change(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let user = super::bindings::account(&request, 0)?;
    let body: schema::UserEdit = request.json(&context).await?;
    let Some(networks) = body.networks else { return Err(Problem::invalid("networks: say what to change")) };
    answer::ok(&context.service.change_networks(&session.actor, &user, &networks).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn end(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let user = super::bindings::account(&request, 0)?;
    let keep = request.number("keep_grants")?.unwrap_or(0) != 0;
    let lost = context.service.end_user(&session.actor, &user, !keep).await.map_err(refusal::problem)?;
    answer::ok(&json!({"bindings": lost}))
}

pub(in crate::web) async fn change_password(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::PasswordChange = request.json(&context).await?;
    let (current, new) = (body.current.into_inner(), body.new.into_inner());
    context.service.change_password(&session.actor, &session.token, current, new).await.map_err(|r| match r {
        Refusal::WrongPassword => Problem::invalid("current: the present password is wrong"),
        other => refusal::problem(other),
    })?;
    Ok(answer::nothing())
}
