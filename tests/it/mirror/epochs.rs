//! Another hub that has taken this one's place: only the household's own word, signed by what is printed on paper, retires a
//! hub. And how old the knowledge of revocations is.

use super::Pair;
use ed25519_dalek::SigningKey;
use hearthkey::domain::account::Role;
use hearthkey::domain::binding::Privilege;
use hearthkey::domain::ids::HubId;
use hearthkey::domain::mirror::statement::EpochStatement;
use hearthkey::domain::mirror::wire::{Consent, Verb};
use hearthkey::domain::policy::Reason;
use hearthkey::service::{Actor, Refusal};
use hearthkey::store::StoreError;
use hearthkey::store::tables::RecoveryKeys;
use serde_json::json;

const DAY_MS: u64 = 24 * 3_600_000;

fn paper() -> SigningKey {
    SigningKey::from_bytes(&[31; 32])
}

fn statement(key: &SigningKey, hub: HubId, epoch: u64) -> Vec<u8> {
    EpochStatement { hub, epoch, mirror: [5; 32], at_s: 1 }.sign(key)
}

/// A hub whose household has a recovery code.
async fn with_code() -> Pair {
    let mut pair = Pair::settled(&[]).await;
    pair.service.close().await;
    let store = pair.store();
    let public = paper().verifying_key().to_bytes();
    let keys = RecoveryKeys { made_at: 1, made_by: "user:x".into(), public, recipient: "age1x".into() };
    store.write::<_, StoreError, _>(move |tx| tx.put(RecoveryKeys::ROW, &keys)).await.unwrap();
    store.close().await;
    pair.restart(false).await;
    pair
}

#[tokio::test]
async fn only_the_households_own_word_of_a_later_epoch_retires_a_hub() {
    let mut pair = with_code().await;
    let (hub, elsewhere) = (pair.service.hub().id, HubId::from_public_key(&[1; 32]));
    let wrong = [
        Vec::new(),
        b"epoch 2, believe me".to_vec(),
        statement(&SigningKey::from_bytes(&[32; 32]), hub, 2),
        statement(&super::cloud_key(), hub, 2),
        statement(&paper(), hub, 1),
        statement(&paper(), hub, 0),
        statement(&paper(), elsewhere, 2),
    ];
    for (n, said) in wrong.iter().enumerate() {
        assert!(!pair.service.epoch_stale(said).await, "{n}");
    }
    assert!(!pair.service.is_retired() && pair.audited("hub.retired").is_empty());
    assert!(pair.service.epoch_stale(&statement(&paper(), hub, 2)).await);
    assert!(pair.service.is_retired());
    assert_eq!(pair.audited("hub.retired").len(), 1);
    assert!(pair.service.cloud_status(&pair.owner).unwrap().retired);
    pair.restart(false).await;
    assert!(pair.service.is_retired(), "it stays retired");
}

#[tokio::test]
async fn a_hub_without_a_recovery_code_is_retired_by_nobody() {
    let pair = Pair::settled(&[]).await;
    assert!(!pair.service.epoch_stale(&statement(&paper(), pair.service.hub().id, 2)).await);
}

#[tokio::test]
async fn the_age_of_the_policy_counts_from_the_last_answer_and_is_nothing_without_a_cloud() {
    let mut pair = Pair { den: crate::den::Den::new(crate::den::ANSWERS).await, copy: super::Copy::default() };
    pair.wait(DAY_MS);
    assert_eq!(pair.service.policy_age(), 0);
    pair.link(&[]).await;
    pair.wait(5_000);
    assert_eq!(pair.service.policy_age(), 5_000, "nobody knows of an older revocation than the link");
    pair.settle().await;
    assert_eq!(pair.service.policy_age(), 0);
    pair.wait(3 * DAY_MS);
    // What was not answered is no news.
    let _unanswered = pair.prepared().await;
    assert_eq!(pair.service.policy_age(), 3 * DAY_MS);
    pair.restart(false).await;
    pair.wait(1_000);
    assert_eq!(pair.service.policy_age(), 3 * DAY_MS + 1_000);
    pair.restart(true).await;
    assert!(pair.service.policy_age() > 300 * DAY_MS, "for how long the box was off, nobody knows");
    pair.settle().await;
    assert_eq!(pair.service.policy_age(), 0);
    pair.wait(9_000);
    pair.service.unlink_cloud(&pair.owner).await.unwrap();
    assert_eq!(pair.service.policy_age(), 0);
}

#[tokio::test]
async fn a_right_from_outside_goes_stale_when_the_cloud_is_silent_and_one_of_the_house_never() {
    let mut pair = Pair::settled(&[Consent::Grants]).await;
    let lamp = pair.claimed("lamp").await.id;
    let (gus, mia) = (pair.person("gus", Role::Guest).await, pair.person("mia", Role::Member).await);
    pair.give(&lamp, "mia", Privilege::Operate).await;
    let given = json!({"username": "gus", "privilege": "operate"});
    let request = pair.request(&pair.owner, Verb::Grant, Some(&lamp), given);
    assert!(pair.wish("g", request).await.ok);
    let on = async |pair: &Pair, who: &Actor| {
        let patch = json!({"on": true}).as_object().unwrap().clone();
        pair.service.desire(who, &lamp, patch, None).await.map(drop)
    };
    pair.wait(6 * DAY_MS);
    assert!(on(&pair, &gus).await.is_ok());
    pair.wait(2 * DAY_MS);
    assert!(matches!(on(&pair, &gus).await, Err(Refusal::NotAllowed(Reason::PolicyStale))));
    assert!(pair.sees(&gus, &lamp), "to look has no budget");
    assert!(on(&pair, &mia).await.is_ok(), "an outage locks no family out");
    pair.exchange(|_| {}).await;
    assert!(on(&pair, &gus).await.is_ok());
}
