//! Who is linked, who is not, and what a signature is worth.

use super::rig::{Rig, mark, now_s, row};
use hearthkey::cloud::Linking;
use hearthkey::domain::mirror::wire::{CloudView, Consent, Kind};
use serde_json::json;

#[tokio::test]
async fn a_cloud_says_what_it_is_and_describes_its_calls() {
    let rig = Rig::start().await;
    let view: CloudView = serde_json::from_value(rig.line().get("/v1").await.json()).unwrap();
    assert_eq!((view.fingerprint.as_str(), view.linking.as_str()), (rig.cloud.fingerprint().as_str(), "open"));
    let described = rig.line().get("/api/openapi.json").await.json();
    assert!(described["paths"]["/v1/hubs/{hub}/sync"]["post"]["responses"]["409"].is_object());
    assert_eq!(rig.line().get("/v1/nothing").await.code(), "not_found");
    assert_eq!(rig.line().post("/v1", &json!({})).await.status, 405);
    rig.end().await;
}

#[tokio::test]
async fn a_hub_is_linked_by_its_own_statement_alone() {
    let rig = Rig::start().await;
    let hub = rig.hub(1);
    let linked = hub.link(&Consent::ALL).await;
    assert_eq!((linked.status, linked.json()["hub"].as_str().unwrap()), (201, hub.id.to_string().as_str()));
    // Again: renewed. With another mirror key in the same epoch: whoever has the identity alone does not get in.
    assert_eq!(hub.link(&[Consent::Devices]).await.status, 201);
    let mut thief = hub.clone();
    thief.mirror = rig.hub(9).mirror;
    assert_eq!(thief.link(&Consent::ALL).await.code(), "signature");
    let mut ahead = hub.clone();
    ahead.epoch = 2;
    assert_eq!(ahead.link(&Consent::ALL).await.code(), "epoch_unproven");
    // A statement for another cloud, or another region.
    let other = rig.hub(2);
    let mut statement = other.statement(&Consent::ALL);
    statement.cloud = [1; 32];
    assert_eq!(other.link_with(&statement).await.code(), "invalid");
    let mut statement = other.statement(&Consent::ALL);
    statement.region = "moon".into();
    assert_eq!(other.link_with(&statement).await.code(), "wrong_region");
    // Signed by another hub's identity: the id is that hub's.
    let statement = rig.hub(3).statement(&Consent::ALL);
    assert_eq!(other.link_with(&statement).await.status, 422);
    assert_eq!(other.try_sync(&other.batch(|_| {})).await.code(), "not_linked");
    rig.end().await;
}

#[tokio::test]
async fn a_cloud_with_codes_links_whoever_has_one_and_a_closed_one_nobody_new() {
    let rig = Rig::with(|config| config.linking = Linking::Code(vec!["blue".into(), "green".into()])).await;
    let mut hub = rig.hub(1);
    assert_eq!(hub.link(&Consent::ALL).await.code(), "link_code");
    hub.link_code = "green".into();
    assert_eq!(hub.link(&Consent::ALL).await.status, 201);
    // Who is linked needs none any more.
    hub.link_code.clear();
    assert_eq!(hub.link(&Consent::ALL).await.status, 201);
    let Rig { cloud, dir, mut config } = rig;
    cloud.shut_down().await;
    config.linking = Linking::Closed;
    let cloud = hearthkey::cloud::Cloud::start(config.clone()).await.unwrap();
    let rig = Rig { cloud, dir, config };
    hub.line = rig.line();
    assert_eq!(hub.link(&Consent::ALL).await.status, 201);
    assert_eq!(rig.hub(2).link(&Consent::ALL).await.code(), "linking_closed");
    rig.end().await;
}

