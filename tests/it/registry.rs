//! What a hub takes from makers: whole batches and vouchers of brands its owner trusts, and of everything else nothing.

use crate::house::{BRAND, Device, House};
use ed25519_dalek::SigningKey;
use hearthkey::domain::account::Role;
use hearthkey::domain::batch::{BatchError, Entry, Manifest, encode_chunk, frame_prefix};
use hearthkey::domain::brand::{Fingerprint, KeyPurpose, PurposeCertificate, StatementError};
use hearthkey::domain::claim::ClaimHash;
use hearthkey::domain::device::Standing;
use hearthkey::domain::ids::{BrandId, DeviceId, HubId, ModelName};
use hearthkey::domain::keys::HubScopedKey;
use hearthkey::domain::model::{Model, sign_model};
use hearthkey::factory::{MintOptions, Minted, RunChoice, Workshop};
use hearthkey::service::{ImportReport, Refusal, RegistryError};
use hearthkey::sim::mqtt::Version;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const LAMP: &str = r#"{"model": "lamp", "title": "Lamp", "version": 1, "kind": "lamp"}"#;

impl House {
    /// Mints devices that the hub does not know, and the batch file that would tell it.
    fn unknown(&self, count: u64) -> (Vec<Minted>, PathBuf) {
        let model = ModelName::parse("lamp").unwrap();
        let run = self.workshop.mint(&self.brand, &model, count, &MintOptions::default(), &()).unwrap();
        let file = self.dir.path().join(format!("{}.hkb", run.run));
        self.workshop.batch(&self.brand, &RunChoice::One(run.run.clone()), &self.hub.identity().request_line, &file, &()).unwrap();
        (run.devices().map(Result::unwrap).collect(), file)
    }

    async fn import(&self, file: &Path) -> Result<ImportReport, Refusal> {
        self.hub.service().import_batch(&self.owner, file.into()).await
    }

    async fn import_bytes(&self, bytes: &[u8]) -> Result<ImportReport, Refusal> {
        let file = self.dir.path().join("damaged.hkb");
        std::fs::write(&file, bytes).unwrap();
        self.import(&file).await
    }

    /// How many of these identities the hub knows; an owner may ask for any.
    fn known<'a>(&self, ids: impl IntoIterator<Item = &'a DeviceId>) -> usize {
        ids.into_iter().filter(|id| self.hub.service().device(&self.owner, id).is_ok()).count()
    }

    /// What is inside a batch file for this hub.
    fn decrypted(&self, file: &Path) -> Vec<u8> {
        let identity: age::x25519::Identity = self.hub.identity().age_identity.parse().unwrap();
        let decryptor = age::Decryptor::new_buffered(std::io::BufReader::new(std::fs::File::open(file).unwrap())).unwrap();
        let mut plain = Vec::new();
        decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).unwrap().read_to_end(&mut plain).unwrap();
        plain
    }

    /// Anyone can encrypt for a hub: this is what they do.
    fn encrypted(&self, plain: &[u8]) -> Vec<u8> {
        let identity: age::x25519::Identity = self.hub.identity().age_identity.parse().unwrap();
        let recipient = identity.to_public();
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
        let mut out = Vec::new();
        let mut stream = encryptor.wrap_output(&mut out).unwrap();
        stream.write_all(plain).unwrap();
        stream.finish().unwrap();
        out
    }
}

fn ids(devices: &[Minted]) -> Vec<DeviceId> {
    devices.iter().map(|d| d.device_id.clone()).collect()
}

fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

fn registry(answer: Result<ImportReport, Refusal>) -> RegistryError {
    match answer {
        Err(Refusal::Registry(error)) => error,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(report) => panic!("it was taken: {report:?}"),
    }
}

/// A maker whose keys are at hand, so that it can say anything.
struct Maker {
    brand: BrandId,
    root: SigningKey,
    batch: SigningKey,
}

