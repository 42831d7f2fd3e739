//! The power goes at every sync of putting a backup back, of recovering from a bundle, and of the first opening after it: what is found is the
//! hub of before, or the one that was restored, or a recovery mode that says what to do; never half a hub, never a new one, and nobody is
//! let in whose right was taken.

use super::opening::{STORE_FILE, UNFINISHED, open};
use super::restore::{fill_and_begin, name, open_chain, restore};
use super::{BundleSource, Config, Hub, RecoverOrder, RestoreOrder, SystemBox, is_damage, recover};
use crate::domain::account::UserId;
use crate::domain::binding::{Binding, Privilege, RevocationMark, Subject, Terms};
use crate::domain::device::{Household, Standing};
use crate::domain::ids::{DeviceId, HubId};
use crate::domain::mirror::recovery::RecoveryCode;
use crate::service::{Actor, BackupIndex, NewLife, RestoreLife, Secrets, catch_up, open_bundle};
use crate::store::fragile::{Fragile, Neighbours, Power, store_over, sweeps, tell};
use crate::store::journal::JOURNAL_FILE;
use crate::store::tables::{BindingIndex, HubSecrets, RecoveryKeys, Restored, binding_index_key, binding_key};
use crate::store::{MasterKey, Read, Store, StoreError, Tx, View, WAL_FILE};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const NOW_S: u64 = 1_800_000_000;
const MASTER: [u8; 32] = [5; 32];
const LAMPS: u16 = 40;

fn lamp(n: u16) -> DeviceId {
    DeviceId::parse(&format!("lamp-{n:04}")).unwrap()
}

/// Three people: mia has a right in the backup and afterwards, pete's was taken after it, ruth's was given after it.
fn person(n: u128) -> Subject {
    Subject::User(UserId::from_uuid(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n)))
}
const MIA: u128 = 1;
const PETE: u128 = 2;
const RUTH: u128 = 3;

fn give(tx: &Tx<'_>, n: u16, to: u128) -> Result<(), StoreError> {
    let (device, subject) = (lamp(n), person(to));
    let binding = Binding {
        device: device.clone(),
        subject: subject.clone(),
        terms: Terms::of(Privilege::Operate),
        granted_by: "claim".into(),
        granted_at: NOW_S,
        generation: 1,
        version: 1,
        origin: "hub".into(),
    };
    tx.put(&binding_key(&device, &subject), &binding)?;
    tx.put(&binding_index_key(&subject, &device), &BindingIndex { device })
}

fn take(tx: &Tx<'_>, n: u16, from: u128) -> Result<(), StoreError> {
    let at = binding_key(&lamp(n), &person(from));
    tx.delete::<Binding>(&at)?;
    tx.delete::<BindingIndex>(&binding_index_key(&person(from), &lamp(n)))?;
    tx.put(&at, &RevocationMark { generation: 1, at: NOW_S, by: "hub".into() })
}

fn has(view: &View<'_>, n: u16, who: u128) -> bool {
    view.get::<Binding>(&binding_key(&lamp(n), &person(who))).unwrap().is_some()
}

fn code() -> RecoveryCode {
    RecoveryCode::from_bytes(*b"twenty random bytes.")
}

/// A hub that opens no door, in this directory.
fn config(dir: &Path) -> Config {
    let mut config = Config { data_dir: dir.to_owned(), ..Config::default() };
    for door in [&mut config.https, &mut config.http, &mut config.mqtts, &mut config.mqtt] {
        door.enabled = false;
    }
    (config.mdns.enabled, config.bluetooth.enabled, config.cloud.enabled, config.backup.enabled) = (false, false, false, false);
    config
}

/// A home: its directory as files, and what was kept of it elsewhere before its last changes.
struct Home {
    hub: HubId,
    database: Vec<u8>,
    journal: Vec<u8>,
    _kept: TempDir,
    backups: Vec<PathBuf>,
    bundle: Vec<u8>,
}

