//! Firmware at the hub: taking releases in, offering them, handing them out, and keeping away what is not safe any more; over the
//! sockets that makers' files, people and devices come in by. What a device does with an image is played by hand.

mod behind;
mod crashes;
mod downloads;
mod full;
mod held;
mod imports;
mod offers;

use crate::house::{Device, House};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use hearthkey::domain::brand::{KeyPurpose, PurposeCertificate};
use hearthkey::domain::firmware::release::{Head, ImageHash, Release, write_head};
use hearthkey::domain::ids::{BrandId, ModelName};
use hearthkey::sim::mqtt::{Client, Message, Publish, Qos};
use hearthkey::sim::tls::Stream;
use serde_json::{Value, json};
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(10);
const OFFER: &str = "firmware/offer";

/// The maker's firmware key: in a workshop's directory it lies beside the others.
fn firmware_key(house: &House) -> (SigningKey, Vec<u8>) {
    let file = house.workshop.brand(&house.brand).unwrap().dir.join("firmware.json");
    let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let bytes = |name: &str| BASE64URL_NOPAD.decode(file[name].as_str().unwrap().as_bytes()).unwrap();
    (SigningKey::from_bytes(bytes("secret_key").as_slice().try_into().unwrap()), bytes("certificate"))
}

/// A release file as the workshop in this directory of a brand signs it, whatever it has signed before.
pub fn release_file(brand_dir: &std::path::Path, model: &str, hardware: &str, rel: u64, image: &[u8]) -> Vec<u8> {
    let read = |name: &str| serde_json::from_slice::<Value>(&std::fs::read(brand_dir.join(name)).unwrap()).unwrap();
    let (brand, firmware) = (read("brand.json"), read("firmware.json"));
    let bytes = |value: &Value| BASE64URL_NOPAD.decode(value.as_str().unwrap().as_bytes()).unwrap();
    let release = Release {
        brand: BrandId::parse(brand["brand"].as_str().unwrap()).unwrap(),
        model: ModelName::parse(model).unwrap(),
        hardware: vec![hardware.into()],
        rel,
        version: format!("1.{rel}.0"),
        sha256: ImageHash::of(image),
        size: image.len() as u64,
        notes: "It is better.".into(),
        least_before: 0,
        security_minimum: 0,
        made_at: 1_800_000_000,
    };
    let key = SigningKey::from_bytes(bytes(&firmware["secret_key"]).as_slice().try_into().unwrap());
    let root = bytes(&brand["root_public_key"]).as_slice().try_into().unwrap();
    let head = Head { root, certificate: bytes(&firmware["certificate"]), release: release.sign(&key) };
    [write_head(&head).unwrap(), image.to_vec()].concat()
}

/// An image of so many bytes, which are told apart by `seed`.
pub fn image(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|n| seed.wrapping_add(u8::try_from(n % 251).unwrap())).collect()
}

/// What the maker releases.
#[derive(Clone)]
pub struct Made {
    pub release: Release,
    pub image: Vec<u8>,
}

impl Made {
    pub async fn new(house: &House, rel: u64, image: Vec<u8>) -> Made {
        let release = Release {
            brand: house.brand.clone(),
            model: ModelName::parse("lamp").unwrap(),
            hardware: vec![hardware(house).await],
            rel,
            version: format!("1.{rel}.0"),
            sha256: ImageHash::of(&image),
            size: image.len() as u64,
            notes: "It is better.".into(),
            least_before: 0,
            security_minimum: 0,
            made_at: 1_800_000_000,
        };
        Made { release, image }
    }

    fn with(mut self, change: impl FnOnce(&mut Release)) -> Made {
        change(&mut self.release);
        self
    }

    fn head(&self, house: &House) -> Head {
        let (key, certificate) = firmware_key(house);
        Head { root: house.workshop.brand(&house.brand).unwrap().root, certificate, release: self.release.sign(&key) }
    }

    pub fn file(&self, house: &House) -> Vec<u8> {
        [write_head(&self.head(house)).unwrap(), self.image.clone()].concat()
    }
}

/// The hardware revision of this workshop's lamps.
pub async fn hardware(house: &House) -> String {
    let lamp = house.device("lamp").await;
    house.hub.service().device(&house.owner, &lamp.id).unwrap().hardware
}

