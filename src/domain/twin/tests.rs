//! The twin's behaviour, sentence by sentence; requests as such are in `requests`, the
//! properties against a naive model in `properties`.

mod properties;
mod requests;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

/// 2025-06-15T15:06:40Z, and 123 ms.
const NOW: u64 = 1_750_000_000_123;
const HOUR: u64 = 60 * 60 * 1000;

/// A lock: `locked` is critical, `battery` read-only, `level` 0–100, `colour` an object with a number `hue`.
struct Lock;

impl Schema for Lock {
    fn check(&self, section: Section, name: &str, value: &Value) -> Result<(), Violation> {
        let refuse = |path: &str, reason: &str| Err(Violation { path: path.into(), reason: reason.into() });
        match name {
            "locked" if value.is_boolean() => Ok(()),
            "battery" if section == Section::Desired => refuse("battery", "read-only"),
            "battery" | "level" if value.as_u64().is_some_and(|n| n <= 100) => Ok(()),
            "colour" if value["hue"].is_u64() => Ok(()),
            "colour" => refuse("colour.hue", "required"),
            _ => refuse(name, "not allowed"),
        }
    }

    fn is_critical(&self, name: &str) -> bool {
        name == "locked"
    }
}

fn parse(body: Value) -> UpdateRequest {
    UpdateRequest::parse(body.to_string().as_bytes(), &Limits::default()).expect("a good request")
}

fn try_apply(twin: &Twin, body: Value, writer: Writer) -> Result<Applied, Rejection> {
    twin.apply(parse(body), writer, &NoSchema, &Limits::default(), NOW)
}

fn apply(twin: &Twin, body: Value) -> Applied {
    try_apply(twin, body, Writer::Hub).expect("accepted")
}

fn twin(state: Value) -> Twin {
    apply(&Twin::absent(), json!({"state": state})).twin
}

#[test]
fn the_first_update_makes_version_one_and_each_further_one_adds_one() {
    let first = twin(json!({"desired": {"on": true}}));
    assert_eq!(first.version(), 1);
    let second = apply(&first, json!({"state": {"desired": {"on": true}}})).twin;
    assert_eq!(second.version(), 2, "the same value again is a new version");
    assert_eq!(apply(&second, json!({"state": {}})).twin.version(), 3);
}

#[test]
fn a_partial_update_leaves_what_it_does_not_name() {
    let before = twin(json!({"desired": {"a": 1, "deep": {"x": 1, "y": 2}}, "reported": {"r": 1}}));
    let after = apply(&before, json!({"state": {"desired": {"deep": {"y": 3}}}})).twin;
    assert_eq!(Value::Object(after.desired().clone()), json!({"a": 1, "deep": {"x": 1, "y": 3}}));
    assert_eq!(after.reported(), before.reported());
}

#[test]
fn null_removes_a_name_and_a_whole_section() {
    let before = twin(json!({"desired": {"a": 1, "b": {"x": 1, "y": 2}}, "reported": {"a": 1}}));
    let after = apply(&before, json!({"state": {"desired": {"a": null, "b": {"x": null}, "never": null}, "reported": null}})).twin;
    assert_eq!(after.accepted_get(None, NOW).unwrap()["state"], json!({"desired": {"b": {"y": 2}}, "delta": {"b": {"y": 2}}}));
    assert_eq!(after.view()["metadata"], json!({"desired": {"b": {"y": {"timestamp": 1_750_000_000}}}}));
}

#[test]
fn nulls_inside_a_new_object_leave_nothing() {
    let after = twin(json!({"desired": {"a": {"gone": null, "kept": 1}}}));
    assert_eq!(Value::Object(after.desired().clone()), json!({"a": {"kept": 1}}));
}

#[test]
fn an_array_is_replaced_whole_and_has_one_time() {
    let before = twin(json!({"desired": {"list": [1, 2, 3]}}));
    let after = apply(&before, json!({"state": {"desired": {"list": [4]}}})).twin;
    assert_eq!(after.desired()["list"], json!([4]));
    assert_eq!(after.written_at(Section::Desired, &["list"]), Some(1_750_000_000));
    assert_eq!(after.written_at(Section::Desired, &["list", "0"]), None);
}

