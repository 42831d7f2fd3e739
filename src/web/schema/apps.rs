//! Bodies about apps: tokens, what acts for whom, registrations, consent, and the OAuth calls outside `/api`.

use super::Privilege;
use crate::domain::ids::DeviceId;
use crate::net::problem::Problem;
use crate::service::AppGrant;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// A token to make for a program of one's own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAppToken {
    /// What to call it.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// What it may have.
    #[schema(min_items = 1, max_items = 200)]
    pub devices: Vec<AppDeviceChoice>,
    /// For how long, in ms; 90 days when left out, at most 366.
    #[serde(default)]
    pub expires_in_ms: Option<u64>,
}

/// What an app may have of one device.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppDeviceChoice {
    /// Which device.
    pub id: String,
    /// How far; to look when left out. Nobody's app administers.
    #[serde(default)]
    pub privilege: Option<Privilege>,
    /// Only to these attributes and commands; to all of one's own when left out.
    #[serde(default)]
    pub only: Option<BTreeSet<String>>,
}

impl AppDeviceChoice {
    /// What is given.
    ///
    /// # Errors
    /// For a person: what cannot be an id is no device.
    pub(crate) fn into_grant(self) -> Result<AppGrant, Problem> {
        let device = DeviceId::parse(&self.id).map_err(|_| Problem::not_found().detail("there is no such device"))?;
        let privilege = self.privilege.map_or(crate::domain::binding::Privilege::View, Into::into);
        Ok(AppGrant { device, privilege, only: self.only })
    }
}

/// A token just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeAppToken {
    /// The app's id: over MQTT, the user name is `app:` and this.
    pub id: String,
    /// The token, shown this once.
    pub token: String,
    /// Until when, ms since 1970.
    pub expires: u64,
}

/// An app that acts for the one who asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct App {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `token` or `oauth`.
    pub kind: String,
    /// The registered app, if it is one.
    pub client_id: Option<String>,
    /// What it may have.
    pub devices: Vec<AppDevice>,
    /// Since when, ms since 1970.
    pub created_at: u64,
    /// Until when, ms since 1970.
    pub expires: u64,
    /// When it was last heard, to about ten minutes, ms since 1970.
    pub last_used: Option<u64>,
}

/// A device that an app may have.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppDevice {
    /// Which.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How far.
    pub privilege: String,
    /// Only to these attributes and commands.
    pub only: Option<Vec<String>>,
}

/// One's own apps.
#[derive(Debug, Serialize, ToSchema)]
pub struct Apps {
    /// Each of them.
    pub apps: Vec<App>,
}

/// An app, and for whom it acts.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnyApp {
    /// The app.
    #[serde(flatten)]
    pub app: App,
    /// The account's id.
    pub user: String,
    /// The account's name.
    pub username: String,
}

/// Everybody's apps.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnyApps {
    /// Each of them.
    pub apps: Vec<AnyApp>,
}

/// An app to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewClient {
    /// What people see.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// Where answers may go: `https://…`, `http://127.0.0.1/…` or `http://[::1]/…` (any port), or a scheme with a dot.
    #[schema(min_items = 1, max_items = 10)]
    pub redirect_uris: Vec<String>,
}

/// A registered app.
#[derive(Debug, Serialize, ToSchema)]
pub struct Client {
    /// Its client id.
    pub id: String,
    /// What people see.
    pub name: String,
    /// Where answers may go.
    pub redirect_uris: Vec<String>,
    /// Since when, ms since 1970.
    pub created_at: u64,
}

/// Registered apps.
#[derive(Debug, Serialize, ToSchema)]
pub struct Clients {
    /// Each of them.
    pub clients: Vec<Client>,
}

/// What a person is asked.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsentQuestion {
    /// Who asks.
    pub client: Asking,
    /// How far it wants to go.
    pub privilege: String,
    /// The devices one could let it have.
    pub devices: Vec<Offer>,
    /// Where the answer goes.
    pub redirect_host: String,
}

