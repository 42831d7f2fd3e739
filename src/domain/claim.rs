//! The claim code, which is printed on a device's label and whose possession claims it, and the hash by which a hub recognises it. Who may claim,
//! and how often one may guess, is left to the service.

use serde::{Deserialize, Serialize};
use std::fmt;

use ciborium::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::cbor;
use super::ids::{DeviceId, IdError};
use super::keys::{DeviceKey, derive};

/// Symbols of a printed code, the check symbol included.
pub const CODE_SYMBOLS: usize = 21;

const PROPER: usize = CODE_SYMBOLS - 1;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const QR_PREFIX: &str = "HK1:";
/// The longest text worth looking at: a QR text with the longest id, and generous spacing in the code.
const TEXT_MAX: usize = 256;

/// Why a text is not a claim code, in words for the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Too few or too many symbols.
    #[error("a code has 21 symbols, in 7 groups of 3; this has {0}")]
    Length(usize),
    /// A character that codes do not use.
    #[error("{character:?} (symbol {position}) does not occur in codes; they use digits and letters without U")]
    Symbol {
        /// The character.
        character: char,
        /// Which symbol it would be, counted from 1, separators not counted.
        position: usize,
    },
    /// The check symbol does not fit the others.
    #[error("one of the symbols is mistyped, or two have changed places; compare with the label and type it again")]
    Check,
    /// A QR text that is none of ours.
    #[error("this QR code is not a Hearthkey label (HK1:<device>:<code>)")]
    NotALabel,
    /// A QR text with an impossible device id.
    #[error("this QR code is damaged: {0}")]
    Device(#[from] IdError),
}

/// A valid claim code: 100 bits as 20 symbols of Crockford's base32, and a check symbol. A secret of the label.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClaimCode {
    /// Each below 32. Only whole codes with a fitting check symbol are built, so the check symbol is not kept.
    symbols: [u8; PROPER],
}

impl ClaimCode {
    /// The code of the device that holds this key.
    #[must_use]
    pub fn from_device_key(key: &DeviceKey) -> Self {
        let mut okm: [u8; 13] = derive(key, &[], b"hearthkey claim v1");
        let bits = okm.iter().fold(0u128, |bits, &byte| (bits << 8) | u128::from(byte)) >> 4;
        okm.zeroize();
        let mut symbols = [0; PROPER];
        for (i, symbol) in symbols.iter_mut().enumerate() {
            *symbol = ((bits >> (5 * (PROPER - 1 - i))) & 31) as u8;
        }
        Self { symbols }
    }

    /// Reads a code as a person types it: case, spaces and hyphens do not matter, `I` and `L` read as `1`, `O` as `0`.
    ///
    /// # Errors
    /// [`CodeError`], worded for that person.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let mut symbols = [0u8; CODE_SYMBOLS];
        let mut count = 0;
        for character in text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '\u{2010}'..='\u{2015}')) {
            let value = value_of(character).ok_or(CodeError::Symbol { character, position: count + 1 })?;
            if let Some(symbol) = symbols.get_mut(count) {
                *symbol = value;
            }
            count += 1;
        }
        let [proper @ .., check] = symbols;
        if count != CODE_SYMBOLS {
            return Err(CodeError::Length(count));
        }
        if check_symbol(&proper) != check {
            return Err(CodeError::Check);
        }
        Ok(Self { symbols: proper })
    }

    /// What the label's QR code says: `HK1:<device_id>:<21 symbols>`.
    #[must_use]
    pub fn qr_text(&self, device: &DeviceId) -> String {
        format!("{QR_PREFIX}{device}:{}{}", self.proper(), symbol(check_symbol(&self.symbols)))
    }

    /// What a hub recognises the code by. It gives nothing away about the code, which has 100 bits.
    #[must_use]
    pub fn claim_hash(&self, device: &DeviceId) -> ClaimHash {
        let mut message = cbor::encode(Value::Array(vec![cbor::text(device), Value::Text(self.proper())]));
        let hash = Sha256::digest(&message).into();
        message.zeroize();
        ClaimHash(hash)
    }

    pub(super) fn proper(&self) -> String {
        self.symbols.iter().map(|&value| symbol(value)).collect()
    }
}

