//! What a firmware computes with its device key: the claim code, the keys of one hub, counter tokens, the sealed
//! credential and the answer to a re-base (`docs/protocol/identity.md` §2–§5, §9, `mqtt.md` §1 and §4); orders to move stand below. Where keys and
//! counters are kept is `sim::state`'s; when they are used is `sim::device`'s.

mod rehome;
#[cfg(test)]
pub(super) mod tests;

pub use rehome::{MoveError, MoveOrder, ORDER_MAX};

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use ciborium::Value;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What a device is born with: the secret file of the factory.
#[derive(Clone)]
pub struct DeviceSecret {
    /// Device id, 1–64 of `A-Z a-z 0-9 _ -`.
    pub device_id: String,
    /// The maker.
    pub brand: String,
    /// Name of the model.
    pub model: String,
    /// Hardware revision.
    pub hardware: String,
    /// Serial number.
    pub serial: String,
    device_key: Zeroizing<[u8; 32]>,
}

/// A hub's id: 16 bytes, 26 characters of base32 in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HubId([u8; 16]);

/// What the device computes for one hub; the hub holds the same.
pub struct HubKeys {
    device_id: String,
    hub: HubId,
    mqtt: Zeroizing<[u8; 32]>,
    seal: Zeroizing<[u8; 32]>,
    rebase: Zeroizing<[u8; 32]>,
    attest: Zeroizing<[u8; 32]>,
    reset: Zeroizing<[u8; 32]>,
    scoped: Zeroizing<[u8; 32]>,
}

/// What a claim gives the device.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The hub's CA certificate (DER), pinned from now on.
    pub ca: Vec<u8>,
    /// The operational secret.
    pub secret: Zeroizing<[u8; 32]>,
    /// When it was claimed, in seconds since 1970.
    pub claimed_at: u64,
}

