//! A brand's keys and what they say: statements as COSE_Sign1 (RFC 9052) with EdDSA, one purpose each; certificates by which the offline root
//! names the keys of its workshop; and the fingerprint by which an owner knows a root. Which roots are trusted is left to the hub.

use std::fmt;

use ciborium::Value;
use coset::{CborSerializable, CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::cbor::{self, CborError, Record};
use super::ids::BrandId;
use super::model::Violation;

/// Why a statement, or a file of statements, is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// A record has another form.
    #[error(transparent)]
    Form(#[from] CborError),
    /// Not a COSE_Sign1 of the one form that is used here.
    #[error("{0}: not a signed statement")]
    NotAStatement(&'static str),
    /// Signed by another key, for another purpose, or changed since.
    #[error("{0}: the signature does not hold")]
    Signature(&'static str),
    /// The certificate is for another kind of key.
    #[error("the certificate is for the purpose {found}, not {expected}")]
    KeyPurpose {
        /// What was needed.
        expected: KeyPurpose,
        /// What the certificate says.
        found: KeyPurpose,
    },
    /// Two parts speak of different brands.
    #[error("{what} is of brand {found}, not {expected}")]
    OtherBrand {
        /// The part.
        what: &'static str,
        /// The brand of the certificate.
        expected: BrandId,
        /// The brand it names.
        found: BrandId,
    },
    /// A hub request that was not signed by the hub it names.
    #[error("the hub id does not belong to the key that signed the request")]
    NotThatHub,
    /// Everything holds, but nobody has confirmed this root for this brand.
    #[error("the brand {brand} with the fingerprint {fingerprint} is not trusted here")]
    Untrusted {
        /// The brand that the file speaks for.
        brand: BrandId,
        /// The fingerprint of the root in the file, to compare with the maker's.
        fingerprint: Fingerprint,
    },
    /// The model inside does not hold.
    #[error("the model is not valid: {0}")]
    Model(Violation),
    /// Device and model do not belong together.
    #[error("the model that comes with it is {found}, not {expected}")]
    OtherModel {
        /// The device's model.
        expected: String,
        /// The model that was enclosed.
        found: String,
    },
    /// Beyond a limit of the format.
    #[error("{0} is larger than allowed")]
    TooLarge(&'static str),
}

// By hand: as a `source`, it would be printed twice.
impl From<Violation> for StatementError {
    fn from(violation: Violation) -> Self {
        Self::Model(violation)
    }
}

/// What a statement is for. It is signed along (external additional data), so that one never verifies as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A root names a key: `hearthkey cert v1`.
    Certificate,
    /// One device's identity: `hearthkey voucher v1`.
    Voucher,
    /// A device type: `hearthkey model v1`.
    Model,
    /// The contents of a registry batch: `hearthkey batch v1`.
    Batch,
    /// A hub's own keys: `hearthkey request v1`.
    Request,
    /// A hub's word about its audit: `hearthkey audit point v1`.
    AuditPoint,
    /// A hub joins a cloud: `hearthkey link v1`.
    Link,
    /// It leaves it: `hearthkey unlink v1`.
    Unlink,
    /// Another hub takes its place: `hearthkey epoch v1`.
    Epoch,
    /// Whoever has the recovery code asks for the bundle: `hearthkey recover v1`.
    Recover,
    /// A cloud's marks, to be carried: `hearthkey bulletin v1`.
    Bulletin,
    /// A hub's word about its recovery bundle: `hearthkey bundle v1`.
    Bundle,
    /// A hub to which the devices of a stolen one are to move: `hearthkey move v1`.
    Move,
    /// Whoever has the recovery code says that a hub was stolen, and which one follows it: `hearthkey rehome v1`.
    Rehome,
    /// An image that devices of a model may become: `hearthkey firmware v1`.
    Firmware,
    /// A version of this program: `hearthkey hub release v1`.
    HubRelease,
}

impl Purpose {
    const fn context(self) -> &'static [u8] {
        match self {
            Self::Certificate => b"hearthkey cert v1",
            Self::Voucher => b"hearthkey voucher v1",
            Self::Model => b"hearthkey model v1",
            Self::Batch => b"hearthkey batch v1",
            Self::Request => b"hearthkey request v1",
            Self::AuditPoint => b"hearthkey audit point v1",
            Self::Link => b"hearthkey link v1",
            Self::Unlink => b"hearthkey unlink v1",
            Self::Epoch => b"hearthkey epoch v1",
            Self::Recover => b"hearthkey recover v1",
            Self::Bulletin => b"hearthkey bulletin v1",
            Self::Bundle => b"hearthkey bundle v1",
            Self::Move => b"hearthkey move v1",
            Self::Rehome => b"hearthkey rehome v1",
            Self::Firmware => b"hearthkey firmware v1",
            Self::HubRelease => b"hearthkey hub release v1",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Voucher => "voucher",
            Self::Model => "model statement",
            Self::Batch => "batch manifest",
            Self::Request => "hub request",
            Self::AuditPoint => "audit point",
            Self::Link => "link statement",
            Self::Unlink => "unlink statement",
            Self::Epoch => "epoch statement",
            Self::Recover => "recovery request",
            Self::Bulletin => "bulletin",
            Self::Bundle => "bundle's seal",
            Self::Move => "move request",
            Self::Rehome => "rehome statement",
            Self::Firmware => "firmware release",
            Self::HubRelease => "hub release",
        }
    }
}

/// Signs a payload for one purpose: a tagged COSE_Sign1, in deterministic CBOR.
#[must_use]
pub fn sign_statement(key: &SigningKey, purpose: Purpose, payload: Vec<u8>) -> Vec<u8> {
    let protected = HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).key_id(key_id(key.verifying_key().as_bytes())).build();
    let statement = CoseSign1Builder::new()
        .protected(protected)
        .payload(payload)
        .create_signature(purpose.context(), |message| key.sign(message).to_bytes().to_vec())
        .build();
    #[expect(clippy::expect_used, reason = "a statement of byte strings has an encoding")]
    statement.to_tagged_vec().expect("a statement is written into memory")
}

/// Checks a statement against the key that should have signed it, and gives its payload.
///
/// # Errors
/// [`StatementError::NotAStatement`] for another form (other headers, trailing bytes), [`StatementError::Signature`] for another signer or purpose.
pub fn verify_statement(public_key: &[u8; 32], purpose: Purpose, statement: &[u8]) -> Result<Vec<u8>, StatementError> {
    let statement = parse(purpose, statement)?;
    let refused = StatementError::Signature(purpose.what());
    if statement.protected.header.key_id != key_id(public_key) {
        return Err(refused);
    }
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| refused.clone())?;
    let holds = statement.verify_signature(purpose.context(), |signature, message| {
        Signature::from_slice(signature).and_then(|signature| key.verify_strict(message, &signature))
    });
    holds.map_err(|_| refused)?;
    Ok(statement.payload.unwrap_or_default())
}

