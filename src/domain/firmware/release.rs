//! A release: a maker's word for one image, and the file in which both travel. Statement and image are checked here, a piece at a time;
//! whether the brand is trusted is asked of the caller.

use std::fmt;

use ciborium::Value;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::brand::{Fingerprint, KeyPurpose, Purpose, PurposeCertificate, StatementError, sign_statement, verify_statement};
use crate::domain::cbor::{self, Record, Row};
use crate::domain::ids::{BrandId, ModelName};

/// The largest image, in bytes.
pub const IMAGE_MAX: u64 = 64 * 1024 * 1024;
/// The largest head of a release file, in bytes, without the mark and the length before it.
pub const HEAD_MAX: usize = 16 * 1024;
/// The longest notes, in characters.
pub const NOTES_MAX: usize = 4_096;
/// The longest version, in characters.
pub const VERSION_MAX: usize = 64;
/// The most hardware revisions of one release.
pub const HARDWARE_MAX: usize = 16;
/// The longest hardware revision, in characters.
pub const LABEL_MAX: usize = 64;
/// The highest number of a release: JSON carries no higher one safely (RFC 8259 §6).
pub const REL_MAX: u64 = (1 << 53) - 1;
/// What a release file begins with.
pub const MAGIC: &[u8; 6] = b"hkfw1\n";

const BEFORE_HEAD: usize = MAGIC.len() + 4;

/// SHA-256 of an image, by which it is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageHash([u8; 32]);

impl ImageHash {
    /// The hash of a whole image.
    #[must_use]
    pub fn of(image: &[u8]) -> Self {
        Self(Sha256::digest(image).into())
    }

    /// From its raw bytes, as statements carry it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 characters of lower-case hex.
    ///
    /// # Errors
    /// What it should have been.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("the hash of an image is 64 characters of lower-case hex")
    }
}

impl fmt::Display for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageHash({self})")
    }
}

impl TryFrom<String> for ImageHash {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ImageHash> for String {
    fn from(hash: ImageHash) -> String {
        hash.to_string()
    }
}

/// What a maker says of one image. What holds one from [`Release::verify`] has every bound of the protocol; [`Release::check`] says it of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The maker.
    pub brand: BrandId,
    /// Of which devices.
    pub model: ModelName,
    /// The hardware revisions that it runs on, 1 to [`HARDWARE_MAX`]; an empty one is that of devices without a revision.
    pub hardware: Vec<String>,
    /// The number of the release, 1 to [`REL_MAX`]: of two of one model, the higher is the newer.
    pub rel: u64,
    /// The version for people (semantic versioning 2.0.0), up to [`VERSION_MAX`] characters.
    pub version: String,
    /// The image's hash.
    pub sha256: ImageHash,
    /// The image's size in bytes, 1 to [`IMAGE_MAX`].
    pub size: u64,
    /// What is new, up to [`NOTES_MAX`] characters.
    pub notes: String,
    /// The oldest release that can go to this one in one step, below its own; 0 when any can.
    pub least_before: u64,
    /// The oldest release that is still safe to use, at most its own; 0 when all are.
    pub security_minimum: u64,
    /// When it was made, seconds since 1970.
    pub made_at: u64,
}

/// Why a release or a release file is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// A signature does not hold, or a record has another form.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// A value lies outside its bounds.
    #[error("the release's {field}: {reason}")]
    Bound {
        /// What of the release.
        field: &'static str,
        /// What it should be.
        reason: &'static str,
    },
    /// The file does not begin as a release file does, or its head is too large.
    #[error("this is not a firmware release file: choose the .hkfw file that the maker gives")]
    NotAReleaseFile,
    /// The file ends within its head or its image.
    #[error("the release file is cut short: get it from the maker again")]
    CutShort,
    /// There are bytes behind the image.
    #[error("the release file is longer than its release says: get it from the maker again")]
    TooLong,
    /// The image is another one.
    #[error("the image in the release file is not the one that was signed: get the file from the maker again")]
    Hash,
}

impl From<cbor::CborError> for ReleaseError {
    fn from(error: cbor::CborError) -> Self {
        Self::Statement(error.into())
    }
}

