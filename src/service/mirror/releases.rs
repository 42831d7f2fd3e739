//! Releases of firmware that the cloud tells of: kept in memory as it told them last, fetched by the adapter, and taken in like
//! a file that somebody brought. What the maker has signed is all that is believed: the cloud says where a file is, and how
//! many houses get it.

use super::link::link_in;
use super::news::put_own_notice;
use crate::domain::firmware::release::{HEAD_MAX, IMAGE_MAX, REL_MAX};
use crate::domain::ids::{BrandId, ModelName};
use crate::domain::mirror::wire::{Notice, RELEASES_MAX, ReleaseOffer, ReleasesTold};
use crate::service::firmware::{FirmwareRefusal, ImportedRelease, ReleaseOrigin, WantedRelease};
use crate::service::{Change, Refusal, Service, lock};
use crate::store::tables::TrustedBrand;
use crate::store::{Read, StoreError};
use std::path::PathBuf;
use std::sync::Arc;

/// The largest release file, in bytes.
pub const RELEASE_FILE_MAX: u64 = IMAGE_MAX + HEAD_MAX as u64 + 10;
/// How often one is tried that does not come to an end.
const TRIES: u32 = 10;
/// Of one model, the newest so many are fetched.
const EACH: usize = 8;
/// Characters of a reason that are shown.
const WHY_MAX: usize = 300;

/// What the cloud told last.
#[derive(Default)]
pub(super) struct Told {
    /// By which cloud key; none before it told anything since the start.
    by: Option<[u8; 32]>,
    n: u64,
    all: Vec<Waiting>,
}

/// A release that the cloud has.
struct Waiting {
    brand: BrandId,
    model: ModelName,
    offer: ReleaseOffer,
    failed: u32,
    /// It will not be taken.
    over: bool,
}

impl Waiting {
    /// What a cloud names; `None` for what can be no release.
    fn read(offer: &ReleaseOffer) -> Option<Waiting> {
        let brand = BrandId::parse(&offer.brand).ok()?;
        let model = ModelName::parse(&offer.model).ok()?;
        let hash = offer.sha256.len() == 64 && offer.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let bounds = (1..=REL_MAX).contains(&offer.rel) && (1..=RELEASE_FILE_MAX).contains(&offer.size) && offer.percent <= 100;
        (hash && bounds).then(|| Waiting { brand, model, offer: offer.clone(), failed: 0, over: false })
    }

    fn is_of(&self, wanted: &WantedRelease) -> bool {
        self.brand == wanted.brand && self.model == wanted.model
    }
}

/// Which of a model's releases are to be fetched, the newest first: newer than what the oldest device runs, and not here. An
/// image that had to make room for others comes again when a device is here that waits for it.
fn lacking<'a>(all: &'a [Waiting], wanted: &WantedRelease) -> Vec<&'a Waiting> {
    let mut there: Vec<&Waiting> = all.iter().filter(|one| one.is_of(wanted) && one.offer.percent > 0 && !one.offer.withdrawn).collect();
    there.sort_by_key(|one| std::cmp::Reverse(one.offer.rel));
    let newer = |rel: u64| wanted.oldest.is_none_or(|oldest| rel > oldest);
    let known = |rel: u64| wanted.cached.contains(&rel) || wanted.missing.contains(&rel);
    let lacks = |at: usize, rel: u64| wanted.awaited.contains(&rel) || (at < EACH && newer(rel) && !known(rel));
    there.into_iter().enumerate().filter(|(at, one)| lacks(*at, one.offer.rel) && !one.over).map(|(_, one)| one).collect()
}

impl Service {
    /// What the hub says it was told of releases: the cloud's key, and its number. `None` when this hub takes no firmware.
    pub(super) fn releases_heard(&self) -> Option<(Option<[u8; 32]>, u64)> {
        let told = lock(&self.mirror.releases);
        self.keeps_images().then_some((told.by, told.n))
    }

    /// The number of what the linked cloud told last of releases, 0 for nothing yet; `None` when this hub takes no firmware.
    #[must_use]
    pub fn releases_known(&self) -> Option<u64> {
        let link = self.store.read::<_, StoreError>(|v| link_in(v)).ok().flatten()?;
        self.releases_heard().map(|(by, n)| if by == Some(link.key) { n } else { 0 })
    }

