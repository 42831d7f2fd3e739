//! Bundles and restored stores, without a network.

use super::bundle::Due;
use super::*;
use crate::domain::account::{Role, User, UserId, Username};
use crate::domain::binding::{Binding, Privilege, RevocationMark, Subject, Terms};
use crate::domain::claim::ClaimHash;
use crate::domain::device::{Household, Origin, Registered, SignInCounter, Standing};
use crate::domain::ids::{BrandId, DeviceId, HubId, ModelName};
use crate::domain::mirror::statement::{BundleSeal, EpochStatement};
use crate::domain::mirror::wire::BUNDLE_MAX;
use crate::domain::time::Grade;
use crate::service::{Clock, HubIdentity, lock, verify_audit};
use crate::store::tables::{BindingIndex, Credential, HubSecrets, ImportedBatch, StoredDeviceKey, binding_index_key, binding_key};
use crate::store::{MasterKey, Store, Tx};
use ed25519_dalek::SigningKey;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const NOW: u64 = 1_800_000_000_000;

struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn monotonic_ms(&self) -> u64 {
        self.now_ms()
    }
    fn grade(&self) -> Grade {
        Grade::Vouched
    }
}

/// A hub of rows: no broker, no doors.
struct Rig {
    dir: tempfile::TempDir,
    store: Store,
    clock: Arc<TestClock>,
    service: Arc<Service>,
}

fn identity() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn hub_id() -> HubId {
    HubId::from_public_key(identity().verifying_key().as_bytes())
}

fn code() -> RecoveryCode {
    RecoveryCode::from_bytes(*b"twenty random bytes.")
}

fn about_itself() -> HubIdentity {
    HubIdentity {
        id: hub_id(),
        name: "test".into(),
        ca_der: vec![0x30, 0],
        ca_fingerprint: "AB:CD".into(),
        request_line: String::new(),
        age_identity: String::new().into(),
    }
}

fn secrets() -> HubSecrets {
    HubSecrets {
        identity_seed: [9; 32],
        age_identity: "AGE-SECRET-KEY-1".into(),
        mirror_seed: [4; 32],
        epoch: 3,
        ca_key_pem: "a key".into(),
        ca_pem: "a certificate".into(),
        server_key_pem: "another key".into(),
        pepper: None,
    }
}

fn keys() -> RecoveryKeys {
    RecoveryKeys {
        made_at: NOW,
        made_by: "user:1".into(),
        public: code().epoch_key(&hub_id()).verifying_key().to_bytes(),
        recipient: code().age_recipient(&hub_id()),
    }
}

async fn open(dir: &std::path::Path, master: u8) -> (Store, Arc<TestClock>, Arc<Service>) {
    let store = Store::open(&dir.join("hub.redb"), MasterKey::new([master; 32])).unwrap();
    let clock = Arc::new(TestClock(AtomicU64::new(NOW)));
    let service = Service::new(store.clone(), clock.clone(), about_itself()).await.unwrap();
    (store, clock, service)
}

impl Rig {
    async fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (store, clock, service) = open(dir.path(), 7).await;
        store
            .write::<_, StoreError, _>(|tx| {
                tx.put(HubSecrets::ROW, &secrets())?;
                tx.put(RecoveryKeys::ROW, &keys())
            })
            .await
            .unwrap();
        Rig { dir, store, clock, service }
    }

    /// So many devices; of these, `claimed` are somebody's.
    async fn devices(&self, count: usize, claimed: usize) {
        self.store
            .write::<_, StoreError, _>(move |tx| {
                let batch = ImportedBatch { brand: brand(), devices: count as u64, at: NOW, by: "user:1".into() };
                tx.put(b"0123456789abcdef", &batch)?;
                (0..count).try_for_each(|n| device(tx, n, n < claimed))
            })
            .await
            .unwrap();
    }

    fn bundle(&self) -> Vec<u8> {
        self.store.read(|v| self.service.make_bundle(v)).unwrap().expect("it is not too large").0
    }

    fn row<T: crate::store::Record>(&self, key: &[u8]) -> Option<T> {
        self.store.read::<_, StoreError>(|v| v.get::<T>(key)).unwrap()
    }

    async fn put<T: crate::store::Record + Clone + Send + 'static>(&self, key: &[u8], row: T) {
        let key = key.to_vec();
        self.store.write::<_, StoreError, _>(move |tx| tx.put(&key, &row)).await.unwrap();
    }
}