impl Release {
    /// Signs it with the brand's key for firmware. Bounds are not looked at: see [`Release::check`].
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let payload = cbor::map([
            (1, cbor::text(&self.brand)),
            (2, cbor::text(&self.model)),
            (3, Value::Array(self.hardware.iter().map(cbor::text).collect())),
            (4, Value::from(self.rel)),
            (5, cbor::text(&self.version)),
            (6, cbor::bytes(self.sha256.as_bytes())),
            (7, Value::from(self.size)),
            (8, cbor::text(&self.notes)),
            (9, Value::from(self.least_before)),
            (10, Value::from(self.security_minimum)),
            (11, Value::from(self.made_at)),
        ]);
        sign_statement(key, Purpose::Firmware, cbor::encode(payload))
    }

    /// Checks certificate and release under a brand's root.
    ///
    /// # Errors
    /// [`ReleaseError`]: a signature, another brand, a bound.
    pub fn verify(root: &[u8; 32], certificate: &[u8], release: &[u8]) -> Result<Self, ReleaseError> {
        let key = PurposeCertificate::verify(root, KeyPurpose::Firmware, certificate)?;
        let mut record = Record::decode("firmware release", &verify_statement(&key.public_key, Purpose::Firmware, release)?)?;
        let read = Self {
            brand: record.take(1, "brand")?.parsed(BrandId::parse)?,
            model: record.take(2, "model")?.parsed(ModelName::parse)?,
            hardware: record.take(3, "hardware")?.items()?.into_iter().map(cbor::Field::text).collect::<Result<_, _>>()?,
            rel: record.take(4, "rel")?.uint()?,
            version: record.take(5, "version")?.text()?,
            sha256: ImageHash(record.take(6, "hash")?.fixed()?),
            size: record.take(7, "size")?.uint()?,
            notes: record.take(8, "notes")?.text()?,
            least_before: record.take(9, "least rel before")?.uint()?,
            security_minimum: record.take(10, "security minimum")?.uint()?,
            made_at: record.take(11, "made")?.uint()?,
        };
        record.finish()?;
        key.speaks_for("the release", &read.brand)?;
        read.check()?;
        Ok(read)
    }

    /// Whether every value lies within the bounds of the protocol.
    ///
    /// # Errors
    /// [`ReleaseError::Bound`], naming the first that does not.
    pub fn check(&self) -> Result<(), ReleaseError> {
        let bound = |holds: bool, field, reason| if holds { Ok(()) } else { Err(ReleaseError::Bound { field, reason }) };
        let label = |text: &String| text.chars().count() <= LABEL_MAX && !text.chars().any(char::is_control);
        let repeats = self.hardware.iter().enumerate().any(|(at, text)| self.hardware.iter().skip(at + 1).any(|other| other == text));
        bound((1..=HARDWARE_MAX).contains(&self.hardware.len()), "hardware", "it names 1 to 16 revisions")?;
        bound(self.hardware.iter().all(label), "hardware", "a revision has at most 64 characters and no control characters")?;
        bound(!repeats, "hardware", "it names each revision once")?;
        bound((1..=REL_MAX).contains(&self.rel), "rel", "it is a number from 1 to 9007199254740991")?;
        bound(is_semantic_version(&self.version), "version", "it is a semantic version such as 1.4.2, of at most 64 characters")?;
        bound((1..=IMAGE_MAX).contains(&self.size), "size", "an image has 1 byte to 64 MiB")?;
        bound(self.notes.chars().count() <= NOTES_MAX, "notes", "they have at most 4096 characters")?;
        bound(self.least_before < self.rel, "least rel before", "it is below the rel itself")?;
        bound(self.security_minimum <= self.rel, "security minimum", "it is at most the rel itself")
    }

    /// Whether the image runs on a device of this hardware revision.
    #[must_use]
    pub fn runs_on(&self, hardware: &str) -> bool {
        self.hardware.iter().any(|revision| revision == hardware)
    }
}

/// Whether a text is a version of semantic versioning 2.0.0, of at most [`VERSION_MAX`] characters.
#[must_use]
pub fn is_semantic_version(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    text.len() <= VERSION_MAX
        && core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

/// What stands before the image in a release file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The brand's root key, not yet trusted.
    pub root: [u8; 32],
    /// The root's certificate for the key of firmware.
    pub certificate: Vec<u8>,
    /// The release.
    pub release: Vec<u8>,
}

