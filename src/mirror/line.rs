//! One call to the cloud: signed, with a deadline, its answer bounded and its signature checked before anybody looks at
//! what it says. No redirect is followed, no cookie kept.

use super::Config;
use super::answer::{self, Problem, Refusal, Silence, Stranger};
use super::meter::Meter;
use super::pace;
use super::trust;
use crate::domain::ids::HubId;
use crate::domain::mirror::signature::{self, Headers, RequestParts, SignedHeaders};
use crate::domain::mirror::wire::EPOCH_HEADER;
use crate::domain::time::Grade;
use crate::net::tls::Clock;
use crate::service::{LinkTarget, Service};
use ed25519_dalek::SigningKey;
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE, RETRY_AFTER};
use reqwest::redirect;
use rustls::CertificateError;
use serde_json::Value;
use std::error::Error;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(20);
/// How often an HTTP/2 connection is asked whether it still stands, and how long its answer may take.
const PING: Duration = Duration::from_secs(30);
/// In `cloud.proxy`: no proxy, whatever the environment says.
const NO_PROXY: &str = "none";

/// What time it is, s since 1970.
pub(super) type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A way out of the house, over which clouds are called.
#[derive(Clone)]
pub(super) struct Way {
    http: reqwest::Client,
    meter: Arc<Meter>,
    now: Now,
    /// Whether certificates are judged by their dates.
    pub knows_time: bool,
}

/// The way to one cloud, as one hub.
pub(super) struct Line {
    way: Way,
    base: String,
    cloud: [u8; 32],
    hub: HubId,
    epoch: u64,
    key: SigningKey,
}

/// How long a call may take that carries so many bytes, one way or the other: a minute, and 2 KiB/s.
pub(super) fn deadline(bytes: usize) -> Duration {
    Duration::from_secs(60).saturating_add(Duration::from_secs(bytes as u64 / 2_048))
}

/// What is asked.
pub(super) struct Ask<'a> {
    /// The HTTP method.
    pub method: &'static str,
    /// The path below the cloud's URL, with its query.
    pub path: &'a str,
    /// The body and its media type; empty for none.
    pub body: Vec<u8>,
    /// The body's media type.
    pub content_type: &'static str,
    /// Of what is there, only these bytes.
    pub range: Option<Range<u64>>,
    /// Bytes of the answer at most.
    pub most: usize,
    /// How long all of it may take.
    pub deadline: Duration,
}

/// An answer of the cloud: its signature is good.
pub(super) struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// When it was signed, by the cloud's clock, in s since 1970.
    pub created_s: u64,
    /// How long it was on its way, there and back, at most, in ms.
    pub rtt_ms: u64,
    /// Which part of what is there it is.
    pub content_range: String,
    asked: Option<Duration>,
}

/// No success.
#[derive(Debug)]
pub(super) struct Failure {
    /// In words.
    pub problem: Problem,
    /// How long the hub was asked to stay away.
    pub asked: Option<Duration>,
    /// What the cloud said, when it was the cloud that refused.
    pub refused: Option<Box<Refused>>,
}

/// An error of the cloud's own.
#[derive(Debug)]
pub(super) struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The problem's code.
    pub code: String,
    /// Its members.
    pub problem: Value,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure { problem, asked: None, refused: None }
    }
}

impl From<Silence> for Failure {
    fn from(why: Silence) -> Failure {
        answer::silence(why).into()
    }
}

impl Way {
    /// Sets up TLS, by what is known of the time at this moment, and the proxy.
    ///
    /// # Errors
    /// A setting that is wrong, in words.
    pub(super) async fn new(config: &Config, service: &Arc<Service>, meter: Arc<Meter>) -> Result<Way, Failure> {
        let (clock, knows_time) = (service.clone(), service.clock().grade >= Grade::Ntp);
        Way::by(config, Arc::new(move || clock.now() / 1000), knows_time, meter).await
    }

