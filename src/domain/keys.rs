//! The keys of a device: the factory's device key, the key scoped to one hub, what is derived below it, and the answer that re-bases a counter.
//! The counter token and the sealed credential stand in files of their own below; drawing random bytes and keeping keys is left to the callers.

mod credential;
mod pairing;
mod rehome;
mod token;

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use credential::{CREDENTIAL_MAX, Credential, NONCE_MAX, NONCE_MIN, OperationalSecret, SealError, open_credential, seal_credential};
pub use pairing::{PairingKey, Transcript, pair_tag, verify_pair_tag};
pub(in crate::domain) use rehome::is_address;
#[cfg(test)]
pub(crate) use rehome::order_keys;
pub use rehome::{
    ADDRESS_MAX, ADDRESSES_MAX, MoveOrder, ORDER_MAX, OrderError, REHOMED_MAX, ReadOrder, open_order, order_counter, seal_order,
};
pub use token::{COUNTER_MAX, TOKEN_MAX, Token, TokenError};

use super::cbor;
use super::ids::{DeviceId, HubId};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes 32 bytes of key material.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes, to derive from or to store sealed. Never log them.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }

        impl PartialEq for $name {
            /// In constant time.
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}
    };
}
use secret;

secret!(
    /// The 32 random bytes embedded at manufacture. Only the maker and the device hold it; a hub never does.
    DeviceKey
);
secret!(
    /// The device's key at one hub: HKDF-SHA256(device key, salt = hub id, `hearthkey hub v1`). A stolen hub gives away nothing about others.
    HubScopedKey
);
secret!(
    /// A key for one purpose below a [`HubScopedKey`].
    SubKey
);

/// The key that a device has at a hub. The maker's tool and the device compute it; a hub receives it in its registry batch.
#[must_use]
pub fn hub_scoped(device_key: &DeviceKey, hub: &HubId) -> HubScopedKey {
    HubScopedKey(derive(device_key, hub.as_bytes(), b"hearthkey hub v1"))
}

impl HubScopedKey {
    /// Signs a device in over MQTT: the counter token hangs below it.
    #[must_use]
    pub fn mqtt(&self) -> SubKey {
        self.expand(b"mqtt v1")
    }

    /// Proves the device during pairing.
    #[must_use]
    pub fn attest(&self) -> SubKey {
        self.expand(b"attest v1")
    }

    /// Seals the credential that a claim hands to the device.
    #[must_use]
    pub fn seal(&self) -> SubKey {
        self.expand(b"seal v1")
    }

    /// Answers the challenge that re-bases a lost counter.
    #[must_use]
    pub fn rebase(&self) -> SubKey {
        self.expand(b"rebase v1")
    }

    /// Proves that the device was reset by hand, and how often.
    #[must_use]
    pub fn reset(&self) -> SubKey {
        self.expand(b"reset v1")
    }

    fn expand(&self, info: &[u8]) -> SubKey {
        SubKey(expand(&self.0, info))
    }
}

/// HMAC-SHA256(rebase key, CBOR `[1, hub id, device id, challenge, counter]`): a device that lost its counter names the one it continues from.
#[must_use]
pub fn rebase_tag(key: &HubScopedKey, hub: &HubId, device: &DeviceId, challenge: &[u8], counter: u64) -> [u8; 32] {
    rebase_mac(key, hub, device, challenge, counter).finalize().into_bytes().into()
}

/// Whether `tag` is the [`rebase_tag`] of these, in constant time. That the challenge is fresh and the counter above the floor is the caller's check.
#[must_use]
pub fn verify_rebase_tag(key: &HubScopedKey, hub: &HubId, device: &DeviceId, challenge: &[u8], counter: u64, tag: &[u8]) -> bool {
    rebase_mac(key, hub, device, challenge, counter).verify_slice(tag).is_ok()
}

fn rebase_mac(key: &HubScopedKey, hub: &HubId, device: &DeviceId, challenge: &[u8], counter: u64) -> Hmac<Sha256> {
    mac(&key.rebase(), hub, device, [cbor::bytes(challenge), counter.into()])
}

/// HMAC-SHA256(attest key, CBOR `[1, hub id, device id, "alive", challenge, instance]`): a device whose place was taken says that it is still
/// there, and which thing it is: `instance` are the bytes it drew when it was switched on.
#[must_use]
pub fn alive_tag(key: &HubScopedKey, hub: &HubId, device: &DeviceId, challenge: &[u8], instance: &[u8; 16]) -> [u8; 32] {
    alive_mac(key, hub, device, challenge, instance).finalize().into_bytes().into()
}

/// Whether `tag` is the [`alive_tag`] of these, in constant time. That the challenge is fresh is the caller's check.
#[must_use]
pub fn verify_alive_tag(key: &HubScopedKey, hub: &HubId, device: &DeviceId, challenge: &[u8], instance: &[u8; 16], tag: &[u8]) -> bool {
    alive_mac(key, hub, device, challenge, instance).verify_slice(tag).is_ok()
}

fn alive_mac(key: &HubScopedKey, hub: &HubId, device: &DeviceId, challenge: &[u8], instance: &[u8; 16]) -> Hmac<Sha256> {
    mac(&key.attest(), hub, device, [cbor::text("alive"), cbor::bytes(challenge), cbor::bytes(instance)])
}

/// HMAC-SHA256(reset key, CBOR `[1, hub id, device id, nonce, counter]`): the device has been reset by hand `counter` times.
#[must_use]
pub fn reset_tag(key: &HubScopedKey, hub: &HubId, device: &DeviceId, nonce: &[u8], counter: u64) -> [u8; 32] {
    mac(&key.reset(), hub, device, [cbor::bytes(nonce), counter.into()]).finalize().into_bytes().into()
}