/// Why something could not be read or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The secret file cannot be read.
    #[error("cannot read the secret file: {0}")]
    File(String),
    /// The secret file is not what §9 says.
    #[error("the secret file: {0}")]
    Secret(String),
    /// No hub id.
    #[error("a hub id is 26 characters of a-z and 2-7")]
    HubId,
    /// The credential message is not what mqtt.md §4 says.
    #[error("the credential message: {0}")]
    Message(&'static str),
    /// The box does not open: another key, hub, device or nonce.
    #[error("the credential is not sealed for this device, hub and nonce")]
    Sealed,
    /// A challenge that is none.
    #[error("the challenge: {0}")]
    Challenge(&'static str),
}

impl DeviceSecret {
    /// Reads a secret file.
    ///
    /// # Errors
    /// [`IdentityError::File`], [`IdentityError::Secret`].
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        let text = std::fs::read(path).map_err(|error| IdentityError::File(format!("{}: {error}", path.display())))?;
        Self::parse(&Zeroizing::new(text))
    }

    /// Parses the content of a secret file.
    ///
    /// # Errors
    /// [`IdentityError::Secret`] names the member that is missing or wrong.
    pub fn parse(json: &[u8]) -> Result<Self, IdentityError> {
        let wrong = |what: &str| IdentityError::Secret(what.to_owned());
        let value: serde_json::Value = serde_json::from_slice(json).map_err(|error| wrong(&error.to_string()))?;
        if value.get("v").and_then(serde_json::Value::as_u64) != Some(1) {
            return Err(wrong("only version 1 is known"));
        }
        let text = |name: &'static str| {
            let member = value.get(name).and_then(serde_json::Value::as_str);
            member.map(str::to_owned).ok_or_else(|| IdentityError::Secret(format!("{name} is missing")))
        };
        let device_id = text("device_id")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if device_id.is_empty() || device_id.len() > 64 || !device_id.chars().all(plain) {
            return Err(wrong("device_id is not 1–64 of A-Z a-z 0-9 _ -"));
        }
        let key = value.get("device_key").and_then(serde_json::Value::as_str).unwrap_or_default();
        let device_key = decode32(key).ok_or_else(|| wrong("device_key is not base64url of 32 bytes"))?;
        Ok(Self {
            device_id,
            brand: text("brand")?,
            model: text("model")?,
            hardware: text("hardware")?,
            serial: text("serial")?,
            device_key,
        })
    }

    /// The claim code as printed: 7 groups of 3 Crockford symbols.
    pub fn claim_code(&self) -> String {
        let symbols = self.claim_symbols();
        let groups: Vec<String> = symbols.chunks(3).map(|group| group.iter().copied().map(crockford).collect()).collect();
        groups.join("-")
    }

    /// The text of the QR code on the label.
    pub fn claim_qr(&self) -> String {
        let code: String = self.claim_symbols().iter().copied().map(crockford).collect();
        format!("HK1:{}:{code}", self.device_id)
    }

    /// The key that pairing proves (`pairing.md` §3).
    pub fn pairing_key(&self) -> Zeroizing<[u8; 32]> {
        let code: Zeroizing<Vec<u8>> =
            Zeroizing::new(self.claim_symbols().iter().take(20).map(|symbol| u8::try_from(crockford(*symbol)).unwrap_or(b'0')).collect());
        let mut key = Zeroizing::new([0u8; 32]);
        fill(&Hkdf::<Sha256>::new(Some(self.device_id.as_bytes()), code.as_slice()), b"hearthkey pair v1", key.as_mut_slice());
        key
    }

    /// The first 6 bytes by which who has the label finds this device among others (`pairing.md` §1).
    pub fn short_id(&self, salt: [u8; 4]) -> [u8; 6] {
        let tag: Option<[u8; 32]> = Hmac::<Sha256>::new_from_slice(self.pairing_key().as_slice())
            .map(|mac| mac.chain_update(b"hearthkey short v1").chain_update(salt).finalize().into_bytes().into())
            .ok();
        tag.and_then(|tag| tag.first_chunk().copied()).unwrap_or_default()
    }

    /// The keys for one hub.
    pub fn for_hub(&self, hub: HubId) -> HubKeys {
        let mut scoped = Zeroizing::new([0u8; 32]);
        fill(&Hkdf::<Sha256>::new(Some(&hub.0), self.device_key.as_slice()), b"hearthkey hub v1", scoped.as_mut_slice());
        HubKeys {
            device_id: self.device_id.clone(),
            hub,
            mqtt: expand(&scoped, b"mqtt v1"),
            seal: expand(&scoped, b"seal v1"),
            rebase: expand(&scoped, b"rebase v1"),
            attest: expand(&scoped, b"attest v1"),
            reset: expand(&scoped, b"reset v1"),
            scoped,
        }
    }

    /// The 20 symbols of the code proper and the check symbol, as numbers below 32.
    fn claim_symbols(&self) -> Vec<u8> {
        let mut okm = Zeroizing::new([0u8; 13]);
        fill(&Hkdf::<Sha256>::new(None, self.device_key.as_slice()), b"hearthkey claim v1", okm.as_mut_slice());
        let bits = okm.iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        // 13 bytes are 104 bits, the first 100 of which are used: symbol i ends 99 − 5i bits above the four unused.
        let mut symbols: Vec<u8> = (0..20).map(|i| (bits >> (4 + 95 - 5 * i)) as u8 & 31).collect();
        // Horner from the last symbol: check = Σ symbolᵢ · α^(i+1).
        let check = symbols.iter().rev().fold(0, |sum, symbol| times_alpha(sum ^ symbol));
        symbols.push(check);
        symbols
    }
}

impl HubKeys {
    /// The hub these keys are for.
    pub fn hub(&self) -> HubId {
        self.hub
    }

    /// The hub-scoped key itself, which the maker's batch carries to the hub: for comparison with test vectors.
    pub fn scoped(&self) -> &[u8; 32] {
        &self.scoped
    }

    /// A counter token. `spki` is SHA-256 of the SPKI that this handshake showed, or empty without TLS; the counter
    /// must have been stored before.
    pub fn token(&self, counter: u64, nonce: &[u8; 16], spki: &[u8]) -> String {
        let info = cbor(&Value::Array(vec![counter.into(), bytes(nonce)]));
        let key = expand(&self.mqtt, &info);
        let aad = cbor(&Value::Array(vec![1.into(), bytes(&self.hub.0), Value::Text(self.device_id.clone()), counter.into(), bytes(spki)]));
        let tag = cipher(&key).encrypt(&Nonce::from([0u8; 12]), Payload { msg: &[], aad: &aad }).unwrap_or_default();
        format!("hk1.{counter}.{}.{}", BASE64URL_NOPAD.encode(nonce), BASE64URL_NOPAD.encode(&tag))
    }

