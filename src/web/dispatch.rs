//! From a request to its call: look it up, check where it comes from and who sends it, run it, turn problems into answers.

use super::caller::{self, Caller, Session};
use super::request::{self, BodyStream, Request};
use super::table::{Answering, Handler, find, is_named};
use super::{Context, refusal};
use crate::net::problem::Problem;
use crate::net::table::Found;
use crate::service::Refusal;
use std::sync::Arc;
use warp::filters::BoxedFilter;
use warp::host::Authority;
use warp::http::Method;
use warp::http::header::{self, HeaderMap};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection};

/// The parts of a request, before it has found its call.
struct Parts {
    method: Method,
    path: FullPath,
    query: String,
    headers: HeaderMap,
    caller: Caller,
    authority: Option<Authority>,
    body: BodyStream,
}

/// `/api/…`, and the paths of calls outside it.
pub(super) fn routes(context: Arc<Context>) -> BoxedFilter<(Response,)> {
    let ours = warp::path::full()
        .and_then(|path: FullPath| async move {
            let ours = path.as_str() == "/api" || path.as_str().starts_with("/api/") || is_named(path.as_str());
            if ours { Ok(path) } else { Err(warp::reject::not_found()) }
        })
        .boxed();
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let body = warp::body::stream().map(request::body_stream);
    warp::method()
        .and(ours)
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Caller>())
        .and(warp::host::optional())
        .and(body)
        .map(|method, path, query, headers, caller, authority, body| Parts { method, path, query, headers, caller, authority, body })
        .and_then(move |parts: Parts| {
            let context = context.clone();
            async move { Ok::<_, Rejection>(serve(context, parts).await) }
        })
        .boxed()
}

async fn serve(context: Arc<Context>, mut parts: Parts) -> Response {
    let rest = request::Rest::default();
    parts.body = rest.lend(parts.body);
    let response = answer(context, parts).await;
    // An answer that goes out while the request still comes in would end the connection under the client's hands.
    rest.drain().await;
    response
}

async fn answer(context: Arc<Context>, parts: Parts) -> Response {
    // Whoever watches over the box may still ask how it is.
    if context.service.is_retired() && parts.path.as_str() != "/metrics" {
        return super::answer::problem(&Problem::retired());
    }
    let (call, parameters) = match find(&parts.method, parts.path.as_str()) {
        Found::Call(call, parameters) => (call, parameters),
        Found::OtherMethods(allow) => {
            return super::answer::with(super::answer::problem(&Problem::method_not_allowed()), header::ALLOW, &allow);
        }
        Found::Nothing => return super::answer::problem(&Problem::not_found()),
    };
    let safe = parts.method.is_safe();
    let answering = match start(context, parts, parameters, call.handler) {
        Ok(answering) => answering,
        Err(problem) => return super::answer::problem(&problem),
    };
    // Who hangs up drops the answer, not the act: what has been committed must have its effects, and a right that was
    // taken must be gone from live connections whether or not somebody waits to hear of it.
    let answered = if safe {
        answering.await
    } else {
        tokio::spawn(answering).await.unwrap_or_else(|error| {
            tracing::error!(%error, path = call.path, "a call broke");
            Err(Problem::internal())
        })
    };
    answered.unwrap_or_else(|problem| super::answer::problem(&problem))
}

fn start(context: Arc<Context>, parts: Parts, parameters: Vec<String>, handler: Handler) -> Result<Answering, Problem> {
    let token = caller::token(&parts.headers);
    let origin = caller::own_origin(&parts.caller, parts.authority.as_ref().map_or("", Authority::as_str));
    if !parts.method.is_safe() {
        caller::check_origin(&parts.headers, token.as_ref().map(|(_, carrier)| *carrier), &origin)?;
    }
    let Parts { query, headers, caller, body, .. } = parts;
    let ip = caller.ip;
    let request = Request { parameters, query, headers, caller, origin, body };
    match handler {
        Handler::Open(run) => Ok(run(context, request)),
        Handler::SignedIn(run) => {
            let (token, _) = token.ok_or_else(Problem::signed_out)?;
            let actor = match context.service.actor(&token, "https", ip) {
                Ok(actor) => actor,
                Err(Refusal::SignedOut) => return Err(Problem::signed_out()),
                Err(fault) => return Err(refusal::problem(fault)),
            };
            Ok(run(context, request, Session { actor, token }))
        }
    }
}
