//! A device that was reset by hand belongs to whoever claims it next; whoever has only its code gets nothing.

use crate::den::{ANSWERS, Den, Thing};
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::{Privilege, Terms};
use hearthkey::domain::device::Standing;
use hearthkey::service::{Change, Grant, Recipient, Refusal};
use hearthkey::sim::mqtt::{Client, Error, Message, Qos};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

/// Signs in with the identity and says hello; true when the hub ended the connection for it.
async fn hello(den: &Den, thing: &mut Thing, payload: Vec<u8>) -> bool {
    let secret = thing.secret.take();
    let (mut client, serving) = den.sign_in(thing).await.expect("it is let in");
    thing.secret = secret;
    let said = client.publish(&Message::new(thing.topic("claim/hello"), payload, Qos::AtLeastOnce)).await;
    let ended = match said {
        Ok(_) => false,
        Err(Error::Closed(closed)) => closed.code == Some(0x98),
        Err(other) => panic!("{other}"),
    };
    drop(client);
    serving.await.unwrap();
    ended
}

async fn reset(den: &Den, thing: &mut Thing, resets: u64) -> bool {
    let payload = thing.keys.hello(&[8; 20], resets);
    hello(den, thing, payload).await
}

/// A garage door with a past: shared, driven by another, driving another, with things said and wished.
async fn lived_in(den: &Den) -> (Thing, Thing, Thing) {
    let (door, remote, light) = (den.claimed("garage-door").await, den.claimed("garage-door").await, den.claimed("lamp").await);
    let grant = |to, privilege| Grant { to, terms: Terms::of(privilege) };
    den.service.grant(&den.owner, &door.id, grant(Recipient::Person("mona".into()), Privilege::Manage)).await.unwrap();
    den.service.grant(&den.owner, &door.id, grant(Recipient::Device(remote.id.clone()), Privilege::Operate)).await.unwrap();
    den.service.grant(&den.owner, &light.id, grant(Recipient::Device(door.id.clone()), Privilege::Operate)).await.unwrap();
    let (mut client, serving): (Client<DuplexStream>, JoinHandle<()>) = den.sign_in(&mut door.clone()).await.unwrap();
    let said = [("shadow/update", r#"{"state":{"reported":{"position":40}}}"#, false), ("diary", "we were away in May", true)];
    for (place, payload, retain) in said {
        let message = Message { retain, ..Message::new(door.topic(place), payload, Qos::AtLeastOnce) };
        assert_eq!(client.publish(&message).await.unwrap(), 0, "{place}");
    }
    drop(client);
    serving.await.unwrap();
    (door, remote, light)
}

#[tokio::test]
async fn a_reset_by_hand_ends_all_that_the_household_made_of_the_device_and_the_next_one_claims_it() {
    let den = Den::new(ANSWERS).await;
    let member = den.person("mona", Role::Member).await;
    let (mut door, _, light) = lived_in(&den).await;
    let mut changes = den.service.changes();
    let mut old_life = door.clone();
    old_life.client_id = "beside";
    let beside = den.live(&mut old_life).await;

    assert!(reset(&den, &mut door, 1).await, "the connection that said so ends");
    beside.ended().await;
    let gone = async {
        loop {
            if matches!(changes.recv().await, Ok(Change::Removed { id }) if id == door.id) {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.expect("who had it is told");
    let shown = den.service.device(&den.owner, &door.id).unwrap();
    assert_eq!((shown.state, shown.name.as_str(), shown.privilege), (Standing::Waiting, "", None));
    assert!(matches!(den.service.device(&member, &door.id), Err(Refusal::NotFound(_))));
    assert!(den.service.bindings(&den.owner, &light.id).unwrap().iter().all(|b| !b.subject.starts_with("device:")), "what it held ends");
    assert!(den.service.retained().unwrap().iter().all(|(topic, _)| !topic.starts_with(&door.topic(""))), "what it said is gone");
    let secret = door.secret.clone().unwrap();
    assert_eq!(den.try_password(&door, secret).await.err(), Some(0x86), "the old secret lets nobody in");
    assert!(den.audited("device.reset").contains(&(door.id.to_string(), "reset_counter".into())));

    // The next household: nothing of the one before is there.
    den.service.claim(&member, &door.code, None, "Door", "").await.unwrap();
    assert_eq!(den.service.bindings(&member, &door.id).unwrap().len(), 1);
    assert_eq!(den.service.twin(&member, &door.id).unwrap().view()["reported"], serde_json::json!({}));
    assert!(matches!(den.service.twin(&den.owner, &door.id), Err(Refusal::NotAllowed(_))), "who had it does not come along");
    // The same word again is an old one.
    assert!(!reset(&den, &mut door, 1).await);
    assert_ne!(den.standing(&door), Standing::Waiting);
    assert!(reset(&den, &mut door, 2).await);
}

#[tokio::test]
async fn the_code_alone_takes_no_claimed_device_away() {
    let den = Den::new(ANSWERS).await;
    let visitor = den.person("vic", Role::Member).await;
    let mut door = den.claimed("garage-door").await;
    for _ in 0..3 {
        assert!(matches!(den.service.claim(&visitor, &door.code, None, "", "").await, Err(Refusal::ClaimRefused)));
        assert!(!reset(&den, &mut door, 0).await, "a device that falls back to its identity is not reset");
    }
    assert_eq!(den.standing(&door), Standing::Ready);
}

#[tokio::test]
async fn a_reset_that_is_stale_equal_or_not_proven_changes_nothing() {
    let den = Den::new(ANSWERS).await;
    let mut door = den.device("garage-door").await;
    assert!(!reset(&den, &mut door, 5).await, "it belongs to nobody yet");
    den.service.claim(&den.owner, &door.code, None, "Door", "").await.unwrap();
    let other = den.device("garage-door").await;
    let lie = |nonce: &[u8], tag: [u8; 32]| {
        let b64 = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
        serde_json::json!({"nonce": b64(nonce), "reset": {"counter": 6, "tag": b64(&tag)}}).to_string().into_bytes()
    };
    let nonce = [8; 20];
    let wrong = [
        door.keys.hello(&nonce, 5),
        door.keys.hello(&nonce, 4),
        door.keys.hello(&nonce, 0),
        other.keys.hello(&nonce, 6),
        lie(&nonce, door.keys.reset_tag(&nonce, 7)),
        lie(&nonce, door.keys.reset_tag(&[9; 20], 6)),
        lie(&nonce, door.keys.rebase_tag(&nonce, 6)),
        lie(&nonce, [0; 32]),
    ];
    for payload in wrong {
        assert!(!hello(&den, &mut door, payload).await);
        assert_eq!(den.standing(&door), Standing::Claimed);
    }
    den.until_audited("device.reset", &door.id, "wrong_tag").await;
    assert!(reset(&den, &mut door, 6).await);
}

#[tokio::test]
async fn firmware_that_learns_to_speak_of_resets_after_the_claim_is_not_taken_for_reset() {
    let den = Den::new(ANSWERS).await;
    let mut door = den.device("garage-door").await;
    den.service.claim(&den.owner, &door.code, None, "", "").await.unwrap();
    assert!(!reset(&den, &mut door, 3).await);
    assert_eq!(den.standing(&door), Standing::Claimed);
    assert!(reset(&den, &mut door, 4).await, "from then on it is counted");
}

#[tokio::test]
async fn a_device_that_is_shut_out_resets_nothing() {
    let den = Den::new(ANSWERS).await;
    let mut door = den.claimed("garage-door").await;
    den.service.suspend(&den.owner, &door.id, true).await.unwrap();
    assert_eq!(den.try_token(&mut door).await.err(), Some(0x8A));
    den.service.suspend(&den.owner, &door.id, false).await.unwrap();
    assert_eq!(den.standing(&door), Standing::Ready);
}
