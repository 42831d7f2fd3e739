//! Releases of firmware from the cloud: fetched like registry batches, at a pace of their own. That one fails keeps nothing
//! else from coming.

use super::fetch::{self, FetchError, Wanted};
use super::line::{Failure, Line};
use super::pace::Backoff;
use super::random;
use super::uplink::{Uplink, own};
use crate::domain::mirror::wire::ReleaseOffer;
use std::time::Duration;
use tokio::time::Instant;

/// When releases are fetched.
pub(super) struct Releases {
    from: Instant,
    pace: Backoff,
}

impl Releases {
    pub(super) fn new() -> Releases {
        Releases { from: Instant::now(), pace: Backoff::default() }
    }

    /// When to look again, if there is anything to fetch, and `due` otherwise.
    pub(super) fn due(&self, uplink: &Uplink, due: Instant) -> Instant {
        if uplink.service.pending_releases().is_empty() { due } else { due.min(self.from) }
    }

    /// Fetches what the house lacks; whether there is more of it to fetch now.
    pub(super) async fn fetch(&mut self, uplink: &Uplink, line: &Line) -> Result<bool, Failure> {
        if Instant::now() < self.from {
            return Ok(false);
        }
        let mut parts = fetch::AT_ONCE;
        let offers = uplink.service.pending_releases();
        if uplink.service.releases_told() {
            let wanted: Vec<&str> = offers.iter().map(|offer| offer.sha256.as_str()).collect();
            fetch::tidy(&uplink.dir, fetch::RELEASE, &wanted).await;
        }
        for offer in &offers {
            match self.one(uplink, line, offer, &mut parts).await {
                Ok(true) => self.pace.reset(),
                Ok(false) => {}
                Err(FetchError::More) => return Ok(true),
                Err(FetchError::Offer(why)) => {
                    uplink.service.release_refused(offer, why, true).await.map_err(own)?;
                }
                Err(FetchError::Line(failure)) => return Ok(self.later(offer, &failure.problem.detail, failure.asked)),
                Err(FetchError::Disk(error)) => return Ok(self.later(offer, &error.to_string(), None)),
            }
        }
        Ok(false)
    }

    fn later(&mut self, offer: &ReleaseOffer, why: &str, asked: Option<Duration>) -> bool {
        let ReleaseOffer { brand, model, rel, .. } = offer;
        tracing::warn!(%brand, %model, rel, why, "a release has not come yet; the hub goes on where it was");
        self.from = Instant::now() + self.pace.pause(random(), asked);
        false
    }

    /// Fetches one; whether it was taken.
    async fn one(&mut self, uplink: &Uplink, line: &Line, offer: &ReleaseOffer, parts: &mut u32) -> Result<bool, FetchError> {
        let path = fetch::fetch(line, &uplink.dir, &Wanted::release(offer), parts).await?;
        let (service, taken, file) = (uplink.service.clone(), offer.clone(), path.clone());
        let refusal = match uplink.finish(async move { Ok(service.release_came(&taken, file).await) }).await? {
            Ok(taken) => {
                tracing::info!(brand = %taken.brand, model = %taken.model, rel = taken.rel, "a release came from the cloud");
                fetch::forget(&path).await;
                return Ok(true);
            }
            Err(refusal) => refusal,
        };
        if uplink.service.release_failed(offer, &refusal).await.map_err(own)? {
            self.later(offer, &refusal.to_string(), None);
        }
        Ok(false)
    }
}
