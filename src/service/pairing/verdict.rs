//! What the hub makes of a device's hello (docs/protocol/pairing.md §6). Nothing is written here: it decides what the
//! device's sign-in will write, and makes the credential for it. Outwardly a refusal says no more than it must; the audit
//! has the true reason.

use super::admission::{Act, Introduced, Pending};
use super::desk::Entry;
use super::{Job, PairVerdict, PairingProblem, PairingStep};
use crate::domain::brand::{Fingerprint, StatementError};
use crate::domain::claim::ClaimCode;
use crate::domain::device::{Household, Origin, Registered, ResetCounter, Standing, Trust};
use crate::domain::ids::{BrandId, DeviceId};
use crate::domain::keys::{COUNTER_MAX, HubScopedKey, OperationalSecret};
use crate::domain::pairing::{ADDRESSES_MAX, Delivery, EndCode, Hello, PERSON_MS, SIGN_IN_MS, Transcript, WHOLE_MS, verify_pair_tag};
use crate::domain::policy::Action;
use crate::domain::voucher::{Vouched, verify_short_voucher};
use crate::service::registry::vouched_for;
use crate::service::{Actor, Refusal, Service, random};
use crate::store::tables::{StoredDeviceKey, StoredModel, TrustedBrand, model_key};
use crate::store::{Read, StoreError};
use std::sync::Arc;

/// How long a credential waits before the device has said that it is stored, ms: longer than a pairing may last.
const UNSTORED_MS: u64 = WHOLE_MS + PERSON_MS + SIGN_IN_MS;
/// The longest address that a device is told, in bytes.
const ADDRESS_BYTES: usize = 64;

/// What was made of a hello.
#[derive(Clone)]
pub(super) struct Judged {
    pub(super) device: DeviceId,
    pub(super) trust: Trust,
    pub(super) act: Act,
    /// What the device has said, for whoever can check its tag later.
    pub(super) transcript: Transcript,
    /// When it was claimed, ms since 1970, as the device is told.
    pub(super) claimed_at: u64,
}

/// What the registry and the house have of a device.
struct Known {
    registered: Option<Registered>,
    key: Option<StoredDeviceKey>,
    household: Household,
    resets: Option<ResetCounter>,
}

/// A refusal: the word in the audit, what the device is told, what the person is told.
struct Denied {
    reason: &'static str,
    end: EndCode,
    detail: &'static str,
    next: &'static str,
}

const NOT_KNOWN: Denied = Denied {
    reason: "unknown_identity",
    end: EndCode::NotKnown,
    detail: "This hub does not know the device, and its maker is not trusted here.",
    next: "An owner can trust the maker's brand, or import the batch or the voucher that came with the device.",
};
const NO_VOUCHER: Denied = Denied {
    reason: "no_voucher",
    detail: "This hub does not know the device, and the device brought no voucher of its maker.",
    next: "An owner can import the batch or the voucher that came with the device.",
    ..NOT_KNOWN
};
const WRONG_VOUCHER: Denied = Denied {
    reason: "wrong_voucher",
    end: EndCode::NotTrusted,
    detail: "The voucher that the device brought does not hold.",
    next: "Ask the device's maker or seller: it may be a copy.",
};
const WRONG_TAG: Denied = Denied {
    reason: "wrong_tag",
    end: EndCode::NotTrusted,
    detail: "The device knows its code and does not have its key: it may be a copy.",
    next: "Do not use it. Ask its maker or seller.",
};
const ELSEWHERE: Denied = Denied {
    reason: "bound_elsewhere",
    end: EndCode::ClaimedElsewhere,
    detail: "The device belongs to somebody already.",
    next: "Ask who administers it to share it or to remove it; or reset it by hand, as its manual says, and pair it again.",
};
const SHUT_OUT: Denied = Denied {
    reason: "shut_out",
    end: EndCode::ClaimedElsewhere,
    detail: "The device is shut out of this hub.",
    next: "An owner can look at the device's page, and let it in again.",
};
const NO_RIGHT: Denied = Denied {
    reason: "not_allowed",
    end: EndCode::NotTrusted,
    detail: "The right to claim devices has ended for this account.",
    next: "Ask an owner of the hub to pair the device.",
};
const OTHER_DEVICE: Denied = Denied {
    reason: "other_device",
    end: EndCode::Malformed,
    detail: "Another device answered than the one the code is for.",
    next: "Compare the label, and try again.",
};

