//! Bodies of OAuth.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the token endpoint is asked for. A service account may show id and secret by HTTP Basic instead.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// `client_credentials`.
    pub grant_type: String,
    /// The service account's id.
    #[serde(default)]
    pub client_id: Option<String>,
    /// `hkvs1.…`.
    #[serde(default)]
    pub client_secret: Option<String>,
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

/// Why there is no token (RFC 6749 §5.2).
#[derive(Debug, Serialize, ToSchema)]
pub struct OauthError {
    /// What programs compare.
    pub error: &'static str,
    /// What to look at.
    pub error_description: String,
}
