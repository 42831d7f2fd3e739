//! The gate: MQTT connections, who they are, what each may do, and the way of a message from one to the others.
//!
//! rumqttd gives the codec ([`wire`]). Subscriptions ([`trie`]), sessions ([`session`]), retained messages and wills
//! are the gate's own, because every delivery is checked against a policy that may change at any moment. Deciding is
//! `service`'s and `domain`'s; this room never touches the store.

mod connection;
mod handle;
mod keeper;
mod parting;
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
    /// Longest time a device whose place was taken is given to say that it is still there. The newcomer does not wait.
    pub parting_ms: u64,
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
    /// Bytes of all retained messages of one device or person.
    pub max_retained_bytes_per_principal: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_packet_bytes: 256 * 1024,
            connect_deadline_s: 10,
            parting_ms: 2_000,
            session_expiry_s: 24 * 3600,
            max_in_flight: 256,
            max_subscriptions: 100,
            max_connections_per_principal: 4,
            max_sessions_per_principal: 16,
            max_retained_per_principal: 100,
            max_retained_bytes_per_principal: 64 * 1024,
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
    keeper: Arc<keeper::Keeper>,
    counters: Counters,
}

impl Broker {
    /// A gate before `service`, with the retained messages that the store holds.
    ///
    /// # Errors
    /// The store's fault.
    pub fn new(service: Arc<Service>, config: Config) -> Result<Arc<Broker>, crate::service::Refusal> {
        let retained = retained::Retained::new(service.retained()?);
        let keeper = keeper::Keeper::new(service.clone());
        Ok(Arc::new(Broker {
            service,
            config,
            trie: trie::Trie::default(),
            sessions: Mutex::default(),
            retained,
            keeper,
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

    /// Ends sessions whose time without a connection is over, connections of people whose session has ended, and
    /// retained messages that have expired; runs until `shutdown`.
    pub async fn expire_sessions(self: Arc<Self>, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut ticks = 0u64;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => ticks += 1,
            }
            let now = Instant::now();
            let all: Vec<_> = self.sessions().values().cloned().collect();
            for session in &all {
                let over = session.expires.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at <= now);
                if over {
                    self.end_session_if(session, |s| !s.is_connected());
                }
            }
            self.end_stale(ticks.is_multiple_of(12)).await;
            if ticks.is_multiple_of(12) {
                for topic in self.retained.expired(self.service.now()) {
                    if let Err(error) = self.service.retain(&topic, None).await {
                        tracing::warn!(%error, topic, "an expired retained message was not removed");
                    }
                }
            }
        }
    }

    /// Ends connections that do not stand any more, because the time of the session or token that let them in is over.
    /// Those of people of the house, whose sessions last for weeks, are looked at when `all` is set.
    pub async fn end_stale(&self, all: bool) {
        let ends_soon = |s: &Session| {
            // An app's access token lives for an hour.
            matches!(s.principal, Subject::App(_))
                || s.holder.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|who| who.ends_unused())
        };
        let looked_at: Vec<_> = {
            let sessions = self.sessions();
            sessions.values().filter(|s| !matches!(s.principal, Subject::Device(_)) && (all || ends_soon(s))).cloned().collect()
        };
        // The session stays for who comes back with another token: no right has been taken.
        let ends: Vec<_> =
            looked_at.into_iter().filter(|s| self.has_fallen(s)).filter_map(|s| s.kill(DisconnectReasonCode::NotAuthorized)).collect();
        for end in ends {
            end.cancelled().await;
        }
    }

    fn has_fallen(&self, session: &Session) -> bool {
        let by = *session.let_in_by.lock().unwrap_or_else(PoisonError::into_inner);
        by.is_some_and(|by| !self.service.stands(&session.principal, &by))
    }

    /// Forgets a session: its subscriptions and what waits for it.
    fn end_session(&self, session: &Arc<Session>) {
        self.end_session_if(session, |_| true);
    }

