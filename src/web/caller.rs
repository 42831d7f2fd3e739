//! Who calls, from where, and under which name: session tokens, the peer's address, `Origin` and `Host`.
//!
//! The address is the connection's own. Headers in which a proxy claims another one are never read: everybody can send
//! them, and limits on guessing hang on the address.

use super::refusal::Refused;
use crate::net::problem::Problem;
use crate::service::{Actor, SessionToken};
use std::convert::Infallible;
use std::net::IpAddr;
use tokio::sync::mpsc;
use warp::host::Authority;
use warp::http::header::{AUTHORIZATION, COOKIE, HeaderMap, ORIGIN};
use warp::{Filter, Rejection};

/// The browser's copy of the token. The prefix makes browsers insist on `Secure`, `Path=/` and no `Domain`
/// (RFC 6265bis §4.1.3.2), so that no neighbour can plant one.
const COOKIE_NAME: &str = "__Host-hearthkey";

/// The other end of the connection on which a request came.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Its address.
    pub(super) ip: IpAddr,
    /// SHA-256 of the server's key in this TLS connection; `None` without TLS.
    pub(super) spki: Option<[u8; 32]>,
    /// Held by whatever lives on this connection: it counts as open until the last one is dropped.
    pub(super) open: mpsc::Sender<Infallible>,
}

/// A session, and who acts in it.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) actor: Actor,
    pub(super) token: SessionToken,
}

/// Where a token was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// In `Authorization`: put there by a program that has the token.
    Bearer,
    /// In the cookie: put there by a browser, for whatever page asked.
    Cookie,
}

/// The token of a request, and how it came. `Authorization` goes before the cookie.
pub(super) fn token(headers: &HeaderMap) -> Option<(SessionToken, Carrier)> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| (SessionToken::new(token.trim()), Carrier::Bearer));
    }
    let cookies = headers.get_all(COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    cookies
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, token)| (SessionToken::new(token), Carrier::Cookie))
}

/// `Set-Cookie` for a session that lasts `seconds` from now; 0 takes it away.
pub(super) fn cookie(token: &str, seconds: u64) -> String {
    format!("{COOKIE_NAME}={token}; Max-Age={seconds}; Path=/; Secure; HttpOnly; SameSite=Strict")
}

/// Refuses what a foreign page makes a browser send: with the cookie, `Origin` must be there and be this hub; without
/// any credential it must be this hub when it is there (signing somebody else in is an attack too).
///
/// # Errors
/// 403 `not_allowed`.
pub(super) fn check_origin(headers: &HeaderMap, carrier: Option<Carrier>, own: &str) -> Result<(), Problem> {
    if carrier == Some(Carrier::Bearer) {
        return Ok(());
    }
    match headers.get(ORIGIN) {
        Some(origin) if origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()) => Ok(()),
        None if carrier.is_none() => Ok(()),
        None => Err(Problem::not_allowed("A change with the cookie needs the header Origin.")
            .next("Send Origin, or send the token as Authorization: Bearer.")),
        Some(_) => Err(Problem::not_allowed("The request comes from a page that is not this hub's.").next("Use the hub's own page.")),
    }
}

/// The origin under which the request reached this hub.
pub(super) fn own_origin(caller: &Caller, authority: &str) -> String {
    let scheme = if caller.spki.is_some() { "https" } else { "http" };
    format!("{scheme}://{authority}")
}

/// Passes requests for a name of this hub, and nothing else.
pub(super) fn own_name(names: Vec<String>) -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::host::optional()
        .and_then(move |authority: Option<Authority>| {
            let verdict = match &authority {
                None => Err(Problem::malformed("The header Host is missing.")),
                Some(a) if is_own(a.host(), &names) => Ok(()),
                // 421 Misdirected Request: RFC 9110 §15.5.20.
                Some(_) => Err(Problem::new(421, "wrong_host", "This is not a name of this hub")
                    .next("Use its address or its .local name; an owner can add names to the hub's configuration (web.names).")),
            };
            async move { verdict.map_err(|problem| warp::reject::custom(Refused(problem))) }
        })
        .untuple_one()
}

/// An address, `localhost`, a name of the house (`*.local`), or one that was configured.
pub(super) fn is_own(host: &str, names: &[String]) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&host);
    literal.parse::<IpAddr>().is_ok()
        || host == "localhost"
        || host.strip_suffix(".local").is_some_and(|name| !name.is_empty())
        || names.iter().any(|n| n.eq_ignore_ascii_case(&host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp::http::HeaderValue;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn a_token_comes_as_bearer_or_in_the_cookie() {
        let found = |all: &[_]| token(&headers(all)).map(|(t, c)| (t.reveal().to_owned(), c));
        assert_eq!(found(&[("authorization", "bearer hkt1.a")]), Some(("hkt1.a".into(), Carrier::Bearer)));
        assert_eq!(found(&[("cookie", "x=1; __Host-hearthkey=hkt1.b")]), Some(("hkt1.b".into(), Carrier::Cookie)));
        assert_eq!(found(&[("cookie", "hearthkey=hkt1.b")]), None);
        // Who sends something else as Authorization is not helped by a cookie it may not know of.
        assert_eq!(found(&[("authorization", "Basic eA=="), ("cookie", "__Host-hearthkey=hkt1.b")]), None);
    }

    #[test]
    fn a_change_with_the_cookie_needs_the_hubs_own_origin() {
        let own = "https://hub.local:8443";
        let check = |all: &[_], carrier| check_origin(&headers(all), carrier, own).map_err(|p| p.status);
        assert_eq!(check(&[("origin", "https://hub.local:8443")], Some(Carrier::Cookie)), Ok(()));
        assert_eq!(check(&[], Some(Carrier::Cookie)), Err(403));
        for foreign in ["https://evil.example", "https://hub.local", "http://hub.local:8443", "null"] {
            assert_eq!(check(&[("origin", foreign)], Some(Carrier::Cookie)), Err(403), "{foreign}");
            assert_eq!(check(&[("origin", foreign)], None), Err(403), "{foreign}");
        }
        assert_eq!(check(&[("origin", "https://app.example")], Some(Carrier::Bearer)), Ok(()));
        assert_eq!(check(&[], None), Ok(()));
    }

    #[test]
    fn names_that_others_can_point_at_this_box_are_not_its_own() {
        let names = ["hub.example".to_owned()];
        for own in ["localhost", "hearthkey.local", "Hearthkey.LOCAL.", "192.168.1.9", "[::1]", "[fe80::1]", "hub.example"] {
            assert!(is_own(own, &names), "{own}");
        }
        for foreign in ["evil.example", "local", ".local", "localhost.evil.example", "192.168.1.9.evil.example", "hub.example.evil"] {
            assert!(!is_own(foreign, &names), "{foreign}");
        }
    }
}
