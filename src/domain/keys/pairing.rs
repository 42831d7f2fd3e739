//! What pairing over Bluetooth rests on: the key that follows from the label's code, and the tag by which a device shows its own key. What is
//! done with them stands in `domain::pairing`.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use hkdf::Hkdf;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{HubScopedKey, mac, secret};
use crate::domain::cbor;
use crate::domain::claim::ClaimCode;
use crate::domain::ids::{DeviceId, HubId};

secret!(
    /// What who holds the label shares with the device: HKDF-SHA256(code proper, salt = device id, `hearthkey pair v1`). The pre-shared key of
    /// the secure session.
    PairingKey
);

impl PairingKey {
    /// The key of the device with this label.
    #[must_use]
    pub fn derive(code: &ClaimCode, device: &DeviceId) -> Self {
        let proper = Zeroizing::new(code.proper());
        let mut okm = [0; 32];
        #[expect(clippy::expect_used, reason = "HKDF refuses only outputs above 8160 bytes")]
        Hkdf::<Sha256>::new(Some(device.as_str().as_bytes()), proper.as_bytes())
            .expand(b"hearthkey pair v1", &mut okm)
            .expect("a short output");
        Self(okm)
    }

    /// What the device advertises with this salt: the first 6 bytes of HMAC-SHA256(key, `hearthkey short v1` ‖ salt).
    #[must_use]
    pub fn short_id(&self, salt: &[u8; 4]) -> [u8; 6] {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes any key");
        mac.update(b"hearthkey short v1");
        mac.update(salt);
        let mut short = [0; 6];
        short.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(to, from)| *to = from);
        short
    }
}

/// HMAC-SHA256(attest key, CBOR `[1, hub id, device id, "pair", h, reset counter, firmware]`): a device that is being paired shows its own key.
/// `h` is the handshake hash, which ties the tag to this one session.
#[must_use]
pub fn pair_tag(key: &HubScopedKey, hub: &HubId, device: &DeviceId, h: &[u8; 32], resets: u64, firmware: &str) -> [u8; 32] {
    pair_mac(key, hub, device, h, resets, firmware).finalize().into_bytes().into()
}

/// Whether `tag` is the [`pair_tag`] of these, in constant time.
#[must_use]
pub fn verify_pair_tag(key: &HubScopedKey, hub: &HubId, device: &DeviceId, h: &[u8; 32], resets: u64, firmware: &str, tag: &[u8]) -> bool {
    pair_mac(key, hub, device, h, resets, firmware).verify_slice(tag).is_ok()
}

fn pair_mac(key: &HubScopedKey, hub: &HubId, device: &DeviceId, h: &[u8; 32], resets: u64, firmware: &str) -> Hmac<Sha256> {
    mac(&key.attest(), hub, device, [cbor::text("pair"), cbor::bytes(h), resets.into(), cbor::text(firmware)])
}

/// What is kept of a pairing whose tag nobody here can check, so that who can may attest the device later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// The handshake hash of the session.
    pub h: [u8; 32],
    /// The attestation tag of the hello.
    pub tag: [u8; 32],
    /// The reset counter of the hello.
    pub resets: u64,
    /// The firmware of the hello.
    pub firmware: String,
}

impl Transcript {
    /// Whether it was the device that holds this key.
    #[must_use]
    pub fn shows(&self, key: &HubScopedKey, hub: &HubId, device: &DeviceId) -> bool {
        verify_pair_tag(key, hub, device, &self.h, self.resets, &self.firmware, &self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pairing_key_serves_one_label_of_one_device() {
        let (a, b) = (DeviceId::parse("door-1").unwrap(), DeviceId::parse("door-2").unwrap());
        let code = |key| ClaimCode::from_device_key(&super::super::DeviceKey::from_bytes([key; 32]));
        assert_eq!(PairingKey::derive(&code(1), &a), PairingKey::derive(&code(1), &a));
        assert_ne!(PairingKey::derive(&code(1), &a), PairingKey::derive(&code(1), &b));
        assert_ne!(PairingKey::derive(&code(1), &a), PairingKey::derive(&code(2), &a));
        assert_eq!(format!("{:?}", PairingKey::derive(&code(1), &a)), "PairingKey(…)");
    }

    #[test]
    fn a_pairing_tag_serves_one_device_one_hub_one_session_and_what_it_said() {
        let (key, hub, device) = (HubScopedKey::from_bytes([3; 32]), HubId::from_bytes([4; 16]), DeviceId::parse("door-1").unwrap());
        let transcript =
            Transcript { h: [5; 32], tag: pair_tag(&key, &hub, &device, &[5; 32], 7, "1.0"), resets: 7, firmware: "1.0".into() };
        assert!(transcript.shows(&key, &hub, &device));
        assert!(!transcript.shows(&HubScopedKey::from_bytes([4; 32]), &hub, &device));
        assert!(!transcript.shows(&key, &HubId::from_bytes([5; 16]), &device));
        assert!(!transcript.shows(&key, &hub, &DeviceId::parse("door-2").unwrap()));
        assert!(!Transcript { h: [6; 32], ..transcript.clone() }.shows(&key, &hub, &device));
        assert!(!Transcript { resets: 8, ..transcript.clone() }.shows(&key, &hub, &device));
        assert!(!Transcript { firmware: "1.1".into(), ..transcript.clone() }.shows(&key, &hub, &device));
        let stored = serde_json::to_string(&transcript).unwrap();
        assert_eq!(serde_json::from_str::<Transcript>(&stored).unwrap(), transcript);
    }
}
