//! A new hub from a bundle: opened by the recovery code, checked against the identity that it has inside, and written into
//! an empty store under another master key, with a mirror key and an epoch of its own.

use super::content::{self, About, ContentError, Reader};
use crate::domain::audit::Outcome;
use crate::domain::audit::chain::{Head, Point, PointKind};
use crate::domain::device::SignInCounter;
use crate::domain::ids::HubId;
use crate::domain::mirror::recovery::RecoveryCode;
use crate::domain::mirror::statement::{BundleSeal, EpochStatement};
use crate::domain::mirror::wire::BUNDLE_MAX;
use crate::service::{Refusal, audit};
use crate::store::tables::{AuditCut, HubSecrets, MirrorLink, RecoveryKeys, Restored, StoredDeviceKey};
use crate::store::{OpenRow, Read, Record, Store, StoreError, Table, Tx};
use ed25519_dalek::SigningKey;
use std::io::Read as _;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Rows written in one transaction.
const BLOCK: usize = 2_000;

/// Why a bundle does not become a hub.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is sealed to another code, or to this one for another hub.
    #[error("the recovery code does not open this bundle: compare the code and the hub id with the paper, and type both again")]
    WrongCode,
    /// It breaks off, was changed, or is none.
    #[error("the bundle is damaged ({0}): fetch it again, or use another copy")]
    Damaged(&'static str),
    /// A newer program made it.
    #[error("the bundle was written by a newer version of this program ({0}): install that version, or a newer one, and try again")]
    Newer(String),
    /// It opens, and is of another hub.
    #[error("the bundle is of the hub {0}: name that one, if it is the right one")]
    OtherHub(HubId),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ContentError> for BundleError {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::Damaged(why) => BundleError::Damaged(why),
            ContentError::Newer(program) => BundleError::Newer(program),
        }
    }
}

/// A bundle that was opened and is what it says it is.
pub struct OpenedBundle {
    /// About the whole.
    pub about: About,
    whole: Zeroizing<Vec<u8>>,
    secrets: HubSecrets,
    keys: RecoveryKeys,
    link: Option<MirrorLink>,
}

/// What the new hub has of its own.
pub struct NewLife {
    /// Ed25519 seed that signs for the mirror.
    pub mirror_seed: Zeroizing<[u8; 32]>,
    /// Its epoch.
    pub epoch: u64,
    /// The statement that begins it.
    pub statement: Vec<u8>,
    /// ms since 1970, as far as the new box knows.
    pub now: u64,
}

impl NewLife {
    /// A life after the epochs `before`; `seed` is random.
    #[must_use]
    pub fn new(code: &RecoveryCode, hub: &HubId, seed: [u8; 32], before: u64, now: u64) -> NewLife {
        let mirror_seed = Zeroizing::new(seed);
        let mirror = SigningKey::from_bytes(&mirror_seed).verifying_key().to_bytes();
        let epoch = before.saturating_add(1);
        let statement = EpochStatement { hub: *hub, epoch, mirror, at_s: now / 1000 }.sign(&code.epoch_key(hub));
        NewLife { mirror_seed, epoch, statement, now }
    }

    /// The key that signs for the mirror.
    #[must_use]
    pub fn mirror_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.mirror_seed)
    }
}

/// Opens a bundle of `hub` and checks all of it; nothing is written.
///
/// # Errors
/// [`BundleError`].
pub fn open_bundle(code: &RecoveryCode, hub: &HubId, bundle: &[u8]) -> Result<OpenedBundle, BundleError> {
    if bundle.len() > BUNDLE_MAX {
        return Err(BundleError::Damaged("it is longer than a bundle can be"));
    }
    let whole = decrypted(code, hub, bundle)?;
    let (seal, content) = BundleSeal::part(&whole).ok_or(BundleError::Damaged("it has no seal"))?;
    let mut reader = Reader::new(content)?;
    let about = reader.about.clone();
    let (mut secrets, mut keys, mut link) = (None, None, None);
    while let Some((table, (key, value))) = reader.next()? {
        if table == <HubSecrets as Record>::TABLE && key == HubSecrets::ROW {
            secrets = Some(content::decoded::<HubSecrets>(&value)?);
        } else if table == <RecoveryKeys as Record>::TABLE && key == RecoveryKeys::ROW {
            keys = Some(content::decoded::<RecoveryKeys>(&value)?);
        } else if table == <MirrorLink as Record>::TABLE && key == MirrorLink::ROW {
            link = Some(content::decoded::<MirrorLink>(&value)?);
        }
    }
    let (Some(secrets), Some(keys)) = (secrets, keys) else { return Err(BundleError::Damaged("the hub's keys are not in it")) };
    let identity = SigningKey::from_bytes(&secrets.identity_seed).verifying_key().to_bytes();
    let found = HubId::from_public_key(&identity);
    if found != *hub {
        return Err(BundleError::OtherHub(found));
    }
    // Only who has the code could read it, but everybody who knows the recipient could have written it.
    let signed = BundleSeal::verify(&identity, seal).map_err(|_| BundleError::Damaged("the hub has not signed it"))?;
    if !signed.is_of(content) || signed.epoch != about.epoch || about.hub != found {
        return Err(BundleError::Damaged("the hub has signed another content"));
    }
    Ok(OpenedBundle { about, whole, secrets, keys, link })
}

