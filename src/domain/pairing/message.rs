//! What hub and device say to each other inside the session (`docs/protocol/pairing.md` §4): arrays `[type, …]` in the deterministic form, each
//! within its bounds. Both directions are here, because the vectors and the tests speak for the device.

use std::fmt;

use ciborium::Value;
use zeroize::Zeroizing;

use super::limits::{ADDRESS_MAX, ADDRESSES_MAX, CA_MAX, END_TEXT_MAX, MODEL_PART_MAX, MODEL_PIECE_MAX, SHORT_VOUCHER_MAX};
use crate::domain::cbor::{self, CborError, Field, Row};
use crate::domain::ids::{BrandId, DeviceId, HubId, ModelName};
use crate::domain::keys::{COUNTER_MAX, OperationalSecret};
use crate::domain::voucher::label;

const WHAT: &str = "pairing message";

/// What a device says of itself, unproved but for its knowing the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its id. It is the one that was asked for: the handshake is bound to it.
    pub device: DeviceId,
    /// Its maker.
    pub brand: BrandId,
    /// Its type.
    pub model: ModelName,
    /// Hardware revision, at most 64 characters.
    pub hardware: String,
    /// Firmware, at most 64 characters.
    pub firmware: String,
    /// How often it was reset by hand.
    pub resets: u64,
    /// The short voucher ([`crate::domain::voucher::verify_short_voucher`]), or empty.
    pub voucher: Vec<u8>,
    /// How long its model part is, in bytes; 0 when it has none.
    pub model_len: usize,
    /// [`crate::domain::keys::pair_tag`] of this session.
    pub tag: [u8; 32],
}

/// What the device gets, when the hub takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The hub.
    pub hub: HubId,
    /// The hub's CA certificate (DER), which the device pins.
    pub ca: Vec<u8>,
    /// Where the hub is, as `host:port`, the most promising first.
    pub addresses: Vec<String>,
    /// The device's new password.
    pub secret: OperationalSecret,
    /// When it was claimed, seconds since 1970.
    pub claimed_at: u64,
    /// The network to join, when the device is to have one.
    pub wifi: Option<Wifi>,
}

/// Why something cannot be handed to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The certificate is empty or above 1,500 bytes.
    #[error("the hub's CA certificate does not fit: it has {0} bytes, and 1 to 1,500 can be handed over")]
    Certificate(usize),
    /// None, or more than 8.
    #[error("1 to 8 addresses of the hub can be handed over, not {0}")]
    Addresses(usize),
    /// Empty, or above 64 bytes.
    #[error("an address of the hub has {0} bytes, and 1 to 64 can be handed over")]
    Address(usize),
    /// Made out for another hub than the one that greeted.
    #[error("the credential is that of another hub")]
    OtherHub,
    /// See [`WifiError`].
    #[error(transparent)]
    Wifi(#[from] WifiError),
}

impl Delivery {
    /// Whether it can be sent.
    ///
    /// # Errors
    /// [`DeliveryError`], naming what does not fit.
    pub fn check(&self) -> Result<(), DeliveryError> {
        if !(1..=CA_MAX).contains(&self.ca.len()) {
            return Err(DeliveryError::Certificate(self.ca.len()));
        }
        if !(1..=ADDRESSES_MAX).contains(&self.addresses.len()) {
            return Err(DeliveryError::Addresses(self.addresses.len()));
        }
        if let Some(address) = self.addresses.iter().find(|address| !(1..=ADDRESS_MAX).contains(&address.len())) {
            return Err(DeliveryError::Address(address.len()));
        }
        self.wifi.as_ref().map_or(Ok(()), |wifi| Ok(wifi.check()?))
    }

    fn value(&self) -> Value {
        let addresses = self.addresses.iter().map(cbor::text).collect();
        let mut entries = vec![
            (1.into(), cbor::bytes(self.hub.as_bytes())),
            (2.into(), cbor::bytes(&self.ca)),
            (3.into(), Value::Array(addresses)),
            (4.into(), cbor::bytes(self.secret.as_bytes())),
            (5.into(), self.claimed_at.into()),
        ];
        if let Some(wifi) = &self.wifi {
            entries.push((6.into(), Value::Array(vec![cbor::bytes(&wifi.ssid), cbor::text(&*wifi.passphrase)])));
        }
        Value::Map(entries)
    }

