//! Retained messages: what a new subscriber is told first. The hub's own (presence) live in memory; those of devices
//! are also in the store, and are acknowledged only once they are there.

use crate::domain::topic;
use crate::service::RetainedMessage;
use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

#[derive(Default)]
struct Kept {
    messages: BTreeMap<String, RetainedMessage>,
    /// By principal: how many, and how many bytes.
    usage: HashMap<String, (usize, usize)>,
}

pub(super) struct Retained(RwLock<Kept>);

fn size(name: &str, message: &RetainedMessage) -> usize {
    name.len() + message.payload.len()
}

impl Kept {
    fn remove(&mut self, name: &str) {
        let Some(old) = self.messages.remove(name) else { return };
        if let Some((count, bytes)) = self.usage.get_mut(&old.by) {
            (*count, *bytes) = (*count - 1, *bytes - size(name, &old));
            if *count == 0 {
                self.usage.remove(&old.by);
            }
        }
    }

    fn insert(&mut self, name: &str, message: RetainedMessage) {
        self.remove(name);
        let (count, bytes) = self.usage.entry(message.by.clone()).or_default();
        (*count, *bytes) = (*count + 1, *bytes + size(name, &message));
        self.messages.insert(name.to_owned(), message);
    }
}

impl Retained {
    pub(super) fn new(messages: Vec<(String, RetainedMessage)>) -> Retained {
        let mut kept = Kept::default();
        for (name, message) in messages {
            kept.insert(&name, message);
        }
        Retained(RwLock::new(kept))
    }

    /// Whether the sender of `message` may keep it at `name`, with at most `count` messages and `bytes` of its own.
    pub(super) fn has_room(&self, name: &str, message: &RetainedMessage, count: usize, bytes: usize) -> bool {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (mut has, mut used) = kept.usage.get(&message.by).copied().unwrap_or_default();
        if let Some(old) = kept.messages.get(name).filter(|old| old.by == message.by) {
            (has, used) = (has - 1, used - size(name, old));
        }
        has < count && used + size(name, message) <= bytes
    }

    /// Keeps, replaces or (`None`) forgets.
    pub(super) fn set(&self, name: &str, message: Option<RetainedMessage>) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match message {
            Some(message) => kept.insert(name, message),
            None => kept.remove(name),
        }
    }

    /// All that `filter` matches and whose life is not over at `now` (ms since 1970).
    pub(super) fn matching(&self, filter: &str, now: u64) -> Vec<(String, RetainedMessage)> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let lives = |m: &RetainedMessage| m.expires_at.is_none_or(|at| now < at);
        kept.messages.iter().filter(|(name, m)| lives(m) && topic::matches(filter, name)).map(|(n, m)| (n.clone(), m.clone())).collect()
    }

    /// Forgets those whose life is over at `now`, and names them.
    pub(super) fn expired(&self, now: u64) -> Vec<String> {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let over = |m: &RetainedMessage| m.expires_at.is_some_and(|at| at <= now);
        let names: Vec<String> = kept.messages.iter().filter(|(_, m)| over(m)).map(|(n, _)| n.clone()).collect();
        for name in &names {
            kept.remove(name);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize, expires_at: Option<u64>) -> RetainedMessage {
        RetainedMessage { payload: vec![0; bytes], qos: 0, by: "device:a".into(), expires_at }
    }

    #[test]
    fn quotas_count_messages_and_bytes_and_replacing_is_no_growth() {
        let retained = Retained::new(vec![("a".into(), message(9, None))]);
        assert!(retained.has_room("b", &message(9, None), 2, 20));
        assert!(!retained.has_room("b", &message(10, None), 2, 20));
        assert!(!retained.has_room("b", &message(1, None), 1, 20));
        assert!(retained.has_room("a", &message(19, None), 1, 20));
        retained.set("a", None);
        assert!(retained.has_room("b", &message(19, None), 1, 20));
        assert!(retained.0.read().unwrap().usage.is_empty());
    }

    #[test]
    fn what_has_expired_is_told_to_nobody_and_forgotten() {
        let retained = Retained::new(vec![("a".into(), message(1, Some(10))), ("b".into(), message(1, None))]);
        assert_eq!(retained.matching("#", 9).len(), 2);
        assert_eq!(retained.matching("#", 10).len(), 1);
        assert_eq!(retained.expired(10), ["a"]);
        assert_eq!(retained.0.read().unwrap().usage.get("device:a").map(|u| u.0), Some(1));
    }
}
