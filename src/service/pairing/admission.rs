//! The gate's side of pairing: a device signs in with the secret it has just been given. What that means was decided with
//! its hello; here it is written, in one transaction before CONNACK: the claim, the transfer, or the new credential.

use super::desk::Entry;
use super::verdict::Judged;
use super::{PairingProblem, PairingStep};
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::binding::Subject;
use crate::domain::device::{Household, Registered, ResetCounter, Standing, Trust};
use crate::domain::ids::DeviceId;
use crate::domain::model::Model;
use crate::domain::policy::Action;
use crate::service::claims::label;
use crate::service::forget::{Forgotten, forget_device};
use crate::service::registry::put_model;
use crate::service::rights::require_role;
use crate::service::{Actor, Change, CloseReason, Refusal, Service, SignInRefusal, audit};
use crate::store::tables::{Credential, PairingTranscript};
use crate::store::{Read, Tx};
use std::sync::{Arc, PoisonError};
use subtle::ConstantTimeEq;

/// What a sign-in writes.
#[derive(Clone)]
pub(super) enum Act {
    /// A claim; of a device that the hub had never heard of, its registration too.
    Claim {
        /// That registration.
        introduced: Option<Box<Introduced>>,
    },
    /// The device was reset by hand: what the house made of it ends, then a claim.
    Transfer,
    /// A new credential for who administers it.
    Renew,
}

/// An identity by its maker's voucher, with its model if that was not known.
#[derive(Clone)]
pub(super) struct Introduced {
    pub(super) registered: Registered,
    /// With the key of its row.
    pub(super) model: Option<(Vec<u8>, Model)>,
}

/// A credential that waits for its device.
pub(in crate::service) struct Pending {
    pub(super) keyed_hash: [u8; 32],
    /// Until when it serves, monotonic ms.
    pub(super) until: u64,
    pub(super) judged: Judged,
}

/// A sign-in with a credential that waits: from when it was recognised until it is written.
pub(in crate::service) struct Admission {
    id: String,
    actor: Actor,
    name: String,
    room: String,
    judged: Judged,
    keyed_hash: [u8; 32],
}

/// What has to follow after the commit.
struct Settled {
    forgotten: Option<Forgotten>,
    introduced: bool,
}

impl Service {
    /// Takes the credential that waits for this device, if `hash` is its. From now on the pairing can be cancelled no
    /// more, until [`Service::admit_paired`] has settled it.
    pub(in crate::service) fn take_pending(&self, device: &DeviceId, hash: &[u8; 32]) -> Option<Admission> {
        let (mut desk, monotonic) = (self.pairings.lock(), self.clock.monotonic_ms());
        let open = |e: &&mut Entry| !e.step.is_last() && !e.admitting && !e.admitted && e.device.as_ref() == Some(device);
        let entry = desk.open.iter_mut().find(open)?;
        let pending = entry.pending.as_ref().filter(|p| monotonic < p.until && bool::from(p.keyed_hash.ct_eq(hash)))?;
        let admission = Admission {
            id: entry.id.clone(),
            actor: entry.actor.clone(),
            name: entry.name.clone(),
            room: entry.room.clone(),
            judged: pending.judged.clone(),
            keyed_hash: pending.keyed_hash,
        };
        entry.admitting = true;
        Some(admission)
    }

    /// Writes it. When this returns, the device is its new owner's, whoever was connected as it before is not, and the
    /// claim under which it has come in is said.
    ///
    /// # Errors
    /// [`SignInRefusal::BadCredentials`] when it may not be written any more; [`SignInRefusal::Unavailable`] when it could
    /// not be: then the device may try again.
    pub(in crate::service) async fn admit_paired(self: &Arc<Self>, admission: Admission, via: &str) -> Result<u64, SignInRefusal> {
        let (service, via) = (self.clone(), via.to_owned());
        // Whoever hangs up does not end it halfway: what is committed has its effects.
        let settled = tokio::spawn(async move { service.settle(admission, via).await }).await;
        settled.unwrap_or(Err(SignInRefusal::Unavailable))
    }

    async fn settle(self: &Arc<Self>, admission: Admission, via: String) -> Result<u64, SignInRefusal> {
        let admission = Arc::new(admission);
        let (service, what, through) = (self.clone(), admission.clone(), via);
        let written = self.store.write(move |tx| service.admit_in(tx, &what, &through)).await;
        let (device, claimed_at) = (&admission.judged.device, admission.judged.claimed_at);
        let answer = match written {
            Ok(settled) => {
                self.claim_succeeded(&admission.actor);
                if settled.introduced {
                    self.forget_models();
                }
                match settled.forgotten {
                    Some(forgotten) => self.forgotten_for(device, forgotten, Some(claimed_at)).await,
                    None => {
                        self.policy_changed().await;
                        self.close_sessions(&Subject::Device(device.clone()), CloseReason::Administrative).await;
                    }
                }
                self.changed(Change::Device { id: device.clone() });
                Ok(claimed_at)
            }
            Err(Refusal::Store(error)) => {
                tracing::error!(%error, "a pairing could not be recorded");
                Err(SignInRefusal::Unavailable)
            }
            Err(refusal) => {
                self.pairing_denied(&admission.actor, device.as_str(), reason_of(&refusal), &refusal.to_string());
                self.fail_pairing(&admission.id, &refusal);
                Err(SignInRefusal::BadCredentials)
            }
        };
        self.settled(&admission.id, answer.is_ok());
        answer
    }

    /// The gate is done with a pairing; the radio's room may have ended it meanwhile.
    fn settled(&self, id: &str, admitted: bool) {
        let outcome = {
            let mut desk = self.pairings.lock();
            let Some(entry) = desk.entry(id) else { return };
            entry.admitting = false;
            if admitted {
                (entry.admitted, entry.pending) = (true, None);
            }
            entry.outcome.take()
        };
        match outcome {
            Some(outcome) => self.finish_pairing(id, outcome),
            None => self.pairing_moved(id),
        }
    }

