//! Sessions that outlive their connections outlive the hub as well. What such a session subscribes to is on the disk before SUBACK; a message
//! that it is owed is there before its sender is told that the hub has it, or its reader has it by then. Where a message of QoS 2 stands is
//! there before the next step is said (MQTT 5.0 §4.1, §4.3.3).

use super::Broker;
use super::session::{Compiled, Delivery, Message, Session};
use super::trie::Options;
use crate::domain::binding::Subject;
use crate::domain::policy::Table;
use crate::service::{
    KeptSubscription, LetInBy, MessageProperties, MessageToKeep, MqttSession, Refusal, Service, SessionChanges, SessionToKeep,
    WaitingMessage, kept_message_key, kept_session_key,
};
use rumqttd::protocol::PublishProperties;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// How long a message may take to a connected reader and back before it is written: most are there by then, and no card wears for them.
const GRACE: Duration = Duration::from_millis(25);
/// How long what is done may stay on the disk, when nothing else is written.
const SWEPT_EVERY: Duration = Duration::from_secs(1);
/// Bytes that may wait on the disk, for all sessions together.
const MOST: usize = 64 * 1024 * 1024;

/// Why a message was not kept.
#[derive(Debug)]
pub(super) enum Unkept {
    /// There is no room for it.
    NoRoom,
    /// The store's fault.
    Fault(Refusal),
}

/// Under what a session is kept.
#[derive(Clone)]
pub(super) struct KeptAs {
    pub(super) keeper: Arc<Keeper>,
    /// No other of the sessions that are kept has it.
    pub(super) number: u64,
    pub(super) subject: Subject,
}

impl KeptAs {
    fn key(&self) -> Vec<u8> {
        kept_session_key(&self.subject, self.number)
    }

    /// A message that the session is owed from now on.
    pub(super) fn owe(&self, number: u64, stored: bool, bytes: usize) -> (Arc<Kept>, oneshot::Receiver<()>) {
        let (open, settled) = oneshot::channel();
        if stored {
            self.keeper.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let key = kept_message_key(&self.subject, self.number, number);
        let kept = Kept {
            keeper: self.keeper.clone(),
            key,
            number,
            bytes,
            stored: AtomicBool::new(stored),
            safe: AtomicBool::new(stored),
            _open: open,
        };
        (Arc::new(kept), settled)
    }
}

/// That a message is owed. Whoever holds the message holds this; when nobody does any more, it is done.
pub(super) struct Kept {
    keeper: Arc<Keeper>,
    key: Vec<u8>,
    /// Rises within the session.
    pub(super) number: u64,
    bytes: usize,
    /// Whether its row may be there: it was in a transaction.
    stored: AtomicBool,
    /// Whether it is on the disk.
    safe: AtomicBool,
    _open: oneshot::Sender<()>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({})", self.number)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.stored.load(Ordering::Acquire) {
            self.keeper.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            let mut pending = self.keeper.pending();
            if !pending.closed {
                pending.changes.done.push(std::mem::take(&mut self.key));
                self.keeper.wake.notify_one();
            }
        }
    }
}

/// A message that has just been queued for a session that is kept.
pub(super) struct Owed {
    pub(super) session: Arc<Session>,
    pub(super) kept: Weak<Kept>,
    pub(super) settled: oneshot::Receiver<()>,
    /// Whether it makes sense to wait for the reader.
    pub(super) patient: bool,
    pub(super) message: Arc<Message>,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) identifiers: Vec<usize>,
}

impl Owed {
    fn is_secure(&self) -> bool {
        is_secure(&self.kept)
    }
}

/// Whether the reader of a message has it, or it is on the disk.
pub(super) fn is_secure(kept: &Weak<Kept>) -> bool {
    kept.upgrade().is_none_or(|kept| kept.safe.load(Ordering::Acquire))
}

#[derive(Default)]
struct Pending {
    /// What nobody waits for.
    own: Vec<Owed>,
    /// Sessions that are to be written when there is time, or room.
    sessions: Vec<Arc<Session>>,
    changes: SessionChanges,
    /// The hub goes down: what is dropped from now on is owed all the same.
    closed: bool,
}

/// Writes down what sessions are owed, and forgets it.
pub(super) struct Keeper {
    service: Arc<Service>,
    next: AtomicU64,
    bytes: AtomicUsize,
    pending: Mutex<Pending>,
    wake: Notify,
    /// Whether it could not be written the last time: that is told once.
    failing: AtomicBool,
    /// Held while what is pending is written: who comes after knows that it is.
    flushing: tokio::sync::Mutex<()>,
}

