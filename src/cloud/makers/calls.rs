//! The calls of programs of makers.

use std::sync::Arc;

use hyper::Method;
use hyper::StatusCode;
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::assign::{DEVICES_MAX, Which};
use super::staging::ChunkError;
use super::uploads::{Part, Upload, UploadError, Uploads};
use crate::cloud::Context;
use crate::cloud::call::{Answer, Body, Call, Who};
use crate::cloud::people::ask::NewUser;
use crate::cloud::people::services::{self, Scope, Service};
use crate::cloud::people::tokens::{self, IDLE_MS, Kind};
use crate::cloud::reply::{Answered, Refused, Reply};
use crate::cloud::request::{Request, next_part};
use crate::domain::ids::{BrandId, HubId};
use crate::net::problem::Problem;

/// The calls of this file.
pub(in crate::cloud) const CALLS: &[Call] = &[
    Call::open(&Method::POST, "/v1/token", "Sign a program in: OAuth 2.0 client credentials (RFC 6749 §4.4), from a listed network.", |c, r| {
        Box::pin(token(c, r))
    })
    .takes(Body::Form(4096, "grant_type=client_credentials, client_id, client_secret; or the last two by HTTP Basic"))
    .gives(200, Answer::Json("access_token, token_type, expires_in, scope"))
    .refuses(&[401]),
    Call::open(&Method::DELETE, "/v1/token", "End the token that is shown.", |c, r| Box::pin(end_token(c, r)))
        .for_whom(Who::Service)
        .gives(204, Answer::Nothing),
    Call::open(
        &Method::POST,
        "/v1/identities",
        "Upload device identities: secret files of the brand's devices, a line each. Headers: Upload-Id, Upload-Offset (bytes), Upload-Length \
         (bytes in all, or Upload-Complete: ?0 when more parts follow). Cut anywhere, it goes on from the offset; it counts as a whole.",
        |c, r| Box::pin(upload(c, r)),
    )
    .for_whom(Who::Service)
    .takes(Body::Parts("application/x-ndjson"))
    .asked(&[("brand", "Whose devices: the account's own brand.")])
    .gives(200, Answer::Json("id, brand, state, offset, lines, length, devices, known, started_at, changed_at"))
    .refuses(&[409, 422]),
    Call::open(&Method::GET, "/v1/identities/uploads", "The newest uploads of the brand.", |c, r| Box::pin(list_uploads(c, r)))
        .for_whom(Who::Service)
        .gives(200, Answer::Json("uploads")),
    Call::open(&Method::GET, "/v1/identities/uploads/{upload}", "How far an upload is.", |c, r| Box::pin(show_upload(c, r)))
        .for_whom(Who::Service)
        .gives(200, Answer::Json("id, brand, state, offset, lines, length, devices, known, started_at, changed_at")),
    Call::open(&Method::DELETE, "/v1/identities/uploads/{upload}", "End an upload that is not complete: nothing of it stays.", |c, r| {
        Box::pin(end_upload(c, r))
    })
    .for_whom(Who::Service)
    .gives(200, Answer::Json("id, brand, state, …"))
    .refuses(&[409]),
    Call::open(
        &Method::POST,
        "/v1/hubs/{hub}/assignments",
        "Have a hub recognise devices of the brand: these, or all of an upload. It gets a registry batch; claiming still takes the code.",
        |c, r| Box::pin(assign(c, r)),
    )
    .for_whom(Who::Service)
    .takes(Body::Json(128 * 1024, "devices (at most 1000 ids) or upload (an id)"))
    .gives(202, Answer::Json("id, devices")),
    Call::open(&Method::GET, "/v1/hubs/{hub}/assignments/{batch}", "How far the batch of an assignment is.", |c, r| {
        Box::pin(show_assignment(c, r))
    })
    .for_whom(Who::Service)
    .gives(200, Answer::Json("id, state, devices, bytes, why")),
    Call::open(
        &Method::POST,
        "/v1/hubs/{hub}/users",
        "Ask a home that has agreed to it for an account of a guest or member. The hub decides; it never hears the password.",
        |c, r| Box::pin(new_user(c, r)),
    )
    .for_whom(Who::Service)
    .takes(Body::Json(8 * 1024, "username, display_name, role (guest or member), password"))
    .gives(202, Answer::Json("id, state, code, detail")),
    Call::open(&Method::GET, "/v1/hubs/{hub}/users/requests/{request}", "How such a request stands.", |c, r| Box::pin(show_user_request(c, r)))
        .for_whom(Who::Service)
        .gives(200, Answer::Json("id, state, code, detail")),
];

/// The token that a request shows.
pub(in crate::cloud) fn bearer(request: &Request) -> Result<Zeroizing<String>, Refused> {
    let text = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let shown = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let token = shown.filter(|token| (8..=256).contains(&token.len())).ok_or_else(Problem::signed_out)?;
    Ok(Zeroizing::new(token.to_owned()))
}

