//! Twins: reading and writing them over MQTT (the shadow protocol) and HTTP, typed by the device's model. A desire for
//! a critical attribute is momentary: it ends after its time, with the device's connection, and with the hub's run.

use super::{Actor, Change, Refusal, Service, SignedIn, audit, lock};
use crate::domain::audit::Outcome;
use crate::domain::binding::Subject;
use crate::domain::device::Registered;
use crate::domain::ids::DeviceId;
use crate::domain::model::Model;
use crate::domain::policy::{Action, Reason};
use crate::domain::topic::Verb;
use crate::domain::twin::{Applied, Limits, NoSchema, Rejection, Schema, Section, Twin, UpdateRequest, Writer, client_token};
use crate::store::tables::{Momentary, device_prefix, twin_key};
use crate::store::{Read, StoreError, Tx};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a critical desire stands, in ms.
const MOMENT_MS: u64 = 30_000;
/// Named shadows of one device.
const MAX_SHADOWS: usize = 10;
/// Rows of named shadows of one device, deleted ones that still keep their version included.
const MAX_SHADOW_ROWS: usize = 50;
/// What a device that is away answers, by the hub's mouth, to a desire that may not wait.
const NO_ROOM: &str = "the hub's disk is full: it keeps no new values until there is room";
const CRITICAL_OFFLINE: &str = "what is critical can be desired only while the device is connected";

impl From<Rejection> for Refusal {
    fn from(r: Rejection) -> Self {
        Refusal::Twin(r)
    }
}

/// Who writes a twin, and on whose account.
#[derive(Clone)]
enum Hand {
    Device,
    Other(Actor),
}

