//! Releases of firmware that a cloud brings, which is believed in nothing but where they are.

use super::cloud::Cloud;
use super::{linked, restarted, usual, wish};
use crate::firmware_hub::{hardware, image, release_file};
use crate::house::{BRAND, House};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn brand_dir(house: &House) -> PathBuf {
    house.dir.path().join("factory").join(BRAND)
}

/// Waits until the hub shows this at a path; live views are told of every change.
async fn shown(house: &House, path: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut changes = house.hub.service().changes();
    let mut last = Value::Null;
    let looking = async {
        loop {
            last = house.http("GET", path, &house.owner_token, None).await.1;
            if is(&last) {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), changes.recv()).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "not {what}: {last}");
    last
}

fn releases(shown: &Value) -> Vec<(u64, u64, bool)> {
    let all = shown["models"].as_array().unwrap().iter().flat_map(|model| model["releases"].as_array().unwrap());
    all.map(|one| (one["rel"].as_u64().unwrap(), one["cloud_percent"].as_u64().unwrap(), one["cached"].as_bool().unwrap())).collect()
}

#[tokio::test]
async fn a_release_comes_in_parts_through_a_restart_and_its_stage_follows_without_it() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    let (_lamp, _) = house.lamp().await;
    let file = release_file(&brand_dir(&house), "lamp", &hardware(&house).await, 2, &image(1, 700_000));
    cloud.listened_to().await;
    cloud.hold("bytes=262144-");
    cloud.tells_release(("lamp", 2, 10), file.clone());
    wish(&house);
    cloud.until("the second part asked for", |s| s.path.contains("/firmware/") && s.range().starts_with("bytes=262144-")).await;
    let before = cloud.all().len();
    let usual = usual(&cloud);
    let house = restarted(house, None, |config| {
        cloud.release();
        usual(config);
    })
    .await;
    let here = shown(&house, "/firmware", "here", |shown| releases(shown) == [(2, 10, true)]).await;
    assert_eq!(here["models"][0]["releases"][0]["from"], "cloud");
    let asked: Vec<String> = cloud.all()[before..].iter().map(super::cloud::Seen::range).filter(|range| !range.is_empty()).collect();
    assert!(asked[0].starts_with("bytes=262144-"), "{asked:?}");
    let fetched = cloud.all().iter().filter(|s| s.path.contains("/firmware/")).count();
    // Another stage, and nothing else: nothing is fetched.
    cloud.tells_release(("lamp", 2, 60), file.clone());
    wish(&house);
    shown(&house, "/firmware", "staged", |shown| releases(shown) == [(2, 60, true)]).await;
    cloud.tells_release(("lamp", 2, 0), file);
    wish(&house);
    shown(&house, "/firmware", "stopped", |shown| releases(shown) == [(2, 0, true)]).await;
    assert_eq!(cloud.all().iter().filter(|s| s.path.contains("/firmware/")).count(), fetched);
    assert_eq!(std::fs::read_dir(house.dir.path().join("hub/mirror")).unwrap().count(), 0, "what was taken is removed");
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn a_cloud_that_lies_brings_no_firmware_and_owners_are_told() {
    let cloud = Cloud::start().await;
    let house = linked(&cloud).await;
    let (_lamp, _) = house.lamp().await;
    let revision = hardware(&house).await;
    cloud.listened_to().await;
    // Signed by somebody who calls itself the brand; changed after it was signed; another release than the one it is told to be.
    let elsewhere = tempfile::tempdir().unwrap();
    let workshop = hearthkey::factory::Workshop::open(elsewhere.path()).unwrap();
    workshop.new_brand(&house.brand).unwrap();
    let forged = release_file(&elsewhere.path().join(BRAND), "lamp", &revision, 7, &image(1, 5_000));
    let mut changed = release_file(&brand_dir(&house), "lamp", &revision, 8, &image(2, 5_000));
    *changed.last_mut().unwrap() ^= 1;
    let other = release_file(&brand_dir(&house), "lamp", &revision, 3, &image(3, 5_000));
    for (n, (rel, file)) in [(7, forged), (8, changed), (9, other)].into_iter().enumerate() {
        cloud.tells_release(("lamp", rel, 100), file);
        wish(&house);
        let told = |shown: &Value| {
            let notices = shown["notices"].as_array().unwrap();
            let of = |notice: &&Value| {
                notice["code"] == "release_not_taken" && notice["text"].as_str().unwrap().contains(&format!("Release {rel} "))
            };
            notices.iter().filter(of).count() == 1
        };
        shown(&house, "/cloud", "told", told).await;
        // It is not fetched again.
        let asked = cloud.all().iter().filter(|s| s.path.contains("/firmware/")).count();
        assert_eq!(asked, n + 1);
    }
    // What the maker has signed came under another number: it is what it is, and nothing else came.
    let here = house.http("GET", "/firmware", &house.owner_token, None).await.1;
    assert_eq!(releases(&here), [(3, 100, true)]);
    // The line is as good as it was.
    let good = release_file(&brand_dir(&house), "lamp", &revision, 4, &image(4, 5_000));
    cloud.tells_release(("lamp", 4, 100), good);
    wish(&house);
    shown(&house, "/firmware", "here", |shown| releases(shown) == [(4, 100, true), (3, 100, true)]).await;
    let refused = house.http("GET", "/audit?limit=500&action=firmware.import", &house.owner_token, None).await.1;
    assert_eq!(refused["entries"].as_array().unwrap().iter().filter(|e| e["outcome"] == "denied").count(), 2, "{refused}");
    assert_eq!(cloud.faults(), Vec::<String>::new());
    assert_eq!(json!(cloud.all().iter().rfind(|s| s.is_sync()).unwrap().sync().fw.is_some()), json!(true));
}
