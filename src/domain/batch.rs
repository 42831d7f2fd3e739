//! The registry batch: many devices of one brand for one hub, in chunks whose hashes the brand has signed; and the request by which a hub proves
//! the keys that a batch is made for. Encryption (age) and reading the stream are left to those who do IO: here are its plaintext parts.

use ciborium::Value;
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::brand::{
    Fingerprint, KeyPurpose, Purpose, PurposeCertificate, StatementError, sign_statement, unverified_payload, verify_statement,
};
use super::cbor::{self, CborError, Record, Row};
use super::claim::ClaimHash;
use super::ids::{BrandId, DeviceId, HubId, ModelName};
use super::keys::HubScopedKey;
use super::model::{Model, verify_model};
use super::voucher::label;

/// The largest header, in bytes.
pub const HEADER_MAX: usize = 16 * 1024 * 1024;
/// The largest chunk, in bytes.
pub const CHUNK_MAX: usize = 1024 * 1024;
/// The most devices in a chunk.
pub const CHUNK_ENTRIES: usize = 1000;
/// The longest hub request line, in bytes.
pub const REQUEST_MAX: usize = 1024;

const MARKER: &str = "hkb1";
const REQUEST_PREFIX: &str = "HKREQ1.";

/// Why a batch is not taken, or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A signature, a form, or the brand.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// A length prefix beyond the limit, or 0.
    #[error("a part of the batch announces {0} bytes, which is not allowed")]
    Length(u32),
    /// Made for another hub.
    #[error("the batch is for the hub {0}, not for this one")]
    OtherHub(HubId),
    /// The manifest lists the same model twice.
    #[error("the batch holds the model {0} twice")]
    ModelTwice(ModelName),
    /// More chunks than the manifest has hashes for.
    #[error("the batch holds more chunks than its manifest lists")]
    TooManyChunks,
    /// The chunk is not the one that was signed.
    #[error("chunk {0} of the batch is not the one that the brand signed")]
    Chunk(usize),
    /// A device of a model that the manifest does not bring.
    #[error("chunk {chunk}, device {device}: the batch does not bring its model {model}")]
    UnknownModel {
        /// Which chunk, from 0.
        chunk: usize,
        /// The device.
        device: DeviceId,
        /// Its model.
        model: ModelName,
    },
    /// The stream ended early, or the manifest counts wrongly.
    #[error("the batch holds {found} devices in {chunks} chunks, and its manifest says otherwise")]
    Count {
        /// Devices seen.
        found: u64,
        /// Chunks seen.
        chunks: usize,
    },
}

impl From<CborError> for BatchError {
    fn from(error: CborError) -> Self {
        Self::Statement(error.into())
    }
}

/// A hub's statement of its own keys, for which a maker makes a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubRequest {
    /// The hub.
    pub hub: HubId,
    /// Its Ed25519 public key; the id is derived from it.
    pub public_key: [u8; 32],
    /// Its age X25519 recipient, `age1…`.
    pub recipient: String,
    /// When it was made, seconds since 1970.
    pub created: u64,
}

impl HubRequest {
    /// The line that a hub prints: `HKREQ1.` and the statement, signed by its identity key. `recipient` is an age X25519 recipient.
    #[must_use]
    pub fn line(identity: &SigningKey, recipient: &str, created: u64) -> String {
        let public_key = identity.verifying_key().to_bytes();
        let payload = cbor::map([
            (1, cbor::bytes(HubId::from_public_key(&public_key).as_bytes())),
            (2, cbor::bytes(&public_key)),
            (3, cbor::text(recipient)),
            (4, Value::from(created)),
        ]);
        let statement = sign_statement(identity, Purpose::Request, cbor::encode(payload));
        format!("{REQUEST_PREFIX}{}", data_encoding::BASE64URL_NOPAD.encode(&statement))
    }

    /// Reads and checks a line: the hub id belongs to the key, and the key signed it. White space around it does not matter.
    ///
    /// # Errors
    /// [`StatementError`] for anything else.
    pub fn parse(line: &str) -> Result<Self, StatementError> {
        let refused = StatementError::NotAStatement("hub request");
        if line.len() > REQUEST_MAX {
            return Err(StatementError::TooLarge("the hub request"));
        }
        let encoded = line.trim().strip_prefix(REQUEST_PREFIX).ok_or_else(|| refused.clone())?;
        let statement = data_encoding::BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| refused)?;
        let mut record = Record::decode("hub request", &unverified_payload(Purpose::Request, &statement)?)?;
        let request = Self {
            hub: HubId::from_bytes(record.take(1, "hub id")?.fixed()?),
            public_key: record.take(2, "public key")?.fixed()?,
            recipient: record.take(3, "age recipient")?.parsed(recipient)?,
            created: record.take(4, "created")?.uint()?,
        };
        record.finish()?;
        if HubId::from_public_key(&request.public_key) != request.hub {
            return Err(StatementError::NotThatHub);
        }
        verify_statement(&request.public_key, Purpose::Request, &statement)?;
        Ok(request)
    }
}

