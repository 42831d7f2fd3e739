//! One section as a tree of values with a tree of times beside it: merging, comparing, measuring. Knows nothing of
//! requests, versions or answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Number, Value, json};

/// One section: values, and when each leaf was written.
///
/// Invariant: `state` holds no null, and `meta` has the shape of `state` (an object is a node, anything else, whole
/// arrays included, a leaf). Only [`Half::merge`] writes, and keeps both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Half {
    pub(super) state: Map<String, Value>,
    pub(super) meta: MetaMap,
}

pub(super) type MetaMap = BTreeMap<String, Meta>;

/// The time of a value, stored as a bare number or a map: the protocol's `{"timestamp": n}` would be ambiguous for an
/// attribute of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meta {
    /// Epoch seconds.
    Leaf(u64),
    Node(MetaMap),
}

impl Half {
    /// Merges a patch (RFC 7396) and stamps every leaf that it names with `at` (epoch seconds), changed or not.
    pub(super) fn merge(&mut self, patch: &Map<String, Value>, at: u64) {
        merge(&mut self.state, &mut self.meta, patch, at);
    }

    /// What of this section `other` lacks or contradicts, with its metadata; `None` if nothing.
    pub(super) fn difference(&self, other: &Map<String, Value>) -> Option<(Map<String, Value>, Map<String, Value>)> {
        difference(&self.state, &self.meta, other)
    }

    pub(super) fn filtered(&self, allowed: &BTreeSet<String>) -> Self {
        fn keep<V: Clone>(allowed: &BTreeSet<String>, (name, value): (&String, &V)) -> Option<(String, V)> {
            allowed.contains(name).then(|| (name.clone(), value.clone()))
        }
        Self {
            state: self.state.iter().filter_map(|entry| keep(allowed, entry)).collect(),
            meta: self.meta.iter().filter_map(|entry| keep(allowed, entry)).collect(),
        }
    }

    pub(super) fn written_at(&self, path: &[&str]) -> Option<u64> {
        let (first, rest) = path.split_first()?;
        let found = rest.iter().try_fold(self.meta.get(*first)?, |meta, name| match meta {
            Meta::Leaf(_) => None,
            Meta::Node(node) => node.get(*name),
        })?;
        match found {
            Meta::Leaf(at) => Some(*at),
            Meta::Node(_) => None,
        }
    }
}

fn merge(state: &mut Map<String, Value>, meta: &mut MetaMap, patch: &Map<String, Value>, at: u64) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                state.remove(name);
                meta.remove(name);
            }
            Value::Object(patch) => {
                // A new object takes the same way as an old one, so that nulls inside it vanish here too.
                let state = state.entry(name).or_insert(Value::Null);
                if !state.is_object() {
                    *state = Value::Object(Map::new());
                }
                let meta = meta.entry(name.clone()).or_insert(Meta::Leaf(at));
                if matches!(meta, Meta::Leaf(_)) {
                    *meta = Meta::Node(MetaMap::new());
                }
                if let (Value::Object(state), Meta::Node(meta)) = (state, meta) {
                    merge(state, meta, patch, at);
                }
            }
            leaf => {
                state.insert(name.clone(), leaf.clone());
                meta.insert(name.clone(), Meta::Leaf(at));
            }
        }
    }
}

fn difference(
    wished: &Map<String, Value>,
    meta: &MetaMap,
    actual: &Map<String, Value>,
) -> Option<(Map<String, Value>, Map<String, Value>)> {
    let (mut state, mut times) = (Map::new(), Map::new());
    for (name, wish) in wished {
        let (value, time) = match (wish, actual.get(name), meta.get(name)) {
            (Value::Object(wish), Some(Value::Object(actual)), Some(Meta::Node(meta))) => match difference(wish, meta, actual) {
                Some((state, times)) => (Value::Object(state), Value::Object(times)),
                None => continue,
            },
            (wish, Some(actual), _) if same(wish, actual) => continue,
            (wish, _, meta) => (wish.clone(), meta.map_or(Value::Null, Meta::to_json)),
        };
        state.insert(name.clone(), value);
        times.insert(name.clone(), time);
    }
    (!state.is_empty()).then_some((state, times))
}

/// Equality of JSON values, with [`same_number`] for numbers.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b))),
        (a, b) => a == b,
    }
}

