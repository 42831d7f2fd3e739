//! A session: what the hub remembers of one (principal, client id): its subscriptions, what waits for it, what is in
//! flight. It outlives its connection for as long as the client asked, within the hub's bounds.

use super::keeper::{Kept, KeptAs, Owed};
use super::trie::Options;
use crate::domain::binding::Subject;
use crate::domain::policy::Table;
use crate::service::{LetInBy, SignedIn};
use arc_swap::ArcSwap;
use bytes::Bytes;
use rumqttd::protocol::{DisconnectReasonCode, Packet, PubRel, PubRelReason, PublishProperties};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

mod keeping;

/// Beyond so many waiting messages or bytes, publishers are slowed down.
const SOFT: (usize, usize) = (2_000, 512 * 1024);
/// Beyond these, messages of QoS 0 are dropped and a slow reader of QoS 1 or 2 is closed.
const HARD: (usize, usize) = (20_000, 4 * 1024 * 1024);
/// What waits for a session without a connection.
const OFFLINE: (usize, usize) = (1_000, 1024 * 1024);
/// Incoming messages of QoS 2 that the client has not released.
pub(super) const UNRELEASED: u16 = 256;

/// A message on its way through the hub.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) properties: Option<Box<PublishProperties>>,
    /// The session it came from; 0 is the hub.
    pub(super) from: u64,
    pub(super) expires: Option<Instant>,
    /// For now or never: it goes to who is connected, and is forgotten when that connection ends.
    pub(super) momentary: bool,
}

/// A message for one receiver.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) message: Arc<Message>,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) identifiers: Vec<usize>,
    /// Where the session outlives the hub: that it is owed this.
    pub(super) kept: Option<Arc<Kept>>,
}

impl Delivery {
    fn bytes(&self) -> usize {
        self.message.payload.len() + self.message.topic.len() + 64
    }
}

/// What became of an offered delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Taken,
    /// Taken, and the publisher should wait for room.
    Congested,
    /// Not taken: QoS 0 to a full or absent reader.
    Dropped,
    /// Not taken: a slow reader's queue of QoS 1 and 2 is full; its connection must end.
    Overflow,
}

/// What the writer sends next.
#[derive(Debug)]
pub(super) enum Outgoing {
    Control(Box<Packet>),
    Publish { delivery: Delivery, pkid: u16, dup: bool },
}

#[derive(Debug)]
enum Flight {
    Published(Delivery),
    /// PUBREC came, PUBREL was sent. The number under which it was kept, or 0.
    Released(u64),
}

#[derive(Default)]
struct Queue {
    control: VecDeque<Box<Packet>>,
    resend: VecDeque<(u16, Option<Delivery>)>,
    waiting: VecDeque<Delivery>,
    waiting_bytes: usize,
    flight: BTreeMap<u16, Flight>,
    unreleased: HashSet<u16>,
    /// The one of them that is being taken: it is nobody's yet.
    receiving: Option<u16>,
    last_pkid: u16,
    /// The number of the message that was kept last.
    last_kept: u64,
    flight_bytes: usize,
    window: usize,
    online: bool,
    asleep: bool,
    /// Publishers have waited for this reader in vain; they do so again only once it has made room.
    lagging: bool,
    /// It was told to end because it does not read what it is owed.
    overflowed: bool,
    attached: u64,
    dropped: u64,
}

/// The present connection of a session.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) kill: CancellationToken,
    pub(super) done: CancellationToken,
    pub(super) reason: Arc<Mutex<Option<DisconnectReasonCode>>>,
    /// Who takes its place.
    pub(super) successor: Arc<Mutex<Option<SignedIn>>>,
}

/// The policy as compiled for this session.
pub(super) struct Compiled {
    pub(super) epoch: u64,
    pub(super) table: Table,
}

