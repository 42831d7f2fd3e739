//! Two things that act as one device: asking whom a newcomer displaces, evidence, quarantine and its end. What proves a
//! clone is `domain::clone`'s; who may still use the device meanwhile, `domain::policy`'s.

use super::rights::{Rows, require_role};
use super::{Actor, Change, CloseReason, DeviceView, Refusal, Service, SignedIn, audit, lock, random};
use crate::domain::account::UserId;
use crate::domain::audit::Outcome;
use crate::domain::authority::HubAction;
use crate::domain::binding::Subject;
use crate::domain::clone::{self, LastWord, Proof, Verdict, Watch};
use crate::domain::device::{Household, Registered, Standing};
use crate::domain::ids::DeviceId;
use crate::domain::keys::{HubScopedKey, verify_alive_tag};
use crate::domain::policy::{Action, Reason, decide};
use crate::store::tables::{Evidence, StoredDeviceKey, device_prefix, evidence_key};
use crate::store::{Read, StoreError, Tx};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Pieces of evidence kept for one device; the oldest makes room.
const KEPT: usize = 100;
/// Devices watched at once.
const WATCHED: usize = 10_000;
/// What proves nothing is written at most so often for one device, in ms: a card wears.
const QUIET_MS: u64 = 60_000;
/// Characters of an owner's note.
const NOTE: usize = 200;

/// What is asked of a connection whose place was taken.
pub struct Probe {
    /// 32 random bytes, to be answered under the device key.
    pub challenge: [u8; 32],
    /// 16 random bits for a packet identifier.
    pub packet: u16,
}

/// What came back on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing in time.
    Silent,
    /// What any MQTT client answers.
    Alive,
    /// This, to the challenge.
    Response(Vec<u8>),
}

/// What speaks for a clone, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct EvidenceView {
    /// The newest first.
    pub entries: Vec<Evidence>,
    /// Whether the device is quarantined now.
    pub quarantined: bool,
}

/// What is remembered of changes of hands, for all devices.
#[derive(Default)]
pub(super) struct Watches {
    devices: HashMap<DeviceId, Watched>,
}

#[derive(Default)]
struct Watched {
    watch: Watch,
    /// When what proves nothing was last written (monotonic ms), and how often it was not since.
    noted: Option<u64>,
    unnoted: u64,
}

impl Watches {
    pub(super) fn forget(&mut self, id: &DeviceId) {
        self.devices.remove(id);
    }

    /// The verdict, and whether to write it down: `Some` with how often that was not done before.
    fn observe(&mut self, id: &DeviceId, change: clone::Change) -> (Verdict, Option<u64>) {
        if change.last_word == LastWord::Silent {
            return (Verdict::Nothing, None);
        }
        if !self.devices.contains_key(id) && self.devices.len() >= WATCHED {
            self.devices.retain(|_, w| !w.watch.is_over(change.at));
            if self.devices.len() >= WATCHED {
                return (Verdict::Contested, None);
            }
        }
        let watched = self.devices.entry(id.clone()).or_default();
        let verdict = watched.watch.observe(change);
        let due = verdict != Verdict::Contested || watched.noted.is_none_or(|at| change.at.saturating_sub(at) >= QUIET_MS);
        if !due {
            watched.unnoted += 1;
            return (verdict, None);
        }
        watched.noted = Some(change.at);
        let unnoted = std::mem::take(&mut watched.unnoted);
        if verdict == Verdict::Clone {
            // After a quarantine the next proof decides again.
            self.devices.remove(id);
        }
        (verdict, Some(unnoted))
    }
}

impl Service {
    /// What to ask of a connection whose place another has taken; nothing of people, nor of a device that only re-bases.
    #[must_use]
    pub fn probe(&self, displaced: &SignedIn) -> Option<Probe> {
        if !matches!(displaced.subject, Subject::Device(_)) || displaced.rebase {
            return None;
        }
        let bytes = random::<34>().ok()?;
        let mut challenge = [0; 32];
        challenge.copy_from_slice(bytes.get(..32)?);
        Some(Probe { challenge, packet: u16::from_be_bytes([*bytes.get(32)?, *bytes.get(33)?]) })
    }

