//! The web by itself: a service over a store in a directory of its own, a clock that tests set, and connections that are
//! pipes. Requests are written and answers are read as bytes, so that nothing a client library adds hides a fault.

mod accounts;
mod apps;
mod calls;
mod history;
mod mirror;
mod oauth;
mod pairing;
mod registry;
mod roles;
mod services;
mod streams;
mod support;
mod vendors;

use hearthkey::domain::account::Role;
use hearthkey::domain::batch::HubRequest;
use hearthkey::domain::ids::{BrandId, DeviceId, HubId, ModelName};
use hearthkey::domain::time::Grade;
use hearthkey::factory::{MintOptions, RunChoice, SAMPLES, Workshop};
use hearthkey::net::Peer;
use hearthkey::service::{Actor, Clock, HubIdentity, NewUser, Service, SessionToken, SetupRequest};
use hearthkey::sim::identity::DeviceSecret;
use hearthkey::store::{MasterKey, Store};
use hearthkey::web::{Config, Hooks, IssuedPem, MqttSocket, Router, Web, serve_connection};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const HERE: &str = "10.0.0.7";
const HOST: &str = "hearthkey.local:8443";
const PATIENCE: Duration = Duration::from_secs(10);

struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn monotonic_ms(&self) -> u64 {
        self.now_ms()
    }
    fn grade(&self) -> Grade {
        Grade::Vouched
    }
}

/// A hub that consists of its service and its web.
struct Home {
    clock: Arc<TestClock>,
    store: Store,
    service: Arc<Service>,
    router: Router,
    config: Config,
    sockets: mpsc::Receiver<MqttSocket>,
    shutdown: CancellationToken,
    workshop: Workshop,
    brand: BrandId,
    owner: String,
    dir: TempDir,
}

/// A device known to the hub, and the text of its label.
struct Known {
    id: DeviceId,
    code: String,
}

impl Home {
    async fn new() -> Home {
        Home::with(Config::default()).await
    }

