//! Deterministic CBOR (RFC 8949 §4.2.1), the only encoding that is hashed or signed here: one value has one encoding. Reading is as strict as
//! writing, so that no two files mean the same. What the fields mean is left to the callers.

use ciborium::Value;
use zeroize::{Zeroize, Zeroizing};

/// How deep values may nest. The deepest statement uses 3.
const DEPTH_MAX: usize = 8;

/// Why bytes are not the expected record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// Not CBOR at all, cut short, or nested too deep.
    #[error("{0}: not well-formed CBOR")]
    Malformed(&'static str),
    /// Well-formed, but not in the one deterministic form, or followed by more bytes.
    #[error("{0}: not in the deterministic form, or followed by other bytes")]
    NotDeterministic(&'static str),
    /// Not an array or map, as the record requires.
    #[error("{0}: not a {1}")]
    Kind(&'static str, &'static str),
    /// A field is absent, or of another type or size.
    #[error("{what}: field {field} is missing or is not {expected}")]
    Field {
        /// The record.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// A field that this version does not know.
    #[error("{0}: unknown fields")]
    Unknown(&'static str),
    /// A field does not hold what its own type allows.
    #[error("{what}: field {field}: {reason}")]
    Content {
        /// The record.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// The deterministic encoding of a value: shortest and definite lengths, maps sorted by their keys' encoding.
#[must_use]
pub fn encode(value: Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(&sorted(value), &mut out);
    out
}

/// As [`encode`], for a value that holds secrets: it is wiped, and so are the bytes when they are dropped.
#[must_use]
pub fn encode_secret(value: Value) -> Zeroizing<Vec<u8>> {
    let mut value = sorted(value);
    // Room enough from the start: what grows leaves copies behind. No item's head has more than 9 bytes.
    let mut out = Zeroizing::new(Vec::with_capacity(most_bytes(&value)));
    write(&value, &mut out);
    wipe(&mut value);
    out
}

fn most_bytes(value: &Value) -> usize {
    9 + match value {
        Value::Bytes(bytes) => bytes.len(),
        Value::Text(text) => text.len(),
        Value::Array(items) => items.iter().map(most_bytes).sum(),
        Value::Map(entries) => entries.iter().map(|(key, value)| most_bytes(key) + most_bytes(value)).sum(),
        Value::Tag(_, inner) => most_bytes(inner),
        _ => 0,
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::Bytes(bytes) => bytes.zeroize(),
        Value::Text(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| wipe(value)),
        Value::Tag(_, inner) => wipe(inner),
        _ => {}
    }
}

/// Reads exactly one value in its deterministic form.
///
/// # Errors
/// [`CborError`], naming `what`, for anything else, trailing bytes and repeated map keys included.
pub fn decode(what: &'static str, bytes: &[u8]) -> Result<Value, CborError> {
    let value: Value = ciborium::de::from_reader_with_recursion_limit(bytes, DEPTH_MAX).map_err(|_| CborError::Malformed(what))?;
    let mut again = Vec::with_capacity(bytes.len());
    write(&sorted(value.clone()), &mut again);
    let same = again == bytes;
    // Chunks hold keys: the copy does not stay behind.
    again.zeroize();
    if !same || has_repeated_keys(&value) {
        return Err(CborError::NotDeterministic(what));
    }
    Ok(value)
}

/// A map with small unsigned keys, taken apart field by field. Every field must be asked for: [`Record::finish`] refuses the rest.
pub struct Record {
    what: &'static str,
    entries: Vec<(Value, Value)>,
}

impl Record {
    /// Reads a map.
    ///
    /// # Errors
    /// As [`decode`], and when it is no map.
    pub fn decode(what: &'static str, bytes: &[u8]) -> Result<Self, CborError> {
        match decode(what, bytes)? {
            Value::Map(entries) => Ok(Self { what, entries }),
            _ => Err(CborError::Kind(what, "map")),
        }
    }

    /// Takes a field out.
    ///
    /// # Errors
    /// [`CborError::Field`] when it is absent.
    pub fn take(&mut self, key: u64, field: &'static str) -> Result<Field, CborError> {
        let key = Value::from(key);
        let at = self.entries.iter().position(|(k, _)| *k == key);
        let value = at.map(|at| self.entries.swap_remove(at).1);
        value.map(|value| Field { what: self.what, field, value }).ok_or(CborError::Field { what: self.what, field, expected: "present" })
    }

    /// Takes a field out that may be absent.
    pub fn take_optional(&mut self, key: u64, field: &'static str) -> Option<Field> {
        self.take(key, field).ok()
    }

    /// # Errors
    /// [`CborError::Unknown`] when fields were left.
    pub fn finish(self) -> Result<(), CborError> {
        if self.entries.is_empty() { Ok(()) } else { Err(CborError::Unknown(self.what)) }
    }
}

/// An array of fixed shape, taken apart from the front.
pub struct Row {
    what: &'static str,
    items: std::vec::IntoIter<Value>,
}

impl Row {
    /// Reads an array.
    ///
    /// # Errors
    /// As [`decode`], and when it is no array.
    pub fn decode(what: &'static str, bytes: &[u8]) -> Result<Self, CborError> {
        Self::from_value(what, decode(what, bytes)?)
    }

    /// Takes an array that stands inside another value.
    ///
    /// # Errors
    /// [`CborError::Kind`] when it is no array.
    pub fn from_value(what: &'static str, value: Value) -> Result<Self, CborError> {
        match value {
            Value::Array(items) => Ok(Self { what, items: items.into_iter() }),
            _ => Err(CborError::Kind(what, "array")),
        }
    }

    /// Takes the next item.
    ///
    /// # Errors
    /// [`CborError::Field`] when there is none.
    pub fn take(&mut self, field: &'static str) -> Result<Field, CborError> {
        let value = self.items.next().ok_or(CborError::Field { what: self.what, field, expected: "present" })?;
        Ok(Field { what: self.what, field, value })
    }

    /// # Errors
    /// [`CborError::Unknown`] when items were left.
    pub fn finish(self) -> Result<(), CborError> {
        if self.items.len() == 0 { Ok(()) } else { Err(CborError::Unknown(self.what)) }
    }
}

/// One field, with its name for errors.
pub struct Field {
    what: &'static str,
    field: &'static str,
    value: Value,
}

impl Field {
    /// The text.
    ///
    /// # Errors
    /// [`CborError::Field`] for another type.
    pub fn text(self) -> Result<String, CborError> {
        let error = self.error("a text");
        self.value.into_text().map_err(|_| error)
    }

    /// The text, parsed into a type of its own.
    ///
    /// # Errors
    /// [`CborError::Field`] for another type, [`CborError::Content`] when `parse` refuses.
    pub fn parsed<T, E: std::fmt::Display>(self, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, CborError> {
        let (what, field) = (self.what, self.field);
        let text = self.text()?;
        parse(&text).map_err(|e| CborError::Content { what, field, reason: e.to_string() })
    }

    /// The byte string.
    ///
    /// # Errors
    /// [`CborError::Field`] for another type.
    pub fn bytes(self) -> Result<Vec<u8>, CborError> {
        let error = self.error("a byte string");
        self.value.into_bytes().map_err(|_| error)
    }

    /// A byte string of exactly `N` bytes. The source is wiped: it may have been a key.
    ///
    /// # Errors
    /// [`CborError::Field`] for another type or length.
    pub fn fixed<const N: usize>(self) -> Result<[u8; N], CborError> {
        let error = self.error("a byte string of its fixed size");
        let mut bytes = self.bytes()?;
        let fixed = <[u8; N]>::try_from(bytes.as_slice());
        bytes.zeroize();
        fixed.map_err(|_| error)
    }

    /// The unsigned integer.
    ///
    /// # Errors
    /// [`CborError::Field`] for another type, a negative number, or one above 64 bits.
    pub fn uint(self) -> Result<u64, CborError> {
        let error = self.error("an unsigned integer");
        let integer = self.value.into_integer().map_err(|_| error.clone())?;
        u64::try_from(integer).map_err(|_| error)
    }

    /// The items of an array, each a field of the same name.
    ///
    /// # Errors
    /// [`CborError::Field`] for another type.
    pub fn items(self) -> Result<Vec<Field>, CborError> {
        let (what, field) = (self.what, self.field);
        let error = self.error("an array");
        let items = self.value.into_array().map_err(|_| error)?;
        Ok(items.into_iter().map(|value| Field { what, field, value }).collect())
    }

    /// The array inside, to be taken apart from the front.
    ///
    /// # Errors
    /// [`CborError::Kind`] for another type.
    pub fn row(self) -> Result<Row, CborError> {
        Row::from_value(self.what, self.value)
    }

    /// The map inside, to be taken apart field by field.
    ///
    /// # Errors
    /// [`CborError::Kind`] for another type.
    pub fn record(self) -> Result<Record, CborError> {
        match self.value {
            Value::Map(entries) => Ok(Record { what: self.what, entries }),
            _ => Err(CborError::Kind(self.what, "map")),
        }
    }

    /// # Errors
    /// [`CborError::Field`] when it is not this very text, which marks the format.
    pub fn is(self, marker: &'static str) -> Result<(), CborError> {
        let error = self.error(marker);
        if self.value.as_text() == Some(marker) { Ok(()) } else { Err(error) }
    }

    const fn error(&self, expected: &'static str) -> CborError {
        CborError::Field { what: self.what, field: self.field, expected }
    }
}

/// A map from small unsigned keys, for [`encode`].
#[must_use]
pub fn map<const N: usize>(entries: [(u64, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// A byte string, for [`encode`].
#[must_use]
pub fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.to_vec())
}

/// A text, for [`encode`].
#[must_use]
pub fn text(text: impl AsRef<str>) -> Value {
    Value::Text(text.as_ref().to_owned())
}

fn write(value: &Value, out: &mut Vec<u8>) {
    #[expect(clippy::expect_used, reason = "writing a value into a Vec has no way to fail")]
    ciborium::into_writer(value, out).expect("a value is written into memory");
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Map(entries) => {
            let mut keyed: Vec<(Vec<u8>, (Value, Value))> = entries
                .into_iter()
                .map(|(key, value)| {
                    let key = sorted(key);
                    let mut encoded = Vec::new();
                    write(&key, &mut encoded);
                    (encoded, (key, sorted(value)))
                })
                .collect();
            keyed.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Map(keyed.into_iter().map(|(_, entry)| entry).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Tag(tag, inner) => Value::Tag(tag, Box::new(sorted(*inner))),
        other => other,
    }
}

/// Called on values known to be sorted: equal keys are neighbours.
fn has_repeated_keys(value: &Value) -> bool {
    match value {
        Value::Map(entries) => {
            entries.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0))
                || entries.iter().any(|(key, value)| has_repeated_keys(key) || has_repeated_keys(value))
        }
        Value::Array(items) => items.iter().any(has_repeated_keys),
        Value::Tag(_, inner) => has_repeated_keys(inner),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn maps_are_sorted_by_their_encoded_keys() {
        let value = Value::Map(vec![(Value::from(100u64), 1.into()), (Value::from(2u64), 2.into()), (text("a"), 3.into())]);
        assert_eq!(encode(value), [0xa3, 0x02, 0x02, 0x18, 0x64, 0x01, 0x61, b'a', 0x03]);
    }

    #[test]
    fn every_other_form_of_the_same_value_is_refused() {
        let cases: [(&str, &[u8]); 6] = [
            ("a trailing byte", &[0x01, 0x00]),
            ("a long integer", &[0x18, 0x01]),
            ("an indefinite array", &[0x9f, 0x01, 0xff]),
            ("an indefinite text", &[0x7f, 0x61, b'a', 0xff]),
            ("keys out of order", &[0xa2, 0x02, 0x00, 0x01, 0x00]),
            ("a key twice", &[0xa2, 0x01, 0x00, 0x01, 0x00]),
        ];
        for (name, bytes) in cases {
            assert_eq!(decode("test", bytes), Err(CborError::NotDeterministic("test")), "{name}");
        }
        assert_eq!(decode("test", &[0x82, 0x01]), Err(CborError::Malformed("test")));
        assert_eq!(decode("test", &[0x81; 200]), Err(CborError::Malformed("test")));
    }

    #[test]
    fn a_secret_is_encoded_as_everything_else_and_never_moves() {
        let value = || {
            Value::Array(vec![
                map([(2, bytes(&[7; 300])), (1, text("a")), (600, u64::MAX.into())]),
                Value::Tag(70_000, Box::new(true.into())),
            ])
        };
        let encoded = encode_secret(value());
        assert_eq!(*encoded, encode(value()));
        assert!(encoded.len() <= most_bytes(&value()));
    }

    #[test]
    fn a_record_refuses_what_nobody_asked_for() {
        let bytes = encode(map([(1, text("a")), (2, 7.into())]));
        let mut record = Record::decode("test", &bytes).unwrap();
        assert_eq!(record.take(1, "name").unwrap().text().unwrap(), "a");
        assert_eq!(record.finish(), Err(CborError::Unknown("test")));
        let mut record = Record::decode("test", &bytes).unwrap();
        assert!(record.take(2, "number").unwrap().text().is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_bring_the_reader_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = decode("test", &bytes) {
                prop_assert_eq!(encode(value), bytes);
            }
        }
    }
}
