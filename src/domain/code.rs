//! One-time codes that people type or scan: 100 random bits as 20 of Crockford's symbols, in groups of four. What a code
//! is good for, and that it is good for it once, is the keeper's; it keeps nothing but a keyed hash of the symbols.

use zeroize::Zeroizing;

/// Crockford's base32: no I, L, O and U (<https://www.crockford.com/base32.html>).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Symbols of a code, of 5 bits each.
const SYMBOLS: usize = 20;
/// Characters looked at when reading one; what is longer is no code.
const LONGEST: usize = 64;

/// A one-time code. Redacted in `Debug`, wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Zeroizing<String>);

impl Code {
    /// A code from fresh bytes, of each of which five bits are used.
    #[must_use]
    pub fn from_random(bytes: &[u8; SYMBOLS]) -> Code {
        Code(Zeroizing::new(symbols(bytes)))
    }

    /// Reads what a person typed: hyphens and spaces do not count, nor does the case; `I` and `L` are read as 1, `O` as 0.
    #[must_use]
    pub fn parse(text: &str) -> Option<Code> {
        let read = normal(text);
        (read.len() == SYMBOLS && read.bytes().all(|b| ALPHABET.contains(&b))).then_some(Code(read))
    }

    /// The symbols alone: what is hashed.
    #[must_use]
    pub fn symbols(&self) -> &str {
        &self.0
    }

    /// As it is shown: in groups of four.
    #[must_use]
    pub fn shown(&self) -> Zeroizing<String> {
        Zeroizing::new(grouped(&self.0))
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code(…)")
    }
}

/// Random symbols, one for each byte.
#[must_use]
pub fn symbols(bytes: &[u8]) -> String {
    bytes.iter().filter_map(|b| ALPHABET.get(usize::from(b & 31))).map(|c| char::from(*c)).collect()
}

/// Symbols in groups of four.
#[must_use]
pub fn grouped(symbols: &str) -> String {
    let mut text = String::with_capacity(symbols.len() + symbols.len() / 4);
    for (n, symbol) in symbols.chars().enumerate() {
        if n > 0 && n % 4 == 0 {
            text.push('-');
        }
        text.push(symbol);
    }
    text
}

/// What a person typed, without hyphens and spaces, in capitals, with letters that look like digits read as such.
/// Of a long text only the beginning.
#[must_use]
pub fn normal(text: &str) -> Zeroizing<String> {
    let symbols = text.chars().take(LONGEST).filter(|c| !matches!(c, '-' | ' ')).map(|c| match c.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        c => c,
    });
    Zeroizing::new(symbols.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code = Code::parse("0123-4567-89AB-CDEF-GHJK").unwrap();
        for typed in ["0123456789abcdefghjk", " o1 23-4567 89ab-CDEF-ghjk ", "OI23-4567-89AB-CDEF-GHJK", "0l23-4567-89AB-CDEF-GHJK"] {
            assert!(Code::parse(typed) == Some(code.clone()), "{typed}");
        }
        for other in ["", "0123-4567-89AB-CDEF-GHJ", "0123-4567-89AB-CDEF-GHJKM", "U123-4567-89AB-CDEF-GHJK", "é123-4567-89AB-CDEF-GHJK"] {
            assert!(Code::parse(other).is_none(), "{other}");
        }
        assert!(Code::parse(&format!("{}{}", code.symbols(), "-".repeat(1_000_000))).is_some());
    }

    #[test]
    fn a_code_is_not_shown_by_accident() {
        assert_eq!(format!("{:?}", Code::from_random(&[7; 20])), "Code(…)");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(bytes in any::<[u8; 20]>()) {
            let code = Code::from_random(&bytes);
            prop_assert_eq!(code.shown().len(), 24);
            prop_assert!(Code::parse(&code.shown()) == Some(code));
        }
    }
}
