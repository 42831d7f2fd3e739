//! What changes is noted for the cloud in the transaction of the change, and only while one is linked.

use super::{key, open};
use crate::domain::account::{Role, User, UserId, Username};
use crate::domain::binding::{Binding, Privilege, RevocationMark, Subject, Terms};
use crate::domain::claim::ClaimHash;
use crate::domain::device::{Household, LastSeen, Origin, Registered, ResetCounter};
use crate::domain::ids::{BrandId, DeviceId, ModelName};
use crate::domain::twin::Twin;
use crate::store::tables::{AwayKey, MirrorMark, MirrorSwitch, OutboxRow, StoredDeviceKey, outbox_key};
use crate::store::{Mirroring, Read, Record, Store, StoreError, Table, Tx};

const KEY: &[u8] = b"lamp-1";

fn user() -> UserId {
    UserId::from_uuid(uuid::Uuid::nil())
}

fn lamp() -> DeviceId {
    DeviceId::parse("lamp-1").unwrap()
}

fn binding() -> Binding {
    Binding {
        device: lamp(),
        subject: Subject::User(user()),
        terms: Terms::of(Privilege::View),
        granted_by: "claim".into(),
        granted_at: 1,
        generation: 1,
        version: 0,
        origin: "hub".into(),
    }
}

fn person() -> User {
    User {
        id: user(),
        username: Username::parse("mia").unwrap(),
        display_name: String::new(),
        role: Role::Member,
        password_hash: String::new(),
        created_at: 1,
        created_by: "setup".into(),
        ended: false,
        networks: Vec::new(),
        brand: None,
    }
}

fn registered() -> Registered {
    Registered {
        id: lamp(),
        brand: BrandId::parse("acme").unwrap(),
        model: ModelName::parse("lamp").unwrap(),
        hardware: String::new(),
        serial: String::new(),
        claim_hash: ClaimHash([0; 32]),
        made: 1,
        origin: Origin::Voucher,
        added_at: 1,
    }
}

async fn write(store: &Store, f: impl Fn(&Tx<'_>) -> Result<(), StoreError> + Send + 'static) {
    store.write::<_, StoreError, _>(move |tx| f(tx)).await.unwrap();
}

async fn switch(store: &Store, on: bool) {
    write(store, move |tx| tx.put(MirrorSwitch::ROW, &MirrorSwitch { on, twins: on, ..MirrorSwitch::default() })).await;
}

fn outbox(store: &Store) -> Vec<(Vec<u8>, OutboxRow)> {
    store.read::<_, StoreError>(|v| v.scan::<OutboxRow>(b"", 100)).unwrap()
}

fn empty(store: &Store) -> bool {
    outbox(store).is_empty()
}

async fn forget(store: &Store) {
    write(store, |tx| tx.delete_prefix::<OutboxRow>(b"").map(drop)).await;
}

/// Puts and deletes a record; whether both were noted under the table `noted`.
async fn is_noted<T: Record + Clone + Send + Sync + 'static>(store: &Store, record: T, noted: Table) -> bool {
    forget(store).await;
    let at = outbox_key(noted, KEY);
    let once = |store: &Store| outbox(store).iter().filter(|(k, _)| *k == at).count() == 1 && outbox(store).len() == 1;
    write(store, move |tx| tx.put(KEY, &record)).await;
    let put = once(store);
    forget(store).await;
    write(store, |tx| tx.delete::<T>(KEY).map(drop)).await;
    put && once(store)
}

