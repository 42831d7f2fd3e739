//! One device, two homes: what the ledger makes of it, and who is told.

use super::rig::{Hub, Rig, device_key, device_row, lines, paired_row};
use hearthkey::cloud::Scope;
use hearthkey::domain::mirror::wire::{ItemBody, Kind};

/// The notices that come down next, as code and device.
async fn notices(hub: &Hub<'_>) -> Vec<(String, String)> {
    let (items, _) = hub.next().await;
    let notices = items.into_iter().filter_map(|item| match item.body {
        ItemBody::Notice(notice) => Some((notice.code, notice.device.unwrap_or_default())),
        _ => None,
    });
    notices.collect()
}

fn told(code: &str, device: &str) -> Vec<(String, String)> {
    vec![(code.to_owned(), device.to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_homes_with_one_identity_are_both_told_and_a_reset_device_moves() {
    let rig = Rig::start().await;
    let token = rig.token("acme", &[Scope::UploadIdentities]).await;
    rig.upload(&token, "all", 0, true, lines("acme", 0, 20)).await.good();
    let (first, second) = (rig.hub(1, &[]).await, rig.hub(2, &[]).await);
    // The first claim stands. To wait until the ledger has it, a marker goes the same way.
    let settled = async |hub: &Hub<'_>, n: u64| {
        hub.put(vec![paired_row(&hub.id, n, &device_key(n), 1)]).await;
        let (items, _) = hub.next().await;
        assert!(items.iter().all(|item| matches!(item.body, ItemBody::Batch(_))), "{items:?}");
    };
    first.put(vec![device_row("lamp-000001", 1, 1, "attested", 2), device_row("lamp-000002", 1, 1, "attested", 2)]).await;
    settled(&first, 10).await;

    // Another home with the same counter: both hear of it, and nothing is taken away.
    second.put(vec![device_row("lamp-000001", 5, 1, "attested", 2)]).await;
    assert_eq!(notices(&second).await, told("claimed_elsewhere", "lamp-000001"));
    assert_eq!(notices(&first).await, told("claimed_elsewhere", "lamp-000001"));
    // Said once, however often the row comes.
    second.put(vec![device_row("lamp-000001", 5, 2, "attested", 2)]).await;
    first.put(vec![device_row("lamp-000001", 1, 2, "attested", 2)]).await;
    settled(&second, 11).await;
    settled(&first, 12).await;

    // A counter that is only asserted proves nothing.
    second.put(vec![device_row("lamp-000002", 1, 1, "provisional", 9)]).await;
    assert!(notices(&second).await.contains(&("claimed_elsewhere".to_owned(), "lamp-000002".to_owned())));
    assert_eq!(notices(&first).await, told("claimed_elsewhere", "lamp-000002"));
    // Proven, it is a transfer: the first home hears where it has gone, and the dispute is over.
    second.put(vec![device_row("lamp-000002", 2, 1, "attested", 3)]).await;
    assert_eq!(notices(&first).await, told("transferred", "lamp-000002"));
    // What the first home still has of it is no new dispute.
    first.put(vec![device_row("lamp-000002", 1, 3, "attested", 2)]).await;
    settled(&first, 13).await;

    // Who removes it, leaves it to the other.
    first.end(Kind::Device, "lamp-000001", 1).await;
    settled(&first, 14).await;
    second.put(vec![device_row("lamp-000001", 6, 1, "attested", 2)]).await;
    settled(&second, 15).await;
    first.put(vec![device_row("lamp-000001", 2, 1, "attested", 2)]).await;
    assert_eq!(notices(&first).await, told("claimed_elsewhere", "lamp-000001"), "now the second holds it");
    drop((first, second));
    rig.stop().await;
}
