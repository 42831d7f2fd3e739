//! Linking and unlinking: an owner's act, with what they agreed to, against the key they confirmed.

use super::{Pair, URL, cloud_key, new_link};
use crate::den::{ANSWERS, Den};
use hearthkey::domain::account::Role;
use hearthkey::domain::mirror::signature::fingerprint;
use hearthkey::domain::mirror::statement::{LinkStatement, UnlinkStatement};
use hearthkey::domain::mirror::wire::{BrandOffer, CloudView, Consent, Linked};
use hearthkey::service::{CloudLook, LookProblem, Looking, NewLink, Refusal};
use hearthkey::store::StoreError;
use hearthkey::store::tables::RecoveryKeys;
use std::sync::Arc;

/// A cloud that answers whoever looks at it.
struct Shown(CloudView);

impl CloudLook for Shown {
    fn look<'a>(&'a self, url: &'a str) -> Looking<'a> {
        Box::pin(async move {
            if url == self.0.url {
                return Ok(self.0.clone());
            }
            Err(LookProblem { code: "unreachable", detail: "nobody answers there".into(), next: "Check the address.".into() })
        })
    }
}

fn view() -> CloudView {
    let link = new_link(&[]);
    CloudView {
        v: 1,
        name: "Example cloud".into(),
        region: link.region,
        fingerprint: fingerprint(cloud_key().verifying_key().as_bytes()),
        key: link.key,
        url: URL.into(),
        regions: [].into(),
        brands: vec![BrandOffer { id: "globex".into(), fingerprint: "none".into() }],
        linking: "open".into(),
    }
}

#[tokio::test]
async fn an_owner_links_a_cloud_and_the_hub_says_so_with_its_own_key() {
    let den = Den::new(ANSWERS).await;
    let mia = den.person("mia", Role::Member).await;
    assert!(matches!(den.service.link_cloud(&mia, new_link(&[])).await, Err(Refusal::RoleTooLow)));
    assert!(den.service.link_statement().is_err() && den.service.mirror_target().borrow().is_none());
    let mut target = den.service.mirror_target();
    let status = den.service.link_cloud(&den.owner, new_link(&[Consent::Devices, Consent::People])).await.unwrap();
    assert_eq!((status.linked, status.url.as_deref(), status.region.as_deref()), (true, Some(URL), Some("eu")));
    assert!(target.has_changed().unwrap());
    let wanted = target.borrow_and_update().clone().unwrap();
    assert!(wanted.needs_link && !wanted.needs_unlink && wanted.key == cloud_key().verifying_key().to_bytes());
    let said = LinkStatement::read(&den.service.link_statement().unwrap()).unwrap();
    assert_eq!((said.hub(), said.epoch, said.region.as_str(), said.name.as_str()), (den.service.hub().id, 1, "eu", "test"));
    assert_eq!(said.mirror, den.service.mirror_key().unwrap().verifying_key().to_bytes());
    assert_eq!((said.cloud, said.consent), (cloud_key().verifying_key().to_bytes(), [Consent::Devices, Consent::People].into()));
    assert!(said.recovery.is_none());
    let linked = |hub: String| Linked { hub, epoch: 1, wait_s: 60, max_bytes: 1 };
    assert!(den.service.mirror_linked(linked("another".into())).await.is_err());
    den.service.mirror_linked(linked(den.service.hub().id.to_string())).await.unwrap();
    assert!(!target.borrow_and_update().as_ref().unwrap().needs_link);
    assert_eq!(den.audited("cloud.link").len(), 1);
    // Whoever is no owner sees how it stands, and not what was refused or with which key.
    let seen = den.service.cloud_status(&mia).unwrap();
    assert!(seen.linked && seen.key.is_none() && seen.pending.is_none() && seen.linked_by.is_none());
}

#[tokio::test]
async fn a_link_that_makes_no_sense_is_refused() {
    let den = Den::new(ANSWERS).await;
    let good = new_link(&[]);
    let try_link = async |new: NewLink| den.service.link_cloud(&den.owner, new).await.err().map(|e| e.to_string());
    for wrong in [
        NewLink { url: "http://cloud.example".into(), ..good.clone() },
        NewLink { key: "AAAA".into(), ..good.clone() },
        NewLink { region: "x".repeat(100), ..good.clone() },
        NewLink { brands: vec!["acme".into()], ..good.clone() },
    ] {
        assert!(try_link(wrong.clone()).await.is_some(), "{wrong:?}");
    }
    assert_eq!(
        try_link(NewLink { consent: [Consent::Bundle].into(), ..good.clone() }).await.unwrap(),
        Refusal::RecoveryCodeFirst.to_string()
    );
    assert_eq!(try_link(good.clone()).await, None);
    let other = NewLink { url: "https://other.example".into(), ..good.clone() };
    assert!(try_link(other).await.unwrap().contains("unlink it first"));
    assert_eq!(try_link(NewLink { consent: [Consent::Twins].into(), ..good }).await, None, "the same cloud again changes the link");
    assert!(den.service.change_consent(&den.owner, [Consent::Bundle].into()).await.is_err());
}

