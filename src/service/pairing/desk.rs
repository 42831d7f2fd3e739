//! The desk: pairings in the order in which they were asked for, one at a time, and what people see of them. All of it is
//! in memory: a hub that starts again has none. Times are arguments.

use super::admission::Pending;
use super::verdict::Judged;
use super::{PairingKind, PairingProblem, PairingStep, PairingView, WifiWish};
use crate::domain::binding::Subject;
use crate::domain::claim::ClaimCode;
use crate::domain::device::Trust;
use crate::domain::ids::DeviceId;
use crate::domain::pairing::PairingKey;
use crate::service::{Actor, lock};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pairings that wait at once, of all accounts.
pub(super) const QUEUED: usize = 8;
/// Ended pairings that are remembered.
const ENDED: usize = 50;
/// For so long, ms.
const ENDED_MS: u64 = 10 * 60 * 1_000;

/// A pairing with all that the hub knows of it.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) kind: PairingKind,
    /// Who asked for it.
    pub(super) actor: Actor,
    pub(super) device: Option<DeviceId>,
    /// The code as it was typed, until the pairing has ended.
    pub(super) code: Option<ClaimCode>,
    pub(super) key: Option<PairingKey>,
    pub(super) nearby: Option<String>,
    pub(super) name: String,
    pub(super) room: String,
    pub(super) wifi: WifiWish,
    pub(super) trust: Option<Trust>,
    pub(super) step: PairingStep,
    pub(super) problem: Option<PairingProblem>,
    pub(super) result_url: Option<String>,
    /// ms since 1970.
    pub(super) started: u64,
    /// ms since 1970.
    pub(super) updated: u64,
    pub(super) cancel: CancellationToken,
    /// The radio has it.
    pub(super) running: bool,
    /// What was made of the hello of a provisional device, until a person has answered.
    pub(super) judged: Option<Judged>,
    /// A person has said yes.
    pub(super) confirmed: bool,
    /// Until when a person may answer, monotonic ms.
    pub(super) confirm_until: Option<u64>,
    /// What the device may sign in with.
    pub(super) pending: Option<Pending>,
    /// The gate is writing the claim: whoever ends the pairing now comes too late, or waits for the outcome.
    pub(super) admitting: bool,
    /// It has signed in.
    pub(super) admitted: bool,
    /// How the radio's room ended it while the gate was writing.
    pub(super) outcome: Option<Result<(), PairingProblem>>,
    /// Ended, on the monotonic clock.
    ended_at: u64,
}

impl Entry {
    #[expect(clippy::too_many_arguments, reason = "who, what, and what to call it")]
    pub(super) fn new(
        id: String,
        actor: Actor,
        named: Option<(DeviceId, ClaimCode, PairingKey)>,
        nearby: Option<String>,
        name: String,
        room: String,
        wifi: WifiWish,
        now: u64,
    ) -> Entry {
        let kind = if named.is_some() { PairingKind::Hearthkey } else { PairingKind::Improv };
        let (device, code, key) = match named {
            Some((device, code, key)) => (Some(device), Some(code), Some(key)),
            None => (None, None, None),
        };
        Entry {
            id,
            kind,
            actor,
            device,
            code,
            key,
            nearby,
            name,
            room,
            wifi,
            trust: None,
            step: PairingStep::Queued,
            problem: None,
            result_url: None,
            started: now,
            updated: now,
            cancel: CancellationToken::new(),
            running: false,
            judged: None,
            confirmed: false,
            confirm_until: None,
            pending: None,
            admitting: false,
            admitted: false,
            outcome: None,
            ended_at: 0,
        }
    }

    fn view(&self, position: Option<usize>) -> PairingView {
        let (sent, total) = match self.step {
            PairingStep::Sending { sent, total } => (Some(sent), Some(total)),
            _ => (None, None),
        };
        PairingView {
            id: self.id.clone(),
            kind: self.kind,
            step: self.step.as_str(),
            position,
            device_id: self.device.clone(),
            name: self.name.clone(),
            room: self.room.clone(),
            trust: self.trust,
            sent,
            total,
            problem: self.problem.clone(),
            result_url: self.result_url.clone(),
            encrypted: self.kind == PairingKind::Hearthkey,
            started: self.started,
            updated: self.updated,
        }
    }

    /// Nothing of it serves any more: no secret stays behind.
    fn wipe(&mut self) {
        (self.code, self.key, self.judged, self.pending) = (None, None, None, None);
        self.wifi = WifiWish::None;
    }
}

/// The pairings that are open, oldest first, and those that have ended, oldest first.
#[derive(Default)]
pub(super) struct Inner {
    pub(super) open: Vec<Entry>,
    ended: VecDeque<Entry>,
}

