//! The rules of OAuth that need no store: where an answer may be sent, what a scope means, and what proves that who brings
//! a code is who asked for it. Issuing and keeping codes and tokens is `service`'s.

use super::binding::Privilege;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a redirect URI.
const MAX_URI: usize = 512;
/// Bytes of a state: it goes through the address bar.
const MAX_STATE: usize = 1024;

/// Where the answer to an authorization request may be sent. Registered ones are `https`, a private-use scheme with a dot
/// (RFC 8252 §7.1), or loopback over `http` (§7.3); none has a fragment (RFC 6749 §3.1.2) or credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RedirectUri(String);

/// What is wrong with a redirect URI; the text is for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "redirect_uris: each is https://…, http://127.0.0.1/… or http://[::1]/…, or a scheme of the app's own with a dot in it; at most 512 \
     characters, without # and without a user name"
)]
pub struct RedirectUriError;

impl RedirectUri {
    /// Reads a URI to register.
    ///
    /// # Errors
    /// [`RedirectUriError`].
    pub fn parse(text: &str) -> Result<RedirectUri, RedirectUriError> {
        // Only what a URI is written with (RFC 3986 §2), less the fragment; what is not that is percent-encoded.
        let written = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&b);
        let (scheme, rest) = text.split_once(':').ok_or(RedirectUriError)?;
        let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        if text.len() > MAX_URI || !text.bytes().all(written) || !scheme_fits {
            return Err(RedirectUriError);
        }
        let uri = RedirectUri(text.to_owned());
        let authority = rest.strip_prefix("//").map(|r| r.split(['/', '?']).next().unwrap_or_default());
        let fits = match scheme {
            "https" => authority.is_some_and(|a| !a.is_empty() && !a.starts_with(':')),
            "http" => uri.loopback().is_some(),
            // A name that nobody else may use: a domain turned round.
            _ => scheme.contains('.') && !rest.is_empty(),
        };
        let named = authority.is_some_and(|a| a.contains('@'));
        if fits && !named { Ok(uri) } else { Err(RedirectUriError) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request that names `asked` may be answered there: character by character, save the port of a loopback
    /// address, which the app learns only when it listens (RFC 8252 §7.3).
    #[must_use]
    pub fn takes(&self, asked: &str) -> bool {
        if self.0 == asked {
            return true;
        }
        let asked = RedirectUri::parse(asked).ok();
        let pair = self.loopback().zip(asked.as_ref().and_then(RedirectUri::loopback));
        pair.is_some_and(|(own, other)| own == other)
    }

    /// Host and what follows the port, of an `http` URI on a loopback address. `localhost` is a name, and names can be
    /// pointed elsewhere (RFC 8252 §8.3).
    fn loopback(&self) -> Option<(&str, &str)> {
        let rest = self.0.strip_prefix("http://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(end);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port_fits = port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok());
        (matches!(host, "127.0.0.1" | "[::1]") && port_fits).then_some((host, after))
    }

    /// Where the answer goes, as a person is shown it: the host, or the scheme of an app on this device.
    #[must_use]
    pub fn host(text: &str) -> &str {
        match text.split_once("://") {
            Some(("https" | "http", rest)) => rest.split(['/', '?']).next().unwrap_or_default(),
            _ => text.split(':').next().unwrap_or_default(),
        }
    }
}

/// The scopes, by what they let an app do to the devices that the person names.
pub const SCOPES: [(&str, Privilege); 3] = [("view", Privilege::View), ("operate", Privilege::Operate), ("manage", Privilege::Manage)];

/// The furthest that a scope asks for; to look, when it is left out. `None` for one that there is not.
#[must_use]
pub fn furthest(scope: Option<&str>) -> Option<Privilege> {
    let mut furthest = Privilege::View;
    for word in scope.unwrap_or("view").split(' ').filter(|w| !w.is_empty()) {
        furthest = furthest.max(SCOPES.iter().find(|(name, _)| *name == word)?.1);
    }
    Some(furthest)
}

/// The scope that says this privilege.
#[must_use]
pub fn scope_of(privilege: Privilege) -> &'static str {
    SCOPES.iter().rev().find(|(_, p)| *p <= privilege).map_or("view", |(name, _)| name)
}

/// What a request shows of a secret that only its sender knows: SHA-256 of the verifier (RFC 7636 §4.2, `S256`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge([u8; 32]);

impl Challenge {
    /// Reads the text of a request.
    #[must_use]
    pub fn parse(text: &str) -> Option<Challenge> {
        BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok().map(Challenge)
    }

