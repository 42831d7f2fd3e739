//! Marks of revocation that come from outside: they take away at once, and never what would leave the house without anybody.

use super::{Pair, cloud_key, item, mark_on};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::Terms;
use hearthkey::domain::binding::{Privilege, Subject};
use hearthkey::domain::ids::HubId;
use hearthkey::domain::mirror::statement::Bulletin;
use hearthkey::domain::mirror::wire::{ItemBody, Kind, Mark, Notice};
use hearthkey::service::{AppGrant, Grant, NewAppToken, Recipient};

fn mark(kind: Kind, key: impl Into<String>, generation: u64) -> Mark {
    Mark { kind, key: key.into(), generation, at: 1, by: String::new() }
}

#[tokio::test]
async fn a_mark_ends_a_right_what_was_given_with_it_and_its_apps() {
    let mut pair = Pair::settled(&[]).await;
    let lamp = pair.claimed("lamp").await.id;
    let (mia, gus) = (pair.person("mia", Role::Member).await, pair.person("gus", Role::Guest).await);
    pair.give(&lamp, "mia", Privilege::Administer).await;
    let on = Grant { to: Recipient::Person("gus".into()), terms: Terms::of(Privilege::View) };
    pair.service.grant(&mia, &lamp, on).await.unwrap();
    let part = AppGrant { device: lamp.clone(), privilege: Privilege::View, only: None };
    let app = NewAppToken { name: "shelf".into(), devices: vec![part], expires_in_ms: None };
    let app = Subject::App(pair.service.make_app_token(&mia, app).await.unwrap().id);
    assert_eq!(pair.mark(vec![mark_on(&lamp, &mia, 1)]).await.marks, 1);
    assert!(!pair.sees(&mia, &lamp) && !pair.sees(&gus, &lamp) && pair.sees(&pair.owner, &lamp));
    let left: Vec<String> = pair.service.bindings(&pair.owner, &lamp).unwrap().into_iter().map(|b| b.subject).collect();
    assert_eq!(left, [pair.owner.subject.to_string()], "{app} too");
    assert!(pair.audited("binding.revoke").contains(&(lamp.to_string(), "mark".into())));
    // A second time it says nothing new, and to give again begins above it.
    assert_eq!(pair.mark(vec![mark_on(&lamp, &mia, 1)]).await.marks, 0);
    pair.give(&lamp, "mia", Privilege::View).await;
    assert_eq!(pair.mark(vec![mark_on(&lamp, &mia, 1)]).await.marks, 0);
    assert!(pair.sees(&mia, &lamp));
}

#[tokio::test]
async fn a_mark_that_was_made_elsewhere_ends_a_right_that_was_changed_meanwhile() {
    let mut pair = Pair::settled(&[]).await;
    let lamp = pair.claimed("lamp").await.id;
    let mia = pair.person("mia", Role::Member).await;
    pair.give(&lamp, "mia", Privilege::View).await;
    pair.settle().await;
    pair.give(&lamp, "mia", Privilege::Manage).await;
    pair.mark(vec![mark_on(&lamp, &mia, 1)]).await;
    assert!(!pair.sees(&mia, &lamp));
}

#[tokio::test]
async fn a_mark_on_what_this_hub_does_not_know_is_kept_so_that_the_next_right_lies_above_it() {
    let mut pair = Pair::settled(&[]).await;
    let lamp = pair.claimed("lamp").await.id;
    let mia = pair.person("mia", Role::Member).await;
    pair.mark(vec![mark_on(&lamp, &mia, 7)]).await;
    pair.give(&lamp, "mia", Privilege::View).await;
    pair.settle().await;
    assert!(pair.sees(&mia, &lamp));
    assert_eq!(pair.copy.rows[&(Kind::Binding, format!("{lamp}/{}", mia.subject))].generation, 8);
}