#[tokio::test]
async fn every_mirrored_row_that_is_put_or_deleted_is_noted_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    switch(&store, true).await;
    assert!(is_noted(&store, binding(), Binding::TABLE).await);
    assert!(is_noted(&store, RevocationMark { generation: 1, at: 1, by: String::new() }, RevocationMark::TABLE).await);
    assert!(is_noted(&store, person(), User::TABLE).await);
    assert!(is_noted(&store, Twin::default(), Twin::TABLE).await);
    assert!(
        is_noted(&store, MirrorMark { generation: 1, refused: 0, why: String::new(), at: 1, by: String::new() }, MirrorMark::TABLE).await
    );
    let away = AwayKey { id: "a".into(), user: user(), name: "phone".into(), hash: [1; 32], created_at: 1, until: 2 };
    assert!(is_noted(&store, away, AwayKey::TABLE).await);
    // What is said of a device beside its row is noted with the row, as soon as there is one.
    assert!(!is_noted(&store, registered(), Household::TABLE).await && empty(&store));
    write(&store, |tx| tx.put(KEY, &Household::default())).await;
    assert!(is_noted(&store, registered(), Household::TABLE).await);
    assert!(is_noted(&store, ResetCounter { counter: 1 }, Household::TABLE).await);
    assert!(is_noted(&store, Household::default(), Household::TABLE).await);
}

#[tokio::test]
async fn what_is_not_mirrored_is_not_noted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    switch(&store, true).await;
    write(&store, |tx| tx.put(KEY, &LastSeen { at: 1 })).await;
    write(&store, |tx| tx.put(KEY, &StoredDeviceKey([1; 32]))).await;
    write(&store, |tx| tx.delete::<Binding>(b"nothing").map(drop)).await;
    assert!(empty(&store));
    assert_eq!(LastSeen::MIRRORED, Mirroring::No);
    // Twins change often: they are noted only in a home that mirrors them.
    write(&store, |tx| tx.put(MirrorSwitch::ROW, &MirrorSwitch { on: true, ..MirrorSwitch::default() })).await;
    write(&store, |tx| tx.put(KEY, &Twin::default())).await;
    assert!(empty(&store));
}

#[tokio::test]
async fn nothing_is_noted_while_no_cloud_is_linked() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    write(&store, |tx| tx.put(KEY, &binding())).await;
    switch(&store, true).await;
    switch(&store, false).await;
    write(&store, |tx| tx.put(KEY, &person())).await;
    assert!(empty(&store));
}

#[tokio::test]
async fn linking_counts_from_the_same_transaction_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let both = |tx: &Tx<'_>| {
        tx.put(b"before", &person())?;
        tx.put(MirrorSwitch::ROW, &MirrorSwitch { on: true, ..MirrorSwitch::default() })?;
        tx.put(b"after", &person())
    };
    write(&store, both).await;
    let noted: Vec<Vec<u8>> = outbox(&store).into_iter().map(|(k, _)| k).collect();
    assert_eq!(noted, [outbox_key(User::TABLE, b"after")]);
}

#[tokio::test]
async fn the_outbox_is_never_larger_than_what_it_speaks_of() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    switch(&store, true).await;
    for round in 0..50u8 {
        write(&store, move |tx| {
            for n in 0..4u8 {
                tx.put(&[n], &person())?;
            }
            if round % 3 == 0 { tx.delete::<User>(&[0]).map(drop) } else { Ok(()) }
        })
        .await;
    }
    let rows = outbox(&store);
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|(_, row)| row.changes >= 50), "each change is told apart from the one before it: {rows:?}");
}

#[tokio::test]
async fn what_is_undone_is_not_noted_and_what_is_noted_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    switch(&store, true).await;
    let undone = store
        .write::<(), StoreError, _>(|tx| {
            tx.put(b"undone", &person())?;
            Err(StoreError::Stopped)
        })
        .await;
    assert!(undone.is_err() && empty(&store));
    write(&store, |tx| tx.put(KEY, &person())).await;
    store.close().await;
    let again = Store::open(&dir.path().join("hub.redb"), key(1)).unwrap();
    assert_eq!(outbox(&again).len(), 1);
    write(&again, |tx| tx.put(KEY, &person())).await;
    assert_eq!(outbox(&again).iter().map(|(_, row)| row.changes).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn whoever_waits_for_something_to_send_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    switch(&store, true).await;
    let told = store.captured();
    write(&store, |tx| tx.put(KEY, &person())).await;
    tokio::time::timeout(std::time::Duration::from_secs(10), told.notified()).await.expect("it is told");
}
