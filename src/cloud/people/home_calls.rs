//! The calls of people away from home.

use std::sync::Arc;

use hyper::Method;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::{Desire, Grant};
use super::away::Person;
use super::seen;
use crate::cloud::Context;
use crate::cloud::call::{Answer, Body, Call, Who};
use crate::cloud::makers::acts::Doer;
use crate::cloud::makers::calls::bearer;
use crate::cloud::reply::{Answered, Refused, Reply};
use crate::cloud::request::Request;
use crate::domain::mirror::wire::Consent;

/// Bytes of a body at most.
const BODY: usize = 16 * 1024;
const ASKED: Answer = Answer::Json("id, state (waiting, done, refused), code, detail");

/// The calls of this file.
pub(in crate::cloud) const CALLS: &[Call] = &[
    Call::open(&Method::GET, "/v1/home", "Who you are here, and what your home lets you ask for from away.", |c, r| Box::pin(home(c, r)))
        .for_whom(Who::Home)
        .gives(200, Answer::Json("hub, name, hub_seen, user, username, display_name, role, until, consent")),
    Call::open(&Method::DELETE, "/v1/home/session", "End the key that is shown, at once.", |c, r| Box::pin(end_session(c, r)))
        .for_whom(Who::Home)
        .gives(204, Answer::Nothing),
    Call::open(&Method::GET, "/v1/home/devices", "The devices to which you have a right.", |c, r| Box::pin(devices(c, r)))
        .for_whom(Who::Home)
        .gives(200, Answer::Json("devices")),
    Call::open(&Method::GET, "/v1/home/devices/{device}", "A device, with its state as the hub last told it.", |c, r| {
        Box::pin(device(c, r))
    })
    .for_whom(Who::Home)
    .gives(200, Answer::Json("id, name, room, brand, model, trust, standing, privilege, only, until, hub_seen, twin")),
    Call::open(&Method::PATCH, "/v1/home/devices/{device}/desired", "Wish attributes of a device. The hub decides.", |c, r| {
        Box::pin(desire(c, r))
    })
    .for_whom(Who::Home)
    .takes(Body::Json(BODY, "attributes and their values"))
    .asked(&[("ttl_s", "For how many seconds it is worth doing: 5 to 86400, 300 unless given.")])
    .gives(202, ASKED),
    Call::open(&Method::POST, "/v1/home/devices/{device}/commands", "Run a command of a device, now or never. The hub decides.", |c, r| {
        Box::pin(command(c, r))
    })
    .for_whom(Who::Home)
    .takes(Body::Json(BODY, "name, params"))
    .gives(202, ASKED),
    Call::open(&Method::GET, "/v1/home/devices/{device}/bindings", "Who has rights to a device: for who administers it.", |c, r| {
        Box::pin(bindings(c, r))
    })
    .for_whom(Who::Home)
    .gives(200, Answer::Json("bindings: subject, username, terms, granted_at")),
    Call::open(&Method::PUT, "/v1/home/devices/{device}/bindings", "Give somebody of your home a right. The hub decides.", |c, r| {
        Box::pin(grant(c, r))
    })
    .for_whom(Who::Home)
    .takes(Body::Json(BODY, "username, privilege (view, operate, manage), until"))
    .gives(202, ASKED),
    Call::open(
        &Method::DELETE,
        "/v1/home/devices/{device}/bindings/{subject}",
        "Take a right away, at once: your own, or anybody's if you administer the device.",
        |c, r| Box::pin(take_away(c, r)),
    )
    .for_whom(Who::Home)
    .gives(200, Answer::Json("revoked: kind, key, gen"))
    .refuses(&[409]),
    Call::open(&Method::GET, "/v1/home/requests/{request}", "How a request of yours stands.", |c, r| Box::pin(asked(c, r)))
        .for_whom(Who::Home)
        .gives(200, ASKED),
    Call::open(
        &Method::POST,
        "/v1/home/bulletin",
        "What has been revoked and your hub has not yet heard, signed: carry it to a hub without the internet, through its page.",
        |c, r| Box::pin(bulletin(c, r)),
    )
    .for_whom(Who::Home)
    .gives(200, Answer::Json("hub, number, marks, bulletin")),
];

