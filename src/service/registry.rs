//! The registry: which brands are believed, which identities are known. A batch is read twice: first to verify all of
//! it, then to take it, so that a refused one leaves nothing and an interrupted one can be taken again. Models are taken
//! first: no device is known without what says which of its attributes are critical.

use super::rights::require_role;
use super::{Actor, Change, CloseReason, Refusal, Service, audit};
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::batch::{BatchError, CHUNK_MAX, Entry, HEADER_MAX, VerifiedManifest, frame_length};
use crate::domain::binding::Subject;
use crate::domain::brand::{Fingerprint, StatementError};
use crate::domain::device::{Household, Origin, Registered, ResetCounter};
use crate::domain::ids::{BrandId, DeviceId, HubId, ModelName};
use crate::domain::model::Model;
use crate::domain::pairing::verify_pair_tag;
use crate::domain::voucher::{VOUCHER_FILE_MAX, Voucher, verify_voucher_file};
use crate::store::tables::{ImportedBatch, PairingTranscript, StoredDeviceKey, StoredModel, TrustedBrand, model_key};
use crate::store::{Read, Store, StoreError, Tx};
use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use subtle::ConstantTimeEq;

/// Why a maker's file was not taken. Refused ones leave nothing behind.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The batch is wrong.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The statement is wrong.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// It cannot be decrypted: made for another hub, or damaged.
    #[error("the file cannot be opened with this hub's key: it was made for another hub, or it is damaged")]
    NotForUs,
    /// The file ended too early, or cannot be read.
    #[error("the file is truncated or unreadable")]
    Truncated,
    /// Bytes follow the last chunk.
    #[error("something follows the end of the batch")]
    Trailing,
    /// The identity is known, of another brand or with another key.
    #[error("the device {0} is known already with another key or brand")]
    Known(DeviceId),
    /// The batch names an identity twice.
    #[error("the batch names the device {0} twice: ask its maker for another one")]
    Twice(DeviceId),
}

/// What an import did.
#[derive(Clone, Debug, Serialize)]
pub struct ImportReport {
    /// Whose identities.
    pub brand: BrandId,
    /// The batch, in hex.
    pub batch_id: String,
    /// Identities that were new.
    pub added: u64,
    /// Identities that were known already.
    pub known: u64,
    /// Models that came along.
    pub models: Vec<ModelName>,
}

/// A brand as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct BrandView {
    /// Its name.
    pub id: BrandId,
    /// Its root's fingerprint.
    pub fingerprint: String,
    /// Since when, ms since 1970.
    pub trusted_at: u64,
    /// By whom.
    pub trusted_by: String,
    /// How many identities its batches have brought.
    pub devices: u64,
}

impl From<TrustedBrand> for BrandView {
    fn from(b: TrustedBrand) -> Self {
        BrandView { id: b.id, fingerprint: b.fingerprint, trusted_at: b.trusted_at, trusted_by: b.trusted_by, devices: 0 }
    }
}

