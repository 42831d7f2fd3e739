//! The Wi-Fi that devices are given: by a person, or the hub's own from NetworkManager.

use super::in_air;
use super::rig::{PHRASE, Rig, SSID};
use hearthkey::service::WifiWish;
use hearthkey::sim::network_manager::{Network, NetworkManager};
use hearthkey::sim::pairing::Told;

fn network() -> Network {
    Network { ssid: SSID.into(), key_mgmt: Some("wpa-psk"), passphrase: Some(PHRASE.to_owned()), guarded: false }
}

#[test]
fn the_hubs_own_network_is_handed_on_when_the_owners_share_it_and_asked_for_only_then() {
    in_air("wifi::the_hubs_own_network_is_handed_on_when_the_owners_share_it_and_asked_for_only_then", async |air| {
        let system = NetworkManager::start(air.address(), network()).await.unwrap();
        let rig = Rig::new(air).await;
        let (service, owner) = (rig.house.hub.service(), &rig.house.owner);
        rig.until("the name is known", || service.radio(owner).unwrap().wifi.ssid.as_deref() == Some(SSID)).await;
        let mut device = rig.device(|_| {}).await;
        rig.place(&mut device, 185);
        assert!(rig.begin_with(&device, WifiWish::System, false).await.is_err());
        assert_eq!(system.asked(), 0);
        rig.share_wifi().await;
        let begun = rig.begin_with(&device, WifiWish::System, false).await.unwrap();
        let done = rig.ended(&begun.id).await;
        assert_eq!((done.step, done.problem), ("done", None));
        assert_eq!(system.asked(), 1);
        device.heard(|told| matches!(told, Told::Progress { code: 0, .. })).await;
    });
}

#[test]
fn a_network_that_is_guarded_is_not_handed_on_and_the_person_is_told_to_type_it() {
    in_air("wifi::a_network_that_is_guarded_is_not_handed_on_and_the_person_is_told_to_type_it", async |air| {
        let system = NetworkManager::start(air.address(), Network { guarded: true, ..network() }).await.unwrap();
        let rig = Rig::new(air).await;
        let (service, owner) = (rig.house.hub.service(), &rig.house.owner);
        rig.until("the name is known", || service.radio(owner).unwrap().wifi.ssid.is_some()).await;
        rig.share_wifi().await;
        let mut device = rig.device(|_| {}).await;
        rig.place(&mut device, 185);
        let before = rig.both(&device);
        let begun = rig.begin_with(&device, WifiWish::System, false).await.unwrap();
        let problem = rig.ended(&begun.id).await.problem.unwrap();
        assert_eq!(problem.code, "no_system_wifi");
        assert!(problem.next.contains("type"), "{}", problem.next);
        assert_eq!(system.asked(), 1);
        rig.unchanged(&device, &before, "no network").await;
    });
}
