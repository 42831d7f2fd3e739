//! What an answer is made of: bodies, entity tags, the cookie, and the headers that every response has.

use crate::net::problem::{MEDIA_TYPE, Problem};
use serde::Serialize;
use warp::Reply;
use warp::http::header::{self, HeaderName, HeaderValue};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

/// The only scripts, styles and connections a page may have are the hub's own; nothing may frame it.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                   manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// On every response. There is no Strict-Transport-Security on purpose: the certificate comes from a CA of this house
/// that a browser may not know, and HSTS takes away the visitor's way past that warning; and the rule would be kept for
/// names such as `hearthkey.local`, behind which another hub may stand tomorrow.
const ALWAYS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CSP),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("permissions-policy"), "camera=(self)"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// The last thing that happens to each response: security headers, no caching unless somebody has said otherwise, and
/// no body for HEAD (RFC 9110 §9.3.2).
pub(super) fn finish(method: Method, mut response: Response) -> Response {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if method != Method::HEAD {
        return response;
    }
    response.map(|_| "".into())
}

/// 200, or another status, with JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(body).map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        Problem::internal()
    })?;
    Ok(typed(status, "application/json", bytes))
}

/// 200 with JSON.
pub(super) fn ok(body: &impl Serialize) -> Result<Response, Problem> {
    json(StatusCode::OK, body)
}

/// 204.
pub(super) fn nothing() -> Response {
    status_only(StatusCode::NO_CONTENT)
}

/// A status without a body.
pub(super) fn status_only(status: StatusCode) -> Response {
    let mut response = Response::new("".into());
    *response.status_mut() = status;
    response
}

/// Any body, with its media type.
pub(super) fn typed(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = warp::http::Response::new(body).into_response();
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The same response with a header; one that cannot be written is left out.
pub(super) fn with(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The same response with `ETag: "<version>"`.
pub(super) fn tagged(response: Response, version: u64) -> Response {
    with(response, header::ETAG, &format!("\"{version}\""))
}

/// A problem as a response (RFC 9457).
pub(super) fn problem(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = typed(status, MEDIA_TYPE, problem.to_bytes());
    if let Some(seconds) = problem.retry_after {
        response = with(response, header::RETRY_AFTER, &seconds.to_string());
    }
    if status == StatusCode::UNAUTHORIZED {
        // A 401 names a scheme (RFC 9110 §15.5.2); Bearer, unlike Basic, opens no dialogue in a browser.
        response = with(response, header::WWW_AUTHENTICATE, "Bearer");
    }
    response
}