fn brand() -> BrandId {
    BrandId::parse("acme").unwrap()
}

fn id(n: usize) -> DeviceId {
    DeviceId::parse(&format!("acme-lamp-{n:08}")).unwrap()
}

/// Bytes that do not repeat, as keys do not.
fn noise(n: usize, what: u8) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest([&n.to_be_bytes()[..], &[what]].concat()).into()
}

fn user(n: u128) -> UserId {
    UserId::from_uuid(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n))
}

fn device(tx: &Tx<'_>, n: usize, claimed: bool) -> Result<(), StoreError> {
    let (id, key) = (id(n), id(n).to_string().into_bytes());
    tx.put(
        &key,
        &Registered {
            id: id.clone(),
            brand: brand(),
            model: ModelName::parse("lamp").unwrap(),
            hardware: "rev b".into(),
            serial: format!("SN{n:010}"),
            claim_hash: ClaimHash(noise(n, 1)),
            made: NOW / 1000,
            origin: Origin::Batch("0123456789abcdef".into()),
            added_at: NOW,
        },
    )?;
    tx.put(&key, &StoredDeviceKey(noise(n, 2)))?;
    if !claimed {
        return Ok(());
    }
    let household = Household {
        standing: Standing::Ready,
        name: format!("Lamp {n}"),
        room: "Living room".into(),
        version: 4,
        claimed_at: Some(NOW),
        ..Household::default()
    };
    tx.put(&key, &household)?;
    tx.put(&key, &Credential { keyed_hash: noise(n, 3), undelivered: None, made_at: NOW })?;
    tx.put(&key, &SignInCounter { counter: 40 + n as u64, last_token: noise(n, 4).to_vec(), ..SignInCounter::default() })?;
    for who in 1..=3 {
        let subject = Subject::User(user(who));
        let binding = Binding {
            device: id.clone(),
            subject: subject.clone(),
            terms: Terms::of(if who == 1 { Privilege::Administer } else { Privilege::Operate }),
            granted_by: format!("user:{}", user(1)),
            granted_at: NOW,
            generation: 1,
            version: 1,
            origin: hub_id().to_string(),
        };
        tx.put(&binding_key(&id, &subject), &binding)?;
        tx.put(&binding_index_key(&subject, &id), &BindingIndex { device: id.clone() })?;
    }
    Ok(())
}

/// A new store, filled from the bundle.
async fn restored(bundle: &[u8]) -> Rig {
    let opened = open_bundle(&code(), &hub_id(), bundle).unwrap();
    let life = NewLife::new(&code(), &hub_id(), [5; 32], opened.about.epoch, NOW + 1_000);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new([8; 32])).unwrap();
    fill(&store, opened, life).await.unwrap();
    store.close().await;
    let (store, clock, service) = open(dir.path(), 8).await;
    Rig { dir, store, clock, service }
}

#[tokio::test]
async fn a_restored_hub_has_what_the_one_before_had_and_a_life_of_its_own() {
    let old = Rig::new().await;
    old.devices(3, 2).await;
    let mark = RevocationMark { generation: 1, at: NOW, by: "user:1".into() };
    old.put(&binding_key(&id(0), &Subject::User(user(3))), mark).await;
    let new = restored(&old.bundle()).await;
    for n in 0..3 {
        let key = id(n).to_string().into_bytes();
        assert_eq!(new.row::<Registered>(&key), old.row::<Registered>(&key));
        assert_eq!(new.row::<StoredDeviceKey>(&key).unwrap().0, noise(n, 2));
        assert_eq!(new.row::<Household>(&key), old.row::<Household>(&key));
        let before = old.row::<SignInCounter>(&key).unwrap_or_default();
        // One that never signed in before may have done so after.
        assert_eq!(new.row::<SignInCounter>(&key), Some(SignInCounter { restored: true, ..before }));
    }
    let right = binding_key(&id(1), &Subject::User(user(2)));
    assert_eq!(new.row::<Binding>(&right), old.row::<Binding>(&right));
    assert_eq!(new.row::<RevocationMark>(&binding_key(&id(0), &Subject::User(user(3)))).unwrap().generation, 1);
    let (before, now) = (secrets(), new.row::<HubSecrets>(HubSecrets::ROW).unwrap());
    assert_eq!(
        (now.identity_seed, &now.ca_key_pem, &now.server_key_pem),
        (before.identity_seed, &before.ca_key_pem, &before.server_key_pem)
    );
    assert_eq!((now.mirror_seed, now.epoch), ([5; 32], 4));
    // What was handed out goes on serving, under another master key.
    assert_eq!(new.service.keyed_hash(b"operational", b"x"), old.service.keyed_hash(b"operational", b"x"));
    let statement = new.service.epoch_statement().unwrap().unwrap();
    let begins = EpochStatement::verify(&keys().public, &statement).unwrap();
    assert_eq!((begins.hub, begins.epoch), (hub_id(), 4));
    assert_eq!(begins.mirror, SigningKey::from_bytes(&[5; 32]).verifying_key().to_bytes());
    begun_in(&new.store).await.unwrap();
    assert_eq!(new.service.epoch_statement().unwrap(), None);
}