impl House {
    fn client(&self) -> (reqwest::Client, String) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = reqwest::Certificate::from_der(&self.hub.identity().ca_der).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
        (client, format!("https://localhost:{}", self.hub.addresses.https.unwrap().port()))
    }

    /// Uploads a file as it stands: status and answer.
    pub async fn upload(&self, token: &str, file: Vec<u8>) -> (u16, Value) {
        let (client, base) = self.client();
        let request = client.post(format!("{base}/api/v1/firmware")).bearer_auth(token);
        let answer = request.header("content-type", "application/octet-stream").body(file).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    pub async fn taken(&self, made: &Made) {
        let (status, answer) = self.upload(&self.owner_token, made.file(self)).await;
        assert_eq!((status, &answer["rel"]), (201, &json!(made.release.rel)), "{answer}");
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.http(method, path, &self.owner_token, body).await
    }

    /// Chooses for all lamps; that there are lamps is known from the first batch on.
    pub async fn policy(&self, policy: Value) {
        hardware(self).await;
        let (status, answer) = self.call("PUT", "/firmware/acme/lamp/policy", Some(policy)).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn firmware_of(&self, lamp: &Lamp) -> Value {
        let (status, answer) = self.call("GET", &format!("/devices/{}/firmware", lamp.device.id), None).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    async fn audited(&self, action: &str) -> usize {
        let (_, log) = self.call("GET", &format!("/audit?limit=500&action={action}"), None).await;
        log["entries"].as_array().unwrap().len()
    }

    /// A claimed lamp that is connected and listens for firmware, and the offer that it is told at once.
    pub async fn lamp(&self) -> (Lamp, Value) {
        let device = self.device("lamp").await;
        self.claim(&device).await;
        self.listening(device).await
    }

    async fn listening(&self, device: Device) -> (Lamp, Value) {
        let client = self.connect_device(&device).await;
        let mut lamp = Lamp { device, client };
        let first = lamp.listen().await;
        (lamp, first)
    }
}

/// A lamp, played by hand.
pub struct Lamp {
    device: Device,
    client: Client<Stream>,
}

impl Lamp {
    async fn listen(&mut self) -> Value {
        let (offer, chunk) = (self.device.topic(OFFER), self.device.topic("firmware/chunk"));
        assert_eq!(self.client.subscribe(&[(&offer, Qos::AtLeastOnce), (&chunk, Qos::AtMostOnce)]).await.unwrap(), [1, 0]);
        self.offer().await
    }

    /// The next message.
    async fn hear(&mut self) -> Publish {
        self.client.receive(SHORT).await.unwrap().expect("nothing came")
    }

    /// The next offer.
    pub async fn offer(&mut self) -> Value {
        let heard = self.hear().await;
        assert_eq!(heard.topic.to_string(), self.device.topic(OFFER));
        serde_json::from_slice(&heard.payload).unwrap()
    }

    /// All that is there for it now.
    async fn waiting(&mut self) -> Vec<Publish> {
        self.client.ping().await.unwrap();
        self.client.ping().await.unwrap();
        let mut all = Vec::new();
        while let Some(heard) = self.client.receive(Duration::ZERO).await.unwrap() {
            all.push(heard);
        }
        all
    }

    async fn say(&mut self, place: &str, body: &Value) -> u8 {
        self.client.publish(&Message::new(self.device.topic(place), body.to_string(), Qos::AtLeastOnce)).await.unwrap()
    }

    async fn report(&mut self, body: Value) {
        assert_eq!(self.say("firmware/report", &body).await, 0);
    }

    /// Runs `rel` and does nothing.
    pub async fn runs(&mut self, rel: u64) {
        self.report(json!({"rel": rel, "version": format!("1.{rel}.0"), "state": "idle"})).await;
    }

    /// Runs `rel`, and is so far with an offer.
    pub async fn is(&mut self, rel: u64, state: &str, offer: &Value, more: Value) {
        let mut body = json!({"rel": rel, "version": format!("1.{rel}.0"), "state": state, "offer": offer["offer"]});
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.report(body).await;
    }
}

/// A certificate for firmware of a brand that nobody trusts.
fn foreign(house: &House, made: &Made) -> Vec<u8> {
    let (root, key) = (SigningKey::from_bytes(&[3; 32]), SigningKey::from_bytes(&[4; 32]));
    let certificate = PurposeCertificate {
        brand: house.brand.clone(),
        purpose: KeyPurpose::Firmware,
        public_key: key.verifying_key().to_bytes(),
        issued: 1,
        serial: 1,
    };
    let head = Head { root: root.verifying_key().to_bytes(), certificate: certificate.sign(&root), release: made.release.sign(&key) };
    [write_head(&head).unwrap(), made.image.clone()].concat()
}
