//! What is said within a session, and the bytes around it (pairing.md §1, §3 and §4).

use ciborium::Value;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::sim::identity::{Credential, HubId};
use crate::sim::tls::Address;

/// The service.
pub const SERVICE: Uuid = Uuid::from_u128(0xac94_43d2_687c_4c4c_aa78_2d61_b4d3_6cd2);
/// Hub → device.
pub const RX: Uuid = Uuid::from_u128(0x436c_5d49_3b6f_44e0_83ae_a02f_da72_73f0);
/// Device → hub.
pub const TX: Uuid = Uuid::from_u128(0x8e0e_6803_b197_4fa6_8b95_0c83_424d_adee);
/// What can be read before anything is proved.
pub const INFO: Uuid = Uuid::from_u128(0xe180_42a9_450a_4bfd_b00a_c2c8_35c5_c68a);

/// The largest part of a model in one message, in bytes.
pub const MODEL_PART: usize = 3500;

/// What a device says of itself.
#[derive(Debug, Clone)]
pub struct Hello<'a> {
    /// Its id.
    pub device_id: &'a str,
    /// Its maker.
    pub brand: &'a str,
    /// Its model.
    pub model: &'a str,
    /// Hardware revision.
    pub hardware: &'a str,
    /// Version of its firmware, at most 64 characters.
    pub firmware: &'a str,
    /// How often it was reset by hand; absent in firmware that does not count.
    pub resets: Option<u64>,
    /// The voucher with its certificate, or empty.
    pub voucher: &'a [u8],
    /// Length of the model part, or 0.
    pub model_len: usize,
    /// The attestation tag.
    pub tag: [u8; 32],
}

/// What a hub says.
pub enum FromHub {
    /// It wants the model from this offset on.
    WantModel(usize),
    /// It gives a credential.
    Delivery(Box<Delivery>),
    /// It ends the pairing.
    End {
        /// Why.
        code: u64,
        /// The same for a log.
        text: String,
    },
    /// It has recorded the claim.
    Complete,
}

/// What a claim gives the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Whose it is now.
    pub hub: HubId,
    /// CA, secret, and when.
    pub credential: Credential,
    /// Where the hub is, in the order to try.
    pub addresses: Vec<Address>,
    /// The network to join.
    pub wifi: Option<Wifi>,
}

/// A wireless network.
#[derive(Clone, PartialEq, Eq)]
pub struct Wifi {
    /// Its name, 1 to 32 bytes.
    pub ssid: Vec<u8>,
    /// Its passphrase, empty for an open network.
    pub passphrase: Zeroizing<String>,
}

/// How far the device is after *stored*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Joining the Wi-Fi.
    Joining = 1,
    /// Looking for the hub.
    Looking = 2,
    /// Signing in.
    SigningIn = 3,
}

/// Why a pairing ends (§4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EndCode {
    /// The window is closed.
    WindowClosed = 1,
    /// What came is no message.
    Malformed = 3,
    /// It could not be stored.
    NotStored = 6,
    /// Too late.
    TimedOut = 7,
    /// The hub, or its password, is not the right one.
    NotTrusted = 8,
    /// The network does not work.
    NetworkFails = 9,
}

/// The prologue of the handshake.
pub fn prologue(device_id: &str) -> Vec<u8> {
    encode(&Value::Array(vec![1.into(), Value::Bytes(SERVICE.as_bytes().to_vec()), Value::Text(device_id.to_owned())]))
}

/// The hub in the payload of message 1.
pub fn opening(payload: &[u8]) -> Option<HubId> {
    match decode(payload)?.as_slice() {
        [version, Value::Bytes(hub)] if *version == Value::from(1) => hub.as_slice().try_into().ok().map(HubId::from_bytes),
        _ => None,
    }
}

impl Hello<'_> {
    /// As it is sent.
    pub fn encode(&self) -> Vec<u8> {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut members = vec![
            (1, text(self.device_id)),
            (2, text(self.brand)),
            (3, text(self.model)),
            (4, text(self.hardware)),
            (5, text(self.firmware)),
        ];
        members.extend(self.resets.map(|resets| (6, resets.into())));
        members.push((7, Value::Bytes(self.voucher.to_vec())));
        members.push((8, uint(self.model_len)));
        members.push((9, Value::Bytes(self.tag.to_vec())));
        let members = members.into_iter().map(|(name, value): (u8, Value)| (name.into(), value)).collect();
        encode(&Value::Array(vec![1.into(), Value::Map(members)]))
    }
}

/// The part of the model at `offset`, of at most `most` bytes; nothing when it has no byte there.
pub fn model_part(model: &[u8], offset: usize, most: usize) -> Option<Vec<u8>> {
    let part = model.get(offset..).filter(|part| !part.is_empty())?;
    let part = part.get(..most).unwrap_or(part);
    Some(encode(&Value::Array(vec![3.into(), uint(offset), Value::Bytes(part.to_vec())])))
}

/// *Stored*.
pub fn stored() -> Vec<u8> {
    encode(&Value::Array(vec![5.into()]))
}

