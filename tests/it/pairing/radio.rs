//! The radio under the hub: it goes away and comes back, in every way that is known.

use super::in_air;
use super::rig::Rig;
use hearthkey::service::RadioState;
use hearthkey::sim::bluez::{Failing, Power};
use hearthkey::sim::pairing::{At, Fault};

#[test]
fn the_state_of_the_adapter_is_told_and_the_hub_uses_it_when_it_is_back() {
    in_air("radio::the_state_of_the_adapter_is_told_and_the_hub_uses_it_when_it_is_back", async |air| {
        let rig = Rig::new(air).await;
        rig.air.set_power("hci0", Power::Off).unwrap();
        rig.radio_is(RadioState::Off).await;
        let device = rig.device(|_| {}).await;
        assert!(rig.begin(&device).await.is_err());
        rig.air.set_power("hci0", Power::Blocked).unwrap();
        rig.radio_is(RadioState::Blocked).await;
        // No longer blocked, it is switched on.
        rig.air.set_power("hci0", Power::Off).unwrap();
        rig.radio_is(RadioState::Ready).await;
        rig.air.remove_adapter("hci0").unwrap();
        rig.radio_is(RadioState::Absent).await;
        rig.air.add_adapter("hci1", Power::Off).unwrap();
        rig.radio_is(RadioState::Ready).await;
        assert_eq!(rig.house.hub.service().radio(&rig.house.owner).unwrap().adapter.as_deref(), Some("hci1"));
        let mut device = rig.device(|_| {}).await;
        rig.place(&mut device, 185);
        assert_eq!(rig.pair(&device).await.step, "done");
    });
}

#[test]
fn a_daemon_or_a_bus_that_dies_ends_the_pairing_and_not_the_hub() {
    in_air("radio::a_daemon_or_a_bus_that_dies_ends_the_pairing_and_not_the_hub", async |air| {
        let rig = Rig::new(air).await;
        for bus in [false, true, false] {
            let mut device = rig.device(|options| options.fault = Some(Fault::Silent)).await;
            rig.place(&mut device, 185);
            let before = rig.both(&device);
            let begun = rig.begin(&device).await.unwrap();
            rig.step(&begun.id, "proving").await;
            if bus {
                rig.air.kill_bus().await;
            } else {
                rig.air.kill_daemon().await;
            }
            let ended = rig.ended(&begun.id).await;
            println!("bus {bus}: {} {:?}", ended.step, ended.problem);
            assert_eq!(ended.step, "failed");
            rig.radio_is(RadioState::Absent).await;
            rig.unchanged(&device, &before, "a daemon's death").await;
            if bus {
                rig.air.start_bus().await.unwrap();
            } else {
                rig.air.start_daemon().await.unwrap();
            }
            rig.radio_is(RadioState::Ready).await;
            device.remove(&rig).await;
            let mut next = rig.device(|_| {}).await;
            rig.place(&mut next, 185);
            let done = rig.pair(&next).await;
            assert_eq!((done.step, done.problem), ("done", None));
            next.remove(&rig).await;
        }
    });
}

#[test]
fn a_connection_that_fails_at_first_is_tried_again() {
    in_air("radio::a_connection_that_fails_at_first_is_tried_again", async |air| {
        let rig = Rig::new(air).await;
        let mut device = rig.device(|_| {}).await;
        rig.place_failing(&mut device, 185, Failing { connects: 2, ..Failing::default() });
        let done = rig.pair(&device).await;
        assert_eq!((done.step, done.problem), ("done", None));
    });
}

#[test]
fn a_device_whose_link_broke_is_paired_at_the_next_try() {
    in_air("radio::a_device_whose_link_broke_is_paired_at_the_next_try", async |air| {
        let rig = Rig::new(air).await;
        let mut device = rig.device(|options| options.fault = Some(Fault::Drop(At::Credential))).await;
        rig.place(&mut device, 185);
        let before = rig.both(&device);
        assert_eq!(rig.pair(&device).await.problem.map(|p| p.code), Some("lost"));
        rig.unchanged(&device, &before, "a broken link").await;
        // Switched off and on: it is heard, and can be connected, before it offers anything.
        rig.switch_on_again(&mut device).await;
        rig.place_failing(&mut device, 185, Failing { bare: 1, ..Failing::default() });
        let done = rig.pair(&device).await;
        assert_eq!((done.step, done.problem), ("done", None));
        assert!(rig.owned(&device));
    });
}

#[test]
fn a_device_that_never_offers_what_it_advertises_is_given_up() {
    in_air("radio::a_device_that_never_offers_what_it_advertises_is_given_up", async |air| {
        let rig = Rig::new(air).await;
        let mut device = rig.device(|_| {}).await;
        rig.place_failing(&mut device, 185, Failing { bare: u32::MAX, ..Failing::default() });
        let before = rig.both(&device);
        assert_eq!(rig.pair(&device).await.problem.map(|p| p.code), Some("malformed"));
        rig.unchanged(&device, &before, "nothing on offer").await;
    });
}

#[test]
fn a_link_that_breaks_while_the_hub_writes_ends_the_pairing() {
    in_air("radio::a_link_that_breaks_while_the_hub_writes_ends_the_pairing", async |air| {
        let rig = Rig::new(air).await;
        let mut device = rig.device(|_| {}).await;
        // The greeting takes a few values of 20 bytes; the credential more than forty.
        rig.place_failing(&mut device, 23, Failing { link_breaks_after: Some(15), ..Failing::default() });
        let before = rig.both(&device);
        let ended = rig.pair(&device).await;
        assert_eq!(ended.problem.map(|p| p.code), Some("lost"));
        rig.unchanged(&device, &before, "a broken link").await;
    });
}

#[test]
fn what_is_nearby_is_shown_while_somebody_looks_and_only_what_is_in_the_air() {
    in_air("radio::what_is_nearby_is_shown_while_somebody_looks_and_only_what_is_in_the_air", async |air| {
        let rig = Rig::new(air).await;
        let mut device = rig.device(|_| {}).await;
        rig.place(&mut device, 185);
        let (service, owner) = (rig.house.hub.service(), &rig.house.owner);
        assert!(!rig.air.discovering("hci0"));
        service.look_around(owner).unwrap();
        rig.until("it is nearby", || service.nearby(owner).unwrap().len() == 1).await;
        let thing = service.nearby(owner).unwrap().remove(0);
        assert_eq!((thing.id, thing.name.as_str(), thing.signal), (rig.heard_as(&device), "Lamp", Some(-50)));
        assert!(thing.advertised.is_some());
        rig.air.set_rssi(&device.address, -77).unwrap();
        rig.until("its signal changes", || service.nearby(owner).unwrap().iter().all(|t| t.signal == Some(-77))).await;
    });
}
