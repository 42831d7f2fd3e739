//! The move order of one device: to whichever hub it goes from a stolen one. Only who holds the device key makes one: its
//! maker, or the cloud of its region; a hub has what is derived for itself alone. `docs/protocol/rehome.md`.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use ciborium::Value;
use zeroize::Zeroizing;

use super::{COUNTER_MAX, DeviceKey, SubKey, derive, expand};
use crate::domain::cbor::{self, CborError, Field, Record, Row};
use crate::domain::ids::{DeviceId, HubId};

/// Bytes of an order at most.
pub const ORDER_MAX: usize = 8 * 1024;
/// Hubs that were left on the way, at most.
pub const REHOMED_MAX: usize = 16;
/// Addresses of the new hub, at most.
pub const ADDRESSES_MAX: usize = 8;
/// Characters of an address at most.
pub const ADDRESS_MAX: usize = 128;
/// Bytes of a CA certificate at most.
const CA_MAX: usize = 4 * 1024;

/// What an order says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveOrder {
    /// The hubs that the device may be leaving: the stolen one, and those before it that were stolen too.
    pub from: Vec<HubId>,
    /// The Ed25519 identity key of the new hub, of which its id is made.
    pub identity: [u8; 32],
    /// The CA certificate (DER) of the new hub, which the device pins.
    pub ca: Vec<u8>,
    /// `host:port` where its MQTT over TLS may be found, besides by mDNS; may be empty.
    pub addresses: Vec<String>,
    /// When it was made, s since 1970. It decides nothing.
    pub made: u64,
}

impl MoveOrder {
    /// The new hub.
    #[must_use]
    pub fn to(&self) -> HubId {
        HubId::from_public_key(&self.identity)
    }

    fn check(&self) -> Result<(), OrderError> {
        let sound = (1..=REHOMED_MAX).contains(&self.from.len())
            && self.addresses.len() <= ADDRESSES_MAX
            && self.addresses.iter().all(|a| is_address(a))
            && (1..=CA_MAX).contains(&self.ca.len());
        if sound { Ok(()) } else { Err(OrderError::Content) }
    }
}

/// Whether a text may stand as an address: its form is for who connects to judge.
pub(in crate::domain) fn is_address(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= ADDRESS_MAX && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// An order that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOrder {
    /// Its number: it counts only above every one that the device has taken.
    pub counter: u64,
    /// What it says.
    pub order: MoveOrder,
}

/// Why an order is not made, or not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The number.
    #[error("the counter of a move order is 1 to 2^63 - 1")]
    Counter,
    /// Too many hubs, or a certificate or an address that is too long.
    #[error("a move order names 1 to 16 hubs that are left, at most 8 addresses and a certificate of at most 4096 bytes")]
    Content,
    /// Not of this form.
    #[error("it is no move order")]
    Form,
    /// Made with another device's key, or changed since.
    #[error("the move order is not for this device, or was changed")]
    NotForThis,
}

/// The key under which orders for a device are made: HKDF-SHA256(device key, no salt, `hearthkey rehome v1`).
fn rehome_key(device_key: &DeviceKey) -> SubKey {
    SubKey(derive(device_key, &[], b"hearthkey rehome v1"))
}

/// Makes an order. `nonce` is 16 fresh random bytes: with the counter it gives the order a key of its own.
///
/// # Errors
/// [`OrderError::Counter`], [`OrderError::Content`].
pub fn seal_order(
    device_key: &DeviceKey,
    device: &DeviceId,
    counter: u64,
    nonce: [u8; 16],
    order: &MoveOrder,
) -> Result<Vec<u8>, OrderError> {
    if !(1..=COUNTER_MAX).contains(&counter) {
        return Err(OrderError::Counter);
    }
    order.check()?;
    let plaintext = cbor::encode(cbor::map([
        (1, Value::Array(order.from.iter().map(|hub| cbor::bytes(hub.as_bytes())).collect())),
        (2, cbor::bytes(order.to().as_bytes())),
        (3, cbor::bytes(&order.identity)),
        (4, cbor::bytes(&order.ca)),
        (5, Value::Array(order.addresses.iter().map(cbor::text).collect())),
        (6, order.made.into()),
    ]));
    let aad = bound(device, counter, &nonce);
    let sealed = cipher(device_key, counter, &nonce).encrypt(&Nonce::from([0u8; 12]), Payload { msg: &plaintext, aad: &aad });
    let sealed = sealed.map_err(|_| OrderError::Content)?;
    let whole = cbor::encode(Value::Array(vec![1.into(), cbor::text(device), counter.into(), cbor::bytes(&nonce), cbor::bytes(&sealed)]));
    if whole.len() > ORDER_MAX { Err(OrderError::Content) } else { Ok(whole) }
}