impl Maker {
    fn new(brand: &str, seed: u8) -> Maker {
        Maker {
            brand: BrandId::parse(brand).unwrap(),
            root: SigningKey::from_bytes(&[seed; 32]),
            batch: SigningKey::from_bytes(&[seed + 1; 32]),
        }
    }

    fn root_key(&self) -> [u8; 32] {
        self.root.verifying_key().to_bytes()
    }

    fn fingerprint(&self) -> String {
        Fingerprint::of(&self.root_key()).to_string()
    }

    /// The plaintext of a batch of these entries, one chunk each; `count` is what the manifest says.
    fn plain(&self, hub: HubId, chunks: &[Vec<Entry>], count: u64) -> Vec<u8> {
        let chunks: Vec<_> = chunks.iter().map(|entries| encode_chunk(entries).unwrap()).collect();
        let manifest = Manifest {
            brand: self.brand.clone(),
            hub,
            batch_id: [9; 16],
            created: 1_700_000_000,
            models: vec![sign_model(&self.batch, &self.brand, &Model::parse(LAMP).unwrap(), 1)],
            devices: count,
            chunks: chunks.iter().map(|c| Sha256::digest(c).into()).collect(),
        };
        let certificate = PurposeCertificate {
            brand: self.brand.clone(),
            purpose: KeyPurpose::Batch,
            public_key: self.batch.verifying_key().to_bytes(),
            issued: 1,
            serial: 1,
        };
        let header = manifest.header(&self.root_key(), &certificate.sign(&self.root), &self.batch).unwrap();
        let mut out = Vec::new();
        for part in std::iter::once(&header[..]).chain(chunks.iter().map(|c| &c[..])) {
            out.extend(frame_prefix(part));
            out.extend(part);
        }
        out
    }
}

fn entry(id: &str, key: u8) -> Entry {
    Entry {
        device_id: self::id(id),
        model: ModelName::parse("lamp").unwrap(),
        hardware: "A".into(),
        serial: id.into(),
        claim_hash: ClaimHash([key; 32]),
        hub_key: HubScopedKey::from_bytes([key; 32]),
        made: 1_700_000_000,
    }
}

async fn signs_in(house: &House, device: &Device) {
    house.try_device(device, Version::V5, device.next_counter()).await.unwrap();
}

#[tokio::test]
async fn a_batch_taken_twice_changes_nothing_the_second_time() {
    let house = House::new().await;
    let (mut devices, file) = house.unknown(5);
    let ids = ids(&devices);
    let first = house.import(&file).await.unwrap();
    assert_eq!((first.added, first.known, first.brand.as_str()), (5, 0, BRAND));
    assert_eq!(house.known(&ids), 5);
    let device = house.as_device(devices.remove(0));
    house.claim(&device).await;
    signs_in(&house, &device).await;
    let second = house.import(&file).await.unwrap();
    assert_eq!((second.added, second.known, second.batch_id), (0, 5, first.batch_id));
    assert_eq!(house.known(&ids), 5);
    // Neither the claim nor the counter went back.
    assert_eq!(house.hub.service().device(&house.owner, &device.id).unwrap().state, Standing::Claimed);
    assert!(house.try_device(&device, Version::V5, 1).await.is_err(), "a token was taken twice");
    signs_in(&house, &device).await;
}

