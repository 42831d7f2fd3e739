//! A brand's keys: the offline root, and below it one certified key for each purpose.

use std::path::PathBuf;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::files::{self, Mode};
use super::{FactoryError, Workshop, now, random};
use crate::domain::brand::{Fingerprint, KeyPurpose, PurposeCertificate};
use crate::domain::ids::BrandId;

/// The public side of a brand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brand {
    /// Its name.
    pub id: BrandId,
    /// The root's Ed25519 public key.
    pub root: [u8; 32],
    /// What an owner of a hub compares.
    pub fingerprint: Fingerprint,
    /// Where its files are.
    pub dir: PathBuf,
}

/// A purpose key and the certificate that the root gave it.
pub(super) struct PurposeKey {
    pub(super) signing: SigningKey,
    pub(super) certificate: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct BrandFile {
    v: u32,
    brand: BrandId,
    root_public_key: String,
    fingerprint: String,
    created: u64,
}

/// `root.json` and one file for each purpose. The certificate is absent in the root's.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    v: u32,
    brand: BrandId,
    purpose: String,
    secret_key: Zeroed,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
}

/// A text that is wiped when dropped.
struct Zeroed(Zeroizing<String>);

impl Serialize for Zeroed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Zeroed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Workshop {
    /// Makes a brand: its root, and a certified key for each purpose. Key files are readable by their owner alone.
    ///
    /// # Errors
    /// [`FactoryError::Exists`] when the brand is there: its keys are never overwritten.
    pub fn new_brand(&self, brand: &BrandId) -> Result<Brand, FactoryError> {
        let dir = self.brand_dir(brand);
        if dir.exists() {
            return Err(FactoryError::Exists(dir));
        }
        // Everything is made in a directory beside, so that a brand has all of its keys or does not exist.
        let part = self.dir.join(format!(".{brand}.{}.part", data_encoding::HEXLOWER.encode(&random::<4>()?)));
        files::private_dir(&part)?;
        let made = write_keys(&part, brand).and_then(|made| {
            std::fs::rename(&part, &dir).map_err(|e| if dir.exists() { FactoryError::Exists(dir.clone()) } else { files::at(&dir)(e) })?;
            Ok(made)
        });
        if made.is_err() {
            let _ = std::fs::remove_dir_all(&part);
        }
        let (root, fingerprint) = made?;
        Ok(Brand { id: brand.clone(), root, fingerprint, dir })
    }

    /// The public side of a brand.
    ///
    /// # Errors
    /// [`FactoryError::NoBrand`], or what is wrong with its file.
    pub fn brand(&self, brand: &BrandId) -> Result<Brand, FactoryError> {
        let dir = self.brand_dir(brand);
        let path = dir.join("brand.json");
        if !path.exists() {
            return Err(FactoryError::NoBrand(brand.clone()));
        }
        let file: BrandFile = files::read_json(&path)?;
        let root =
            decode32(&file.root_public_key).ok_or_else(|| files::content(&path, "the root public key is not 32 bytes of base64url"))?;
        Ok(Brand { id: file.brand, root, fingerprint: Fingerprint::of(&root), dir })
    }

    pub(super) fn purpose_key(&self, brand: &Brand, purpose: KeyPurpose) -> Result<PurposeKey, FactoryError> {
        let path = brand.dir.join(format!("{purpose}.json"));
        let file: KeyFile = files::read_json(&path)?;
        let wrong = |reason: &str| files::content(&path, reason);
        let secret = Zeroizing::new(decode32(&file.secret_key.0).ok_or_else(|| wrong("the secret key is not 32 bytes of base64url"))?);
        let signing = SigningKey::from_bytes(&secret);
        let certificate = file.certificate.as_deref().unwrap_or_default();
        let certificate = BASE64URL_NOPAD.decode(certificate.as_bytes()).map_err(|_| wrong("the certificate is not base64url"))?;
        let certified = PurposeCertificate::verify(&brand.root, purpose, &certificate)?;
        if certified.public_key != signing.verifying_key().to_bytes() || certified.brand != brand.id {
            return Err(wrong("the certificate is for another key or brand"));
        }
        Ok(PurposeKey { signing, certificate })
    }
}

fn write_keys(dir: &std::path::Path, brand: &BrandId) -> Result<([u8; 32], Fingerprint), FactoryError> {
    let created = now();
    let root = new_key()?;
    let public = root.verifying_key().to_bytes();
    let fingerprint = Fingerprint::of(&public);
    files::create(&dir.join("root.json"), Mode::Private, &key_file(brand, "root", &root, None))?;
    for (serial, purpose) in (1..).zip(KeyPurpose::ALL) {
        let key = new_key()?;
        let certificate =
            PurposeCertificate { brand: brand.clone(), purpose, public_key: key.verifying_key().to_bytes(), issued: created, serial }
                .sign(&root);
        files::create(&dir.join(format!("{purpose}.json")), Mode::Private, &key_file(brand, purpose.word(), &key, Some(&certificate)))?;
    }
    let file = BrandFile {
        v: 1,
        brand: brand.clone(),
        root_public_key: BASE64URL_NOPAD.encode(&public),
        fingerprint: fingerprint.to_string(),
        created,
    };
    files::create(&dir.join("brand.json"), Mode::Public, &files::json(&file))?;
    Ok((public, fingerprint))
}

fn new_key() -> Result<SigningKey, FactoryError> {
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(random()?);
    Ok(SigningKey::from_bytes(&secret))
}

fn key_file(brand: &BrandId, purpose: &str, key: &SigningKey, certificate: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
    files::json(&KeyFile {
        v: 1,
        brand: brand.clone(),
        purpose: purpose.to_owned(),
        secret_key: Zeroed(Zeroizing::new(BASE64URL_NOPAD.encode(key.as_bytes()))),
        certificate: certificate.map(|bytes| BASE64URL_NOPAD.encode(bytes)),
    })
}

fn decode32(text: &str) -> Option<[u8; 32]> {
    let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?);
    bytes.as_slice().try_into().ok()
}
