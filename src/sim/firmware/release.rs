//! What a device checks of a release (identity.md §6, firmware.md §1), byte for byte and by itself.

use ciborium::Value;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

/// What a device needs to know of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    pub brand: String,
    pub model: String,
    pub hardware: Vec<String>,
    pub rel: u64,
    pub version: String,
    pub sha256: [u8; 32],
    pub size: u64,
    pub least_before: u64,
}

/// Checks certificate and release with the root key of the brand.
///
/// # Errors
/// What does not hold.
pub(super) fn verify(root: &[u8; 32], certificate: &[u8], release: &[u8]) -> Result<Release, &'static str> {
    let payload = statement(root, b"hearthkey cert v1", certificate).ok_or("the certificate is not signed by the brand")?;
    let mut certified = fields::<5>(&payload).ok_or("the certificate has another form")?.into_iter();
    let (brand, purpose, key) = (certified.next(), certified.next(), certified.next());
    if !certified.all(|field| uint(field).is_some()) {
        return Err("the certificate has another form");
    }
    let brand = brand.and_then(text).ok_or("the certificate has another form")?;
    if purpose.and_then(text).as_deref() != Some("firmware") {
        return Err("the certificate is not for firmware");
    }
    let key: [u8; 32] = key.and_then(bytes).and_then(|key| key.try_into().ok()).ok_or("the certificate has another form")?;

    let payload = statement(&key, b"hearthkey firmware v1", release).ok_or("the release is not signed by the key for firmware")?;
    let read = read(&payload).ok_or("the release has another form")?;
    if read.brand == brand { Ok(read) } else { Err("the release is of another brand than its certificate") }
}

fn read(payload: &[u8]) -> Option<Release> {
    let mut fields = fields::<11>(payload)?.into_iter();
    let read = Release {
        brand: text(fields.next()?)?,
        model: text(fields.next()?)?,
        hardware: fields.next()?.into_array().ok()?.into_iter().map(text).collect::<Option<_>>()?,
        rel: uint(fields.next()?)?,
        version: text(fields.next()?)?,
        sha256: bytes(fields.next()?)?.try_into().ok()?,
        size: uint(fields.next()?)?,
        least_before: {
            text(fields.next()?)?;
            uint(fields.next()?)?
        },
    };
    let rest = fields.all(|field| uint(field).is_some());
    (rest && read.rel > 0 && (1..=16).contains(&read.hardware.len()) && (1..=64 * 1024 * 1024).contains(&read.size)).then_some(read)
}

/// The payload of a statement that this key has signed for this purpose.
fn statement(key: &[u8; 32], purpose: &[u8], statement: &[u8]) -> Option<Vec<u8>> {
    let Value::Tag(18, inner) = exact(statement)? else { return None };
    let [Value::Bytes(protected), Value::Map(unprotected), Value::Bytes(payload), Value::Bytes(signature)] =
        <[Value; 4]>::try_from(inner.into_array().ok()?).ok()?
    else {
        return None;
    };
    let kid: Vec<u8> = Sha256::digest(key).iter().take(8).copied().collect();
    let header = [&[0xA2, 0x01, 0x27, 0x04, 0x48], kid.as_slice()].concat();
    if protected != header || !unprotected.is_empty() {
        return None;
    }
    let signed = Value::Array(vec![
        Value::Text("Signature1".into()),
        Value::Bytes(protected),
        Value::Bytes(purpose.to_vec()),
        Value::Bytes(payload.clone()),
    ]);
    let key = VerifyingKey::from_bytes(key).ok()?;
    key.verify_strict(&encode(&signed)?, &Signature::from_slice(&signature).ok()?).ok()?;
    Some(payload)
}

/// The values of a map with the keys 1 to `N`, all there and in order.
fn fields<const N: usize>(payload: &[u8]) -> Option<Vec<Value>> {
    let map = exact(payload)?.into_map().ok()?;
    let in_order = map.iter().zip(1u64..).all(|((key, _), n)| *key == Value::from(n));
    (map.len() == N && in_order).then(|| map.into_iter().map(|(_, value)| value).collect())
}

/// One value that fills the bytes, in the form in which it is written again.
fn exact(input: &[u8]) -> Option<Value> {
    let value: Value = ciborium::de::from_reader_with_recursion_limit(input, 16).ok()?;
    (encode(&value)? == input).then_some(value)
}

fn encode(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).ok()?;
    Some(out)
}

fn text(value: Value) -> Option<String> {
    value.into_text().ok()
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    value.into_bytes().ok()
}

fn uint(value: Value) -> Option<u64> {
    value.into_integer().ok()?.try_into().ok()
}