    fn read(field: Field) -> Result<Self, CborError> {
        let mut record = field.record()?;
        let delivery = Self {
            hub: HubId::from_bytes(record.take(1, "hub id")?.fixed()?),
            ca: record.take(2, "CA certificate")?.bytes()?,
            addresses: record.take(3, "addresses")?.items()?.into_iter().map(Field::text).collect::<Result<_, _>>()?,
            secret: OperationalSecret::from_bytes(record.take(4, "operational secret")?.fixed()?),
            claimed_at: record.take(5, "claimed at")?.uint()?,
            wifi: match record.take_optional(6, "Wi-Fi") {
                Some(field) => {
                    let mut row = field.row()?;
                    let wifi = Wifi { ssid: row.take("ssid")?.bytes()?, passphrase: Zeroizing::new(row.take("passphrase")?.text()?) };
                    row.finish()?;
                    Some(wifi)
                }
                None => None,
            },
        };
        record.finish()?;
        delivery.check().map_err(|e| content("credential", e))?;
        Ok(delivery)
    }
}

/// A Wi-Fi network and how to join it.
#[derive(Clone, PartialEq, Eq)]
pub struct Wifi {
    /// The name, 1 … 32 bytes of any kind.
    pub ssid: Vec<u8>,
    /// 8 … 64 bytes, or empty for an open network.
    pub passphrase: Zeroizing<String>,
}

/// Why a network cannot be joined so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WifiError {
    /// The name is empty or above 32 bytes.
    #[error("the name of a Wi-Fi network has 1 to 32 bytes")]
    Ssid,
    /// The passphrase is neither empty nor of 8 … 64 bytes.
    #[error("the passphrase of a Wi-Fi network has 8 to 64 characters, or none if the network is open")]
    Passphrase,
}

impl Wifi {
    /// Takes a network's name and passphrase.
    ///
    /// # Errors
    /// [`WifiError`].
    pub fn new(ssid: Vec<u8>, passphrase: Zeroizing<String>) -> Result<Self, WifiError> {
        let wifi = Self { ssid, passphrase };
        wifi.check().map(|()| wifi)
    }

    fn check(&self) -> Result<(), WifiError> {
        if !(1..=32).contains(&self.ssid.len()) {
            return Err(WifiError::Ssid);
        }
        if matches!(self.passphrase.len(), 0 | 8..=64) { Ok(()) } else { Err(WifiError::Passphrase) }
    }
}

impl fmt::Debug for Wifi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wifi(…)")
    }
}

/// How far a device is, after it has stored the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceStep {
    /// Joining the Wi-Fi.
    Joining = 1,
    /// Looking for the hub.
    Looking = 2,
    /// Signing in.
    SigningIn = 3,
}

/// Why one side ends a pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndCode {
    /// A person cancelled it.
    Cancelled = 0,
    /// The pairing window is closed.
    WindowClosed = 1,
    /// Another pairing is under way.
    Busy = 2,
    /// The other side broke the protocol.
    Malformed = 3,
    /// The device is not known here.
    NotKnown = 4,
    /// The device belongs to somebody.
    ClaimedElsewhere = 5,
    /// The device could not store the credential.
    NotStored = 6,
    /// The other side took too long.
    TimedOut = 7,
    /// The device knows the code and lacks the key.
    NotTrusted = 8,
    /// The network does not work.
    NetworkFails = 9,
}

impl EndCode {
    /// All of them, each at its number.
    pub const ALL: [Self; 10] = [
        Self::Cancelled,
        Self::WindowClosed,
        Self::Busy,
        Self::Malformed,
        Self::NotKnown,
        Self::ClaimedElsewhere,
        Self::NotStored,
        Self::TimedOut,
        Self::NotTrusted,
        Self::NetworkFails,
    ];

    /// The code of this number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        usize::try_from(number).ok().and_then(|at| Self::ALL.get(at).copied())
    }
}

/// A message inside the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// 1, from the device, first of all.
    Hello(Hello),
    /// 2, from the hub: go on with the model part from this byte.
    WantModel(u64),
    /// 3, from the device: bytes of the model part, from this one.
    ModelPart(u64, Vec<u8>),
    /// 4, from the hub.
    Credential(Delivery),
    /// 5, from the device: the credential is stored beside the old one.
    Stored,
    /// 6, from the device: a step, and 0 when it has begun, 1 or more when it has failed.
    Progress(DeviceStep, u64),
    /// 7, from either.
    End(EndCode, String),
    /// 8, from the hub: the device has signed in.
    Complete,
}