/// The program that calls, which must have this scope.
pub(in crate::cloud) async fn service(context: &Context, request: &Request, scope: Scope) -> Result<Service, Refused> {
    let token = bearer(request)?;
    let makers = &context.makers;
    if Kind::of(&token) != Some(Kind::Service) {
        return Err(Problem::signed_out().into());
    }
    let client = makers.shards.first().await?;
    let service = services::of_token(&client, &makers.region, &token, request.source, makers.now()).await;
    if service.is_err() {
        context.limits.attempt(request.source)?;
    }
    let service = service?;
    service.require(scope)?;
    Ok(service)
}

/// The hub that a path names first.
pub(in crate::cloud) fn hub_in_path(request: &Request) -> Result<HubId, Refused> {
    HubId::parse(request.parameter(0)).map_err(|_| Problem::not_found().detail("No such hub is linked here.").into())
}

#[derive(Deserialize)]
struct Credentials {
    grant_type: String,
    #[serde(default)]
    client_id: String,
    #[serde(default, deserialize_with = "tokens::secret")]
    client_secret: Zeroizing<String>,
}

async fn token(context: Arc<Context>, request: Request) -> Answered {
    context.limits.attempt(request.source)?;
    let wrong = |_| Problem::malformed("Send a form: grant_type, client_id, client_secret.");
    let mut given: Credentials = serde_urlencoded::from_bytes(&request.body).map_err(wrong)?;
    if given.grant_type != "client_credentials" {
        return Err(Problem::invalid("grant_type: only client_credentials is there").into());
    }
    if let Some((id, secret)) = basic(&request) {
        (given.client_id, given.client_secret) = (id, secret);
    }
    let makers = &context.makers;
    let mut client = makers.shards.first().await?;
    let signed_in =
        services::sign_in(&mut client, &makers.region, &given.client_id, &given.client_secret, request.source, makers.now()).await?;
    let (token, scopes) = signed_in;
    let words: Vec<&str> = scopes.iter().map(|scope| scope.word()).collect();
    let expires_in = IDLE_MS / 1000;
    Reply::ok(&json!({"access_token": token.as_str(), "token_type": "Bearer", "expires_in": expires_in, "scope": words.join(" ")}))
}

fn basic(request: &Request) -> Option<(String, Zeroizing<String>)> {
    let text = request.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| data_encoding::BASE64.decode(encoded.trim().as_bytes()).ok()).flatten()?;
    let decoded = Zeroizing::new(String::from_utf8(decoded).ok()?);
    // Ids and secrets here need no encoding of their own (RFC 6749 §2.3.1).
    let (id, secret) = decoded.split_once(':')?;
    Some((id.to_owned(), Zeroizing::new(secret.to_owned())))
}

async fn end_token(context: Arc<Context>, request: Request) -> Answered {
    let token = bearer(&request)?;
    let kind = Kind::of(&token).ok_or_else(Problem::signed_out)?;
    let client = context.makers.shards.first().await?;
    tokens::close(&client, &context.makers.region, kind, &token).await?;
    Ok(Reply::nothing())
}

impl From<UploadError> for Refused {
    fn from(error: UploadError) -> Refused {
        let text = error.to_string();
        match error {
            UploadError::Unknown => Problem::not_found().detail(text).into(),
            UploadError::Over => Problem::conflict(text).into(),
            UploadError::Offset(offset) => {
                let problem = Problem::new(409, "offset", "The bytes do not follow those that are here").detail(text);
                Refused::from(problem.next("Send on from the offset.")).and("offset", offset)
            }
            UploadError::Cut(offset) => Refused::from(Problem::malformed(text)).and("offset", offset),
            UploadError::Length | UploadError::Id => Problem::invalid(text).into(),
            UploadError::TooMany(_) => Problem::conflict(text).into(),
            UploadError::Worker => Refused::fault("an upload", &text),
            UploadError::Chunk(chunk) => match chunk {
                ChunkError::Line { line, .. } => Refused::from(Problem::invalid(text)).and("line", line),
                ChunkError::Other { line, .. } => {
                    let problem = Problem::new(409, "identity_conflict", "A device is known here otherwise").detail(text);
                    Refused::from(problem.next("Nothing of this upload counts: find out which of the two is right.")).and("line", line)
                }
                ChunkError::Unfinished { line, .. } => Refused::from(Problem::conflict(text)).and("line", line),
                ChunkError::Seal(error) => Refused::fault("sealing", &error),
                ChunkError::Database(error) => error.into(),
            },
        }
    }
}

impl From<crate::cloud::pool::DatabaseError> for Refused {
    fn from(error: crate::cloud::pool::DatabaseError) -> Refused {
        use crate::cloud::pool::DatabaseError;
        match error {
            DatabaseError::Statement(error) => error.into(),
            DatabaseError::Connect(error) => error.into(),
            other => Refused::fault("the databases", &other),
        }
    }
}

