//! The registry batch for one hub: age over the brand's signed manifest and the chunks. Two passes over the devices, so that the manifest with all
//! chunk hashes stands first and no more than a chunk for each core is in memory.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::files::{self, Mode};
use super::run::{Group, RunChoice};
use super::{FactoryError, Progress, Workshop, now, random};
use crate::domain::batch::{Entry, HubRequest, Manifest, encode_chunk, frame_prefix};
use crate::domain::brand::KeyPurpose;
use crate::domain::ids::{BrandId, HubId, ModelName};
use crate::domain::keys::hub_scoped;

/// What was put into a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchReport {
    /// The hub that alone can read it.
    pub hub: HubId,
    /// Which batch, 16 random bytes.
    pub batch_id: [u8; 16],
    /// How many devices.
    pub devices: u64,
    /// Of which models.
    pub models: BTreeSet<ModelName>,
    /// Its size, in bytes.
    pub size: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// What a pass learns about a chunk.
struct Summary {
    hash: [u8; 32],
    devices: u64,
    models: BTreeSet<ModelName>,
}

impl Workshop {
    /// Makes a registry batch of the chosen runs for the hub that printed `request`. A file at `out` is replaced when the new one is complete.
    /// `progress` counts each device twice, once for each pass.
    ///
    /// # Errors
    /// [`FactoryError::Statement`] when the request does not hold; [`FactoryError::NoRun`]; [`FactoryError::Interrupted`] on request, without a file.
    pub fn batch(
        &self,
        brand: &BrandId,
        choice: &RunChoice,
        request: &str,
        out: &Path,
        progress: &dyn Progress,
    ) -> Result<BatchReport, FactoryError> {
        let request = HubRequest::parse(request)?;
        let recipient: age::x25519::Recipient = request.recipient.parse().map_err(|_| FactoryError::Recipient)?;
        let brand = self.brand(brand)?;
        let groups: Vec<PathBuf> = self
            .choose(&brand.id, choice)?
            .iter()
            .flat_map(|run| run.complete().map(|group| run.group_dir(group)).collect::<Vec<_>>())
            .collect();

        let summaries = summarise(&groups, &request.hub, progress)?;
        let names: BTreeSet<ModelName> = summaries.iter().flat_map(|summary| summary.models.iter().cloned()).collect();
        let models = names.iter().map(|name| Ok(self.model(&brand, name)?.1)).collect::<Result<_, FactoryError>>()?;
        let manifest = Manifest {
            brand: brand.id.clone(),
            hub: request.hub,
            batch_id: random()?,
            created: now(),
            models,
            devices: summaries.iter().map(|summary| summary.devices).sum(),
            chunks: summaries.iter().map(|summary| summary.hash).collect(),
        };
        let key = self.purpose_key(&brand, KeyPurpose::Batch)?;
        let header = manifest.header(&brand.root, &key.certificate, &key.signing)?;

        let (file, part) = files::begin(out, Mode::Private)?;
        let written = write(file, &recipient, &header, &groups, &manifest, progress).and_then(|size| {
            std::fs::rename(&part, out).map_err(files::at(out))?;
            Ok(size)
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        Ok(BatchReport {
            hub: request.hub,
            batch_id: manifest.batch_id,
            devices: manifest.devices,
            models: names,
            size: written?,
            path: out.to_path_buf(),
        })
    }
}

/// The first pass, on all cores.
fn summarise(groups: &[PathBuf], hub: &HubId, progress: &dyn Progress) -> Result<Vec<Summary>, FactoryError> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(group) = groups.get(at) else { return Ok(done) };
            done.push((at, chunk(group, hub, progress)?.1));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<Result<Vec<(usize, Summary)>, FactoryError>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(Err(FactoryError::Order("a worker failed")))).collect()
    });
    let mut all = Vec::with_capacity(groups.len());
    for part in parts {
        all.extend(part?);
    }
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, summary)| summary).collect())
}

/// The second pass: the encrypted file. The size of what was written, in bytes.
fn write(
    file: std::fs::File,
    recipient: &age::x25519::Recipient,
    header: &[u8],
    groups: &[PathBuf],
    manifest: &Manifest,
    progress: &dyn Progress,
) -> Result<u64, FactoryError> {
    let encryptor =
        age::Encryptor::with_recipients(std::iter::once(recipient as &dyn age::Recipient)).map_err(|_| FactoryError::Recipient)?;
    let path = Path::new("the batch");
    let mut stream = encryptor.wrap_output(BufWriter::new(file)).map_err(files::at(path))?;
    let mut part = |bytes: &[u8]| stream.write_all(&frame_prefix(bytes)).and_then(|()| stream.write_all(bytes)).map_err(files::at(path));
    part(header)?;
    for (group, hash) in groups.iter().zip(&manifest.chunks) {
        let (chunk, summary) = chunk(group, &manifest.hub, progress)?;
        if summary.hash != *hash {
            return Err(files::content(group, "changed while the batch was made"));
        }
        part(&chunk)?;
    }
    let file =
        stream.finish().and_then(|buffer| buffer.into_inner().map_err(std::io::IntoInnerError::into_error)).map_err(files::at(path))?;
    file.sync_all().and_then(|()| file.metadata()).map(|metadata| metadata.len()).map_err(files::at(path))
}

/// The chunk of one group, with its hash and how many devices of which models it holds.
fn chunk(group: &Path, hub: &HubId, progress: &dyn Progress) -> Result<(Zeroizing<Vec<u8>>, Summary), FactoryError> {
    let mut entries = Vec::new();
    let mut models = BTreeSet::new();
    for device in Group::open(group)? {
        if progress.stop() {
            return Err(FactoryError::Interrupted { run: String::new(), minted: 0, count: 0 });
        }
        let device = device?;
        if !models.contains(&device.model) {
            models.insert(device.model.clone());
        }
        entries.push(Entry {
            claim_hash: device.code.claim_hash(&device.device_id),
            hub_key: hub_scoped(&device.key, hub),
            device_id: device.device_id,
            model: device.model,
            hardware: device.hardware,
            serial: device.serial,
            made: device.made,
        });
        progress.advance(1);
    }
    let chunk = encode_chunk(&entries)?;
    let summary = Summary { hash: Sha256::digest(&chunk).into(), devices: entries.len() as u64, models };
    Ok((chunk, summary))
}
