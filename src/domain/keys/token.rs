//! The counter token by which a device signs in: `hk1.<counter>.<nonce>.<tag>`. It proves the hub-scoped key and, over TLS, which server key the
//! device saw. Whether the counter is fresh, and what a stale one means, is left to the hub, which keeps the last one.

use std::fmt;

use aes_gcm::aead::KeyInit;
use aes_gcm::{AeadInOut, Aes256Gcm};
use ciborium::Value;
use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::{HubScopedKey, expand};
use crate::domain::cbor;
use crate::domain::ids::{DeviceId, HubId};

/// The longest token, in bytes.
pub const TOKEN_MAX: usize = 128;

/// The highest counter, 2⁶³−1.
pub const COUNTER_MAX: u64 = i64::MAX as u64;

/// Why a text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not four parts, of which the first is `hk1`, or too long.
    #[error("not a token of the form hk1.<counter>.<nonce>.<tag>")]
    Form,
    /// Not a decimal number without leading zeros, or outside 1 … 2⁶³−1.
    #[error("the counter is not a decimal number between 1 and 2^63-1")]
    Counter,
    /// Nonce or tag is not 16 bytes of base64url without padding.
    #[error("the nonce or the tag is not 16 bytes of base64url")]
    Bytes,
}

/// A token as presented. Nothing about it holds until [`Token::verify`] has said so.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    counter: u64,
    nonce: [u8; 16],
    tag: [u8; 16],
}

impl Token {
    /// Reads a token. One token has one text.
    ///
    /// # Errors
    /// [`TokenError`] for every other text.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_MAX {
            return Err(TokenError::Form);
        }
        let mut parts = text.split('.');
        let (Some("hk1"), Some(counter), Some(nonce), Some(tag), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Form);
        };
        if counter.starts_with('0') || !counter.bytes().all(|b| b.is_ascii_digit()) {
            return Err(TokenError::Counter);
        }
        let counter = counter.parse().map_err(|_| TokenError::Counter)?;
        Ok(Self { counter: in_range(counter)?, nonce: sixteen(nonce)?, tag: sixteen(tag)? })
    }

    /// Makes a token, as a device does. `nonce` is 16 fresh random bytes; the counter is stored before the token is used. `spki` as in [`Token::verify`].
    ///
    /// # Errors
    /// [`TokenError::Counter`] outside 1 … [`COUNTER_MAX`].
    pub fn mint(
        key: &HubScopedKey,
        hub: &HubId,
        device: &DeviceId,
        spki: &[u8],
        counter: u64,
        nonce: [u8; 16],
    ) -> Result<Self, TokenError> {
        let counter = in_range(counter)?;
        Ok(Self { counter, nonce, tag: tag(key, hub, device, spki, counter, &nonce) })
    }

    /// Whether the device's key made this token for this hub, in constant time. `spki` is SHA-256 of the SubjectPublicKeyInfo (DER) of the
    /// certificate that the hub presented on this connection, or empty without TLS.
    #[must_use]
    pub fn verify(&self, key: &HubScopedKey, hub: &HubId, device: &DeviceId, spki: &[u8]) -> bool {
        tag(key, hub, device, spki, self.counter, &self.nonce).ct_eq(&self.tag).into()
    }

    /// The counter, 1 … [`COUNTER_MAX`].
    #[must_use]
    pub const fn counter(&self) -> u64 {
        self.counter
    }

    /// The nonce: with the counter, it tells a replay of the last token from another stale one.
    #[must_use]
    pub const fn nonce(&self) -> &[u8; 16] {
        &self.nonce
    }
}

impl fmt::Display for Token {
    /// The MQTT password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hk1.{}.{}.{}", self.counter, BASE64URL_NOPAD.encode(&self.nonce), BASE64URL_NOPAD.encode(&self.tag))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(counter {}, …)", self.counter)
    }
}

const fn in_range(counter: u64) -> Result<u64, TokenError> {
    if counter == 0 || counter > COUNTER_MAX { Err(TokenError::Counter) } else { Ok(counter) }
}

fn sixteen(text: &str) -> Result<[u8; 16], TokenError> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| TokenError::Bytes)?;
    bytes.try_into().map_err(|_| TokenError::Bytes)
}

