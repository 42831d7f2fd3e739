//! Bodies about the recovery code and the bundle.

use serde::Serialize;
use utoipa::ToSchema;

/// The recovery code of the home.
#[derive(Debug, Serialize, ToSchema)]
pub struct HomeRecoveryCode {
    /// Shown this once.
    pub code: String,
    /// For which hub it is: it belongs to the code.
    pub hub: String,
    /// The cloud that keeps the bundle, if one is linked.
    pub url: Option<String>,
    /// Both as a QR code, SVG.
    pub qr: String,
}

/// The bundle that was last handed over.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecoveryBundle {
    /// When it was made, ms since 1970.
    pub at: u64,
    /// Its length.
    pub bytes: u64,
    /// Whether it has everything that stands now.
    pub up_to_date: bool,
    /// Identities that nobody has claimed are not in it.
    pub without_waiting: bool,
}

/// By what this hub has taken another's place.
#[derive(Debug, Serialize, ToSchema)]
pub struct RestoredHub {
    /// When, ms since 1970.
    pub at: u64,
    /// Of when its knowledge was, ms since 1970.
    pub bundle_at: u64,
    /// The epoch it began with.
    pub epoch: u64,
    /// Rights of others than owners wait until it is known what was revoked since, or an owner has looked through them.
    pub review_pending: bool,
}

/// How the home is prepared for the day on which its hub dies.
#[derive(Debug, Serialize, ToSchema)]
pub struct Recovery {
    /// When the code was made, ms since 1970; none when there is no code.
    pub made_at: Option<u64>,
    /// The bundle that was last handed over, if the code opens it.
    pub bundle: Option<RecoveryBundle>,
    /// What would be in it is more than a bundle takes.
    pub too_large: bool,
    /// By what this hub has taken another's place.
    pub restored: Option<RestoredHub>,
}