impl Keeper {
    pub(super) fn new(service: Arc<Service>) -> Arc<Keeper> {
        Arc::new(Keeper {
            // Above what earlier runs have given, whether their rows can be read or not.
            next: AtomicU64::new(service.now()),
            bytes: AtomicUsize::new(0),
            pending: Mutex::default(),
            wake: Notify::new(),
            failing: AtomicBool::new(false),
            flushing: tokio::sync::Mutex::default(),
            service,
        })
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a session that is to be kept.
    pub(super) fn keep_as(self: &Arc<Self>, subject: Subject) -> KeptAs {
        KeptAs { keeper: self.clone(), number: self.next.fetch_add(1, Ordering::Relaxed), subject }
    }

    /// Waits until each of these has reached its reader, or is on the disk.
    pub(super) async fn secure(&self, mut owed: Vec<Owed>) -> Result<(), Unkept> {
        if owed.iter().all(|one| one.patient) {
            let all = futures_util::future::join_all(owed.iter_mut().map(|one| &mut one.settled));
            if tokio::time::timeout(GRACE, all).await.is_ok() {
                return Ok(());
            }
            owed.iter().filter(|one| !one.is_secure()).for_each(|one| one.session.acknowledges_late());
        }
        owed.retain(|one| !one.is_secure());
        if !owed.is_empty() && self.bytes.load(Ordering::Relaxed) > MOST {
            return Err(Unkept::NoRoom);
        }
        let written = self.write(owed, SessionChanges::default()).await;
        written.map_err(|refusal| if refusal.is_no_room() { Unkept::NoRoom } else { Unkept::Fault(refusal) })
    }

    /// The same without waiting: for what the hub says of itself.
    pub(super) fn secure_later(&self, owed: Vec<Owed>) {
        if !owed.is_empty() {
            self.pending().own.extend(owed);
            self.wake.notify_one();
        }
    }

    fn to_keep(&self, owed: Owed) -> MessageToKeep {
        let key = owed.kept.upgrade().map(|kept| kept.key.clone()).unwrap_or_default();
        let now = Instant::now();
        let expires_at =
            owed.message.expires.map(|at| self.service.now() + u64::try_from(at.saturating_duration_since(now).as_millis()).unwrap_or(0));
        let row = WaitingMessage {
            topic: owed.message.topic.to_string(),
            payload: owed.message.payload.to_vec(),
            qos: owed.qos,
            retain: owed.retain,
            identifiers: owed.identifiers,
            expires_at,
            properties: owed.message.properties.as_deref().map(kept_properties),
        };
        let (kept, session) = (owed.kept, owed.session);
        let owed = Box::new(move || {
            let Some(kept) = kept.upgrade().filter(|_| !session.has_ended()) else { return false };
            if !kept.stored.swap(true, Ordering::AcqRel) {
                kept.keeper.bytes.fetch_add(kept.bytes, Ordering::Relaxed);
            }
            true
        });
        MessageToKeep { key, row, owed }
    }

    /// Writes down how a session is: what it subscribes to, and where its messages of QoS 2 stand.
    pub(super) async fn keep(&self, session: &Arc<Session>) -> Result<(), Refusal> {
        self.keep_sent(session, Vec::new()).await
    }

    /// The same, with messages of QoS 2 that are about to be sent for the first time.
    pub(super) async fn keep_sent(&self, session: &Arc<Session>, owed: Vec<Owed>) -> Result<(), Refusal> {
        let sessions = session_to_keep(session).into_iter().collect();
        self.write(owed, SessionChanges { sessions, ..SessionChanges::default() }).await
    }

    /// The same, when the client has said that it has this message, as it was sent before: what it waits for goes with it.
    pub(super) async fn keep_released(&self, session: &Arc<Session>, message: Option<Delivery>) -> Result<(), Refusal> {
        let sessions = session_to_keep(session).into_iter().collect();
        let kept = message.as_ref().and_then(|message| message.kept.as_ref());
        let kept = kept.filter(|kept| kept.stored.load(Ordering::Acquire));
        let done = kept.map(|kept| kept.key.clone()).into_iter().collect();
        self.write(Vec::new(), SessionChanges { sessions, done, ..SessionChanges::default() }).await?;
        // Its row is gone: it need not be deleted once more.
        if let Some(kept) = kept.filter(|kept| kept.stored.swap(false, Ordering::AcqRel)) {
            self.bytes.fetch_sub(kept.bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes how a session is, soon.
    pub(super) fn keep_later(&self, session: &Arc<Session>) {
        if session.kept.is_some() {
            self.pending().sessions.push(session.clone());
            self.wake.notify_one();
        }
    }

    /// Writes these, as far as they are not on the disk, and what else has changed. Messages are large: what is refused for want of room are they
    /// alone.
    async fn write(&self, owed: Vec<Owed>, changes: SessionChanges) -> Result<(), Refusal> {
        let owed = owed.into_iter().filter(|one| !one.is_secure());
        let (written, messages): (Vec<_>, Vec<_>) = owed.map(|one| (one.kept.clone(), self.to_keep(one))).unzip();
        let messages = SessionChanges { messages, ..SessionChanges::default() };
        let (kept, changed) = futures_util::join!(self.write_part(messages), self.write_part(changes));
        if kept.is_ok() {
            written.iter().filter_map(Weak::upgrade).for_each(|kept| kept.safe.store(true, Ordering::Release));
        }
        changed.and(kept)
    }

    async fn write_part(&self, changes: SessionChanges) -> Result<(), Refusal> {
        if changes.is_empty() { Ok(()) } else { self.service.keep_sessions(changes).await }
    }

    /// A session has ended.
    pub(super) fn ended(&self, session: &Session) {
        if let Some(kept) = &session.kept {
            self.pending().changes.ended.push(kept.key());
            self.wake.notify_one();
        }
    }

    /// Writes what is pending; when it returns, what had ended before is gone from the disk, unless the store has a fault.
    pub(super) async fn flush(&self) {
        let _one = self.flushing.lock().await;
        let (mut own, sessions, mut changes) = {
            let mut pending = self.pending();
            (std::mem::take(&mut pending.own), std::mem::take(&mut pending.sessions), std::mem::take(&mut pending.changes))
        };
        changes.sessions = sessions.iter().filter_map(session_to_keep).collect();
        if self.bytes.load(Ordering::Relaxed) > MOST {
            own.clear();
        }
        let (ended, done) = (changes.ended.clone(), changes.done.clone());
        let written = self.write(own, changes).await;
        let before = self.failing.swap(written.is_err(), Ordering::Relaxed);
        if let Err(error) = written {
            if !before {
                tracing::warn!(%error, "what MQTT sessions are owed could not be written down; what has ended is tried again");
            }
            // What was written of it is written again.
            let mut pending = self.pending();
            pending.sessions.extend(sessions);
            pending.changes.ended.extend(ended);
            pending.changes.done.extend(done);
            self.wake.notify_one();
        }
    }

    fn has_own(&self) -> bool {
        !self.pending().own.is_empty()
    }

    /// Writes what is pending soon after it came, until `shutdown`.
    async fn run(&self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
            }
            // What is done has time; what is owed has not.
            let sweep = tokio::time::sleep(SWEPT_EVERY);
            tokio::pin!(sweep);
            while !self.has_own() {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = &mut sweep => break,
                    () = self.wake.notified() => {}
                }
            }
            tokio::time::sleep(GRACE).await;
            self.flush().await;
        }
    }
}

/// Nothing where the session is not kept.
fn session_to_keep(session: &Arc<Session>) -> Option<SessionToKeep> {
    let key = session.kept.as_ref()?.key();
    let session = session.clone();
    Some(SessionToKeep { key, now: Box::new(move || (!session.has_ended()).then(|| row_of(&session))) })
}

fn row_of(session: &Session) -> MqttSession {
    let left = session.expires.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.saturating_duration_since(Instant::now()));
    let subscriptions = session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = |(filter, options): (&String, &Options)| KeptSubscription {
        filter: filter.clone(),
        qos: options.qos,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        identifier: options.identifier,
    };
    let by = *session.let_in_by.lock().unwrap_or_else(PoisonError::into_inner);
    let nobody = LetInBy { session: None, claimed_at: None, certificate: None, source: Ipv4Addr::UNSPECIFIED.into() };
    MqttSession {
        client_id: session.client_id.clone(),
        let_in_by: by.unwrap_or(nobody),
        left_s: left.map_or_else(|| session.expiry_s(), |left| u32::try_from(left.as_secs()).unwrap_or(u32::MAX)),
        subscriptions: subscriptions.iter().map(kept).collect(),
        in_flight: session.in_flight(),
    }
}