#[tokio::test]
async fn a_poisoned_mark_is_refused_once_with_an_alarm_and_does_not_end_what_is_given_next() {
    let mut pair = Pair::settled(&[]).await;
    let lamp = pair.claimed("lamp").await.id;
    let mia = pair.person("mia", Role::Member).await;
    pair.give(&lamp, "mia", Privilege::View).await;
    for generation in [u64::MAX, 1_002] {
        assert_eq!(pair.mark(vec![mark_on(&lamp, &mia, generation)]).await.marks, 0);
        assert!(pair.sees(&mia, &lamp));
    }
    assert_eq!(pair.refused(), ["mark_too_far"], "the second one is below the first: nothing new");
    assert_eq!(pair.audited("cloud.mark"), [(lamp.to_string(), "mark_too_far".into())]);
    let status = pair.service.cloud_status(&pair.owner).unwrap();
    assert_eq!(status.notices.iter().map(|n| (n.notice.code.as_str(), n.seen)).collect::<Vec<_>>(), [("mark_too_far", false)]);
    // An honest mark still counts.
    pair.service.revoke(&pair.owner, &lamp, &mia.subject, true).await.unwrap();
    assert!(!pair.sees(&mia, &lamp));
    // Both copies agree on what there is, as the cloud has it.
    pair.settle().await;
    pair.wait(3_600_001);
    let digests = pair.exchange(|_| {}).await.0.digest.unwrap();
    assert_eq!(digests[&Kind::Binding], pair.copy.digest(Kind::Binding));
}

#[tokio::test]
async fn no_mark_takes_the_last_administrator_the_last_owner_or_a_device() {
    let mut pair = Pair::settled(&[]).await;
    let lamp = pair.claimed("lamp").await;
    let owner = pair.owner.clone();
    let mia = pair.person("mia", Role::Member).await;
    let other = pair.device("lamp").await;
    pair.service.claim(&mia, &other.code, None, "", "").await.unwrap();
    pair.settle().await;
    let marks = vec![
        mark_on(&lamp.id, &owner, 1),
        mark(Kind::User, owner.user().unwrap().as_str(), 1),
        mark(Kind::User, mia.user().unwrap().as_str(), 1),
        mark(Kind::Device, lamp.id.as_str(), 1),
        mark(Kind::Twin, lamp.id.as_str(), 1),
        mark(Kind::Binding, "nonsense", 1),
        mark(Kind::User, "nobody", 1),
    ];
    assert_eq!(pair.mark(marks).await.marks, 0);
    let expected =
        ["malformed", "malformed", "malformed", "only_at_home", "last_administrator", "last_administrator", "last_administrator"];
    assert_eq!(pair.refused(), expected);
    assert!(pair.sees(&owner, &lamp.id) && pair.sees(&mia, &other.id) && pair.service.me(&mia).is_ok());
    // The cloud hears what was refused and why, before what stands all the same; once.
    let told = pair.exchange(|_| {}).await.0;
    let refused: Vec<_> = told.refused.iter().map(|m| (m.kind, m.key.as_str(), m.generation, m.stands, m.code.as_str())).collect();
    let key = mark_on(&lamp.id, &owner, 1).key;
    assert!(refused.contains(&(Kind::Binding, key.as_str(), 1, 0, "last_administrator")), "{refused:?}");
    assert!(refused.contains(&(Kind::Device, lamp.id.as_str(), 1, 0, "only_at_home")), "{refused:?}");
    assert!(told.put.iter().any(|row| (row.kind, row.key.as_str()) == (Kind::Binding, key.as_str())), "the right is told again");
    assert!(pair.exchange(|_| {}).await.0.refused.is_empty());
    // What was refused is not taken later by itself; when it is wished again it is, once somebody else administers the device.
    pair.give(&lamp.id, "mia", Privilege::Administer).await;
    pair.settle().await;
    assert!(pair.sees(&owner, &lamp.id));
    assert_eq!(pair.mark(vec![mark_on(&lamp.id, &owner, 1)]).await.marks, 1);
    assert!(!pair.sees(&owner, &lamp.id) && pair.sees(&mia, &lamp.id));
}

#[tokio::test]
async fn a_mark_that_would_take_the_giver_of_the_last_administrator_takes_the_giver_alone() {
    let mut pair = Pair::settled(&[]).await;
    let lamp = pair.claimed("lamp").await.id;
    let mia = pair.person("mia", Role::Member).await;
    pair.give(&lamp, "mia", Privilege::Administer).await;
    let owner = pair.owner.clone();
    pair.mark(vec![mark_on(&lamp, &owner, 1)]).await;
    let left: Vec<String> = pair.service.bindings(&mia, &lamp).unwrap().into_iter().map(|b| b.subject).collect();
    assert_eq!(left, [mia.subject.to_string()]);
}

