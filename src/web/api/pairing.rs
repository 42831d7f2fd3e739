//! What is nearby, pairing with it, and stock MQTT devices. Passphrases and codes are read into texts that wipe
//! themselves, and are never answered.

use super::caller::Session;
use super::request::Request;
use super::{Answered, Context, answer, refusal, schema};
use crate::domain::pairing::WindowState;
use crate::net::problem::Problem;
use crate::service::{Nearby, NearbyKind, NewPairing, Refusal, WifiWish};
use serde_json::{Value, json};
use std::sync::Arc;
use warp::http::StatusCode;
use zeroize::Zeroizing;

pub(in crate::web) async fn radio(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&context.service.radio(&session.actor).map_err(refusal::problem)?)
}

pub(in crate::web) async fn scan(context: Arc<Context>, session: Session) -> Answered {
    let until = context.service.look_around(&session.actor).map_err(refusal::problem)?;
    answer::json(StatusCode::ACCEPTED, &json!({"until": until}))
}

pub(in crate::web) async fn nearby(context: Arc<Context>, session: Session) -> Answered {
    let things = context.service.nearby(&session.actor).map_err(refusal::problem)?;
    answer::ok(&json!({"things": things.iter().map(thing).collect::<Vec<_>>()}))
}

fn thing(thing: &Nearby) -> Value {
    let state = match (&thing.advertised, thing.kind) {
        (Some(told), _) => match told.state {
            WindowState::Open => "open",
            WindowState::Claimed => "claimed",
            WindowState::Closed => "closed",
        },
        (None, NearbyKind::Improv) => "open",
        (None, _) => "unknown",
    };
    json!({
        "id": thing.id, "kind": thing.kind, "name": thing.name, "signal": thing.signal, "state": state, "seen": thing.seen_ms,
    })
}

pub(in crate::web) async fn begin(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    context.attempt(request.caller.ip)?;
    let body: schema::NewPairing = request.json(&context).await?;
    let new = NewPairing {
        code: body.code.map(schema::Secret::into_inner),
        device: body.device_id,
        nearby: body.nearby,
        name: body.name.unwrap_or_default(),
        room: body.room.unwrap_or_default(),
        wifi: body.wifi.map_or(Ok(WifiWish::None), wish)?,
    };
    let begun = context.service.begin_pairing(&session.actor, new).await.map_err(refusal::problem)?;
    answer::json(StatusCode::CREATED, &begun)
}

pub(in crate::web) async fn list(context: Arc<Context>, session: Session) -> Answered {
    answer::ok(&json!({"pairings": context.service.pairings(&session.actor).map_err(refusal::problem)?}))
}

pub(in crate::web) async fn show(context: Arc<Context>, request: Request, session: Session) -> Answered {
    answer::ok(&context.service.pairing(&session.actor, request.parameter(0)).map_err(refusal::problem)?)
}

pub(in crate::web) async fn cancel(context: Arc<Context>, request: Request, session: Session) -> Answered {
    answer::ok(&context.service.cancel_pairing(&session.actor, request.parameter(0)).map_err(refusal::problem)?)
}

pub(in crate::web) async fn confirm(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::PairingConfirmation = request.json(&context).await?;
    let wifi = body.wifi.map(wish).transpose()?;
    answer::ok(&context.service.confirm_pairing(&session.actor, request.parameter(0), wifi).map_err(refusal::problem)?)
}

pub(in crate::web) async fn add_stock(context: Arc<Context>, mut request: Request, session: Session) -> Answered {
    let body: schema::NewDevice = request.json(&context).await?;
    let room = body.room.unwrap_or_default();
    let made = context.service.add_stock_device(&session.actor, &body.name, &room).await.map_err(refusal::problem)?;
    let body = json!({
        "device": made.device, "username": made.username, "password": made.password.as_str(), "host": made.host, "port": made.port,
        "ca": made.ca, "settings": made.settings,
    });
    answer::json(StatusCode::CREATED, &body)
}

fn wish(choice: schema::WifiChoice) -> Result<WifiWish, Problem> {
    let given = choice.ssid.is_some() || choice.passphrase.is_some();
    match choice.which {
        schema::WifiUse::None | schema::WifiUse::System if given => {
            Err(refusal::problem(Refusal::Invalid("wifi: a name and a passphrase belong to \"use\": \"given\"".into())))
        }
        schema::WifiUse::None => Ok(WifiWish::None),
        schema::WifiUse::System => Ok(WifiWish::System),
        schema::WifiUse::Given => {
            let passphrase = choice.passphrase.map_or_else(Zeroizing::default, schema::Secret::into_inner);
            WifiWish::given(&choice.ssid.unwrap_or_default(), passphrase).map_err(refusal::problem)
        }
    }
}