fn kept_properties(p: &PublishProperties) -> MessageProperties {
    MessageProperties {
        payload_format: p.payload_format_indicator,
        content_type: p.content_type.clone(),
        response_topic: p.response_topic.clone(),
        correlation_data: p.correlation_data.as_ref().map(|data| data.to_vec()),
        user: p.user_properties.clone(),
    }
}

fn properties_of(p: MessageProperties) -> Box<PublishProperties> {
    Box::new(PublishProperties {
        payload_format_indicator: p.payload_format,
        content_type: p.content_type,
        response_topic: p.response_topic,
        correlation_data: p.correlation_data.map(Into::into),
        user_properties: p.user,
        ..PublishProperties::default()
    })
}

impl Broker {
    /// Takes up the sessions of the run before, before anybody can connect. What has lost its right meanwhile is not among them.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn restore(&self) -> Result<(), Refusal> {
        let mut found = self.service.kept_sessions().await?;
        // The newest first: where a client has begun anew and the hub had no time to forget the old one.
        found.sort_by_key(|one| std::cmp::Reverse(one.number));
        let (now, wall) = (Instant::now(), self.service.now());
        for one in found {
            self.keeper.next.fetch_max(one.number + 1, Ordering::Relaxed);
            let kept = KeptAs { keeper: self.keeper.clone(), number: one.number, subject: one.subject.clone() };
            let last = one.waiting.last().map_or(0, |(number, _)| *number);
            let life = |at: u64| now + Duration::from_millis(at.saturating_sub(wall));
            let waiting = one.waiting.into_iter().filter_map(|(number, m)| {
                let bytes = m.payload.len() + m.topic.len();
                // Dropped, it is done.
                let kept = kept.owe(number, true, bytes).0;
                if m.expires_at.is_some_and(|at| at <= wall) {
                    return None;
                }
                let message = Message {
                    topic: m.topic.into(),
                    payload: m.payload.into(),
                    qos: m.qos,
                    retain: m.retain,
                    properties: m.properties.map(properties_of),
                    from: 0,
                    expires: m.expires_at.map(life),
                    momentary: false,
                };
                Some(Delivery { message: Arc::new(message), qos: m.qos, retain: m.retain, identifiers: m.identifiers, kept: Some(kept) })
            });
            let waiting: Vec<_> = waiting.collect();
            let epoch = self.service.epoch();
            let compiled = Compiled { epoch, table: self.service.compile(&one.subject, &Table::nothing()) };
            let session = Session::new(one.subject.clone(), one.row.client_id, compiled, Some(kept));
            session.restore(waiting, last, &one.row.in_flight);
            session.set_expiry(one.row.left_s);
            session.set_let_in_by(one.row.let_in_by);
            *session.expires.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + Duration::from_secs(one.row.left_s.into()));
            let key = (one.subject, session.client_id.clone());
            if self.sessions().contains_key(&key) {
                self.keeper.ended(&session);
                continue;
            }
            for s in one.row.subscriptions {
                let options =
                    Options { qos: s.qos, no_local: s.no_local, retain_as_published: s.retain_as_published, identifier: s.identifier };
                self.trie.subscribe(&s.filter, &session, options.clone());
                session.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).insert(s.filter, options);
            }
            self.sessions().insert(key, session.clone());
            if self.check_subscriptions(&session) {
                self.keeper.keep_later(&session);
            }
            if session.is_void() || session.expiry_s() == 0 || self.has_fallen(&session) {
                self.end_session(&session);
            }
        }
        self.keeper.flush().await;
        Ok(())
    }

    /// Writes down what kept sessions are owed, as it comes, until `shutdown`.
    pub async fn keep_sessions(self: Arc<Self>, shutdown: CancellationToken) {
        self.keeper.run(shutdown).await;
    }

    /// The hub goes down in order, and nothing publishes any more: all that is owed is written down.
    pub async fn keep_all(&self) {
        self.keeper.flush().await;
        self.keeper.pending().closed = true;
        let all: Vec<_> = self.sessions().values().filter(|s| s.kept.is_some()).cloned().collect();
        let sessions = all.iter().filter_map(session_to_keep).collect();
        let owed = all.iter().flat_map(Session::owed).collect();
        if let Err(error) = self.keeper.write(owed, SessionChanges { sessions, ..SessionChanges::default() }).await {
            tracing::error!(%error, "what MQTT sessions are owed could not be written down; what was stored before is there");
        }
    }
}
