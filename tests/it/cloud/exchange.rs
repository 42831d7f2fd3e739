//! The exchange: what was put is there, in order, once; marks win; copies that differ become the same.

use super::rig::{Rig, TestHub, mark, row};
use hearthkey::domain::mirror::digest::Digest;
use hearthkey::domain::mirror::wire::{Consent, Done, Kind, Mark, RefusedMark, Row};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

async fn body_of(rig: &Rig, hub: &TestHub, kind: &str, key: &str) -> Option<Value> {
    let query = "SELECT body FROM rows WHERE hub_id = $1 AND kind = $2 AND key = $3";
    let row = rig.database().await.query_opt(query, &[&hub.id.as_bytes().as_slice(), &kind, &key]).await.unwrap();
    row.map(|row| serde_json::from_str(row.get(0)).unwrap())
}

#[tokio::test]
async fn a_batch_that_comes_again_gets_the_same_reply_and_does_nothing() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let batch = hub.batch(|b| b.put = vec![row(Kind::Device, "lamp", 1, 1, json!({"name": "a"}))]);
    let first = hub.try_sync(&batch).await;
    let mut changed = batch.clone();
    changed.put = vec![row(Kind::Device, "lamp", 1, 2, json!({"name": "b"}))];
    changed.revoke = vec![mark(Kind::Device, "lamp", 1)];
    let second = hub.try_sync(&changed).await;
    assert_eq!((first.status, &first.body), (200, &second.body));
    assert_eq!(body_of(&rig, &hub, "device", "lamp").await, Some(json!({"name": "a"})));
    // One that skips is told which is expected; so is an old one.
    hub.batch = 5;
    let skipped = hub.try_sync(&hub.batch(|_| {})).await;
    assert_eq!((skipped.status, skipped.code().as_str(), &skipped.json()["batch"]), (409, "resync", &json!(2)));
    hub.batch = 1;
    hub.sync(|_| {}).await;
    assert_eq!(hub.try_sync(&batch).await.json()["batch"], json!(3));
    rig.end().await;
}

#[tokio::test]
async fn the_higher_generation_and_version_stands_and_a_mark_ends_it_for_ever() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let key = "lamp/user:2";
    let put = |generation, version, n| vec![row(Kind::Binding, key, generation, version, json!({"n": n}))];
    hub.sync(|b| b.put = put(2, 3, 1)).await;
    hub.sync(|b| b.put = put(2, 2, 2)).await;
    assert_eq!(body_of(&rig, &hub, "binding", key).await, Some(json!({"n": 1})));
    hub.sync(|b| b.put = put(3, 0, 3)).await;
    assert_eq!(body_of(&rig, &hub, "binding", key).await, Some(json!({"n": 3})));
    // A mark and a row below it in one batch: the mark is first.
    hub.sync(|b| (b.revoke, b.put) = (vec![mark(Kind::Binding, key, 3)], put(3, 9, 4))).await;
    assert_eq!(body_of(&rig, &hub, "binding", key).await, None);
    hub.sync(|b| b.put = put(4, 0, 5)).await;
    assert_eq!(body_of(&rig, &hub, "binding", key).await, Some(json!({"n": 5})));
    // A device takes its twin along.
    hub.sync(|b| {
        b.put = vec![row(Kind::Device, "lamp", 1, 1, json!({}))];
        b.twin = vec![row(Kind::Twin, "lamp", 1, 1, json!({}))];
    })
    .await;
    let reply = hub.sync(|b| b.revoke = vec![mark(Kind::Device, "lamp", 1)]).await;
    assert_eq!((body_of(&rig, &hub, "twin", "lamp").await, body_of(&rig, &hub, "device", "lamp").await), (None, None));
    hub.sync(|b| b.twin = vec![row(Kind::Twin, "lamp", 1, 2, json!({}))]).await;
    assert_eq!(body_of(&rig, &hub, "twin", "lamp").await, None);
    // What the hub itself has sent, it does not hear again.
    assert!(reply.revoke.is_empty() && reply.items.is_empty() && !reply.more);
    rig.end().await;
}

