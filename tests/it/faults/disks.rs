//! Disks that are full, and disks that can only be read.

use super::rig::{Caller, Mounted};
use crate::durability::Process;
use crate::firmware_hub::{Made, image};
use crate::house::{Device, House};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::hub::{Ask, Hub, NewBackup, Passphrase, Target, ask_running, list_backups};
use hearthkey::service::{Grant, Recipient};
use hearthkey::sim::mqtt::{Client, Message, Qos, Version};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(10);

/// A house on a disk of its own.
async fn house_on(disk: &Path) -> House {
    let data = disk.join("hub");
    House::with(move |config| config.data_dir = data).await
}

struct Lamp<'a> {
    device: &'a Device,
    client: Client<Stream>,
}

impl<'a> Lamp<'a> {
    async fn of(house: &House, device: &'a Device) -> Lamp<'a> {
        let mut client = house.try_device(device, Version::V5, device.next_counter()).await.expect("a sign-in was refused");
        let update = device.topic("shadow/update");
        let (accepted, rejected) = (format!("{update}/accepted"), format!("{update}/rejected"));
        let granted = client.subscribe(&[(&accepted, Qos::AtLeastOnce), (&rejected, Qos::AtLeastOnce)]).await;
        assert_eq!(granted.unwrap(), [1, 1]);
        Lamp { device, client }
    }

    /// Says its brightness; what the hub says to that, and where.
    async fn says(&mut self, brightness: u64) -> (bool, Value) {
        let body = json!({"state": {"reported": {"brightness": brightness}}}).to_string();
        self.client.publish(&Message::new(self.device.topic("shadow/update"), body, Qos::AtLeastOnce)).await.unwrap();
        let heard = self.client.receive(SHORT).await.unwrap().expect("no answer");
        (heard.topic.to_string().ends_with("accepted"), serde_json::from_slice(&heard.payload).unwrap())
    }
}

fn caller(house: &House) -> Caller {
    Caller::new(&house.hub.identity().ca_der, &house.owner_token, house.hub.addresses.https.unwrap().port())
}

async fn brightness(caller: &Caller, device: &Device) -> Value {
    let (status, twin) = caller.call("GET", &format!("/devices/{}/twin", device.id), None).await.unwrap();
    assert_eq!(status, 200, "{twin}");
    twin["reported"]["brightness"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_new_values_are_refused_and_sign_ins_and_revocations_go_on() {
    let Some(disk) = Mounted::small(64) else { return };
    let mut house = house_on(disk.path()).await;
    let device = house.device("lamp").await;
    house.claim(&device).await;
    let (mia, _) = house.person("mia", Role::Member).await;
    let grant = Grant { to: Recipient::Person("mia".into()), terms: Terms::of(Privilege::Operate) };
    house.hub.service().grant(&house.owner, &device.id, grant).await.unwrap();
    let release = Made::new(&house, 1, image(1, 3_000_000)).await.file(&house);
    let mut lamp = Lamp::of(&house, &device).await;
    assert!(lamp.says(10).await.0);
    assert!(house.dir.path().exists() && disk.path().join("hub/hub.reserve").exists());

    disk.fill();
    let (taken, said) = lamp.says(20).await;
    assert!(!taken && said["code"] == 503 && said["message"].as_str().unwrap().contains("disk is full"), "{said}");
    // The session lives, and so do new ones, of devices and of people; what a person sees is what was acknowledged.
    lamp.client.ping().await.unwrap();
    for _ in 0..40 {
        Lamp::of(&house, &device).await.client.ping().await.unwrap();
    }
    let calls = caller(&house);
    assert_eq!(brightness(&calls, &device).await, 10);
    let wish = json!({"brightness": 30});
    let (status, said) = calls.call("PATCH", &format!("/devices/{}/twin/desired", device.id), Some(wish)).await.unwrap();
    assert!(status == 503 && said["next"].as_str().unwrap().contains("Free some space"), "{said}");
    let (status, said) = calls.upload(release.clone()).await.unwrap();
    assert!(status == 503 || status == 409, "{said}");
    let path = format!("/devices/{}/bindings/{}", device.id, mia.user().unwrap());
    assert_eq!(calls.call("DELETE", &path, None).await.unwrap().0, 200, "what is to end ends");
    assert!(house.hub.service().sign_in_person("mia", "another long password".to_owned().into(), crate::house::HERE, "test").await.is_ok());

    // Started again on the full disk, it serves.
    let config = hearthkey::hub::Config { data_dir: disk.path().join("hub"), ..crate::house::config(&house.dir) };
    house.hub.shut_down().await;
    house.hub = Hub::start(config.clone()).await.unwrap();
    let mut lamp = Lamp::of(&house, &device).await;
    assert!(!lamp.says(40).await.0);
    let calls = caller(&house);
    assert_eq!(calls.holders(&device).await, ["olivia"]);

    disk.clear();
    assert!(lamp.says(50).await.0, "there is room again");
    let (status, said) = calls.upload(release).await.unwrap();
    assert_eq!(status, 201, "{said}");
    house.hub.shut_down().await;
    house.hub = Hub::start(config).await.unwrap();
    let calls = caller(&house);
    assert_eq!(brightness(&calls, &device).await, 50);
    assert_eq!(calls.holders(&device).await, ["olivia"]);
    assert_eq!(house.hub.service().verify_audit().unwrap().gaps, []);
    assert!(disk.path().join("hub/hub.reserve").exists());
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_room_is_told_and_leaves_nothing() {
    let Some(disk) = Mounted::small(1) else { return };
    let house = House::new().await;
    let target = Target::Usb { path: disk.path().display().to_string() };
    let passphrase = Some(Some(Passphrase("seven geese cross the lake".to_owned().into())));
    let new = NewBackup { target: Some(Some(target.clone())), passphrase, ..NewBackup::default() };
    house.hub.service().set_backups_by_console(new).await.unwrap();
    let dir = house.dir.path().join("hub");
    let create = async || ask_running(&dir, &Ask::CreateBackup { full: true }, |_| ()).await.unwrap();
    disk.fill();
    let why = create().await.unwrap_err();
    assert!(why.contains("It is full: make room"), "{why}");
    let names: Vec<_> = std::fs::read_dir(disk.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["filler"]);
    disk.clear();
    create().await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let listed = list_backups(&crate::house::config(&elsewhere), &target).await.unwrap();
    assert!(listed.len() == 1 && listed[0].good, "{listed:?}");
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_disk_that_can_only_be_read_the_hub_keeps_deciding_and_at_its_next_start_says_so() {
    let Some(disk) = Mounted::ext4(64) else { return };
    let house = house_on(disk.path()).await;
    let device = house.device("lamp").await;
    house.claim(&device).await;
    let mut lamp = Lamp::of(&house, &device).await;
    assert!(lamp.says(10).await.0);
    disk.break_off();
    let (taken, said) = lamp.says(20).await;
    assert!(!taken && said["code"] == 503, "{said}");
    // Who is in stays in, and is answered by the rights as they stand.
    lamp.client.ping().await.unwrap();
    assert!(matches!(lamp.client.subscribe(&[("things/somebody-else/#", Qos::AtMostOnce)]).await.as_deref(), Ok([0x87])));
    let calls = caller(&house);
    assert_eq!(brightness(&calls, &device).await, 10);
    let wish = json!({"brightness": 30});
    let (status, said) = calls.call("PATCH", &format!("/devices/{}/twin/desired", device.id), Some(wish)).await.unwrap();
    assert!(status == 503 && said["detail"].as_str().unwrap().contains("can only be read"), "{said}");
    let hub = house.hub;
    hub.shut_down().await;
    let (mut child, said) = Process::said(Process::command(&disk.path().join("hub"))).await;
    assert!(said["recovery_mode"].as_str().is_some_and(|why| why.contains("can only be read")), "{said}");
    child.kill().await.unwrap();
}
