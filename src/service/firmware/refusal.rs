//! Why a release is not taken, each with what to do.

use crate::domain::brand::{Fingerprint, StatementError};
use crate::domain::firmware::release::ReleaseError;
use crate::domain::ids::BrandId;

/// Why a release was not taken. Refused ones leave nothing behind.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareRefusal {
    /// Nobody has confirmed this root for this brand.
    #[error(
        "the brand {brand} with the fingerprint {fingerprint} is not trusted here: compare the fingerprint with what its maker publishes, trust the brand, then try again"
    )]
    BrandNotTrusted {
        /// The brand that the file speaks for.
        brand: BrandId,
        /// The fingerprint of the root in it.
        fingerprint: Fingerprint,
    },
    /// A signature or a record in it does not hold.
    #[error("{0}: get the file from its maker again")]
    Signature(String),
    /// The image is shorter or longer than the release says.
    #[error(transparent)]
    Size(ReleaseError),
    /// The image is another one.
    #[error(transparent)]
    Hash(ReleaseError),
    /// It is no release file.
    #[error(transparent)]
    NotAReleaseFile(ReleaseError),
    /// The image is larger than the room for images.
    #[error(
        "the image has {size} bytes, and this hub keeps images of at most {limit} bytes: raise firmware.cache_bytes in its configuration"
    )]
    TooLarge {
        /// Of the image.
        size: u64,
        /// Bytes of all images.
        limit: u64,
    },
    /// All images there are under offer.
    #[error(
        "there is no room for the image: the others are being offered to devices. Wait until these are done, remove one, or raise firmware.cache_bytes"
    )]
    CacheFull,
    /// The same number was released with another content.
    #[error("this hub knows another release {0} of this model: its maker has used the number twice; ask for one with a new number")]
    RelTaken(u64),
    /// It is wanted no more, or is being taken already.
    #[error("another release is being taken in: try again when it is done")]
    Busy,
    /// The disk.
    #[error("the image cannot be kept: {0}. Free some disk space on the hub, then try again")]
    Disk(std::io::Error),
}

impl FirmwareRefusal {
    /// The word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            FirmwareRefusal::BrandNotTrusted { .. } => "brand_not_trusted",
            FirmwareRefusal::Signature(_) => "signature",
            FirmwareRefusal::Size(_) => "size",
            FirmwareRefusal::Hash(_) => "hash",
            FirmwareRefusal::NotAReleaseFile(_) => "not_a_release",
            FirmwareRefusal::TooLarge { .. } => "too_large",
            FirmwareRefusal::CacheFull => "cache_full",
            FirmwareRefusal::RelTaken(_) => "conflict",
            FirmwareRefusal::Busy | FirmwareRefusal::Disk(_) => "unavailable",
        }
    }
}

impl From<ReleaseError> for FirmwareRefusal {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::Statement(StatementError::Untrusted { brand, fingerprint }) => {
                FirmwareRefusal::BrandNotTrusted { brand, fingerprint }
            }
            ReleaseError::Statement(_) | ReleaseError::Bound { .. } => FirmwareRefusal::Signature(error.to_string()),
            ReleaseError::CutShort | ReleaseError::TooLong => FirmwareRefusal::Size(error),
            ReleaseError::Hash => FirmwareRefusal::Hash(error),
            ReleaseError::NotAReleaseFile => FirmwareRefusal::NotAReleaseFile(error),
        }
    }
}
