//! A maker's people: from listed networks, within their role, for their brand, and out at once when they are ended.

use super::rig::{Rig, device_row, row};
use hearthkey::domain::account::Role;
use hearthkey::domain::mirror::wire::{Consent, Kind, SyncRequest};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_makers_people_search_their_own_fleet_as_far_as_their_role_goes() {
    let rig = Rig::start().await;
    rig.brand("other").await;
    let (first, second) = (rig.hub(1, &[Consent::Devices]).await, rig.hub(2, &[Consent::Devices]).await);
    let mut rows: Vec<_> =
        (0..25).map(|n| device_row(&format!("lamp-{n:06}"), 1, 1, if n % 5 == 0 { "provisional" } else { "attested" }, 0)).collect();
    let mut foreign = device_row("plug-1", 1, 1, "attested", 0);
    foreign.body["brand"] = json!("other");
    rows.push(foreign);
    first.put(rows).await;
    second.put(vec![device_row("lamp-000003", 1, 1, "attested", 0), device_row("lamp-000030", 1, 1, "attested", 0)]).await;
    second.end(Kind::Device, "lamp-000030", 1).await;

    let support = rig.vendor("acme", "sam", Role::Support).await;
    let manager = rig.vendor("acme", "pat", Role::ProductManager).await;
    let developer = rig.vendor("acme", "dora", Role::Developer).await;
    let stranger = rig.vendor("other", "otto", Role::Developer).await;
    // Page by page, each device once, those that are gone not at all.
    let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = rig.call("GET", &format!("/v1/fleet?limit=10&after={after}"), &support, Value::Null).await.good();
        seen.extend(page["devices"].as_array().unwrap().iter().map(|found| format!("{} {}", found["device"], found["hub"])));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((seen.len(), pages), (26, 3), "{seen:?}");
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), 26);
    let found = rig.call("GET", &format!("/v1/fleet?trust=provisional&hub={}", first.id), &support, Value::Null).await.good();
    assert_eq!(found["devices"].as_array().unwrap().len(), 5);
    let shown = &found["devices"][0];
    assert!(shown["last_sync"].as_u64().unwrap() > 0 && shown.get("name").is_none() && shown.get("room").is_none(), "{shown}");
    assert_eq!(rig.call("GET", "/v1/fleet?synced_before=1000", &support, Value::Null).await.good()["devices"], json!([]));
    // Who does not help homes, does not see them.
    let shown = rig.call("GET", "/v1/fleet?limit=2", &manager, Value::Null).await.good();
    assert!(shown["devices"][0].get("hub").is_none() && shown["next"].as_str().unwrap().ends_with('.'), "{shown}");
    rig.call("GET", &format!("/v1/fleet?hub={}", first.id), &manager, Value::Null).await.refused(403, "not_allowed");
    let summary = rig.call("GET", "/v1/fleet/summary", &manager, Value::Null).await.good();
    assert_eq!(summary["lines"][0], json!({"model": "lamp", "firmware": "1.0", "trust": "attested", "standing": "ready", "devices": 21}));
    let foreign = rig.call("GET", "/v1/fleet", &stranger, Value::Null).await.good();
    assert_eq!(foreign["devices"].as_array().unwrap().len(), 1);
    // What was done is recorded, and read by developers of the brand.
    rig.call("GET", "/v1/vendor/acts", &support, Value::Null).await.refused(403, "not_allowed");
    let acts = rig.call("GET", "/v1/vendor/acts", &developer, Value::Null).await.good();
    let acts: Vec<&str> = acts["entries"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert!(["fleet.search", "vendor.sign_in", "vendor.add", "tenant.add"].iter().all(|act| acts.contains(act)), "{acts:?}");
    rig.operator.verify_acts().await.unwrap();
    drop((first, second));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_the_maker_is_out_at_once_and_nobody_comes_from_elsewhere() {
    let rig = Rig::start().await;
    let token = rig.vendor("acme", "sam", Role::Support).await;
    let from = |source| rig.client_from(source).get(rig.url("/v1/vendor/me")).bearer_auth(&token).header("x-forwarded-for", "127.0.0.1");
    let me = rig.ask(from("127.0.0.1")).await.good();
    assert_eq!((&me["role"], &me["may"]), (&json!("support"), &json!(["summary", "search", "see_hub", "bulletin", "see_releases"])));
    rig.ask(from("127.0.0.2")).await.refused(401, "signed_out");
    let sign_in = |source, password: &str| {
        let body = json!({"username": "sam", "password": password});
        rig.client_from(source).post(rig.url("/v1/vendor/session")).header("forwarded", "for=127.0.0.1").json(&body)
    };
    rig.ask(sign_in("127.0.0.2", "seven hedgehogs in a teapot")).await.refused(401, "sign_in_refused");
    rig.ask(sign_in("127.0.0.1", "eight hedgehogs in a teapot")).await.refused(401, "sign_in_refused");
    let second = rig.ask(sign_in("127.0.0.1", "seven hedgehogs in a teapot")).await.good()["token"].as_str().unwrap().to_owned();
    assert_eq!(rig.call("DELETE", "/v1/vendor/session", &second, Value::Null).await.status, 204);
    rig.call("GET", "/v1/vendor/me", &second, Value::Null).await.refused(401, "signed_out");
    rig.operator.end_vendor("Sam").await.unwrap();
    rig.ask(from("127.0.0.1")).await.refused(401, "signed_out");
    rig.ask(sign_in("127.0.0.1", "seven hedgehogs in a teapot")).await.refused(401, "sign_in_refused");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_ends_rights_of_programs_on_its_devices_and_never_those_of_people() {
    let rig = Rig::start().await;
    let hub = rig.hub(1, &[Consent::Devices]).await;
    let right = |subject: &str, generation| {
        let body = json!({"device": "lamp-000001", "subject": subject, "terms": {"privilege": "view"}, "granted_by": "x", "granted_at": 1});
        row(Kind::Binding, &format!("lamp-000001/{subject}"), generation, 1, body)
    };
    let (app, person) = ("app:00000000000000000000000000000009", "user:00000000000000000000000000000001");
    hub.put(vec![device_row("lamp-000001", 1, 1, "attested", 0), right(app, 7), right(person, 3)]).await;
    let path = format!("/v1/hubs/{}/bulletins", hub.id);
    let support = rig.vendor("acme", "sam", Role::Support).await;
    let manager = rig.vendor("acme", "pat", Role::ProductManager).await;
    rig.call("POST", &path, &manager, json!({})).await.refused(403, "not_allowed");
    let made = rig.call("POST", &path, &support, json!({"device": "lamp-000001", "subject": person})).await.good();
    assert_eq!((&made["ended"], &made["marks"]), (&json!(0), &json!(0)), "people's rights are their home's");
    let made = rig.call("POST", &path, &support, json!({"device": "lamp-000001"})).await.good();
    assert_eq!((&made["ended"], &made["marks"], &made["number"]), (&json!(1), &json!(1), &json!(2)));
    let (_, marks) = hub.next().await;
    assert_eq!((marks.len(), marks[0].key.as_str(), marks[0].generation), (1, format!("lamp-000001/{app}").as_str(), 7));
    // With its next word the hub says that it has them.
    hub.sync(SyncRequest::default()).await;
    // The operator ends guests and their keys, but neither owners nor who administers.
    let refused = rig.operator.sign_bulletin(&hub.id.to_string(), &["binding:lamp-000001/nobody".into()]).await.unwrap_err().to_string();
    assert!(refused.contains("nothing of that name"), "{refused}");
    let made = rig.operator.sign_bulletin(&hub.id.to_string(), &[format!("binding:lamp-000001/{person}")]).await.unwrap();
    assert_eq!(made.marks, 1);
    drop(hub);
    rig.stop().await;
}
