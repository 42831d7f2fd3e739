//! What a client says and hears: options, messages, codes and errors. Sending and receiving are the client's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::BACKLOG_LIMIT;

/// Protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.0.
    #[default]
    V5,
}

/// Quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// QoS 0: no acknowledgement.
    AtMostOnce,
    /// QoS 1: acknowledged by PUBACK.
    AtLeastOnce,
    /// QoS 2: PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce,
}

/// What CONNECT says, and how long each step may take.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Protocol version; 5.0 unless set.
    pub version: Version,
    /// Client identifier; empty asks the broker to choose.
    pub client_id: String,
    /// User name, at most 65,535 bytes.
    pub username: Option<String>,
    /// Password, at most 65,535 bytes; wiped when dropped.
    pub password: Option<Zeroizing<String>>,
    /// Clean session (3.1.1) or clean start (5.0).
    pub clean: bool,
    /// Session expiry interval in seconds (5.0 only); absent means 0: the session ends with the connection.
    pub session_expiry_s: Option<u32>,
    /// Receive maximum told to the broker (5.0 only).
    pub receive_maximum: Option<u16>,
    /// Keep-alive in seconds, 0 for none. [`Client::next`] sends pings by itself while it is being polled.
    pub keep_alive_s: u16,
    /// Will message.
    pub will: Option<Message>,
    /// How long each exchange (CONNECT, SUBSCRIBE, an acknowledged PUBLISH, PING) may take.
    pub step: Duration,
}

/// A message to publish.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic name, without wildcards.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// Marks a delivery that is repeated after a reconnect.
    pub dup: bool,
}

/// A message that came in.
#[derive(Clone, PartialEq, Eq)]
pub struct Publish {
    /// Topic name.
    pub topic: Arc<str>,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service of this delivery. The client has acknowledged it already.
    pub qos: Qos,
    /// Whether it is a retained message.
    pub retain: bool,
    /// Whether the broker repeats it.
    pub dup: bool,
}

/// The broker's answer to CONNECT. The optional fields are properties of MQTT 5.0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connack {
    /// Whether the broker still had a session.
    pub session_present: bool,
    /// The code as it was on the wire: a reason code (5.0) or a return code (3.1.1); 0 accepts.
    pub code: u8,
    /// Reason string.
    pub reason: Option<String>,
    /// Client identifier chosen by the broker.
    pub assigned_client_id: Option<String>,
    /// Keep-alive that the broker demands, in seconds.
    pub server_keep_alive_s: Option<u16>,
    /// Session expiry interval granted, in seconds.
    pub session_expiry_s: Option<u32>,
    /// How many acknowledged publishes may be under way.
    pub receive_maximum: Option<u16>,
    /// Largest packet the broker takes, in bytes.
    pub maximum_packet: Option<u32>,
}

/// How a connection ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed {
    /// Reason code of the broker's DISCONNECT (5.0); absent when the stream simply ended, as it always does in 3.1.1.
    pub code: Option<u8>,
    /// Reason string of the DISCONNECT.
    pub reason: Option<String>,
}

/// What [`Client::next`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message; already acknowledged.
    Publish(Publish),
    /// A PUBLISH of ours is settled: the reason code of PUBACK, PUBCOMP, or of the PUBREC that refused it (0 in 3.1.1).
    PubAck {
        /// What [`Client::start_publish`] returned.
        pid: u16,
        /// Reason code; 0x80 and above refuse.
        code: u8,
    },
    /// A SUBSCRIBE is answered.
    SubAck {
        /// Packet identifier.
        pid: u16,
        /// One code per filter: the QoS granted, or 0x80 and above for a refusal.
        codes: Vec<u8>,
    },
    /// An UNSUBSCRIBE is answered.
    UnsubAck {
        /// Packet identifier.
        pid: u16,
        /// One code per filter (5.0); empty in 3.1.1.
        codes: Vec<u8>,
    },
    /// The answer to a ping that was asked for with [`Client::start_ping`].
    Pong,
}

