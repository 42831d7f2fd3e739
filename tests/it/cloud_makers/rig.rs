//! A cloud with a PostgreSQL of its own, a maker's workshop, and hubs that speak the mirror's protocol.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use hearthkey::cloud::{Clock, Cloud, Config, NewService, NewVendor, Operator, Scope};
use hearthkey::domain::account::Role;
use hearthkey::domain::ids::{BrandId, DeviceId, HubId};
use hearthkey::domain::keys::{DeviceKey, Transcript, hub_scoped, pair_tag};
use hearthkey::domain::mirror::signature::{RequestParts, sign_request};
use hearthkey::domain::mirror::statement::LinkStatement;
use hearthkey::domain::mirror::wire::{Consent, Item, Kind, Mark, Paired, Row, SyncReply, SyncRequest};
use hearthkey::factory::Workshop;
use serde_json::{Value, json};

/// How long an event is awaited before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The machine's clock, put forward.
#[derive(Clone, Default)]
pub struct Later(Arc<AtomicU64>);

impl Later {
    pub fn forward(&self, minutes: u64) {
        self.0.fetch_add(minutes * 60_000, Ordering::SeqCst);
    }
}

impl Clock for Later {
    fn now_ms(&self) -> u64 {
        now_ms() + self.0.load(Ordering::SeqCst)
    }
}

pub struct Rig {
    pub clock: Later,
    pub cloud: Cloud,
    pub operator: Operator,
    workshop: PathBuf,
    _dir: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }
}

#[expect(clippy::disallowed_methods, reason = "the cloud under test goes by the machine's clock")]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// The key of the n-th device of the tests.
pub fn device_key(n: u64) -> DeviceKey {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    DeviceKey::from_bytes(bytes)
}

/// The secret file of a device, as a line.
pub fn line(brand: &str, id: &str, key: &DeviceKey) -> String {
    let key = BASE64URL_NOPAD.encode(key.as_bytes());
    let file =
        json!({"v": 1, "device_id": id, "brand": brand, "model": "lamp", "hardware": "A", "serial": format!("S-{id}"), "device_key": key});
    format!("{file}\n")
}

/// Lines of devices `lamp-000000 …`.
pub fn lines(brand: &str, from: u64, to: u64) -> String {
    (from..to).map(|n| line(brand, &format!("lamp-{n:06}"), &device_key(n))).collect()
}

