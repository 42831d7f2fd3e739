//! The audit over HTTP: who may ask for which part of it, and exports that end when they have to.

use super::{HERE, HOST, Home, PATIENCE};
use hearthkey::domain::account::Role;
use hearthkey::service::{DeviceChange, SessionToken};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// So many that an export does not fit into what lies between the hub and a reader that does not read.
const MANY: usize = 4_000;

async fn fill(home: &Home) {
    let id = home.claimed("lamp", &home.owner).await;
    let actor = home.actor(&home.owner);
    let change = |n: usize| {
        let change = DeviceChange { name: Some(format!("Lamp {n}")), ..DeviceChange::default() };
        home.service.change_device(&actor, &id, change)
    };
    for result in futures_util::future::join_all((0..MANY).map(change)).await {
        result.unwrap();
    }
}

async fn open(home: &Home, token: &str) -> DuplexStream {
    let mut stream = home.connect_from(HERE);
    let head = format!("GET /api/v1/audit/export HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn begin(stream: &mut DuplexStream) -> String {
    let mut part = [0; 2048];
    let n = tokio::time::timeout(PATIENCE, stream.read(&mut part)).await.expect("something in time").unwrap();
    String::from_utf8_lossy(&part[..n]).into_owned()
}

async fn rest(stream: &mut DuplexStream) -> String {
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the end in time").unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn the_audit_is_filtered_by_what_is_asked() {
    let home = Home::new().await;
    let mia = home.person("mia", Role::Member).await;
    let id = home.actor(&mia).subject.to_string();
    let ask = async |query: &str| {
        let page = home.call(&home.owner, &format!("GET /api/v1/audit?{query}"), None).await.json();
        page["entries"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let encoded = id.replace(':', "%3A");
    assert_eq!(ask(&format!("actor={encoded}")).await, ["session.open"]);
    assert_eq!(ask(&format!("object={}&action=user.", id.trim_start_matches("user:"))).await, ["user.add"]);
    assert_eq!(ask("action=user.&outcome=denied").await, Vec::<String>::new());
    assert_eq!(ask("since=1800000000001").await, Vec::<String>::new());
    assert!(!ask("until=1800000000001&since=1800000000000").await.is_empty());
    for wrong in ["outcome=perhaps", "since=yesterday"] {
        assert_eq!(home.call(&home.owner, &format!("GET /api/v1/audit?{wrong}"), None).await.problem(), (422, "invalid".into()));
    }
    for path in ["audit", "audit/export", "audit/verify"] {
        assert_eq!(home.call(&mia, &format!("GET /api/v1/{path}"), None).await.status, 403, "{path}");
        assert_eq!(home.ask(&format!("GET /api/v1/{path}"), &[], b"").await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn a_check_says_that_the_audit_is_whole_and_where_it_ends() {
    let home = Home::new().await;
    let newest = home.call(&home.owner, "GET /api/v1/audit?limit=1", None).await.json()["entries"][0]["seq"].clone();
    let check = home.call(&home.owner, "GET /api/v1/audit/verify", None).await.json();
    assert_eq!((&check["whole"], &check["newest"], &check["first"]), (&true.into(), &newest, &1.into()));
    assert_eq!(check["hash"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn an_export_is_json_lines_oldest_first() {
    let home = Home::new().await;
    let answer = home.call(&home.owner, "GET /api/v1/audit/export?action=hub.", None).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let text = String::from_utf8(answer.body).unwrap();
    let lines: Vec<Value> = text.lines().filter(|l| l.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|l| l["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["hub", "entry", "end"]);
    assert_eq!((&lines[0]["filtered"], &lines[1]["action"]), (&true.into(), &"hub.setup".into()));
    let told = home.call(&home.owner, "GET /api/v1/audit?limit=1", None).await.json();
    assert_eq!(told["entries"][0]["action"], "audit.export");
}

#[tokio::test]
async fn an_export_ends_when_its_session_does_and_when_its_reader_goes() {
    let home = Home::new().await;
    fill(&home).await;
    let mut whole = open(&home, &home.owner).await;
    assert!(rest(&mut whole).await.contains("\"kind\":\"end\""));
    let otto = home.person("otto", Role::Owner).await;
    let mut cut = open(&home, &otto).await;
    assert!(begin(&mut cut).await.contains("200 OK"));
    home.service.sign_out(&home.actor(&otto), &SessionToken::new(&otto)).await.unwrap();
    let after = rest(&mut cut).await;
    assert!(!after.contains("\"kind\":\"end\""), "it went on to its end");
    // Four at a time; a reader that goes gives its place back.
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = open(&home, &home.owner).await;
        assert!(begin(&mut stream).await.contains("200 OK"));
        held.push(stream);
    }
    assert_eq!(home.call(&home.owner, "GET /api/v1/audit/export", None).await.problem().0, 429);
    drop(held);
    let again = async {
        while home.call(&home.owner, "GET /api/v1/audit/export?action=none", None).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("the places are free again");
}
