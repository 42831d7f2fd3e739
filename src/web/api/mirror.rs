//! The cloud that the home is linked to, and keys for use from away.

use super::caller::Session;
use super::request::{Request, members};
use super::{Answered, Context, answer, refusal, schema};
use crate::net::problem::Problem;
use crate::service::NewLink;
use serde_json::{Value, json};
use std::sync::Arc;
use warp::http::StatusCode;

/// Bytes of a body with a bulletin at most: some ten thousand marks.
const BULLETIN_MAX: usize = 2 * 1024 * 1024;

pub(in crate::web) async fn look(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::CloudAddress = request.json(&context).await?;
    let (view, trusted) = context.service.look_at_cloud(&session.actor, &body.url).await.map_err(refusal::problem)?;
    let mut shown = serde_json::to_value(&view).map_err(|_| Problem::internal())?;
    if let Value::Object(members) = &mut shown {
        members.insert("trusted".into(), trusted.into());
    }
    answer::ok(&shown)
}

pub(in crate::web) async fn show(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&context.service.cloud_status(&session.actor).map_err(refusal::problem)?)
}

pub(in crate::web) async fn link(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::NewCloud = request.json(&context).await?;
    let new = NewLink {
        url: body.url,
        key: body.key,
        region: body.region,
        consent: body.consent.into_iter().map(Into::into).collect(),
        brands: body.brands,
        code: body.code.unwrap_or_default(),
    };
    answer::ok(&context.service.link_cloud(&session.actor, new).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn change(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::CloudEdit = request.json(&context).await?;
    let consent = body.consent.into_iter().map(Into::into).collect();
    answer::ok(&context.service.change_consent(&session.actor, consent).await.map_err(refusal::problem)?)
}

pub(in crate::web) async fn unlink(context: Arc<Context>, session: Session) -> Answered {
    context.service.unlink_cloud(&session.actor).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn sync(context: Arc<Context>, session: Session) -> Answered {
    context.service.sync_now(&session.actor).map_err(refusal::problem)?;
    Ok(answer::status_only(StatusCode::ACCEPTED))
}

pub(in crate::web) async fn bulletin(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    request.expect_type(&["application/json"])?;
    let bytes = request.bytes(&context, BULLETIN_MAX).await?;
    let Ok(Value::Object(object)) = serde_json::from_slice(&bytes) else {
        return Err(Problem::malformed("The body is no JSON object."));
    };
    let body: schema::CloudBulletin = members(object)?;
    let marks = context.service.take_bulletin(&session.actor, &body.bulletin).await.map_err(refusal::problem)?;
    answer::ok(&json!({"marks": marks}))
}

pub(in crate::web) async fn seen(context: Arc<Context>, session: Session) -> Answered {
    context.service.notices_seen(&session.actor).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}

pub(in crate::web) async fn keys(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&json!({"keys": context.service.away_keys(&session.actor).map_err(refusal::problem)?}))
}

pub(in crate::web) async fn make_key(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::NewAwayKey = request.json(&context).await?;
    let made = context.service.make_away_key(&session.actor, &body.name, body.days).await.map_err(refusal::problem)?;
    let shown = json!({"id": made.id, "token": made.token.reveal(), "url": made.url, "until": made.until});
    answer::json(StatusCode::CREATED, &shown)
}

pub(in crate::web) async fn end_key(context: Arc<Context>, request: Request, session: Session) -> Answered {
    context.service.end_away_key(&session.actor, request.parameter(0)).await.map_err(refusal::problem)?;
    Ok(answer::nothing())
}
