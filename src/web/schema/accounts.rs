//! Passwords, recovery, the second factor, one's own sessions and data.

use super::Secret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A password to look at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordCheck {
    /// As it would be set.
    #[schema(value_type = String, format = Password)]
    pub password: Secret,
    /// For whom.
    #[serde(default)]
    pub username: Option<String>,
}

/// How strong a password is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Strength {
    /// Whether it would be taken.
    pub acceptable: bool,
    /// 0 (guessed at once) to 4.
    pub score: u8,
    /// What is wrong with it; empty when nothing is.
    pub warning: String,
    /// What would make it better.
    pub suggestions: Vec<String>,
}

/// One's own password, asked for again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordAgain {
    /// The present one.
    #[schema(value_type = String, format = Password)]
    pub password: Secret,
}

/// A new password by a code.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordReset {
    /// A reset code or a recovery code, as typed.
    #[schema(value_type = String)]
    pub code: Secret,
    /// The new one, 8 to 256 characters.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 256)]
    pub password: Secret,
}

/// An owner's recovery code.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecoveryCode {
    /// Shown this once.
    pub code: String,
}

/// A code by which somebody sets a new password.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResetCode {
    /// Shown this once.
    pub code: String,
    /// The same as a link to the hub's page.
    pub link: String,
    /// The link as a QR code, SVG.
    pub qr: String,
    /// Until when it serves, ms since 1970.
    pub expires: u64,
}

/// A second factor that has begun.
#[derive(Debug, Serialize, ToSchema)]
pub struct SecondFactor {
    /// For typing into an authenticator app; shown this once.
    pub secret: String,
    /// The same as such apps read it.
    pub uri: String,
    /// The same as a QR code, SVG.
    pub qr: String,
}

/// The first code of the app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecondFactorCode {
    /// Six digits.
    #[schema(value_type = String)]
    pub code: Secret,
}

/// Codes for the day on which the phone is lost.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecoveryCodes {
    /// Each serves once; shown this once.
    pub recovery_codes: Vec<String>,
}

/// A session of one's own.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionEntry {
    /// By which it is ended.
    pub id: String,
    /// When it was opened, ms since 1970.
    pub created_at: u64,
    /// When it was last used, ms since 1970.
    pub last_seen: u64,
    /// Until when, ms since 1970.
    pub expires: u64,
    /// From which address it was opened.
    pub source: String,
    /// What with, as it called itself.
    pub agent: String,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// One's own sessions.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sessions {
    /// The latest first.
    pub sessions: Vec<SessionEntry>,
}

/// How one wants to be called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Display {
    /// The user name when empty.
    pub display_name: String,
}

/// What the hub holds about a person.
#[derive(Debug, Serialize, ToSchema)]
pub struct Export {
    /// The account.
    #[schema(value_type = Object)]
    pub account: Value,
    /// Its sessions.
    pub sessions: Vec<SessionEntry>,
    /// Rights it has.
    #[schema(value_type = Vec<super::Binding>)]
    pub bindings_held: Vec<Value>,
    /// Rights it gave.
    #[schema(value_type = Vec<super::Binding>)]
    pub bindings_given: Vec<Value>,
    /// Apps that act, or acted, for it.
    #[schema(value_type = Vec<Object>)]
    pub apps: Vec<Value>,
    /// Entries of the audit that name the person, newest first.
    #[schema(value_type = Vec<super::AuditEntry>)]
    pub audit: Vec<Value>,
    /// Whether these are all of them.
    pub audit_complete: bool,
}
