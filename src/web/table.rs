//! Every call there is, once: this table dispatches, and it describes itself.

use super::api::{access, audit, bindings, commands, devices, hub, people, registry, twins};
use super::caller::Session;
use super::request::Request;
use super::{Context, events, openapi};
use crate::net::problem::Problem;
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

    /// HEAD is a GET whose body is left out at the end.
    fn is(self, method: &Method) -> bool {
        method.as_str() == self.as_str() || (self == Verb::Get && method == Method::HEAD)
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

    const fn matching(mut self) -> Call {
        self.if_match = true;
        self
    }
}

use Answer::{Events, Free, Json, Nothing, Tagged, Text};
use Verb::{Delete, Get, Patch, Post, Put};

/// All calls.
pub(super) static CALLS: &[Call] = &[
    Call::open(Get, "/api/openapi.json", "This description", |_, _| Box::pin(openapi::show())).gives(&[(200, Free)]),
    Call::open(Get, "/metrics", "Metrics in Prometheus' text format, for programs on this box and for owners", |c, r| {
        Box::pin(hub::metrics(c, r))
    })
    .gives(&[(200, Text)])
    .refuses(&[401, 403]),
    Call::open(Get, "/api/v1/hub", "What hub this is", |c, _| Box::pin(hub::show(c))).gives(&[(200, Json("Hub"))]),
    Call::open(Post, "/api/v1/setup", "Make the first owner", |c, r| Box::pin(people::set_up(c, r)))
        .takes(Body::Json("Setup"))
        .gives(&[(201, Json("Opened"))])
        .refuses(&[401, 403, 409, 429]),
    Call::open(Post, "/api/v1/sessions", "Sign in", |c, r| Box::pin(people::sign_in(c, r)))
        .takes(Body::Json("SignIn"))
        .gives(&[(201, Json("Opened"))])
        .refuses(&[401, 403, 429]),
    Call::signed_in(Delete, "/api/v1/sessions/current", "Sign out", |c, _, s| Box::pin(people::sign_out(c, s))).gives(&[(204, Nothing)]),
    Call::signed_in(Get, "/api/v1/me", "Who is signed in", |c, _, s| Box::pin(people::me(c, s))).gives(&[(200, Json("User"))]),
    Call::signed_in(Get, "/api/v1/users", "All accounts", |c, _, s| Box::pin(people::list(c, s)))
        .gives(&[(200, Json("Users"))])
        .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/users", "Make an account", |c, r, s| Box::pin(people::add(c, r, s)))
        .takes(Body::Json("NewUser"))
        .gives(&[(201, Json("User"))])
        .refuses(&[409]),
    Call::signed_in(Delete, "/api/v1/users/{user}", "End an account, its rights, and the rights it gave", |c, r, s| {
        Box::pin(people::end(c, r, s))
    })
    .queried(&[("keep_grants", "1 to let the rights stand that it gave to others")])
    .gives(&[(200, Json("Bindings"))])
    .refuses(&[403, 404, 409, 422]),
    Call::signed_in(Put, "/api/v1/me/password", "Change one's password; other sessions end", |c, r, s| {
        Box::pin(people::change_password(c, r, s))
    })
    .takes(Body::Json("PasswordChange"))
    .gives(&[(204, Nothing)])
    .refuses(&[429]),
    Call::signed_in(Get, "/api/v1/devices", "The devices one may see", |c, _, s| Box::pin(devices::list(c, s)))
        .gives(&[(200, Json("Devices"))]),
    Call::signed_in(Get, "/api/v1/devices/{id}", "A device", |c, r, s| Box::pin(devices::show(c, r, s))).gives(&[(200, Tagged("Device"))]),
    Call::signed_in(Patch, "/api/v1/devices/{id}", "Change its name or room", |c, r, s| Box::pin(devices::change(c, r, s)))
        .takes(Body::Json("DeviceEdit"))
        .matching()
        .gives(&[(200, Tagged("Device"))]),
    Call::signed_in(Delete, "/api/v1/devices/{id}", "Remove it: it waits to be claimed again", |c, r, s| {
        Box::pin(devices::remove(c, r, s))
    })
    .gives(&[(204, Nothing)]),
    Call::signed_in(Post, "/api/v1/devices/{id}/suspend", "Shut it out", |c, r, s| Box::pin(devices::suspend(c, r, s, true)))
        .gives(&[(200, Tagged("Device"))])
        .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/devices/{id}/resume", "Let it in again", |c, r, s| Box::pin(devices::suspend(c, r, s, false)))
        .gives(&[(200, Tagged("Device"))])
        .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/devices/{id}/certificate", "Make a client certificate for it", |c, r, s| {
        Box::pin(devices::certify(c, r, s))
    })
    .takes(Body::Json("CertificateRequest"))
    .gives(&[(201, Json("Certificate"))]),
    Call::signed_in(Get, "/api/v1/devices/{id}/bindings", "Who has which right on it", |c, r, s| Box::pin(bindings::list(c, r, s)))
        .gives(&[(200, Json("Bindings"))]),
    Call::signed_in(Post, "/api/v1/devices/{id}/bindings", "Give a right, or change one", |c, r, s| Box::pin(bindings::grant(c, r, s)))
        .takes(Body::Json("NewBinding"))
        .gives(&[(200, Json("Binding"))])
        .refuses(&[409]),
    Call::signed_in(Delete, "/api/v1/devices/{id}/bindings/{user}", "Take a right away, and the rights it gave; or leave", |c, r, s| {
        Box::pin(bindings::revoke(c, r, s))
    })
    .queried(&[("keep_grants", "1 to let the rights stand that it gave to others")])
    .gives(&[(200, Json("Bindings"))])
    .refuses(&[409, 422]),
    Call::signed_in(Post, "/api/v1/devices/{id}/administration", "Take its administration, as an owner of the hub", |c, r, s| {
        Box::pin(bindings::administer(c, r, s))
    })
    .gives(&[(200, Tagged("Device"))])
    .refuses(&[409]),
    Call::signed_in(Get, "/api/v1/devices/{id}/twin", "Its state", |c, r, s| Box::pin(twins::show(c, r, s)))
        .gives(&[(200, Tagged("Twin"))])
        .refuses(&[403]),
    Call::signed_in(Patch, "/api/v1/devices/{id}/twin/desired", "Change what is desired (merge patch)", |c, r, s| {
        Box::pin(twins::desire(c, r, s))
    })
    .takes(Body::Json("Desired"))
    .matching()
    .gives(&[(200, Tagged("Twin"))])
    .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/devices/{id}/commands", "Tell it to do something now", |c, r, s| Box::pin(commands::send(c, r, s)))
        .takes(Body::Json("NewCommand"))
        .gives(&[(202, Json("Command")), (200, Json("Command"))])
        .refuses(&[409]),
    Call::signed_in(Get, "/api/v1/devices/{id}/commands/{cmd}", "A command and how far it is", |c, r, s| Box::pin(commands::show(c, r, s)))
        .gives(&[(200, Json("Command"))])
        .refuses(&[403]),
    Call::signed_in(Post, "/api/v1/claims", "Claim a device by its code", |c, r, s| Box::pin(devices::claim(c, r, s)))
        .takes(Body::Json("Claim"))
        .gives(&[(201, Tagged("Device"))])
        .refuses(&[404, 429]),
    Call::signed_in(Get, "/api/v1/models/{brand}/{model}", "A device type", |c, r, _| Box::pin(registry::model(c, r)))
        .gives(&[(200, Json("Model"))]),
    Call::signed_in(Get, "/api/v1/events", "What happens, as Server-Sent Events", |c, r, s| Box::pin(events::stream(c, r, s)))
        .gives(&[(200, Events)])
        .refuses(&[429]),
    Call::signed_in(Post, "/api/v1/access/explain", "Why something is allowed, or not", |c, r, s| Box::pin(access::explain(c, r, s)))
        .takes(Body::Json("Question"))
        .gives(&[(200, Json("Explanation"))])
        .refuses(&[403, 404]),
    Call::signed_in(Get, "/api/v1/audit", "Who did what, newest first", |c, r, s| Box::pin(audit::page(c, r, s)))
        .queried(&[("limit", "How many entries; 1 to 500, 50 unless given"), ("before", "Only entries with a lower number")])
        .gives(&[(200, Json("AuditPage"))])
        .refuses(&[403, 422]),
    Call::signed_in(Get, "/api/v1/hub/request", "The line a maker needs to make a batch for this hub", |c, _, s| {
        Box::pin(hub::request_line(c, s))
    })
    .gives(&[(200, Text)])
    .refuses(&[403]),
    Call::signed_in(Get, "/api/v1/brands", "The brands that are believed", |c, _, s| Box::pin(registry::brands(c, s)))
        .gives(&[(200, Json("Brands"))])
        .refuses(&[403]),
    Call::signed_in(Put, "/api/v1/brands/{id}", "Believe a brand", |c, r, s| Box::pin(registry::trust(c, r, s)))
        .takes(Body::Json("TrustBrand"))
        .gives(&[(200, Json("Brand"))])
        .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/batches", "Take in a registry batch", |c, r, s| Box::pin(registry::batch(c, r, s)))
        .takes(Body::File)
        .gives(&[(201, Json("Import"))])
        .refuses(&[409]),
    Call::signed_in(Post, "/api/v1/vouchers", "Take in a voucher", |c, r, s| Box::pin(registry::voucher(c, r, s)))
        .takes(Body::File)
        .gives(&[(201, Json("Introduced"))])
        .refuses(&[409]),
];