pub(super) struct Session {
    pub(super) id: u64,
    pub(super) principal: Subject,
    pub(super) client_id: String,
    pub(super) policy: ArcSwap<Compiled>,
    pub(super) subscriptions: Mutex<HashMap<String, Options>>,
    pub(super) connection: Mutex<Option<Connection>>,
    /// Held while a batch is checked and written: whoever has it knows that nothing is on its way out.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// When an unconnected session ends.
    pub(super) expires: Mutex<Option<Instant>>,
    /// Who holds it now, as it signed in.
    pub(super) holder: Mutex<Option<SignedIn>>,
    /// What let its client in last, perhaps in an earlier run.
    pub(super) let_in_by: Mutex<Option<LetInBy>>,
    /// The epoch in which it was narrowed, or began.
    pub(super) narrowed: AtomicU64,
    /// Under what it is kept, if it outlives its connection.
    pub(super) kept: Option<KeptAs>,
    /// How long it is kept without a connection, in seconds.
    expiry_s: AtomicU32,
    ended: AtomicBool,
    /// As in the queue, for who only looks.
    online: AtomicBool,
    /// Its reader did not acknowledge in time; publishers do not wait for that again until it has caught up.
    slow: AtomicBool,
    /// The largest packet the client takes, in bytes.
    pub(super) max_packet: AtomicUsize,
    queue: Mutex<Queue>,
    work: Notify,
    room: Notify,
    answered: Notify,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Session {
    pub(super) fn new(principal: Subject, client_id: String, compiled: Compiled, kept: Option<KeptAs>) -> Arc<Session> {
        let narrowed = AtomicU64::new(compiled.epoch);
        Arc::new(Session {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            principal,
            client_id,
            policy: ArcSwap::from_pointee(compiled),
            subscriptions: Mutex::default(),
            connection: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            expires: Mutex::default(),
            holder: Mutex::default(),
            let_in_by: Mutex::default(),
            narrowed,
            kept,
            expiry_s: AtomicU32::new(0),
            ended: AtomicBool::new(false),
            online: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            max_packet: AtomicUsize::new(usize::MAX),
            queue: Mutex::default(),
            work: Notify::new(),
            room: Notify::new(),
            answered: Notify::new(),
        })
    }

    #[cfg(test)]
    pub(super) fn for_test(name: &str) -> Arc<Session> {
        let device = crate::domain::ids::DeviceId::parse("test").unwrap();
        Session::new(Subject::Device(device), name.into(), Compiled { epoch: 0, table: Table::nothing() }, None)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, queue: &mut Queue) {
        if queue.asleep {
            queue.asleep = false;
            self.work.notify_one();
        }
    }

    /// A new connection takes over: what was in flight is sent again. `window` bounds what may be in flight.
    pub(super) fn attach(&self, window: usize) {
        let mut q = self.queue();
        q.control.clear();
        q.window = window.max(1);
        q.online = true;
        self.online.store(true, Ordering::Release);
        q.asleep = false;
        q.lagging = false;
        q.overflowed = false;
        q.attached += 1;
        q.resend = q
            .flight
            .iter()
            .map(|(pkid, flight)| match flight {
                Flight::Published(delivery) => (*pkid, Some(delivery.clone())),
                Flight::Released(_) => (*pkid, None),
            })
            .collect();
    }

    /// The connection has ended: messages of QoS 0 are not kept.
    pub(super) fn detach(&self) {
        let mut q = self.queue();
        q.online = false;
        self.online.store(false, Ordering::Release);
        q.control.clear();
        q.waiting.retain(|d| d.qos > 0 && !d.message.momentary);
        q.resend.retain(|(_, d)| d.as_ref().is_none_or(|d| !d.message.momentary));
        q.flight.retain(|_, f| !matches!(f, Flight::Published(d) if d.message.momentary));
        q.recount();
        self.room.notify_waiters();
    }

    /// Hands a delivery to the session. Where that is to be kept, `owed` is told.
    pub(super) fn offer(self: &Arc<Self>, mut delivery: Delivery, owed: &mut Vec<Owed>) -> Offer {
        let mut q = self.queue();
        // A publisher may have looked it up before it ended.
        if self.has_ended() {
            return Offer::Dropped;
        }
        let (count, bytes) = (q.waiting.len() + 1, q.waiting_bytes + delivery.bytes());
        let over = |(c, b): (usize, usize)| count > c || bytes > b;
        let now_or_never = delivery.qos == 0 || delivery.message.momentary;
        if !q.online && (now_or_never || over(OFFLINE)) || q.online && delivery.qos == 0 && over(HARD) {
            q.dropped += 1;
            return Offer::Dropped;
        }
        if over(HARD) {
            q.dropped += 1;
            // Said once: its connection is ending.
            return if std::mem::replace(&mut q.overflowed, true) { Offer::Dropped } else { Offer::Overflow };
        }
        if let Some(kept) = self.kept.as_ref().filter(|_| !now_or_never) {
            q.last_kept += 1;
            let (kept, settled) = kept.owe(q.last_kept, false, delivery.bytes());
            let patient = q.online && delivery.qos == 1 && delivery.message.from != self.id && !self.slow.load(Ordering::Relaxed);
            owed.push(self.owing(&delivery, &kept, settled, patient));
            delivery.kept = Some(kept);
        }
        q.waiting_bytes = bytes;
        q.waiting.push_back(delivery);
        self.wake(&mut q);
        if q.online && !q.lagging && over(SOFT) { Offer::Congested } else { Offer::Taken }
    }

    /// Queues a control packet, before any message.
    pub(super) fn control(&self, packet: Packet) {
        let mut q = self.queue();
        q.control.push_back(Box::new(packet));
        self.wake(&mut q);
    }

    /// Whether a connection holds the session, or is about to let go of it.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether a connection reads from the session.
    pub(super) fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }

    /// Waits until there is something to send.
    pub(super) async fn ready(&self) {
        loop {
            {
                let mut q = self.queue();
                if q.has_work() {
                    return;
                }
                q.asleep = true;
            }
            self.work.notified().await;
        }
    }

    /// Takes what can be sent now: all control packets, and at most `max` publishes.
    pub(super) fn drain(&self, out: &mut Vec<Outgoing>, max: usize) {
        let mut q = self.queue();
        let answers = q.control.len();
        out.extend(q.control.drain(..).map(Outgoing::Control));
        while q.may_resend() {
            let Some((pkid, delivery)) = q.resend.pop_front() else { break };
            if delivery.as_ref().is_some_and(|d| d.message.expires.is_some_and(|at| at <= Instant::now())) {
                q.flight.remove(&pkid);
                q.recount();
                continue;
            }
            out.push(match delivery {
                Some(delivery) => Outgoing::Publish { delivery, pkid, dup: true },
                None => Outgoing::Control(Box::new(Packet::PubRel(PubRel { pkid, reason: PubRelReason::Success }, None))),
            });
        }
        let before = q.waiting.len();
        for _ in 0..max {
            let pkid = match q.waiting.front() {
                None => break,
                Some(d) if d.qos == 0 => 0,
                Some(_) if q.is_window_full() => break,
                Some(_) => q.free_pkid(),
            };
            let Some(delivery) = q.waiting.pop_front() else { break };
            q.waiting_bytes -= delivery.bytes();
            if delivery.message.expires.is_some_and(|at| at <= Instant::now()) {
                continue;
            }
            if pkid > 0 {
                q.flight_bytes += delivery.bytes();
                q.flight.insert(pkid, Flight::Published(delivery.clone()));
            }
            out.push(Outgoing::Publish { delivery, pkid, dup: false });
        }
        if before != q.waiting.len() && q.is_short() {
            q.lagging = false;
            self.room.notify_waiters();
        }
        if answers > 0 {
            self.answered.notify_waiters();
        }
    }

    /// Waits until at most `max` answers wait for the writer.
    pub(super) async fn answered(&self, max: usize) {
        loop {
            let waiting = self.answered.notified();
            tokio::pin!(waiting);
            waiting.as_mut().enable();
            if self.queue().control.len() <= max {
                return;
            }
            waiting.await;
        }
    }

    /// Waits until the queue is short again.
    pub(super) async fn room(&self) {
        let waiting = self.room.notified();
        tokio::pin!(waiting);
        waiting.as_mut().enable();
        if self.is_behind() {
            waiting.await;
        }
    }

    /// Whether a connected reader has more waiting than half of what slows publishers down.
    pub(super) fn is_behind(&self) -> bool {
        let q = self.queue();
        q.online && !q.is_short()
    }

    /// Publishers have waited long enough.
    pub(super) fn lags(&self) {
        self.queue().lagging = true;
    }

    /// How many connections the session has had.
    pub(super) fn attached(&self) -> u64 {
        self.queue().attached
    }

    /// PUBACK (QoS 1) or PUBCOMP (QoS 2) came, or a PUBREC that refuses: the message is done.
    pub(super) fn finish(&self, pkid: u16) -> bool {
        let mut q = self.queue();
        let done = q.flight.remove(&pkid);
        if let Some(Flight::Published(delivery)) = &done {
            q.flight_bytes -= delivery.bytes();
        }
        if q.flight.is_empty() && q.waiting.is_empty() {
            self.slow.store(false, Ordering::Relaxed);
        }
        self.wake(&mut q);
        done.is_some()
    }