impl Service {
    /// Believes the statements of `brand` under the root with this fingerprint, which an owner has compared.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`]; [`Refusal::Invalid`] for no fingerprint; [`Refusal::Conflict`] when the brand is
    /// trusted under another root.
    pub async fn trust_brand(&self, actor: &Actor, brand: BrandId, fingerprint: &str) -> Result<BrandView, Refusal> {
        if !actor.may(HubAction::ManageRegistry) {
            return Err(Refusal::RoleTooLow);
        }
        let fingerprint = Fingerprint::parse(fingerprint)
            .map_err(|_| Refusal::Invalid("a brand's fingerprint is 8 groups of 4 letters and digits, as its maker publishes it".into()))?;
        let now = self.now();
        let event = audit::done(actor, "brand.trust", brand.as_str(), fingerprint.to_string());
        let who = actor.clone();
        let row = TrustedBrand {
            id: brand.clone(),
            fingerprint: fingerprint.to_string(),
            root: None,
            trusted_at: now,
            trusted_by: actor.subject.to_string(),
        };
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ManageRegistry, now)?;
                if let Some(known) = tx.get::<TrustedBrand>(brand.as_str().as_bytes())? {
                    return if known.fingerprint == row.fingerprint {
                        Ok(known.into())
                    } else {
                        Err(Refusal::Conflict("this brand is trusted under another fingerprint: ask its maker which one is right".into()))
                    };
                }
                tx.put(brand.as_str().as_bytes(), &row)?;
                audit::append(tx, now, event.clone())?;
                Ok(row.clone().into())
            })
            .await
    }

    /// The brands that are believed.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`].
    pub fn brands(&self, actor: &Actor) -> Result<Vec<BrandView>, Refusal> {
        if !actor.may(HubAction::ManageRegistry) {
            return Err(Refusal::RoleTooLow);
        }
        let (brands, batches) =
            self.store.read::<_, StoreError>(|v| Ok((v.scan::<TrustedBrand>(b"", 1_000)?, v.scan::<ImportedBatch>(b"", 10_000)?)))?;
        let devices = |brand: &BrandId| batches.iter().filter(|(_, b)| b.brand == *brand).map(|(_, b)| b.devices).sum();
        Ok(brands.into_iter().map(|(_, b)| BrandView { devices: devices(&b.id), ..b.into() }).collect())
    }

    /// Whether the batch in the file at `path`, of a trusted brand and for this hub, has been taken before. Reads its
    /// header only.
    ///
    /// # Errors
    /// [`Refusal::Registry`] with the reason.
    pub async fn batch_is_known(&self, path: PathBuf) -> Result<bool, Refusal> {
        let brands = self.store.read::<_, StoreError>(|v| v.scan::<TrustedBrand>(b"", 1_000))?;
        let (hub, identity, store) = (self.hub.id, self.hub.age_identity.clone(), self.store.clone());
        let trusts =
            move |brand: &BrandId, print: &Fingerprint| brands.iter().any(|(_, b)| b.id == *brand && b.fingerprint == print.to_string());
        tokio::task::spawn_blocking(move || {
            let header = Decrypted::open(&path, &identity)?.frame(HEADER_MAX)?;
            let manifest = VerifiedManifest::verify(&header, &hub, trusts).map_err(RegistryError::from)?;
            Ok(store.read::<_, StoreError>(|v| v.get::<ImportedBatch>(&manifest.batch_id))?.is_some())
        })
        .await
        .map_err(|_| RegistryError::Truncated)?
    }

    /// Takes the batch in the file at `path`. A refused one leaves nothing; one that is interrupted while it is taken
    /// (the hub was switched off) leaves whole devices, and the rest comes when it is given again. Progress goes to the log.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::Registry`] with the reason.
    pub async fn import_batch(&self, actor: &Actor, path: PathBuf) -> Result<ImportReport, Refusal> {
        if !actor.may(HubAction::ImportIdentities) {
            return Err(Refusal::RoleTooLow);
        }
        // One at a time: each holds a chunk and a manifest in memory.
        let _one = self.importing.lock().await;
        let brands = self.store.read::<_, StoreError>(|v| v.scan::<TrustedBrand>(b"", 1_000))?;
        let trusted: HashSet<(String, String)> = brands.into_iter().map(|(_, b)| (b.id.to_string(), b.fingerprint)).collect();
        let (hub, identity, store) = (self.hub.id, self.hub.age_identity.clone(), self.store.clone());
        let file = path.clone();
        let trusts = move |brand: &BrandId, print: &Fingerprint| trusted.contains(&(brand.to_string(), print.to_string()));
        let verified = {
            let (identity, store) = (identity.clone(), store.clone());
            tokio::task::spawn_blocking(move || -> Result<VerifiedManifest, Refusal> {
                let mut reader = Decrypted::open(&file, &identity)?;
                let manifest = VerifiedManifest::verify(&reader.frame(HEADER_MAX)?, &hub, trusts).map_err(RegistryError::from)?;
                let mut devices = 0u64;
                // Eight bytes of a hash stand for an id: a million of them fit a small box.
                let mut seen: HashSet<[u8; 8]> = HashSet::new();
                for index in 0..manifest.chunks() {
                    let entries = manifest.verify_chunk(index, &reader.frame(CHUNK_MAX)?).map_err(RegistryError::from)?;
                    devices += entries.len() as u64;
                    check_known(&store, &manifest.brand, &entries)?;
                    for entry in &entries {
                        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(Sha256::digest(entry.device_id.as_str()));
                        if !seen.insert([a, b, c, d, e, f, g, h]) {
                            return Err(RegistryError::Twice(entry.device_id.clone()).into());
                        }
                    }
                    tracing::info!(devices, of = manifest.devices, "batch verified so far");
                }
                manifest.check_count(manifest.chunks(), devices).map_err(RegistryError::from)?;
                reader.end()?;
                Ok(manifest)
            })
            .await
            .map_err(|_| RegistryError::Truncated)??
        };
        self.take_models(actor, &verified).await?;
        let (manifest, mut report) = self.take_chunks(verified, path, identity).await?;
        let (now, by) = (self.now(), actor.subject.to_string());
        let detail = format!("batch {}: {} new, {} known", report.batch_id, report.added, report.known);
        let event = audit::done(actor, "registry.import", manifest.brand.as_str(), detail);
        let (batch, brand, devices) = (manifest.batch_id, manifest.brand.clone(), manifest.devices);
        self.store
            .write::<_, StoreError, _>(move |tx| {
                tx.put(&batch, &ImportedBatch { brand: brand.clone(), devices, at: now, by: by.clone() })?;
                audit::append(tx, now, event.clone())
            })
            .await?;
        report.models = manifest.models.into_iter().map(|m| m.name).collect();
        Ok(report)
    }

    /// Before any identity: the models, and in the audit that a batch is being taken, should it never end.
    async fn take_models(&self, actor: &Actor, manifest: &VerifiedManifest) -> Result<(), Refusal> {
        let (now, who, issued) = (self.now(), actor.clone(), manifest.created);
        let detail = format!("batch {}: {} devices", HEXLOWER.encode(&manifest.batch_id), manifest.devices);
        let event = audit::done(actor, "registry.import.begin", manifest.brand.as_str(), detail);
        let models: Vec<(Vec<u8>, Model)> = manifest.models.iter().map(|m| (model_key(&manifest.brand, &m.name), m.clone())).collect();
        self.store
            .write(move |tx| {
                // Verifying took its time.
                require_role(tx, &who, HubAction::ImportIdentities, now)?;
                for (key, model) in &models {
                    put_model(tx, key, model, issued)?;
                }
                audit::append(tx, now, event.clone())?;
                Ok::<_, Refusal>(())
            })
            .await?;
        self.models.write().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// The second reading: every chunk in a transaction of its own, so that the rest of the house can go on.
    async fn take_chunks(
        &self,
        manifest: VerifiedManifest,
        path: PathBuf,
        identity: zeroize::Zeroizing<String>,
    ) -> Result<(VerifiedManifest, ImportReport), Refusal> {
        let (brand, batch) = (manifest.brand.clone(), HEXLOWER.encode(&manifest.batch_id));
        let (sender, mut chunks) = tokio::sync::mpsc::channel::<Vec<Entry>>(2);
        let reading = tokio::task::spawn_blocking(move || -> Result<VerifiedManifest, Refusal> {
            let mut reader = Decrypted::open(&path, &identity)?;
            reader.frame(HEADER_MAX)?;
            for index in 0..manifest.chunks() {
                let entries = manifest.verify_chunk(index, &reader.frame(CHUNK_MAX)?).map_err(RegistryError::from)?;
                if sender.blocking_send(entries).is_err() {
                    break;
                }
            }
            Ok(manifest)
        });
        let (mut added, mut known) = (0u64, 0u64);
        let now = self.now();
        let mut fault = None;
        while let Some(entries) = chunks.recv().await {
            let chunk = Chunk { brand: brand.clone(), batch: batch.clone(), entries };
            let (hub, chunk) = (self.hub.id, chunk);
            let written = self.store.write::<_, StoreError, _>(move |tx| take_entries(tx, &hub, &chunk, now)).await;
            match written {
                Ok((a, k, checked)) => {
                    self.attested(checked).await;
                    added += a;
                    known += k;
                    tracing::info!(added, known, "batch taken so far");
                }
                Err(e) => {
                    fault = Some(Refusal::from(e));
                    break;
                }
            }
        }
        drop(chunks);
        let manifest = reading.await.map_err(|_| RegistryError::Truncated)?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        let manifest = manifest?;
        let report =
            ImportReport { brand: manifest.brand.clone(), batch_id: HEXLOWER.encode(&manifest.batch_id), added, known, models: Vec::new() };
        Ok((manifest, report))
    }

    /// Devices that were paired before their key was known have proved it now (true), or are shut out.
    pub(in crate::service) async fn attested(&self, checked: Vec<(DeviceId, bool)>) {
        if checked.is_empty() {
            return;
        }
        self.policy_changed().await;
        for (id, proven) in checked {
            if !proven {
                self.close_sessions(&Subject::Device(id.clone()), CloseReason::NotAuthorized).await;
            }
            self.changed(Change::Device { id });
        }
    }

    /// Takes one device's voucher: the hub will recognise it, without a key to prove it by.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`], [`Refusal::Registry`].
    pub async fn import_voucher(&self, actor: &Actor, file: &[u8]) -> Result<Registered, Refusal> {
        if !actor.may(HubAction::ImportIdentities) {
            return Err(Refusal::RoleTooLow);
        }
        if file.len() > VOUCHER_FILE_MAX {
            return Err(RegistryError::Statement(StatementError::TooLarge("the voucher file")).into());
        }
        // Not while a batch is taken: it was verified against the identities that were known then.
        let _one = self.importing.lock().await;
        let brands = self.store.read::<_, StoreError>(|v| v.scan::<TrustedBrand>(b"", 1_000))?;
        let introduced =
            verify_voucher_file(file, |brand, print| brands.iter().any(|(_, b)| b.id == *brand && b.fingerprint == print.to_string()))
                .map_err(RegistryError::from)?;
        let now = self.now();
        let row = vouched_for(introduced.voucher, now);
        let event = audit::done(actor, "registry.voucher", row.id.as_str(), row.brand.to_string());
        let (model_row, model, who) = (model_key(&row.brand, &row.model), introduced.model, actor.clone());
        let out = self
            .store
            .write(move |tx| {
                require_role(tx, &who, HubAction::ImportIdentities, now)?;
                let key = row.id.as_str().as_bytes();
                match tx.get::<Registered>(key)? {
                    Some(known) if known.brand != row.brand || known.claim_hash != row.claim_hash => {
                        return Err(RegistryError::Known(row.id.clone()).into());
                    }
                    // What a batch has told is more than a voucher tells.
                    Some(known) => return Ok(known),
                    None => tx.put(key, &row)?,
                }
                put_model(tx, &model_row, &model, row.made)?;
                audit::append(tx, now, event.clone())?;
                Ok::<_, Refusal>(row.clone())
            })
            .await?;
        self.models.write().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(out)
    }

    /// A device type.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn model(&self, brand: &BrandId, model: &ModelName) -> Result<Arc<Model>, Refusal> {
        let key = model_key(brand, model);
        if let Some(known) = self.models.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let stored = self.store.read::<_, StoreError>(|v| v.get::<StoredModel>(&key))?.ok_or(Refusal::NotFound("model"))?;
        let model = Arc::new(Model::parse(&stored.json).map_err(|e| Refusal::Invalid(format!("the stored model is not valid: {e}")))?);
        self.models.write().unwrap_or_else(PoisonError::into_inner).insert(key, model.clone());
        Ok(model)
    }
}

