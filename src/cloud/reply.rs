//! What is answered: bodies that are whole or come in parts, and refusals as problem details with members of their own.

use crate::net::problem::{MEDIA_TYPE, Problem};
use hyper::StatusCode;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use serde_json::{Map, Value};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// An answer before it is signed.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: ReplyBody,
}

/// A body. What comes in parts is signed as an empty one.
pub(super) enum ReplyBody {
    Whole(Bytes),
    Parts(mpsc::Receiver<Bytes>),
}

/// What a call gives.
pub(super) type Answered = Result<Reply, Refused>;

impl Reply {
    /// JSON.
    pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answered {
        let bytes = serde_json::to_vec(body).map_err(|error| Refused::fault("an answer cannot be written", &error))?;
        Ok(Reply::typed(status, "application/json", bytes))
    }

    /// 200 with JSON.
    pub(super) fn ok(body: &impl Serialize) -> Answered {
        Reply::json(StatusCode::OK, body)
    }

    /// 204.
    pub(super) fn nothing() -> Reply {
        Reply { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: ReplyBody::Whole(Bytes::new()) }
    }

    /// Any bytes.
    pub(super) fn typed(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Reply {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(media_type))];
        Reply { status, headers, body: ReplyBody::Whole(body.into()) }
    }

    /// The same with a header; one that cannot be written is left out.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

/// A refusal: a problem, and what else its body says.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) problem: Problem,
    /// Boxed, as most have none: refusals are handed around a lot.
    pub(super) more: Option<Box<Map<String, Value>>>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Refused {
        Refused { problem, more: None }
    }
}

impl Refused {
    /// The same with a member.
    pub(super) fn and(mut self, name: &str, value: impl Into<Value>) -> Refused {
        self.more.get_or_insert_default().insert(name.to_owned(), value.into());
        self
    }

    /// 500: what happened stands in the log.
    pub(super) fn fault(what: &str, error: &dyn std::fmt::Display) -> Refused {
        tracing::error!(%error, "{what}");
        Problem::new(500, "internal", "The cloud made a mistake").next("Try again; if it happens again, tell who runs it.").into()
    }

    /// 503: the cloud cannot do this now.
    pub(super) fn busy(detail: &'static str, seconds: u64) -> Refused {
        let mut problem = Problem::new(503, "unavailable", "The cloud cannot do this now").detail(detail).next("Try again shortly.");
        problem.retry_after = Some(seconds);
        problem.into()
    }

    /// 401: the signature. One answer for every reason, save what a hub needs to put it right.
    pub(super) fn signature(detail: impl Into<std::borrow::Cow<'static, str>>) -> Refused {
        Problem::new(401, "signature", "The request is not signed as it must be").detail(detail).into()
    }

    /// 404: this hub is not linked.
    pub(super) fn not_linked() -> Refused {
        Problem::new(404, "not_linked", "This hub is not linked here").next("Link it: on the hub's page, under Cloud.").into()
    }

    /// 409: the batch is not the next one.
    pub(super) fn resync(expected: u64) -> Refused {
        let problem = Problem::new(409, "resync", "Another batch is expected").detail(format!("The next batch is {expected}."));
        Refused::from(problem).and("batch", expected)
    }

    /// 413.
    pub(super) fn too_large(limit: usize) -> Refused {
        Refused::from(Problem::too_large(u64::try_from(limit).unwrap_or(u64::MAX))).and("max_bytes", limit)
    }

    /// The answer.
    pub(super) fn reply(self) -> Reply {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = self.problem.to_json();
        if let (Some(members), Some(more)) = (body.as_object_mut(), self.more) {
            members.extend(*more);
        }
        let mut reply = Reply::typed(status, MEDIA_TYPE, body.to_string().into_bytes());
        if let Some(seconds) = self.problem.retry_after {
            reply = reply.with(RETRY_AFTER, &seconds.to_string());
        }
        if status == StatusCode::UNAUTHORIZED {
            // A 401 names a scheme (RFC 9110 §15.5.2).
            reply = reply.with(WWW_AUTHENTICATE, if self.problem.code == "signature" { "Signature" } else { "Bearer" });
        }
        reply
    }
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Refused {
        use tokio_postgres::error::SqlState;
        let state = error.code();
        // A server that goes or comes back, and what is worth trying again.
        let passing = error.is_closed()
            || state.is_none()
            || state.is_some_and(|s| {
                s.code().starts_with("08")
                    || s.code().starts_with("57")
                    || s.code().starts_with("53")
                    || [
                        SqlState::T_R_SERIALIZATION_FAILURE,
                        SqlState::T_R_DEADLOCK_DETECTED,
                        SqlState::LOCK_NOT_AVAILABLE,
                        SqlState::IN_FAILED_SQL_TRANSACTION,
                    ]
                    .contains(s)
            });
        if passing {
            tracing::warn!(%error, "the database does not answer");
            return Refused::busy("The database does not answer.", 5);
        }
        Refused::fault("the database refuses", &error)
    }
}

impl From<deadpool_postgres::PoolError> for Refused {
    fn from(error: deadpool_postgres::PoolError) -> Refused {
        tracing::warn!(%error, "no connection to the database");
        Refused::busy("The database does not answer.", 5)
    }
}

/// What hyper sends.
pub(super) struct HttpBody(Sending);

enum Sending {
    Whole(Option<Bytes>),
    Parts(mpsc::Receiver<Bytes>),
}

impl From<ReplyBody> for HttpBody {
    fn from(body: ReplyBody) -> HttpBody {
        HttpBody(match body {
            ReplyBody::Whole(bytes) => Sending::Whole((!bytes.is_empty()).then_some(bytes)),
            ReplyBody::Parts(parts) => Sending::Parts(parts),
        })
    }
}

impl Body for HttpBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Sending::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Sending::Parts(parts) => parts.poll_recv(cx).map(|part| part.map(|b| Ok(Frame::data(b)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Sending::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Sending::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Sending::Parts(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_the_other_side_needs() {
        let Reply { status, body: ReplyBody::Whole(body), .. } = Refused::resync(7).reply() else { panic!("a whole body") };
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status.as_u16(), &body["code"], &body["batch"]), (409, &Value::from("resync"), &Value::from(7)));
        let reply = Refused::busy("x", 5).reply();
        assert!(reply.headers.iter().any(|(name, value)| name == RETRY_AFTER && value == "5"));
    }
}