    /// PUBREC came: the message is the client's, and its id is still in use. `None` when the id is not known; the message is given back
    /// when it was not released before.
    pub(super) fn release(&self, pkid: u16) -> Option<Option<Delivery>> {
        let mut q = self.queue();
        let flight = q.flight.get_mut(&pkid)?;
        let number = match flight {
            Flight::Published(delivery) => delivery.kept.as_ref().map_or(0, |kept| kept.number),
            Flight::Released(number) => *number,
        };
        let Flight::Published(delivery) = std::mem::replace(flight, Flight::Released(number)) else { return Some(None) };
        q.flight_bytes -= delivery.bytes();
        Some(Some(delivery))
    }

    /// Notes an incoming QoS 2 id: `Some(true)` when it is new, `None` when too many are unreleased.
    pub(super) fn receive_once(&self, pkid: u16) -> Option<bool> {
        let mut q = self.queue();
        if !q.unreleased.contains(&pkid) && q.unreleased.len() >= usize::from(UNRELEASED) {
            return None;
        }
        let new = q.unreleased.insert(pkid);
        if new {
            q.receiving = Some(pkid);
        }
        Some(new)
    }

    /// The message that is being taken is the hub's now.
    pub(super) fn received(&self) {
        self.queue().receiving = None;
    }

    /// PUBREL came for an incoming id, or its publish was refused.
    pub(super) fn forget_received(&self, pkid: u16) -> bool {
        let mut q = self.queue();
        q.receiving = q.receiving.filter(|receiving| *receiving != pkid);
        q.unreleased.remove(&pkid)
    }

    /// Drops what waits and may no longer be received.
    pub(super) fn purge(&self, may_receive: impl Fn(&str) -> bool) {
        let mut q = self.queue();
        q.waiting.retain(|d| may_receive(&d.message.topic));
        q.resend.retain(|(_, d)| d.as_ref().is_none_or(|d| may_receive(&d.message.topic)));
        q.flight.retain(|_, f| match f {
            Flight::Published(d) => may_receive(&d.message.topic),
            Flight::Released(_) => true,
        });
        q.recount();
    }

    /// Ends the present connection, if there is one, because `successor` takes its place; the returned token fires when
    /// it has let go.
    pub(super) fn take_over(&self, successor: &SignedIn) -> Option<CancellationToken> {
        if let Some(connection) = &*self.connection.lock().unwrap_or_else(PoisonError::into_inner) {
            connection.successor.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| successor.clone());
        }
        self.kill(DisconnectReasonCode::SessionTakenOver)
    }

    /// A packet identifier that nothing in flight has, at or after `from`.
    pub(super) fn spare_pkid(&self, from: u16) -> u16 {
        let q = self.queue();
        // The window is far below 65,535, so a free id is found soon.
        (from.max(1)..=u16::MAX).chain(1..=u16::MAX).find(|id| !q.flight.contains_key(id)).unwrap_or(u16::MAX)
    }

    /// Ends the present connection, if there is one, for `reason`; the returned token fires when it has ended.
    pub(super) fn kill(&self, reason: DisconnectReasonCode) -> Option<CancellationToken> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        connection.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        connection.kill.cancel();
        Some(connection.done)
    }
}

impl Queue {
    /// After something was taken out of the middle.
    fn recount(&mut self) {
        self.waiting_bytes = self.waiting.iter().map(Delivery::bytes).sum();
        let bytes = |f: &Flight| if let Flight::Published(d) = f { d.bytes() } else { 0 };
        self.flight_bytes = self.flight.values().map(bytes).sum();
    }

    fn has_work(&self) -> bool {
        let sendable = |d: &Delivery| d.qos == 0 || !self.is_window_full();
        !self.control.is_empty() || self.may_resend() || self.waiting.front().is_some_and(sendable)
    }

    fn is_short(&self) -> bool {
        self.waiting.len() <= SOFT.0 / 2 && self.waiting_bytes <= SOFT.1 / 2
    }

    fn is_window_full(&self) -> bool {
        self.flight.len() >= self.window || self.flight_bytes >= HARD.1
    }

    /// What was in flight is sent again within the new connection's window.
    fn may_resend(&self) -> bool {
        !self.resend.is_empty() && self.flight.len().saturating_sub(self.resend.len()) < self.window
    }

    fn free_pkid(&mut self) -> u16 {
        // The window is far below 65,535, so a free id is found soon.
        loop {
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            if !self.flight.contains_key(&self.last_pkid) {
                return self.last_pkid;
            }
        }
    }
}

#[cfg(test)]
mod tests;
