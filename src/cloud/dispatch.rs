//! From a request to its call: limits, looking it up, reading its body, checking who signed it, running it under a
//! deadline; and every answer signed by the cloud key, refusals too.

use super::Context;
use super::call::{Answering, Body, Call, Handler, find};
use super::reply::{Answered, HttpBody, Refused, Reply, ReplyBody};
use super::request::{Request, whole};
use super::signed;
use crate::domain::mirror::signature::sign_reply;
use crate::net::problem::Problem;
use crate::net::table::Found;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Response};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

/// Answers one request.
pub(super) async fn serve(
    context: Arc<Context>,
    source: IpAddr,
    request: hyper::Request<Incoming>,
) -> Result<Response<HttpBody>, Infallible> {
    let asked = signed::joined(request.headers(), "signature");
    let reply = answer(&context, source, request).await.unwrap_or_else(Refused::reply);
    Ok(finish(&context, reply, &asked))
}

async fn answer(context: &Arc<Context>, source: IpAddr, request: hyper::Request<Incoming>) -> Answered {
    context.limits.request(source)?;
    let (parts, body) = request.into_parts();
    let (call, parameters) = match find(&parts.method, parts.uri.path()) {
        Found::Call(call, parameters) => (call, parameters),
        Found::OtherMethods(allow) => return Ok(Refused::from(Problem::method_not_allowed()).reply().with(ALLOW, &allow)),
        Found::Nothing => return Err(Problem::not_found().into()),
    };
    let limits = &context.config.limits;
    let (body, in_parts) = match call.body {
        Body::Parts(_) => (Bytes::new(), Some(body)),
        Body::None => (whole(&parts.headers, body, 0, limits.body).await?, None),
        Body::Json(limit, _) | Body::Form(limit, _) | Body::Octets(limit) => (whole(&parts.headers, body, limit, limits.body).await?, None),
    };
    let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
    let safe = method == Method::GET;
    let request = Request { method, uri, parameters, headers, source, body, parts: in_parts };
    let takes_long = call.takes_long();
    let answering = start(context, call, request).await?;
    // Who hangs up drops the answer, not the act.
    let running = async {
        if safe {
            return answering.await;
        }
        tokio::spawn(answering).await.unwrap_or_else(|error| Err(Refused::fault("a call broke", &error)))
    };
    if takes_long {
        return running.await;
    }
    tokio::time::timeout(limits.call, running).await.unwrap_or_else(|_| {
        tracing::warn!(path = call.path, "a call took too long");
        Err(Refused::busy("This took too long.", 10))
    })
}

async fn start(context: &Arc<Context>, call: &Call, request: Request) -> Result<Answering, Refused> {
    match call.handler {
        Handler::Open(run) => Ok(run(context.clone(), request)),
        Handler::Hub(run) => {
            let hub = signed::linked_hub(context, &request).await?;
            Ok(run(context.clone(), request, hub))
        }
    }
}

/// The last thing that happens to each reply.
fn finish(context: &Context, reply: Reply, asked: &str) -> Response<HttpBody> {
    let covered: &[u8] = match &reply.body {
        ReplyBody::Whole(bytes) => bytes,
        ReplyBody::Parts(_) => &[],
    };
    let signed = sign_reply(&context.keys.cloud, reply.status.as_u16(), covered, asked, context.now_ms() / 1000);
    let mut response = Response::new(HttpBody::from(reply.body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    for (name, value) in reply.headers {
        headers.insert(name, value);
    }
    for (name, value) in
        [("content-digest", signed.content_digest), ("signature-input", signed.signature_input), ("signature", signed.signature)]
    {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}
