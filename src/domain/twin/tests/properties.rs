//! The twin against a naive model of the same rules: whole values, flat paths, no sharing.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::domain::twin::*;

type Flat = BTreeMap<Vec<String>, Value>;

/// The model: RFC 7396 word for word, on a bare value.
fn naive_merge(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut target = if let Value::Object(target) = target { target } else { Map::new() };
    for (name, value) in patch {
        let old = target.remove(name).unwrap_or(Value::Null);
        if !value.is_null() {
            target.insert(name.clone(), naive_merge(old, value));
        }
    }
    Value::Object(target)
}

/// Leaves by path; `{}` is a leaf here, the section itself is not.
fn flatten(value: &Value) -> Flat {
    fn walk(value: &Value, path: &[String], out: &mut Flat) {
        match value {
            Value::Object(members) if path.is_empty() || !members.is_empty() => {
                for (name, value) in members {
                    walk(value, &[path, std::slice::from_ref(name)].concat(), out);
                }
            }
            leaf => {
                out.insert(path.to_vec(), leaf.clone());
            }
        }
    }
    let mut out = Flat::new();
    walk(value, &[], &mut out);
    out
}

fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "timestamp", "\u{e9}\n"]).prop_map(str::to_owned)
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-2i64..3).prop_map(Value::from),
        // Quarters: doubles whose decimals any parser reads exactly.
        (-1000i32..1000).prop_map(|n| Value::from(f64::from(n) / 4.0)),
        "[a\"\\\\\t\u{1}é]{0,4}".prop_map(Value::from),
    ]
}

fn node() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => scalar(),
        2 => Just(Value::Null),
        1 => prop::collection::vec(scalar(), 0..3).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop::collection::btree_map(name(), inner, 0..4).prop_map(|members| members.into_iter().collect())
    })
}

/// A section of a request: mostly an object, now and then null, now and then not there.
fn section() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(Value::Null)),
        8 => prop::collection::btree_map(name(), node(), 0..4).prop_map(|members| Some(members.into_iter().collect())),
    ]
}

fn body() -> impl Strategy<Value = Value> {
    (section(), section()).prop_map(|(desired, reported)| {
        let mut state = Map::new();
        state.extend(desired.map(|value| ("desired".to_owned(), value)));
        state.extend(reported.map(|value| ("reported".to_owned(), value)));
        json!({"state": state})
    })
}

fn parse(body: &Value) -> UpdateRequest {
    UpdateRequest::parse(body.to_string().as_bytes(), &Limits::default()).expect("generated within the limits")
}

fn run(bodies: &[Value]) -> Twin {
    bodies.iter().enumerate().fold(Twin::absent(), |twin, (second, body)| {
        let now = (second as u64 + 1) * 1000;
        twin.apply(parse(body), Writer::Device, &NoSchema, &Limits::default(), now).expect("accepted").twin
    })
}

fn bodies() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(body(), 1..8)
}

