//! The grant of services, which act for themselves (RFC 6749 §4.4).

use super::super::Context;
use super::super::schema;
use super::Form;
use crate::service::{GrantError, Refusal, SessionToken};
use data_encoding::BASE64;
use std::net::IpAddr;
use warp::http::header::{AUTHORIZATION, HeaderMap};
use zeroize::Zeroizing;

/// A token for a service that shows its secret, in the form or by HTTP Basic (RFC 6749 §2.3.1) and not in both places. One
/// answer for an unknown client, a wrong secret and a network that is not listed.
pub(super) async fn exchange(context: &Context, headers: &HeaderMap, source: IpAddr, mut form: Form) -> Result<schema::Tokens, GrantError> {
    let (said, secret) = (form.taken("client_id"), form.taken("client_secret").map(Zeroizing::new));
    let (id, secret) = match (basic(headers), said, secret) {
        (None, Some(id), Some(secret)) => (id, secret),
        // The id may be said again in the body; another one may not.
        (Some((id, secret)), said, None) if said.as_ref().is_none_or(|said| *said == id) => (id, secret),
        (Some(_), _, _) => return Err(GrantError::InvalidRequest("show id and secret once: by HTTP Basic or in the form")),
        (None, _, _) => return Err(GrantError::InvalidClient),
    };
    let issued = context.service.sign_in_service(&id, &SessionToken::new(&secret), source, &format!("https {source}")).await;
    let issued = issued.map_err(|refusal| match refusal {
        Refusal::WrongPassword => GrantError::InvalidClient,
        other => GrantError::Refused(other),
    })?;
    let scope: Vec<&str> = issued.scopes.iter().map(|s| s.as_str()).collect();
    Ok(schema::Tokens {
        access_token: issued.token.reveal().to_owned(),
        token_type: "Bearer".into(),
        // From the last use on.
        expires_in: issued.lives_ms / 1000,
        refresh_token: None,
        scope: (!scope.is_empty()).then(|| scope.join(" ")),
        app_id: None,
    })
}

/// Id and secret of `Authorization: Basic`, each form-encoded before they were joined.
fn basic(headers: &HeaderMap) -> Option<(String, Zeroizing<String>)> {
    let (scheme, text) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
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
