//! Stock devices that take their Wi-Fi by Improv.

use super::in_air;
use super::rig::{PHRASE, Rig, SSID, home_wifi};
use hearthkey::service::{NearbyKind, NewPairing, PairingView, WifiWish};
use hearthkey::sim::bluez::{Failing, Peripheral};
use hearthkey::sim::improv::{Improv, Options};

/// An Improv device in reach, and what it is called nearby.
async fn plug(rig: &Rig, number: u8, options: Options) -> (Improv, String) {
    let device = Improv::new(Options { networks: vec![(SSID.to_owned(), PHRASE.to_owned())], ..options });
    let address = format!("AA:BB:CC:DD:EE:{number:02X}");
    let id = format!("ble-aabbccddee{number:02x}");
    let name = Some("Plug".to_owned());
    let peripheral = Peripheral { name, address, mtu: 23, rssi: -60, device: Box::new(device.clone()), failing: Failing::default() };
    rig.air.add_device(peripheral).unwrap();
    let (service, owner) = (rig.house.hub.service(), &rig.house.owner);
    service.look_around(owner).unwrap();
    rig.until("the plug is nearby", || {
        service.nearby(owner).unwrap().iter().any(|thing| thing.id == id && thing.kind == NearbyKind::Improv)
    })
    .await;
    (device, id)
}

async fn begin(rig: &Rig, id: &str, wifi: WifiWish) -> PairingView {
    let new = NewPairing { nearby: Some(id.to_owned()), wifi, name: "Plug".into(), ..NewPairing::default() };
    rig.house.hub.service().begin_pairing(&rig.house.owner, new).await.unwrap()
}

#[test]
fn a_stock_device_gets_its_network_and_says_where_to_go_on() {
    in_air("improv::a_stock_device_gets_its_network_and_says_where_to_go_on", async |air| {
        let rig = Rig::new(air).await;
        let (plug, id) = plug(&rig, 1, Options::default()).await;
        let begun = begin(&rig, &id, home_wifi()).await;
        assert!(!begun.encrypted);
        let done = rig.ended(&begun.id).await;
        assert_eq!((done.step, done.problem), ("done", None));
        assert_eq!(plug.joined().as_deref(), Some(SSID));
        assert_eq!(done.result_url.as_deref(), Some("http://192.0.2.9/"));
    });
}

#[test]
fn a_stock_device_waits_for_its_button_and_a_wrong_passphrase_is_told() {
    in_air("improv::a_stock_device_waits_for_its_button_and_a_wrong_passphrase_is_told", async |air| {
        let rig = Rig::new(air).await;
        let (plug, id) = plug(&rig, 2, Options { button: true, ..Options::default() }).await;
        let begun = begin(&rig, &id, home_wifi()).await;
        rig.until("it shows itself", || plug.identified() == 1).await;
        rig.house.hub.service().cancel_pairing(&rig.house.owner, &begun.id).unwrap();
        assert_eq!(rig.ended(&begun.id).await.step, "cancelled");
        assert_eq!(plug.joined(), None);
        let wrong = WifiWish::given(SSID, "wrong battery staple".to_owned().into()).unwrap();
        let begun = begin(&rig, &id, wrong).await;
        rig.until("it shows itself again", || plug.identified() == 2).await;
        plug.press();
        assert_eq!(rig.ended(&begun.id).await.problem.map(|p| p.code), Some("no_wifi"));
        let elsewhere = WifiWish::given("elsewhere", PHRASE.to_owned().into()).unwrap();
        let begun = begin(&rig, &id, elsewhere).await;
        assert_eq!(rig.ended(&begun.id).await.problem.map(|p| p.code), Some("network_not_seen"));
        let begun = begin(&rig, &id, home_wifi()).await;
        assert_eq!(rig.ended(&begun.id).await.step, "done");
        assert_eq!(plug.joined().as_deref(), Some(SSID));
    });
}
