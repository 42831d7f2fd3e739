//! A cloud for one test, and hubs that speak to it. The files of PostgreSQL are made once and copied: making them takes
//! longer than most tests.

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use hearthkey::cloud::{Clock, Cloud, Config, MachineClock, Operator, form_of_tables};
use hearthkey::domain::ids::HubId;
use hearthkey::domain::mirror::recovery::RecoveryCode;
use hearthkey::domain::mirror::signature::{Headers, RequestParts, sign_request, verify_reply};
use hearthkey::domain::mirror::statement::{LinkStatement, RecoveryKeys, UnlinkStatement};
use hearthkey::domain::mirror::wire::{Consent, Kind, Mark, Row, SyncReply, SyncRequest};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

pub const PATIENCE: Duration = Duration::from_secs(60);
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// A directory that goes away, in a place that the user of PostgreSQL can reach.
pub struct Dir(pub PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn place() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let open = |dir: &Path| std::fs::metadata(dir).is_ok_and(|m| m.permissions().mode() & 0o001 != 0);
    if built.ancestors().all(open) && built.as_os_str().len() < 60 { built } else { std::env::temp_dir() }
}

pub fn new_dir(name: &str) -> PathBuf {
    let dir = place().join(format!("{name}-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

/// A data directory with a PostgreSQL that has all tables already.
pub async fn prepared_dir() -> Dir {
    let name = form_of_tables()[..12].to_owned();
    let template = place().join(format!("hk-cloud-{name}"));
    let lock = std::fs::File::create(place().join("hk-cloud.lock")).unwrap();
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    if !template.exists() {
        let making = new_dir("hkm");
        let cloud = Cloud::start(config(&making)).await.unwrap();
        // Each cloud of the tests has keys of its own.
        let facts = "DELETE FROM facts WHERE name IN ('cloud key', 'region key')";
        database_in(&making).await.execute(facts, &[]).await.unwrap();
        cloud.shut_down().await;
        std::fs::rename(&making, &template).unwrap();
    }
    drop(lock);
    let dir = new_dir("hkc");
    let from = template.join("postgres");
    // With owners and modes: PostgreSQL insists on both.
    assert!(Command::new("cp").arg("-a").arg(&from).arg(&dir).status().unwrap().success());
    Dir(dir)
}

/// The database of the cloud that runs in this directory.
async fn database_in(dir: &Path) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host_path(dir.join("postgres/socket")).user("hearthkey").dbname("hearthkey");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// As a test has it.
pub fn config(dir: &Path) -> Config {
    let mut config = Config { data_dir: dir.to_owned(), durable: false, poll: Duration::from_millis(50), ..Config::default() };
    config.listen.set_port(0);
    config.limits.attempts_per_minute = 100_000;
    config.limits.hub_requests_per_minute = 100_000;
    config
}

/// A cloud that runs.
pub struct Rig {
    pub cloud: Cloud,
    pub dir: Dir,
    pub config: Config,
}

impl Rig {
    pub async fn start() -> Rig {
        Rig::with(|_| {}).await
    }

    pub async fn with(set: impl FnOnce(&mut Config)) -> Rig {
        let dir = prepared_dir().await;
        let mut config = config(&dir.0);
        set(&mut config);
        let cloud = Cloud::start(config.clone()).await.unwrap();
        Rig { cloud, dir, config }
    }

    pub fn line(&self) -> Line {
        Line::new(self.cloud.url(), self.cloud.ca_pem().unwrap(), &self.cloud.view().key)
    }

    /// A hub that is not linked yet.
    pub fn hub(&self, n: u8) -> TestHub {
        TestHub::new(self.line(), n)
    }

    /// A hub that is linked, with consent to everything.
    pub async fn linked(&self, n: u8) -> TestHub {
        let hub = self.hub(n);
        assert_eq!(hub.link(&Consent::ALL).await.status, 201);
        hub
    }

    /// The operator's hand, beside the running cloud.
    pub async fn operator(&self) -> Operator {
        Operator::open(self.config.clone()).await.unwrap()
    }

    /// The database itself.
    pub async fn database(&self) -> tokio_postgres::Client {
        database_in(&self.dir.0).await
    }

    pub async fn count(&self, table: &str, hub: &TestHub) -> i64 {
        let query = format!("SELECT count(*) FROM {table} WHERE hub_id = $1");
        self.database().await.query_one(&query, &[&hub.id.as_bytes().as_slice()]).await.unwrap().get(0)
    }

    pub async fn end(self) {
        self.cloud.shut_down().await;
    }
}

pub fn now_s() -> u64 {
    MachineClock.now_ms() / 1000
}

/// The way to a cloud.
#[derive(Clone)]
pub struct Line {
    pub http: reqwest::Client,
    pub url: String,
    pub key: [u8; 32],
}

/// A reply that was signed by the cloud.
#[derive(Debug)]
pub struct Signed {
    pub status: u16,
    pub body: Vec<u8>,
    pub created_s: u64,
    pub content_range: String,
}

impl Signed {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn sync(self) -> SyncReply {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Line {
    pub fn new(url: &str, ca_pem: &str, key: &str) -> Line {
        let mut roots = rustls::RootCertStore::empty();
        let der = hearthkey::net::Certificate::from_pem(ca_pem).unwrap();
        roots.add(rustls::pki_types::CertificateDer::from(der.der().to_vec())).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(PATIENCE).build().unwrap();
        let key = BASE64URL_NOPAD.decode(key.as_bytes()).unwrap().try_into().unwrap();
        Line { http, url: url.to_owned(), key }
    }

    /// Sends a request; the reply must be signed.
    pub async fn send(&self, request: reqwest::RequestBuilder, signature: &str) -> Signed {
        self.try_send(request, signature).await.unwrap()
    }

    pub async fn try_send(&self, request: reqwest::RequestBuilder, signature: &str) -> Result<Signed, reqwest::Error> {
        let reply = request.send().await?;
        let header = |name: &str| reply.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let headers = (header("content-digest"), header("signature-input"), header("signature"), header("content-range"));
        let status = reply.status().as_u16();
        let body = reply.bytes().await?.to_vec();
        let signed = Headers { content_digest: &headers.0, signature_input: &headers.1, signature: &headers.2 };
        let created_s = verify_reply(&self.key, status, &body, signature, &signed).expect("a signed reply");
        Ok(Signed { status, body, created_s, content_range: headers.3 })
    }

    pub async fn get(&self, path: &str) -> Signed {
        self.send(self.http.get(format!("{}{path}", self.url)), "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Signed {
        self.send(self.http.post(format!("{}{path}", self.url)).body(body.to_string()), "").await
    }
}

/// A hub, as its protocol shows it.
#[derive(Clone)]
pub struct TestHub {
    pub line: Line,
    pub id: HubId,
    pub identity: SigningKey,
    pub mirror: SigningKey,
    pub code: Option<RecoveryCodeBytes>,
    pub epoch: u64,
    pub batch: u64,
    pub cursor: u64,
    pub region: String,
    pub link_code: String,
}

pub type RecoveryCodeBytes = [u8; 20];

impl TestHub {
    pub fn new(line: Line, n: u8) -> TestHub {
        let identity = SigningKey::from_bytes(&[n; 32]);
        TestHub {
            line,
            id: HubId::from_public_key(identity.verifying_key().as_bytes()),
            identity,
            mirror: SigningKey::from_bytes(&[n.wrapping_add(100); 32]),
            code: Some([n; 20]),
            epoch: 1,
            batch: 0,
            cursor: 0,
            region: "local".into(),
            link_code: String::new(),
        }
    }

    pub fn recovery(&self) -> RecoveryCode {
        RecoveryCode::from_bytes(self.code.unwrap())
    }

    pub fn statement(&self, consent: &[Consent]) -> LinkStatement {
        let recovery = self.code.map(|_| {
            let code = self.recovery();
            RecoveryKeys { key: code.epoch_key(&self.id).verifying_key().to_bytes(), recipient: code.age_recipient(&self.id) }
        });
        LinkStatement {
            identity: self.identity.verifying_key().to_bytes(),
            mirror: self.mirror.verifying_key().to_bytes(),
            epoch: self.epoch,
            recovery,
            recipient: RECIPIENT.into(),
            name: "Home".into(),
            region: self.region.clone(),
            consent: consent.iter().copied().collect::<BTreeSet<_>>(),
            at_s: now_s(),
            cloud: self.line.key,
            code: self.link_code.clone(),
        }
    }

    pub async fn link(&self, consent: &[Consent]) -> Signed {
        self.link_with(&self.statement(consent)).await
    }

    pub async fn link_with(&self, link: &LinkStatement) -> Signed {
        let body = json!({"link": BASE64URL_NOPAD.encode(&link.sign(&self.identity))});
        self.call("POST", "/v1/hubs", body.to_string().into_bytes()).await
    }

    pub async fn unlink(&self) -> Signed {
        self.call("DELETE", &self.own(""), self.unlink_body()).await
    }

    pub fn unlink_body(&self) -> Vec<u8> {
        let statement = UnlinkStatement { hub: self.id, at_s: now_s() }.sign(&self.identity);
        json!({"unlink": BASE64URL_NOPAD.encode(&statement)}).to_string().into_bytes()
    }

    pub fn own(&self, rest: &str) -> String {
        format!("/v1/hubs/{}{rest}", self.id)
    }

    /// A signed request that has not been sent, and its signature.
    pub fn signed(&self, method: &str, path: &str, body: Vec<u8>, created_s: u64) -> (reqwest::RequestBuilder, String) {
        let target_uri = format!("{}{path}", self.line.url);
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let parts = RequestParts { method, target_uri: &target_uri, body: &body, epoch: self.epoch };
        let signed = sign_request(&self.mirror, &self.id, &parts, created_s, nonce);
        let request = self
            .line
            .http
            .request(method.parse().unwrap(), &target_uri)
            .header("content-digest", signed.content_digest)
            .header("signature-input", signed.signature_input)
            .header("signature", &signed.signature)
            .header("hearthkey-epoch", self.epoch)
            .body(body);
        (request, signed.signature)
    }

    pub async fn call(&self, method: &str, path: &str, body: Vec<u8>) -> Signed {
        let (request, signature) = self.signed(method, path, body, now_s());
        self.line.send(request, &signature).await
    }

    /// The next batch with this in it.
    pub fn batch(&self, fill: impl FnOnce(&mut SyncRequest)) -> SyncRequest {
        let mut request = SyncRequest { v: 1, epoch: self.epoch, batch: self.batch + 1, cursor: self.cursor, ..SyncRequest::default() };
        fill(&mut request);
        request
    }

    pub async fn try_sync(&self, request: &SyncRequest) -> Signed {
        self.call("POST", &self.own("/sync"), serde_json::to_vec(request).unwrap()).await
    }

    /// An exchange that must succeed; batch and cursor move on.
    pub async fn sync(&mut self, fill: impl FnOnce(&mut SyncRequest)) -> SyncReply {
        let request = self.batch(fill);
        let reply = self.try_sync(&request).await.sync();
        assert_eq!(reply.ack, request.batch);
        (self.batch, self.cursor) = (reply.ack, reply.cursor);
        reply
    }
}

pub fn row(kind: Kind, key: &str, generation: u64, version: u64, body: Value) -> Row {
    Row { kind, key: key.into(), generation, version, origin: "hub".into(), body }
}

pub fn mark(kind: Kind, key: &str, generation: u64) -> Mark {
    Mark { kind, key: key.into(), generation, at: 7, by: "user:1".into() }
}