impl Head {
    /// Checks every signature in it. `trusts` says whether this hub trusts this root for this brand; it is asked last, when all else holds.
    ///
    /// # Errors
    /// [`ReleaseError`]; an unknown root is [`StatementError::Untrusted`], with what an owner would have to confirm.
    pub fn verify(&self, trusts: impl Fn(&BrandId, &Fingerprint) -> bool) -> Result<Release, ReleaseError> {
        let release = Release::verify(&self.root, &self.certificate, &self.release)?;
        let fingerprint = Fingerprint::of(&self.root);
        if !trusts(&release.brand, &fingerprint) {
            return Err(StatementError::Untrusted { brand: release.brand, fingerprint }.into());
        }
        Ok(release)
    }
}

/// How far the reading of a head has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadRead {
    /// So many bytes from the beginning of the file are needed.
    More(usize),
    /// It is complete.
    Done {
        /// The head. Nothing of it holds before [`Head::verify`].
        head: Head,
        /// Where the image begins, in bytes from the beginning of the file.
        length: usize,
    },
}

/// Reads the head of a release file from its first bytes; more than the head does no harm.
///
/// # Errors
/// [`ReleaseError::NotAReleaseFile`] as soon as it cannot become one, or the form of what is in it.
pub fn read_head(bytes: &[u8]) -> Result<HeadRead, ReleaseError> {
    if !bytes.iter().zip(MAGIC).all(|(byte, expected)| byte == expected) {
        return Err(ReleaseError::NotAReleaseFile);
    }
    let Some(size) = bytes.get(MAGIC.len()..BEFORE_HEAD).and_then(|size| <[u8; 4]>::try_from(size).ok()) else {
        return Ok(HeadRead::More(BEFORE_HEAD));
    };
    let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
    if size > HEAD_MAX {
        return Err(ReleaseError::NotAReleaseFile);
    }
    let length = BEFORE_HEAD + size;
    let Some(head) = bytes.get(BEFORE_HEAD..length) else { return Ok(HeadRead::More(length)) };
    let mut row = Row::decode("head of the release file", head)?;
    let head = Head {
        root: row.take("root public key")?.fixed()?,
        certificate: row.take("firmware certificate")?.bytes()?,
        release: row.take("release")?.bytes()?,
    };
    row.finish()?;
    Ok(HeadRead::Done { head, length })
}

/// The head as a release file begins with it; the image follows.
///
/// # Errors
/// [`StatementError::TooLarge`] above [`HEAD_MAX`].
pub fn write_head(head: &Head) -> Result<Vec<u8>, StatementError> {
    let row = cbor::encode(Value::Array(vec![cbor::bytes(&head.root), cbor::bytes(&head.certificate), cbor::bytes(&head.release)]));
    let size = u32::try_from(row.len()).ok().filter(|_| row.len() <= HEAD_MAX).ok_or(StatementError::TooLarge("the release"))?;
    Ok([MAGIC.as_slice(), &size.to_be_bytes(), &row].concat())
}

/// An image held against its release while it comes in, piece by piece.
#[derive(Clone)]
pub struct ImageCheck {
    hasher: Sha256,
    left: u64,
    expected: ImageHash,
}

impl ImageCheck {
    /// Begins with the image's first byte.
    #[must_use]
    pub fn new(release: &Release) -> Self {
        Self { hasher: Sha256::new(), left: release.size, expected: release.sha256 }
    }

    /// How many bytes are still to come.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`ReleaseError::TooLong`] when it goes past the end.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), ReleaseError> {
        let length = u64::try_from(piece.len()).map_err(|_| ReleaseError::TooLong)?;
        self.left = self.left.checked_sub(length).ok_or(ReleaseError::TooLong)?;
        self.hasher.update(piece);
        Ok(())
    }

    /// Whether it was all of the image, and that one.
    ///
    /// # Errors
    /// [`ReleaseError::CutShort`] or [`ReleaseError::Hash`].
    pub fn finish(self) -> Result<(), ReleaseError> {
        if self.left > 0 {
            return Err(ReleaseError::CutShort);
        }
        if ImageHash(self.hasher.finalize().into()) == self.expected { Ok(()) } else { Err(ReleaseError::Hash) }
    }
}

#[cfg(test)]
mod tests;
