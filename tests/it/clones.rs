//! What is a clone and what is not: two that hold a device's key and quarrel, and all that only looks like it.

use crate::den::{ANSWERS, Den, SILENT, Thing};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Subject, Terms};
use hearthkey::domain::device::Standing;
use hearthkey::service::{Change, Grant, Recipient, Refusal};
use hearthkey::sim::mqtt::{Message, Qos};
use hearthkey::store::tables::Evidence;

const MINUTE: u64 = 60_000;

/// Nothing came of it, and nothing was proved.
fn assert_trusted(den: &Den, thing: &Thing) {
    assert!(den.standing(thing).admits(), "{:?}", den.evidence(thing));
    assert!(!den.evidence(thing).iter().any(|kind| kind == "proved" || kind == "quarantined"), "{:?}", den.evidence(thing));
}

/// A device in all its firmwares: tokens alone, tokens and answers, operational secret and answers, secret alone.
async fn firmwares(den: &Den) -> Vec<Thing> {
    let (plain, answering) = (den.device("lamp").await, Thing { instance: Some([1; 16]), ..den.device("lamp").await });
    let claimed = den.claimed("garage-door").await;
    let stock = Thing { instance: None, ..den.claimed("lamp").await };
    vec![plain, answering, claimed, stock]
}

#[tokio::test]
async fn a_device_that_roams_between_access_points_is_no_clone() {
    let den = Den::new(SILENT).await;
    for mut thing in firmwares(&den).await {
        let mut lines = Vec::new();
        for ip in ["192.168.1.20", "192.168.1.77", "10.0.0.5", "192.168.1.20", "192.168.1.78", "10.0.0.9"] {
            thing.ip = ip;
            lines.push(den.pass_by(&mut thing).await);
            den.wait(5_000);
        }
        let last = lines.pop().unwrap();
        for line in lines {
            line.ended().await;
        }
        assert_trusted(&den, &thing);
        assert_eq!(den.evidence(&thing), [""; 0], "coming back is not worth a note");
        last.leave().await;
    }
}

#[tokio::test]
async fn a_socket_that_nobody_has_closed_is_no_clone_though_the_hub_still_writes_to_it() {
    let den = Den::new(SILENT).await;
    let mut thing = den.device("lamp").await;
    let mut old = den.pass_by(&mut thing).await;
    for _ in 0..10 {
        let new = den.pass_by(&mut thing).await;
        old.ended().await;
        old = new;
    }
    assert_trusted(&den, &thing);
}

#[tokio::test]
async fn a_device_that_loses_its_flash_again_and_again_is_no_clone() {
    let den = Den::new(SILENT).await;
    let mut thing = Thing { instance: Some([1; 16]), ..den.device("lamp").await };
    let mut old = den.pass_by(&mut thing).await;
    for boot in 2..10 {
        thing.counter = 0;
        thing.instance = Some([boot; 16]);
        let new = den.pass_by(&mut thing).await;
        old.ended().await;
        old = new;
        den.wait(MINUTE);
    }
    assert_trusted(&den, &thing);
    assert!(den.evidence(&thing).iter().all(|kind| kind == "counter_lost"));
}

#[tokio::test]
async fn a_hub_that_was_restored_and_is_behind_takes_no_device_for_a_clone() {
    let den = Den::new(ANSWERS).await;
    let mut thing = den.device("lamp").await;
    let mut old = den.live(&mut thing).await;
    for _ in 0..6 {
        // What the device signed in with meanwhile the hub has forgotten.
        thing.counter += 1_000;
        let new = den.live(&mut thing).await;
        old.ended().await;
        old = new;
    }
    assert_trusted(&den, &thing);
}

