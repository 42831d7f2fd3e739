//! Registry batches that the cloud brings: in parts, each signed, and on from where a stop left them.

use super::cloud::{Answer, Cloud};
use super::{linked, restarted, until, usual};
use crate::house::{BRAND, Device, House};
use hearthkey::domain::ids::ModelName;
use hearthkey::factory::{MintOptions, RunChoice};
use hearthkey::service::MirrorPhase;

/// A batch for this hub that the hub has not seen, and one of its devices.
fn batch(house: &House, count: u64) -> (Vec<u8>, Device) {
    let model = ModelName::parse("lamp").unwrap();
    let run = house.workshop.mint(&house.brand, &model, count, &MintOptions::default(), &()).unwrap();
    let file = house.dir.path().join("offered.hkb");
    house.workshop.batch(&house.brand, &RunChoice::One(run.run.clone()), &house.hub.identity().request_line, &file, &()).unwrap();
    let device = house.as_device(run.devices().next().unwrap().unwrap());
    (std::fs::read(file).unwrap(), device)
}

#[tokio::test]
async fn a_batch_comes_in_parts_over_a_line_that_breaks_and_is_taken() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    let (content, device) = batch(&house, 5_000);
    assert!(content.len() > 2 * 256 * 1024, "{} bytes are too few for several parts", content.len());
    cloud.listened_to().await;
    cloud.instead("/batches/", Answer::Cut(1_000));
    cloud.instead("/batches/", Answer::Unsigned(502, Vec::new(), String::new()));
    cloud.offer("b1", BRAND, content, 5_000);
    cloud.until("how it ended", |s| s.is_sync() && s.sync().done.iter().any(|done| done.id == "b1" && done.ok)).await;
    house.claim(&device).await;
    let left = std::fs::read_dir(house.dir.path().join("hub/mirror")).unwrap().count();
    assert_eq!(left, 0, "what was taken is removed");
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn a_hub_that_is_stopped_in_the_middle_goes_on_from_there() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    let (content, device) = batch(&house, 5_000);
    cloud.listened_to().await;
    until(&house, "idle", |s| s.phase == MirrorPhase::Idle).await;
    // The second part does not come before the hub is started again.
    cloud.hold("bytes=262144-");
    cloud.offer("b1", BRAND, content, 5_000);
    cloud.until("the second part asked for", |s| s.range().starts_with("bytes=262144-")).await;
    let before = cloud.all().len();
    let usual = usual(&cloud);
    let place = house.dir.path().join("hub/mirror");
    let house = restarted(house, None, |config| {
        let part = std::fs::read_dir(place).unwrap().next().unwrap().unwrap();
        assert_eq!(part.metadata().unwrap().len(), 262_144);
        cloud.release();
        usual(config);
    })
    .await;
    cloud.until("how it ended", |s| s.is_sync() && s.sync().done.iter().any(|done| done.id == "b1" && done.ok)).await;
    let parts: Vec<String> = cloud.all()[before..].iter().map(super::cloud::Seen::range).filter(|range| !range.is_empty()).collect();
    assert!(parts[0].starts_with("bytes=262144-"), "{parts:?}");
    house.claim(&device).await;
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn a_file_that_a_power_cut_has_spoilt_is_fetched_anew_and_a_wrong_offer_is_refused() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    let (content, device) = batch(&house, 10);
    cloud.listened_to().await;
    let sha256 = data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(&content));
    let place = house.dir.path().join("hub/mirror");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join(format!("{sha256}.part")), vec![0; 100]).unwrap();
    cloud.offer("spoilt", BRAND, content.clone(), 10);
    cloud.until("how it ended", |s| s.is_sync() && s.sync().done.iter().any(|done| done.id == "spoilt" && done.ok)).await;
    house.claim(&device).await;
    // What comes is not what is announced.
    cloud.offer_other("other", BRAND, content, vec![1; 500]);
    cloud.until("how that ended", |s| s.is_sync() && s.sync().done.iter().any(|done| done.id == "other" && !done.ok)).await;
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    assert_eq!(cloud.faults(), Vec::<String>::new());
}
