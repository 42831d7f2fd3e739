//! A new hub after a theft, from the bundle of the stolen one: its people, rights, names, rooms, models and settings, under
//! an identity of its own. Nothing by which the thief could sign in there, or stand for it, is taken along.

use super::content::{self, Reader};
use super::restore::{BundleError, OpenedBundle};
use crate::domain::audit::Outcome;
use crate::domain::binding::{Binding, Subject};
use crate::domain::device::{Household, Origin, Registered, Standing};
use crate::domain::ids::HubId;
use crate::domain::mirror::recovery::RecoveryCode;
use crate::domain::mirror::statement::RecoveryKeys as PublicHalves;
use crate::domain::mirror::wire::Notice;
use crate::domain::rehome::{MoveRequest, RehomeStatement};
use crate::service::{audit, keyed_hash, pepper_in, random};
use crate::store::tables::{
    BindingIndex, Credential, Following, HubSecrets, NoticeRow, RecoveryKeys, Restored, SecondFactor, binding_index_key,
};
use crate::store::{OpenRow, Record, Store, StoreError, Table, Tx};
use ed25519_dalek::SigningKey;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Rows written in one transaction.
const BLOCK: usize = 2_000;

/// Tables of which nothing is taken along: keys for the stolen hub and what was handed out by it. Rights of apps and
/// service accounts go with their secrets; counters belong to the keys.
const LEFT_BEHIND: &[&str] = &[
    "hub_secrets",
    "device_keys",
    "counters",
    "credentials",
    "pairings",
    "certificates",
    "batches",
    "bindings_by_subject",
    "authorizations",
    "oauth_clients",
    "services",
    "service_secrets",
    "recovery",
    "away_keys",
    "audit_head",
    "following",
    "move_orders",
];

const TOLD: &str = "This hub follows one that was stolen. Everybody should choose a new password now, and set up the second factor anew: whoever has \
     the stolen box has what both are checked against. Apps, service accounts and keys for use from away are to be made anew. Each device comes over \
     by itself once its maker has told it; one that does not is reset and claimed again.";

/// What a hub that follows a stolen one has of its own.
pub struct Successor {
    secrets: HubSecrets,
    keys: RecoveryKeys,
    old: HubId,
    statement: Vec<u8>,
    request: Vec<u8>,
    now: u64,
}

impl Successor {
    /// Of the hub `old`, whose newest known epoch is `before`, with fresh `secrets`. `ca` is the certificate (DER) in them,
    /// `recipient` the public half of their age identity; `now` in ms since 1970.
    #[must_use]
    pub fn new(
        code: &RecoveryCode,
        old: &HubId,
        before: u64,
        secrets: HubSecrets,
        (ca, recipient): (Vec<u8>, String),
        addresses: Vec<String>,
        now: u64,
    ) -> Successor {
        let identity = SigningKey::from_bytes(&secrets.identity_seed);
        let mirror = SigningKey::from_bytes(&secrets.mirror_seed).verifying_key().to_bytes();
        let asked =
            MoveRequest { identity: identity.verifying_key().to_bytes(), recipient, ca, from: vec![*old], addresses, at_s: now / 1000 };
        let (hub, request) = (asked.hub(), asked.sign(&identity));
        let said = RehomeStatement { hub: *old, epoch: before.saturating_add(1), mirror, request: request.clone(), at_s: now / 1000 };
        let statement = said.sign(&code.epoch_key(old));
        // The paper serves on: the hub only ever had what the code's public halves are, and they are others for another hub.
        let halves = PublicHalves { key: code.epoch_key(&hub).verifying_key().to_bytes(), recipient: code.age_recipient(&hub) };
        let keys = RecoveryKeys { made_at: now, made_by: "recovery_code".into(), public: halves.key, recipient: halves.recipient };
        Successor { secrets, keys, old: *old, statement, request, now }
    }

    /// The new hub.
    #[must_use]
    pub fn hub(&self) -> HubId {
        HubId::from_public_key(&SigningKey::from_bytes(&self.secrets.identity_seed).verifying_key().to_bytes())
    }

    /// The key that signs for the mirror.
    #[must_use]
    pub fn mirror_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.secrets.mirror_seed)
    }

    /// The recovery code's word that this hub follows the stolen one.
    #[must_use]
    pub fn statement(&self) -> &[u8] {
        &self.statement
    }

    /// This hub's own word, for makers.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }
}