    /// The same, if `still` holds at the moment in which nobody else can find the session any more.
    fn end_session_if(&self, session: &Arc<Session>, still: impl FnOnce(&Session) -> bool) {
        {
            let key = (session.principal.clone(), session.client_id.clone());
            let mut sessions = self.sessions();
            if sessions.get(&key).is_some_and(|s| Arc::ptr_eq(s, session)) {
                if !still(session) {
                    return;
                }
                sessions.remove(&key);
            }
        }
        if session.end() {
            self.keeper.ended(session);
        }
        let filters: Vec<String> =
            session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).drain().map(|(filter, _)| filter).collect();
        for filter in filters {
            self.trie.unsubscribe(&filter, session);
        }
    }

    /// Ends sessions for good; when it returns, nothing more reaches them.
    async fn close_all(&self, sessions: Vec<Arc<Session>>, code: DisconnectReasonCode) {
        let ends = sessions.into_iter().map(|session| async move {
            session.purge(|_| false);
            let end = session.kill(code);
            // The session goes too: its subscriptions belong to a right that has ended.
            self.end_session(&session);
            if let Some(end) = end {
                end.cancelled().await;
            }
            // A subscription that was being handled meanwhile goes as well.
            self.end_session(&session);
        });
        futures_util::future::join_all(ends).await;
        // Not even after a power cut is anything of it there.
        self.keeper.flush().await;
    }

    /// Applies the present policy to one session; when it returns, nothing that it forbids is on its way.
    async fn narrow_one(&self, session: Arc<Session>) {
        let epoch = self.service.epoch();
        // Whoever writes now was checked before the change. A peer that does not read holds the writer up: then its
        // connection ends instead.
        if tokio::time::timeout(Duration::from_millis(500), session.writing.lock()).await.is_err()
            && let Some(end) = session.kill(DisconnectReasonCode::AdministrativeAction)
        {
            end.cancelled().await;
        }
        let policy = self.policy(&session);
        session.purge(|topic| policy.table.receive(topic));
        session.narrowed.fetch_max(epoch, Ordering::AcqRel);
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

    fn hand(&self, who: &Subject, topic: &str, payload: Bytes, life: Duration) -> bool {
        self.hand_own(who, topic, payload, life)
    }

    fn close<'a>(&'a self, who: &'a Subject, reason: CloseReason) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let code = match reason {
            CloseReason::Administrative => DisconnectReasonCode::AdministrativeAction,
            CloseReason::NotAuthorized => DisconnectReasonCode::NotAuthorized,
        };
        Box::pin(self.close_all(self.sessions_of(who), code))
    }

    fn close_session<'a>(&'a self, session: [u8; 32]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let holds = |s: &Session| {
            let by = s.let_in_by.lock().unwrap_or_else(PoisonError::into_inner);
            by.is_some_and(|by| by.session == Some(session))
        };
        let ended: Vec<_> = self.sessions().values().filter(|s| holds(s)).cloned().collect();
        Box::pin(self.close_all(ended, DisconnectReasonCode::NotAuthorized))
    }

    fn close_fallen<'a>(&'a self, who: &'a Subject) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let fallen: Vec<_> = self.sessions_of(who).into_iter().filter(|s| self.has_fallen(s)).collect();
            self.close_all(fallen, DisconnectReasonCode::NotAuthorized).await;
        })
    }

    fn close_everyone<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let all: Vec<_> = self.sessions().values().cloned().collect();
        Box::pin(self.close_all(all, DisconnectReasonCode::ServerMoved))
    }

    fn narrow<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            // A publisher may have made a session's table anew in the meantime; what had been queued before is still in its queue.
            let epoch = self.service.epoch();
            let stale: Vec<_> = self.sessions().values().filter(|s| s.narrowed.load(Ordering::Acquire) < epoch).cloned().collect();
            // At the same time: one peer that does not read must not delay the others' revocation.
            futures_util::future::join_all(stale.into_iter().map(|session| self.narrow_one(session))).await;
            self.keeper.flush().await;
        })
    }
}

/// The number of a counter, for the metrics page.
#[must_use]
pub fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
