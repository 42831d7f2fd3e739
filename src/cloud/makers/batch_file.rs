//! The registry batch for one hub as a stream: age over the brand's signed manifest and the chunks of devices. Chunk by
//! chunk: whoever makes one holds a chunk and what is not yet taken of the encrypted file, and no more.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::domain::batch::{CHUNK_ENTRIES, Entry, Manifest, encode_chunk, frame_prefix};
use crate::domain::brand::StatementError;
use crate::domain::ids::{BrandId, HubId, ModelName};

/// Devices of a chunk at most.
pub const CHUNK: usize = CHUNK_ENTRIES;

/// Why a batch cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BatchFileError {
    /// The hub's recipient is none that age takes.
    #[error("the hub's age recipient cannot be used")]
    Recipient,
    /// A chunk or a header is too large.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The encryption failed.
    #[error("encrypting the batch failed: {0}")]
    Encrypt(std::io::Error),
    /// The second pass saw other devices than the first.
    #[error("the identities changed while the batch was made")]
    Changed,
}

/// What signs for a brand.
pub struct Signer {
    /// Whose.
    pub brand: BrandId,
    /// The root's public key.
    pub root: [u8; 32],
    /// The root's certificate of the key.
    pub certificate: Vec<u8>,
    /// The key for batches.
    pub key: SigningKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("brand", &self.brand).finish_non_exhaustive()
    }
}

/// The first pass: what the manifest says of all chunks.
#[derive(Debug, Default)]
pub struct Summary {
    chunks: Vec<[u8; 32]>,
    devices: u64,
    models: BTreeSet<ModelName>,
}

impl Summary {
    /// Takes note of the next chunk: at most [`CHUNK`] devices.
    ///
    /// # Errors
    /// [`BatchFileError::Statement`].
    pub fn add(&mut self, entries: &[Entry]) -> Result<(), BatchFileError> {
        self.chunks.push(hash(&encode_chunk(entries)?));
        self.devices += entries.len() as u64;
        for entry in entries {
            if !self.models.contains(&entry.model) {
                self.models.insert(entry.model.clone());
            }
        }
        Ok(())
    }

    /// How many devices.
    #[must_use]
    pub fn devices(&self) -> u64 {
        self.devices
    }

    /// Of which models.
    #[must_use]
    pub fn models(&self) -> &BTreeSet<ModelName> {
        &self.models
    }
}

/// The second pass: the file, whose bytes are taken as they come.
pub struct BatchFile {
    stream: age::stream::StreamWriter<Made>,
    made: Made,
    chunks: std::vec::IntoIter<[u8; 32]>,
    sha256: Sha256,
    bytes: u64,
}

/// Where the encryption writes to, and from where its bytes are taken.
#[derive(Clone, Default)]
struct Made(Arc<Mutex<Vec<u8>>>);

impl Made {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Made {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a finished file is, as its hub is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its length, in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

impl std::fmt::Debug for BatchFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchFile").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl BatchFile {
    /// Begins the file of `summary` for a hub and its recipient `age1…`. `models` are the statements of all its models.
    ///
    /// # Errors
    /// [`BatchFileError`].
    pub fn begin(
        signer: &Signer,
        hub: HubId,
        recipient: &str,
        batch_id: [u8; 16],
        created_s: u64,
        models: Vec<Vec<u8>>,
        summary: Summary,
    ) -> Result<BatchFile, BatchFileError> {
        let recipient: age::x25519::Recipient = recipient.parse().map_err(|_| BatchFileError::Recipient)?;
        let manifest = Manifest {
            brand: signer.brand.clone(),
            hub,
            batch_id,
            created: created_s,
            models,
            devices: summary.devices,
            chunks: summary.chunks,
        };
        let header = manifest.header(&signer.root, &signer.certificate, &signer.key)?;
        let encryptor =
            age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).map_err(|_| BatchFileError::Recipient)?;
        let made = Made::default();
        let stream = encryptor.wrap_output(made.clone()).map_err(BatchFileError::Encrypt)?;
        let mut file = BatchFile { stream, made, chunks: manifest.chunks.into_iter(), sha256: Sha256::new(), bytes: 0 };
        file.part(&header)?;
        Ok(file)
    }

    /// The next chunk, as [`Summary::add`] saw it.
    ///
    /// # Errors
    /// [`BatchFileError::Changed`] when it is another.
    pub fn add(&mut self, entries: &[Entry]) -> Result<(), BatchFileError> {
        let chunk = encode_chunk(entries)?;
        if self.chunks.next() != Some(hash(&chunk)) {
            return Err(BatchFileError::Changed);
        }
        self.part(&chunk)
    }

    /// What has been made since it was last asked.
    pub fn take(&mut self) -> Vec<u8> {
        let made = self.made.take();
        self.sha256.update(&made);
        self.bytes += made.len() as u64;
        made
    }

    /// The end: the last bytes, and what the whole is.
    ///
    /// # Errors
    /// [`BatchFileError::Changed`] when chunks are missing.
    pub fn finish(mut self) -> Result<(Vec<u8>, Finished), BatchFileError> {
        if self.chunks.next().is_some() {
            return Err(BatchFileError::Changed);
        }
        self.stream.finish().map_err(BatchFileError::Encrypt)?;
        let last = self.made.take();
        self.sha256.update(&last);
        let bytes = self.bytes + last.len() as u64;
        Ok((last, Finished { bytes, sha256: self.sha256.finalize().into() }))
    }