    /// The same for who has a clock and no hub yet.
    ///
    /// # Errors
    /// The same.
    pub(super) async fn by(config: &Config, now: Now, knows_time: bool, meter: Arc<Meter>) -> Result<Way, Failure> {
        let ca_file = config.ca_file.clone();
        let roots = tokio::task::spawn_blocking(move || trust::authorities(ca_file.as_deref())).await;
        let roots = roots.map_err(|e| setting("unreachable", e.to_string()))?;
        let clock = now.clone();
        let tls = roots
            .and_then(|roots| trust::client_config(roots, Clock::new(move || clock()), knows_time))
            .map_err(|e| setting("unreachable", e.to_string()))?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("hearthkey/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .http2_keep_alive_while_idle(true)
            .pool_max_idle_per_host(1);
        builder = match config.proxy.as_deref() {
            None => builder,
            Some(NO_PROXY) => builder.no_proxy(),
            Some(url) => {
                // The URL may hold a password: of its error, nothing is shown.
                let proxy = reqwest::Proxy::all(url).map_err(|_| setting("proxy", "cloud.proxy is not a URL".to_owned()))?;
                builder.proxy(proxy)
            }
        };
        let http = builder.build().map_err(|e| setting("unreachable", innermost(&e)))?;
        Ok(Way { http, meter, now, knows_time })
    }

    /// Sends a request without a body and without a signature; the answer's signature is for the caller to check.
    pub(super) async fn open(&self, url: &str, most: usize, deadline: Duration) -> Result<Unproven, Failure> {
        self.send(self.http.get(url), 0, most, deadline).await
    }

    /// The same with a body of JSON.
    pub(super) async fn tell(&self, url: &str, body: Vec<u8>, most: usize, deadline: Duration) -> Result<Unproven, Failure> {
        let length = body.len();
        self.send(self.http.post(url).header(CONTENT_TYPE, "application/json").body(body), length, most, deadline).await
    }

    async fn send(&self, request: reqwest::RequestBuilder, length: usize, most: usize, deadline: Duration) -> Result<Unproven, Failure> {
        let exchange = async {
            let sent = Instant::now();
            self.meter.sent(length);
            let mut response = request.send().await.map_err(|e| why(&e))?;
            let rtt = sent.elapsed();
            self.meter.head_received();
            let mut body = Vec::new();
            // Of whoever does not even claim to be the cloud, nothing is read.
            if response.headers().contains_key(SIGNATURE) {
                while let Some(chunk) = response.chunk().await.map_err(|e| why(&e))? {
                    self.meter.received(chunk.len());
                    if body.len() + chunk.len() > most {
                        return Err(Silence::TooLong);
                    }
                    body.extend_from_slice(&chunk);
                }
            }
            Ok(Unproven { status: response.status().as_u16(), headers: std::mem::take(response.headers_mut()), body, rtt })
        };
        tokio::time::timeout(deadline, exchange).await.unwrap_or(Err(Silence::Deadline)).map_err(Failure::from)
    }
}

const SIGNATURE: &str = "signature";

/// An answer of which it is not yet known whose it is.
pub(super) struct Unproven {
    pub status: u16,
    headers: HeaderMap,
    pub body: Vec<u8>,
    rtt: Duration,
}

impl Unproven {
    /// Whose it is: the cloud's that has this key, as the answer to the request with this signature, or a problem.
    pub(super) fn prove(self, cloud: &[u8; 32], request_signature: &str) -> Result<Reply, Failure> {
        let created_s = prove(&self.headers, self.status, cloud, &self.body, request_signature)?;
        let asked = pace::retry_after(text(&self.headers, RETRY_AFTER.as_str()), Some(created_s));
        Ok(Reply {
            status: self.status,
            created_s,
            rtt_ms: u64::try_from(self.rtt.as_millis()).unwrap_or(u64::MAX),
            content_range: text(&self.headers, CONTENT_RANGE.as_str()).to_owned(),
            body: self.body,
            asked,
        })
    }
}

fn prove(headers: &HeaderMap, status: u16, cloud: &[u8; 32], body: &[u8], request_signature: &str) -> Result<u64, Failure> {
    let (digest, input, signature) = (joined(headers, "content-digest"), joined(headers, "signature-input"), joined(headers, SIGNATURE));
    let signed = Headers { content_digest: &digest, signature_input: &input, signature: &signature };
    signature::verify_reply(cloud, status, body, request_signature, &signed).map_err(|error| {
        let claims = !signed.signature.is_empty();
        if claims {
            tracing::debug!(%error, status, "an answer's signature does not hold");
        }
        let seen = Stranger { status, content_type: text(headers, CONTENT_TYPE.as_str()), claims };
        let asked = pace::retry_after(text(headers, RETRY_AFTER.as_str()), None).map(|d| d.min(pace::MOST));
        Failure { problem: answer::stranger(seen), asked, refused: None }
    })
}

impl Line {
    /// The way to the cloud at `base`, whose key is `cloud`.
    pub(super) fn new(way: Way, target: &LinkTarget, key: SigningKey) -> Line {
        let base = target.url.trim_end_matches('/').to_owned();
        Line { way, base, cloud: target.key, hub: target.hub, epoch: target.epoch, key }
    }

    /// The way it goes.
    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    /// What is counted of it.
    pub(super) fn meter(&self) -> &Meter {
        &self.way.meter
    }

    /// The path of something of this hub's: `/v1/hubs/{hub}` and `rest`.
    pub(super) fn own(&self, rest: &str) -> String {
        format!("/v1/hubs/{}{rest}", self.hub)
    }

    /// Asks, and takes a success of the cloud's own, nothing else.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Reply, Failure> {
        let most = ask.most;
        let (deadline, length) = (ask.deadline, ask.body.len());
        let (request, signature) = self.sign(ask)?;
        let reply = self.way.send(request, length, most, deadline).await?.prove(&self.cloud, &signature)?;
        if (200..300).contains(&reply.status) { Ok(reply) } else { Err(refusal(reply)) }
    }