    /// The cloud tells which releases it has.
    pub(super) async fn releases_came(&self, told: &ReleasesTold) -> Result<(), Refusal> {
        let Some(link) = self.store.read::<_, StoreError>(|v| link_in(v))? else { return Ok(()) };
        let mut all: Vec<Waiting> = told.releases.iter().take(RELEASES_MAX).filter_map(Waiting::read).collect();
        if all.len() < told.releases.len() {
            tracing::warn!("the cloud names releases that can be none; they are left out");
        }
        let stages: Vec<_> = all.iter().map(|one| (one.brand.clone(), one.model.clone(), one.offer.clone())).collect();
        {
            let mut known = lock(&self.mirror.releases);
            for one in &mut all {
                let same = |was: &&Waiting| (was.offer.rel, &was.offer.sha256) == (one.offer.rel, &one.offer.sha256);
                let was = known.all.iter().filter(|was| was.brand == one.brand && was.model == one.model).find(same);
                (one.failed, one.over) = was.filter(|_| known.by == Some(link.key)).map_or((0, false), |was| (was.failed, was.over));
            }
            *known = Told { by: Some(link.key), n: told.n, all };
        }
        for (brand, model, ReleaseOffer { rel, percent, withdrawn, .. }) in stages {
            if withdrawn {
                self.recall_release(&brand, &model, rel).await?;
            } else if self.release_stage(&brand, &model, rel)?.is_some_and(|is| is != percent) {
                self.stage_release(&brand, &model, rel, percent).await?;
            }
        }
        Ok(())
    }

    /// Whether the cloud has told of releases since the hub's start.
    #[must_use]
    pub fn releases_told(&self) -> bool {
        lock(&self.mirror.releases).by.is_some()
    }

    /// Releases that the cloud has and this house lacks, of brands that are trusted here, the newest first.
    #[must_use]
    pub fn pending_releases(&self) -> Vec<ReleaseOffer> {
        if lock(&self.mirror.releases).all.is_empty() {
            return Vec::new();
        }
        let trusted = self.wanted_releases().and_then(|mut wanted| {
            let brands = self.store.read::<_, StoreError>(|v| v.scan::<TrustedBrand>(b"", 1_000))?;
            wanted.retain(|one| brands.iter().any(|(_, brand)| brand.id == one.brand));
            Ok(wanted)
        });
        let wanted = trusted.unwrap_or_else(|error| {
            tracing::error!(%error, "which firmware the house lacks could not be read");
            Vec::new()
        });
        let told = lock(&self.mirror.releases);
        wanted.iter().flat_map(|one| lacking(&told.all, one)).map(|one| one.offer.clone()).collect()
    }

    /// Takes in a release that was fetched, from the file at `path`. When it returns an error, [`Service::release_failed`] is
    /// still the adapter's to call.
    ///
    /// # Errors
    /// [`Refusal::Firmware`]; [`Refusal::Conflict`] for a release that is not the one that was told.
    pub async fn release_came(self: &Arc<Self>, offer: &ReleaseOffer, path: PathBuf) -> Result<ImportedRelease, Refusal> {
        let file = tokio::fs::File::open(path).await.map_err(FirmwareRefusal::Disk)?;
        let taken = self.import_release(ReleaseOrigin::Cloud { percent: offer.percent }, file).await?;
        let same = (taken.brand.as_str(), taken.model.as_str(), taken.rel) == (&offer.brand, &offer.model, offer.rel);
        if same {
            return Ok(taken);
        }
        let other = format!("it is release {} of {}/{}, and not the one that the cloud told of", taken.rel, taken.brand, taken.model);
        Err(Refusal::Conflict(other))
    }

