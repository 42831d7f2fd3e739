//! What can be set of a cloud. Every member has a default that serves for trying it out on this machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Who may link a hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Linking {
    /// Anybody.
    #[default]
    Open,
    /// Whoever has one of these codes.
    Code(Vec<String>),
    /// Nobody new. Hubs that are linked stay so.
    Closed,
}

impl Linking {
    /// As `GET /v1` says it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Linking::Open => "open",
            Linking::Code(_) => "code",
            Linking::Closed => "closed",
        }
    }
}

/// Where the data lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Database {
    /// A PostgreSQL of its own in the data directory, reached by a Unix socket alone.
    #[default]
    Private,
    /// These databases, each a shard. The order matters, and stays: a hub's shard follows from its id and their number.
    Urls(Vec<String>),
}

/// The certificate that is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TlsFiles {
    /// One of a CA in the data directory: for trying it out.
    #[default]
    Own,
    /// PEM files: the chain, leaf first, and its key.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

/// The configuration of a cloud.
#[derive(Clone, Debug)]
pub struct Config {
    /// What people call it.
    pub name: String,
    /// Where keys and the private PostgreSQL lie.
    pub data_dir: PathBuf,
    /// Where it listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The URL by which it is reached, on which requests are signed. Without one: `https://localhost:<port>`.
    pub public_url: Option<String>,
    /// Which region it serves.
    pub region: String,
    /// Other regions and their URLs.
    pub regions: BTreeMap<String, String>,
    /// Who may link.
    pub linking: Linking,
    /// Where the data lies.
    pub database: Database,
    /// Whether the private PostgreSQL syncs to disk. Only tests go without.
    pub durable: bool,
    /// The certificate.
    pub tls: TlsFiles,
    /// Limits.
    pub limits: Limits,
    /// How often connected hubs' cursors are asked for.
    pub poll: Duration,
}

/// Limits, of one process unless said otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time.
    pub max_connections: usize,
    /// Of these, from one address: whole streets share one.
    pub max_per_ip: usize,
    /// Requests of one source in a minute.
    pub requests_per_minute: u32,
    /// Attempts of one source in a minute at what anybody may try: recovery, first links, people's and makers' signing in.
    pub attempts_per_minute: u32,
    /// Requests of one hub in a minute, besides downloads.
    pub hub_requests_per_minute: u32,
    /// Streams of wake-ups in all.
    pub wakes: usize,
    /// Within what time a body must be there.
    pub body: Duration,
    /// Within what time a call must be answered.
    pub call: Duration,
    /// Connections to each database.
    pub pool: usize,
    /// Bytes of a hub's request at most.
    pub max_bytes: usize,
    /// Rows of one hub at most, marks aside.
    pub rows_per_hub: u64,
    /// Bytes of one row's body at most.
    pub row_bytes: usize,
    /// Entries of a hub's audit that are kept.
    pub audit_per_hub: u64,
    /// Items that may wait for one hub.
    pub items_per_hub: u64,
    /// In how many seconds a hub comes again when nothing wakes it.
    pub wait_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 16_384,
            max_per_ip: 1_024,
            requests_per_minute: 6_000,
            attempts_per_minute: 60,
            hub_requests_per_minute: 600,
            wakes: 10_000,
            body: Duration::from_secs(30),
            call: Duration::from_secs(30),
            pool: 16,
            max_bytes: crate::domain::mirror::wire::BYTES_MAX,
            rows_per_hub: 200_000,
            row_bytes: 64 * 1024,
            audit_per_hub: 200_000,
            items_per_hub: 10_000,
            wait_s: 300,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: "Hearthkey cloud".to_owned(),
            data_dir: PathBuf::from("hearthkey-cloud"),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9443),
            public_url: None,
            region: "local".to_owned(),
            regions: BTreeMap::new(),
            linking: Linking::Open,
            database: Database::Private,
            durable: true,
            tls: TlsFiles::Own,
            limits: Limits::default(),
            poll: Duration::from_millis(500),
        }
    }
}