#[tokio::test]
async fn a_mark_beyond_everything_known_is_not_taken_and_owners_are_told_once() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    hub.sync(|b| b.put = vec![row(Kind::Binding, "lamp/user:2", 7, 1, json!({}))]).await;
    let poisoned = mark(Kind::Binding, "lamp/user:2", u64::MAX);
    let reply = hub.sync(|b| b.revoke = vec![poisoned.clone(), mark(Kind::Binding, "lamp/user:3", 1)]).await;
    assert_eq!((rig.count("rows", &hub).await, rig.count("marks", &hub).await), (1, 1));
    assert_eq!(reply.items.len(), 1);
    let told = hub.sync(|b| b.revoke = vec![poisoned]).await;
    assert!(told.items.is_empty());
    let operator = rig.operator().await;
    let alarms = operator.alarms(&hub.id.to_string()).await.unwrap();
    assert_eq!((alarms.len(), alarms[0].0.as_str(), alarms[0].3), (1, "mark_too_far", 2));
    operator.close().await;
    rig.end().await;
}

#[tokio::test]
async fn marks_made_here_come_down_and_every_item_comes_in_its_place() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    hub.sync(|b| b.put = vec![row(Kind::Binding, "lamp/user:2", 4, 1, json!({})), row(Kind::User, "u2", 1, 1, json!({}))]).await;
    let operator = rig.operator().await;
    let id = hub.id.to_string();
    operator.notify(&id, "hello", "A notice.", 5).await.unwrap();
    assert!(operator.end(&id, "binding", "lamp/user:2", 6).await.unwrap());
    assert!(!operator.end(&id, "binding", "lamp/user:2", 6).await.unwrap());
    operator.notify(&id, "bye", "Another one.", 7).await.unwrap();
    // Carried by a phone, it says the same.
    let bulletin = operator.bulletin(&id, 8_000).await.unwrap().unwrap();
    let bulletin = data_encoding::BASE64URL_NOPAD.decode(bulletin.as_bytes()).unwrap();
    let read = hearthkey::domain::mirror::statement::Bulletin::verify(&hub.line.key, &bulletin).unwrap();
    let reply = hub.sync(|_| {}).await;
    assert_eq!((read.marks, read.hub), (reply.revoke.clone(), hub.id));
    assert_eq!((reply.revoke[0].generation, reply.revoke[0].by.as_str()), (4, "cloud:operator"));
    assert_eq!(reply.items.len(), 2);
    assert!(reply.items[0].cursor < reply.items[1].cursor && reply.items[1].cursor <= reply.cursor);
    // Not taken yet, says the hub: all of it comes again. Taken: none of it.
    hub.cursor = 0;
    let again = hub.sync(|_| {}).await;
    assert_eq!((again.revoke, again.items), (reply.revoke, reply.items));
    let after = hub.sync(|_| {}).await;
    assert!(after.revoke.is_empty() && after.items.is_empty());
    assert_eq!(operator.bulletin(&id, 9_000).await.unwrap(), None);
    operator.close().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_item_is_passed_over_while_many_write_at_once() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let operator = std::sync::Arc::new(rig.operator().await);
    let id = hub.id.to_string();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (operator, id) = (operator.clone(), id.clone());
            tokio::spawn(async move {
                for n in 0..25 {
                    operator.notify(&id, &format!("w{writer}-{n}"), "x", 1).await.unwrap();
                }
            })
        })
        .collect();
    let mut seen = BTreeSet::new();
    let mut cursors = Vec::new();
    while seen.len() < 100 {
        for item in hub.sync(|_| {}).await.items {
            cursors.push(item.cursor);
            assert!(seen.insert(item.id));
        }
    }
    assert!(cursors.is_sorted());
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(hub.sync(|_| {}).await.items.is_empty());
    rig.end().await;
}

#[tokio::test]
async fn an_answer_reaches_its_item_and_a_late_one_too() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let insert = "INSERT INTO items (hub_id, cursor, id, kind, body, at, ends_at) VALUES ($1, $2, $3, 'request', $4, 1, $5)";
    let body = json!({"by": "u", "verb": "command", "value": {"name": "open"}, "at": 1, "ttl_s": 60}).to_string();
    let database = rig.database().await;
    let far = i64::MAX;
    database.execute("UPDATE hubs SET cursor = 3", &[]).await.unwrap();
    for (cursor, id, ends_at) in [(1i64, "a", far), (2, "b", far), (3, "late", 5)] {
        database.execute(insert, &[&hub.id.as_bytes().as_slice(), &cursor, &id, &body, &ends_at]).await.unwrap();
    }
    let reply = hub.sync(|_| {}).await;
    assert_eq!(reply.items.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let done = |id: &str, ok, code: &str| Done { id: id.into(), ok, code: code.into(), detail: "said\0so".into() };
    hub.sync(|b| b.done = vec![done("a", true, "done"), done("b", false, "policy_stale"), done("nobody", true, "done")]).await;
    let rows = database.query("SELECT state, code, detail FROM items ORDER BY cursor", &[]).await.unwrap();
    let states: Vec<(String, String)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(states[0], ("done".into(), "done".into()));
    assert_eq!(states[1], ("refused".into(), "policy_stale".into()));
    assert_eq!(states[2].0, "waiting");
    assert_eq!(rows[0].get::<_, String>(2), "saidso");
    rig.end().await;
}

