//! People: setting up, signing in and out, accounts.

use super::caller::{self, Session};
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::domain::account::Role;
use crate::net::problem::Problem;
use crate::service::{NewUser, OpenedSession, Refusal, SetupRequest, SignIn, UserChange, Vendor};
use serde_json::json;
use std::borrow::Cow;
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
    if let Err(error) = context.service.note_agent(&opened.token, &agent(&request)).await {
        tracing::warn!(%error, "a session has no name");
    }
    session(&context, &opened)
}

pub(in crate::web) async fn sign_in(context: Arc<Context>, mut request: Request) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::SignIn = request.json(&context).await?;
    let (source, via) = from(&request);
    let second_factor = body.second_factor.map(schema::Secret::into_inner);
    let (username, password, agent) = (body.username.as_str(), body.password.into_inner(), agent(&request));
    let given = SignIn { username, password, second_factor, source, via: &via, agent: &agent };
    let opened = context.service.open_session(given).await;
    session(&context, &opened.map_err(refusal::problem)?)
}

/// What the client calls itself (RFC 9110 §10.1.5).
pub(super) fn agent(request: &Request) -> Cow<'_, str> {
    String::from_utf8_lossy(request.headers.get(header::USER_AGENT).map(|v| v.as_bytes()).unwrap_or_default())
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
    let user = context.service.me(&session.actor).map_err(refusal::problem)?;
    let second_factor = context.service.has_second_factor(&user.id).map_err(refusal::problem)?;
    let mut me = serde_json::to_value(&user).map_err(|_| Problem::internal())?;
    if let Some(members) = me.as_object_mut() {
        members.insert("second_factor".into(), second_factor.into());
    }
    answer::ok(&me)
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
    if let Some(networks) = body.networks {
        context.service.change_networks(&session.actor, &user, &networks).await.map_err(refusal::problem)?;
    }
    let change = UserChange { role: body.role.map(Into::into), display_name: body.display_name };
    answer::ok(&context.service.change_user(&session.actor, &user, change).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn end(context: Arc<Context>, request: Request, session: Session) -> Answered {
    let user = super::bindings::account(&request, 0)?;
    let keep = request.number("keep_grants")?.unwrap_or(0) != 0;
    let erase = request.number("erase")?.unwrap_or(0) != 0;
    let ended = match erase {
        true => context.service.erase_user(&session.actor, &user, !keep).await,
        false => context.service.end_user(&session.actor, &user, !keep).await,
    };
    let lost = ended.map_err(refusal::problem)?;
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
