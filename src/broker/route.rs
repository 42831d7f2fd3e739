//! The way of a message: who receives it, each with its own QoS, none without the right; and waiting for slow readers
//! instead of losing what they are owed.

use super::Broker;
use super::keeper::Owed;
use super::session::{Compiled, Delivery, Message, Offer, Session};
use super::trie::{Matches, Pool, Receiver};
use crate::domain::binding::Subject;
use crate::domain::policy::PublishVerdict;
use crate::service::RetainedMessage;
use bytes::Bytes;
use rumqttd::protocol::DisconnectReasonCode;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a publisher waits for one slow reader, before the reader's bounds decide.
const PATIENCE: Duration = Duration::from_millis(250);
/// Topics a publisher remembers the receivers of.
const REMEMBERED: usize = 32;

/// What became of a message beyond being queued.
#[derive(Default)]
struct FanOut {
    /// Readers that are behind.
    congested: Vec<Arc<Session>>,
    /// What is to be kept.
    owed: Vec<Owed>,
}

/// What a connection remembers of the topics it publishes to, valid for one generation of subscriptions and one making
/// of the policy's table: a right that begins or ends by its time changes the table within an epoch.
#[derive(Default)]
pub(super) struct Memory {
    topics: HashMap<Bytes, Known>,
}

pub(super) struct Known {
    pub(super) topic: Arc<str>,
    /// Epoch and validity of the table that gave the verdicts.
    made: (u64, u64),
    plain: PublishVerdict,
    retained: PublishVerdict,
    generation: u64,
    matches: Arc<Matches>,
}

impl Memory {
    /// The verdict on a publish to `topic`; `None` when it is no topic name.
    pub(super) fn verdict(&mut self, policy: &Compiled, topic: &Bytes, retain: bool) -> Option<(Arc<str>, PublishVerdict)> {
        if let Some(known) = self.topics.get_mut(topic) {
            let made = (policy.epoch, policy.table.valid_until());
            if known.made != made {
                known.made = made;
                known.plain = policy.table.publish(&known.topic, false);
                known.retained = policy.table.publish(&known.topic, true);
            }
            return Some((known.topic.clone(), if retain { known.retained } else { known.plain }));
        }
        let name = std::str::from_utf8(topic).ok().filter(|name| crate::domain::topic::is_valid_name(name))?;
        let (plain, retained) = (policy.table.publish(name, false), policy.table.publish(name, true));
        let made = (policy.epoch, policy.table.valid_until());
        let known = Known { topic: name.into(), made, plain, retained, generation: u64::MAX, matches: Arc::default() };
        if self.topics.len() >= REMEMBERED {
            self.topics.clear();
        }
        let answer = (known.topic.clone(), if retain { retained } else { plain });
        // A copy of its own: the slice would keep the whole read buffer alive.
        self.topics.insert(Bytes::copy_from_slice(topic), known);
        Some(answer)
    }

    fn matches(&mut self, broker: &Broker, topic: &str) -> Arc<Matches> {
        let generation = broker.trie.generation();
        match self.topics.get_mut(topic.as_bytes()) {
            Some(known) if known.generation == generation => known.matches.clone(),
            Some(known) => {
                known.matches = Arc::new(broker.trie.matches(topic));
                known.generation = generation;
                known.matches.clone()
            }
            None => Arc::new(broker.trie.matches(topic)),
        }
    }
}

impl Broker {
    /// The policy of a session, made anew when the hub's has moved on.
    pub(super) fn policy(&self, session: &Session) -> Arc<Compiled> {
        let known = session.policy.load_full();
        if known.epoch == self.service.epoch() && self.service.now() < known.table.valid_until() {
            return known;
        }
        let epoch = self.service.epoch();
        let table = self.service.compile(&session.principal, &known.table);
        let fresh = Arc::new(Compiled { epoch, table });
        session.policy.store(fresh.clone());
        fresh
    }

    /// A client's message to all who may have it. Waits, within bounds, for readers that are behind.
    /// Says what is to be kept for whom.
    pub(super) async fn deliver(&self, message: Message, memory: &mut Memory) -> Vec<Owed> {
        let matches = memory.matches(self, &message.topic);
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        let FanOut { congested, owed } = self.fan_out(&Arc::new(message), &matches);
        if congested.is_empty() {
            return owed;
        }
        // One wait for all of them; who has not made room by then is not waited for again until it has.
        let room = futures_util::future::join_all(congested.iter().map(|session| session.room()));
        if tokio::time::timeout(PATIENCE, room).await.is_err() {
            congested.iter().filter(|session| session.is_behind()).for_each(|session| session.lags());
        }
        owed
    }