/// The payload of a statement that names its own signer, to find that key. Nothing of it holds before [`verify_statement`].
pub(super) fn unverified_payload(purpose: Purpose, statement: &[u8]) -> Result<Vec<u8>, StatementError> {
    Ok(parse(purpose, statement)?.payload.unwrap_or_default())
}

/// Takes the one form that [`sign_statement`] writes: tag 18, protected `{1: -8, 4: kid}`, no unprotected header, a payload.
fn parse(purpose: Purpose, bytes: &[u8]) -> Result<CoseSign1, StatementError> {
    let refused = StatementError::NotAStatement(purpose.what());
    cbor::decode(purpose.what(), bytes)?;
    let statement = CoseSign1::from_tagged_slice(bytes).map_err(|_| refused.clone())?;
    let header = &statement.protected.header;
    let plain = HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).key_id(header.key_id.clone()).build();
    let exact = plain.clone().to_vec().is_ok_and(|bytes| statement.protected.original_data.as_ref() == Some(&bytes));
    if *header != plain || !exact || !statement.unprotected.is_empty() || statement.payload.is_none() {
        return Err(refused);
    }
    Ok(statement)
}

fn key_id(public_key: &[u8; 32]) -> Vec<u8> {
    Sha256::digest(public_key).iter().take(8).copied().collect()
}

