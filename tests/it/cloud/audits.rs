//! The cloud as a witness of the audit: a chain is followed across batches, and what does not continue it is an alarm.

use super::rig::{Rig, TestHub};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hearthkey::domain::audit::chain::{Place, Point, PointKind};
use hearthkey::domain::audit::export::EntryLine;
use hearthkey::domain::audit::{Entry, Event};
use hearthkey::domain::mirror::wire::AuditRange;

fn chain(n: u64, object: &str) -> Vec<Entry> {
    let mut last = None;
    let one = |seq: u64| {
        let event = Event { actor: "user:1".into(), action: "device.claim".into(), object: format!("{object}{seq}"), ..Event::default() };
        let (entry, _) = Entry::after(last, seq, event, [7; 16]);
        last = Some((entry.seq, entry.hash));
        entry
    };
    (1..=n).map(one).collect()
}

fn place(entry: &Entry) -> Place {
    (entry.seq, entry.hash)
}

fn signed(hub: &TestHub, kind: PointKind, place: Place) -> String {
    BASE64URL_NOPAD.encode(&Point::sign(&hub.identity, kind, place, 1))
}

fn range(entries: &[Entry], head: Option<String>) -> Option<AuditRange> {
    let first = entries.first().unwrap();
    let items = entries.iter().map(|e| serde_json::to_value(EntryLine::new(e.clone(), None)).unwrap()).collect();
    Some(AuditRange { from: first.seq, prev: HEXLOWER.encode(&first.previous), items, head, cuts: Vec::new() })
}

async fn alarms(rig: &Rig, hub: &TestHub) -> Vec<(String, u64)> {
    let operator = rig.operator().await;
    let found = operator.alarms(&hub.id.to_string()).await.unwrap();
    operator.close().await;
    found.into_iter().map(|(code, _, _, times)| (code, times)).collect()
}

#[tokio::test]
async fn a_chain_is_followed_across_batches_and_may_overlap() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let entries = chain(9, "a");
    let head = signed(&hub, PointKind::End, place(&entries[8]));
    hub.sync(|b| b.audit = range(&entries[..4], Some(head))).await;
    hub.sync(|b| b.audit = range(&entries[2..6], None)).await;
    hub.sync(|b| b.audit = range(&entries[6..], None)).await;
    assert_eq!((rig.count("audit", &hub).await, rig.count("heads", &hub).await), (9, 1));
    assert_eq!(alarms(&rig, &hub).await, []);
    rig.end().await;
}

#[tokio::test]
async fn a_fork_is_an_alarm_that_owners_are_told_of_once_and_is_not_taken() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let (entries, other) = (chain(6, "a"), chain(6, "b"));
    hub.sync(|b| b.audit = range(&entries[..4], None)).await;
    let told = hub.sync(|b| b.audit = range(&other[4..], None)).await;
    assert_eq!(told.items.len(), 1);
    let told = hub.sync(|b| b.audit = range(&other[..2], None)).await;
    assert_eq!(told.items.len(), 0);
    let mut changed = range(&entries[4..], None).unwrap();
    changed.items[0]["object"] = "changed".into();
    hub.sync(|b| b.audit = Some(changed)).await;
    hub.sync(|b| b.audit = range(&entries[5..], None)).await;
    assert_eq!((rig.count("audit", &hub).await, alarms(&rig, &hub).await), (4, vec![("audit_fork".to_owned(), 4)]));
    // The chain that was seen goes on.
    hub.sync(|b| b.audit = range(&entries[4..], None)).await;
    assert_eq!(rig.count("audit", &hub).await, 6);
    rig.end().await;
}

#[tokio::test]
async fn a_signed_head_binds_what_comes_after_it() {
    let rig = Rig::start().await;
    let mut hub = rig.linked(1).await;
    let (entries, other) = (chain(5, "a"), chain(5, "b"));
    // Signed by another hub, or for another place on the chain: not taken.
    let foreign = BASE64URL_NOPAD.encode(&Point::sign(&rig.hub(2).identity, PointKind::End, place(&entries[1]), 1));
    hub.sync(|b| b.audit = range(&entries[..2], Some(foreign))).await;
    let beside = signed(&hub, PointKind::End, place(&other[1]));
    hub.sync(|b| b.audit = range(&entries[..2], Some(beside))).await;
    assert_eq!(rig.count("audit", &hub).await, 0);
    // Signed ahead: the chain must reach it.
    let ahead = signed(&hub, PointKind::End, place(&other[4]));
    hub.sync(|b| b.audit = range(&entries[..2], Some(ahead))).await;
    hub.sync(|b| b.audit = range(&entries[2..], None)).await;
    assert_eq!((rig.count("audit", &hub).await, alarms(&rig, &hub).await), (2, vec![("audit_fork".to_owned(), 3)]));
    rig.end().await;
}

#[tokio::test]
async fn missing_entries_must_have_been_cut_by_the_hubs_own_word() {
    let rig = Rig::with(|config| config.limits.audit_per_hub = 3).await;
    let mut hub = rig.linked(1).await;
    let entries = chain(8, "a");
    hub.sync(|b| b.audit = range(&entries[..2], None)).await;
    hub.sync(|b| b.audit = range(&entries[4..6], None)).await;
    assert_eq!(alarms(&rig, &hub).await, [("audit_fork".to_owned(), 1)]);
    let mut cut = range(&entries[4..], None).unwrap();
    cut.cuts = vec![signed(&hub, PointKind::Cut, place(&entries[3]))];
    hub.sync(|b| b.audit = Some(cut)).await;
    // The ring keeps the newest.
    assert_eq!((rig.count("audit", &hub).await, alarms(&rig, &hub).await.len()), (3, 1));
    rig.end().await;
}
