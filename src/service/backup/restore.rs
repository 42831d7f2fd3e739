//! A hub's store from its backups: a full one and the increments that follow it, checked as a whole before anything is
//! written, and compared with what they say of themselves after.

use super::content::{Reader, Step, Sum, Summary, Summing};
use super::seal::{Looked, Opener, check};
use super::{BackupError, Secrets, ways};
use crate::domain::audit::Outcome;
use crate::domain::audit::chain::Head;
use crate::domain::device::SignInCounter;
use crate::domain::ids::HubId;
use crate::domain::mirror::recovery::RecoveryCode;
use crate::service::audit;
use crate::service::recovery::NewLife;
use crate::store::tables::{HubSecrets, MirrorLink, RecoveryKeys, Restored, Retired, StoredDeviceKey};
use crate::store::{Read as _, SCHEMA_VERSION, Store, StoreError, Tx, View, backed_up_tables, opened_rows};
use ed25519_dalek::SigningKey;
use flate2::read::ZlibDecoder;
use std::io::{BufReader, Read, Seek};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Rows, and bytes, written in one transaction.
const BLOCK: usize = 2_000;
const BLOCK_BYTES: usize = 4 * 1024 * 1024;

/// A full backup and the increments to apply after it, each whole, and opened.
pub struct Chain<F> {
    files: Vec<(Looked, Zeroizing<[u8; 32]>, F)>,
}

/// What the new hub has of its own.
pub struct RestoreLife {
    /// The recovery code, if it was given: with it the new epoch is signed.
    pub code: Option<RecoveryCode>,
    /// 32 random bytes: the seed of its mirror key.
    pub seed: [u8; 32],
    /// ms since 1970, as far as the box knows.
    pub now: u64,
    /// The newest epoch that is known elsewhere; 0 when none is.
    pub known_epoch: u64,
}

/// What a restore has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// The hub.
    pub hub: HubId,
    /// When the newest of the backups was made, ms since 1970.
    pub made_at: u64,
    /// Its epoch from now on.
    pub epoch: u64,
    /// Backups that were applied.
    pub backups: usize,
    /// Whether a cloud is linked.
    pub linked: bool,
    /// Whether the new epoch is signed: if not, a cloud that is linked refuses the hub.
    pub signed: bool,
    /// Whether rights of others than owners wait for an owner's look.
    pub review: bool,
    /// The number of the audit's newest entry in the backup.
    pub audit_at: Option<u64>,
    /// The statement that begins the epoch, when it is signed.
    pub statement: Vec<u8>,
    /// What the newest backup says about the whole; it was compared.
    pub summary: Summary,
}

impl<F: Read + Seek> Chain<F> {
    /// Checks files, in any order: that each is whole and its hub's, that nothing is missing between, and that the secrets
    /// open all of them.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn open(files: Vec<F>, secrets: &Secrets) -> Result<Chain<F>, BackupError> {
        let mut all = Vec::new();
        for mut file in files {
            let looked = check(&mut file)?;
            if looked.header.layout > SCHEMA_VERSION {
                return Err(BackupError::Newer(looked.header.program));
            }
            all.push((looked, file));
        }
        all.sort_by_key(|(looked, _)| looked.header.place());
        let first = all.first().map(|(looked, _)| looked.header.clone()).ok_or(BackupError::NotABackup)?;
        if first.follows.is_some() {
            return Err(BackupError::NoBase(first.base()));
        }
        let mut before = first.id;
        for (place, (looked, _)) in (0u64..).zip(&all) {
            let header = &looked.header;
            if header.hub != first.hub || header.base() != first.id {
                return Err(BackupError::OtherChain);
            }
            if let Some(follows) = header.follows {
                if follows.parent != before || follows.place != place {
                    return Err(BackupError::Gap(follows.parent));
                }
            } else if place > 0 {
                return Err(BackupError::OtherChain);
            }
            before = header.id;
        }
        let files = all
            .into_iter()
            .map(|(looked, file)| ways::data_key(&looked.header, secrets).map(|key| (looked, key, file)))
            .collect::<Result<_, _>>()?;
        Ok(Chain { files })
    }

    /// The hub whose they are.
    #[must_use]
    pub fn hub(&self) -> Option<HubId> {
        self.files.first().map(|(looked, ..)| looked.header.hub)
    }

    /// The newest.
    #[must_use]
    pub fn newest(&self) -> Option<&Looked> {
        self.files.last().map(|(looked, ..)| looked)
    }
}