/// What a key below the root may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyPurpose {
    /// Vouchers.
    Voucher,
    /// Registry batches and models.
    Batch,
    /// Firmware.
    Firmware,
}

impl KeyPurpose {
    /// All of them, in the order in which a workshop makes them.
    pub const ALL: [Self; 3] = [Self::Voucher, Self::Batch, Self::Firmware];

    /// The word in certificates.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Voucher => "voucher",
            Self::Batch => "batch",
            Self::Firmware => "firmware",
        }
    }

    fn parse(word: &str) -> Result<Self, &'static str> {
        Self::ALL.into_iter().find(|purpose| purpose.word() == word).ok_or("not voucher, batch or firmware")
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// By which a brand's root says: this key signs for me, for this purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurposeCertificate {
    /// The brand.
    pub brand: BrandId,
    /// What the key may sign.
    pub purpose: KeyPurpose,
    /// The Ed25519 public key.
    pub public_key: [u8; 32],
    /// When it was issued, seconds since 1970.
    pub issued: u64,
    /// A number that rises with each certificate of the root; a revocation names it.
    pub serial: u64,
}

impl PurposeCertificate {
    /// Signs it with the brand's root.
    #[must_use]
    pub fn sign(&self, root: &SigningKey) -> Vec<u8> {
        let payload = cbor::map([
            (1, cbor::text(&self.brand)),
            (2, cbor::text(self.purpose.word())),
            (3, cbor::bytes(&self.public_key)),
            (4, Value::from(self.issued)),
            (5, Value::from(self.serial)),
        ]);
        sign_statement(root, Purpose::Certificate, cbor::encode(payload))
    }

    /// Checks a certificate for one purpose against a root.
    ///
    /// # Errors
    /// [`StatementError`]; a good certificate for another purpose is [`StatementError::KeyPurpose`].
    pub fn verify(root: &[u8; 32], purpose: KeyPurpose, certificate: &[u8]) -> Result<Self, StatementError> {
        let mut record = Record::decode("certificate", &verify_statement(root, Purpose::Certificate, certificate)?)?;
        let read = Self {
            brand: record.take(1, "brand")?.parsed(BrandId::parse)?,
            purpose: record.take(2, "purpose")?.parsed(KeyPurpose::parse)?,
            public_key: record.take(3, "public key")?.fixed()?,
            issued: record.take(4, "issued")?.uint()?,
            serial: record.take(5, "serial")?.uint()?,
        };
        record.finish()?;
        if read.purpose == purpose { Ok(read) } else { Err(StatementError::KeyPurpose { expected: purpose, found: read.purpose }) }
    }

    /// # Errors
    /// [`StatementError::OtherBrand`] when `brand` is not the certificate's: a brand speaks for itself alone.
    pub(super) fn speaks_for(&self, what: &'static str, brand: &BrandId) -> Result<(), StatementError> {
        if self.brand == *brand {
            return Ok(());
        }
        Err(StatementError::OtherBrand { what, expected: self.brand.clone(), found: brand.clone() })
    }
}

/// By which an owner knows a brand's root: the first 20 bytes of SHA-256 of its public key, shown as 8 groups of 4 in base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 20]);

/// Not 32 characters of base32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 32 letters A-Z and digits 2-7, in 8 groups of 4")]
pub struct FingerprintError;

impl Fingerprint {
    /// The fingerprint of a root.
    #[must_use]
    pub fn of(root_public_key: &[u8; 32]) -> Self {
        let mut bytes = [0; 20];
        bytes.iter_mut().zip(Sha256::digest(root_public_key)).for_each(|(to, from)| *to = from);
        Self(bytes)
    }