pub(super) fn put_model(tx: &Tx<'_>, key: &[u8], model: &Model, issued: u64) -> Result<(), StoreError> {
    if tx.get::<StoredModel>(key)?.is_some_and(|known| known.issued > issued) {
        return Ok(());
    }
    tx.put(key, &StoredModel { json: model.to_json().to_string(), issued })
}

/// The identity that a voucher states.
pub(super) fn vouched_for(voucher: Voucher, now: u64) -> Registered {
    Registered {
        id: voucher.device_id,
        brand: voucher.brand,
        model: voucher.model,
        hardware: voucher.hardware,
        serial: voucher.serial,
        claim_hash: voucher.claim_hash,
        made: voucher.made,
        origin: Origin::Voucher,
        added_at: now,
    }
}

/// An identity never changes its brand or its key by an import: that would be taking it over.
fn check_known(store: &Store, brand: &BrandId, entries: &[Entry]) -> Result<(), Refusal> {
    store.read(|v| {
        for entry in entries {
            let key = entry.device_id.as_str().as_bytes();
            let same_brand = v.get::<Registered>(key)?.is_none_or(|k| k.brand == *brand && k.claim_hash == entry.claim_hash);
            let same_key = v.get::<StoredDeviceKey>(key)?.is_none_or(|k| bool::from(k.0.ct_eq(entry.hub_key.as_bytes())));
            if !same_brand || !same_key {
                return Err(RegistryError::Known(entry.device_id.clone()).into());
            }
        }
        Ok(())
    })
}

