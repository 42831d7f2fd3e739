//! What a request may look like: form, depth, nulls, tokens.

use serde_json::{Value, json};

use super::{NOW, parse, twin};
use crate::domain::twin::*;

fn refused(body: Value) -> Rejection {
    UpdateRequest::parse(body.to_string().as_bytes(), &Limits::default()).expect_err("a bad request")
}

#[test]
fn a_null_in_an_array_is_refused_at_any_depth_with_its_path() {
    for list in [json!([1, null]), json!([[null]]), json!([{"x": null}])] {
        let rejection = refused(json!({"state": {"desired": {"a": {"list": list}}}, "clientToken": "t"}));
        assert_eq!((rejection.code, rejection.client_token.as_deref()), (400, Some("t")));
        assert!(rejection.path.is_some_and(|path| path.starts_with("desired.a.list")), "{}", rejection.message);
    }
}

#[test]
fn six_levels_of_names_are_taken_and_seven_refused() {
    let six = json!({"one": {"two": {"three": {"four": {"five": {"six": {}}}}}}});
    assert_eq!(twin(json!({"desired": six})).version(), 1);
    let six = json!({"one": {"two": {"three": {"four": {"five": {"six": [1, 2]}}}}}});
    assert_eq!(twin(json!({"desired": six})).version(), 1);
    for seventh in [json!({"seven": 1}), json!([{"seven": 1}]), json!([[7]]), json!({"seven": null})] {
        let rejection = refused(json!({"state": {"reported": {"one": {"two": {"three": {"four": {"five": {"six": seventh}}}}}}}}));
        assert_eq!((rejection.code, rejection.message.as_str()), (400, "JSON contains too many levels of nesting; maximum is 6"));
    }
    let abyss = format!(r#"{{"state":{{"desired":{{"a":{}{}}}}}}}"#, "[".repeat(4000), "]".repeat(4000));
    assert_eq!(UpdateRequest::parse(abyss.as_bytes(), &Limits::default()).unwrap_err().code, 400);
}

#[test]
fn a_malformed_request_is_refused_with_the_words_of_the_protocol() {
    for (body, message) in [
        (json!([]), "Invalid JSON"),
        (json!({}), "Missing required node: state"),
        (json!({"state": null}), "State node must be an object"),
        (json!({"state": {"desired": 1}}), "Desired node must be an object"),
        (json!({"state": {"reported": []}}), "Reported node must be an object"),
        (json!({"state": {"delta": {}}}), "State contains an invalid node: delta"),
        (json!({"state": {}, "version": "1"}), "Invalid version"),
        (json!({"state": {}, "version": -1}), "Invalid version"),
        (json!({"state": {}, "version": 1.5}), "Invalid version"),
        (json!({"state": {}, "clientToken": 1}), "Invalid clientToken"),
        (json!({"state": {}, "clientToken": "x".repeat(65)}), "Invalid clientToken"),
    ] {
        let rejection = refused(body.clone());
        assert_eq!((rejection.code, rejection.message.as_str()), (400, message), "{body}");
    }
    assert_eq!(UpdateRequest::parse(b"", &Limits::default()).unwrap_err().message, "Invalid JSON");
    assert_eq!(UpdateRequest::parse(b"\"\xff\"", &Limits::default()).unwrap_err().code, 415);
    assert_eq!(UpdateRequest::parse(&[b' '; 20_000], &Limits::default()).unwrap_err().code, 413);
}

#[test]
fn unknown_members_beside_state_are_ignored_and_a_token_of_64_bytes_is_taken() {
    let token = "x".repeat(64);
    let request = parse(json!({"state": {"desired": {"a": 1}}, "extra": [null], "clientToken": token, "version": null}));
    assert_eq!(request.client_token(), Some(token.as_str()));
    assert_eq!(request.version(), None);
}

#[test]
fn the_token_of_a_get_is_found_in_its_otherwise_meaningless_payload() {
    let limits = Limits::default();
    assert_eq!(client_token(br#"{"clientToken":"t"}"#, &limits).as_deref(), Some("t"));
    for payload in [&b""[..], b"{", b"[]", br#"{"clientToken":1}"#, b"\xff"] {
        assert_eq!(client_token(payload, &limits), None);
    }
    assert_eq!(client_token(json!({"clientToken": "x".repeat(65)}).to_string().as_bytes(), &limits), None);
}

#[test]
fn a_merge_patch_of_rest_is_bounded_like_a_request() {
    let limits = Limits::default();
    let patch = |value: Value| value.as_object().cloned().unwrap();
    let request = UpdateRequest::of_desired(patch(json!({"a": 1, "b": null})), Some(0), &limits).unwrap();
    assert!(request.touches(Section::Desired) && !request.touches(Section::Reported) && !request.clears(Section::Desired));
    assert_eq!(UpdateRequest::of_desired(patch(json!({"a": [null]})), None, &limits).unwrap_err().code, 400);
    let applied = Twin::absent().apply(request, Writer::Person, &NoSchema, &limits, NOW).unwrap();
    assert_eq!(applied.twin.view()["desired"], json!({"a": 1}));
    assert_eq!(applied.client_token(), None);
}