    /// Whether this verifier was meant: 43 to 128 unreserved characters (RFC 7636 §4.1).
    #[must_use]
    pub fn is_of(&self, verifier: &str) -> bool {
        let written = verifier.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
        // Both sides are hashes: how long the comparison takes says nothing about the verifier.
        (43..=128).contains(&verifier.len()) && written && <[u8; 32]>::from(Sha256::digest(verifier.as_bytes())) == self.0
    }
}

/// Whether this may be a state: printable ASCII (RFC 6749 appendix A.5), of bounded length.
#[must_use]
pub fn is_state(text: &str) -> bool {
    text.len() <= MAX_STATE && text.bytes().all(|b| (0x20..=0x7e).contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_that_nobody_else_can_listen_at_are_registered() {
        for good in [
            "https://app.example/callback",
            "https://app.example:8443/cb?a=b",
            "http://127.0.0.1/cb",
            "http://127.0.0.1:7777/cb",
            "http://[::1]:1/",
            "com.example.app:/oauth",
            "com.example.app://x",
        ] {
            assert!(RedirectUri::parse(good).is_ok(), "{good}");
        }
        let long = format!("https://app.example/{}", "x".repeat(500));
        for bad in [
            "",
            "http://app.example/cb",
            "http://localhost/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://127.0.0.1@evil.example/cb",
            "http://127.0.0.1:99999/",
            "https://user@app.example/cb",
            "https://app.example/cb#x",
            "https://",
            "https:///cb",
            "https:app.example",
            "HTTPS://app.example/cb",
            "javascript:alert(1)",
            "data:text/html,x",
            "app:/oauth",
            "com.example.app:",
            "https://app.example/a b",
            "https://app.example/\r\nx",
            "https://app.example/ü",
            "https://app.example\\@evil.example/",
            &long,
        ] {
            assert!(RedirectUri::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_goes_to_the_registered_place_to_the_letter_and_on_loopback_to_any_port() {
        let web = RedirectUri::parse("https://app.example/cb").unwrap();
        assert!(web.takes("https://app.example/cb"));
        for other in ["https://app.example/cb/", "https://app.example/cb?x", "https://app.example:444/cb", "https://evil.example/cb", ""] {
            assert!(!web.takes(other), "{other}");
        }
        let native = RedirectUri::parse("http://127.0.0.1/cb").unwrap();
        assert!(native.takes("http://127.0.0.1:51004/cb") && native.takes("http://127.0.0.1/cb"));
        for other in ["http://127.0.0.1:51004/", "http://[::1]:51004/cb", "http://127.0.0.1:51004@evil.example/cb", "https://127.0.0.1/cb"]
        {
            assert!(!native.takes(other), "{other}");
        }
        assert_eq!(RedirectUri::host("https://app.example/cb"), "app.example");
        assert_eq!(RedirectUri::host("com.example.app:/x"), "com.example.app");
    }

    #[test]
    fn a_scope_asks_for_the_furthest_of_its_words_and_never_to_administer() {
        assert_eq!(furthest(None), Some(Privilege::View));
        assert_eq!(furthest(Some("view manage operate")), Some(Privilege::Manage));
        for none in ["administer", "view root", "View"] {
            assert_eq!(furthest(Some(none)), None, "{none}");
        }
        assert_eq!(scope_of(Privilege::Operate), "operate");
    }

    #[test]
    fn a_verifier_fits_its_own_challenge_alone() {
        // RFC 7636 appendix B.
        let challenge = Challenge::parse("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM").unwrap();
        assert!(challenge.is_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert!(!challenge.is_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl") && !challenge.is_of(""));
        let short = Challenge(Sha256::digest(b"short").into());
        assert!(!short.is_of("short"));
        assert_eq!(Challenge::parse("E9Melhoa2Owv"), None);
    }
}
