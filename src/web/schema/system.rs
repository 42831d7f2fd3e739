//! Bodies about the system of the box.

use super::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is done about the system.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemPhase {
    /// Nothing.
    Idle,
    /// A bundle comes in.
    Receiving,
    /// RAUC verifies it.
    Checking,
    /// What was asked for waits until nothing stands in the way.
    Waiting,
    /// RAUC writes the slot that does not run.
    Installing,
    /// The box is about to restart.
    Restarting,
}

/// How a version stands to the one that runs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemAge {
    /// It comes after what runs.
    Newer,
    /// It is what runs.
    Same,
    /// It comes before what runs.
    Older,
    /// Nobody can tell.
    Unknown,
}

/// What became of a system that was installed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemFate {
    /// It waits for the box to be restarted.
    Waits,
    /// It runs, and is given up yet if it does not serve.
    Tried,
    /// It runs, and stays.
    Stays,
    /// The system before it runs.
    FellBack,
}

/// A slot of the system.
#[derive(Debug, Serialize, ToSchema)]
pub struct SystemSlot {
    /// As the boot loader calls it.
    pub name: String,
    /// Whether it runs.
    pub booted: bool,
    /// Whether it is started next; unknown where the boot loader does not tell.
    pub next: Option<bool>,
    /// `good` or `bad`, as the boot loader has it.
    pub boot_status: String,
    /// The bundle that it was written from.
    pub version: Option<String>,
    /// What RAUC notes of that: `ok` when it was written whole.
    pub status: Option<String>,
    /// When it was written (RFC 3339).
    pub installed: Option<String>,
}

/// A bundle that is here, as RAUC has verified it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SystemBundle {
    /// Its version.
    pub version: String,
    /// Bytes.
    pub size: u64,
    /// How it stands to what runs.
    pub age: SystemAge,
}

/// The last installation, and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SystemTried {
    /// Its version.
    pub version: String,
    /// What became of it.
    pub fate: SystemFate,
}

/// The system of the box.
#[derive(Debug, Serialize, ToSchema)]
pub struct SystemUpdate {
    /// For which machines bundles are taken.
    pub compatible: String,
    /// Which kind of it; empty for none.
    pub variant: String,
    /// What it was started from.
    pub boot_slot: String,
    /// The version that runs.
    pub version: String,
    /// The slots.
    pub slots: Vec<SystemSlot>,
    /// RAUC's last error; empty for none.
    pub last_error: String,
    /// What is done.
    pub phase: SystemPhase,
    /// Bytes of the bundle that are here.
    pub done: u64,
    /// How much of the installation is done, in percent.
    pub percent: u8,
    /// What is in the way, with what to do.
    pub problem: Option<String>,
    /// The bundle that is here.
    pub bundle: Option<SystemBundle>,
    /// The last installation.
    pub tried: Option<SystemTried>,
}

/// The order to install the bundle that is here.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemInstall {
    /// One's own password.
    #[schema(value_type = String, format = Password)]
    pub password: Secret,
    /// Whether it may be one that is older than what runs, or cannot be compared with it.
    #[serde(default)]
    pub older: bool,
}
