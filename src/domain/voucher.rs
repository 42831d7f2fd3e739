//! The voucher: a brand's word for one device, with all that a hub without internet needs to check it. Whether the brand is trusted here is
//! asked of the caller; whether the device is already known is left to the service.

use ciborium::Value;
use ed25519_dalek::SigningKey;

use super::brand::{Fingerprint, KeyPurpose, Purpose, PurposeCertificate, StatementError, sign_statement, verify_statement};
use super::cbor::{self, Record, Row};
use super::claim::ClaimHash;
use super::ids::{BrandId, DeviceId, ModelName};
use super::model::{Model, verify_model};

/// The largest voucher file, in bytes: its model statement is the greater part.
pub const VOUCHER_FILE_MAX: usize = 128 * 1024;

/// The longest hardware revision or serial number, in characters.
pub const LABEL_MAX: usize = 64;

/// The largest short voucher, in bytes.
pub const SHORT_VOUCHER_MAX: usize = 1_500;

/// The largest model part, in bytes.
pub const MODEL_PART_MAX: usize = 68 * 1024;

const MARKER: &str = "hkv1";
const SHORT_MARKER: &str = "hkp1";

/// One device's identity, as its brand states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voucher {
    /// The device.
    pub device_id: DeviceId,
    /// Its maker.
    pub brand: BrandId,
    /// Its type.
    pub model: ModelName,
    /// The hardware revision, up to [`LABEL_MAX`] characters; may be empty.
    pub hardware: String,
    /// The serial number, up to [`LABEL_MAX`] characters; may be empty.
    pub serial: String,
    /// By which the label's code is recognised.
    pub claim_hash: ClaimHash,
    /// When it was made, seconds since 1970.
    pub made: u64,
}

/// What a voucher file brings to a hub, once every signature in it has held.
#[derive(Debug, Clone, PartialEq)]
pub struct Introduction {
    /// The device.
    pub voucher: Voucher,
    /// Its type.
    pub model: Model,
    /// The root that stands behind both.
    pub fingerprint: Fingerprint,
}

/// Checks a whole voucher file. `trusts` says whether this hub trusts this root for this brand; it is asked last, when all else holds.
///
/// # Errors
/// [`StatementError`]; an unknown root is [`StatementError::Untrusted`], with what an owner would have to confirm.
pub fn verify_voucher_file(file: &[u8], trusts: impl Fn(&BrandId, &Fingerprint) -> bool) -> Result<Introduction, StatementError> {
    if file.len() > VOUCHER_FILE_MAX {
        return Err(StatementError::TooLarge("the voucher file"));
    }
    let mut row = Row::decode("voucher file", file)?;
    row.take("format")?.is(MARKER)?;
    let root: [u8; 32] = row.take("root public key")?.fixed()?;
    let [voucher_certificate, voucher, batch_certificate, model] =
        [row.take("voucher certificate")?, row.take("voucher")?, row.take("batch certificate")?, row.take("model statement")?];
    row.finish()?;

    let voucher_key = PurposeCertificate::verify(&root, KeyPurpose::Voucher, &voucher_certificate.bytes()?)?;
    let batch_key = PurposeCertificate::verify(&root, KeyPurpose::Batch, &batch_certificate.bytes()?)?;
    let voucher = Voucher::verify(&voucher_key.public_key, &voucher.bytes()?)?;
    let (model_brand, model) = verify_model(&batch_key.public_key, &model.bytes()?)?;

    voucher_key.speaks_for("the voucher", &voucher.brand)?;
    voucher_key.speaks_for("the batch certificate", &batch_key.brand)?;
    voucher_key.speaks_for("the model", &model_brand)?;
    if model.name != voucher.model {
        return Err(StatementError::OtherModel { expected: voucher.model.to_string(), found: model.name.to_string() });
    }
    let fingerprint = Fingerprint::of(&root);
    if !trusts(&voucher.brand, &fingerprint) {
        return Err(StatementError::Untrusted { brand: voucher.brand, fingerprint });
    }
    Ok(Introduction { voucher, model, fingerprint })
}

/// What a short voucher says, once its signatures have held. The model is [`Vouched::model`]'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The device.
    pub voucher: Voucher,
    /// The root that stands behind it.
    pub fingerprint: Fingerprint,
    root: [u8; 32],
}