/// Fills the empty `store` with what a bundle of the stolen hub has, as the hub that follows it.
///
/// # Errors
/// [`BundleError`]; then the store is of no use.
pub async fn fill_successor(store: &Store, bundle: OpenedBundle, successor: Successor) -> Result<(), BundleError> {
    let bundle = Arc::new(bundle);
    let mut reader = Reader::new(bundle.content())?;
    let now = successor.now;
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
        store
            .write::<_, StoreError, _>(move |tx| block.iter().try_for_each(|(table, (key, value))| put(tx, *table, key, value, now)))
            .await?;
    }
    let of = bundle.clone();
    store.write::<_, StoreError, _>(move |tx| finish(tx, &of, &successor)).await?;
    Ok(())
}

fn put(tx: &Tx<'_>, table: Table, key: &[u8], value: &[u8], now: u64) -> Result<(), StoreError> {
    if LEFT_BEHIND.contains(&table.name()) {
        return Ok(());
    }
    if table == <Binding as Record>::TABLE {
        let binding = row::<Binding>(key, value)?;
        if matches!(binding.subject, Subject::App(_) | Subject::Service(_)) {
            return Ok(());
        }
        let index = BindingIndex { device: binding.device.clone() };
        tx.put(&binding_index_key(&binding.subject, &binding.device), &index)?;
    }
    if table == <Registered as Record>::TABLE {
        let known = row::<Registered>(key, value)?;
        // Its key is not known here yet: nothing but its maker's word speaks for it.
        let origin = if known.origin == Origin::Unattested { Origin::Unattested } else { Origin::Voucher };
        return tx.put(key, &Registered { origin, ..known });
    }
    if table == <Household as Record>::TABLE {
        let mut known = row::<Household>(key, value)?;
        for standing in [&mut known.standing, &mut known.before_suspension, &mut known.before_quarantine] {
            if *standing == Standing::Ready {
                // Bound as before; complete when it has come over.
                *standing = Standing::Claimed;
            }
        }
        known.version += 1;
        if known.standing.is_bound() {
            tx.put(key, &fresh_credential(tx, now)?)?;
        }
        return tx.put(key, &known);
    }
    if table == <SecondFactor as Record>::TABLE {
        let mut known = row::<SecondFactor>(key, value)?;
        // Hashed with what the thief has.
        known.recovery.clear();
        return tx.put(key, &known);
    }
    tx.put_opened(table, key, value)
}

/// A secret that is handed to the device when it says hello here.
fn fresh_credential(tx: &Tx<'_>, now: u64) -> Result<Credential, StoreError> {
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(random().map_err(|_| StoreError::Stopped)?);
    // The stolen hub's secrets are not there, so this is keyed by this box's own master key.
    let keyed_hash = keyed_hash(&*pepper_in(tx)?, b"operational", &*secret);
    Ok(Credential { keyed_hash, undelivered: Some(*secret), made_at: now })
}

fn finish(tx: &Tx<'_>, bundle: &OpenedBundle, successor: &Successor) -> Result<(), StoreError> {
    let (now, bundle_at) = (successor.now.max(bundle.about.at), bundle.about.at);
    tx.put(RecoveryKeys::ROW, &successor.keys)?;
    let following = Following {
        at: now,
        old: successor.old.to_string(),
        statement: successor.statement.clone(),
        request: successor.request.clone(),
        told: false,
    };
    tx.put(Following::ROW, &following)?;
    // Rights of others than owners wait until it is known what was revoked after the bundle was made.
    tx.put(Restored::ROW, &Restored { at: successor.now, bundle_at, epoch: 1, review: true, statement: Vec::new() })?;
    let notice = Notice { code: "rehomed".to_owned(), device: None, text: TOLD.to_owned(), at: now };
    tx.put(&1u64.to_be_bytes(), &NoticeRow { notice, seen: false })?;
    let detail = format!("follows the stolen {}, from a bundle of {bundle_at} ms since 1970", successor.old);
    audit::append(tx, now, audit::event("hub", "hub.rehome", "hub", Outcome::Done, "recovery_code", detail, "console"))?;
    // At last: a store that was filled by half is no hub.
    tx.put(HubSecrets::ROW, &successor.secrets)?;
    tx.mark_layout(bundle.about.layout)
}

fn row<T: Record>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    content::decoded(value).map_err(|error| StoreError::Row {
        table: T::TABLE.name(),
        key: String::from_utf8_lossy(key).into_owned(),
        reason: error.to_string(),
    })
}
