//! Runs of devices: what was ordered, which groups are complete, and reading the devices back one by one.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::brand::Brand;
use super::{FactoryError, Workshop, files};
use crate::domain::claim::ClaimCode;
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::domain::keys::DeviceKey;

/// The most devices in one directory, and so in one chunk of a batch.
pub(super) const GROUP: u64 = 1000;

/// A run of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The format of this record, 1.
    pub(super) v: u32,
    /// Its name, unique within the brand: the date and a number.
    pub run: String,
    /// The brand.
    pub brand: BrandId,
    /// The model of all its devices.
    pub model: ModelName,
    /// The hardware revision.
    pub hardware: String,
    /// What device ids begin with.
    pub prefix: String,
    /// How many devices were ordered.
    pub count: u64,
    /// When it was ordered, seconds since 1970.
    pub made: u64,
    /// How many of its devices are complete.
    #[serde(skip)]
    pub minted: u64,
    /// Where it is.
    #[serde(skip)]
    pub dir: PathBuf,
}

/// Which runs to take devices from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunChoice {
    /// The one with the greatest name: the latest.
    Latest,
    /// This one.
    One(String),
    /// All of the brand.
    All,
}

/// One minted device.
#[derive(Debug)]
pub struct Minted {
    /// Its id.
    pub device_id: DeviceId,
    /// Its model.
    pub model: ModelName,
    /// Its hardware revision.
    pub hardware: String,
    /// Its serial number.
    pub serial: String,
    /// When it was made, seconds since 1970.
    pub made: u64,
    /// The code for its label.
    pub code: ClaimCode,
    /// Its secret file, which goes into the device.
    pub secret: PathBuf,
    /// Its voucher file, which goes with it.
    pub voucher: PathBuf,
    pub(super) key: DeviceKey,
}

/// One line of `index.jsonl`.
#[derive(Serialize, Deserialize)]
pub(super) struct IndexLine {
    pub(super) id: DeviceId,
    pub(super) model: ModelName,
    pub(super) hardware: String,
    pub(super) serial: String,
    pub(super) made: u64,
}

/// The secret file of one device (identity.md §9).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretFile {
    pub(super) v: u32,
    pub(super) device_id: DeviceId,
    pub(super) brand: BrandId,
    pub(super) model: ModelName,
    pub(super) hardware: String,
    pub(super) serial: String,
    #[serde(with = "key_text")]
    pub(super) device_key: DeviceKey,
}

mod key_text {
    use super::{BASE64URL_NOPAD, Deserialize, DeviceKey, Zeroize, Zeroizing};

    pub(super) fn serialize<S: serde::Serializer>(key: &DeviceKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(BASE64URL_NOPAD.encode(key.as_bytes())))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<DeviceKey, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map(Zeroizing::new);
        text.zeroize();
        let key = bytes.ok().and_then(|bytes| bytes.as_slice().try_into().ok());
        key.map(DeviceKey::from_bytes).ok_or_else(|| serde::de::Error::custom("device_key is not 32 bytes of base64url"))
    }
}

impl Run {
    /// How many groups the order comes to.
    pub(super) const fn groups(&self) -> u64 {
        self.count.div_ceil(GROUP)
    }

    pub(super) fn group_dir(&self, group: u64) -> PathBuf {
        self.dir.join(format!("{group:05}"))
    }

    /// How many devices group number `group` has.
    pub(super) fn group_size(&self, group: u64) -> u64 {
        self.count.saturating_sub(group * GROUP).min(GROUP)
    }

    /// The groups that are complete, in order.
    pub(super) fn complete(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.groups()).filter(|&group| self.group_dir(group).is_dir())
    }

    /// Whether every ordered device is complete.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.minted == self.count
    }

    /// Its complete devices, read one by one.
    pub fn devices(&self) -> impl Iterator<Item = Result<Minted, FactoryError>> + '_ {
        self.complete().flat_map(|group| match Group::open(&self.group_dir(group)) {
            Ok(devices) => Either::Devices(devices),
            Err(error) => Either::Error(Some(error)),
        })
    }
}

