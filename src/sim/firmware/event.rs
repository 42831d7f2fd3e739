//! What an update tells whoever watches the device.

use std::fmt;

/// By which way an image comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// In ranges from the hub's page.
    Https,
    /// In chunks.
    Mqtt,
}

/// Something that happened on the way to another version. Its `Display` is one line for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has come up.
    Runs {
        /// The release.
        rel: u64,
        /// Its version.
        version: String,
        /// It is new, and has yet to find itself well.
        trial: bool,
    },
    /// The hub offers a release, and everything signed in it holds.
    Offered {
        /// The release.
        rel: u64,
        /// Its version.
        version: String,
    },
    /// What the hub sent is no offer.
    NoOffer {
        /// Why.
        reason: String,
    },
    /// The offer was taken back.
    Withdrawn,
    /// It downloads.
    Downloading {
        /// From this byte on.
        offset: u64,
        /// Of so many.
        size: u64,
        /// Which way.
        over: Over,
    },
    /// It cannot be had from the hub's page, and is asked for in chunks.
    NotOverHttps {
        /// Why.
        reason: String,
    },
    /// All of it is there; size, hash and signature are right.
    Downloaded {
        /// Its size in bytes.
        size: u64,
    },
    /// It waits to be told to install.
    WaitsToInstall,
    /// It installs.
    Installing {
        /// The release.
        rel: u64,
    },
    /// It starts again.
    Restarting,
    /// The power has failed, and is back.
    PowerCut,
    /// The new version is well, and stays.
    Confirmed {
        /// The release.
        rel: u64,
        /// Its version.
        version: String,
    },
    /// It has not done it.
    Failed {
        /// The word of the protocol.
        code: &'static str,
        /// In its own words.
        detail: String,
    },
    /// It is back at the version before.
    RolledBack {
        /// The release it runs.
        rel: u64,
    },
    /// It hangs, until somebody pulls its plug.
    Hangs,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs { rel, version, trial: false } => write!(f, "firmware: runs {version} (release {rel})"),
            Self::Runs { rel, version, trial: true } => write!(f, "firmware: came up as {version} (release {rel}), not yet confirmed"),
            Self::Offered { rel, version } => write!(f, "firmware: {version} (release {rel}) is offered, and is the maker's"),
            Self::NoOffer { reason } => write!(f, "firmware: what came is no offer: {reason}"),
            Self::Withdrawn => f.write_str("firmware: the offer was taken back"),
            Self::Downloading { offset, size, over } => {
                let way = if *over == Over::Https { "HTTPS" } else { "MQTT" };
                write!(f, "firmware: downloads from byte {offset} of {size}, over {way}")
            }
            Self::NotOverHttps { reason } => write!(f, "firmware: no download over HTTPS ({reason}); asks for chunks"),
            Self::Downloaded { size } => write!(f, "firmware: has all {size} bytes; hash and signature are right"),
            Self::WaitsToInstall => f.write_str("firmware: waits to be told to install"),
            Self::Installing { rel } => write!(f, "firmware: installs release {rel}"),
            Self::Restarting => f.write_str("firmware: restarts"),
            Self::PowerCut => f.write_str("firmware: the power failed, and is back"),
            Self::Confirmed { rel, version } => write!(f, "firmware: {version} (release {rel}) is well and stays"),
            Self::Failed { code, detail } if detail.is_empty() => write!(f, "firmware: failed ({code})"),
            Self::Failed { code, detail } => write!(f, "firmware: failed ({code}): {detail}"),
            Self::RolledBack { rel } => write!(f, "firmware: back at release {rel}"),
            Self::Hangs => f.write_str("firmware: hangs"),
        }
    }
}
