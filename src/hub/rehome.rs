//! A new hub after a theft, under an identity of its own: made from the bundle of the stolen one, with the household's
//! recovery code, and told to the cloud that was linked.

use super::clock::BoxClock;
use super::opening::UNFINISHED;
use super::recover::{Found, RecoverError, RecoverOrder, build, find, refuse_if_taken};
use super::{Config, keys, opening};
use crate::domain::ids::HubId;
use crate::domain::rehome::MoveRequest;
use crate::net::Certificate;
use crate::service::{Successor, fill_successor, told_in};
use std::sync::Arc;

/// What has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehomed {
    /// The hub that was stolen.
    pub old: HubId,
    /// The new one.
    pub hub: HubId,
    /// When the bundle was made, ms since 1970, by the stolen hub's clock.
    pub bundle_at: u64,
    /// The cloud has ended the stolen one.
    pub told: bool,
    /// What makers are given who are in no cloud: one line.
    pub request: String,
}

/// Makes a hub in the empty directory of `config` that follows the stolen one. `addresses` (`host:port` of MQTT over TLS) are
/// told to its devices; they find it by mDNS besides.
///
/// # Errors
/// [`RecoverError`]; nothing that could start is left.
pub async fn rehome(
    config: &Config,
    source: Arc<dyn BoxClock>,
    order: RecoverOrder,
    addresses: Vec<String>,
) -> Result<Rehomed, RecoverError> {
    let dir = config.data_dir.as_path();
    refuse_if_taken(dir)?;
    let (old, code) = (order.hub, order.code);
    let Found { bundle, known, courier, now_s } = find(source, &old, &code, order.from).await?;
    let secrets = keys::made()?;
    let age = secrets.age_identity.parse::<age::x25519::Identity>().map_err(|_| keys::KeyError::Form("the age identity".into()))?;
    let ca = Certificate::from_pem(&secrets.ca_pem).map_err(keys::KeyError::from)?.der().to_vec();
    let before = known.max(bundle.about.epoch);
    let public = (ca, age.to_public().to_string());
    let successor = Successor::new(&code, &old, before, secrets, public, addresses, now_s.saturating_mul(1000));
    MoveRequest::read(successor.request()).map_err(|error| RecoverError::Address(error.to_string()))?;
    let rehomed = Rehomed {
        old,
        hub: successor.hub(),
        bundle_at: bundle.about.at,
        told: courier.is_some(),
        request: MoveRequest::line(successor.request()),
    };
    opening::make_private(dir)?;
    let (hub, statement, mirror) = (rehomed.hub, successor.statement().to_vec(), successor.mirror_key());
    let made = build(config, async |store| {
        fill_successor(store, bundle, successor).await?;
        if let Some(courier) = courier {
            // The last that can fail for a reason: from here on the stolen hub is over.
            courier.rehome(&hub, &old, statement, mirror, now_s).await?;
            told_in(store).await?;
        }
        Ok(())
    })
    .await;
    if made.is_err() {
        let _ = std::fs::remove_file(dir.join(UNFINISHED));
    }
    made.map(|()| rehomed)
}