impl Message {
    /// The plaintext. It may hold secrets, and is wiped when dropped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let items = match self {
            Self::Hello(hello) => vec![1.into(), hello.value()],
            Self::WantModel(offset) => vec![2.into(), (*offset).into()],
            Self::ModelPart(offset, bytes) => vec![3.into(), (*offset).into(), cbor::bytes(bytes)],
            Self::Credential(delivery) => vec![4.into(), delivery.value()],
            Self::Stored => vec![5.into()],
            Self::Progress(step, code) => vec![6.into(), (*step as u64).into(), (*code).into()],
            Self::End(code, text) => vec![7.into(), (*code as u64).into(), cbor::text(text)],
            Self::Complete => vec![8.into()],
        };
        cbor::encode_secret(Value::Array(items))
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// [`CborError`] for everything that is not one of these, within its bounds, in the one form.
    pub fn decode(plaintext: &[u8]) -> Result<Self, CborError> {
        let mut row = Row::decode(WHAT, plaintext)?;
        let message = match row.take("type")?.uint()? {
            1 => Self::Hello(Hello::read(row.take("hello")?)?),
            2 => Self::WantModel(row.take("offset")?.uint()?),
            3 => {
                let (offset, bytes) = (row.take("offset")?.uint()?, row.take("model part")?.bytes()?);
                if !(1..=MODEL_PIECE_MAX).contains(&bytes.len()) {
                    return Err(content("model part", "not 1 to 3,500 bytes"));
                }
                Self::ModelPart(offset, bytes)
            }
            4 => Self::Credential(Delivery::read(row.take("credential")?)?),
            5 => Self::Stored,
            6 => Self::Progress(step(row.take("step")?.uint()?)?, row.take("code")?.uint()?),
            7 => {
                let code = row.take("code")?.uint()?;
                let code = EndCode::from_number(code).ok_or_else(|| content("code", "not 0 to 9"))?;
                let text = row.take("text")?.text()?;
                if text.chars().count() > END_TEXT_MAX {
                    return Err(content("text", "longer than 100 characters"));
                }
                Self::End(code, text)
            }
            8 => Self::Complete,
            other => return Err(content("type", format!("{other} is not known"))),
        };
        row.finish()?;
        Ok(message)
    }

    /// An end, its text cut to what an end may say.
    #[must_use]
    pub fn end(code: EndCode, text: &str) -> Self {
        Self::End(code, text.chars().take(END_TEXT_MAX).collect())
    }
}

impl Hello {
    fn value(&self) -> Value {
        cbor::map([
            (1, cbor::text(&self.device)),
            (2, cbor::text(&self.brand)),
            (3, cbor::text(&self.model)),
            (4, cbor::text(&self.hardware)),
            (5, cbor::text(&self.firmware)),
            (6, self.resets.into()),
            (7, cbor::bytes(&self.voucher)),
            (8, Value::from(self.model_len as u64)),
            (9, cbor::bytes(&self.tag)),
        ])
    }

    fn read(field: Field) -> Result<Self, CborError> {
        let mut record = field.record()?;
        let hello = Self {
            device: record.take(1, "device id")?.parsed(DeviceId::parse)?,
            brand: record.take(2, "brand")?.parsed(BrandId::parse)?,
            model: record.take(3, "model")?.parsed(ModelName::parse)?,
            hardware: record.take(4, "hardware")?.parsed(label)?,
            firmware: record.take(5, "firmware")?.parsed(label)?,
            resets: record.take(6, "reset counter")?.uint()?,
            voucher: record.take(7, "voucher")?.bytes()?,
            model_len: record.take(8, "length of the model part").and_then(Field::uint).and_then(model_len)?,
            tag: record.take(9, "attestation tag")?.fixed()?,
        };
        record.finish()?;
        if hello.resets > COUNTER_MAX {
            return Err(content("reset counter", "above 2^63-1"));
        }
        if hello.voucher.len() > SHORT_VOUCHER_MAX {
            return Err(content("voucher", "above 1,500 bytes"));
        }
        Ok(hello)
    }
}

fn model_len(length: u64) -> Result<usize, CborError> {
    let length = usize::try_from(length).ok().filter(|length| *length <= MODEL_PART_MAX);
    length.ok_or_else(|| content("length of the model part", "above 68 KiB"))
}

fn step(number: u64) -> Result<DeviceStep, CborError> {
    match number {
        1 => Ok(DeviceStep::Joining),
        2 => Ok(DeviceStep::Looking),
        3 => Ok(DeviceStep::SigningIn),
        _ => Err(content("step", "not 1 to 3")),
    }
}

fn content(field: &'static str, reason: impl fmt::Display) -> CborError {
    CborError::Content { what: WHAT, field, reason: reason.to_string() }
}