impl Service {
    /// Decides on a hello. `h` is the handshake hash of the session, `model` the model part once it is there.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a pairing that has ended; the store's fault.
    pub async fn judge_hello(
        self: &Arc<Self>,
        job: &Job,
        hello: &Hello,
        h: &[u8; 32],
        model: Option<&[u8]>,
    ) -> Result<PairVerdict, Refusal> {
        let (actor, device, code) = self.running(&job.id)?;
        if hello.device != device {
            return Ok(self.denied(&actor, &device, &OTHER_DEVICE));
        }
        if self.may_pair(&actor).is_err() {
            return Ok(self.denied(&actor, &device, &NO_RIGHT));
        }
        let judged = match self.weigh(&actor, &device, &code, hello, h, model)? {
            Weighed::Judged(judged) => judged,
            Weighed::WantModel => return Ok(PairVerdict::WantModel),
            Weighed::Denied(denied) => return Ok(self.denied(&actor, &device, denied)),
        };
        let provisional = judged.trust == Trust::Provisional;
        let judged = {
            let (mut desk, monotonic, now) = (self.pairings.lock(), self.clock.monotonic_ms(), self.now());
            let entry = desk.entry(&job.id).filter(|e| !e.step.is_last()).ok_or(Refusal::NotFound("pairing"))?;
            (entry.trust, entry.updated) = (Some(judged.trust), now);
            if provisional {
                (entry.step, entry.confirm_until, entry.judged) = (PairingStep::Confirming, Some(monotonic + PERSON_MS), Some(judged));
                None
            } else {
                Some(judged)
            }
        };
        self.pairing_moved(&job.id);
        match judged {
            Some(judged) => Ok(PairVerdict::Deliver(self.deliver(&job.id, judged)?)),
            None => Ok(PairVerdict::Confirm),
        }
    }

    /// Makes the credential that the device may sign in with, and keeps what that will write. In memory only.
    pub(super) fn deliver(&self, id: &str, judged: Judged) -> Result<Delivery, Refusal> {
        let secret = OperationalSecret::from_bytes(random()?);
        let delivery = Delivery {
            hub: self.hub.id,
            ca: self.hub.ca_der.clone(),
            addresses: self.addresses(),
            secret: secret.clone(),
            claimed_at: judged.claimed_at / 1000,
            wifi: None,
        };
        let mut desk = self.pairings.lock();
        let entry = desk.entry(id).filter(|e| !e.step.is_last()).ok_or(Refusal::NotFound("pairing"))?;
        entry.pending = Some(Pending {
            keyed_hash: self.keyed_hash(b"operational", secret.as_bytes()),
            until: self.clock.monotonic_ms() + UNSTORED_MS,
            judged,
        });
        Ok(delivery)
    }

    /// Where the hub is reached over MQTT with TLS, as `host:port`; asked each time, as a network changes. Once.
    pub fn reached_at(&self, addresses: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        let _ = self.reached_at.set(Box::new(addresses));
    }

    /// The addresses a device is told.
    pub(super) fn addresses(&self) -> Vec<String> {
        let all = self.reached_at.get().map(|ask| ask()).unwrap_or_default();
        all.into_iter().filter(|a| a.len() <= ADDRESS_BYTES).take(ADDRESSES_MAX).collect()
    }

    fn running(&self, id: &str) -> Result<(Actor, DeviceId, ClaimCode), Refusal> {
        let mut desk = self.pairings.lock();
        let open = |e: &&mut Entry| e.running && !e.step.is_last();
        let entry = desk.entry(id).filter(open).ok_or(Refusal::NotFound("pairing"))?;
        match (&entry.device, &entry.code) {
            (Some(device), Some(code)) => Ok((entry.actor.clone(), device.clone(), code.clone())),
            _ => Err(Refusal::NotFound("pairing")),
        }
    }

    fn denied(&self, actor: &Actor, device: &DeviceId, denied: &Denied) -> PairVerdict {
        if denied.reason == ELSEWHERE.reason {
            // Counted as in a claim: who tries devices of others tries few.
            let _: Refusal = self.claim_failed(actor, denied.reason);
        }
        self.pairing_denied(actor, device.as_str(), denied.reason, "");
        PairVerdict::Refuse(denied.end, PairingProblem::new(denied.reason, denied.detail, denied.next))
    }

