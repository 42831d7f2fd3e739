//! Apps: tokens, OAuth, and what a person has let act for them.

use super::Answer::{Json, Nothing};
use super::Verb::{Delete, Get, Post};
use super::{Body, Call};
use crate::web::api::{apps, oauth};

/// What an authorization request says (RFC 6749 §4.1.1, RFC 7636 §4.3).
const REQUEST: &[(&str, &str)] = &[
    ("response_type", "code"),
    ("client_id", "The app"),
    ("redirect_uri", "Where the answer goes; registered"),
    ("scope", "view, operate or manage; view unless given"),
    ("state", "What the app knows its request by"),
    ("code_challenge", "SHA-256 of the verifier, in base64url"),
    ("code_challenge_method", "S256"),
];

/// The calls.
pub(super) static CALLS: &[Call] = &[
    Call::signed_in(Post, "/api/v1/me/tokens", "Make a token for a program of one's own", |c, r, s| Box::pin(apps::make_token(c, r, s)))
        .takes(Body::Json("NewAppToken"))
        .gives(&[(201, Json("MadeAppToken"))])
        .refuses(&[404, 409, 429]),
    Call::signed_in(Get, "/api/v1/me/apps", "The apps that act for one", |c, _, s| Box::pin(apps::mine(c, s)))
        .gives(&[(200, Json("Apps"))]),
    Call::signed_in(Delete, "/api/v1/me/apps/{id}", "End an app of one's own", |c, r, s| Box::pin(apps::end_mine(c, r, s)))
        .gives(&[(204, Nothing)]),
    Call::signed_in(Get, "/api/v1/apps", "Everybody's apps", |c, _, s| Box::pin(apps::list(c, s))).gives(&[(200, Json("AnyApps"))]),
    Call::signed_in(Delete, "/api/v1/apps/{id}", "End anybody's app", |c, r, s| Box::pin(apps::end(c, r, s))).gives(&[(204, Nothing)]),
    Call::signed_in(Get, "/api/v1/oauth/clients", "The registered apps", |c, _, s| Box::pin(apps::clients(c, s)))
        .gives(&[(200, Json("Clients"))]),
    Call::signed_in(Post, "/api/v1/oauth/clients", "Register an app", |c, r, s| Box::pin(apps::add_client(c, r, s)))
        .takes(Body::Json("NewClient"))
        .gives(&[(201, Json("Client"))])
        .refuses(&[409]),
    Call::signed_in(Delete, "/api/v1/oauth/clients/{id}", "End a registration, and everybody's leave for the app", |c, r, s| {
        Box::pin(apps::end_client(c, r, s))
    })
    .gives(&[(204, Nothing)]),
    Call::signed_in(Get, "/api/v1/oauth/requests", "What an app asks for", |c, r, s| Box::pin(oauth::show(c, r, s)))
        .asked(REQUEST)
        .gives(&[(200, Json("ConsentQuestion"))])
        .refuses(&[422]),
    Call::signed_in(Post, "/api/v1/oauth/consents", "Let an app act for one, or not", |c, r, s| Box::pin(oauth::consent(c, r, s)))
        .takes(Body::Json("ConsentAnswer"))
        .gives(&[(200, Json("Redirect"))])
        .refuses(&[404, 409, 429]),
    Call::open(Get, "/.well-known/oauth-authorization-server", "What OAuth clients need to know (RFC 8414)", |_, r| {
        Box::pin(oauth::metadata(r))
    })
    .gives(&[(200, Json("OauthMetadata"))]),
    Call::open(Get, "/oauth/authorize", "Where an app sends the browser (RFC 6749 §4.1.1)", |c, r| Box::pin(oauth::authorize(c, r)))
        .asked(REQUEST)
        .gives(&[(303, Nothing)])
        .refuses(&[422, 429]),
    Call::open(Post, "/oauth/token", "Tokens for a code, a refresh token, or a service's secret (RFC 6749 §5)", |c, r| {
        Box::pin(oauth::token(c, r))
    })
    .takes(Body::Form("TokenRequest"))
    .gives(&[(200, Json("Tokens")), (400, Json("OauthError")), (401, Json("OauthError"))])
    .refuses(&[400, 401, 403, 429]),
    Call::open(Post, "/oauth/revoke", "End a token (RFC 7009)", |c, r| Box::pin(oauth::revoke(c, r)))
        .takes(Body::Form("RevocationRequest"))
        .gives(&[(200, Nothing), (400, Json("OauthError"))])
        .refuses(&[403, 429]),
];
