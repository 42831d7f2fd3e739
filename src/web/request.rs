//! A request as calls see it: parameters, preconditions, and bodies that are read under limits and deadlines.

use super::Context;
use super::caller::Caller;
use crate::domain::ids::DeviceId;
use crate::net::problem::Problem;
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use warp::http::header::{self, HeaderMap};
use zeroize::Zeroizing;

/// What the names of files under way begin with.
const UPLOAD_PREFIX: &str = "incoming-";

pub(super) type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

/// A body as a stream of bytes.
pub(super) fn body_stream<B: Buf>(body: impl Stream<Item = Result<B, warp::Error>> + Send + 'static) -> BodyStream {
    Box::pin(body.map(|part| part.map(|mut b| b.copy_to_bytes(b.remaining()))))
}

/// Most of a body that is read for nobody, in bytes, and the longest time for it.
const REST_BYTES: usize = 128 * 1024;
const REST_TIME: Duration = Duration::from_secs(2);

/// What a call has left of its body.
#[derive(Default)]
pub(super) struct Rest(Arc<Mutex<Option<BodyStream>>>);

/// A body that comes back when it is dropped.
struct Lent {
    body: Option<BodyStream>,
    back: Arc<Mutex<Option<BodyStream>>>,
}

impl Rest {
    /// Gives the body away until it is dropped.
    pub(super) fn lend(&self, body: BodyStream) -> BodyStream {
        Box::pin(Lent { body: Some(body), back: self.0.clone() })
    }

    /// Reads what is left, within bounds, and forgets it.
    pub(super) async fn drain(self) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = left else { return };
        let _ = tokio::time::timeout(REST_TIME, async {
            let mut read = 0;
            while let Some(Ok(part)) = body.next().await {
                read += part.len();
                if read > REST_BYTES {
                    return;
                }
            }
        })
        .await;
    }
}

impl Stream for Lent {
    type Item = Result<Bytes, warp::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.body {
            Some(body) => body.as_mut().poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}

/// A request that has found its call.
pub(super) struct Request {
    /// What stood in the place of the path's `{…}`, in their order.
    pub(super) parameters: Vec<String>,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) caller: Caller,
    /// The hub as the request calls it, such as `https://hearthkey.local:8443`: one of its own names, checked before.
    pub(super) origin: String,
    pub(super) body: BodyStream,
}

impl Request {
    /// The n-th parameter of the path.
    pub(super) fn parameter(&self, n: usize) -> &str {
        self.parameters.get(n).map_or("", String::as_str)
    }

    /// The device that the path names. What cannot be an id is no device.
    pub(super) fn device(&self) -> Result<DeviceId, Problem> {
        DeviceId::parse(self.parameter(0)).map_err(|_| Problem::not_found().detail("there is no such device"))
    }

