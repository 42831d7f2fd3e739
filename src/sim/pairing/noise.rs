//! `Noise_NNpsk0_25519_AESGCM_SHA256` for the responder, by hand (pairing.md §3; The Noise Protocol Framework, revision
//! 34, §5 and §9).

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// The name of the protocol has 32 bytes, so that it is the first hash as it stands.
const NAME: &[u8; 32] = b"Noise_NNpsk0_25519_AESGCM_SHA256";
/// Length of a public key.
const KEY: usize = 32;

/// A message that does not open, or that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message does not open")]
pub struct NotGenuine;

/// A responder that waits for message 1.
pub struct Responder {
    symmetric: Symmetric,
    psk: Zeroizing<[u8; 32]>,
    ephemeral: StaticSecret,
}

/// What a session speaks with: a key each way, and the hash of the handshake.
pub struct Transport {
    /// `h` after message 2.
    pub h: [u8; 32],
    receive: Cipher,
    send: Cipher,
}

/// A key and the number of messages it has seen.
struct Cipher {
    key: Zeroizing<[u8; 32]>,
    nonce: u64,
}

/// §5.2: the chaining key, the hash and the key at hand.
struct Symmetric {
    ck: Zeroizing<[u8; 32]>,
    h: [u8; 32],
    cipher: Option<Cipher>,
}

impl Responder {
    /// `ephemeral` is the secret of the key pair for this handshake: 32 random bytes.
    pub fn new(psk: &[u8; 32], prologue: &[u8], ephemeral: &[u8; 32]) -> Self {
        let mut symmetric = Symmetric { ck: Zeroizing::new(*NAME), h: *NAME, cipher: None };
        symmetric.mix_hash(prologue);
        Self { symmetric, psk: Zeroizing::new(*psk), ephemeral: StaticSecret::from(*ephemeral) }
    }

    /// Reads message 1 (`psk, e`, a payload) and makes message 2 (`e, ee`, no payload).
    ///
    /// # Errors
    /// [`NotGenuine`]: another psk or prologue, or no message at all.
    pub fn answer(mut self, message: &[u8]) -> Result<(Vec<u8>, Vec<u8>, Transport), NotGenuine> {
        let (theirs, sealed) = message.split_first_chunk::<KEY>().ok_or(NotGenuine)?;
        self.symmetric.mix_key_and_hash(self.psk.as_slice());
        self.symmetric.mix_hash(theirs);
        self.symmetric.mix_key(theirs);
        let payload = self.symmetric.decrypt_and_hash(sealed)?;

        let ours = PublicKey::from(&self.ephemeral).to_bytes();
        self.symmetric.mix_hash(&ours);
        self.symmetric.mix_key(&ours);
        let shared = self.ephemeral.diffie_hellman(&PublicKey::from(*theirs));
        // A point of small order would make the secret known to everybody.
        if !shared.was_contributory() {
            return Err(NotGenuine);
        }
        self.symmetric.mix_key(shared.as_bytes());
        let mut answer = ours.to_vec();
        answer.extend(self.symmetric.encrypt_and_hash(&[])?);
        let [receive, send, _] = hkdf3(&self.symmetric.ck, &[]);
        let transport = Transport { h: self.symmetric.h, receive: Cipher::new(receive), send: Cipher::new(send) };
        Ok((payload, answer, transport))
    }
}

/// A hub's side, for tests.
#[cfg(test)]
pub(super) struct Initiator {
    symmetric: Symmetric,
    ephemeral: StaticSecret,
}

#[cfg(test)]
impl Initiator {
    /// Makes message 1.
    pub(super) fn begin(psk: &[u8; 32], prologue: &[u8], ephemeral: &[u8; 32], payload: &[u8]) -> (Self, Vec<u8>) {
        let mut symmetric = Symmetric { ck: Zeroizing::new(*NAME), h: *NAME, cipher: None };
        symmetric.mix_hash(prologue);
        symmetric.mix_key_and_hash(psk);
        let ephemeral = StaticSecret::from(*ephemeral);
        let ours = PublicKey::from(&ephemeral).to_bytes();
        symmetric.mix_hash(&ours);
        symmetric.mix_key(&ours);
        let mut message = ours.to_vec();
        message.extend(symmetric.encrypt_and_hash(payload).unwrap());
        (Self { symmetric, ephemeral }, message)
    }

