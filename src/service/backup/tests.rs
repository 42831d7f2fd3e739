//! Backups and restores of a store, without a network or a target.

use super::*;
use crate::domain::audit::Outcome;
use crate::domain::binding::{Binding, Privilege, Subject, Terms};
use crate::domain::device::{Household, Standing};
use crate::domain::ids::{DeviceId, HubId};
use crate::domain::mirror::recovery::RecoveryCode;
use crate::domain::time::Grade;
use crate::service::{Clock, HubIdentity, audit, keyed_hash, pepper_in, verify_audit};
use crate::store::tables::{
    BackupSettings, BindingIndex, Credential, HubSecrets, RecoveryKeys, RetainedMessage, SetupCode, binding_index_key, binding_key,
};
use crate::store::{MasterKey, Read, Store, Tx};
use ed25519_dalek::SigningKey;
use std::io::{Cursor, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const NOW: u64 = 1_800_000_000_000;
const PHRASE: &str = "seven geese cross the frozen lake";

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

fn hub_id() -> HubId {
    HubId::from_public_key(SigningKey::from_bytes(&[9; 32]).verifying_key().as_bytes())
}

fn code() -> RecoveryCode {
    RecoveryCode::from_bytes(*b"twenty random bytes.")
}

struct Rig {
    _dir: tempfile::TempDir,
    store: Store,
    service: Arc<Service>,
}

async fn fresh(master: u8) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new([master; 32])).unwrap();
    let hub = HubIdentity {
        id: hub_id(),
        name: "test".into(),
        ca_der: vec![0x30, 0],
        ca_fingerprint: "AB:CD".into(),
        request_line: String::new(),
        age_identity: String::new().into(),
    };
    let clock = Arc::new(TestClock(AtomicU64::new(NOW)));
    let service = Service::new(store.clone(), clock, hub).await.unwrap();
    Rig { _dir: dir, store, service }
}

/// A hub with keys, a code, a passphrase, some devices with rights, and an audit.
async fn lived_in() -> Rig {
    let rig = fresh(7).await;
    let passphrase = ways::keep_passphrase(PHRASE, [5; 16]).unwrap();
    rig.store
        .write::<_, StoreError, _>(move |tx| {
            let secrets = HubSecrets {
                identity_seed: [9; 32],
                age_identity: "AGE-SECRET-KEY-1".into(),
                mirror_seed: [4; 32],
                epoch: 3,
                ca_key_pem: "a key".into(),
                ca_pem: "a certificate".into(),
                server_key_pem: "another key".into(),
                pepper: None,
            };
            tx.put(HubSecrets::ROW, &secrets)?;
            let keys = RecoveryKeys {
                made_at: NOW,
                made_by: "user:1".into(),
                public: code().epoch_key(&hub_id()).verifying_key().to_bytes(),
                recipient: code().age_recipient(&hub_id()),
            };
            tx.put(RecoveryKeys::ROW, &keys)?;
            tx.put(BackupSettings::ROW, &BackupSettings { passphrase: Some(passphrase.clone()), ..Default::default() })?;
            tx.put(b"setup", &SetupCode { code: "NEVER".into() })?;
            (0..300u16).try_for_each(|n| device(tx, n))
        })
        .await
        .unwrap();
    rig
}

fn device(tx: &Tx<'_>, n: u16) -> Result<(), StoreError> {
    let id = DeviceId::parse(&format!("lamp-{n:04}")).unwrap();
    let subject =
        Subject::User(crate::domain::account::UserId::from_uuid(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)));
    tx.put(id.as_str().as_bytes(), &Household { name: format!("Lamp {n}"), standing: Standing::Ready, ..Default::default() })?;
    tx.put(id.as_str().as_bytes(), &Credential { keyed_hash: [n as u8; 32], undelivered: Some([n as u8; 32]), made_at: NOW })?;
    let binding = Binding {
        device: id.clone(),
        subject: subject.clone(),
        terms: Terms::of(Privilege::Operate),
        granted_by: "claim".into(),
        granted_at: NOW,
        generation: 1,
        version: 1,
        origin: hub_id().to_string(),
    };
    tx.put(&binding_key(&id, &subject), &binding)?;
    tx.put(&binding_index_key(&subject, &id), &BindingIndex { device: id })?;
    audit::append(tx, NOW, audit::event("user:1", "device.claim", "lamp", Outcome::Done, "", "", "test")).map(|_| ())
}

type Made = (MadeBackup, Vec<u8>, Vec<u8>);

fn backup(rig: &Rig, previous: Option<&[u8]>) -> Made {
    let previous = previous.map(|bytes| BackupIndex::open(Cursor::new(bytes.to_vec())).unwrap());
    rig.service.write_backup(previous, Vec::new(), Vec::new(), &mut |_| true).unwrap()
}

fn by_code() -> Secrets {
    Secrets { code: Some(code()), passphrase: None }
}

