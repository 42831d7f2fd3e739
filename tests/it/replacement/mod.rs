//! A hub that dies and is replaced: the devices of the house come back by themselves, what was revoked stays revoked, and
//! the hub before steps down.

mod at_a_cloud;
mod devices;
mod order;
mod retired;

use crate::house::{Device, HERE, House, config};
use hearthkey::domain::ids::{BrandId, HubId};
use hearthkey::domain::mirror::recovery::RecoveryCode;
use hearthkey::domain::mirror::statement::{EpochStatement, RecoveryRequest};
use hearthkey::factory::Workshop;
use hearthkey::hub::{
    BundleSource, CloudFacts, Courier, CourierError, Fetching, Hub, RecoverError, RecoverOrder, Recovered, SystemBox, recover,
};
use hearthkey::service::SessionToken;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const PASSWORD: &str = "correct horse battery";

/// What a cloud keeps of one hub, without a network.
#[derive(Default)]
struct Kept {
    bundle: Vec<u8>,
    recovery: [u8; 32],
    epoch: u64,
    /// The statement that began the newest epoch.
    statement: Option<Vec<u8>>,
    /// The next epoch is not taken.
    refuses: bool,
}

struct Keeper(Mutex<Kept>);

const CLOUD_KEY: [u8; 32] = [0x31; 32];

fn no(code: &str) -> CourierError {
    CourierError { code: code.into(), detail: code.into(), next: "try again".into() }
}

impl Keeper {
    /// Keeps the bundle of this house's hub.
    async fn of(house: &House, code: &RecoveryCode) -> Arc<Keeper> {
        let hub = house.hub.identity().id;
        let bundle = house.hub.service().take_bundle(&house.owner).await.unwrap();
        let recovery = code.epoch_key(&hub).verifying_key().to_bytes();
        Arc::new(Keeper(Mutex::new(Kept { bundle, recovery, epoch: 1, ..Kept::default() })))
    }

    fn statement(&self) -> Vec<u8> {
        self.0.lock().unwrap().statement.clone().expect("an epoch was begun")
    }
}

impl Courier for Keeper {
    fn look(&self) -> Fetching<'_, CloudFacts> {
        Box::pin(async { Ok(CloudFacts { key: CLOUD_KEY, now_s: 1_900_000_000 }) })
    }
    fn bundle<'a>(&'a self, hub: &'a HubId, request: Vec<u8>) -> Fetching<'a, (Vec<u8>, u64)> {
        Box::pin(async move {
            let kept = self.0.lock().unwrap();
            let asked = RecoveryRequest::verify(&kept.recovery, &request).map_err(|_| no("signature"))?;
            assert_eq!((asked.hub, asked.cloud), (*hub, CLOUD_KEY));
            Ok((kept.bundle.clone(), kept.epoch))
        })
    }
    fn begin<'a>(&'a self, hub: &'a HubId, epoch: u64, statement: Vec<u8>, mirror: ed25519_dalek::SigningKey, _: u64) -> Fetching<'a, ()> {
        Box::pin(async move {
            let mut kept = self.0.lock().unwrap();
            let begun = EpochStatement::verify(&kept.recovery, &statement).map_err(|_| no("signature"))?;
            assert_eq!((begun.hub, begun.epoch, begun.mirror), (*hub, epoch, mirror.verifying_key().to_bytes()));
            if kept.refuses || begun.epoch <= kept.epoch {
                return Err(no("epoch_stale"));
            }
            (kept.epoch, kept.statement) = (epoch, Some(statement));
            Ok(())
        })
    }
}

/// The owner makes the recovery code, as on the page.
async fn make_code(house: &House) -> RecoveryCode {
    let (status, made) = house.http("POST", "/recovery", &house.owner_token, Some(json!({"password": PASSWORD}))).await;
    assert_eq!((status, &made["hub"]), (201, &json!(house.hub.identity().id.to_string())));
    assert!(made["qr"].as_str().unwrap().contains("<svg") && made["url"] == Value::Null);
    RecoveryCode::parse(made["code"].as_str().unwrap()).unwrap()
}

fn cloud(keeper: &Arc<Keeper>) -> BundleSource {
    BundleSource::Cloud(keeper.clone())
}

async fn try_recover(dir: &TempDir, hub: HubId, code: &RecoveryCode, from: BundleSource) -> Result<Recovered, RecoverError> {
    let config = config(dir);
    let order = RecoverOrder { hub, code: code.clone(), from };
    recover(&config, Arc::new(SystemBox::new(&config.clock)), order).await
}

/// What is left of a house whose hub is gone.
struct Ruin {
    workshop: Workshop,
    brand: BrandId,
    hub: HubId,
    /// Where devices look for their hub.
    mqtts: SocketAddr,
    /// The directory of the hub that is gone.
    dir: TempDir,
}

/// The hub is switched off for good.
async fn destroyed(house: House) -> Ruin {
    let House { hub, dir, workshop, brand, .. } = house;
    let (id, mqtts) = (hub.identity().id, hub.addresses.mqtts.unwrap());
    hub.shut_down().await;
    Ruin { workshop, brand, hub: id, mqtts, dir }
}

impl Ruin {
    /// Another hub from the bundle, at the same address, in a directory of its own; the owner signs in.
    async fn rebuilt(self, code: &RecoveryCode, from: BundleSource) -> House {
        let Ruin { workshop, brand, mqtts, hub, dir: _gone } = self;
        let dir = tempfile::tempdir().unwrap();
        try_recover(&dir, hub, code, from).await.unwrap();
        let mut config = config(&dir);
        config.mqtts.address = mqtts;
        let hub = Hub::start(config).await.unwrap();
        let opened = hub.service().sign_in_person("olivia", PASSWORD.to_owned().into(), HERE, "test").await.unwrap();
        let owner = hub.service().actor(&opened.token, "test", HERE).unwrap();
        House { hub, dir, workshop, brand, owner, owner_token: opened.token.reveal().to_owned() }
    }
}

async fn sign_in(house: &House, name: &str, password: &str) -> String {
    let opened = house.hub.service().sign_in_person(name, password.to_owned().into(), HERE, "test").await.unwrap();
    opened.token.reveal().to_owned()
}

fn actor(house: &House, token: &str) -> hearthkey::service::Actor {
    house.hub.service().actor(&SessionToken::new(token), "test", HERE).unwrap()
}

/// A claimed device, and its operational secret.
async fn claimed(house: &House, model: &str) -> (Device, String) {
    let device = house.device(model).await;
    house.claim(&device).await;
    let secret = crate::signing_in::fetch_secret(house, &device).await;
    (device, secret)
}