    async fn with(config: Config) -> Home {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("hub.redb"), MasterKey::new([7; 32])).unwrap();
        let identity = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
        let age = age::x25519::Identity::generate();
        let hub = HubIdentity {
            id: HubId::from_public_key(&identity.verifying_key().to_bytes()),
            name: "test".into(),
            ca_der: vec![0x30, 0],
            ca_fingerprint: "AB:CD".into(),
            request_line: HubRequest::line(&identity, &age.to_public().to_string(), 1),
            age_identity: age::secrecy::ExposeSecret::expose_secret(&age.to_string()).to_owned().into(),
        };
        let clock = Arc::new(TestClock(AtomicU64::new(1_800_000_000_000)));
        let service = Service::new(store.clone(), clock.clone(), hub).await.unwrap();
        let (mqtt, sockets) = mpsc::channel(4);
        let shutdown = CancellationToken::new();
        let hooks = Hooks {
            certify: Arc::new(|csr, id| match csr {
                "good" => Ok(IssuedPem { certificate_pem: format!("for {id}"), ca_pem: "ca".into(), fingerprint: [5; 32], expires_ms: 99 }),
                _ => Err("not a signing request".into()),
            }),
            mqtt,
            metrics: Arc::new(|| "hearthkey_up 1\n".into()),
            data_dir: dir.path().to_owned(),
            shutdown: shutdown.clone(),
        };
        let router = Web::new(config.clone(), service.clone(), hooks).routes();
        let code = service.setup_code().await.unwrap().unwrap();
        let user = new_user("olivia", Role::Owner);
        let opened = service.set_up(SetupRequest { code, user }, HERE.parse().unwrap(), "test").await.unwrap();
        let owner = opened.token.reveal().to_owned();
        let workshop = Workshop::open(dir.path().join("factory")).unwrap();
        let brand = BrandId::parse("acme").unwrap();
        let made = workshop.new_brand(&brand).unwrap();
        for sample in SAMPLES {
            workshop.add_model(&brand, sample.json).unwrap();
        }
        let home = Home { clock, store, service, router, config, sockets, shutdown, workshop, brand, owner, dir };
        let actor = home.actor(&home.owner);
        home.service.trust_brand(&actor, home.brand.clone(), &made.fingerprint.to_string()).await.unwrap();
        home
    }

    fn actor(&self, token: &str) -> Actor {
        self.service.actor(&SessionToken::new(token), "test", HERE.parse().unwrap()).unwrap()
    }

    /// A further person, signed in.
    async fn person(&self, name: &str, role: Role) -> String {
        self.service.add_user(&self.actor(&self.owner), new_user(name, role)).await.unwrap();
        let opened = self.service.sign_in_person(name, PASSWORD.to_owned().into(), HERE.parse().unwrap(), "test").await.unwrap();
        opened.token.reveal().to_owned()
    }

    /// Devices of a model, in a batch file that the hub has not seen.
    fn minted(&self, model: &str, count: u64) -> (Vec<Known>, std::path::PathBuf) {
        let run = self.workshop.mint(&self.brand, &ModelName::parse(model).unwrap(), count, &MintOptions::default(), &()).unwrap();
        let file = self.dir.path().join(format!("{}.hkb", run.run));
        let request = &self.service.hub().request_line;
        self.workshop.batch(&self.brand, &RunChoice::One(run.run.clone()), request, &file, &()).unwrap();
        let known = run.devices().map(|minted| {
            let minted = minted.unwrap();
            Known { code: DeviceSecret::read(&minted.secret).unwrap().claim_qr(), id: minted.device_id }
        });
        (known.collect(), file)
    }

    /// A device that the account with this token has claimed.
    async fn claimed(&self, model: &str, token: &str) -> DeviceId {
        let (mut known, file) = self.minted(model, 1);
        self.service.import_batch(&self.actor(&self.owner), file).await.unwrap();
        let device = known.remove(0);
        self.service.claim(&self.actor(token), &device.code, None, "Mine", "Hall").await.unwrap();
        device.id
    }

    /// A connection from `ip`, over TLS as far as the web can tell.
    fn connect_from(&self, ip: &str) -> DuplexStream {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let peer = Peer { addr: SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 50_000), spki: Some([1; 32]), client_certificate: None };
        let (router, config, shutdown) = (self.router.clone(), self.config.clone(), self.shutdown.clone());
        tokio::spawn(async move { serve_connection(far, &peer, router, &config, shutdown).await });
        near
    }

    /// Sends a request as it stands, and reads the answer to its end.
    async fn send_from(&self, ip: &str, request: &[u8]) -> Answer {
        let mut stream = self.connect_from(ip);
        stream.write_all(request).await.unwrap();
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time").unwrap();
        Answer::read(&bytes)
    }

    /// A call with headers of choice.
    async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send_from(HERE, &request(line, headers, body)).await
    }

    /// A call by a program with a token.
    async fn call(&self, token: &str, line: &str, body: Option<Value>) -> Answer {
        let bearer = format!("Bearer {token}");
        let (mut headers, body) = (vec![("authorization", bearer.as_str())], body.map(|b| b.to_string()));
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        self.ask(line, &headers, body.unwrap_or_default().as_bytes()).await
    }
}

const PASSWORD: &str = "correct horse battery";

fn new_user(name: &str, role: Role) -> NewUser {
    NewUser { username: name.into(), password: PASSWORD.to_owned().into(), display_name: String::new(), role }
}

/// A request of one connection; `line` is the method and the path.
fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(n, _)| *n == "host") {
        text.push_str(&format!("Host: {HOST}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Answer {
        let end =
            bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|l| l.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.head, String::from_utf8_lossy(&self.body)))
    }

    /// The code of a problem, which must be one in every respect.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.head);
        let body = self.json();
        assert_eq!(body["status"], self.status);
        let code = body["code"].as_str().unwrap().to_owned();
        assert_eq!(body["type"], format!("urn:hearthkey:problem:{code}"));
        (self.status, code)
    }
}