fn by_phrase(text: &str) -> Secrets {
    Secrets { code: None, passphrase: Some(text.to_owned().into()) }
}

fn life(code: Option<RecoveryCode>) -> RestoreLife {
    RestoreLife { code, seed: [6; 32], now: NOW + 5, known_epoch: 0 }
}

fn chain(files: &[&[u8]], secrets: &Secrets) -> Result<Chain<Cursor<Vec<u8>>>, BackupError> {
    Chain::open(files.iter().map(|f| Cursor::new(f.to_vec())).collect(), secrets)
}

async fn write(rig: &Rig, how: impl FnMut(&Tx<'_>) -> Result<(), StoreError> + Send + 'static) {
    rig.store.write::<_, StoreError, _>(how).await.unwrap();
}

#[tokio::test]
async fn a_full_backup_becomes_the_same_store_under_another_master_key() {
    let old = lived_in().await;
    let (made, file, _) = backup(&old, None);
    assert_eq!((made.length, made.gone, made.header.follows), (file.len() as u64, 0, None));
    let new = fresh_store(8);
    let report = fill_from_backup(&new.1, chain(&[&file], &by_code()).unwrap(), life(Some(code()))).await.unwrap();
    assert_eq!((report.epoch, report.signed, report.review, report.backups), (4, true, true, 1));
    let same = |store: &Store| store.read::<_, StoreError>(|v| v.get::<Credential>(b"lamp-0042")).unwrap().unwrap().undelivered;
    assert_eq!(same(&new.1), same(&old.store));
    let secrets = new.1.read::<_, StoreError>(|v| v.get::<HubSecrets>(HubSecrets::ROW)).unwrap().unwrap();
    assert_eq!((secrets.epoch, secrets.identity_seed, secrets.mirror_seed), (4, [9; 32], [6; 32]));
    let pepper = |store: &Store| store.read(|v| pepper_in(v)).unwrap();
    assert_eq!(keyed_hash(&pepper(&new.1), b"x", b"y"), keyed_hash(&pepper(&old.store), b"x", b"y"));
    assert!(new.1.read::<_, StoreError>(|v| v.get::<SetupCode>(b"setup")).unwrap().is_none());
    // The entries came along, and the chain goes on with the restore itself.
    assert_eq!(verify_audit(&new.1).unwrap().entries, verify_audit(&old.store).unwrap().entries + 1);
    assert!(report.summary.samples.len() >= 150, "{}", report.summary.samples.len());
}

fn fresh_store(master: u8) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new([master; 32])).unwrap();
    (dir, store)
}

#[tokio::test]
async fn increments_have_what_has_changed_and_gone_and_end_where_a_full_one_does() {
    let rig = lived_in().await;
    let (_, full, index) = backup(&rig, None);
    let (nothing, first, index) = backup(&rig, Some(&index));
    assert_eq!((nothing.rows, nothing.gone), (0, 0), "sealed rows that are sealed anew have not changed");
    write(&rig, |tx| {
        tx.delete::<Household>(b"lamp-0000")?;
        tx.delete::<Household>(b"lamp-0299")?;
        tx.put(b"lamp-0100", &Credential { keyed_hash: [1; 32], undelivered: None, made_at: 1 })?;
        tx.put(b"lamp-", &Household::default())?;
        tx.put(b"zzz", &Household::default())?;
        tx.put(b"t/1", &RetainedMessage { payload: vec![7; 300_000], qos: 1, by: "d".into(), expires_at: None })
    })
    .await;
    let (second, last, _) = backup(&rig, Some(&index));
    assert_eq!((second.rows, second.gone, second.header.place()), (4, 2, 2));
    assert!(last.len() < full.len() / 2);
    let (_dir, new) = fresh_store(8);
    let report = fill_from_backup(&new, chain(&[&last, &full, &first], &by_phrase(PHRASE)).unwrap(), life(None)).await.unwrap();
    assert_eq!((report.backups, report.signed, report.epoch), (3, false, 4));
    assert!(new.read::<_, StoreError>(|v| v.get::<Household>(b"lamp-0000")).unwrap().is_none());
    assert!(new.read::<_, StoreError>(|v| v.get::<RetainedMessage>(b"t/1")).unwrap().is_some());
    // What is missing is named.
    let refused = |files: &[&[u8]]| chain(files, &by_code()).err().unwrap();
    assert!(matches!(refused(&[&full, &last]), BackupError::Gap(_)));
    assert!(matches!(refused(&[&first, &last]), BackupError::NoBase(_)));
    assert!(matches!(refused(&[]), BackupError::NotABackup));
    let (_, other, _) = backup(&rig, None);
    assert!(matches!(refused(&[&other, &first]), BackupError::OtherChain));
    assert!(matches!(refused(&[&full, &other]), BackupError::OtherChain));
}

