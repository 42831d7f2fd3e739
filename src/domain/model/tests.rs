//! What a model takes and refuses.

use proptest::prelude::*;

use super::*;

const DOOR: &str = r#"{
  "model": "garage-door", "title": "Garage door opener", "version": 1, "kind": "garage-door",
  "attributes": {
    "position":   {"type": "integer", "unit": "%", "min": 0, "max": 100, "access": "read", "title": "Position"},
    "mode":       {"type": "string", "values": ["normal", "vacation"], "access": "write"},
    "auto_close": {"type": "boolean", "access": "write"},
    "note":       {"type": "string", "max_length": 3, "access": "write"},
    "odd":        {"type": "integer", "min": 1, "step": 2, "access": "write", "critical": true},
    "target":     {"type": "number", "unit": "°C", "min": 5, "max": 30, "step": 0.5, "access": "write", "critical": false}
  },
  "commands": {
    "open": {"title": "Open", "critical": true, "args": {"to": {"type": "integer", "min": 1, "max": 100, "optional": true}}},
    "blink": {"args": {"times": {"type": "integer", "min": 1}}}
  }
}"#;

fn door() -> Model {
    Model::parse(DOOR).unwrap()
}

#[test]
fn a_model_reads_back_what_it_wrote() {
    let text = serde_json::to_string(&door()).unwrap();
    assert_eq!(serde_json::from_str::<Model>(&text).unwrap(), door());
    assert!(text.contains(r#""min":5"#), "{text}");
}

#[test]
fn a_value_is_held_against_its_attribute() {
    for (name, value) in [
        ("position", json!(0)),
        ("position", json!(100)),
        ("position", json!(50.0)),
        ("mode", json!("vacation")),
        ("auto_close", json!(true)),
        ("note", json!("äöü")),
        ("odd", json!(7)),
        ("target", json!(5)),
        ("target", json!(21.5)),
    ] {
        assert_eq!(door().check_attribute(name, &value), Ok(()), "{name} {value}");
    }
    for (name, value, reason) in [
        ("position", json!(101), "is above 100"),
        ("position", json!(-1), "is below 0"),
        ("position", json!(0.5), "is not an integer"),
        ("position", json!("5"), "is not an integer"),
        ("position", json!(u64::MAX), "is not an integer"),
        ("mode", json!("party"), "is not one of: normal, vacation"),
        ("mode", json!(null), "is not a string"),
        ("auto_close", json!(1), "is not a boolean"),
        ("note", json!("four"), "is longer than 3 characters"),
        ("odd", json!(8), "is not a multiple of the step 2"),
        ("target", json!(21.3), "is not a multiple of the step 0.5"),
        ("target", json!(30.5), "is above 30"),
        ("target", json!([1]), "is not a number"),
        ("colour", json!(1), "the model garage-door has no such attribute"),
    ] {
        assert_eq!(door().check_attribute(name, &value), Err(Violation::at(name, reason)), "{name} {value}");
    }
}

#[test]
fn arguments_are_held_against_their_command() {
    assert_eq!(door().check_args("open", &json!(null)), Ok(()));
    assert_eq!(door().check_args("open", &json!({"to": 40})), Ok(()));
    assert_eq!(door().check_args("open", &json!({"to": 0})), Err(Violation::at("args.to", "is below 1")));
    assert_eq!(door().check_args("open", &json!({"at": 1})), Err(Violation::at("args.at", "the command open has no such argument")));
    assert_eq!(door().check_args("blink", &json!({})), Err(Violation::at("args.times", "is missing")));
    assert_eq!(door().check_args("open", &json!([])), Err(Violation::at("args", "not an object")));
    assert_eq!(door().check_args("fly", &json!({})), Err(Violation::at("", "the model garage-door has no command \"fly\"")));
}

#[test]
fn what_is_unknown_is_taken_for_critical_and_not_writable() {
    let door = door();
    assert!(door.is_critical_command("open") && !door.is_critical_command("blink") && door.is_critical_command("fly"));
    assert!(door.is_critical_attribute("odd") && !door.is_critical_attribute("target") && door.is_critical_attribute("fly"));
    assert!(door.is_writable("target") && !door.is_writable("position") && !door.is_writable("fly"));
}

#[test]
fn a_wrong_model_is_refused_with_the_path() {
    let cases = [
        (r#""kind": "garage-door","#, "", "kind: is missing"),
        (r#""version": 1"#, r#""version": 0"#, "version: is not between 1 and 4294967295"),
        (r#""version": 1"#, r#""version": 1, "colour": 2"#, "colour: is not known here"),
        (r#""min": 0, "max": 100"#, r#""min": 101, "max": 100"#, "attributes.position.max: is below min"),
        (r#""access": "read""#, r#""access": "rw""#, "attributes.position.access: is not read or write"),
        (r#""type": "boolean", "#, "", "attributes.auto_close.type: is missing"),
        (r#""type": "boolean""#, r#""type": "boolean", "min": 0"#, "attributes.auto_close.min: is not known here"),
        (r#""type": "boolean""#, r#""type": "bool""#, "attributes.auto_close.type: is not boolean, integer, number or string"),
        (r#"["normal", "vacation"]"#, r#"["normal", "normal"]"#, "attributes.mode.values.1: \"normal\" stands here twice"),
        (r#"["normal", "vacation"]"#, "[]", "attributes.mode.values: does not hold 1 to 64 strings"),
        (r#""step": 0.5"#, r#""step": 0"#, "attributes.target.step: is not above 0"),
        (r#""max_length": 3"#, r#""max_length": 5000"#, "attributes.note.max_length: is not between 1 and 4096"),
        (r#""optional": true"#, r#""optional": 1"#, "commands.open.args.to.optional: is not true or false"),
        (r#""odd": "#, r#""Odd": "#, "attributes.Odd: the name may hold a-z 0-9 _ only, and has 'O' at position 1"),
        (r#""model": "garage-door""#, r#""model": "Garage""#, "model: the model name may hold a-z 0-9 - only, and has 'G' at position 1"),
    ];
    for (from, to, expected) in cases {
        let text = DOOR.replacen(from, to, 1);
        assert_ne!(text, DOOR, "{from}");
        assert_eq!(Model::parse(&text).unwrap_err().to_string(), expected);
    }
    assert!(Model::parse("{").unwrap_err().to_string().starts_with("not JSON"));
}

#[test]
fn a_model_statement_holds_for_its_key_alone() {
    let key = SigningKey::from_bytes(&[1; 32]);
    let brand = BrandId::parse("acme").unwrap();
    let statement = sign_model(&key, &brand, &door(), 1);
    assert_eq!(verify_model(&key.verifying_key().to_bytes(), &statement), Ok((brand, door())));
    let other = SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes();
    assert_eq!(verify_model(&other, &statement), Err(StatementError::Signature("model statement")));
}

proptest! {
    #[test]
    fn every_step_within_the_bounds_is_taken(n in 0u32..=50) {
        let value = json!(5.0 + f64::from(n) * 0.5);
        prop_assert_eq!(door().check_attribute("target", &value), Ok(()));
    }
}