/// The app that asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct Asking {
    /// Its client id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A device that could be given.
#[derive(Debug, Serialize, ToSchema)]
pub struct Offer {
    /// Which.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The furthest that can be given.
    pub privilege: String,
}

/// What a person answers.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentAnswer {
    /// As in the request.
    pub client_id: String,
    /// As in the request.
    pub redirect_uri: String,
    /// As in the request; to look when left out.
    #[serde(default)]
    pub scope: Option<String>,
    /// As in the request.
    #[serde(default)]
    pub state: Option<String>,
    /// As in the request; made with `S256`.
    pub code_challenge: String,
    /// What is given.
    #[serde(default)]
    pub devices: Vec<AppDeviceChoice>,
    /// For how long, in ms; 90 days when left out, at most 366.
    #[serde(default)]
    pub expires_in_ms: Option<u64>,
    /// True to give nothing.
    #[serde(default)]
    pub deny: bool,
}

/// Where the browser goes next.
#[derive(Debug, Serialize, ToSchema)]
pub struct Redirect {
    /// The app's address, with the answer.
    pub redirect: String,
}

/// What an app brings to the token endpoint.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// `authorization_code`, `refresh_token` or `client_credentials`.
    pub grant_type: String,
    /// Who asks.
    pub client_id: Option<String>,
    /// With `authorization_code`: the code.
    pub code: Option<String>,
    /// With `authorization_code`: where the code was sent.
    pub redirect_uri: Option<String>,
    /// With `authorization_code`: what the challenge was made of.
    pub code_verifier: Option<String>,
    /// With `refresh_token`: the token.
    pub refresh_token: Option<String>,
    /// With `client_credentials`: the secret, unless it comes by `Authorization: Basic`.
    pub client_secret: Option<String>,
    /// No more than was given.
    pub scope: Option<String>,
}

/// Tokens (RFC 6749 §5.1).
#[derive(Debug, Serialize, ToSchema)]
pub struct Tokens {
    /// For calls and for MQTT.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: String,
    /// Seconds.
    pub expires_in: u64,
    /// For the next pair; serves once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// How far it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The app's id: over MQTT, the user name is `app:` and this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
}

/// A token to end (RFC 7009 §2.1).
#[derive(Debug, Deserialize, ToSchema)]
pub struct RevocationRequest {
    /// The token.
    pub token: String,
    /// What kind it is; the hub sees that itself.
    pub token_type_hint: Option<String>,
    /// Whose it is.
    pub client_id: Option<String>,
}

/// What OAuth calls refuse (RFC 6749 §5.2).
#[derive(Debug, Serialize, ToSchema)]
pub struct OauthError {
    /// A word of RFC 6749.
    pub error: &'static str,
    /// For a developer.
    pub error_description: String,
}

/// What an OAuth client needs to know (RFC 8414 §2).
#[derive(Debug, Serialize, ToSchema)]
pub struct OauthMetadata {
    /// The hub, as it was asked.
    pub issuer: String,
    /// Where the person is asked.
    pub authorization_endpoint: String,
    /// Where codes become tokens.
    pub token_endpoint: String,
    /// Where tokens end.
    pub revocation_endpoint: String,
    /// `view`, `operate`, `manage`.
    pub scopes_supported: Vec<&'static str>,
    /// `code`.
    pub response_types_supported: Vec<&'static str>,
    /// `query`.
    pub response_modes_supported: Vec<&'static str>,
    /// What the token endpoint takes.
    pub grant_types_supported: Vec<&'static str>,
    /// How clients show who they are: apps by PKCE, services by their secret.
    pub token_endpoint_auth_methods_supported: Vec<&'static str>,
    /// The same for ending tokens.
    pub revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    /// `S256`.
    pub code_challenge_methods_supported: Vec<&'static str>,
    /// Answers say whose they are (RFC 9207).
    pub authorization_response_iss_parameter_supported: bool,
}
