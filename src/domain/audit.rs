//! The audit: who did what to which object, through what, with which outcome and why; each entry carries the hash of
//! the one before it. Secrets are never part of an entry.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How an act ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was asked for and allowed.
    Allowed,
    /// It was asked for and refused.
    Denied,
    /// It happened.
    Done,
}

/// An act, before it has its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who acted: a subject's text, `hub`, or `?` with the name that was tried.
    pub actor: String,
    /// What: a dotted word, such as `device.claim`.
    pub action: String,
    /// To what: a device id, a user's id, a brand.
    pub object: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, as a word of the policy or the gate.
    pub reason: String,
    /// More, for a person; no secrets.
    pub detail: String,
    /// Through what: `mqtt`, `https`, `hub`, with the source address.
    pub via: String,
}

/// An event in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When, ms since 1970, by the hub's clock.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
    /// Hash of the entry before it; zeros for the first.
    pub previous: [u8; 32],
    /// Hash over all of the above.
    pub hash: [u8; 32],
}

impl Entry {
    /// Puts `event` after `last`.
    #[must_use]
    pub fn after(last: Option<&Entry>, at: u64, event: Event) -> Entry {
        let mut entry = Entry { seq: last.map_or(1, |l| l.seq + 1), at, event, previous: last.map_or([0; 32], |l| l.hash), hash: [0; 32] };
        entry.hash = entry.computed_hash();
        entry
    }

    /// Whether the entry is whole and follows `last`.
    #[must_use]
    pub fn follows(&self, last: Option<&Entry>) -> bool {
        self.hash == self.computed_hash() && self.seq == last.map_or(1, |l| l.seq + 1) && self.previous == last.map_or([0; 32], |l| l.hash)
    }

    fn computed_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"hearthkey audit v1");
        hash.update(self.seq.to_be_bytes());
        hash.update(self.at.to_be_bytes());
        hash.update(self.previous);
        let e = &self.event;
        let outcome = match e.outcome {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
            Outcome::Done => "done",
        };
        // Each field is preceded by its length, so that no two entries have the same bytes.
        for field in [&e.actor, &e.action, &e.object, outcome, &e.reason, &e.detail, &e.via] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field.as_bytes());
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str) -> Event {
        Event {
            actor: "user:1".into(),
            action: action.into(),
            object: "door".into(),
            outcome: Outcome::Done,
            reason: String::new(),
            detail: String::new(),
            via: "https".into(),
        }
    }

    #[test]
    fn a_chain_holds_and_any_change_breaks_it() {
        let first = Entry::after(None, 1, event("a"));
        let second = Entry::after(Some(&first), 2, event("b"));
        assert!(first.follows(None) && second.follows(Some(&first)));
        let mut forged = second.clone();
        forged.event.object = "window".into();
        assert!(!forged.follows(Some(&first)));
        let mut moved = second.clone();
        moved.event.actor = "user:1b".into();
        moved.event.action = String::new();
        assert!(!moved.follows(Some(&first)));
        assert!(!second.follows(None));
    }
}
