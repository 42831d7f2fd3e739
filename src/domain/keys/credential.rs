//! What a claim hands to a device: the hub, its CA and an operational secret, sealed under the device's seal key and bound to the device's nonce.
//! When it is sent, and when the claim is complete, is left to the hub.

use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use ciborium::Value;
use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{HubScopedKey, secret};
use crate::domain::cbor::{self, Record};
use crate::domain::ids::{DeviceId, HubId};

/// The shortest nonce of a device's hello, in bytes.
pub const NONCE_MIN: usize = 16;
/// The longest nonce of a device's hello, in bytes.
pub const NONCE_MAX: usize = 32;
/// The largest sealed credential, in bytes.
pub const CREDENTIAL_MAX: usize = 8 * 1024;

/// Why a credential cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The nonce is outside [`NONCE_MIN`] … [`NONCE_MAX`].
    #[error("the nonce is not 16 to 32 bytes")]
    Nonce,
    /// More than [`CREDENTIAL_MAX`].
    #[error("the credential is larger than 8 KiB")]
    Size,
    /// Another key, hub, device, nonce or IV, or a changed box.
    #[error("the box was not sealed for this device, hub and nonce")]
    NotForThis,
    /// The box opened and holds something else.
    #[error("the box does not hold a credential")]
    Content,
}

secret!(
    /// The 32 random bytes by which a claimed device signs in. Hubs keep a keyed hash of it only, once the claim is complete.
    OperationalSecret
);

impl OperationalSecret {
    /// The MQTT password: `hks1.<base64url>`.
    #[must_use]
    pub fn password(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("hks1.{}", &*Zeroizing::new(BASE64URL_NOPAD.encode(&self.0))))
    }

    /// Reads the MQTT password. `None` for every other text.
    #[must_use]
    pub fn from_password(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.strip_prefix("hks1.")?.as_bytes()).ok()?);
        Some(Self(bytes.as_slice().try_into().ok()?))
    }
}

/// What the device keeps after a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The hub that it now belongs to.
    pub hub: HubId,
    /// The hub's CA certificate (DER), which the device pins.
    pub ca: Vec<u8>,
    /// Its new password.
    pub secret: OperationalSecret,
    /// When it was claimed, seconds since 1970.
    pub claimed_at: u64,
}

/// Seals a credential: the `box` of `claim/credential`, ciphertext and 16-byte tag. `iv` is 12 fresh random bytes, `nonce` the device's own.
///
/// # Errors
/// [`SealError::Nonce`] and [`SealError::Size`].
pub fn seal_credential(
    key: &HubScopedKey,
    device: &DeviceId,
    nonce: &[u8],
    iv: [u8; 12],
    credential: &Credential,
) -> Result<Vec<u8>, SealError> {
    let aad = bound(&credential.hub, device, nonce)?;
    let plaintext = Zeroizing::new(cbor::encode(cbor::map([
        (1, cbor::bytes(credential.hub.as_bytes())),
        (2, cbor::bytes(&credential.ca)),
        (3, cbor::bytes(credential.secret.as_bytes())),
        (4, credential.claimed_at.into()),
    ])));
    let sealed = cipher(key).encrypt(&iv.into(), Payload { msg: &plaintext, aad: &aad }).map_err(|_| SealError::Size)?;
    if sealed.len() > CREDENTIAL_MAX { Err(SealError::Size) } else { Ok(sealed) }
}

/// Opens what [`seal_credential`] made, as a device does.
///
/// # Errors
/// [`SealError`]; a box for anything but this key, hub, device, nonce and IV is [`SealError::NotForThis`].
pub fn open_credential(
    key: &HubScopedKey,
    hub: &HubId,
    device: &DeviceId,
    nonce: &[u8],
    iv: [u8; 12],
    sealed: &[u8],
) -> Result<Credential, SealError> {
    if sealed.len() > CREDENTIAL_MAX {
        return Err(SealError::Size);
    }
    let aad = bound(hub, device, nonce)?;
    let plaintext = cipher(key).decrypt(&iv.into(), Payload { msg: sealed, aad: &aad }).map_err(|_| SealError::NotForThis)?;
    let credential = read(&Zeroizing::new(plaintext)).map_err(|_| SealError::Content)?;
    if credential.hub == *hub { Ok(credential) } else { Err(SealError::Content) }
}

