//! The way to the cloud: a real hub against a cloud that does what a test wants, over real TLS.

mod batches;
pub mod cloud;
mod exchange;
mod lasting;
mod outside;
mod proxy;
mod releases;

use crate::house::{House, HouseOptions};
use cloud::{Cloud, PATIENCE};
use hearthkey::domain::mirror::wire::Consent;
use hearthkey::hub::{BoxClock, Config, Hub};
use hearthkey::service::{MirrorState, NewLink};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A house that believes this cloud's authority, and has not linked it.
async fn house(cloud: &Cloud, clock: Option<Arc<dyn BoxClock>>, set: impl FnOnce(&mut Config) + Send + 'static) -> House {
    let usual = usual(cloud);
    let set = move |config: &mut Config| {
        usual(config);
        set(config);
    };
    House::build(HouseOptions { set: Box::new(set), clock, ..HouseOptions::default() }).await
}

/// How a hub finds this cloud.
pub fn usual(cloud: &Cloud) -> impl Fn(&mut Config) + Send + 'static {
    let ca_file = cloud.ca_file.clone();
    move |config| {
        config.cloud.ca_file = Some(ca_file.clone());
        config.cloud.proxy = Some("none".into());
        config.cloud.debounce_ms = 0;
    }
}

/// The same house, its hub stopped and started again with other settings.
async fn restarted(house: House, clock: Option<Arc<dyn BoxClock>>, set: impl FnOnce(&mut Config)) -> House {
    let House { hub, dir, workshop, brand, owner, owner_token } = house;
    hub.shut_down().await;
    let mut config = crate::house::config(&dir);
    set(&mut config);
    let hub = match clock {
        Some(clock) => Hub::start_by(config, clock).await.unwrap(),
        None => Hub::start(config).await.unwrap(),
    };
    House { hub, dir, workshop, brand, owner, owner_token }
}

/// A house that has linked this cloud and has never called it: it does so for the first time with these settings.
async fn linked_blindly(cloud: &Cloud, clock: Option<Arc<dyn BoxClock>>, set: impl FnOnce(&mut Config)) -> House {
    let silent = house(cloud, None, |config| config.cloud.enabled = false).await;
    link(&silent, cloud).await;
    let usual = usual(cloud);
    restarted(silent, clock, move |config| {
        usual(config);
        set(config);
    })
    .await
}

/// A house that has linked this cloud.
async fn linked(cloud: &Cloud) -> House {
    let house = house(cloud, None, |_| {}).await;
    link(&house, cloud).await;
    house
}

async fn link(house: &House, cloud: &Cloud) {
    link_for(house, cloud, &[Consent::Devices, Consent::Twins, Consent::People, Consent::Audit]).await;
}

async fn link_for(house: &House, cloud: &Cloud, consent: &[Consent]) {
    let new = NewLink {
        url: cloud.url(),
        key: data_encoding::BASE64URL_NOPAD.encode(&cloud.public()),
        region: "eu".into(),
        consent: BTreeSet::from_iter(consent.iter().copied()),
        brands: Vec::new(),
        code: String::new(),
    };
    house.hub.service().link_cloud(&house.owner, new).await.unwrap();
}

/// An exchange is wished for, though nothing has changed.
fn wish(house: &House) {
    house.hub.service().mirror_wish().notify_one();
}

fn state(house: &House) -> MirrorState {
    house.hub.service().cloud_status(&house.owner).unwrap().state
}

/// Waits until the link stands so; the service tells nobody when that changes.
async fn until(house: &House, what: &str, is: impl Fn(&MirrorState) -> bool) -> MirrorState {
    let looking = async {
        loop {
            let state = state(house);
            if is(&state) {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{what}: {:?}", state(house)))
}

/// The word for what is wrong, if something is.
fn code(state: &MirrorState) -> &'static str {
    state.problem.as_ref().map_or("", |problem| problem.code)
}

/// A metric's value.
async fn metric(house: &House, name: &str) -> u64 {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_der(&house.hub.identity().ca_der).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let url = format!("https://localhost:{}/metrics", house.hub.addresses.https.unwrap().port());
    let text = client.get(url).bearer_auth(&house.owner_token).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in {text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}