#[tokio::test]
async fn a_storm_of_reconnects_is_no_clone_though_the_old_connections_still_answer() {
    let den = Den::new(ANSWERS).await;
    for mut thing in firmwares(&den).await {
        let mut old = den.live(&mut thing).await;
        for _ in 0..20 {
            let new = den.live(&mut thing).await;
            assert_eq!(old.ended().await, Some(0x8E));
            old = new;
        }
        assert_trusted(&den, &thing);
        assert_eq!(den.evidence(&thing), ["contested"], "noted once a minute");
    }
}

#[tokio::test]
async fn two_connections_of_a_device_under_two_client_ids_are_no_clone() {
    let den = Den::new(ANSWERS).await;
    for mut thing in firmwares(&den).await {
        let mut lines = Vec::new();
        for client_id in ["sensors", "display", "updater"] {
            thing.client_id = client_id;
            lines.push(den.live(&mut thing).await);
        }
        assert_eq!(den.evidence(&thing), [""; 0]);
        assert_trusted(&den, &thing);
        for line in lines {
            line.leave().await;
        }
    }
}

#[tokio::test]
async fn a_device_whose_power_flaps_is_no_clone_whether_its_sockets_close_or_not() {
    let den = Den::new(SILENT).await;
    let mut thing = Thing { instance: Some([1; 16]), ..den.claimed("garage-door").await };
    let mut left = Vec::new();
    for boot in 1..12 {
        thing.instance = Some([boot; 16]);
        let line = den.pass_by(&mut thing).await;
        if boot % 3 == 0 {
            line.leave().await
        } else {
            left.push(line)
        }
        den.wait(500);
    }
    left.pop();
    for line in left {
        line.ended().await;
    }
    assert_trusted(&den, &thing);
}

#[tokio::test]
async fn a_device_that_changes_between_ipv4_and_ipv6_is_no_clone() {
    let den = Den::new(ANSWERS).await;
    for mut thing in firmwares(&den).await {
        let mut old = den.live(&mut thing).await;
        for ip in ["fd00::20", "192.168.1.20", "fe80::1", "192.168.1.20", "fd00::20"] {
            thing.ip = ip;
            let new = den.live(&mut thing).await;
            old.ended().await;
            old = new;
        }
        assert_trusted(&den, &thing);
    }
}

#[tokio::test]
async fn a_copy_with_the_same_counter_that_runs_beside_the_device_is_found_and_both_are_out() {
    let den = Den::new(ANSWERS).await;
    for mut thing in firmwares(&den).await.into_iter().take(3) {
        let mut copy = thing.copy();
        let rounds = den.quarrel(&mut thing, &mut copy, 12, 1_000).await;
        assert!(rounds < 6, "{rounds} rounds");
        assert_eq!(den.standing(&thing), Standing::Quarantined);
        for side in [&mut thing, &mut copy] {
            assert_eq!(den.try_live(side).await.err(), Some(0x8A));
            // With the identity as with the secret.
            assert_eq!(den.try_token(side).await.err(), Some(0x8A));
        }
        let kinds = den.evidence(&thing);
        assert_eq!(kinds.iter().filter(|k| *k == "proved").count(), 2, "{kinds:?}");
        assert_eq!(kinds.last().map(String::as_str), Some("quarantined"));
        let entries = den.service.evidence(&den.owner, &thing.id).unwrap().entries;
        let told: String = entries.iter().map(|e| format!("{} {} ", e.source, e.detail)).collect();
        assert!(told.contains("192.168.1.20") && told.contains("192.168.1.66"), "both sources are told: {told}");
        let thing_id = thing.id.to_string();
        assert!(den.audited("device.quarantine").contains(&(thing_id, "two_hold_its_key".into())));
    }
}

#[tokio::test]
async fn a_copy_that_is_switched_on_later_with_older_counters_is_found() {
    let den = Den::new(ANSWERS).await;
    let mut thing = den.device("lamp").await;
    let mut copy = thing.copy();
    for _ in 0..30 {
        den.live(&mut thing).await.leave().await;
    }
    assert!(den.quarrel(&mut thing, &mut copy, 12, 1_000).await < 8);
    assert_eq!(den.standing(&thing), Standing::Quarantined);
}