#[tokio::test]
async fn a_batch_cut_short_or_changed_anywhere_is_refused_whole() {
    let house = House::new().await;
    let (devices, file) = house.unknown(40);
    let ids = ids(&devices);
    let good = std::fs::read(&file).unwrap();
    let cuts = (0..24).map(|n| good.len() * n / 24).chain([1, good.len() - 1, good.len() - 16, good.len() - 17]);
    for cut in cuts {
        let error = registry(house.import_bytes(&good[..cut]).await);
        assert!(matches!(error, RegistryError::NotForUs | RegistryError::Truncated), "cut at {cut}: {error}");
        assert_eq!(house.known(&ids), 0, "cut at {cut}");
    }
    let places = (0..48).map(|n| good.len() * n / 48).chain([good.len() - 1]);
    for place in places {
        let mut bad = good.clone();
        bad[place] ^= 0x01;
        let error = registry(house.import_bytes(&bad).await);
        assert!(matches!(error, RegistryError::NotForUs | RegistryError::Truncated), "changed at {place}: {error}");
        assert_eq!(house.known(&ids), 0, "changed at {place}");
    }
    let longer = [&good[..], b"x"].concat();
    registry(house.import_bytes(&longer).await);
    assert_eq!(house.known(&ids), 0);
    assert_eq!(house.import_bytes(&good).await.unwrap().added, 40);
    assert_eq!(house.known(&ids), 40);
}

#[tokio::test]
async fn who_encrypts_for_the_hub_without_the_brands_key_gets_nothing_in() {
    let house = House::new().await;
    let (devices, file) = house.unknown(3);
    let ids = ids(&devices);
    let plain = house.decrypted(&file);
    let header = 4 + u32::from_be_bytes(plain[..4].try_into().unwrap()) as usize;
    // Sound as it is: what follows is refused for what was done to it.
    let cut = [0, 3, 4, header - 1, header, header + 3, header + 4, plain.len() - 1];
    for cut in cut {
        let error = registry(house.import_bytes(&house.encrypted(&plain[..cut])).await);
        assert!(matches!(error, RegistryError::Truncated), "cut at {cut}: {error}");
        assert_eq!(house.known(&ids), 0);
    }
    for place in (0..plain.len()).step_by(plain.len() / 120) {
        let mut bad = plain.clone();
        bad[place] ^= 0x10;
        let error = registry(house.import_bytes(&house.encrypted(&bad)).await);
        assert!(!matches!(error, RegistryError::NotForUs), "changed at {place}: {error}");
        assert_eq!(house.known(&ids), 0, "changed at {place}");
    }
    let with = |tail: &[u8]| house.encrypted(&[&plain[..], tail].concat());
    assert!(matches!(registry(house.import_bytes(&with(&[0])).await), RegistryError::Trailing));
    assert!(matches!(registry(house.import_bytes(&with(&plain[header..])).await), RegistryError::Trailing), "a chunk more than was signed");
    let mut long = plain.clone();
    long[header..header + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(registry(house.import_bytes(&house.encrypted(&long)).await), RegistryError::Batch(BatchError::Length(u32::MAX))));
    assert_eq!(house.known(&ids), 0);
    assert_eq!(house.import_bytes(&house.encrypted(&plain)).await.unwrap().added, 3);
}

#[tokio::test]
async fn a_batch_for_another_hub_is_refused_however_it_comes_here() {
    let (house, other) = (House::new().await, House::new().await);
    let (_, file) = other.unknown(2);
    assert!(matches!(registry(house.import(&file).await), RegistryError::NotForUs));
    // Opened by the other hub and wrapped for this one; the other's brand is trusted here.
    let maker = Maker::new("mallory", 20);
    house.hub.service().trust_brand(&house.owner, maker.brand.clone(), &maker.fingerprint()).await.unwrap();
    let plain = maker.plain(other.hub.identity().id, &[vec![entry("lamp-x", 1)]], 1);
    let error = registry(house.import_bytes(&house.encrypted(&plain)).await);
    assert!(matches!(error, RegistryError::Batch(BatchError::OtherHub(_))), "{error}");
    assert_eq!(house.known([&id("lamp-x")]), 0);
}

