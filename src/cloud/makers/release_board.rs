//! What hubs are told of releases: read now and then, and after each change by who makes it, and kept in memory, so that an
//! exchange with a hub that has nothing new to hear asks no database for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use data_encoding::HEXLOWER;
use tokio::sync::watch;

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
    /// Since which version there is something for hubs to do about a model, as far as this process has seen.
    news: BTreeMap<OfModel, u64>,
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

    /// The release whose file has this hash (hex), unless it was withdrawn.
    pub(in crate::cloud) fn by_file(&self, sha256: &str) -> Option<&Listed> {
        self.by_model.values().flatten().find(|listed| listed.offer.sha256 == sha256 && !listed.offer.withdrawn)
    }

    /// The models about which there is something to do for a hub that was told the version `n`.
    pub(in crate::cloud) fn news_since(&self, n: u64) -> BTreeSet<OfModel> {
        self.news.iter().filter(|(_, since)| **since > n).map(|(model, _)| model.clone()).collect()
    }

    /// Notes what is new since `before`; without that, everything is. A release that nobody gets is nothing to do.
    fn note_news(&mut self, before: Option<&Releases>) {
        let does = |releases: &Releases, model: &OfModel| -> Vec<ReleaseOffer> {
            let all = releases.by_model.get(model).into_iter().flatten();
            all.map(|listed| listed.offer.clone()).filter(|offer| offer.percent > 0 || offer.withdrawn).collect()
        };
        let models = self.by_model.keys().chain(before.into_iter().flat_map(|before| before.by_model.keys()));
        let mut news = BTreeMap::new();
        for model in models {
            let known = before.and_then(|before| Some((before.news.get(model).copied()?, does(before, model))));
            let since = match known {
                Some((since, was)) if was == does(self, model) => since,
                None if before.is_some() && does(self, model).is_empty() => continue,
                _ => self.version,
            };
            news.insert(model.clone(), since);
        }
        self.news = news;
    }
}

/// The newest [`Releases`] that were read; none at first.
#[derive(Default)]
pub(in crate::cloud) struct Board(RwLock<Option<Arc<Releases>>>, watch::Sender<u64>);

impl Board {
    /// As read last; `None` when nothing was read since the start.
    pub(in crate::cloud) fn now(&self) -> Option<Arc<Releases>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The version, as it changes.
    pub(in crate::cloud) fn versions(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }

    fn put(&self, mut releases: Releases) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Two that have read at once: the older one comes too late.
        if known.as_ref().is_some_and(|known| known.version > releases.version) {
            return;
        }
        releases.note_news(known.as_deref());
        let version = releases.version;
        *known = Some(Arc::new(releases));
        drop(known);
        self.1.send_replace(version);
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
                "SELECT number, brand, model, rel, sha256, size, CASE WHEN stopped OR withdrawn THEN 0 ELSE percent END, withdrawn FROM releases \
                 WHERE state = 'complete' ORDER BY brand, model, rel DESC LIMIT $1",
                &[&RELEASES],
            )
            .await?;
        let mut releases = Releases { version, ..Releases::default() };
        for row in rows {
            let (brand, model): (String, String) = (row.get(1), row.get(2));
            let offer = ReleaseOffer {
                brand: brand.clone(),
                model: model.clone(),
                rel: row.get::<_, i64>(3).unsigned_abs(),
                sha256: HEXLOWER.encode(row.get(4)),
                size: row.get::<_, i64>(5).unsigned_abs(),
                percent: u8::try_from(row.get::<_, i64>(6)).unwrap_or(0),
                withdrawn: row.get(7),
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

    fn offer(model: &str, rel: u64, percent: u8) -> ReleaseOffer {
        let (brand, model, sha256) = ("acme".into(), model.to_owned(), format!("{model}{rel}"));
        ReleaseOffer { brand, model, rel, sha256, size: 1, percent, withdrawn: false }
    }

    #[test]
    fn there_is_news_of_a_model_when_there_is_something_to_do_about_it_and_of_no_other() {
        let of = |model: &str| ("acme".to_owned(), model.to_owned());
        let board = Board::default();
        let versions = board.versions();
        let put = |version, offers: &[ReleaseOffer]| {
            let mut releases = Releases { version, ..Releases::default() };
            for offer in offers {
                releases.by_model.entry(of(&offer.model)).or_default().push(Listed { number: 0, offer: offer.clone() });
            }
            board.put(releases);
        };
        let news = |n| board.now().unwrap().news_since(n).into_iter().map(|(_, model)| model).collect::<Vec<_>>();
        put(4, &[offer("door", 1, 100), offer("lamp", 1, 0)]);
        assert_eq!((news(3), news(4)), (vec!["door".to_owned(), "lamp".to_owned()], vec![]), "what came before this process is not known");
        put(5, &[offer("door", 1, 100), offer("lamp", 1, 0), offer("plug", 1, 0)]);
        assert!(news(4).is_empty(), "nobody gets that");
        put(6, &[offer("door", 1, 100), offer("lamp", 1, 10), offer("plug", 1, 0)]);
        assert_eq!((news(5), news(6)), (vec!["lamp".to_owned()], vec![]));
        put(7, &[ReleaseOffer { withdrawn: true, ..offer("door", 1, 0) }, offer("lamp", 1, 10), offer("plug", 1, 5)]);
        assert_eq!((news(6), news(5).len()), (vec!["door".to_owned(), "plug".to_owned()], 3));
        assert!(board.now().unwrap().by_file("door1").is_none(), "its file is gone");
        put(6, &[]);
        assert_eq!((board.now().unwrap().version, *versions.borrow()), (7, 7), "what was read before comes too late");
    }

    #[test]
    fn the_newest_of_each_model_comes_before_the_second_of_any_and_not_more_than_fit() {
        let listed = |model: &str, rel: u64| Listed { number: 0, offer: offer(model, rel, 100) };
        let of = |model: &str| ("acme".to_owned(), model.to_owned());
        let mut releases = Releases { version: 1, ..Releases::default() };
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
