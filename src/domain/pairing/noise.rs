//! The secure session: `Noise_NNpsk0_25519_AESGCM_SHA256` (The Noise Protocol Framework, revision 34), by `snow`. Its primitives here are ones that
//! wipe their keys, and its only randomness is what the caller gives: the 32 bytes that become the ephemeral key.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use super::SERVICE;
use super::frame::MESSAGE_MAX;
use crate::domain::cbor::{self, Row};
use crate::domain::ids::{DeviceId, HubId};
use crate::domain::keys::PairingKey;

const NAME: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";
const VERSION: u64 = 1;
/// Bytes that encryption adds.
const TAG: usize = 16;

/// Why a message of the session is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// Another key, another transcript, or changed bytes.
    #[error("the message was not made with this key in this session")]
    NotForThis,
    /// It opened, and says something else.
    #[error("the message does not hold what it should")]
    Content,
    /// More than a message holds.
    #[error("the message is too long")]
    TooLong,
}

/// What both sides hash before anything else: CBOR `[1, service UUID, device id]`.
#[must_use]
pub fn prologue(device: &DeviceId) -> Vec<u8> {
    cbor::encode(ciborium::Value::Array(vec![VERSION.into(), cbor::bytes(&SERVICE), cbor::text(device)]))
}

/// The hub between Noise message 1 and message 2.
pub struct Initiator(Box<HandshakeState>);

impl Initiator {
    /// Noise message 1, and who waits for the answer. `entropy` is 32 fresh random bytes, used for nothing else.
    ///
    /// # Errors
    /// [`NoiseError::NotForThis`] never comes of inputs; it stands for what `snow` could refuse.
    pub fn greet(key: &PairingKey, hub: &HubId, device: &DeviceId, entropy: [u8; 32]) -> Result<(Self, Vec<u8>), NoiseError> {
        let prologue = prologue(device);
        let mut state = builder(key, &prologue, entropy)?.build_initiator().map_err(|_| NoiseError::NotForThis)?;
        let payload = cbor::encode(ciborium::Value::Array(vec![VERSION.into(), cbor::bytes(hub.as_bytes())]));
        let message = written(&payload, |payload, room| state.write_message(payload, room))?;
        forget_psk(&mut state);
        Ok((Self(Box::new(state)), message))
    }

    /// Takes Noise message 2: the session, when the device has the same key.
    ///
    /// # Errors
    /// [`NoiseError::NotForThis`] when it has not, [`NoiseError::Content`] for a payload.
    pub fn proven(mut self, message: &[u8]) -> Result<Channel, NoiseError> {
        let payload = read(message, |message, room| self.0.read_message(message, room))?;
        if payload.is_empty() { Channel::new(*self.0) } else { Err(NoiseError::Content) }
    }
}

/// The device's side of the handshake, as the tests and the vectors need it.
pub struct Responder;

impl Responder {
    /// Takes Noise message 1 and gives the session, Noise message 2, and the hub that greeted.
    ///
    /// # Errors
    /// [`NoiseError::NotForThis`] for another key or device, [`NoiseError::Content`] for another version.
    pub fn answer(key: &PairingKey, device: &DeviceId, entropy: [u8; 32], message: &[u8]) -> Result<(Channel, Vec<u8>, HubId), NoiseError> {
        let prologue = prologue(device);
        let mut state = builder(key, &prologue, entropy)?.build_responder().map_err(|_| NoiseError::NotForThis)?;
        let payload = read(message, |message, room| state.read_message(message, room))?;
        forget_psk(&mut state);
        let hub = greeted(&payload).map_err(|_| NoiseError::Content)?;
        let answer = written(&[], |payload, room| state.write_message(payload, room))?;
        Ok((Channel::new(state)?, answer, hub))
    }
}

fn greeted(payload: &[u8]) -> Result<HubId, cbor::CborError> {
    let mut row = Row::decode("Noise message 1", payload)?;
    let (version, hub) = (row.take("version")?.uint()?, row.take("hub id")?.fixed()?);
    row.finish()?;
    if version == VERSION { Ok(HubId::from_bytes(hub)) } else { Err(cbor::CborError::Unknown("Noise message 1")) }
}

/// The session: every message is one Noise transport message.
pub struct Channel {
    state: Box<TransportState>,
    h: [u8; 32],
}

impl Channel {
    fn new(state: HandshakeState) -> Result<Self, NoiseError> {
        let h = state.get_handshake_hash().try_into().map_err(|_| NoiseError::NotForThis)?;
        let state = state.into_transport_mode().map_err(|_| NoiseError::NotForThis)?;
        Ok(Self { state: Box::new(state), h })
    }

    /// The handshake hash after message 2, which names this session.
    #[must_use]
    pub fn h(&self) -> [u8; 32] {
        self.h
    }

    /// Encrypts the next message of this side.
    ///
    /// # Errors
    /// [`NoiseError::TooLong`] above 4,080 bytes.
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, NoiseError> {
        if plaintext.len() + TAG > MESSAGE_MAX {
            return Err(NoiseError::TooLong);
        }
        written(plaintext, |payload, room| self.state.write_message(payload, room))
    }