    /// Opens a stream: its head is proven to be the cloud's, what comes after is not.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn stream(&self, path: &str) -> Result<reqwest::Response, Failure> {
        let ask = Ask { method: "GET", path, body: Vec::new(), content_type: "", range: None, most: 0, deadline: CONNECT };
        let (request, signature) = self.sign(ask)?;
        let opening = async {
            self.way.meter.sent(0);
            let response = request.header(ACCEPT, "text/event-stream").send().await.map_err(|e| why(&e))?;
            self.way.meter.head_received();
            Ok(response)
        };
        let opened = tokio::time::timeout(CONNECT * 2, opening).await.unwrap_or(Err(Silence::Deadline));
        let mut response = opened.map_err(Failure::from)?;
        let status = response.status().as_u16();
        if status == 200 {
            prove(response.headers(), status, &self.cloud, &[], &signature)?;
            return Ok(response);
        }
        let mut body = Vec::new();
        let reading = async {
            while let Some(chunk) = response.chunk().await.map_err(|e| why(&e))? {
                if body.len() + chunk.len() > PROBLEM_MOST {
                    return Err(Silence::TooLong);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(())
        };
        tokio::time::timeout(CONNECT, reading).await.unwrap_or(Err(Silence::Deadline)).map_err(Failure::from)?;
        let unproven = Unproven { status, headers: std::mem::take(response.headers_mut()), body, rtt: Duration::ZERO };
        Err(refusal(unproven.prove(&self.cloud, &signature)?))
    }

    fn sign(&self, ask: Ask<'_>) -> Result<(reqwest::RequestBuilder, String), Failure> {
        let target_uri = format!("{}{}", self.base, ask.path);
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|e| setting("unreachable", format!("the system gives no randomness: {e}")))?;
        let parts = RequestParts { method: ask.method, target_uri: &target_uri, body: &ask.body, epoch: self.epoch };
        let created_s = (self.way.now)();
        let SignedHeaders { content_digest, signature_input, signature } =
            signature::sign_request(&self.key, &self.hub, &parts, created_s, nonce);
        let method = reqwest::Method::from_bytes(ask.method.as_bytes()).map_err(|e| setting("refused", e.to_string()))?;
        let mut request = self
            .way
            .http
            .request(method, &target_uri)
            .header("content-digest", content_digest)
            .header("signature-input", signature_input)
            .header(SIGNATURE, &signature)
            .header(EPOCH_HEADER, self.epoch)
            .header(CACHE_CONTROL, "no-store, no-transform");
        if let Some(range) = ask.range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        if !ask.body.is_empty() {
            request = request.header(CONTENT_TYPE, ask.content_type).body(ask.body);
        }
        Ok((request, signature))
    }
}

/// Bytes of a problem's details at most.
const PROBLEM_MOST: usize = 64 * 1024;

pub(super) fn refusal(reply: Reply) -> Failure {
    let problem: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let member = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default();
    // What has no detail says all there is in its title.
    let detail = [member("detail"), member("title")].into_iter().find(|words| !words.is_empty()).unwrap_or_default();
    let (code, url) = (member("code"), member("url"));
    let words = answer::refusal(Refusal { status: reply.status, code, detail, url });
    let code = code.to_owned();
    Failure { problem: words, asked: reply.asked, refused: Some(Box::new(Refused { status: reply.status, code, problem })) }
}

fn setting(code: &'static str, detail: String) -> Failure {
    Problem { code, detail, next: "Correct the hub's configuration ([cloud]), and start it again" }.into()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A header that came several times, as one (RFC 9110 §5.3).
fn joined(headers: &HeaderMap, name: &str) -> String {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect::<Vec<_>>().join(", ")
}

fn innermost(error: &reqwest::Error) -> String {
    let mut found: &dyn Error = error;
    while let Some(source) = found.source() {
        found = source;
    }
    found.to_string()
}

/// Why a call has no answer, by what its error is made of.
pub(super) fn why(error: &reqwest::Error) -> Silence {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(tls) = tls_error(error) {
            return by_tls(tls);
        }
        // The type is not public; its words are.
        if let Some(tunnel) = error.to_string().strip_prefix("tunnel error: ") {
            return match tunnel {
                "proxy authorization required" => Silence::ProxyAuthentication,
                "failed to create underlying connection" | "io error establishing tunnel" => Silence::ProxyAway,
                _ => Silence::ProxyRefuses,
            };
        }
        source = error.source();
    }
    if error.is_timeout() {
        Silence::Deadline
    } else if error.is_dns() {
        Silence::Name
    } else {
        Silence::Connection
    }
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut found: &'a (dyn Error + 'static) = error;
    loop {
        if let Some(tls) = found.downcast_ref() {
            return Some(tls);
        }
        found = found.downcast_ref::<io::Error>()?.get_ref()?;
    }
}

fn by_tls(error: &rustls::Error) -> Silence {
    match error {
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Silence::OtherName,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Silence::Dates,
            _ => Silence::Authority,
        },
        rustls::Error::InvalidMessage(_) | rustls::Error::PeerIncompatible(_) | rustls::Error::NoCertificatesPresented => Silence::NotTls,
        _ => Silence::Connection,
    }
}
