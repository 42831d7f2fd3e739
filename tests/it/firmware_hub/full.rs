//! No room for images: on their disk, or on the hub's. A release is refused with the reason and leaves nothing; what is offered is handed out as
//! before, and the hub keeps deciding.

use super::{Lamp, Made, image};
use crate::faults::rig::Mounted;
use crate::house::House;
use hearthkey::domain::account::Role;
use hearthkey::hub::Hub;
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const SIZE: usize = 300_000;

/// Names and sizes of what lies where images are.
fn lying(dir: &Path) -> Vec<(String, u64)> {
    let entry = |e: std::io::Result<std::fs::DirEntry>| {
        let e = e.unwrap();
        (e.file_name().into_string().unwrap(), e.metadata().unwrap().len())
    };
    let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().map(entry).collect();
    all.sort();
    all
}

/// The image that a device is offered, as it is handed out.
async fn handed_out(house: &House, offer: &Value) -> Vec<u8> {
    let (client, base) = house.client();
    let request = client.get(format!("{base}{}", offer["path"].as_str().unwrap())).bearer_auth(offer["ticket"].as_str().unwrap());
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap().to_vec()
}

async fn offered(house: &House) -> (Lamp, Value, Made) {
    house.policy(json!({"mode": "automatic"})).await;
    let (mut lamp, _) = house.lamp().await;
    lamp.runs(1).await;
    let made = Made::new(house, 2, image(2, SIZE)).await;
    house.taken(&made).await;
    let offer = lamp.offer().await;
    assert_eq!(offer["rel"], 2);
    (lamp, offer, made)
}

/// A right is given, and a device comes in.
async fn decides(house: &House, lamp: &Lamp, who: &str) {
    let path = format!("/devices/{}/bindings", lamp.device.id);
    let (status, said) = house.call("POST", &path, Some(json!({"username": who, "privilege": "operate"}))).await;
    assert_eq!(status, 200, "{said}");
    let (_, all) = house.call("GET", &path, None).await;
    assert!(all["bindings"].as_array().unwrap().iter().any(|binding| binding["username"] == who), "{all}");
    house.connect_device(&lamp.device).await.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_images_have_no_room_a_release_is_refused_and_earlier_ones_are_handed_out() {
    let Some(disk) = Mounted::small(1) else { return };
    let images = disk.path().join("firmware");
    std::fs::create_dir(&images).unwrap();
    let at = images.clone();
    let house = House::with(move |config| {
        std::fs::create_dir(&config.data_dir).unwrap();
        std::fs::set_permissions(&config.data_dir, PermissionsExt::from_mode(0o700)).unwrap();
        symlink(at, config.data_dir.join("firmware")).unwrap();
    })
    .await;
    house.person("mia", Role::Member).await;
    house.person("pete", Role::Member).await;
    let (lamp, offer, made) = offered(&house).await;
    let before = lying(&images);
    assert_eq!(before, [(made.release.sha256.to_string(), SIZE as u64)]);

    // Larger than what is left: it breaks off in the midst.
    let large = Made::new(&house, 3, image(3, 900_000)).await;
    let (status, said) = house.upload(&house.owner_token, large.file(&house)).await;
    assert_eq!((status, &said["code"]), (503, &json!("unavailable")), "{said}");
    assert!(said["next"].as_str().unwrap().contains("Free some disk space"), "{said}");
    assert_eq!(lying(&images), before);
    // And to the last byte.
    disk.fill();
    let small = Made::new(&house, 4, image(4, 10_000)).await;
    let (status, said) = house.upload(&house.owner_token, small.file(&house)).await;
    assert_eq!((status, &said["code"]), (503, &json!("unavailable")), "{said}");
    assert_eq!(lying(&images), before);
    assert_eq!(handed_out(&house, &offer).await, made.image);
    decides(&house, &lamp, "mia").await;

    // A hub that is started on it serves, and hands out what it has.
    let House { hub, dir, workshop, brand, owner, owner_token } = house;
    hub.shut_down().await;
    let hub = Hub::start(crate::house::config(&dir)).await.unwrap();
    let house = House { hub, dir, workshop, brand, owner, owner_token };
    let (lamp, offer) = house.listening(lamp.device).await;
    assert_eq!(handed_out(&house, &offer).await, made.image);
    decides(&house, &lamp, "pete").await;

    disk.clear();
    house.taken(&small).await;
    assert_eq!(lying(&images).len(), 2);
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_disk_that_is_almost_full_a_release_that_is_refused_leaves_no_image() {
    let Some(disk) = Mounted::small(64) else { return };
    let data = disk.path().join("hub");
    let house = House::with(move |config| config.data_dir = data).await;
    house.person("mia", Role::Member).await;
    let (lamp, offer, made) = offered(&house).await;
    let firmware = disk.path().join("hub/firmware");
    let before = lying(&firmware);
    // There is room for the image, and for nothing that is large besides.
    disk.fill_up_to(10 * 1024 * 1024);
    for rel in [3, 4] {
        let more = Made::new(&house, rel, image(u8::try_from(rel).unwrap(), 3_000_000)).await;
        let (status, said) = house.upload(&house.owner_token, more.file(&house)).await;
        assert_eq!(status, 503, "{said}");
        assert!(said.to_string().contains("Free some"), "{said}");
        assert_eq!(lying(&firmware), before, "the image of what was refused is left");
    }
    assert_eq!(handed_out(&house, &offer).await, made.image);
    decides(&house, &lamp, "mia").await;
    disk.clear();
    house.taken(&Made::new(&house, 3, image(3, 3_000_000)).await).await;
    house.hub.shut_down().await;
}
