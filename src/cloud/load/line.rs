//! A simulated hub's calls: signed, over TLS, the reply's signature checked, bytes counted.

use super::{LoadError, Settings};
use crate::cloud::clock::{Clock, MachineClock};
use crate::domain::ids::HubId;
use crate::domain::mirror::signature::{Headers, RequestParts, sign_request, verify_reply};
use crate::domain::mirror::wire::{CloudView, EPOCH_HEADER};
use ed25519_dalek::SigningKey;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a call.
const DEADLINE: Duration = Duration::from_secs(60);
/// Longest pause before a call is made again.
const PAUSE_MOST: Duration = Duration::from_secs(10);

/// Bytes of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes {
    /// Of bodies.
    pub body: u64,
    /// Of headers, as text; HTTP/2 sends fewer.
    pub headers: u64,
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Bytes) {
        self.body += other.body;
        self.headers += other.headers;
    }
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No answer.
    #[error("no answer: {0}")]
    Silence(String),
    /// An answer that the cloud has not signed.
    #[error("the answer is not the cloud's")]
    Stranger,
    /// A refusal.
    #[error("{status} {code}")]
    Refused {
        status: u16,
        code: String,
        /// In how long to come again.
        again: Option<Duration>,
        /// What the problem says of batches.
        batch: Option<u64>,
    },
    /// Something here.
    #[error("{0}")]
    Here(String),
}

impl Failure {
    /// Whether trying again may help.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Failure::Silence(_) => true,
            Failure::Refused { status, batch, .. } => batch.is_some() || *status == 429 || *status == 503,
            Failure::Stranger | Failure::Here(_) => false,
        }
    }

    /// How long to wait before the `n`th try.
    pub(super) fn pause(&self, n: u32) -> Duration {
        let asked = match self {
            Failure::Refused { again, .. } => *again,
            _ => None,
        };
        asked.unwrap_or(Duration::from_millis(100) * 2u32.saturating_pow(n)).min(PAUSE_MOST)
    }
}

/// How lines are made.
pub(super) struct Lines {
    url: String,
    tls: ClientConfig,
    /// The cloud's name and its address on this machine.
    here: Option<(String, SocketAddr)>,
    reconnect: bool,
}

impl Lines {
    /// Finds out where the cloud is.
    pub(super) async fn new(settings: &Settings) -> Result<Lines, LoadError> {
        let wrong = |text: String| LoadError::Setting(text);
        let url = reqwest::Url::parse(&settings.url).map_err(|error| wrong(format!("--url: {error}")))?;
        let (Some(host), Some(port), "https") = (url.host_str(), url.port_or_known_default(), url.scheme()) else {
            return Err(wrong("--url: write it as https://<host>:<port>".to_owned()));
        };
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host.trim_matches(['[', ']']), port))
            .await
            .map_err(|error| wrong(format!("--url: {host} is not found: {error}")))?
            .collect();
        let local = !found.is_empty() && found.iter().all(|address| address.ip().is_loopback());
        if !local && !settings.elsewhere {
            let text = format!("{host} is not this machine. A load is put on a cloud of one's own: with --yes-elsewhere, if it is");
            return Err(wrong(text));
        }
        let here = found.iter().find(|address| local && address.is_ipv4()).map(|address| (host.to_owned(), *address));
        let tls = tls(settings)?;
        Ok(Lines { url: settings.url.trim_end_matches('/').to_owned(), tls, here, reconnect: settings.reconnect })
    }

    fn client(&self, index: usize) -> Result<reqwest::Client, Failure> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .pool_max_idle_per_host(usize::from(!self.reconnect));
        if let Some((name, address)) = &self.here {
            // Each hub comes from an address of its own, as houses do. That all of 127.0.0.0/8 is this machine is so on Linux.
            builder = builder.resolve(name, *address);
            if cfg!(target_os = "linux") {
                builder = builder.local_address(own_address(index));
            }
        }
        builder.build().map_err(|error| Failure::Here(error.to_string()))
    }

    /// What the cloud says of itself.
    pub(super) async fn view(&self) -> Result<CloudView, Failure> {
        let asked = self.client(0)?.get(format!("{}/v1", self.url)).timeout(DEADLINE).send().await;
        asked.map_err(silence)?.json().await.map_err(silence)
    }

    /// The line of a hub with fresh keys.
    pub(super) fn line(&self, index: usize, cloud: &[u8; 32]) -> Result<Line, Failure> {
        let key = || {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| Failure::Here(format!("the system gives no randomness: {error}")))?;
            Ok::<_, Failure>(SigningKey::from_bytes(&seed))
        };
        let (identity, mirror) = (key()?, key()?);
        let hub = HubId::from_public_key(&identity.verifying_key().to_bytes());
        Ok(Line { http: self.client(index)?, base: self.url.clone(), cloud: *cloud, hub, identity, mirror })
    }
}

