//! An update request, parsed and bounded once: what gets past here is a well-formed partial merge within the limits
//! of depth and token. Whether it fits the twin and the model is [`super::Twin::apply`]'s to say.

use serde_json::{Map, Value};

use super::rejection::Rejection;
use super::schema::Section;

/// A partial merge of `desired`, `reported` or both.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateRequest {
    desired: Patch,
    reported: Patch,
    client_token: Option<String>,
    version: Option<u64>,
}

/// Bounds of a twin and of requests. The defaults are those of AWS IoT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the state (both sections, without metadata) as compact JSON: 8192, at most [`Limits::MAX_DOCUMENT_BYTES`].
    pub document_bytes: usize,
    /// Levels of names below `desired` or `reported`: 6. An object in an array is one level below the array's name.
    pub depth: usize,
    /// Bytes of a client token: 64.
    pub token: usize,
}

/// What a request does to one section.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Patch {
    /// It does not name the section.
    #[default]
    Keep,
    /// `null`: all of it goes.
    Clear,
    /// Merge; a null within removes its name.
    Merge(Map<String, Value>),
}

impl UpdateRequest {
    /// Reads the payload of `update`. Unknown members beside `state` are ignored; a `clientToken` or `version` of
    /// null counts as absent. Accepts at most twice the document's limit and 1 KiB (white space, nulls, the frame).
    ///
    /// # Errors
    /// 413 too long; 415 not UTF-8; 400 not JSON, no `state` object, a section that is neither object nor null,
    /// another member in `state`, a null in an array, too deep, or a bad token or version.
    pub fn parse(payload: &[u8], limits: &Limits) -> Result<Self, Rejection> {
        if payload.len() > limits.document_bytes.saturating_mul(2).saturating_add(1024) {
            return Err(Rejection::too_large());
        }
        let text = std::str::from_utf8(payload)
            .map_err(|_| Rejection::new(415, "Unsupported documented encoding; supported encoding is UTF-8"))?;
        let Ok(Value::Object(mut body)) = serde_json::from_str(text) else {
            return Err(Rejection::new(400, "Invalid JSON"));
        };
        let client_token = match body.remove("clientToken") {
            None | Some(Value::Null) => None,
            Some(Value::String(token)) if token.len() <= limits.token => Some(token),
            Some(_) => return Err(Rejection::new(400, "Invalid clientToken")),
        };
        match Self::of_body(body, limits) {
            Ok(request) => Ok(Self { client_token, ..request }),
            Err(rejection) => Err(rejection.for_token(client_token)),
        }
    }

    /// A merge patch (RFC 7396) of `desired` alone: what REST takes. `version` is the one the caller has seen.
    ///
    /// # Errors
    /// 400 a null in an array, or too deep.
    pub fn of_desired(patch: Map<String, Value>, version: Option<u64>, limits: &Limits) -> Result<Self, Rejection> {
        let desired = Patch::Merge(bounded(Section::Desired, patch, limits)?);
        Ok(Self { desired, reported: Patch::Keep, client_token: None, version })
    }

    fn of_body(mut body: Map<String, Value>, limits: &Limits) -> Result<Self, Rejection> {
        let version = match body.remove("version") {
            None | Some(Value::Null) => None,
            Some(version) => Some(version.as_u64().ok_or_else(|| Rejection::new(400, "Invalid version"))?),
        };
        let mut state = match body.remove("state") {
            None => return Err(Rejection::new(400, "Missing required node: state")),
            Some(Value::Object(state)) => state,
            Some(_) => return Err(Rejection::new(400, "State node must be an object")),
        };
        let desired = Patch::of_member(Section::Desired, state.remove("desired"), limits)?;
        let reported = Patch::of_member(Section::Reported, state.remove("reported"), limits)?;
        if let Some(name) = state.keys().next() {
            return Err(Rejection::new(400, "State contains an invalid node").at(name));
        }
        Ok(Self { desired, reported, client_token: None, version })
    }

    pub(super) fn removing(names: Map<String, Value>) -> Self {
        Self { desired: Patch::Merge(names), reported: Patch::Keep, client_token: None, version: None }
    }

    /// The client token, echoed in each answer.
    #[must_use]
    pub fn client_token(&self) -> Option<&str> {
        self.client_token.as_deref()
    }

    /// The version that the twin must have for the request to be taken.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// Whether the request names this section at all.
    #[must_use]
    pub fn touches(&self, section: Section) -> bool {
        *self.patch(section) != Patch::Keep
    }