#[tokio::test]
async fn a_copy_that_counts_far_ahead_is_found() {
    let den = Den::new(ANSWERS).await;
    let mut thing = den.device("lamp").await;
    let mut copy = Thing { counter: 1_000_000, ..thing.copy() };
    assert!(den.quarrel(&mut thing, &mut copy, 12, 1_000).await < 8);
}

#[tokio::test]
async fn a_copy_behind_the_same_address_is_found() {
    let den = Den::new(ANSWERS).await;
    for mut thing in firmwares(&den).await.into_iter().take(3) {
        let mut copy = Thing { ip: thing.ip, ..thing.copy() };
        assert!(den.quarrel(&mut thing, &mut copy, 12, 1_000).await < 8);
    }
}

#[tokio::test]
async fn a_slow_quarrel_is_found() {
    let den = Den::new(ANSWERS).await;
    for mut thing in firmwares(&den).await.into_iter().take(3) {
        let mut copy = thing.copy();
        assert!(den.quarrel(&mut thing, &mut copy, 12, 7 * MINUTE).await < 8);
    }
}

#[tokio::test]
async fn an_old_token_is_refused_and_audited_and_is_never_evidence() {
    let den = Den::new(ANSWERS).await;
    let mut thing = den.device("lamp").await;
    let (overheard_first, overheard_last) = (thing.keys.token(1, &[1; 16], &[]), thing.keys.token(2, &[2; 16], &[]));
    for token in [&overheard_first, &overheard_last] {
        let (client, serving) = den.try_password(&thing, token.clone()).await.unwrap();
        client.disconnect(0).await.unwrap();
        serving.await.unwrap();
    }
    thing.counter = 2;
    let line = den.live(&mut Thing { counter: 1, ..thing.clone() }).await;
    line.leave().await;
    let mut line = den.live(&mut thing).await;
    for _ in 0..10 {
        // Older ones are let in to answer a challenge, which takes the key.
        for token in [&overheard_first, &overheard_last] {
            if let Ok((mut client, serving)) = den.try_password(&thing, token.clone()).await {
                client.subscribe(&[(&thing.topic("rebase/challenge"), Qos::AtLeastOnce)]).await.unwrap();
                let guess = serde_json::json!({"counter": 9, "tag": data_encoding::BASE64URL_NOPAD.encode(&[0; 32])}).to_string();
                let _ = client.publish(&Message::new(thing.topic("rebase/response"), guess, Qos::AtMostOnce)).await;
                while client.next().await.is_ok() {}
                serving.await.unwrap();
            }
        }
        assert!(!line.serving.is_finished(), "the device is still there");
        let new = den.live(&mut thing).await;
        line.ended().await;
        line = new;
        den.wait(MINUTE);
    }
    assert_trusted(&den, &thing);
    // Its own reconnects were noted, as always; nothing of the old tokens was.
    assert!(den.evidence(&thing).iter().filter(|kind| *kind == "counter_lost").count() <= 1, "{:?}", den.evidence(&thing));
    let replay = thing.keys.token(thing.counter, &[4; 16], &[]);
    assert!(den.try_password(&thing, replay.clone()).await.is_ok(), "another token of the same counter begins a re-base");
}

#[tokio::test]
async fn the_identical_token_again_is_refused_and_audited_as_a_replay() {
    let den = Den::new(ANSWERS).await;
    let thing = den.device("lamp").await;
    let token = thing.keys.token(1, &[1; 16], &[]);
    let (_client, serving) = den.try_password(&thing, token.clone()).await.unwrap();
    for _ in 0..20 {
        assert_eq!(den.try_password(&thing, token.clone()).await.err(), Some(0x86));
    }
    assert!(!serving.is_finished(), "the device's own connection stays");
    assert_eq!(den.evidence(&thing), [""; 0]);
    den.until_audited("device.sign_in", &thing.id, "replayed_token").await;
    assert_trusted(&den, &thing);
}

