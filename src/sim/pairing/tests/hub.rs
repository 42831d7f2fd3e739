//! A hub that a test plays: the initiator, written after the framework and the document.

use ciborium::Value;

use super::super::frame::{Assembler, cut, value_max};
use super::super::message;
use super::super::noise::{Initiator, Transport};
use super::*;

/// What the hub of a test goes by.
pub(in crate::sim::pairing) const HUB: [u8; 16] = [0x11; 16];

pub(in crate::sim::pairing) struct Hub {
    initiator: Option<Initiator>,
    transport: Option<Transport>,
    incoming: Assembler,
    most: usize,
}

impl Hub {
    /// Knows the device's secret file, as no real hub does; message 1 in fragments.
    pub(in crate::sim::pairing) fn begin(secret: &DeviceSecret, mtu: u16) -> (Self, Vec<Vec<u8>>) {
        let payload = encode(&Value::Array(vec![1.into(), Value::Bytes(HUB.to_vec())]));
        let (initiator, message) = Initiator::begin(&secret.pairing_key(), &message::prologue(&secret.device_id), &[0x50; 32], &payload);
        let most = value_max(mtu);
        (Self { initiator: Some(initiator), transport: None, incoming: Assembler::default(), most }, cut(&message, most))
    }

    /// What the device said: `Some` for a whole message within the session.
    pub(in crate::sim::pairing) fn hear(&mut self, value: &[u8]) -> Option<Vec<Value>> {
        let message = self.incoming.push(value, self.most).unwrap()?;
        match self.initiator.take() {
            Some(initiator) => {
                self.transport = Some(initiator.finish(&message).expect("message 2 is genuine"));
                None
            }
            None => {
                let plain = self.transport.as_mut().unwrap().open(&message).expect("a message of this session");
                ciborium::from_reader::<Value, _>(plain.as_slice()).unwrap().into_array().ok()
            }
        }
    }

    /// Everything the device said.
    pub(in crate::sim::pairing) fn hear_all(&mut self, values: Vec<Vec<u8>>) -> Vec<Vec<Value>> {
        values.iter().filter_map(|value| self.hear(value)).collect()
    }

    pub(in crate::sim::pairing) fn say(&mut self, plain: &[u8]) -> Vec<Vec<u8>> {
        cut(&self.transport.as_mut().unwrap().seal(plain).unwrap(), self.most)
    }

    pub(in crate::sim::pairing) fn h(&self) -> [u8; 32] {
        self.transport.as_ref().unwrap().h
    }
}

pub(in crate::sim::pairing) fn credential(ca: &[u8], addresses: &[&str], secret: [u8; 32], wifi: Option<(&str, &str)>) -> Vec<u8> {
    let mut members: Vec<(Value, Value)> = vec![
        (1.into(), Value::Bytes(HUB.to_vec())),
        (2.into(), Value::Bytes(ca.to_vec())),
        (3.into(), Value::Array(addresses.iter().map(|address| Value::Text((*address).into())).collect())),
        (4.into(), Value::Bytes(secret.to_vec())),
        (5.into(), 1_790_000_000.into()),
    ];
    members.extend(
        wifi.map(|(ssid, passphrase)| {
            (6.into(), Value::Array(vec![Value::Bytes(ssid.as_bytes().to_vec()), Value::Text(passphrase.into())]))
        }),
    );
    encode(&Value::Array(vec![4.into(), Value::Map(members)]))
}

pub(in crate::sim::pairing) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).unwrap();
    out
}

/// Type and numbers of a message, as far as they go: `[6, 1, 0]`.
pub(in crate::sim::pairing) fn numbers(message: &[Value]) -> Vec<u64> {
    message.iter().map_while(|value| value.as_integer().and_then(|number| u64::try_from(number).ok())).collect()
}
