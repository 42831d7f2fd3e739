//! Apps: tokens, OAuth, and what a person has let act for them.

use super::Answer::Json;
use super::Verb::Post;
use super::{Body, Call};
use crate::web::api::oauth;

/// The calls.
pub(super) static CALLS: &[Call] =
    &[Call::open(Post, "/oauth/token", "Tokens for a service's secret (RFC 6749 §5)", |c, r| Box::pin(oauth::token(c, r)))
        .takes(Body::Form("TokenRequest"))
        .gives(&[(200, Json("Tokens")), (400, Json("OauthError")), (401, Json("OauthError"))])
        .refuses(&[403, 429])];
