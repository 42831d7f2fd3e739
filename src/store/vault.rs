//! The master key, and sealing with it: AES-256-GCM with a random IV, bound to where the row stands.
//!
//! The key comes from the service manager's credentials or from a file of mode 0600; who reads it is `hub`. On a box
//! without a TPM it protects copies of the database (backups, a stolen disk image without the key), not a stolen card.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

const IV_BYTES: usize = 12;

/// 32 random bytes under which the store seals. Never printed.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Takes the raw key.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        MasterKey(Zeroizing::new(bytes))
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// Seals and opens rows, and derives the hub's keys for keyed hashes.
pub struct Vault {
    cipher: Aes256Gcm,
    master: MasterKey,
}

impl Vault {
    /// A vault under `master`.
    #[must_use]
    pub fn new(master: MasterKey) -> Self {
        let key = expand(&master, b"hearthkey rows v1");
        Vault { cipher: Aes256Gcm::new(&(*key).into()), master }
    }

    /// A key for another purpose, separated by `label`.
    #[must_use]
    pub fn derive(&self, label: &[u8]) -> Zeroizing<[u8; 32]> {
        expand(&self.master, label)
    }

    pub(super) fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut iv = [0u8; IV_BYTES];
        getrandom::fill(&mut iv).map_err(|_| "the system gave no randomness")?;
        let body = self.cipher.encrypt(&Nonce::from(iv), Payload { msg: plain, aad }).map_err(|_| "sealing failed")?;
        Ok([&iv, body.as_slice()].concat())
    }

    pub(super) fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        let (iv, body) = sealed.split_first_chunk::<IV_BYTES>().ok_or("it is too short")?;
        let plain = self.cipher.decrypt(&Nonce::from(*iv), Payload { msg: body, aad }).map_err(|_| "its seal does not fit the key")?;
        Ok(Zeroizing::new(plain))
    }
}

fn expand(master: &MasterKey, label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0u8; 32]);
    // 32 bytes are always within HKDF's bound of 255 × 32, so the error cannot occur; zeros would then fail every seal.
    let _ = Hkdf::<Sha256>::new(None, master.0.as_slice()).expand(label, out.as_mut_slice());
    out
}