fn uploads(context: &Context) -> Uploads {
    Uploads { shards: context.makers.shards.clone(), region: context.makers.region.clone() }
}

async fn upload(context: Arc<Context>, mut request: Request) -> Answered {
    let service = service(&context, &request, Scope::UploadIdentities).await?;
    let number = |name: &str| match request.header(name) {
        "" => Ok(None),
        text => text.parse::<u64>().map(Some).map_err(|_| Refused::from(Problem::invalid(format!("{name}: a whole number of bytes")))),
    };
    let (offset, length) = (number("upload-offset")?.unwrap_or(0), number("upload-length")?);
    let last = match request.header("upload-complete") {
        "" | "?1" => true,
        "?0" => false,
        _ => return Err(Problem::invalid("Upload-Complete: ?1 or ?0").into()),
    };
    let brand = match request.query("brand") {
        Some(named) if named != service.brand.as_str() => {
            return Err(Problem::not_allowed("This account is of another brand.").next("Use an account of that brand.").into());
        }
        _ => service.brand.clone(),
    };
    let part = Part { id: request.header("upload-id").to_owned(), brand, offset, length, last };
    let body = request.parts.take().ok_or_else(|| Refused::fault("an upload", &"no body"))?;
    let context_now = context.clone();
    let taken = uploads(&context).receive(&service.doer, &service.id, &part, move || context_now.makers.now(), stream(body)).await?;
    shown(&taken)
}

fn shown(upload: &Upload) -> Answered {
    Ok(Reply::ok(upload)?.with(hyper::header::HeaderName::from_static("upload-offset"), &upload.offset.to_string()))
}

/// A body as a stream.
pub(super) fn stream(body: Incoming) -> impl futures_util::Stream<Item = Result<Bytes, Refused>> + Send {
    futures_util::stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match next_part(&mut body).await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(body))),
            Ok(None) => None,
            Err(refused) => Some((Err(refused), None)),
        }
    })
}

async fn list_uploads(context: Arc<Context>, request: Request) -> Answered {
    let service = service(&context, &request, Scope::UploadIdentities).await?;
    Reply::ok(&json!({"uploads": uploads(&context).list(service.brand.as_str()).await?}))
}

async fn show_upload(context: Arc<Context>, request: Request) -> Answered {
    let service = service(&context, &request, Scope::UploadIdentities).await?;
    shown(&uploads(&context).show(service.brand.as_str(), request.parameter(0)).await?)
}

async fn end_upload(context: Arc<Context>, request: Request) -> Answered {
    let service = service(&context, &request, Scope::UploadIdentities).await?;
    let ended = uploads(&context).end(&service.doer, service.brand.as_str(), request.parameter(0), context.makers.now()).await?;
    shown(&ended)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Assignment {
    #[serde(default)]
    devices: Vec<String>,
    #[serde(default)]
    upload: Option<String>,
}

async fn assign(context: Arc<Context>, request: Request) -> Answered {
    let service = service(&context, &request, Scope::AssignDevices).await?;
    let hub = hub_in_path(&request)?;
    let asked: Assignment = request.json()?;
    let which = match (asked.upload, asked.devices) {
        (Some(upload), devices) if devices.is_empty() => Which::Upload(whole_upload(&context, &service.brand, &upload).await?),
        (None, devices) if (1..=DEVICES_MAX).contains(&devices.len()) => Which::Devices(devices),
        _ => return Err(Problem::invalid("Name 1 to 1000 devices, or an upload.").into()),
    };
    let assigned = context.makers.assign(&service.doer, &service.brand, &hub, &which).await?;
    Reply::json(StatusCode::ACCEPTED, &assigned)
}

async fn whole_upload(context: &Context, brand: &BrandId, id: &str) -> Result<i64, Refused> {
    let upload = uploads(context).show(brand.as_str(), id).await?;
    if upload.state == "complete" { Ok(upload.number()) } else { Err(Problem::conflict("The upload is not complete.").into()) }
}

async fn show_assignment(context: Arc<Context>, request: Request) -> Answered {
    let service = service(&context, &request, Scope::AssignDevices).await?;
    Reply::ok(&context.makers.batch_progress(&service.brand, &hub_in_path(&request)?, request.parameter(1)).await?)
}

async fn new_user(context: Arc<Context>, request: Request) -> Answered {
    let service = service(&context, &request, Scope::CreateUsers).await?;
    let new: NewUser = request.json()?;
    Reply::json(StatusCode::ACCEPTED, &context.makers.ask_for_user(&service, &hub_in_path(&request)?, &new).await?)
}

async fn show_user_request(context: Arc<Context>, request: Request) -> Answered {
    let service = service(&context, &request, Scope::CreateUsers).await?;
    let by = format!("service:{}", service.id);
    Reply::ok(&context.makers.asked(&hub_in_path(&request)?, &by, request.parameter(1)).await?)
}
