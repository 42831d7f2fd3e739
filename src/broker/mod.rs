//! The gate: MQTT connections, who they are, what each may do, and the way of a message from one to the others.
//!
//! rumqttd gives the codec ([`wire`]). Subscriptions ([`trie`]), sessions ([`session`]), retained messages and wills
//! are the gate's own, because every delivery is checked against a policy that may change at any moment. Deciding is
//! `service`'s and `domain`'s; this room never touches the store.

mod connection;
mod handle;
mod reader;
mod retained;
mod route;
mod session;
mod trie;
mod wire;
mod writer;

use crate::domain::binding::Subject;
use crate::service::{CloseReason, Outlet, Service};
use bytes::Bytes;
use rumqttd::protocol::DisconnectReasonCode;
use serde::{Deserialize, Serialize};
use session::Session;
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Bounds of the gate. Times in seconds, sizes in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Largest packet taken.
    pub max_packet_bytes: usize,
    /// Longest time from the connection to a whole CONNECT.
    pub connect_deadline_s: u64,
    /// Longest time an unconnected session is kept, whatever the client asks.
    pub session_expiry_s: u32,
    /// Messages of QoS 1 and 2 in flight to one client.
    pub max_in_flight: u16,
    /// Subscriptions of one session.
    pub max_subscriptions: usize,
    /// Connections of one device or person.
    pub max_connections_per_principal: usize,
    /// Sessions (connected or not) of one device or person.
    pub max_sessions_per_principal: usize,
    /// Retained messages of one device or person.
    pub max_retained_per_principal: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_packet_bytes: 256 * 1024,
            connect_deadline_s: 10,
            session_expiry_s: 24 * 3600,
            max_in_flight: 256,
            max_subscriptions: 100,
            max_connections_per_principal: 4,
            max_sessions_per_principal: 16,
            max_retained_per_principal: 100,
        }
    }
}

/// Where a connection comes from and what its transport has shown.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address, canonical.
    pub ip: IpAddr,
    /// SHA-256 of the SubjectPublicKeyInfo the peer was shown; `None` without TLS.
    pub spki: Option<[u8; 32]>,
    /// The device of a verified client certificate, and the certificate's SHA-256.
    pub certificate: Option<(String, [u8; 32])>,
}

/// What the gate has counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections signed in.
    pub signed_in: AtomicU64,
    /// Sign-ins refused.
    pub refused: AtomicU64,
    /// Messages taken from clients.
    pub received: AtomicU64,
    /// Messages put into a receiver's queue.
    pub delivered: AtomicU64,
    /// Messages of QoS 0 dropped for a slow or absent receiver.
    pub dropped: AtomicU64,
    /// Publishes refused.
    pub publish_denied: AtomicU64,
    /// Subscriptions refused.
    pub subscribe_denied: AtomicU64,
}

/// The gate. One for all listeners.
pub struct Broker {
    service: Arc<Service>,
    config: Config,
    trie: trie::Trie,
    sessions: Mutex<HashMap<(Subject, String), Arc<Session>>>,
    retained: retained::Retained,
    counters: Counters,
}

impl Broker {
    /// A gate before `service`, with the retained messages that the store holds.
    ///
    /// # Errors
    /// The store's fault.
    pub fn new(service: Arc<Service>, config: Config) -> Result<Arc<Broker>, crate::service::Refusal> {
        let retained = retained::Retained::new(service.retained()?);
        Ok(Arc::new(Broker {
            service,
            config,
            trie: trie::Trie::default(),
            sessions: Mutex::default(),
            retained,
            counters: Counters::default(),
        }))
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many sessions there are, and how many of them have a connection.
    #[must_use]
    pub fn session_counts(&self) -> (usize, usize) {
        let sessions = self.sessions();
        (sessions.len(), sessions.values().filter(|s| s.is_online()).count())
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<(Subject, String), Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions_of(&self, who: &Subject) -> Vec<Arc<Session>> {
        self.sessions().iter().filter(|((subject, _), _)| subject == who).map(|(_, s)| s.clone()).collect()
    }

    /// Ends sessions whose time without a connection is over; runs until `shutdown`.
    pub async fn expire_sessions(self: Arc<Self>, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let now = Instant::now();
            let over: Vec<_> = self
                .sessions()
                .values()
                .filter(|s| !s.is_online() && s.expires.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at <= now))
                .cloned()
                .collect();
            for session in over {
                self.end_session(&session);
            }
        }
    }

    /// Forgets a session: its subscriptions and what waits for it.
    fn end_session(&self, session: &Arc<Session>) {
        let filters: Vec<String> =
            session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).drain().map(|(filter, _)| filter).collect();
        for filter in filters {
            self.trie.unsubscribe(&filter, session);
        }
        let key = (session.principal.clone(), session.client_id.clone());
        let mut sessions = self.sessions();
        if sessions.get(&key).is_some_and(|s| Arc::ptr_eq(s, session)) {
            sessions.remove(&key);
        }
    }

    /// Ends all connections, telling their clients that the hub goes down; waits at most `patience`.
    pub async fn shut_down(&self, patience: Duration) {
        let all: Vec<_> = self.sessions().values().cloned().collect();
        let ends: Vec<_> = all.iter().filter_map(|s| s.kill(DisconnectReasonCode::ServerShuttingDown)).collect();
        let _ = tokio::time::timeout(patience, async {
            for end in ends {
                end.cancelled().await;
            }
        })
        .await;
    }
}

impl Outlet for Broker {
    fn publish(&self, topic: &str, payload: Bytes, qos: u8, retain: bool, life: Option<Duration>) {
        self.publish_own(topic, payload, qos, retain, life);
    }

    fn close<'a>(&'a self, who: &'a Subject, reason: CloseReason) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let code = match reason {
            CloseReason::Administrative => DisconnectReasonCode::AdministrativeAction,
            CloseReason::NotAuthorized => DisconnectReasonCode::NotAuthorized,
        };
        Box::pin(async move {
            for session in self.sessions_of(who) {
                session.purge(|_| false);
                let end = session.kill(code);
                // The session goes too: its subscriptions belong to a right that has ended.
                self.end_session(&session);
                if let Some(end) = end {
                    end.cancelled().await;
                }
            }
        })
    }

    fn narrow<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let all: Vec<_> = self.sessions().values().cloned().collect();
            for session in all {
                if self.is_current(&session) {
                    continue;
                }
                // Whoever writes now was checked before the change; after this, nothing of it is on its way. A peer
                // that does not read holds the writer up: then its connection ends instead.
                if tokio::time::timeout(Duration::from_millis(500), session.writing.lock()).await.is_err()
                    && let Some(end) = session.kill(DisconnectReasonCode::AdministrativeAction)
                {
                    end.cancelled().await;
                }
                let table = self.policy(&session);
                session.purge(|topic| table.table.receive(topic));
            }
        })
    }
}

/// The number of a counter, for the metrics page.
#[must_use]
pub fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