#[tokio::test]
async fn a_request_counts_once_as_it_was_signed_and_for_this_cloud() {
    let rig = Rig::start().await;
    let hub = rig.linked(1).await;
    let body = || serde_json::to_vec(&hub.batch(|_| {})).unwrap();
    let (request, signature) = hub.signed("POST", &hub.own("/sync"), body(), now_s());
    let again = request.try_clone().unwrap();
    assert_eq!(hub.line.send(request, &signature).await.status, 200);
    let replayed = hub.line.send(again, &signature).await;
    assert_eq!((replayed.status, replayed.code().as_str()), (401, "signature"));
    // Another body, path, method or epoch than was signed.
    let (request, signature) = hub.signed("POST", &hub.own("/sync"), body(), now_s());
    assert_eq!(hub.line.send(request.body("{}"), &signature).await.code(), "signature");
    let mut elsewhere = hub.clone();
    elsewhere.line.url = "https://cloud.example".into();
    let (request, signature) = elsewhere.signed("POST", &hub.own("/sync"), body(), now_s());
    let mut request = request.build().unwrap();
    *request.url_mut() = format!("{}{}", hub.line.url, hub.own("/sync")).parse().unwrap();
    let sent = reqwest::RequestBuilder::from_parts(hub.line.http.clone(), request);
    assert_eq!(hub.line.send(sent, &signature).await.code(), "signature");
    let (request, signature) = hub.signed("POST", &hub.own("/sync"), body(), now_s());
    assert_eq!(hub.line.send(request.header("hearthkey-epoch", "2"), &signature).await.status, 401);
    // Another hub's key, on this hub's path.
    let other = rig.linked(2).await;
    let (request, signature) = other.signed("POST", &hub.own("/sync"), body(), now_s());
    assert_eq!(other.line.send(request, &signature).await.code(), "signature");
    // Unsigned.
    assert_eq!(hub.line.post(&hub.own("/sync"), &json!({})).await.status, 401);
    rig.end().await;
}

#[tokio::test]
async fn a_hub_without_a_clock_gets_in_and_learns_the_time() {
    let rig = Rig::start().await;
    let hub = rig.linked(1).await;
    let body = serde_json::to_vec(&hub.batch(|_| {})).unwrap();
    let (request, signature) = hub.signed("POST", &hub.own("/sync"), body, 17);
    let again = request.try_clone().unwrap();
    let reply = hub.line.send(request, &signature).await;
    assert_eq!(reply.status, 200);
    assert!(reply.created_s.abs_diff(now_s()) < 600);
    assert_eq!(hub.line.send(again, &signature).await.code(), "signature");
    rig.end().await;
}

#[tokio::test]
async fn what_is_not_agreed_to_any_more_is_erased() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    hub.sync(|batch| {
        batch.put = vec![row(Kind::Device, "lamp", 1, 1, json!({}))];
        batch.twin = vec![row(Kind::Twin, "lamp", 1, 1, json!({"reported": {"on": true}}))];
    })
    .await;
    assert_eq!(hub.call("PUT", &hub.own("/bundle"), b"age-encryption.org/v1\nx".to_vec()).await.status, 204);
    assert_eq!((rig.count("rows", &hub).await, rig.count("bundles", &hub).await), (2, 1));
    assert_eq!(hub.link(&[Consent::Devices]).await.status, 201);
    assert_eq!((rig.count("rows", &hub).await, rig.count("bundles", &hub).await), (1, 0));
    // And is not taken: neither twins nor a bundle.
    hub.sync(|batch| batch.twin = vec![row(Kind::Twin, "lamp", 1, 2, json!({}))]).await;
    assert_eq!(rig.count("rows", &hub).await, 1);
    assert_eq!(hub.call("PUT", &hub.own("/bundle"), b"age-encryption.org/v1\nx".to_vec()).await.code(), "no_consent");
    rig.end().await;
}

#[tokio::test]
async fn unlinking_erases_everything_but_marks_and_heads() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let neighbour = rig.linked(2).await;
    hub.sync(|batch| {
        batch.put = vec![row(Kind::Device, "lamp", 1, 1, json!({})), row(Kind::User, "u", 1, 1, json!({"role": "guest"}))];
        batch.revoke = vec![mark(Kind::Binding, "lamp/user:2", 3)];
    })
    .await;
    let mut neighbour = neighbour;
    neighbour.sync(|batch| batch.put = vec![row(Kind::Device, "lamp", 1, 1, json!({}))]).await;
    // Another hub's statement does not unlink it.
    let mut thief = hub.clone();
    thief.identity = neighbour.identity.clone();
    assert_eq!(thief.unlink().await.status, 422);
    assert_eq!(hub.unlink().await.status, 204);
    assert_eq!((rig.count("rows", &hub).await, rig.count("replies", &hub).await, rig.count("marks", &hub).await), (0, 0, 1));
    assert_eq!(rig.count("rows", &neighbour).await, 1);
    assert_eq!(hub.unlink().await.code(), "not_linked");
    assert_eq!(hub.try_sync(&hub.batch(|_| {})).await.code(), "not_linked");
    // Linked again, what was ended stays so.
    assert_eq!(hub.link(&Consent::ALL).await.status, 201);
    hub.sync(|batch| {
        batch.put = vec![row(Kind::Binding, "lamp/user:2", 3, 9, json!({})), row(Kind::Binding, "lamp/user:2", 2, 9, json!({}))]
    })
    .await;
    assert_eq!(rig.count("rows", &hub).await, 0);
    rig.end().await;
}
