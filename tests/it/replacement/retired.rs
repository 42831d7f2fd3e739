//! The hub before, back from the dead: told by a statement that it can check, it serves nobody any more.

use super::{Keeper, claimed, cloud, destroyed, make_code};
use crate::house::{House, config};
use hearthkey::hub::Hub;
use hearthkey::service::Refusal;
use hearthkey::sim::mqtt::{ConnectOptions, Error, Qos};
use std::time::Duration;

async fn page(hub: &Hub, path: &str) -> (u16, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_der(&hub.identity().ca_der).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let answer = client.get(format!("https://localhost:{}{path}", hub.addresses.https.unwrap().port())).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_replaced_ends_every_session_and_lets_nobody_in_after_a_restart_too() {
    let house = House::new().await;
    let (lamp, secret) = claimed(&house, "lamp").await;
    let code = make_code(&house).await;
    let keeper = Keeper::of(&house, &code).await;
    // It was not dead: it only looked so. The new hub stands elsewhere.
    let dir = tempfile::tempdir().unwrap();
    super::try_recover(&dir, house.hub.identity().id, &code, cloud(&keeper)).await.unwrap();

    let service = house.hub.service().clone();
    let mut thing = house.connect(&ConnectOptions::new("thing").credentials(lamp.id.as_str(), &secret)).await.unwrap();
    let mut person = house.connect_person("olivia", &house.owner_token).await.unwrap();
    person.subscribe(&[(&lamp.topic("shadow/#"), Qos::AtLeastOnce)]).await.unwrap();
    let (status, _) = page(&house.hub, "/").await;
    assert_eq!(status, 200);
    assert!(!service.step_down(b"the cloud says so").await.unwrap());
    assert!(person.ping().await.is_ok());
    assert!(service.step_down(&keeper.statement()).await.unwrap());

    for client in [&mut thing, &mut person] {
        let end = loop {
            if let Err(end) = client.next().await {
                break end;
            }
        };
        assert!(matches!(&end, Error::Closed(closed) if closed.code == Some(0x9D)), "{end:?}");
    }
    let House { hub, dir: old_dir, owner_token, .. } = &house;
    silent(hub, &lamp.id, &secret).await;
    let (status, problem) = house.http("GET", "/devices", owner_token, None).await;
    assert_eq!((status, problem["code"].as_str(), problem["next"].is_string()), (410, Some("retired"), true));
    assert_eq!(house.http("POST", "/sessions", "", Some(serde_json::json!({"username": "olivia", "password": "x"}))).await.0, 410);
    assert!(matches!(
        service.actor(&hearthkey::service::SessionToken::new(owner_token), "test", crate::house::HERE),
        Err(Refusal::Retired)
    ));

    // After a restart too.
    let config = config(old_dir);
    let House { hub, dir: _keep, .. } = house;
    hub.shut_down().await;
    let hub = Hub::start(config).await.unwrap();
    assert!(hub.service().is_retired());
    silent(&hub, &lamp.id, &secret).await;
    hub.service().verify_audit().unwrap();
    hub.shut_down().await;
}

/// Nobody gets in, and the page says why.
async fn silent(hub: &Hub, device: &hearthkey::domain::ids::DeviceId, secret: &str) {
    use hearthkey::sim::mqtt::Client;
    use hearthkey::sim::tls::{Address, Security, Trust, dial};
    let address: Address = hub.addresses.mqtts.unwrap().to_string().parse().unwrap();
    for (user, password) in [(device.as_str(), secret), (device.as_str(), "rubbish"), ("user:olivia", "hkt1.x")] {
        let security = Security { trust: Trust::FirstUse, client: None };
        let stream = dial(&address, &security, Duration::from_secs(10)).await.unwrap().stream;
        let refused = Client::connect(stream, &ConnectOptions::new("test").credentials(user, password)).await;
        assert!(matches!(&refused, Err(Error::Refused(connack)) if connack.code == 0x9D), "{user}: {:?}", refused.err());
    }
    for path in ["/", "/index.html", "/anything"] {
        let (status, text) = page(hub, path).await;
        assert_eq!(status, 410, "{path}");
        assert!(text.contains("Another hub has taken the place of this one") && text.contains("switch this one off"), "{text}");
    }
    assert_eq!(page(hub, "/api/v1/hub").await.0, 410);
    let (status, metrics) = page(hub, "/metrics").await;
    assert!(status == 200 && metrics.contains("hearthkey_retired 1"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_that_replaces_another_does_not_step_down_by_its_own_statement() {
    let house = House::new().await;
    let code = make_code(&house).await;
    let keeper = Keeper::of(&house, &code).await;
    let ruin = destroyed(house).await;
    let house = ruin.rebuilt(&code, cloud(&keeper)).await;
    assert!(!house.hub.service().step_down(&keeper.statement()).await.unwrap());
    assert!(!house.hub.service().is_retired());
    assert_eq!(house.http("GET", "/me", &house.owner_token, None).await.0, 200);
}
