//! The system of the box, as an owner updates it through the API; RAUC and the boot loader are stood in for (`sim::rauc`). With the real RAUC:
//! `tests/system/rauc.sh`.

use crate::faults::rig::Mounted;
use crate::house::{House, config};
use hearthkey::domain::account::Role;
use hearthkey::hub::Hub;
use hearthkey::service::{Change, NewPairing, RadioState};
use hearthkey::sim::rauc::Rauc;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const PATIENCE: Duration = Duration::from_secs(30);
const PASSWORD: &str = "correct horse battery";
/// Of who [`House::person`] adds.
const PERSONS: &str = "another long password";

async fn house_with(rauc: &Rauc) -> House {
    let address = rauc.address();
    House::with(move |config| config.update.bus = Some(address)).await
}

fn shelf(house: &House) -> Vec<String> {
    let found = std::fs::read_dir(house.dir.path().join("hub/system"));
    found.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Sends a file as the page does.
async fn bring(house: &House, token: &str, bundle: &str) -> (u16, Value) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_der(&house.hub.identity().ca_der).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let url = format!("https://localhost:{}/api/v1/update/system/bundle", house.hub.addresses.https.unwrap().port());
    let request = client.post(url).bearer_auth(token).header("content-type", "application/octet-stream").body(bundle.to_owned());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

async fn view(house: &House) -> Value {
    let (status, view) = house.http("GET", "/update/system", &house.owner_token, None).await;
    assert_eq!(status, 200, "{view}");
    view
}

/// Waits for a view; the hub says when there is another one.
async fn until(house: &House, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut changes = house.hub.service().changes();
    let seen = async {
        loop {
            let now = view(house).await;
            if wanted(&now) {
                return now;
            }
            // Told of by the hub; what only RAUC knows is asked for again.
            let told = async { while !matches!(changes.recv().await, Ok(Change::Update)) {} };
            let _ = tokio::time::timeout(Duration::from_millis(300), told).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("the view did not come")
}

async fn order(house: &House, path: &str, body: Value) -> (u16, Value) {
    house.http("POST", &format!("/update/system/{path}"), &house.owner_token, Some(body)).await
}

async fn ends(house: &House) -> Vec<(String, String, String)> {
    let (_, audit) = house.http("GET", "/audit?limit=100", &house.owner_token, None).await;
    let text = |entry: &Value, member: &str| entry[member].as_str().unwrap_or_default().to_owned();
    let all = audit["entries"].as_array().unwrap().iter().filter(|e| text(e, "action").starts_with("hub.system"));
    let mut all: Vec<_> = all.map(|e| (text(e, "action"), text(e, "reason"), text(e, "detail"))).collect();
    all.reverse();
    all
}

async fn install(house: &House, rauc: &Rauc, version: &str) {
    let (status, found) = bring(house, &house.owner_token, &format!("builder hearthkey-test {version}")).await;
    assert_eq!((status, &found["version"]), (201, &json!(version)), "{found}");
    let (status, problem) = order(house, "install", json!({"password": PASSWORD})).await;
    assert_eq!(status, 202, "{problem}");
    until(house, |_| rauc.is_installing()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_brings_a_bundle_has_it_installed_and_restarts_into_it() {
    for newer in [false, true] {
        let rauc = Rauc::start(newer).await.unwrap();
        let house = house_with(&rauc).await;
        let before = view(&house).await;
        assert_eq!((&before["compatible"], &before["phase"]), (&json!("hearthkey-test"), &json!("idle")));
        assert_eq!((&before["version"], &before["tried"]), (&json!(env!("CARGO_PKG_VERSION")), &Value::Null), "the image's own");
        assert_eq!(before["slots"].as_array().unwrap().len(), 2, "what belongs to a slot is not one: {before}");
        install(&house, &rauc, "7.0.0").await;
        rauc.progress(40);
        until(&house, |v| v["phase"] == "installing" && v["percent"] == 40).await;
        rauc.finish(None);
        let done = until(&house, |v| v["tried"]["fate"] == "waits").await;
        assert_eq!((&done["slots"][1]["version"], &done["slots"][1]["next"]), (&json!("7.0.0"), &json!(true)), "{done}");
        assert_eq!((&done["bundle"], shelf(&house)), (&Value::Null, vec!["installed.json".to_owned()]), "the bundle is gone");
        assert_eq!(order(&house, "restart", json!({"password": "wrong"})).await.0, 422);
        assert_eq!(rauc.restarts(), 0);
        assert_eq!(order(&house, "restart", json!({"password": PASSWORD})).await.0, 202);
        until(&house, |v| v["phase"] == "restarting" && rauc.restarts() == 1).await;
        house.hub.shut_down().await;

        // The box comes up with the new system, and the hub in it.
        rauc.boot_on_trial();
        let mut settings = config(&house.dir);
        settings.update.bus = Some(rauc.address());
        let house = House { hub: Hub::start(settings).await.unwrap(), ..house };
        let tried = view(&house).await;
        assert_eq!((&tried["tried"]["fate"], &tried["version"]), (&json!("tried"), &json!("7.0.0")), "{tried}");
        rauc.boot(false);
        assert_eq!(view(&house).await["tried"]["fate"], "stays");
        view(&house).await;
        let told: Vec<_> = ends(&house).await.into_iter().map(|(action, reason, _)| (action, reason)).collect();
        let expected = [
            ("hub.system.bundle", ""),
            ("hub.system.install", ""),
            ("hub.system.end", "installed"),
            ("hub.system.restart", "wrong_password"),
            ("hub.system.restart", ""),
            ("hub.system.end", "stays"),
        ];
        assert_eq!(told, expected.map(|(action, reason)| (action.to_owned(), reason.to_owned())), "told once");
        house.hub.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_does_not_stay_is_told_of_as_the_way_back() {
    let rauc = Rauc::start(true).await.unwrap();
    let house = house_with(&rauc).await;
    install(&house, &rauc, "7.0.0").await;
    rauc.finish(None);
    until(&house, |v| v["tried"]["fate"] == "waits").await;
    rauc.boot(false);
    let back = view(&house).await;
    assert_eq!((&back["tried"]["fate"], &back["boot_slot"]), (&json!("fell_back"), &json!("A")), "{back}");
    let (status, problem) = order(&house, "restart", json!({"password": PASSWORD})).await;
    assert_eq!(status, 409, "there is nothing to start: {problem}");
    assert_eq!(ends(&house).await.iter().filter(|(_, reason, _)| reason == "fell_back").count(), 1);
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rauc_does_not_believe_leaves_nothing_and_the_refusal_says_what_to_do() {
    for newer in [false, true] {
        let rauc = Rauc::start(newer).await.unwrap();
        let house = house_with(&rauc).await;
        for (bundle, word) in [
            ("stranger hearthkey-test 7.0.0", "signed"),
            ("builder another-box 7.0.0", "another machine"),
            ("builder", "not a whole bundle"),
        ] {
            let (status, problem) = bring(&house, &house.owner_token, bundle).await;
            assert_eq!(status, 409, "{bundle}: {problem}");
            assert!(problem.to_string().contains(word), "{bundle}: {problem}");
            let now = view(&house).await;
            assert_eq!((&now["phase"], &now["bundle"], shelf(&house)), (&json!("idle"), &Value::Null, vec![]), "{bundle}");
            assert_eq!(order(&house, "install", json!({"password": PASSWORD})).await.0, 409, "nothing is there to install");
        }
        house.hub.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_system_is_installed_only_when_that_is_said() {
    let rauc = Rauc::start(true).await.unwrap();
    let house = house_with(&rauc).await;
    for (version, age) in [("0.0.1", "older"), ("of-today", "unknown")] {
        let (status, found) = bring(&house, &house.owner_token, &format!("builder hearthkey-test {version}")).await;
        assert_eq!((status, &found["age"]), (201, &json!(age)), "{found}");
        let (status, problem) = order(&house, "install", json!({"password": PASSWORD})).await;
        assert_eq!(status, 409);
        assert!(problem.to_string().contains("older"), "{problem}");
        assert!(!rauc.is_installing());
    }
    assert_eq!(order(&house, "install", json!({"password": PASSWORD, "older": true})).await.0, 202);
    until(&house, |_| rauc.is_installing()).await;
    assert_eq!(bring(&house, &house.owner_token, "builder hearthkey-test 7.0.0").await.0, 409, "one at a time");
    rauc.finish(Some("Failed updating slot rootfs.1: No space left on device"));
    let failed = until(&house, |v| v["phase"] == "idle").await;
    assert!(failed["problem"].as_str().unwrap().contains("does not fit"), "{failed}");
    assert_eq!((&failed["tried"], shelf(&house)), (&Value::Null, vec![]));
    let told = ends(&house).await;
    assert!(told.iter().any(|(action, _, detail)| action == "hub.system.install" && detail.contains("older")), "{told:?}");
    assert!(told.iter().any(|(action, reason, _)| action == "hub.system.end" && reason == "failed"), "{told:?}");
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rauc_that_ends_in_the_midst_of_it_is_no_success() {
    let rauc = Rauc::start(true).await.unwrap();
    let house = house_with(&rauc).await;
    install(&house, &rauc, "7.0.0").await;
    rauc.restart().await.unwrap();
    let cut = until(&house, |v| v["phase"] == "idle").await;
    assert!(cut["problem"].as_str().unwrap().contains("in the midst"), "{cut}");
    assert_eq!((&cut["tried"], shelf(&house)), (&Value::Null, vec![]));
    // Nothing stands in the way of another try.
    install(&house, &rauc, "7.0.0").await;
    rauc.finish(None);
    until(&house, |v| v["tried"]["fate"] == "waits").await;
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_off_too_long_or_has_no_room_leaves_nothing() {
    let rauc = Rauc::start(true).await.unwrap();
    let address = rauc.address();
    let house = House::with(move |config| (config.update.bus, config.update.bundle_mb) = (Some(address), 1 << 40)).await;
    let (mut stream, _) = {
        let trust = hearthkey::sim::tls::Trust::FirstUse;
        let to = format!("localhost:{}", house.hub.addresses.https.unwrap().port()).parse().unwrap();
        let dialled = hearthkey::sim::tls::dial(&to, &hearthkey::sim::tls::Security { trust, client: None }, PATIENCE).await.unwrap();
        (dialled.stream, dialled.spki)
    };
    let head = format!(
        "POST /api/v1/update/system/bundle HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000\r\n\r\nhalf",
        house.owner_token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    until(&house, |v| v["phase"] == "receiving" && v["done"] == 4).await;
    assert_eq!(bring(&house, &house.owner_token, "builder hearthkey-test 7.0.0").await.0, 409, "one at a time");
    drop(stream);
    until(&house, |v| v["phase"] == "idle").await;
    assert_eq!(shelf(&house), Vec::<String>::new());

    // More is announced than the disk has.
    let ca = reqwest::Certificate::from_der(&house.hub.identity().ca_der).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().http1_only().build().unwrap();
    let url = format!("https://localhost:{}/api/v1/update/system/bundle", house.hub.addresses.https.unwrap().port());
    let endless = reqwest::Body::wrap_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let request = client.post(url).bearer_auth(&house.owner_token).header("content-type", "application/octet-stream");
    let answer = request.header("content-length", (1u64 << 50).to_string()).body(endless).send().await.unwrap();
    assert_eq!(answer.status(), 409);
    let said = answer.text().await.unwrap();
    assert!(said.contains("no room"), "{said}");
    assert_eq!(view(&house).await["phase"], "idle");
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_is_too_long_is_not_taken() {
    let rauc = Rauc::start(true).await.unwrap();
    let address = rauc.address();
    let house = House::with(move |config| (config.update.bus, config.update.bundle_mb) = (Some(address), 0)).await;
    assert_eq!(bring(&house, &house.owner_token, "builder hearthkey-test 7.0.0").await.0, 413);
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_an_owner_in_person_sees_or_changes_the_system() {
    let rauc = Rauc::start(true).await.unwrap();
    let house = house_with(&rauc).await;
    let (_, member) = house.person("mia", Role::Member).await;
    let (_, guest) = house.person("gus", Role::Guest).await;
    let (id, secret) = crate::listed::service(&house, &["127.0.0.1/32"]).await;
    let service = crate::listed::token(&house, "127.0.0.1", &id, &secret).await.unwrap();
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let (_, app) = crate::apps::token(&house, &house.owner_token, &lamp, "operate").await;
    let (_, support) = crate::support::vendor(&house, "vera", "support", "acme").await;
    crate::support::opened(&house, "vera", &[&lamp], "operate").await;
    for token in [&member, &guest, &service, &app, &support] {
        assert_eq!(house.http("GET", "/update/system", token, None).await.0, 403);
        assert_eq!(house.http("DELETE", "/update/system/bundle", token, None).await.0, 403);
        assert_eq!(bring(&house, token, "builder hearthkey-test 7.0.0").await.0, 403);
        for path in ["install", "restart"] {
            let body = Some(json!({"password": PASSWORD}));
            assert_eq!(house.http("POST", &format!("/update/system/{path}"), token, body).await.0, 403, "{path}");
        }
    }
    assert_eq!(house.http("GET", "/update/system", "", None).await.0, 401);
    let (status, _) = bring(&house, &house.owner_token, "builder hearthkey-test 7.0.0").await;
    assert_eq!(status, 201);
    assert_eq!(order(&house, "install", json!({"password": "wrong"})).await.0, 422);
    assert_eq!(house.http("DELETE", "/update/system/bundle", &house.owner_token, None).await.0, 204);
    assert_eq!(shelf(&house), Vec::<String>::new());
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rauc_the_hub_says_so_and_what_an_earlier_run_has_left_is_gone() {
    let nowhere = "unix:path=/nonexistent/bus".to_owned();
    let house = House::with(move |config| {
        let left: PathBuf = config.data_dir.join("system");
        std::fs::create_dir_all(&left).unwrap();
        std::fs::set_permissions(&config.data_dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::write(left.join("bundle.raucb"), "left").unwrap();
        std::fs::write(left.join("bundle.part"), "left").unwrap();
        config.update.bus = Some(nowhere);
    })
    .await;
    assert_eq!(shelf(&house), Vec::<String>::new());
    for (status, problem) in [
        house.http("GET", "/update/system", &house.owner_token, None).await,
        bring(&house, &house.owner_token, "builder hearthkey-test 7.0.0").await,
    ] {
        assert_eq!(status, 409);
        assert!(problem.to_string().contains("no RAUC"), "{problem}");
    }
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_not_done_for_who_is_no_owner_any_more() {
    let rauc = Rauc::start(true).await.unwrap();
    let house = house_with(&rauc).await;
    let service = house.hub.service();
    let (otto, token) = house.person("otto", Role::Owner).await;
    // A pairing that waits for the radio: nothing may be installed meanwhile.
    let device = house.device("lamp").await;
    service.radio_changed(RadioState::Ready, None);
    let new = NewPairing { code: Some(device.code.clone().into()), device: Some(device.id.to_string()), ..NewPairing::default() };
    let pairing = service.begin_pairing(&house.owner, new).await.unwrap();
    assert_eq!(bring(&house, &token, "builder hearthkey-test 7.0.0").await.0, 201);
    let (status, said) = house.http("POST", "/update/system/install", &token, Some(json!({"password": PERSONS}))).await;
    assert_eq!(status, 202, "{said}");
    until(&house, |v| v["phase"] == "waiting" && v["problem"].as_str().is_some_and(|why| why.contains("paired"))).await;
    let lowered =
        house.http("PATCH", &format!("/users/{}", otto.user().unwrap()), &house.owner_token, Some(json!({"role": "member"}))).await;
    assert_eq!(lowered.0, 200, "{}", lowered.1);
    service.cancel_pairing(&house.owner, &pairing.id).unwrap();
    let dropped = until(&house, |v| v["phase"] == "idle").await;
    assert!(dropped["problem"].as_str().unwrap().contains("may not ask for it any more"), "{dropped}");
    assert_eq!((rauc.is_installing(), &dropped["bundle"], shelf(&house)), (false, &Value::Null, vec![]));
    house.hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_down_is_not_begun_and_the_bundle_stays() {
    for restart in [false, true] {
        let Some(disk) = Mounted::ext4(256) else { return };
        let rauc = Rauc::start(true).await.unwrap();
        let (address, data) = (rauc.address(), disk.path().join("hub"));
        let house = House::with(move |config| (config.update.bus, config.data_dir) = (Some(address), data)).await;
        if restart {
            install(&house, &rauc, "7.0.0").await;
            rauc.finish(None);
            until(&house, |v| v["tried"]["fate"] == "waits" && v["phase"] == "idle").await;
        }
        assert_eq!(bring(&house, &house.owner_token, "builder hearthkey-test 7.0.1").await.0, 201);
        disk.break_off();
        let (status, said) = order(&house, if restart { "restart" } else { "install" }, json!({"password": PASSWORD})).await;
        assert_eq!(status, 503, "{said}");
        let now = view(&house).await;
        assert_eq!((&now["phase"], &now["bundle"]["version"]), (&json!("idle"), &json!("7.0.1")), "{now}");
        assert_eq!((rauc.is_installing(), rauc.restarts()), (false, 0));
        house.hub.shut_down().await;
    }
}
