//! A version of this program, as its vendor signs it: which version for which platform, its place in the order of versions, the layouts of the
//! database that it reads, and what archive and program are, to the byte. What a manifest calls new counts for nothing: whether a release is taken
//! follows from what is signed, and from what has run here.

use std::fmt;

use ciborium::Value;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::brand::{Purpose, StatementError, sign_statement, verify_statement};
use super::cbor::{self, CborError, Record};
use super::ids::HubId;

/// Bytes of a signed release that are looked at.
pub const STATEMENT_MAX: usize = 64 * 1024;
/// Bytes of an archive at most.
pub const ARCHIVE_MAX: u64 = 512 * 1024 * 1024;
/// Characters of the notes at most.
const NOTES_MAX: usize = 4_000;
/// Characters of a platform at most.
const PLATFORM_MAX: usize = 64;

/// A version as it is written, which also names a directory: `1.2.3`, or `1.2.3-rc.1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

/// Not a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is three numbers with dots, as in 1.2.3, and may go on with a hyphen and letters, digits, dots, as in 1.2.3-rc.1")]
pub struct VersionError;

impl Version {
    /// Reads a version.
    ///
    /// # Errors
    /// [`VersionError`] for every other text.
    pub fn parse(text: &str) -> Result<Version, VersionError> {
        let (numbers, rest) = text.split_once('-').map_or((text, None), |(numbers, rest)| (numbers, Some(rest)));
        let number = |part: &str| {
            !part.is_empty() && part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
        };
        let parts: Vec<&str> = numbers.split('.').collect();
        let rest_holds = rest.is_none_or(|rest| {
            rest.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        });
        if text.len() <= 64 && parts.len() == 3 && parts.into_iter().all(number) && rest_holds {
            Ok(Version(text.to_owned()))
        } else {
            Err(VersionError)
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The place in the order of versions that a version has unless its vendor gives it a higher one: a million for each of the first number,
    /// a thousand for each of the second, one for each of the third.
    #[must_use]
    pub fn rel(&self) -> u64 {
        let numbers = self.0.split('-').next().unwrap_or_default();
        numbers.split('.').zip([1_000_000, 1_000, 1]).map(|(n, weight)| n.parse::<u64>().unwrap_or(0).saturating_mul(weight)).sum()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;
    fn try_from(text: String) -> Result<Self, VersionError> {
        Version::parse(&text)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.0
    }
}

/// What the vendor signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRelease {
    /// The version.
    pub version: Version,
    /// Its place in the order of versions: it rises with every release.
    pub rel: u64,
    /// For which machines: a target triple, as in `aarch64-unknown-linux-gnu`.
    pub platform: String,
    /// The oldest and the newest layout of the database that it reads.
    pub layouts: (u32, u32),
    /// SHA-256 of the archive.
    pub sha256: [u8; 32],
    /// The archive's length, in bytes.
    pub size: u64,
    /// SHA-256 of the program in it.
    pub program: [u8; 32],
    /// To how many hubs of a hundred it is given by itself, 0 to 100.
    pub percent: u8,
    /// What is new, for people.
    pub notes: String,
    /// When it was made, s since 1970.
    pub made_at: u64,
}

/// Where a hub stands, for [`HubRelease::admit`].
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Its platform.
    pub platform: &'a str,
    /// The place of the version that runs.
    pub rel: u64,
    /// The highest place that ever served here.
    pub highest: u64,
    /// The layout of its database.
    pub layout: u32,
}

/// Why a release that is genuine is not taken here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// For other machines.
    #[error("version {version} is for {found}; this hub needs {expected}. Get the file for this machine")]
    Platform {
        /// The version.
        version: Version,
        /// What it is for.
        found: String,
        /// What this is.
        expected: String,
    },
    /// It is what runs, or older.
    #[error("version {version} (release {rel}) is not newer than what runs here (release {running}), whatever it is called. Nothing to do")]
    NotNewer {
        /// The version.
        version: Version,
        /// Its place.
        rel: u64,
        /// The running one's.
        running: u64,
    },
    /// It, or a later one, has served here before.
    #[error(
        "version {version} (release {rel}) is not newer than release {highest}, which has served here: what was left is not taken again. Wait for a later release"
    )]
    Served {
        /// The version.
        version: Version,
        /// Its place.
        rel: u64,
        /// The highest that has served.
        highest: u64,
    },
    /// It does not read this database.
    #[error("version {version} reads databases of the layouts {from} to {to}; this one has layout {layout}. Take a version between first")]
    Layout {
        /// The version.
        version: Version,
        /// From this layout.
        from: u32,
        /// To this layout.
        to: u32,
        /// What is there.
        layout: u32,
    },
}

