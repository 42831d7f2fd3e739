//! `Noise_NNpsk0_25519_AESGCM_SHA256` once more, word for word after the framework (revision 34, §5), for the vectors: it shows every intermediate
//! value, and the session of the hub must agree with it.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use hkdf::Hkdf;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};

use super::super::vectors::hex;

/// `SymmetricState`, and what it went through.
pub struct Symmetric {
    h: [u8; 32],
    ck: [u8; 32],
    k: [u8; 32],
    pub trace: Vec<Value>,
}

impl Symmetric {
    fn new(prologue: &[u8]) -> Self {
        let name = *b"Noise_NNpsk0_25519_AESGCM_SHA256";
        let mut state = Self { h: name, ck: name, k: [0; 32], trace: Vec::new() };
        state.mix_hash(prologue);
        state.note("the prologue");
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.h = Sha256::new().chain_update(self.h).chain_update(data).finalize().into();
    }

    fn mix_key(&mut self, material: &[u8]) {
        let [ck, k] = hkdf(&self.ck, material);
        (self.ck, self.k) = (ck, k);
    }

    fn mix_key_and_hash(&mut self, material: &[u8]) {
        let [ck, temp_h, k] = hkdf(&self.ck, material);
        (self.ck, self.k) = (ck, k);
        self.mix_hash(&temp_h);
    }

    /// With every key of this handshake just one payload is encrypted.
    fn encrypt_and_hash(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let ciphertext = encrypt(&self.k, 0, &self.h, plaintext);
        self.mix_hash(&ciphertext);
        ciphertext
    }

    fn note(&mut self, after: &str) {
        self.trace.push(json!({"after": after, "h": hex(self.h), "ck": hex(self.ck), "k": hex(self.k)}));
    }
}

/// A whole handshake.
pub struct Handshake {
    pub hub_public: [u8; 32],
    pub device_public: [u8; 32],
    pub shared: [u8; 32],
    pub message_1: Vec<u8>,
    pub message_2: Vec<u8>,
    pub h: [u8; 32],
    pub to_device: [u8; 32],
    pub to_hub: [u8; 32],
    pub trace: Vec<Value>,
}

pub fn handshake(prologue: &[u8], psk: &[u8; 32], hub_ephemeral: [u8; 32], device_ephemeral: [u8; 32], payload: &[u8]) -> Handshake {
    let (hub, device) = (StaticSecret::from(hub_ephemeral), StaticSecret::from(device_ephemeral));
    let [hub_public, device_public] = [&hub, &device].map(|secret| PublicKey::from(secret).to_bytes());
    let mut state = Symmetric::new(prologue);

    // -> psk, e
    state.mix_key_and_hash(psk);
    state.note("message 1, psk");
    state.mix_hash(&hub_public);
    state.mix_key(&hub_public);
    state.note("message 1, e");
    let message_1 = [hub_public.to_vec(), state.encrypt_and_hash(payload)].concat();
    state.note("message 1, payload");

    // <- e, ee
    state.mix_hash(&device_public);
    state.mix_key(&device_public);
    state.note("message 2, e");
    let shared = hub.diffie_hellman(&PublicKey::from(device_public)).to_bytes();
    state.mix_key(&shared);
    state.note("message 2, ee");
    let message_2 = [device_public.to_vec(), state.encrypt_and_hash(&[])].concat();
    state.note("message 2, payload");

    let [to_device, to_hub] = hkdf(&state.ck, &[]);
    Handshake { hub_public, device_public, shared, message_1, message_2, h: state.h, to_device, to_hub, trace: state.trace }
}

/// A transport message: no associated data, and the nonce is 4 zeros and the counter in big-endian.
pub fn transport(key: &[u8; 32], counter: u64, plaintext: &[u8]) -> Vec<u8> {
    encrypt(key, counter, &[], plaintext)
}

pub fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

fn encrypt(key: &[u8; 32], counter: u64, aad: &[u8], msg: &[u8]) -> Vec<u8> {
    Aes256Gcm::new(key.into()).encrypt(&nonce(counter).into(), Payload { msg, aad }).unwrap()
}

/// The framework's HKDF is RFC 5869 with an empty info.
fn hkdf<const N: usize>(ck: &[u8; 32], material: &[u8]) -> [[u8; 32]; N] {
    let mut okm = vec![0; N * 32];
    Hkdf::<Sha256>::new(Some(ck), material).expand(&[], &mut okm).unwrap();
    std::array::from_fn(|i| okm[i * 32..(i + 1) * 32].try_into().unwrap())
}