/// The form only; that it is a point on the curve shows when age takes it.
pub(super) fn recipient(text: &str) -> Result<String, &'static str> {
    let plain = text.strip_prefix("age1").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    if plain && text.len() == 62 { Ok(text.to_owned()) } else { Err("is not an age X25519 recipient") }
}

/// What a brand signs about a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The brand.
    pub brand: BrandId,
    /// The hub that it is for.
    pub hub: HubId,
    /// Which batch, 16 random bytes.
    pub batch_id: [u8; 16],
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// The statements of all models that occur.
    pub models: Vec<Vec<u8>>,
    /// How many devices follow.
    pub devices: u64,
    /// SHA-256 of each chunk, in order.
    pub chunks: Vec<[u8; 32]>,
}

impl Manifest {
    /// Signs it with the brand's batch key and puts the header together.
    ///
    /// # Errors
    /// [`StatementError::TooLarge`] above [`HEADER_MAX`].
    pub fn header(&self, root_public_key: &[u8; 32], certificate: &[u8], key: &SigningKey) -> Result<Vec<u8>, StatementError> {
        let payload = cbor::map([
            (1, cbor::text(&self.brand)),
            (2, cbor::bytes(self.hub.as_bytes())),
            (3, cbor::bytes(&self.batch_id)),
            (4, Value::from(self.created)),
            (5, Value::Array(self.models.iter().map(|m| cbor::bytes(m)).collect())),
            (6, Value::from(self.devices)),
            (7, Value::Array(self.chunks.iter().map(|hash| cbor::bytes(hash)).collect())),
        ]);
        let statement = sign_statement(key, Purpose::Batch, cbor::encode(payload));
        let header = cbor::encode(Value::Array(vec![
            cbor::text(MARKER),
            cbor::bytes(root_public_key),
            cbor::bytes(certificate),
            cbor::bytes(&statement),
        ]));
        if header.len() > HEADER_MAX { Err(StatementError::TooLarge("the header of the batch")) } else { Ok(header) }
    }

    fn read(payload: &[u8]) -> Result<Self, CborError> {
        let mut record = Record::decode("batch manifest", payload)?;
        let manifest = Self {
            brand: record.take(1, "brand")?.parsed(BrandId::parse)?,
            hub: HubId::from_bytes(record.take(2, "hub id")?.fixed()?),
            batch_id: record.take(3, "batch id")?.fixed()?,
            created: record.take(4, "created")?.uint()?,
            models: record.take(5, "models")?.items()?.into_iter().map(cbor::Field::bytes).collect::<Result<_, _>>()?,
            devices: record.take(6, "devices")?.uint()?,
            chunks: record.take(7, "chunks")?.items()?.into_iter().map(cbor::Field::fixed).collect::<Result<_, _>>()?,
        };
        record.finish()?;
        Ok(manifest)
    }
}

/// A manifest whose every signature has held, for this hub, from a trusted brand. Chunks are held against it one by one, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedManifest {
    /// The brand.
    pub brand: BrandId,
    /// The root that stands behind it.
    pub fingerprint: Fingerprint,
    /// Which batch.
    pub batch_id: [u8; 16],
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// All models that occur.
    pub models: Vec<Model>,
    /// How many devices it brings.
    pub devices: u64,
    chunks: Vec<[u8; 32]>,
}

impl VerifiedManifest {
    /// Checks a header. `trusts` says whether this hub trusts this root for this brand; it is asked when all else holds.
    ///
    /// # Errors
    /// [`BatchError`]; an unknown root is [`StatementError::Untrusted`], with what an owner would have to confirm.
    pub fn verify(header: &[u8], hub: &HubId, trusts: impl Fn(&BrandId, &Fingerprint) -> bool) -> Result<Self, BatchError> {
        if header.len() > HEADER_MAX {
            return Err(StatementError::TooLarge("the header of the batch").into());
        }
        let mut row = Row::decode("batch header", header)?;
        row.take("format")?.is(MARKER)?;
        let root: [u8; 32] = row.take("root public key")?.fixed()?;
        let (certificate, manifest) = (row.take("batch certificate")?.bytes()?, row.take("manifest")?.bytes()?);
        row.finish()?;

        let key = PurposeCertificate::verify(&root, KeyPurpose::Batch, &certificate)?;
        let manifest = Manifest::read(&verify_statement(&key.public_key, Purpose::Batch, &manifest)?)?;
        key.speaks_for("the manifest", &manifest.brand)?;
        if manifest.hub != *hub {
            return Err(BatchError::OtherHub(manifest.hub));
        }
        let mut models: Vec<Model> = Vec::with_capacity(manifest.models.len());
        for statement in &manifest.models {
            let (brand, model) = verify_model(&key.public_key, statement)?;
            key.speaks_for("a model", &brand)?;
            if models.iter().any(|known| known.name == model.name) {
                return Err(BatchError::ModelTwice(model.name));
            }
            models.push(model);
        }
        let fingerprint = Fingerprint::of(&root);
        if !trusts(&manifest.brand, &fingerprint) {
            return Err(StatementError::Untrusted { brand: manifest.brand, fingerprint }.into());
        }
        let Manifest { brand, batch_id, created, devices, chunks, .. } = manifest;
        Ok(Self { brand, fingerprint, batch_id, created, models, devices, chunks })
    }

