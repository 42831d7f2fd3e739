//! The vendor's manifest, what is signed, and the archive, over HTTPS. The manifest's form is `self_update`'s (schema 1); what it says only tells
//! where to look. An archive that was interrupted goes on where it stopped.

use super::places::Places;
use super::unpack::hash_of;
use super::{Config, platform};
use crate::domain::release::{HubRelease, STATEMENT_MAX};
use crate::net::authorities::{AuthorityError, authorities};
use data_encoding::HEXLOWER;
use futures_util::StreamExt;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, StatusCode, Url};
use rustls::ClientConfig;
use rustls::crypto::ring;
use self_update::backends::manifest::parse_manifest;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

/// Bytes of a manifest at most.
const MANIFEST_MAX: usize = 1024 * 1024;
/// How long a server may be silent.
const SILENT: Duration = Duration::from_secs(30);
/// How long a small answer may take.
const SMALL: Duration = Duration::from_secs(60);
/// How often an archive is asked for anew within one attempt.
const TRIES: u32 = 4;
/// What stands after an archive's name for what is signed of it.
pub(super) const SIGNED: &str = ".release";

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It cannot be begun.
    #[error("{0}")]
    Setting(String),
    /// The certificate authorities.
    #[error(transparent)]
    Authorities(#[from] AuthorityError),
    /// The server does not answer, or not with what was asked for.
    #[error("{url}: {reason}. Try again later")]
    Server {
        /// Where.
        url: String,
        /// What is wrong, in words.
        reason: String,
    },
    /// The manifest is none.
    #[error("the vendor's manifest cannot be read: {0}")]
    Manifest(String),
    /// What is signed does not hold.
    #[error("version {version} of the manifest is not genuine: {reason}. It was not taken")]
    NotGenuine {
        /// As the manifest calls it.
        version: String,
        /// Why.
        reason: String,
    },
    /// The disk.
    #[error("{path}: {source}. Check the free space")]
    Disk {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A release that its vendor has signed, and where its archive is.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) release: HubRelease,
    pub(super) statement: Vec<u8>,
    pub(super) archive: String,
}

/// The way to the vendor.
pub(super) struct Vendor {
    client: Client,
    manifest: Url,
    key: [u8; 32],
}