    /// A device's connection with this client id was taken over by another, and this is what it said when asked, after the
    /// newcomer had been let in. When this proves a clone, the device is quarantined and all its connections have ended
    /// when this returns.
    pub async fn displaced(&self, from: &SignedIn, by: &SignedIn, client_id: &str, challenge: &[u8; 32], answer: &Answer) {
        let Subject::Device(id) = &by.subject else { return };
        // A newcomer that has been shut out since, or came under another claim, says nothing about the device of now.
        if from.subject != by.subject || !self.still_stands(by) {
            return;
        }
        let last_word = self.last_word(id, challenge, answer);
        let change = clone::Change { at: self.clock.monotonic_ms(), from: from.side, last_word, by: by.side };
        let (verdict, due) = lock(&self.watches).observe(id, change);
        let Some(unnoted) = due else { return };
        let kind = if matches!(verdict, Verdict::Suspected | Verdict::Clone) { "proved" } else { "contested" };
        let more = if unnoted > 0 { format!(" ({unnoted} more like it were only counted)") } else { String::new() };
        let detail = format!(
            "{} #{} took the place of {} #{}, which {}{more}",
            by.source,
            by.side.number,
            from.source,
            from.side.number,
            match last_word {
                LastWord::Proven { .. } => "was still there and proved the device key",
                _ => "was still there",
            },
        );
        let row = Evidence {
            at: self.now(),
            kind: kind.into(),
            source: by.source.to_string(),
            session: format!("{client_id} #{} ({})", by.side.number, told(by.side.proof)),
            detail,
        };
        if let Err(error) = self.conclude(id, verdict, row, &by.via).await {
            tracing::error!(%error, device = %id, "evidence of a clone could not be written");
        }
    }

    fn last_word(&self, id: &DeviceId, challenge: &[u8; 32], answer: &Answer) -> LastWord {
        #[derive(Deserialize)]
        struct Response {
            instance: String,
            tag: String,
        }
        let response = match answer {
            Answer::Silent => return LastWord::Silent,
            Answer::Alive => return LastWord::Alive,
            Answer::Response(bytes) => serde_json::from_slice::<Response>(bytes).ok(),
        };
        let proven = response.and_then(|r| {
            let instance: [u8; 16] = BASE64URL_NOPAD.decode(r.instance.as_bytes()).ok()?.try_into().ok()?;
            let tag = BASE64URL_NOPAD.decode(r.tag.as_bytes()).ok()?;
            let key = self.store.read::<_, StoreError>(|v| v.get::<StoredDeviceKey>(id.as_str().as_bytes())).ok()??;
            verify_alive_tag(&HubScopedKey::from_bytes(key.0), &self.hub.id, id, challenge, &instance, &tag).then_some(instance)
        });
        // A wrong tag proves nothing but that somebody is there.
        proven.map_or(LastWord::Alive, |instance| LastWord::Proven { instance })
    }

    async fn conclude(&self, id: &DeviceId, verdict: Verdict, row: Evidence, via: &str) -> Result<(), Refusal> {
        let (device, now, via) = (id.clone(), self.now(), via.to_owned());
        let subject = format!("device:{id}");
        let quarantined = self
            .store
            .write::<bool, StoreError, _>(move |tx| {
                let key = device.as_str().as_bytes();
                add(tx, &device, &row)?;
                let event =
                    |action, outcome, reason| audit::event(subject.clone(), action, device.as_str(), outcome, reason, &*row.detail, &via);
                audit::append(tx, now, event("device.displaced", Outcome::Allowed, &row.kind))?;
                let mut household = tx.get::<Household>(key)?.unwrap_or_default();
                if verdict != Verdict::Clone || !household.quarantine() {
                    return Ok(false);
                }
                tx.put(key, &household)?;
                let detail = "two things hold this device's key and keep taking its place from each other; both are shut out".to_owned();
                add(tx, &device, &Evidence { kind: "quarantined".into(), detail, ..row.clone() })?;
                audit::append(tx, now, event("device.quarantine", Outcome::Done, "two_hold_its_key"))?;
                Ok(true)
            })
            .await?;
        if quarantined {
            self.policy_changed().await;
            self.close_sessions(&Subject::Device(id.clone()), CloseReason::NotAuthorized).await;
        }
        // Its page shows the evidence, whatever it proves.
        self.changed(Change::Device { id: id.clone() });
        Ok(())
    }

    /// What speaks for two things acting as this device.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::NotAllowed`] for all but owners and those who administer it, also while it is
    /// quarantined.
    pub fn evidence(&self, actor: &Actor, id: &DeviceId) -> Result<EvidenceView, Refusal> {
        self.store.read(|v| {
            let now = self.moment();
            let mut rows = Rows::load(v, &actor.subject, id, &now)?;
            let quarantined = rows.household.is_quarantined();
            let owner = match require_role(v, actor, HubAction::SuspendDevice, now.at) {
                Ok(()) => true,
                Err(Refusal::RoleTooLow) => false,
                Err(other) => return Err(other),
            };
            if owner {
                v.get::<Registered>(id.as_str().as_bytes())?.ok_or(Refusal::NotFound("device"))?;
            } else {
                // Who administers it may know why it is shut out.
                if rows.household.standing == Standing::Quarantined {
                    rows.household.standing = rows.household.before_quarantine;
                }
                let sees = decide(&rows.facts(None), Action::View, &now).allowed;
                if !decide(&rows.facts(None), Action::Administer, &now).allowed {
                    return Err(if sees { Refusal::NotAllowed(Reason::PrivilegeTooLow) } else { Refusal::NotFound("device") });
                }
            }
            let mut entries: Vec<Evidence> = v.scan::<Evidence>(&device_prefix(id), KEPT)?.into_iter().map(|(_, e)| e).collect();
            entries.reverse();
            Ok(EvidenceView { entries, quarantined })
        })
    }