#[test]
fn a_request_for_another_version_conflicts() {
    let before = twin(json!({"desired": {"a": 1}}));
    for wrong in [0, 2] {
        let rejection = try_apply(&before, json!({"state": {}, "version": wrong, "clientToken": "c"}), Writer::Device).unwrap_err();
        assert_eq!(
            rejection.to_json(NOW),
            json!({"code": 409, "message": "Version conflict", "timestamp": 1_750_000_000, "clientToken": "c"})
        );
    }
    assert_eq!(apply(&before, json!({"state": {}, "version": 1})).twin.version(), 2);
    assert_eq!(apply(&Twin::absent(), json!({"state": {}, "version": 0})).twin.version(), 1);
}

#[test]
fn a_person_writes_desired_only_and_the_device_both() {
    let body = json!({"state": {"desired": {"a": 1}, "reported": {"a": 1}}});
    assert_eq!(try_apply(&Twin::absent(), body.clone(), Writer::Person).unwrap_err().code, 403);
    assert_eq!(try_apply(&Twin::absent(), json!({"state": {"reported": null}}), Writer::Person).unwrap_err().code, 403);
    assert!(try_apply(&Twin::absent(), json!({"state": {"desired": {"a": 1}}}), Writer::Person).is_ok());
    assert!(try_apply(&Twin::absent(), body, Writer::Device).is_ok());
}

#[test]
fn the_model_is_asked_about_each_attribute_as_it_would_become() {
    let limits = Limits::default();
    let apply = |twin: &Twin, state: Value| twin.apply(parse(json!({"state": state})), Writer::Device, &Lock, &limits, NOW);
    let lock = apply(&Twin::absent(), json!({"reported": {"battery": 80, "colour": {"hue": 3}}})).unwrap().twin;
    assert!(apply(&lock, json!({"reported": {"colour": {"name": "red"}}})).is_ok(), "with what is there, it is whole");
    let rejection = apply(&lock, json!({"reported": {"colour": {"hue": null}}})).unwrap_err();
    assert_eq!(rejection.path.as_deref(), Some("reported.colour.hue"));
    assert_eq!(rejection.message, "State contains an invalid node: reported.colour.hue: required");
    assert_eq!(apply(&lock, json!({"desired": {"battery": 1}})).unwrap_err().path.as_deref(), Some("desired.battery"));
    assert_eq!(apply(&lock, json!({"reported": {"level": 101}})).unwrap_err().code, 400);
    assert_eq!(apply(&lock, json!({"reported": {"battery": 1, "unknown": 1}})).unwrap_err().code, 400);
    assert!(apply(&lock, json!({"reported": {"unknown": null}, "desired": {"battery": null}})).is_ok(), "a removal is not asked about");
}

#[test]
fn a_critical_wish_is_named_and_can_be_taken_back() {
    let request = parse(json!({"state": {"desired": {"locked": false, "level": 5}}}));
    let applied = Twin::absent().apply(request, Writer::Person, &Lock, &Limits::default(), NOW).unwrap();
    assert_eq!(applied.critical, ["locked"]);
    let dropped = applied.twin.drop_desired(applied.critical.iter().map(String::as_str), NOW + 30_000).unwrap();
    assert_eq!(dropped.twin.version(), 2);
    assert_eq!(Value::Object(dropped.twin.delta()), json!({"level": 5}));
    assert_eq!(dropped.delta().unwrap()["version"], 2);
    assert_eq!(dropped.documents()["previous"]["state"]["desired"], json!({"level": 5, "locked": false}));
    assert_eq!(dropped.documents()["current"]["state"]["desired"], json!({"level": 5}));
    assert!(dropped.twin.drop_desired(["locked"], NOW).is_none(), "nothing left to take back");
}

#[test]
fn removing_a_critical_wish_is_not_a_critical_wish() {
    let request = parse(json!({"state": {"desired": {"locked": null}}}));
    let names: Vec<_> = request.names(Section::Desired).map(str::to_owned).collect();
    assert_eq!(names, ["locked"], "yet a policy sees that it is touched");
    let applied = Twin::absent().apply(request, Writer::Person, &Lock, &Limits::default(), NOW).unwrap();
    assert!(applied.critical.is_empty());
}

#[test]
fn accepted_repeats_the_state_as_sent_with_the_times_of_what_it_wrote() {
    let applied = apply(
        &twin(json!({"desired": {"old": 1}})),
        json!({"state": {"desired": {"a": {"b": 1}, "old": null}, "reported": null}, "clientToken": "t"}),
    );
    assert_eq!(
        applied.accepted(),
        json!({
            "state": {"desired": {"a": {"b": 1}, "old": null}, "reported": null},
            "metadata": {"desired": {"a": {"b": {"timestamp": 1_750_000_000}}}},
            "version": 2, "timestamp": 1_750_000_000, "clientToken": "t"
        })
    );
}

