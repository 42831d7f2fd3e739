//! The doors at which people ask: the hub's at home, the cloud's from away; and how what they asked for ended.

use super::ledger::Said;
use super::machines::CloudFacts;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Longer than any program may think.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Done, or asked.
    Good(Value),
    /// Not done.
    No(u16, String),
    /// Nobody was there.
    Nobody,
    /// It may have been done.
    Perhaps,
}

impl Answer {
    /// What is certain of it; `None`: it was not done.
    pub fn said(&self) -> Option<Said> {
        match self {
            Answer::Good(_) => Some(Said::Yes),
            Answer::Perhaps => Some(Said::Perhaps),
            Answer::No(..) | Answer::Nobody => None,
        }
    }

    #[track_caller]
    pub fn good(self) -> Value {
        match self {
            Answer::Good(value) => value,
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Clone)]
pub struct Doors {
    hub: reqwest::Client,
    hub_port: u16,
    cloud: reqwest::Client,
    cloud_address: SocketAddr,
    pub owner: String,
    /// The owner's key for use from away.
    pub away: String,
}

fn client(ca: reqwest::Certificate, hub: SocketAddr) -> reqwest::Client {
    let builder = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().resolve("localhost", hub);
    builder.pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap()
}

impl Doors {
    pub fn new(hub_ca: &[u8], hub: SocketAddr, cloud: &CloudFacts, owner: String) -> Doors {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Doors {
            hub: client(reqwest::Certificate::from_der(hub_ca).unwrap(), hub),
            hub_port: hub.port(),
            cloud: client(reqwest::Certificate::from_pem(cloud.ca_pem.as_bytes()).unwrap(), hub),
            cloud_address: cloud.address,
            owner,
            away: String::new(),
        }
    }

    /// At home, as the owner.
    pub async fn home(&self, method: &str, path: &str, body: Value) -> Answer {
        let url = format!("https://localhost:{}/api/v1{path}", self.hub_port);
        ask(self.hub.request(method.parse().unwrap(), url), &self.owner, body).await
    }

    /// From away, with a key.
    pub async fn outside(&self, method: &str, path: &str, key: &str, body: Value) -> Answer {
        let url = format!("https://{}/v1/home{path}", self.cloud_address);
        ask(self.cloud.request(method.parse().unwrap(), url), key, body).await
    }

    /// From away, as the owner.
    pub async fn away(&self, method: &str, path: &str, body: Value) -> Answer {
        self.outside(method, path, &self.away, body).await
    }

    /// At home, until somebody is there.
    pub async fn read_home(&self, path: &str) -> Option<Value> {
        match self.home("GET", path, Value::Null).await {
            Answer::Good(value) => Some(value),
            Answer::No(404, _) => Some(json!(null)),
            _ => None,
        }
    }
}

async fn ask(request: reqwest::RequestBuilder, token: &str, body: Value) -> Answer {
    let request = request.bearer_auth(token);
    let answer = if body.is_null() { request.send().await } else { request.json(&body).send().await };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if error.is_connect() => return Answer::Nobody,
        Err(_) => return Answer::Perhaps,
    };
    let status = answer.status().as_u16();
    let body = answer.bytes().await.map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap_or_default());
    match (status, body) {
        // The head of an answer is its word.
        (200..300, body) => Answer::Good(body.unwrap_or_default()),
        (500.., _) => Answer::Perhaps,
        (_, body) => Answer::No(status, body.unwrap_or_default()["code"].as_str().unwrap_or_default().to_owned()),
    }
}