/// For which device an order says it is, and its number. Nothing of it holds for who has no device key.
///
/// # Errors
/// [`OrderError::Form`].
pub fn order_counter(order: &[u8]) -> Result<(DeviceId, u64), OrderError> {
    let (device, counter, _, _) = parts(order)?;
    Ok((device, counter))
}

/// Opens an order, as its device does. That the counter is above the last one, and that the device is at one of the hubs
/// that are left, is the device's to check.
///
/// # Errors
/// [`OrderError`].
pub fn open_order(device_key: &DeviceKey, device: &DeviceId, order: &[u8]) -> Result<ReadOrder, OrderError> {
    let (named, counter, nonce, sealed) = parts(order)?;
    if named != *device || !(1..=COUNTER_MAX).contains(&counter) {
        return Err(OrderError::NotForThis);
    }
    let aad = bound(device, counter, &nonce);
    let opened = cipher(device_key, counter, &nonce).decrypt(&Nonce::from([0u8; 12]), Payload { msg: &sealed, aad: &aad });
    let opened = Zeroizing::new(opened.map_err(|_| OrderError::NotForThis)?);
    let order = content(&opened).map_err(|_| OrderError::Content)?;
    order.check()?;
    Ok(ReadOrder { counter, order })
}

fn content(plaintext: &[u8]) -> Result<MoveOrder, CborError> {
    const WHAT: &str = "move order";
    let mut record = Record::decode(WHAT, plaintext)?;
    let from = record.take(1, "hubs left")?.items()?;
    let to: [u8; 16] = record.take(2, "hub id")?.fixed()?;
    let order = MoveOrder {
        from: from.into_iter().map(|hub| Ok(HubId::from_bytes(hub.fixed()?))).collect::<Result<_, CborError>>()?,
        identity: record.take(3, "identity key")?.fixed()?,
        ca: record.take(4, "CA certificate")?.bytes()?,
        addresses: record.take(5, "addresses")?.items()?.into_iter().map(Field::text).collect::<Result<_, _>>()?,
        made: record.take(6, "time")?.uint()?,
    };
    record.finish()?;
    // The id is named beside the key it is made of: one without the other is a fault of the maker's.
    if order.to() != HubId::from_bytes(to) {
        return Err(CborError::Content { what: WHAT, field: "hub id", reason: "is not that of the identity key".into() });
    }
    Ok(order)
}

fn parts(order: &[u8]) -> Result<(DeviceId, u64, [u8; 16], Vec<u8>), OrderError> {
    if order.len() > ORDER_MAX {
        return Err(OrderError::Form);
    }
    read_parts(order).map_err(|_| OrderError::Form)
}

fn read_parts(order: &[u8]) -> Result<(DeviceId, u64, [u8; 16], Vec<u8>), CborError> {
    const WHAT: &str = "move order";
    let mut row = Row::decode(WHAT, order)?;
    if row.take("version")?.uint()? != 1 {
        return Err(CborError::Unknown(WHAT));
    }
    let read = (
        row.take("device id")?.parsed(DeviceId::parse)?,
        row.take("counter")?.uint()?,
        row.take("nonce")?.fixed()?,
        row.take("box")?.bytes()?,
    );
    row.finish()?;
    Ok(read)
}

/// A cipher whose key serves this order alone, as for the counter token: so that the IV may be zero.
fn cipher(device_key: &DeviceKey, counter: u64, nonce: &[u8; 16]) -> Aes256Gcm {
    let info = cbor::encode(Value::Array(vec![counter.into(), cbor::bytes(nonce)]));
    let key = SubKey(expand(rehome_key(device_key).as_bytes(), &info));
    Aes256Gcm::new(key.as_bytes().into())
}

/// What the box is bound to.
fn bound(device: &DeviceId, counter: u64, nonce: &[u8; 16]) -> Vec<u8> {
    cbor::encode(Value::Array(vec![1.into(), cbor::text(device), cbor::text("rehome"), counter.into(), cbor::bytes(nonce)]))
}

