//! Every call there is, once: this table dispatches, and it describes itself.

mod accounts;
mod apps;
mod backup;
mod clones;
mod firmware;
mod history;
mod house;
mod invitations;
mod mirror;
mod pairing;
mod recovery;
mod services;
mod sharing;
mod system;
mod update;

use super::Context;
use super::caller::Session;
use super::request::Request;
use crate::net::problem::Problem;
use crate::net::table::{self, Found, Listed};
use std::pin::Pin;
use std::sync::Arc;
use warp::http::Method;
use warp::reply::Response;

pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send>>;

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Reads.
    Get,
    /// Makes or does.
    Post,
    /// Sets.
    Put,
    /// Changes a part.
    Patch,
    /// Takes away.
    Delete,
}

impl Verb {
    /// As HTTP writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        }
    }
}

/// What runs a call. One that needs a session cannot be reached without one.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    Open(fn(Arc<Context>, Request) -> Answering),
    SignedIn(fn(Arc<Context>, Request, Session) -> Answering),
}

/// What a body is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// JSON of the named schema.
    Json(&'static str),
    /// A form (`application/x-www-form-urlencoded`) of the named schema.
    Form(&'static str),
    /// A maker's file.
    File,
}

/// What an answer is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    /// JSON of the named schema.
    Json(&'static str),
    /// The same, with an `ETag`.
    Tagged(&'static str),
    /// JSON without a schema of its own.
    Free,
    Text,
    /// Bytes.
    File,
    /// JSON Lines.
    Lines,
    Events,
}

/// A call.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) verb: Verb,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) handler: Handler,
    pub(super) body: Body,
    pub(super) answers: &'static [(u16, Answer)],
    /// Names in the query, and what they mean; all are numbers.
    pub(super) query: &'static [(&'static str, &'static str)],
    /// The same for texts.
    pub(super) texts: &'static [(&'static str, &'static str)],
    /// Whether `If-Match` is heard.
    pub(super) if_match: bool,
    /// Problems of this call besides those that every call of its kind can have.
    pub(super) problems: &'static [u16],
}

impl Call {
    const fn open(verb: Verb, path: &'static str, summary: &'static str, run: fn(Arc<Context>, Request) -> Answering) -> Call {
        Call {
            verb,
            path,
            summary,
            handler: Handler::Open(run),
            body: Body::None,
            answers: &[],
            query: &[],
            texts: &[],
            if_match: false,
            problems: &[],
        }
    }

    const fn signed_in(
        verb: Verb,
        path: &'static str,
        summary: &'static str,
        run: fn(Arc<Context>, Request, Session) -> Answering,
    ) -> Call {
        Call { handler: Handler::SignedIn(run), ..Call::open(verb, path, summary, |_, _| Box::pin(async { Err(Problem::internal()) })) }
    }

    const fn takes(mut self, body: Body) -> Call {
        self.body = body;
        self
    }

    const fn gives(mut self, answers: &'static [(u16, Answer)]) -> Call {
        self.answers = answers;
        self
    }

    const fn refuses(mut self, problems: &'static [u16]) -> Call {
        self.problems = problems;
        self
    }

    const fn queried(mut self, query: &'static [(&'static str, &'static str)]) -> Call {
        self.query = query;
        self
    }

    const fn asked(mut self, texts: &'static [(&'static str, &'static str)]) -> Call {
        self.texts = texts;
        self
    }

    const fn matching(mut self) -> Call {
        self.if_match = true;
        self
    }
}

/// All calls, by area.
static AREAS: &[&[Call]] = &[
    house::CALLS,
    accounts::CALLS,
    invitations::CALLS,
    sharing::CALLS,
    apps::CALLS,
    services::CALLS,
    pairing::CALLS,
    clones::CALLS,
    history::CALLS,
    mirror::CALLS,
    recovery::CALLS,
    backup::CALLS,
    firmware::CALLS,
    update::CALLS,
    system::CALLS,
];

/// All calls.
pub(super) fn calls() -> impl Iterator<Item = &'static Call> + Clone {
    AREAS.iter().copied().flatten()
}

/// Whether a call of any method has this path.
pub(super) fn is_named(path: &str) -> bool {
    calls().any(|call| table::parameters(call.path, path).is_some())
}

/// Looks a request up.
pub(super) fn find(method: &Method, path: &str) -> Found<Call> {
    table::find(calls(), method, path)
}

impl Listed for Call {
    /// A GET whose body is left out at the end.
    const HEAD: bool = true;

    fn method(&self) -> &str {
        self.verb.as_str()
    }

    fn path(&self) -> &str {
        self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_its_call_and_its_parameters() {
        let found = |method: Method, path: &str| match find(&method, path) {
            Found::Call(call, parameters) => format!("{} {} {}", call.verb.as_str(), call.path, parameters.join(",")),
            Found::OtherMethods(allow) => format!("only {allow}"),
            Found::Nothing => "nothing".to_owned(),
        };
        assert_eq!(found(Method::GET, "/api/v1/devices/lamp-1"), "GET /api/v1/devices/{id} lamp-1");
        assert_eq!(found(Method::HEAD, "/api/v1/me"), "GET /api/v1/me ");
        assert_eq!(found(Method::GET, "/api/v1/devices/a/commands/b"), "GET /api/v1/devices/{id}/commands/{cmd} a,b");
        assert_eq!(found(Method::PUT, "/api/v1/devices/lamp-1"), "only GET, PATCH, DELETE, HEAD");
        assert_eq!(found(Method::DELETE, "/api/v1/invitations/0123"), "DELETE /api/v1/invitations/{invitation} 0123");
        assert_eq!(found(Method::DELETE, "/api/v1/invitations/look"), "only POST");
        for unknown in ["/api/v1/devices/", "/api/v1/devices/a/", "/api/v1", "/api/v1/me/", "/api/v2/me", "/api"] {
            assert_eq!(found(Method::GET, unknown), "nothing", "{unknown}");
        }
    }
}
