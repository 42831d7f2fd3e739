//! What a device says of its firmware, read from its JSON. Nothing of it holds but as the word of that device.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::release::{REL_MAX, VERSION_MAX};

/// The largest report, in bytes.
pub const REPORT_MAX: usize = 2_048;
/// The longest words of a device about a failure, in characters: more is cut off.
pub const DETAIL_MAX: usize = 200;

/// An offer of one release to one device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OfferId(Uuid);

impl OfferId {
    /// The offer with this number.
    #[must_use]
    pub const fn from_uuid(id: Uuid) -> Self {
        Self(id)
    }

    /// Its 16 bytes, as chunks carry them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads the text form: lower case, with hyphens.
    ///
    /// # Errors
    /// What it should have been.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let id = Uuid::parse_str(text).ok().filter(|id| id.to_string() == text);
        id.map(Self).ok_or("an offer is a UUID in lower case")
    }
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl fmt::Debug for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OfferId({self})")
    }
}

impl TryFrom<String> for OfferId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<OfferId> for String {
    fn from(id: OfferId) -> String {
        id.to_string()
    }
}

/// Why a device has not become the next release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Code {
    /// Certificate or release do not verify with the brand's key.
    Signature,
    /// The image is not the one that was signed.
    Hash,
    /// The image has another size.
    Size,
    /// It is for another model or brand.
    Model,
    /// It does not run on this hardware.
    Hardware,
    /// It is not above what the device runs, or has run.
    Older,
    /// The device is below the least release before it.
    Step,
    /// The image could not be fetched.
    Download,
    /// There is no room for it, or it could not be written.
    Storage,
    /// It could not be installed.
    Install,
    /// It came up, was not well, and went back.
    Health,
    /// The power failed at a point at which it cannot go on.
    Power,
    /// The device does not want it now.
    Refused,
    /// The hub's own: nothing was heard after `installing`. No device says so.
    Silent,
}

impl Code {
    /// Whether it speaks against the release. The others are refusals before anything was tried: they are this device's affair.
    #[must_use]
    pub const fn blames_the_release(self) -> bool {
        !matches!(self, Self::Model | Self::Hardware | Self::Older | Self::Step | Self::Refused)
    }

    /// The word in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Hash => "hash",
            Self::Size => "size",
            Self::Model => "model",
            Self::Hardware => "hardware",
            Self::Older => "older",
            Self::Step => "step",
            Self::Download => "download",
            Self::Storage => "storage",
            Self::Install => "install",
            Self::Health => "health",
            Self::Power => "power",
            Self::Refused => "refused",
            Self::Silent => "silent",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What it does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Said {
    /// Nothing.
    Idle,
    /// It has so many bytes.
    Downloading {
        /// Of which offer.
        offer: OfferId,
        /// How many.
        offset: u64,
    },
    /// It has all of it, checked.
    Downloaded {
        /// Of which offer.
        offer: OfferId,
    },
    /// It writes it, or restarts.
    Installing {
        /// Of which offer.
        offer: OfferId,
    },
    /// It runs it, and is well.
    Confirmed {
        /// Of which offer.
        offer: OfferId,
    },
    /// It has not done it.
    Failed {
        /// Of which offer.
        offer: OfferId,
        /// Why.
        code: Code,
        /// Its own words, at most [`DETAIL_MAX`] characters.
        #[serde(default)]
        detail: String,
    },
}

impl Said {
    /// The offer it speaks of.
    #[must_use]
    pub const fn offer(&self) -> Option<OfferId> {
        match self {
            Self::Idle => None,
            Self::Downloading { offer, .. }
            | Self::Downloaded { offer }
            | Self::Installing { offer }
            | Self::Confirmed { offer }
            | Self::Failed { offer, .. } => Some(*offer),
        }
    }
}

/// A whole report.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Report {
    /// The release that it runs and has found itself well with, 0 to [`REL_MAX`]; 0 is an image from before the first release.
    pub rel: u64,
    /// Its version, up to [`VERSION_MAX`] characters.
    pub version: String,
    /// What it does.
    #[serde(flatten)]
    pub said: Said,
}

/// Why a report is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Not the JSON of a report.
    #[error("not a report of firmware: {0}")]
    Form(String),
    /// A value is beyond its bounds.
    #[error("{0}")]
    Bound(&'static str),
}

impl Report {
    /// Reads a report. Members that this hub does not know are passed over.
    ///
    /// # Errors
    /// [`ReportError`], in words for the maker of the device.
    pub fn parse(json: &[u8]) -> Result<Self, ReportError> {
        if json.len() > REPORT_MAX {
            return Err(ReportError::Bound("a report has at most 2048 bytes"));
        }
        let mut report: Self = serde_json::from_slice(json).map_err(|e| ReportError::Form(e.to_string()))?;
        if report.rel > REL_MAX {
            return Err(ReportError::Bound("rel is at most 9007199254740991"));
        }
        if report.version.chars().count() > VERSION_MAX || report.version.chars().any(char::is_control) {
            return Err(ReportError::Bound("a version has at most 64 characters and no control characters"));
        }
        match &mut report.said {
            Said::Failed { code: Code::Silent, .. } => {
                return Err(ReportError::Bound("silent is the hub's word: a device that speaks is not"));
            }
            Said::Failed { detail, .. } => *detail = detail.chars().filter(|c| !c.is_control()).take(DETAIL_MAX).collect(),
            _ => {}
        }
        Ok(report)
    }
}