impl fmt::Display for ClaimCode {
    /// As on the label: 7 groups of 3.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let check = check_symbol(&self.symbols);
        let mut text = String::with_capacity(27);
        for (i, &value) in self.symbols.iter().chain([&check]).enumerate() {
            if i > 0 && i % 3 == 0 {
                text.push('-');
            }
            text.push(symbol(value));
        }
        f.pad(&text)
    }
}

impl fmt::Debug for ClaimCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimCode(…)")
    }
}

impl PartialEq for ClaimCode {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.symbols.ct_eq(&other.symbols).into()
    }
}

impl Eq for ClaimCode {}

/// What a person scanned or typed: with the QR code the device is known, with a typed code it may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedCode {
    /// The device, when the text said it.
    pub device_id: Option<DeviceId>,
    /// The code.
    pub code: ClaimCode,
}

impl ScannedCode {
    /// Reads the whole text of a label's QR code, or a typed code.
    ///
    /// # Errors
    /// [`CodeError`], worded for a person.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let text = text.trim();
        if text.len() > TEXT_MAX {
            return Err(CodeError::NotALabel);
        }
        if !text.contains(':') {
            return Ok(Self { device_id: None, code: ClaimCode::parse(text)? });
        }
        let rest = match text.split_at_checked(QR_PREFIX.len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(QR_PREFIX) => rest,
            _ => return Err(CodeError::NotALabel),
        };
        let (device, code) = rest.split_once(':').ok_or(CodeError::NotALabel)?;
        Ok(Self { device_id: Some(DeviceId::parse(device)?), code: ClaimCode::parse(code)? })
    }
}

/// SHA-256 over a device id and its code proper: what vouchers and hubs hold.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimHash(pub [u8; 32]);

impl ClaimHash {
    /// Whether this code claims this device, in constant time.
    #[must_use]
    pub fn matches(&self, device: &DeviceId, code: &ClaimCode) -> bool {
        *self == code.claim_hash(device)
    }
}