#[tokio::test]
async fn wrong_secrets_and_altered_files_are_refused_with_the_reason() {
    let rig = lived_in().await;
    let (_, file, index) = backup(&rig, None);
    let refused = |file: &[u8], secrets: &Secrets| chain(&[file], secrets).err().unwrap();
    let other = Secrets { code: Some(RecoveryCode::from_bytes([1; 20])), passphrase: None };
    assert!(matches!(refused(&file, &other), BackupError::WrongCode));
    assert!(matches!(refused(&file, &by_phrase("seven geese cross the frozen sea")), BackupError::WrongPassphrase));
    assert!(matches!(refused(&file, &Secrets::default()), BackupError::NoSecret));
    for at in (0..file.len()).step_by(file.len() / 60).chain(file.len() - 115..file.len()) {
        assert!(matches!(refused(&file[..at], &by_code()), BackupError::Short | BackupError::NotABackup), "{at}");
        let mut changed = file.clone();
        changed[at] ^= 1;
        refused(&changed, &by_code());
    }
    let mut newer = file.clone();
    newer[4] = b'2';
    assert!(matches!(refused(&newer, &by_code()), BackupError::Newer(_)));
    assert!(matches!(refused(b"a photograph", &by_code()), BackupError::NotABackup));
    // An index that was damaged is not believed.
    for at in [0, 10, index.len() / 2, index.len() - 1] {
        let mut changed = index.clone();
        changed[at] ^= 1;
        assert!(BackupIndex::open(Cursor::new(changed)).is_err(), "{at}");
    }
}

#[tokio::test]
async fn without_a_way_in_no_backup_is_made_and_an_interrupted_one_says_so() {
    let rig = lived_in().await;
    let stopped = rig.service.write_backup(None, Vec::new(), Vec::new(), &mut |rows| rows < 300);
    assert!(matches!(stopped, Err(BackupError::Interrupted)));
    write(&rig, |tx| tx.delete::<RecoveryKeys>(RecoveryKeys::ROW).map(|_| ())).await;
    let (_, file, _) = backup(&rig, None);
    assert!(matches!(chain(&[&file], &by_code()).err().unwrap(), BackupError::NotByCode));
    assert!(chain(&[&file], &by_phrase(&format!(" {PHRASE} "))).is_ok(), "spaces around it do not matter");
    write(&rig, |tx| tx.delete::<BackupSettings>(BackupSettings::ROW).map(|_| ())).await;
    assert!(matches!(rig.service.write_backup(None, Vec::new(), Vec::new(), &mut |_| true), Err(BackupError::NoWay)));
}

#[tokio::test]
async fn a_backup_is_one_moment_while_writers_write() {
    let rig = lived_in().await;
    let store = rig.store.clone();
    // Each commit writes one number to two tables: a backup in which they differ is of no moment.
    let both = |n: u64| {
        move |tx: &Tx<'_>| {
            tx.put(b"n", &Credential { keyed_hash: [0; 32], undelivered: None, made_at: n })?;
            tx.put(b"n", &crate::domain::device::LastSeen { at: n })
        }
    };
    store.write::<_, StoreError, _>(both(1)).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let writer = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut n = 1;
            while !stop.is_cancelled() {
                n += 1;
                store.write::<_, StoreError, _>(both(n)).await.unwrap();
            }
            n
        }
    });
    for _ in 0..3 {
        let service = rig.service.clone();
        let made = tokio::task::spawn_blocking(move || service.write_backup(None, Vec::new(), Vec::new(), &mut |_| true).unwrap());
        let (_, file, _) = made.await.unwrap();
        let (_dir, new) = fresh_store(8);
        fill_from_backup(&new, chain(&[&file], &by_code()).unwrap(), life(Some(code()))).await.unwrap();
        let one = new.read::<_, StoreError>(|v| v.get::<Credential>(b"n")).unwrap().unwrap().made_at;
        let two = new.read::<_, StoreError>(|v| v.get::<crate::domain::device::LastSeen>(b"n")).unwrap().unwrap().at;
        assert_eq!(one, two);
    }
    stop.cancel();
    assert!(writer.await.unwrap() > 3);
}

#[tokio::test]
async fn memory_for_a_file_does_not_grow_with_it() {
    // What is written goes out as it comes: the sink sees many small writes, the largest a chunk.
    struct Sink(usize);
    impl std::io::Write for Sink {
        fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.max(part.len());
            Ok(part.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let rig = lived_in().await;
    write(&rig, |tx| {
        (0..40u8).try_for_each(|n| {
            let mut payload = vec![0; 250_000];
            getrandom::fill(&mut payload).unwrap();
            tx.put(&[n], &RetainedMessage { payload, qos: 1, by: "d".into(), expires_at: None })
        })
    })
    .await;
    let (made, sink, _) = rig.service.write_backup(None, Sink(0), std::io::sink(), &mut |_| true).unwrap();
    assert!(made.length > 10_000_000);
    assert!(sink.0 <= 64 * 1024 + 16, "{}", sink.0);
    let mut some = Vec::new();
    assert_eq!(std::io::empty().read_to_end(&mut some).unwrap(), 0);
}
