//! The workshop as a maker uses it, on a real directory.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::domain::batch::{CHUNK_MAX, HEADER_MAX, HubRequest, VerifiedManifest, frame_length};
use crate::domain::brand::Fingerprint;
use crate::domain::claim::ScannedCode;
use crate::domain::ids::HubId;
use crate::domain::keys::hub_scoped;
use crate::domain::voucher::verify_voucher_file;
use ed25519_dalek::SigningKey;

struct Shop {
    _dir: tempfile::TempDir,
    shop: Workshop,
    brand: Brand,
}

fn shop() -> Shop {
    let dir = tempfile::tempdir().unwrap();
    let shop = Workshop::open(dir.path().join("shop")).unwrap();
    let brand = shop.new_brand(&BrandId::parse("acme").unwrap()).unwrap();
    for sample in SAMPLES {
        shop.add_model(&brand.id, sample.json).unwrap();
    }
    Shop { _dir: dir, shop, brand }
}

fn lamp() -> ModelName {
    ModelName::parse("lamp").unwrap()
}

/// Asks to stop after so many devices.
struct StopAfter(AtomicU64, u64);

impl Progress for StopAfter {
    fn advance(&self, devices: u64) {
        self.0.fetch_add(devices, Ordering::Relaxed);
    }
    fn stop(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= self.1
    }
}

#[test]
fn a_brands_keys_are_private_and_never_overwritten() {
    let Shop { shop, brand, _dir } = shop();
    for file in ["root.json", "voucher.json", "batch.json", "firmware.json"] {
        assert_eq!(fs::metadata(brand.dir.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    let before = fs::read(brand.dir.join("root.json")).unwrap();
    assert!(matches!(shop.new_brand(&brand.id), Err(FactoryError::Exists(_))));
    assert_eq!(fs::read(brand.dir.join("root.json")).unwrap(), before);
    assert_eq!(shop.brand(&brand.id).unwrap(), brand);
}

#[test]
fn a_workshop_works_without_the_root() {
    let Shop { shop, brand, _dir } = shop();
    fs::remove_file(brand.dir.join("root.json")).unwrap();
    shop.mint(&brand.id, &lamp(), 1, &MintOptions::default(), &()).unwrap();
}

#[test]
fn a_wrong_model_is_refused_with_its_path_and_an_old_version_does_not_replace() {
    let Shop { shop, brand, _dir } = shop();
    let json = SAMPLES[2].json;
    let wrong = json.replace("\"max\": 6500", "\"max\": 1");
    assert_eq!(
        shop.add_model(&brand.id, &wrong).unwrap_err().to_string(),
        "the model is not valid: attributes.color_temperature.max: is below min"
    );
    let changed = json.replace("White lamp", "Lamp");
    assert!(matches!(shop.add_model(&brand.id, &changed), Err(FactoryError::ModelVersion { held: 1 })));
    assert!(shop.add_model(&brand.id, json).is_ok());
    assert!(shop.add_model(&brand.id, &changed.replace("\"version\": 1", "\"version\": 2")).is_ok());
}

#[test]
fn a_minted_device_has_a_secret_and_a_voucher_that_agree() {
    let Shop { shop, brand, _dir } = shop();
    let options = MintOptions { hardware: Some("rev B".into()), prefix: Some("L".into()) };
    let run = shop.mint(&brand.id, &lamp(), 3, &options, &()).unwrap();
    let devices: Vec<Minted> = run.devices().map(Result::unwrap).collect();
    assert_eq!(devices.len(), 3);
    for device in &devices {
        assert!(device.device_id.as_str().starts_with('L'));
        assert_eq!(fs::metadata(&device.secret).unwrap().permissions().mode() & 0o777, 0o600);
        let introduction = verify_voucher_file(&fs::read(&device.voucher).unwrap(), |_, f| *f == brand.fingerprint).unwrap();
        assert_eq!(introduction.voucher.device_id, device.device_id);
        assert_eq!(introduction.voucher.hardware, "rev B");
        let scanned = ScannedCode::parse(&device.code.qr_text(&device.device_id)).unwrap();
        assert!(introduction.voucher.claim_hash.matches(&device.device_id, &scanned.code));
    }
}

#[test]
fn an_interrupted_run_leaves_whole_groups_and_goes_on() {
    let Shop { shop, brand, _dir } = shop();
    let stop = StopAfter(AtomicU64::new(0), 1500);
    let Err(FactoryError::Interrupted { run, minted, count: 3500 }) = shop.mint(&brand.id, &lamp(), 3500, &MintOptions::default(), &stop)
    else {
        panic!("it was not interrupted");
    };
    assert!(minted % 1000 == 0 && minted < 3500, "{minted}");
    let dir = brand.dir.join("runs").join(&run);
    let leftovers = fs::read_dir(&dir).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "part")).count();
    assert_eq!(leftovers, 0);

    let progress = StopAfter(AtomicU64::new(0), u64::MAX);
    let done = shop.resume(&brand.id, &run, &progress).unwrap();
    assert!(done.is_complete());
    assert_eq!(progress.0.load(Ordering::Relaxed), 3500);
    let mut ids: Vec<_> = done.devices().map(|device| device.unwrap().device_id).collect();
    let mut serials: Vec<_> = done.devices().map(|device| device.unwrap().serial).collect();
    for list in [ids.len(), serials.len()] {
        assert_eq!(list, 3500);
    }
    ids.sort();
    ids.dedup();
    serials.sort();
    serials.dedup();
    assert_eq!((ids.len(), serials.len()), (3500, 3500));
}

#[test]
fn a_batch_opens_at_its_hub_and_brings_every_device() {
    let Shop { shop, brand, _dir } = shop();
    let one = shop.mint(&brand.id, &lamp(), 1200, &MintOptions::default(), &()).unwrap();
    let two = shop.mint(&brand.id, &ModelName::parse("thermostat").unwrap(), 2, &MintOptions::default(), &()).unwrap();
    let identity = age::x25519::Identity::generate();
    let hub_key = SigningKey::from_bytes(&[9; 32]);
    let hub = HubId::from_public_key(&hub_key.verifying_key().to_bytes());
    let line = HubRequest::line(&hub_key, &identity.to_public().to_string(), 1);
    let out = _dir.path().join("out.hkb");
    let report = shop.batch(&brand.id, &RunChoice::All, &line, &out, &()).unwrap();
    assert_eq!((report.devices, report.models.len(), report.hub), (1202, 2, hub));
    assert_eq!(report.size, fs::metadata(&out).unwrap().len());

    let mut plain = Vec::new();
    let decryptor = age::Decryptor::new(fs::File::open(&out).unwrap()).unwrap();
    decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).unwrap().read_to_end(&mut plain).unwrap();
    let mut rest = plain.as_slice();
    let mut part = |max| {
        let (prefix, after) = rest.split_first_chunk::<4>()?;
        let (part, after) = after.split_at(frame_length(*prefix, max).unwrap());
        rest = after;
        Some(part.to_vec())
    };
    let trusts = |_: &BrandId, f: &Fingerprint| *f == brand.fingerprint;
    let manifest = VerifiedManifest::verify(&part(HEADER_MAX).unwrap(), &hub, trusts).unwrap();
    let mut entries = Vec::new();
    let mut chunks = 0;
    while let Some(chunk) = part(CHUNK_MAX) {
        entries.extend(manifest.verify_chunk(chunks, &chunk).unwrap());
        chunks += 1;
    }
    manifest.check_count(chunks, entries.len() as u64).unwrap();
    assert_eq!((chunks, manifest.models.len()), (3, 2));
    for (entry, device) in entries.iter().zip(one.devices().chain(two.devices()).map(Result::unwrap)) {
        assert_eq!(entry.device_id, device.device_id);
        assert_eq!(entry.hub_key, hub_scoped(&device.key, &hub));
        assert!(entry.claim_hash.matches(&device.device_id, &device.code));
    }
    assert!(matches!(shop.batch(&brand.id, &RunChoice::One("20200101-001".into()), &line, &out, &()), Err(FactoryError::NoRun(..))));
    assert!(matches!(shop.batch(&brand.id, &RunChoice::All, "HKREQ1.AAAA", &out, &()), Err(FactoryError::Statement(_))));
}

