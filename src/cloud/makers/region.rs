//! The region's key: it seals device keys and other secrets in the region's databases, and keys the hashes of tokens. Each
//! value is sealed to the place where it stands, so that a row copied elsewhere does not open. It never leaves its region.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

const IV_BYTES: usize = 12;

/// Why something could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The operating system gave no randomness.
    #[error("the operating system gave no random bytes")]
    Random,
    /// Sealed with another key, for another place, or changed since.
    #[error("what is sealed in the database does not open with this region's key")]
    Broken,
}

/// 32 random bytes, shared by all who serve the region. Redacted in `Debug`.
pub struct RegionKey {
    cipher: Aes256Gcm,
    tokens: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for RegionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegionKey(…)")
    }
}

impl RegionKey {
    /// Takes the raw key.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> RegionKey {
        RegionKey {
            cipher: Aes256Gcm::new(&(*expand(bytes, b"hearthkey region seal v1")).into()),
            tokens: expand(bytes, b"hearthkey region tokens v1"),
        }
    }

    /// Seals `plain` to the place `place`: what it is, and of whom.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn seal(&self, place: &[&str], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut iv = [0; IV_BYTES];
        getrandom::fill(&mut iv).map_err(|_| SealError::Random)?;
        let aad = aad(place);
        let body = self.cipher.encrypt(&Nonce::from(iv), Payload { msg: plain, aad: &aad }).map_err(|_| SealError::Broken)?;
        Ok([&iv, body.as_slice()].concat())
    }

    /// Opens what was sealed to this place.
    ///
    /// # Errors
    /// [`SealError::Broken`].
    pub fn open(&self, place: &[&str], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (iv, body) = sealed.split_first_chunk::<IV_BYTES>().ok_or(SealError::Broken)?;
        let aad = aad(place);
        let plain = self.cipher.decrypt(&Nonce::from(*iv), Payload { msg: body, aad: &aad }).map_err(|_| SealError::Broken)?;
        Ok(Zeroizing::new(plain))
    }

    /// Opens what is 32 bytes long.
    ///
    /// # Errors
    /// [`SealError::Broken`].
    pub fn open_key(&self, place: &[&str], sealed: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError> {
        let plain = self.open(place, sealed)?;
        plain.as_slice().try_into().map(Zeroizing::new).map_err(|_| SealError::Broken)
    }

    /// What is kept of a token or secret instead of it. `kind` tells kinds apart.
    #[must_use]
    pub fn keyed_hash(&self, kind: &str, secret: &str) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.tokens.as_slice()).expect("HMAC takes any key");
        mac.update(&aad(&[kind, secret]));
        mac.finalize().into_bytes().into()
    }
}

/// Each text preceded by its length.
fn aad(place: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(place.iter().map(|text| text.len() + 4).sum());
    for text in place {
        bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

fn expand(key: &[u8; 32], label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    #[expect(clippy::expect_used, reason = "HKDF refuses only outputs above 8160 bytes")]
    Hkdf::<Sha256>::new(None, key).expand(label, out.as_mut_slice()).expect("a short output");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_at_its_place_and_under_its_regions_key_alone() {
        let (eu, us) = (RegionKey::new(&[1; 32]), RegionKey::new(&[2; 32]));
        let sealed = eu.seal(&["device key", "lamp-1"], &[7; 32]).unwrap();
        assert_eq!(*eu.open_key(&["device key", "lamp-1"], &sealed).unwrap(), [7; 32]);
        assert_eq!(eu.open(&["device key", "lamp-2"], &sealed), Err(SealError::Broken), "a row was copied");
        assert_eq!(eu.open(&["device keyl", "amp-1"], &sealed), Err(SealError::Broken));
        assert_eq!(us.open(&["device key", "lamp-1"], &sealed), Err(SealError::Broken), "another region opened it");
        assert_eq!(eu.open(&["device key", "lamp-1"], &sealed[..9]), Err(SealError::Broken));
        assert!(!sealed.windows(8).any(|bytes| bytes == [7; 8]));
    }

    #[test]
    fn a_token_is_hashed_by_kind_and_region() {
        let (eu, us) = (RegionKey::new(&[1; 32]), RegionKey::new(&[2; 32]));
        assert_eq!(eu.keyed_hash("session", "a"), eu.keyed_hash("session", "a"));
        assert_ne!(eu.keyed_hash("session", "a"), eu.keyed_hash("service", "a"));
        assert_ne!(eu.keyed_hash("session", "a"), us.keyed_hash("session", "a"));
        assert_eq!(format!("{eu:?}"), "RegionKey(…)");
    }
}
