//! Calls: who may make them, what they must look like, and what is answered when they do not.

use super::{HERE, HOST, Home, PASSWORD};
use hearthkey::domain::account::Role;
use hearthkey::web::Config;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn without_a_session_nothing_is_told() {
    let home = Home::new().await;
    for path in ["me", "devices", "users", "audit", "events", "hub/request", "brands", "devices/x/twin", "models/a/b"] {
        let answer = home.ask(&format!("GET /api/v1/{path}"), &[], b"").await;
        assert_eq!(answer.problem(), (401, "signed_out".into()), "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let answer = home.call("hkt1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "GET /api/v1/me", None).await;
    assert_eq!(answer.status, 401);
    assert_eq!(home.ask("GET /api/v1/hub", &[], b"").await.json()["setup_required"], false);
}

#[tokio::test]
async fn signing_in_gives_a_token_and_a_cookie_that_both_open_until_sign_out() {
    let home = Home::new().await;
    let body = json!({"username": "olivia", "password": PASSWORD}).to_string();
    let answer = home.ask("POST /api/v1/sessions", &[JSON], body.as_bytes()).await;
    assert_eq!(answer.status, 201);
    let opened = answer.json();
    assert_eq!(opened["user"]["role"], "owner");
    let cookie = answer.header("set-cookie").unwrap();
    for part in ["__Host-hearthkey=hkt1.", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Max-Age=2592000"] {
        assert!(cookie.contains(part), "{cookie} has no {part}");
    }
    let token = opened["token"].as_str().unwrap();
    assert_eq!(home.call(token, "GET /api/v1/me", None).await.json()["username"], "olivia");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let own = format!("https://{HOST}");
    assert_eq!(home.ask("GET /api/v1/me", &[("cookie", &cookie)], b"").await.status, 200);
    let out = home.ask("DELETE /api/v1/sessions/current", &[("cookie", &cookie), ("origin", &own)], b"").await;
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(home.call(token, "GET /api/v1/me", None).await.status, 401);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_get_the_same_answer() {
    let home = Home::new().await;
    let mut answers = BTreeSet::new();
    for name in ["olivia", "nobody"] {
        let body = json!({"username": name, "password": "wrong wrong wrong"}).to_string();
        let answer = home.ask("POST /api/v1/sessions", &[JSON], body.as_bytes()).await;
        assert_eq!(answer.problem(), (401, "sign_in_refused".into()));
        answers.insert(answer.body);
    }
    assert_eq!(answers.len(), 1);
}

#[tokio::test]
async fn a_change_with_the_cookie_needs_an_origin_of_the_hub() {
    let home = Home::new().await;
    let id = home.claimed("lamp", &home.owner).await;
    let cookie = format!("__Host-hearthkey={}", home.owner);
    let (own, line) = (format!("https://{HOST}"), format!("PATCH /api/v1/devices/{id}"));
    let change = br#"{"name": "Lamp"}"#;
    for foreign in [None, Some("https://evil.example"), Some("null"), Some("http://hearthkey.local:8443")] {
        let mut headers = vec![JSON, ("cookie", cookie.as_str())];
        headers.extend(foreign.map(|o| ("origin", o)));
        assert_eq!(home.ask(&line, &headers, change).await.problem(), (403, "not_allowed".into()), "{foreign:?}");
    }
    assert_eq!(home.ask(&line, &[JSON, ("cookie", &cookie), ("origin", &own)], change).await.json()["name"], "Lamp");
    // Signing a visitor in as somebody else is a change, too.
    let body = json!({"username": "olivia", "password": PASSWORD}).to_string();
    assert_eq!(home.ask("POST /api/v1/sessions", &[JSON, ("origin", "https://evil.example")], body.as_bytes()).await.status, 403);
}

#[tokio::test]
async fn headers_that_claim_another_address_are_not_believed() {
    let home = Home::new().await;
    let lies = [JSON, ("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1"), ("x-real-ip", "127.0.0.1")];
    let body = json!({"username": "olivia", "password": PASSWORD}).to_string();
    assert_eq!(home.ask("POST /api/v1/sessions", &lies, body.as_bytes()).await.status, 201);
    let page = home.call(&home.owner, "GET /api/v1/audit?limit=1", None).await.json();
    assert_eq!(page["entries"][0]["action"], "session.open");
    assert_eq!(page["entries"][0]["via"], format!("https {HERE}"));
    assert_eq!(home.ask("GET /metrics", &lies[1..], b"").await.status, 401);
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_refused_with_the_place() {
    let home = Home::new().await;
    let bearer = format!("Bearer {}", home.owner);
    let auth = ("authorization", bearer.as_str());
    let post = async |headers: &[(&str, &str)], body: &str| {
        let answer = home.ask("POST /api/v1/users", headers, body.as_bytes()).await;
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        (answer.problem(), detail)
    };
    let ((status, code), _) = post(&[auth, JSON], r#"{"username": "#).await;
    assert_eq!((status, code.as_str()), (400, "malformed"));
    for (body, place) in [
        (r#"{"username": "u", "password": "long enough", "role": "guest", "admin": true}"#, "admin: unknown field"),
        (r#"{"username": "u", "password": "long enough", "role": "king"}"#, "role: unknown variant"),
        (r#"{"username": 7, "password": "long enough", "role": "guest"}"#, "username: invalid type"),
        (r#"{"username": "u", "password": "long enough"}"#, "missing field `role`"),
        (r#"[]"#, "A JSON object is expected"),
    ] {
        let ((status, code), detail) = post(&[auth, JSON], body).await;
        assert_eq!((status, code.as_str()), (422, "invalid"), "{body}");
        assert!(detail.starts_with(place), "{body}: {detail}");
        assert!(!detail.contains("long enough"), "{detail}");
    }
    for other in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
        assert_eq!(post(&[auth, ("content-type", other)], "{}").await.0.0, 415, "{other}");
    }
    assert_eq!(post(&[auth, JSON, ("content-encoding", "gzip")], "{}").await.0.0, 415);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_or_not_it_says_so() {
    let home = Home::new().await;
    let big = vec![b' '; 64 * 1024 + 1];
    assert_eq!(home.ask("POST /api/v1/sessions", &[JSON], &big).await.problem(), (413, "too_large".into()));
    let mut chunked =
        format!("POST /api/v1/sessions HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Type: application/json\r\n").into_bytes();
    chunked.extend(format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", big.len()).bytes());
    chunked.extend(&big);
    chunked.extend(b"\r\n0\r\n\r\n");
    assert_eq!(home.send_from(HERE, &chunked).await.problem(), (413, "too_large".into()));
}

#[tokio::test]
async fn what_belongs_to_others_is_not_there() {
    let home = Home::new().await;
    let (mia, max) = (home.person("mia", Role::Member).await, home.person("max", Role::Member).await);
    let id = home.claimed("lamp", &mia).await;
    assert_eq!(home.call(&mia, &format!("GET /api/v1/devices/{id}"), None).await.json()["privilege"], "administer");
    assert_eq!(home.call(&max, "GET /api/v1/devices", None).await.json()["devices"], json!([]));
    for (line, body) in [
        (format!("GET /api/v1/devices/{id}"), None),
        (format!("PATCH /api/v1/devices/{id}"), Some(json!({"name": "x"}))),
        (format!("DELETE /api/v1/devices/{id}"), None),
        (format!("POST /api/v1/devices/{id}/certificate"), Some(json!({"csr": "good"}))),
        (format!("GET /api/v1/devices/{id}/twin"), None),
        (format!("PATCH /api/v1/devices/{id}/twin/desired"), Some(json!({"on": true}))),
        (format!("POST /api/v1/devices/{id}/commands"), Some(json!({"name": "identify"}))),
        (format!("GET /api/v1/devices/{id}/commands/1"), None),
    ] {
        let real = home.call(&max, &line, body.clone()).await;
        let none = home.call(&max, &line.replace(id.as_str(), "no-such-device"), body).await;
        assert_eq!(real.problem(), (404, "not_found".into()), "{line}");
        assert_eq!(real.body, none.body, "{line}: the answer tells that it is there");
    }
    // An owner knows that it is there, and no more.
    assert_eq!(home.call(&home.owner, &format!("GET /api/v1/devices/{id}"), None).await.json()["privilege"], Value::Null);
    assert_eq!(home.call(&home.owner, &format!("GET /api/v1/devices/{id}/twin"), None).await.problem(), (403, "not_allowed".into()));
}

#[tokio::test]
async fn a_change_meant_for_another_version_is_refused() {
    let home = Home::new().await;
    let id = home.claimed("lamp", &home.owner).await;
    let bearer = format!("Bearer {}", home.owner);
    for (path, line, first, second) in [
        (format!("devices/{id}"), format!("PATCH /api/v1/devices/{id}"), r#"{"room": "Attic"}"#, r#"{"room": "Cellar"}"#),
        (format!("devices/{id}/twin"), format!("PATCH /api/v1/devices/{id}/twin/desired"), r#"{"on": true}"#, r#"{"on": false}"#),
    ] {
        let shown = home.call(&home.owner, &format!("GET /api/v1/{path}"), None).await;
        let tag = shown.header("etag").unwrap().to_owned();
        let matching =
            async |tag: &str, body: &str| home.ask(&line, &[JSON, ("authorization", &bearer), ("if-match", tag)], body.as_bytes()).await;
        let changed = matching(&tag, first).await;
        assert_eq!(changed.status, 200, "{:?}", changed.json());
        assert_ne!(changed.header("etag"), Some(tag.as_str()));
        for stale in [tag.as_str(), "\"foreign\"", "W/\"1\""] {
            assert_eq!(matching(stale, second).await.problem(), (412, "version_conflict".into()), "{line} {stale}");
        }
        assert_eq!(matching("*", second).await.status, 200);
    }
}

#[tokio::test]
async fn what_is_not_served_is_a_problem_with_the_right_status() {
    let home = Home::new().await;
    for path in
        ["/api", "/api/v1/nothing", "/api/v2/me", "/nothing", "/.source-hash", "/index.html.gz", "/../Cargo.toml", "/api/v1/devices/a%2Fb"]
    {
        let answer = home.call(&home.owner, &format!("GET {path}"), None).await;
        assert_eq!(answer.problem(), (404, "not_found".into()), "{path}");
    }
    let answer = home.ask("PUT /api/v1/me", &[], b"").await;
    assert_eq!(answer.problem(), (405, "method_not_allowed".into()));
    assert_eq!(answer.header("allow"), Some("GET, PATCH, DELETE, HEAD"));
    assert_eq!(home.ask("POST /", &[], b"").await.problem().0, 405);
    for foreign in ["evil.example", "evil.example:8443", "hearthkey.local.evil.example"] {
        assert_eq!(home.ask("GET /api/v1/hub", &[("host", foreign)], b"").await.problem(), (421, "wrong_host".into()), "{foreign}");
    }
    assert_eq!(home.send_from(HERE, b"GET / HTTP/1.0\r\n\r\n").await.status, 400);
    assert_eq!(home.ask("GET /api/v1/hub", &[("host", "192.168.1.9:8443")], b"").await.status, 200);
    let head = home.ask("HEAD /api/v1/hub", &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let home = Home::new().await;
    for line in ["GET /", "GET /api/v1/hub", "GET /api/v1/me", "GET /nothing", "GET /api/openapi.json", "GET /mqtt"] {
        let answer = home.ask(line, &[], b"").await;
        let csp = answer.header("content-security-policy").unwrap_or_else(|| panic!("{line}"));
        assert!(csp.starts_with("default-src 'none'") && csp.contains("frame-ancestors 'none'") && !csp.contains("unsafe"), "{csp}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{line}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{line}");
        assert_eq!(answer.header("permissions-policy"), Some("camera=(self)"), "{line}");
        let caching = if line == "GET /" { "no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), Some(caching), "{line}");
    }
}

#[tokio::test]
async fn the_page_comes_packed_to_those_who_take_it_and_not_again_to_those_who_have_it() {
    let home = Home::new().await;
    let plain = home.ask("GET /", &[], b"").await;
    assert_eq!(plain.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(String::from_utf8_lossy(&plain.body).contains("<!doctype html>"));
    let packed = home.ask("GET /", &[("accept-encoding", "gzip, br")], b"").await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_eq!(packed.body[..2], [0x1f, 0x8b]);
    assert_ne!(packed.header("etag"), plain.header("etag"));
    let tag = plain.header("etag").unwrap();
    let again = home.ask("GET /", &[("if-none-match", tag)], b"").await;
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[tokio::test]
async fn metrics_are_for_this_box_and_for_owners() {
    let home = Home::new().await;
    let member = home.person("mia", Role::Member).await;
    let request = super::request("GET /metrics", &[], b"");
    assert_eq!(home.send_from("127.0.0.1", &request).await.body, b"hearthkey_up 1\n");
    assert_eq!(home.send_from("::1", &request).await.status, 200);
    assert_eq!(home.send_from(HERE, &request).await.problem().0, 401);
    assert_eq!(home.call(&member, "GET /metrics", None).await.problem().0, 403);
    assert_eq!(home.call(&home.owner, "GET /metrics", None).await.status, 200);
}

#[tokio::test]
async fn a_command_is_refused_while_the_device_is_away_and_waits_for_its_result() {
    let home = Home::new().await;
    let id = home.claimed("thermostat", &home.owner).await;
    let line = format!("POST /api/v1/devices/{id}/commands");
    let boost = json!({"name": "boost", "args": {"minutes": 10}});
    assert_eq!(home.call(&home.owner, &line, Some(boost.clone())).await.problem(), (409, "offline".into()));
    home.service.device_connected(&id).await;
    let sent = home.call(&home.owner, &line, Some(boost)).await;
    assert_eq!((sent.status, sent.json()["status"].as_str().unwrap()), (202, "sent"));
    let command = sent.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(sent.header("location"), Some(format!("/api/v1/devices/{id}/commands/{command}").as_str()));
    let report = json!({"id": command, "status": "done", "result": {"until": 5}}).to_string();
    home.service.command_result(&id, "boost", report.as_bytes()).await.unwrap();
    let shown = home.call(&home.owner, &format!("GET /api/v1/devices/{id}/commands/{command}"), None).await.json();
    assert_eq!((shown["status"].as_str(), &shown["result"]["until"]), (Some("done"), &json!(5)));
    let wrong = home.call(&home.owner, &line, Some(json!({"name": "boost", "args": {"minutes": 1000}}))).await;
    assert_eq!(wrong.problem(), (422, "invalid".into()));
}

#[tokio::test]
async fn answers_have_the_members_that_the_description_names() {
    let home = Home::new().await;
    let id = home.claimed("thermostat", &home.owner).await;
    home.service.device_connected(&id).await;
    let document = home.ask("GET /api/openapi.json", &[], b"").await.json();
    let mut checked = 0;
    let mut check = |name: &str, body: &Value| {
        let described: BTreeSet<&String> = document["components"]["schemas"][name]["properties"].as_object().unwrap().keys().collect();
        let given: BTreeSet<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(given, described, "{name}");
        checked += 1;
    };
    let get = async |path: &str| home.call(&home.owner, &format!("GET /api/v1/{path}"), None).await.json();
    check("Hub", &get("hub").await);
    check("Me", &get("me").await);
    let users = get("users").await;
    check("Users", &users);
    check("User", &users["users"][0]);
    check("Devices", &get("devices").await);
    check("Evidence", &get(&format!("devices/{id}/evidence")).await);
    check("Device", &get(&format!("devices/{id}")).await);
    check("DeviceFirmware", &get(&format!("devices/{id}/firmware")).await);
    check("Firmware", &get("firmware").await);
    check("Twin", &get(&format!("devices/{id}/twin")).await);
    check("Model", &get("models/acme/thermostat").await);
    let brands = get("brands").await;
    check("Brands", &brands);
    check("Brand", &brands["brands"][0]);
    let page = get("audit").await;
    check("AuditPage", &page);
    check("AuditEntry", &page["entries"][0]);
    check("AuditCheck", &get("audit/verify").await);
    let command = json!({"name": "boost", "args": {"minutes": 10}});
    check("Command", &home.call(&home.owner, &format!("POST /api/v1/devices/{id}/commands"), Some(command)).await.json());
    assert_eq!(checked, 17);
}

#[tokio::test]
async fn an_answer_before_the_body_has_been_read_leaves_the_connection_whole() {
    let home = Home::new().await;
    let mut stream = home.connect_from(HERE);
    // Refused at its head: nobody is signed in, nobody knows the path, and this call takes no body.
    for line in ["POST /api/v1/users", "POST /api/v1/nothing", "DELETE /api/v1/sessions/current"] {
        let body = vec![b' '; 60_000];
        let head = format!("{line} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        // The body comes late, piece by piece.
        for part in body.chunks(10_000) {
            stream.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
    stream.write_all(format!("GET /api/v1/hub HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(super::PATIENCE, stream.read_to_end(&mut bytes)).await.expect("answers in time").unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["401", "404", "401", "200"], "{text}");
}

#[tokio::test]
async fn the_audit_is_read_page_by_page() {
    let home = Home::new().await;
    let (mut seen, mut before) = (Vec::new(), String::new());
    loop {
        let page = home.call(&home.owner, &format!("GET /api/v1/audit?limit=1{before}"), None).await.json();
        seen.extend(page["entries"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()));
        let Some(next) = page["next"].as_u64() else { break };
        before = format!("&before={next}");
    }
    assert!(seen.len() >= 2, "{seen:?}");
    assert_eq!(seen, (1..=seen.len() as u64).rev().collect::<Vec<_>>());
    assert_eq!(home.call(&home.owner, "GET /api/v1/audit?limit=many", None).await.problem(), (422, "invalid".into()));
}

#[tokio::test]
async fn a_connection_that_stays_silent_is_closed() {
    let home = Home::with(Config { header_s: 1, ..Config::default() }).await;
    for beginning in [&b""[..], b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nHost: hearthkey.local\r\n"] {
        let mut stream = home.connect_from(HERE);
        stream.write_all(beginning).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(super::PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{:?} kept the connection", String::from_utf8_lossy(beginning));
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up() {
    let home = Home::with(Config { stall_s: 1, ..Config::default() }).await;
    let mut stream = home.connect_from(HERE);
    // Answers to these are far more than the pipe holds, and nobody reads them.
    let one = format!("GET /api/openapi.json HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let writing = async { while stream.write_all(one.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(super::PATIENCE, writing).await.expect("the connection is closed");
}

#[tokio::test]
async fn who_hangs_up_drops_the_answer_and_not_the_effects() {
    let home = Home::new().await;
    let id = home.claimed("lamp", &home.owner).await;
    let (before, mut changes) = (home.service.epoch(), home.service.changes());
    let bearer = format!("Bearer {}", home.owner);
    let mut stream = home.connect_from(HERE);
    let request = super::request(&format!("POST /api/v1/devices/{id}/suspend"), &[("authorization", &bearer)], b"");
    stream.write_all(&request).await.unwrap();
    // The request is being served, and its commit still under way, when the other side is gone.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    // The last effect of a suspension is that live views are told of it.
    tokio::time::timeout(super::PATIENCE, changes.recv()).await.expect("live views are told").unwrap();
    assert!(home.service.epoch() > before, "the policy changes for live connections");
}

#[tokio::test]
async fn the_same_is_served_over_http_2() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let home = Home::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (router, config, shutdown) = (home.router.clone(), home.config.clone(), home.shutdown.clone());
    let serving = tokio::spawn(async move {
        let (stream, addr) = listener.accept().await.unwrap();
        let peer = hearthkey::net::Peer { addr, spki: None, client_certificate: None };
        hearthkey::web::serve_connection(stream, &peer, router, &config, shutdown).await;
    });
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(format!("http://{address}/api/v1/me")).bearer_auth(&home.owner).send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 200));
    let big = client.post(format!("http://{address}/api/v1/sessions")).header("content-type", "application/json").body(vec![b' '; 70_000]);
    assert_eq!(big.send().await.unwrap().status().as_u16(), 413);
    home.shutdown.cancel();
    tokio::time::timeout(super::PATIENCE, serving).await.expect("the connection ends with the hub").unwrap();
}
