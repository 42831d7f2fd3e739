//! Registry batches that wait at the cloud: the adapter fetches them, and they are taken in as if an owner had brought the
//! file, for brands that are trusted here. Devices that were paired before their key was known prove it with that, or are
//! shut out.

use super::arrive::answer;
use crate::domain::mirror::wire::{BatchOffer, Done};
use crate::service::{Actor, ImportReport, Refusal, Service};
use crate::store::tables::{OfferRow, TrustedBrand};
use crate::store::{Read, Record, StoreError};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Batches that wait at the same time.
const OFFERS: u64 = 50;
/// The largest that is fetched, in bytes: a million identities.
const BYTES_MAX: u64 = 512 * 1024 * 1024;
/// How often one is tried that cannot be fetched.
const TRIES: u32 = 10;
/// Characters of an id.
const ID_MAX: usize = 64;

impl Service {
    /// Notes a batch that waits; how it ended when it is not even fetched.
    pub(super) async fn offer_came(&self, item: &str, offer: &BatchOffer) -> Result<Option<Done>, Refusal> {
        let plain =
            !offer.id.is_empty() && offer.id.len() <= ID_MAX && offer.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let hash = HEXLOWER.decode(offer.sha256.as_bytes()).is_ok_and(|h| h.len() == 32);
        if !plain || !hash || offer.bytes == 0 || offer.bytes > BYTES_MAX {
            return Ok(Some(answer(item, "malformed", "this is no offer of a registry batch")));
        }
        let row = OfferRow { item: item.to_owned(), offer: offer.clone(), at: self.now(), failed: 0 };
        let taken = self
            .store
            .write::<_, StoreError, _>(move |tx| {
                if tx.get::<TrustedBrand>(row.offer.brand.as_bytes())?.is_none() {
                    return Ok(Err((
                        "brand_not_trusted",
                        "no owner of this hub has trusted this brand: trust it, and ask for the batch again",
                    )));
                }
                let before = tx.get::<OfferRow>(row.offer.id.as_bytes())?;
                if before.is_none() && tx.count(OfferRow::TABLE)? >= OFFERS {
                    return Ok(Err(("too_many", "too many batches wait already")));
                }
                tx.put(row.offer.id.as_bytes(), &row)?;
                Ok(Ok(()))
            })
            .await?;
        Ok(taken.err().map(|(code, detail)| answer(item, code, detail)))
    }

    /// Registry batches that wait at the cloud, the oldest first.
    #[must_use]
    pub fn pending_batches(&self) -> Vec<BatchOffer> {
        let all = self.store.read::<_, StoreError>(|v| v.scan::<OfferRow>(b"", OFFERS as usize)).unwrap_or_else(|error| {
            tracing::error!(%error, "what waits at the cloud could not be read");
            Vec::new()
        });
        let mut all: Vec<OfferRow> = all.into_iter().map(|(_, row)| row).collect();
        all.sort_by_key(|row| row.at);
        all.into_iter().map(|row| row.offer).collect()
    }

    /// Takes the batch that was offered, from the file at `path`. When it returns an error, [`Service::offer_failed`] is
    /// still the adapter's to call.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] for what is not what was offered; [`Refusal::Registry`].
    pub async fn import_offer(&self, offer: &BatchOffer, path: PathBuf) -> Result<ImportReport, Refusal> {
        let row = self.offered(offer)?;
        let (file, wanted, bytes) = (path.clone(), offer.sha256.clone(), offer.bytes);
        let whole = tokio::task::spawn_blocking(move || is_file(&file, bytes, &wanted)).await.unwrap_or(false);
        if !whole {
            return Err(Refusal::Conflict("what came is not the batch that was offered: it is fetched again".into()));
        }
        // An owner has linked the cloud and trusted the brand; the batch itself shows that it is the maker's.
        let who = Actor { via: "cloud".into(), ..Actor::console() };
        let report = self.import_batch(&who, path).await?;
        let detail = format!("{} new, {} known", report.added, report.known);
        self.offer_ended(&row, Done { id: row.item.clone(), ok: true, code: "done".into(), detail }).await?;
        Ok(report)
    }

    /// A batch could not be taken, and why. With `for_good` it is not tried again; else after some tries.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn offer_failed(&self, offer: &BatchOffer, why: &str, for_good: bool) -> Result<(), Refusal> {
        let mut row = match self.offered(offer) {
            Ok(row) => row,
            Err(Refusal::NotFound(_)) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        row.failed += 1;
        if for_good || row.failed >= TRIES {
            let why: String = why.chars().filter(|c| !c.is_control()).take(300).collect();
            tracing::warn!(brand = %offer.brand, %why, "a registry batch of the cloud could not be taken");
            return self.offer_ended(&row, answer(&row.item, "not_taken", &why)).await;
        }
        self.store.write::<_, StoreError, _>(move |tx| tx.put(row.offer.id.as_bytes(), &row)).await.map_err(Refusal::from)
    }

    fn offered(&self, offer: &BatchOffer) -> Result<OfferRow, Refusal> {
        let row = self.store.read::<_, StoreError>(|v| v.get::<OfferRow>(offer.id.as_bytes()))?;
        row.filter(|row| row.offer == *offer).ok_or(Refusal::NotFound("offer"))
    }

    async fn offer_ended(&self, row: &OfferRow, done: Done) -> Result<(), Refusal> {
        let id = row.offer.id.clone();
        self.store.write::<_, StoreError, _>(move |tx| tx.delete::<OfferRow>(id.as_bytes()).map(drop)).await?;
        self.item_ended(done).await
    }
}

/// Whether the file has this length and this hash.
fn is_file(path: &Path, bytes: u64, sha256: &str) -> bool {
    let Ok(mut file) = std::fs::File::open(path) else { return false };
    let (mut hash, mut part, mut seen) = (Sha256::new(), vec![0u8; 64 * 1024], 0u64);
    loop {
        match file.read(&mut part) {
            Ok(0) => break,
            Ok(n) => {
                seen += n as u64;
                hash.update(part.get(..n).unwrap_or_default());
            }
            Err(_) => return false,
        }
    }
    seen == bytes && HEXLOWER.encode(&hash.finalize()) == sha256
}