/// Whether `tag` is the [`reset_tag`] of these, in constant time. That the counter is above the last one is the caller's check.
#[must_use]
pub fn verify_reset_tag(key: &HubScopedKey, hub: &HubId, device: &DeviceId, nonce: &[u8], counter: u64, tag: &[u8]) -> bool {
    mac(&key.reset(), hub, device, [cbor::bytes(nonce), counter.into()]).verify_slice(tag).is_ok()
}

/// HMAC-SHA256 under `key` over CBOR `[1, hub id, device id, …]`.
fn mac<const N: usize>(key: &SubKey, hub: &HubId, device: &DeviceId, rest: [ciborium::Value; N]) -> Hmac<Sha256> {
    let said = [1.into(), cbor::bytes(hub.as_bytes()), cbor::text(device)].into_iter().chain(rest);
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes any key");
    mac.update(&cbor::encode(ciborium::Value::Array(said.collect())));
    mac
}

/// HKDF-SHA256 (RFC 5869) from the device key. `N` is at most 255 · 32.
pub(super) fn derive<const N: usize>(device_key: &DeviceKey, salt: &[u8], info: &[u8]) -> [u8; N] {
    let mut okm = [0; N];
    #[expect(clippy::expect_used, reason = "HKDF refuses only outputs above 8160 bytes, and every caller's size is a constant far below")]
    Hkdf::<Sha256>::new(Some(salt), device_key.as_bytes()).expand(info, &mut okm).expect("a short output");
    okm
}

/// HKDF-Expand alone, with `key` as the pseudo-random key.
fn expand(key: &[u8; 32], info: &[u8]) -> [u8; 32] {
    let mut okm = [0; 32];
    #[expect(
        clippy::expect_used,
        reason = "HKDF-Expand refuses only keys below 32 bytes and outputs above 8160, and both sizes are in the types"
    )]
    Hkdf::<Sha256>::from_prk(key).expect("a key of 32 bytes").expand(info, &mut okm).expect("a short output");
    okm
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceId {
        DeviceId::parse("door-1").unwrap()
    }

    #[test]
    fn a_key_differs_by_hub_and_by_purpose() {
        let key = DeviceKey::from_bytes([1; 32]);
        let (a, b) = (hub_scoped(&key, &HubId::from_bytes([1; 16])), hub_scoped(&key, &HubId::from_bytes([2; 16])));
        assert_ne!(a, b);
        let below = [a.mqtt(), a.attest(), a.seal(), a.rebase(), a.reset()];
        for (i, x) in below.iter().enumerate() {
            assert!(below.iter().skip(i + 1).all(|y| x != y));
        }
    }

    #[test]
    fn a_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", DeviceKey::from_bytes([0xab; 32])), "DeviceKey(…)");
        assert_eq!(format!("{:?}", HubScopedKey::from_bytes([0xab; 32]).mqtt()), "SubKey(…)");
    }

    #[test]
    fn a_rebase_answer_serves_one_device_one_hub_one_challenge_and_one_counter() {
        let key = HubScopedKey::from_bytes([3; 32]);
        let hub = HubId::from_bytes([4; 16]);
        let tag = rebase_tag(&key, &hub, &device(), &[5; 32], 9);
        assert!(verify_rebase_tag(&key, &hub, &device(), &[5; 32], 9, &tag));
        assert!(!verify_rebase_tag(&key, &hub, &device(), &[5; 32], 10, &tag));
        assert!(!verify_rebase_tag(&key, &hub, &device(), &[6; 32], 9, &tag));
        assert!(!verify_rebase_tag(&key, &HubId::from_bytes([5; 16]), &device(), &[5; 32], 9, &tag));
        assert!(!verify_rebase_tag(&key, &hub, &DeviceId::parse("door-2").unwrap(), &[5; 32], 9, &tag));
        assert!(!verify_rebase_tag(&HubScopedKey::from_bytes([4; 32]), &hub, &device(), &[5; 32], 9, &tag));
        assert!(!verify_rebase_tag(&key, &hub, &device(), &[5; 32], 9, &tag[..16]));
    }

    #[test]
    fn a_sign_of_life_and_a_reset_serve_one_device_one_hub_and_one_question() {
        let (key, hub) = (HubScopedKey::from_bytes([3; 32]), HubId::from_bytes([4; 16]));
        let other = DeviceId::parse("door-2").unwrap();
        let tag = alive_tag(&key, &hub, &device(), &[5; 32], &[6; 16]);
        assert!(verify_alive_tag(&key, &hub, &device(), &[5; 32], &[6; 16], &tag));
        assert!(!verify_alive_tag(&key, &hub, &device(), &[6; 32], &[6; 16], &tag));
        assert!(!verify_alive_tag(&key, &hub, &device(), &[5; 32], &[7; 16], &tag));
        assert!(!verify_alive_tag(&key, &hub, &other, &[5; 32], &[6; 16], &tag));
        assert!(!verify_alive_tag(&key, &HubId::from_bytes([5; 16]), &device(), &[5; 32], &[6; 16], &tag));
        let tag = reset_tag(&key, &hub, &device(), &[5; 16], 7);
        assert!(verify_reset_tag(&key, &hub, &device(), &[5; 16], 7, &tag));
        assert!(!verify_reset_tag(&key, &hub, &device(), &[5; 16], 8, &tag));
        assert!(!verify_reset_tag(&key, &hub, &device(), &[6; 16], 7, &tag));
        assert!(!verify_reset_tag(&key, &hub, &other, &[5; 16], 7, &tag));
        // Of the same words under another purpose.
        assert_ne!(rebase_tag(&key, &hub, &device(), &[5; 16], 7), reset_tag(&key, &hub, &device(), &[5; 16], 7));
    }
}