/// What the table says of a request.
pub(super) enum Found {
    Call(&'static Call, Vec<String>),
    /// The path is there, with these methods.
    OtherMethods(String),
    Nothing,
}

/// Looks a request up. A path without parameters goes before one with them.
pub(super) fn find(method: &Method, path: &str) -> Found {
    let mut others: Vec<&str> = Vec::new();
    let mut best: Option<(&'static Call, Vec<String>)> = None;
    for call in CALLS {
        let Some(parameters) = parameters(call.path, path) else { continue };
        if !call.verb.is(method) {
            others.push(call.verb.as_str());
        } else if best.as_ref().is_none_or(|(_, known)| parameters.len() < known.len()) {
            best = Some((call, parameters));
        }
    }
    match best {
        Some((call, parameters)) => Found::Call(call, parameters),
        None if others.is_empty() => Found::Nothing,
        None => {
            if others.contains(&"GET") {
                others.push("HEAD");
            }
            Found::OtherMethods(others.join(", "))
        }
    }
}

/// What stands in the places of the template's `{…}`, when the path fits it.
fn parameters(template: &str, path: &str) -> Option<Vec<String>> {
    let (mut found, mut given) = (Vec::new(), path.split('/'));
    for expected in template.split('/') {
        let segment = given.next()?;
        if expected.starts_with('{') {
            if segment.is_empty() {
                return None;
            }
            found.push(segment.to_owned());
        } else if expected != segment {
            return None;
        }
    }
    given.next().is_none().then_some(found)
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
        for unknown in ["/api/v1/devices/", "/api/v1/devices/a/", "/api/v1", "/api/v1/me/", "/api/v2/me", "/api"] {
            assert_eq!(found(Method::GET, unknown), "nothing", "{unknown}");
        }
    }
}
