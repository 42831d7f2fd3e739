//! The names of things: device, brand, model, hub. Text from outside becomes one of these types once, at the edge; what holds one needs no
//! further check. What stands behind a name (a key, a voucher, a registry entry) is left to the other files of this room.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest device id, brand or model name, in bytes (all are ASCII).
pub const NAME_MAX: usize = 64;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// More than [`NAME_MAX`] bytes.
    #[error("the {0} is longer than {NAME_MAX} characters")]
    TooLong(&'static str),
    /// A character outside the alphabet of this kind of name.
    #[error("the {what} may hold {allowed} only, and has {character:?} at position {position}")]
    Character {
        /// The kind of name.
        what: &'static str,
        /// What it may hold.
        allowed: &'static str,
        /// The first offending character.
        character: char,
        /// Its place, counted from 1.
        position: usize,
    },
    /// Not 26 characters of base32 that encode 16 bytes.
    #[error("the hub id is not 26 characters of lower-case base32")]
    HubId,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $allowed:literal, $accepts:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text. Its case is kept and matters.
            ///
            /// # Errors
            /// [`IdError`] when it is empty, longer than [`NAME_MAX`], or has a character outside the alphabet.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text, $what, $allowed, $accepts)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }
    };
}

name!(
    /// A device: 1–64 of `A-Z a-z 0-9 _ -`. Unique among all that a hub knows; its case matters.
    DeviceId,
    "device id",
    "A-Z a-z 0-9 _ -",
    |c| c.is_ascii_alphanumeric() || c == '_' || c == '-'
);
name!(
    /// A maker: 1–64 of `a-z 0-9 -`.
    BrandId,
    "brand",
    "a-z 0-9 -",
    is_lower_name
);
name!(
    /// A device type of one brand: 1–64 of `a-z 0-9 -`.
    ModelName,
    "model name",
    "a-z 0-9 -",
    is_lower_name
);

fn is_lower_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

/// Whether a text is a name of the given alphabet. Also serves the names inside a model.
pub(super) fn check(text: &str, what: &'static str, allowed: &'static str, accepts: impl Fn(char) -> bool) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty(what));
    }
    if let Some((at, character)) = text.chars().enumerate().find(|&(_, c)| !accepts(c)) {
        return Err(IdError::Character { what, allowed, character, position: at + 1 });
    }
    if text.len() > NAME_MAX {
        return Err(IdError::TooLong(what));
    }
    Ok(())
}

/// A hub: the first 16 bytes of SHA-256 of its Ed25519 public key. As text, 26 characters of lower-case base32 (RFC 4648 §6, no padding).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HubId([u8; 16]);

impl HubId {
    /// The id of the hub that holds this public key.
    #[must_use]
    pub fn from_public_key(public_key: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        id.iter_mut().zip(Sha256::digest(public_key)).for_each(|(to, from)| *to = from);
        Self(id)
    }

    /// An id from its 16 raw bytes, as statements carry it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The raw bytes, which salt the derivation of hub-scoped keys.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads the text form. Upper case is refused: the id is one string in topics, DNS-SD and configuration.
    ///
    /// # Errors
    /// [`IdError::HubId`] for every other text.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(IdError::HubId);
        }
        let bytes = data_encoding::BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| IdError::HubId)?;
        Ok(Self(bytes.try_into().map_err(|_| IdError::HubId)?))
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&data_encoding::BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubId({self})")
    }
}

impl FromStr for HubId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for HubId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<HubId> for String {
    fn from(id: HubId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_keeps_its_case_and_its_alphabet() {
        assert_eq!(DeviceId::parse("Acme_Door-01").unwrap().to_string(), "Acme_Door-01");
        for bad in ["", "a b", "a/b", "a+", "#", "ü", "a.b", "a:b", &"x".repeat(65)] {
            assert!(DeviceId::parse(bad).is_err(), "{bad:?} passed");
        }
        assert!(DeviceId::parse(&"x".repeat(64)).is_ok());
    }

    #[test]
    fn a_brand_is_lower_case() {
        assert!(BrandId::parse("acme-doors").is_ok());
        assert_eq!(BrandId::parse("Acme").unwrap_err().to_string(), "the brand may hold a-z 0-9 - only, and has 'A' at position 1");
        assert!(ModelName::parse("garage_door").is_err());
    }

    #[test]
    fn a_name_is_checked_when_it_is_deserialised() {
        assert!(serde_json::from_str::<DeviceId>("\"a/b\"").is_err());
        let id: DeviceId = serde_json::from_str("\"a-b\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"a-b\"");
    }

    #[test]
    fn a_hub_id_is_26_characters_and_reads_back() {
        let id = HubId::from_public_key(&[7; 32]);
        let text = id.to_string();
        assert_eq!(text.len(), 26);
        assert_eq!(HubId::parse(&text), Ok(id));
        assert_eq!(HubId::parse(&text.to_ascii_uppercase()), Err(IdError::HubId));
        assert_eq!(HubId::parse(&text[1..]), Err(IdError::HubId));
    }
}