fn own_address(index: usize) -> Option<IpAddr> {
    let index = u32::try_from(index).ok()?;
    let [_, b, c, d] = (index + 257).to_be_bytes();
    Some(Ipv4Addr::new(127, b.saturating_add(1), c, d).into())
}

fn tls(settings: &Settings) -> Result<ClientConfig, LoadError> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let wrong = |error: String| LoadError::Setting(format!("--ca-file {}: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
                roots.add(certificate.map_err(|error| wrong(error.to_string()))?).map_err(|error| wrong(error.to_string()))?;
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
    let mut config = builder
        .map_err(|error| LoadError::Setting(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // As a hub does: every connection is a whole handshake.
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// One hub's way to the cloud.
pub(super) struct Line {
    http: reqwest::Client,
    base: String,
    cloud: [u8; 32],
    pub hub: HubId,
    pub identity: SigningKey,
    pub mirror: SigningKey,
}

/// A success.
pub(super) struct Reply {
    pub body: Vec<u8>,
    pub up: Bytes,
    pub down: Bytes,
}

impl Line {
    /// Asks for JSON with JSON.
    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> Result<Reply, Failure> {
        let (request, signature, mut up) = self.signed(reqwest::Method::POST, path, &body)?;
        up.body = body.len() as u64;
        let response = request.header(CONTENT_TYPE, "application/json").body(body).send().await.map_err(silence)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(silence)?.to_vec();
        self.prove(status, &body, &signature, &headers)?;
        if !(200..300).contains(&status) {
            return Err(refusal(status, &headers, &body));
        }
        let down = Bytes { body: body.len() as u64, headers: size(&headers) };
        Ok(Reply { body, up, down })
    }

    /// Opens a stream; it stands for as long as what is returned.
    pub(super) async fn stream(&self, path: &str) -> Result<(reqwest::Response, Bytes, Bytes), Failure> {
        let (request, signature, up) = self.signed(reqwest::Method::GET, path, &[])?;
        let response = request.send().await.map_err(silence)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        if status != 200 {
            let body = response.bytes().await.map_err(silence)?;
            return Err(refusal(status, &headers, &body));
        }
        self.prove(status, &[], &signature, &headers)?;
        let down = Bytes { body: 0, headers: size(&headers) };
        Ok((response, up, down))
    }

    fn signed(&self, method: reqwest::Method, path: &str, body: &[u8]) -> Result<(reqwest::RequestBuilder, String, Bytes), Failure> {
        let target_uri = format!("{}{path}", self.base);
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| Failure::Here(format!("the system gives no randomness: {error}")))?;
        let parts = RequestParts { method: method.as_str(), target_uri: &target_uri, body, epoch: 1 };
        let signed = sign_request(&self.mirror, &self.hub, &parts, now_ms() / 1000, nonce);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-digest", signed.content_digest.as_str()),
            ("signature-input", signed.signature_input.as_str()),
            ("signature", signed.signature.as_str()),
            (EPOCH_HEADER, "1"),
        ] {
            headers.insert(name, value.parse().map_err(|_| Failure::Here(format!("{name} cannot be written")))?);
        }
        let up = Bytes { body: 0, headers: size(&headers) + target_uri.len() as u64 };
        // A stream stays; the call that opens it is bounded by the cloud's own deadline.
        let request = self.http.request(method.clone(), &target_uri).headers(headers);
        let request = if method == reqwest::Method::GET { request } else { request.timeout(DEADLINE) };
        Ok((request, signed.signature, up))
    }

    fn prove(&self, status: u16, body: &[u8], asked: &str, headers: &HeaderMap) -> Result<(), Failure> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let signed =
            Headers { content_digest: text("content-digest"), signature_input: text("signature-input"), signature: text("signature") };
        verify_reply(&self.cloud, status, body, asked, &signed).map(|_| ()).map_err(|_| Failure::Stranger)
    }
}

fn refusal(status: u16, headers: &HeaderMap, body: &[u8]) -> Failure {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let again = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let code = problem.get("code").and_then(Value::as_str).unwrap_or("without a code").to_owned();
    let batch = problem.get("batch").and_then(Value::as_u64).filter(|_| code == "resync");
    Failure::Refused { status, code, again, batch }
}

fn size(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64).sum()
}

#[allow(clippy::needless_pass_by_value, reason = "a map_err")]
fn silence(error: reqwest::Error) -> Failure {
    let mut found: &dyn std::error::Error = &error;
    while let Some(source) = found.source() {
        found = source;
    }
    Failure::Silence(found.to_string())
}

/// ms since 1970.
pub(super) fn now_ms() -> u64 {
    MachineClock.now_ms()
}