/// Checks the short voucher that a device shows when it is paired: the first parts of its voucher file. `trusts` is asked last, as by
/// [`verify_voucher_file`].
///
/// # Errors
/// [`StatementError`]; an unknown root is [`StatementError::Untrusted`], with what an owner would have to confirm.
pub fn verify_short_voucher(short: &[u8], trusts: impl Fn(&BrandId, &Fingerprint) -> bool) -> Result<Vouched, StatementError> {
    if short.len() > SHORT_VOUCHER_MAX {
        return Err(StatementError::TooLarge("the voucher"));
    }
    let mut row = Row::decode("short voucher", short)?;
    row.take("format")?.is(SHORT_MARKER)?;
    let root: [u8; 32] = row.take("root public key")?.fixed()?;
    let [certificate, voucher] = [row.take("voucher certificate")?, row.take("voucher")?];
    row.finish()?;

    let key = PurposeCertificate::verify(&root, KeyPurpose::Voucher, &certificate.bytes()?)?;
    let voucher = Voucher::verify(&key.public_key, &voucher.bytes()?)?;
    key.speaks_for("the voucher", &voucher.brand)?;
    let fingerprint = Fingerprint::of(&root);
    if !trusts(&voucher.brand, &fingerprint) {
        return Err(StatementError::Untrusted { brand: voucher.brand, fingerprint });
    }
    Ok(Vouched { voucher, fingerprint, root })
}

impl Vouched {
    /// Checks the model part that belongs to this voucher, and gives the model.
    ///
    /// # Errors
    /// [`StatementError`]: another root or brand, or another model than the voucher names.
    pub fn model(&self, part: &[u8]) -> Result<Model, StatementError> {
        if part.len() > MODEL_PART_MAX {
            return Err(StatementError::TooLarge("the model part"));
        }
        let mut row = Row::decode("model part", part)?;
        let [certificate, model] = [row.take("batch certificate")?, row.take("model statement")?];
        row.finish()?;
        let key = PurposeCertificate::verify(&self.root, KeyPurpose::Batch, &certificate.bytes()?)?;
        let (brand, model) = verify_model(&key.public_key, &model.bytes()?)?;
        key.speaks_for("the model", &brand)?;
        if brand != self.voucher.brand {
            return Err(StatementError::OtherBrand { what: "the model", expected: self.voucher.brand.clone(), found: brand });
        }
        if model.name != self.voucher.model {
            return Err(StatementError::OtherModel { expected: self.voucher.model.to_string(), found: model.name.to_string() });
        }
        Ok(model)
    }
}

/// What a device shows when it is paired, from the signed parts of its voucher file: the short voucher and the model part.
#[must_use]
pub fn pairing_parts(
    root_public_key: &[u8; 32],
    voucher_certificate: &[u8],
    voucher: &[u8],
    batch_certificate: &[u8],
    model: &[u8],
) -> (Vec<u8>, Vec<u8>) {
    let short = [cbor::text(SHORT_MARKER), cbor::bytes(root_public_key), cbor::bytes(voucher_certificate), cbor::bytes(voucher)];
    let part = [cbor::bytes(batch_certificate), cbor::bytes(model)];
    (cbor::encode(Value::Array(short.into())), cbor::encode(Value::Array(part.into())))
}

/// Cuts a voucher file into what a device shows when it is paired. Nothing is verified.
///
/// # Errors
/// [`StatementError`] when it has not the form of one, or a part would be too large.
pub fn split_voucher_file(file: &[u8]) -> Result<(Vec<u8>, Vec<u8>), StatementError> {
    if file.len() > VOUCHER_FILE_MAX {
        return Err(StatementError::TooLarge("the voucher file"));
    }
    let mut row = Row::decode("voucher file", file)?;
    row.take("format")?.is(MARKER)?;
    let root: [u8; 32] = row.take("root public key")?.fixed()?;
    let (voucher_certificate, voucher) = (row.take("voucher certificate")?.bytes()?, row.take("voucher")?.bytes()?);
    let (batch_certificate, model) = (row.take("batch certificate")?.bytes()?, row.take("model statement")?.bytes()?);
    row.finish()?;
    let (short, part) = pairing_parts(&root, &voucher_certificate, &voucher, &batch_certificate, &model);
    if short.len() > SHORT_VOUCHER_MAX {
        return Err(StatementError::TooLarge("the voucher"));
    }
    if part.len() > MODEL_PART_MAX {
        return Err(StatementError::TooLarge("the model part"));
    }
    Ok((short, part))
}

