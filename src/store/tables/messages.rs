//! The rows of MQTT sessions that outlive their connections, and of what waits for them.

use super::{serde_bytes_vec, subject_prefix};
use crate::domain::binding::Subject;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A subscription of a kept session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSubscription {
    /// The filter as the client sent it.
    pub filter: String,
    /// The highest QoS: 0, 1 or 2.
    pub qos: u8,
    /// Whether its own messages do not come back to it.
    pub no_local: bool,
    /// Whether messages keep their retain flag.
    pub retain_as_published: bool,
    /// Its identifier (MQTT 5.0 §3.8.2.1.2).
    pub identifier: Option<usize>,
}

/// What let the client of a session in, as long as that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetInBy {
    /// For people, apps and services: the keyed hash of the session or token.
    pub session: Option<[u8; 32]>,
    /// For devices: the claim under which it came in.
    pub claimed_at: Option<u64>,
    /// For devices with a certificate: its SHA-256.
    pub certificate: Option<[u8; 32]>,
    /// From where.
    pub source: IpAddr,
}

/// A message that was sent and whose way is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentMessage {
    /// Its packet identifier.
    pub pkid: u16,
    /// Its number among those that wait for the session; 0 for one that is not kept.
    pub number: u64,
    /// 1 or 2.
    pub qos: u8,
    /// Whether the client has it, and has still to say that it knows that (MQTT 5.0 §4.3.3).
    pub received: bool,
}

/// What is on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// To the client.
    pub sent: Vec<SentMessage>,
    /// Identifiers of messages that came in and that the client has not released.
    pub unreleased: Vec<u16>,
    /// The packet identifier that was given last.
    pub last_pkid: u16,
}

/// An MQTT session that outlives its connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MqttSession {
    /// Its client id.
    pub client_id: String,
    /// How long it is kept without a connection, in seconds, counted from the hub's start.
    pub left_s: u32,
    /// What let its client in last.
    pub let_in_by: LetInBy,
    /// What it subscribes to.
    pub subscriptions: Vec<KeptSubscription>,
    /// What is on its way: of QoS 2 always as it is, of QoS 1 as it was when this was written.
    #[serde(default)]
    pub in_flight: InFlight,
}

/// A message that waits for a session, or that its client has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingMessage {
    /// Where it was published.
    pub topic: String,
    /// Its body.
    #[serde(with = "serde_bytes_vec")]
    pub payload: Vec<u8>,
    /// 1 or 2.
    pub qos: u8,
    /// The flag as it is to be sent.
    pub retain: bool,
    /// Identifiers of the subscriptions that it is sent for.
    #[serde(default)]
    pub identifiers: Vec<usize>,
    /// Until when it is worth telling, ms since 1970.
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// What MQTT 5 says beside it.
    #[serde(default)]
    pub properties: Option<MessageProperties>,
}

/// Properties of a message that are passed on as they came (MQTT 5.0 §3.3.2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageProperties {
    /// 1 for text.
    pub payload_format: Option<u8>,
    /// What the body is.
    pub content_type: Option<String>,
    /// Where an answer is wanted.
    pub response_topic: Option<String>,
    /// What is to be in the answer.
    #[serde(with = "optional_bytes")]
    pub correlation_data: Option<Vec<u8>>,
    /// Names and values.
    pub user: Vec<(String, String)>,
}

mod optional_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super::serde_bytes_vec")] Vec<u8>);

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| Wrapped(bytes.clone())).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(d)?.map(|wrapped| wrapped.0))
    }
}

/// Key of a kept session: its principal, and a number that no other of the sessions that are kept has.
#[must_use]
pub fn mqtt_session_key(subject: &Subject, number: u64) -> Vec<u8> {
    [subject_prefix(subject), number.to_be_bytes().to_vec()].concat()
}

/// Key of what waits for a session, by a number that rises within it.
#[must_use]
pub fn waiting_key(subject: &Subject, number: u64, message: u64) -> Vec<u8> {
    [mqtt_session_key(subject, number), message.to_be_bytes().to_vec()].concat()
}
