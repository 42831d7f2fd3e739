//! The token endpoint (RFC 6749 §3.2).

use super::request::Request;
use super::service_token::{self, refused};
use super::{Answered, Context};
use std::sync::Arc;
use warp::http::StatusCode;
use zeroize::Zeroizing;

/// Longest form, in bytes.
const FORM_BYTES: usize = 16 * 1024;

pub(in crate::web) async fn token(context: Arc<Context>, mut request: Request) -> Answered {
    context.attempt(request.caller.ip)?;
    request.expect_type(&["application/x-www-form-urlencoded"])?;
    let bytes = request.bytes(&context, FORM_BYTES).await?;
    let invalid = |why: &str| refused(StatusCode::BAD_REQUEST, "invalid_request", why);
    let Ok(form) = serde_urlencoded::from_bytes::<Vec<(String, String)>>(&bytes) else {
        return invalid("the body is not a form");
    };
    let form: Vec<_> = form.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect();
    let mut names: Vec<&str> = form.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|two| two.first() == two.last()) {
        return invalid("a parameter is there twice");
    }
    let Request { headers, caller, .. } = request;
    match form.iter().find(|(name, _)| name == "grant_type").map(|(_, v)| v.as_str()) {
        Some("client_credentials") => service_token::grant(&context, &headers, caller.ip, &form).await,
        Some(_) => refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", "this hub does not know this grant"),
        None => invalid("grant_type is missing"),
    }
}
