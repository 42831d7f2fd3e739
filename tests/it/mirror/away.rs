//! Keys for use from away: each person's own, shown once, of which the cloud has a hash.

use super::Pair;
use hearthkey::domain::account::Role;
use hearthkey::domain::mirror::wire::{Kind, Mark};
use hearthkey::service::Refusal;
use sha2::{Digest, Sha256};

#[tokio::test]
async fn a_key_is_shown_once_and_the_cloud_has_its_hash() {
    let mut pair = Pair::settled(&[]).await;
    let mia = pair.person("mia", Role::Guest).await;
    let made = pair.service.make_away_key(&mia, "my phone", Some(30)).await.unwrap();
    let token = made.token.reveal().to_owned();
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!((parts[0], parts[1], parts[2].len()), ("hka1", pair.service.hub().id.to_string().as_str(), 43));
    assert_eq!((made.url.as_str(), made.until), (super::URL, pair.now() + 30 * 24 * 3_600_000));
    pair.settle().await;
    let row = &pair.copy.rows[&(Kind::Away, made.id.clone())];
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(token.as_bytes()));
    assert_eq!((row.body["hash"].as_str(), row.body["user"].as_str()), (Some(hash.as_str()), Some(mia.user().unwrap().as_str())));
    assert_eq!(row.body["name"], "", "names go only if that is agreed to");
    assert_eq!(pair.service.away_keys(&mia).unwrap().len(), 1);
    // One's own, and nobody else's.
    assert!(matches!(pair.service.end_away_key(&pair.owner, &made.id).await, Err(Refusal::NotFound(_))));
    pair.service.end_away_key(&mia, &made.id).await.unwrap();
    pair.settle().await;
    assert_eq!(pair.copy.marks[&(Kind::Away, made.id.clone())], 1);
    assert!(pair.service.away_keys(&mia).unwrap().is_empty());
}

#[tokio::test]
async fn keys_are_bounded_and_need_a_cloud_and_somebody_of_the_house() {
    let pair = Pair { den: crate::den::Den::new(crate::den::ANSWERS).await, copy: super::Copy::default() };
    assert!(matches!(pair.service.make_away_key(&pair.owner, "phone", None).await, Err(Refusal::Conflict(_))));
    pair.link(&[]).await;
    for days in [0, 367] {
        assert!(pair.service.make_away_key(&pair.owner, "phone", Some(days)).await.is_err());
    }
    assert!(pair.service.make_away_key(&pair.owner, "", None).await.is_err());
    for _ in 0..10 {
        pair.service.make_away_key(&pair.owner, "phone", Some(1)).await.unwrap();
    }
    assert!(matches!(pair.service.make_away_key(&pair.owner, "phone", Some(1)).await, Err(Refusal::Conflict(_))));
    pair.wait(24 * 3_600_000);
    pair.service.make_away_key(&pair.owner, "phone", Some(1)).await.expect("what is over makes room");
    assert_eq!(pair.service.away_keys(&pair.owner).unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_that_the_cloud_ends_is_ended_for_ever() {
    let mut pair = Pair::settled(&[]).await;
    let id = pair.service.away_keys(&pair.owner).unwrap()[0].id.clone();
    pair.mark(vec![Mark { kind: Kind::Away, key: id, generation: 1, at: 1, by: pair.owner.subject.to_string() }]).await;
    assert!(pair.service.away_keys(&pair.owner).unwrap().is_empty());
    assert_eq!(pair.audited("away.end").len(), 1);
}
