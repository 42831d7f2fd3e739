//! A device identity as a maker uploads it: one line of JSON, the secret file that the maker's workshop writes for a device
//! (identity.md §9), with the day it was made if the maker adds it.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::domain::claim::ClaimCode;
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::domain::keys::DeviceKey;

/// The longest line, in bytes, without its end.
pub const LINE_MAX: usize = 4096;
/// Characters of a hardware revision or a serial number at most, as in a voucher.
const LABEL_MAX: usize = 64;

/// Why a line is not taken; the text is for a person, and never holds what stood in the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than [`LINE_MAX`].
    #[error("the line is longer than 4096 bytes")]
    TooLong,
    /// Not such an object.
    #[error("the line is not a device's secret file: {0}")]
    Form(String),
    /// Of another version of the format.
    #[error("v: only secret files of version 1 are read")]
    Version,
    /// Of another brand than the upload.
    #[error("brand: the device is of {0}, and the upload is of another brand")]
    OtherBrand(BrandId),
    /// A label that no voucher could hold.
    #[error("{0}: at most 64 characters, no control characters")]
    Label(&'static str),
    /// No key.
    #[error("device_key: not 32 bytes of base64url without padding")]
    Key,
}

/// A device identity, and its key in the clear for as long as this lives.
#[derive(Debug)]
pub struct Identity {
    /// The device.
    pub device: DeviceId,
    /// Its type.
    pub model: ModelName,
    /// The hardware revision.
    pub hardware: String,
    /// The serial number.
    pub serial: String,
    /// When it was made, s since 1970; 0 when the maker does not say.
    pub made: u64,
    /// By which the label's code is recognised.
    pub claim_hash: [u8; 32],
    /// The key embedded in it.
    pub key: DeviceKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    v: u32,
    device_id: DeviceId,
    brand: BrandId,
    model: ModelName,
    #[serde(default)]
    hardware: String,
    #[serde(default)]
    serial: String,
    // Borrowed, so that no copy of the key is left behind; base64url has nothing that JSON escapes.
    device_key: &'a str,
    #[serde(default)]
    made: u64,
}

impl Identity {
    /// Reads a line, without its end, of an upload of `brand`.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn read(line: &[u8], brand: &BrandId) -> Result<Identity, LineError> {
        if line.len() > LINE_MAX {
            return Err(LineError::TooLong);
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| LineError::Form(place_of(&error)))?;
        if line.v != 1 {
            return Err(LineError::Version);
        }
        if line.brand != *brand {
            return Err(LineError::OtherBrand(line.brand));
        }
        for (what, text) in [("hardware", &line.hardware), ("serial", &line.serial)] {
            if text.chars().count() > LABEL_MAX || text.chars().any(char::is_control) {
                return Err(LineError::Label(what));
            }
        }
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(line.device_key.as_bytes()).map_err(|_| LineError::Key)?);
        let key = bytes.as_slice().try_into().map(DeviceKey::from_bytes).map_err(|_| LineError::Key)?;
        let claim_hash = ClaimCode::from_device_key(&key).claim_hash(&line.device_id).0;
        Ok(Identity {
            device: line.device_id,
            model: line.model,
            hardware: line.hardware,
            serial: line.serial,
            made: line.made,
            claim_hash,
            key,
        })
    }
}

/// What the parser says, unless it quotes: a line holds a key.
fn place_of(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Data => "a member is missing, unknown, or of another form",
        Category::Syntax | Category::Io => "not JSON",
        Category::Eof => "it ends in its midst",
    };
    format!("{what} (at byte {})", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn acme() -> BrandId {
        BrandId::parse("acme").unwrap()
    }

    fn line(change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
        let mut value = serde_json::json!({"v": 1, "device_id": "lamp-7k3m9q2x4t8w", "brand": "acme", "model": "lamp", "hardware": "A", "serial": "S1", "device_key": KEY});
        change(&mut value);
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn the_workshops_secret_file_is_read_as_it_is_written() {
        let read = Identity::read(&line(|_| {}), &acme()).unwrap();
        assert_eq!((read.device.as_str(), read.model.as_str(), read.serial.as_str(), read.made), ("lamp-7k3m9q2x4t8w", "lamp", "S1", 0));
        // The test vector of identity.md §11.
        assert_eq!(data_encoding::HEXLOWER.encode(&read.claim_hash), "e7ac53c93a76f89904035e899c758e243acfbe8625db9ad4871c528c31b15f06");
        assert_eq!(Identity::read(&line(|v| v["made"] = 7.into()), &acme()).unwrap().made, 7);
    }

    #[test]
    fn a_line_that_does_not_hold_is_refused_and_not_quoted() {
        let refused = |change: fn(&mut serde_json::Value)| Identity::read(&line(change), &acme()).unwrap_err();
        assert_eq!(refused(|v| v["v"] = 2.into()), LineError::Version);
        assert_eq!(refused(|v| v["brand"] = "other".into()), LineError::OtherBrand(BrandId::parse("other").unwrap()));
        assert_eq!(refused(|v| v["serial"] = "x".repeat(65).into()), LineError::Label("serial"));
        assert_eq!(refused(|v| v["hardware"] = "a\u{7}".into()), LineError::Label("hardware"));
        assert_eq!(refused(|v| v["device_key"] = "AAEC".into()), LineError::Key);
        for odd in
            [refused(|v| v["device_id"] = "a/b".into()), refused(|v| v["secret"] = KEY.into()), refused(|v| v["device_key"] = [KEY].into())]
        {
            assert!(matches!(&odd, LineError::Form(why) if !why.contains(KEY)), "{odd}");
        }
        assert_eq!(Identity::read(&[b' '; LINE_MAX + 1], &acme()).unwrap_err(), LineError::TooLong);
        assert!(matches!(Identity::read(b"{\"v\":1", &acme()), Err(LineError::Form(why)) if why.contains("ends")));
    }

    #[test]
    fn an_identity_does_not_show_its_key() {
        assert!(format!("{:?}", Identity::read(&line(|_| {}), &acme()).unwrap()).contains("key: DeviceKey(…)"));
    }
}
