//! The cloud of the tour: a process of its own over a real PostgreSQL, the line to it that can be cut, its maker's program,
//! and a person who asks it from away.

use super::super::http::Answer;
use super::super::stage::{BRAND, DemoDevice, factory_dir, free_port, stop};
use crate::sim::link::Link;
use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The longest that the cloud may take to start: it makes its databases.
const START: Duration = Duration::from_secs(120);

/// The longest that it may take to stop: its databases are written out.
const STOP: Duration = Duration::from_secs(60);

/// A running cloud, and the line through which the hub reaches it.
pub(in crate::cli::demo) struct Region {
    child: Child,
    dir: PathBuf,
    /// The line; its address is in the cloud's public URL.
    pub(in crate::cli::demo) line: Link,
    /// As hubs reach it.
    pub(in crate::cli::demo) url: String,
    /// Its key, base64url.
    pub(in crate::cli::demo) key: String,
    client: reqwest::Client,
    /// Where it is reached when the hub's line is cut.
    direct: String,
}

#[derive(Deserialize)]
struct Announcement {
    key: String,
    ca_pem: Option<String>,
}

impl Region {
    /// Starts the cloud in `dir`; returns when it serves.
    pub(in crate::cli::demo) async fn start(dir: PathBuf) -> anyhow::Result<Region> {
        let (port, outside) = (free_port().context("no free port on this machine")?, free_port().context("no free port on this machine")?);
        let (listen, outside_port) = (port.local_addr()?, outside.local_addr()?.port());
        drop((port, outside));
        let line = Link::open(outside_port, listen).await?;
        let url = format!("https://localhost:{outside_port}");
        let mut child = program()?
            .arg("cloud")
            .args(["--announce-json", "--log", "warn", "--region", "eu", "--name", "Acme cloud"])
            .arg("--data-dir")
            .arg(&dir)
            .arg("--listen")
            .arg(listen.to_string())
            .arg("--public-url")
            .arg(&url)
            .stdout(Stdio::piped())
            .spawn()
            .context("the cloud cannot be started")?;
        let mut lines = BufReader::new(child.stdout.take().ok_or_else(|| anyhow!("the cloud has no output"))?).lines();
        let said = async {
            while let Some(line) = lines.next_line().await? {
                if line.starts_with('{') {
                    return serde_json::from_str::<Announcement>(&line).context("the cloud did not say where it listens");
                }
            }
            bail!("the cloud ended while starting: what it needs stands above");
        };
        let said = tokio::time::timeout(START, said).await.context("the cloud takes longer than 120 s to start")??;
        // Several parts of the program may have done it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = said.ca_pem.context("the cloud has no CA of its own")?;
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(ca.as_bytes())?])
            .timeout(Duration::from_secs(40))
            .no_proxy()
            .build()?;
        std::fs::write(dir.with_extension("ca.pem"), ca)?;
        Ok(Region { child, dir, line, url, key: said.key, client, direct: format!("https://localhost:{}", listen.port()) })
    }

    /// The file with the CA of its certificate.
    pub(in crate::cli::demo) fn ca_file(&self) -> PathBuf {
        self.dir.with_extension("ca.pem")
    }

    /// A command of the cloud's operator, beside the running cloud; what it says.
    pub(in crate::cli::demo) async fn operator(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let done = program()?.arg("cloud").args(arguments).arg("--data-dir").arg(&self.dir).args(["--region", "eu"]).output().await?;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        ensure!(done.status.success(), "hearthkey cloud {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
        Ok(said)
    }

    /// Takes in the brand, and makes an account for its maker's program: its id and secret.
    pub(in crate::cli::demo) async fn add_maker(&self, dir: &Path) -> anyhow::Result<(String, String)> {
        let brand = factory_dir(dir).join(BRAND);
        self.operator(&["tenant", "add", &brand.display().to_string()]).await?;
        let scopes = ["--scope", "upload_identities", "--scope", "assign_devices"];
        let arguments = [&["service", "add", "Factory", "--brand", BRAND, "--network", "127.0.0.0/8"][..], &scopes].concat();
        let said = self.operator(&arguments).await?;
        let mut words = said.split_whitespace();
        let id = words.next().context("the cloud named no account")?.to_owned();
        let secret = words.skip_while(|word| *word != "client_secret").nth(1).context("the cloud showed no secret")?;
        Ok((id, secret.to_owned()))
    }

    /// Signs the maker's program in; its token.
    pub(in crate::cli::demo) async fn sign_in(&self, id: &str, secret: &str) -> anyhow::Result<String> {
        let form = serde_urlencoded::to_string([("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)])?;
        let request = self.client.post(format!("{}/v1/token", self.direct)).header("content-type", "application/x-www-form-urlencoded");
        let answer = read(request.body(form).send().await?).await?;
        ensure!(answer.status == 200, "the maker's program could not sign in: {}", answer.body);
        answer.body.pointer("/access_token").and_then(Value::as_str).map(str::to_owned).context("no token")
    }

    /// Uploads the devices' secret files, a line each.
    pub(in crate::cli::demo) async fn upload(&self, token: &str, id: &str, devices: &[DemoDevice], whole: bool) -> anyhow::Result<Answer> {
        let mut lines = String::new();
        for device in devices {
            let secret: Value = serde_json::from_slice(&std::fs::read(&device.secret)?)?;
            lines.push_str(&format!("{secret}\n"));
        }
        let request = self.client.post(format!("{}/v1/identities?brand={BRAND}", self.direct)).bearer_auth(token);
        let request = request.header("content-type", "application/x-ndjson").header("upload-id", id);
        read(request.header("upload-complete", if whole { "?1" } else { "?0" }).body(lines).send().await?).await
    }

    /// A call at the cloud, reached from outside the house.
    pub(in crate::cli::demo) async fn call(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> anyhow::Result<Answer> {
        let request =
            self.client.request(reqwest::Method::from_bytes(method.as_bytes())?, format!("{}{path}", self.direct)).bearer_auth(token);
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        read(request.send().await.with_context(|| format!("no answer to {path}"))?).await
    }

    /// Waits until the hub has answered a request from away; how it ended.
    pub(in crate::cli::demo) async fn answered(&self, token: &str, asked: &Answer) -> anyhow::Result<Value> {
        ensure!(asked.status == 202, "the cloud did not take the request: {} {}", asked.status, asked.body);
        let id = asked.body.pointer("/id").and_then(Value::as_str).context("the request has no id")?.to_owned();
        for _ in 0..300 {
            let state = self.call("GET", &format!("/v1/home/requests/{id}"), token, None).await?.body;
            if state.get("state") != Some(&json!("waiting")) {
                return Ok(state);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the hub did not answer the request within 30 s")
    }

    /// Stops the cloud and its PostgreSQL in order.
    pub(in crate::cli::demo) async fn end(self) -> anyhow::Result<()> {
        let Region { mut child, client, line, .. } = self;
        // It would wait for whoever may still ask.
        drop((client, line));
        stop(&mut child, "cloud", STOP).await
    }
}

/// This program, for another process of it.
pub(in crate::cli::demo) fn program() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program cannot find itself")?);
    command.stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

async fn read(response: reqwest::Response) -> anyhow::Result<Answer> {
    let status = response.status().as_u16();
    let bytes = response.bytes().await?;
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).context("the answer is not JSON")? };
    Ok(Answer { status, body, etag: None })
}