#[tokio::test]
async fn the_audit_goes_on_after_the_last_entry_that_the_bundle_knows() {
    let old = Rig::new().await;
    let note = |tx: &Tx<'_>| audit::append(tx, NOW, audit::event("hub", "x.y", "", crate::domain::audit::Outcome::Done, "", "", ""));
    for _ in 0..3 {
        old.store.write::<_, StoreError, _>(note).await.unwrap();
    }
    let new = restored(&old.bundle()).await;
    let seen = verify_audit(&new.store).unwrap();
    assert_eq!((seen.gaps, seen.newest.unwrap().0), (vec![(1, 3)], 4));
    new.store.write::<_, StoreError, _>(note).await.unwrap();
    assert_eq!(verify_audit(&new.store).unwrap().newest.unwrap().0, 5);
}

#[tokio::test]
async fn a_bundle_opens_by_its_code_for_its_hub_alone_and_says_why_not() {
    let rig = Rig::new().await;
    let bundle = rig.bundle();
    let why = |code: &RecoveryCode, hub: &HubId, bundle: &[u8]| open_bundle(code, hub, bundle).err().map(|e| e.to_string()).unwrap();
    let other = RecoveryCode::from_bytes([1; 20]);
    assert!(why(&other, &hub_id(), &bundle).starts_with("the recovery code does not open this bundle"));
    assert!(why(&code(), &HubId::from_bytes([1; 16]), &bundle).starts_with("the recovery code does not open this bundle"));
    assert!(why(&code(), &hub_id(), b"nothing").starts_with("the bundle is damaged"));
    assert!(why(&code(), &hub_id(), &vec![0; BUNDLE_MAX + 1]).contains("longer than a bundle can be"));
    // Wherever it breaks off or was changed.
    for at in (0..bundle.len()).step_by(61) {
        assert!(open_bundle(&code(), &hub_id(), &bundle[..at]).is_err(), "cut at {at}");
        let mut changed = bundle.clone();
        changed[at] ^= 1;
        assert!(open_bundle(&code(), &hub_id(), &changed).is_err(), "changed at {at}");
    }
}

/// A bundle of a content that somebody else has put together.
fn forged(content: &[u8], signer: &SigningKey) -> Vec<u8> {
    let seal = BundleSeal::of(hub_id(), 3, NOW / 1000, content).sign(signer);
    super::bundle::sealed(&keys().recipient, &BundleSeal::join(&seal, content)).unwrap()
}

fn content_of(rig: &Rig) -> Vec<u8> {
    let content = rig.store.read(|v| content::write(v, &hub_id(), NOW, content::Extent::All, BUNDLE_MAX)).unwrap().unwrap();
    content.to_vec()
}

fn deflated(items: &[ciborium::Value]) -> Vec<u8> {
    let mut zip = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    items.iter().for_each(|item| ciborium::into_writer(item, &mut zip).unwrap());
    zip.finish().unwrap()
}

#[tokio::test]
async fn who_only_knows_the_recipient_makes_no_bundle_that_is_believed() {
    let rig = Rig::new().await;
    let content = content_of(&rig);
    assert!(open_bundle(&code(), &hub_id(), &forged(&content, &identity())).is_ok());
    let why = |bundle: Vec<u8>| open_bundle(&code(), &hub_id(), &bundle).err().map(|e| e.to_string()).unwrap();
    assert!(why(forged(&content, &SigningKey::from_bytes(&[1; 32]))).contains("the hub has not signed it"));
    // Of another hub, which has signed with its own key.
    let mut other = secrets();
    other.identity_seed = [1; 32];
    rig.put(HubSecrets::ROW, other).await;
    assert!(why(forged(&content_of(&rig), &SigningKey::from_bytes(&[1; 32]))).contains("is of the hub"));
}