impl Home {
    async fn new() -> Home {
        let (kept, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = dir.path().join("hub");
        let config = config(&data);
        fs::create_dir(&data).unwrap();
        put_master(&data);
        let hub = Hub::start(config.clone()).await.unwrap();
        let id = hub.identity().id;
        hub.shut_down().await;
        let recovery = RecoveryKeys {
            made_at: NOW_S,
            made_by: "user:1".into(),
            public: code().epoch_key(&id).verifying_key().to_bytes(),
            recipient: code().age_recipient(&id),
        };
        let half = move |tx: &Tx<'_>, lamps: std::ops::Range<u16>| {
            lamps.into_iter().try_for_each(|n| {
                let household = Household { name: format!("Lamp {n}"), standing: Standing::Ready, ..Household::default() };
                tx.put(lamp(n).as_str().as_bytes(), &household)?;
                give(tx, n, MIA)?;
                give(tx, n, PETE)
            })
        };
        change(&data, move |tx| {
            tx.put(RecoveryKeys::ROW, &recovery)?;
            half(tx, 0..LAMPS / 2)
        })
        .await;
        let (mut backups, mut index) = (Vec::new(), None);
        for place in ["full.hkbk", "increment.hkbk"] {
            let hub = Hub::start(config.clone()).await.unwrap();
            let previous = index.take().map(|bytes| BackupIndex::open(std::io::Cursor::new(bytes)).unwrap());
            let service = hub.service().clone();
            let written = tokio::task::spawn_blocking(move || service.write_backup(previous, Vec::new(), Vec::new(), &mut |_| true));
            let (_, file, remembered) = written.await.unwrap().unwrap();
            hub.shut_down().await;
            index = Some(remembered);
            backups.push(kept.path().join(place));
            fs::write(kept.path().join(place), file).unwrap();
            if place == "full.hkbk" {
                change(&data, move |tx| half(tx, LAMPS / 2..LAMPS)).await;
            }
        }
        let hub = Hub::start(config.clone()).await.unwrap();
        let bundle = hub.service().take_bundle(&Actor::console()).await.unwrap();
        hub.shut_down().await;
        change(&data, |tx| {
            (0..LAMPS).try_for_each(|n| {
                take(tx, n, PETE)?;
                give(tx, n, RUTH)
            })
        })
        .await;
        let [database, journal] = [STORE_FILE, JOURNAL_FILE].map(|name| fs::read(data.join(name)).unwrap());
        Home { hub: id, database, journal, _kept: kept, backups, bundle }
    }

    /// The directory as it was left: of a box that has all of it, of one whose database is gone, or of a new one.
    fn left(&self, on: Place) -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("hub");
        fs::create_dir(&data).unwrap();
        put_master(&data);
        if on == Place::Old {
            fs::write(data.join(STORE_FILE), &self.database).unwrap();
        }
        if on != Place::New {
            fs::write(data.join(JOURNAL_FILE), &self.journal).unwrap();
        }
        (dir, data)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Everything is there.
    Old,
    /// The database is gone; journal and key are there.
    Lost,
    /// Nothing is there.
    New,
}

/// What a start finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Before,
    Restored,
    /// Recovery mode.
    Refused,
}

