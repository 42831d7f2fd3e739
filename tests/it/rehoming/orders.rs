//! What a device takes for an order, written by one implementation and read by the other.

use hearthkey::domain::ids::{DeviceId, HubId};
use hearthkey::domain::keys::{DeviceKey, MoveOrder, hub_scoped, seal_order};
use hearthkey::sim::identity::{DeviceSecret, MoveError};
use hearthkey::sim::state::Flash;
use serde_json::json;

const KEY: [u8; 32] = [7; 32];

fn hub(byte: u8) -> HubId {
    HubId::from_public_key(&[byte; 32])
}

fn at(byte: u8) -> hearthkey::sim::identity::HubId {
    hub(byte).to_string().parse().unwrap()
}

fn secret(id: &str) -> DeviceSecret {
    let key = data_encoding::BASE64URL_NOPAD.encode(&KEY);
    let file = json!({"v": 1, "device_id": id, "brand": "acme", "model": "lamp", "hardware": "", "serial": "", "device_key": key});
    DeviceSecret::parse(file.to_string().as_bytes()).unwrap()
}

/// From hub 1 to hub 2.
fn order() -> MoveOrder {
    MoveOrder { from: vec![hub(1)], identity: [2; 32], ca: vec![0x30; 300], addresses: vec!["hub.local:8883".into()], made: 5 }
}

fn sealed(key: [u8; 32], counter: u64, order: &MoveOrder) -> Vec<u8> {
    seal_order(&DeviceKey::from_bytes(key), &DeviceId::parse("lamp-1").unwrap(), counter, [3; 16], order).unwrap()
}

#[test]
fn a_device_takes_its_makers_order_and_no_other() {
    let lamp = secret("lamp-1");
    let good = sealed(KEY, 9, &order());
    let read = lamp.open_order(&good, 8, at(1)).unwrap();
    assert_eq!((read.counter, read.to, read.from, read.ca.len()), (9, at(2), vec![at(1)], 300));
    assert_eq!(read.addresses, ["hub.local:8883"]);
    // A replay, and an older one.
    assert_eq!(lamp.open_order(&good, 9, at(1)), Err(MoveError::Counter));
    assert_eq!(lamp.open_order(&good, 10, at(1)), Err(MoveError::Counter));
    // It is at another house, or there already.
    assert_eq!(lamp.open_order(&good, 8, at(5)), Err(MoveError::OtherHub));
    assert_eq!(lamp.open_order(&good, 8, at(2)), Err(MoveError::OtherHub));
    // Another device's.
    assert_eq!(secret("lamp-2").open_order(&good, 8, at(1)), Err(MoveError::Sealed));
    // What the thief can make of the keys in the stolen box: that of the hub, and all below it.
    let scoped = hub_scoped(&DeviceKey::from_bytes(KEY), &hub(1));
    for known in [*scoped.as_bytes(), *scoped.mqtt().as_bytes(), *scoped.seal().as_bytes(), *scoped.attest().as_bytes()] {
        assert_eq!(lamp.open_order(&sealed(known, 9, &order()), 8, at(1)), Err(MoveError::Sealed));
    }
    for byte in 0..good.len() {
        let mut changed = good.clone();
        changed[byte] ^= 1;
        assert!(lamp.open_order(&changed, 8, at(1)).is_err(), "byte {byte}");
    }
    assert_eq!(lamp.open_order(b"", 8, at(1)), Err(MoveError::Form));
    assert_eq!(lamp.open_order(&vec![0; 100_000], 8, at(1)), Err(MoveError::Form));
}

#[test]
fn a_move_is_on_the_disk_in_one_step_and_its_number_outlives_a_reset() {
    let dir = tempfile::tempdir().unwrap();
    let mut flash = Flash::open(dir.path(), "lamp-1").unwrap();
    flash.next_counter(at(1)).unwrap();
    let read = secret("lamp-1").open_order(&sealed(KEY, 9, &order()), 0, at(1)).unwrap();
    flash.move_to(at(1), &read).unwrap();
    let mut after_a_power_cut = Flash::open(dir.path(), "lamp-1").unwrap();
    assert_eq!((after_a_power_cut.rehomed(), after_a_power_cut.moved_to()), (9, Some(at(2))));
    assert_eq!(after_a_power_cut.ordered_ca(at(2)), Some(vec![0x30; 300]));
    assert!(after_a_power_cut.belongs_to(at(2)) && !after_a_power_cut.belongs_to(at(1)));
    after_a_power_cut.reset().unwrap();
    assert_eq!((after_a_power_cut.rehomed(), after_a_power_cut.moved_to()), (9, None));
}
