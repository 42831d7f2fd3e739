//! Problem details for HTTP (RFC 9457): what a refused request is told.
//!
//! The codes are those of `docs/protocol/api.md`. A problem is data: turning one into a
//! response of some HTTP library is left to the adapters. No detail may tell more than its
//! reader may know: "not found" also answers for what one may not see.

use std::borrow::Cow;

use serde_json::{Value, json};

/// A refusal, as JSON `{"type", "title", "status", "detail", "code", "next"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The code, of `a-z` and `_`: what programs compare. `type` is derived from it.
    pub code: &'static str,
    /// What kind of problem it is, the same for every occurrence.
    pub title: &'static str,
    /// What is wrong this time; empty when the title says it all.
    pub detail: Cow<'static, str>,
    /// What to do about it; empty when there is nothing.
    pub next: Cow<'static, str>,
    /// After how many seconds trying again makes sense: the header `Retry-After` (RFC 9110).
    pub retry_after: Option<u64>,
}

/// The media type of the body.
pub const MEDIA_TYPE: &str = "application/problem+json";

impl Problem {
    /// A problem of a kind that none of the constructors below makes.
    pub const fn new(status: u16, code: &'static str, title: &'static str) -> Self {
        let empty = Cow::Borrowed("");
        Self { status, code, title, detail: empty, next: Cow::Borrowed(""), retry_after: None }
    }

    /// 400: the request is not valid HTTP or not JSON.
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "malformed", "The request cannot be read").detail(detail)
    }

    /// 401: no valid token.
    pub fn signed_out() -> Self {
        Self::new(401, "signed_out", "You are not signed in").next("Sign in and try again.")
    }

    /// 401: user name and password do not match an account: one answer for every reason.
    pub fn sign_in_refused() -> Self {
        Self::new(401, "sign_in_refused", "User name or password is wrong").next("Check both and try again.")
    }

    /// 403: signed in, and not allowed to do this.
    pub fn not_allowed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(403, "not_allowed", "You may not do this").detail(detail).next("Ask an owner of this home.")
    }

    /// 404: there is no such thing, or none that the caller may see.
    pub fn not_found() -> Self {
        Self::new(404, "not_found", "There is no such thing here")
    }

    /// 404: the claim is refused; one answer for every reason.
    pub fn claim_refused() -> Self {
        Self::new(404, "claim_refused", "No device can be claimed with this code")
            .next("Check the code on the label. A device that belongs to someone must be reset first.")
    }

    /// 405: the path exists, the method does not.
    pub const fn method_not_allowed() -> Self {
        Self::new(405, "method_not_allowed", "This cannot be done here")
    }

    /// 408: the request did not arrive in time.
    pub fn too_slow() -> Self {
        Self::new(408, "too_slow", "The request did not arrive in time").next("Try again.")
    }

    /// 409: something contradicts the request, such as a name that is taken.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(409, "conflict", "This contradicts what is there").detail(detail)
    }

    /// 409: a command for a device that is not connected.
    pub fn offline() -> Self {
        Self::new(409, "offline", "The device is not connected").next("Check its power and network, then try again.")
    }

    /// 410: another hub has taken this one's place.
    pub fn retired() -> Self {
        Self::new(410, "retired", "Another hub has taken the place of this one")
            .detail("It was made from this home's recovery bundle. This one serves nobody any more, so that devices and people find the new one.")
            .next("Use the new hub, and switch this one off. To use this box again, start a hub in an empty directory.")
    }

    /// 412: `If-Match` names another version than the present one.
    pub fn version_conflict() -> Self {
        Self::new(412, "version_conflict", "Someone else changed this in the meantime").next("Load it again and repeat the change.")
    }

    /// 413: the body is longer than `limit` bytes.
    pub fn too_large(limit: u64) -> Self {
        Self::new(413, "too_large", "The request is too large").detail(format!("At most {limit} bytes are accepted."))
    }

    /// 415: the body is not of the media type `expected`.
    pub fn unsupported_type(expected: &str) -> Self {
        Self::new(415, "unsupported_type", "The body is of the wrong type").next(format!("Send {expected}."))
    }

    /// 422: readable, and not acceptable; the detail names the member.
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(422, "invalid", "The request is not acceptable").detail(detail)
    }

    /// 429: too many attempts; `wait_ms` is how long to wait, in milliseconds.
    pub fn too_many(wait_ms: u64) -> Self {
        let seconds = wait_ms.div_ceil(1_000).max(1);
        let mut problem = Self::new(429, "too_many", "Too many attempts").next(format!("Wait {seconds} s and try again."));
        problem.retry_after = Some(seconds);
        problem
    }

    /// 500: the hub's own fault; what happened stands in its log, not here.
    pub fn internal() -> Self {
        Self::new(500, "internal", "The hub made a mistake").next("Try again; if it happens again, look at the hub's log.")
    }

    /// 503: not now; try again in `seconds`.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, seconds: u64) -> Self {
        let mut problem = Self::new(503, "unavailable", "The hub cannot do this now").detail(detail).next("Try again shortly.");
        problem.retry_after = Some(seconds);
        problem
    }

    /// The same problem with another detail.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The same problem with another advice.
    pub fn next(mut self, next: impl Into<Cow<'static, str>>) -> Self {
        self.next = next.into();
        self
    }

    /// The body as a JSON value. Empty texts are left out.
    pub fn to_json(&self) -> Value {
        let mut body = json!({
            "type": format!("urn:hearthkey:problem:{}", self.code),
            "title": self.title,
            "status": self.status,
            "code": self.code,
        });
        if let Some(members) = body.as_object_mut() {
            for (name, text) in [("detail", &self.detail), ("next", &self.next)] {
                if !text.is_empty() {
                    members.insert(name.to_owned(), Value::from(text.as_ref()));
                }
            }
        }
        body
    }

    /// The body as bytes, of [`MEDIA_TYPE`].
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_json().to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_members_the_contract_names() {
        let body = Problem::not_allowed("Only an owner may add people.").to_json();
        assert_eq!(body["type"], "urn:hearthkey:problem:not_allowed");
        assert_eq!(body["status"], 403);
        assert_eq!(body["code"], "not_allowed");
        assert_eq!(body["detail"], "Only an owner may add people.");
        assert_eq!(body["next"], "Ask an owner of this home.");
        assert!(!body["title"].as_str().unwrap().is_empty());
        let parsed: Value = serde_json::from_slice(&Problem::invalid("x").to_bytes()).unwrap();
        assert_eq!(parsed["status"], 422);
    }

    #[test]
    fn empty_texts_are_left_out() {
        let body = Problem::not_found().to_json();
        assert!(body.get("detail").is_none() && body.get("next").is_none());
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds_and_never_zero() {
        assert_eq!(Problem::too_many(0).retry_after, Some(1));
        assert_eq!(Problem::too_many(1_000).retry_after, Some(1));
        assert_eq!(Problem::too_many(1_001).retry_after, Some(2));
    }
}
