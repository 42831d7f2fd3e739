//! What the radio's room asks of the desk: the next pairing, a step, an answer, an end.

use super::verdict::Judged;
use super::{Confirmation, Job, JobKind, PairingKind, PairingProblem, PairingStep, WRONG_CODE};
use crate::domain::claim::ClaimCode;
use crate::domain::device::Registered;
use crate::domain::ids::DeviceId;
use crate::domain::pairing::{PairingKey, SIGN_IN_MS};
use crate::service::{Refusal, Service};
use crate::store::{Read, StoreError};
use std::time::Duration;

impl Service {
    /// Waits for the next pairing. One at a time: the next one comes when this one was finished
    /// ([`Service::finish_pairing`]). May be dropped while it waits.
    pub async fn next_pairing(&self) -> Job {
        let mut bell = self.pairings.bell();
        loop {
            bell.borrow_and_update();
            if let Some(job) = self.hand_out() {
                self.pairing_moved(&job.id);
                return job;
            }
            // The desk lives as long as the service.
            let _ = bell.changed().await;
        }
    }

    /// Whose right to claim has ended while they waited does not come up.
    fn hand_out(&self) -> Option<Job> {
        loop {
            let (id, actor) = self.pairings.lock().next().map(|e| (e.id.clone(), e.actor.clone()))?;
            if self.may_pair(&actor).is_ok() {
                break self.start_job(&id);
            }
            self.pairing_denied(&actor, "?", "not_allowed", "the right to claim has ended");
            let problem = PairingProblem::new(
                "not_allowed",
                "The right to claim devices has ended for this account.",
                "Ask an owner of the hub to pair the device.",
            );
            {
                let mut desk = self.pairings.lock();
                desk.end(&id, PairingStep::Failed, Some(problem), self.now());
                desk.put_away(&id, self.clock.monotonic_ms());
            }
            self.pairing_moved(&id);
        }
    }

    fn start_job(&self, id: &str) -> Option<Job> {
        let mut desk = self.pairings.lock();
        let entry = desk.next().filter(|e| e.id == id)?;
        (entry.running, entry.step, entry.updated) = (true, PairingStep::Searching, self.now());
        let kind = job_kind(entry.device.clone(), entry.key.clone());
        let (wifi, wants_system_wifi) = entry.wifi.split();
        Some(Job { id: id.to_owned(), kind, nearby: entry.nearby.clone(), wifi, wants_system_wifi, cancel: entry.cancel.clone() })
    }

    /// Says how far a pairing is. Steps that are the desk's own, and those of a pairing that has ended, are not heard.
    pub fn pairing_step(&self, id: &str, step: PairingStep) {
        {
            let (mut desk, now) = (self.pairings.lock(), self.now());
            let open = desk.entry(id).filter(|e| e.running && !e.step.is_last() && e.step != step);
            let Some(entry) = open.filter(|_| step.is_the_radios()) else { return };
            (entry.step, entry.updated) = (step, now);
        }
        self.pairing_moved(id);
    }

    /// Notes where a stock device says that it goes on: an address that is shown as a link. Only `http` and `https`, of
    /// at most 2,048 bytes.
    pub fn pairing_result(&self, id: &str, url: &str) {
        let fits = url.len() <= 2_048 && (url.starts_with("http://") || url.starts_with("https://")) && !url.contains(char::is_control);
        if fits && let Some(entry) = self.pairings.lock().entry(id) {
            entry.result_url = Some(url.to_owned());
        }
    }

