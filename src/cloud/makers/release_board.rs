//! What hubs are told of releases: read now and then, and after each change by who makes it, and kept in memory, so that an
//! exchange with a hub that has nothing new to hear asks no database for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use data_encoding::HEXLOWER;

use super::Makers;
use crate::cloud::reply::Refused;
use crate::domain::mirror::wire::{RELEASES_MAX, ReleaseOffer};

/// Releases that are kept in memory; the newest of each model come first.
const RELEASES: i64 = 50_000;

/// A brand and its model.
pub(in crate::cloud) type OfModel = (String, String);

/// A release as hubs are told of it, and where its file is.
#[derive(Debug)]
pub(in crate::cloud) struct Listed {
    pub(in crate::cloud) number: i64,
    pub(in crate::cloud) offer: ReleaseOffer,
}

/// All releases that are complete, as they were at one moment.
#[derive(Debug, Default)]
pub(in crate::cloud) struct Releases {
    /// Of that moment; 0 when there has never been any.
    pub(in crate::cloud) version: u64,
    /// The newest of a model first.
    by_model: BTreeMap<OfModel, Vec<Listed>>,
}

impl Releases {
    /// Whether there are none.
    pub(in crate::cloud) fn is_empty(&self) -> bool {
        self.by_model.is_empty()
    }

    /// Whether there are any of this model.
    pub(in crate::cloud) fn has(&self, model: &OfModel) -> bool {
        self.by_model.contains_key(model)
    }

    /// What a hub with these models is told: at most [`RELEASES_MAX`], the newest of each model before the second of any.
    pub(in crate::cloud) fn offers(&self, models: &BTreeSet<OfModel>) -> Vec<ReleaseOffer> {
        let there: Vec<&Vec<Listed>> = models.iter().filter_map(|model| self.by_model.get(model)).collect();
        let deepest = there.iter().map(|all| all.len()).max().unwrap_or(0);
        let in_turn = (0..deepest).flat_map(|depth| there.iter().filter_map(move |all| all.get(depth)));
        in_turn.take(RELEASES_MAX).map(|listed| listed.offer.clone()).collect()
    }

    /// The release whose file has this hash (hex).
    pub(in crate::cloud) fn by_file(&self, sha256: &str) -> Option<&Listed> {
        self.by_model.values().flatten().find(|listed| listed.offer.sha256 == sha256)
    }
}

/// The newest [`Releases`] that were read; none at first.
#[derive(Default)]
pub(in crate::cloud) struct Board(RwLock<Option<Arc<Releases>>>);

impl Board {
    /// As read last; `None` when nothing was read since the start.
    pub(in crate::cloud) fn now(&self) -> Option<Arc<Releases>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, releases: Releases) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(releases));
    }
}

impl Makers {
    /// Reads the releases, if they have changed since they were read.
    pub(in crate::cloud) async fn look_at_releases(&self) -> Result<(), Refused> {
        let mut client = self.shards.first().await?;
        // Version and rows of one moment.
        let tx = client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead).read_only(true).start().await?;
        let version = tx.query_one("SELECT version FROM release_board", &[]).await?.get::<_, i64>(0).unsigned_abs();
        if self.board.now().is_some_and(|known| known.version == version) {
            return Ok(());
        }
        let rows = tx
            .query(
                "SELECT number, brand, model, rel, sha256, size, CASE WHEN stopped THEN 0 ELSE percent END FROM releases \
                 WHERE state = 'complete' ORDER BY brand, model, rel DESC LIMIT $1",
                &[&RELEASES],
            )
            .await?;
        let mut releases = Releases { version, by_model: BTreeMap::new() };
        for row in rows {
            let (brand, model): (String, String) = (row.get(1), row.get(2));
            let offer = ReleaseOffer {
                brand: brand.clone(),
                model: model.clone(),
                rel: row.get::<_, i64>(3).unsigned_abs(),
                sha256: HEXLOWER.encode(row.get(4)),
                size: row.get::<_, i64>(5).unsigned_abs(),
                percent: u8::try_from(row.get::<_, i64>(6)).unwrap_or(0),
            };
            releases.by_model.entry((brand, model)).or_default().push(Listed { number: row.get(0), offer });
        }
        self.board.put(releases);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_model_comes_before_the_second_of_any_and_not_more_than_fit() {
        let listed = |model: &str, rel: u64| Listed {
            number: 0,
            offer: ReleaseOffer { brand: "acme".into(), model: model.into(), rel, sha256: format!("{model}{rel}"), size: 1, percent: 100 },
        };
        let of = |model: &str| ("acme".to_owned(), model.to_owned());
        let mut releases = Releases { version: 1, by_model: BTreeMap::new() };
        for model in ["door", "lamp"] {
            releases.by_model.insert(of(model), (1..=30).rev().map(|rel| listed(model, rel)).collect());
        }
        let told = releases.offers(&BTreeSet::from([of("door"), of("lamp"), of("plug")]));
        let named: Vec<(&str, u64)> = told.iter().map(|offer| (offer.model.as_str(), offer.rel)).collect();
        assert_eq!(named.len(), RELEASES_MAX);
        assert_eq!(named[..4], [("door", 30), ("lamp", 30), ("door", 29), ("lamp", 29)]);
        assert!(releases.offers(&BTreeSet::from([of("plug")])).is_empty() && !releases.has(&of("plug")));
        assert!(releases.by_file("lamp7").is_some() && releases.by_file("").is_none());
    }
}