/// Puts a voucher file together from its signed parts.
#[must_use]
pub fn voucher_file(
    root_public_key: &[u8; 32],
    voucher_certificate: &[u8],
    voucher: &[u8],
    batch_certificate: &[u8],
    model: &[u8],
) -> Vec<u8> {
    cbor::encode(Value::Array(vec![
        cbor::text(MARKER),
        cbor::bytes(root_public_key),
        cbor::bytes(voucher_certificate),
        cbor::bytes(voucher),
        cbor::bytes(batch_certificate),
        cbor::bytes(model),
    ]))
}

impl Voucher {
    /// Signs it with the brand's voucher key.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let payload = cbor::map([
            (1, cbor::text(&self.device_id)),
            (2, cbor::text(&self.brand)),
            (3, cbor::text(&self.model)),
            (4, cbor::text(&self.hardware)),
            (5, cbor::text(&self.serial)),
            (6, cbor::bytes(&self.claim_hash.0)),
            (7, Value::from(self.made)),
        ]);
        sign_statement(key, Purpose::Voucher, cbor::encode(payload))
    }

    fn verify(public_key: &[u8; 32], statement: &[u8]) -> Result<Self, StatementError> {
        let mut record = Record::decode("voucher", &verify_statement(public_key, Purpose::Voucher, statement)?)?;
        let voucher = Self {
            device_id: record.take(1, "device id")?.parsed(DeviceId::parse)?,
            brand: record.take(2, "brand")?.parsed(BrandId::parse)?,
            model: record.take(3, "model")?.parsed(ModelName::parse)?,
            hardware: record.take(4, "hardware")?.parsed(label)?,
            serial: record.take(5, "serial")?.parsed(label)?,
            claim_hash: ClaimHash(record.take(6, "claim hash")?.fixed()?),
            made: record.take(7, "made")?.uint()?,
        };
        record.finish()?;
        Ok(voucher)
    }
}