/// Why a call failed. After every variant but `Invalid` and `WindowFull` the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker answered CONNECT with a refusal.
    #[error("the broker refused the connection: {}", refusal(.0))]
    Refused(Connack),
    /// The connection ended.
    #[error("{0}")]
    Closed(Closed),
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The broker did not answer in time.
    #[error("no {0} within {1:?}")]
    Deadline(&'static str, Duration),
    /// What came in is no MQTT, or breaks its rules.
    #[error("the broker broke the protocol: {0}")]
    Malformed(String),
    /// A packet larger than the client takes.
    #[error("a packet of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Size announced, in bytes.
        bytes: usize,
        /// Limit, in bytes.
        limit: usize,
    },
    /// What was to be sent cannot be said in MQTT.
    #[error("not sendable: {0}")]
    Invalid(String),
    /// As many acknowledged publishes are under way as the broker takes.
    #[error("{0} publishes are under way already")]
    WindowFull(usize),
    /// Nobody took the events that came in while other answers were awaited.
    #[error("{BACKLOG_LIMIT} events were not taken")]
    Overrun,
}

/// The code of a refusal in words; the two versions use different numbers.
fn refusal(connack: &Connack) -> String {
    let words = match connack.code {
        1 | 0x84 => "protocol version not supported",
        2 | 0x85 => "client identifier or user name not valid",
        3 | 0x88 => "server unavailable",
        4 | 0x86 => "bad user name or password",
        5 | 0x87 => "not authorised",
        0x89 => "server busy",
        0x8A => "banned",
        0x97 => "quota exceeded",
        0x9F => "connection rate exceeded",
        _ => "refused",
    };
    match &connack.reason {
        Some(reason) => format!("0x{:02X} {words} ({reason})", connack.code),
        None => format!("0x{:02X} {words}", connack.code),
    }
}

impl ConnectOptions {
    /// A clean MQTT 5.0 session with a keep-alive of 30 s and 10 s for every step.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            version: Version::V5,
            client_id: client_id.into(),
            username: None,
            password: None,
            clean: true,
            session_expiry_s: None,
            receive_maximum: None,
            keep_alive_s: 30,
            will: None,
            step: Duration::from_secs(10),
        }
    }

    /// The same with these credentials.
    #[must_use]
    pub fn credentials(mut self, username: impl Into<String>, password: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self.password = Some(Zeroizing::new(password.into()));
        self
    }

    /// The same in another protocol version.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }
}

impl Message {
    /// A message that is not retained.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>, qos: Qos) -> Self {
        Self { topic: topic.into(), payload: payload.into(), qos, retain: false, dup: false }
    }
}

impl Connack {
    /// Whether the refusal is one of the credentials: 0x86 (5.0) or 4 (3.1.1).
    pub fn refuses_credentials(&self) -> bool {
        matches!(self.code, 0x86 | 4)
    }

    /// Whether the principal is locked out: 0x8A or 0x87 (5.0), 5 (3.1.1).
    pub fn bans(&self) -> bool {
        matches!(self.code, 0x8A | 0x87 | 5)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.code {
            None => return write!(f, "the connection ended without a word"),
            Some(0x87) => "not authorised",
            Some(0x8B) => "server shutting down",
            Some(0x8D) => "keep-alive timeout",
            Some(0x8E) => "session taken over",
            Some(0x97) => "quota exceeded",
            Some(0x98) => "administrative action",
            Some(_) => "the broker ended the connection",
        };
        write!(f, "disconnected: 0x{:02X} {words}", self.code.unwrap_or_default())?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, " ({reason})"))
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

/// Payloads are left out: one of them may be a credential.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} {:?}, {} bytes)", self.topic, self.qos, self.payload.len())
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publish({} {:?}, {} bytes)", self.topic, self.qos, self.payload.len())
    }
}
