//! The machine-readable description (OpenAPI 3.1) of every call in the table, written from the table itself.

use super::call::{Answer, Body, Call, Who, calls};
use super::reply::{Answered, Refused, Reply};
use crate::net::problem::MEDIA_TYPE;
use hyper::StatusCode;
use serde_json::{Map, Value, json};

/// `GET /api/openapi.json`.
pub(super) fn show() -> Answered {
    let text = serde_json::to_vec(&description()).map_err(|error| Refused::fault("the description cannot be written", &error))?;
    Ok(Reply::typed(StatusCode::OK, "application/json", text))
}

/// The whole description.
pub(super) fn description() -> Value {
    let mut paths = Map::new();
    for call in calls() {
        let item = paths.entry(call.path).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(call.method.as_str().to_ascii_lowercase(), operation(call));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hearthkey cloud",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A courier and a witness for hubs. Times are milliseconds since 1970 (UTC), binary values base64url without \
                            padding. Errors are RFC 9457. Every reply is signed by the cloud key (RFC 9421).",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "hub": {"type": "http", "scheme": "Signature", "description": "RFC 9421, by the hub's mirror key: docs/protocol/mirror.md."},
                "home": {"type": "http", "scheme": "bearer", "bearerFormat": "hka1.<hub>.<token>"},
                "service": {"type": "http", "scheme": "bearer", "description": "A token of a maker's service account."},
                "vendor": {"type": "http", "scheme": "bearer", "description": "A token of a maker's person."},
            },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "code"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "code": {"type": "string", "description": "For programs."},
                        "detail": {"type": "string"},
                        "next": {"type": "string", "description": "What to do."},
                    },
                },
            },
        },
    })
}

fn operation(call: &Call) -> Value {
    let mut operation = Map::new();
    operation.insert("summary".into(), call.summary.into());
    operation.insert("operationId".into(), id(call).into());
    operation.insert("tags".into(), json!([tag(call)]));
    let in_path = call.path.split('/').filter_map(|s| s.strip_prefix('{').and_then(|s| s.strip_suffix('}')));
    let mut parameters: Vec<Value> =
        in_path.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect();
    for (name, meaning) in call.query {
        parameters.push(json!({"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}));
    }
    if !parameters.is_empty() {
        operation.insert("parameters".into(), parameters.into());
    }
    let content = match call.body {
        Body::None => None,
        Body::Json(_, members) => Some(json!({"application/json": {"schema": {"type": "object", "description": members}}})),
        Body::Form(_, members) => {
            Some(json!({"application/x-www-form-urlencoded": {"schema": {"type": "object", "description": members}}}))
        }
        Body::Octets(_) => Some(json!({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}})),
        Body::Parts(media_type) => Some(json!({media_type: {"schema": {"type": "string"}}})),
    };
    if let Some(content) = content {
        operation.insert("requestBody".into(), json!({"required": true, "content": content}));
    }
    let mut responses = Map::new();
    let mut good = json!({"description": reason(call.status)});
    let content = match call.answer {
        Answer::Nothing => None,
        Answer::Json(members) => Some(json!({"application/json": {"schema": {"type": "object", "description": members}}})),
        Answer::Octets => Some(json!({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}})),
        Answer::Events => Some(json!({"text/event-stream": {"schema": {"type": "string"}}})),
    };
    if let (Some(content), Some(good)) = (content, good.as_object_mut()) {
        good.insert("content".into(), content);
    }
    responses.insert(call.status.to_string(), good);
    for status in problems(call) {
        let problem = json!({"description": reason(status), "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}});
        responses.entry(status.to_string()).or_insert(problem);
    }
    operation.insert("responses".into(), responses.into());
    if let Some(scheme) = call.who.scheme() {
        operation.insert("security".into(), json!([{scheme: []}]));
    }
    operation.into()
}

/// Every problem that a call can answer with: its own, and those of its kind.
fn problems(call: &Call) -> Vec<u16> {
    let mut all = vec![400, 429, 500, 503];
    all.extend(call.problems);
    match call.who {
        Who::Open => {}
        Who::Hub => all.extend([401, 404, 409]),
        Who::Home | Who::Service | Who::Vendor => all.extend([401, 403]),
    }
    if call.path.contains('{') {
        all.push(404);
    }
    match call.body {
        // A body where there is none to be is too large.
        Body::None => all.push(413),
        Body::Json(..) | Body::Form(..) => all.extend([408, 413, 422]),
        Body::Octets(_) | Body::Parts(_) => all.extend([408, 413]),
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn reason(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Refused")
}

fn tag(call: &Call) -> &'static str {
    match call.who {
        Who::Open => "open",
        Who::Hub => "hubs",
        Who::Home => "home",
        Who::Service => "makers",
        Who::Vendor => "vendors",
    }
}

/// `get_v1_hubs_hub_wake`, say.
fn id(call: &Call) -> String {
    let words: Vec<&str> = call.path.split(['/', '.']).map(|s| s.trim_matches(['{', '}'])).filter(|s| !s.is_empty()).collect();
    format!("{}_{}", call.method.as_str().to_ascii_lowercase(), words.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_call_is_described_and_names_who_may_call_it() {
        let document = description();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                described.insert(format!("{} {path}", method.to_uppercase()));
                let scheme = operation["security"][0].as_object().and_then(|s| s.keys().next().cloned());
                if let Some(scheme) = scheme {
                    assert!(document["components"]["securitySchemes"].get(&scheme).is_some(), "{scheme}");
                }
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.keys().any(|s| s.starts_with('2')) && responses.contains_key("429"), "{method} {path}");
            }
        }
        let named: BTreeSet<String> = calls().map(|c| format!("{} {}", c.method, c.path)).collect();
        assert_eq!(described, named);
        let ids: BTreeSet<String> = calls().map(id).collect();
        assert_eq!(ids.len(), named.len());
    }
}
