//! The maker's workshop: the keys of brands, models, devices minted with their secrets and vouchers, registry batches for hubs, and labels. All of
//! it is a directory of files, so that a maker can back it up and move it with ordinary tools. What the files say is `domain`'s; asking and printing
//! is left to the command line.
//!
//! ```text
//! <dir>/<brand>/brand.json             the public side: root key and fingerprint
//!               root.json              the root's secret: keep it offline; only new keys need it
//!               {voucher,batch,firmware}.json   purpose keys with their certificates
//!               models/<model>.json, <model>.cose
//!               firmware/<model>.jsonl what was signed as firmware, one release a line
//!               runs/<run>/run.json    what was ordered
//!               runs/<run>/<group>/    at most 1,000 devices: index.jsonl, secrets/, vouchers/
//! ```

mod batch;
mod brand;
mod files;
mod firmware;
mod hub_release;
pub mod labels;
mod mint;
mod models;
mod moves;
mod run;
mod show;

use std::path::{Path, PathBuf};

pub use batch::BatchReport;
pub use brand::Brand;
pub use firmware::FirmwareOrder;
pub use hub_release::{HubReleaseOrder, Version, make_hub_release, new_hub_key};
pub use labels::LabelReport;
pub use mint::{COUNT_MAX, MintOptions};
pub use models::{SAMPLES, Sample};
pub use moves::MovesReport;
pub use run::{Minted, Run, RunChoice};
pub use show::describe;

use crate::domain::batch::BatchError;
use crate::domain::brand::StatementError;
use crate::domain::firmware::release::ReleaseError;
use crate::domain::ids::IdError;
pub use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::domain::model::Violation;

/// Why the workshop did not do it.
#[derive(Debug, thiserror::Error)]
pub enum FactoryError {
    /// A file or directory did not let itself be read or written.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path}: {reason}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Something is there already, and would be lost.
    #[error("{0} exists already; nothing was changed")]
    Exists(PathBuf),
    /// No such brand here.
    #[error("there is no brand {0} in this workshop; make it with: hearthkey factory brand new {0}")]
    NoBrand(BrandId),
    /// No such model of this brand.
    #[error("the brand {0} has no model {1}; add it with: hearthkey factory model add")]
    NoModel(BrandId, ModelName),
    /// No such run, or none at all.
    #[error("the brand {0} has no finished run{1}")]
    NoRun(BrandId, String),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The model does not hold, with the path.
    #[error("the model is not valid: {0}")]
    Model(Violation),
    /// The model that is there is newer, or another of the same version.
    #[error("the workshop holds version {held} of this model; give the new one a higher version")]
    ModelVersion {
        /// The version that is there.
        held: u32,
    },
    /// An order outside the limits.
    #[error("{0}")]
    Order(&'static str),
    /// Stopped on request. All groups of devices that were finished stay, and the run can be resumed.
    #[error("stopped after {minted} of {count} devices")]
    Interrupted {
        /// Which run.
        run: String,
        /// Devices whose files are complete.
        minted: u64,
        /// Devices ordered.
        count: u64,
    },
    /// Another process works on this run.
    #[error("another process is working on the run {0}")]
    Busy(String),
    /// A statement or a hub request does not hold.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// A batch cannot be made.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The hub's age recipient is none.
    #[error("the hub request holds an age recipient that cannot be used")]
    Recipient,
    /// A number of a release that is used up.
    #[error("release {last} of this model is signed already: the next one needs a number above it, not {asked}")]
    Rel {
        /// The highest that was signed.
        last: u64,
        /// The one that was asked for.
        asked: u64,
    },
    /// A release of firmware does not hold.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(getrandom::Error),
    /// A text too long for a QR code.
    #[error("the text does not fit into a QR code")]
    Qr,
}

// By hand: as a `source`, it would be printed twice.
impl From<Violation> for FactoryError {
    fn from(violation: Violation) -> Self {
        Self::Model(violation)
    }
}

/// Who wants to know how far it is, and may stop it. Called from several threads.
pub trait Progress: Sync {
    /// So many devices more are done.
    fn advance(&self, devices: u64);

    /// Whether to stop at the next device.
    fn stop(&self) -> bool {
        false
    }
}

/// Nobody wants to know.
impl Progress for () {
    fn advance(&self, _devices: u64) {}
}

/// A directory of brands.
#[derive(Debug, Clone)]
pub struct Workshop {
    dir: PathBuf,
}

impl Workshop {
    /// Opens a workshop. The directory is made when it is missing, closed to others.
    ///
    /// # Errors
    /// [`FactoryError::File`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, FactoryError> {
        let dir = dir.as_ref().to_path_buf();
        files::private_dir(&dir)?;
        Ok(Self { dir })
    }

    fn brand_dir(&self, brand: &BrandId) -> PathBuf {
        self.dir.join(brand.as_str())
    }
}

/// Seconds since 1970, by the maker's machine. It dates what is made and decides nothing.
fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

fn random<const N: usize>() -> Result<[u8; N], FactoryError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(FactoryError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod firmware_vectors;
#[cfg(test)]
mod mirror_vectors;
#[cfg(test)]
mod pairing_vectors;
#[cfg(test)]
mod rehome_vectors;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