#[test]
fn the_delta_holds_full_paths_with_the_times_of_desired() {
    let before = twin(json!({"desired": {"on": true, "colour": {"r": 1, "g": 2}}}));
    let request = parse(json!({"state": {"reported": {"on": true, "colour": {"r": 1, "g": 9}, "extra": 1}}, "clientToken": "t"}));
    let applied = before.apply(request, Writer::Device, &NoSchema, &Limits::default(), NOW + HOUR).unwrap();
    assert_eq!(
        applied.delta().unwrap(),
        json!({
            "state": {"colour": {"g": 2}}, "metadata": {"colour": {"g": {"timestamp": 1_750_000_000}}},
            "version": 2, "timestamp": 1_750_003_600, "clientToken": "t"
        })
    );
    assert!(apply(&applied.twin, json!({"state": {"reported": {"colour": {"g": 2}}}})).delta().is_none());
}

#[test]
fn a_number_is_met_in_whatever_notation_but_not_by_a_near_one() {
    let delta = |desired: Value, reported: Value| twin(json!({"desired": {"n": desired}, "reported": {"n": reported}})).delta();
    assert!(delta(json!(20), json!(20.0)).is_empty());
    assert!(delta(json!([1, {"x": 2.0}]), json!([1.0, {"x": 2}])).is_empty());
    assert!(!delta(json!(20), json!(20.5)).is_empty());
    assert!(!delta(json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992.0)).is_empty());
    assert!(!delta(json!(1), json!("1")).is_empty());
    assert!(!delta(json!(1), json!(true)).is_empty());
}

#[test]
fn an_attribute_named_timestamp_is_an_attribute() {
    let twin = twin(json!({"reported": {"timestamp": 5, "a": {"timestamp": 6}}}));
    assert_eq!(
        twin.view()["metadata"]["reported"],
        json!({"timestamp": {"timestamp": 1_750_000_000}, "a": {"timestamp": {"timestamp": 1_750_000_000}}})
    );
}

#[test]
fn a_document_of_the_limit_is_taken_and_one_byte_more_refused() {
    let frame = r#"{"reported":{"a":""}}"#.len();
    let of = |bytes: usize| json!({"state": {"reported": {"a": "x".repeat(bytes - frame)}}, "clientToken": "t"});
    let full = apply(&Twin::absent(), of(8192)).twin;
    assert_eq!(full.document_bytes(), 8192);
    let rejection = try_apply(&Twin::absent(), of(8193), Writer::Device).unwrap_err();
    assert_eq!((rejection.code, rejection.client_token.as_deref()), (413, Some("t")));
    assert_eq!(try_apply(&full, json!({"state": {"desired": {"b": 1}}}), Writer::Device).unwrap_err().code, 413);
}

#[test]
fn a_document_over_a_lowered_limit_may_shrink_but_not_grow() {
    let big = twin(json!({"reported": {"a": "x".repeat(2000), "b": 1}}));
    let small = Limits::with_document_bytes(1000);
    let try_one = |state: Value| big.apply(parse(json!({"state": state})), Writer::Device, &NoSchema, &small, NOW);
    assert!(try_one(json!({"reported": {"b": null}})).is_ok());
    assert_eq!(try_one(json!({"reported": {"c": 1}})).unwrap_err().code, 413);
    assert_eq!(Limits::with_document_bytes(1 << 20).document_bytes, Limits::MAX_DOCUMENT_BYTES);
}

#[test]
fn get_shows_all_and_its_delta_and_an_absent_twin_is_not_found() {
    let absent = Twin::absent().accepted_get(Some("t".into()), NOW).unwrap_err();
    assert_eq!((absent.code, absent.client_token.as_deref()), (404, Some("t")));
    let twin = twin(json!({"desired": {"a": 1}, "reported": {"a": 2}}));
    let time = json!({"a": {"timestamp": 1_750_000_000}});
    assert_eq!(
        twin.accepted_get(None, NOW + 1000).unwrap(),
        json!({
            "state": {"desired": {"a": 1}, "reported": {"a": 2}, "delta": {"a": 1}},
            "metadata": {"desired": time, "reported": time}, "version": 1, "timestamp": 1_750_000_001
        })
    );
}