#[tokio::test]
async fn a_brand_that_nobody_confirmed_is_refused_with_its_fingerprint() {
    let house = House::new().await;
    let hub = house.hub.identity().id;
    for brand in ["stranger", BRAND] {
        // The second speaks in the name of a trusted brand, with a root of its own.
        let maker = Maker::new(brand, 30);
        let plain = maker.plain(hub, &[vec![entry("lamp-x", 1)]], 1);
        let error = registry(house.import_bytes(&house.encrypted(&plain)).await);
        let RegistryError::Batch(BatchError::Statement(StatementError::Untrusted { brand, fingerprint })) = error else {
            panic!("{error}")
        };
        assert_eq!((brand, fingerprint.to_string()), (maker.brand.clone(), maker.fingerprint()));
        assert_eq!(house.known([&id("lamp-x")]), 0);
    }
}

#[tokio::test]
async fn a_fingerprint_is_confirmed_once_by_an_owner_and_never_replaced() {
    let house = House::new().await;
    let maker = Maker::new("newcomer", 40);
    let trust = async |actor, print: String| house.hub.service().trust_brand(actor, maker.brand.clone(), &print).await;
    for wrong in ["", "ABCD", "BJNW-OVEV-ILE2-KXWW-VAF2-LR3E-NMJY-GTL1"] {
        assert!(matches!(trust(&house.owner, wrong.into()).await, Err(Refusal::Invalid(_))), "{wrong}");
    }
    let (member, _) = house.person("max", Role::Member).await;
    assert!(matches!(trust(&member, maker.fingerprint()).await, Err(Refusal::RoleTooLow)));
    assert!(matches!(house.hub.service().import_batch(&member, "/dev/null".into()).await, Err(Refusal::RoleTooLow)));
    assert!(matches!(house.hub.service().import_voucher(&member, b"").await, Err(Refusal::RoleTooLow)));
    trust(&house.owner, maker.fingerprint().to_lowercase().replace('-', ":")).await.unwrap();
    trust(&house.owner, maker.fingerprint()).await.unwrap();
    let other = Maker::new("newcomer", 50);
    assert!(matches!(trust(&house.owner, other.fingerprint()).await, Err(Refusal::Conflict(_))));
    let known = house.hub.service().brands(&house.owner).unwrap();
    assert_eq!(known.iter().filter(|b| b.id == maker.brand).map(|b| b.fingerprint.clone()).collect::<Vec<_>>(), [maker.fingerprint()]);
}

#[tokio::test]
async fn no_batch_takes_over_an_identity_that_is_known() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    let hub = house.hub.identity().id;
    let maker = Maker::new("mallory", 60);
    house.hub.service().trust_brand(&house.owner, maker.brand.clone(), &maker.fingerprint()).await.unwrap();
    // A new device comes first, in a chunk of its own: it must not get in either.
    let plain = maker.plain(hub, &[vec![entry("lamp-new", 1)], vec![entry(device.id.as_str(), 2)]], 2);
    let error = registry(house.import_bytes(&house.encrypted(&plain)).await);
    assert!(matches!(&error, RegistryError::Known(id) if *id == device.id), "{error}");
    assert_eq!(house.known([&device.id, &id("lamp-new")]), 1);
    signs_in(&house, &device).await;
    // Nor does a brand replace the key of a device of its own.
    let own = maker.plain(hub, &[vec![entry("lamp-own", 3)]], 1);
    house.import_bytes(&house.encrypted(&own)).await.unwrap();
    let again = maker.plain(hub, &[vec![entry("lamp-own", 4)]], 1);
    assert!(matches!(registry(house.import_bytes(&house.encrypted(&again)).await), RegistryError::Known(_)));
}

#[tokio::test]
async fn a_batch_that_says_two_things_of_one_device_is_refused() {
    let house = House::new().await;
    let maker = Maker::new("mallory", 80);
    house.hub.service().trust_brand(&house.owner, maker.brand.clone(), &maker.fingerprint()).await.unwrap();
    let hub = house.hub.identity().id;
    for chunks in [vec![vec![entry("lamp-twin", 5), entry("lamp-twin", 6)]], vec![vec![entry("lamp-twin", 5)], vec![entry("lamp-twin", 6)]]]
    {
        let plain = maker.plain(hub, &chunks, 2);
        registry(house.import_bytes(&house.encrypted(&plain)).await);
    }
}