#[tokio::test]
async fn a_cloud_is_linked_as_it_was_shown_with_the_makers_it_brings() {
    let den = Den::new(ANSWERS).await;
    let fault = den.service.look_at_cloud(&den.owner, URL).await.unwrap_err();
    assert!(matches!(fault, Refusal::Cloud(ref p) if p.code == "off"), "{fault}");
    den.service.connect_cloud_look(Arc::new(Shown(view())));
    let mia = den.person("mia", Role::Member).await;
    assert!(matches!(den.service.look_at_cloud(&mia, URL).await, Err(Refusal::RoleTooLow)));
    assert!(matches!(den.service.look_at_cloud(&den.owner, "https://nowhere.example").await, Err(Refusal::Cloud(_))));
    let (seen, trusted) = den.service.look_at_cloud(&den.owner, &format!("{URL}/")).await.unwrap();
    assert_eq!((seen, trusted), (view(), false));
    // Between the look and the link somebody puts another key there.
    let swapped = NewLink { key: data_encoding::BASE64URL_NOPAD.encode(&[3; 32]), ..new_link(&[]) };
    assert!(den.service.link_cloud(&den.owner, swapped).await.unwrap_err().to_string().contains("another one"));
    let unknown = NewLink { brands: vec!["initech".into()], ..new_link(&[]) };
    assert!(den.service.link_cloud(&den.owner, unknown).await.is_err());
    let status = den.service.link_cloud(&den.owner, NewLink { brands: vec!["globex".into()], ..new_link(&[]) }).await;
    // The fingerprint of the example is none: then nothing is linked either.
    assert!(status.is_err() && !den.service.cloud_status(&den.owner).unwrap().linked);
    let status = den.service.link_cloud(&den.owner, new_link(&[])).await.unwrap();
    assert_eq!((status.name.as_deref(), status.fingerprint), (Some("Example cloud"), Some(view().fingerprint)));
    assert!(den.service.look_at_cloud(&den.owner, URL).await.unwrap().1);
}

#[tokio::test]
async fn the_public_halves_of_the_recovery_code_go_with_the_link() {
    let mut den = Den::new(ANSWERS).await;
    den.service.close().await;
    let store = den.store();
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    let keys = RecoveryKeys { made_at: 1, made_by: "user:x".into(), public: [4; 32], recipient: recipient.clone() };
    store.write::<_, StoreError, _>(move |tx| tx.put(RecoveryKeys::ROW, &keys)).await.unwrap();
    store.close().await;
    den.restart(false).await;
    den.service.link_cloud(&den.owner, new_link(&[Consent::Bundle])).await.unwrap();
    let said = LinkStatement::read(&den.service.link_statement().unwrap()).unwrap();
    let recovery = said.recovery.unwrap();
    assert_eq!((recovery.key, recovery.recipient), ([4; 32], recipient));
}

#[tokio::test]
async fn after_unlinking_nothing_is_noted_and_the_cloud_is_told_to_erase_what_it_has() {
    let mut pair = Pair::settled(&[Consent::Devices]).await;
    let lamp = pair.claimed("lamp").await.id;
    let waiting = pair.prepared().await;
    let mia = pair.person("mia", Role::Member).await;
    assert!(matches!(pair.service.unlink_cloud(&mia).await, Err(Refusal::RoleTooLow)));
    pair.service.unlink_cloud(&pair.owner).await.unwrap();
    assert!(pair.answer(&waiting, |_| {}).await.is_err(), "an answer that comes late changes nothing");
    assert!(pair.service.next_batch(1 << 20).await.unwrap().is_none());
    let target = pair.service.mirror_target();
    assert!(target.borrow().as_ref().is_some_and(|t| t.needs_unlink));
    let identity = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes();
    assert_eq!(UnlinkStatement::verify(&identity, &pair.service.unlink_statement().unwrap()).unwrap().hub, pair.service.hub().id);
    assert!(pair.service.away_keys(&pair.owner).unwrap().is_empty(), "keys for use from away end with it");
    let status = pair.service.cloud_status(&pair.owner).unwrap();
    assert!(!status.linked && status.policy_age_ms == 0 && status.pending.is_none());
    // Also after a restart, until the cloud has answered.
    pair.restart(false).await;
    assert!(pair.service.mirror_target().borrow().as_ref().is_some_and(|t| t.needs_unlink));
    pair.service.mirror_unlinked().await.unwrap();
    assert!(pair.service.mirror_target().borrow().is_none() && pair.service.unlink_statement().is_err());
    // Linked again, everything comes, under numbers that were not used before.
    pair.copy = super::Copy::default();
    pair.link(&[Consent::Devices]).await;
    assert!(pair.prepared().await.ticket.batch > waiting.ticket.batch);
    pair.settle().await;
    assert!(pair.copy.rows.contains_key(&(hearthkey::domain::mirror::wire::Kind::Device, lamp.to_string())));
}

#[tokio::test]
async fn a_cloud_that_has_forgotten_the_hub_is_told_of_it_again() {
    let mut pair = Pair::settled(&[]).await;
    pair.service.mirror_unlinked().await.unwrap();
    assert!(pair.service.mirror_target().borrow().as_ref().is_some_and(|t| t.needs_link && !t.needs_unlink));
    pair.copy = super::Copy::default();
    pair.settle().await;
    assert!(!pair.copy.rows.is_empty());
}

#[tokio::test]
async fn whoever_carries_the_mirror_is_told_when_something_waits() {
    let pair = Pair::settled(&[]).await;
    let wish = pair.service.mirror_wish();
    pair.person("mia", Role::Member).await;
    tokio::time::timeout(std::time::Duration::from_secs(10), wish.notified()).await.expect("it is told");
    let pending = pair.service.cloud_status(&pair.owner).unwrap().pending.unwrap();
    assert!(pending.rows >= 1 && pending.marks == 0);
}