#[tokio::test]
async fn nobody_without_the_key_can_have_a_device_quarantined() {
    let den = Den::new(ANSWERS).await;
    let mut thing = Thing { instance: Some([1; 16]), ..den.device("lamp").await };
    let stranger = den.device("lamp").await;
    let mut line = den.live(&mut thing).await;
    for n in 0..30u64 {
        let forged = [
            // The right counter under the wrong key; another device's token; a tag for another TLS key; rubbish.
            stranger.keys.token(thing.counter + 1 + n, &[1; 16], &[]),
            thing.keys.token(thing.counter + 1 + n, &[1; 16], &[9; 32]),
            format!("hk1.{}.AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA", thing.counter + 1),
            "hks1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into(),
        ];
        for password in forged {
            assert_eq!(den.try_password(&thing, password).await.err(), Some(0x86));
        }
        assert!(!line.serving.is_finished(), "the device is still there");
        if n % 10 == 0 {
            let new = den.live(&mut thing).await;
            line.ended().await;
            line = new;
        }
    }
    assert_trusted(&den, &thing);
    assert!(den.evidence(&thing).iter().all(|kind| kind == "contested"), "its own reconnects alone: {:?}", den.evidence(&thing));
}

#[tokio::test]
async fn who_has_stolen_the_operational_secret_alone_is_noted_and_cannot_have_the_device_quarantined() {
    let den = Den::new(ANSWERS).await;
    let mut thing = den.claimed("garage-door").await;
    // The thief answers challenges, with the keys of another device.
    let keys = den.device("lamp").await.keys;
    let mut thief = Thing { keys, instance: Some([9; 16]), ip: "203.0.113.9", ..thing.copy() };
    assert_eq!(den.quarrel(&mut thing, &mut thief, 20, 2 * MINUTE).await, 20);
    assert_trusted(&den, &thing);
    let entries = den.service.evidence(&den.owner, &thing.id).unwrap().entries;
    assert!(entries.iter().all(|e| e.kind == "contested") && entries.len() > 10, "{entries:?}");
    assert!(entries.iter().any(|e| e.detail.contains("proved the device key")), "the device has: {entries:?}");
    // Also when the device falls back to its identity, and when it has lost its flash meanwhile.
    thing.secret = None;
    assert_eq!(den.quarrel(&mut thief, &mut thing, 6, MINUTE).await, 6);
    thing.counter = 0;
    thing.instance = Some([2; 16]);
    assert_eq!(den.quarrel(&mut thief, &mut thing, 6, MINUTE).await, 6);
    assert_trusted(&den, &thing);
}

#[tokio::test]
async fn stock_clients_that_share_a_secret_by_mistake_are_noted_and_not_shut_out() {
    let den = Den::new(ANSWERS).await;
    let mut thing = Thing { instance: None, ..den.claimed("lamp").await };
    let mut twin = thing.copy();
    assert_eq!(den.quarrel(&mut thing, &mut twin, 20, MINUTE).await, 20);
    assert_trusted(&den, &thing);
    assert!(!den.evidence(&thing).is_empty());
}