#[tokio::test]
async fn a_manifest_that_counts_wrongly_is_refused() {
    let house = House::new().await;
    let maker = Maker::new("mallory", 70);
    house.hub.service().trust_brand(&house.owner, maker.brand.clone(), &maker.fingerprint()).await.unwrap();
    let hub = house.hub.identity().id;
    for count in [0, 1, 3] {
        let plain = maker.plain(hub, &[vec![entry("lamp-a", 1)], vec![entry("lamp-b", 2)]], count);
        let error = registry(house.import_bytes(&house.encrypted(&plain)).await);
        assert!(matches!(error, RegistryError::Batch(BatchError::Count { .. })), "{count}: {error}");
        assert_eq!(house.known([&id("lamp-a"), &id("lamp-b")]), 0);
    }
}

#[tokio::test]
async fn a_voucher_introduces_a_device_and_a_batch_brings_its_key_later() {
    let house = House::new().await;
    let (mut devices, file) = house.unknown(1);
    let ids = ids(&devices);
    let voucher = std::fs::read(&devices[0].voucher).unwrap();
    let device = house.as_device(devices.remove(0));
    let row = house.hub.service().import_voucher(&house.owner, &voucher).await.unwrap();
    assert_eq!((&row.id, row.brand.as_str()), (&device.id, BRAND));
    assert_eq!(house.known(&ids), 1);
    assert!(house.try_device(&device, Version::V5, device.next_counter()).await.is_err(), "there is no key to prove it by");
    house.hub.service().import_voucher(&house.owner, &voucher).await.unwrap();
    let report = house.import(&file).await.unwrap();
    assert_eq!((report.added, house.known(&ids)), (1, 1));
    signs_in(&house, &device).await;
    house.claim(&device).await;
}

#[tokio::test]
async fn a_voucher_that_was_changed_or_is_of_a_stranger_is_refused() {
    let house = House::new().await;
    let (devices, _) = house.unknown(1);
    let voucher = std::fs::read(&devices[0].voucher).unwrap();
    let import = async |bytes: &[u8]| house.hub.service().import_voucher(&house.owner, bytes).await;
    for cut in (0..voucher.len()).step_by(voucher.len() / 40) {
        assert!(matches!(import(&voucher[..cut]).await, Err(Refusal::Registry(_))), "cut at {cut}");
    }
    for place in (0..voucher.len()).step_by(voucher.len() / 120) {
        let mut bad = voucher.clone();
        bad[place] ^= 0x04;
        assert!(matches!(import(&bad).await, Err(Refusal::Registry(_))), "changed at {place}");
    }
    assert!(matches!(import(&[&voucher[..], b"x"].concat()).await, Err(Refusal::Registry(_))));
    assert!(matches!(import(&vec![0; 200 * 1024]).await, Err(Refusal::Registry(_))));
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = Workshop::open(elsewhere.path()).unwrap();
    let brand = BrandId::parse(BRAND).unwrap();
    stranger.new_brand(&brand).unwrap();
    stranger.add_model(&brand, LAMP).unwrap();
    let run = stranger.mint(&brand, &ModelName::parse("lamp").unwrap(), 1, &MintOptions::default(), &()).unwrap();
    let theirs = std::fs::read(run.devices().next().unwrap().unwrap().voucher).unwrap();
    let error = import(&theirs).await.unwrap_err();
    assert!(matches!(error, Refusal::Registry(RegistryError::Statement(StatementError::Untrusted { .. }))), "{error}");
    assert_eq!(house.known(&ids(&devices)), 0);
    import(&voucher).await.unwrap();
    assert_eq!(house.known(&ids(&devices)), 1);
}
