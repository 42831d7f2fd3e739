//! The vendor's side of updates: the key by which releases of the hub are signed, and a release, ready to be put on a web server: the archive,
//! what is signed of it, and the manifest that names both.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ed25519_dalek::SigningKey;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::files::{self, Mode, at, content};
use super::{FactoryError, now, random};
pub use crate::domain::release::Version;
use crate::domain::release::{ARCHIVE_MAX, HubRelease};

/// What marks the file of the key.
const FORMAT: &str = "hearthkey hub release key 1";
/// The manifest's form (`self_update`'s).
const SCHEMA: u64 = 1;
/// A block of a tar file.
const BLOCK: usize = 512;

/// The file of the key.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct KeyFile {
    format: String,
    public: String,
    seed: String,
}

/// What a release is to be.
#[derive(Clone, Debug)]
pub struct HubReleaseOrder {
    /// The program that was built.
    pub program: PathBuf,
    /// Its version.
    pub version: Version,
    /// Its place in the order of versions; what follows from the version without it.
    pub rel: Option<u64>,
    /// For which machines, as a target triple.
    pub platform: String,
    /// The oldest and the newest layout of the database that it reads.
    pub layouts: (u32, u32),
    /// To how many hubs of a hundred it is given by itself.
    pub percent: u8,
    /// What is new.
    pub notes: String,
}

/// Makes the key by which releases are signed, in a new file closed to others; its public half, as hubs are told it (`update.key`).
///
/// # Errors
/// [`FactoryError::Exists`], [`FactoryError::File`].
pub fn new_hub_key(path: &Path) -> Result<String, FactoryError> {
    let key = SigningKey::from_bytes(&random()?);
    let public = HEXLOWER.encode(key.verifying_key().as_bytes());
    let file = KeyFile { format: FORMAT.into(), public: public.clone(), seed: HEXLOWER.encode(key.as_bytes()) };
    files::create(path, Mode::Private, &files::json(&file))?;
    Ok(public)
}

/// Makes a release in `out`, and puts it into the manifest there; the archive's path.
///
/// # Errors
/// [`FactoryError`].
pub fn make_hub_release(order: &HubReleaseOrder, key: &Path, out: &Path) -> Result<PathBuf, FactoryError> {
    let vendor = read_key(key)?;
    let program = fs::read(&order.program).map_err(at(&order.program))?;
    let archive = archive(&program).map_err(at(&order.program))?;
    if archive.len() as u64 > ARCHIVE_MAX {
        return Err(FactoryError::Order("the program is too large"));
    }
    if order.percent > 100 || order.layouts.0 > order.layouts.1 {
        return Err(FactoryError::Order("a share is 0 to 100, and layouts are the oldest and the newest"));
    }
    let release = HubRelease {
        version: order.version.clone(),
        rel: order.rel.unwrap_or_else(|| order.version.rel()),
        platform: order.platform.clone(),
        layouts: order.layouts,
        sha256: Sha256::digest(&archive).into(),
        size: archive.len() as u64,
        program: Sha256::digest(&program).into(),
        percent: order.percent,
        notes: order.notes.clone(),
        made_at: now(),
    };
    let statement = release.sign(&vendor);
    // What a hub would refuse is not published.
    HubRelease::verify(&vendor.verifying_key().to_bytes(), &statement)?;
    fs::create_dir_all(out).map_err(at(out))?;
    let name = HubRelease::archive_name(order.version.as_str(), &order.platform);
    let path = out.join(&name);
    files::replace(&path, Mode::Public, &archive)?;
    files::replace(&out.join(format!("{name}.release")), Mode::Public, &statement)?;
    publish(out, &release, &name)?;
    Ok(path)
}

/// Puts the release into `manifest.json`, beside those of other versions and platforms.
fn publish(out: &Path, release: &HubRelease, name: &str) -> Result<(), FactoryError> {
    let path = out.join("manifest.json");
    let mut manifest = if path.exists() { files::read_json::<Value>(&path)? } else { json!({"schema": SCHEMA, "releases": []}) };
    let releases = manifest.get_mut("releases").and_then(Value::as_array_mut).ok_or_else(|| content(&path, "it is no manifest"))?;
    let is_it = |value: &Value| value.get("version").and_then(Value::as_str) == Some(release.version.as_str());
    if !releases.iter().any(is_it) {
        releases.push(json!({"version": release.version.as_str(), "assets": []}));
    }
    let entry = releases.iter_mut().find(|value| is_it(value));
    let assets =
        entry.and_then(|entry| entry.get_mut("assets")).and_then(Value::as_array_mut).ok_or_else(|| content(&path, "it is no manifest"))?;
    let signed = format!("{name}.release");
    assets.retain(|asset| asset.get("name").and_then(Value::as_str).is_none_or(|found| found != name && found != signed));
    assets.push(json!({"name": name, "url": name, "digest": format!("sha256:{}", HEXLOWER.encode(&release.sha256))}));
    assets.push(json!({"name": signed, "url": signed}));
    files::replace(&path, Mode::Public, &files::json(&manifest))
}

fn read_key(path: &Path) -> Result<SigningKey, FactoryError> {
    let file: KeyFile = files::read_json(path)?;
    let seed = HEXLOWER.decode(file.seed.as_bytes()).ok().and_then(|seed| <[u8; 32]>::try_from(seed).ok());
    let key = seed.filter(|_| file.format == FORMAT).map(|seed| SigningKey::from_bytes(&seed));
    key.ok_or_else(|| content(path, "this is no key for releases of the hub"))
}

/// A tar file with the program alone, compressed; the same program gives the same bytes.
fn archive(program: &[u8]) -> io::Result<Vec<u8>> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(&header(program.len()))?;
    gz.write_all(program)?;
    gz.write_all(&vec![0; program.len().next_multiple_of(BLOCK) - program.len()])?;
    // Two empty blocks end it.
    gz.write_all(&[0; 2 * BLOCK])?;
    gz.finish()
}

/// The header of the one member (POSIX.1-2001 `ustar`).
fn header(size: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |from: usize, text: &[u8]| block.iter_mut().skip(from).zip(text).for_each(|(to, byte)| *to = *byte);
    put(0, b"hearthkey");
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let text = format!("{sum:06o}\0 ");
    block.iter_mut().skip(148).zip(text.as_bytes()).for_each(|(to, byte)| *to = *byte);
    block
}