    /// The hub's own message, never waiting.
    pub(super) fn publish_own(&self, topic: &str, payload: Bytes, qos: u8, retain: bool, life: Option<Duration>) {
        if retain {
            let kept = RetainedMessage { payload: payload.to_vec(), qos, by: "hub".into(), expires_at: None };
            self.retained.set(topic, (!payload.is_empty()).then_some(kept));
        }
        let matches = self.trie.matches(topic);
        let expires = life.map(|life| Instant::now() + life);
        let message = Message { topic: topic.into(), payload, qos, retain, properties: None, from: 0, expires, momentary: life.is_some() };
        let FanOut { owed, .. } = self.fan_out(&Arc::new(message), &matches);
        self.keeper.secure_later(owed);
    }

    /// The hub's own message for now or never, never waiting; whether a session of `who` has it.
    pub(super) fn hand_own(&self, who: &Subject, topic: &str, payload: Bytes, life: Duration) -> bool {
        let matches = self.trie.matches(topic);
        let expires = Some(Instant::now() + life);
        let message = Message { topic: topic.into(), payload, qos: 1, retain: false, properties: None, from: 0, expires, momentary: true };
        let mut taken = false;
        self.fan_out_to(&Arc::new(message), &matches, |session| taken |= session.principal == *who);
        taken
    }

    fn fan_out(&self, message: &Arc<Message>, matches: &Matches) -> FanOut {
        self.fan_out_to(message, matches, |_| {})
    }

    /// The same; `has` is told of each session that has it.
    fn fan_out_to(&self, message: &Arc<Message>, matches: &Matches, mut has: impl FnMut(&Session)) -> FanOut {
        let mut out = FanOut::default();
        for receiver in &matches.direct {
            if self.hand_over(message, receiver, &mut out) {
                has(&receiver.session);
            }
        }
        for pool in &matches.shared {
            if let Some(session) = self.hand_to_one(message, pool, &mut out) {
                has(&session);
            }
        }
        out
    }

    fn hand_to_one(&self, message: &Arc<Message>, pool: &Pool, out: &mut FanOut) -> Option<Arc<Session>> {
        let turn = pool.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || pool.members.iter().cycle().skip(turn % pool.members.len().max(1)).take(pool.members.len());
        // A member without the right is passed over, and one without a connection is the last choice.
        let may = |r: &&Receiver| self.policy(&r.session).table.receive(&message.topic);
        let chosen = in_turn().filter(may).find(|r| r.session.is_online()).or_else(|| in_turn().find(may));
        chosen.filter(|receiver| self.hand_over(message, receiver, out)).map(|receiver| receiver.session.clone())
    }

    /// Whether the session has it.
    fn hand_over(&self, message: &Arc<Message>, receiver: &Receiver, out: &mut FanOut) -> bool {
        if receiver.no_local && receiver.session.id == message.from {
            return false;
        }
        let delivery = Delivery {
            message: message.clone(),
            qos: receiver.qos.min(message.qos),
            retain: receiver.retain_as_published && message.retain,
            identifiers: receiver.identifiers.clone(),
            kept: None,
        };
        // What waits was rightly theirs when it was said: a right that is given back later does not reach back.
        let may_wait = receiver.session.kept.is_some() || !receiver.session.is_online();
        if delivery.qos > 0 && may_wait && !self.policy(&receiver.session).table.receive(&message.topic) {
            return false;
        }
        match receiver.session.offer(delivery, &mut out.owed) {
            Offer::Taken => {
                self.counters.delivered.fetch_add(1, Ordering::Relaxed);
                true
            }
            Offer::Congested => {
                self.counters.delivered.fetch_add(1, Ordering::Relaxed);
                out.congested.push(receiver.session.clone());
                true
            }
            Offer::Dropped => {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
                false
            }
            Offer::Overflow => {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(who = %receiver.session.principal, "closed: it does not read what it is owed");
                receiver.session.kill(DisconnectReasonCode::QuotaExceeded);
                false
            }
        }
    }
}