impl Service {
    /// A request of the shadow protocol; the answer goes to the requester's own spelling of the topic, changes to both.
    ///
    /// # Errors
    /// Only the store's fault: refusals are published as `rejected`.
    pub async fn shadow_request(
        self: &Arc<Self>,
        who: &SignedIn,
        device: &DeviceId,
        shadow: Option<&str>,
        verb: Verb,
        payload: &[u8],
        aws: bool,
    ) -> Result<(), Refusal> {
        let limits = Limits::default();
        let token = client_token(payload, &limits);
        let answer = self.shadow_answer(who, device, shadow, verb, payload, &limits, token.clone()).await;
        let prefix = if aws { "$aws/" } else { "" };
        let name = shadow.map_or_else(String::new, |n| format!("/name/{n}"));
        let topic = |outcome: &str| format!("{prefix}things/{device}/shadow{name}/{}/{outcome}", verb.as_str());
        let (outcome, body) = match answer {
            Ok(body) => ("accepted", body),
            Err(Refusal::Twin(rejection)) => ("rejected", rejection.to_json(self.now())),
            Err(Refusal::NotAllowed(reason)) => ("rejected", Rejection::new(403, reason.explain()).for_token(token).to_json(self.now())),
            Err(Refusal::NotFound(_)) => ("rejected", Rejection::new(404, "No shadow exists").for_token(token).to_json(self.now())),
            Err(Refusal::Offline) => ("rejected", Rejection::new(409, CRITICAL_OFFLINE).for_token(token).to_json(self.now())),
            Err(Refusal::TooMany(_)) => ("rejected", Rejection::new(429, "Too many requests").for_token(token).to_json(self.now())),
            Err(refusal) if refusal.is_no_room() => ("rejected", Rejection::new(503, NO_ROOM).for_token(token).to_json(self.now())),
            Err(fault) => return Err(fault),
        };
        let body = body.to_string();
        self.tell_requester(&who.subject, device, verb, outcome, &body);
        self.publish(&topic(outcome), body, 1, false);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request of the protocol")]
    async fn shadow_answer(
        self: &Arc<Self>,
        who: &SignedIn,
        device: &DeviceId,
        shadow: Option<&str>,
        verb: Verb,
        payload: &[u8],
        limits: &Limits,
        token: Option<String>,
    ) -> Result<Value, Refusal> {
        if shadow.is_some_and(|n| n.is_empty() || n.len() > 64 || !n.bytes().all(|b| b.is_ascii_alphanumeric() || b":_-".contains(&b))) {
            return Err(Rejection::new(400, "Invalid shadow name").for_token(token).into());
        }
        let hand = match (&who.subject, &who.actor) {
            (Subject::Device(id), _) if id == device => Hand::Device,
            (_, Some(actor)) => Hand::Other(actor.clone()),
            _ => return Err(Refusal::SignedOut),
        };
        match verb {
            Verb::Get => {
                if let Hand::Other(actor) = &hand {
                    self.record_look(actor, device).await?;
                }
                let twin = self.store.read(|v| {
                    if let Hand::Other(actor) = &hand
                        && self.require(v, actor, device, Action::View)?.only().is_some()
                    {
                        // The answer would hold the whole document.
                        return Err(Refusal::NotAllowed(Reason::NotCovered));
                    }
                    Ok::<_, Refusal>(v.get::<Twin>(&twin_key(device, shadow))?.unwrap_or_default())
                })?;
                Ok(twin.accepted_get(token, self.now())?)
            }
            Verb::Update => {
                let request = UpdateRequest::parse(payload, limits)?;
                Ok(self.update(hand, device, shadow, request).await?.0.accepted())
            }
            Verb::Delete => {
                let (service, id, key, now) = (self.clone(), device.clone(), twin_key(device, shadow), self.now());
                let event = match &hand {
                    Hand::Device => {
                        audit::event(format!("device:{device}"), "twin.delete", device.as_str(), Outcome::Done, "", "", &who.via)
                    }
                    Hand::Other(actor) => audit::done(actor, "twin.delete", device.as_str(), ""),
                };
                let accepted = self
                    .store
                    .write(move |tx| {
                        if let Hand::Other(actor) = &hand {
                            service.require(tx, actor, &id, Action::Administer)?;
                        }
                        let deleted = tx.get::<Twin>(&key)?.unwrap_or_default().delete(token.clone(), now)?;
                        tx.put(&key, &deleted.twin)?;
                        audit::append(tx, now, event.clone())?;
                        Ok::<_, Refusal>(deleted.accepted)
                    })
                    .await?;
                self.changed(Change::Twin { id: device.clone() });
                Ok(accepted)
            }
        }
    }

    /// The twin, as the API shows it: whose right is to some attributes sees those.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::NotAllowed`].
    pub fn twin(&self, actor: &Actor, device: &DeviceId) -> Result<Twin, Refusal> {
        self.twin_or_part(actor, device).map(|(twin, _)| twin)
    }

    /// The same, and whether it is only a part.
    ///
    /// # Errors
    /// The same.
    pub fn twin_or_part(&self, actor: &Actor, device: &DeviceId) -> Result<(Twin, bool), Refusal> {
        self.store.read(|v| {
            let only = self.require(v, actor, device, Action::View)?.only();
            let twin = v.get::<Twin>(&twin_key(device, None))?.unwrap_or_default();
            Ok(match only {
                Some(only) => (twin.filtered(&only), true),
                None => (twin, false),
            })
        })
    }

    /// Merges `patch` into what is desired.
    ///
    /// # Errors
    /// [`Refusal::VersionConflict`] when `if_version` is not the present one, [`Refusal::NotAllowed`],
    /// [`Refusal::Offline`] for what is critical while the device is not connected, [`Refusal::Twin`] for what the model does not allow.
    pub async fn desire(
        self: &Arc<Self>,
        actor: &Actor,
        device: &DeviceId,
        patch: serde_json::Map<String, Value>,
        if_version: Option<u64>,
    ) -> Result<Twin, Refusal> {
        let request = UpdateRequest::of_desired(patch, if_version, &Limits::default())?;
        match self.update(Hand::Other(actor.clone()), device, None, request).await {
            Ok((applied, None)) => Ok(applied.twin),
            Ok((applied, Some(only))) => Ok(applied.twin.filtered(&only)),
            Err(Refusal::Twin(r)) if r.code == 409 => Err(Refusal::VersionConflict(self.twin(actor, device)?.version())),
            Err(other) => Err(other),
        }
    }

    /// What was applied, and the attributes that the right of whoever did it is restricted to.
    async fn update(
        self: &Arc<Self>,
        hand: Hand,
        device: &DeviceId,
        shadow: Option<&str>,
        request: UpdateRequest,
    ) -> Result<(Applied, Option<BTreeSet<String>>), Refusal> {
        let Hand::Other(actor) = &hand else { return self.merge(hand, device, shadow, request).await };
        let (actor, names) = (actor.clone(), request.names(Section::Desired).collect::<Vec<_>>().join(" "));
        let merged = match self.keep_pace(&actor, device) {
            Ok(()) => self.merge(hand, device, shadow, request).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &merged {
            self.audit_refused_act(&actor, "twin.desire", device, &names, refusal);
        }
        merged
    }

    async fn merge(
        self: &Arc<Self>,
        hand: Hand,
        device: &DeviceId,
        shadow: Option<&str>,
        request: UpdateRequest,
    ) -> Result<(Applied, Option<BTreeSet<String>>), Refusal> {
        let model = self.model_of(device)?;
        let (service, id, key, now) = (self.clone(), device.clone(), twin_key(device, shadow), self.now());
        let (named, by) = (shadow.is_some(), hand.clone());
        let (applied, only, used_up) = self
            .store
            .write(move |tx| {
                let mut right = None;
                let writer = match &by {
                    Hand::Device => Writer::Device,
                    Hand::Other(actor) => {
                        let action = needed(&request, model.as_deref(), named);
                        let rows = service.require_each(tx, actor, &id, action, request.names(Section::Desired))?;
                        // A named shadow is no attribute, and who clears everything touches all of them.
                        if (named || request.clears(Section::Desired)) && rows.only().is_some() {
                            return Err(Refusal::NotAllowed(Reason::NotCovered));
                        }
                        right = Some(rows);
                        Writer::Person
                    }
                };
                let known = tx.get::<Twin>(&key)?;
                if named && !known.as_ref().is_some_and(Twin::exists) && !room_for_shadow(tx, &id, &key, now)? {
                    return Err(Rejection::new(403, "too many named shadows").into());
                }
                let twin = known.filter(|t| !t.is_forgotten(now)).unwrap_or_default();
                // The model types the classic shadow; named ones are the maker's own.
                let schema: &dyn Schema = model.as_deref().filter(|_| !named).map_or(&NoSchema, |m| m);
                let applied = twin.apply(request.clone(), writer, schema, &Limits::default(), now)?;
                if !applied.critical.is_empty() {
                    // First the moment, then the look whether the device is here, then the write: whenever its
                    // connection ends, either this refuses or what ends with the connection finds the moment, and is
                    // written after this. A moment without a desire does no harm.
                    let until = service.clock.monotonic_ms() + MOMENT_MS;
                    lock(&service.momentary).extend(applied.critical.iter().map(|a| ((id.clone(), a.clone()), until)));
                    if !service.is_online(&id) {
                        return Err(Refusal::Offline);
                    }
                }
                // What is refused spends nothing: from here on nothing is.
                let used_up = right.as_ref().map_or(Ok(false), |rows| rows.spend(tx))?;
                let only = right.and_then(|rows| rows.only());
                tx.put(&key, &applied.twin)?;
                for attribute in &applied.critical {
                    let at = [device_prefix(&id), attribute.as_bytes().to_vec()].concat();
                    tx.put(&at, &Momentary { attribute: attribute.clone(), since: now })?;
                }
                if let Hand::Other(actor) = &by {
                    let names: Vec<&str> = request.names(Section::Desired).collect();
                    audit::append(tx, now, audit::done(actor, "twin.desire", id.as_str(), names.join(" ")))?;
                }
                Ok::<_, Refusal>((applied, only, used_up))
            })
            .await?;
        if used_up {
            self.policy_changed().await;
        }
        self.publish_applied(device, shadow, &applied);
        Ok((applied, only))
    }

    /// After the commit: what has changed, to whoever watches.
    fn publish_applied(&self, device: &DeviceId, shadow: Option<&str>, applied: &Applied) {
        let name = shadow.map_or_else(String::new, |n| format!("/name/{n}"));
        let documents = applied.documents().to_string();
        let delta = applied.delta().map(|d| d.to_string());
        let momentary = lock(&self.momentary).keys().any(|(id, _)| id == device);
        for prefix in ["", "$aws/"] {
            let update = format!("{prefix}things/{device}/shadow{name}/update");
            self.publish(&format!("{update}/documents"), documents.clone(), 1, false);
            if let Some(delta) = &delta {
                let topic = format!("{update}/delta");
                // A delta that may hold a critical desire must not wait for a device that is away.
                if momentary {
                    self.publish_now_or_never(&topic, delta.clone(), Duration::from_millis(MOMENT_MS));
                } else {
                    self.publish(&topic, delta.clone(), 1, false);
                }
            }
        }
        if shadow.is_none() {
            self.changed(Change::Twin { id: device.clone() });
        }
    }

    pub(super) fn model_of(&self, device: &DeviceId) -> Result<Option<Arc<Model>>, Refusal> {
        let registered = self.store.read::<_, StoreError>(|v| v.get::<Registered>(device.as_str().as_bytes()))?;
        let registered = registered.ok_or(Refusal::NotFound("device"))?;
        match self.model(&registered.brand, &registered.model) {
            Ok(model) => Ok(Some(model)),
            Err(Refusal::NotFound(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Ends critical desires whose moment is over. Called by the hub's clock, about once a second.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn end_moments(&self) -> Result<(), Refusal> {
        let now = self.clock.monotonic_ms();
        self.drop_momentary(|_, until| *until <= now).await
    }

    pub(super) async fn drop_momentary(&self, over: impl Fn(&(DeviceId, String), &u64) -> bool) -> Result<(), Refusal> {
        let mut devices: BTreeMap<DeviceId, Vec<String>> = BTreeMap::new();
        lock(&self.momentary).retain(|key, until| {
            let ends = over(key, until);
            if ends {
                devices.entry(key.0.clone()).or_default().push(key.1.clone());
            }
            !ends
        });
        let mut done = Ok(());
        for (device, attributes) in devices {
            if let Err(fault) = self.drop_desires(device.clone(), attributes.clone()).await {
                // Their time is over all the same: the next tick tries again.
                let mut momentary = lock(&self.momentary);
                for attribute in attributes {
                    momentary.entry((device.clone(), attribute)).or_insert(0);
                }
                done = Err(fault);
            }
        }
        done
    }

    /// At start: whatever an earlier run left.
    pub(super) async fn drop_all_momentary(&self) -> Result<(), Refusal> {
        let left = self.store.read::<_, StoreError>(|v| v.scan::<Momentary>(b"", 100_000))?;
        let mut devices: BTreeMap<DeviceId, Vec<String>> = BTreeMap::new();
        for (key, row) in left {
            let id = key.split(|b| *b == 0).next().and_then(|k| std::str::from_utf8(k).ok()).and_then(|k| DeviceId::parse(k).ok());
            if let Some(id) = id {
                devices.entry(id).or_default().push(row.attribute);
            }
        }
        for (device, attributes) in devices {
            self.drop_desires(device, attributes).await?;
        }
        Ok(())
    }

    async fn drop_desires(&self, device: DeviceId, attributes: Vec<String>) -> Result<(), Refusal> {
        let (id, key, now) = (device.clone(), twin_key(&device, None), self.now());
        let applied = self.store.write::<_, StoreError, _>(move |tx| drop_in(tx, &id, &key, &attributes, now)).await?;
        if let Some(applied) = applied {
            self.publish_applied(&device, None, &applied);
        }
        Ok(())
    }
}

fn drop_in(tx: &Tx<'_>, device: &DeviceId, key: &[u8], attributes: &[String], now: u64) -> Result<Option<Applied>, StoreError> {
    for attribute in attributes {
        tx.delete::<Momentary>(&[device_prefix(device), attribute.as_bytes().to_vec()].concat())?;
    }
    let twin = tx.get::<Twin>(key)?.unwrap_or_default();
    let Some(applied) = twin.drop_desired(attributes.iter().map(String::as_str), now) else { return Ok(None) };
    tx.put(key, &applied.twin)?;
    let detail = attributes.join(" ");
    let event = audit::event("hub", "twin.moment_over", device.as_str(), Outcome::Done, "critical", detail, "hub");
    audit::append(tx, now, event)?;
    Ok(Some(applied))
}

/// Whether a device may have one more named shadow at `key`. Rows of shadows deleted long ago are erased on the way.
fn room_for_shadow(tx: &Tx<'_>, device: &DeviceId, key: &[u8], now: u64) -> Result<bool, StoreError> {
    let classic = twin_key(device, None);
    let (mut shadows, mut rows) = (0, 0);
    for (row, twin) in tx.scan::<Twin>(&device_prefix(device), MAX_SHADOW_ROWS + 2)? {
        if row == classic || row == key {
            continue;
        }
        if twin.is_forgotten(now) {
            tx.delete::<Twin>(&row)?;
            continue;
        }
        rows += 1;
        shadows += usize::from(twin.exists());
    }
    Ok(shadows < MAX_SHADOWS && rows < MAX_SHADOW_ROWS)
}

/// Whether one of these attributes is critical. Without a model nobody has said what is harmless.
pub(super) fn critical_names<'a>(model: Option<&Model>, mut names: impl Iterator<Item = &'a str>) -> bool {
    model.is_none_or(|model| names.any(|name| model.is_critical_attribute(name)))
}

/// What a person needs to make this request: the strongest that any attribute in it asks for.
fn needed(request: &UpdateRequest, model: Option<&Model>, named: bool) -> Action {
    // Without a model nobody has said what is harmless.
    let Some(model) = model else { return Action::OperateCritical };
    if named {
        return Action::Operate;
    }
    // Who clears everything touches every attribute.
    let all = request.clears(Section::Desired);
    let any = if all {
        model.attributes.values().any(|a| a.critical)
    } else {
        request.names(Section::Desired).any(|name| model.is_critical_attribute(name))
    };
    if any { Action::OperateCritical } else { Action::Operate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_model_everything_counts_as_critical() {
        let model = Model::parse(
            r#"{"model": "lock", "title": "Lock", "version": 1, "kind": "lock", "attributes": {
                "locked": {"type": "boolean", "access": "write", "critical": true}, "light": {"type": "boolean", "access": "write"}}}"#,
        )
        .unwrap();
        let request = |name: &str| {
            let patch = serde_json::Map::from_iter([(name.to_owned(), Value::Bool(true))]);
            UpdateRequest::of_desired(patch, None, &Limits::default()).unwrap()
        };
        assert_eq!(needed(&request("light"), None, false), Action::OperateCritical);
        assert_eq!(needed(&request("light"), None, true), Action::OperateCritical);
        assert_eq!(needed(&request("light"), Some(&model), false), Action::Operate);
        assert_eq!(needed(&request("locked"), Some(&model), false), Action::OperateCritical);
        assert_eq!(needed(&request("locked"), Some(&model), true), Action::Operate, "named shadows are the maker's own");
    }
}