fn digests(rows: &[Row], marks: &[Mark]) -> BTreeMap<Kind, String> {
    [Kind::Device, Kind::Binding].into_iter().map(|kind| (kind, Digest::of(kind, rows.iter(), marks.iter()).hex())).collect()
}

#[tokio::test]
async fn copies_that_differ_become_the_same_kind_by_kind() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let rows = vec![
        row(Kind::Device, "lamp", 1, 2, json!({"b": 1, "a": [1.5, null]})),
        row(Kind::Device, "door", 1, 1, json!({})),
        row(Kind::Binding, "lamp/user:1", 2, 1, json!({"x": "é"})),
    ];
    let marks = vec![mark(Kind::Binding, "lamp/user:1", 1), mark(Kind::Binding, "gone", 3)];
    hub.sync(|b| (b.put, b.revoke) = (rows.clone(), marks.clone())).await;
    for _ in 0..2 {
        let same = hub.sync(|b| b.digest = Some(digests(&rows, &marks))).await;
        assert_eq!(same.resync, []);
    }
    // The hub was put back to an older state, in which there is one device less and another is older.
    let older = vec![row(Kind::Device, "lamp", 1, 1, json!({"old": true})), rows[2].clone()];
    let forgotten = hub.sync(|b| b.digest = Some(digests(&rows, &marks[..1]))).await;
    assert_eq!(forgotten.resync, [Kind::Binding]);
    let mut told: Vec<(String, u64)> = forgotten.revoke.iter().map(|m| (m.key.clone(), m.generation)).collect();
    told.sort();
    assert_eq!(told, [("gone".to_owned(), 3), ("lamp/user:1".to_owned(), 1)]);
    assert!(hub.sync(|_| {}).await.revoke.is_empty());
    let differs = hub.sync(|b| b.digest = Some(digests(&older, &marks))).await;
    assert_eq!(differs.resync, [Kind::Device]);
    hub.sync(|b| b.put = vec![row(Kind::Device, "", 0, 0, Value::Null), older[0].clone()]).await;
    assert_eq!(body_of(&rig, &hub, "device", "lamp").await, Some(json!({"old": true})));
    // What has not come again yet is still shown, until the hub compares.
    assert!(body_of(&rig, &hub, "device", "door").await.is_some());
    let same = hub.sync(|b| b.digest = Some(digests(&older, &marks))).await;
    assert_eq!((same.resync, body_of(&rig, &hub, "device", "door").await), (vec![], None));
    rig.end().await;
}

#[tokio::test]
async fn a_kind_that_goes_on_to_differ_is_not_asked_for_for_ever() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let wrong = || Some(BTreeMap::from([(Kind::User, "0".repeat(63) + "1")]));
    let mut asked = 0;
    for _ in 0..6 {
        asked += hub.sync(|b| b.digest = wrong()).await.resync.len();
    }
    assert_eq!(asked, 3);
    rig.end().await;
}

