//! Minting: for each device a fresh key, its secret file and its voucher, on all cores. A group of up to 1,000 devices is made in a directory
//! of its own that gets its name when it is complete: a stop at any moment leaves whole groups, and the run can go on from there.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::brand::{Brand, PurposeKey};
use super::files::{self, Mode};
use super::run::{GROUP, IndexLine, Run, SecretFile, secret_path, voucher_path};
use super::{FactoryError, Progress, Workshop, now, random};
use crate::domain::brand::KeyPurpose;
use crate::domain::claim::ClaimCode;
use crate::domain::ids::{BrandId, DeviceId, ModelName, NAME_MAX};
use crate::domain::keys::DeviceKey;
use crate::domain::voucher::{Voucher, label, voucher_file};

/// The most devices of one run: so no directory gets more than 1,000 entries.
pub const COUNT_MAX: u64 = 1_000_000;

/// Random symbols at the end of a device id, of 5 bits each: 60 bits, so that two of a million devices meet once in two million runs.
const SUFFIX: usize = 12;

/// What may be chosen about a run.
#[derive(Debug, Clone, Default)]
pub struct MintOptions {
    /// The hardware revision, up to 64 characters.
    pub hardware: Option<String>,
    /// What device ids begin with; the model's name when absent.
    pub prefix: Option<String>,
}

impl Workshop {
    /// Mints devices of one model in a new run.
    ///
    /// # Errors
    /// [`FactoryError::Interrupted`] when `progress` asked to stop: [`Workshop::resume`] goes on. Otherwise what is wrong with the order or a file.
    pub fn mint(
        &self,
        brand: &BrandId,
        model: &ModelName,
        count: u64,
        options: &MintOptions,
        progress: &dyn Progress,
    ) -> Result<Run, FactoryError> {
        if !(1..=COUNT_MAX).contains(&count) {
            return Err(FactoryError::Order("a run has 1 to 1,000,000 devices"));
        }
        let brand = self.brand(brand)?;
        self.model(&brand, model)?;
        let prefix = options
            .prefix
            .clone()
            .unwrap_or_else(|| format!("{}-", model.as_str().chars().take(NAME_MAX - SUFFIX - 1).collect::<String>()));
        DeviceId::parse(&format!("{prefix}{}", "0".repeat(SUFFIX)))?;
        let hardware = label(options.hardware.as_deref().unwrap_or_default()).map_err(FactoryError::Order)?;
        let mut run = Run {
            v: 1,
            run: String::new(),
            brand: brand.id.clone(),
            model: model.clone(),
            hardware,
            prefix,
            count,
            made: now(),
            minted: 0,
            dir: PathBuf::new(),
        };
        (run.run, run.dir) = new_run_dir(&brand)?;
        files::create(&run.dir.join("run.json"), Mode::Private, &files::json(&run))?;
        self.work(&brand, run, progress)
    }

    /// Goes on with a run that was interrupted. A complete one is left as it is.
    ///
    /// # Errors
    /// As [`Workshop::mint`].
    pub fn resume(&self, brand: &BrandId, run: &str, progress: &dyn Progress) -> Result<Run, FactoryError> {
        let brand = self.brand(brand)?;
        let run = Self::one_run(&brand, run)?;
        self.work(&brand, run, progress)
    }

    fn work(&self, brand: &Brand, mut run: Run, progress: &dyn Progress) -> Result<Run, FactoryError> {
        let lock = run.dir.join("lock");
        let lock = File::create(&lock).map_err(files::at(&lock))?;
        lock.try_lock().map_err(|_| FactoryError::Busy(run.run.clone()))?;

        let bench = Bench {
            run: &run,
            root: brand.root,
            voucher: self.purpose_key(brand, KeyPurpose::Voucher)?,
            batch_certificate: self.purpose_key(brand, KeyPurpose::Batch)?.certificate,
            model: self.model(brand, &run.model)?.1,
            progress,
        };
        progress.advance(run.minted);
        let next = AtomicU64::new(0);
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let worked: Vec<Result<(), FactoryError>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| bench.work(&next))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap_or(Err(FactoryError::Order("a worker failed")))).collect()
        });
        run.minted = run.complete().map(|group| run.group_size(group)).sum();
        // A fault of one worker says more than the stop of another.
        let fault = worked.into_iter().filter_map(Result::err).min_by_key(|e| matches!(e, FactoryError::Interrupted { .. }));
        match fault {
            None => Ok(run),
            Some(FactoryError::Interrupted { .. }) => Err(FactoryError::Interrupted { minted: run.minted, count: run.count, run: run.run }),
            Some(fault) => Err(fault),
        }
    }
}