#[test]
fn a_twin_created_again_within_48_hours_goes_on_counting_and_later_starts_over() {
    let before = apply(&twin(json!({"desired": {"a": 1}})), json!({"state": {"reported": {"a": 1}}})).twin;
    let deleted = before.delete(Some("t".into()), NOW).unwrap();
    assert_eq!(deleted.accepted, json!({"version": 2, "timestamp": 1_750_000_000, "clientToken": "t"}));
    let gone = deleted.twin;
    assert!(!gone.exists() && gone.desired().is_empty() && gone.reported().is_empty());
    assert_eq!(gone.accepted_get(None, NOW).unwrap_err().code, 404);
    assert_eq!(gone.delete(None, NOW).unwrap_err().code, 404);

    let again = |now: u64| gone.apply(parse(json!({"state": {}})), Writer::Device, &NoSchema, &Limits::default(), now).unwrap().twin;
    assert_eq!(again(NOW + 48 * HOUR - 1).version(), 3);
    assert_eq!(again(NOW - HOUR).version(), 3, "a clock that went back forgets nothing");
    assert_eq!(again(NOW + 48 * HOUR).version(), 1);
    assert!(again(NOW).exists());
    assert!(gone.is_forgotten(NOW + 48 * HOUR) && !gone.is_forgotten(NOW + HOUR) && !before.is_forgotten(u64::MAX));
}

#[test]
fn changes_name_the_attributes_whose_value_is_another() {
    let before = twin(json!({"desired": {"same": 1, "new": 1, "gone": 1}, "reported": {"r": {"x": 1}}}));
    let applied = apply(&before, json!({"state": {"desired": {"same": 1, "new": 2, "gone": null, "never": null}, "reported": null}}));
    let changes: Vec<_> = applied.changes().map(|c| (c.section, c.name, c.before.cloned(), c.after.cloned())).collect();
    assert_eq!(
        changes,
        [
            (Section::Desired, "gone", Some(json!(1)), None),
            (Section::Desired, "new", Some(json!(1)), Some(json!(2))),
            (Section::Reported, "r", Some(json!({"x": 1})), None),
        ]
    );
}

#[test]
fn a_filtered_twin_shows_the_allowed_attributes_and_nothing_of_the_others() {
    let twin = twin(json!({"desired": {"a": 1, "secret": 2}, "reported": {"a": 3, "secret": 4}}));
    let seen = twin.filtered(&BTreeSet::from(["a".to_owned(), "absent".to_owned()]));
    assert_eq!(seen.view()["delta"], json!({"a": 1}));
    assert_eq!(seen.version(), twin.version());
    assert!(!seen.view().to_string().contains("secret"));
    assert_eq!(seen.written_at(Section::Reported, &["a"]), Some(1_750_000_000));
}

#[test]
fn a_stored_twin_comes_back_and_fields_of_later_versions_are_tolerated() {
    let before = twin(json!({
        "desired": {"max": u64::MAX, "min": i64::MIN, "float": 0.1, "whole": 2.0, "deep": {"x": {}, "y": [1, {"z": "é"}]}},
        "reported": {"on": true}
    }));
    for twin in [before.clone(), before.delete(None, NOW).unwrap().twin, Twin::absent()] {
        let mut bytes = Vec::new();
        ciborium::into_writer(&twin, &mut bytes).unwrap();
        assert_eq!(ciborium::from_reader::<Twin, _>(bytes.as_slice()).unwrap(), twin);
    }
    let later = json!({"version": 7, "colour": 1, "desired": {"state": {"a": 1}, "meta": {"a": 5}, "notes": []}});
    let mut bytes = Vec::new();
    ciborium::into_writer(&later, &mut bytes).unwrap();
    let twin: Twin = ciborium::from_reader(bytes.as_slice()).unwrap();
    assert_eq!((twin.version(), twin.written_at(Section::Desired, &["a"])), (7, Some(5)));
}

#[test]
fn an_update_of_one_section_shares_the_other() {
    let before = twin(json!({"desired": {"a": 1}, "reported": {"a": 1}}));
    let after = apply(&before, json!({"state": {"reported": {"a": 2}}})).twin;
    assert!(Arc::ptr_eq(&before.desired, &after.desired));
    assert!(!Arc::ptr_eq(&before.reported, &after.reported));
}
