//! A request as calls see it. Its body is read whole before the call runs, under a limit and a deadline, unless the call
//! takes it in parts.

use super::reply::Refused;
use crate::net::problem::Problem;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use hyper::{Method, Uri};
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

/// A request that has found its call.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// What stood in the places of the path's `{…}`, in their order.
    pub(super) parameters: Vec<String>,
    pub(super) headers: HeaderMap,
    /// Where it comes from.
    pub(super) source: IpAddr,
    /// The whole body; empty when the call takes it in parts.
    pub(super) body: Bytes,
    /// The body, when the call takes it in parts.
    pub(super) parts: Option<Incoming>,
}

impl Request {
    /// The n-th parameter of the path.
    pub(super) fn parameter(&self, n: usize) -> &str {
        self.parameters.get(n).map_or("", String::as_str)
    }

    /// A header's text; empty when it is not there, or not text.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The first of this name in the query, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(self.uri.query().unwrap_or_default()).ok()?;
        pairs.into_iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// A number in the query.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Refused> {
        let wrong = |_| Problem::invalid(format!("{name}: a whole number is expected")).into();
        self.query(name).map(|text| text.parse().map_err(wrong)).transpose()
    }

    /// The body as JSON of this shape.
    ///
    /// # Errors
    /// 400 when it is not JSON, 422 when it is of another shape.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refused> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let problem = match error.classify() {
                serde_json::error::Category::Data => Problem::invalid(error.to_string()),
                _ => Problem::malformed(format!("The body is not JSON: {error}")),
            };
            problem.into()
        })
    }
}

/// Reads a whole body.
///
/// # Errors
/// 408, 413, 400 when it breaks off.
pub(super) async fn whole(headers: &HeaderMap, mut body: Incoming, limit: usize, within: Duration) -> Result<Bytes, Refused> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(Refused::too_large(limit));
    }
    let reading = async {
        let mut read = Vec::with_capacity(announced.unwrap_or(0));
        while let Some(part) = next_part(&mut body).await? {
            if read.len() + part.len() > limit {
                return Err(Refused::too_large(limit));
            }
            read.extend_from_slice(&part);
        }
        Ok(Bytes::from(read))
    };
    tokio::time::timeout(within, reading).await.unwrap_or_else(|_| Err(Problem::too_slow().into()))
}

/// The next part of a body; `None` at its end.
///
/// # Errors
/// 400 when it breaks off.
pub(super) async fn next_part(body: &mut Incoming) -> Result<Option<Bytes>, Refused> {
    loop {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => {
                // Trailers say nothing here.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(_)) => return Err(Problem::malformed("The body breaks off.").into()),
        }
    }
}