    /// Reads a fingerprint as people copy it: case, spaces, hyphens and colons do not matter.
    ///
    /// # Errors
    /// [`FingerprintError`] for every other text.
    pub fn parse(text: &str) -> Result<Self, FingerprintError> {
        let plain: String =
            text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | ':')).map(|c| c.to_ascii_uppercase()).collect();
        let bytes = data_encoding::BASE32_NOPAD.decode(plain.as_bytes()).map_err(|_| FingerprintError)?;
        Ok(Self(bytes.try_into().map_err(|_| FingerprintError)?))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(39);
        for (i, c) in data_encoding::BASE32_NOPAD.encode(&self.0).chars().enumerate() {
            if i > 0 && i % 4 == 0 {
                text.push('-');
            }
            text.push(c);
        }
        f.pad(&text)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }

    fn public(key: &SigningKey) -> [u8; 32] {
        key.verifying_key().to_bytes()
    }

    #[test]
    fn a_statement_holds_for_its_signer_and_purpose_alone() {
        let statement = sign_statement(&root(), Purpose::Voucher, vec![1, 2, 3]);
        assert_eq!(verify_statement(&public(&root()), Purpose::Voucher, &statement), Ok(vec![1, 2, 3]));
        assert_eq!(
            verify_statement(&public(&root()), Purpose::Batch, &statement),
            Err(StatementError::Signature("batch manifest")),
            "a voucher passed as a batch"
        );
        let other = SigningKey::from_bytes(&[2; 32]);
        assert_eq!(verify_statement(&public(&other), Purpose::Voucher, &statement), Err(StatementError::Signature("voucher")));
    }

    #[test]
    fn a_statement_has_the_documented_bytes() {
        let statement = sign_statement(&root(), Purpose::Voucher, vec![7]);
        // tag 18, array of 4, protected bstr of {1: -8, 4: 8 bytes}
        assert_eq!(statement[..9], [0xd2, 0x84, 0x4d, 0xa2, 0x01, 0x27, 0x04, 0x48, key_id(&public(&root()))[0]]);
        // unprotected {}, payload bstr(1), signature bstr(64)
        assert_eq!(statement[16..21], [0xa0, 0x41, 0x07, 0x58, 0x40]);
        assert_eq!(statement.len(), 21 + 64);
    }

    #[test]
    fn no_changed_byte_of_a_statement_passes() {
        let statement = sign_statement(&root(), Purpose::Voucher, vec![1, 2, 3]);
        for at in 0..statement.len() {
            let mut changed = statement.clone();
            changed[at] ^= 1;
            assert!(verify_statement(&public(&root()), Purpose::Voucher, &changed).is_err(), "byte {at}");
        }
        let mut longer = statement.clone();
        longer.push(0);
        assert!(verify_statement(&public(&root()), Purpose::Voucher, &longer).is_err());
        assert!(verify_statement(&public(&root()), Purpose::Voucher, &statement[1..]).is_err(), "an untagged statement passed");
    }

    #[test]
    fn a_certificate_is_for_one_purpose() {
        let certificate = PurposeCertificate {
            brand: BrandId::parse("acme").unwrap(),
            purpose: KeyPurpose::Batch,
            public_key: [9; 32],
            issued: 1_700_000_000,
            serial: 2,
        };
        let signed = certificate.sign(&root());
        assert_eq!(PurposeCertificate::verify(&public(&root()), KeyPurpose::Batch, &signed), Ok(certificate));
        assert_eq!(
            PurposeCertificate::verify(&public(&root()), KeyPurpose::Voucher, &signed),
            Err(StatementError::KeyPurpose { expected: KeyPurpose::Voucher, found: KeyPurpose::Batch })
        );
    }

    #[test]
    fn a_fingerprint_is_read_as_people_copy_it() {
        let fingerprint = Fingerprint::of(&public(&root()));
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 39);
        assert_eq!(Fingerprint::parse(&text), Ok(fingerprint));
        assert_eq!(Fingerprint::parse(&format!(" {} ", text.to_lowercase().replace('-', " "))), Ok(fingerprint));
        assert_eq!(Fingerprint::parse(&text[1..]), Err(FingerprintError));
        assert_eq!(Fingerprint::parse(""), Err(FingerprintError));
    }
}