/// Whether a device that reports one number has met a wish for the other. Firmware prints a number as its own type has
/// it, and not every printer and parser rounds decimals exactly (ours may be off in the last places): a wish must not
/// stay open over 20 and 20.0, nor over the last bits of a double.
fn same_number(a: &Number, b: &Number) -> bool {
    /// Beyond 2^53 an integer has no exact double: there an integer is only itself.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    /// Relative: a few units in the last place.
    const ROUNDING: f64 = 4.0 * f64::EPSILON;
    if a == b {
        return true;
    }
    match (a.as_f64(), b.as_f64(), a.is_f64(), b.is_f64()) {
        (Some(a), Some(b), true, true) => (a - b).abs() <= ROUNDING * a.abs().max(b.abs()),
        (Some(a), Some(b), true, false) | (Some(a), Some(b), false, true) => a == b && a.abs() < EXACT,
        _ => false,
    }
}

/// The metadata of what a patch writes at `at` (epoch seconds): removals have none.
pub(super) fn stamped(patch: &Map<String, Value>, at: u64) -> Value {
    let members = patch.iter().filter_map(|(name, value)| {
        let time = match value {
            Value::Null => return None,
            Value::Object(patch) => stamped(patch, at),
            _ => Meta::Leaf(at).to_json(),
        };
        Some((name.clone(), time))
    });
    Value::Object(members.collect())
}

/// A tree of times in the protocol's form.
pub(super) fn object(meta: &MetaMap) -> Value {
    Value::Object(meta.iter().map(|(name, meta)| (name.clone(), meta.to_json())).collect())
}

impl Meta {
    fn to_json(&self) -> Value {
        match self {
            Self::Leaf(at) => json!({"timestamp": at}),
            Self::Node(node) => object(node),
        }
    }
}

impl Serialize for Meta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Leaf(at) => serializer.serialize_u64(*at),
            Self::Node(node) => node.serialize(serializer),
        }
    }
}

// By hand, because serde's untagged form would buffer the tree once more at each level.
impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetaVisitor;
        impl<'de> Visitor<'de> for MetaVisitor {
            type Value = Meta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("epoch seconds or a map of metadata")
            }

            fn visit_u64<E: serde::de::Error>(self, at: u64) -> Result<Meta, E> {
                Ok(Meta::Leaf(at))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Meta, A::Error> {
                let mut node = MetaMap::new();
                while let Some((name, meta)) = access.next_entry()? {
                    node.insert(name, meta);
                }
                Ok(Meta::Node(node))
            }
        }
        deserializer.deserialize_any(MetaVisitor)
    }
}

/// A shared section is stored like an owned one.
pub(super) mod shared {
    use super::{Arc, Deserialize, Deserializer, Half, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(half: &Arc<Half>, serializer: S) -> Result<S::Ok, S::Error> {
        half.as_ref().serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Half>, D::Error> {
        Half::deserialize(deserializer).map(Arc::new)
    }
}

/// Bytes of `{"desired":…,"reported":…}` as compact JSON; an empty section is left out, as answers leave it out.
pub(super) fn document_len(desired: &Map<String, Value>, reported: &Map<String, Value>) -> usize {
    let members: Vec<usize> = [("desired", desired), ("reported", reported)]
        .into_iter()
        .filter(|(_, section)| !section.is_empty())
        .map(|(name, section)| member_len(name, map_len(section)))
        .collect();
    list_len(members.into_iter())
}

fn value_len(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Number(number) => {
            let mut count = Count(0);
            // A counter takes everything.
            let _ = write!(count, "{number}");
            count.0
        }
        Value::String(text) => string_len(text),
        Value::Array(items) => list_len(items.iter().map(value_len)),
        Value::Object(members) => map_len(members),
    }
}

fn map_len(members: &Map<String, Value>) -> usize {
    list_len(members.iter().map(|(name, value)| member_len(name, value_len(value))))
}

fn member_len(name: &str, value: usize) -> usize {
    string_len(name) + 1 + value
}

/// Two brackets, the items, and the commas between them.
fn list_len(items: impl Iterator<Item = usize>) -> usize {
    items.fold((2, 0), |(total, comma), item| (total + comma + item, 1)).0
}

fn string_len(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    2 + text.bytes().map(escaped).sum::<usize>()
}

struct Count(usize);

impl fmt::Write for Count {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}