impl PartialEq for ClaimHash {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for ClaimHash {}

impl fmt::Debug for ClaimHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimHash({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// The sum over i of symbolᵢ · α^(i+1) in GF(32), x⁵+x²+1, α = 2. All 21 weights (1 for the check symbol itself) differ and none is 0: so any
/// one wrong symbol, and any exchange of two different symbols, changes the sum. Horner's rule, from the last symbol.
pub(super) fn check_symbol(symbols: &[u8]) -> u8 {
    symbols.iter().rev().fold(0, |sum, &symbol| times_alpha(sum ^ symbol))
}

const fn times_alpha(value: u8) -> u8 {
    let shifted = value << 1;
    if shifted & 32 == 0 { shifted } else { shifted ^ 0b10_0101 }
}

pub(super) fn value_of(character: char) -> Option<u8> {
    let upper = match character.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        other => other,
    };
    ALPHABET.iter().position(|&b| char::from(b) == upper).and_then(|at| u8::try_from(at).ok())
}

pub(super) fn symbol(value: u8) -> char {
    ALPHABET.get(usize::from(value)).copied().map_or('?', char::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code() -> ClaimCode {
        ClaimCode::from_device_key(&DeviceKey::from_bytes([1; 32]))
    }

    fn device() -> DeviceId {
        DeviceId::parse("door-1").unwrap()
    }

    #[test]
    fn the_check_symbol_is_the_weighted_sum_of_the_document() {
        // Term by term, as identity.md §4 words it, against the rule used above.
        let symbols: [u8; PROPER] = std::array::from_fn(|i| ((i * 7 + 3) % 32) as u8);
        let mut sum = 0;
        for (i, &symbol) in symbols.iter().enumerate() {
            sum ^= (0..=i).fold(symbol, |product, _| times_alpha(product));
        }
        assert_eq!(check_symbol(&symbols), sum);
    }

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let printed = code().to_string();
        assert_eq!(printed.len(), 27);
        assert_eq!(ClaimCode::parse(&printed), Ok(code()));
        assert_eq!(ClaimCode::parse(&format!(" {} ", printed.to_lowercase().replace('-', " "))), Ok(code()));
        assert_eq!(ClaimCode::parse(&printed.replace('1', "l").replace('0', "O")), Ok(code()));
    }

    #[test]
    fn what_is_wrong_is_said_to_the_person() {
        let printed = code().to_string();
        assert_eq!(ClaimCode::parse(&printed[..26]), Err(CodeError::Length(20)));
        assert_eq!(ClaimCode::parse(&format!("{printed}0")), Err(CodeError::Length(22)));
        assert_eq!(ClaimCode::parse(""), Err(CodeError::Length(0)));
        assert_eq!(ClaimCode::parse("ABU"), Err(CodeError::Symbol { character: 'U', position: 3 }));
        let error = ClaimCode::parse("000-000-000-000-000-000-001").unwrap_err();
        assert!(error.to_string().starts_with("one of the symbols is mistyped"), "{error}");
    }

    #[test]
    fn a_qr_text_names_its_device() {
        let text = code().qr_text(&device());
        assert!(text.starts_with("HK1:door-1:"));
        assert_eq!(ScannedCode::parse(&format!("{text}\n")), Ok(ScannedCode { device_id: Some(device()), code: code() }));
        assert_eq!(ScannedCode::parse(&code().to_string()), Ok(ScannedCode { device_id: None, code: code() }));
        assert_eq!(ScannedCode::parse("https://example.com"), Err(CodeError::NotALabel));
        assert_eq!(ScannedCode::parse("HK1:door-1"), Err(CodeError::NotALabel));
        assert!(matches!(ScannedCode::parse(&text.replace("door-1", "door/1")), Err(CodeError::Device(_))));
        assert_eq!(ScannedCode::parse(&"0 ".repeat(200)), Err(CodeError::NotALabel));
    }

    #[test]
    fn the_hash_is_of_one_device_and_one_code() {
        let hash = code().claim_hash(&device());
        assert!(hash.matches(&device(), &code()));
        assert!(!hash.matches(&DeviceId::parse("door-2").unwrap(), &code()));
        assert!(!hash.matches(&device(), &ClaimCode::from_device_key(&DeviceKey::from_bytes([2; 32]))));
    }

    #[test]
    fn a_code_does_not_show_itself_in_a_log() {
        assert_eq!(format!("{:?}", code()), "ClaimCode(…)");
    }

    proptest! {
        #[test]
        fn every_wrong_symbol_and_every_exchange_is_noticed(key in any::<[u8; 32]>()) {
            let printed: Vec<char> = ClaimCode::from_device_key(&DeviceKey::from_bytes(key)).to_string().replace('-', "").chars().collect();
            let text = |symbols: &[char]| symbols.iter().collect::<String>();
            prop_assert!(ClaimCode::parse(&text(&printed)).is_ok());
            for at in 0..CODE_SYMBOLS {
                for &other in ALPHABET {
                    let mut wrong = printed.clone();
                    wrong[at] = char::from(other);
                    prop_assert_eq!(ClaimCode::parse(&text(&wrong)).is_ok(), wrong[at] == printed[at]);
                }
                for with in at + 1..CODE_SYMBOLS {
                    let mut exchanged = printed.clone();
                    exchanged.swap(at, with);
                    prop_assert_eq!(ClaimCode::parse(&text(&exchanged)).is_ok(), printed[at] == printed[with]);
                }
            }
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,80}") {
            let _ = ScannedCode::parse(&text);
        }
    }
}