#[tokio::test]
async fn what_is_beyond_the_bounds_is_refused_and_marks_pass_all_the_same() {
    let rig = Rig::with(|config| (config.limits.rows_per_hub, config.limits.row_bytes) = (3, 100)).await;
    let mut hub = rig.linked(1).await;
    let many: Vec<Row> = (0..4).map(|n| row(Kind::Device, &n.to_string(), 1, 1, json!({}))).collect();
    hub.sync(|b| b.put = many[..3].to_vec()).await;
    let full = hub.try_sync(&hub.batch(|b| (b.put, b.revoke) = (many.clone(), vec![mark(Kind::User, "u", 1)]))).await;
    assert_eq!((full.status, full.code().as_str()), (507, "quota"));
    assert_eq!((rig.count("rows", &hub).await, rig.count("marks", &hub).await), (3, 1));
    let long = row(Kind::Device, "0", 1, 2, json!({"name": "x".repeat(100)}));
    assert_eq!(hub.try_sync(&hub.batch(|b| b.put = vec![long])).await.code(), "invalid");
    let numbers = row(Kind::Device, "0", u64::MAX, 2, json!({}));
    assert_eq!(hub.try_sync(&hub.batch(|b| b.put = vec![numbers])).await.code(), "invalid");
    let body = vec![b' '; 1024 * 1024 + 1];
    let large = hub.call("POST", &hub.own("/sync"), body).await;
    assert_eq!((large.status, large.json()["max_bytes"].as_u64()), (413, Some(1024 * 1024)));
    assert_eq!(hub.call("POST", &hub.own("/sync"), b"no json".to_vec()).await.code(), "malformed");
    // Nothing of it has moved the batch on.
    hub.sync(|_| {}).await;
    rig.end().await;
}

#[tokio::test]
async fn a_hub_that_asks_too_often_is_told_to_wait_and_others_are_not() {
    let rig = Rig::with(|config| config.limits.hub_requests_per_minute = 3).await;
    let mut hub = rig.linked(1).await;
    for _ in 0..3 {
        hub.sync(|_| {}).await;
    }
    let refused = hub.try_sync(&hub.batch(|_| {})).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many"));
    let mut other = rig.hub(2);
    assert_eq!(other.link(&[Consent::Devices]).await.status, 201);
    other.sync(|_| {}).await;
    rig.end().await;
}

#[tokio::test]
async fn a_mark_that_the_hub_refuses_is_shown_as_refused_and_what_it_named_as_it_is() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let (key, own) = ("lamp/user:2", "lamp/user:3");
    let right = |key: &str| row(Kind::Binding, key, 1, 1, json!({"device": "lamp", "terms": {"privilege": "view"}}));
    hub.sync(|b| b.put = vec![right(key), right(own)]).await;
    let operator = rig.operator().await;
    operator.sign_bulletin(&hub.id.to_string(), &[format!("binding:{key}")]).await.unwrap();
    operator.close().await;
    assert_eq!(body_of(&rig, &hub, "binding", key).await, None);
    let came = hub.sync(|_| {}).await.revoke;
    assert_eq!(came.iter().map(|m| (m.key.as_str(), m.generation)).collect::<Vec<_>>(), [(key, 1)]);
    // The hub has ended the other one itself; put back to an older state, it can take neither word back.
    hub.sync(|b| b.revoke = vec![mark(Kind::Binding, own, 1)]).await;
    let no = |key: &str| RefusedMark { kind: Kind::Binding, key: key.into(), generation: 1, stands: 0, code: "last_administrator".into() };
    hub.sync(|b| (b.refused, b.put) = (vec![no(key), no(own)], vec![right(key), right(own)])).await;
    assert!(body_of(&rig, &hub, "binding", key).await.is_some(), "what the hub keeps is shown as ended");
    assert_eq!(body_of(&rig, &hub, "binding", own).await, None, "what the hub had ended itself has come back");
    let shown = "SELECT code FROM refused_marks WHERE hub_id = $1 AND key = $2";
    let code = rig.database().await.query_one(shown, &[&hub.id.as_bytes().as_slice(), &key]).await.unwrap();
    assert_eq!(code.get::<_, String>(0), "last_administrator");
    // Both ends count it as a mark, and agree.
    let marks = [mark(Kind::Binding, key, 1), mark(Kind::Binding, own, 1)];
    let digest = Digest::of(Kind::Binding, [right(key)].iter(), marks.iter()).hex();
    assert!(hub.sync(|b| b.digest = Some(BTreeMap::from([(Kind::Binding, digest)]))).await.resync.is_empty());
    // Wished again, it comes down again.
    let operator = rig.operator().await;
    operator.sign_bulletin(&hub.id.to_string(), &[format!("binding:{key}")]).await.unwrap();
    operator.close().await;
    assert_eq!(hub.sync(|_| {}).await.revoke.len(), 1);
    assert_eq!(rig.count("refused_marks", &hub).await, 1);
    rig.end().await;
}