impl Inner {
    pub(super) fn entry(&mut self, id: &str) -> Option<&mut Entry> {
        self.open.iter_mut().find(|e| e.id == id)
    }

    /// The next one for the radio, if it has none.
    pub(super) fn next(&mut self) -> Option<&mut Entry> {
        if self.open.iter().any(|e| e.running) { None } else { self.open.iter_mut().find(|e| e.step == PairingStep::Queued) }
    }

    /// Whether one is under way, or waits for the radio.
    pub(super) fn has_work(&self) -> bool {
        self.open.iter().any(|e| e.running || !e.step.is_last())
    }

    pub(super) fn queued(&self) -> usize {
        self.open.iter().filter(|e| e.step == PairingStep::Queued).count()
    }

    /// Ends an open pairing; false when its step was a last one before.
    pub(super) fn end(&mut self, id: &str, step: PairingStep, problem: Option<PairingProblem>, now: u64) -> bool {
        let Some(entry) = self.entry(id).filter(|e| !e.step.is_last()) else { return false };
        (entry.step, entry.problem, entry.updated) = (step, problem, now);
        entry.wipe();
        true
    }

    /// Puts an ended pairing away, and forgets the oldest.
    pub(super) fn put_away(&mut self, id: &str, monotonic: u64) {
        let Some(at) = self.open.iter().position(|e| e.id == id && e.step.is_last()) else { return };
        let mut entry = self.open.remove(at);
        (entry.running, entry.ended_at) = (false, monotonic);
        entry.wipe();
        self.ended.push_back(entry);
        self.forget(monotonic);
    }

    fn forget(&mut self, monotonic: u64) {
        while self.ended.len() > ENDED || self.ended.front().is_some_and(|e| monotonic.saturating_sub(e.ended_at) > ENDED_MS) {
            self.ended.pop_front();
        }
    }

    /// Those that `of` may see, newest first.
    pub(super) fn views(&mut self, monotonic: u64, of: impl Fn(&Entry) -> bool) -> Vec<PairingView> {
        self.forget(monotonic);
        let mut position = 0;
        let mut views = Vec::new();
        for entry in self.ended.iter().chain(&self.open) {
            let place = (entry.step == PairingStep::Queued).then(|| {
                position += 1;
                position
            });
            if of(entry) {
                views.push(entry.view(place));
            }
        }
        views.reverse();
        views
    }

    /// Who asked for a pairing.
    pub(super) fn owner(&self, id: &str) -> Option<Subject> {
        self.open.iter().chain(&self.ended).find(|e| e.id == id).map(|e| e.actor.subject.clone())
    }
}

/// The desk, and the bell that rings when something on it has changed.
pub(in crate::service) struct Desk {
    inner: Mutex<Inner>,
    bell: watch::Sender<u64>,
}

impl Default for Desk {
    fn default() -> Self {
        Desk { inner: Mutex::default(), bell: watch::channel(0).0 }
    }
}

impl Desk {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Something has changed: whoever waits looks again.
    pub(super) fn ring(&self) {
        self.bell.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Rings from now on.
    pub(super) fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry::new(id.into(), Actor::console(), None, Some("near".into()), "lamp".into(), String::new(), WifiWish::None, 1)
    }

    #[test]
    fn one_pairing_runs_at_a_time_and_the_others_have_their_place() {
        let mut desk = Inner::default();
        desk.open.extend([entry("a"), entry("b"), entry("c")]);
        let first = desk.next().unwrap();
        assert_eq!(first.id, "a");
        (first.running, first.step) = (true, PairingStep::Searching);
        assert!(desk.next().is_none(), "one at a time");
        let places: Vec<_> = desk.views(0, |_| true).into_iter().map(|v| (v.id, v.position)).collect();
        assert_eq!(places, [("c".into(), Some(2)), ("b".into(), Some(1)), ("a".into(), None)]);
        assert!(desk.end("a", PairingStep::Done, None, 2));
        assert!(!desk.end("a", PairingStep::Failed, None, 3), "what has ended stays as it ended");
        assert!(desk.next().is_none(), "the radio still has it");
        desk.put_away("a", 5);
        assert_eq!(desk.next().unwrap().id, "b");
    }

    #[test]
    fn ended_pairings_are_remembered_for_a_while_and_never_too_many() {
        let mut desk = Inner::default();
        for n in 0..60u64 {
            let id = n.to_string();
            desk.open.push(entry(&id));
            desk.end(&id, PairingStep::Failed, None, n);
            desk.put_away(&id, n);
        }
        assert_eq!(desk.views(60, |_| true).len(), ENDED);
        assert_eq!(desk.views(ENDED_MS + 40, |_| true).len(), 20);
        assert!(desk.views(ENDED_MS + 100, |_| true).is_empty());
    }
}