fn put_master(data: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(data.join("master.key"), MASTER).unwrap();
    for (path, mode) in [(data.join("master.key"), 0o600), (data.to_owned(), 0o700)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Changes a home that is stopped.
async fn change(data: &Path, mut how: impl FnMut(&Tx<'_>) -> Result<(), StoreError> + Send + 'static) {
    let store = Store::open(&data.join(STORE_FILE), MasterKey::new(MASTER)).unwrap();
    store.write::<_, StoreError, _>(move |tx| how(tx)).await.unwrap();
    store.close().await;
}

fn clock(config: &Config) -> Arc<SystemBox> {
    Arc::new(SystemBox::new(&config.clock))
}

/// Opens what is there, as a start does; it has to be this hub, whole.
async fn found(data: &Path, home: &Home, on: Place, at: &str) -> Found {
    let config = config(data);
    let opened = match open(&config, clock(&config)).await {
        Ok(opened) => opened,
        Err(why) => {
            assert!(is_damage(&why), "{at}: {why}");
            assert!(!data.join(STORE_FILE).exists(), "{at}: {why}");
            return Found::Refused;
        }
    };
    let look = |view: &View<'_>| {
        let secrets = view.get::<HubSecrets>(HubSecrets::ROW)?.unwrap_or_else(|| panic!("{at}: a new hub began"));
        let key = ed25519_dalek::SigningKey::from_bytes(&secrets.identity_seed).verifying_key();
        assert_eq!(HubId::from_public_key(key.as_bytes()), home.hub, "{at}");
        let restored = view.get::<Restored>(Restored::ROW)?.is_some();
        for n in 0..LAMPS {
            assert!(view.get::<Household>(lamp(n).as_str().as_bytes())?.is_some(), "{at}: lamp {n} is lost");
            assert!(has(view, n, MIA), "{at}: a right is lost");
            // What was given after the backup is given again.
            assert_eq!(has(view, n, RUTH), !restored, "{at}: {restored}");
            // On a new box nobody but owners is let in before somebody has looked.
            assert_eq!(has(view, n, PETE), on == Place::New, "{at}: what was revoked is back");
        }
        Ok::<_, StoreError>(if restored { Found::Restored } else { Found::Before })
    };
    let found = opened.store.read(look).unwrap();
    opened.store.close().await;
    found
}

/// Whether what is left after a cut is opened, and done again: each time at first, later a part of them, as that goes to a real disk.
fn is_looked_at(sweep: usize, whole: u64) -> bool {
    sweep == 0 || whole % 5 == sweep as u64 % 5
}

/// What has to be found when the power went before the last step.
fn before(on: Place) -> Found {
    if on == Place::Old { Found::Before } else { Found::Refused }
}

#[tokio::test]
async fn wherever_the_power_goes_during_a_restore_there_is_the_hub_of_before_or_the_restored_one() {
    let home = Home::new().await;
    let mut cuts = 0;
    for (sweep, seed) in sweeps().enumerate() {
        for on in [Place::Old, Place::Lost, Place::New] {
            for whole in 0.. {
                let at = format!("{on:?}, cut in sync {whole}, seed {seed}");
                let (_dir, data) = home.left(on);
                let power = Power::until(whole, seed);
                let disk = Fragile::new(Vec::new(), &power);
                let store = store_over(&disk, None, MASTER);
                let secrets = Secrets { code: Some(code()), passphrase: None };
                let chain = open_chain(home.backups.clone(), &secrets).await.unwrap();
                let life = RestoreLife { code: secrets.code.clone(), seed: [6; 32], now: NOW_S * 1000, known_epoch: 0 };
                fill_and_begin(&store, &data.join(JOURNAL_FILE), chain, life, None, NOW_S).await.unwrap();
                store.close().await;
                let over = power.is_on();
                if !over && !is_looked_at(sweep, whole) {
                    continue;
                }
                fs::write(data.join(UNFINISHED), disk.kept()).unwrap();
                if over {
                    name(&data, on == Place::Old, NOW_S).unwrap();
                }
                let expected = if over { Found::Restored } else { before(on) };
                assert_eq!(found(&data, &home, on, &at).await, expected, "{at}");
                if over {
                    break;
                }
                // It is repeated.
                let config = config(&data);
                let order = RestoreOrder { files: home.backups.clone(), secrets, set_aside: on == Place::Old, courier: None };
                restore(&config, clock(&config), order).await.unwrap();
                assert_eq!(found(&data, &home, on, &at).await, Found::Restored, "{at}");
                cuts += 1;
            }
        }
    }
    tell(&format!("cut in {cuts} syncs of a restore: each time the hub of before, or recovery mode, and repeated with success"));
    assert!(cuts >= 15, "{cuts} cuts");
}

#[tokio::test]
async fn wherever_the_power_goes_during_a_recovery_no_new_hub_begins_and_it_is_repeated() {
    let home = Home::new().await;
    let mut cuts = 0;
    for (sweep, seed) in sweeps().enumerate() {
        for on in [Place::Lost, Place::New] {
            for whole in 0.. {
                let at = format!("{on:?}, cut in sync {whole}, seed {seed}");
                let (_dir, data) = home.left(on);
                let power = Power::until(whole, seed);
                let disk = Fragile::new(Vec::new(), &power);
                let store = store_over(&disk, None, MASTER);
                let bundle = open_bundle(&code(), &home.hub, &home.bundle).unwrap();
                let life = NewLife::new(&code(), &home.hub, [6; 32], bundle.about.epoch, NOW_S * 1000);
                recover::fill_and_begin(&store, &data.join(JOURNAL_FILE), bundle, life, None, NOW_S).await.unwrap();
                store.close().await;
                let over = power.is_on();
                if !over && !is_looked_at(sweep, whole) {
                    continue;
                }
                fs::write(data.join(UNFINISHED), disk.kept()).unwrap();
                if over {
                    fs::rename(data.join(UNFINISHED), data.join(STORE_FILE)).unwrap();
                }
                let expected = if over { Found::Restored } else { Found::Refused };
                assert_eq!(found(&data, &home, on, &at).await, expected, "{at}");
                if over {
                    break;
                }
                // It is repeated.
                let config = config(&data);
                let order = RecoverOrder { hub: home.hub, code: code(), from: BundleSource::File(home.bundle.clone()) };
                recover::recover(&config, clock(&config), order).await.unwrap();
                assert_eq!(found(&data, &home, on, &at).await, Found::Restored, "{at}");
                cuts += 1;
            }
        }
    }
    tell(&format!("cut in {cuts} syncs of a recovery: each time recovery mode, and repeated with success"));
    assert!(cuts >= 8, "{cuts} cuts");
}

#[tokio::test]
async fn wherever_the_power_goes_when_a_restored_hub_is_opened_first_nothing_revoked_is_back() {
    let home = Home::new().await;
    let (_dir, data) = home.left(Place::Old);
    let settings = config(&data);
    let secrets = Secrets { code: Some(code()), passphrase: None };
    let order = RestoreOrder { files: home.backups.clone(), secrets, set_aside: true, courier: None };
    restore(&settings, clock(&settings), order).await.unwrap();
    let [database, journal, log] = [STORE_FILE, JOURNAL_FILE, WAL_FILE].map(|name| fs::read(data.join(name)).unwrap_or_default());
    let mut cuts = 0;
    for seed in sweeps() {
        for whole in 0.. {
            let at = format!("cut in sync {whole}, seed {seed}");
            let power = Power::until(whole, seed);
            let (disk, beside) = (Fragile::new(database.clone(), &power), Neighbours::new(journal.clone(), log.clone(), &power));
            let store = store_over(&disk, Some(&beside), MASTER);
            catch_up(&store, NOW_S * 1000).await.unwrap();
            store.write::<_, StoreError, _>(|tx| give(tx, 0, RUTH + 1)).await.unwrap();
            let given = power.is_on();
            store.write::<_, StoreError, _>(|tx| take(tx, 1, RUTH + 1)).await.unwrap();
            let taken = power.is_on();
            store.close().await;
            fs::write(data.join(STORE_FILE), disk.kept()).unwrap();
            fs::write(data.join(JOURNAL_FILE), beside.journal.kept()).unwrap();
            fs::write(data.join(WAL_FILE), beside.wal.kept()).unwrap();
            assert_eq!(found(&data, &home, Place::Old, &at).await, Found::Restored, "{at}");
            let opened = open(&settings, clock(&settings)).await.unwrap();
            let (there, mark) = opened
                .store
                .read::<_, StoreError>(|view| {
                    Ok((has(view, 0, RUTH + 1), view.get::<RevocationMark>(&binding_key(&lamp(1), &person(RUTH + 1)))?.is_some()))
                })
                .unwrap();
            opened.store.close().await;
            assert!((there || !given) && (mark || !taken), "{at}: what was acknowledged is lost");
            if power.is_on() {
                break;
            }
            cuts += 1;
        }
    }
    tell(&format!("cut in {cuts} syncs of the first opening of a restored hub"));
    assert!(cuts >= 5, "{cuts} cuts");
}
