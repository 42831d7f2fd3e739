//! A bucket of a store that speaks Amazon's S3: signed by rusty-s3, carried by reqwest. Nothing but a whole file is ever
//! seen there under a backup's name: a store shows an object once all of it has arrived.

use super::Config;
use super::catalogue::Item;
use super::folder::wrong;
use super::place::{PlaceError, UNFINISHED, is_name};
use crate::domain::backup::target::Bucket;
use crate::domain::backup::{FOOTER_BYTES, HEAD_MAX};
use crate::service::look_at_ends;
use reqwest::header::{CONTENT_LENGTH, RANGE};
use reqwest::{Client, Method, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rusty_s3::actions::{ListObjectsV2, S3Action};
use rusty_s3::{Credentials, UrlStyle};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// For how long a signed address serves.
const SIGNED_FOR: Duration = Duration::from_secs(3_600);
/// Longest silence of the store.
const SILENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(15);
/// Bytes of a listing's page at most, and pages.
const PAGE_MAX: usize = 4 * 1024 * 1024;
const PAGES_MAX: usize = 20;
/// Bytes that one upload takes (AWS: 5 GiB).
const UPLOAD_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// A bucket, with the way to it.
pub struct BucketPlace {
    http: Client,
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
    prefix: String,
    endpoint: String,
    staging: PathBuf,
}

impl BucketPlace {
    pub(super) async fn open(target: &Bucket, config: &Config, staging: &Path) -> Result<BucketPlace, PlaceError> {
        let fail = |detail: String, next| PlaceError::Store { endpoint: target.endpoint.clone(), detail, next };
        let correct = "Correct the target";
        let url = target.endpoint.parse().map_err(|_| fail("this is no URL".into(), correct))?;
        let style = if target.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = rusty_s3::Bucket::new(url, style, target.bucket.clone(), target.region.clone());
        let bucket = bucket.map_err(|e| fail(e.to_string(), correct))?;
        let ca_file = config.ca_file.clone();
        let roots = tokio::task::spawn_blocking(move || authorities(ca_file.as_deref())).await.map_err(|_| PlaceError::Fault)?;
        let roots = roots.map_err(|e| fail(e, "Correct backup.ca_file in the configuration"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(|e| fail(e.to_string(), "Please report it"))?.with_root_certificates(roots).with_no_client_auth();
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("hearthkey/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build()
            .map_err(|e| fail(e.to_string(), "Please report it"))?;
        let credentials = Credentials::new(target.access_key.clone(), target.secret_key.clone());
        let (prefix, endpoint) = (target.prefix.clone(), target.endpoint.clone());
        Ok(BucketPlace { http, bucket, credentials, prefix, endpoint, staging: staging.to_owned() })
    }

    pub(super) fn staging(&self) -> &Path {
        &self.staging
    }

    pub(super) async fn list(&self) -> Result<Vec<Item>, PlaceError> {
        let mut items = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
            action.with_prefix(self.prefix.clone());
            if let Some(token) = token.take() {
                action.with_continuation_token(token);
            }
            let page = self.text(self.send(Method::GET, action.sign(SIGNED_FOR).as_str(), None).await?).await?;
            let page = ListObjectsV2::parse_response(&page).map_err(|_| self.fail("its list of files is none", "Is this an S3 store?"))?;
            for object in page.contents {
                let Some(name) = object.key.strip_prefix(&self.prefix).filter(|name| is_name(name)) else { continue };
                items.push(self.look(name, object.size.unwrap_or(0)).await?);
            }
            token = page.next_continuation_token;
            if token.is_none() {
                break;
            }
        }
        Ok(items)
    }

    /// Looks at a file's beginning and end there.
    async fn look(&self, name: &str, bytes: u64) -> Result<Item, PlaceError> {
        let head = (HEAD_MAX as u64).min(bytes);
        let start = if head == 0 { Vec::new() } else { self.part(name, 0, head - 1).await? };
        let end = match bytes.checked_sub(FOOTER_BYTES as u64) {
            Some(from) => self.part(name, from, bytes - 1).await?,
            None => Vec::new(),
        };
        let looked = look_at_ends(&start, &end, bytes).map_err(|e| e.to_string());
        Ok(Item { name: name.to_owned(), bytes, looked })
    }

    async fn part(&self, name: &str, from: u64, to: u64) -> Result<Vec<u8>, PlaceError> {
        let url = self.bucket.get_object(Some(&self.credentials), &self.key(name)).sign(SIGNED_FOR);
        let range = format!("bytes={from}-{to}");
        self.bytes(self.send(Method::GET, url.as_str(), Some((RANGE, range))).await?, HEAD_MAX + 1).await
    }

    pub(super) async fn bring(&self, file: &Path, name: &str) -> Result<(), PlaceError> {
        let opened = tokio::fs::File::open(file).await.map_err(|e| wrong(file, e))?;
        let length = opened.metadata().await.map_err(|e| wrong(file, e))?.len();
        if length > UPLOAD_MAX {
            return Err(self.fail("a backup of more than 5 GiB does not go there in one piece", "Choose a folder"));
        }
        let url = self.bucket.put_object(Some(&self.credentials), &self.key(name)).sign(SIGNED_FOR);
        let stream = futures_util::stream::try_unfold(opened, |mut file| async move {
            let mut block = vec![0; 64 * 1024];
            let read = file.read(&mut block).await?;
            block.truncate(read);
            Ok::<_, std::io::Error>((read > 0).then_some((block, file)))
        });
        let request = self.http.put(url.as_str()).header(CONTENT_LENGTH, length).body(reqwest::Body::wrap_stream(stream));
        self.good(request.send().await)?;
        // What has arrived is read back, all of it.
        let here = self.hash_here(file).await?;
        let url = self.bucket.get_object(Some(&self.credentials), &self.key(name)).sign(SIGNED_FOR);
        let mut there = self.send(Method::GET, url.as_str(), None).await?;
        let mut hash = Sha256::new();
        while let Some(part) = there.chunk().await.map_err(|e| self.broke(&e))? {
            hash.update(&part);
        }
        if <[u8; 32]>::from(hash.finalize()) != here {
            // It must not be taken for a backup.
            let _ = self.delete(name).await;
            return Err(self.fail("what arrived there is not what was sent", "Try again"));
        }
        tokio::fs::remove_file(file).await.map_err(|e| wrong(file, e))
    }

    async fn hash_here(&self, file: &Path) -> Result<[u8; 32], PlaceError> {
        let mut opened = tokio::fs::File::open(file).await.map_err(|e| wrong(file, e))?;
        let (mut hash, mut block) = (Sha256::new(), vec![0; 64 * 1024]);
        loop {
            match opened.read(&mut block).await.map_err(|e| wrong(file, e))? {
                0 => return Ok(hash.finalize().into()),
                read => hash.update(block.get(..read).unwrap_or_default()),
            }
        }
    }

    pub(super) async fn fetch(&self, name: &str, into: &Path) -> Result<PathBuf, PlaceError> {
        let to = into.join(name);
        let unfinished = into.join(format!("{name}{UNFINISHED}"));
        let url = self.bucket.get_object(Some(&self.credentials), &self.key(name)).sign(SIGNED_FOR);
        let mut there = self.send(Method::GET, url.as_str(), None).await?;
        let mut file = tokio::fs::File::create(&unfinished).await.map_err(|e| wrong(&unfinished, e))?;
        while let Some(part) = there.chunk().await.map_err(|e| self.broke(&e))? {
            file.write_all(&part).await.map_err(|e| wrong(&unfinished, e))?;
        }
        file.sync_all().await.map_err(|e| wrong(&unfinished, e))?;
        tokio::fs::rename(&unfinished, &to).await.map_err(|e| wrong(&to, e))?;
        Ok(to)
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), PlaceError> {
        let url = self.bucket.delete_object(Some(&self.credentials), &self.key(name)).sign(SIGNED_FOR);
        self.send(Method::DELETE, url.as_str(), None).await.map(|_| ())
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn send(&self, method: Method, url: &str, header: Option<(reqwest::header::HeaderName, String)>) -> Result<Response, PlaceError> {
        let mut request = self.http.request(method, url);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        self.good(request.send().await)
    }

    /// An answer that says yes. The signed address, which lets whoever has it in for an hour, is in no message.
    fn good(&self, answer: Result<Response, reqwest::Error>) -> Result<Response, PlaceError> {
        let answer = answer.map_err(|error| self.broke(&error))?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                Err(self.fail("it refuses the access key", "Check the key, its rights on the bucket, and the box's clock"))
            }
            StatusCode::NOT_FOUND => Err(self.fail("there is no such bucket or file", "Check the bucket's name")),
            status if status.is_redirection() => Err(self.fail("it sends the hub elsewhere", "Check the endpoint and the region")),
            status => Err(self.fail(&format!("it answered {status}"), "Try again later")),
        }
    }

    fn broke(&self, error: &reqwest::Error) -> PlaceError {
        let mut innermost: &dyn std::error::Error = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        // The outermost may have the signed address in it.
        let what = if std::ptr::addr_eq(innermost, error) { "it does not answer".to_owned() } else { innermost.to_string() };
        self.fail(&what, "Is the box online, and the endpoint right?")
    }

    fn fail(&self, detail: &str, next: &'static str) -> PlaceError {
        PlaceError::Store { endpoint: self.endpoint.clone(), detail: detail.to_owned(), next }
    }

    async fn text(&self, answer: Response) -> Result<String, PlaceError> {
        let bytes = self.bytes(answer, PAGE_MAX).await?;
        String::from_utf8(bytes).map_err(|_| self.fail("its answer is no text", "Is this an S3 store?"))
    }

    async fn bytes(&self, mut answer: Response, most: usize) -> Result<Vec<u8>, PlaceError> {
        let mut all = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|e| self.broke(&e))? {
            if all.len() + part.len() > most {
                return Err(self.fail("its answer is too long", "Is this an S3 store?"));
            }
            all.extend_from_slice(&part);
        }
        Ok(all)
    }
}

fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let wrong = |e: String| format!("{}: {e}", path.display());
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))? {
            roots.add(certificate.map_err(|e| wrong(e.to_string()))?).map_err(|e| wrong(e.to_string()))?;
        }
    }
    Ok(roots)
}
