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

/// A device of a stolen hub that has not come over yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct MovingDevice {
    /// Which.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Its order is here: it comes when it looks for its hub.
    pub ordered: bool,
    /// No maker's key is in it: it is set up by hand again.
    pub by_hand: bool,
}

/// Of the devices of a stolen hub that this one follows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Moves {
    /// The stolen hub's id.
    pub old: String,
    /// Since when this one follows it, ms since 1970.
    pub since: u64,
    /// The cloud that is linked has ended the stolen one.
    pub told: bool,
    /// What makers are given where there is no cloud of theirs: one line.
    pub request: String,
    /// How many of its devices are at home here.
    pub here: u64,
    /// Those that are not, at most 1,000.
    pub waiting: Vec<MovingDevice>,
}

/// What has become of a maker's file of move orders.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrdersTaken {
    /// Orders that are kept.
    pub taken: u64,
    /// Those for devices that are not this home's, or older than what is here.
    pub passed_over: u64,
}
