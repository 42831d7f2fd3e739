//! Who gets a hub from a bundle, and who is refused and told why.

use super::{Keeper, cloud, make_code, no, try_recover};
use crate::house::House;
use hearthkey::domain::mirror::recovery::RecoveryCode;
use hearthkey::hub::{BundleSource, RecoverOrder};
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<_> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_refused_order_says_why_and_leaves_nothing_that_could_start() {
    let house = House::new().await;
    let code = make_code(&house).await;
    let keeper = Keeper::of(&house, &code).await;
    let (hub, bundle) = (house.hub.identity().id, keeper.0.lock().unwrap().bundle.clone());
    let other = RecoveryCode::from_bytes([1; 20]);
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("hub");
    let mut damaged = bundle.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for (what, code, from, says) in [
        ("the cloud knows the code", &other, cloud(&keeper), "signature"),
        ("a file does too", &other, BundleSource::File(bundle.clone()), "the recovery code does not open this bundle"),
        ("altered", &code, BundleSource::File(damaged), "the bundle is damaged"),
        ("cut", &code, BundleSource::File(bundle[..bundle.len() - 100].to_vec()), "the bundle is damaged"),
    ] {
        let error = try_recover(&dir, hub, code, from).await.unwrap_err().to_string();
        assert!(error.contains(says), "{what}: {error}");
        assert!(!names(&place).contains(&"hub.redb".to_owned()), "{what}: {:?}", names(&place));
    }
    // The cloud refuses the epoch at the very end: nothing is there that could start, and the next attempt goes well.
    keeper.0.lock().unwrap().refuses = true;
    assert_eq!(try_recover(&dir, hub, &code, cloud(&keeper)).await.unwrap_err().to_string(), no("epoch_stale").to_string());
    assert_eq!(names(&place), ["master.key"]);
    keeper.0.lock().unwrap().refuses = false;
    let made = try_recover(&dir, hub, &code, cloud(&keeper)).await.unwrap();
    assert_eq!((made.hub, made.epoch, made.begun), (hub, 2, true));
    assert_eq!(names(&place), ["hub.redb", "master.key"]);
    // A hub is never overwritten, and neither is anything else.
    let error = try_recover(&dir, hub, &code, cloud(&keeper)).await.unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
    let photos = tempfile::tempdir().unwrap();
    std::fs::create_dir(photos.path().join("hub")).unwrap();
    std::fs::write(photos.path().join("hub/photo.jpg"), b"").unwrap();
    assert!(try_recover(&photos, hub, &code, cloud(&keeper)).await.unwrap_err().to_string().contains("is not empty"));
    assert_eq!(names(&photos.path().join("hub")), ["photo.jpg"]);
    // Again from the same bundle: the epoch is above whatever the cloud knows.
    let again = tempfile::tempdir().unwrap();
    assert_eq!(try_recover(&again, hub, &code, cloud(&keeper)).await.unwrap().epoch, 3);
}

#[tokio::test]
async fn a_new_code_ends_the_one_before_and_takes_the_password_again() {
    let house = House::new().await;
    let member = house.person("mia", hearthkey::domain::account::Role::Member).await.1;
    assert_eq!(house.http("GET", "/recovery", &house.owner_token, None).await.1["made_at"], json!(null));
    assert_eq!(house.http("GET", "/recovery/bundle", &house.owner_token, None).await.0, 409);
    let wrong = house.http("POST", "/recovery", &house.owner_token, Some(json!({"password": "a guess of somebody"}))).await;
    assert_eq!(wrong.0, 422);
    assert_eq!(house.http("POST", "/recovery", &member, Some(json!({"password": "another long password"}))).await.0, 403);
    assert_eq!(house.http("GET", "/recovery", &member, None).await.0, 403);
    let first = make_code(&house).await;
    let second = make_code(&house).await;
    assert_ne!(first.to_string(), second.to_string());
    assert!(house.http("GET", "/recovery", &house.owner_token, None).await.1["made_at"].is_u64());
    let bundle = house.hub.service().take_bundle(&house.owner).await.unwrap();
    let (hub, dir) = (house.hub.identity().id, tempfile::tempdir().unwrap());
    assert!(try_recover(&dir, hub, &first, BundleSource::File(bundle.clone())).await.is_err());
    let made = try_recover(&dir, hub, &second, BundleSource::File(bundle)).await.unwrap();
    assert!(!made.begun);
    // The audit tells of it, and the code is nowhere in the store.
    let told = house.http("GET", "/audit?action=recovery.code&outcome=done", &house.owner_token, None).await.1;
    assert_eq!(told["entries"].as_array().unwrap().len(), 2, "{told}");
    let kept = std::fs::read(house.dir.path().join("hub/hub.redb")).unwrap();
    let plain = second.to_string().replace('-', "");
    assert!(!kept.windows(plain.len()).any(|w| w == plain.as_bytes()));
}

#[test]
fn what_is_scanned_names_the_hub_too() {
    let code = RecoveryCode::from_bytes([3; 20]);
    let hub = "aaaaaaaaaaaaaaaaaaaaaaaaaa";
    let none = || BundleSource::File(Vec::new());
    let read = |hub: Option<&str>, typed: &str| RecoverOrder::read(hub, typed, none()).map_err(|e| e.to_string());
    let scanned = format!("HKR1:{}:{}", hub.to_ascii_uppercase(), code.to_string().replace('-', ""));
    for order in [read(None, &scanned).unwrap(), read(Some(hub), &format!(" {} \n", code.to_string().to_lowercase())).unwrap()] {
        assert_eq!((order.hub.to_string(), order.code.to_string()), (hub.to_owned(), code.to_string()));
    }
    assert!(read(None, &code.to_string()).err().unwrap().contains("--hub"));
    assert!(read(Some("x"), &code.to_string()).err().unwrap().contains("the hub id is wrong"));
    assert!(read(Some(hub), "1234").err().unwrap().contains("33 symbols"));
}

fn run(arguments: &[&str], typed: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthkey"));
    command.arg("recover").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_makes_a_hub_from_a_file_and_says_what_to_do_next() {
    let house = House::new().await;
    let code = make_code(&house).await;
    let hub = house.hub.identity().id.to_string();
    let file = house.dir.path().join("bundle.age");
    std::fs::write(&file, house.hub.service().take_bundle(&house.owner).await.unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("new");
    let (file, data_dir) = (file.to_str().unwrap().to_owned(), data.to_str().unwrap().to_owned());
    let arguments = ["--bundle", &file, "--hub", &hub, "--data-dir", &data_dir];
    let typed = format!("{code}\n");
    let failed = run(&arguments, "AAAA-BBBB\n");
    assert!(!failed.status.success() && String::from_utf8_lossy(&failed.stderr).contains("33 symbols"));
    assert!(!data.join("hub.redb").exists());
    assert!(!run(&["--hub", &hub], &typed).status.success(), "from where?");
    let done = run(&arguments, &typed);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains(&hub) && said.contains("never switched on again") && !said.contains(&code.to_string()), "{said}");
    assert!(data.join("hub.redb").exists());
}
