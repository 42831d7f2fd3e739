//! Bodies about the version of the hub.

use serde::Serialize;
use utoipa::ToSchema;

/// What the hub does about its version.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HubUpdatePhase {
    /// Nothing.
    Idle,
    /// It asks the vendor.
    Checking,
    /// The archive comes.
    Downloading,
    /// It is checked and unpacked.
    Unpacking,
    /// It waits until nothing stands in the way.
    Waiting,
    /// It is about to start as another version.
    Switching,
    /// A new version serves, and may still be given up.
    Trying,
}

/// How an update ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HubUpdateEnd {
    /// The new version stays.
    Updated,
    /// The version before serves again.
    RolledBack,
    /// It was not even tried.
    Refused,
}

/// A release that may be installed here.
#[derive(Debug, Serialize, ToSchema)]
pub struct OfferedHubRelease {
    /// The version.
    pub version: String,
    /// Its place in the order of versions.
    pub rel: u64,
    /// Bytes of its archive.
    pub size: u64,
    /// What is new.
    pub notes: String,
    /// When it was made, ms since 1970.
    pub made_at: u64,
    /// Whether its vendor gives it to this hub by itself already.
    pub by_itself: bool,
    /// Whether it was tried here and did not serve.
    pub failed: bool,
}

/// The last update, and how it ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct HubUpdateOutcome {
    /// Rises with each.
    pub number: u64,
    /// How.
    pub ended: HubUpdateEnd,
    /// The version that was asked for, or left.
    pub version: Option<String>,
    /// The version before; none: the program of the system.
    pub from: Option<String>,
    /// Who asked.
    pub by: String,
    /// Why; empty when all went well.
    pub reason: String,
    /// When, ms since 1970.
    pub at: u64,
}

/// The version of the hub, and what is done about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct HubUpdate {
    /// What runs.
    pub version: String,
    /// Whether a vendor is configured.
    pub configured: bool,
    /// Whether the hub looks by itself.
    pub enabled: bool,
    /// Whether it installs by itself.
    pub automatic: bool,
    /// Whether there is somebody who starts another version.
    pub supervised: bool,
    /// What it does.
    pub phase: HubUpdatePhase,
    /// Bytes of the archive that are here.
    pub done: u64,
    /// When the vendor was last asked with success, ms since 1970.
    pub checked_at: Option<u64>,
    /// What is in the way, with what to do.
    pub problem: Option<String>,
    /// What may be installed.
    pub offered: Option<OfferedHubRelease>,
    /// To which version the hub would go back.
    pub back_to: Option<String>,
    /// The last update.
    pub last: Option<HubUpdateOutcome>,
}
