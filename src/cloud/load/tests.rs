//! What of a load can be seen without a cloud.

use super::*;
use crate::cloud::makers::line::Identity;
use crate::domain::ids::BrandId;

fn settings(url: &str) -> Settings {
    Settings {
        url: url.to_owned(),
        ca_file: None,
        elsewhere: false,
        hubs: 1,
        devices: 1,
        rounds: 1,
        rows: 1,
        mark_every: 0,
        widths: vec![1],
        wake: false,
        idle_s: 0,
        reconnect: false,
        processes: Vec::new(),
    }
}

#[tokio::test]
async fn a_load_stays_on_this_machine_unless_it_is_said_otherwise() {
    // An address for documentation: nothing is sent there.
    let error = run(&settings("https://192.0.2.1:9443"), &CancellationToken::new(), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("--yes-elsewhere"), "{error}");
    let error = run(&Settings { hubs: 0, ..settings("https://localhost:1") }, &CancellationToken::new(), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("--hubs"), "{error}");
}

#[test]
fn identities_are_written_as_they_are_read() {
    let brand = BrandId::parse("acme").unwrap();
    let mut lines = Vec::new();
    write_identities(&mut lines, 1_003, "acme", "lamp").unwrap();
    let read: std::collections::BTreeSet<String> = lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| Identity::read(line, &brand).unwrap().device.as_str().to_owned())
        .collect();
    assert_eq!(read.len(), 1_003);
}

#[test]
fn processor_time_and_memory_of_this_process_are_seen() {
    let own = Process::parse(&format!("tests={}", std::process::id())).unwrap();
    let seen = processes::look(std::slice::from_ref(&own));
    assert!(seen.get("tests").is_some_and(|(_, memory)| *memory > 0));
    assert!(Process::parse("tests").is_err());
}
