//! The compiled form of the policy for one connection: tens of nanoseconds a topic, no lock, no disk, no allocation.
//! It is made anew whenever the hub's policy epoch has moved on, or a validity it was made with has run out.

use super::{Action, Facts, decide};
use crate::domain::time::Moment;
use crate::domain::topic::{Place, Verb, locate, named_device};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What becomes of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishVerdict {
    /// Hand it to the subscribers.
    Deliver,
    /// The hub itself acts on it.
    Handle,
    /// Refuse it.
    Deny,
    /// Refuse it where the protocol can say so, and else pass over it: firmware that is to be replaced goes on as it always
    /// did, and an end of its connection would be the end of its update.
    Ignore,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rights {
    actions: u8,
    /// The attributes and commands a restricted right is to.
    only: Option<Arc<BTreeSet<String>>>,
}

impl Rights {
    fn of(facts: &Facts<'_>, now: &Moment) -> Rights {
        let bit = |a: Action| if decide(facts, a, now).allowed { 1 << a as u8 } else { 0 };
        let actions = Action::ALL.into_iter().map(bit).fold(0, |all, b| all | b);
        Rights { actions, only: facts.only().map(Arc::new) }
    }
    fn may(&self, action: Action) -> bool {
        self.actions & (1 << action as u8) != 0
    }
    fn covers(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }
    fn publish(&self, place: Place<'_>) -> PublishVerdict {
        let needed = match place {
            // The answer would hold the whole document.
            Place::ShadowRequest { verb: Verb::Get, .. } if self.only.is_none() => Action::View,
            Place::ShadowRequest { verb: Verb::Update, .. } => Action::Operate,
            Place::Command(name) if self.covers(name) => Action::Operate,
            Place::ShadowRequest { verb: Verb::Delete, .. } => Action::Administer,
            _ => return PublishVerdict::Deny,
        };
        if self.may(needed) { PublishVerdict::Handle } else { PublishVerdict::Deny }
    }
    fn receive(&self, place: Place<'_>) -> bool {
        let told = match place {
            // What the hub tells a device of what it did to others is for that device alone.
            Place::Bound
            | Place::ClaimHello
            | Place::ClaimCredential
            | Place::RebaseChallenge
            | Place::RebaseResponse
            | Place::ProofChallenge
            | Place::ProofResponse
            | Place::FirmwareReport
            | Place::FirmwareGet
            | Place::FirmwareGiven
            | Place::Reserved => false,
            Place::Presence => true,
            Place::Command(name) | Place::CommandResult(name) => self.covers(name),
            // A shadow's documents and a maker's telemetry hold more than a part: that goes by filtered projections.
            Place::ShadowRequest { .. } | Place::ShadowAnswer | Place::Telemetry => self.only.is_none(),
        };
        told && self.may(Action::View)
    }
}

type Bound = HashMap<Box<str>, Rights>;

#[derive(Clone, Debug)]
enum Holder {
    /// A device: its own room, and the rooms of the devices it is bound to.
    Device(Box<str>, Bound),
    /// A device that may only answer a re-base challenge.
    Rebase(Box<str>),
    /// A device whose firmware is not safe any more: it may do nothing but become another version.
    Update(Box<str>),
    /// A person, an app or a service: the rooms of the devices it is bound to.
    Bound(Bound),
}

/// What one connection may do.
#[derive(Clone, Debug)]
pub struct Table {
    holder: Holder,
    valid_until: u64,
}

impl Table {
    /// A device in its own room, and, from the facts of each, in those of the devices it is bound to.
    pub fn of_device<'a>(id: &str, facts: impl Iterator<Item = (&'a str, Facts<'a>)>, now: &Moment) -> Table {
        let (bound, valid_until) = bound(facts, now);
        Table { holder: Holder::Device(id.into(), bound), valid_until }
    }

    /// A device that has lost its counter.
    #[must_use]
    pub fn of_rebase(id: &str) -> Table {
        Table { holder: Holder::Rebase(id.into()), valid_until: u64::MAX }
    }

    /// A device that may only update its firmware.
    #[must_use]
    pub fn of_update(id: &str) -> Table {
        Table { holder: Holder::Update(id.into()), valid_until: u64::MAX }
    }

    /// A person, an app or a service, from the facts of each device it has a binding to.
    pub fn of_bound<'a>(facts: impl Iterator<Item = (&'a str, Facts<'a>)>, now: &Moment) -> Table {
        let (bound, valid_until) = bound(facts, now);
        Table { holder: Holder::Bound(bound), valid_until }
    }

    /// Nothing at all, and to be made anew at the next occasion: for when the facts cannot be read.
    #[must_use]
    pub fn nothing() -> Table {
        Table { holder: Holder::Bound(HashMap::new()), valid_until: 0 }
    }

    /// Whether it is that of a device that has lost its counter.
    #[must_use]
    pub fn is_of_rebase(&self) -> bool {
        matches!(self.holder, Holder::Rebase(_))
    }

    /// Until when the table is right as long as no binding changes, and nothing is heard from outside, ms since 1970.
    #[must_use]
    pub fn valid_until(&self) -> u64 {
        self.valid_until
    }

    /// Whether a publish to `topic` may go through; `retain` is refused where a stale message could do harm.
    #[must_use]
    pub fn publish(&self, topic: &str, retain: bool) -> PublishVerdict {
        let Some(at) = locate(topic) else { return PublishVerdict::Deny };
        let verdict = match &self.holder {
            Holder::Device(id, _) if **id == *at.device => match at.place {
                Place::ShadowRequest { .. }
                | Place::CommandResult(_)
                | Place::ClaimHello
                | Place::ProofResponse
                | Place::FirmwareReport
                | Place::FirmwareGet => PublishVerdict::Handle,
                Place::Telemetry => PublishVerdict::Deliver,
                _ => PublishVerdict::Deny,
            },
            Holder::Rebase(id) if **id == *at.device && at.place == Place::RebaseResponse => PublishVerdict::Handle,
            Holder::Rebase(_) => PublishVerdict::Deny,
            Holder::Update(id) if **id == *at.device => match at.place {
                Place::FirmwareReport | Place::FirmwareGet => PublishVerdict::Handle,
                // Retained or not: it may be what its firmware says every minute.
                _ => PublishVerdict::Ignore,
            },
            Holder::Update(_) => PublishVerdict::Deny,
            Holder::Device(_, rights) | Holder::Bound(rights) => {
                rights.get(at.device).map_or(PublishVerdict::Deny, |r| r.publish(at.place))
            }
        };
        if retain && verdict == PublishVerdict::Handle { PublishVerdict::Deny } else { verdict }
    }

    /// Whether a subscription to `filter` (without its `$share/…/`) is granted. Each delivery is checked again.
    #[must_use]
    pub fn subscribe(&self, filter: &str) -> bool {
        let may_view = |rights: &Bound, device: &str| rights.get(device).is_some_and(|r| r.may(Action::View));
        match &self.holder {
            // A device names the rooms it listens in: firmware that asks for everything is told that it may not.
            Holder::Device(id, rights) => named_device(filter)
                .is_some_and(|device| crate::domain::topic::lies_in_room(filter, device) && (device == &**id || may_view(rights, device))),
            Holder::Rebase(id) => locate(filter).is_some_and(|at| at.device == &**id && at.place == Place::RebaseChallenge),
            // It names the places in its own room as it always did: nothing comes from there until it may.
            Holder::Update(id) => crate::domain::topic::lies_in_room(filter, id),
            Holder::Bound(rights) => named_device(filter).is_none_or(|device| may_view(rights, device)),
        }
    }

    /// Whether a message on `topic` may reach the connection.
    #[must_use]
    pub fn receive(&self, topic: &str) -> bool {
        let Some(at) = locate(topic) else { return false };
        match &self.holder {
            // Its own results are for the others.
            Holder::Device(id, _) if **id == *at.device => !matches!(at.place, Place::CommandResult(_)),
            Holder::Rebase(id) => &**id == at.device && at.place == Place::RebaseChallenge,
            Holder::Update(id) => &**id == at.device && at.place == Place::FirmwareGiven,
            Holder::Device(_, rights) | Holder::Bound(rights) => rights.get(at.device).is_some_and(|r| r.receive(at.place)),
        }
    }
}

fn bound<'a>(facts: impl Iterator<Item = (&'a str, Facts<'a>)>, now: &Moment) -> (Bound, u64) {
    let mut valid_until = u64::MAX;
    let mut rights = HashMap::new();
    for (device, facts) in facts {
        valid_until = facts.next_edge(now).min(valid_until);
        rights.insert(device.into(), Rights::of(&facts, now));
    }
    (rights, valid_until)
}