#[tokio::test]
async fn what_a_newer_program_wrote_is_refused_with_its_version() {
    use ciborium::Value;
    let about = |form: u64, layout: u64| {
        let members: [(u64, Value); 6] = [
            (1, form.into()),
            (2, Value::Bytes(hub_id().as_bytes().to_vec())),
            (3, 3.into()),
            (4, NOW.into()),
            (5, layout.into()),
            (6, Value::Text("7.1.0".into())),
        ];
        Value::Map(members.into_iter().map(|(n, value)| (n.into(), value)).collect())
    };
    let why = |items: &[Value]| {
        let bundle = forged(&deflated(items), &identity());
        open_bundle(&code(), &hub_id(), &bundle).err().map(|e| e.to_string()).unwrap()
    };
    assert!(why(&[about(2, 1), 0.into()]).contains("newer version of this program (7.1.0)"));
    assert!(why(&[about(1, 99), 0.into()]).contains("newer version of this program (7.1.0)"));
    assert!(why(&[about(1, 1), Value::Text("clairvoyance".into()), 0.into()]).contains("newer version of this program (7.1.0)"));
    assert!(why(&[about(1, 1), 1.into()]).contains("rows are missing"));
    assert!(why(&[about(1, 1), 0.into()]).contains("the hub's keys are not in it"));
    assert!(why(&[about(1, 1)]).contains("breaks off"));
}

#[tokio::test]
async fn a_bundle_is_due_once_things_have_calmed_down_or_after_a_while() {
    let rig = Rig::new().await;
    let due = || rig.service.bundle_due().is_some();
    let wait = |ms: u64| rig.clock.0.fetch_add(ms, Ordering::Relaxed);
    assert_eq!(rig.service.bundle_waits_ms(), Some(0));
    assert!(due(), "the first one is due at once");
    assert!(due(), "as long as nobody says that it was handed over");
    rig.service.bundle_sent().await.unwrap();
    assert!(!due());
    assert_eq!(rig.service.bundle_waits_ms(), None);
    let change = async |n: usize| rig.store.write::<_, StoreError, _>(move |tx| device(tx, n, true)).await.unwrap();
    change(1).await;
    assert!(!due(), "there may be more");
    assert_eq!(rig.service.bundle_waits_ms(), Some(20_000));
    wait(19_000);
    change(2).await;
    assert!(!due());
    wait(19_000);
    assert!(!due());
    wait(1_000);
    assert!(due());
    rig.service.bundle_sent().await.unwrap();
    // A house in which something changes all the time.
    let mut rounds = 0;
    loop {
        change(rounds + 10).await;
        if due() {
            break;
        }
        wait(10_000);
        rounds += 1;
        assert!(rounds < 100);
    }
    assert_eq!(rounds, 30, "after five minutes");
    rig.service.bundle_sent().await.unwrap();
    // A new code: what was sent is of no use any more.
    let other = RecoveryCode::from_bytes([1; 20]);
    rig.put(RecoveryKeys::ROW, RecoveryKeys { recipient: other.age_recipient(&hub_id()), ..keys() }).await;
    assert!(due());
}

#[tokio::test]
async fn what_was_sent_is_known_after_a_restart_too() {
    let rig = Rig::new().await;
    assert!(rig.service.bundle_due().is_some());
    rig.service.bundle_sent().await.unwrap();
    rig.store.close().await;
    let (_, _, again) = open(rig.dir.path(), 7).await;
    assert!(again.bundle_due().is_none());
    *lock(&again.recovery.due) = Due::default();
    assert!(again.bundle_due().is_none());
}

#[tokio::test]
async fn a_home_that_is_too_large_leaves_out_what_can_be_had_again() {
    let rig = Rig::new().await;
    rig.devices(400, 10).await;
    let write = |extent, most| rig.store.read(|v| content::write(v, &hub_id(), NOW, extent, most)).unwrap();
    let all = write(content::Extent::All, BUNDLE_MAX).unwrap();
    assert!(write(content::Extent::All, all.len() - 1).is_none());
    let some = write(content::Extent::WithoutWaiting, all.len() / 4).unwrap();
    let new = restored(&forged(&some, &identity())).await;
    assert!(new.row::<Registered>(id(9).as_str().as_bytes()).is_some());
    assert!(new.row::<Registered>(id(10).as_str().as_bytes()).is_none());
    assert!(new.row::<ImportedBatch>(b"0123456789abcdef").is_none(), "so that it can be taken in again");
}

