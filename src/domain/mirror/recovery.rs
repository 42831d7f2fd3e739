//! The household's recovery code, printed once and kept on paper, and the keys that are derived from it for one hub: the one
//! that signs epochs, and the one that opens the recovery bundle. Hub and cloud keep the public halves alone.

use std::fmt;

use bech32::{Bech32, Hrp};
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::domain::claim::{check_symbol, symbol, value_of};
use crate::domain::ids::HubId;

/// Symbols without the check symbol: 160 bits.
const PROPER: usize = 32;
/// Symbols of a printed code.
pub const RECOVERY_SYMBOLS: usize = PROPER + 1;
/// Characters that are looked at.
const TEXT_MAX: usize = 256;

const EPOCH_INFO: &[u8] = b"hearthkey recovery epoch v1";
const BUNDLE_INFO: &[u8] = b"hearthkey recovery bundle v1";
const IDENTITY: Hrp = Hrp::parse_unchecked("age-secret-key-");
const RECIPIENT: Hrp = Hrp::parse_unchecked("age");

/// Why a text is not a recovery code, for the person who typed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryCodeError {
    /// Too few or too many symbols.
    #[error("a recovery code has 33 symbols, in 8 groups of 4 and one at the end; this has {0}")]
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
    #[error("one of the symbols is mistyped, or two have changed places; compare with the paper and type it again")]
    Check,
}

/// A recovery code: 160 random bits. Redacted in `Debug`, wiped when dropped.
#[derive(Clone)]
pub struct RecoveryCode(Zeroizing<[u8; 20]>);

impl RecoveryCode {
    /// A code of 20 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a code as a person types it: case, spaces and hyphens do not matter, `I` and `L` read as `1`, `O` as `0`.
    ///
    /// # Errors
    /// [`RecoveryCodeError`], worded for that person.
    pub fn parse(text: &str) -> Result<Self, RecoveryCodeError> {
        let mut symbols = Zeroizing::new([0u8; RECOVERY_SYMBOLS]);
        let mut count = 0;
        let separator = |c: &char| c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}');
        for character in text.chars().take(TEXT_MAX).filter(|c| !separator(c)) {
            let value = value_of(character).ok_or(RecoveryCodeError::Symbol { character, position: count + 1 })?;
            if let Some(symbol) = symbols.get_mut(count) {
                *symbol = value;
            }
            count += 1;
        }
        if count != RECOVERY_SYMBOLS {
            return Err(RecoveryCodeError::Length(count));
        }
        let [proper @ .., check] = &*symbols;
        if check_symbol(proper) != *check {
            return Err(RecoveryCodeError::Check);
        }
        let mut bytes = Zeroizing::new([0u8; 20]);
        // Eight symbols are five bytes.
        for (bytes, symbols) in bytes.chunks_exact_mut(5).zip(proper.chunks_exact(8)) {
            let bits = symbols.iter().fold(0u64, |bits, &symbol| (bits << 5) | u64::from(symbol));
            bytes.iter_mut().zip(bits.to_be_bytes().into_iter().skip(3)).for_each(|(to, from)| *to = from);
        }
        Ok(Self(bytes))
    }

    fn symbols(&self) -> Zeroizing<Vec<u8>> {
        let mut symbols = Zeroizing::new(Vec::with_capacity(RECOVERY_SYMBOLS));
        for bytes in self.0.chunks_exact(5) {
            let bits = bytes.iter().fold(0u64, |bits, &byte| (bits << 8) | u64::from(byte));
            symbols.extend((0..8).rev().map(|at| ((bits >> (5 * at)) & 31) as u8));
        }
        let check = check_symbol(&symbols);
        symbols.push(check);
        symbols
    }

    /// The key that signs epochs and recovery requests of this hub.
    #[must_use]
    pub fn epoch_key(&self, hub: &HubId) -> SigningKey {
        SigningKey::from_bytes(&self.derive(hub, EPOCH_INFO))
    }

    /// The X25519 secret that opens this hub's bundle.
    #[must_use]
    pub fn bundle_secret(&self, hub: &HubId) -> Zeroizing<[u8; 32]> {
        self.derive(hub, BUNDLE_INFO)
    }

    /// That secret as an age identity, `AGE-SECRET-KEY-1…`.
    #[must_use]
    pub fn age_identity(&self, hub: &HubId) -> Zeroizing<String> {
        age_identity(&self.bundle_secret(hub))
    }

    /// Its public half, to which the bundle is encrypted, `age1…`: what hub and cloud keep.
    #[must_use]
    pub fn age_recipient(&self, hub: &HubId) -> String {
        age_recipient(&self.bundle_secret(hub))
    }

    fn derive(&self, hub: &HubId, info: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut okm = Zeroizing::new([0; 32]);
        #[expect(clippy::expect_used, reason = "HKDF refuses only outputs above 8160 bytes")]
        Hkdf::<Sha256>::new(Some(hub.as_bytes()), &*self.0).expand(info, &mut *okm).expect("a short output");
        okm
    }
}