/// Identities of a batch, with the batch they came in.
struct Chunk {
    brand: BrandId,
    batch: String,
    entries: Vec<Entry>,
}

/// How many identities were new and how many known, and which devices a kept transcript now shows to be genuine, or not.
type Taken = (u64, u64, Vec<(DeviceId, bool)>);

fn take_entries(tx: &Tx<'_>, hub: &HubId, chunk: &Chunk, now: u64) -> Result<Taken, StoreError> {
    let (mut added, mut known, mut checked) = (0, 0, Vec::new());
    for e in &chunk.entries {
        let key = e.device_id.as_str().as_bytes();
        let had_key = tx.get::<StoredDeviceKey>(key)?.is_some();
        if had_key {
            known += 1;
            continue;
        }
        added += 1;
        tx.put(key, &StoredDeviceKey(*e.hub_key.as_bytes()))?;
        let row = Registered {
            id: e.device_id.clone(),
            brand: chunk.brand.clone(),
            model: e.model.clone(),
            hardware: e.hardware.clone(),
            serial: e.serial.clone(),
            claim_hash: e.claim_hash,
            made: e.made,
            origin: Origin::Batch(chunk.batch.clone()),
            added_at: now,
        };
        tx.put(key, &row)?;
        checked.extend(check_paired(tx, hub, e, now)?.map(|proven| (e.device_id.clone(), proven)));
    }
    Ok((added, known, checked))
}

