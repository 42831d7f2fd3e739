//! The programs of both hosts: the hub, the cloud and its PostgreSQL, as processes that can be killed at any moment.

use super::hosts::{Between, Side};
use crate::cloud::rig::{Dir, prepared_dir};
use hearthkey::domain::mirror::wire::Consent;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

const PATIENCE: Duration = Duration::from_secs(120);
const PROGRAM: &str = env!("CARGO_BIN_EXE_hearthkey");

/// What may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    Hub,
    Cloud,
    Postgres,
}

/// Where the cloud is and what it shows of itself.
#[derive(Clone, Debug)]
pub struct CloudFacts {
    pub url: String,
    pub key: String,
    pub region: String,
    pub ca_pem: String,
    pub address: SocketAddr,
}

pub struct Machines {
    pub between: Between,
    hub: Option<Child>,
    cloud: Option<Child>,
    hub_dir: PathBuf,
    pub hub_address: SocketAddr,
    cloud_dir: Dir,
    /// Configuration and logs.
    dir: TempDir,
}

/// What hub and cloud agree on: everything but the bundle, which needs a recovery code.
pub fn consent() -> BTreeSet<Consent> {
    Consent::ALL.into_iter().filter(|c| *c != Consent::Bundle).collect()
}

async fn first_json(child: &mut Child, log: &Path) -> Value {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Ok(said) = serde_json::from_str::<Value>(&line)
                && said.is_object()
            {
                return Some(said);
            }
        }
        None
    };
    let said = tokio::time::timeout(PATIENCE, reading).await.ok().flatten();
    said.unwrap_or_else(|| panic!("it did not start: {}", std::fs::read_to_string(log).unwrap_or_default()))
}

impl Machines {
    /// Both hosts, with nothing running on them.
    pub async fn new(between: Between, hub_dir: &Path) -> Machines {
        let cloud_dir = prepared_dir().await;
        let hub_address = between.hub();
        let dir = tempfile::tempdir().unwrap();
        Machines { between, hub: None, cloud: None, hub_dir: hub_dir.to_owned(), hub_address, cloud_dir, dir }
    }

    fn log(&self, name: &str) -> (PathBuf, Stdio) {
        let path = self.dir.path().join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        (path, file.into())
    }

    /// The ends of the logs.
    pub fn said(&self) -> String {
        let end = |name: &str| {
            let text = std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        format!("--- hub\n{}\n--- cloud\n{}", end("hub.log"), end("cloud.log"))
    }

    pub async fn start_cloud(&mut self) -> CloudFacts {
        let (listen, url) = self.between.cloud();
        let (log, errors) = self.log("cloud");
        let mut command = self.between.command(Side::Cloud, PROGRAM);
        command.args(["cloud", "--announce-json", "--log", "warn,hearthkey=info", "--listen", &listen.to_string(), "--public-url", &url]);
        command.arg("--data-dir").arg(&self.cloud_dir.0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let said = first_json(&mut child, &log).await;
        self.cloud = Some(child);
        let text = |member: &str| said[member].as_str().unwrap().to_owned();
        CloudFacts { url, key: text("key"), region: text("region"), ca_pem: text("ca_pem"), address: listen }
    }

    pub async fn start_hub(&mut self) {
        let config = self.dir.path().join("hub.toml");
        let ca = self.cloud_dir.0.join("ca.pem");
        let text = format!(
            "attempts_per_minute = 1000000\n[clock]\ntrusted = true\n[mdns]\nenabled = false\n[bluetooth]\nenabled = false\n\
             [cloud]\nproxy = \"none\"\nca_file = \"{}\"\ndebounce_ms = 20\n",
            ca.display()
        );
        std::fs::write(&config, text).unwrap();
        let (log, errors) = self.log("hub");
        let mut command = self.between.command(Side::Hub, PROGRAM);
        command.args(["hub", "--announce-json", "--log", "warn,hearthkey=info", "--https", &self.hub_address.to_string()]);
        for listener in ["--http", "--mqtts", "--mqtt"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.arg("--config").arg(&config).arg("--data-dir").arg(&self.hub_dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let said = first_json(&mut child, &log).await;
        assert_eq!(said["setup_code"], Value::Null, "the hub has forgotten its owner");
        self.hub = Some(child);
    }

    /// SIGKILL: no handler, no last words.
    pub async fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Hub => end(&mut self.hub).await,
            Victim::Cloud => end(&mut self.cloud).await,
            Victim::Postgres => kill_all(&self.postgres()),
        }
    }

    /// Runs again what does not run. PostgreSQL is the cloud's to start again.
    pub async fn revive(&mut self) {
        if self.cloud.is_none() {
            self.start_cloud().await;
        }
        if self.hub.is_none() {
            self.start_hub().await;
        }
    }

    /// The private PostgreSQL of this cloud: the first process, and its children.
    fn postgres(&self) -> Vec<u32> {
        let Ok(file) = std::fs::read_to_string(self.cloud_dir.0.join("postgres/data/postmaster.pid")) else { return Vec::new() };
        let Some(first) = file.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else { return Vec::new() };
        // The number may be another's by now: only what runs in this directory is meant.
        let here = std::fs::read_link(format!("/proc/{first}/cwd")).unwrap_or_default();
        if !here.starts_with(&self.cloud_dir.0) {
            return Vec::new();
        }
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let child = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse::<u32>().ok()) == Some(first)
        };
        std::iter::once(first).chain(processes.filter(child)).collect()
    }

    /// The database itself.
    pub async fn database(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.cloud_dir.0.join("postgres/socket")).user("hearthkey").dbname("hearthkey");
        config.connect_timeout(Duration::from_secs(5));
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

async fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        child.kill().await.unwrap();
    }
}

fn kill_all(pids: &[u32]) {
    if !pids.is_empty() {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        // One or the other may have ended by itself.
        let _ = std::process::Command::new("kill").arg("-9").args(pids).stderr(Stdio::null()).status();
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for child in [&mut self.cloud, &mut self.hub].into_iter().flatten() {
            let _ = child.start_kill();
            // Until it has ended, it would start its PostgreSQL again.
            while let Ok(None) = child.try_wait() {
                std::thread::yield_now();
            }
        }
        kill_all(&self.postgres());
    }
}