    /// Whether the request removes the whole section (`null`), whatever it holds.
    #[must_use]
    pub fn clears(&self, section: Section) -> bool {
        *self.patch(section) == Patch::Clear
    }

    /// The top-level attributes that the request names, those it removes too: what a policy is asked about. When it
    /// [clears](Self::clears) the section, it touches every attribute there is and names none.
    pub fn names(&self, section: Section) -> impl Iterator<Item = &str> {
        self.entries(section).map(|(name, _)| name)
    }

    /// The top-level attributes that the request sets, not those it removes.
    pub fn set_names(&self, section: Section) -> impl Iterator<Item = &str> {
        self.entries(section).filter(|(_, value)| !value.is_null()).map(|(name, _)| name)
    }

    fn entries(&self, section: Section) -> impl Iterator<Item = (&str, &Value)> {
        let patch = match self.patch(section) {
            Patch::Merge(patch) => Some(patch),
            Patch::Keep | Patch::Clear => None,
        };
        patch.into_iter().flatten().map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn patch(&self, section: Section) -> &Patch {
        match section {
            Section::Desired => &self.desired,
            Section::Reported => &self.reported,
        }
    }

    pub(super) fn into_client_token(self) -> Option<String> {
        self.client_token
    }
}

/// The client token in the payload of a `get` or `delete`, whose payload means nothing else: SDKs put it there to find
/// their answer. Anything unreadable or too long is no token.
#[must_use]
pub fn client_token(payload: &[u8], limits: &Limits) -> Option<String> {
    if payload.is_empty() || payload.len() > 1024 {
        return None;
    }
    match serde_json::from_slice::<Value>(payload).ok()?.as_object_mut()?.remove("clientToken")? {
        Value::String(token) if token.len() <= limits.token => Some(token),
        _ => None,
    }
}

impl Limits {
    /// The largest document that may be configured, in bytes.
    pub const MAX_DOCUMENT_BYTES: usize = 30 * 1024;

    /// The defaults with another size of document, cut to [`Limits::MAX_DOCUMENT_BYTES`].
    #[must_use]
    pub fn with_document_bytes(document_bytes: usize) -> Self {
        Self { document_bytes: document_bytes.min(Self::MAX_DOCUMENT_BYTES), ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { document_bytes: 8 * 1024, depth: 6, token: 64 }
    }
}

impl Patch {
    fn of_member(section: Section, member: Option<Value>, limits: &Limits) -> Result<Self, Rejection> {
        match (member, section) {
            (None, _) => Ok(Self::Keep),
            (Some(Value::Null), _) => Ok(Self::Clear),
            (Some(Value::Object(patch)), _) => Ok(Self::Merge(bounded(section, patch, limits)?)),
            (Some(_), Section::Desired) => Err(Rejection::new(400, "Desired node must be an object")),
            (Some(_), Section::Reported) => Err(Rejection::new(400, "Reported node must be an object")),
        }
    }
}

fn bounded(section: Section, patch: Map<String, Value>, limits: &Limits) -> Result<Map<String, Value>, Rejection> {
    let mut walk = Walk { path: vec![section.as_str()], depth: limits.depth };
    walk.members(&patch, 0, false)?;
    Ok(patch)
}

/// One pass over a patch that bounds its depth and finds nulls in arrays. `level` counts the names above a value, and
/// the arrays directly in arrays. Recursion is bounded by `depth`, and before that by the parser's own limit.
struct Walk<'a> {
    path: Vec<&'a str>,
    depth: usize,
}

impl<'a> Walk<'a> {
    fn members(&mut self, members: &'a Map<String, Value>, level: usize, in_array: bool) -> Result<(), Rejection> {
        for (name, value) in members {
            self.path.push(name);
            self.value(value, level + 1, in_array)?;
            self.path.pop();
        }
        Ok(())
    }

    fn value(&mut self, value: &'a Value, level: usize, in_array: bool) -> Result<(), Rejection> {
        if level > self.depth {
            let message = format!("JSON contains too many levels of nesting; maximum is {}", self.depth);
            return Err(Rejection::new(400, message));
        }
        match value {
            Value::Null if in_array => Err(Rejection::new(400, "State contains an invalid node").at(self.path.join("."))),
            Value::Object(members) => self.members(members, level, in_array),
            Value::Array(items) => items.iter().try_for_each(|item| {
                let level = if item.is_array() { level + 1 } else { level };
                self.value(item, level, true)
            }),
            _ => Ok(()),
        }
    }
}
