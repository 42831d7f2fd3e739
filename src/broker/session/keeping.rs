//! What of a session outlives the hub: what it is owed, where its messages of QoS 2 stand, for how long it is kept, and by what it was let in.

use super::{Delivery, Flight, Session};
use crate::broker::keeper::{Kept, Owed};
use crate::service::{InFlight, LetInBy, SentMessage};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use tokio::sync::oneshot;

impl Session {
    pub(in crate::broker) fn owing(
        self: &Arc<Self>,
        of: &Delivery,
        kept: &Arc<Kept>,
        settled: oneshot::Receiver<()>,
        patient: bool,
    ) -> Owed {
        let (message, identifiers) = (of.message.clone(), of.identifiers.clone());
        Owed { session: self.clone(), kept: Arc::downgrade(kept), settled, patient, message, qos: of.qos, retain: of.retain, identifiers }
    }

    /// A delivery that is to be kept now, whatever becomes of it.
    pub(in crate::broker) fn owes(self: &Arc<Self>, delivery: &Delivery) -> Option<Owed> {
        let kept = delivery.kept.as_ref()?;
        Some(self.owing(delivery, kept, oneshot::channel().1, false))
    }

    /// All that is owed.
    pub(in crate::broker) fn owed(self: &Arc<Self>) -> Vec<Owed> {
        let q = self.queue();
        let flying = q.flight.values().filter_map(|f| if let Flight::Published(d) = f { Some(d) } else { None });
        q.waiting.iter().chain(flying).filter_map(|delivery| self.owes(delivery)).collect()
    }

    /// What is on its way, to be kept.
    pub(in crate::broker) fn in_flight(&self) -> InFlight {
        let q = self.queue();
        let sent = q.flight.iter().filter_map(|(pkid, flight)| match flight {
            Flight::Published(delivery) => {
                let kept = delivery.kept.as_ref();
                kept.map(|kept| SentMessage { pkid: *pkid, number: kept.number, qos: delivery.qos, received: false })
            }
            Flight::Released(number) => Some(SentMessage { pkid: *pkid, number: *number, qos: 2, received: true }),
        });
        let taken = q.unreleased.iter().copied().filter(|id| q.receiving != Some(*id));
        InFlight { sent: sent.collect(), unreleased: taken.collect(), last_pkid: q.last_pkid }
    }

    /// Takes up what was kept: what waits, in its order, of which some were on their way. `last` is the highest number that was given.
    pub(in crate::broker) fn restore(&self, waiting: Vec<Delivery>, last: u64, on_their_way: &InFlight) {
        let mut q = self.queue();
        let number = |d: &Delivery| d.kept.as_ref().map_or(0, |kept| kept.number);
        let mut waiting: BTreeMap<u64, Delivery> = waiting.into_iter().map(|d| (number(&d), d)).collect();
        (q.last_kept, q.last_pkid) = (last, on_their_way.last_pkid);
        for sent in &on_their_way.sent {
            q.last_kept = q.last_kept.max(sent.number);
            q.last_pkid = q.last_pkid.max(sent.pkid);
            let message = waiting.remove(&sent.number);
            let flight = match message {
                Some(message) if !sent.received => Some(Flight::Published(message)),
                // Of one that was not stored or was taken back, the client may hold the identifier: it learns that it is free.
                _ if sent.received || sent.qos == 2 => Some(Flight::Released(sent.number)),
                // It was acknowledged after this was written.
                _ => None,
            };
            if let Some(flight) = flight {
                q.flight.insert(sent.pkid, flight);
            }
        }
        q.unreleased = on_their_way.unreleased.iter().copied().collect();
        q.waiting = waiting.into_values().collect();
        q.recount();
    }

    /// Whether nothing would be lost with it.
    pub(in crate::broker) fn is_void(&self) -> bool {
        let subscribes = !self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        let q = self.queue();
        !subscribes && q.flight.is_empty() && q.unreleased.is_empty() && q.waiting.is_empty()
    }

    /// It ends, and what waits for it; whether it had not ended before.
    pub(in crate::broker) fn end(&self) -> bool {
        let first = !self.ended.swap(true, Ordering::AcqRel);
        self.purge(|_| false);
        first
    }

    /// Whether it has ended.
    pub(in crate::broker) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// How long it is kept without a connection, in seconds.
    pub(in crate::broker) fn expiry_s(&self) -> u32 {
        self.expiry_s.load(Ordering::Relaxed)
    }

    /// Sets how long that is; whether it was otherwise.
    pub(in crate::broker) fn set_expiry(&self, seconds: u32) -> bool {
        self.expiry_s.swap(seconds, Ordering::Relaxed) != seconds
    }

    /// Sets what has let its client in; whether it was something else. From where it came is no difference.
    pub(in crate::broker) fn set_let_in_by(&self, by: LetInBy) -> bool {
        let before = self.let_in_by.lock().unwrap_or_else(PoisonError::into_inner).replace(by);
        before.is_some_and(|before| LetInBy { source: by.source, ..before } != by)
    }

    /// Its reader has not acknowledged in time.
    pub(in crate::broker) fn acknowledges_late(&self) {
        self.slow.store(true, Ordering::Relaxed);
    }
}