    /// How many chunks follow the header.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Checks chunk number `index` (from 0) and gives its devices.
    ///
    /// # Errors
    /// [`BatchError`]: another hash than the signed one, more than [`CHUNK_ENTRIES`], or an entry that does not hold.
    pub fn verify_chunk(&self, index: usize, chunk: &[u8]) -> Result<Vec<Entry>, BatchError> {
        let hash = self.chunks.get(index).ok_or(BatchError::TooManyChunks)?;
        if chunk.len() > CHUNK_MAX || !bool::from(Sha256::digest(chunk).as_slice().ct_eq(hash)) {
            return Err(BatchError::Chunk(index));
        }
        let entries = decode_chunk(chunk)?;
        match entries.iter().find(|entry| !self.models.iter().any(|model| model.name == entry.model)) {
            Some(entry) => Err(BatchError::UnknownModel { chunk: index, device: entry.device_id.clone(), model: entry.model.clone() }),
            None => Ok(entries),
        }
    }

    /// To be asked at the end of the stream, with what was seen.
    ///
    /// # Errors
    /// [`BatchError::Count`] when that is not what the manifest announces.
    pub fn check_count(&self, chunks: usize, devices: u64) -> Result<(), BatchError> {
        if chunks == self.chunks.len() && devices == self.devices { Ok(()) } else { Err(BatchError::Count { found: devices, chunks }) }
    }
}

/// One device, as a registry batch brings it to a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The device.
    pub device_id: DeviceId,
    /// Its type.
    pub model: ModelName,
    /// The hardware revision.
    pub hardware: String,
    /// The serial number.
    pub serial: String,
    /// By which the label's code is recognised.
    pub claim_hash: ClaimHash,
    /// Its key at this hub.
    pub hub_key: HubScopedKey,
    /// When it was made, seconds since 1970.
    pub made: u64,
}

/// The bytes of a chunk. They hold keys, and are wiped when dropped.
///
/// # Errors
/// [`StatementError::TooLarge`] above [`CHUNK_ENTRIES`] or [`CHUNK_MAX`].
pub fn encode_chunk(entries: &[Entry]) -> Result<Zeroizing<Vec<u8>>, StatementError> {
    let rows = entries.iter().map(|entry| {
        Value::Array(vec![
            cbor::text(&entry.device_id),
            cbor::text(&entry.model),
            cbor::text(&entry.hardware),
            cbor::text(&entry.serial),
            cbor::bytes(&entry.claim_hash.0),
            cbor::bytes(entry.hub_key.as_bytes()),
            Value::from(entry.made),
        ])
    });
    let chunk = Zeroizing::new(cbor::encode(Value::Array(rows.collect())));
    if entries.len() > CHUNK_ENTRIES || chunk.len() > CHUNK_MAX { Err(StatementError::TooLarge("a chunk")) } else { Ok(chunk) }
}

fn decode_chunk(chunk: &[u8]) -> Result<Vec<Entry>, BatchError> {
    let Value::Array(rows) = cbor::decode("chunk", chunk)? else { return Err(CborError::Kind("chunk", "array").into()) };
    if rows.len() > CHUNK_ENTRIES {
        return Err(StatementError::TooLarge("a chunk").into());
    }
    rows.into_iter().map(|row| Ok(decode_entry(row)?)).collect()
}

fn decode_entry(value: Value) -> Result<Entry, CborError> {
    let mut row = Row::from_value("batch entry", value)?;
    let entry = Entry {
        device_id: row.take("device id")?.parsed(DeviceId::parse)?,
        model: row.take("model")?.parsed(ModelName::parse)?,
        hardware: row.take("hardware")?.parsed(label)?,
        serial: row.take("serial")?.parsed(label)?,
        claim_hash: ClaimHash(row.take("claim hash")?.fixed()?),
        hub_key: HubScopedKey::from_bytes(row.take("hub-scoped key")?.fixed()?),
        made: row.take("made")?.uint()?,
    };
    row.finish()?;
    Ok(entry)
}

/// The length that stands before a header (`max` = [`HEADER_MAX`]) or a chunk ([`CHUNK_MAX`]), checked before anything is reserved for it.
///
/// # Errors
/// [`BatchError::Length`] for 0 and above `max`.
pub fn frame_length(prefix: [u8; 4], max: usize) -> Result<usize, BatchError> {
    let announced = u32::from_be_bytes(prefix);
    usize::try_from(announced).ok().filter(|length| (1..=max).contains(length)).ok_or(BatchError::Length(announced))
}

/// What stands before a part of so many bytes. The limits above keep every part below 2³².
#[must_use]
pub fn frame_prefix(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests;