fn decrypted(code: &RecoveryCode, hub: &HubId, bundle: &[u8]) -> Result<Zeroizing<Vec<u8>>, BundleError> {
    let none = |_| BundleError::Damaged("its key is none");
    let identity: age::x25519::Identity = code.age_identity(hub).parse().map_err(none)?;
    let decryptor = age::Decryptor::new_buffered(bundle).map_err(|_| BundleError::Damaged("it is no age file"))?;
    let mut reader = match decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)) {
        Ok(reader) => reader,
        Err(age::DecryptError::NoMatchingKeys) => return Err(BundleError::WrongCode),
        Err(_) => return Err(BundleError::Damaged("its beginning was changed")),
    };
    let mut whole = Zeroizing::new(Vec::with_capacity(bundle.len()));
    reader.read_to_end(&mut whole).map_err(|_| BundleError::Damaged("it breaks off, or was changed"))?;
    Ok(whole)
}

impl OpenedBundle {
    pub(super) fn content(&self) -> &[u8] {
        BundleSeal::part(&self.whole).map_or(&[], |(_, content)| content)
    }

    /// The public half of the code that epochs are signed with, as the hub before has pinned it.
    #[must_use]
    pub fn recovery_key(&self) -> [u8; 32] {
        self.keys.public
    }

    /// The key of the cloud that was linked, if one was.
    #[must_use]
    pub fn cloud_key(&self) -> Option<[u8; 32]> {
        self.link.as_ref().filter(|link| !link.ending).map(|link| link.key)
    }
}

/// Fills the empty `store` with what a bundle has, as a hub that begins `life`. It does not know what was revoked after the
/// bundle was made: rights of others than owners are suspended until it does.
///
/// # Errors
/// [`BundleError`]; then the store is of no use.
pub async fn fill(store: &Store, bundle: OpenedBundle, life: NewLife) -> Result<(), BundleError> {
    let bundle = Arc::new(bundle);
    let mut reader = Reader::new(bundle.content())?;
    let mut over = false;
    while !over {
        let mut block: Vec<(Table, OpenRow)> = Vec::new();
        while block.len() < BLOCK && !over {
            match reader.next()? {
                Some(row) => block.push(row),
                None => over = true,
            }
        }
        let block = Arc::new(block);
        store.write::<_, StoreError, _>(move |tx| block.iter().try_for_each(|(table, (key, value))| put(tx, *table, key, value))).await?;
    }
    let of = bundle.clone();
    store.write::<_, StoreError, _>(move |tx| finish(tx, &of, &life)).await?;
    Ok(())
}

fn put(tx: &Tx<'_>, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    if table == <HubSecrets as Record>::TABLE {
        // Written at the end: a store that was filled by half is no hub.
        return Ok(());
    }
    if table == <SignInCounter as Record>::TABLE {
        let counter = row::<SignInCounter>(key, value)?;
        return tx.put(key, &SignInCounter { restored: true, ..counter });
    }
    tx.put_opened(table, key, value)
}

fn finish(tx: &Tx<'_>, bundle: &OpenedBundle, life: &NewLife) -> Result<(), StoreError> {
    // Also one that had not signed in before the bundle was made may have since.
    for (key, _) in tx.scan::<StoredDeviceKey>(b"", usize::MAX)? {
        if tx.get::<SignInCounter>(&key)?.is_none() {
            tx.put(&key, &SignInCounter { restored: true, ..SignInCounter::default() })?;
        }
    }
    let identity = SigningKey::from_bytes(&bundle.secrets.identity_seed);
    // The chain goes on after the entry that the hub before had written last; the entries themselves are gone.
    if let Some(head) = tx.get::<Head>(audit::HEAD)?
        && let Some(place) = head.newest()
    {
        tx.put(audit::CUT, &AuditCut { statement: Point::sign(&identity, PointKind::Cut, place, life.now) })?;
        tx.put(audit::HEAD, &Head { bytes: 0, ..head })?;
    }
    let mut secrets = bundle.secrets.clone();
    secrets.mirror_seed = *life.mirror_seed;
    secrets.epoch = life.epoch;
    tx.put(HubSecrets::ROW, &secrets)?;
    let bundle_at = bundle.about.at;
    let restored = Restored { at: life.now, bundle_at, epoch: life.epoch, review: true, statement: life.statement.clone() };
    tx.put(Restored::ROW, &restored)?;
    let detail = format!("epoch {}, from a bundle of {} ms since 1970", life.epoch, bundle_at);
    let now = life.now.max(bundle_at);
    audit::append(tx, now, audit::event("hub", "hub.restore", "hub", Outcome::Done, "recovery_code", detail, "console"))?;
    tx.mark_layout(bundle.about.layout)
}

/// A cloud has taken the statement that begins the epoch of the hub in `store`.
///
/// # Errors
/// The store's fault.
pub async fn begun_in(store: &Store) -> Result<(), Refusal> {
    let begun = |tx: &Tx<'_>| match tx.get::<Restored>(Restored::ROW)? {
        Some(restored) => tx.put(Restored::ROW, &Restored { statement: Vec::new(), ..restored }),
        None => Ok(()),
    };
    Ok(store.write::<_, StoreError, _>(begun).await?)
}

fn row<T: Record>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    content::decoded(value).map_err(|error| StoreError::Row {
        table: T::TABLE.name(),
        key: String::from_utf8_lossy(key).into_owned(),
        reason: error.to_string(),
    })
}