    /// Ends a quarantine: the device may sign in again, and the next proof decides again. The evidence stays.
    ///
    /// # Errors
    /// [`Refusal::RoleTooLow`] for all but owners, [`Refusal::NotFound`], [`Refusal::Conflict`] when it is not quarantined.
    pub async fn lift(&self, actor: &Actor, id: &DeviceId, note: &str) -> Result<DeviceView, Refusal> {
        if !actor.may(HubAction::SuspendDevice) {
            return Err(Refusal::RoleTooLow);
        }
        let note: String = note.trim().chars().filter(|c| !c.is_control()).take(NOTE).collect();
        let (device, now, who) = (id.clone(), self.now(), actor.clone());
        self.store
            .write(move |tx| {
                require_role(tx, &who, HubAction::SuspendDevice, now)?;
                let key = device.as_str().as_bytes();
                if tx.get::<Registered>(key)?.is_none() {
                    return Err(Refusal::NotFound("device"));
                }
                let mut household = tx.get::<Household>(key)?.unwrap_or_default();
                if !household.lift() {
                    return Err(Refusal::Conflict("it is not quarantined".into()));
                }
                tx.put(key, &household)?;
                let detail = if note.is_empty() { format!("by {}", who.subject) } else { format!("by {}: {note}", who.subject) };
                let row = Evidence {
                    at: now,
                    kind: "lifted".into(),
                    source: who.source.to_string(),
                    session: String::new(),
                    detail: detail.clone(),
                };
                add(tx, &device, &row)?;
                audit::append(tx, now, audit::done(&who, "device.lift", device.as_str(), &*note))?;
                Ok(())
            })
            .await?;
        lock(&self.watches).forget(id);
        self.policy_changed().await;
        self.close_sessions(&Subject::Device(id.clone()), CloseReason::Administrative).await;
        self.changed(Change::Device { id: id.clone() });
        self.device(actor, id)
    }
}

fn told(proof: Proof) -> &'static str {
    match proof {
        Proof::Token { rebased: false } => "device key",
        Proof::Token { rebased: true } => "device key, after it had lost its counter",
        Proof::Handed => "operational secret or certificate",
    }
}

/// A device has re-based its counter: it has lost its flash, or another has used it. A note, once a minute at most.
pub(super) fn counter_lost(tx: &Tx<'_>, device: &DeviceId, now: u64, via: &str) -> Result<(), StoreError> {
    const KIND: &str = "counter_lost";
    let last = tx.scan::<Evidence>(&device_prefix(device), usize::MAX)?.pop();
    if last.is_some_and(|(_, e)| e.kind == KIND && now.saturating_sub(e.at) < QUIET_MS) {
        return Ok(());
    }
    let source = via.rsplit(' ').next().unwrap_or_default().to_owned();
    let detail = "it had lost its counter, or another had used it, and proved the device key by a challenge".to_owned();
    add(tx, device, &Evidence { at: now, kind: KIND.into(), source, session: String::new(), detail })
}

/// Erases what evidence tells of who lifted a quarantine, and from where; that it was lifted, and by which account, stays.
pub(super) fn forget_person(tx: &Tx<'_>, user: &UserId) -> Result<(), StoreError> {
    let by = format!("by {}", Subject::User(user.clone()));
    for (key, row) in tx.scan::<Evidence>(b"", usize::MAX)? {
        if row.detail.starts_with(&by) {
            tx.put(&key, &Evidence { source: String::new(), detail: by.clone(), ..row })?;
        }
    }
    Ok(())
}

/// Keeps a piece of evidence; of a device's, the newest [`KEPT`] stay.
pub(super) fn add(tx: &Tx<'_>, device: &DeviceId, row: &Evidence) -> Result<(), StoreError> {
    let known = tx.scan::<Evidence>(&device_prefix(device), usize::MAX)?;
    let number = |key: &[u8]| key.last_chunk::<8>().map_or(0, |n| u64::from_be_bytes(*n));
    let next = known.last().map_or(0, |(key, _)| number(key) + 1);
    for (key, _) in known.iter().take((known.len() + 1).saturating_sub(KEPT)) {
        tx.delete::<Evidence>(key)?;
    }
    tx.put(&evidence_key(device, next), row)
}