/// Fills the empty `store` with what the backups have, as a hub that begins a life of its own. Nothing is left out in
/// silence: what then stands in the store is compared with what the newest backup says.
///
/// # Errors
/// [`BackupError`]; then the store is of no use.
pub async fn fill_from_backup<F: Read + Seek>(store: &Store, chain: Chain<F>, life: RestoreLife) -> Result<RestoreReport, BackupError> {
    let backups = chain.files.len();
    let mut newest = None;
    for (looked, key, file) in chain.files {
        let summary = apply(store, &looked, &key, file).await?;
        newest = Some((looked, summary));
    }
    let Some((looked, summary)) = newest else { return Err(BackupError::NotABackup) };
    for (name, sum) in store.read::<_, BackupError>(sums)? {
        if summary.tables.get(&name).copied().unwrap_or_else(|| Summing::default().sum()) != sum {
            return Err(BackupError::Differs(name));
        }
    }
    let header = looked.header;
    let (identity, keys, linked, own, audit_at) = store.read::<_, BackupError>(|v| {
        let secrets = v.get::<HubSecrets>(HubSecrets::ROW)?.ok_or(BackupError::NoKeys)?;
        let linked = v.get::<MirrorLink>(MirrorLink::ROW)?.is_some_and(|link| !link.ending);
        let identity = SigningKey::from_bytes(&secrets.identity_seed).verifying_key().to_bytes();
        let audit_at = v.get::<Head>(audit::HEAD)?.and_then(|head| head.newest()).map(|(seq, _)| seq);
        Ok((identity, v.get::<RecoveryKeys>(RecoveryKeys::ROW)?, linked, secrets.epoch, audit_at))
    })?;
    if identity != header.identity {
        return Err(BackupError::Altered);
    }
    // A code that was given beside the passphrase may be another one than the household has.
    let pinned = keys.map(|k| k.public);
    let code = life.code.filter(|code| pinned == Some(code.epoch_key(&header.hub).verifying_key().to_bytes()));
    let before = own.max(header.epoch).max(life.known_epoch);
    let begun = match &code {
        Some(code) => NewLife::new(code, &header.hub, life.seed, before, life.now),
        None => NewLife { mirror_seed: Zeroizing::new(life.seed), epoch: before.saturating_add(1), statement: Vec::new(), now: life.now },
    };
    let report = RestoreReport {
        hub: header.hub,
        made_at: header.made_at,
        epoch: begun.epoch,
        backups,
        linked,
        signed: code.is_some(),
        review: true,
        audit_at,
        statement: begun.statement.clone(),
        summary,
    };
    let (said, begun) = (report.clone(), Arc::new(begun));
    store.write::<_, StoreError, _>(move |tx| finish(tx, &said, &begun, header.layout)).await?;
    Ok(report)
}

async fn apply<F: Read + Seek>(store: &Store, looked: &Looked, key: &[u8; 32], file: F) -> Result<Summary, BackupError> {
    let opener = Opener::new(BufReader::new(file), looked.length, &looked.start, key)?;
    let mut reader = Reader::new(ZlibDecoder::new(opener), looked.header.program.clone());
    let mut over = false;
    while !over {
        let (mut block, mut bytes) = (Vec::new(), 0);
        while block.len() < BLOCK && bytes < BLOCK_BYTES && !over {
            match reader.next()? {
                Some(step) => {
                    bytes += if let Step::Put(_, (key, value)) = &step { key.len() + value.len() } else { 0 };
                    block.push(step);
                }
                None => over = true,
            }
        }
        let block = Arc::new(block);
        let write = move |tx: &Tx<'_>| {
            block.iter().try_for_each(|step| match step {
                Step::Put(table, (key, value)) => tx.put_opened(*table, key, value),
                Step::Gone(table, key) => tx.delete_opened(*table, key),
            })
        };
        store.write::<_, StoreError, _>(write).await?;
    }
    let summary = reader.summary.take().ok_or(BackupError::Altered)?;
    // To the marked end: what came after the summary would be no part of it.
    let mut zip = reader.into_inner();
    let rest = std::io::copy(&mut zip, &mut std::io::sink()).map_err(|_| BackupError::Altered)?;
    if rest > 0 || !zip.into_inner().is_over() {
        return Err(BackupError::Altered);
    }
    Ok(summary)
}

/// What stands in every table that a backup has.
pub(super) fn sums(rows: &View<'_>) -> Result<Vec<(String, Sum)>, BackupError> {
    let mut all = Vec::new();
    for table in backed_up_tables() {
        let (mut summing, mut after): (Summing, Option<Vec<u8>>) = Default::default();
        loop {
            let block = opened_rows(rows, table, after.as_deref(), 100)?;
            for (key, value) in &block {
                summing.row(key, value);
            }
            match block.last() {
                Some((last, _)) => after = Some(last.clone()),
                None => break,
            }
        }
        all.push((table.name().to_owned(), summing.sum()));
    }
    Ok(all)
}

fn finish(tx: &Tx<'_>, report: &RestoreReport, life: &NewLife, layout: u32) -> Result<(), StoreError> {
    // Devices may have signed in since: each is asked once for a proof that it is no recording.
    for (key, _) in tx.scan::<StoredDeviceKey>(b"", usize::MAX)? {
        let counter = tx.get::<SignInCounter>(&key)?.unwrap_or_default();
        tx.put(&key, &SignInCounter { restored: true, ..counter })?;
    }
    let Some(mut secrets) = tx.get::<HubSecrets>(HubSecrets::ROW)? else { return Err(StoreError::Stopped) };
    secrets.mirror_seed = *life.mirror_seed;
    secrets.epoch = life.epoch;
    tx.put(HubSecrets::ROW, &secrets)?;
    if report.signed {
        // Its epoch is above that of the hub which had taken its place.
        tx.delete::<Retired>(Retired::ROW)?;
    }
    let restored =
        Restored { at: life.now, bundle_at: report.made_at, epoch: life.epoch, review: report.review, statement: life.statement.clone() };
    tx.put(Restored::ROW, &restored)?;
    let how = if report.signed { "recovery_code" } else { "passphrase" };
    let detail = format!("epoch {}, from a backup of {} ms since 1970", life.epoch, report.made_at);
    let now = life.now.max(report.made_at);
    audit::append(tx, now, audit::event("hub", "hub.restore", "hub", Outcome::Done, how, detail, "console"))?;
    tx.mark_layout(layout)
}