impl HubRelease {
    /// Signs it with the vendor's key.
    #[must_use]
    pub fn sign(&self, vendor: &SigningKey) -> Vec<u8> {
        let payload = cbor::map([
            (1, cbor::text(self.version.as_str())),
            (2, Value::from(self.rel)),
            (3, cbor::text(&self.platform)),
            (4, Value::Array(vec![self.layouts.0.into(), self.layouts.1.into()])),
            (5, cbor::bytes(&self.sha256)),
            (6, Value::from(self.size)),
            (7, cbor::bytes(&self.program)),
            (8, Value::from(self.percent)),
            (9, cbor::text(&self.notes)),
            (10, Value::from(self.made_at)),
        ]);
        sign_statement(vendor, Purpose::HubRelease, cbor::encode(payload))
    }

    /// Checks it against the vendor's key, which the hub's configuration names.
    ///
    /// # Errors
    /// [`StatementError`] for anything that this key has not signed for this purpose, or that has another form.
    pub fn verify(vendor: &[u8; 32], statement: &[u8]) -> Result<HubRelease, StatementError> {
        if statement.len() > STATEMENT_MAX {
            return Err(StatementError::TooLarge("the hub release"));
        }
        let mut record = Record::decode("hub release", &verify_statement(vendor, Purpose::HubRelease, statement)?)?;
        let version = record.take(1, "version")?.parsed(Version::parse)?;
        let rel = record.take(2, "place")?.uint()?;
        let platform = record.take(3, "platform")?.parsed(platform)?;
        let mut layouts = record.take(4, "layouts")?.row()?;
        let from = layout(layouts.take("oldest layout")?.uint()?)?;
        let to = layout(layouts.take("newest layout")?.uint()?)?;
        layouts.finish()?;
        let read = HubRelease {
            version,
            rel,
            platform,
            layouts: (from, to),
            sha256: record.take(5, "hash of the archive")?.fixed()?,
            size: record.take(6, "length of the archive")?.uint()?,
            program: record.take(7, "hash of the program")?.fixed()?,
            percent: u8::try_from(record.take(8, "share")?.uint()?).unwrap_or(u8::MAX).min(100),
            notes: record
                .take(9, "notes")?
                .parsed(|text| if text.chars().count() <= NOTES_MAX { Ok(text.to_owned()) } else { Err("too long") })?,
            made_at: record.take(10, "time")?.uint()?,
        };
        record.finish()?;
        if read.size > ARCHIVE_MAX {
            return Err(StatementError::TooLarge("the archive of the hub release"));
        }
        Ok(read)
    }

    /// Whether a hub may take it: it is for this machine, newer than everything that has served here, and reads its database.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn admit(&self, hub: Standing<'_>) -> Result<(), NotTaken> {
        let version = self.version.clone();
        if self.platform != hub.platform {
            return Err(NotTaken::Platform { version, found: self.platform.clone(), expected: hub.platform.to_owned() });
        }
        if self.rel <= hub.rel {
            return Err(NotTaken::NotNewer { version, rel: self.rel, running: hub.rel });
        }
        if self.rel <= hub.highest {
            return Err(NotTaken::Served { version, rel: self.rel, highest: hub.highest });
        }
        if !self.reads(hub.layout) {
            return Err(NotTaken::Layout { version, from: self.layouts.0, to: self.layouts.1, layout: hub.layout });
        }
        Ok(())
    }

    /// Whether it reads a database of this layout.
    #[must_use]
    pub fn reads(&self, layout: u32) -> bool {
        (self.layouts.0..=self.layouts.1).contains(&layout)
    }

    /// Whether it comes to this hub by itself already. A person who asks for it does not wait.
    #[must_use]
    pub fn reaches(&self, hub: &HubId) -> bool {
        self.stage(hub) < self.percent
    }

    /// When this release's turn comes for this hub: with a share above this number, 0 to 99. It is another one for each archive, so that it is not
    /// always the same homes that go first.
    #[must_use]
    pub fn stage(&self, hub: &HubId) -> u8 {
        let mut hash = Sha256::new();
        hash.update(hub.as_bytes());
        hash.update(self.sha256);
        let head = hash.finalize().iter().take(8).fold(0u64, |head, byte| head << 8 | u64::from(*byte));
        u8::try_from(head % 100).unwrap_or(99)
    }

    /// What its archive is called: `hearthkey-<version>-<platform>.tar.gz`.
    #[must_use]
    pub fn archive_name(version: &str, platform: &str) -> String {
        format!("hearthkey-{version}-{platform}.tar.gz")
    }
}