    /// Opens the next message of the other side.
    ///
    /// # Errors
    /// [`NoiseError::NotForThis`] when it is not that one, [`NoiseError::TooLong`] above [`MESSAGE_MAX`].
    pub fn open(&mut self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, NoiseError> {
        read(message, |message, room| self.state.read_message(message, room))
    }

    /// How many messages each way: sent, received.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.state.sending_nonce(), self.state.receiving_nonce())
    }
}

fn builder<'a>(key: &'a PairingKey, prologue: &'a [u8], entropy: [u8; 32]) -> Result<Builder<'a>, NoiseError> {
    let name = NAME.parse().map_err(|_| NoiseError::NotForThis)?;
    let builder = Builder::with_resolver(name, Box::new(Given(Zeroizing::new(entropy))));
    builder.prologue(prologue).and_then(|b| b.psk(0, key.as_bytes())).map_err(|_| NoiseError::NotForThis)
}

/// `snow` keeps the key as it was given, and does not wipe it. With psk0 it has been used by now.
fn forget_psk(state: &mut HandshakeState) {
    // It refuses other places and lengths only.
    let _ = state.set_psk(0, &[0; 32]);
}

fn written(payload: &[u8], write: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, snow::Error>) -> Result<Vec<u8>, NoiseError> {
    let mut message = vec![0; payload.len() + 64];
    let length = write(payload, &mut message).map_err(|_| NoiseError::TooLong)?;
    message.truncate(length);
    Ok(message)
}

fn read(message: &[u8], read: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, snow::Error>) -> Result<Zeroizing<Vec<u8>>, NoiseError> {
    if message.len() > MESSAGE_MAX {
        return Err(NoiseError::TooLong);
    }
    let mut payload = Zeroizing::new(vec![0; message.len()]);
    let length = read(message, &mut payload).map_err(|_| NoiseError::NotForThis)?;
    payload.truncate(length);
    Ok(payload)
}

/// The primitives of [`NAME`], and entropy that is given once.
struct Given(Zeroizing<[u8; 32]>);

impl CryptoResolver for Given {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.0.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(X25519::default()) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::AESGCM).then(|| Box::new(AesGcm::default()) as Box<dyn Cipher>)
    }
}

struct Once(Option<Zeroizing<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, room: &mut [u8]) -> Result<(), snow::Error> {
        match self.0.take() {
            Some(entropy) if room.len() == entropy.len() => {
                room.copy_from_slice(&*entropy);
                Ok(())
            }
            _ => Err(snow::Error::Rng),
        }
    }
}

#[derive(Default)]
struct X25519 {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        self.secret.iter_mut().zip(secret).for_each(|(to, from)| *to = *from);
        self.public = PublicKey::from(&StaticSecret::from(*self.secret)).to_bytes();
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        random.try_fill_bytes(&mut *bytes)?;
        self.set(&*bytes);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.secret
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = public.first_chunk::<32>().ok_or(snow::Error::Dh)?;
        let shared = StaticSecret::from(*self.secret).diffie_hellman(&PublicKey::from(*public));
        // A point of small order makes a secret that everybody knows.
        if !shared.was_contributory() {
            return Err(snow::Error::Dh);
        }
        out.iter_mut().zip(shared.as_bytes()).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

/// AES-256-GCM as §12.4 of the framework has it: the nonce is 32 bits of zeros and the counter in big-endian.
#[derive(Default)]
struct AesGcm(Zeroizing<[u8; 32]>);

impl AesGcm {
    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce.iter_mut().skip(4).zip(counter.to_be_bytes()).for_each(|(to, from)| *to = from);
        nonce
    }
}

impl Cipher for AesGcm {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; 32]) {
        *self.0 = *key;
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let cipher = Aes256Gcm::new((&*self.0).into());
        let whole = plaintext.len() + TAG;
        let Some((text, tag)) = out.get_mut(..whole).and_then(|out| out.split_at_mut_checked(plaintext.len())) else { return 0 };
        text.copy_from_slice(plaintext);
        match cipher.encrypt_inout_detached(&Self::nonce(nonce).into(), authtext, text.into()) {
            Ok(made) => {
                tag.copy_from_slice(&made);
                whole
            }
            Err(_) => 0,
        }
    }

    fn decrypt(&self, nonce: u64, authtext: &[u8], ciphertext: &[u8], out: &mut [u8]) -> Result<usize, snow::Error> {
        let cipher = Aes256Gcm::new((&*self.0).into());
        let (text, tag) = ciphertext.split_last_chunk::<TAG>().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(text);
        let outcome = cipher.decrypt_inout_detached(&Self::nonce(nonce).into(), authtext, (&mut *out).into(), tag.into());
        if outcome.is_err() {
            out.zeroize();
        }
        outcome.map(|()| text.len()).map_err(|_| snow::Error::Decrypt)
    }
}
