//! The vendor's manifest over HTTPS, and what owners do through the API.

use super::rig::{Fault, Rig, Site};
use crate::house::House;
use hearthkey::domain::account::Role;
use hearthkey::hub::{update_apply, update_check};
use serde_json::{Value, json};
use std::fs;
use std::sync::atomic::Ordering;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_found_fetched_and_lies_ready() {
    let mut rig = Rig::new();
    let _site = Site::of(&mut rig).await;
    for version in ["7.1.0", "7.10.0", "7.9.0"] {
        rig.release(version, Fault::None);
    }
    let found = update_check(&rig.config).await.unwrap().unwrap();
    assert_eq!((found.version.as_str(), found.notes.as_str()), ("7.10.0", "What is new in 7.10.0."));
    let (release, _) = update_apply(&rig.config).await.unwrap().unwrap();
    assert_eq!(release.version.as_str(), "7.10.0");
    assert!(rig.config.data_dir.join("update/versions/7.10.0/hearthkey").exists());
    let left: Vec<_> = fs::read_dir(rig.config.data_dir.join("update/download")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_cut_off_goes_on_where_it_stopped() {
    let mut rig = Rig::new();
    let site = Site::of(&mut rig).await;
    rig.release("7.1.0", Fault::None);
    *site.cuts.lock().unwrap() = vec![50, 100];
    update_apply(&rig.config).await.unwrap().unwrap();
    assert_eq!(site.ranged.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_calls_an_old_release_new_is_not_believed() {
    let mut rig = Rig::new();
    let _site = Site::of(&mut rig).await;
    let (old, new) = (rig.release("0.0.9", Fault::None), rig.release("7.1.0", Fault::None));
    for ending in ["", ".release"] {
        fs::copy(format!("{}{ending}", old.display()), format!("{}{ending}", new.display())).unwrap();
    }
    let error = update_apply(&rig.config).await.unwrap_err();
    assert!(error.contains("it was signed as version 0.0.9"), "{error}");
    // With the new release's word and the old archive, the archive is not what was signed.
    rig.release("7.1.0", Fault::None);
    let length = fs::metadata(&new).unwrap().len() as usize;
    let mut bytes = fs::read(&old).unwrap();
    bytes.resize(length, 0);
    fs::write(&new, bytes).unwrap();
    let error = update_apply(&rig.config).await.unwrap_err();
    assert!(error.contains("is not the archive that was signed"), "{error}");
    assert!(!rig.config.data_dir.join("update/versions/7.1.0").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_is_not_believed() {
    let mut rig = Rig::new();
    let _site = Site::of(&mut rig).await;
    rig.release("7.1.0", Fault::None);
    rig.config.update.ca_file = None;
    assert!(update_check(&rig.config).await.is_err());
    rig.config.update.url = Some("http://localhost/manifest.json".into());
    assert!(update_check(&rig.config).await.unwrap_err().contains("https://"));
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_look_for_a_version_and_only_owners_and_nobody_installs_without_the_password() {
    let mut rig = Rig::new();
    let _site = Site::of(&mut rig).await;
    rig.release("7.1.0", Fault::None);
    let update = rig.config.update.clone();
    let house = House::with(move |config| config.update = update).await;
    let (_, member) = house.person("mia", Role::Member).await;
    for (method, path) in [("GET", "/update"), ("POST", "/update/check")] {
        assert_eq!(house.http(method, path, &member, None).await.0, 403, "{path}");
    }
    let (status, view) = house.http("GET", "/update", &house.owner_token, None).await;
    assert_eq!((status, &view["phase"], &view["supervised"]), (200, &json!("idle"), &json!(false)), "{view}");
    let (status, view) = house.http("POST", "/update/check", &house.owner_token, None).await;
    assert_eq!((status, &view["offered"]["version"], &view["offered"]["by_itself"]), (200, &json!("7.1.0"), &json!(true)), "{view}");
    for path in ["/update/apply", "/update/roll-back"] {
        let call = async |token: &str, password: &str| house.http("POST", path, token, Some(json!({"password": password}))).await;
        assert_eq!(call(&member, "another long password").await.0, 403, "{path}");
        assert_eq!(call(&house.owner_token, "wrong").await.0, 422, "{path}");
        let (status, problem) = call(&house.owner_token, "correct horse battery").await;
        assert_eq!(status, 409, "{path}");
        assert!(problem.to_string().contains("hearthkey run"), "{problem}");
    }
    let (_, audit) = house.http("GET", "/audit?limit=50", &house.owner_token, None).await;
    let check: Vec<&Value> = audit["entries"].as_array().unwrap().iter().filter(|e| e["action"] == "hub.update.check").collect();
    assert_eq!(check.len(), 1);
    assert_eq!(check[0]["detail"], "version 7.1.0");
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_without_a_vendor_calls_nobody_and_says_so() {
    let house = House::new().await;
    let (status, problem) = house.http("POST", "/update/check", &house.owner_token, None).await;
    assert_eq!(status, 409);
    assert!(problem.to_string().contains("update.url"), "{problem}");
    house.hub.shut_down().await;
}