fn platform(text: &str) -> Result<String, &'static str> {
    let holds = !text.is_empty() && text.len() <= PLATFORM_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if holds { Ok(text.to_owned()) } else { Err("not a target triple") }
}

fn layout(number: u64) -> Result<u32, CborError> {
    u32::try_from(number).map_err(|_| CborError::Field { what: "hub release", field: "layouts", expected: "two small numbers" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn release() -> HubRelease {
        HubRelease {
            version: Version::parse("1.2.3").unwrap(),
            rel: 1_002_003,
            platform: "x86_64-unknown-linux-gnu".into(),
            layouts: (1, 2),
            sha256: [1; 32],
            size: 5,
            program: [2; 32],
            percent: 10,
            notes: "New: it updates.".into(),
            made_at: 1_800_000_000,
        }
    }

    const HERE: Standing<'_> = Standing { platform: "x86_64-unknown-linux-gnu", rel: 1_000, highest: 1_000, layout: 1 };

    #[test]
    fn what_was_signed_is_read_and_nothing_else_is() {
        let signed = release().sign(&key());
        let public = key().verifying_key().to_bytes();
        assert_eq!(HubRelease::verify(&public, &signed).unwrap(), release());
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        assert!(HubRelease::verify(&other, &signed).is_err());
        for at in 0..signed.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert!(HubRelease::verify(&public, &changed).is_err(), "byte {at}");
        }
        // The same words, said for another purpose.
        let payload = crate::domain::brand::verify_statement(&public, Purpose::HubRelease, &signed).unwrap();
        assert!(HubRelease::verify(&public, &sign_statement(&key(), Purpose::Model, payload)).is_err());
    }

    #[test]
    fn only_what_is_newer_than_all_that_has_served_here_is_taken() {
        assert_eq!(release().admit(HERE), Ok(()));
        let old = HubRelease { rel: 999, ..release() };
        assert!(matches!(old.admit(HERE), Err(NotTaken::NotNewer { .. })));
        assert!(matches!(release().admit(Standing { highest: 1_002_003, ..HERE }), Err(NotTaken::Served { .. })));
        assert!(matches!(release().admit(Standing { platform: "armv7-unknown-linux-gnueabihf", ..HERE }), Err(NotTaken::Platform { .. })));
        assert!(matches!(release().admit(Standing { layout: 3, ..HERE }), Err(NotTaken::Layout { .. })));
    }

    #[test]
    fn a_share_reaches_about_as_many_hubs_and_a_larger_one_reaches_the_same_and_more() {
        let hub = |n: u16| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&n.to_be_bytes());
            HubId::from_bytes(id)
        };
        let reached = |percent| (0..2_000).filter(|n| HubRelease { percent, ..release() }.reaches(&hub(*n))).collect::<Vec<_>>();
        let (ten, half) = (reached(10), reached(50));
        assert!((140..260).contains(&ten.len()) && (900..1_100).contains(&half.len()), "{} {}", ten.len(), half.len());
        assert!(ten.iter().all(|n| half.contains(n)));
        assert_eq!((reached(0).len(), reached(100).len()), (0, 2_000));
    }

    #[test]
    fn a_version_is_three_numbers_and_names_no_other_place() {
        for good in ["0.1.0", "1.22.333", "1.2.3-rc.1", "2.0.0-alpha-2"] {
            assert_eq!(Version::parse(good).unwrap().as_str(), good);
        }
        for wrong in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "v1.2.3",
            "1.2.x",
            "../1.2.3",
            "1.2.3/..",
            "1.2.3-",
            "1.2.3-..",
            "01.2.3",
            "1.2.3+b",
            "1..3",
            "1.2.3-a b",
        ] {
            assert!(Version::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Version::parse("1.22.333-rc.1").unwrap().rel(), 1_022_333);
    }
}