#[tokio::test]
async fn a_quarantined_device_serves_owners_alone_and_an_owner_lifts_it() {
    let den = Den::new(ANSWERS).await;
    let mut thing = den.claimed("garage-door").await;
    let (member, guest) = (den.person("mona", Role::Member).await, den.person("gus", Role::Guest).await);
    for (name, privilege) in [("mona", Privilege::Administer), ("gus", Privilege::Operate)] {
        let grant = Grant { to: Recipient::Person(name.into()), terms: Terms::of(privilege) };
        den.service.grant(&den.owner, &thing.id, grant).await.unwrap();
    }
    let mut copy = thing.copy();
    let mut changes = den.service.changes();
    let epoch = den.service.epoch();
    assert!(den.quarrel(&mut thing, &mut copy, 12, 1_000).await < 8);
    assert!(den.service.epoch() > epoch, "live connections decide anew");
    let mut told = false;
    while let Ok(change) = changes.try_recv() {
        told |= matches!(change, Change::Device { id } if id == thing.id);
    }
    assert!(told, "pages are told");
    let (others, owners) = (den.service.device(&member, &thing.id), den.service.device(&den.owner, &thing.id).unwrap());
    assert!(matches!(others, Err(Refusal::NotFound(_))));
    assert!(matches!(den.service.twin(&guest, &thing.id), Err(Refusal::NotFound(_))));
    assert!(den.service.twin(&den.owner, &thing.id).is_ok());
    assert!(owners.warning.is_some_and(|w| w.contains("Two things")));
    assert!(!owners.online);
    // Who administers it may know why; who only uses it, and who has nothing to do with it, may not.
    assert!(den.service.evidence(&member, &thing.id).unwrap().quarantined);
    assert!(matches!(den.service.evidence(&guest, &thing.id), Err(Refusal::NotAllowed(_))));
    assert!(matches!(den.service.remove_device(&den.owner, &thing.id).await, Err(Refusal::NotAllowed(_))));
    assert!(matches!(den.service.lift(&member, &thing.id, "").await, Err(Refusal::RoleTooLow)));
    assert!(den.standing(&thing) == Standing::Quarantined);
    let lifted = den.service.lift(&den.owner, &thing.id, "the copy was in the shed").await.unwrap();
    assert_eq!((lifted.state, lifted.warning), (Standing::Ready, None));
    assert!(matches!(den.service.lift(&den.owner, &thing.id, "").await, Err(Refusal::Conflict(_))));
    assert_eq!(den.evidence(&thing).last().map(String::as_str), Some("lifted"), "the evidence stays");
    assert!(den.service.device(&member, &thing.id).is_ok());
    // It signs in again, and the next proof decides again.
    assert!(den.quarrel(&mut thing, &mut copy, 12, 1_000).await < 8);
    assert_eq!(den.standing(&thing), Standing::Quarantined);
}

#[tokio::test]
async fn evidence_of_who_lifted_a_quarantine_loses_what_is_personal_with_the_person() {
    let den = Den::new(ANSWERS).await;
    let mut thing = den.claimed("garage-door").await;
    let otto = den.person("otto", Role::Owner).await;
    let mut copy = thing.copy();
    assert!(den.quarrel(&mut thing, &mut copy, 12, 1_000).await < 8);
    den.service.lift(&otto, &thing.id, "Otto found the copy in his shed").await.unwrap();
    let entries = |den: &Den| den.service.evidence(&den.owner, &thing.id).unwrap().entries;
    let (before, by) = (entries(&den), format!("by {}", otto.subject));
    assert_eq!((before[0].kind.as_str(), before[0].detail.as_str()), ("lifted", &*format!("{by}: Otto found the copy in his shed")));
    assert!(!before[0].source.is_empty());
    den.service.erase_user(&den.owner, otto.user().unwrap(), true).await.unwrap();
    let after = entries(&den);
    // That it was lifted, and by which account, stays; what things have done is evidence of nobody.
    assert_eq!((after[0].kind.as_str(), after[0].detail.as_str(), after[0].source.as_str()), ("lifted", &*by, ""));
    let of_things = |entries: &[Evidence]| entries[1..].iter().map(|e| (e.kind.clone(), e.source.clone())).collect::<Vec<_>>();
    assert_eq!(of_things(&after), of_things(&before));
    assert!(after.len() > 1);
}