fn read(plaintext: &[u8]) -> Result<Credential, cbor::CborError> {
    let mut record = Record::decode("credential", plaintext)?;
    let credential = Credential {
        hub: HubId::from_bytes(record.take(1, "hub id")?.fixed()?),
        ca: record.take(2, "CA certificate")?.bytes()?,
        secret: OperationalSecret(record.take(3, "secret")?.fixed()?),
        claimed_at: record.take(4, "claimed at")?.uint()?,
    };
    record.finish()?;
    Ok(credential)
}

fn cipher(key: &HubScopedKey) -> Aes256Gcm {
    Aes256Gcm::new(key.seal().as_bytes().into())
}

/// What the box is bound to; the direction keeps it from being read as anything a device may send.
fn bound(hub: &HubId, device: &DeviceId, nonce: &[u8]) -> Result<Vec<u8>, SealError> {
    if !(NONCE_MIN..=NONCE_MAX).contains(&nonce.len()) {
        return Err(SealError::Nonce);
    }
    Ok(cbor::encode(Value::Array(vec![
        1.into(),
        cbor::bytes(hub.as_bytes()),
        cbor::text(device),
        cbor::text("to device"),
        cbor::bytes(nonce),
    ])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential() -> Credential {
        Credential {
            hub: HubId::from_bytes([2; 16]),
            ca: vec![0x30; 400],
            secret: OperationalSecret::from_bytes([6; 32]),
            claimed_at: 1_700_000_000,
        }
    }

    #[test]
    fn a_box_opens_for_its_device_hub_nonce_and_iv_alone() {
        let (key, device) = (HubScopedKey::from_bytes([1; 32]), DeviceId::parse("door-1").unwrap());
        let hub = HubId::from_bytes([2; 16]);
        let sealed = seal_credential(&key, &device, &[3; 16], [4; 12], &credential()).unwrap();
        assert_eq!(open_credential(&key, &hub, &device, &[3; 16], [4; 12], &sealed), Ok(credential()));
        let refused = Err(SealError::NotForThis);
        assert_eq!(open_credential(&HubScopedKey::from_bytes([2; 32]), &hub, &device, &[3; 16], [4; 12], &sealed), refused);
        assert_eq!(open_credential(&key, &HubId::from_bytes([3; 16]), &device, &[3; 16], [4; 12], &sealed), refused);
        assert_eq!(open_credential(&key, &hub, &DeviceId::parse("door-2").unwrap(), &[3; 16], [4; 12], &sealed), refused);
        assert_eq!(open_credential(&key, &hub, &device, &[4; 16], [4; 12], &sealed), refused, "a box for an older hello opened");
        assert_eq!(open_credential(&key, &hub, &device, &[3; 16], [5; 12], &sealed), refused);
        let mut changed = sealed;
        changed[0] ^= 1;
        assert_eq!(open_credential(&key, &hub, &device, &[3; 16], [4; 12], &changed), refused);
    }

    #[test]
    fn a_nonce_too_short_or_too_long_is_refused() {
        let (key, device) = (HubScopedKey::from_bytes([1; 32]), DeviceId::parse("door-1").unwrap());
        for nonce in [&[0u8; 15][..], &[0; 33]] {
            assert_eq!(seal_credential(&key, &device, nonce, [4; 12], &credential()), Err(SealError::Nonce));
        }
    }

    #[test]
    fn an_operational_secret_has_one_password() {
        let secret = OperationalSecret::from_bytes([6; 32]);
        let password = secret.password();
        assert_eq!(OperationalSecret::from_password(&password), Some(secret));
        assert_eq!(OperationalSecret::from_password(&format!("{}A", *password)), None);
        assert_eq!(OperationalSecret::from_password("hks1."), None);
        assert!(!format!("{:?}", credential()).contains("6, 6"));
    }
}
