//! The web: REST, Server-Sent Events, MQTT over WebSocket, the embedded UI, and the plain page that hands out the CA.
//!
//! One table ([`table`]) names every call; it is what dispatches and what describes itself at `/api/openapi.json`.
//! Deciding is `service`'s; accepting connections is `net`'s; MQTT behind `/mqtt` is the broker's, which this room does
//! not know: the composition root gives it a channel.

mod answer;
mod api;
mod assets;
mod caller;
mod connection;
mod dispatch;
mod emergency;
mod events;
mod openapi;
mod qr;
mod refusal;
mod request;
mod retired;
pub mod schema;
mod socket;
mod table;
mod trust;

pub use connection::serve_connection;
pub use emergency::{EmergencyPage, emergency_routes};
pub use socket::MqttSocket;
pub use trust::{TrustPage, trust_routes};

use crate::domain::ids::DeviceId;
use crate::net::{Problem, SourceLimiter};
use crate::service::Service;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

/// The bounds of the web. Every member has a default; an unknown one is an error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Names under which the hub may be reached besides `*.local`, `localhost` and addresses. A request for any other
    /// name is refused: a foreign name that resolves to this box is how DNS rebinding begins.
    pub names: Vec<String>,
    /// Longest body of a call, in bytes; batches aside.
    pub body_bytes: usize,
    /// Longest registry batch, in bytes; it is streamed to disk.
    pub batch_bytes: u64,
    /// Within what time the headers of a request must be there, and how long an idle connection stays, in seconds.
    pub header_s: u64,
    /// Within what time the body of a call must be there, or the next part of a batch, in seconds.
    pub body_s: u64,
    /// How long a peer may take to accept what is written to it before it is given up, in seconds.
    pub stall_s: u64,
    /// Most headers of a request.
    pub max_headers: usize,
    /// Sign-ins, setups and claims of one source in a minute; and, counted apart, what apps ask at `/oauth/…`.
    pub attempts_per_minute: NonZeroU32,
    /// Requests at the same time on one HTTP/2 connection, event streams included.
    pub max_concurrent_streams: u32,
    /// Event streams of one account at the same time.
    pub event_streams_per_account: usize,
    /// Event streams in all.
    pub event_streams: usize,
    /// Longest WebSocket message at `/mqtt`, in bytes.
    pub socket_message_bytes: usize,
}

/// What a household types in its worst minute, with room to spare.
const ATTEMPTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
/// Passwords that a form may have looked at while they are typed.
const CHECKS: NonZeroU32 = NonZeroU32::MIN.saturating_add(119);
/// Sources remembered by the limit on attempts.
const SOURCES: usize = 10_000;

impl Default for Config {
    fn default() -> Self {
        Config {
            names: Vec::new(),
            body_bytes: 64 * 1024,
            batch_bytes: 1024 * 1024 * 1024,
            header_s: 30,
            body_s: 30,
            stall_s: 60,
            max_headers: 64,
            attempts_per_minute: ATTEMPTS,
            max_concurrent_streams: 64,
            event_streams_per_account: 16,
            event_streams: 512,
            socket_message_bytes: 1024 * 1024,
        }
    }
}

/// A client certificate that the composition root has made.
#[derive(Clone, Debug)]
pub struct IssuedPem {
    /// The certificate.
    pub certificate_pem: String,
    /// The hub's CA.
    pub ca_pem: String,
    /// SHA-256 of the certificate (DER).
    pub fingerprint: [u8; 32],
    /// Until when it holds, ms since 1970.
    pub expires_ms: u64,
}

/// Makes a client certificate for a device from its signing request (PEM); an error says what is wrong with the request.
pub type Certify = Arc<dyn Fn(&str, &DeviceId) -> Result<IssuedPem, String> + Send + Sync>;

/// What the composition root lends the web of other rooms.
#[derive(Clone)]
pub struct Hooks {
    /// Makes client certificates.
    pub certify: Certify,
    /// Takes the far ends of WebSocket connections to `/mqtt`.
    pub mqtt: mpsc::Sender<MqttSocket>,
    /// The metrics page.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Where a batch is kept while it is taken in.
    pub data_dir: PathBuf,
    /// Ends event streams and connections.
    pub shutdown: CancellationToken,
}

