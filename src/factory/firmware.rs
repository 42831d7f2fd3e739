//! Releases of firmware: an image signed with the brand's key for firmware, in a file that hubs take. What was signed is kept in a ledger
//! beside the brand, so that no number is ever given twice.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::brand::Brand;
use super::files::{self, Mode};
use super::{FactoryError, Workshop, now};
use crate::domain::brand::{Fingerprint, KeyPurpose};
use crate::domain::firmware::release::{Head, HeadRead, IMAGE_MAX, ImageCheck, ImageHash, Release, ReleaseError, read_head, write_head};
use crate::domain::ids::{BrandId, ModelName};

/// What a maker orders of a release; the rest of it is the image's and the day's. Bounds are [`Release::check`]'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareOrder {
    /// Of which devices.
    pub model: ModelName,
    /// The hardware revisions that it runs on; the empty one is that of devices without a revision.
    pub hardware: Vec<String>,
    /// The number of the release, above all that were signed for the model.
    pub rel: u64,
    /// The version for people.
    pub version: String,
    /// What is new.
    pub notes: String,
    /// The oldest release that can go to this one in one step; 0 when any can.
    pub least_before: u64,
    /// The oldest release that is still safe to use; 0 when all are.
    pub security_minimum: u64,
}

/// One line of the ledger of a model.
#[derive(Serialize, Deserialize)]
struct Line {
    v: u32,
    release: Release,
}

impl Workshop {
    /// Signs an image and writes the release file to `out`. The same order of the same image again writes the same file again.
    ///
    /// # Errors
    /// [`FactoryError::Rel`] when the number is not above all that were signed; [`FactoryError::Release`] for what lies outside its bounds.
    pub fn firmware(&self, brand: &BrandId, order: &FirmwareOrder, image: &Path, out: &Path) -> Result<Release, FactoryError> {
        let brand = self.brand(brand)?;
        self.model(&brand, &order.model)?;
        let size = std::fs::metadata(image).map_err(files::at(image))?.len();
        if size > IMAGE_MAX {
            return Err(files::content(image, "an image has at most 64 MiB"));
        }
        let image = files::read(image)?;
        let mut release = Release {
            brand: brand.id.clone(),
            model: order.model.clone(),
            hardware: order.hardware.clone(),
            rel: order.rel,
            version: order.version.clone(),
            sha256: ImageHash::of(&image),
            size: u64::try_from(image.len()).unwrap_or(u64::MAX),
            notes: order.notes.clone(),
            least_before: order.least_before,
            security_minimum: order.security_minimum,
            made_at: now(),
        };
        release.check()?;
        match signed_last(&brand, &order.model)? {
            Some(last) if (Release { made_at: last.made_at, ..release.clone() }) == last => release = last,
            Some(last) if last.rel >= release.rel => return Err(FactoryError::Rel { last: last.rel, asked: release.rel }),
            // The number is used up before anybody can have seen the release.
            _ => record(&brand, &release)?,
        }
        let key = self.purpose_key(&brand, KeyPurpose::Firmware)?;
        let head = Head { root: brand.root, certificate: key.certificate, release: release.sign(&key.signing) };
        let file = [write_head(&head)?.as_slice(), &image].concat();
        files::replace(out, Mode::Public, &file)?;
        Ok(release)
    }

    /// All releases that were signed for a model, the oldest first.
    ///
    /// # Errors
    /// [`FactoryError::NoBrand`], or what is wrong with the ledger.
    pub fn releases(&self, brand: &BrandId, model: &ModelName) -> Result<Vec<Release>, FactoryError> {
        signed(&self.brand(brand)?, model)
    }
}

fn ledger(brand: &Brand, model: &ModelName) -> std::path::PathBuf {
    brand.dir.join("firmware").join(format!("{model}.jsonl"))
}

fn signed(brand: &Brand, model: &ModelName) -> Result<Vec<Release>, FactoryError> {
    let path = ledger(brand, model);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = files::read(&path)?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).map(|line: Line| line.release).map_err(|e| files::content(&path, e.to_string())))
        .collect()
}

fn signed_last(brand: &Brand, model: &ModelName) -> Result<Option<Release>, FactoryError> {
    Ok(signed(brand, model)?.into_iter().max_by_key(|release| release.rel))
}

fn record(brand: &Brand, release: &Release) -> Result<(), FactoryError> {
    let path = ledger(brand, &release.model);
    files::private_dir(&brand.dir.join("firmware"))?;
    let mut text = if path.exists() { files::read(&path)?.to_vec() } else { Vec::new() };
    text.extend_from_slice(&files::json(&Line { v: 1, release: release.clone() }));
    files::replace(&path, Mode::Public, &text)
}

