//! The demo's side of the REST API: a plain client that trusts the hub's CA and shows every exchange.

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::time::Duration;

/// A client of one hub.
#[derive(Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    base: String,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) etag: Option<String>,
}

impl Http {
    /// A client that trusts the CA which the hub hands out over plain HTTP, after comparing its fingerprint with the one
    /// the hub printed on its console: the way a careful person would do it.
    pub(super) async fn trusting(http: SocketAddr, https: SocketAddr, fingerprint: &str) -> anyhow::Result<Http> {
        // Several parts of the program may have done it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Over plain HTTP nobody is believed: what the system knows of authorities, if anything, is not asked for.
        let plain = reqwest::Client::builder().tls_certs_only([]).timeout(Duration::from_secs(10)).no_proxy().build()?;
        let der = plain.get(format!("http://localhost:{}/trust/ca.der", http.port())).send().await?.error_for_status()?.bytes().await?;
        let seen = Sha256::digest(&der).iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":");
        ensure!(seen == fingerprint, "the CA from /trust has the fingerprint {seen}, the console says {fingerprint}");
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_der(&der)?])
            .timeout(Duration::from_secs(40))
            .no_proxy()
            .build()?;
        Ok(Http { client, base: format!("https://localhost:{}/api/v1", https.port()) })
    }

    /// One call.
    pub(super) async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> anyhow::Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        Http::answer(request, path).await
    }

    /// Sends a file as it is.
    pub(super) async fn upload(&self, path: &str, token: &str, file: Vec<u8>) -> anyhow::Result<Answer> {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(token);
        Http::answer(request.header("content-type", "application/octet-stream").body(file), path).await
    }

    async fn answer(request: reqwest::RequestBuilder, path: &str) -> anyhow::Result<Answer> {
        let response = request.send().await.with_context(|| format!("no answer to {path}"))?;
        let status = response.status().as_u16();
        let etag = response.headers().get("etag").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let bytes = response.bytes().await?;
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).context("the answer is not JSON")? };
        Ok(Answer { status, body, etag })
    }

    /// Waits until the hub answers, at most ten seconds.
    pub(super) async fn wait_until_served(&self) -> anyhow::Result<()> {
        for _ in 0..100 {
            if self.call("GET", "/hub", None, None).await.is_ok_and(|a| a.status == 200) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the hub does not answer at {}", self.base)
    }
}