#[tokio::test]
async fn a_bundle_of_a_thousand_devices_is_far_from_the_bound() {
    let mut sizes = Vec::new();
    for count in [100, 1_000] {
        let rig = Rig::new().await;
        rig.devices(count, count).await;
        sizes.push(rig.bundle().len());
    }
    // See docs/recovery.md for what was measured.
    assert!(sizes[1] < BUNDLE_MAX / 8, "{sizes:?}");
}

#[tokio::test]
async fn others_than_owners_wait_until_it_is_known_what_was_revoked_or_an_owner_has_looked() {
    let old = Rig::new().await;
    old.devices(1, 1).await;
    for (n, role) in [(1, Role::Owner), (2, Role::Member)] {
        let row = User {
            id: user(n),
            username: Username::parse(&format!("person-{n}")).unwrap(),
            display_name: String::new(),
            role,
            password_hash: String::new(),
            created_at: NOW,
            created_by: "setup".into(),
            ended: false,
            networks: Vec::new(),
            brand: None,
        };
        old.put(user(n).as_str().as_bytes(), row).await;
    }
    let new = restored(&old.bundle()).await;
    let actor = |n: u128, role| Actor::person(user(n), role, "test".into(), std::net::IpAddr::from([127, 0, 0, 1]));
    let (owner, member) = (actor(1, Role::Owner), actor(2, Role::Member));
    let may = |who: &Actor| {
        use crate::domain::policy::Action;
        new.store.read(|v| new.service.require(v, who, &id(0), Action::Operate)).map(|_| ()).map_err(|e| e.to_string())
    };
    let seen = |who: &Actor| new.service.recovery(who).unwrap().restored.unwrap();
    assert!(seen(&owner).review_pending && *new.service.review().borrow());
    assert_eq!(may(&owner), Ok(()));
    assert_eq!(may(&member), Err("there is no such device".into()));
    assert!(matches!(
        new.store.read(|v| require_role(v, &member, HubAction::ClaimDevice, NOW)),
        Err(Refusal::NotAllowed(crate::domain::policy::Reason::ReviewPending))
    ));
    assert!(new.service.finish_review(&member).await.is_err());
    new.service.finish_review(&owner).await.unwrap();
    assert_eq!(may(&member), Ok(()));
    assert!(!seen(&owner).review_pending && !*new.service.review().borrow());
    assert!(matches!(new.service.finish_review(&owner).await, Err(Refusal::Conflict(_))));
    // The same when everything has come down.
    let new = restored(&old.bundle()).await;
    new.service.marks_known().await.unwrap();
    assert!(!seen_review(&new));
    new.store.close().await;
    let (store, ..) = open(new.dir.path(), 8).await;
    assert!(!store.read::<_, StoreError>(|v| review_pending(v)).unwrap());
}

fn seen_review(rig: &Rig) -> bool {
    *rig.service.review().borrow()
}

#[tokio::test]
async fn only_a_statement_of_the_households_key_above_its_own_epoch_makes_a_hub_step_down() {
    let rig = Rig::new().await;
    let statement = |hub: HubId, epoch: u64, key: &SigningKey| EpochStatement { hub, epoch, mirror: [1; 32], at_s: NOW / 1000 }.sign(key);
    let key = code().epoch_key(&hub_id());
    for (what, shown) in [
        ("nothing", Vec::new()),
        ("another key", statement(hub_id(), 9, &identity())),
        ("another hub", statement(HubId::from_bytes([1; 16]), 9, &key)),
        ("its own epoch", statement(hub_id(), 3, &key)),
        ("an older epoch", statement(hub_id(), 2, &key)),
    ] {
        assert!(!rig.service.step_down(&shown).await.unwrap(), "{what}");
        assert!(!rig.service.is_retired(), "{what}");
    }
    let good = statement(hub_id(), 4, &key);
    assert!(rig.service.step_down(&good).await.unwrap());
    assert!(rig.service.step_down(&good).await.unwrap(), "and again");
    assert!(rig.service.retirement().is_cancelled());
    let token = SessionToken::new("hkt1.x");
    assert!(matches!(rig.service.actor(&token, "test", std::net::IpAddr::from([127, 0, 0, 1])), Err(Refusal::Retired)));
    rig.store.close().await;
    let (_, _, again) = open(rig.dir.path(), 7).await;
    assert!(again.is_retired(), "after a restart too");
}
