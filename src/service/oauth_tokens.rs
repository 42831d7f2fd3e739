//! Why the token endpoint gives no token.

use super::Refusal;

/// Why there is no token (RFC 6749 §5.2).
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// Something is missing, twice, or makes no sense.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// There is no such client, or it may not come from here.
    #[error("there is no such client on this hub")]
    InvalidClient,
    /// No such grant is known.
    #[error("grant_type: client_credentials is expected")]
    UnsupportedGrantType,
    /// The hub's own reasons.
    #[error(transparent)]
    Refused(#[from] Refusal),
}
