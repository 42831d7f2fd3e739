//! Devices nearby on the page, in a real browser: the steps are in `tests/rigs/ui`; here are the house and the air.

use super::in_air;
use super::rig::{PHRASE, Rig, SSID};
use crate::page::{browser, look_around};
use hearthkey::sim::bluez::{Failing, Peripheral};
use hearthkey::sim::identity::DeviceSecret;
use hearthkey::sim::improv::{Improv, Options};

#[test]
fn a_lamp_and_a_stock_plug_are_added_in_a_browser() {
    in_air("page::a_lamp_and_a_stock_plug_are_added_in_a_browser", async |air| {
        let rig = Rig::new(air).await;
        let mut lamp = rig.device(|_| {}).await;
        rig.place(&mut lamp, 185);
        let plug = Improv::new(Options { networks: vec![(SSID.to_owned(), PHRASE.to_owned())], ..Options::default() });
        let (name, address) = (Some("Plug".to_owned()), "AA:BB:CC:DD:EE:09".to_owned());
        let device = Box::new(plug.clone());
        rig.air.add_device(Peripheral { name, address, mtu: 185, rssi: -60, device, failing: Failing::default() }).unwrap();
        let mut browser = browser("nearby.test.mjs");
        let port = rig.house.hub.addresses.https.unwrap().port();
        let label = DeviceSecret::read(&lamp.made.minted.secret).unwrap().claim_qr();
        browser.env("HEARTHKEY_URL", format!("https://127.0.0.1:{port}")).env("HEARTHKEY_LABEL", label);
        look_around(browser).await;
        assert_eq!(plug.joined().as_deref(), Some(SSID));
    });
}