impl Rig {
    /// A cloud that serves the brand `acme`, with a model `lamp`.
    pub async fn start() -> Rig {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o711)).tempdir().unwrap();
        let config = Config {
            data_dir: dir.path().join("cloud"),
            listen: "127.0.0.1:0".parse().unwrap(),
            durable: false,
            limits: hearthkey::cloud::Limits { attempts_per_minute: 10_000, ..Default::default() },
            poll: Duration::from_millis(50),
            ..Config::default()
        };
        let clock = Later::default();
        let cloud = Cloud::start_by(config.clone(), Arc::new(clock.clone())).await.unwrap();
        let operator = Operator::open(config).await.unwrap();
        let workshop = dir.path().join("workshop");
        let rig = Rig { clock, cloud, operator, workshop, _dir: dir };
        rig.brand("acme").await;
        rig
    }

    pub fn workshop(&self) -> Workshop {
        Workshop::open(&self.workshop).unwrap()
    }

    /// Makes a brand with a model `lamp`, and has the cloud serve it.
    pub async fn brand(&self, name: &str) {
        let (workshop, brand) = (self.workshop(), BrandId::parse(name).unwrap());
        workshop.new_brand(&brand).unwrap();
        workshop.add_model(&brand, r#"{"model": "lamp", "title": "Lamp", "version": 1, "kind": "lamp", "attributes": {"on": {"type": "boolean", "access": "write"}}}"#).unwrap();
        self.operator.add_tenant(&self.workshop.join(name)).await.unwrap();
    }

    pub fn brand_dir(&self, name: &str) -> PathBuf {
        self.workshop.join(name)
    }

    /// A client that comes from this address of loopback.
    pub fn client_from(&self, source: &str) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem(self.cloud.ca_pem().unwrap().as_bytes()).unwrap();
        let source: std::net::IpAddr = source.parse().unwrap();
        reqwest::Client::builder().tls_certs_only([ca]).no_proxy().local_address(source).build().unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        // Not a name that might lead to ::1: some tests choose where they come from.
        format!("https://127.0.0.1:{}{path}", self.cloud.address.port())
    }

    pub async fn ask(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, bytes: answer.bytes().await.unwrap().to_vec() }
    }

    /// A call with a token, and a JSON body unless it is null.
    pub async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Answer {
        let mut request = self.client_from("127.0.0.1").request(method.parse().unwrap(), self.url(path));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        self.ask(request).await
    }

    /// Makes a service account of a brand for 127.0.0.1: id and secret.
    pub async fn service(&self, brand: &str, scopes: &[Scope]) -> (String, String) {
        let new = NewService { name: "tests".into(), brand: brand.into(), networks: vec!["127.0.0.1".into()], scopes: scopes.to_vec() };
        let (view, secret) = self.operator.add_service(&new).await.unwrap();
        (view.id, secret.to_string())
    }

    pub async fn sign_in_service(&self, source: &str, (id, secret): &(String, String)) -> Answer {
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let request = self.client_from(source).post(self.url("/v1/token")).header("content-type", "application/x-www-form-urlencoded");
        self.ask(request.header("x-forwarded-for", "127.0.0.1").header("forwarded", "for=127.0.0.1").body(form)).await
    }

    /// A token of a new service account.
    pub async fn token(&self, brand: &str, scopes: &[Scope]) -> String {
        let account = self.service(brand, scopes).await;
        self.sign_in_service("127.0.0.1", &account).await.good()["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn vendor(&self, brand: &str, name: &str, role: Role) -> String {
        let password = "seven hedgehogs in a teapot";
        let new = NewVendor {
            username: name.into(),
            display_name: String::new(),
            role,
            brand: brand.into(),
            networks: vec!["127.0.0.1".into()],
            password: password.to_owned().into(),
        };
        self.operator.add_vendor(&new).await.unwrap();
        let answer = self.call("POST", "/v1/vendor/session", "", json!({"username": name, "password": password})).await;
        answer.good()["token"].as_str().unwrap().to_owned()
    }

    /// Sends a part of an upload.
    pub async fn upload(&self, token: &str, id: &str, offset: u64, last: bool, body: impl Into<String>) -> Answer {
        let request = self.client_from("127.0.0.1").post(self.url("/v1/identities")).bearer_auth(token);
        let request =
            request.header("upload-id", id).header("upload-offset", offset).header("upload-complete", if last { "?1" } else { "?0" });
        self.ask(request.body(body.into())).await
    }

    /// A hub that is linked, with these consents.
    pub async fn hub(&self, n: u8, consent: &[Consent]) -> Hub<'_> {
        let hub = Hub::new(self, n);
        hub.link(consent).await;
        hub
    }

    pub async fn stop(self) {
        self.operator.close().await;
        self.cloud.shut_down().await;
    }
}

/// A hub as the protocol has it, without a house.
pub struct Hub<'a> {
    rig: &'a Rig,
    identity: SigningKey,
    mirror: SigningKey,
    pub reader: age::x25519::Identity,
    pub id: HubId,
    batch: Cell<u64>,
    cursor: Cell<u64>,
}