/// Makes the first free directory of today's runs.
fn new_run_dir(brand: &Brand) -> Result<(String, PathBuf), FactoryError> {
    let runs = brand.dir.join("runs");
    files::private_dir(&runs)?;
    let day = jiff::Timestamp::now().strftime("%Y%m%d").to_string();
    for number in 1..1000 {
        let name = format!("{day}-{number:03}");
        let dir = runs.join(&name);
        match fs::create_dir(&dir) {
            Ok(()) => return Ok((name, dir)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(files::at(&dir)(e)),
        }
    }
    Err(FactoryError::Order("there were 999 runs today; go on tomorrow"))
}

/// What the workers of one run share.
struct Bench<'a> {
    run: &'a Run,
    root: [u8; 32],
    voucher: PurposeKey,
    batch_certificate: Vec<u8>,
    model: Vec<u8>,
    progress: &'a dyn Progress,
}

impl Bench<'_> {
    fn work(&self, next: &AtomicU64) -> Result<(), FactoryError> {
        loop {
            let group = next.fetch_add(1, Ordering::Relaxed);
            if group >= self.run.groups() {
                return Ok(());
            }
            let dir = self.run.group_dir(group);
            if dir.is_dir() {
                continue;
            }
            let part = dir.with_extension("part");
            let made = self.group(group, &part).and_then(|()| fs::rename(&part, &dir).map_err(files::at(&dir)));
            if made.is_err() {
                let _ = fs::remove_dir_all(&part);
                // The others need not begin another group.
                next.store(self.run.groups(), Ordering::Relaxed);
            }
            made?;
        }
    }

    fn group(&self, group: u64, part: &Path) -> Result<(), FactoryError> {
        if part.exists() {
            fs::remove_dir_all(part).map_err(files::at(part))?;
        }
        files::private_dir(&part.join("secrets"))?;
        files::private_dir(&part.join("vouchers"))?;
        let mut index = Vec::new();
        for at in 0..self.run.group_size(group) {
            if self.progress.stop() {
                return Err(FactoryError::Interrupted { run: String::new(), minted: 0, count: 0 });
            }
            let line = self.device(part, group * GROUP + at + 1)?;
            index.extend_from_slice(&files::json(&line));
            self.progress.advance(1);
        }
        let path = part.join("index.jsonl");
        files::write_within(&path, Mode::Private, &index)?;
        File::open(&path).and_then(|mut file| file.flush().and_then(|()| file.sync_all())).map_err(files::at(&path))
    }

    /// Mints device number `number` of the run, counted from 1.
    fn device(&self, group: &Path, number: u64) -> Result<IndexLine, FactoryError> {
        let run = self.run;
        let key = DeviceKey::from_bytes(random()?);
        let device_id = DeviceId::parse(&format!("{}{}", run.prefix, suffix()?))?;
        let serial = format!("{}-{number:06}", run.run);
        let voucher = Voucher {
            claim_hash: ClaimCode::from_device_key(&key).claim_hash(&device_id),
            device_id: device_id.clone(),
            brand: run.brand.clone(),
            model: run.model.clone(),
            hardware: run.hardware.clone(),
            serial: serial.clone(),
            made: run.made,
        };
        let voucher =
            voucher_file(&self.root, &self.voucher.certificate, &voucher.sign(&self.voucher.signing), &self.batch_certificate, &self.model);
        let secret = SecretFile {
            v: 1,
            device_id,
            brand: run.brand.clone(),
            model: run.model.clone(),
            hardware: run.hardware.clone(),
            serial,
            device_key: key,
        };
        // A new file is never an old one: an id that came up twice within a group is an error, not a lost device.
        files::write_within(&secret_path(group, &secret.device_id), Mode::Private, &files::json(&secret))?;
        files::write_within(&voucher_path(group, &secret.device_id), Mode::Public, &voucher)?;
        let SecretFile { device_id, model, hardware, serial, .. } = secret;
        Ok(IndexLine { id: device_id, model, hardware, serial, made: run.made })
    }
}

/// Random symbols of Crockford's alphabet in lower case, which people can read out.
fn suffix() -> Result<String, FactoryError> {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let bytes: [u8; SUFFIX] = random()?;
    Ok(bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 31))).map(|&b| char::from(b)).collect())
}