    /// Reads message 2.
    pub(super) fn finish(mut self, message: &[u8]) -> Option<Transport> {
        let (theirs, sealed) = message.split_first_chunk::<KEY>()?;
        self.symmetric.mix_hash(theirs);
        self.symmetric.mix_key(theirs);
        self.symmetric.mix_key(self.ephemeral.diffie_hellman(&PublicKey::from(*theirs)).as_bytes());
        self.symmetric.decrypt_and_hash(sealed).ok()?;
        let [receive, send, _] = hkdf3(&self.symmetric.ck, &[]);
        Some(Transport { h: self.symmetric.h, receive: Cipher::new(receive), send: Cipher::new(send) }.turned())
    }
}

impl Transport {
    /// Opens a message from the hub.
    ///
    /// # Errors
    /// [`NotGenuine`].
    pub fn open(&mut self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotGenuine> {
        self.receive.open(&[], message).map(Zeroizing::new)
    }

    /// Seals a message for the hub.
    ///
    /// # Errors
    /// [`NotGenuine`] when the nonces are used up, which no session lives to see.
    pub fn seal(&mut self, message: &[u8]) -> Result<Vec<u8>, NotGenuine> {
        self.send.seal(&[], message)
    }

    /// The keys hub → device and device → hub: for comparison with test vectors.
    #[cfg(test)]
    pub(super) fn keys(&self) -> (&[u8; 32], &[u8; 32]) {
        (&self.receive.key, &self.send.key)
    }

    /// The other end of the same session: for a hub that a test plays.
    #[cfg(test)]
    pub(super) fn turned(self) -> Self {
        Self { h: self.h, receive: self.send, send: self.receive }
    }
}

impl Cipher {
    fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self { key, nonce: 0 }
    }

    /// §12.4: four zero bytes and the counter, big-endian.
    fn next(&self) -> [u8; 12] {
        let mut nonce = [0u8; 12];
        if let Some(counter) = nonce.last_chunk_mut::<8>() {
            *counter = self.nonce.to_be_bytes();
        }
        nonce
    }

    fn seal(&mut self, ad: &[u8], plain: &[u8]) -> Result<Vec<u8>, NotGenuine> {
        let sealed = Aes256Gcm::new(&(*self.key).into()).encrypt(&Nonce::from(self.next()), Payload { msg: plain, aad: ad });
        self.nonce = self.nonce.checked_add(1).ok_or(NotGenuine)?;
        sealed.map_err(|_| NotGenuine)
    }

    fn open(&mut self, ad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, NotGenuine> {
        let plain = Aes256Gcm::new(&(*self.key).into()).decrypt(&Nonce::from(self.next()), Payload { msg: sealed, aad: ad });
        let plain = plain.map_err(|_| NotGenuine)?;
        self.nonce = self.nonce.checked_add(1).ok_or(NotGenuine)?;
        Ok(plain)
    }
}

impl Symmetric {
    fn mix_hash(&mut self, data: &[u8]) {
        self.h = Sha256::new().chain_update(self.h).chain_update(data).finalize().into();
    }

    fn mix_key(&mut self, material: &[u8]) {
        let [ck, key, _] = hkdf3(&self.ck, material);
        self.ck = ck;
        self.cipher = Some(Cipher::new(key));
    }

    fn mix_key_and_hash(&mut self, material: &[u8]) {
        let [ck, hashed, key] = hkdf3(&self.ck, material);
        self.ck = ck;
        self.mix_hash(hashed.as_slice());
        self.cipher = Some(Cipher::new(key));
    }

    fn encrypt_and_hash(&mut self, plain: &[u8]) -> Result<Vec<u8>, NotGenuine> {
        let sealed = self.cipher.as_mut().ok_or(NotGenuine)?.seal(&self.h, plain)?;
        self.mix_hash(&sealed);
        Ok(sealed)
    }

    fn decrypt_and_hash(&mut self, sealed: &[u8]) -> Result<Vec<u8>, NotGenuine> {
        let plain = self.cipher.as_mut().ok_or(NotGenuine)?.open(&self.h, sealed)?;
        self.mix_hash(sealed);
        Ok(plain)
    }
}

/// §4.3: three outputs, of which the first two are the same when only two are wanted.
fn hkdf3(ck: &Zeroizing<[u8; 32]>, material: &[u8]) -> [Zeroizing<[u8; 32]>; 3] {
    let mut okm = Zeroizing::new([0u8; 96]);
    let filled = Hkdf::<Sha256>::new(Some(ck.as_slice()), material).expand(&[], okm.as_mut_slice());
    debug_assert!(filled.is_ok(), "96 bytes are within what HKDF gives");
    let mut outputs = [const { [0u8; 32] }; 3].map(Zeroizing::new);
    for (output, part) in outputs.iter_mut().zip(okm.chunks_exact(32)) {
        output.copy_from_slice(part);
    }
    outputs
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport(..)")
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Responder(..)")
    }
}
