//! OAuth client credentials (RFC 6749 §4.4): how a service account gets its token. The endpoint itself, and the grants of
//! apps, are `oauth`'s.

use super::{Answered, Context, answer, refusal};
use crate::service::{Refusal, SessionToken};
use data_encoding::BASE64;
use serde_json::json;
use std::net::IpAddr;
use warp::http::header::HeaderMap;
use warp::http::{StatusCode, header};
use zeroize::Zeroizing;

/// Answers `grant_type=client_credentials`; `form` has the members of the body. The client shows its secret there or by
/// HTTP Basic (RFC 6749 §2.3.1), and not in both places.
pub(super) async fn grant(context: &Context, headers: &HeaderMap, source: IpAddr, form: &[(String, Zeroizing<String>)]) -> Answered {
    let mut given = form.iter().filter(|(name, _)| name == "client_id" || name == "client_secret").map(|(n, v)| (n.as_str(), v.as_str()));
    let in_body = (given.clone().find(|(n, _)| *n == "client_id"), given.find(|(n, _)| *n == "client_secret"));
    let (id, secret) = match (basic(headers), in_body) {
        (None, (Some((_, id)), Some((_, secret)))) => (id.to_owned(), Zeroizing::new(secret.to_owned())),
        // The id may be said again in the body; another one may not.
        (Some((id, secret)), (said, None)) if said.is_none_or(|(_, said)| said == id) => (id, secret),
        (Some(_), _) => return refused(StatusCode::BAD_REQUEST, "invalid_request", "show the secret once: by HTTP Basic or in the body"),
        (None, _) => return unknown_client(),
    };
    let issued = context.service.sign_in_service(&id, &SessionToken::new(&secret), source, &format!("https {source}")).await;
    let issued = match issued {
        Ok(issued) => issued,
        Err(Refusal::WrongPassword) => return unknown_client(),
        Err(other) => return Err(refusal::problem(other)),
    };
    let scope: Vec<&str> = issued.scopes.iter().map(|s| s.as_str()).collect();
    answer::ok(&json!({
        "access_token": issued.token.reveal(), "token_type": "Bearer", "expires_in": issued.lives_ms / 1000, "scope": scope.join(" "),
    }))
}

/// An error as RFC 6749 §5.2 has it; `why` is for whoever writes the program.
pub(super) fn refused(status: StatusCode, error: &str, why: &str) -> Answered {
    answer::json(status, &json!({"error": error, "error_description": why}))
}

/// One answer for an unknown client, a wrong secret and a network that is not listed.
fn unknown_client() -> Answered {
    let why = "check the client id and the secret, and that this address is in a network that an owner has listed";
    Ok(answer::with(refused(StatusCode::UNAUTHORIZED, "invalid_client", why)?, header::WWW_AUTHENTICATE, "Basic realm=\"hearthkey\""))
}

/// Id and secret of `Authorization: Basic`, each form-encoded before they were joined.
fn basic(headers: &HeaderMap) -> Option<(String, Zeroizing<String>)> {
    let (scheme, text) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(BASE64.decode(text.trim().as_bytes()).ok()?);
    let (id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((unescaped(id)?.to_string(), unescaped(secret)?))
}

fn unescaped(text: &str) -> Option<Zeroizing<String>> {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(&format!("v={}", text.replace('&', "%26"))).ok()?;
    pairs.into_iter().next().map(|(_, v)| Zeroizing::new(v))
}