    /// Waits until a person has answered for a provisional device: at most 120 s.
    pub async fn pairing_confirmed(&self, id: &str) -> Confirmation {
        let (mut bell, cancel) = (self.pairings.bell(), self.pairing_cancel(id));
        loop {
            bell.borrow_and_update();
            let left = {
                let (mut desk, monotonic) = (self.pairings.lock(), self.clock.monotonic_ms());
                let Some(entry) = desk.entry(id).filter(|e| !e.step.is_last()) else { return Confirmation::Cancelled };
                if entry.confirmed
                    && let Some(judged) = entry.judged.take()
                {
                    let (wifi, wants_system_wifi) = entry.wifi.split();
                    drop(desk);
                    return self.confirmed(id, judged, wifi, wants_system_wifi);
                }
                entry.confirm_until.unwrap_or(monotonic).saturating_sub(monotonic)
            };
            if left == 0 {
                return Confirmation::TimedOut;
            }
            tokio::select! {
                () = cancel.cancelled() => return Confirmation::Cancelled,
                _ = bell.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(left)) => {}
            }
        }
    }

    fn confirmed(&self, id: &str, judged: Judged, wifi: Option<crate::domain::pairing::Wifi>, wants_system_wifi: bool) -> Confirmation {
        match self.deliver(id, judged) {
            Ok(delivery) => Confirmation::Confirmed { delivery, wifi, wants_system_wifi },
            // No randomness: there is nothing that could be sent.
            Err(error) => {
                tracing::error!(%error, "a credential could not be made");
                Confirmation::TimedOut
            }
        }
    }

    /// Waits until the device has signed in with what it was given: at most 120 s from now. False when the time is over,
    /// or the pairing has ended.
    pub async fn await_sign_in(&self, id: &str) -> bool {
        let mut bell = self.pairings.bell();
        let until = self.clock.monotonic_ms() + SIGN_IN_MS;
        if let Some(pending) = self.pairings.lock().entry(id).and_then(|e| e.pending.as_mut()) {
            pending.until = until;
        }
        loop {
            bell.borrow_and_update();
            let left = {
                let (mut desk, monotonic) = (self.pairings.lock(), self.clock.monotonic_ms());
                let Some(entry) = desk.entry(id) else { return false };
                if entry.admitted {
                    return true;
                }
                if entry.step.is_last() {
                    return false;
                }
                // What the gate is writing is waited for.
                if monotonic >= until && !entry.admitting {
                    return false;
                }
                until.saturating_sub(monotonic).max(1)
            };
            tokio::select! {
                _ = bell.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(left)) => {}
            }
        }
    }

    /// Ends a pairing. A credential that waits is withdrawn, unless the device has signed in with it: then it is paired,
    /// whatever became of the radio.
    pub fn finish_pairing(&self, id: &str, outcome: Result<(), PairingProblem>) {
        let guessed = {
            let (mut desk, now, monotonic) = (self.pairings.lock(), self.now(), self.clock.monotonic_ms());
            let Some(entry) = desk.entry(id) else { return };
            if entry.admitting {
                entry.outcome = Some(outcome);
                return;
            }
            let actor = entry.actor.clone();
            let (step, problem) = if entry.admitted {
                (PairingStep::Done, None)
            } else {
                match outcome {
                    Ok(()) if entry.kind == PairingKind::Improv => (PairingStep::Done, None),
                    Ok(()) => (PairingStep::Failed, Some(no_sign_in())),
                    Err(problem) => (PairingStep::Failed, Some(problem)),
                }
            };
            let guessed = problem.as_ref().is_some_and(|p| p.code == WRONG_CODE);
            let named = entry.device.clone().zip(entry.code.clone());
            let ended = desk.end(id, step, problem.clone(), now);
            desk.put_away(id, monotonic);
            ended.then_some((actor, guessed, named, problem))
        };
        if let Some((actor, guessed, named, problem)) = guessed {
            // A code that the registry confirms was no guess: the link broke, or something else answered in the device's place.
            if guessed && !named.is_some_and(|(device, code)| self.is_right_code(&device, &code)) {
                // Counted and audited as a claim with a wrong code.
                let _: Refusal = self.claim_failed(&actor, WRONG_CODE);
            } else if let Some(problem) = problem {
                self.pairing_denied(&actor, "?", problem.code, "not paired");
            }
        }
        self.pairing_moved(id);
    }

    fn is_right_code(&self, device: &DeviceId, code: &ClaimCode) -> bool {
        let known = self.store.read::<_, StoreError>(|v| v.get::<Registered>(device.as_str().as_bytes()));
        known.is_ok_and(|known| known.is_some_and(|r| r.claim_hash.matches(device, code)))
    }

    fn pairing_cancel(&self, id: &str) -> tokio_util::sync::CancellationToken {
        self.pairings.lock().entry(id).map(|e| e.cancel.clone()).unwrap_or_default()
    }
}

fn job_kind(device: Option<DeviceId>, key: Option<PairingKey>) -> JobKind {
    match (device, key) {
        (Some(device), Some(key)) => JobKind::Hearthkey { device, key },
        _ => JobKind::Improv,
    }
}

fn no_sign_in() -> PairingProblem {
    PairingProblem::new(
        "no_sign_in",
        "The device has not signed in, and is as it was before.",
        "See that it reaches the network the hub is in, then pair it again.",
    )
}
