//! Support sessions on the pages of the house: the banner comes and goes by itself, and the time ends them.

use super::streams::Events;
use super::{HERE, Home, PASSWORD};
use hearthkey::domain::account::Role;
use serde_json::json;
use std::sync::atomic::Ordering;

/// One of a maker's people, signed in.
async fn vendor(home: &Home) -> String {
    let body = json!({"username": "vera", "password": PASSWORD, "role": "support", "brand": "acme", "networks": [HERE]});
    assert_eq!(home.call(&home.owner, "POST /api/v1/users", Some(body)).await.status, 201);
    let opened = home.service.sign_in_person("vera", PASSWORD.to_owned().into(), HERE.parse().unwrap(), "test").await.unwrap();
    opened.token.reveal().to_owned()
}

#[tokio::test]
async fn every_page_it_concerns_is_told_at_once_when_it_opens_and_when_its_time_is_over() {
    let home = Home::new().await;
    let lamp = home.claimed("lamp", &home.owner).await;
    let vera = vendor(&home).await;
    let (mia, max) = (home.person("mia", Role::Member).await, home.person("max", Role::Member).await);
    let share = Some(json!({"username": "mia", "privilege": "view"}));
    assert_eq!(home.call(&home.owner, &format!("POST /api/v1/devices/{lamp}/bindings"), share).await.status, 200);
    let (mut owners, mut hers) = (Events::open(&home, &home.owner, "").await, Events::open(&home, &mia, "").await);
    let (mut his, mut theirs) = (Events::open(&home, &max, "").await, Events::open(&home, &vera, "").await);
    for events in [&mut owners, &mut hers, &mut his, &mut theirs] {
        events.next("hello").await;
    }
    let body = json!({"username": "vera", "devices": [lamp], "privilege": "view", "minutes": 5, "reason": "it flickers"});
    let opened = home.call(&home.owner, "POST /api/v1/support", Some(body)).await;
    assert_eq!(opened.status, 201);
    let shown = json!({"sessions": [opened.json()]});
    for events in [&mut owners, &mut hers, &mut theirs] {
        assert_eq!(events.next("support").await, shown);
    }
    // Who comes later is told as well.
    let mut late = Events::open(&home, &mia, "").await;
    assert_eq!(late.next("support").await, shown);
    assert_eq!(home.call(&vera, &format!("GET /api/v1/devices/{lamp}/twin"), None).await.status, 200);
    home.clock.0.fetch_add(5 * 60_000, Ordering::Relaxed);
    assert_eq!(home.call(&vera, &format!("GET /api/v1/devices/{lamp}/twin"), None).await.status, 404, "its time is over");
    home.service.sweep_support().await.unwrap();
    for events in [&mut owners, &mut hers, &mut theirs, &mut late] {
        assert_eq!(events.next("support").await, json!({"sessions": []}));
    }
    let log = home.call(&home.owner, "GET /api/v1/audit?limit=1", None).await.json();
    let told = &log["entries"][0];
    assert_eq!((&told["action"], &told["actor"], &told["reason"]), (&json!("support.end"), &json!("hub"), &json!("expired")));
    home.shutdown.cancel();
    assert!(!his.rest().await.contains("event:support"), "it does not concern him");
}

#[tokio::test]
async fn a_look_by_the_event_stream_is_recorded_too() {
    let home = Home::new().await;
    let lamp = home.claimed("lamp", &home.owner).await;
    let vera = vendor(&home).await;
    let body = json!({"username": "vera", "devices": [lamp], "privilege": "view", "reason": "it flickers"});
    let opened = home.call(&home.owner, "POST /api/v1/support", Some(body)).await.json();
    let mut events = Events::open(&home, &vera, "").await;
    events.next("hello").await;
    let desired = json!({"on": true}).as_object().unwrap().clone();
    home.service.desire(&home.actor(&home.owner), &lamp, desired, None).await.unwrap();
    events.next("twin").await;
    let log = home.call(&home.owner, "GET /api/v1/audit?limit=20", None).await.json();
    let looks: Vec<_> = log["entries"].as_array().unwrap().iter().filter(|e| e["action"] == "twin.read").collect();
    assert_eq!(looks.len(), 1);
    assert_eq!(looks[0]["reason"], format!("support:{}", opened["id"].as_str().unwrap()));
}
