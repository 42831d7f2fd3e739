//! What follows from an accepted update or deletion: the bodies to publish, and what changed. Publishing is the
//! service's; bodies are made when asked for, since most have no reader.

use serde_json::{Map, Value, json};

use super::Twin;
use super::request::{Patch, UpdateRequest};
use super::schema::Section;
use super::tree;

/// An accepted update. Commit [`Applied::twin`] first, then publish.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The twin as it was, with the version that the update counted on from.
    pub previous: Twin,
    /// The twin as it is now: to be stored.
    pub twin: Twin,
    /// The critical attributes that the request wishes for (not those it removes). Each is momentary: the service
    /// gives it an expiry, and [`Twin::drop_desired`] takes it back then.
    pub critical: Vec<String>,
    pub(super) request: UpdateRequest,
    pub(super) at: u64,
}

/// One top-level attribute whose value an update changed: what the history records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change<'a> {
    /// The section it is in.
    pub section: Section,
    /// The name of the attribute.
    pub name: &'a str,
    /// Its value before, if it had one.
    pub before: Option<&'a Value>,
    /// Its value now, unless it is gone.
    pub after: Option<&'a Value>,
}

/// An accepted deletion.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// What is left to store: the version and the time, so that a twin created again soon goes on counting.
    pub twin: Twin,
    /// The body of `delete/accepted`.
    pub accepted: Value,
}

impl Applied {
    /// The body of `update/accepted`: the state as it was sent (nulls too), the metadata of what it wrote, version,
    /// timestamp (epoch seconds), client token.
    #[must_use]
    pub fn accepted(&self) -> Value {
        let (mut state, mut metadata) = (Map::new(), Map::new());
        for section in Section::BOTH {
            let sent = match self.request.patch(section) {
                Patch::Keep => continue,
                Patch::Clear => Value::Null,
                Patch::Merge(patch) => {
                    metadata.insert(section.as_str().into(), tree::stamped(patch, self.at / 1000));
                    Value::Object(patch.clone())
                }
            };
            state.insert(section.as_str().into(), sent);
        }
        let mut body = self.envelope();
        body.insert("state".into(), Value::Object(state));
        body.insert("metadata".into(), Value::Object(metadata));
        Value::Object(body)
    }

    /// The body of `update/delta`: `None` if desired and reported agree after the update.
    #[must_use]
    pub fn delta(&self) -> Option<Value> {
        self.twin.delta_message(self.request.client_token(), self.at)
    }

    /// The body of `update/documents`: `previous` and `current`, each with state, metadata and version.
    #[must_use]
    pub fn documents(&self) -> Value {
        let document = |twin: &Twin| json!({"state": twin.state_json(), "metadata": twin.metadata_json(), "version": twin.version});
        let mut body = self.envelope();
        body.remove("version");
        body.insert("previous".into(), document(&self.previous));
        body.insert("current".into(), document(&self.twin));
        Value::Object(body)
    }

    /// The top-level attributes whose value is another than before, desired first. Writing the same value again is no
    /// change here (it is a new version all the same).
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        Section::BOTH.into_iter().flat_map(move |section| {
            let (before, after) = (self.previous.half(section), self.twin.half(section));
            let names = match self.request.patch(section) {
                _ if std::ptr::eq(before, after) => None,
                Patch::Keep => None,
                Patch::Clear => Some(&before.state),
                Patch::Merge(patch) => Some(patch),
            };
            names
                .into_iter()
                .flat_map(Map::keys)
                .map(move |name| Change { section, name, before: before.state.get(name), after: after.state.get(name) })
                .filter(|change| change.before != change.after)
        })
    }

    /// The request's client token.
    #[must_use]
    pub fn client_token(&self) -> Option<&str> {
        self.request.client_token()
    }

    fn envelope(&self) -> Map<String, Value> {
        envelope(self.twin.version, self.at, self.request.client_token())
    }
}

/// The members that every answer has: version, timestamp in epoch seconds, and the client token if there was one.
pub(super) fn envelope(version: u64, now: u64, client_token: Option<&str>) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("version".into(), version.into());
    body.insert("timestamp".into(), (now / 1000).into());
    if let Some(token) = client_token {
        body.insert("clientToken".into(), token.into());
    }
    body
}