/// Takes a hardware revision or a serial number: printable, at most [`LABEL_MAX`] characters.
///
/// # Errors
/// A sentence about what is wrong.
pub fn label(text: &str) -> Result<String, &'static str> {
    if text.chars().count() > LABEL_MAX {
        return Err("longer than 64 characters");
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::sign_model;

    struct Workshop {
        root: SigningKey,
        voucher: SigningKey,
        batch: SigningKey,
    }

    impl Workshop {
        fn new() -> Self {
            let [root, voucher, batch] = [1, 2, 3].map(|n| SigningKey::from_bytes(&[n; 32]));
            Self { root, voucher, batch }
        }

        fn certificate(&self, brand: &str, purpose: KeyPurpose) -> Vec<u8> {
            let key = if purpose == KeyPurpose::Voucher { &self.voucher } else { &self.batch };
            let brand = BrandId::parse(brand).unwrap();
            PurposeCertificate { brand, purpose, public_key: key.verifying_key().to_bytes(), issued: 1, serial: 1 }.sign(&self.root)
        }

        fn file(&self, brand: &str, voucher: &Voucher, model: &str) -> Vec<u8> {
            let json = format!(r#"{{"model": "{model}", "title": "T", "version": 1, "kind": "lamp"}}"#);
            let model = Model::parse(&json).unwrap();
            voucher_file(
                &self.root.verifying_key().to_bytes(),
                &self.certificate(brand, KeyPurpose::Voucher),
                &voucher.sign(&self.voucher),
                &self.certificate("acme", KeyPurpose::Batch),
                &sign_model(&self.batch, &BrandId::parse("acme").unwrap(), &model, 1),
            )
        }
    }

    fn voucher() -> Voucher {
        Voucher {
            device_id: DeviceId::parse("lamp-1").unwrap(),
            brand: BrandId::parse("acme").unwrap(),
            model: ModelName::parse("lamp").unwrap(),
            hardware: "rev A".into(),
            serial: "0001".into(),
            claim_hash: ClaimHash([5; 32]),
            made: 1_700_000_000,
        }
    }

    #[test]
    fn a_voucher_of_a_trusted_brand_introduces_its_device() {
        let file = Workshop::new().file("acme", &voucher(), "lamp");
        let introduction = verify_voucher_file(&file, |brand, _| brand.as_str() == "acme").unwrap();
        assert_eq!(introduction.voucher, voucher());
        assert_eq!(introduction.model.title, "T");
    }

    #[test]
    fn an_unknown_root_is_named_to_the_owner() {
        let workshop = Workshop::new();
        let fingerprint = Fingerprint::of(&workshop.root.verifying_key().to_bytes());
        let file = workshop.file("acme", &voucher(), "lamp");
        let brand = BrandId::parse("acme").unwrap();
        assert_eq!(verify_voucher_file(&file, |_, _| false), Err(StatementError::Untrusted { brand, fingerprint }));
    }

    #[test]
    fn a_brand_vouches_for_itself_alone() {
        let file = Workshop::new().file("other", &voucher(), "lamp");
        assert!(matches!(verify_voucher_file(&file, |_, _| true), Err(StatementError::OtherBrand { what: "the voucher", .. })));
    }

    #[test]
    fn a_voucher_with_another_model_is_refused() {
        let file = Workshop::new().file("acme", &voucher(), "heater");
        assert!(matches!(verify_voucher_file(&file, |_, _| true), Err(StatementError::OtherModel { .. })));
    }

    #[test]
    fn a_voucher_signed_by_the_batch_key_is_refused() {
        let mut workshop = Workshop::new();
        std::mem::swap(&mut workshop.voucher, &mut workshop.batch);
        let signed_by_batch = voucher().sign(&workshop.voucher);
        let workshop = Workshop::new();
        let file = workshop.file("acme", &voucher(), "lamp");
        let good = voucher().sign(&workshop.voucher);
        let at = file.windows(good.len()).position(|w| w == good).unwrap();
        let mut changed = file;
        changed[at..at + good.len()].copy_from_slice(&signed_by_batch);
        assert_eq!(verify_voucher_file(&changed, |_, _| true), Err(StatementError::Signature("voucher")));
    }

    #[test]
    fn no_changed_byte_of_a_voucher_file_passes() {
        let file = Workshop::new().file("acme", &voucher(), "lamp");
        let root = Fingerprint::of(&Workshop::new().root.verifying_key().to_bytes());
        for at in (0..file.len()).step_by(3) {
            let mut changed = file.clone();
            changed[at] ^= 4;
            assert!(verify_voucher_file(&changed, |_, fingerprint| *fingerprint == root).is_err(), "byte {at}");
        }
    }

    /// The short voucher and the model part of this device.
    fn parts(brand: &str, model: &str) -> (Vec<u8>, Vec<u8>) {
        split_voucher_file(&Workshop::new().file(brand, &voucher(), model)).unwrap()
    }

    #[test]
    fn a_short_voucher_introduces_its_device_and_its_model_follows() {
        let (short, part) = parts("acme", "lamp");
        let vouched = verify_short_voucher(&short, |brand, _| brand.as_str() == "acme").unwrap();
        assert_eq!(vouched.voucher, voucher());
        assert_eq!(vouched.model(&part).unwrap().title, "T");
        assert!(short.len() <= SHORT_VOUCHER_MAX);
    }

    #[test]
    fn a_short_voucher_is_held_against_all_that_a_voucher_file_is() {
        let (short, part) = parts("acme", "lamp");
        let fingerprint = Fingerprint::of(&Workshop::new().root.verifying_key().to_bytes());
        let brand = BrandId::parse("acme").unwrap();
        assert_eq!(verify_short_voucher(&short, |_, _| false), Err(StatementError::Untrusted { brand, fingerprint }));
        let vouched = verify_short_voucher(&short, |_, _| true).unwrap();
        assert!(matches!(vouched.model(&parts("acme", "heater").1), Err(StatementError::OtherModel { .. })));
        let (other, _) = parts("other", "lamp");
        assert!(matches!(verify_short_voucher(&other, |_, _| true), Err(StatementError::OtherBrand { what: "the voucher", .. })));
        for at in 0..short.len() {
            let mut changed = short.clone();
            changed[at] ^= 4;
            assert!(verify_short_voucher(&changed, |_, root| *root == fingerprint).is_err(), "byte {at}");
        }
        for at in (0..part.len()).step_by(3) {
            let mut changed = part.clone();
            changed[at] ^= 4;
            assert!(vouched.model(&changed).is_err(), "byte {at}");
        }
        assert_eq!(verify_short_voucher(&[0; SHORT_VOUCHER_MAX + 1], |_, _| true), Err(StatementError::TooLarge("the voucher")));
        assert_eq!(vouched.model(&vec![0; MODEL_PART_MAX + 1]), Err(StatementError::TooLarge("the model part")));
        // The whole file is not a short voucher, nor the other way round.
        assert!(verify_short_voucher(&Workshop::new().file("acme", &voucher(), "lamp"), |_, _| true).is_err());
        assert!(split_voucher_file(&short).is_err());
    }
}