#[tokio::test]
async fn a_mark_ends_an_account_with_its_sessions_keys_and_rights() {
    let mut pair = Pair::settled(&[]).await;
    let lamp = pair.claimed("lamp").await.id;
    let mia = pair.resident("mia", Role::Member).await;
    pair.give(&lamp, "mia", Privilege::Operate).await;
    pair.settle().await;
    assert_eq!(pair.mark(vec![mark(Kind::User, mia.user().unwrap().as_str(), 1)]).await.marks, 1);
    assert!(pair.service.me(&mia).is_err() && !pair.sees(&mia, &lamp));
    pair.settle().await;
    assert!(pair.copy.standing(Kind::Away).iter().all(|row| row.body["user"] != mia.user().unwrap().as_str()));
    assert!(pair.audited("user.end").contains(&(mia.user().unwrap().to_string(), "mark".into())));
}

#[tokio::test]
async fn a_cursor_never_goes_back_and_the_answer_to_another_batch_is_none() {
    let mut pair = Pair::settled(&[]).await;
    pair.exchange(|reply| reply.cursor = 40).await;
    pair.exchange(|reply| reply.cursor = 3).await;
    let prepared = pair.prepared().await;
    assert_eq!(prepared.request.cursor, 40);
    assert!(pair.answer(&prepared, |reply| reply.ack += 1).await.is_err());
    assert!(pair.answer(&prepared, |reply| reply.ack -= 1).await.is_err());
    assert_eq!(pair.prepared().await.body, prepared.body, "it still waits for its answer");
    pair.answer(&prepared, |_| {}).await.unwrap();
}

fn bulletin(key: &SigningKey, hub: HubId, number: u64, marks: Vec<Mark>) -> String {
    BASE64URL_NOPAD.encode(&Bulletin { hub, number, at_s: 1, marks }.sign(key))
}

#[tokio::test]
async fn a_bulletin_that_is_carried_here_by_hand_counts_like_the_cloud_itself() {
    let mut pair = Pair::settled(&[]).await;
    let lamp = pair.claimed("lamp").await.id;
    let (mia, gus) = (pair.person("mia", Role::Member).await, pair.person("gus", Role::Guest).await);
    pair.give(&lamp, "mia", Privilege::View).await;
    let hub = pair.service.hub().id;
    let marks = vec![mark_on(&lamp, &mia, 1)];
    let forged = bulletin(&SigningKey::from_bytes(&[22; 32]), hub, 1, marks.clone());
    let elsewhere = bulletin(&cloud_key(), HubId::from_public_key(&[1; 32]), 1, marks.clone());
    for wrong in [forged.as_str(), elsewhere.as_str(), "", "AAAA", "not base64!"] {
        assert!(pair.service.take_bulletin(&gus, wrong).await.is_err());
    }
    assert!(pair.sees(&mia, &lamp));
    let good = bulletin(&cloud_key(), hub, 1, marks);
    assert_eq!(pair.service.take_bulletin(&gus, &good).await.unwrap(), 1);
    assert!(!pair.sees(&mia, &lamp));
    assert_eq!(pair.service.take_bulletin(&gus, &good).await.unwrap(), 0, "twice is once");
    // It also comes as an item.
    pair.give(&lamp, "mia", Privilege::View).await;
    let second = bulletin(&cloud_key(), hub, 2, vec![mark_on(&lamp, &mia, 2)]);
    assert!(pair.bring(item("b2", ItemBody::Bulletin { bulletin: second })).await.ok);
    assert!(!pair.sees(&mia, &lamp));
    assert!(!pair.bring(item("b3", ItemBody::Bulletin { bulletin: forged })).await.ok);
}

#[tokio::test]
async fn notices_are_kept_for_owners_until_they_have_seen_them() {
    let mut pair = Pair::settled(&[]).await;
    let mia = pair.person("mia", Role::Member).await;
    let notice = |code: &str| Notice { code: code.into(), device: Some("lamp-1".into()), text: "Look.\nTwice.".into(), at: 5 };
    for n in 0..120 {
        let body = ItemBody::Notice(notice(&format!("code_{n}")));
        assert!(pair.bring(item(&format!("n{n}"), body)).await.ok);
    }
    let shown = pair.service.cloud_status(&pair.owner).unwrap().notices;
    assert_eq!((shown.len(), shown[0].notice.code.as_str(), shown[0].notice.text.as_str()), (100, "code_119", "Look.Twice."));
    assert!(pair.service.cloud_status(&mia).unwrap().notices.is_empty());
    assert!(pair.service.notices_seen(&mia).await.is_err());
    pair.service.notices_seen(&pair.owner).await.unwrap();
    assert!(pair.service.cloud_status(&pair.owner).unwrap().notices.iter().all(|n| n.seen));
}