/// What every call works with.
struct Context {
    service: Arc<Service>,
    config: Config,
    hooks: Hooks,
    streams: Arc<events::Streams>,
    uploads: Semaphore,
    attempts: SourceLimiter,
    /// Looks at passwords, counted apart: who types one must not be kept from signing in.
    checks: SourceLimiter,
    /// People's data, one after the other: each takes a reading of the whole audit.
    exports: Semaphore,
    /// Of apps: one that goes wrong does not keep the people at the same address out.
    exchanges: SourceLimiter,
    /// Of devices of a stolen hub that look for the new one.
    orders: SourceLimiter,
}

impl Context {
    /// Counts an attempt to get in. Each costs the hub a slow hash, so they are limited before that.
    fn attempt(&self, source: IpAddr) -> Result<(), Problem> {
        self.attempts.check(source).map_err(too_many)
    }

    /// Counts a look at a password.
    fn check(&self, source: IpAddr) -> Result<(), Problem> {
        self.checks.check(source).map_err(too_many)
    }

    /// Counts a look for a move order.
    fn check_order(&self, source: IpAddr) -> Result<(), Problem> {
        self.orders.check(source).map_err(too_many)
    }

    /// Counts what an app asks without a session: each is written to disk, or looked for there.
    fn exchange(&self, source: IpAddr) -> Result<(), Problem> {
        self.exchanges.check(source).map_err(too_many)
    }
}

fn too_many(wait: std::time::Duration) -> Problem {
    Problem::too_many(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

/// The web of a hub, ready to be turned into routes.
pub struct Web(Arc<Context>);

impl Web {
    /// The web over `service`. What an interrupted upload has left in the data directory is removed.
    #[must_use]
    pub fn new(config: Config, service: Arc<Service>, hooks: Hooks) -> Web {
        request::remove_left_uploads(&hooks.data_dir);
        let streams = Arc::new(events::Streams::new(config.event_streams, config.event_streams_per_account));
        let attempts = SourceLimiter::new(config.attempts_per_minute, SOURCES);
        let checks = SourceLimiter::new(CHECKS, SOURCES);
        let exchanges = SourceLimiter::new(config.attempts_per_minute, SOURCES);
        let orders = SourceLimiter::new(config.attempts_per_minute, SOURCES);
        // One batch is taken in while the next may already arrive; more would only fill the disk.
        Web(Arc::new(Context {
            service,
            config,
            hooks,
            streams,
            uploads: Semaphore::new(2),
            attempts,
            checks,
            exports: Semaphore::new(1),
            exchanges,
            orders,
        }))
    }

    /// Everything that is served over HTTPS.
    #[must_use]
    pub fn routes(self) -> Router {
        let context = self.0;
        let gate = caller::own_name(context.config.names.clone());
        let retired = retired::routes(context.service.clone());
        let rest = dispatch::routes(context.clone()).or(socket::routes(context)).unify().boxed();
        let all = rest.or(retired).unify().or(assets::routes()).unify().boxed();
        Router::new(gate.and(all).boxed())
    }
}

/// Routes with everything that holds for all of them; cheap to clone, one serves all connections.
#[derive(Clone)]
pub struct Router(BoxedFilter<(Response,)>);

impl Router {
    /// Rejections become problems, and every response gets the security headers.
    fn new(routes: BoxedFilter<(Response,)>) -> Router {
        let answered = routes.recover(refusal::of_rejection).unify();
        Router(warp::method().and(answered).map(answer::finish).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_setting_is_an_error_and_every_member_has_a_default() {
        assert!(serde_json::from_str::<Config>(r#"{"bodybytes": 1}"#).is_err());
        let config: Config = serde_json::from_str(r#"{"names": ["hub.example"]}"#).unwrap();
        assert_eq!((config.names.len(), config.body_bytes), (1, 65_536));
    }
}