    /// Opens what came on `claim/credential`, in answer to the hello with `nonce`.
    ///
    /// # Errors
    /// [`IdentityError::Message`] when it is malformed or answers another hello, [`IdentityError::Sealed`] when the box
    /// was not made for this device, hub and nonce.
    pub fn open_credential(&self, message: &[u8], nonce: &[u8]) -> Result<Credential, IdentityError> {
        let value: serde_json::Value = serde_json::from_slice(message).map_err(|_| IdentityError::Message("no JSON"))?;
        if value.get("v").and_then(serde_json::Value::as_u64) != Some(1) {
            return Err(IdentityError::Message("only version 1 is known"));
        }
        let field = |name: &str| value.get(name).and_then(serde_json::Value::as_str).and_then(decode);
        if field("nonce").as_deref() != Some(nonce) {
            return Err(IdentityError::Message("it answers another hello"));
        }
        let iv: [u8; 12] = field("iv").and_then(|iv| iv.try_into().ok()).ok_or(IdentityError::Message("iv is not 12 bytes"))?;
        let sealed = field("box").ok_or(IdentityError::Message("no box"))?;
        let aad = cbor(&Value::Array(vec![
            1.into(),
            bytes(&self.hub.0),
            Value::Text(self.device_id.clone()),
            Value::Text("to device".into()),
            bytes(nonce),
        ]));
        let opened =
            cipher(&self.seal).decrypt(&Nonce::from(iv), Payload { msg: &sealed, aad: &aad }).map_err(|_| IdentityError::Sealed)?;
        self.read_credential(&Zeroizing::new(opened))
    }

    /// The tag that answers a re-base challenge with the counter `counter`.
    pub fn rebase_tag(&self, challenge: &[u8], counter: u64) -> [u8; 32] {
        self.hmac(&self.rebase, vec![bytes(challenge), counter.into()])
    }

    /// The tag that answers a challenge of a hub that has given the device's place to another.
    pub fn alive_tag(&self, challenge: &[u8], instance: &[u8; 16]) -> [u8; 32] {
        self.hmac(&self.attest, vec![Value::Text("alive".into()), bytes(challenge), bytes(instance)])
    }

    /// The tag by which a hello says how often the device has been reset by hand.
    pub fn reset_tag(&self, nonce: &[u8], counter: u64) -> [u8; 32] {
        self.hmac(&self.reset, vec![bytes(nonce), counter.into()])
    }

    /// The tag by which a device that is being paired shows its key (`pairing.md` §4); `h` is the hash of the handshake.
    pub fn pair_tag(&self, h: &[u8; 32], resets: u64, firmware: &str) -> [u8; 32] {
        self.hmac(&self.attest, vec![Value::Text("pair".into()), bytes(h), resets.into(), Value::Text(firmware.to_owned())])
    }

    /// What to publish on `claim/hello`.
    pub fn hello(&self, nonce: &[u8], resets: u64) -> Vec<u8> {
        let tag = BASE64URL_NOPAD.encode(&self.reset_tag(nonce, resets));
        let hello = serde_json::json!({"nonce": BASE64URL_NOPAD.encode(nonce), "reset": {"counter": resets, "tag": tag}});
        hello.to_string().into_bytes()
    }

    /// What to answer on `proof/response` to the message on `proof/challenge`; `instance` are the bytes the device drew
    /// when it was switched on.
    ///
    /// # Errors
    /// [`IdentityError::Challenge`].
    pub fn alive_answer(&self, message: &[u8], instance: &[u8; 16]) -> Result<Vec<u8>, IdentityError> {
        let value: serde_json::Value = serde_json::from_slice(message).map_err(|_| IdentityError::Challenge("no JSON"))?;
        let challenge = value.get("challenge").and_then(serde_json::Value::as_str).and_then(decode);
        let challenge = challenge.filter(|bytes| bytes.len() == 32).ok_or(IdentityError::Challenge("not 32 bytes"))?;
        let tag = BASE64URL_NOPAD.encode(&self.alive_tag(&challenge, instance));
        let answer = serde_json::json!({"instance": BASE64URL_NOPAD.encode(instance), "tag": tag});
        Ok(answer.to_string().into_bytes())
    }

    /// HMAC-SHA256 over CBOR `[1, hub_id_raw, device_id, …]`.
    fn hmac(&self, key: &Zeroizing<[u8; 32]>, rest: Vec<Value>) -> [u8; 32] {
        let mut said = vec![1.into(), bytes(&self.hub.0), Value::Text(self.device_id.clone())];
        said.extend(rest);
        // HMAC takes a key of any length, so the error cannot occur; an empty tag would be refused by any hub.
        Hmac::<Sha256>::new_from_slice(key.as_slice())
            .map(|mac| mac.chain_update(cbor(&Value::Array(said))).finalize().into_bytes().into())
            .unwrap_or_default()
    }