/// The AES-256-GCM tag over nothing, with all that is bound as additional data. Its key is of this counter and nonce alone, so the IV may be fixed.
fn tag(key: &HubScopedKey, hub: &HubId, device: &DeviceId, spki: &[u8], counter: u64, nonce: &[u8; 16]) -> [u8; 16] {
    let info = cbor::encode(Value::Array(vec![counter.into(), cbor::bytes(nonce)]));
    let mut token_key = expand(key.mqtt().as_bytes(), &info);
    let bound =
        cbor::encode(Value::Array(vec![1.into(), cbor::bytes(hub.as_bytes()), cbor::text(device), counter.into(), cbor::bytes(spki)]));
    let cipher = Aes256Gcm::new(&token_key.into());
    token_key.zeroize();
    #[expect(clippy::expect_used, reason = "AES-GCM refuses only inputs above 2^36 bytes; these are a hundred")]
    let tag = cipher.encrypt_inout_detached(&[0; 12].into(), &bound, (&mut [][..]).into()).expect("a short input");
    tag.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts() -> (HubScopedKey, HubId, DeviceId) {
        (HubScopedKey::from_bytes([1; 32]), HubId::from_bytes([2; 16]), DeviceId::parse("door-1").unwrap())
    }

    #[test]
    fn a_token_serves_its_device_hub_key_and_connection_alone() {
        let (key, hub, device) = parts();
        let token = Token::mint(&key, &hub, &device, &[9; 32], 5, [7; 16]).unwrap();
        let token = Token::parse(&token.to_string()).unwrap();
        assert!(token.verify(&key, &hub, &device, &[9; 32]));
        assert!(!token.verify(&HubScopedKey::from_bytes([2; 32]), &hub, &device, &[9; 32]));
        assert!(!token.verify(&key, &HubId::from_bytes([3; 16]), &device, &[9; 32]));
        assert!(!token.verify(&key, &hub, &DeviceId::parse("door-2").unwrap(), &[9; 32]));
        assert!(!token.verify(&key, &hub, &device, &[8; 32]), "a relay with another TLS key passed");
        assert!(!token.verify(&key, &hub, &device, &[]));
    }

    #[test]
    fn a_token_with_another_counter_or_nonce_is_refused() {
        let (key, hub, device) = parts();
        let text = Token::mint(&key, &hub, &device, &[], 5, [7; 16]).unwrap().to_string();
        assert!(!Token::parse(&text.replace("hk1.5.", "hk1.6.")).unwrap().verify(&key, &hub, &device, &[]));
        let nonce = BASE64URL_NOPAD.encode(&[7; 16]);
        let other = BASE64URL_NOPAD.encode(&[8; 16]);
        assert!(!Token::parse(&text.replace(&nonce, &other)).unwrap().verify(&key, &hub, &device, &[]));
    }

    #[test]
    fn only_the_one_text_of_a_token_is_read() {
        let (key, hub, device) = parts();
        let good = Token::mint(&key, &hub, &device, &[], 5, [7; 16]).unwrap().to_string();
        for (bad, why) in [
            (good.replace("hk1.", "hk2."), TokenError::Form),
            (format!("{good}."), TokenError::Form),
            (format!("{good} "), TokenError::Bytes),
            (good.replace(".5.", ".05."), TokenError::Counter),
            (good.replace(".5.", ".0."), TokenError::Counter),
            (good.replace(".5.", ".+5."), TokenError::Counter),
            (good.replace(".5.", ".."), TokenError::Counter),
            (good.replace(".5.", ".9223372036854775808."), TokenError::Counter),
            (good.replace(".5.", ".99999999999999999999999."), TokenError::Counter),
            (format!("{good}=="), TokenError::Bytes),
            ("x".repeat(129), TokenError::Form),
        ] {
            assert_eq!(Token::parse(&bad), Err(why), "{bad}");
        }
        assert!(Token::parse(&good.replace(".5.", ".9223372036854775807.")).is_ok());
        assert_eq!(Token::mint(&key, &hub, &device, &[], 0, [7; 16]), Err(TokenError::Counter));
    }

    #[test]
    fn a_token_does_not_show_its_tag() {
        let (key, hub, device) = parts();
        let token = Token::mint(&key, &hub, &device, &[], 5, [7; 16]).unwrap();
        assert_eq!(format!("{token:?}"), "Token(counter 5, …)");
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "hk1\\.[0-9]{1,20}\\.[A-Za-z0-9_-]{22}\\.[A-Za-z0-9_-]{22}") {
            if let Ok(token) = Token::parse(&text) {
                prop_assert_eq!(token.to_string(), text);
            }
        }
    }
}
