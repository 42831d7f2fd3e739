//! A refused shadow request, and the body of `…/rejected`. Codes and messages are those that the AWS IoT developer
//! guide lists under "Device Shadow error messages", with the path added where one place is at fault.

use serde_json::{Value, json};

use super::schema::{Section, Violation};

/// Why a request was refused. Nothing of it was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// 400 malformed or against the model, 403 not this writer's, 404 no such twin, 409 another version, 413 too
    /// large, 415 not UTF-8. Rooms further out add 401, 429 and 500.
    pub code: u16,
    /// What is wrong, for a person to read. Names the path, if there is one.
    pub message: String,
    /// Where it is wrong: `desired.colour.hue`.
    pub path: Option<String>,
    /// The token of the request, if it could be read.
    pub client_token: Option<String>,
}

impl Rejection {
    /// A refusal with neither path nor token.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), path: None, client_token: None }
    }

    /// The same refusal, as the answer to the request with this token.
    #[must_use]
    pub fn for_token(mut self, client_token: Option<String>) -> Self {
        self.client_token = client_token;
        self
    }

    /// The body of `…/rejected`: `{"code", "message", "timestamp", "clientToken"?}`, the timestamp in epoch seconds.
    #[must_use]
    pub fn to_json(&self, now: u64) -> Value {
        let mut body = json!({"code": self.code, "message": self.message, "timestamp": now / 1000});
        if let (Some(token), Some(members)) = (&self.client_token, body.as_object_mut()) {
            members.insert("clientToken".into(), token.as_str().into());
        }
        body
    }

    pub(super) fn at(mut self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.message = format!("{}: {path}", self.message);
        self.path = Some(path);
        self
    }

    pub(super) fn of_violation(section: Section, violation: &Violation) -> Self {
        let path = format!("{}.{}", section.as_str(), violation.path);
        let message = format!("State contains an invalid node: {path}: {}", violation.reason);
        Self { path: Some(path), ..Self::new(400, message) }
    }

    pub(super) fn too_large() -> Self {
        Self::new(413, "The payload exceeds the maximum size allowed")
    }

    pub(super) fn no_shadow(client_token: Option<String>) -> Self {
        Self::new(404, "No shadow exists").for_token(client_token)
    }
}
