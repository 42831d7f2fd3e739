//! What devices do to other devices, and what people and programs command over MQTT: reading the request, keeping a
//! pace, auditing what is refused, and telling the device what became of it. The right is decided where the act is
//! done (`commands`, `twins`).
//!
//! A device that is bound to another with a part of it hears none of the other's shadow. What became of its own acts the
//! hub tells it in its own room, below `bound/<other>/`, where nobody else listens.

use super::rights::Rows;
use super::{Actor, CommandRequest, Refusal, Service, SignedIn, audit, lock};
use crate::domain::audit::{Event, Outcome};
use crate::domain::binding::Subject;
use crate::domain::ids::DeviceId;
use crate::domain::policy::{Action, decide};
use crate::domain::topic::{Place, Verb, locate};
use crate::domain::twin::{Limits, client_token};
use serde_json::{Value, json};
use std::sync::Arc;

impl Service {
    /// A command as it comes over MQTT: `{"args"?, "clientToken"?}`, or nothing.
    ///
    /// # Errors
    /// As [`Service::command`]. A device that acts on another has been told.
    pub async fn command_request(self: &Arc<Self>, actor: &Actor, device: &DeviceId, name: &str, payload: &[u8]) -> Result<(), Refusal> {
        let token = client_token(payload, &Limits::default());
        let done = match arguments(payload) {
            Ok(args) => {
                let request = CommandRequest { name: name.to_owned(), args, client_token: token.clone(), ..CommandRequest::default() };
                self.command(actor, device, request).await.map(|_| ())
            }
            Err(refusal) => Err(refusal),
        };
        if let (Err(refusal), Subject::Device(source)) = (&done, &actor.subject) {
            let mut body = json!({"status": "refused", "reason": reason(refusal), "message": refusal.to_string()});
            if let (Some(token), Value::Object(members)) = (token, &mut body) {
                members.insert("clientToken".into(), token.into());
            }
            self.publish(&format!("things/{source}/bound/{device}/commands/{name}"), body.to_string(), 1, false);
        }
        done
    }

    /// Tells a device what became of its request to another's twin.
    pub(super) fn tell_requester(&self, source: &Subject, device: &DeviceId, verb: Verb, outcome: &str, body: &str) {
        if let Subject::Device(source) = source
            && source != device
        {
            self.publish(&format!("things/{source}/bound/{device}/shadow/{}/{outcome}", verb.as_str()), body.to_owned(), 1, false);
        }
    }

    /// A device that acts on another keeps a pace; people and programs are limited elsewhere.
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub(super) fn keep_pace(&self, actor: &Actor, device: &DeviceId) -> Result<(), Refusal> {
        let Subject::Device(source) = &actor.subject else { return Ok(()) };
        lock(&self.pace).take(source, device, self.clock.monotonic_ms()).map_err(Refusal::TooMany)
    }

    /// Audits an act on a device that was refused, with the reason; what was only mistyped is not worth an entry.
    pub(super) fn audit_refused_act(&self, actor: &Actor, action: &str, device: &DeviceId, detail: &str, refusal: &Refusal) {
        let worth = match refusal {
            Refusal::NotAllowed(_) | Refusal::TooMany(_) => true,
            // Nobody sees what a device has tried in vain.
            Refusal::Offline | Refusal::NotFound(_) | Refusal::Invalid(_) => matches!(actor.subject, Subject::Device(_)),
            _ => false,
        };
        if worth {
            let detail: String = detail.chars().take(200).collect();
            let who = actor.subject.to_string();
            let event = audit::event(who, action, device.as_str(), Outcome::Denied, reason(refusal), detail, &actor.via);
            self.audit_refusal(audit::on_behalf(actor, event));
        }
    }

    /// What the audit says of a publish that the policy refused: in another's room the policy's own reason.
    pub(super) fn refused_publish(&self, who: &SignedIn, topic: &str) -> Event {
        let subject = who.subject.to_string();
        let event = |action: &str, object: &str, reason: &str, detail: &str| {
            audit::event(subject.clone(), action, object, Outcome::Denied, reason, detail, &who.via)
        };
        let other = locate(topic).and_then(|at| Some((DeviceId::parse(at.device).ok()?, at.place)));
        if let Some((device, place)) = other
            && !matches!(&who.subject, Subject::Device(id) if *id == device)
            && !who.rebase
        {
            let (action, name) = match place {
                Place::Command(name) => ("command.send", Some(name)),
                Place::ShadowRequest { verb: Verb::Update, .. } => ("twin.desire", None),
                _ => return event("topic.publish", topic, "not_its_topic", ""),
            };
            let now = self.moment();
            let decided = self.store.read(|v| {
                let rows = Rows::load(v, &who.subject, &device, &now)?;
                Ok::<_, crate::store::StoreError>(decide(&rows.facts(name), Action::Operate, &now))
            });
            if let Ok(decision) = decided
                && !decision.allowed
            {
                return event(action, device.as_str(), decision.reason.as_str(), name.unwrap_or_default());
            }
        }
        event("topic.publish", topic, "not_its_topic", "")
    }
}

/// What is given along with a command.
fn arguments(payload: &[u8]) -> Result<Value, Refusal> {
    if payload.is_empty() {
        return Ok(Value::Null);
    }
    match serde_json::from_slice(payload) {
        Ok(Value::Object(mut members)) => Ok(members.remove("args").unwrap_or_default()),
        // What nobody can read must not open a door.
        _ => Err(Refusal::Invalid("a command carries a JSON object, or nothing".into())),
    }
}

/// A refusal as one word, for programs and the audit.
fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotAllowed(reason) => reason.as_str(),
        Refusal::TooMany(_) => "too_often",
        Refusal::Offline => "offline",
        Refusal::NotFound(_) => "not_found",
        Refusal::Invalid(_) | Refusal::Twin(_) => "invalid",
        Refusal::SignedOut => "account_ended",
        _ => "failed",
    }
}