/// The keys of an order, for test vectors: the device's, and that of this order alone.
#[cfg(test)]
pub(crate) fn order_keys(device_key: &DeviceKey, counter: u64, nonce: &[u8; 16]) -> ([u8; 32], [u8; 32]) {
    let info = cbor::encode(Value::Array(vec![counter.into(), cbor::bytes(nonce)]));
    let key = rehome_key(device_key);
    (*key.as_bytes(), expand(key.as_bytes(), &info))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::keys::hub_scoped;

    fn order() -> MoveOrder {
        MoveOrder {
            from: vec![HubId::from_bytes([1; 16])],
            identity: [2; 32],
            ca: vec![0x30; 400],
            addresses: vec!["hub.local:8883".into()],
            made: 1_790_000_000,
        }
    }

    fn device() -> DeviceId {
        DeviceId::parse("door-1").unwrap()
    }

    #[test]
    fn an_order_is_read_by_its_device_alone() {
        let key = DeviceKey::from_bytes([7; 32]);
        let sealed = seal_order(&key, &device(), 9, [3; 16], &order()).unwrap();
        assert_eq!(open_order(&key, &device(), &sealed), Ok(ReadOrder { counter: 9, order: order() }));
        assert_eq!(order_counter(&sealed), Ok((device(), 9)));
        let other = DeviceKey::from_bytes([8; 32]);
        assert_eq!(open_order(&other, &device(), &sealed), Err(OrderError::NotForThis));
        assert_eq!(open_order(&key, &DeviceId::parse("door-2").unwrap(), &sealed), Err(OrderError::NotForThis));
    }

    #[test]
    fn who_has_what_a_hub_has_makes_no_order() {
        let key = DeviceKey::from_bytes([7; 32]);
        let scoped = hub_scoped(&key, &HubId::from_bytes([1; 16]));
        for known in [&scoped.mqtt(), &scoped.seal(), &scoped.attest(), &scoped.rebase(), &scoped.reset()] {
            let forged = seal_order(&DeviceKey::from_bytes(*known.as_bytes()), &device(), 9, [3; 16], &order()).unwrap();
            assert_eq!(open_order(&key, &device(), &forged), Err(OrderError::NotForThis));
        }
        let forged = seal_order(&DeviceKey::from_bytes(*scoped.as_bytes()), &device(), 9, [3; 16], &order()).unwrap();
        assert_eq!(open_order(&key, &device(), &forged), Err(OrderError::NotForThis));
    }

    #[test]
    fn an_order_with_any_byte_changed_is_none() {
        let key = DeviceKey::from_bytes([7; 32]);
        let sealed = seal_order(&key, &device(), 9, [3; 16], &order()).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open_order(&key, &device(), &changed).is_err(), "byte {at}");
        }
        for end in 0..sealed.len() {
            assert!(open_order(&key, &device(), &sealed[..end]).is_err());
        }
        // The counter is bound: an old order does not become a newer one by its number.
        let newer = seal_order(&key, &device(), 10, [3; 16], &order()).unwrap();
        assert_ne!(sealed[sealed.len() - 16..], newer[newer.len() - 16..]);
    }

    #[test]
    fn what_is_out_of_bounds_is_not_made() {
        let key = DeviceKey::from_bytes([7; 32]);
        let make = |counter, order: &MoveOrder| seal_order(&key, &device(), counter, [3; 16], order);
        assert_eq!(make(0, &order()), Err(OrderError::Counter));
        assert_eq!(make(COUNTER_MAX + 1, &order()), Err(OrderError::Counter));
        assert_eq!(make(1, &MoveOrder { from: Vec::new(), ..order() }), Err(OrderError::Content));
        assert_eq!(make(1, &MoveOrder { from: vec![HubId::from_bytes([1; 16]); 17], ..order() }), Err(OrderError::Content));
        assert_eq!(make(1, &MoveOrder { addresses: vec!["a b".into()], ..order() }), Err(OrderError::Content));
        assert_eq!(make(1, &MoveOrder { addresses: vec!["a:1".into(); 9], ..order() }), Err(OrderError::Content));
        assert_eq!(make(1, &MoveOrder { ca: vec![0; 4097], ..order() }), Err(OrderError::Content));
    }
}
