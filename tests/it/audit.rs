//! The audit as evidence: what is exported can be checked without the hub, every change is found, and no secret is ever
//! in it or in the log.

use crate::house::{HERE, House};
use hearthkey::domain::account::Role;
use hearthkey::hub::{export_audit, verify_audit_file};
use hearthkey::sim::mqtt::ConnectOptions;
use serde_json::{Value, json};
use std::io::{Cursor, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};

async fn exported(house: &House) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_der(&house.hub.identity().ca_der).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().unwrap();
    let url = format!("https://localhost:{}/api/v1/audit/export", house.hub.addresses.https.unwrap().port());
    client.get(url).bearer_auth(&house.owner_token).send().await.unwrap().text().await.unwrap()
}

fn check(text: &str) -> Result<u64, String> {
    verify_audit_file(Cursor::new(text)).map(|found| found.verdict.entries).map_err(|e| e.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_checked_without_the_hub_and_every_change_in_it_is_found() {
    let house = House::new().await;
    let device = house.device("lamp").await;
    house.claim(&device).await;
    house.person("mia", Role::Member).await;
    let text = exported(&house).await;
    let lines: Vec<&str> = text.lines().collect();
    let entries = check(&text).unwrap();
    assert_eq!(entries as usize, lines.len() - 2);
    assert!(text.contains(&house.hub.identity().id.to_string()));

    let with = |n: usize, change: &dyn Fn(&mut Value)| {
        let mut line: Value = serde_json::from_str(lines[n]).unwrap();
        change(&mut line);
        let mut all: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        all[n] = line.to_string();
        check(&all.join("\n")).unwrap_err()
    };
    assert!(with(3, &|l| l["via"] = "https 10.9.9.9".into()).contains("line 4: the audit is broken at entry 3: what it says"));
    assert!(with(3, &|l| l["object"] = "another".into()).contains("broken at entry 3"));
    assert!(with(3, &|l| l["salt"] = Value::Null).contains("broken at entry 3"));
    let without = |n: usize| check(&lines.iter().enumerate().filter(|(i, _)| *i != n).map(|(_, l)| *l).collect::<Vec<_>>().join("\n"));
    assert!(without(3).unwrap_err().contains("entry 3: it is missing"));
    assert!(without(lines.len() - 2).unwrap_err().contains("the end is not the one"));
    assert!(without(lines.len() - 1).unwrap_err().contains("no last line"));
    assert!(without(0).unwrap_err().contains("line 1 is not"));
    // The word of another hub about the end.
    let other = exported(&House::new().await).await;
    let mut spliced = lines[..lines.len() - 1].to_vec();
    spliced.push(other.lines().last().unwrap());
    assert!(check(&spliced.join("\n")).unwrap_err().contains("is not this hub's word"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_of_a_stopped_hub_is_exported_and_checked_on_the_command_line() {
    let house = House::new().await;
    let crate::house::House { hub, dir, .. } = house;
    let config = crate::house::config(&dir);
    hub.shut_down().await;
    let file = dir.path().join("audit.jsonl");
    let run = |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_hearthkey")).arg("audit").args(arguments).output().unwrap();
    let data_dir = config.data_dir.to_str().unwrap();
    let written = run(&["export", "--data-dir", data_dir, "--out", file.to_str().unwrap()]);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let checked = run(&["verify", "--file", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && said.contains("The audit is whole"), "{said}");
    assert!(!run(&["export", "--data-dir", data_dir, "--out", file.to_str().unwrap()]).status.success(), "it writes over nothing");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text = text.replacen("hub.setup", "hub.other", 1);
    std::fs::write(&file, text).unwrap();
    let broken = run(&["verify", "--file", file.to_str().unwrap()]);
    assert!(!broken.status.success());
    assert!(String::from_utf8_lossy(&broken.stderr).contains("the audit is broken at entry"), "{broken:?}");
}

/// What the hub logs while a test runs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_that_is_shown_to_the_hub_is_ever_in_the_audit_or_in_the_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_env_filter("info,hearthkey=trace").with_writer(move || writer.clone()).finish();
    // Another test of the same process may have been first: then the log is not checked here, and the audit still is.
    let captured = tracing::subscriber::set_global_default(subscriber).is_ok();
    let house = House::new().await;
    let mut secrets: Vec<String> = Vec::new();
    let mut secret = |text: &str| {
        secrets.push(text.to_owned());
        text.to_owned()
    };
    let (wrong, first, second) = (secret("SECRET-wrong-password"), secret("SECRET-first-password"), secret("SECRET-second-password"));
    secret(&house.owner_token);
    secret("correct horse battery");
    secret(house.hub.setup_code.as_ref().unwrap());
    let owner = house.owner_token.clone();
    let call = async |method: &str, path: &str, token: &str, body: Value| house.http(method, path, token, Some(body)).await;

    // People: right and wrong passwords, a password typed as a name, codes that are not the hub's.
    let guessed = secret("SECRET-SETUP-CODE");
    call("POST", "/setup", "", json!({"code": guessed, "username": "eve", "password": wrong})).await;
    let new = json!({"username": "mia", "password": first, "role": "member"});
    assert_eq!(call("POST", "/users", &owner, new).await.0, 201);
    assert_eq!(call("POST", "/sessions", "", json!({"username": "mia", "password": wrong})).await.0, 401);
    assert_eq!(call("POST", "/sessions", "", json!({"username": first, "password": "mia"})).await.0, 401);
    let (status, opened) = call("POST", "/sessions", "", json!({"username": "mia", "password": first})).await;
    assert_eq!(status, 201);
    let mia = secret(opened["token"].as_str().unwrap());
    assert_eq!(call("PUT", "/me/password", &mia, json!({"current": wrong, "new": second})).await.0, 422);
    assert_eq!(call("PUT", "/me/password", &mia, json!({"current": first, "new": second})).await.0, 204);
    let bad = secret("hkt1.SECRET-token-of-nobody");
    assert_eq!(house.http("GET", "/me", &bad, None).await.0, 401);

    // Devices: claim codes, tokens, operational secrets; tokens where names belong.
    let device = house.device("lamp").await;
    secret(&device.code);
    let code = secret("SECRET-CLAIM-CODE-0123456789");
    assert_ne!(call("POST", "/claims", &owner, json!({"code": code})).await.0, 201);
    assert_eq!(call("POST", "/claims", &owner, json!({"code": device.code, "name": "Lamp"})).await.0, 201);
    drop(house.connect_device(&device).await);
    for (name, password) in [
        (bad.as_str(), wrong.as_str()),
        (&*format!("user:{bad}"), wrong.as_str()),
        (wrong.as_str(), wrong.as_str()),
        ("user:mia", bad.as_str()),
        (device.id.as_str(), wrong.as_str()),
        (&*format!("{}?{bad}", device.id), wrong.as_str()),
    ] {
        assert!(house.connect(&ConnectOptions::new("x").credentials(name, password)).await.is_err(), "{name}");
    }
    drop(house.connect_person("mia", &mia).await.unwrap());
    let desire = json!({"power": true});
    call("PATCH", &format!("/devices/{}/twin/desired", device.id), &owner, desire).await;
    call(
        "POST",
        &format!("/devices/{}/commands", device.id),
        &owner,
        json!({"name": "blink", "args": {"code": secret("SECRET-argument")}}),
    )
    .await;
    call("POST", &format!("/devices/{}/bindings", device.id), &owner, json!({"username": "mia", "privilege": "view"})).await;
    call("POST", &format!("/devices/{}/certificate", device.id), &owner, json!({"csr": secret("SECRET-request")})).await;
    call("PUT", "/brands/other", &owner, json!({"fingerprint": secret("SECRET-fingerprint")})).await;
    assert_eq!(house.http("DELETE", "/sessions/current", &mia, None).await.0, 204);

    // Refusals are written soon, not at once: what is written after them is behind them.
    house.hub.service().sign_in_person("mia", second.into(), HERE, "test").await.unwrap();
    let text = exported(&house).await;
    check(&text).unwrap();
    for expected in ["session.open", "password.change", "device.claim", "device.sign_in", "wrong_password", "hub.setup"] {
        assert!(text.contains(expected), "{expected} was driven and is not in the audit");
    }
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(!captured || log.contains("refused"), "the log is captured");
    for secret in secrets {
        // A setup code's groups, a token's parts: nothing longer than a few symbols of any of them.
        let part: String = secret.chars().take(12).collect();
        assert!(!text.contains(&part), "{part} is in the audit");
        let said = log.lines().find(|l| l.contains(&part));
        assert!(said.is_none(), "{part} is in the log: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_never_there_exports_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = hearthkey::hub::Config { data_dir: dir.path().join("typo"), ..Default::default() };
    assert!(export_audit(&config, Vec::new()).await.is_err());
    assert!(!config.data_dir.exists());
}
