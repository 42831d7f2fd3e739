//! Backups: how they are set and stand, one that is wanted now, and the rehearsal of a restore.

use super::accounts::again;
use super::caller::Session;
use super::request::{Request, members};
use super::{Answered, Context, answer, refusal};
use crate::domain::mirror::recovery::RecoveryCode;
use crate::net::problem::Problem;
use crate::service::{NewBackup, Secrets};
use serde_json::{Map, Value};
use std::sync::Arc;
use warp::http::StatusCode;
use zeroize::Zeroizing;

pub(in crate::web) async fn show(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&context.service.backups(&session.actor).map_err(refusal::problem)?)
}

pub(in crate::web) async fn set(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    context.attempt(request.caller.ip)?;
    let mut body = request.object(&context).await?;
    let password = password(&mut body)?;
    let new: NewBackup = members(body)?;
    context.service.set_backups(&session.actor, &session.token, password, new).await.map_err(again)?;
    answer::ok(&context.service.backups(&session.actor).map_err(refusal::problem)?)
}

pub(in crate::web) async fn create(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    context.attempt(request.caller.ip)?;
    let mut body = request.object(&context).await?;
    let password = password(&mut body)?;
    let full = match body.remove("full") {
        None => false,
        Some(Value::Bool(full)) => full,
        Some(_) => return Err(Problem::invalid("full: true or false")),
    };
    if let Some(name) = body.keys().next() {
        return Err(Problem::invalid(format!("{name} is not known here")));
    }
    let run = context.service.order_backup(&session.actor, &session.token, password, full).await.map_err(again)?;
    let now = run.borrow().clone();
    answer::json(StatusCode::ACCEPTED, &now)
}

pub(in crate::web) async fn rehearse(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    context.attempt(request.caller.ip)?;
    let mut body = request.object(&context).await?;
    let password = password(&mut body)?;
    let mut secrets = Secrets::default();
    match body.remove("code") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => {
            let text = Zeroizing::new(text);
            secrets.code = Some(RecoveryCode::parse(&text).map_err(|error| Problem::invalid(format!("code: {error}")))?);
        }
        Some(_) => return Err(Problem::invalid("code: the recovery code, as text")),
    }
    match body.remove("passphrase") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => secrets.passphrase = Some(Zeroizing::new(text)),
        Some(_) => return Err(Problem::invalid("passphrase: text")),
    }
    if let Some(name) = body.keys().next() {
        return Err(Problem::invalid(format!("{name} is not known here")));
    }
    context.service.order_rehearsal(&session.actor, &session.token, password, secrets).await.map_err(again)?;
    answer::json(StatusCode::ACCEPTED, &context.service.backups(&session.actor).map_err(refusal::problem)?)
}

fn password(body: &mut Map<String, Value>) -> Result<Zeroizing<String>, Problem> {
    match body.remove("password") {
        Some(Value::String(text)) => Ok(Zeroizing::new(text)),
        _ => Err(Problem::invalid("password: your own, again")),
    }
}
