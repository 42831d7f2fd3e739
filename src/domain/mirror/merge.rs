//! How two copies of a household become one: rows by generation and version, ended by marks that only grow. No clock decides
//! anything here (`docs/protocol/mirror.md`, *Entities, marks, digests*).

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;

use super::wire::{Mark, Row};

/// How far a mark may lie above the highest generation known of its entity. One beyond would end what nobody has given yet.
pub const AHEAD_MAX: u64 = 1_000;

/// What becomes of a row that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// It stands now.
    Take,
    /// It is known.
    Same,
    /// A newer one is known.
    Older,
    /// Another row of the same generation and version is known: two wrote it, which is counted. Whether this one stands now.
    Conflict(bool),
}

impl Merge {
    /// Whether the row that came stands now.
    #[must_use]
    pub const fn takes(self) -> bool {
        matches!(self, Merge::Take | Merge::Conflict(true))
    }
}

/// Which of two rows of one entity stands: the one with the higher generation, then version; of two that are equal in both
/// and differ, the one whose body has the greater SHA-256.
#[must_use]
pub fn newer(known: Option<&Row>, incoming: &Row) -> Merge {
    let Some(known) = known else { return Merge::Take };
    match (incoming.generation, incoming.version).cmp(&(known.generation, known.version)) {
        std::cmp::Ordering::Greater => Merge::Take,
        std::cmp::Ordering::Less => Merge::Older,
        std::cmp::Ordering::Equal => match body_hash(&incoming.body).cmp(&body_hash(&known.body)) {
            std::cmp::Ordering::Equal => Merge::Same,
            order => Merge::Conflict(order.is_gt()),
        },
    }
}

/// What becomes of a mark that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raise {
    /// It stands now.
    Take,
    /// It, or a higher one, is known.
    Known,
    /// It lies so far above everything known of the entity that it is refused, and an alarm.
    TooFar,
}

/// Takes a mark or not. `highest_known_gen` is the highest generation of a row of the entity that was ever seen here; 0 for none.
#[must_use]
pub fn raise(mark: Option<&Mark>, highest_known_gen: u64, incoming: &Mark) -> Raise {
    let marked = mark.map_or(0, |mark| mark.generation);
    if incoming.generation <= marked {
        Raise::Known
    } else if incoming.generation > highest_known_gen.max(marked).saturating_add(AHEAD_MAX) {
        Raise::TooFar
    } else {
        Raise::Take
    }
}

/// Whether a row is above its mark (0 for none). A right also needs its device and its person to be.
#[must_use]
pub const fn is_active(row: &Row, mark: u64) -> bool {
    row.generation > mark
}

/// The one JSON text of a body: keys sorted by their bytes, no white space.
#[must_use]
pub fn canonical(body: &Value) -> String {
    let mut text = String::new();
    write(body, &mut text);
    text
}

/// SHA-256 of a body's one text.
#[must_use]
pub fn body_hash(body: &Value) -> [u8; 32] {
    Sha256::digest(canonical(body)).into()
}

/// Bodies come from a reader that limits their depth.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (n, (key, value)) in members.into_iter().enumerate() {
                if n > 0 {
                    text.push(',');
                }
                write(&Value::String(key.clone()), text);
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        // Writing into a text does not fail.
        plain => drop(write!(text, "{plain}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Kind;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn row(generation: u64, version: u64, body: Value) -> Row {
        Row { kind: Kind::Binding, key: "door/user:1".into(), generation, version, origin: String::new(), body }
    }

    fn mark(generation: u64) -> Mark {
        Mark { kind: Kind::Binding, key: "door/user:1".into(), generation, at: 0, by: String::new() }
    }

    #[test]
    fn a_generation_goes_before_a_version() {
        let known = row(2, 5, json!(1));
        assert_eq!(newer(None, &known), Merge::Take);
        assert_eq!(newer(Some(&known), &row(3, 0, json!(1))), Merge::Take);
        assert_eq!(newer(Some(&known), &row(2, 6, json!(1))), Merge::Take);
        assert_eq!(newer(Some(&known), &row(2, 4, json!(2))), Merge::Older);
        assert_eq!(newer(Some(&known), &row(1, 9, json!(2))), Merge::Older);
        assert_eq!(newer(Some(&known), &Row { origin: "another".into(), ..known.clone() }), Merge::Same);
    }

    #[test]
    fn of_two_that_wrote_the_same_version_both_sides_choose_the_same() {
        let (a, b) = (row(1, 1, json!({"x": 1})), row(1, 1, json!({"x": 2})));
        let (ab, ba) = (newer(Some(&a), &b), newer(Some(&b), &a));
        assert!(matches!((ab, ba), (Merge::Conflict(x), Merge::Conflict(y)) if x != y));
        assert_eq!(ab.takes(), body_hash(&b.body) > body_hash(&a.body));
    }

    #[test]
    fn a_mark_only_grows_and_does_not_leap() {
        assert_eq!(raise(None, 0, &mark(1)), Raise::Take);
        assert_eq!(raise(None, 0, &mark(0)), Raise::Known);
        assert_eq!(raise(Some(&mark(3)), 9, &mark(3)), Raise::Known);
        assert_eq!(raise(Some(&mark(3)), 9, &mark(4)), Raise::Take);
        assert_eq!(raise(None, 7, &mark(1_007)), Raise::Take);
        assert_eq!(raise(None, 7, &mark(1_008)), Raise::TooFar);
        assert_eq!(raise(Some(&mark(50)), 7, &mark(1_050)), Raise::Take);
        assert_eq!(raise(Some(&mark(50)), 7, &mark(u64::MAX)), Raise::TooFar);
        assert_eq!(raise(None, u64::MAX, &mark(u64::MAX)), Raise::Take);
    }

    #[test]
    fn what_is_at_its_mark_has_ended() {
        assert!(!is_active(&row(3, 0, json!(1)), 3) && is_active(&row(4, 0, json!(1)), 3) && !is_active(&row(0, 9, json!(1)), 0));
    }

    #[test]
    fn a_body_has_one_text() {
        let body: Value = serde_json::from_str(r#" {"b": [1, {"z": null, "a": "é\n"}], "a": 1.50, "B": true, "": 1e3} "#).unwrap();
        assert_eq!(canonical(&body), "{\"\":1000.0,\"B\":true,\"a\":1.5,\"b\":[1,{\"a\":\"é\\n\",\"z\":null}]}");
        assert_eq!(body_hash(&body), body_hash(&serde_json::from_str(&canonical(&body)).unwrap()));
    }

    proptest! {
        #[test]
        fn rows_end_up_the_same_in_every_order(seeds in prop::collection::vec((0u64..3, 0u64..3, 0u8..3), 1..8), turn in 0usize..8) {
            let rows: Vec<Row> = seeds.into_iter().map(|(g, v, b)| row(g, v, json!(b))).collect();
            let all = |rows: &mut dyn Iterator<Item = &Row>| rows.fold(None, |known: Option<Row>, next| {
                if newer(known.as_ref(), next).takes() { Some(next.clone()) } else { known }
            });
            let straight = all(&mut rows.iter());
            let (end, beginning) = rows.split_at(turn % rows.len());
            prop_assert_eq!(&all(&mut rows.iter().rev()), &straight);
            prop_assert_eq!(&all(&mut beginning.iter().chain(end)), &straight);
        }
    }
}
