//! The compiled form of the policy for one connection: tens of nanoseconds a topic, no lock, no disk, no allocation.
//! It is made anew whenever the hub's policy epoch has moved on, or a validity it was made with has run out.

use super::{Action, Facts, decide};
use crate::domain::topic::{Place, Verb, locate, named_device};
use std::collections::HashMap;

/// What becomes of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishVerdict {
    /// Hand it to the subscribers.
    Deliver,
    /// The hub itself acts on it.
    Handle,
    /// Refuse it.
    Deny,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rights(u8);

impl Rights {
    fn of(facts: &Facts<'_>, now: u64) -> Rights {
        let bit = |a: Action| if decide(facts, a, now).allowed { 1 << a as u8 } else { 0 };
        Rights(Action::ALL.into_iter().map(bit).fold(0, |all, b| all | b))
    }
    fn may(self, action: Action) -> bool {
        self.0 & (1 << action as u8) != 0
    }
}

#[derive(Clone, Debug)]
enum Holder {
    /// A device: its own room.
    Device(Box<str>),
    /// A device that may only answer a re-base challenge.
    Rebase(Box<str>),
    /// A person or an app: the rooms of the devices it is bound to.
    Bound(HashMap<Box<str>, Rights>),
}

/// What one connection may do.
#[derive(Clone, Debug)]
pub struct Table {
    holder: Holder,
    valid_until: u64,
}

impl Table {
    /// A device in its own room.
    #[must_use]
    pub fn of_device(id: &str) -> Table {
        Table { holder: Holder::Device(id.into()), valid_until: u64::MAX }
    }

    /// A device that has lost its counter.
    #[must_use]
    pub fn of_rebase(id: &str) -> Table {
        Table { holder: Holder::Rebase(id.into()), valid_until: u64::MAX }
    }

    /// A person or an app, from the facts of each device it has a binding to. `now` is ms since 1970.
    pub fn of_bound<'a>(facts: impl Iterator<Item = (&'a str, Facts<'a>)>, now: u64) -> Table {
        let mut valid_until = u64::MAX;
        let mut rights = HashMap::new();
        for (device, facts) in facts {
            for edge in facts.binding.iter().flat_map(|b| [b.from, b.until]).flatten().filter(|edge| *edge > now) {
                valid_until = valid_until.min(edge);
            }
            rights.insert(device.into(), Rights::of(&facts, now));
        }
        Table { holder: Holder::Bound(rights), valid_until }
    }

    /// Nothing at all, and to be made anew at the next occasion: for when the facts cannot be read.
    #[must_use]
    pub fn nothing() -> Table {
        Table { holder: Holder::Bound(HashMap::new()), valid_until: 0 }
    }

    /// Until when the table is right as long as no binding changes, ms since 1970.
    #[must_use]
    pub fn valid_until(&self) -> u64 {
        self.valid_until
    }

    /// Whether a publish to `topic` may go through; `retain` is refused where a stale message could do harm.
    #[must_use]
    pub fn publish(&self, topic: &str, retain: bool) -> PublishVerdict {
        let Some(at) = locate(topic) else { return PublishVerdict::Deny };
        let verdict = match &self.holder {
            Holder::Device(id) if **id == *at.device => match at.place {
                Place::ShadowRequest { .. } | Place::CommandResult(_) | Place::ClaimHello => PublishVerdict::Handle,
                Place::Telemetry => PublishVerdict::Deliver,
                _ => PublishVerdict::Deny,
            },
            Holder::Rebase(id) if **id == *at.device && at.place == Place::RebaseResponse => PublishVerdict::Handle,
            Holder::Device(_) | Holder::Rebase(_) => PublishVerdict::Deny,
            Holder::Bound(rights) => {
                let needed = match at.place {
                    Place::ShadowRequest { verb: Verb::Get, .. } => Action::View,
                    Place::ShadowRequest { verb: Verb::Update, .. } | Place::Command(_) => Action::Operate,
                    Place::ShadowRequest { verb: Verb::Delete, .. } => Action::Administer,
                    _ => return PublishVerdict::Deny,
                };
                if rights.get(at.device).is_some_and(|r| r.may(needed)) { PublishVerdict::Handle } else { PublishVerdict::Deny }
            }
        };
        if retain && verdict == PublishVerdict::Handle { PublishVerdict::Deny } else { verdict }
    }

    /// Whether a subscription to `filter` (without its `$share/…/`) is granted. Each delivery is checked again.
    #[must_use]
    pub fn subscribe(&self, filter: &str) -> bool {
        match &self.holder {
            Holder::Device(id) => crate::domain::topic::lies_in_room(filter, id),
            Holder::Rebase(id) => locate(filter).is_some_and(|at| at.device == &**id && at.place == Place::RebaseChallenge),
            Holder::Bound(rights) => match named_device(filter) {
                Some(device) => rights.get(device).is_some_and(|r| r.may(Action::View)),
                None => true,
            },
        }
    }

    /// Whether a message on `topic` may reach the connection.
    #[must_use]
    pub fn receive(&self, topic: &str) -> bool {
        let Some(at) = locate(topic) else { return false };
        match &self.holder {
            Holder::Device(id) => &**id == at.device,
            Holder::Rebase(id) => &**id == at.device && at.place == Place::RebaseChallenge,
            Holder::Bound(rights) => {
                let private = matches!(
                    at.place,
                    Place::ClaimHello | Place::ClaimCredential | Place::RebaseChallenge | Place::RebaseResponse | Place::Reserved
                );
                !private && rights.get(at.device).is_some_and(|r| r.may(Action::View))
            }
        }
    }
}
