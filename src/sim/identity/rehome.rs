//! The order to move from a stolen hub to the one that follows it (`docs/protocol/rehome.md`), as a firmware reads it.

use aes_gcm::Nonce;
use aes_gcm::aead::{Aead, Payload};
use ciborium::Value;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{DeviceSecret, HubId, bytes, cbor, cipher, expand, fill};

/// Bytes of an order at most.
pub const ORDER_MAX: usize = 8 * 1024;

/// What an order says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveOrder {
    /// Its number: it counts only above every one that was taken before.
    pub counter: u64,
    /// The hubs that the device may be leaving.
    pub from: Vec<HubId>,
    /// The new hub.
    pub to: HubId,
    /// Its CA certificate (DER), pinned from now on.
    pub ca: Vec<u8>,
    /// Where its MQTT may be found, besides by mDNS.
    pub addresses: Vec<String>,
}

/// Why an order is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// Not of the form.
    #[error("it is no move order")]
    Form,
    /// Made for another device, by somebody without this device's key, or changed.
    #[error("it was not made for this device by its maker")]
    Sealed,
    /// An old one.
    #[error("it is not newer than the last one")]
    Counter,
    /// It leads away from other hubs than the device's own.
    #[error("it is not about this device's hub")]
    OtherHub,
}

impl DeviceSecret {
    /// Opens an order. `last` is the number of the last one taken, `hub` the hub that the device is at.
    ///
    /// # Errors
    /// [`MoveError`]: then nothing changes.
    pub fn open_order(&self, order: &[u8], last: u64, hub: HubId) -> Result<MoveOrder, MoveError> {
        let parts = Some(order).filter(|order| order.len() <= ORDER_MAX).and_then(|order| ciborium::from_reader::<Value, _>(order).ok());
        let Some(Value::Array(parts)) = parts else { return Err(MoveError::Form) };
        let [version, device, counter, nonce, sealed] = parts.as_slice() else { return Err(MoveError::Form) };
        if uint(version) != Some(1) {
            return Err(MoveError::Form);
        }
        let (Some(counter), Some(nonce), Some(sealed)) = (uint(counter), nonce.as_bytes(), sealed.as_bytes()) else {
            return Err(MoveError::Form);
        };
        if device.as_text() != Some(&self.device_id) {
            return Err(MoveError::Sealed);
        }
        let key = self.order_key(counter, nonce);
        let aad = cbor(&Value::Array(vec![
            1.into(),
            Value::Text(self.device_id.clone()),
            Value::Text("rehome".into()),
            counter.into(),
            bytes(nonce),
        ]));
        let opened = cipher(&key).decrypt(&Nonce::from([0u8; 12]), Payload { msg: sealed, aad: &aad }).map_err(|_| MoveError::Sealed)?;
        let order = content(&opened, counter).ok_or(MoveError::Form)?;
        if counter <= last || counter > i64::MAX as u64 {
            return Err(MoveError::Counter);
        }
        if !order.from.contains(&hub) || order.to == hub {
            return Err(MoveError::OtherHub);
        }
        Ok(order)
    }

    fn order_key(&self, counter: u64, nonce: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0u8; 32]);
        fill(&Hkdf::<Sha256>::new(None, self.device_key.as_slice()), b"hearthkey rehome v1", key.as_mut_slice());
        expand(&key, &cbor(&Value::Array(vec![counter.into(), bytes(nonce)])))
    }
}

fn uint(value: &Value) -> Option<u64> {
    value.as_integer().and_then(|n| u64::try_from(n).ok())
}

fn hub_id(value: &Value) -> Option<HubId> {
    value.as_bytes()?.as_slice().try_into().ok().map(HubId::from_bytes)
}

fn content(opened: &[u8], counter: u64) -> Option<MoveOrder> {
    let Ok(Value::Map(entries)) = ciborium::from_reader::<Value, _>(opened) else { return None };
    let member = |key: i64| entries.iter().find(|(name, _)| *name == Value::from(key)).map(|(_, value)| value);
    let identity = member(3)?.as_bytes().filter(|key| key.len() == 32)?;
    let to = hub_id(member(2)?)?;
    // A hub's id is made of its identity key.
    if Sha256::digest(identity).as_slice().get(..16) != Some(to.as_bytes().as_slice()) {
        return None;
    }
    Some(MoveOrder {
        counter,
        from: member(1)?.as_array()?.iter().map(hub_id).collect::<Option<_>>()?,
        to,
        ca: member(4)?.as_bytes()?.clone(),
        addresses: member(5)?.as_array()?.iter().map(|address| address.as_text().map(str::to_owned)).collect::<Option<_>>()?,
    })
}