    fn part(&mut self, bytes: &[u8]) -> Result<(), BatchFileError> {
        self.stream.write_all(&frame_prefix(bytes)).and_then(|()| self.stream.write_all(bytes)).map_err(BatchFileError::Encrypt)
    }
}

fn hash(chunk: &Zeroizing<Vec<u8>>) -> [u8; 32] {
    Sha256::digest(chunk.as_slice()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::batch::{HEADER_MAX, VerifiedManifest, frame_length};
    use crate::domain::brand::{KeyPurpose, PurposeCertificate};
    use crate::domain::claim::ClaimHash;
    use crate::domain::ids::DeviceId;
    use crate::domain::keys::{DeviceKey, hub_scoped};
    use crate::domain::model::{Model, sign_model};
    use std::io::Read;

    fn signer() -> Signer {
        let (root, key) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let brand = BrandId::parse("acme").unwrap();
        let certificate = PurposeCertificate {
            brand: brand.clone(),
            purpose: KeyPurpose::Batch,
            public_key: key.verifying_key().to_bytes(),
            issued: 1,
            serial: 1,
        }
        .sign(&root);
        Signer { brand, root: root.verifying_key().to_bytes(), certificate, key }
    }

    fn entries(from: u64, to: u64, hub: &HubId) -> Vec<Entry> {
        let entry = |n: u64| Entry {
            device_id: DeviceId::parse(&format!("lamp-{n}")).unwrap(),
            model: ModelName::parse("lamp").unwrap(),
            hardware: "A".into(),
            serial: n.to_string(),
            claim_hash: ClaimHash([3; 32]),
            hub_key: hub_scoped(&DeviceKey::from_bytes([n as u8; 32]), hub),
            made: 5,
        };
        (from..to).map(entry).collect()
    }

    #[test]
    fn a_batch_made_in_pieces_is_read_by_its_hub_as_any_other() {
        let (signer, hub, reader) = (signer(), HubId::from_bytes([8; 16]), age::x25519::Identity::generate());
        let model = Model::parse(r#"{"model": "lamp", "title": "Lamp", "version": 1, "kind": "lamp"}"#).unwrap();
        let models = vec![sign_model(&signer.key, &signer.brand, &model, 1)];
        let chunks = [entries(0, 1000, &hub), entries(1000, 1500, &hub)];
        let mut summary = Summary::default();
        chunks.iter().for_each(|chunk| summary.add(chunk).unwrap());
        assert_eq!((summary.devices(), summary.models().len()), (1500, 1));
        let mut file = BatchFile::begin(&signer, hub, &reader.to_public().to_string(), [4; 16], 9, models, summary).unwrap();
        let mut bytes = Vec::new();
        for chunk in &chunks {
            file.add(chunk).unwrap();
            bytes.extend(file.take());
        }
        let (last, finished) = file.finish().unwrap();
        bytes.extend(last);
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!(finished, Finished { bytes: bytes.len() as u64, sha256 });

        let mut plain = Vec::new();
        let decryptor = age::Decryptor::new(bytes.as_slice()).unwrap();
        decryptor.decrypt(std::iter::once(&reader as &dyn age::Identity)).unwrap().read_to_end(&mut plain).unwrap();
        let mut parts = Vec::new();
        let mut rest = plain.as_slice();
        while let Some((prefix, after)) = rest.split_first_chunk::<4>() {
            let (part, after) = after.split_at(frame_length(*prefix, HEADER_MAX).unwrap());
            parts.push(part.to_vec());
            rest = after;
        }
        let verified = VerifiedManifest::verify(&parts[0], &hub, |_, _| true).unwrap();
        assert_eq!((verified.devices, parts.len()), (1500, 3));
        assert_eq!(verified.verify_chunk(0, &parts[1]).unwrap(), chunks[0]);
        assert_eq!(verified.verify_chunk(1, &parts[2]).unwrap(), chunks[1]);
    }

    #[test]
    fn what_changed_between_the_passes_is_not_sent() {
        let (hub, reader) = (HubId::from_bytes([8; 16]), age::x25519::Identity::generate().to_public().to_string());
        let begin = |summary| BatchFile::begin(&signer(), hub, &reader, [4; 16], 9, vec![], summary).unwrap();
        let mut summary = Summary::default();
        summary.add(&entries(0, 2, &hub)).unwrap();
        let mut file = begin(summary);
        assert!(matches!(file.add(&entries(0, 1, &hub)), Err(BatchFileError::Changed)));
        let mut summary = Summary::default();
        summary.add(&entries(0, 2, &hub)).unwrap();
        assert!(matches!(begin(summary).finish(), Err(BatchFileError::Changed)));
        assert!(matches!(
            BatchFile::begin(&signer(), hub, "age1nobody", [4; 16], 9, vec![], Summary::default()),
            Err(BatchFileError::Recipient)
        ));
    }
}
