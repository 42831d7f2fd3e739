//! An independent fuzzer (schemathesis) reads the hub's own OpenAPI document and tries every call, as nobody and as each
//! role: no fault of the hub, no status, header or body that the document does not declare, and no call that needs a
//! session answers without one.

use crate::house::House;
use crate::matrix::python;
use hearthkey::domain::account::Role;
use std::fmt::Write;
use std::process::Command;

/// What each call is tried with, at most. A run of an hour is `HEARTHKEY_FUZZ_EXAMPLES=500`.
const EXAMPLES: &str = "8";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,ignored_auth,unsupported_method,allow_header_conformance";
/// A stream does not end, and who ends their own session or account has nothing left to try.
const LEFT_OUT: &[(&str, &str)] =
    &[("GET", "/api/v1/events"), ("DELETE", "/api/v1/sessions/current"), ("DELETE", "/api/v1/me"), ("PUT", "/api/v1/me/password")];

#[tokio::test(flavor = "multi_thread")]
async fn a_fuzzer_that_reads_the_description_finds_nothing_undeclared() {
    let house = House::with(|c| c.web.attempts_per_minute = std::num::NonZeroU32::MAX).await;
    let lamp = house.device("lamp").await;
    house.claim(&lamp).await;
    let mut connected = house.connect_device(&lamp).await;
    connected.ping().await.unwrap();
    let mut roles = vec![("nobody", String::new())];
    for (name, role) in [("gus", Role::Guest), ("mona", Role::Member), ("otto", Role::Owner)] {
        roles.push((name, house.person(name, role).await.1));
        let share = serde_json::json!({"username": name, "privilege": "manage"});
        assert_eq!(house.http("POST", &format!("/devices/{}/bindings", lamp.id), &house.owner_token, Some(share)).await.0, 200);
    }
    let app = serde_json::json!({"name": "app", "devices": [{"id": lamp.id, "privilege": "manage"}]});
    let (status, made) = house.http("POST", "/me/tokens", &house.owner_token, Some(app)).await;
    assert_eq!(status, 201);
    roles.push(("app", made["token"].as_str().unwrap().to_owned()));
    let program = python("openapi").with_file_name("schemathesis");
    let (ca, url) = (house.ca_file(), format!("https://localhost:{}", house.hub.addresses.https.unwrap().port()));
    let mut config = format!("[parameters]\n\"path.id\" = [\"{}\", \"nobody-1\"]\n", lamp.id);
    write!(config, "\"path.brand\" = [\"{}\"]\n\"path.model\" = [\"lamp\", \"door\"]\n", house.brand).unwrap();
    for (method, path) in LEFT_OUT {
        write!(config, "\n[[operations]]\ninclude-name = \"{method} {path}\"\nenabled = false\n").unwrap();
    }
    let settings = house.dir.path().join("schemathesis.toml");
    std::fs::write(&settings, config).unwrap();
    #[expect(clippy::disallowed_methods, reason = "how long a test runs is no configuration of the hub")]
    let examples = std::env::var("HEARTHKEY_FUZZ_EXAMPLES").unwrap_or_else(|_| EXAMPLES.into());
    for (name, token) in roles {
        let mut run = Command::new(&program);
        run.args(["--config-file".as_ref(), settings.as_os_str(), "run".as_ref(), format!("{url}/api/openapi.json").as_ref()])
            .args(["--tls-verify".as_ref(), ca.as_os_str()])
            .args(["--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", &examples, "--seed", "7"])
            .args([
                "--continue-on-failure",
                // Two make CPython 3.11 stumble over its own parser now and then (CPython issue 106905).
                "--workers",
                "1",
                "--request-timeout",
                "40",
                "--warnings",
                "off",
                "--suppress-health-check",
                "all",
            ])
            // Keep-alive connections end at a moment of the hub's choosing.
            .args(["--generation-database", "none", "--no-color", "--request-retries", "2"])
            .env("NO_PROXY", "*")
            .current_dir(house.dir.path());
        if !token.is_empty() {
            run.args(["--header", &format!("Authorization: Bearer {token}")]);
        }
        let done = tokio::task::spawn_blocking(move || run.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "as {name}:\n{said}\n{}", String::from_utf8_lossy(&done.stderr));
        // A fuzzer that was led past has tried nothing.
        let (tried, all) = said.lines().find_map(|l| l.trim().strip_prefix("Selected: ")?.split_once('/')).expect("a count of calls");
        let (tried, all): (usize, usize) = (tried.parse().unwrap(), all.parse().unwrap());
        assert!(tried > 20 && tried + LEFT_OUT.len() >= all, "as {name}: {tried} of {all} calls were tried\n{said}");
    }
    // An owner may well have shut the lamp out, or ended everybody else's account; the hub itself is there.
    assert_eq!(house.http("GET", "/hub", "", None).await.0, 200);
}