proptest! {
    #[test]
    fn any_sequence_of_updates_gives_the_state_of_the_naive_model(bodies in bodies()) {
        let mut model = json!({"desired": {}, "reported": {}});
        for body in &bodies {
            for (name, patch) in body["state"].as_object().unwrap() {
                model[name] = if patch.is_null() { json!({}) } else { naive_merge(model[name].take(), patch) };
            }
        }
        let twin = run(&bodies);
        prop_assert_eq!(json!({"desired": twin.desired(), "reported": twin.reported()}), model);
        prop_assert_eq!(twin.version(), bodies.len() as u64);
    }

    #[test]
    fn each_leaf_has_the_time_of_the_last_update_that_named_it(bodies in bodies()) {
        let mut times: BTreeMap<Vec<String>, u64> = BTreeMap::new();
        for (second, body) in bodies.iter().enumerate() {
            let patch = body["state"].get("desired").cloned().unwrap_or(json!({}));
            times.extend(flatten(&patch).into_keys().map(|path| (path, second as u64 + 1)));
        }
        let twin = run(&bodies);
        let leaves: Flat = flatten(&json!(twin.desired())).into_iter().filter(|(_, leaf)| !leaf.is_object()).collect();
        for path in leaves.keys() {
            let path_ref: Vec<&str> = path.iter().map(String::as_str).collect();
            prop_assert_eq!(twin.written_at(Section::Desired, &path_ref), times.get(path).copied());
        }
        // And no time without a leaf: what metadata shows has the shape of the state.
        let shown = flatten(&twin.view()["metadata"].get("desired").cloned().unwrap_or(json!({})));
        let shown: Vec<_> = shown.into_iter().filter(|(_, time)| time.is_u64()).map(|(mut path, _)| { path.pop(); path }).collect();
        prop_assert_eq!(shown, leaves.into_keys().collect::<Vec<_>>());
    }

    #[test]
    fn the_delta_is_what_desired_has_and_reported_has_not(bodies in bodies()) {
        let twin = run(&bodies);
        let reported = json!(twin.reported());
        let expected: Flat = flatten(&json!(twin.desired()))
            .into_iter()
            .filter(|(path, wish)| match at(&reported, path) {
                Some(Value::Object(_)) if wish.is_object() => false,
                Some(Value::Number(n)) if wish.is_number() => n.as_f64() != wish.as_f64(),
                actual => actual != Some(wish),
            })
            .collect();
        // Arrays of mixed notation (1 and 1.0) do not occur: the model compares arrays bluntly.
        prop_assert_eq!(flatten(&json!(twin.delta())), expected);
        prop_assert_eq!(twin.delta_message(None, 0).is_none(), twin.delta().is_empty());
    }

    #[test]
    fn a_device_that_reports_the_delta_has_caught_up(bodies in bodies()) {
        let twin = run(&bodies);
        let caught_up = json!({"state": {"reported": twin.delta()}});
        let applied = twin.apply(parse(&caught_up), Writer::Device, &NoSchema, &Limits::default(), 0).unwrap();
        prop_assert_eq!(applied.delta(), None);
        prop_assert_eq!(applied.twin.version(), twin.version() + 1);
    }

    #[test]
    fn a_wish_that_the_device_echoes_as_text_is_met(wish in prop::num::f64::NORMAL) {
        let twin = run(&[json!({"state": {"desired": {"n": wish}}})]);
        let echo = json!({"state": {"reported": twin.delta()}}).to_string();
        let request = UpdateRequest::parse(echo.as_bytes(), &Limits::default()).unwrap();
        let applied = twin.apply(request, Writer::Device, &NoSchema, &Limits::default(), 0).unwrap();
        prop_assert_eq!(applied.delta(), None);
    }

    #[test]
    fn a_rejected_request_changes_nothing(bodies in bodies(), body in body()) {
        let twin = run(&bodies);
        let before = serde_json::to_string(&twin).unwrap();
        let mut stale = body;
        stale["version"] = json!(twin.version() + 1);
        let rejection = twin.apply(parse(&stale), Writer::Device, &NoSchema, &Limits::default(), 9000).unwrap_err();
        prop_assert_eq!(rejection.code, 409);
        // A schema that refuses the last attribute it is asked about: all before it must be undone too.
        struct RefusesC;
        impl Schema for RefusesC {
            fn check(&self, _: Section, name: &str, _: &Value) -> Result<(), Violation> {
                if name == "c" { Err(Violation { path: name.into(), reason: "no".into() }) } else { Ok(()) }
            }
            fn is_critical(&self, _: &str) -> bool { false }
        }
        let refused = parse(&json!({"state": {"desired": {"a": "other", "c": 1}}}));
        prop_assert!(twin.apply(refused, Writer::Device, &RefusesC, &Limits::default(), 9000).is_err());
        prop_assert_eq!(serde_json::to_string(&twin).unwrap(), before);
    }

    #[test]
    fn a_twin_survives_storing(bodies in bodies()) {
        let twin = run(&bodies);
        let mut bytes = Vec::new();
        ciborium::into_writer(&twin, &mut bytes).unwrap();
        prop_assert_eq!(ciborium::from_reader::<Twin, _>(bytes.as_slice()).unwrap(), twin);
    }

    #[test]
    fn the_measured_size_is_that_of_the_json(bodies in bodies()) {
        let twin = run(&bodies);
        let json = Value::Object(twin.state_json()).to_string();
        prop_assert_eq!(twin.document_bytes(), json.len());
    }

    #[test]
    fn changes_lead_from_the_former_state_to_the_present_one(bodies in bodies(), body in body()) {
        let before = run(&bodies);
        let applied = before.apply(parse(&body), Writer::Device, &NoSchema, &Limits::default(), 9000).unwrap();
        let mut replayed = json!({"desired": before.desired(), "reported": before.reported()});
        for change in applied.changes() {
            let section = replayed[change.section.as_str()].as_object_mut().unwrap();
            prop_assert_eq!(section.remove(change.name), change.before.cloned());
            section.extend(change.after.map(|value| (change.name.to_owned(), value.clone())));
        }
        prop_assert_eq!(replayed, json!({"desired": applied.twin.desired(), "reported": applied.twin.reported()}));
    }

    #[test]
    fn parsing_never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = UpdateRequest::parse(&bytes, &Limits::default());
        let _ = client_token(&bytes, &Limits::default());
    }

    #[test]
    fn parsing_never_panics_on_what_looks_like_a_request(
        text in "\\{\"(state|version|clientToken)\":(\\{\"(desired|reported)\":[\\[\\]{}\":,0-9a-zn.eE+-]{0,40}|[0-9.eE+-]{0,12}|null)\\}{0,3}"
    ) {
        let _ = UpdateRequest::parse(text.as_bytes(), &Limits::default());
    }
}
