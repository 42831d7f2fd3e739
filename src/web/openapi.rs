//! The machine-readable description (OpenAPI 3.1) of every call in the table, written from the table itself.

use super::answer;
use super::schema;
use super::table::{Answer, Body, Call, Handler, Verb, calls};
use crate::net::problem::{MEDIA_TYPE, Problem};
use std::sync::OnceLock;
use utoipa::ToSchema;
use utoipa::openapi::path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, HeaderBuilder, HttpMethod, InfoBuilder, OpenApi, OpenApiBuilder, Paths, RefOr, Required,
};
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /api/openapi.json`.
pub(super) async fn show() -> Result<Response, Problem> {
    static WRITTEN: OnceLock<Option<String>> = OnceLock::new();
    let written = WRITTEN.get_or_init(|| description().to_json().ok());
    let text = written.as_ref().ok_or_else(Problem::internal)?;
    Ok(answer::typed(StatusCode::OK, "application/json", text.clone().into_bytes()))
}

/// The whole description.
pub(super) fn description() -> OpenApi {
    let mut paths = Paths::new();
    for call in calls() {
        paths.add_path_operation(call.path, vec![method(call.verb)], operation(call));
    }
    let mut components = ComponentsBuilder::new()
        .security_scheme("token", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("hkt1.…").build()))
        .security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("__Host-hearthkey"))));
    for (name, schema) in schemas() {
        components = components.schema(name, schema);
    }
    let info = InfoBuilder::new().title("Hearthkey").version(env!("CARGO_PKG_VERSION")).description(Some(
        "The home's authority on things. Times are milliseconds since 1970 (UTC). Errors are RFC 9457. With the cookie, a call that changes \
         something needs an Origin of the hub itself.",
    ));
    OpenApiBuilder::new().info(info.build()).paths(paths).components(Some(components.build())).build()
}

fn schemas() -> Vec<(String, RefOr<Schema>)> {
    let mut all = Vec::new();
    macro_rules! declare {
        ($($name:ident),+) => {$(
            all.push((schema::$name::name().into_owned(), <schema::$name as utoipa::PartialSchema>::schema()));
            <schema::$name as ToSchema>::schemas(&mut all);
        )+};
    }
    declare!(
        Setup,
        SignIn,
        NewUser,
        Role,
        DeviceEdit,
        NewBinding,
        Privilege,
        Binding,
        Bindings,
        PasswordChange,
        Question,
        Action,
        Explanation,
        Claim,
        Transfer,
        Replacement,
        NewCommand,
        CertificateRequest,
        TrustBrand,
        Hub,
        User,
        Opened,
        Users,
        Device,
        Devices,
        Twin,
        Desired,
        Command,
        Certificate,
        Model,
        AuditEntry,
        AuditPage,
        AuditCheck,
        Brand,
        Brands,
        Import,
        Introduced,
        NewService,
        ServiceEdit,
        ServiceAccount,
        ServiceWithSecret,
        Services,
        ServiceSecret,
        NewSupport,
        Support,
        SupportSessions,
        Roles,
        UserEdit,
        NewAppToken,
        MadeAppToken,
        Apps,
        AnyApps,
        NewClient,
        Client,
        Clients,
        ConsentQuestion,
        ConsentAnswer,
        Redirect,
        TokenRequest,
        Tokens,
        RevocationRequest,
        OauthError,
        Evidence,
        EvidenceEntry,
        Lift,
        NewInvitation,
        MadeInvitation,
        Invitations,
        InvitationCode,
        InvitationLook,
        Registration,
        Settings,
        SettingsEdit,
        Clock,
        ClockWord,
        PasswordCheck,
        Strength,
        PasswordAgain,
        PasswordReset,
        RecoveryCode,
        ResetCode,
        SecondFactor,
        SecondFactorCode,
        RecoveryCodes,
        SessionEntry,
        Sessions,
        Display,
        Export,
        OauthMetadata,
        Radio,
        Scan,
        Nearby,
        NewPairing,
        Pairing,
        Pairings,
        PairingConfirmation,
        NewDevice,
        MadeDevice,
        BackupEdit,
        BackupEnd,
        BackupFile,
        BackupRetention,
        BackupRun,
        RehearsalWish,
        BackupSchedule,
        BackupTarget,
        BackupWish,
        Backups,
        HomeRecoveryCode,
        Moves,
        OrdersTaken,
        AwayKeys,
        Cloud,
        CloudAddress,
        CloudBulletin,
        CloudEdit,
        CloudView,
        MadeAwayKey,
        NewAwayKey,
        NewCloud,
        TakenBulletin,
        HubUpdate,
        SystemUpdate,
        SystemBundle,
        SystemInstall,
        Recovery,
        Firmware,
        ImportedRelease,
        FirmwarePolicy,
        ChosenFirmwarePolicy,
        FirmwareApproval,
        DeviceFirmware,
        Me,
        Problem
    );
    all
}

fn method(verb: Verb) -> HttpMethod {
    match verb {
        Verb::Get => HttpMethod::Get,
        Verb::Post => HttpMethod::Post,
        Verb::Put => HttpMethod::Put,
        Verb::Patch => HttpMethod::Patch,
        Verb::Delete => HttpMethod::Delete,
    }
}

fn operation(call: &Call) -> Operation {
    let mut operation = OperationBuilder::new().summary(Some(call.summary)).tag(tag(call.path)).operation_id(Some(id(call)));
    for name in call.path.split('/').filter_map(|s| s.strip_prefix('{').and_then(|s| s.strip_suffix('}'))) {
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
        operation = operation.parameter(parameter.schema(Some(text())));
    }
    for (name, meaning) in call.query {
        let parameter = ParameterBuilder::new().name(*name).parameter_in(ParameterIn::Query).required(Required::False);
        operation = operation
            .parameter(parameter.description(Some(*meaning)).schema(Some(ObjectBuilder::new().schema_type(Type::Integer).build())));
    }
    for (name, meaning) in call.texts {
        let parameter = ParameterBuilder::new().name(*name).parameter_in(ParameterIn::Query).required(Required::False);
        operation = operation.parameter(parameter.description(Some(*meaning)).schema(Some(text())));
    }
    if call.if_match {
        let parameter = ParameterBuilder::new().name("If-Match").parameter_in(ParameterIn::Header).required(Required::False);
        operation = operation.parameter(parameter.description(Some("The ETag that the change is meant for.")).schema(Some(text())));
    }
    let body =
        |media_type: &str, content: Content| RequestBodyBuilder::new().required(Some(Required::True)).content(media_type, content).build();
    operation = match call.body {
        Body::None => operation,
        Body::Json(name) => operation.request_body(Some(body("application/json", of(name)))),
        Body::Form(name) => operation.request_body(Some(body("application/x-www-form-urlencoded", of(name)))),
        Body::File => operation.request_body(Some(body("application/octet-stream", Content::new(Some(text()))))),
    };
    for (status, answer) in call.answers {
        operation = operation.response(status.to_string(), answered(*status, *answer));
    }
    for status in problems(call) {
        let mut response = ResponseBuilder::new().description(reason(status)).content(MEDIA_TYPE, of("Problem"));
        // OAuth has its own form for what it refuses.
        if let Some((_, Answer::Json(name))) = call.answers.iter().find(|(s, _)| *s == status) {
            response = response.content("application/json", of(name));
        }
        let wait = HeaderBuilder::new().description(Some("Seconds to wait.")).schema(Some(text())).build();
        let response = if matches!(status, 429 | 503) { response.header("Retry-After", wait) } else { response };
        operation = operation.response(status.to_string(), response.build());
    }
    if matches!(call.handler, Handler::SignedIn(_)) {
        for scheme in ["token", "cookie"] {
            operation = operation.security(SecurityRequirement::new(scheme, Vec::<String>::new()));
        }
    }
    operation.build()
}

/// Every problem that a call can answer with: its own, and those of its kind.
pub(super) fn problems(call: &Call) -> Vec<u16> {
    // The host's name, the header section, the hub's own faults.
    let mut all = vec![400, 421, 500, 503];
    all.extend(call.problems);
    if matches!(call.handler, Handler::SignedIn(_)) {
        all.push(401);
        // To whom a call is refused depends on who they are: an app is no person.
        all.push(403);
    }
    if call.path.contains('{') {
        all.push(404);
    }
    match call.body {
        Body::None => {}
        Body::Json(_) | Body::Form(_) | Body::File => all.extend([408, 413, 415, 422]),
    }
    if call.if_match {
        all.push(412);
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn answered(status: u16, answer: Answer) -> utoipa::openapi::Response {
    let response = ResponseBuilder::new().description(reason(status));
    let tag = HeaderBuilder::new().description(Some("The version.")).schema(Some(text())).build();
    match answer {
        Answer::Nothing => response,
        Answer::Json(name) => response.content("application/json", of(name)),
        Answer::Tagged(name) => response.content("application/json", of(name)).header("ETag", tag),
        Answer::Free => response.content("application/json", Content::new(Some(ObjectBuilder::new().build()))),
        Answer::Text => response.content("text/plain", Content::new(Some(text()))),
        Answer::File => response.content("application/octet-stream", Content::new(Some(text()))),
        Answer::Lines => response.content("application/x-ndjson", Content::new(Some(text()))),
        Answer::Events => response.content("text/event-stream", Content::new(Some(text()))),
    }
    .build()
}

fn of(name: &str) -> Content {
    Content::new(Some(Ref::from_schema_name(name)))
}

fn text() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}

fn reason(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Refused")
}

fn tag(path: &'static str) -> &'static str {
    path.strip_prefix("/api/v1/").and_then(|p| p.split('/').next()).unwrap_or("hub")
}

/// `get_devices_id_twin`, say.
fn id(call: &Call) -> String {
    let path = call.path.strip_prefix("/api/v1").unwrap_or(call.path);
    let words: Vec<&str> = path.split(['/', '.']).map(|s| s.trim_matches(['{', '}'])).filter(|s| !s.is_empty()).collect();
    format!("{}_{}", call.verb.as_str().to_ascii_lowercase(), words.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn written() -> Value {
        serde_json::from_str(&description().to_json().unwrap()).unwrap()
    }

    #[test]
    fn every_call_is_described_and_nothing_else_is() {
        let document = written();
        assert_eq!(document["openapi"], "3.1.0");
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for verb in item.as_object().unwrap().keys() {
                described.insert(format!("{} {path}", verb.to_uppercase()));
            }
        }
        let named: BTreeSet<String> = calls().map(|c| format!("{} {}", c.verb.as_str(), c.path)).collect();
        assert_eq!(described, named);
        assert_eq!(named.len(), calls().count(), "a call is in the table twice");
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        fn refs(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    members.values().for_each(|v| refs(v, found));
                }
                Value::Array(all) => all.iter().for_each(|v| refs(v, found)),
                _ => {}
            }
        }
        let document = written();
        let mut named = BTreeSet::new();
        refs(&document, &mut named);
        assert!(named.len() > 10);
        for name in named {
            let pointer = name.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{name}");
        }
    }

    #[test]
    fn every_call_has_answers_and_its_problems_are_problem_json() {
        for (path, item) in written()["paths"].as_object().unwrap() {
            for (verb, operation) in item.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.keys().any(|s| s.starts_with(['2', '3'])), "{verb} {path}");
                for (status, response) in responses {
                    let problem = response["content"].get(MEDIA_TYPE).is_some();
                    assert!((status.as_str() >= "400") == problem || path == "/oauth/token", "{verb} {path} {status}");
                }
            }
        }
    }
}
