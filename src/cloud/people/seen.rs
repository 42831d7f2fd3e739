//! What somebody away from home is shown: no more than their own rights, as the hub has mirrored them, and never more than
//! the hub would show. Where the cloud cannot know (in which time zone a weekly window lies), it shows less. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::domain::binding::Terms;

/// A right, as it was mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// On which device.
    pub device: String,
    /// What it gives.
    pub terms: Terms,
}

impl Right {
    /// Reads the body of a `binding` row; `None` when it is none, or is not in force at `now` (ms since 1970).
    #[must_use]
    pub fn read(body: &Value, now: u64) -> Option<Right> {
        let device = body.get("device")?.as_str()?.to_owned();
        let terms: Terms = serde_json::from_value(body.get("terms")?.clone()).ok()?;
        let holds = terms.from.is_none_or(|from| from <= now) && terms.until.is_none_or(|until| now < until);
        holds.then_some(Right { device, terms })
    }

    /// Whether the state may be shown: in a weekly window the hub alone knows when it is.
    #[must_use]
    pub fn shows_state(&self) -> bool {
        self.terms.windows.is_empty()
    }

    /// Whether it covers an attribute or command.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.terms.cover(name)
    }
}

/// What is shown of a device: its row, without what is nobody's business away from home.
#[must_use]
pub fn device(right: &Right, body: &Value, hub_seen: Option<u64>) -> Value {
    let mut shown = Map::new();
    shown.insert("id".to_owned(), right.device.clone().into());
    for member in ["name", "room", "brand", "model", "trust", "standing", "firmware"] {
        if let Some(value) = body.get(member) {
            shown.insert(member.to_owned(), value.clone());
        }
    }
    shown.insert("privilege".to_owned(), json!(right.terms.privilege));
    if let Some(only) = &right.terms.only {
        shown.insert("only".to_owned(), json!(only));
    }
    for (member, at) in [("until", right.terms.until), ("hub_seen", hub_seen)] {
        if let Some(at) = at {
            shown.insert(member.to_owned(), at.into());
        }
    }
    Value::Object(shown)
}

/// Whether a device that stands so shows its state to this holder: a quarantined one only to owners.
#[must_use]
pub fn stands(body: &Value, role: &str) -> bool {
    match body.get("standing").and_then(Value::as_str) {
        Some("quarantined") => role == "owner",
        _ => true,
    }
}

/// The part of a twin that a right shows; `None` when it shows none of it.
#[must_use]
pub fn twin(right: &Right, body: &Value) -> Option<Value> {
    if !right.shows_state() {
        return None;
    }
    let mut shown = Map::new();
    for side in ["reported", "desired"] {
        let members = body.get(side).and_then(Value::as_object);
        shown.insert(side.to_owned(), members.map_or(Value::Null, |members| part(members, right.terms.only.as_ref())));
    }
    for member in ["version", "at"] {
        if let Some(value) = body.get(member) {
            shown.insert(member.to_owned(), value.clone());
        }
    }
    Some(Value::Object(shown))
}

fn part(members: &Map<String, Value>, only: Option<&BTreeSet<String>>) -> Value {
    let kept = members.iter().filter(|(name, _)| only.is_none_or(|only| only.contains(*name)));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(change: fn(&mut Value)) -> Option<Right> {
        let mut body = json!({"device": "lamp-1", "subject": "user:1", "terms": {"privilege": "operate"}});
        change(&mut body);
        Right::read(&body, 1_000)
    }

    #[test]
    fn a_right_shows_something_while_it_is_in_force() {
        assert!(right(|_| {}).is_some());
        assert!(right(|b| b["terms"]["until"] = 1_001.into()).is_some());
        for over in [
            right(|b| b["terms"]["until"] = 1_000.into()),
            right(|b| b["terms"]["from"] = 1_001.into()),
            right(|b| b["terms"] = Value::Null),
        ] {
            assert_eq!(over, None);
        }
    }

    #[test]
    fn a_right_to_a_part_shows_that_part() {
        let part = right(|b| b["terms"]["only"] = json!(["level"])).unwrap();
        let body = json!({"reported": {"level": 3, "where": "bed"}, "desired": {"where": "x"}, "version": 4, "at": 9, "secret": 1});
        assert_eq!(twin(&part, &body), Some(json!({"reported": {"level": 3}, "desired": {}, "version": 4, "at": 9})));
        assert!(part.covers("level") && !part.covers("where"));
        let shown = device(&part, &json!({"name": "Lamp", "claimed_at": 3, "serial": "S", "resets": 2}), Some(7));
        assert_eq!(shown, json!({"id": "lamp-1", "name": "Lamp", "privilege": "operate", "only": ["level"], "hub_seen": 7}));
    }

    #[test]
    fn in_a_window_the_hub_alone_knows_when_it_is() {
        let windowed = right(|b| b["terms"]["windows"] = json!([{"days": ["mon"], "from": "08:00", "to": "10:00"}]));
        assert_eq!(twin(&windowed.unwrap(), &json!({"reported": {}})), None);
    }

    #[test]
    fn a_quarantined_device_shows_its_state_to_owners_alone() {
        let body = json!({"standing": "quarantined"});
        assert!(stands(&body, "owner") && !stands(&body, "member") && stands(&json!({}), "guest"));
    }
}