impl<'a> Hub<'a> {
    fn new(rig: &'a Rig, n: u8) -> Hub<'a> {
        let (identity, mirror) = (SigningKey::from_bytes(&[n; 32]), SigningKey::from_bytes(&[n ^ 0x80; 32]));
        let id = HubId::from_public_key(&identity.verifying_key().to_bytes());
        Hub { rig, identity, mirror, reader: age::x25519::Identity::generate(), id, batch: Cell::new(0), cursor: Cell::new(0) }
    }

    pub async fn link(&self, consent: &[Consent]) {
        let view = self.rig.cloud.view();
        let statement = LinkStatement {
            identity: self.identity.verifying_key().to_bytes(),
            mirror: self.mirror.verifying_key().to_bytes(),
            epoch: 1,
            recovery: None,
            recipient: self.reader.to_public().to_string(),
            name: "Home".into(),
            region: view.region,
            consent: consent.iter().copied().collect::<BTreeSet<_>>(),
            at_s: now_ms() / 1000,
            cloud: BASE64URL_NOPAD.decode(view.key.as_bytes()).unwrap().try_into().unwrap(),
            code: String::new(),
        };
        let body = json!({"link": BASE64URL_NOPAD.encode(&statement.sign(&self.identity))});
        self.signed("POST", "/v1/hubs", Some(body), None).await.good();
    }

    /// A signed call.
    pub async fn signed(&self, method: &str, path: &str, body: Option<Value>, range: Option<&str>) -> Answer {
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let target_uri = format!("{}{path}", self.rig.cloud.url());
        let parts = RequestParts { method, target_uri: &target_uri, body: &body, epoch: 1 };
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let signed = sign_request(&self.mirror, &self.id, &parts, now_ms() / 1000, nonce);
        let client = self.rig.client_from("127.0.0.1");
        let mut request = client.request(method.parse().unwrap(), self.rig.url(path)).header("hearthkey-epoch", 1);
        request = request.header("content-digest", signed.content_digest).header("signature-input", signed.signature_input);
        request = request.header("signature", signed.signature);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        self.rig.ask(request.body(body)).await
    }

    /// An exchange. Marks and items that came down are taken.
    pub async fn sync(&self, request: SyncRequest) -> SyncReply {
        let batch = self.batch.get() + 1;
        let request = SyncRequest { v: 1, epoch: 1, batch, cursor: self.cursor.get(), ..request };
        let body = serde_json::to_value(&request).unwrap();
        let answer = self.signed("POST", &format!("/v1/hubs/{}/sync", self.id), Some(body), None).await;
        let reply: SyncReply = serde_json::from_value(answer.good()).unwrap();
        self.batch.set(batch);
        self.cursor.set(reply.cursor);
        reply
    }

    /// Sends rows.
    pub async fn put(&self, rows: Vec<Row>) -> SyncReply {
        self.sync(SyncRequest { put: rows, ..SyncRequest::default() }).await
    }

    /// Ends something, as the hub does.
    pub async fn end(&self, kind: Kind, key: &str, generation: u64) -> SyncReply {
        let mark = Mark { kind, key: key.into(), generation, at: now_ms(), by: "user:1".into() };
        self.sync(SyncRequest { revoke: vec![mark], ..SyncRequest::default() }).await
    }

    /// Waits until something has come down: its items and marks.
    pub async fn next(&self) -> (Vec<Item>, Vec<Mark>) {
        let waiting = async {
            loop {
                self.wake().await;
                let reply = self.sync(SyncRequest::default()).await;
                if !reply.items.is_empty() || !reply.revoke.is_empty() {
                    return (reply.items, reply.revoke);
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("something comes down")
    }

    /// Waits for a wake-up.
    async fn wake(&self) {
        let path = format!("/v1/hubs/{}/wake?cursor={}", self.id, self.cursor.get());
        let target_uri = format!("{}{path}", self.rig.cloud.url());
        let parts = RequestParts { method: "GET", target_uri: &target_uri, body: &[], epoch: 1 };
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let signed = sign_request(&self.mirror, &self.id, &parts, now_ms() / 1000, nonce);
        let request = self.rig.client_from("127.0.0.1").get(self.rig.url(&path)).header("hearthkey-epoch", 1);
        let request = request.header("content-digest", signed.content_digest).header("signature-input", signed.signature_input);
        let mut answer = request.header("signature", signed.signature).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut heard = String::new();
        while !heard.contains("data:") {
            let Some(part) = answer.chunk().await.unwrap() else { return };
            heard.push_str(&String::from_utf8_lossy(&part));
        }
    }
}

pub fn row(kind: Kind, key: &str, generation: u64, version: u64, body: Value) -> Row {
    Row { kind, key: key.into(), generation, version, origin: "test".into(), body }
}

/// A device's row.
pub fn device_row(id: &str, generation: u64, version: u64, trust: &str, resets: u64) -> Row {
    let body = json!({
        "brand": "acme", "model": "lamp", "hardware": "A", "serial": format!("S-{id}"), "trust": trust, "standing": "ready",
        "resets": resets, "claimed_at": 1_700_000_000_000u64, "firmware": "1.0", "name": "Lamp", "room": "Hall",
    });
    row(Kind::Device, id, generation, version, body)
}

/// A device's row at a hub that has paired it on the word of its voucher: with what it said, made with this key.
pub fn paired_row(hub: &HubId, n: u64, key: &DeviceKey, version: u64) -> Row {
    let id = format!("lamp-{n:06}");
    let mut row = device_row(&id, 1, version, "provisional", 0);
    let (key, device) = (hub_scoped(key, hub), DeviceId::parse(&id).unwrap());
    let tag = pair_tag(&key, hub, &device, &[4; 32], 0, "1.0");
    row.body["paired"] = serde_json::to_value(Paired::of(&Transcript { h: [4; 32], tag, resets: 0, firmware: "1.0".into() })).unwrap();
    row
}
