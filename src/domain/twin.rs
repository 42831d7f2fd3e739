//! The twin (device shadow): what a device is wished to be (`desired`), what it says it is (`reported`), and how a
//! request turns one version into the next.
//!
//! The rules are those of the AWS IoT Device Shadow service, as `docs/protocol/mqtt.md` §3 restates them. Where that
//! service is silent, merging follows RFC 7396 (JSON Merge Patch).
//!
//! Left to others: who may write (policy), what types the attributes have (the model, behind [`Schema`]), storing and
//! publishing, the clock (`now` is always milliseconds since the epoch), and when a critical wish expires
//! (the service calls [`Twin::drop_desired`]).

mod applied;
mod rejection;
mod request;
mod schema;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use applied::{Applied, Change, Deleted};
pub use rejection::Rejection;
pub use request::{Limits, UpdateRequest, client_token};
pub use schema::{NoSchema, Schema, Section, Violation, Writer};

use request::Patch;
use tree::{Half, object};

/// How long a deleted twin remembers its version: 48 hours in milliseconds. Created again within it, the twin goes on
/// counting, so that a message of the former life is never newer than one of the present.
pub const VERSION_MEMORY_MS: u64 = 48 * 60 * 60 * 1000;

/// The twin of one device (or one of its named shadows).
///
/// A clone is cheap: it shares both sections, and an update copies only the section it writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Twin {
    #[serde(with = "tree::shared")]
    desired: Arc<Half>,
    #[serde(with = "tree::shared")]
    reported: Arc<Half>,
    version: u64,
    deleted_at: Option<u64>,
}

impl Twin {
    /// A twin that was never written. The first update makes it version 1.
    #[must_use]
    pub fn absent() -> Self {
        Self::default()
    }