/// How far it is: 0 begun, 1 failed, and what the step itself can say.
pub fn progress(step: Step, code: u8) -> Vec<u8> {
    encode(&Value::Array(vec![6.into(), (step as u8).into(), code.into()]))
}

/// The end, with a word for the hub's log.
pub fn end(code: EndCode, text: &str) -> Vec<u8> {
    encode(&Value::Array(vec![7.into(), (code as u8).into(), Value::Text(text.chars().take(100).collect())]))
}

impl FromHub {
    /// Reads what a hub may say; nothing for everything else.
    pub fn decode(message: &[u8]) -> Option<Self> {
        let items = decode(message)?;
        let (kind, rest) = items.split_first()?;
        match (small(kind)?, rest) {
            (2, [offset]) => Some(Self::WantModel(usize::try_from(small(offset)?).ok()?)),
            (4, [Value::Map(members)]) => Some(Self::Delivery(Box::new(Delivery::read(members)?))),
            (7, [code, Value::Text(text)]) if text.chars().count() <= 100 => {
                let code = small(code).filter(|code| *code <= 9)?;
                Some(Self::End { code, text: text.clone() })
            }
            (8, []) => Some(Self::Complete),
            _ => None,
        }
    }
}

impl Delivery {
    fn read(members: &[(Value, Value)]) -> Option<Self> {
        let names: Vec<u64> = members.iter().map(|(name, _)| small(name)).collect::<Option<_>>()?;
        let value = |name: u64| members.iter().zip(&names).find(|(_, found)| **found == name).map(|((_, value), _)| value);
        if names != [1, 2, 3, 4, 5] && names != [1, 2, 3, 4, 5, 6] {
            return None;
        }
        let hub = <[u8; 16]>::try_from(value(1)?.as_bytes()?.as_slice()).ok()?;
        let ca = value(2)?.as_bytes().filter(|ca| (1..=1500).contains(&ca.len()))?.clone();
        let addresses = value(3)?.as_array().filter(|all| (1..=8).contains(&all.len()))?;
        let address = |value: &Value| value.as_text().filter(|text| text.len() <= 64)?.parse().ok();
        let addresses = addresses.iter().map(address).collect::<Option<_>>()?;
        let secret = Zeroizing::new(<[u8; 32]>::try_from(value(4)?.as_bytes()?.as_slice()).ok()?);
        let claimed_at = small(value(5)?)?;
        let wifi = match value(6) {
            Some(value) => Some(Wifi::read(value)?),
            None => None,
        };
        Some(Self { hub: HubId::from_bytes(hub), credential: Credential { ca, secret, claimed_at }, addresses, wifi })
    }
}

impl Wifi {
    fn read(value: &Value) -> Option<Self> {
        match value.as_array()?.as_slice() {
            [Value::Bytes(ssid), Value::Text(passphrase)]
                if (1..=32).contains(&ssid.len()) && (passphrase.is_empty() || (8..=64).contains(&passphrase.len())) =>
            {
                Some(Self { ssid: ssid.clone(), passphrase: Zeroizing::new(passphrase.clone()) })
            }
            _ => None,
        }
    }
}

/// A voucher file, taken apart for this protocol: what hello carries, and the model part.
///
/// # Errors
/// What is wrong with the file.
pub fn voucher_parts(file: &[u8]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    const VOUCHER_FILE: usize = 128 * 1024;
    const VOUCHER: usize = 1500;
    const MODEL: usize = 68 * 1024;
    let wrong = "it is no voucher file of version hkv1";
    let items = Some(file).filter(|file| file.len() <= VOUCHER_FILE).and_then(decode).ok_or(wrong)?;
    let [Value::Text(version), root, certificate, voucher, batch, model] = items.as_slice() else { return Err(wrong) };
    if version != "hkv1" || [root, certificate, voucher, batch, model].iter().any(|part| !part.is_bytes()) {
        return Err(wrong);
    }
    let said = encode(&Value::Array(vec![Value::Text("hkp1".into()), root.clone(), certificate.clone(), voucher.clone()]));
    let model = encode(&Value::Array(vec![batch.clone(), model.clone()]));
    if said.len() > VOUCHER || model.len() > MODEL {
        return Err("its voucher or its model is too long for pairing");
    }
    Ok((said, model))
}

fn small(value: &Value) -> Option<u64> {
    value.as_integer().and_then(|number| u64::try_from(number).ok())
}

fn uint(number: usize) -> Value {
    u64::try_from(number).unwrap_or(u64::MAX).into()
}

fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let written = ciborium::into_writer(value, &mut out);
    debug_assert!(written.is_ok(), "a vector takes all that is written");
    out
}

/// An array in deterministic form, and nothing after it. What comes out other than it went in was written otherwise.
fn decode(bytes: &[u8]) -> Option<Vec<Value>> {
    let value: Value = ciborium::from_reader(bytes).ok()?;
    let mut again = encode(&value);
    let same = again == bytes;
    again.zeroize();
    match value {
        Value::Array(items) if same => Some(items),
        _ => None,
    }
}

impl std::fmt::Debug for Wifi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wifi({})", String::from_utf8_lossy(&self.ssid))
    }
}