    fn fail_pairing(&self, id: &str, refusal: &Refusal) {
        let problem = PairingProblem::new(
            reason_of(refusal),
            "The device signed in, and the hub could not give it to this account any more.",
            "Look at the device and at your account, then pair it again.",
        );
        self.pairings.lock().end(id, PairingStep::Failed, Some(problem), self.now());
    }

    fn admit_in(&self, tx: &Tx<'_>, admission: &Admission, via: &str) -> Result<Settled, Refusal> {
        let Admission { actor: who, judged, .. } = admission;
        let (device, now, key) = (&judged.device, self.now(), judged.device.as_str().as_bytes());
        require_role(tx, who, HubAction::ClaimDevice, now)?;
        let credential = Credential { keyed_hash: admission.keyed_hash, undelivered: None, made_at: now };
        let (mut forgotten, mut introduced) = (None, false);
        match &judged.act {
            Act::Claim { introduced: new } => {
                if let Some(new) = new {
                    introduce_in(tx, who, new, now)?;
                    introduced = true;
                }
                self.claim_paired(tx, admission, &credential, now)?;
            }
            Act::Transfer => {
                forgotten = Some(reset_in(tx, judged, now, via)?);
                self.claim_paired(tx, admission, &credential, now)?;
            }
            Act::Renew => {
                let household = self.require(tx, who, device, Action::Administer)?.household;
                if !household.standing.admits() || household.claimed_at != Some(judged.claimed_at) {
                    return Err(Refusal::ClaimRefused);
                }
                tx.put(key, &credential)?;
                audit::append(tx, now, audit::done(who, "device.pair", device.as_str(), "a new credential"))?;
            }
        }
        let household = tx.get::<Household>(key)?.unwrap_or_default();
        tx.put(
            key,
            &Household { standing: Standing::Ready, claimed_at: Some(judged.claimed_at), version: household.version + 1, ..household },
        )?;
        if judged.trust == Trust::Attested {
            let known = tx.get::<ResetCounter>(key)?.unwrap_or_default().counter;
            tx.put(key, &ResetCounter { counter: known.max(judged.transcript.resets) })?;
        } else {
            tx.put(key, &PairingTranscript { transcript: judged.transcript.clone(), at: now })?;
        }
        let actor = format!("device:{device}");
        audit::append(tx, now, audit::event(actor, "claim.complete", device.as_str(), Outcome::Done, "operational_secret", "", via))?;
        Ok(Settled { forgotten, introduced })
    }

    fn claim_paired(&self, tx: &Tx<'_>, admission: &Admission, credential: &Credential, now: u64) -> Result<(), Refusal> {
        let Admission { actor: who, judged, .. } = admission;
        let registered = tx.get::<Registered>(judged.device.as_str().as_bytes())?.ok_or(Refusal::ClaimRefused)?;
        let name = label(&admission.name, &registered);
        if !self.claim_in(tx, who, &judged.device, credential, &name, &admission.room, now)? {
            return Err(Refusal::ClaimRefused);
        }
        let detail = match judged.trust {
            Trust::Attested => "it proved its key",
            _ => "it proved its code, and not its key",
        };
        audit::append(tx, now, audit::done(who, "device.pair", judged.device.as_str(), detail))?;
        Ok(())
    }

    fn forget_models(&self) {
        self.models.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Registers an identity that its device has brought; what a batch has told meanwhile stands.
fn introduce_in(tx: &Tx<'_>, who: &Actor, new: &Introduced, now: u64) -> Result<(), Refusal> {
    let (row, key) = (&new.registered, new.registered.id.as_str().as_bytes());
    match tx.get::<Registered>(key)? {
        Some(known) if known.brand == row.brand && known.claim_hash == row.claim_hash => return Ok(()),
        Some(_) => return Err(Refusal::ClaimRefused),
        None => tx.put(key, row)?,
    }
    if let Some((model_row, model)) = &new.model {
        put_model(tx, model_row, model, row.made)?;
    }
    audit::append(tx, now, audit::done(who, "registry.voucher", row.id.as_str(), format!("{}, brought by the device", row.brand)))?;
    Ok(())
}

/// What a reset by hand ends, as when the device says it over MQTT.
fn reset_in(tx: &Tx<'_>, judged: &Judged, now: u64, via: &str) -> Result<Forgotten, Refusal> {
    let (device, key, resets) = (&judged.device, judged.device.as_str().as_bytes(), judged.transcript.resets);
    let raised = tx.get::<ResetCounter>(key)?.is_some_and(|known| resets > known.counter);
    let standing = tx.get::<Household>(key)?.unwrap_or_default().standing;
    // Whoever is shut out has no say, whatever it signs.
    if !raised || !standing.admits() {
        return Err(Refusal::ClaimRefused);
    }
    let by = format!("device:{device}");
    let forgotten = forget_device(tx, device, &by, now)?;
    let lost: Vec<String> = forgotten.holders.iter().take(20).map(ToString::to_string).collect();
    let detail = format!("reset by hand, {resets} times so far; {} rights ended: {}", forgotten.holders.len(), lost.join(" "));
    audit::append(tx, now, audit::event(by, "device.reset", device.as_str(), Outcome::Done, "reset_counter", detail, via))?;
    Ok(forgotten)
}

fn reason_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::RoleTooLow | Refusal::SignedOut | Refusal::PeopleOnly | Refusal::NotAllowed(_) | Refusal::NotFound(_) => "not_allowed",
        _ => "bound_elsewhere",
    }
}
