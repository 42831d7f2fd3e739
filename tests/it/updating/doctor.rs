//! `hearthkey doctor`: what it finds in a home that is well, in one that is not, and that it leaves everything as it was.

use crate::house::{House, config};
use hearthkey::hub::{Config, Finding, Hub, Severity, examine, is_healthy};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

fn find<'a>(findings: &'a [Finding], code: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.code == code).unwrap_or_else(|| panic!("{code} is not in {findings:?}"))
}

async fn house() -> (House, Config) {
    let house = House::new().await;
    let config = config(&house.dir);
    (house, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_serves_is_well_and_every_finding_has_a_name_of_its_own() {
    let (house, config) = house().await;
    assert_eq!(is_healthy(&config).await, Ok(()));
    let findings = examine(&config).await;
    let names: BTreeSet<&str> = findings.iter().map(|finding| finding.code).collect();
    assert_eq!(names.len(), findings.len());
    for code in [
        "hub",
        "data_dir",
        "master_key",
        "database",
        "port_https",
        "port_mqtts",
        "certificate",
        "ca",
        "cloud",
        "update",
        "clock",
        "bluetooth",
    ] {
        assert_eq!(find(&findings, code).severity, Severity::Ok, "{:?}", find(&findings, code));
    }
    assert!(findings.iter().all(|finding| (finding.severity == Severity::Ok) == finding.fix.is_empty()), "{findings:?}");
    house.hub.shut_down().await;
    assert!(is_healthy(&config).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_stopped_is_looked_at_and_left_as_it_was() {
    let (house, config) = house().await;
    house.hub.shut_down().await;
    let database = config.data_dir.join("hub.redb");
    let before = (fs::read(&database).unwrap(), fs::read_dir(&config.data_dir).unwrap().count());
    let findings = examine(&config).await;
    assert_eq!(find(&findings, "hub").severity, Severity::Note);
    assert_eq!(find(&findings, "database").severity, Severity::Ok, "{:?}", find(&findings, "database"));
    assert_eq!((fs::read(&database).unwrap(), fs::read_dir(&config.data_dir).unwrap().count()), before);
    let _keep = house.dir;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_found_with_what_to_do() {
    let (house, mut config) = house().await;
    house.hub.shut_down().await;
    let key = config.data_dir.join("master.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&config.data_dir, Permissions::from_mode(0o755)).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.mqtts.address = taken.local_addr().unwrap();
    config.update.key = Some("not a key".into());
    let database = config.data_dir.join("hub.redb");
    let mut bytes = fs::read(&database).unwrap();
    bytes.iter_mut().take(64).for_each(|byte| *byte = 0xaa);
    fs::write(&database, bytes).unwrap();
    let findings = examine(&config).await;
    let wrong = |code: &str, severity: Severity, fix: &str| {
        let finding = find(&findings, code);
        assert!(finding.severity == severity && finding.fix.contains(fix), "{finding:?}");
    };
    wrong("master_key", Severity::Error, "chmod 600");
    wrong("data_dir", Severity::Warning, "chmod 700");
    wrong("port_mqtts", Severity::Error, "[mqtts] address");
    wrong("database", Severity::Error, "restore the newest good backup");
    wrong("update", Severity::Warning, "[update] key");
    let by = format!("process {}", std::process::id());
    assert!(find(&findings, "port_mqtts").found.contains(&by), "{:?}", find(&findings, "port_mqtts"));
    fs::remove_file(&key).unwrap();
    assert!(find(&examine(&config).await, "master_key").found.contains("sealed under it"));
    let _keep = house.dir;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_where_there_is_no_hub() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    let findings = examine(&config).await;
    assert!(findings.iter().all(|finding| finding.severity < Severity::Error), "{findings:?}");
    assert!(!config.data_dir.exists());
    // And the first start is not kept from anything.
    Hub::start(config).await.unwrap().shut_down().await;
}
