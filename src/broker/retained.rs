//! Retained messages: what a new subscriber is told first. The hub's own (presence) live in memory; those of devices
//! are also in the store, and are acknowledged only once they are there.

use crate::domain::topic;
use crate::service::RetainedMessage;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

pub(super) struct Retained {
    messages: RwLock<BTreeMap<String, RetainedMessage>>,
}

impl Retained {
    pub(super) fn new(messages: Vec<(String, RetainedMessage)>) -> Retained {
        Retained { messages: RwLock::new(messages.into_iter().collect()) }
    }

    /// Whether `by` may keep one more at `name`, with at most `max` of its own.
    pub(super) fn has_room(&self, name: &str, by: &str, max: usize) -> bool {
        let messages = self.messages.read().unwrap_or_else(PoisonError::into_inner);
        messages.contains_key(name) || messages.values().filter(|m| m.by == by).count() < max
    }

    /// Keeps, replaces or (`None`) forgets.
    pub(super) fn set(&self, name: &str, message: Option<RetainedMessage>) {
        let mut messages = self.messages.write().unwrap_or_else(PoisonError::into_inner);
        match message {
            Some(message) => {
                messages.insert(name.to_owned(), message);
            }
            None => {
                messages.remove(name);
            }
        }
    }

    /// All that `filter` matches and whose life is not over at `now` (ms since 1970).
    pub(super) fn matching(&self, filter: &str, now: u64) -> Vec<(String, RetainedMessage)> {
        let messages = self.messages.read().unwrap_or_else(PoisonError::into_inner);
        let lives = |m: &RetainedMessage| m.expires_at.is_none_or(|at| now < at);
        messages.iter().filter(|(name, m)| lives(m) && topic::matches(filter, name)).map(|(n, m)| (n.clone(), m.clone())).collect()
    }
}