    /// What to answer to the message on `rebase/challenge`: the counter to continue from and the JSON to publish. The
    /// counter is the larger of the hub's floor and `last_used`, and must be stored before the answer is sent.
    ///
    /// # Errors
    /// [`IdentityError::Challenge`].
    pub fn rebase_answer(&self, message: &[u8], last_used: u64) -> Result<(u64, Vec<u8>), IdentityError> {
        let value: serde_json::Value = serde_json::from_slice(message).map_err(|_| IdentityError::Challenge("no JSON"))?;
        let challenge = value.get("challenge").and_then(serde_json::Value::as_str).and_then(decode);
        let challenge = challenge.filter(|bytes| bytes.len() == 32).ok_or(IdentityError::Challenge("not 32 bytes"))?;
        let floor = value.get("floor").and_then(serde_json::Value::as_u64);
        let counter = floor.ok_or(IdentityError::Challenge("no floor"))?.max(last_used).max(1);
        let tag = BASE64URL_NOPAD.encode(&self.rebase_tag(&challenge, counter));
        Ok((counter, serde_json::json!({"counter": counter, "tag": tag}).to_string().into_bytes()))
    }

    fn read_credential(&self, opened: &[u8]) -> Result<Credential, IdentityError> {
        let wrong = IdentityError::Message("the box holds no credential");
        let Ok(Value::Map(entries)) = ciborium::from_reader::<Value, _>(opened) else {
            return Err(wrong);
        };
        let member = |key: i64| entries.iter().find(|(name, _)| *name == Value::from(key)).map(|(_, value)| value);
        let blob = |key: i64| member(key).and_then(Value::as_bytes);
        if blob(1).map(Vec::as_slice) != Some(self.hub.0.as_slice()) {
            return Err(IdentityError::Message("it is of another hub"));
        }
        let secret = blob(3).and_then(|secret| <[u8; 32]>::try_from(secret.as_slice()).ok());
        let claimed_at = member(4).and_then(Value::as_integer).and_then(|at| u64::try_from(at).ok());
        match (blob(2), secret, claimed_at) {
            (Some(ca), Some(secret), Some(claimed_at)) => Ok(Credential { ca: ca.clone(), secret: Zeroizing::new(secret), claimed_at }),
            _ => Err(wrong),
        }
    }
}

impl Credential {
    /// The MQTT password.
    pub fn password(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("hks1.{}", BASE64URL_NOPAD.encode(self.secret.as_slice())))
    }
}

fn fill(hkdf: &Hkdf<Sha256>, info: &[u8], out: &mut [u8]) {
    // Expand fails above 8,160 bytes alone; every key here is at most 32.
    let filled = hkdf.expand(info, out);
    debug_assert!(filled.is_ok(), "no key here is longer than HKDF can give");
}

/// HKDF-Expand alone, with `key` as the pseudo-random key.
fn expand(key: &Zeroizing<[u8; 32]>, info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0u8; 32]);
    // A pseudo-random key of the hash's own length is never refused.
    if let Ok(hkdf) = Hkdf::<Sha256>::from_prk(key.as_slice()) {
        fill(&hkdf, info, out.as_mut_slice());
    }
    out
}

fn cipher(key: &Zeroizing<[u8; 32]>) -> Aes256Gcm {
    Aes256Gcm::new(&(**key).into())
}

/// Deterministic CBOR: integers and lengths come out shortest, arrays definite, and no maps are written here.
fn cbor(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let written = ciborium::into_writer(value, &mut out);
    debug_assert!(written.is_ok(), "a vector takes all that is written");
    out
}

fn bytes(slice: &[u8]) -> Value {
    Value::Bytes(slice.to_vec())
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()
}

fn decode32(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    Zeroizing::new(decode(text)?).as_slice().try_into().ok().map(Zeroizing::new)
}

/// Multiplies by α = 2 in GF(32) with the polynomial x⁵+x²+1.
fn times_alpha(value: u8) -> u8 {
    let shifted = value << 1;
    if shifted & 0x20 == 0 { shifted } else { (shifted ^ 0b10_0101) & 31 }
}

fn crockford(symbol: u8) -> char {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    ALPHABET.get(usize::from(symbol & 31)).map_or('0', |byte| char::from(*byte))
}

impl HubId {
    /// From its 16 bytes.
    pub fn from_bytes(raw: [u8; 16]) -> Self {
        Self(raw)
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for HubId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        if text.len() != 26 || text.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(IdentityError::HubId);
        }
        let raw = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| IdentityError::HubId)?;
        raw.try_into().map(Self).map_err(|_| IdentityError::HubId)
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubId({self})")
    }
}

impl fmt::Debug for DeviceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceSecret").field("device_id", &self.device_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for HubKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubKeys").field("hub", &self.hub).finish_non_exhaustive()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("claimed_at", &self.claimed_at).finish_non_exhaustive()
    }
}
