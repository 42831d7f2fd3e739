//! Every call there is, once: this table dispatches, and it describes itself.

use super::Context;
use super::reply::Answered;
use super::request::Request;
use super::signed::SignedHub;
use crate::net::table::{self, Found, Listed};
use hyper::Method;
use std::pin::Pin;
use std::sync::Arc;

pub(super) type Answering = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// What runs a call. One for hubs is reached by a signed request alone.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// Anybody. What it needs to know of who asks, the call checks itself.
    Open(fn(Arc<Context>, Request) -> Answering),
    /// A hub that is linked, in its present epoch, as its mirror key has signed.
    Hub(fn(Arc<Context>, Request, SignedHub) -> Answering),
}

/// Who may call; what the description says, and what the answer to an unknown caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Anybody.
    Open,
    /// A hub, by RFC 9421.
    Hub,
    /// A person, by what it made at its hub (`hka1.…`).
    Home,
    /// A maker's account, by a token.
    Service,
    /// A maker's person, by a token.
    Vendor,
}

impl Who {
    /// The security scheme of the description.
    pub(super) fn scheme(self) -> Option<&'static str> {
        match self {
            Who::Open => None,
            Who::Hub => Some("hub"),
            Who::Home => Some("home"),
            Who::Service => Some("service"),
            Who::Vendor => Some("vendor"),
        }
    }
}

/// What a body is, and how much of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// JSON of at most so many bytes; the text says which members.
    Json(usize, &'static str),
    /// A form (`application/x-www-form-urlencoded`) of at most so many bytes; the text says which members.
    Form(usize, &'static str),
    /// Octets of at most so many bytes.
    Octets(usize),
    /// In parts, which the call reads itself.
    Parts(&'static str),
}

/// What a good answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    /// JSON; the text says which members.
    Json(&'static str),
    Octets,
    Events,
}

/// A call.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) method: &'static Method,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) who: Who,
    pub(super) handler: Handler,
    pub(super) body: Body,
    pub(super) status: u16,
    pub(super) answer: Answer,
    /// Names in the query, and what they mean.
    pub(super) query: &'static [(&'static str, &'static str)],
    /// Problems of this call besides those that every call of its kind can have.
    pub(super) problems: &'static [u16],
}

impl Call {
    /// Anybody may call it, or it checks itself who does.
    pub(super) const fn open(
        method: &'static Method,
        path: &'static str,
        summary: &'static str,
        run: fn(Arc<Context>, Request) -> Answering,
    ) -> Call {
        let answer = Answer::Nothing;
        let (who, handler, body) = (Who::Open, Handler::Open(run), Body::None);
        Call { method, path, summary, who, handler, body, status: 200, answer, query: &[], problems: &[] }
    }

    /// For hubs that are linked.
    pub(super) const fn hub(
        method: &'static Method,
        path: &'static str,
        summary: &'static str,
        run: fn(Arc<Context>, Request, SignedHub) -> Answering,
    ) -> Call {
        let answer = Answer::Nothing;
        let (who, handler, body) = (Who::Hub, Handler::Hub(run), Body::None);
        Call { method, path, summary, who, handler, body, status: 200, answer, query: &[], problems: &[] }
    }

    /// Whether it may take longer than calls do: it reads its body in parts, or streams its answer.
    pub(super) fn takes_long(&self) -> bool {
        matches!(self.body, Body::Parts(_))
    }

    pub(super) const fn for_whom(mut self, who: Who) -> Call {
        self.who = who;
        self
    }

    pub(super) const fn takes(mut self, body: Body) -> Call {
        self.body = body;
        self
    }

    pub(super) const fn gives(mut self, status: u16, answer: Answer) -> Call {
        self.status = status;
        self.answer = answer;
        self
    }

    pub(super) const fn asked(mut self, query: &'static [(&'static str, &'static str)]) -> Call {
        self.query = query;
        self
    }

    pub(super) const fn refuses(mut self, problems: &'static [u16]) -> Call {
        self.problems = problems;
        self
    }
}

/// All calls, by area.
static AREAS: &[&[Call]] = &[
    super::about::CALLS,
    super::hubs::CALLS,
    super::sync::CALLS,
    super::wake::CALLS,
    super::bundle::CALLS,
    super::replacement::CALLS,
    super::rehome::CALLS,
    super::download::CALLS,
    super::makers::calls::CALLS,
    super::people::home_calls::CALLS,
    super::people::maker_calls::CALLS,
];

/// All calls.
pub(super) fn calls() -> impl Iterator<Item = &'static Call> + Clone {
    AREAS.iter().copied().flatten()
}

/// Looks a request up.
pub(super) fn find(method: &Method, path: &str) -> Found<Call> {
    table::find(calls(), method, path)
}

impl Listed for Call {
    const HEAD: bool = false;

    fn method(&self) -> &str {
        self.method.as_str()
    }

    fn path(&self) -> &str {
        self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_call_is_there_once() {
        let named: BTreeSet<String> = calls().map(|c| format!("{} {}", c.method, c.path)).collect();
        assert_eq!(named.len(), calls().count());
    }

    #[test]
    fn a_path_finds_its_call() {
        assert!(matches!(find(&Method::GET, "/v1"), Found::Call(call, _) if call.path == "/v1"));
        assert!(matches!(find(&Method::POST, "/v1"), Found::OtherMethods(allow) if allow == "GET"));
        assert!(matches!(find(&Method::GET, "/v1/"), Found::Nothing));
    }
}