#[test]
fn labels_go_on_as_many_pages_as_they_need() {
    let Shop { shop, brand, _dir } = shop();
    let run = shop.mint(&brand.id, &lamp(), 30, &MintOptions::default(), &()).unwrap();
    let out = _dir.path().join("labels.svg");
    let report = shop.labels(&brand.id, &RunChoice::Latest, &out).unwrap();
    assert_eq!((report.labels, report.pages.len()), (30, 2));
    assert_eq!(report.pages[1], _dir.path().join("labels-2.svg"));
    let first = fs::read_to_string(&out).unwrap();
    let device = run.devices().next().unwrap().unwrap();
    assert!(first.contains(device.device_id.as_str()) && first.contains("White lamp"));
    assert!(first.contains(&device.code.to_string()[..11]));
    assert_eq!(first.matches("<path").count(), 24);
}

#[test]
fn a_terminal_qr_code_is_square_and_framed() {
    let drawn = labels::terminal_qr("HK1:door-1:000000000000000000000", false).unwrap();
    let lines: Vec<&str> = drawn.lines().collect();
    let width = lines[0].chars().count();
    assert!(lines.iter().all(|line| line.chars().count() == width));
    assert_eq!(lines.len(), width.div_ceil(2));
    assert!(lines[0].chars().all(|c| c == '█'), "the quiet zone is not light");
    assert!(labels::terminal_qr(&"x".repeat(5000), false).is_err());
}

#[test]
fn showing_a_file_shows_no_secret() {
    let Shop { shop, brand, _dir } = shop();
    let run = shop.mint(&brand.id, &lamp(), 1, &MintOptions::default(), &()).unwrap();
    let device = run.devices().next().unwrap().unwrap();
    let key = data_encoding::BASE64URL_NOPAD.encode(device.key.as_bytes());
    let secret = describe(&device.secret).unwrap();
    assert!(secret.contains(device.device_id.as_str()) && !secret.contains(&key), "{secret}");
    let voucher = describe(&device.voucher).unwrap();
    assert!(voucher.contains(&brand.fingerprint.to_string()), "{voucher}");
    let root: serde_json::Value = serde_json::from_slice(&fs::read(brand.dir.join("root.json")).unwrap()).unwrap();
    assert!(!describe(&brand.dir.join("root.json")).unwrap().contains(root["secret_key"].as_str().unwrap()));
    assert!(describe(&brand.dir.join("brand.json")).unwrap().contains(&brand.fingerprint.to_string()));
    assert!(describe(&run.dir.join("run.json")).is_err());
}