    fn weigh(
        &self,
        actor: &Actor,
        device: &DeviceId,
        code: &ClaimCode,
        hello: &Hello,
        h: &[u8; 32],
        model: Option<&[u8]>,
    ) -> Result<Weighed, Refusal> {
        let key = device.as_str().as_bytes();
        let known = self.store.read::<_, StoreError>(|v| {
            Ok(Known { registered: v.get(key)?, key: v.get(key)?, household: v.get(key)?.unwrap_or_default(), resets: v.get(key)? })
        })?;
        let mut introduced = None;
        let trust = match &known.registered {
            None => match self.introduce(device, code, hello, model)? {
                Ok(Some(row)) => {
                    introduced = Some(Box::new(row));
                    Trust::Provisional
                }
                Ok(None) => return Ok(Weighed::WantModel),
                Err(denied) => return Ok(Weighed::Denied(denied)),
            },
            Some(registered) => match self.recognise_paired(registered, &known, code, hello, h)? {
                Ok(trust) => trust,
                Err(denied) => return Ok(Weighed::Denied(denied)),
            },
        };
        let attested = trust == Trust::Attested;
        let raised = attested && known.resets.as_ref().is_some_and(|known| hello.resets > known.counter);
        let mut claimed_at = self.now();
        let act = match known.household.standing {
            Standing::Waiting => Act::Claim { introduced },
            // Whoever is shut out has no say, whatever it proves: it could be the copy.
            standing if !standing.admits() => return Ok(Weighed::Denied(&SHUT_OUT)),
            _ if raised => Act::Transfer,
            _ if self.store.read(|v| self.require(v, actor, device, Action::Administer)).is_ok() => {
                claimed_at = known.household.claimed_at.unwrap_or(claimed_at);
                Act::Renew
            }
            _ => return Ok(Weighed::Denied(&ELSEWHERE)),
        };
        let transcript = Transcript { h: *h, tag: hello.tag, resets: hello.resets, firmware: hello.firmware.clone() };
        Ok(Weighed::Judged(Judged { device: device.clone(), trust, act, transcript, claimed_at }))
    }

    /// A device that is in the registry.
    fn recognise_paired(
        &self,
        registered: &Registered,
        known: &Known,
        code: &ClaimCode,
        hello: &Hello,
        h: &[u8; 32],
    ) -> Result<Result<Trust, &'static Denied>, Refusal> {
        if !registered.claim_hash.matches(&registered.id, code) {
            return Ok(Err(&WRONG_VOUCHER));
        }
        match &registered.origin {
            Origin::Batch(_) => {
                let proven = known.key.as_ref().is_some_and(|key| {
                    let key = HubScopedKey::from_bytes(key.0);
                    verify_pair_tag(&key, &self.hub.id, &registered.id, h, hello.resets, &hello.firmware, &hello.tag)
                });
                Ok(if proven && hello.resets <= COUNTER_MAX { Ok(Trust::Attested) } else { Err(&WRONG_TAG) })
            }
            Origin::Voucher if hello.voucher.is_empty() => Ok(Ok(Trust::Provisional)),
            Origin::Voucher => {
                let same = |p: &Vouched| {
                    p.voucher.device_id == registered.id
                        && p.voucher.brand == registered.brand
                        && p.voucher.claim_hash == registered.claim_hash
                };
                let holds = self.presented(&hello.voucher)?.is_ok_and(|presented| same(&presented));
                Ok(if holds { Ok(Trust::Provisional) } else { Err(&WRONG_VOUCHER) })
            }
            Origin::Unattested => Ok(Err(&NOT_KNOWN)),
        }
    }

    /// A device that the hub has never heard of, by the word of a brand that the owners trust; `None` while its model is
    /// not known.
    fn introduce(
        &self,
        device: &DeviceId,
        code: &ClaimCode,
        hello: &Hello,
        model: Option<&[u8]>,
    ) -> Result<Result<Option<Introduced>, &'static Denied>, Refusal> {
        if hello.voucher.is_empty() {
            return Ok(Err(&NO_VOUCHER));
        }
        let presented = match self.presented(&hello.voucher)? {
            Ok(presented) => presented,
            Err(StatementError::Untrusted { .. }) => return Ok(Err(&NOT_KNOWN)),
            Err(_) => return Ok(Err(&WRONG_VOUCHER)),
        };
        let v = &presented.voucher;
        let same = v.device_id == *device && v.brand == hello.brand && v.model == hello.model;
        if !same || !v.claim_hash.matches(device, code) {
            return Ok(Err(&WRONG_VOUCHER));
        }
        let row = model_key(&v.brand, &v.model);
        let known = self.store.read::<_, StoreError>(|r| r.get::<StoredModel>(&row))?.is_some();
        let model = match model {
            None if known => None,
            None if hello.model_len == 0 => return Ok(Err(&NOT_KNOWN)),
            None => return Ok(Ok(None)),
            Some(part) => match presented.model(part) {
                Ok(model) => Some((row, model)),
                Err(_) => return Ok(Err(&WRONG_VOUCHER)),
            },
        };
        Ok(Ok(Some(Introduced { registered: vouched_for(presented.voucher, self.now()), model })))
    }

    fn presented(&self, voucher: &[u8]) -> Result<Result<Vouched, StatementError>, StoreError> {
        let brands = self.store.read::<_, StoreError>(|v| v.scan::<TrustedBrand>(b"", 1_000))?;
        let trusts =
            |brand: &BrandId, print: &Fingerprint| brands.iter().any(|(_, b)| b.id == *brand && b.fingerprint == print.to_string());
        Ok(verify_short_voucher(voucher, trusts))
    }
}

enum Weighed {
    Judged(Judged),
    WantModel,
    Denied(&'static Denied),
}