/// The key has come of a device that was paired without it: what it said then shows now whether it is the one. One that
/// knew the code and had not the key is a copy: it is shut out until an owner has looked. `None` when there is nothing
/// to check.
fn check_paired(tx: &Tx<'_>, hub: &HubId, e: &Entry, now: u64) -> Result<Option<bool>, StoreError> {
    let key = e.device_id.as_str().as_bytes();
    let Some(PairingTranscript { transcript: said, .. }) = tx.get(key)? else { return Ok(None) };
    tx.delete::<PairingTranscript>(key)?;
    let proven = verify_pair_tag(&e.hub_key, hub, &e.device_id, &said.h, said.resets, &said.firmware, &said.tag);
    let (actor, outcome, reason) = (format!("device:{}", e.device_id), if proven { Outcome::Done } else { Outcome::Denied }, "wrong_tag");
    audit::append(
        tx,
        now,
        audit::event(actor, "device.attest", e.device_id.as_str(), outcome, if proven { "" } else { reason }, "", "hub"),
    )?;
    if proven {
        let known = tx.get::<ResetCounter>(key)?.unwrap_or_default().counter;
        tx.put(key, &ResetCounter { counter: known.max(said.resets) })?;
        return Ok(Some(true));
    }
    let mut household = tx.get::<Household>(key)?.unwrap_or_default();
    if household.quarantine() {
        tx.put(key, &household)?;
    }
    Ok(Some(false))
}

/// A reading of the decrypted batch, frame by frame.
struct Decrypted {
    plain: Box<dyn std::io::Read>,
}

impl Decrypted {
    fn open(path: &Path, identity: &str) -> Result<Decrypted, RegistryError> {
        let identity: age::x25519::Identity = identity.parse().map_err(|_| RegistryError::NotForUs)?;
        let file = std::fs::File::open(path).map_err(|_| RegistryError::Truncated)?;
        let decryptor = age::Decryptor::new_buffered(BufReader::new(file)).map_err(|_| RegistryError::NotForUs)?;
        let plain = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(|_| RegistryError::NotForUs)?;
        Ok(Decrypted { plain: Box::new(plain) })
    }

    fn frame(&mut self, max: usize) -> Result<Vec<u8>, RegistryError> {
        let mut prefix = [0u8; 4];
        self.plain.read_exact(&mut prefix).map_err(|_| RegistryError::Truncated)?;
        let mut bytes = vec![0u8; frame_length(prefix, max)?];
        self.plain.read_exact(&mut bytes).map_err(|_| RegistryError::Truncated)?;
        Ok(bytes)
    }

    fn end(&mut self) -> Result<(), RegistryError> {
        match self.plain.read(&mut [0u8; 1]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(RegistryError::Trailing),
            Err(_) => Err(RegistryError::Truncated),
        }
    }
}