    /// A number in the query.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let found = self.query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name);
        found.map(|(_, v)| v.parse().map_err(|_| Problem::invalid(format!("{name}: a whole number is expected")))).transpose()
    }

    /// A text in the query, decoded (WHATWG URL, `application/x-www-form-urlencoded`).
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        let pairs = serde_urlencoded::from_str::<Vec<(String, String)>>(&self.query);
        let pairs = pairs.map_err(|_| Problem::malformed("The query cannot be read."))?;
        Ok(pairs.into_iter().find(|(n, _)| n == name).map(|(_, v)| v))
    }

    /// The version that `If-Match` asks for (RFC 9110 §13.1.1); `*` asks for any.
    ///
    /// # Errors
    /// 412 for a tag that this hub never gave, 400 for several.
    pub(super) fn if_match(&self) -> Result<Option<u64>, Problem> {
        let mut all = self.headers.get_all(header::IF_MATCH).iter();
        let Some(first) = all.next() else { return Ok(None) };
        let tag = first.to_str().unwrap_or_default().trim();
        if all.next().is_some() || tag.contains(',') {
            return Err(Problem::malformed("If-Match names one version."));
        }
        if tag == "*" {
            return Ok(None);
        }
        let version = tag.strip_prefix('"').and_then(|t| t.strip_suffix('"')).and_then(|t| t.parse().ok());
        version.map(Some).ok_or_else(Problem::version_conflict)
    }

    /// The body as JSON of this shape.
    ///
    /// # Errors
    /// 408, 413, 415, 400 when it is not JSON, 422 with the member that does not fit.
    pub(super) async fn json<T: DeserializeOwned>(&mut self, context: &Context) -> Result<T, Problem> {
        members(self.object(context).await?)
    }

    /// The body as a JSON object.
    ///
    /// # Errors
    /// As [`Request::json`].
    pub(super) async fn object(&mut self, context: &Context) -> Result<Map<String, Value>, Problem> {
        self.expect_type(&["application/json", "application/merge-patch+json"])?;
        let bytes = self.bytes(context, context.config.body_bytes).await?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_) => Err(Problem::invalid("A JSON object is expected.")),
            Err(error) => Err(Problem::malformed(format!("The body is not JSON: {error}"))),
        }
    }

    /// The whole body, of at most `limit` bytes. It is wiped after use: it may hold a password.
    ///
    /// # Errors
    /// 408, 413, 400 when it breaks off.
    pub(super) async fn bytes(&mut self, context: &Context, limit: usize) -> Result<Zeroizing<Vec<u8>>, Problem> {
        self.check_length(limit as u64)?;
        let reading = async {
            let mut whole = Zeroizing::new(Vec::new());
            while let Some(part) = self.part(context).await? {
                if whole.len() + part.len() > limit {
                    return Err(Problem::too_large(limit as u64));
                }
                whole.extend_from_slice(&part);
            }
            Ok(whole)
        };
        // The deadline is for all of it: a byte now and then would keep the call alive for ever.
        tokio::time::timeout(Duration::from_secs(context.config.body_s), reading).await.unwrap_or_else(|_| Err(Problem::too_slow()))
    }

    /// The body in a file of its own, mode 0600, which goes away with what is returned.
    ///
    /// # Errors
    /// As [`Request::bytes`]; 503 when it cannot be written.
    pub(super) async fn file(&mut self, context: &Context, limit: u64) -> Result<Upload, Problem> {
        self.check_length(limit)?;
        let failed = |error: std::io::Error| {
            tracing::error!(%error, "an upload could not be kept");
            Problem::unavailable("The hub has no room for the file.", 60).next("Free some disk space on the hub, then try again.")
        };
        let name = format!("{UPLOAD_PREFIX}{}.part", uuid::Uuid::now_v7().simple());
        let upload = Upload(context.hooks.data_dir.join(name));
        let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&upload.0).await.map_err(failed)?;
        let mut length = 0u64;
        while let Some(part) = self.part(context).await? {
            length += part.len() as u64;
            if length > limit {
                return Err(Problem::too_large(limit));
            }
            file.write_all(&part).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        Ok(upload)
    }

    /// That the body is of one of these media types, and not compressed.
    pub(super) fn expect_type(&self, accepted: &[&str]) -> Result<(), Problem> {
        let expected = accepted.first().copied().unwrap_or_default();
        let given = self.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let essence = given.split(';').next().unwrap_or_default().trim();
        if !accepted.iter().any(|a| a.eq_ignore_ascii_case(essence)) || self.headers.contains_key(header::CONTENT_ENCODING) {
            return Err(Problem::unsupported_type(expected));
        }
        Ok(())
    }

    /// That no longer body is announced.
    pub(super) fn check_length(&self, limit: u64) -> Result<(), Problem> {
        let announced = self.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit) { Err(Problem::too_large(limit)) } else { Ok(()) }
    }

    /// The next part of the body, within its time.
    pub(super) async fn part(&mut self, context: &Context) -> Result<Option<Bytes>, Problem> {
        let wait = Duration::from_secs(context.config.body_s);
        match tokio::time::timeout(wait, self.body.next()).await {
            Ok(Some(Ok(part))) => Ok(Some(part)),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(Problem::malformed("The body breaks off.")),
            Err(_) => Err(Problem::too_slow()),
        }
    }
}

/// A file under way, removed when this is dropped.
pub(super) struct Upload(PathBuf);

impl Upload {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.0.display(), "an upload could not be removed");
        }
    }
}

/// Removes what an earlier run could not.
pub(super) fn remove_left_uploads(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|n| n.starts_with(UPLOAD_PREFIX) && n.ends_with(".part")) {
            drop(Upload(entry.path()));
        }
    }
}

/// Reads the members of an object into `T`; a problem names the member that does not fit.
pub(super) fn members<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, Problem> {
    let current = RefCell::new(String::new());
    let reading = Members { left: object.into_iter(), value: None, current: &current };
    T::deserialize(MapAccessDeserializer::new(reading)).map_err(|error| {
        let (at, text) = (current.borrow(), error.to_string());
        Problem::invalid(if at.is_empty() { text } else { format!("{at}: {text}") })
    })
}

/// Members one by one, remembering which one is being read.
struct Members<'a> {
    left: serde_json::map::IntoIter,
    value: Option<Value>,
    current: &'a RefCell<String>,
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = serde_json::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        let Some((name, value)) = self.left.next() else {
            // What fails from here on is missing, and its name is in the message.
            self.current.borrow_mut().clear();
            return Ok(None);
        };
        self.value = Some(value);
        self.current.borrow_mut().clone_from(&name);
        seed.deserialize(Value::String(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        let value = self.value.take().ok_or_else(|| serde_json::Error::custom("a value without a name"))?;
        seed.deserialize(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::schema::{DeviceEdit, SignIn};
    use serde_json::json;

    fn detail<T: DeserializeOwned>(body: Value) -> String {
        let Value::Object(object) = body else { panic!("an object") };
        match members::<T>(object) {
            Ok(_) => String::new(),
            Err(problem) => problem.detail.into_owned(),
        }
    }

    #[test]
    fn a_member_that_does_not_fit_is_named() {
        assert_eq!(detail::<SignIn>(json!({"username": "a", "password": "b"})), "");
        assert!(detail::<SignIn>(json!({"username": "a", "password": 5})).starts_with("password: "));
        assert!(detail::<SignIn>(json!({"username": "a", "password": "b", "rol": "owner"})).starts_with("rol: unknown field"));
        assert_eq!(detail::<SignIn>(json!({"username": "a"})), "missing field `password`");
        assert!(detail::<DeviceEdit>(json!({"nam": "x"})).starts_with("nam: "));
    }
}
