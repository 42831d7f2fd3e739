//! Registry batches that the cloud brings.

use super::{Pair, item};
use data_encoding::HEXLOWER;
use hearthkey::domain::mirror::wire::{BatchOffer, ItemBody};
use hearthkey::service::Refusal;
use sha2::{Digest, Sha256};
use std::path::Path;

fn offer(id: &str, brand: &str, file: &Path) -> BatchOffer {
    let bytes = std::fs::read(file).unwrap();
    BatchOffer {
        brand: brand.into(),
        id: id.into(),
        bytes: bytes.len() as u64,
        sha256: HEXLOWER.encode(&Sha256::digest(&bytes)),
        devices: 1,
    }
}

#[tokio::test]
async fn a_batch_that_waits_is_taken_and_then_answered() {
    let mut pair = Pair::settled(&[]).await;
    let file = pair.batch("lamp");
    let offered = offer("b1", crate::house::BRAND, &file);
    pair.exchange(|reply| reply.items.push(item("i1", ItemBody::Batch(offered.clone())))).await;
    pair.settle().await;
    assert!(pair.copy.done.is_empty(), "it is answered when it has been taken");
    pair.restart(false).await;
    assert_eq!(pair.service.pending_batches(), std::slice::from_ref(&offered));
    let report = pair.service.import_offer(&offered, file.clone()).await.unwrap();
    assert_eq!((report.added, report.known), (1, 0));
    assert!(pair.service.pending_batches().is_empty());
    pair.settle().await;
    assert_eq!(pair.copy.done.iter().map(|d| (d.id.as_str(), d.ok)).collect::<Vec<_>>(), [("i1", true)]);
    assert!(matches!(pair.service.import_offer(&offered, file).await, Err(Refusal::NotFound(_))));
}

#[tokio::test]
async fn what_is_not_what_was_offered_is_not_taken() {
    let mut pair = Pair::settled(&[]).await;
    let (file, other) = (pair.batch("lamp"), pair.batch("lamp"));
    let offered = offer("b1", crate::house::BRAND, &file);
    pair.exchange(|reply| reply.items.push(item("i1", ItemBody::Batch(offered.clone())))).await;
    assert!(matches!(pair.service.import_offer(&offered, other.clone()).await, Err(Refusal::Conflict(_))));
    let never = BatchOffer { id: "b2".into(), ..offered.clone() };
    assert!(matches!(pair.service.import_offer(&never, file.clone()).await, Err(Refusal::NotFound(_))));
    for _ in 0..9 {
        pair.service.offer_failed(&offered, "it breaks off", false).await.unwrap();
        assert_eq!(pair.service.pending_batches().len(), 1);
    }
    pair.service.offer_failed(&offered, "it breaks off", false).await.unwrap();
    assert!(pair.service.pending_batches().is_empty());
    pair.settle().await;
    assert_eq!((pair.copy.done[0].ok, pair.copy.done[0].detail.as_str()), (false, "it breaks off"));
}

#[tokio::test]
async fn offers_of_brands_that_nobody_trusts_and_nonsense_are_answered_at_once() {
    let mut pair = Pair::settled(&[]).await;
    let file = pair.batch("lamp");
    let good = offer("b1", crate::house::BRAND, &file);
    for (n, (wrong, code)) in [
        (BatchOffer { brand: "globex".into(), ..good.clone() }, "brand_not_trusted"),
        (BatchOffer { id: "../x".into(), ..good.clone() }, "malformed"),
        (BatchOffer { bytes: u64::MAX, ..good.clone() }, "malformed"),
        (BatchOffer { sha256: "00".into(), ..good.clone() }, "malformed"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(pair.bring(item(&format!("i{n}"), ItemBody::Batch(wrong))).await.code, code);
    }
    assert!(pair.service.pending_batches().is_empty());
    for n in 0..60 {
        let many = BatchOffer { id: format!("m{n}"), ..good.clone() };
        pair.exchange(|reply| reply.items.push(item(&format!("many{n}"), ItemBody::Batch(many)))).await;
    }
    assert_eq!(pair.service.pending_batches().len(), 50);
}