    /// A release could not be taken, and why; whether to try again later. What is wrong with the file itself is not tried
    /// again before the hub restarts, and owners are told; else it is tried some times.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn release_failed(&self, offer: &ReleaseOffer, why: &Refusal) -> Result<bool, Refusal> {
        let for_good = match why {
            // Somebody brings a file: that is no failure.
            Refusal::Firmware(FirmwareRefusal::Busy) => return Ok(true),
            Refusal::Firmware(FirmwareRefusal::CacheFull | FirmwareRefusal::Disk(_)) => false,
            Refusal::Firmware(_) | Refusal::Conflict(_) => true,
            _ => false,
        };
        self.release_refused(offer, &why.to_string(), for_good).await
    }

    /// The same for what was not even fetched: `for_good` when it will never be.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn release_refused(&self, offer: &ReleaseOffer, why: &str, for_good: bool) -> Result<bool, Refusal> {
        let over = {
            let mut told = lock(&self.mirror.releases);
            let Some(one) = told.all.iter_mut().find(|one| one.offer == *offer) else { return Ok(false) };
            one.failed += 1;
            one.over = for_good || one.failed >= TRIES;
            one.over
        };
        if !over {
            return Ok(true);
        }
        let why: String = why.chars().filter(|c| !c.is_control()).take(WHY_MAX).collect();
        tracing::warn!(brand = %offer.brand, model = %offer.model, rel = offer.rel, %why, "a release of the cloud could not be taken");
        let ReleaseOffer { brand, model, rel, .. } = offer;
        let text = format!("Release {rel} of {brand}/{model}, which the cloud has, was not taken: {why}.");
        let notice = Notice { code: "release_not_taken".into(), device: None, text, at: self.now() };
        self.store.write::<_, StoreError, _>(move |tx| put_own_notice(tx, &notice)).await?;
        self.changed(Change::Cloud);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(rel: u64, percent: u8) -> Waiting {
        let sha256 = format!("{rel:064x}");
        Waiting::read(&ReleaseOffer { brand: "acme".into(), model: "lamp".into(), rel, sha256, size: 100, percent, withdrawn: false })
            .unwrap()
    }

    fn house(oldest: Option<u64>, cached: &[u64], missing: &[u64], awaited: &[u64]) -> WantedRelease {
        let (brand, model) = (BrandId::parse("acme").unwrap(), ModelName::parse("lamp").unwrap());
        WantedRelease { brand, model, oldest, floor: 0, cached: cached.to_vec(), missing: missing.to_vec(), awaited: awaited.to_vec() }
    }

    #[test]
    fn what_is_newer_and_not_here_is_fetched_and_what_made_room_comes_again_when_a_device_waits_for_it() {
        let mut all: Vec<Waiting> = (1..=5).map(|rel| waiting(rel, 100)).collect();
        let rels = |all: &[Waiting], house: &WantedRelease| lacking(all, house).iter().map(|one| one.offer.rel).collect::<Vec<_>>();
        assert_eq!(rels(&all, &house(None, &[], &[], &[])), [5, 4, 3, 2, 1]);
        assert_eq!(rels(&all, &house(Some(2), &[4], &[], &[])), [5, 3]);
        assert!(rels(&all, &house(Some(2), &[4], &[3, 5], &[])).is_empty(), "nobody is here who waits for it");
        assert_eq!(rels(&all, &house(Some(2), &[4], &[3, 5], &[3])), [3]);
        all[4].over = true;
        all[3].offer.percent = 0;
        assert_eq!(rels(&all, &house(Some(2), &[], &[], &[])), [3]);
        assert_eq!(rels(&(1..=20).map(|rel| waiting(rel, 1)).collect::<Vec<_>>(), &house(Some(0), &[], &[], &[])).len(), EACH);
    }

    #[test]
    fn a_cloud_names_no_other_path_and_nothing_out_of_bounds() {
        let good = waiting(1, 100).offer;
        for bad in [
            ReleaseOffer { brand: "../x".into(), ..good.clone() },
            ReleaseOffer { model: "a/b".into(), ..good.clone() },
            ReleaseOffer { rel: 0, ..good.clone() },
            ReleaseOffer { rel: u64::MAX, ..good.clone() },
            ReleaseOffer { sha256: "../../etc/passwd".into(), ..good.clone() },
            ReleaseOffer { sha256: "0A".repeat(32), ..good.clone() },
            ReleaseOffer { size: 0, ..good.clone() },
            ReleaseOffer { size: RELEASE_FILE_MAX + 1, ..good.clone() },
            ReleaseOffer { percent: 101, ..good.clone() },
        ] {
            assert!(Waiting::read(&bad).is_none(), "{bad:?}");
        }
    }
}