/// An X25519 secret as an age identity, `AGE-SECRET-KEY-1…`.
#[must_use]
pub fn age_identity(secret: &[u8; 32]) -> Zeroizing<String> {
    #[expect(clippy::expect_used, reason = "Bech32 refuses only what is longer than its code, and 32 bytes are not")]
    Zeroizing::new(bech32::encode_upper::<Bech32>(IDENTITY, secret).expect("32 bytes"))
}

/// The public half of an X25519 secret as an age recipient, `age1…`.
#[must_use]
pub fn age_recipient(secret: &[u8; 32]) -> String {
    let secret = StaticSecret::from(*secret);
    #[expect(clippy::expect_used, reason = "Bech32 refuses only what is longer than its code, and 32 bytes are not")]
    bech32::encode::<Bech32>(RECIPIENT, PublicKey::from(&secret).as_bytes()).expect("32 bytes")
}

impl fmt::Display for RecoveryCode {
    /// As it is printed: 8 groups of 4, and the check symbol.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Zeroizing::new(String::with_capacity(RECOVERY_SYMBOLS + 8));
        for (n, &value) in self.symbols().iter().enumerate() {
            if n > 0 && n % 4 == 0 {
                text.push('-');
            }
            text.push(symbol(value));
        }
        f.pad(&text)
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(…)")
    }
}

impl PartialEq for RecoveryCode {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for RecoveryCode {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code() -> RecoveryCode {
        RecoveryCode::from_bytes(std::array::from_fn(|i| i as u8 * 13))
    }

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let printed = code().to_string();
        assert_eq!(printed.len(), 33 + 8);
        assert_eq!(RecoveryCode::parse(&printed), Ok(code()));
        assert_eq!(RecoveryCode::parse(&format!(" {} ", printed.to_lowercase().replace('-', " "))), Ok(code()));
        assert_eq!(RecoveryCode::parse(&printed.replace('1', "i").replace('0', "o")), Ok(code()));
        assert_eq!(RecoveryCode::parse(&printed.replace('1', "l").replace('-', "\u{2013}")), Ok(code()));
    }

    #[test]
    fn what_is_wrong_is_said_to_the_person() {
        let printed = code().to_string();
        assert_eq!(RecoveryCode::parse(&printed[..printed.len() - 1]), Err(RecoveryCodeError::Length(32)));
        assert_eq!(RecoveryCode::parse(&format!("{printed}0")), Err(RecoveryCodeError::Length(34)));
        assert_eq!(RecoveryCode::parse("ABU"), Err(RecoveryCodeError::Symbol { character: 'U', position: 3 }));
        assert_eq!(RecoveryCode::parse(""), Err(RecoveryCodeError::Length(0)));
        assert_eq!(RecoveryCode::parse(&"0".repeat(5000)), Err(RecoveryCodeError::Length(256)));
        assert_eq!(format!("{:?}", code()), "RecoveryCode(…)");
    }

    #[test]
    fn keys_differ_by_hub_and_purpose() {
        let (a, b) = (HubId::from_bytes([1; 16]), HubId::from_bytes([2; 16]));
        assert_ne!(code().epoch_key(&a).to_bytes(), code().epoch_key(&b).to_bytes());
        assert_ne!(code().bundle_secret(&a), code().bundle_secret(&b));
        assert_ne!(code().epoch_key(&a).to_bytes(), *code().bundle_secret(&a));
    }

    #[test]
    fn age_takes_the_keys_for_its_own() {
        let hub = HubId::from_bytes([1; 16]);
        let identity: age::x25519::Identity = code().age_identity(&hub).parse().unwrap();
        assert_eq!(identity.to_public().to_string(), code().age_recipient(&hub));
        let sealed = age::encrypt(&identity.to_public(), b"bundle").unwrap();
        assert_eq!(age::decrypt(&identity, &sealed).unwrap(), b"bundle");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_wrong_symbol_and_every_exchange_of_neighbours_is_noticed(bytes in any::<[u8; 20]>()) {
            let printed: Vec<char> = RecoveryCode::from_bytes(bytes).to_string().replace('-', "").chars().collect();
            let read = |symbols: &[char]| RecoveryCode::parse(&symbols.iter().collect::<String>());
            prop_assert_eq!(read(&printed), Ok(RecoveryCode::from_bytes(bytes)));
            for at in 0..RECOVERY_SYMBOLS {
                for other in 0..32 {
                    let mut wrong = printed.clone();
                    wrong[at] = symbol(other);
                    prop_assert_eq!(read(&wrong).is_ok(), wrong[at] == printed[at]);
                }
                if at > 0 {
                    let mut exchanged = printed.clone();
                    exchanged.swap(at, at - 1);
                    prop_assert_eq!(read(&exchanged).is_ok(), exchanged[at] == printed[at]);
                }
            }
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,80}") {
            let _ = RecoveryCode::parse(&text);
        }
    }
}