impl Vendor {
    /// Sets the way up; nothing is called yet. Reads files.
    pub(super) fn new(config: &Config) -> Result<Vendor, FetchError> {
        let setting = |text: &str| FetchError::Setting(text.to_owned());
        let key = config.vendor().map_err(&setting)?.ok_or_else(|| setting("no vendor is set: set update.url and update.key"))?;
        let url = config.url.as_deref().ok_or_else(|| setting("no vendor is set: set update.url and update.key"))?;
        let manifest = Url::parse(url).ok().filter(|url| url.scheme() == "https" && url.has_host());
        let manifest = manifest.ok_or_else(|| setting("update.url is not an address that begins with https://"))?;
        let roots = authorities(config.ca_file.as_deref())?;
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| FetchError::Setting(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::limited(5))
            .connect_timeout(SILENT)
            .read_timeout(SILENT)
            .user_agent(concat!("hearthkey/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| FetchError::Setting(e.to_string()))?;
        Ok(Vendor { client, manifest, key })
    }

    /// The newest release of the manifest for this platform, with what is signed of it; `None` when there is none. Whether it is taken is the
    /// release's to say.
    pub(super) async fn newest(&self) -> Result<Option<Found>, FetchError> {
        let body = self.small(self.manifest.clone(), MANIFEST_MAX).await?;
        let body = String::from_utf8(body).map_err(|_| FetchError::Manifest("it is not UTF-8".into()))?;
        let releases = parse_manifest(&body, self.manifest.as_str()).map_err(|e| FetchError::Manifest(e.to_string()))?;
        let mut newest: Option<(&str, &str, &str)> = None;
        for release in &releases {
            let archive = HubRelease::archive_name(release.version(), platform());
            let of = |name: &str| release.assets().iter().find(|asset| asset.name() == name).map(|asset| asset.download_url());
            let (Some(url), Some(signed)) = (of(&archive), of(&format!("{archive}{SIGNED}"))) else { continue };
            let is_newer =
                newest.is_none_or(|(known, ..)| self_update::version::bump_is_greater(known, release.version()).unwrap_or(false));
            if is_newer {
                newest = Some((release.version(), url, signed));
            }
        }
        let Some((version, archive, signed)) = newest else { return Ok(None) };
        let signed = Url::parse(signed).map_err(|e| FetchError::Manifest(e.to_string()))?;
        let statement = self.small(signed, STATEMENT_MAX).await?;
        let not_genuine = |reason: String| FetchError::NotGenuine { version: version.to_owned(), reason };
        let release = HubRelease::verify(&self.key, &statement).map_err(|e| not_genuine(e.to_string()))?;
        if release.version.as_str() != version {
            return Err(not_genuine(format!("it was signed as version {}", release.version)));
        }
        Ok(Some(Found { release, statement, archive: archive.to_owned() }))
    }

    /// The archive, whole and as it was signed. What is there already is not fetched again. `told` hears of each part: bytes that are here.
    pub(super) async fn archive(&self, places: &Places, found: &Found, told: impl Fn(u64) + Send + Sync) -> Result<PathBuf, FetchError> {
        let whole = places.downloads().join(format!("{}.tar.gz", HEXLOWER.encode(&found.release.sha256)));
        let disk = |source| FetchError::Disk { path: whole.display().to_string(), source };
        let url = Url::parse(&found.archive).map_err(|e| FetchError::Manifest(e.to_string()))?;
        let mut tries = 0;
        loop {
            let here = tokio::fs::metadata(&whole).await.map_or(0, |found| found.len());
            if here > found.release.size {
                tokio::fs::remove_file(&whole).await.map_err(disk)?;
                continue;
            }
            if here == found.release.size {
                let path = whole.clone();
                let hash = tokio::task::spawn_blocking(move || hash_of(&path)).await;
                if hash.map_err(|e| disk(std::io::Error::other(e)))?.map_err(disk)? == found.release.sha256 {
                    return Ok(whole);
                }
                tokio::fs::remove_file(&whole).await.map_err(disk)?;
                let url = url.to_string();
                return Err(FetchError::Server { url, reason: "what came is not the archive that was signed".into() });
            }
            tries += 1;
            match self.part(url.clone(), &whole, here, found.release.size, &told).await {
                // Not all of it has come, and the server thinks so: once more from there.
                Ok(()) | Err(FetchError::Server { .. }) if tries < TRIES => {
                    tokio::time::sleep(Duration::from_millis(200 << tries.min(6))).await;
                }
                Ok(()) => return Err(FetchError::Server { url: url.to_string(), reason: "the archive ends too early".into() }),
                Err(error) => return Err(error),
            }
        }
    }

    async fn part(
        &self,
        url: Url,
        to: &std::path::Path,
        from: u64,
        size: u64,
        told: &(impl Fn(u64) + Send + Sync),
    ) -> Result<(), FetchError> {
        let disk = |source| FetchError::Disk { path: to.display().to_string(), source };
        let server = |reason: String| FetchError::Server { url: url.to_string(), reason };
        let mut request = self.client.get(url.clone());
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let answer = request.send().await.map_err(|e| server(words(&e)))?;
        let goes_on = answer.status() == StatusCode::PARTIAL_CONTENT
            && answer.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).is_some_and(|v| v.starts_with(&format!("bytes {from}-")));
        if !goes_on && answer.status() != StatusCode::OK {
            return Err(server(format!("the server answers {}", answer.status())));
        }
        let mut file = OpenOptions::new().create(true).append(goes_on).write(true).truncate(!goes_on).open(to).await.map_err(disk)?;
        let mut here = if goes_on { from } else { 0 };
        let mut body = answer.bytes_stream();
        let mut fault = None;
        while let Some(part) = body.next().await {
            match part {
                Ok(part) => {
                    here += part.len() as u64;
                    if here > size {
                        fault = Some(server("the archive is longer than was signed".into()));
                        break;
                    }
                    file.write_all(&part).await.map_err(disk)?;
                    told(here);
                }
                Err(error) => {
                    fault = Some(server(words(&error)));
                    break;
                }
            }
        }
        file.flush().await.map_err(disk)?;
        file.sync_all().await.map_err(disk)?;
        fault.map_or(Ok(()), Err)
    }

    async fn small(&self, url: Url, most: usize) -> Result<Vec<u8>, FetchError> {
        let server = |reason: String| FetchError::Server { url: url.to_string(), reason };
        let answer = self.client.get(url.clone()).timeout(SMALL).send().await.map_err(|e| server(words(&e)))?;
        if !answer.status().is_success() {
            return Err(server(format!("the server answers {}", answer.status())));
        }
        let (mut body, mut bytes) = (answer.bytes_stream(), Vec::new());
        while let Some(part) = body.next().await {
            let part = part.map_err(|e| server(words(&e)))?;
            if bytes.len() + part.len() > most {
                return Err(server(format!("the answer is longer than {most} bytes")));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }
}

/// The innermost cause, which says what is wrong; without the address, which stands beside it.
fn words(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