/// Who calls.
async fn person(context: &Context, request: &Request) -> Result<Person, Refused> {
    let token = bearer(request)?;
    let person = context.makers.person(&token).await;
    if person.is_err() {
        context.limits.attempt(request.source)?;
    }
    person
}

async fn home(context: Arc<Context>, request: Request) -> Answered {
    let person = person(&context, &request).await?;
    let name = |member: &str| person.account.get(member).cloned().unwrap_or(Value::Null);
    Reply::ok(&json!({
        "hub": person.hub.to_string(), "name": person.hub_name, "hub_seen": person.hub_seen, "user": person.user,
        "username": name("username"), "display_name": name("display_name"), "role": person.role, "until": person.until,
        "consent": person.consent.iter().collect::<Vec<_>>(),
    }))
}

async fn end_session(context: Arc<Context>, request: Request) -> Answered {
    let person = person(&context, &request).await?;
    context.makers.sign_out_away(&person).await?;
    Ok(Reply::nothing())
}

async fn devices(context: Arc<Context>, request: Request) -> Answered {
    let person = person(&context, &request).await?;
    let all = context.makers.devices_of(&person).await?;
    let shown: Vec<Value> = all.iter().map(|(right, body)| seen::device(right, body, person.hub_seen)).collect();
    Reply::ok(&json!({"devices": shown}))
}

async fn device(context: Arc<Context>, request: Request) -> Answered {
    let person = person(&context, &request).await?;
    let (right, body) = context.makers.device_of(&person, request.parameter(0)).await?;
    let mut shown = seen::device(&right, &body, person.hub_seen);
    let may_show = person.consent.contains(&Consent::Twins) && seen::stands(&body, &person.role);
    let twin = if may_show { context.makers.twin_of(&person.hub, &right.device).await? } else { None };
    if let Some(members) = shown.as_object_mut() {
        members.insert("twin".to_owned(), twin.and_then(|twin| seen::twin(&right, &twin)).unwrap_or(Value::Null));
    }
    Reply::ok(&shown)
}

async fn desire(context: Arc<Context>, request: Request) -> Answered {
    let person = person(&context, &request).await?;
    let (patch, ttl_s): (Value, _) = (request.json()?, request.number("ttl_s")?);
    let desire = Desire { device: request.parameter(0), patch: &patch, ttl_s };
    Reply::json(StatusCode::ACCEPTED, &context.makers.desire(&person, &desire).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    name: String,
    #[serde(default)]
    params: Option<Value>,
}

async fn command(context: Arc<Context>, request: Request) -> Answered {
    let person = person(&context, &request).await?;
    let command: Command = request.json()?;
    let asked = context.makers.command(&person, request.parameter(0), &command.name, command.params.as_ref()).await?;
    Reply::json(StatusCode::ACCEPTED, &asked)
}

async fn bindings(context: Arc<Context>, request: Request) -> Answered {
    let person = person(&context, &request).await?;
    Reply::ok(&json!({"bindings": context.makers.rights(&person, request.parameter(0)).await?}))
}

async fn grant(context: Arc<Context>, request: Request) -> Answered {
    let person = person(&context, &request).await?;
    let grant: Grant = request.json()?;
    Reply::json(StatusCode::ACCEPTED, &context.makers.grant(&person, request.parameter(0), &grant).await?)
}

async fn take_away(context: Arc<Context>, request: Request) -> Answered {
    let person = person(&context, &request).await?;
    // A colon may stand for itself in a path, and some clients encode it all the same.
    let subject = request.parameter(1).replace("%3A", ":").replace("%3a", ":");
    let mark = context.makers.take_away(&person, request.parameter(0), &subject).await?;
    Reply::ok(&json!({"revoked": {"kind": mark.kind, "key": mark.key, "gen": mark.generation}}))
}

async fn asked(context: Arc<Context>, request: Request) -> Answered {
    let person = person(&context, &request).await?;
    Reply::ok(&context.makers.asked(&person.hub, &person.user, request.parameter(0)).await?)
}

async fn bulletin(context: Arc<Context>, request: Request) -> Answered {
    let person = person(&context, &request).await?;
    let doer = Doer { who: person.subject(), brand: String::new(), via: format!("https {}", request.source.to_canonical()) };
    Reply::ok(&context.makers.bulletin(&doer, &person.hub).await?)
}