    /// Whether there is something to read: written at least once, and not deleted since.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.version > 0 && self.deleted_at.is_none()
    }

    /// What the device is wished to be. Holds no null at any depth.
    #[must_use]
    pub fn desired(&self) -> &Map<String, Value> {
        &self.desired.state
    }

    /// What the device says it is. Holds no null at any depth.
    #[must_use]
    pub fn reported(&self) -> &Map<String, Value> {
        &self.reported.state
    }

    /// The number of the last accepted update; 0 if there was none. A deletion leaves it as it is.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When it was deleted, in epoch milliseconds; `None` for one that lives or never lived.
    #[must_use]
    pub fn deleted_at(&self) -> Option<u64> {
        self.deleted_at
    }

    /// Whether nothing of it matters any more: never written, or deleted longer ago than [`VERSION_MEMORY_MS`].
    /// The store may then erase the row. A clock that went back keeps it.
    #[must_use]
    pub fn is_forgotten(&self, now: u64) -> bool {
        self.deleted_at.map_or(self.version == 0, |at| now.saturating_sub(at) >= VERSION_MEMORY_MS)
    }

    /// The version that a request of this moment is checked against and counts on from.
    fn base_version(&self, now: u64) -> u64 {
        if self.is_forgotten(now) { 0 } else { self.version }
    }

    fn half(&self, section: Section) -> &Half {
        match section {
            Section::Desired => &self.desired,
            Section::Reported => &self.reported,
        }
    }

    fn half_mut(&mut self, section: Section) -> &mut Arc<Half> {
        match section {
            Section::Desired => &mut self.desired,
            Section::Reported => &mut self.reported,
        }
    }

    /// Bytes of the state (`desired` and `reported`, no metadata) as compact JSON: what [`Limits::document_bytes`] bounds.
    #[must_use]
    pub fn document_bytes(&self) -> usize {
        tree::document_len(&self.desired.state, &self.reported.state)
    }

    /// Applies one update: all of it, or nothing.
    ///
    /// Each attribute that the request touches is shown to `schema` as it *would become* (the merged value, without
    /// nulls); removals are not shown. A document over the limit may still shrink.
    ///
    /// # Errors
    /// In this order: 403 a person writes `reported`; 409 the request names another version; 400 the schema objects
    /// (with the path); 413 the document would be too large. Every rejection carries the request's client token.
    pub fn apply(
        &self,
        request: UpdateRequest,
        writer: Writer,
        schema: &dyn Schema,
        limits: &Limits,
        now: u64,
    ) -> Result<Applied, Rejection> {
        match self.next(&request, writer, schema, limits, now) {
            Ok(twin) => {
                let critical = request.set_names(Section::Desired).filter(|name| schema.is_critical(name)).map(str::to_owned).collect();
                Ok(self.applied(twin, request, critical, now))
            }
            Err(rejection) => Err(rejection.for_token(request.into_client_token())),
        }
    }

    fn next(&self, request: &UpdateRequest, writer: Writer, schema: &dyn Schema, limits: &Limits, now: u64) -> Result<Self, Rejection> {
        if writer == Writer::Person && request.touches(Section::Reported) {
            return Err(Rejection::new(403, "Forbidden").at("reported"));
        }
        if request.version().is_some_and(|wanted| wanted != self.base_version(now)) {
            return Err(Rejection::new(409, "Version conflict"));
        }
        let twin = self.merged(request, now);
        for section in Section::BOTH {
            for name in request.set_names(section) {
                if let Some(value) = twin.half(section).state.get(name) {
                    schema.check(section, name, value).map_err(|violation| Rejection::of_violation(section, &violation))?;
                }
            }
        }
        let bytes = twin.document_bytes();
        if bytes > limits.document_bytes && bytes > self.document_bytes() {
            return Err(Rejection::too_large());
        }
        Ok(twin)
    }

    /// The next version, unchecked.
    fn merged(&self, request: &UpdateRequest, now: u64) -> Self {
        let mut twin = Self { version: self.base_version(now).saturating_add(1), deleted_at: None, ..self.clone() };
        for section in Section::BOTH {
            match request.patch(section) {
                Patch::Keep => {}
                Patch::Clear => *twin.half_mut(section) = Arc::default(),
                Patch::Merge(patch) if patch.is_empty() => {}
                Patch::Merge(patch) => Arc::make_mut(twin.half_mut(section)).merge(patch, now / 1000),
            }
        }
        twin
    }

    fn applied(&self, twin: Self, request: UpdateRequest, critical: Vec<String>, now: u64) -> Applied {
        let previous = Self { version: self.base_version(now), ..self.clone() };
        Applied { previous, twin, critical, request, at: now }
    }

    /// Takes wishes back: what the hub does with a critical attribute's wish at its expiry, at disconnect, reboot or
    /// quarantine. Counts as one update of the hub. `None` if no such wish is there, and then nothing changes.
    #[must_use]
    pub fn drop_desired<'n>(&self, names: impl IntoIterator<Item = &'n str>, now: u64) -> Option<Applied> {
        let present: Map<String, Value> =
            names.into_iter().filter(|name| self.desired.state.contains_key(*name)).map(|name| (name.to_owned(), Value::Null)).collect();
        if present.is_empty() {
            return None;
        }
        let request = UpdateRequest::removing(present);
        let twin = self.merged(&request, now);
        Some(self.applied(twin, request, Vec::new(), now))
    }

    /// Deletes it. The version stays, for [`VERSION_MEMORY_MS`].
    ///
    /// # Errors
    /// 404 if there is none.
    pub fn delete(&self, client_token: Option<String>, now: u64) -> Result<Deleted, Rejection> {
        if !self.exists() {
            return Err(Rejection::no_shadow(client_token));
        }
        let twin = Self { version: self.version, deleted_at: Some(now), ..Self::default() };
        let accepted = Value::Object(applied::envelope(self.version, now, client_token.as_deref()));
        Ok(Deleted { twin, accepted })
    }

    /// The body of `get/accepted`: state with `delta` where there is one, metadata, version, timestamp (epoch seconds).
    ///
    /// # Errors
    /// 404 if there is none.
    pub fn accepted_get(&self, client_token: Option<String>, now: u64) -> Result<Value, Rejection> {
        if !self.exists() {
            return Err(Rejection::no_shadow(client_token));
        }
        let mut body = applied::envelope(self.version, now, client_token.as_deref());
        let mut state = self.state_json();
        if let Some((delta, _)) = self.difference() {
            state.insert("delta".into(), Value::Object(delta));
        }
        body.insert("state".into(), Value::Object(state));
        body.insert("metadata".into(), self.metadata_json());
        Ok(Value::Object(body))
    }

    /// The body that REST serves: `{"desired", "reported", "delta", "version", "metadata"}`, every member always there.
    #[must_use]
    pub fn view(&self) -> Value {
        json!({
            "desired": self.desired.state,
            "reported": self.reported.state,
            "delta": self.delta(),
            "version": self.version,
            "metadata": self.metadata_json(),
        })
    }

    /// Every desired value that reported lacks or contradicts, with its full path; empty if the device has caught up.
    /// Numbers compare by value (20 and 20.0 are the same wish, and so are doubles that differ in the last bits), arrays
    /// whole, and `{}` is met by any object.
    #[must_use]
    pub fn delta(&self) -> Map<String, Value> {
        self.difference().map(|(state, _)| state).unwrap_or_default()
    }

    /// The body of `update/delta`, or `None` if there is no difference. The metadata is that of desired.
    #[must_use]
    pub fn delta_message(&self, client_token: Option<&str>, now: u64) -> Option<Value> {
        let (state, metadata) = self.difference()?;
        let mut body = applied::envelope(self.version, now, client_token);
        body.insert("state".into(), Value::Object(state));
        body.insert("metadata".into(), Value::Object(metadata));
        Some(Value::Object(body))
    }

    fn difference(&self) -> Option<(Map<String, Value>, Map<String, Value>)> {
        self.desired.difference(&self.reported.state)
    }

    /// What a subject restricted to some attributes may see: only these top-level attributes, in both sections and
    /// their metadata. The version is the whole twin's. For reading only: never store it.
    #[must_use]
    pub fn filtered(&self, allowed: &BTreeSet<String>) -> Self {
        Self {
            desired: Arc::new(self.desired.filtered(allowed)),
            reported: Arc::new(self.reported.filtered(allowed)),
            version: self.version,
            deleted_at: self.deleted_at,
        }
    }

    /// When a value was last written, in epoch seconds: `path` leads to a leaf (a scalar or a whole array).
    #[must_use]
    pub fn written_at(&self, section: Section, path: &[&str]) -> Option<u64> {
        self.half(section).written_at(path)
    }

    /// `{"desired"?, "reported"?}`: an empty section is left out.
    fn state_json(&self) -> Map<String, Value> {
        self.sections(|half| Value::Object(half.state.clone()))
    }

    fn metadata_json(&self) -> Value {
        Value::Object(self.sections(|half| object(&half.meta)))
    }

    fn sections(&self, render: impl Fn(&Half) -> Value) -> Map<String, Value> {
        Section::BOTH
            .into_iter()
            .map(|section| (section, self.half(section)))
            .filter(|(_, half)| !half.state.is_empty())
            .map(|(section, half)| (section.as_str().to_owned(), render(half)))
            .collect()
    }
}
