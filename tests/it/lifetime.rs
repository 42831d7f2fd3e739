//! Starting and stopping: nothing stays open, nothing that is missing at a start keeps the house without its hub, and
//! what was changed in the file while the hub was stopped is found.

use crate::house::{House, config};
use hearthkey::domain::audit::Entry;
use hearthkey::factory::RunChoice;
use hearthkey::hub::{Hub, StartError, verify_audit};
use hearthkey::service::Actor;
use hearthkey::store::{MasterKey, Read, Store, StoreError};

fn imports(hub: &Hub) -> usize {
    hub.service().audit(&Actor::console(), None, 500).unwrap().iter().filter(|e| e.event.action == "registry.import").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_stopped_starts_again_in_the_same_process() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    let _connected = house.connect_device(&device).await;
    let id = house.hub.identity().id;
    // Somebody still holds the use cases: the file must be free all the same.
    let _held = house.hub.service().clone();
    let House { hub, dir, .. } = house;
    hub.shut_down().await;
    let again = Hub::start(config(&dir)).await.unwrap();
    assert_eq!(again.identity().id, id);
    again.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_nothing_open() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut blocked = config(&dir);
    blocked.http.address = taken.local_addr().unwrap();
    assert!(matches!(Hub::start(blocked).await, Err(StartError::Listen { .. })));
    let mut strict = config(&dir);
    strict.import = vec![dir.path().join("missing.hkb")];
    strict.provision_strictly = true;
    assert!(matches!(Hub::start(strict).await, Err(StartError::Import { .. })));
    Hub::start(config(&dir)).await.unwrap().shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_at_a_start_is_told_and_the_house_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.import = vec![dir.path().join("pulled-out.hkb")];
    config.trust.insert("acme".into(), "no fingerprint".into());
    let hub = Hub::start(config).await.unwrap();
    let [trust, import] = hub.not_provisioned.as_slice() else { panic!("{:?}", hub.not_provisioned) };
    assert!(trust.contains("acme") && import.contains("pulled-out.hkb"), "{trust} {import}");
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_known_is_not_taken_again_at_every_start() {
    let house = House::new().await;
    house.device("lamp").await;
    let file = house.dir.path().join("all.hkb");
    house.workshop.batch(&house.brand, &RunChoice::All, &house.hub.identity().request_line, &file, &()).unwrap();
    let House { hub, dir, .. } = house;
    let before = imports(&hub);
    hub.shut_down().await;
    for _ in 0..2 {
        let mut config = config(&dir);
        config.import = vec![file.clone()];
        let hub = Hub::start(config).await.unwrap();
        assert_eq!((hub.not_provisioned.len(), imports(&hub)), (0, before + 1));
        hub.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_the_audit_that_was_changed_is_found() {
    let House { hub, dir, .. } = House::new().await;
    let config = config(&dir);
    assert!(verify_audit(&config).await.is_err(), "the hub is running");
    hub.shut_down().await;
    assert!(verify_audit(&config).await.unwrap().entries > 1);
    let master = std::fs::read(config.data_dir.join("master.key")).unwrap().try_into().unwrap();
    let store = Store::open(&config.data_dir.join("hub.redb"), MasterKey::new(master)).unwrap();
    let row = 1u64.to_be_bytes();
    let mut entry = store.read::<_, StoreError>(|v| v.get::<Entry>(&row)).unwrap().unwrap();
    entry.event.actor = "user:somebody-else".into();
    store.write::<_, StoreError, _>(move |tx| tx.put(&row, &entry)).await.unwrap();
    store.close().await;
    let error = verify_audit(&config).await.unwrap_err().to_string();
    assert!(error.contains("entry 1"), "{error}");
}