/// What a release file says, if everything in it holds.
pub(super) fn read_release(file: &[u8]) -> Result<(Release, Fingerprint), ReleaseError> {
    let HeadRead::Done { head, length } = read_head(file)? else { return Err(ReleaseError::CutShort) };
    let release = head.verify(|_, _| true)?;
    let mut image = ImageCheck::new(&release);
    image.take(file.get(length..).unwrap_or_default())?;
    image.finish()?;
    Ok((release, Fingerprint::of(&head.root)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{SAMPLES, describe};
    use super::*;

    struct Shop {
        dir: tempfile::TempDir,
        shop: Workshop,
        brand: BrandId,
    }

    fn shop() -> Shop {
        let dir = tempfile::tempdir().unwrap();
        let shop = Workshop::open(dir.path().join("shop")).unwrap();
        let brand = BrandId::parse("acme").unwrap();
        shop.new_brand(&brand).unwrap();
        for sample in SAMPLES {
            shop.add_model(&brand, sample.json).unwrap();
        }
        fs::write(dir.path().join("image"), b"an image").unwrap();
        Shop { dir, shop, brand }
    }

    fn order(rel: u64) -> FirmwareOrder {
        FirmwareOrder {
            model: ModelName::parse("garage-door").unwrap(),
            hardware: vec!["A".into()],
            rel,
            version: "1.5.0".into(),
            notes: "Softer.".into(),
            least_before: 0,
            security_minimum: 0,
        }
    }

    impl Shop {
        fn sign(&self, order: &FirmwareOrder) -> Result<Vec<u8>, FactoryError> {
            let out = self.dir.path().join("out.hkfw");
            self.shop.firmware(&self.brand, order, &self.dir.path().join("image"), &out)?;
            Ok(fs::read(out).unwrap())
        }
    }

    #[test]
    fn a_release_file_holds_the_image_and_the_makers_word_for_it() {
        let shop = shop();
        let file = shop.sign(&order(2)).unwrap();
        let (release, fingerprint) = read_release(&file).unwrap();
        assert_eq!((release.rel, release.version.as_str(), release.sha256), (2, "1.5.0", ImageHash::of(b"an image")));
        assert_eq!(fingerprint, shop.shop.brand(&shop.brand).unwrap().fingerprint);
        assert!(file.ends_with(b"an image"));
    }

    #[test]
    fn no_number_is_given_twice_and_none_below_the_last() {
        let shop = shop();
        let first = shop.sign(&order(3)).unwrap();
        for rel in [1, 2] {
            assert!(matches!(shop.sign(&order(rel)), Err(FactoryError::Rel { last: 3, asked }) if asked == rel));
        }
        let other = FirmwareOrder { notes: "Louder.".into(), ..order(3) };
        assert!(matches!(shop.sign(&other), Err(FactoryError::Rel { last: 3, asked: 3 })));
        assert_eq!(shop.sign(&order(3)).unwrap(), first, "the same again is the same file");
        shop.sign(&order(4)).unwrap();
        assert!(matches!(shop.sign(&order(3)), Err(FactoryError::Rel { last: 4, .. })));
        let lamp = FirmwareOrder { model: ModelName::parse("lamp").unwrap(), ..order(1) };
        shop.sign(&lamp).unwrap();
        let releases = shop.shop.releases(&shop.brand, &order(1).model).unwrap();
        assert_eq!(releases.iter().map(|release| release.rel).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn an_order_outside_the_bounds_uses_no_number_up() {
        let shop = shop();
        let unknown = FirmwareOrder { model: ModelName::parse("toaster").unwrap(), ..order(1) };
        assert!(matches!(shop.sign(&unknown), Err(FactoryError::NoModel(..))));
        let wrong = FirmwareOrder { version: "new".into(), ..order(1) };
        assert!(matches!(shop.sign(&wrong), Err(FactoryError::Release(ReleaseError::Bound { field: "version", .. }))));
        assert!(shop.shop.releases(&shop.brand, &order(1).model).unwrap().is_empty());
    }

    #[test]
    fn a_release_file_is_described_and_a_changed_one_refused() {
        let shop = shop();
        let mut file = shop.sign(&order(2)).unwrap();
        let path = shop.dir.path().join("x.hkfw");
        fs::write(&path, &file).unwrap();
        let text = describe(&path).unwrap();
        for expected in ["a firmware release", "garage-door", "1.5.0", "hardware    A"] {
            assert!(text.contains(expected), "{text}");
        }
        *file.last_mut().unwrap() ^= 1;
        fs::write(&path, &file).unwrap();
        assert!(matches!(describe(&path), Err(FactoryError::Release(ReleaseError::Hash))));
    }
}