#[tokio::test]
async fn a_quarantine_ends_what_the_device_does_to_others_and_its_live_connections() {
    let den = Den::new(ANSWERS).await;
    let (mut remote, door) = (den.claimed("garage-door").await, den.claimed("garage-door").await);
    let grant = Grant { to: Recipient::Device(remote.id.clone()), terms: Terms::of(Privilege::Operate) };
    den.service.grant(&den.owner, &door.id, grant).await.unwrap();
    let mut beside = Thing { client_id: "beside", ..remote.clone() };
    let beside = den.live(&mut beside).await;
    let allowed = |den: &Den| {
        let subject = Subject::Device(remote.id.clone());
        let table = den.service.compile(&subject, &hearthkey::domain::policy::Table::nothing());
        table.subscribe(&door.topic("presence"))
    };
    assert!(allowed(&den));
    let (before, mut copy) = (remote.clone(), remote.copy());
    assert!(den.quarrel(&mut remote.clone(), &mut copy, 12, 1_000).await < 8);
    assert_eq!(beside.ended().await, Some(0x87), "all its connections end, not only those that quarrelled");
    assert!(!allowed(&den));
    remote = before;
    den.service.lift(&den.owner, &remote.id, "").await.unwrap();
    assert!(den.try_live(&mut remote).await.is_ok());
}

#[tokio::test]
async fn a_cloned_device_is_replaced_by_who_administers_it_and_stays_quarantined() {
    let den = Den::new(ANSWERS).await;
    let (mut old, new) = (den.claimed("garage-door").await, den.claimed("garage-door").await);
    let member = den.person("mona", Role::Member).await;
    for thing in [&old, &new] {
        let grant = Grant { to: Recipient::Person("mona".into()), terms: Terms::of(Privilege::Administer) };
        den.service.grant(&den.owner, &thing.id, grant).await.unwrap();
    }
    let mut copy = old.copy();
    assert!(den.quarrel(&mut old, &mut copy, 12, 1_000).await < 8);
    let back = den.service.replace_device(&member, &new.id, &old.id, None).await;
    assert!(back.is_err(), "what is quarantined takes nobody's place: {back:?}");
    let owners = den.service.replace_device(&den.owner, &new.id, &old.id, None).await;
    assert!(matches!(owners, Err(Refusal::Conflict(_))), "{owners:?}");
    // Suspended on top of it, it is still both.
    den.service.suspend(&den.owner, &old.id, true).await.unwrap();
    den.service.replace_device(&member, &old.id, &new.id, None).await.unwrap();
    assert!(den.service.bindings(&den.owner, &old.id).unwrap().is_empty());
    den.service.suspend(&den.owner, &old.id, false).await.unwrap();
    assert_eq!(den.standing(&old), Standing::Quarantined);
    assert_eq!(den.evidence(&old).last().map(String::as_str), Some("quarantined"), "the evidence stays");
    assert!(den.try_live(&mut old).await.is_err() && den.try_live(&mut copy).await.is_err());
    den.service.lift(&den.owner, &old.id, "").await.unwrap();
    assert_eq!(den.standing(&old), Standing::Waiting);
}

#[tokio::test]
async fn a_suspension_on_top_of_a_quarantine_leaves_both_ways_out() {
    let den = Den::new(ANSWERS).await;
    let mut thing = den.claimed("garage-door").await;
    let mut copy = thing.copy();
    assert!(den.quarrel(&mut thing, &mut copy, 12, 1_000).await < 8);
    den.service.suspend(&den.owner, &thing.id, true).await.unwrap();
    assert!(den.service.evidence(&den.owner, &thing.id).unwrap().quarantined);
    assert_eq!(den.service.lift(&den.owner, &thing.id, "").await.unwrap().state, Standing::Suspended);
    assert_eq!(den.service.suspend(&den.owner, &thing.id, false).await.unwrap().state, Standing::Ready);
    assert!(den.quarrel(&mut thing, &mut copy, 12, 1_000).await < 8);
    den.service.suspend(&den.owner, &thing.id, true).await.unwrap();
    let resumed = den.service.suspend(&den.owner, &thing.id, false).await.unwrap();
    assert_eq!(resumed.state, Standing::Quarantined, "resuming lifts no quarantine");
}
