//! Attestation later: a real hub, paired with what it cannot check, asks nobody; the cloud, once linked, sees the devices for
//! the first time and brings what they can be checked with.

use crate::cloud::rig::Rig;
use crate::house::{BRAND, House};
use crate::pairings::{found, genuine_and_copy};
use data_encoding::BASE64URL_NOPAD;
use hearthkey::cloud::{NewService, Scope};
use hearthkey::domain::device::{Standing, Trust};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_provisional_device_is_attested_or_quarantined_once_the_cloud_has_answered() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rig = Rig::start().await;
    let ca = rig.dir.0.join("authority.pem");
    std::fs::write(&ca, rig.cloud.ca_pem().unwrap()).unwrap();
    let house = House::with(move |config| {
        config.cloud.ca_file = Some(ca);
        config.cloud.debounce_ms = 20;
    })
    .await;
    let (_, doors) = genuine_and_copy(&house).await;

    // The maker has uploaded the identities of both long ago.
    let operator = rig.operator().await;
    operator.add_tenant(&house.dir.path().join("factory").join(BRAND)).await.unwrap();
    let new = NewService {
        name: "factory".into(),
        brand: BRAND.into(),
        networks: vec!["127.0.0.0/8".into(), "::1".into()],
        scopes: vec![Scope::UploadIdentities],
    };
    let (view, secret) = operator.add_service(&new).await.unwrap();
    operator.close().await;
    let http = rig.line().http;
    let form = format!("grant_type=client_credentials&client_id={}&client_secret={}", view.id, secret.as_str());
    let request = http.post(format!("{}/v1/token", rig.cloud.url())).header("content-type", "application/x-www-form-urlencoded");
    let token: Value = request.body(form).send().await.unwrap().json().await.unwrap();
    let lines: String = doors
        .iter()
        .map(|door| serde_json::from_slice::<Value>(&std::fs::read(&door.minted.secret).unwrap()).unwrap())
        .map(|secret| format!("{secret}\n"))
        .collect();
    let upload = http.post(format!("{}/v1/identities?brand={BRAND}", rig.cloud.url())).header("upload-id", "spring").body(lines);
    let uploaded = upload.bearer_auth(token["access_token"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(uploaded.status(), 200, "{}", uploaded.text().await.unwrap());

    // An owner links the cloud; nobody asks for anything more.
    let mut changes = house.hub.service().changes();
    let look = rig.cloud.view();
    assert_eq!(BASE64URL_NOPAD.decode(look.key.as_bytes()).unwrap().len(), 32);
    let wish = json!({"url": look.url, "key": look.key, "region": look.region, "consent": [], "brands": [BRAND]});
    let (status, linked) = house.http("PUT", "/cloud", &house.owner_token, Some(wish)).await;
    assert_eq!(status, 200, "{linked}");
    // What the copy has said does not bring it an identity: its place stays that of a voucher.
    let expected = [(Trust::Attested, Standing::Ready), (Trust::Provisional, Standing::Quarantined)];
    let both = async {
        while found(&house, &doors) != expected {
            // Whoever looks too slowly looks once more.
            let _ = changes.recv().await;
        }
    };
    let state = async || house.http("GET", "/cloud", &house.owner_token, None).await.1;
    if tokio::time::timeout(PATIENCE, both).await.is_err() {
        panic!("{:?} {}", found(&house, &doors), state().await);
    }
    let notices = state().await["notices"].clone();
    assert!(notices.as_array().unwrap().iter().any(|n| n["code"] == "wrong_tag" && n["device"] == doors[1].id.as_str()), "{notices}");
    house.hub.shut_down().await;
    rig.end().await;
}