impl Workshop {
    /// All runs of a brand, in order of their names.
    ///
    /// # Errors
    /// [`FactoryError::NoBrand`], or what is wrong with a file.
    pub fn runs(&self, brand: &BrandId) -> Result<Vec<Run>, FactoryError> {
        let brand = self.brand(brand)?;
        let dir = brand.dir.join("runs");
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut runs = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(files::at(&dir))? {
            let name = entry.map_err(files::at(&dir))?.file_name();
            if dir.join(&name).join("run.json").exists() {
                runs.push(read_run(&dir.join(name))?);
            }
        }
        runs.sort_by(|a, b| a.run.cmp(&b.run));
        Ok(runs)
    }

    /// The chosen runs. Of a run that was interrupted, the complete devices count.
    ///
    /// # Errors
    /// [`FactoryError::NoRun`] when there is none with devices.
    pub fn choose(&self, brand: &BrandId, choice: &RunChoice) -> Result<Vec<Run>, FactoryError> {
        let mut runs = self.runs(brand)?;
        runs.retain(|run| run.minted > 0);
        let none = |name: &str| FactoryError::NoRun(brand.clone(), name.to_owned());
        match choice {
            RunChoice::All => {}
            RunChoice::Latest => runs = runs.pop().into_iter().collect(),
            RunChoice::One(name) => {
                runs.retain(|run| run.run == *name);
                if runs.is_empty() {
                    return Err(none(&format!(" {name}")));
                }
            }
        }
        if runs.is_empty() { Err(none("")) } else { Ok(runs) }
    }

    pub(super) fn one_run(brand: &Brand, name: &str) -> Result<Run, FactoryError> {
        // The name becomes part of a path: only such as we make are looked up.
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let dir = brand.dir.join("runs").join(name);
        if plain && dir.join("run.json").exists() { read_run(&dir) } else { Err(FactoryError::NoRun(brand.id.clone(), format!(" {name}"))) }
    }
}

fn read_run(dir: &Path) -> Result<Run, FactoryError> {
    let mut run: Run = files::read_json(&dir.join("run.json"))?;
    run.dir = dir.to_path_buf();
    run.minted = run.complete().map(|group| run.group_size(group)).sum();
    Ok(run)
}

/// The devices of one group, read along its index.
pub(super) struct Group {
    dir: PathBuf,
    lines: Lines<BufReader<File>>,
}

impl Group {
    pub(super) fn open(dir: &Path) -> Result<Self, FactoryError> {
        let path = dir.join("index.jsonl");
        let file = File::open(&path).map_err(files::at(&path))?;
        Ok(Self { dir: dir.to_path_buf(), lines: BufReader::new(file).lines() })
    }

    fn device(&self, line: &str) -> Result<Minted, FactoryError> {
        let line: IndexLine = serde_json::from_str(line).map_err(|e| files::content(&self.dir.join("index.jsonl"), e.to_string()))?;
        let secret = secret_path(&self.dir, &line.id);
        let file: SecretFile = files::read_json(&secret)?;
        if file.device_id != line.id || file.model != line.model {
            return Err(files::content(&secret, "is of another device than its name says"));
        }
        let voucher = voucher_path(&self.dir, &line.id);
        let IndexLine { id, model, hardware, serial, made } = line;
        let code = ClaimCode::from_device_key(&file.device_key);
        Ok(Minted { device_id: id, model, hardware, serial, made, code, secret, voucher, key: file.device_key })
    }
}

impl Iterator for Group {
    type Item = Result<Minted, FactoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?.map_err(files::at(&self.dir.join("index.jsonl")));
        Some(line.and_then(|line| self.device(&line)))
    }
}

enum Either {
    Devices(Group),
    Error(Option<FactoryError>),
}

impl Iterator for Either {
    type Item = Result<Minted, FactoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Devices(devices) => devices.next(),
            Self::Error(error) => error.take().map(Err),
        }
    }
}

pub(super) fn secret_path(group: &Path, device: &DeviceId) -> PathBuf {
    group.join("secrets").join(format!("{device}.json"))
}

pub(super) fn voucher_path(group: &Path, device: &DeviceId) -> PathBuf {
    group.join("vouchers").join(format!("{device}.voucher"))
}
